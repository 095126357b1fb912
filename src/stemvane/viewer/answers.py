"""What the viewer's page may ask for, and the messages that answer it, whoever carries them."""

from __future__ import annotations

import csv
import shlex
import struct
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from io import StringIO
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stemvane.errors import DataError, RunError, StemvaneError
from stemvane.reduction.blocks import in_order, n_threads, partition
from stemvane.runs.annotations import check_annotations, read_annotations, write_annotations
from stemvane.runs.detector_maps import add_detector_maps, detector_map_names
from stemvane.viewer.changes import rerun_with
from stemvane.viewer.detector_shapes import DetectorShape
from stemvane.viewer.recipes import notebook_of, python_of
from stemvane.viewer.scene import Scene, give_back_memory
from stemvane.viewer.scene_maps import SceneMap, vector_map
from stemvane.viewer.selection_file import selection_hdf5
from stemvane.viewer.selections import mean_patterns, select_positions
from stemvane.viewer.wire import Coded, code_array, encode_message

__all__ = ["Answers", "RunFolder", "framed"]

# a mean while the mouse draws, which is to answer at once
_QUICK = 0.06
_MOST_PROGRESS = 0.1


class RunFolder(Protocol):
    """A folder that runs appear in."""

    def newer(self) -> str:
        """Name of a run that has not been opened; empty where there is none."""

    def open(self) -> Scene:
        """Open it."""


def framed(message: bytes) -> bytes:
    """A message of a stream of several: its length as a 32-bit integer, then itself."""
    return struct.pack("<I", len(message)) + message


