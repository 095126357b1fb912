"""Bad pixels of a detector: single ones, blocks, lines and crosses, and what a pattern would hold there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse, spatial

__all__ = ["FillWeights", "bad_pixels", "bright_rectangles", "fill_pattern"]

_Mask = NDArray[np.bool_]
# a pixel is hot above twice and dead below half of what is around it: no edge of a disc does that to a pixel by itself
_FACTOR = 2.0
# the largest block and the widest line that are bad wherever they are; a larger defect is a region
_MOST_BLOCK = 8
_MOST_LINE = 4
# a line is lit along as many pixels at least, and dark (or bright) along nearly all of these
_LEAST_LIT = 8
_SHARE_OF_LINE = 0.9
# a pixel that should have counted as many times and did not once is dead: by chance one in 5e8
_LEAST_COUNTS = 20
_LEAST_LIGHT = 0.01
_N_NEIGHBOURS = 8


@dataclass(frozen=True, eq=False)
class FillWeights:
    """The good pixels that stand for each bad one.

    Attributes
    ----------
    bad : ndarray of int, shape (n_bad, 2)
        Bad pixels ``(y, x)``.
    neighbours : ndarray of int, shape (n_bad, n, 2)
        Nearest good pixels ``(y, x)`` of each.
    weights : ndarray of float, shape (n_bad, n)
        Inverse squared distances, which sum to 1.
    """

    bad: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, mask: _Mask) -> FillWeights:
        """Find the neighbours of the bad pixels of a mask, shape ``(k_y, k_x)``; none where no pixel is good."""
        bad, good = np.argwhere(mask), np.argwhere(~mask)
        n = min(_N_NEIGHBOURS, len(good))
        if not len(bad) or not n:
            return cls(bad[:0], np.empty((0, n, 2), np.int64), np.empty((0, n)))
        distance, index = spatial.cKDTree(good).query(bad, k=n)
        distance, index = distance.reshape(len(bad), n), index.reshape(len(bad), n)
        weights = 1 / distance**2
        return cls(bad, good[index], weights / weights.sum(axis=1, keepdims=True))

    def fill(self, pattern: NDArray[np.floating]) -> NDArray[np.float64]:
        """`fill_pattern` of one pattern or several, shape ``(..., k_y, k_x)``."""
        filled = np.array(pattern, np.float64)
        near = filled[..., self.neighbours[..., 0], self.neighbours[..., 1]]
        filled[..., self.bad[:, 0], self.bad[:, 1]] = (near * self.weights).sum(axis=-1)
        return filled


def fill_pattern(pattern: NDArray[np.floating], mask: _Mask) -> NDArray[np.float64]:
    """Replace bad pixels by the weighted mean of the nearest good ones.

    Parameters
    ----------
    pattern : ndarray of float, shape (..., k_y, k_x)
        One pattern or several.
    mask : ndarray of bool, shape (k_y, k_x)
        True where a pixel is bad.

    Returns
    -------
    ndarray of float64, shape (..., k_y, k_x)
    """
    return FillWeights.of(mask).fill(pattern)


def bad_pixels(
    mean: NDArray[np.float64],
    error: NDArray[np.float64],
    *,
    known: _Mask | None = None,
    scatter: float = 0.0,
    n_sigma: float = 6.0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find hot and dead pixels in a mean pattern.

    A single pixel is hot above twice the third-brightest of its eight neighbours, and dead below half the
    third-darkest. A block of up to 8 × 8 pixels is bad where it differs so from all that surrounds it, with an edge as
    sharp as a pixel, which no disc on the detector has; a line of up to 4 pixels across the whole detector, where it
    does so along nearly all of its lit part. A pixel that never changes while its neighbours count is dead in any case.

    Parameters
    ----------
    mean : ndarray of float, shape (k_y, k_x)
        Mean pattern, without the dark level.
    error : ndarray of float, shape (k_y, k_x)
        Standard error of the mean, as the patterns scatter.
    known : ndarray of bool, shape (k_y, k_x), optional
        Pixels that are known to be bad; they are not reported again, and nothing is judged by them.
    scatter : float
        Standard deviation from pixel to pixel of what a pixel shows without electrons.
    n_sigma : float
        How far beyond the noise.

    Returns
    -------
    hot, dead : ndarray of int, shape (n, 2)
        Positions ``(y, x)``.
    """
    known = np.zeros(mean.shape, bool) if known is None else known
    hot, dead = _constant(mean, error, known)
    # what was found is filled before the rest is judged, so that two defects side by side do not hide each other
    for search in (_hot_blocks, _lines, _blocks, _singles):
        seen = known | hot | dead
        filled = fill_pattern(mean, seen)
        more_hot, more_dead = search(filled, _noise(filled, error, scatter, n_sigma))
        hot, dead = hot | (more_hot & ~seen), dead | (more_dead & ~seen)
    return np.argwhere(hot), np.argwhere(dead)


