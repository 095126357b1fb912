"""Preparation of recorded data: what the user chose to do to the patterns before they are measured."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from stemvane.config import PreparationConfig
from stemvane.data.dataset import Dataset4D, ScanAtoms
from stemvane.errors import ConfigError, DataError
from stemvane.reduction.shift_fit import ShiftFit
from stemvane.reduction.survey import Survey

__all__ = ["choose_shift", "correct_patterns", "preprocess_patterns"]

# a pattern without counts among some that have as many on the average was not recorded: by chance it is one in 5e8
_LEAST_COUNTS = 20


def preprocess_patterns(
    dataset: Dataset4D,
    config: PreparationConfig,
    *,
    dark: NDArray[Any] | None = None,
    bad_pixels: NDArray[Any] | None = None,
    gain: NDArray[Any] | None = None,
    missing: NDArray[Any] | None = None,
) -> tuple[Dataset4D, dict[str, Any]]:
    """Apply what does not depend on the optical axis: dark, gain, masks, orientation, region and binning; all lazily.

    Parameters
    ----------
    dataset : Dataset4D
        Data set as opened.
    config : PreparationConfig
        The switches.
    dark : ndarray, shape (k_y, k_x), optional
        Pattern recorded without a beam, subtracted from every pattern; as on the detector, before any flip.
    bad_pixels : ndarray, shape (k_y, k_x), optional
        Not zero where a pixel is bad; as on the detector, before any flip.
    gain : ndarray, shape (k_y, k_x), optional
        Flat field, what the detector shows under even illumination; pixels where it is not positive are bad.
    missing : ndarray, shape (scan_y, scan_x), optional
        Not zero where a probe position is left out; of the scan as recorded.

    Returns
    -------
    Dataset4D
        Counts of binned pixels and patterns are added; a binned pixel is bad where any of its pixels is.
    dict
        What was done, for the manifest; empty where nothing was.

    Raises
    ------
    DataError
        If an image does not fit the detector.
    ConfigError
        If the region or the binning does not fit the data.
    """
    record: dict[str, Any] = {}
    images = {"dark": dark, "bad_pixels": bad_pixels, "gain": gain, "missing": missing}
    for name, image in images.items():
        whole, shape = ("scan", dataset.scan_shape) if name == "missing" else ("detector", dataset.detector_shape)
        if image is not None and np.shape(image) != shape:
            raise DataError(
                f"the {name.replace('_', ' ')} image has shape {np.shape(image)}, the {whole} "
                f"{shape}; give one of the {whole}'s shape"
            )
    if bad_pixels is not None:
        bad = np.asarray(bad_pixels) != 0
        dataset = replace(dataset, bad_pixels=bad if dataset.bad_pixels is None else bad | dataset.bad_pixels)
        record["bad_pixels"] = int(bad.sum())
    if dark is not None:
        pattern = np.asarray(dark, np.float32)
        dataset = replace(dataset, data=dataset.data.astype(np.float32) - pattern)
        record["dark_counts"] = float(pattern.sum())
    if gain is not None:
        dataset, record["gain_spread"] = _flatten(dataset, np.asarray(gain, np.float64))
    if missing is not None:
        lost = np.asarray(missing) != 0
        dataset = replace(dataset, missing=lost if dataset.missing is None else lost | dataset.missing)
        record["missing"] = int(lost.sum())
    for name, step in (("transpose", _transpose), ("flip_y", _flip_y), ("flip_x", _flip_x)):
        if getattr(config, name):
            dataset, record[name] = step(dataset), True
    if config.scan_region is not None:
        dataset = _crop(dataset, config.scan_region)
        record["scan_region"] = list(config.scan_region)
    if config.scan_binning > 1:
        dataset = _scan_binned(dataset, config.scan_binning)
        record["scan_binning"] = config.scan_binning
    if config.detector_binning > 1:
        dataset = _detector_binned(dataset, config.detector_binning)
        record["detector_binning"] = config.detector_binning
    return dataset, record


def correct_patterns(dataset: Dataset4D, config: PreparationConfig, found: Survey) -> tuple[Dataset4D, dict[str, Any]]:
    """Add what the survey has found: dark level, bad pixels, the beam's shift and elliptical distortion; normalise.

    Parameters
    ----------
    dataset : Dataset4D
        Data set that `preprocess_patterns` returned.
    config : PreparationConfig
        The switches.
    found : Survey
        What the survey of this data set has found.

    Returns
    -------
    Dataset4D
        `measure` takes its ``bad_pixels``, ``beam_shift`` and the calibration's ``ellipse`` into account.
    dict
        What was done, for the manifest; empty where nothing was.

    Raises
    ------
    DataError
        If a shift or an ellipse is to be removed that was not found.
    """
    record: dict[str, Any] = {}
    level = found.noise.dark_level
    if level and config.dark_level and not config.dark:
        dataset = replace(dataset, data=dataset.data.astype(np.float32) - np.float32(level))
        record["dark_level"] = level
    if math.isfinite(found.noise.counts_per_electron):
        record["counts_per_electron"] = found.noise.counts_per_electron
    if math.isfinite(found.noise.variance_per_count):
        record["readout_counts"] = found.noise.readout**2 / found.noise.variance_per_count
    if found.variation is not None:
        record["variation_px"] = {"half": found.variation.half, "reach": found.variation.reach}
    places = np.concatenate([found.hot_pixels, found.dead_pixels])
    if config.mask_hot_and_dead and len(places):
        bad = np.zeros(dataset.detector_shape, bool) if dataset.bad_pixels is None else dataset.bad_pixels.copy()
        bad[tuple(places.T)] = True
        dataset = replace(dataset, bad_pixels=bad)
        record |= {"hot_pixels": found.hot_pixels.tolist(), "dead_pixels": found.dead_pixels.tolist()}
    dataset = replace(dataset, typical_pattern=found.typical_pattern)
    shift = choose_shift(config, found)
    if shift is not None:
        dataset = replace(dataset, beam_shift=shift.coefficients)
        names = ("along_y", "along_x", "yy", "xx", "yx")
        record["descan_px"] = {n: list(pair) for n, pair in zip(names, shift.coefficients, strict=False)}
    elif config.descan in ("plane", "surface"):
        raise DataError(f"{dataset.name}: the beam's shift was not found, so it cannot be removed; switch descan off")
    ellipse = None if config.ellipse is None else (config.ellipse[0], math.radians(config.ellipse[1]))
    if ellipse is None and config.find_ellipse:
        ellipse = found.disc_ellipse
        if ellipse is None:
            raise DataError(
                f"{dataset.name}: the disc's ellipse was not found; give ellipse, or switch find_ellipse off"
            )
    if ellipse is not None:
        origin = "found" if config.ellipse is None else "given"
        dataset = dataset.recalibrate(origin=origin, ellipse=ellipse)
        record["ellipse"] = {"ratio": ellipse[0], "direction_deg": math.degrees(ellipse[1])}
    if config.normalise:
        dataset = _normalise(dataset)
        record["normalise"] = True
    return dataset, record


def choose_shift(config: PreparationConfig, found: Survey) -> ShiftFit | None:
    """The shift of the beam that is to be removed, None for none."""
    if config.descan == "off":
        return None
    if config.descan == "plane":
        return found.shift
    if config.descan == "surface":
        return found.curved_shift
    if found.curved_shift is not None and found.curved_shift.matters:
        return found.curved_shift
    return found.shift if found.shift is not None and found.shift.matters else None


def _flatten(dataset: Dataset4D, gain: NDArray[np.float64]) -> tuple[Dataset4D, float]:
    """Patterns over the flat field, whose mean over the good pixels is taken as 1, and the field's spread."""
    usable = np.isfinite(gain) & (gain > 0)
    if dataset.bad_pixels is not None:
        usable &= ~dataset.bad_pixels
    if not usable.any():
        raise DataError("the gain image has no positive value at a good pixel; give what an even illumination shows")
    relative = np.where(usable, gain / gain[usable].mean(), 1.0).astype(np.float32)
    data = dataset.data.astype(np.float32) / relative
    bad = None if usable.all() else ~usable
    return replace(dataset, data=data, bad_pixels=bad), float(relative[usable].std())


