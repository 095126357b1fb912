"""How the frames of a whole scan are measured: which pixels count, and where the optical axis lies in each frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.data.typical_pattern import TypicalPattern
from stemvane.reduction.bad_pixels import FillWeights
from stemvane.reduction.kernels.frames import FramePlan, FrameSums, measure_frames

__all__ = ["BeamShift", "FramePreparation", "PassPlan"]

_PARTS = 8


@dataclass(frozen=True)
class BeamShift:
    """Plane or surface of second order by which the optical axis moves over a scan.

    Attributes
    ----------
    coefficients : tuple of pair of float
        Shift ``(y, x)`` in pixels from the first scan row to the last, and from the first column to the last; for a
        surface also the factors of ``v² - 1/12``, ``u² - 1/12`` and ``v u``, where v and u run from -1/2 to 1/2 over
        rows and columns.
    scan_shape : tuple of int
        Probe positions ``(scan_y, scan_x)``; a plane is 0 at the scan's centre, a surface in its mean.
    """

    coefficients: tuple[tuple[float, float], ...]
    scan_shape: tuple[int, int]

    def at(self, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.float64]:
        """Shift ``(y, x)`` in pixels at scan positions, shape ``(..., 2)``."""
        last = np.array(self.scan_shape) - 1
        down, right = ((np.asarray(n) - m / 2) / max(m, 1) for n, m in zip((rows, columns), last, strict=True))
        terms = (down, right, down**2 - 1 / 12, right**2 - 1 / 12, down * right)
        pairs = zip(terms, self.coefficients, strict=False)
        return np.asarray(sum(term[..., None] * np.array(pair) for term, pair in pairs))

    @property
    def largest(self) -> float:
        """Longest shift along either axis of the detector, in pixels."""
        return float(np.abs(self.at(*np.indices(self.scan_shape))).max())

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
class FramePreparation:
    """What is done to every frame before it is measured: bad pixels are filled, and the beam is moved back.

    Attributes
    ----------
    fill : FillWeights, optional
        Bad pixels and the good ones that stand for them; None where all are good.
    typical : TypicalPattern, optional
        What bad pixels are filled with.
    shift : BeamShift, optional
        None where the beam stays.
    """

    fill: FillWeights | None = None
    typical: TypicalPattern | None = None
    shift: BeamShift | None = None

    def prepare(
        self, frames: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float64]]:
        """Prepare frames, of which none is changed in place.

        Parameters
        ----------
        frames : ndarray, shape (n, k_y, k_x)
            Patterns as recorded.
        rows, columns : ndarray of int, shape (n,)
            Their scan positions.

        Returns
        -------
        frames : ndarray, shape (n, k_y, k_x)
            Without bad pixels, moved back by whole pixels; what comes in over the edge is 0.
        remainder : ndarray of int, shape (n, 2)
            How far the beam still is from its place, ``(y, x)`` in eighths of a pixel, rounded.
        rest : ndarray of float, shape (n, 2)
            What is left beyond that, in pixels.
        """
        if self.shift is None:
            if self.fill is not None:
                frames = frames.copy()
                self._fill(frames, slice(None), np.zeros(2))
            return frames, np.zeros((len(frames), 2), np.int64), np.zeros((len(frames), 2))
        pixels, remainder = self.shift.split(rows, columns)
        if self.fill is not None:
            frames = frames.copy()
            # a bad pixel hides another part of the pattern wherever the beam is, so it is filled before that is moved
            for move, part in _same(pixels * _PARTS + remainder):
                self._fill(frames, part, np.array(move) / _PARTS)
        return _move_back(frames, pixels), remainder, self.shift.at(rows, columns) - pixels - remainder / _PARTS

    def _fill(self, frames: NDArray[Any], part: Any, move: NDArray[np.floating[Any]]) -> None:
        """Fill the bad pixels of frames whose beam lies this far, ``(y, x)`` in pixels, from the scan's centre."""
        assert self.fill is not None
        bad, neighbours, weights = self.fill.bad, self.fill.neighbours, self.fill.weights
        near = frames[part][:, neighbours[..., 0], neighbours[..., 1]].astype(np.float64)
        if self.typical is None:
            values = (near * weights).sum(axis=-1)
        else:
            expected, around = (self.typical.at(at, move) for at in (bad, neighbours))
            # a single pixel's noise is larger than what it can tell of its neighbour, so the mean is scaled as a whole
            scale = near.sum(axis=(1, 2)) / np.where(around.sum() > 0, around.sum(), np.inf)
            values = expected * scale[:, None]
        if frames.dtype.kind in "ui":
            limits = np.iinfo(frames.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        with np.errstate(invalid="ignore"):  # frames that hold NaN elsewhere are left out by who asked
            frames[np.arange(len(frames))[part, None], bad[:, 0], bad[:, 1]] = values


@dataclass(frozen=True, eq=False)
class PassPlan:
    """What is measured of every frame of a scan.

    Attributes
    ----------
    plans : mapping
        A `FramePlan` for each remainder of the beam's shift; one for ``(0, 0)`` where the beam stays.
    preparation : FramePreparation
        What is done to the frames first.
    slopes : ndarray of float, shape (2, n_samples), optional
        Change of the samples of the typical pattern with the axis along y and x, per pixel, over its total.
    offsets : mapping
        By remainder, how far the samples of the typical pattern are from those of the beam at rest, over its total:
        a sharp edge looks different wherever it lies between pixels.
    """

    plans: Mapping[tuple[int, int], FramePlan]
    preparation: FramePreparation = field(default_factory=FramePreparation)
    slopes: NDArray[np.float64] | None = None
    offsets: Mapping[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict)

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
        rows, columns = np.divmod(np.arange(len(frames)), width)
        frames, remainder, rest = self.preparation.prepare(frames, rows + top, columns + left)
        if self.preparation.shift is None:
            return measure_frames(frames, self.plans[0, 0], samples)
        kinds, kind = np.unique(remainder, axis=0, return_inverse=True)
        parts = [np.flatnonzero(kind.ravel() == i) for i in range(len(kinds))]
        measured = [
            measure_frames(frames[part], self.plans[int(y), int(x)]) for part, (y, x) in zip(parts, kinds, strict=True)
        ]
        result = measured[0]
        if len(measured) > 1 or samples is not None:
            order = np.argsort(np.concatenate(parts))
            result = replace(result, sums=np.concatenate([f.sums for f in measured])[order])
            if result.samples is not None:
                in_order = np.concatenate([f.samples for f in measured if f.samples is not None])[order]
                if samples is not None:
                    samples[:] = in_order
                result = replace(result, samples=in_order if samples is None else samples)
            if result.pattern is not None:
                pattern: Any = sum(f.pattern for f in measured if f.pattern is not None)
                result = replace(result, pattern=pattern)
        if result.samples is not None and self.offsets:
            offsets = np.array([self.offsets[int(y), int(x)] for y, x in kinds])
            result.samples[:] -= result.sums[:, :1] * offsets[kind.ravel()]
        self._move_on(result, rest)
        return result

    def _move_on(self, frame_sums: FrameSums, distance: NDArray[np.float64]) -> None:
        """From the axis of the plans to that of each frame, in place: exact for the COM, by slopes for the samples."""
        totals = frame_sums.sums[:, 0]
        with np.errstate(invalid="ignore"):  # frames that hold NaN are left out by who asked
            frame_sums.sums[:, 1:3] -= totals[:, None] * distance
            if self.slopes is not None and frame_sums.samples is not None:
                frame_sums.samples[:] += (totals[:, None] * distance) @ self.slopes


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