def bright_rectangles(
    mean: NDArray[np.float64],
    error: NDArray[np.float64],
    *,
    known: _Mask | None = None,
    scatter: float = 0.0,
    n_sigma: float = 6.0,
) -> _Mask:
    """Find rectangles too large for a block of hot pixels that are bright with an edge as sharp as a pixel.

    Parameters
    ----------
    mean, error, known, scatter, n_sigma
        As for `bad_pixels`.

    Returns
    -------
    ndarray of bool, shape (k_y, k_x)
        The lit part of a detector may be one, too.
    """
    known = np.zeros(mean.shape, bool) if known is None else known
    filled = fill_pattern(mean, known)
    hot, _ = _blocks(filled, _noise(filled, error, scatter, n_sigma), _MOST_BLOCK + 1, max(mean.shape))
    return hot


def _noise(
    filled: NDArray[np.float64], error: NDArray[np.float64], scatter: float, n_sigma: float
) -> NDArray[np.float64]:
    """What two pixels may differ by."""
    around = np.ones((3, 3), bool)
    around[1, 1] = False
    # a pixel that never fired has no scatter of its own: its neighbours know how many counts to expect
    near = ndimage.median_filter(error, footprint=around, mode="mirror")
    noise = n_sigma * np.sqrt(error**2 + near**2 + scatter**2)
    return np.asarray(np.maximum(noise, 1e-6 * np.abs(filled).max()))


