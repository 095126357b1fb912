"""Frames of a scan without bad pixels and with the beam at its place, as the pass measures them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.data.dataset import Dataset4D, reading_lazily
from stemvane.errors import DataError
from stemvane.reduction.bad_pixels import FillWeights
from stemvane.reduction.kernels.passes import BeamShift, FramePreparation

__all__ = ["frame_preparation", "prepared_patterns", "require_counts"]

# squares of larger numbers, and of smaller ones, are lost in single precision
_LARGEST, _SMALLEST = 1e15, 1e-15


def require_counts(values: NDArray[Any], name: str, where: str) -> None:
    """Refuse numbers that no detector counts, as those of damaged files or of another number type are.

    Parameters
    ----------
    values : ndarray
        Values of pixels or sums of patterns; NaN, infinity and 0 are none of these numbers.
    name : str
        Name of the data set, for the message.
    where : str
        What the values are, for the message.

    Raises
    ------
    DataError
        If any is beyond 10¹⁵, or all are below 10⁻¹⁵.
    """
    if values.dtype.kind != "f" or not values.size:
        return
    finite = np.isfinite(values)
    largest = max(float(values.max(where=finite, initial=0)), -float(values.min(where=finite, initial=0)))
    if largest > _LARGEST or 0 < largest < _SMALLEST:
        raise DataError(
            f"{name}: {where} are as large as {largest:.3g}, which no detector counts; check number type and byte "
            "order (source.dtype), scale the data, or leave damaged positions out (preparation.missing)"
        )


def frame_preparation(dataset: Dataset4D) -> FramePreparation:
    """What the pass does to the frames of a scan before it measures them.

    Parameters
    ----------
    dataset : Dataset4D
        A scan that was prepared.

    Returns
    -------
    FramePreparation
    """
    bad, shift = dataset.bad_pixels, dataset.beam_shift
    return FramePreparation(
        fill=None if bad is None or not bad.any() else FillWeights.of(bad),
        typical=dataset.typical_pattern,
        shift=None if shift is None else BeamShift(shift, dataset.scan_shape),
    )


def prepared_patterns(dataset: Dataset4D, positions: NDArray[np.integer[Any]]) -> NDArray[Any]:
    """Read some patterns, and prepare them as the pass does.

    Parameters
    ----------
    dataset : Dataset4D
        A scan that was prepared.
    positions : ndarray of int, shape (n, 2)
        Scan positions ``(y, x)``.

    Returns
    -------
    ndarray, shape (n, k_y, k_x)
        Without bad pixels, and with the optical axis of every pattern where the calibration has it: moved by cubic
        splines, as float32, where the beam shifts; otherwise in the type of the data.
    """
    rows, columns = positions.T
    if not len(positions):
        return np.empty((0, *dataset.detector_shape), dataset.data.dtype.newbyteorder("="))
    with reading_lazily(f"{dataset.name}: some patterns"):
        frames = np.asarray(dataset.data.vindex[rows, columns].compute())
    preparation = frame_preparation(dataset)
    frames, remainder, rest = preparation.prepare(frames.astype(frames.dtype.newbyteorder("=")), rows, columns)
    if preparation.shift is None:
        return frames
    moves = np.array([BeamShift.pixels(part) for part in remainder]) + rest
    return np.stack(
        [ndimage.shift(f.astype(np.float32), -m, mode="grid-constant") for f, m in zip(frames, moves, strict=True)]
    )
