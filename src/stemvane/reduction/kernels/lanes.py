"""Polar and Cartesian samples of 16 frames at a time, one frame in each lane of a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from stemvane.geometry.overlap import SampleWeights
from stemvane.reduction.kernels.vectors import LANES, SEGMENT, gather_lanes, lanes_to_frames, pixels_to_lanes, prefetch

__all__ = ["LanePlan", "sample_frames"]

_TILE_ROWS = 8


@dataclass(frozen=True, eq=False)
class LanePlan:
    """Weights of samples in the order in which pixels pass through the first-level cache.

    Pixels come in segments of 32; segments that lie on top of each other make a tile, of which the pixels of 16 frames
    fit into the cache. Within a tile the weights are sorted by sample: a group is all pixels of one sample in one tile.

    Attributes
    ----------
    n_samples : int
        Samples of a frame.
    segment : ndarray of int64, shape (n_segments,)
        First pixel of each segment.
    tile_segment, tile_group : ndarray of int64, shape (n_tiles + 1,)
        Where segments and groups of each tile begin.
    group_entry : ndarray of int64, shape (n_groups + 1,)
        Where the entries of each group begin.
    group_sample : ndarray of int64, shape (n_groups,)
        Sample of each group.
    offset : ndarray of int32
        Bytes from the begin of the tile to the pixel of each entry.
    weight : ndarray of float32
        Weight of each entry.
    """

    n_samples: int
    segment: NDArray[np.int64]
    tile_segment: NDArray[np.int64]
    tile_group: NDArray[np.int64]
    group_entry: NDArray[np.int64]
    group_sample: NDArray[np.int64]
    offset: NDArray[np.int32]
    weight: NDArray[np.float32]

    @classmethod
    def of(cls, parts: Sequence[SampleWeights], detector_shape: tuple[int, int]) -> LanePlan:
        """Sort weights of a detector with pixels ``(k_y, k_x)``; the samples of the parts follow each other."""
        n_pixels = detector_shape[0] * detector_shape[1]
        pixel = np.concatenate([part.pixel for part in parts])
        ends = np.cumsum([part.area.size for part in parts])
        sample = np.concatenate([part.sample + end - part.area.size for part, end in zip(parts, ends, strict=True)])
        weight = np.concatenate([part.weight for part in parts])
        last = max(0, -(-n_pixels // SEGMENT) - 1)
        # the last segment begins early, so that it ends with the frame
        first_pixel = np.minimum(np.arange(last + 1) * SEGMENT, max(0, n_pixels - SEGMENT))
        used = np.unique(np.minimum(pixel // SEGMENT, last))
        row, column = np.divmod(first_pixel[used], detector_shape[1])
        place = row // _TILE_ROWS * detector_shape[1] + column // SEGMENT
        order = np.argsort(place, kind="stable")
        used, place = used[order], place[order]
        tile_segment = np.flatnonzero(np.diff(place, prepend=-1))
        # a tile of a narrow detector would hold more segments than rows
        tile_segment = np.unique(np.concatenate([tile_segment, _long_tiles(tile_segment, len(used))]))
        number = np.zeros(last + 1, np.int64)
        number[used] = np.arange(len(used))
        of_pixel = number[np.minimum(pixel // SEGMENT, last)]
        tile = np.searchsorted(tile_segment, of_pixel, side="right") - 1
        within = (of_pixel - tile_segment[tile]) * SEGMENT + pixel - first_pixel[used[of_pixel]]
        n_samples = int(ends[-1])
        group = tile * n_samples + sample
        _, inverse, length = np.unique(group, return_inverse=True, return_counts=True)
        # groups of one length follow each other, so that the processor foresees where they end
        order = np.lexsort((pixel, group, length[inverse], tile))
        group_entry = np.flatnonzero(np.diff(group[order], prepend=-1))
        return cls(
            n_samples=n_samples,
            segment=first_pixel[used].astype(np.int64),
            tile_segment=np.append(tile_segment, len(used)).astype(np.int64),
            tile_group=np.searchsorted(tile[order][group_entry], np.arange(len(tile_segment) + 1)).astype(np.int64),
            group_entry=np.append(group_entry, len(order)).astype(np.int64),
            group_sample=sample[order][group_entry].astype(np.int64),
            offset=(within[order] * 4 * LANES).astype(np.int32),
            weight=weight[order],
        )


def _long_tiles(starts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    ends = np.append(starts[1:], n)
    return np.concatenate([np.arange(a, b, _TILE_ROWS) for a, b in zip(starts, ends, strict=True)] or [starts])


def sample_frames(frames: NDArray[Any], plan: LanePlan, samples: NDArray[np.float32]) -> None:
    """Write the samples of frames; a frame's samples do not depend on the frames beside it.

    Parameters
    ----------
    frames : ndarray, shape (n, n_pixels)
        Contiguous.
    plan : LanePlan
        Weights of the samples.
    samples : ndarray of float32, shape (n, n_samples)
        Contiguous; is overwritten.
    """
    if frames.shape[1] < SEGMENT:
        frames = np.pad(frames, ((0, 0), (0, SEGMENT - frames.shape[1])))
    n_grouped = len(frames) // LANES * LANES
    arguments = (
        plan.segment,
        plan.tile_segment,
        plan.tile_group,
        plan.group_entry,
        plan.group_sample,
        plan.offset,
        plan.weight,
    )
    _sample(frames[:n_grouped], *arguments, samples[:n_grouped])
    n_rest = len(frames) - n_grouped
    if n_rest:
        padded = np.zeros((LANES, frames.shape[1]), frames.dtype)
        padded[:n_rest] = frames[n_grouped:]
        result = np.empty((LANES, plan.n_samples), np.float32)
        _sample(padded, *arguments, result)
        samples[n_grouped:] = result[:n_rest]


@numba.njit(nogil=True, cache=True)
def _sample(
    frames: Any,
    segment: Any,
    tile_segment: Any,
    tile_group: Any,
    group_entry: Any,
    group_sample: Any,
    offset: Any,
    weight: Any,
    samples: Any,
) -> None:
    n, n_pixels = frames.shape
    n_samples = samples.shape[1]
    stride = np.uint64(n_pixels * frames.itemsize)
    tile = np.empty((_TILE_ROWS * SEGMENT, LANES), np.float32)
    lanes = np.empty((n_samples, LANES), np.float32)
    segment_end = np.uint64(SEGMENT * frames.itemsize - 1)
    at_tile, at_lanes = np.uint64(tile.ctypes.data), np.uint64(lanes.ctypes.data)
    at_offset, at_weight = np.uint64(offset.ctypes.data), np.uint64(weight.ctypes.data)
    for first in range(0, n, LANES):
        lanes[:] = 0.0
        source = np.uint64(frames[first:].ctypes.data)
        for t in range(len(tile_group) - 1):
            place = at_tile
            for s in range(tile_segment[t], tile_segment[t + 1]):
                # the frames' rows lie too far apart for the processor to foresee them
                ahead = source + np.uint64(segment[min(s + 2, len(segment) - 1)] * frames.itemsize)
                for _ in range(LANES):
                    prefetch(ahead)
                    # a segment that does not begin with a cache line ends in the next one
                    prefetch(ahead + segment_end)
                    ahead += stride
                pixels = source + np.uint64(segment[s] * frames.itemsize)
                pixels_to_lanes(pixels, stride, place, frames[0, 0])
                place += np.uint64(SEGMENT * LANES * 4)
            for g in range(tile_group[t], tile_group[t + 1]):
                entry = group_entry[g]
                gather_lanes(
                    at_tile,
                    at_offset + np.uint64(4 * entry),
                    at_weight + np.uint64(4 * entry),
                    group_entry[g + 1] - entry,
                    at_lanes + np.uint64(4 * LANES * group_sample[g]),
                )
        target = np.uint64(samples[first:].ctypes.data)
        n_grouped = n_samples // LANES * LANES
        for s in range(0, n_grouped, LANES):
            lanes_to_frames(at_lanes + np.uint64(4 * LANES * s), target + np.uint64(4 * s), np.uint64(4 * n_samples))
        for s in range(n_grouped, n_samples):
            for i in range(LANES):
                samples[first + i, s] = lanes[s, i]