def _both(dataset: Dataset4D, change: Any) -> dict[str, Any]:
    """Recorded and noiseless patterns, both changed; the truth of a detector holds for the patterns as recorded."""
    noiseless = None if dataset.expectation is None else change(dataset.expectation)
    return {"data": change(dataset.data), "expectation": noiseless, "truth": None}


def _flip_y(dataset: Dataset4D) -> Dataset4D:
    calibration, rows = dataset.calibration, dataset.detector_shape[0]
    axis = calibration.optical_axis and (rows - 1 - calibration.optical_axis[0], calibration.optical_axis[1])
    bad = None if dataset.bad_pixels is None else dataset.bad_pixels[::-1]
    parts = _both(dataset, lambda data: data[:, :, ::-1, :])
    return replace(dataset, **parts, bad_pixels=bad, calibration=calibration.replace(optical_axis=axis))


def _flip_x(dataset: Dataset4D) -> Dataset4D:
    return _transpose(_flip_y(_transpose(dataset)))


def _transpose(dataset: Dataset4D) -> Dataset4D:
    calibration = dataset.calibration
    axis, size = (None if pair is None else pair[::-1] for pair in (calibration.optical_axis, calibration.pixel_size))
    radius = calibration.disc_radius
    if radius is not None and calibration.pixel_size is not None:
        # counted in pixels along x, which were those along y
        radius *= calibration.pixel_size[1] / calibration.pixel_size[0]
    bad = None if dataset.bad_pixels is None else dataset.bad_pixels.T
    parts = _both(dataset, lambda data: data.transpose(0, 1, 3, 2))
    calibration = calibration.replace(optical_axis=axis, pixel_size=size, disc_radius=radius)
    step = dataset.reciprocal_pixel and dataset.reciprocal_pixel[::-1]
    return replace(dataset, **parts, bad_pixels=bad, calibration=calibration, reciprocal_pixel=step)


