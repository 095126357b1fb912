"""How the frames of a whole scan are measured: which pixels count, and where the optical axis lies in each frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.reduction.kernels.frames import FramePlan, FrameSums, measure_frames

__all__ = ["BeamShift", "PassPlan"]

_PARTS = 8


@dataclass(frozen=True)
class BeamShift:
    """Plane by which the optical axis moves over a scan.

    Attributes
    ----------
    along_y, along_x : tuple of float
        Shift ``(y, x)`` in pixels from the first scan row to the last, and from the first column to the last.
    scan_shape : tuple of int
        Probe positions ``(scan_y, scan_x)``; at the scan's centre the shift is 0.
    """

    along_y: tuple[float, float]
    along_x: tuple[float, float]
    scan_shape: tuple[int, int]

    def at(self, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.float64]:
        """Shift ``(y, x)`` in pixels at scan positions, shape ``(..., 2)``."""
        last = np.maximum(np.array(self.scan_shape) - 1, 1)
        down, right = (np.asarray(n) / most - 0.5 for n, most in zip((rows, columns), last, strict=True))
        return np.asarray(down[..., None] * np.array(self.along_y) + right[..., None] * np.array(self.along_x))

    @property
    def largest(self) -> float:
        """Longest shift along either axis of the detector, in pixels."""
        return float(np.max(np.abs(self.along_y) + np.abs(self.along_x))) / 2

    def split(self, rows: NDArray[Any], columns: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shift in whole pixels, and what is left in eighths of a pixel, from -4 to 4; both ``(..., 2)``."""
        shift = self.at(rows, columns)
        pixels = np.rint(shift).astype(np.int64)
        return pixels, np.rint((shift - pixels) * _PARTS).astype(np.int64)

    def remainders(self) -> list[tuple[int, int]]:
        """All that is left beyond whole pixels anywhere on the scan, ``(y, x)`` in eighths of a pixel."""
        remainders = self.split(*np.indices(self.scan_shape))[1].reshape(-1, 2)
        return [(int(y), int(x)) for y, x in np.unique(remainders, axis=0)]

    @staticmethod
    def pixels(remainder: tuple[int, int]) -> tuple[float, float]:
        """A remainder in pixels."""
        return remainder[0] / _PARTS, remainder[1] / _PARTS


@dataclass(frozen=True, eq=False)
class PassPlan:
    """What is measured of every frame of a scan.

    Attributes
    ----------
    plans : mapping
        A `FramePlan` for each remainder of the beam's shift; one for ``(0, 0)`` where the beam stays.
    valid : ndarray of bool, shape (k_y, k_x), optional
        True where a pixel counts.
    shift : BeamShift, optional
        None where the beam stays.
    """

    plans: Mapping[tuple[int, int], FramePlan]
    valid: NDArray[np.bool_] | None = None
    shift: BeamShift | None = None

    @property
    def n_samples(self) -> int:
        """Polar and Cartesian samples of a frame."""
        lanes = next(iter(self.plans.values())).lanes
        return 0 if lanes is None else lanes.n_samples

    def measure(
        self, frames: NDArray[Any], top: int, left: int, width: int, samples: NDArray[np.float32] | None = None
    ) -> FrameSums:
        """Measure a block of frames.

        Parameters
        ----------
        frames : ndarray, shape (n, k_y, k_x)
            Patterns of the block, row by row.
        top, left, width : int
            Where the block lies in the scan.
        samples : ndarray of float32, shape (n, n_samples), optional
            Contiguous memory for the samples; new where left out.

        Returns
        -------
        FrameSums
            The sum over the frames is of frames moved back by whole pixels.
        """
        if self.valid is not None:
            frames = np.where(self.valid, frames, frames.dtype.type(0))
        if self.shift is None:
            return measure_frames(frames, self.plans[0, 0], samples)
        rows, columns = np.divmod(np.arange(len(frames)), width)
        pixels, remainder = self.shift.split(rows + top, columns + left)
        frames = _move_back(frames, pixels)
        kinds, kind = np.unique(remainder, axis=0, return_inverse=True)
        parts = [np.flatnonzero(kind.ravel() == i) for i in range(len(kinds))]
        measured = [
            measure_frames(frames[part], self.plans[int(y), int(x)]) for part, (y, x) in zip(parts, kinds, strict=True)
        ]
        result = measured[0]
        if len(measured) > 1 or samples is not None:
            order = np.argsort(np.concatenate(parts))
            sums, n_negative = (
                np.concatenate([getattr(f, name) for f in measured])[order] for name in ("sums", "n_negative")
            )
            result = replace(result, sums=sums, n_negative=n_negative)
            if result.samples is not None:
                in_order = np.concatenate([f.samples for f in measured if f.samples is not None])[order]
                if samples is not None:
                    samples[:] = in_order
                result = replace(result, samples=in_order if samples is None else samples)
            if result.pattern is not None:
                pattern: Any = sum(f.pattern for f in measured if f.pattern is not None)
                result = replace(result, pattern=pattern)
        return result


def _move_back(frames: NDArray[Any], shifts: NDArray[np.int64]) -> NDArray[Any]:
    """Frames moved by minus their whole shift; what comes in over the edge is 0."""
    moved = np.zeros_like(frames)
    n_y, n_x = frames.shape[1:]
    for (y, x), part in _same(shifts):
        to_y, to_x = slice(max(0, -y), n_y - max(0, y)), slice(max(0, -x), n_x - max(0, x))
        from_y, from_x = slice(max(0, y), n_y - max(0, -y)), slice(max(0, x), n_x - max(0, -x))
        moved[part, to_y, to_x] = frames[part, from_y, from_x]
    return moved


def _same(shifts: NDArray[np.int64]) -> list[tuple[tuple[int, int], NDArray[np.int64]]]:
    kinds, kind = np.unique(shifts, axis=0, return_inverse=True)
    return [((int(y), int(x)), np.flatnonzero(kind.ravel() == i)) for i, (y, x) in enumerate(kinds)]
