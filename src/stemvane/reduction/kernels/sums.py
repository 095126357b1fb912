"""Totals, first moments and virtual images of frames: exact in integers for counts, in float64 for all else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from stemvane.reduction.kernels.vectors import LINE, prefetch

__all__ = ["ImagePlan", "sum_counts", "sum_values"]

_GROUP = 8
# rows of which the sums of pairs stay in the first-level cache until the masks have been applied
_PAIRS = 1024
# images of which the masks are applied while the rows are summed
_FUSED = 3
# as many frames of 16 bits can be added in 32
_MOST_FRAMES = 2**16
# an image with more pixels off its plateau than this is summed with all its weights
_MOST_EDGES = 0.25


@dataclass(frozen=True, eq=False)
class ImagePlan:
    """Weights of virtual images, taken apart into what the kernels are quick at.

    Discs and rings have the same weight, the plateau, on nearly all pixels where they have any. Counts on the plateau
    are summed as integers, with a mask over pairs of pixels that lie one above the other; the pixels that are left,
    where an edge cuts them or their pair, are summed one by one with what their weight differs by.

    Attributes
    ----------
    dense : ndarray of float64, shape (n_images, n_pixels)
        All weights.
    plateau : ndarray of float64, shape (n_images,)
        Weight on the plateau, 0 where an image has none and is summed with its dense weights.
    mask : ndarray of bool, shape (n_images, n_pairs)
        True where a pair of pixels, one above the other, is summed with the plateau's weight.
    masked_rows : ndarray of int64, shape (n_images, 2)
        First and one past the last row of pairs in which a mask is true anywhere.
    edge_start : ndarray of int64, shape (n_images + 1,)
        Entries ``edge_start[k]:edge_start[k + 1]`` belong to image ``k``.
    edge_pixel, edge_weight : ndarray of uint32, ndarray of float64
        Pixels that are summed one by one, with their weight less the one that they were summed with.
    """

    dense: NDArray[np.float64]
    plateau: NDArray[np.float64]
    mask: NDArray[np.bool_]
    masked_rows: NDArray[np.int64]
    edge_start: NDArray[np.int64]
    edge_pixel: NDArray[np.uint32]
    edge_weight: NDArray[np.float64]

    @classmethod
    def of(cls, images: Sequence[NDArray[np.float64]], detector_shape: tuple[int, int]) -> ImagePlan:
        """Take apart weights of shape ``(k_y, k_x)``."""
        rows, columns = detector_shape
        n_pairs = (rows + 1) // 2
        dense = np.empty((len(images), rows * columns))
        plateau = np.zeros(len(images))
        mask = np.zeros((len(images), n_pairs * columns), bool)
        masked_rows = np.zeros((len(images), 2), np.int64)
        pixels, weights = [np.empty(0, np.int64)], [np.empty(0)]
        for k, image in enumerate(images):
            dense[k] = image.ravel()
            values, counts = np.unique(image[image != 0], return_counts=True)
            if values.size == 0:
                plateau[k] = 1.0
                pixels.append(np.empty(0, np.int64))
                weights.append(np.empty(0))
                continue
            level = values[np.argmax(counts)]
            # a missing partner of the last row weighs nothing either way
            padded = np.pad(image, ((0, rows % 2), (0, 0)))
            recorded = np.arange(2 * n_pairs)[:, None] < rows
            off, on = (((padded != value) & recorded) for value in (level, 0.0))
            # whichever leaves fewer pixels of the pair to be summed one by one
            pair = off[::2].astype(int) + off[1::2] < on[::2].astype(int) + on[1::2]
            plain = np.where(np.repeat(pair, 2, axis=0)[:rows], level, 0.0)
            edges = np.flatnonzero(image != plain)
            if edges.size > _MOST_EDGES * image.size:
                edges = edges[:0]
            else:
                plateau[k] = level
                mask[k] = pair.ravel()
                used = np.flatnonzero(pair.any(axis=1))
                masked_rows[k] = (used[0], used[-1] + 1) if used.size else 0
            pixels.append(edges)
            weights.append(dense[k, edges] - plain.ravel()[edges])
        return cls(
            dense=dense,
            plateau=plateau,
            mask=mask,
            masked_rows=masked_rows,
            edge_start=np.cumsum([len(p) for p in pixels], dtype=np.int64),
            edge_pixel=np.concatenate(pixels).astype(np.uint32),
            edge_weight=np.concatenate(weights),
        )


def sum_counts(
    frames: NDArray[Any], plan: ImagePlan, sums: NDArray[np.float64], pattern: NDArray[np.uint64] | None
) -> None:
    """Sums of unsigned frames of at most 16 bits, exact.

    Parameters
    ----------
    frames : ndarray of uint8 or uint16, shape (n, k_y, k_x)
        Contiguous.
    plan : ImagePlan
        Virtual images.
    sums : ndarray of float64, shape (n, 3 + n_images)
        Is overwritten with total, first moments about pixel (0, 0) along y and x, virtual images.
    pattern : ndarray of uint64, shape (k_y, k_x), optional
        The sum over the frames is added to it.
    """
    edges = plan.edge_start, plan.edge_pixel, plan.edge_weight
    weights = plan.dense, plan.plateau, plan.mask, plan.masked_rows, *edges
    for start in range(0, len(frames), _MOST_FRAMES):
        part = slice(start, start + _MOST_FRAMES)
        counts = _counts(frames[part], *weights, pattern is not None, sums[part])
        if pattern is not None:
            pattern += counts


def sum_values(
    frames: NDArray[Any],
    plan: ImagePlan,
    sums: NDArray[np.float64],
    pattern: NDArray[np.float64] | None,
) -> None:
    """Sums of frames of any real type, in float64.

    Parameters
    ----------
    frames : ndarray, shape (n, k_y, k_x)
        Contiguous.
    plan : ImagePlan
        Virtual images.
    sums : ndarray of float64, shape (n, 3 + n_images)
        Sums of each frame, as in `sum_counts`.
    pattern : ndarray of float64, shape (k_y, k_x), optional
        The sum over the frames is added to it.
    """
    total = np.empty((0, 0)) if pattern is None else pattern
    _values(frames, plan.dense.reshape(-1, *frames.shape[1:]), sums, total)


@numba.njit(nogil=True, cache=True)
def _rows(frame: Any, top: int, bottom: int, columns: Any, address: Any, lines: int) -> Any:
    """First moment along y of an even number of rows; adds them to the column sums."""
    moment = np.uint64(0)
    for r in range(top, bottom, 2):
        for _ in range(lines):
            prefetch(address)
            address += np.uint64(LINE)
        upper, lower = frame[r], frame[r + 1]
        first, second = np.uint32(0), np.uint32(0)
        for c in range(columns.size):
            a, b = np.uint32(upper[c]), np.uint32(lower[c])
            # without the casts Numba widens the lanes to 64 bits, at half the speed
            first, second = np.uint32(first + a), np.uint32(second + b)
            columns[c] += np.uint32(a + b)
        moment += np.uint64(first) * np.uint64(r) + np.uint64(second) * np.uint64(r + 1)
    return moment


@numba.njit(nogil=True, cache=True)
def _rows_and_pairs(frame: Any, top: int, bottom: int, columns: Any, pairs: Any, address: Any, lines: int) -> Any:
    """As `_rows`; keeps the sums of pixels one above the other."""
    moment = np.uint64(0)
    for r in range(top, bottom, 2):
        for _ in range(lines):
            prefetch(address)
            address += np.uint64(LINE)
        upper, lower, pair = frame[r], frame[r + 1], pairs[(r - top) // 2]
        first, second = np.uint32(0), np.uint32(0)
        for c in range(columns.size):
            a, b = np.uint32(upper[c]), np.uint32(lower[c])
            first, second = np.uint32(first + a), np.uint32(second + b)
            both = np.uint32(a + b)
            columns[c] += both
            pair[c] = both
        moment += np.uint64(first) * np.uint64(r) + np.uint64(second) * np.uint64(r + 1)
    return moment


@numba.njit(nogil=True, cache=True)
def _rows_and_masks(frame: Any, bottom: int, columns: Any, masks: Any, plain: Any, address: Any, lines: int) -> Any:
    """As `_rows`, from the first row; adds what lies in three masks over pairs of rows, while it is at hand."""
    moment, zero = np.uint64(0), np.uint32(0)
    for r in range(0, bottom, 2):
        for _ in range(lines):
            prefetch(address)
            address += np.uint64(LINE)
        upper, lower = frame[r], frame[r + 1]
        one, two, three = masks[0, r // 2], masks[1, r // 2], masks[2, r // 2]
        first, second = zero, zero
        in_one, in_two, in_three = zero, zero, zero
        for c in range(columns.size):
            a, b = np.uint32(upper[c]), np.uint32(lower[c])
            first, second = np.uint32(first + a), np.uint32(second + b)
            both = np.uint32(a + b)
            columns[c] += both
            in_one = np.uint32(in_one + (both if one[c] else zero))
            in_two = np.uint32(in_two + (both if two[c] else zero))
            in_three = np.uint32(in_three + (both if three[c] else zero))
        moment += np.uint64(first) * np.uint64(r) + np.uint64(second) * np.uint64(r + 1)
        plain[0] += np.uint64(in_one)
        plain[1] += np.uint64(in_two)
        plain[2] += np.uint64(in_three)
    return moment


@numba.njit(nogil=True, cache=True)
def _last_row(frame: Any, row: int, columns: Any, pairs: Any) -> Any:
    """As `_rows_and_pairs`, of a last row that has no partner."""
    total = np.uint32(0)
    for c in range(columns.size):
        a = np.uint32(frame[row, c])
        total = np.uint32(total + a)
        columns[c] += a
        pairs[c] = a
    return np.uint64(total) * np.uint64(row)


@numba.njit(nogil=True, cache=True)
def _mask(pairs: Any, mask: Any) -> Any:
    total = np.uint32(0)
    for i in range(mask.size):
        total = np.uint32(total + (pairs[i] if mask[i] else np.uint32(0)))
    return np.uint64(total)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _weigh(pixels: Any, at: Any, weight: Any) -> Any:
    total = 0.0
    for i in range(at.size):
        total += weight[i] * np.float64(pixels[at[i]])
    return total


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _dot(pixels: Any, weight: Any) -> Any:
    total = 0.0
    for i in range(pixels.size):
        total += weight[i] * np.float64(pixels[i])
    return total


@numba.njit(nogil=True, cache=True)
def _add_frames(frames: Any, first: int, pattern: Any, address: Any) -> None:
    """Add eight frames ``(n, k_y, k_x)`` to their sum."""
    n_rows, n_columns = pattern.shape
    lines = _GROUP * n_columns * frames.itemsize // 2 // LINE
    for r in range(n_rows):
        for _ in range(lines):
            prefetch(address)
            address += np.uint64(LINE)
        a, b, c, d = frames[first, r], frames[first + 1, r], frames[first + 2, r], frames[first + 3, r]
        e, f, g, h = frames[first + 4, r], frames[first + 5, r], frames[first + 6, r], frames[first + 7, r]
        row = pattern[r]
        for i in range(n_columns):
            low = (np.uint32(a[i]) + np.uint32(b[i])) + (np.uint32(c[i]) + np.uint32(d[i]))
            high = (np.uint32(e[i]) + np.uint32(f[i])) + (np.uint32(g[i]) + np.uint32(h[i]))
            row[i] += low + high


@numba.njit(nogil=True, cache=True)
def _counts(
    frames: Any,
    dense: Any,
    plateau: Any,
    mask: Any,
    masked_rows: Any,
    edge_start: Any,
    edge_pixel: Any,
    edge_weight: Any,
    with_pattern: bool,
    sums: Any,
) -> Any:
    n, n_rows, n_columns = frames.shape
    n_images = len(dense)
    flat = frames.reshape(n, n_rows * n_columns)
    pattern = np.zeros((n_rows, n_columns), np.uint32)
    columns = np.empty(n_columns, np.uint32)
    depth = max(1, min((n_rows + 1) // 2, _PAIRS // n_columns))
    pairs = np.empty((depth, n_columns), np.uint32)
    flat_pairs = pairs.reshape(pairs.size)
    plain = np.empty(max(n_images, _FUSED), np.uint64)
    # images that are not there are masks without a pixel
    fused = np.zeros((_FUSED, (n_rows + 1) // 2, n_columns), np.bool_)
    if n_images <= _FUSED:
        # a whole array assigned to a slice would take Numba half of the time that it compiles this
        for k in range(n_images):
            for i in range(mask.shape[1]):
                fused[k, i // n_columns, i % n_columns] = mask[k, i]
    frame_bytes = n_rows * n_columns * frames.itemsize
    group = _GROUP if with_pattern else 1
    # memory is read ahead all the time: half of a group while its frames are summed one by one, half while together
    share = 2 if with_pattern else 1
    lines = 2 * n_columns * frames.itemsize // share // LINE
    lead = np.uint64(frames.ctypes.data) + np.uint64(32768 + group // 2 * frame_bytes)
    for first in range(0, n, group):
        for f in range(first, min(n, first + group)):
            frame = frames[f]
            address = lead + np.uint64(first * frame_bytes + (f - first) * frame_bytes // share)
            columns[:] = 0
            plain[:] = 0
            moment_y = np.uint64(0)
            if n_images == 0:
                moment_y += _rows(frame, 0, n_rows // 2 * 2, columns, address, lines)
                if n_rows % 2:
                    moment_y += _last_row(frame, n_rows - 1, columns, flat_pairs)
            elif n_images <= _FUSED:
                even = n_rows - n_rows % 2
                moment_y += _rows_and_masks(frame, even, columns, fused, plain, address, lines)
                if even < n_rows:
                    moment_y += _last_row(frame, even, columns, pairs[0])
                    for k in range(n_images):
                        plain[k] += _mask(pairs[0], fused[k, even // 2])
            else:
                for top in range(0, n_rows, 2 * depth):
                    bottom = min(n_rows, top + 2 * depth)
                    even = bottom - bottom % 2
                    moment_y += _rows_and_pairs(frame, top, even, columns, pairs, address, lines)
                    if even < bottom:
                        moment_y += _last_row(frame, even, columns, pairs[(even - top) // 2])
                    for k in range(n_images):
                        start = max(top // 2, masked_rows[k, 0])
                        stop = min((bottom + 1) // 2, masked_rows[k, 1])
                        if start < stop:
                            place = (start - top // 2) * n_columns
                            plain[k] += _mask(flat_pairs[place:], mask[k, start * n_columns : stop * n_columns])
            total, moment_x = np.uint64(0), np.uint64(0)
            for c in range(n_columns):
                total += np.uint64(columns[c])
                moment_x += np.uint64(columns[c]) * np.uint64(c)
            sums[f, 0], sums[f, 1], sums[f, 2] = total, moment_y, moment_x
            for k in range(n_images):
                if plateau[k] != 0.0:
                    at = slice(edge_start[k], edge_start[k + 1])
                    sums[f, 3 + k] = plateau[k] * plain[k] + _weigh(flat[f], edge_pixel[at], edge_weight[at])
                else:
                    sums[f, 3 + k] = _dot(flat[f], dense[k])
        if with_pattern:
            if first + group <= n:
                address = lead + np.uint64(first * frame_bytes + group // 2 * frame_bytes)
                _add_frames(frames, first, pattern, address)
            else:
                for f in range(first, n):
                    for r in range(n_rows):
                        for c in range(n_columns):
                            pattern[r, c] += np.uint32(frames[f, r, c])
    return pattern


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _value_row(row: Any, values: Any, columns: Any) -> Any:
    """Sum of a row; adds it to the column sums."""
    total = 0.0
    for c in range(columns.size):
        value = np.float64(row[c])
        values[c] = value
        total += value
        columns[c] += value
    return total


@numba.njit(nogil=True, cache=True)
def _values(frames: Any, dense: Any, sums: Any, pattern: Any) -> None:
    n, n_rows, n_columns = frames.shape
    columns, values = np.empty(n_columns), np.empty(n_columns)
    for f in range(n):
        columns[:] = 0.0
        sums[f] = 0.0
        for r in range(n_rows):
            total = _value_row(frames[f, r], values, columns)
            sums[f, 1] += total * r
            for k in range(len(dense)):
                sums[f, 3 + k] += _dot(values, dense[k, r])
            if pattern.size:
                for c in range(n_columns):
                    pattern[r, c] += values[c]
        for c in range(n_columns):
            sums[f, 0] += columns[c]
            sums[f, 2] += columns[c] * c