def _crop(dataset: Dataset4D, region: tuple[int, int, int, int]) -> Dataset4D:
    top, bottom, left, right = region
    rows, columns = dataset.scan_shape
    if not (0 <= top < bottom <= rows and 0 <= left < right <= columns):
        raise ConfigError(
            f"scan_region {list(region)} does not lie on the scan of {rows} x {columns} positions; "
            "give [top, bottom, left, right], bottom and right not included"
        )
    part = (slice(top, bottom), slice(left, right))
    return replace(
        dataset,
        **_both(dataset, lambda data: data[part]),
        image=None if dataset.image is None else dataset.image[part],
        missing=None if dataset.missing is None else dataset.missing[part],
        atoms=_move(dataset, (top, left)),
    )


def _scan_binned(dataset: Dataset4D, n: int) -> Dataset4D:
    rows, columns = (size // n for size in dataset.scan_shape)
    if not (rows and columns):
        raise ConfigError(f"scan_binning {n} is more than the scan of {dataset.scan_shape} positions has")
    dataset = _crop(dataset, (0, rows * n, 0, columns * n))
    step = dataset.calibration.scan_step
    dose = dataset.electrons_per_pattern
    return replace(
        dataset,
        **_both(dataset, lambda data: _sum_bins(_without_gaps(data, n), (n, n, 1, 1))),
        image=None if dataset.image is None else dataset.image.reshape(rows, n, columns, n).mean(axis=(1, 3)),
        # a sum that lacks a pattern is no sum
        missing=_any(dataset.missing, n),
        atoms=_move(dataset, ((n - 1) / 2, (n - 1) / 2)),
        calibration=dataset.calibration.replace(scan_step=step and (n * step[0], n * step[1])),
        electrons_per_pattern=dose and dose * n * n,
    )


def _detector_binned(dataset: Dataset4D, n: int) -> Dataset4D:
    rows, columns = (size // n for size in dataset.detector_shape)
    if min(rows, columns) < 4:
        raise ConfigError(f"detector_binning {n} leaves {rows} x {columns} pixels; at least 4 x 4 are needed")
    part = (slice(None), slice(None), slice(rows * n), slice(columns * n))
    calibration = dataset.calibration
    axis, size, radius = calibration.optical_axis, calibration.pixel_size, calibration.disc_radius
    step = dataset.reciprocal_pixel
    return replace(
        dataset,
        **_both(dataset, lambda data: _sum_bins(data[part], (1, 1, n, n))),
        bad_pixels=_any(None if dataset.bad_pixels is None else dataset.bad_pixels[part[2:]], n),
        reciprocal_pixel=step and (n * step[0], n * step[1]),
        calibration=calibration.replace(
            # the centre of a binned pixel lies between those of the pixels in it
            optical_axis=axis and ((axis[0] - (n - 1) / 2) / n, (axis[1] - (n - 1) / 2) / n),
            pixel_size=size and (n * size[0], n * size[1]),
            disc_radius=radius and radius / n,
        ),
    )


def _without_gaps(data: da.Array, n: int) -> da.Array:
    """Patterns whose bin of n x n holds one that was not recorded are empty, too: a sum that lacks one is no sum."""
    rows, columns = (-(-size // n) * n for size in data.chunksize[:2])
    blocks = data.rechunk((rows, columns, *data.shape[2:]))
    filled: da.Array = blocks.map_blocks(_empty_with_gaps, n, dtype=data.dtype, meta=np.empty((0,) * 4, data.dtype))
    return filled


def _empty_with_gaps(patterns: NDArray[Any], n: int) -> NDArray[Any]:
    totals = patterns.sum(axis=(2, 3), dtype=np.float64)
    bins = totals.reshape(len(totals) // n, n, -1, n)
    # sparse floats are counts of any size; integers are counts of 1
    lit = patterns[patterns > 0]
    unit = 1.0 if patterns.dtype.kind in "uib" else float(lit.min(initial=np.inf))
    n_empty = (bins == 0).sum(axis=(1, 3))
    mean = bins.sum(axis=(1, 3)) / np.maximum(n * n - n_empty, 1)
    has_gap = (n_empty > 0) & (mean >= _LEAST_COUNTS * unit)
    if not has_gap.any():
        return patterns
    return np.where(np.kron(has_gap, np.ones((n, n), bool))[..., None, None], patterns.dtype.type(0), patterns)


def _sum_bins(data: da.Array, factors: tuple[int, ...]) -> da.Array:
    blocks = tuple(-(-size // factor) * factor for size, factor in zip(data.chunksize, factors, strict=True))
    rechunked = data.rechunk(blocks)
    kind: Any = np.uint32 if data.dtype.kind == "u" and data.dtype.itemsize <= 2 else None
    binned: da.Array = da.coarsen(np.sum, rechunked, dict(enumerate(factors)), **({"dtype": kind} if kind else {}))
    return binned


def _normalise(dataset: Dataset4D) -> Dataset4D:
    valid = 1.0 if dataset.bad_pixels is None else ~dataset.bad_pixels

    def scale(data: da.Array) -> da.Array:
        total = (data * valid).sum(axis=(2, 3), dtype=np.float64, keepdims=True)
        share: da.Array = (data / da.where(total > 0, total, 1)).astype(np.float32)
        return share

    return replace(dataset, **_both(dataset, scale), metadata={**dataset.metadata, "normalised": True})


def _any(mask: NDArray[np.bool_] | None, n: int) -> NDArray[np.bool_] | None:
    """Mask of blocks of n x n in which anything is true."""
    if mask is None:
        return None
    rows, columns = mask.shape
    return np.asarray(mask.reshape(rows // n, n, columns // n, n).any(axis=(1, 3)))


def _move(dataset: Dataset4D, origin: tuple[float, float]) -> ScanAtoms | None:
    """Atoms and defects seen from another first probe position, given in steps ``(y, x)`` from the old one."""
    step = dataset.calibration.scan_step
    if dataset.atoms is None or step is None:
        return None
    return dataset.atoms.move(-np.multiply(origin, step))
