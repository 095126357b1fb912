"""Run: the only reader and writer of the run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from stemvane.config import Config
from stemvane.data.arguments import require_path
from stemvane.data.embedding import Embedding
from stemvane.data.findings import Finding
from stemvane.data.measurements import Measurements
from stemvane.data.quantity_map import QuantityMap
from stemvane.data.representation import Representable, Row, format_quantity, format_shape, format_size
from stemvane.data.signals import hyperspy_signals
from stemvane.errors import RunError
from stemvane.io import atomic
from stemvane.io.places import Place
from stemvane.runs.checksums import CHECKSUMS, is_small, require_checksums, write_checksums
from stemvane.runs.detector_maps import with_detector_maps
from stemvane.runs.manifest import digest, finished_stages, largest_memory_mb, new_manifest, now, spent
from stemvane.runs.run_place import finished_manifest, is_run, place_for_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Run"]

_PARTS = ("config.toml", "measurements.zarr", "embedding.zarr", "model.safetensors", "history.csv", "metrics.json")
_HISTORY = ("epoch", "total", "reconstruction", "kl_latent", "kl_angle", "noise_level", "learning_rate")
_OF_EMBEDDING = ("embedding", "quantity", "trained_on", "manifold", "manifold_latents")
_CACHED = ("config", "measurements", *_OF_EMBEDDING, "history", "metrics")


class Run(Representable):
    """The folder of one analysis.

    A run is written into the hidden sibling ``.<name>.partial`` and renamed when it is finished, so that a folder
    with its final name is always complete. Make one with `Run.create`, read one with `Run.open`.

    Attributes
    ----------
    path : Path
        The final folder.
    folder : Path
        Where the files lie at the moment: `path`, or the partial folder while the run is being written.
    manifest : dict
        Versions, command line, seed, status, and wall time and peak memory of each stage.
    """

    def __init__(self, path: Path, folder: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.folder = folder
        self.manifest = manifest
        self._place = Place(path, "run", is_run, RunError)
        self._unchecked: set[str] = set()
        self._began = time.perf_counter()
        self._earlier: dict[str, float] = {}

    def _summary(self) -> tuple[str, Sequence[Row]]:
        data = self.manifest.get("data", {})
        rows = [("folder", str(self.folder)), ("status", str(self.manifest.get("status")))]
        if "shape" in data:
            rows.append(("data", f"{data['name']}, {format_shape(data['shape'])}, {data['dtype']}"))
        if not self.is_complete:
            return f"Run '{self.path.name}'", [*rows, ("stages", ", ".join(self.manifest["stages"]) or "none")]
        metrics, size = self.metrics, sum(self.manifest.get("bytes", {}).values())
        r, error = metrics.get("pearson_r_first"), metrics.get("angle_error_median_deg")
        rows += [
            *((finding.severity, str(finding)) for finding in self.findings[:1] if finding.severity != "note"),
            ("model", f"{metrics.get('model')}, {metrics.get('n_latent')} latents, seed {metrics.get('seed')}"),
            ("explained variance", format_quantity(metrics.get("explained_variance"))),
            ("against the COM", f"r {format_quantity(r)}, median angle error {format_quantity(error, 'deg')}"),
            ("made", f"{self.manifest['finished']} in {self.manifest['total_seconds']:.0f} s, {format_size(size)}"),
        ]
        return f"Run '{self.path.name}'", rows

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What makes the result doubtful, the worst first; empty for runs of versions that did not say."""
        return tuple(Finding.from_dict(record) for record in self.manifest.get("verdict", ()))

    # Making a run -----------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: Config,
        *,
        command: str = "",
        overwrite: bool = False,
        resume: bool = False,
        inputs: Sequence[str | Path] = (),
    ) -> Run:
        """Begin a run.

        Parameters
        ----------
        path : str or Path
            Folder that the run gets when it is finished.
        config : Config
            All settings; written to ``config.toml``.
        command : str
            The command line, for the manifest.
        overwrite : bool
            Replace a finished run of the same name, when this one is finished and not before.
        resume : bool
            Keep the finished stages that a killed run of this name has left, for `takes_over`; otherwise they go.
        inputs : sequence of str or Path
            Files and folders that the run is made from, besides those that the settings name. A folder that holds one
            of them, or lies in one, is refused.

        Returns
        -------
        Run

        Raises
        ------
        RunError
            If the folder exists, is not a run where it is to be replaced, or cannot be made.
        DataError
            If `path` is no path.
        """
        require_path(path, "Run.create", "the folder to write")
        place = place_for_run(path, config, overwrite=overwrite, inputs=inputs)
        path = place.path
        try:
            folder = place.claim(resume=resume)
            killed = atomic.read_manifest(folder) or {}
            # what a killed run has recorded of its data and device stays until it is recorded anew
            manifest = {**killed, **new_manifest(command, config.training.seed), "stages": finished_stages(killed)}
            run = cls(path, folder, manifest)
            run._place = place
            run._earlier = {name: record["wall_seconds"] for name, record in manifest["stages"].items()}
            run._save_manifest()
            parts = [part for record in manifest["stages"].values() for part in record["parts"]]
            atomic.keep_only(folder, ["manifest.json", *parts])
            atomic.write_text(folder / "config.toml", config.to_toml())
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from None
        return run

    @contextmanager
    def stage(self, name: str, *, made_from: object = None, parts: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        """Record a stage in the manifest: wall time, peak memory, and whether it came to its end.

        Parameters
        ----------
        name : str
            Name of the stage. A stage entered again adds to its time.
        made_from : plain values, optional
            Everything that the stage's result depends on, besides versions; without it no later run takes it over.
        parts : sequence of str
            Files and folders that the stage makes, by their paths within the run; what lies there is removed first.

        Yields
        ------
        dict
            Takes plain values that are to stand in the stage's record, beside its time and memory.
        """
        before = self.manifest["stages"].get(name, {}).get("wall_seconds", 0.0)
        for part in parts:
            atomic.remove(self.folder / part)
        notes: dict[str, Any] = {}
        record: dict[str, Any] = {"complete": False, "parts": {}}
        began = time.perf_counter()
        try:
            yield notes
            record["parts"] = {part: atomic.fingerprint(self.folder / part) for part in parts}
            if made_from is not None:
                record["made_from"] = self._digest(made_from)
            record["complete"] = True
        finally:
            self.manifest["stages"][name] = spent(before + time.perf_counter() - began) | atomic.plain(notes) | record
            self._save_manifest()

    def takes_over(self, name: str, made_from: object) -> bool:
        """Whether a killed run has left this stage complete, undamaged, and made from the same by the same versions.

        Parameters
        ----------
        name : str
            Name of the stage; where it is taken over, it is listed as ``resumed`` in the manifest.
        made_from : plain values, or None
            What the stage would be made from now; None if that is unknown.
        """
        record = self.manifest["stages"].get(name, {})
        if made_from is None or name not in self._earlier or record.get("made_from") != self._digest(made_from):
            return False
        if not all(atomic.is_intact(self.folder / part, checksum) for part, checksum in record["parts"].items()):
            return False
        self.manifest["stages"][name] = self.manifest["stages"].pop(name)
        self.manifest["resumed"].append(name)
        self._save_manifest()
        return True

    def discard(self, *names: str) -> None:
        """Forget that stages were ever done, so that their times count no more."""
        for name in names:
            self.manifest["stages"].pop(name, None)
            self._earlier.pop(name, None)
        self._save_manifest()

    def record(self, **values: object) -> None:
        """Add plain values to the manifest, such as the path and hash of the data."""
        self._require_writable("manifest.json")
        self.manifest.update({name: atomic.plain(value) for name, value in values.items()})
        self._save_manifest()

    def store(self, name: Literal["measurements", "embedding"]) -> zarr.Group:
        """Open ``<name>.zarr``, for writing while the run is being written and for reading afterwards."""
        part = f"{name}.zarr"
        with self._reading(part):
            if part in self._unchecked:
                require_checksums(self.path, lambda file: file.startswith(f"{part}/"))
                self._unchecked.remove(part)
            if self.is_complete:
                return zarr.open_group(self.folder / f"{name}.zarr", mode="r")
            return zarr.open_group(self.folder / f"{name}.zarr", mode="a", zarr_format=3)

    def write_embedding(self, embedding: Embedding, manifold: ArrayLike, manifold_latents: ArrayLike) -> None:
        """Write the embedding and the decoded latent manifold.

        Parameters
        ----------
        embedding : Embedding
            Latents and angles of the scan.
        manifold : array_like of float, shape (n_rows, n_columns, k_y, k_x)
            Decoded patterns at angle 0, NaN beyond the polar grid.
        manifold_latents : array_like of float, shape (n_rows, n_columns, n_latent)
            Latents that they are decoded from.
        """
        self._require_writable("embedding.zarr")
        group = self.store("embedding")
        embedding.write(group)
        group.create_array("manifold", data=np.asarray(manifold, np.float32), overwrite=True)
        group.create_array("manifold_latents", data=np.asarray(manifold_latents, np.float32), overwrite=True)
        self._forget()

    def write_quantity(self, quantity: QuantityMap) -> None:
        """Write the map of a quantity that is known at some positions."""
        self._require_writable("embedding.zarr")
        quantity.write(self.store("embedding"))
        self._forget()

    def write_trained_on(self, mask: NDArray[np.bool_]) -> None:
        """Write which patterns were trained on, shape ``(scan_y, scan_x)``; the others were held out."""
        self._require_writable("embedding.zarr")
        self.store("embedding").create_array("trained_on", data=np.asarray(mask, bool), overwrite=True)
        self._forget()

    def write_history(self, history: Mapping[str, Sequence[float] | NDArray[np.floating[Any]]]) -> None:
        """Write ``history.csv``: one row per epoch; epochs are counted from 1 where they are not given.

        Parameters
        ----------
        history : mapping of str to sequence of float
            Loss parts, noise level and learning rate, all of the same length; columns that are missing stay empty.
        """
        self._require_writable("history.csv")
        columns = {name: list(values) for name, values in history.items()}
        n = max((len(values) for values in columns.values()), default=0)
        columns.setdefault("epoch", list(range(1, n + 1)))
        names = [*_HISTORY, *(name for name in columns if name not in _HISTORY)]
        atomic.write_table(self.folder / "history.csv", {name: columns.get(name, [math.nan] * n) for name in names})
        self._forget()

    def write_metrics(self, metrics: Mapping[str, object]) -> None:
        """Write ``metrics.json``: flat; None, NaN and infinity become null.

        Parameters
        ----------
        metrics : mapping of str to number, str, bool, None, or list or array of these
            What the figures print.
        """
        self._require_writable("metrics.json")
        values = atomic.plain(metrics)
        if any(isinstance(value, dict) for value in values.values()):
            raise TypeError("metrics.json is flat: give numbers, words, or lists of these, no mappings")
        atomic.write_json(self.folder / "metrics.json", values)
        self._forget()

    @property
    def model_path(self) -> Path:
        """``model.safetensors`` in the working folder."""
        return self.folder / "model.safetensors"

    @property
    def figures_path(self) -> Path:
        """``figures`` in the working folder; may not exist yet."""
        return self.folder / "figures"

    @property
    def is_complete(self) -> bool:
        """Whether the run is finished and has its final name."""
        return self.folder == self.path

    def finish(self) -> None:
        """Mark the run complete and give the folder its final name.

        Raises
        ------
        RunError
            If the final folder has appeared in the meantime or the folder cannot be renamed.
        """
        self._require_writable("manifest.json")
        seconds = time.perf_counter() - self._began + sum(self._earlier.values())
        self.manifest["total_seconds"] = round(seconds, 4)
        self.manifest["peak_memory_mb"] = largest_memory_mb(self.manifest)
        self.manifest["finished"] = now()
        self.manifest["bytes"] = {
            part: atomic.size(self.folder / part) for part in _PARTS if (self.folder / part).exists()
        }
        self.manifest |= {"status": "complete", "checksums": CHECKSUMS}
        self._save_manifest()
        write_checksums(self.folder)
        try:
            self._place.publish(self.folder)
        except (RunError, OSError) as error:
            self.record(status="running")
            if isinstance(error, RunError):
                raise
            reason = error.strerror or error
            raise RunError(f"{self.path}: {self.folder.name} cannot be renamed ({reason}); rename it") from None
        self.folder = self.path
        self._forget()

    # Reading a run ----------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> Run:
        """Open a finished run.

        Parameters
        ----------
        path : str or Path
            The run folder.
        verify : bool
            Whether files are compared with the checksums that were taken when the run was finished: small files
            now, a Zarr store when it is first read, about a second for a gigabyte. Runs that were written
            without checksums are read as they are.

        Returns
        -------
        Run
            Small files are read and checked; arrays are read when asked for.

        Raises
        ------
        RunError
            If the folder is missing, incomplete or damaged.
        DataError
            If `path` is no path.
        """
        path = require_path(path, "Run.open", "a run folder").absolute()
        manifest = finished_manifest(path)
        run = cls(path, path, manifest)
        for part, n_bytes in dict(manifest.get("bytes", {})).items():
            if not (path / part).exists() or atomic.size(path / part) < n_bytes:
                raise RunError(f"{path}: {part} is missing or cut short; copy the folder again, or run it again")
        if verify:
            if manifest.get("checksums") == CHECKSUMS and not (path / CHECKSUMS).exists():
                raise RunError(f"{path}: {CHECKSUMS} is missing; copy the folder again, or open it with verify=False")
            require_checksums(path, is_small)
        for part in manifest.get("bytes", {}):
            if part in ("config.toml", "metrics.json"):
                getattr(run, part.partition(".")[0])
            elif part.endswith(".zarr"):
                run.store(part.removesuffix(".zarr"))
                run._unchecked |= {part} if verify else set()
        return run

    @cached_property
    def config(self) -> Config:
        """All settings as used."""
        with self._reading("config.toml"):
            return Config.from_toml(self.folder / "config.toml")

    @cached_property
    def measurements(self) -> Measurements:
        """Maps, those of kept virtual detectors among them, and polar patterns, which stay on disk."""
        with self._reading("measurements.zarr"):
            measurements = Measurements.read(self.store("measurements"))
        return with_detector_maps(measurements, self.folder)

    @cached_property
    def embedding(self) -> Embedding:
        """Latents and angles of the scan, with scan step and unit for its figures."""
        step, unit = self.measurements.calibration.scan_step, self.config.model.latent_unit
        with self._reading("embedding.zarr"):
            return replace(Embedding.read(self.store("embedding")), scan_step=step, latent_unit=unit)

    @cached_property
    def quantity(self) -> QuantityMap | None:
        """The quantity that is known at some positions, ``quantity.known``, at all of them; None without any."""
        step = self.measurements.calibration.scan_step
        with self._reading("embedding.zarr"):
            return QuantityMap.read(self.store("embedding"), step)

    @cached_property
    def trained_on(self) -> NDArray[np.bool_]:
        """True where a pattern was trained on, shape ``(scan_y, scan_x)``; the others were held out."""
        return self._read_embedding("trained_on")

    @cached_property
    def manifold(self) -> NDArray[np.float32]:
        """Decoded patterns at angle 0, shape ``(n_rows, n_columns, k_y, k_x)``, NaN beyond the polar grid."""
        return self._read_embedding("manifold")

    @cached_property
    def manifold_latents(self) -> NDArray[np.float32]:
        """Latents of the manifold, shape ``(n_rows, n_columns, n_latent)``."""
        return self._read_embedding("manifold_latents")

    @cached_property
    def history(self) -> dict[str, NDArray[np.float64]]:
        """Columns of ``history.csv``, each of shape ``(n_epochs,)``; NaN where a column is empty."""
        with self._reading("history.csv"):
            return atomic.read_table(self.folder / "history.csv")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``; None where a quantity is missing."""
        with self._reading("metrics.json"):
            return atomic.read_json(self.folder / "metrics.json")

    def plot(self, *, figure: Figure | None = None) -> Figure:
        """Draw the overview: manifold, specimen, COM, rotation and latents.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            Empty figure to draw the page into; a new one where left out.

        Returns
        -------
        matplotlib.figure.Figure
            The page.

        Raises
        ------
        RunError
            If a part of the run is missing or damaged.
        """
        from stemvane.figures.canvas import shown_figure
        from stemvane.figures.manifold_panel import Manifold
        from stemvane.figures.overview_page import overview_page

        manifold = Manifold(self.manifold, self.manifold_latents)
        return overview_page(self.measurements, self.embedding, manifold, self.metrics, figure=shown_figure(figure))

    def view(self) -> Any:
        """Show the run in a notebook, as ``stemvane view`` does in a browser; returns a widget of anywidget."""
        from stemvane.viewer.notebook_widget import viewer_widget

        return viewer_widget(self)

    def to_hyperspy(self) -> dict[str, Any]:
        """Maps and patterns as HyperSpy signals, by name; a `RunError` where HyperSpy is not installed."""
        return hyperspy_signals(self)

    def _digest(self, made_from: object) -> str:
        return digest([self.manifest["versions"], atomic.plain(made_from)])

    def _read_embedding(self, name: str) -> NDArray[Any]:
        with self._reading("embedding.zarr"):
            array: Any = self.store("embedding")[name]
            return np.asarray(array[...])

    @contextmanager
    def _reading(self, part: str) -> Iterator[None]:
        try:
            yield
        except RunError:
            raise
        except Exception as error:  # a damaged store raises whatever zarr, its codecs or the file system please
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RunError(f"{self.path}: {part} is missing or damaged ({reason}); run it again") from error

    def _require_writable(self, part: str) -> None:
        if self.is_complete:
            raise RunError(f"{self.path}: {part} cannot be changed in a finished run; make a new run")

    def _forget(self) -> None:
        for name in _CACHED:
            self.__dict__.pop(name, None)

    def _save_manifest(self) -> None:
        atomic.write_json(self.folder / "manifest.json", self.manifest)