def _constant(mean: NDArray[np.float64], error: NDArray[np.float64], known: _Mask) -> tuple[_Mask, _Mask]:
    """Pixels and blocks that never change while all around them have counted often."""
    still = (error == 0) & ~known
    hot, dead = np.zeros((2, *mean.shape), bool)
    # the relative error of a mean of n counts is 1/√n or larger, so this never overstates how often a pixel counted
    counts = np.where(error > 0, (mean / np.where(error > 0, error, 1.0)) ** 2, np.where(known, np.inf, 0.0))
    label, _ = ndimage.label(still, np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        if max(part.stop - part.start for part in box) > _MOST_BLOCK:
            continue
        wide = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
        block = label[wide] == number
        around = ndimage.binary_dilation(block, np.ones((3, 3))) & ~block
        # where next to nothing falls, a pixel that does nothing does no harm
        is_lit = around.any() and mean[wide][around].min() > _LEAST_LIGHT * mean.max()
        if is_lit and counts[wide][around].min() >= _LEAST_COUNTS:
            mask = hot if mean[wide][block].max() > mean[wide][around].max() else dead
            mask[wide] |= block
    return hot, dead


def _singles(mean: NDArray[np.float64], noise: NDArray[np.float64]) -> tuple[_Mask, _Mask]:
    around = np.ones((3, 3), bool)
    around[1, 1] = False
    bright = ndimage.rank_filter(mean, -3, footprint=around, mode="mirror")
    # beyond the border nothing is bright: the edge of a disc there would look like dead pixels otherwise
    dark = ndimage.rank_filter(mean, 2, footprint=around, mode="constant", cval=0.0)
    # half of a number below zero would be brighter
    return mean - _FACTOR * np.maximum(bright, 0) > noise, np.where(dark > 0, dark / _FACTOR, dark) - mean > noise


def _lines(mean: NDArray[np.float64], noise: NDArray[np.float64]) -> tuple[_Mask, _Mask]:
    """Rows and columns of the whole detector that are far darker or brighter than those on both sides."""
    # of their own for rows and columns: the row of a cross must not hide its column
    hot, dead = np.zeros((2, 2, *mean.shape), bool)
    for axis in (0, 1):
        values, limits, bright, dark = (np.moveaxis(a, axis, 0) for a in (mean, noise, hot[axis], dead[axis]))
        for width in range(1, min(_MOST_LINE, len(values) - 2) + 1):
            for top in range(1, len(values) - width):
                band = slice(top, top + width)
                if bright[band].any() or dark[band].any():
                    continue
                sides, limit = values[[top - 1, top + width]], limits[top - 1 : top + width + 1].max(axis=0)
                for mask, far, lit in (
                    (
                        dark,
                        sides.min(axis=0) / _FACTOR - values[band].max(axis=0) > limit,
                        sides.min(axis=0) / _FACTOR > limit,
                    ),
                    (
                        bright,
                        values[band].min(axis=0) - _FACTOR * np.maximum(sides.max(axis=0), 0) > limit,
                        np.ones(values.shape[1], bool),
                    ),
                ):
                    if lit.sum() >= _LEAST_LIT and (far & lit).sum() >= _SHARE_OF_LINE * lit.sum():
                        mask[band] = True
    return hot.any(axis=0), dead.any(axis=0)


def _hot_blocks(mean: NDArray[np.float64], noise: NDArray[np.float64]) -> tuple[_Mask, _Mask]:
    """Bright blocks alone: the gap between one and the disc would look like a dark line."""
    hot, _ = _blocks(mean, noise)
    return hot, np.zeros_like(hot)


def _blocks(
    mean: NDArray[np.float64], noise: NDArray[np.float64], smallest: int = 1, largest: int = _MOST_BLOCK
) -> tuple[_Mask, _Mask]:
    """Connected pixels that differ by a step from everything around them, the longer side within limits."""
    n_y, n_x = mean.shape
    index = np.arange(n_y * n_x).reshape(n_y, n_x)
    links = []
    for one, other in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        high, low = np.maximum(mean[one], mean[other]), np.minimum(mean[one], mean[other])
        step = high - _FACTOR * np.maximum(low, 0) > np.maximum(noise[one], noise[other])
        links.append(np.stack([index[one][~step], index[other][~step]]))
    rows, columns = np.concatenate(links, axis=1)
    graph = sparse.coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(mean.size, mean.size))
    _, label = sparse.csgraph.connected_components(graph, directed=False)
    label = label.reshape(mean.shape) + 1
    hot, dead = np.zeros((2, *mean.shape), bool)
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        height, width = (part.stop - part.start for part in box)
        if not smallest <= max(height, width) <= largest or height * width < 2:
            continue
        wide = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in box)
        block = label[wide] == number
        near = ndimage.binary_dilation(block, np.ones((3, 3))) & ~block
        far = ndimage.binary_dilation(block, np.ones((5, 5))) & ~block & ~near
        if block.sum() < 2 or not near.any() or not far.any():
            continue
        inside, level = np.median(mean[wide][block]), np.median(mean[wide][far])
        limit = max(noise[wide][block].max(), 0.1 * abs(inside - level))
        # the edge of a defect is as sharp as a pixel: what touches it is like what lies beyond, but for two corners and
        # for the slope of something else, which is as bright beyond
        beyond = ndimage.maximum_filter(np.where(far, mean[wide], -np.inf), 3)
        is_sharp = ((np.abs(mean[wide] - level) > limit) & (mean[wide] > beyond))[near].sum() <= 2
        is_even = np.abs(mean[wide][block] - inside).max() < abs(inside - level) / _FACTOR
        if not (is_sharp and is_even):
            continue
        touches = any(part.start == 0 or part.stop == n for part, n in zip(box, mean.shape, strict=True))
        inner, outer, limit = mean[wide][block], np.sort(mean[wide][near]), noise[wide][block].max()
        # a defect of readout is a rectangle, a small disc has no corners
        if block.sum() > 0.9 * height * width and inner.min() - _FACTOR * max(outer[-1], 0) > limit:
            hot[wide] |= block
        # beyond the border nothing is bright: the edge of a disc there would look like a dead block otherwise
        elif not touches and outer[min(2, len(outer) - 1)] / _FACTOR - inner.max() > limit:
            dead[wide] |= block
    return hot, dead
