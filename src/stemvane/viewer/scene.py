"""What the viewer shows of one scan: its maps, its patterns, and what a model makes of them."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D, reading_lazily
from stemvane.data.embedding import Embedding
from stemvane.data.findings import Finding, sort_findings
from stemvane.data.measurements import Measurements
from stemvane.errors import DataError, RunError, StemvaneError
from stemvane.io.files import open_source
from stemvane.reduction.preparation import preprocess_patterns
from stemvane.reduction.survey import survey
from stemvane.runs.defects_folder import read_symmetry
from stemvane.runs.run import Run
from stemvane.viewer.detector_bins import DetectorBins, bin_dataset, bin_measurements
from stemvane.viewer.detector_shapes import DetectorShape, preset_shapes
from stemvane.viewer.scene_maps import SceneMap, maps_of_embedding, maps_of_measurements, maps_of_quantity, vector_map

if TYPE_CHECKING:
    from stemvane.models.base import PatternModel

__all__ = ["Scene", "give_back_memory"]

# s; a pattern that takes longer to unpack lies in so large a chunk that all its neighbours are worth keeping
_SLOW = 0.06
# s; how long after a question the pass over all patterns goes slowly, and how slowly
_JUST_NOW, _PAUSE = 0.5, 0.3
# recorded patterns that are kept, since the mouse comes back to them
_MOST_KEPT = 32 * 2**20


class Scene:
    """A scan in the viewer.

    Make one with `of_run`, `of_measurements` or `of_dataset`. What takes long, binning all patterns and loading the
    model, is done by a thread that `start` starts.

    Attributes
    ----------
    name : str
        Name of the scan or run.
    calibration : Calibration
        Steps, axis and beam.
    maps : dict of str to SceneMap
        Maps by name; more come while patterns are being binned.
    measurements, embedding, dataset, run
        What it is made of; None where there is none.
    notes : list of Finding
        What the user should know of.
    version : int
        Grows whenever there is more to show.
    progress : dict of str to float
        Share done of what is being done.
    asked_at : float
        When something was asked last that reads patterns, by the monotonic clock.
    """

    def __init__(
        self,
        name: str,
        calibration: Calibration,
        *,
        measurements: Measurements | None = None,
        embedding: Embedding | None = None,
        dataset: Dataset4D | None = None,
        run: Run | None = None,
        model: PatternModel | None = None,
        findings: tuple[Finding, ...] = (),
    ) -> None:
        self.name = name
        self.calibration = calibration
        self.measurements = measurements
        self.embedding = embedding
        self.dataset = dataset
        self.run = run
        self.notes = list(findings)
        self.maps: dict[str, SceneMap] = {}
        self.version = 1
        self.progress: dict[str, float] = {}
        self.defects: list[dict[str, Any]] = []
        self.bins: DetectorBins | None = None
        self._model = model
        self._model_trouble = ""
        self._decoding = threading.Lock()
        self._kept: OrderedDict[tuple[int, ...], NDArray[Any]] = OrderedDict()
        self._slow: bool | None = None
        self.asked_at = 0.0
        self._keeping = threading.Lock()
        self._closed = threading.Event()
        self._making = threading.Lock()
        self._moments: NDArray[np.float64] | None = None
        self._mark = _identity(run)
        for made in (
            *(() if measurements is None else maps_of_measurements(measurements)),
            *(() if embedding is None else maps_of_embedding(embedding)),
        ):
            self.maps[made.name] = made

    @classmethod
    def of_run(cls, run: Run) -> Scene:
        """Show a finished run; recorded patterns come from the file that its settings name, where that is there.

        Parameters
        ----------
        run : Run
            The run.
        """
        measurements = run.measurements
        dataset, notes = _recorded(run, measurements)
        scene = cls(
            run.path.name,
            measurements.calibration,
            measurements=measurements,
            embedding=run.embedding,
            dataset=dataset,
            run=run,
            findings=(*run.findings, *notes),
        )
        scene.maps |= {made.name: made for made in maps_of_quantity(run.quantity)}
        scene.defects, found = read_symmetry(run)
        for name, (title, kind, unit, values) in found.items():
            scene.maps[name] = SceneMap(name, title, "Defects", unit, kind, values)
        return scene

    @classmethod
    def of_measurements(
        cls, measurements: Measurements, embedding: Embedding | None = None, model: PatternModel | None = None
    ) -> Scene:
        """Show measurements, and what a model says of them.

        Parameters
        ----------
        measurements : Measurements
            The measured scan.
        embedding : Embedding, optional
            Its latents and angles.
        model : PatternModel, optional
            The fitted model.
        """
        calibration, findings = measurements.calibration, measurements.findings
        name = measurements.name
        return cls(name, calibration, measurements=measurements, embedding=embedding, model=model, findings=findings)

    @classmethod
    def of_dataset(cls, dataset: Dataset4D) -> Scene:
        """Show recorded patterns; maps appear as they are read.

        Parameters
        ----------
        dataset : Dataset4D
            The scan.
        """
        scene = cls(dataset.name, dataset.calibration, dataset=dataset, findings=dataset.findings)
        if dataset.image is not None:
            image = np.asarray(dataset.image)
            scene.maps["image"] = SceneMap("image", "Image recorded with the scan", "Images", "", "image", image)
        empty = np.full(dataset.scan_shape, np.nan)
        scene.maps["total"] = SceneMap("total", "Total intensity", "Images", "counts", "image", empty)
        return scene

    @property
    def file_name(self) -> str:
        """The name without anything that a file system or a page might take for something else."""
        return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in self.name)[:60] or "scan"

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Numbers of probe positions ``(scan_y, scan_x)``."""
        return _first(self.measurements, self.dataset).scan_shape

    @property
    def detector_shape(self) -> tuple[int, int]:
        """Numbers of detector pixels ``(k_y, k_x)``."""
        return _first(self.measurements, self.dataset).detector_shape

    @property
    def bad_pixels(self) -> NDArray[np.bool_] | None:
        """True where a detector pixel does not count."""
        return _first(self.measurements, self.dataset).bad_pixels

    @property
    def has_polar(self) -> bool:
        """Whether there are polar patterns."""
        return self.measurements is not None and self.measurements.polar is not None

    @property
    def pattern_source(self) -> str:
        """Where patterns come from: ``recorded``, ``polar``, or nothing."""
        return "recorded" if self.dataset is not None else "polar" if self.has_polar else ""

    def require_present(self) -> None:
        """Refuse to go on where the run's folder is not the one that was opened.

        Raises
        ------
        RunError
            If it was removed or replaced.
        """
        if self.run is not None and self._mark != _identity(self.run):
            raise RunError(f"{self.run.path}: the run was removed or replaced; open it again: stemvane view")

    def require_position(self, y: int, x: int) -> None:
        """Refuse positions beyond the scan with a `DataError`."""
        rows, columns = self.scan_shape
        if not (0 <= y < rows and 0 <= x < columns):
            raise DataError(f"no position ({y}, {x}) in a scan of {rows} × {columns}; choose one within it")

    def pattern(self, y: int, x: int) -> NDArray[Any]:
        """Read one pattern.

        Parameters
        ----------
        y, x : int
            Scan position.

        Returns
        -------
        ndarray, shape (k_y, k_x)
            As recorded, bad pixels NaN; or drawn from the polar pattern, NaN beyond its rings.

        Raises
        ------
        DataError
            If there are no patterns, or no such position.
        """
        self.require_position(y, x)
        if self.dataset is None:
            return self.polar_drawn(self.polar_pattern(y, x))
        return self._without_bad_pixels(self._recorded_pattern(y, x))

    def patterns(self, positions: Sequence[tuple[int, int]]) -> NDArray[Any]:
        """Read some patterns, as `pattern` does, shape ``(n, k_y, k_x)``; each chunk of a file is read once."""
        if self.dataset is None:
            return np.stack([self.pattern(y, x) for y, x in positions])
        rows, columns = np.transpose(positions)
        with reading_lazily(f"{self.name}: some patterns"):
            return self._without_bad_pixels(np.asarray(self.dataset.data.vindex[rows, columns].compute()))

    def _without_bad_pixels(self, frames: NDArray[Any]) -> NDArray[Any]:
        bad = self.bad_pixels
        return frames if bad is None or not bad.any() else np.where(bad, np.nan, frames)

    def _recorded_pattern(self, y: int, x: int) -> NDArray[Any]:
        """One pattern; where unpacking one takes long, as in large chunks, with its neighbours, which are kept."""
        assert self.dataset is not None
        if self._slow is None:
            frame = self.dataset.pattern(y, x)
            # the second time no disk is waited for, only a chunk unpacked
            began = time.perf_counter()
            self.dataset.pattern(y, x)
            self._slow = time.perf_counter() - began > _SLOW
            return frame
        if not self._slow:
            return self.dataset.pattern(y, x)
        chunks = self.dataset.data.chunks[:2]
        block = tuple(
            int(np.searchsorted(np.cumsum(sizes), at, side="right")) for sizes, at in zip(chunks, (y, x), strict=True)
        )
        top, left = (int(sum(sizes[:i])) for sizes, i in zip(chunks, block, strict=True))
        with self._keeping:
            if block not in self._kept:
                with reading_lazily(f"{self.name}: the patterns around ({y}, {x})"):
                    self._kept[block] = np.asarray(self.dataset.data.blocks[block].compute())
            self._kept.move_to_end(block)
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _MOST_KEPT:
                self._kept.popitem(last=False)
            frame = self._kept[block][y - top, x - left]
        return np.asarray(frame)

    def polar_pattern(self, y: int, x: int) -> NDArray[np.float32]:
        """Read the polar pattern of a position, shape ``(n_radial, n_azimuthal)``; a `DataError` without any."""
        if self.measurements is None or self.measurements.polar is None:
            raise DataError(f"{self.name}: there are no polar patterns; open a run, or measure the scan")
        return np.asarray(self.measurements.polar[y, x], np.float32)

    def polar_drawn(self, polar: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Draw a polar pattern on the detector's pixels; NaN beyond its rings."""
        assert self.measurements is not None
        return self.measurements.grid.to_cartesian(polar, self.measurements.detector_shape)

    def decode(self, latents: Any, angle: Any) -> NDArray[np.float64]:
        """Draw what the model decodes.

        Parameters
        ----------
        latents : array_like, shape (..., n_latent)
            Latents.
        angle : array_like, shape (...)
            Angle in rad.

        Returns
        -------
        ndarray of float, shape (..., k_y, k_x)

        Raises
        ------
        DataError
            If there is no model, or it is still being loaded.
        """
        if self._model is None:
            raise DataError(self._model_trouble or f"{self.name}: there is no model, or it is still being loaded; wait")
        with self._decoding:
            return self._model.decode(latents, angle)

    @property
    def model_state(self) -> str:
        """``ready``, ``loading`` or ``none``."""
        if self._model is not None:
            return "ready"
        return "loading" if self.run is not None and not self._model_trouble else "none"

    def presets(self) -> dict[str, DetectorShape]:
        """Usual virtual detectors at the disc."""
        return preset_shapes(self.calibration, self.detector_shape)

    def start(self) -> None:
        """Begin to bin all patterns, to look for the disc and to load the model, each in a thread of its own."""
        for work in (self._bin, self._survey, self._load_model):
            threading.Thread(target=self._try, args=(work,), daemon=True).start()

    def close(self) -> None:
        """End the threads."""
        self._closed.set()

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except StemvaneError as error:
            self.note("warning", " ".join(str(error).split()))
        except (OSError, MemoryError) as error:
            self.note("warning", f"patterns could not be read ({' '.join(str(error).split())}); open it again")
        finally:
            self.progress.pop(work.__name__.strip("_"), None)
            give_back_memory()

    def note(self, severity: str, message: str) -> None:
        """Add something that the user should know of."""
        self.notes.append(Finding.from_dict({"id": "viewer", "severity": severity, "message": message}))
        self.version += 1

    def _bin(self) -> None:
        self.progress["bin"] = 0.0
        if self.has_polar and self.measurements is not None:
            bin_measurements(self.measurements, self._binned)
        elif self.dataset is not None:
            bin_dataset(self.dataset, self._binned)

    def _survey(self) -> None:
        """Find disc and axis of a scan that nobody has measured, so that presets lie where they belong."""
        if self.dataset is None or self.measurements is not None:
            return
        found = survey(self.dataset)
        changes = {
            name: value
            for name, value in (("optical_axis", found.disc_centre), ("disc_radius", found.disc_radius))
            if found.has_disc and value is not None and getattr(self.calibration, name) is None
        }
        self.calibration = self.calibration.replace(**changes)
        self.notes = list(sort_findings([*self.notes, *found.findings]))
        with self._making:
            if self.bins is not None and self._moments is not None:
                self._add_read_maps(self.bins, self._moments)
        self.version += 1

    def _binned(self, bins: DetectorBins, done: float, moments: NDArray[np.float64] | None = None) -> bool:
        if self.bins is None:
            self.version += 1
        self.bins = bins
        self.progress["bin"] = done
        # the disk is the user's first: while there are questions the pass goes slowly
        if done < 1 and time.monotonic() - self.asked_at < _JUST_NOW:
            self._closed.wait(_PAUSE)
        if moments is not None and self.maps_due(done):
            with self._making:
                self._moments = moments
                self._add_read_maps(bins, moments)
        return not self._closed.is_set()

    def maps_due(self, done: float) -> bool:
        """Whether enough has been read since the maps were made last that they are worth making again."""
        shown = self.progress.get("shown", 0.0)
        if done < 1 and done - shown < 0.1 and shown > 0:
            return False
        self.progress["shown"] = done
        return True

    def _add_read_maps(self, bins: DetectorBins, moments: NDArray[np.float64]) -> None:
        """Total, COM, bright and dark field of what has been read of a data set."""
        total = np.where(moments[0] > 0, moments[0], np.nan)
        axis = self.calibration.optical_axis or tuple((n - 1) / 2 for n in self.detector_shape)
        pixel, unit = self.calibration.pixel_size, "mrad"
        if pixel is None:
            pixel, unit = (1.0, 1.0), "px"
        com = np.stack([(moments[1 + k] / total - axis[k]) * pixel[k] for k in (0, 1)], axis=-1)
        made = [
            SceneMap("total", "Total intensity", "Images", "counts", "image", moments[0]),
            vector_map("com", "COM", unit, com),
        ]
        shapes = self.presets()
        for name, title, preset in (
            ("annular_dark_field", "Annular dark field", "ADF"),
            ("bright_field", "Bright field", "BF"),
        ):
            weights = shapes[preset].weights(self.detector_shape, self.calibration.pixel_aspect)
            signal = bins.respond(weights)
            made.append(SceneMap(name, title, "Images", "counts", "image", signal))
        self.maps |= {each.name: each for each in made}
        self.version += 1

    def _load_model(self) -> None:
        if self.run is None or self._model is not None:
            return
        from stemvane.models.registry import load_model

        self.progress["load_model"] = 0.0
        try:
            self._model = load_model(self.run.model_path)
        except StemvaneError as error:
            self._model_trouble = " ".join(str(error).split())
            raise
        finally:
            self.version += 1


def give_back_memory() -> None:
    """Give the system back what glibc keeps of the memory that threads have freed; elsewhere this does nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _recorded(run: Run, measurements: Measurements) -> tuple[Dataset4D | None, tuple[Finding, ...]]:
    """The scan that a run was made from, where it is still there and of the same shape."""
    source = run.config.source
    if not source.path:
        return None, ()
    trouble = ""
    try:
        # flipped, cropped and binned as it was measured; counts stay as they were recorded
        plain = {"dark": "", "gain": "", "bad_pixels": "", "missing": "", "normalise": False}
        opened, _ = preprocess_patterns(open_source(source), run.config.preparation.model_copy(update=plain))
        expected = (*measurements.scan_shape, *measurements.detector_shape)
        if opened.shape == expected:
            missing = ~measurements.recorded
            return replace(opened, bad_pixels=measurements.bad_pixels, missing=missing if missing.any() else None), ()
        trouble = f"{Path(source.path).name} has the shape {opened.shape}, the run {expected}"
    except StemvaneError as error:
        trouble = " ".join(str(error).split())
    message = f"patterns are drawn from the run's polar samples, for the recorded scan cannot be read: {trouble}"
    return None, (Finding("viewer", "note", message),)


def _identity(run: Run | None) -> Mapping[str, int] | None:
    """What tells a run's folder from another one of its name."""
    if run is None:
        return None
    try:
        state = (run.path / "manifest.json").stat()
    except OSError:
        return {}
    return {"inode": state.st_ino, "changed": state.st_mtime_ns}


def _first(measurements: Measurements | None, dataset: Dataset4D | None) -> Measurements | Dataset4D:
    made_of = measurements if measurements is not None else dataset
    if made_of is None:
        raise DataError("there is nothing to show; give a run, measurements or a data set")
    return made_of
