"""Everything that is measured of a block of frames, whatever their number type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.reduction.kernels.lanes import LanePlan, sample_frames
from stemvane.reduction.kernels.sums import ImagePlan, sum_counts, sum_values

__all__ = ["FramePlan", "FrameSums", "measure_frames"]

# frames that stay in the cache between the kernels
_PIECE = 64
# row and column sums of 16 bits fit into 32 up to this length
_LONGEST = 2**16


@dataclass(frozen=True, eq=False)
class FramePlan:
    """What is measured of every frame, prepared for the kernels; masks of pixels belong into these weights.

    Attributes
    ----------
    axis : tuple of float
        Optical axis ``(y, x)`` in pixels.
    images : ImagePlan
        Virtual images.
    lanes : LanePlan, optional
        Polar and Cartesian samples, None where none are wanted.
    with_pattern : bool
        Whether the sum over the frames is wanted.
    """

    axis: tuple[float, float]
    images: ImagePlan
    lanes: LanePlan | None
    with_pattern: bool


@dataclass(frozen=True, eq=False)
class FrameSums:
    """What was measured of a block of ``n`` frames.

    Attributes
    ----------
    sums : ndarray of float64, shape (n, 3 + n_images)
        Total, first moments about the optical axis along y and x in pixels, virtual images.
    pattern : ndarray of uint64 or float64, shape (k_y, k_x), optional
        Sum over the frames.
    samples : ndarray of float32, shape (n, n_samples), optional
        Polar and Cartesian samples.
    """

    sums: NDArray[np.float64]
    pattern: NDArray[Any] | None
    samples: NDArray[np.float32] | None


def measure_frames(frames: NDArray[Any], plan: FramePlan, samples: NDArray[np.float32] | None = None) -> FrameSums:
    """Measure a block of frames on one thread, without Python's lock for nearly all of the time.

    Parameters
    ----------
    frames : ndarray, shape (n, k_y, k_x)
        Any real type and byte order. What is measured of a frame does not depend on the frames beside it.
    plan : FramePlan
        What is measured.
    samples : ndarray of float32, shape (n, n_samples), optional
        Contiguous memory for the samples; new where left out.

    Returns
    -------
    FrameSums
    """
    frames = np.ascontiguousarray(_native(frames))
    n = len(frames)
    counts = frames.dtype.kind == "u" and frames.dtype.itemsize <= 2 and max(frames.shape[1:]) <= _LONGEST
    sums = np.empty((n, 3 + len(plan.images.dense)))
    pattern: Any = np.zeros(frames.shape[1:], np.uint64 if counts else np.float64) if plan.with_pattern else None
    if plan.lanes is not None and samples is None:
        samples = np.empty((n, plan.lanes.n_samples), np.float32)
    step = n if plan.lanes is None else _PIECE
    for start in range(0, n, step):
        part = slice(start, start + step)
        if counts:
            sum_counts(frames[part], plan.images, sums[part], pattern)
        else:
            sum_values(frames[part], plan.images, sums[part], pattern)
        if plan.lanes is not None and samples is not None:
            sample_frames(frames[part].reshape(len(frames[part]), -1), plan.lanes, samples[part])
    with np.errstate(invalid="ignore"):  # frames that hold infinity are left out by who asked
        sums[:, 1:3] -= sums[:, :1] * plan.axis
    return FrameSums(sums=sums, pattern=pattern, samples=samples)


def _native(frames: NDArray[Any]) -> NDArray[Any]:
    """Values as the kernels know them: truth as bytes, this machine's byte order."""
    if frames.dtype == np.bool_:
        return frames.view(np.uint8)
    if frames.dtype.kind == "f" and frames.dtype.itemsize > 8:
        return frames.astype(np.float64)
    return frames if frames.dtype.isnative else frames.astype(frames.dtype.newbyteorder("="))
