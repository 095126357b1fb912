"""The single streaming pass over the raw data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numba
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle

from stemvane.calibration import Calibration
from stemvane.config import MeasureConfig
from stemvane.dataset import Dataset4D
from stemvane.errors import CalibrationError, DataError
from stemvane.measurements import Measurements
from stemvane.polar import PolarGrid, PolarWeights
from stemvane.virtual_detectors import VirtualDetector

__all__ = ["measure", "standard_detectors"]


def standard_detectors(
    calibration: Calibration, detector_shape: tuple[int, int], config: MeasureConfig
) -> tuple[VirtualDetector, ...]:
    """Bright field and annular dark field, with radii from the disc.

    Parameters
    ----------
    calibration : Calibration
        With optical axis and disc radius.
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
    aspect = calibration.pixel_aspect
    corner = np.hypot(
        aspect * max(axis[0] + 0.5, detector_shape[0] - 0.5 - axis[0]),
        max(axis[1] + 0.5, detector_shape[1] - 0.5 - axis[1]),
    )
    detectors = [VirtualDetector.disc("bright_field", detector_shape, axis, radius, aspect)]
    inner = config.adf_inner * radius
    outer = corner if config.adf_outer is None else config.adf_outer * radius
    if inner < outer:
        detectors.append(
            VirtualDetector.annulus("annular_dark_field", detector_shape, axis, inner, float(outer), aspect)
        )
    return tuple(detectors)


