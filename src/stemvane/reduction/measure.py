"""The single streaming pass over the raw data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle

from stemvane.config import MeasureConfig
from stemvane.config.map_names import STANDARD_IMAGES, find_name_trouble
from stemvane.data.arguments import ScanLike, as_dataset, require, require_list
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.data.measurements import Measurements
from stemvane.data.progress import Progress, announce, counting_bar
from stemvane.errors import DataError
from stemvane.geometry.polar import plane_of_pixels, require_disc_radius
from stemvane.reduction.blocks import Block, in_order, n_threads, partition
from stemvane.reduction.kernels.passes import PassPlan
from stemvane.reduction.pass_plan import ScanGrids, axis_and_radius, plan_pass
from stemvane.reduction.pass_result import as_measurements, measure_block
from stemvane.reduction.prepare import prepare_scan
from stemvane.reduction.prepared_frames import frame_preparation
from stemvane.reduction.virtual_detectors import VirtualDetector

__all__ = ["MeasuringPlan", "measure", "plan_measuring", "standard_detectors"]


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
    axis, radius = axis_and_radius(calibration)
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
    plan = plan_measuring(
        dataset,
        detectors,
        config,
        "measure",
        prepare=prepare,
        said=progress is not False,
        polar=polar,
        mean=mean_pattern,
    )
    dataset = plan.dataset
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

            passes.append(_one_pass(plan, data, group, report, client))
    return passes[0] if len(passes) == 1 else replace(passes[0], expectation=passes[1])


class MeasuringPlan(NamedTuple):
    """A scan, what is measured of it, and what is prepared once for all patterns.

    Attributes
    ----------
    dataset : Dataset4D
        Its optical axis and disc radius are known.
    detectors : list of VirtualDetector
    grids : ScanGrids
    passing : PassPlan
    """

    dataset: Dataset4D
    detectors: list[VirtualDetector]
    grids: ScanGrids
    passing: PassPlan


def plan_measuring(
    dataset: ScanLike,
    detectors: Sequence[VirtualDetector] | None,
    config: MeasureConfig | None,
    caller: str,
    *,
    prepare: bool,
    said: bool,
    polar: bool,
    mean: bool,
) -> MeasuringPlan:
    """Check and complete what `measure` is given; errors are as there, `caller` is named in them.

    `prepare`, `polar` and `mean` are the parameters `prepare`, `polar` and `mean_pattern` of `measure`, and `said` is
    whether preparation is announced.
    """
    dataset = as_dataset(dataset, caller)
    config = MeasureConfig() if config is None else require(config, MeasureConfig, caller)
    if prepare and None in (dataset.calibration.optical_axis, dataset.calibration.disc_radius):
        dataset = prepare_scan(dataset)
        if said:
            _announce(dataset)
    axis_and_radius(dataset.calibration)
    if detectors is None:
        detectors = standard_detectors(dataset.calibration, dataset.detector_shape, config)
    detectors = require_list(detectors, VirtualDetector, caller)
    for number, detector in enumerate(detectors):
        trouble = find_name_trouble(detector.name, STANDARD_IMAGES)
        if detector.name in [other.name for other in detectors[:number]]:
            trouble = f"two virtual detectors are called {detector.name!r}; give each a name of its own"
        if trouble:
            raise DataError(f"{caller}: {trouble}")
        if detector.weights.shape != dataset.detector_shape:
            raise DataError(
                f"virtual detector '{detector.name}' has shape {detector.weights.shape}, "
                f"the patterns {dataset.detector_shape}; make it for this detector"
            )
    preparation = frame_preparation(dataset)
    margin = 0.0 if preparation.shift is None else preparation.shift.largest + 1
    grids = ScanGrids.chosen(dataset, config, margin, with_polar=polar)
    passing = plan_pass(dataset, detectors, grids, preparation, mean_pattern=mean)
    return MeasuringPlan(dataset, list(detectors), grids, passing)


def _announce(dataset: Dataset4D) -> None:
    done = dataset.preparation
    assert done is not None
    announce(f"{dataset.name}: {step}" for step in (*done.steps, *(f"warning: {warning}" for warning in done.warnings)))


def _one_pass(
    plan: MeasuringPlan,
    data: da.Array,
    store: zarr.Group | None,
    report: Callable[[int], None],
    client: Any,
) -> Measurements:
    dataset, detectors, grids, passing = plan
    blocks = partition(data)
    together, samples = _sample_arrays(dataset.scan_shape, grids, blocks, store)
    ends = np.cumsum([math.prod(grid.shape) for grid in grids.sampled.values()])[:-1]
    # threads write where the result will stay; a cluster sends it, and Zarr compresses it here
    target = together if client is None else None
    sums = np.empty((*dataset.scan_shape, 3 + len(detectors)))
    pattern: NDArray[Any] | None = None
    done = 0
    threads = n_threads(max(block.height * block.width for block in blocks) * data[0, 0].nbytes)
    shared = passing, target, dataset.missing
    for block, frame_sums in in_order(measure_block, blocks, shared, threads=threads, client=client):
        sums[block.part] = frame_sums.sums.reshape(block.height, block.width, -1)
        if frame_sums.samples is not None:
            for array, part in zip(samples.values(), np.split(frame_sums.samples, ends, axis=1), strict=True):
                array[block.part] = part.reshape(block.height, block.width, *array.shape[2:])
        if frame_sums.pattern is not None:
            pattern = frame_sums.pattern if pattern is None else pattern + frame_sums.pattern
        done += block.height * block.width
        report(done)
    return as_measurements(dataset, detectors, grids, sums, samples, pattern, dataset.missing)


def _sample_arrays(
    scan_shape: tuple[int, int], grids: ScanGrids, blocks: Sequence[Block], store: zarr.Group | None
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
