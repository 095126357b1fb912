"""The single streaming pass over the raw data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage
from zarr.codecs import BloscCodec, BloscShuffle

from stemvane.config import MeasureConfig
from stemvane.config.map_names import STANDARD_IMAGES, find_name_trouble
from stemvane.data.arguments import ScanLike, as_dataset, require, require_list
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.data.findings import Finding
from stemvane.data.measurements import Measurements
from stemvane.data.progress import Progress, announce, counting_bar
from stemvane.errors import CalibrationError, DataError
from stemvane.geometry.pixels import PixelGrid
from stemvane.geometry.polar import PolarGrid, plane_of_pixels, require_disc_radius
from stemvane.reduction.blocks import Block, in_order, n_threads, partition
from stemvane.reduction.kernels.frames import FramePlan, FrameSums, measure_frames
from stemvane.reduction.kernels.lanes import LanePlan
from stemvane.reduction.kernels.passes import BeamShift, FramePreparation, PassPlan
from stemvane.reduction.kernels.sums import ImagePlan
from stemvane.reduction.prepare import prepare_scan
from stemvane.reduction.prepared_frames import frame_preparation, require_counts
from stemvane.reduction.virtual_detectors import VirtualDetector

__all__ = ["measure", "standard_detectors"]

# steps of the axis on either side, along y and along x, that slopes are taken over
_STEPS = (((1, 0), (-1, 0)), ((0, 1), (0, -1)))
# at five electrons per pattern 0.7 % have none
_MANY_MISSING = 0.05
# share of the usual counts below which the beam was off; of few electrons a single one is more
_LEAST_TOTAL = 0.01


def standard_detectors(
    calibration: Calibration, detector_shape: tuple[int, int], config: MeasureConfig
) -> tuple[VirtualDetector, ...]:
    """Bright field and annular dark field, with radii from the disc.

    Parameters
    ----------
    calibration : Calibration
        Calibration with optical axis and disc radius.
    detector_shape : tuple of int
        Detector pixels ``(k_y, k_x)``.
    config : MeasureConfig
        Edges of the annulus.

    Returns
    -------
    tuple of VirtualDetector

    Raises
    ------
    CalibrationError
        If axis or radius are unknown.
    """
    axis, radius = _axis_and_radius(calibration)
    require_disc_radius(radius, detector_shape)
    shape = calibration.pixel_aspect, calibration.ellipse
    far_y, far_x = (max(a + 0.5, n - 0.5 - a) for a, n in zip(axis, detector_shape, strict=True))
    corner = np.linalg.norm(plane_of_pixels(*shape) @ [[far_x, far_x], [far_y, -far_y]], axis=0).max()
    detectors = [VirtualDetector.disc("bright_field", detector_shape, axis, radius, *shape)]
    inner = config.adf_inner * radius
    outer = corner if config.adf_outer is None else config.adf_outer * radius
    if inner < outer:
        detectors.append(
            VirtualDetector.annulus("annular_dark_field", detector_shape, axis, inner, float(outer), *shape)
        )
    return tuple(detectors)


def measure(
    dataset: ScanLike,
    detectors: Sequence[VirtualDetector] | None = None,
    *,
    config: MeasureConfig | None = None,
    prepare: bool = True,
    store: zarr.Group | None = None,
    progress: Progress | bool | None = None,
    polar: bool = True,
    mean_pattern: bool = True,
    client: Any = None,
) -> Measurements:
    """Measure every pattern in one pass over the raw data.

    Total, centre of mass, virtual images, polar and Cartesian patterns are all linear in the pattern; compiled kernels
    apply them together, block by block, so that every raw value is read once. Blocks are read and worked on side by
    side in threads, as many as there are processors or as Dask's setting ``num_workers`` says, or on a Dask cluster;
    the result is the same to the last bit.

    Parameters
    ----------
    dataset : Dataset4D, array of four axes or HyperSpy signal
        A signal may be lazy. Where the optical axis or the disc radius is unknown, the scan is prepared first.
    detectors : sequence of VirtualDetector, optional
        Virtual images besides total and COM; `standard_detectors` where left out.
    config : MeasureConfig, optional
        Polar grid, Cartesian patterns where ``n_pixels`` is not 0, and detector edges.
    prepare : bool
        Whether `prepare_scan` is called, without switches, where the calibration lacks optical axis or disc radius.
        What it has done is announced, and stays in `Measurements.preparation`. A scan whose axis and radius are known
        is measured as it is; call `prepare_scan` to leave out its hot and dead pixels.
    store : zarr.Group, optional
        Where polar and Cartesian patterns are streamed to; memory where left out.
    progress : callable or bool, optional
        A function is called with the numbers of patterns done and in all. True shows a bar, False neither bar nor
        announcement; by default both are shown in a terminal and in a notebook.
    polar : bool
        Whether polar patterns are wanted; `RotationVAE` needs them.
    mean_pattern : bool
        Whether the mean of all patterns is wanted; NaN where it is not.
    client : distributed.Client, optional
        A Dask cluster to work on. Its workers must be able to read the file under the same path. A block of a lost
        worker is measured again by another one.

    Returns
    -------
    Measurements
        COM in mrad, or pixels where the pixel size is unknown; virtual images as fractions of the total.

    Raises
    ------
    CalibrationError
        If axis or disc radius are unknown and cannot be found.
    DataError
        If the data are no scan, the name of a virtual detector is that of another map, no pattern has counts, or sums
        are of numbers that no detector counts.

    Notes
    -----
    The COM is the mean position minus the optical axis: it points to where the intensity went, for graphene in focus at
    the atoms. What bad pixels hold counts nowhere: each is filled with what the typical pattern has there, scaled as
    the good pixels around it are. Where the beam shifts with the scan, every pattern is measured about its own axis;
    polar and Cartesian samples to a sixteenth of a pixel, and from there by the slope of the typical pattern. Positions
    without a pattern, or with one that holds NaN or less than a hundredth of the usual counts, are NaN in the maps and
    0 in polar and Cartesian patterns.
    """
    dataset = as_dataset(dataset, "measure")
    config = MeasureConfig() if config is None else require(config, MeasureConfig, "measure")
    if prepare and None in (dataset.calibration.optical_axis, dataset.calibration.disc_radius):
        dataset = prepare_scan(dataset)
        if progress is not False:
            _announce(dataset)
    _axis_and_radius(dataset.calibration)
    if detectors is None:
        detectors = standard_detectors(dataset.calibration, dataset.detector_shape, config)
    detectors = require_list(detectors, VirtualDetector, "measure")
    for number, detector in enumerate(detectors):
        trouble = find_name_trouble(detector.name, STANDARD_IMAGES)
        if detector.name in [other.name for other in detectors[:number]]:
            trouble = f"two virtual detectors are called {detector.name!r}; give each a name of its own"
        if trouble:
            raise DataError(f"measure: {trouble}")
        if detector.weights.shape != dataset.detector_shape:
            raise DataError(
                f"virtual detector '{detector.name}' has shape {detector.weights.shape}, "
                f"the patterns {dataset.detector_shape}; make it for this detector"
            )
    preparation = frame_preparation(dataset)
    margin = 0.0 if preparation.shift is None else preparation.shift.largest + 1
    grids = _Grids.chosen(dataset, config, margin, with_polar=polar)
    plan = _plan(dataset, detectors, grids, preparation, mean_pattern=mean_pattern)
    sources = [("", dataset.data)]
    if dataset.expectation is not None:
        sources.append(("expectation", dataset.expectation))
    total = dataset.n_patterns * len(sources)
    passes: list[Measurements] = []
    with counting_bar(progress, "measure") as count:
        for number, (name, data) in enumerate(sources):
            group = store if store is None or not name else store.require_group(name)

            def report(done: int, offset: int = number * dataset.n_patterns) -> None:
                count(offset + done, total)

            passes.append(_one_pass(dataset, data, detectors, grids, plan, group, report, client))
    return passes[0] if len(passes) == 1 else replace(passes[0], expectation=passes[1])


def _announce(dataset: Dataset4D) -> None:
    done = dataset.preparation
    assert done is not None
    announce(f"{dataset.name}: {step}" for step in (*done.steps, *(f"warning: {warning}" for warning in done.warnings)))


@dataclass(frozen=True)
class _Grids:
    """Where polar and Cartesian samples lie; the polar grid is kept also where its samples are left out."""

    polar: PolarGrid
    pixels: PixelGrid | None
    with_polar: bool
    margin: float

    @classmethod
    def chosen(cls, dataset: Dataset4D, config: MeasureConfig, margin: float, *, with_polar: bool) -> _Grids:
        calibration = dataset.calibration
        axis, radius = _axis_and_radius(calibration)
        polar = PolarGrid.chosen(
            axis,
            radius,
            dataset.detector_shape,
            aspect=calibration.pixel_aspect,
            ellipse=calibration.ellipse,
            outer=config.outer,
            n_radial=config.n_radial,
            n_azimuthal=config.n_azimuthal,
            margin=margin,
            reach=None if dataset.preparation is None else dataset.preparation.variation_reach,
        )
        pixels = None
        if config.n_pixels:
            side = config.pixels_outer * radius
            pixels = PixelGrid(
                axis, side, config.n_pixels, aspect=calibration.pixel_aspect, ellipse=calibration.ellipse
            )
        return cls(polar, pixels, with_polar, margin)

    @property
    def sampled(self) -> dict[str, PolarGrid | PixelGrid]:
        """Grids whose samples are wanted, in the order in which the kernels write them."""
        grids = {"polar": self.polar if self.with_polar else None, "pixels": self.pixels}
        return {name: grid for name, grid in grids.items() if grid is not None}

    def move(self, y: float, x: float) -> _Grids:
        """Around an axis that is moved by so many pixels."""
        axis = (self.polar.axis[0] + y, self.polar.axis[1] + x)
        pixels = None if self.pixels is None else replace(self.pixels, axis=axis)
        return replace(self, polar=replace(self.polar, axis=axis), pixels=pixels)


def _plan(
    dataset: Dataset4D,
    detectors: Sequence[VirtualDetector],
    grids: _Grids,
    preparation: FramePreparation,
    *,
    mean_pattern: bool,
) -> PassPlan:
    """One set of weights for each place of the axis between pixels."""
    shape, shift, typical = dataset.detector_shape, preparation.shift, preparation.typical

    def plan(move: tuple[float, float]) -> FramePlan:
        here = grids.move(*move)
        # weights made for the axis at rest are moved along; they are smooth but for edges, which they keep
        images = [
            ndimage.shift(d.weights, move, order=1, mode="nearest") if any(move) else d.weights for d in detectors
        ]
        return FramePlan(
            axis=here.polar.axis,
            images=ImagePlan.of(images, shape),
            lanes=_lanes(here, shape) if here.sampled else None,
            with_pattern=mean_pattern,
        )

    remainders = [(0, 0)] if shift is None else shift.remainders()
    plans = {remainder: plan(BeamShift.pixels(remainder)) for remainder in remainders}
    if shift is None or typical is None or not grids.sampled:
        return PassPlan(plans, preparation)

    def samples(pattern: NDArray[Any], plan: FramePlan) -> NDArray[np.float64]:
        sampled = measure_frames(np.ascontiguousarray(pattern, np.float64)[None], plan).samples
        assert sampled is not None
        return np.asarray(sampled[0] / total, np.float64)

    total = float(typical.image.sum())
    width = 2 * BeamShift.pixels(_STEPS[0][0])[0]
    sides = [[samples(typical.image, plan(BeamShift.pixels(at))) for at in pair] for pair in _STEPS]
    slopes = np.array([(one - other) / width for one, other in sides])
    at_rest = samples(typical.radial((0.0, 0.0)), plan((0.0, 0.0)))
    offsets = {at: samples(typical.radial(BeamShift.pixels(at)), plans[at]) - at_rest for at in plans}
    return PassPlan(plans, preparation, slopes=slopes, offsets=offsets)


@lru_cache(maxsize=100)
def _lanes(grids: _Grids, detector_shape: tuple[int, int]) -> LanePlan:
    # as much work as measuring a thousand patterns, and the same for all data sets of a series
    edge = math.ceil(grids.margin)
    inner = None
    if edge:
        # polar grids end before the pixels that the beam's shift takes off the detector, the square may not
        inner = np.zeros(detector_shape, bool)
        inner[edge:-edge, edge:-edge] = True
    weights = [
        grid.weights(detector_shape, inner if name == "pixels" else None) for name, grid in grids.sampled.items()
    ]
    return LanePlan.of(weights, detector_shape)


def _one_pass(
    dataset: Dataset4D,
    data: da.Array,
    detectors: Sequence[VirtualDetector],
    grids: _Grids,
    plan: PassPlan,
    store: zarr.Group | None,
    report: Callable[[int], None],
    client: Any,
) -> Measurements:
    blocks = partition(data)
    together, samples = _sample_arrays(dataset.scan_shape, grids, blocks, store)
    ends = np.cumsum([math.prod(grid.shape) for grid in grids.sampled.values()])[:-1]
    # threads write where the result will stay; a cluster sends it, and Zarr compresses it here
    target = together if client is None else None
    sums = np.empty((*dataset.scan_shape, 3 + len(detectors)))
    pattern: NDArray[Any] | None = None
    done = 0
    threads = n_threads(max(block.height * block.width for block in blocks) * data[0, 0].nbytes)
    shared = plan, target, dataset.missing
    for block, frame_sums in in_order(_measure_block, blocks, shared, threads=threads, client=client):
        sums[block.part] = frame_sums.sums.reshape(block.height, block.width, -1)
        if frame_sums.samples is not None:
            for array, part in zip(samples.values(), np.split(frame_sums.samples, ends, axis=1), strict=True):
                array[block.part] = part.reshape(block.height, block.width, *array.shape[2:])
        if frame_sums.pattern is not None:
            pattern = frame_sums.pattern if pattern is None else pattern + frame_sums.pattern
        done += block.height * block.width
        report(done)
    return _as_measurements(dataset, detectors, grids, sums, samples, pattern)


def _measure_block(
    block: Block, shared: tuple[PassPlan, NDArray[np.float32] | None, NDArray[np.bool_] | None]
) -> FrameSums:
    plan, target, missing = shared
    patterns = block.read()
    frames = patterns.reshape(-1, *patterns.shape[2:])
    part = None if target is None else target[block.part]
    samples = part.reshape(len(frames), -1) if part is not None and part.flags.c_contiguous else None

    def measured(frames: NDArray[Any]) -> FrameSums:
        return plan.measure(frames, block.top, block.left, block.width, samples=samples)

    empty: NDArray[np.bool_] = np.zeros(len(frames), bool)
    if missing is not None:
        empty |= np.ravel(missing[block.part])

    def without(empty: NDArray[np.bool_]) -> NDArray[Any]:
        return np.where(empty[:, None, None], frames.dtype.type(0), frames) if empty.any() else frames

    # patterns that are not to count, and those that turn out to hold NaN, are measured as if they were empty
    frame_sums = measured(without(empty))
    if not np.isfinite(frame_sums.sums).all():
        frame_sums = measured(without(empty | ~np.isfinite(frame_sums.sums).all(axis=1)))
    if frame_sums.samples is not None:
        frame_sums.samples[frame_sums.sums[:, 0] <= 0] = 0
    if part is None:
        return frame_sums
    if samples is None:
        assert frame_sums.samples is not None
        part[:] = frame_sums.samples.reshape(part.shape)
    return replace(frame_sums, samples=None)


def _sample_arrays(
    scan_shape: tuple[int, int], grids: _Grids, blocks: Sequence[Block], store: zarr.Group | None
) -> tuple[NDArray[np.float32] | None, dict[str, Any]]:
    """One array for each kind of samples; where they stay in memory, these are views of one array of all samples."""
    shapes = {name: (*scan_shape, *grid.shape) for name, grid in grids.sampled.items()}
    if not shapes:
        return None, {}
    if store is None:
        sizes = [math.prod(shape[2:]) for shape in shapes.values()]
        together = np.empty((*scan_shape, sum(sizes)), np.float32)
        parts = zip(shapes.items(), np.split(together, np.cumsum(sizes)[:-1], axis=2), strict=True)
        return together, {name: part.reshape(shape) for (name, shape), part in parts}
    chunks = max(b.height for b in blocks), max(b.width for b in blocks)
    arrays = {}
    for name, shape in shapes.items():
        arrays[name] = store.create_array(
            name,
            shape=shape,
            dtype=np.float32,
            chunks=(*chunks, *shape[2:]),
            compressors=BloscCodec(cname="lz4", shuffle=BloscShuffle.bitshuffle),
            overwrite=True,
        )
        arrays[name].attrs["unit"] = "intensity per pixel area"
    return None, arrays


def _as_measurements(
    dataset: Dataset4D,
    detectors: Sequence[VirtualDetector],
    grids: _Grids,
    sums: NDArray[np.float64],
    samples: Mapping[str, Any],
    pattern: NDArray[Any] | None,
) -> Measurements:
    calibration = dataset.calibration
    if dataset.data.dtype.kind == "f":
        require_counts(sums[..., 0], dataset.name, "sums of patterns")
    # a pattern without counts has no centre; where the beam was off, noise about the dark level leaves some
    totals = sums[..., 0]
    usual = float(np.median(totals[totals > 0])) if (totals > 0).any() else 0.0
    is_empty = totals <= _LEAST_TOTAL * usual
    for array in samples.values() if (is_empty & (totals > 0)).any() else ():
        for row in np.flatnonzero(is_empty.any(axis=1)):
            array[row] = np.where(is_empty[row, :, None, None], 0, array[row])
    n_recorded = int((~is_empty).sum())
    if not n_recorded:
        raise DataError(
            f"{dataset.name}: no pattern has counts above zero; check the file, and whether the dark image "
            "(preparation.dark) is too bright"
        )
    sums[is_empty] = np.nan
    expected = np.ones(dataset.scan_shape, bool) if dataset.missing is None else ~dataset.missing
    findings = list(dataset.findings)
    n_lost = int((is_empty & expected).sum())
    if n_lost:
        first_y, first_x = np.argwhere(is_empty & expected)[0]
        findings.append(
            Finding(
                "missing_patterns",
                "warning" if n_lost > _MANY_MISSING * dataset.n_patterns else "note",
                f"{n_lost} of {dataset.n_patterns} patterns are empty or nearly so, or hold NaN, the first at scan "
                f"position ({first_y}, {first_x}); these positions are missing",
            )
        )
    step_y, step_x = calibration.pixel_size or (1.0, 1.0)
    unit = "px" if calibration.pixel_size is None else "mrad"
    maps = {"total": sums[..., 0]}
    units = {"total": "electrons" if dataset.electrons_per_pattern else "counts"}
    for name, index, step in (("com_y", 1, step_y), ("com_x", 2, step_x)):
        maps[name], units[name] = sums[..., index] / sums[..., 0] * step, unit
    if calibration.ellipse is not None:
        undo = plane_of_pixels(1.0, calibration.ellipse)
        maps["com_x"], up = np.tensordot(undo, np.stack([maps["com_x"], -maps["com_y"]]), axes=1)
        maps["com_y"] = -up
    for index, detector in enumerate(detectors, start=3):
        maps[detector.name], units[detector.name] = sums[..., index] / sums[..., 0], "fraction"
    unknown = np.full(dataset.detector_shape, np.nan)
    return Measurements(
        maps=maps,
        units=units,
        polar=samples.get("polar"),
        grid=grids.polar,
        mean_pattern=unknown if pattern is None else pattern / n_recorded,
        calibration=calibration,
        name=dataset.name,
        atoms=dataset.atoms,
        image=dataset.image,
        metadata=dict(dataset.metadata),
        bad_pixels=dataset.bad_pixels,
        pixels=samples.get("pixels"),
        pixel_grid=grids.pixels,
        electrons_per_pattern=dataset.electrons_per_pattern,
        noiseless=dataset.noiseless,
        is_scan=dataset.is_scan,
        origins={name: dataset.origin(name) for name, value in vars(calibration).items() if value is not None},
        preparation=dataset.preparation,
        findings=tuple(findings),
    )


def _axis_and_radius(calibration: Calibration) -> tuple[tuple[float, float], float]:
    if calibration.optical_axis is None or calibration.disc_radius is None:
        raise CalibrationError(
            "the optical axis or the disc's radius is unknown; give optical_axis and disc_radius in the calibration, "
            "or call prepare_scan first"
        )
    return calibration.optical_axis, calibration.disc_radius