def measure(
    dataset: Dataset4D,
    detectors: Sequence[VirtualDetector] | None = None,
    *,
    config: MeasureConfig | None = None,
    store: zarr.Group | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Measurements:
    """Measure every pattern in one pass over the raw data.

    Total, centre of mass, virtual images and polar patterns are all linear in the pattern; one compiled kernel
    applies them together, block by block, so that every raw value is read once.

    Parameters
    ----------
    dataset : Dataset4D
        With optical axis and disc radius in its calibration (`survey` finds them).
    detectors : sequence of VirtualDetector, optional
        Virtual images besides total and COM; `standard_detectors` where left out.
    config : MeasureConfig, optional
        Polar grid and detector edges.
    store : zarr.Group, optional
        Where polar patterns are streamed to; memory where left out.
    progress : callable, optional
        Called with the numbers of patterns done and in all.

    Returns
    -------
    Measurements
        COM in mrad, or pixels where the pixel size is unknown; virtual images as fractions of the total.

    Raises
    ------
    CalibrationError
        If axis or disc radius are unknown.
    DataError
        If a pattern holds NaN or negative values, or nothing at all.

    Notes
    -----
    The COM is the mean position minus the optical axis: it points to where the intensity went, for graphene in focus at
    the atoms.
    """
    config = config or MeasureConfig()
    axis, radius = _axis_and_radius(dataset.calibration)
    if detectors is None:
        detectors = standard_detectors(dataset.calibration, dataset.detector_shape, config)
    for detector in detectors:
        if detector.weights.shape != dataset.detector_shape:
            raise DataError(
                f"virtual detector '{detector.name}' has shape {detector.weights.shape}, "
                f"the patterns {dataset.detector_shape}; make it for this detector"
            )
    grid = PolarGrid.chosen(
        axis,
        radius,
        dataset.detector_shape,
        aspect=dataset.calibration.pixel_aspect,
        outer=config.outer,
        n_radial=config.n_radial,
        n_azimuthal=config.n_azimuthal,
    )
    weights = grid.weights(dataset.detector_shape)
    sources = [("", dataset.data)]
    if dataset.expectation is not None:
        sources.append(("expectation", dataset.expectation))
    total = dataset.n_patterns * len(sources)
    found: list[Measurements] = []
    for number, (name, data) in enumerate(sources):
        group = store if store is None or not name else store.require_group(name)

        def report(done: int, offset: int = number * dataset.n_patterns) -> None:
            if progress is not None:
                progress(offset + done, total)

        found.append(_one_pass(dataset, data, detectors, grid, weights, group, report))
    return found[0] if len(found) == 1 else Measurements(**{**found[0].__dict__, "expectation": found[1]})


def _one_pass(
    dataset: Dataset4D,
    data: da.Array,
    detectors: Sequence[VirtualDetector],
    grid: PolarGrid,
    weights: PolarWeights,
    store: zarr.Group | None,
    report: Callable[[int], None],
) -> Measurements:
    calibration = dataset.calibration
    moments = VirtualDetector.moments(dataset.detector_shape, grid.axis)
    dense = np.stack([d.weights.ravel() for d in (VirtualDetector.total(dataset.detector_shape), *moments, *detectors)])
    sums = np.empty((*dataset.scan_shape, len(dense)))
    shape = (*dataset.scan_shape, grid.n_radial, grid.n_azimuthal)
    rows, columns = (max(sizes) for sizes in data.chunks[:2])
    polar: Any = np.empty(shape, np.float32)
    if store is not None:
        polar = store.create_array(
            "polar",
            shape=shape,
            dtype=np.float32,
            chunks=(rows, columns, *shape[2:]),
            compressors=BloscCodec(cname="lz4", shuffle=BloscShuffle.bitshuffle),
            overwrite=True,
        )
        polar.attrs["unit"] = "intensity per pixel area"
    done, pattern_sum = 0, np.zeros(dataset.detector_shape)
    for top, height in zip(_starts(data.chunks[0]), data.chunks[0], strict=True):
        for left, width in zip(_starts(data.chunks[1]), data.chunks[1], strict=True):
            block = np.asarray(data[top : top + height, left : left + width].compute())
            part = (slice(top, top + height), slice(left, left + width))
            block_sums, block_polar, lowest = _apply(block, dense, weights, grid)
            _require_patterns(block_sums[:, 0], lowest, (top, left), width, dataset.name)
            pattern_sum += block.sum(axis=(0, 1), dtype=np.float64)
            sums[part] = block_sums.reshape(height, width, -1)
            polar[part] = block_polar.reshape(height, width, *shape[2:])
            done += height * width
            report(done)
    step_y, step_x = calibration.pixel_size or (1.0, 1.0)
    unit = "px" if calibration.pixel_size is None else "mrad"
    maps = {"total": sums[..., 0]}
    units = {"total": "electrons" if dataset.metadata.get("electrons_per_pattern") else "counts"}
    for name, index, step in (("com_y", 1, step_y), ("com_x", 2, step_x)):
        maps[name], units[name] = sums[..., index] / sums[..., 0] * step, unit
    for index, detector in enumerate(detectors, start=3):
        maps[detector.name], units[detector.name] = sums[..., index] / sums[..., 0], "fraction"
    return Measurements(
        maps=maps,
        units=units,
        polar=polar,
        grid=grid,
        mean_pattern=pattern_sum / dataset.n_patterns,
        calibration=calibration,
        name=dataset.name,
        atoms=dataset.atoms,
        image=dataset.image,
        metadata=dict(dataset.metadata),
    )


def _axis_and_radius(calibration: Calibration) -> tuple[tuple[float, float], float]:
    if calibration.optical_axis is None or calibration.disc_radius is None:
        raise CalibrationError(
            "the optical axis or the disc's radius is unknown; give them in the calibration or run `survey` first"
        )
    return calibration.optical_axis, calibration.disc_radius


def _starts(sizes: tuple[int, ...]) -> list[int]:
    return [0, *np.cumsum(sizes)[:-1].tolist()]


def _require_patterns(
    totals: NDArray[np.float64], lowest: NDArray[np.float64], corner: tuple[int, int], width: int, name: str
) -> None:
    for bad, trouble, cure in (
        (~np.isfinite(totals) | ~np.isfinite(lowest), "holds NaN or infinity", "replace these values or crop the scan"),
        (lowest < 0, "holds negative intensities", "subtract a smaller background or clip at zero on purpose"),
        (totals == 0, "is empty (all zero)", "crop the scan to the recorded positions"),
    ):
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            y, x = corner[0] + first // width, corner[1] + first % width
            more = f" (and {int(bad.sum()) - 1} more near it)" if bad.sum() > 1 else ""
            raise DataError(f"{name}: the pattern at scan position ({y}, {x}){more} {trouble}; {cure}")


def _apply(
    block: NDArray[Any], dense: NDArray[np.float64], weights: PolarWeights, grid: PolarGrid
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64]]:
    """Weighted sums ``(n, n_detectors)``, polar patterns ``(n, n_samples)`` and smallest values ``(n,)`` of a block."""
    flat = block.reshape(block.shape[0] * block.shape[1], -1)
    if flat.dtype == np.bool_ or flat.dtype == np.float16 or not flat.dtype.isnative:
        flat = flat.astype(np.float32 if flat.dtype.kind in "bf" else flat.dtype.newbyteorder("="))
    sums = np.empty((len(flat), len(dense)))
    polar = np.empty((len(flat), grid.n_radial * grid.n_azimuthal), np.float32)
    lowest = np.empty(len(flat))
    _kernel(np.ascontiguousarray(flat), dense, weights.indptr, weights.sample, weights.weight, sums, polar, lowest)
    return sums, polar, lowest


@numba.njit(parallel=True, cache=True)
def _kernel(flat: Any, dense: Any, indptr: Any, sample: Any, weight: Any, sums: Any, polar: Any, lowest: Any) -> None:
    n, n_pixels = flat.shape
    n_dense = dense.shape[0]
    for i in numba.prange(n):
        smallest = np.inf
        for k in range(n_dense):
            sums[i, k] = 0.0
        polar[i, :] = 0.0
        for p in range(n_pixels):
            value = np.float64(flat[i, p])
            if value == 0.0:
                smallest = min(smallest, 0.0)
                continue
            if not value >= smallest:
                smallest = value
            for k in range(n_dense):
                sums[i, k] += value * dense[k, p]
            for e in range(indptr[p], indptr[p + 1]):
                polar[i, sample[e]] += np.float32(value * weight[e])
        lowest[i] = smallest