class Answers:
    """Answers to a page's questions about some scenes.

    Parameters
    ----------
    scenes : sequence of Scene
        What is shown, the first beside the others.
    watch : optional
        A folder that runs appear in: ``newer()`` names one that has not been opened, ``open()`` opens it.
    """

    def __init__(self, scenes: Sequence[Scene], watch: RunFolder | None = None) -> None:
        self.scenes = list(scenes)
        self._watch = watch
        self._asked: dict[str, Callable[[Scene, Mapping[str, Any]], Iterator[bytes]]] = {
            "status": self._status,
            "scene": self._scene,
            "map": self._map,
            "pattern": self._pattern,
            "model": self._model,
            "latents": self._latents,
            "decode": self._decode,
            "manifold": self._manifold,
            "detector": self._detector,
            "exact": self._exact,
            "select": self._select,
            "export": self._export,
            "python": self._python,
            "notebook": self._notebook,
            "annotate": self._annotate,
            "keep": self._keep,
            "labels": self._labels,
            "rerun": self._rerun,
            "open_newest": self._open_newest,
        }

    @property
    def questions(self) -> tuple[str, ...]:
        """Names of everything that can be asked."""
        return tuple(self._asked)

    def answer(self, number: int, question: str, values: Mapping[str, Any]) -> Iterator[bytes]:
        """Answer a question.

        Parameters
        ----------
        number : int
            Scene that is asked about.
        question : str
            One of `questions`.
        values : mapping
            What the question needs, as words, numbers, lists and mappings.

        Yields
        ------
        bytes
            Messages; all but the last tell of progress. An error of ours is a message with ``error``.
        """
        try:
            if question not in self._asked:
                raise DataError(f"nothing answers to {question!r}; reload the page")
            if not 0 <= number < len(self.scenes):
                raise DataError(f"there is no scene {number}; reload the page")
            scene = self.scenes[number]
            if question not in ("status", "open_newest"):
                scene.require_present()
            yield from self._asked[question](scene, values)
        except StemvaneError as error:
            yield encode_message(error=" ".join(str(error).split()), gone=isinstance(error, RunError))
        except MemoryError:
            yield encode_message(error="not enough memory; close other programs, or select less", gone=False)

    def _status(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        gone = ""
        try:
            scene.require_present()
        except RunError as error:
            gone = str(error)
        yield encode_message(
            version=scene.version,
            progress={name: share for name, share in list(scene.progress.items()) if name in ("bin", "load_model")},
            model=scene.model_state,
            gone=gone,
            newest="" if self._watch is None else self._watch.newer(),
        )

    def _scene(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        calibration, embedding, measurements = scene.calibration, scene.embedding, scene.measurements
        step = calibration.scan_step
        defects = [
            {name: row.get(name) for name in ("kind", "name", "p", "turn_deg")}
            | {axis: row[axis] / (step[k] if step else 1.0) for k, axis in enumerate(("y", "x"))}
            for row in scene.defects
        ]
        run = scene.run
        yield encode_message(
            name=scene.name,
            names=[each.name for each in self.scenes],
            version=scene.version,
            calibration=calibration.to_dict(),
            aspect=calibration.pixel_aspect,
            scan_shape=list(scene.scan_shape),
            detector_shape=list(scene.detector_shape),
            maps=[made.to_dict() for made in scene.maps.values()],
            n_latent=0 if embedding is None else embedding.n_latent,
            latent_unit="" if embedding is None else embedding.latent_unit,
            symmetry=1 if embedding is None else embedding.symmetry,
            has_angle=embedding is not None and bool(np.isfinite(embedding.angle).any()),
            has_manifold=run is not None and embedding is not None,
            pattern_source=scene.pattern_source,
            binned=scene.bins is not None,
            pattern_unit=self._pattern_unit(scene),
            has_polar=scene.has_polar,
            model=scene.model_state,
            presets={name: shape.to_dict() for name, shape in scene.presets().items()},
            defects=defects,
            findings=[finding.to_dict() for finding in scene.notes],
            annotations={"labels": [], "detectors": []} if run is None else read_annotations(run),
            writable=run is not None,
            polar=None if measurements is None else list(measurements.grid.shape),
        )

    def _map(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        shown = scene.maps.get(str(values.get("name")))
        if shown is None:
            raise DataError(f"there is no map {values.get('name')!r}; choose one of the list")
        yield encode_message(_coded_map(shown.values, shown.strength, shown.unit), **shown.to_dict())

    def _pattern(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        y, x = _position(values)
        scene.asked_at = time.monotonic()
        pattern = code_array("pattern", scene.pattern(y, x), self._pattern_unit(scene))
        yield encode_message([pattern], y=y, x=x, source=scene.pattern_source)

    def _model(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        """What the model sees at a position: its pattern, scaled to the recorded total, and what is left."""
        y, x = _position(values)
        scene.require_position(y, x)
        embedding = scene.embedding
        if embedding is None:
            raise DataError(f"{scene.name}: nothing was learned; fit a model")
        latents, angle = embedding.latents[y, x].astype(float), float(embedding.angle[y, x])
        if not np.isfinite(latents).all():
            raise DataError("the model has nothing to say here: the position was left out; choose another one")
        decoded = scene.decode(latents, angle if np.isfinite(angle) else 0.0)
        arrays, unit = [], self._pattern_unit(scene)
        if scene.has_polar:
            # on the same samples, with bad pixels filled and the beam at its place, as the model was given it
            seen = scene.polar_drawn(scene.polar_pattern(y, x))
            both = np.isfinite(seen) & np.isfinite(decoded)
            total = float(decoded[both].sum())
            decoded = decoded * (float(seen[both].sum()) / total if total > 0 else 1.0)
            arrays.append(code_array("residual", seen - decoded, unit))
        arrays.append(code_array("decoded", decoded, unit))
        deviation = float(embedding.angle_std[y, x])
        yield encode_message(
            arrays,
            y=y,
            x=x,
            latents=latents.tolist(),
            angle=angle if np.isfinite(angle) else None,
            angle_std=deviation if np.isfinite(deviation) else None,
        )

    def _latents(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        if scene.embedding is None:
            raise DataError(f"{scene.name}: nothing was learned; fit a model")
        unit, latents = scene.embedding.latent_unit, scene.embedding.latents
        yield encode_message(code_array(f"latent_{k + 1}", latents[..., k], unit) for k in range(latents.shape[-1]))

    def _decode(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        latents = _numbers(values, "latents")
        angle = _numbers(values, "angle")[:1] or [0.0]
        yield encode_message(
            [code_array("decoded", scene.decode(latents, angle[0]), "relative")], latents=latents, angle=angle[0]
        )

    def _manifold(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        if scene.run is None:
            raise DataError(f"{scene.name}: there is no grid of patterns; open a run")
        grid, latents = scene.run.manifold, scene.run.manifold_latents
        yield encode_message([code_array("manifold", grid, "relative")], latents=np.asarray(latents, float).tolist())

    def _detector(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        """Signal of a dragged detector, from coarse bins."""
        if scene.bins is None:
            raise DataError("patterns are being binned for dragged detectors; wait a moment")
        shape = DetectorShape.from_dict(values)
        weights = shape.weights(scene.detector_shape, scene.calibration.pixel_aspect, exact=False)
        bins = scene.bins
        if shape.signal == "sum":
            yield encode_message(
                _coded_map(bins.respond(weights), None, "counts"), kind="image", exact=False, n_bins=bins.n_bins
            )
            return
        moments = [bins.respond(each) for each in (weights, *_arms(weights, shape))]
        yield self._com_message(scene, moments, exact=False, n_bins=bins.n_bins)

    def _exact(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        """Signal of a detector from every pixel, with progress."""
        shape = DetectorShape.from_dict(values)
        signals = yield from _exact_signals(scene, shape)
        if shape.signal == "com":
            yield self._com_message(scene, list(signals), exact=True)
        else:
            yield encode_message(_coded_map(signals[0], None, "counts"), kind="image", exact=True)

    def _keep(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        """Store a detector and its map in the run."""
        run, measurements = scene.run, scene.measurements
        if run is None or measurements is None:
            raise DataError(f"{scene.name}: detectors are kept in a run; open one")
        content, title = dict(_mapping(values, "detector")), str(values.get("name", ""))
        shape = DetectorShape.from_dict(content)
        is_com = shape.signal == "com"
        names = detector_map_names(run.path, measurements, title, ("_y", "_x") if is_com else ("",))
        stored = read_annotations(run)
        others = [each for each in stored["detectors"] if each["name"] != title.strip()]
        stored = check_annotations({**stored, "detectors": [*others, {"name": title, "detector": content}]})
        signals = yield from _exact_signals(scene, shape)
        unit = "counts"
        if is_com:
            com, unit = _centres(scene, signals)
            signals = np.moveaxis(com, -1, 0)
        add_detector_maps(run.path, dict(zip(names, signals, strict=True)), dict.fromkeys(names, unit))
        write_annotations(run, stored)
        for name, signal in zip(names, signals, strict=True):
            scene.maps[name] = SceneMap(name, name.replace("_", " "), "Images", unit, "image", signal)
        scene.version += 1
        yield encode_message(annotations=stored, maps=[made.to_dict() for made in scene.maps.values()])

    def _com_message(self, scene: Scene, moments: list[NDArray[Any]], **words: Any) -> bytes:
        com, unit = _centres(scene, moments)
        made = vector_map("detector", "COM", unit, com)
        return encode_message(_coded_map(made.values, made.strength, unit), kind="vector", **words)

    def _select(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        """The positions of a selection and their mean pattern; while it is drawn, of as many as time allows."""
        mask = select_positions(scene, _mapping(values, "selection"))
        chosen = code_array("mask", mask.astype(np.uint8))
        n = int(mask.sum())
        if n == 0 or not scene.pattern_source:
            yield encode_message([chosen], n=n, n_used=0, done=1.0)
            return
        unit, told = self._pattern_unit(scene), time.monotonic()
        for mean in mean_patterns(scene, mask, seconds=_QUICK if values.get("quick") else None):
            if mean.done < 1 and time.monotonic() - told < _MOST_PROGRESS:
                continue
            told = time.monotonic()
            if mean.done < 1:
                yield encode_message(progress=mean.done)
            scene.asked_at = told
        if not values.get("quick"):
            give_back_memory()
        arrays = [chosen, code_array("plain", mean.plain, unit)]
        if mean.rotated is not None:
            arrays.append(code_array("rotated", mean.rotated, unit))
        yield encode_message(arrays, n=n, n_used=mean.n, done=1.0)

    def _export(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        selection = _mapping(values, "selection")
        content = selection_hdf5(scene, selection)
        yield _file_message(f"{scene.file_name}_selection.h5", content)

    def _python(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        yield _file_message(f"{scene.file_name}.py", python_of(scene, _mapping(values, "state")).encode())

    def _notebook(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        yield _file_message(f"{scene.file_name}.ipynb", notebook_of(scene, _mapping(values, "state")).encode())

    def _annotate(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        """Store labels and detectors, the only thing that is ever written."""
        if scene.run is None:
            raise DataError(f"{scene.name}: labels are stored in a run; open one")
        write_annotations(scene.run, _mapping(values, "annotations"))
        yield encode_message(annotations=read_annotations(scene.run))

    def _labels(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        """Every labelled position as a row of a CSV file, as a model of kinds takes it."""
        if scene.run is None:
            raise DataError(f"{scene.name}: labels are stored in a run; open one")
        text = StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["y", "x", "name"])
        for label in read_annotations(scene.run)["labels"]:
            rows.writerows(
                [*place, label["name"]] for place in np.argwhere(select_positions(scene, label["selection"]))
            )
        yield _file_message(f"{scene.file_name}_labels.csv", text.getvalue().encode())

    def _rerun(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        rerun = rerun_with(scene, _mapping(values, "changes"))
        files = [Coded(name, np.frombuffer(content, np.uint8), 0.0, 1.0, "") for name, content in rerun.masks.items()]
        words = [shlex.quote(word) for word in (rerun.path, rerun.output, rerun.name)]
        yield encode_message(files, words=words, settings=rerun.settings, name=rerun.name)

    def _open_newest(self, scene: Scene, values: Mapping[str, Any]) -> Iterator[bytes]:
        """Open the newest run of the folder that is watched, as a further scene."""
        if self._watch is None or not self._watch.newer():
            raise DataError("no newer run has appeared; wait for one to finish")
        opened = self._watch.open()
        opened.start()
        self.scenes.append(opened)
        yield encode_message(scene=len(self.scenes) - 1)

    @staticmethod
    def _pattern_unit(scene: Scene) -> str:
        if scene.dataset is not None:
            return "counts"
        return "" if scene.measurements is None else f"{scene.measurements.units['total']} / pixel"


def _exact_signals(scene: Scene, shape: DetectorShape) -> Generator[bytes, None, NDArray[np.float64]]:
    """What `_weighted_sums` gives for a detector, and its first moments where they are asked for, with progress."""
    weights = shape.weights(scene.detector_shape, scene.calibration.pixel_aspect)
    if scene.bad_pixels is not None:
        weights = np.where(scene.bad_pixels, 0.0, weights)
    wanted = [weights, *(_arms(weights, shape) if shape.signal == "com" else ())]
    signals = np.full((len(wanted), *scene.scan_shape), np.nan)
    told = time.monotonic()
    for part, block, share in _weighted_sums(scene, wanted):
        scene.asked_at = time.monotonic()
        signals[:, *part] = block
        if time.monotonic() - told > _MOST_PROGRESS:
            told = time.monotonic()
            yield encode_message(progress=share)
    give_back_memory()
    return signals


def _centres(scene: Scene, moments: Sequence[NDArray[Any]] | NDArray[Any]) -> tuple[NDArray[np.float64], str]:
    """Centre of mass ``(y, x)`` of moments about a detector's centre, and its unit."""
    pixel, unit = scene.calibration.pixel_size or (1.0, 1.0), "mrad" if scene.calibration.pixel_size else "px"
    total = np.where(moments[0] > 0, moments[0], np.nan)
    return np.stack([moments[1 + k] / total * pixel[k] for k in (0, 1)], axis=-1), unit


def _weighted_sums(
    scene: Scene, wanted: Sequence[NDArray[np.float64]]
) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float64], float]]:
    """Weighted sums of every pattern: where a block lies, its sums, and the share that is done."""
    matrix = np.stack([weights.ravel() for weights in wanted], axis=1)
    if scene.dataset is not None:
        blocks, n_done = partition(scene.dataset.data), 0
        threads = n_threads(8 * scene.detector_shape[0] * scene.detector_shape[1])
        for block, sums in in_order(_block_sums, blocks, matrix, threads=threads):
            n_done += block.height * block.width
            if scene.dataset.missing is not None:
                sums[:, scene.dataset.missing[block.part]] = np.nan
            yield block.part, sums, n_done / scene.dataset.n_patterns
        return
    measurements = scene.measurements
    if measurements is None or measurements.polar is None:
        raise DataError(f"{scene.name}: there are no patterns; open a run, or measure the scan with polar=True")
    overlaps = measurements.grid.weights(measurements.detector_shape)
    pixel, area = overlaps.pixel, overlaps.overlap
    n_samples = overlaps.area.size
    by_sample = np.stack(
        [np.bincount(overlaps.sample, area * weights[pixel], n_samples) for weights in matrix.T], axis=1
    )
    rows, columns = measurements.scan_shape
    top = 0
    for patterns in measurements.polar_blocks():
        height = len(patterns) // columns
        sums = np.asarray(patterns.reshape(len(patterns), -1) @ by_sample, np.float64).T.reshape(-1, height, columns)
        sums[:, ~measurements.recorded[top : top + height]] = np.nan
        yield (slice(top, top + height), slice(0, columns)), sums, (top + height) / rows
        top += height


def _block_sums(block: Any, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    frames = block.read()
    flat = frames.reshape(block.height * block.width, -1)
    used = np.flatnonzero(matrix.any(axis=1))
    sums = flat[:, used].astype(np.float64) @ matrix[used]
    return np.asarray(sums.T.reshape(-1, block.height, block.width))


def _arms(weights: NDArray[np.float64], shape: DetectorShape) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of the first moments about a detector's centre, in pixels."""
    rows, columns = np.indices(weights.shape, dtype=float)
    return weights * (rows - shape.y), weights * (columns - shape.x)


def _coded_map(values: NDArray[Any], strength: NDArray[Any] | None, unit: str) -> list[Coded]:
    if strength is None:
        return [code_array("values", values, unit)]
    return [code_array("values", values, "rad"), code_array("strength", strength, unit)]


def _position(values: Mapping[str, Any]) -> tuple[int, int]:
    try:
        return int(values["y"]), int(values["x"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError("a position needs whole numbers y and x; reload the page") from None


def _numbers(values: Mapping[str, Any], name: str) -> list[float]:
    content = values.get(name, [])
    try:
        parts = content.split(",") if isinstance(content, str) else content
        numbers = [float(part) for part in ([parts] if isinstance(parts, int | float) else parts) if part != ""]
    except (TypeError, ValueError):
        numbers = [float("nan")]
    if len(numbers) > 64 or not np.isfinite(numbers).all():
        raise DataError(f"{name} are no numbers; reload the page")
    return numbers


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    content = values.get(name)
    if not isinstance(content, Mapping):
        raise DataError(f"the question has no {name}; reload the page")
    return content


def _file_message(name: str, content: bytes) -> bytes:
    return encode_message([Coded("file", np.frombuffer(content, np.uint8), 0.0, 1.0, "")], file=name)
