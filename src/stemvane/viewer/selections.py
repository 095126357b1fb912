"""Which positions a shape drawn on a map, in the learned space or on a histogram selects, and their mean pattern."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemvane.data.dataset import Dataset4D
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.errors import DataError
from stemvane.geometry.polar import harmonics_of, polar_from, rotate
from stemvane.reduction.blocks import partition
from stemvane.viewer.scene import Scene

__all__ = ["MeanPattern", "inside_polygon", "mean_patterns", "plain_sums", "rotated_sums", "select_positions"]

_MOST_CORNERS = 4096


class MeanPattern(NamedTuple):
    """Mean of the patterns of some positions, so far.

    Attributes
    ----------
    plain : ndarray of float, shape (k_y, k_x)
        The mean.
    rotated : ndarray of float, shape (k_y, k_x), or None
        The mean after every pattern was rotated back by its angle; None without angles or polar patterns.
    n : int
        Number of patterns in it.
    done : float
        Share of the work that is done.
    """

    plain: NDArray[np.float64]
    rotated: NDArray[np.float64] | None
    n: int
    done: float


def inside_polygon(y: ArrayLike, x: ArrayLike, corners: ArrayLike) -> NDArray[np.bool_]:
    """Whether points lie in a polygon, by the number of its sides that a ray to the right crosses.

    Parameters
    ----------
    y, x : array_like of float, shape (...)
        Points.
    corners : array_like of float, shape (n, 2)
        Corners ``(y, x)``; the last is joined with the first.

    Returns
    -------
    ndarray of bool, shape (...)
        Where a polygon crosses itself, a part that it goes round twice is outside.
    """
    y, x = np.asarray(y, float), np.asarray(x, float)
    ends = np.asarray(corners, float)
    inside = np.zeros(np.broadcast(y, x).shape, bool)
    for (y0, x0), (y1, x1) in zip(ends, np.roll(ends, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


def select_positions(scene: Scene, selection: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Select positions of a scan.

    Parameters
    ----------
    scene : Scene
        The scan.
    selection : mapping
        ``kind`` and what it needs: ``rectangle`` and ``lasso`` have ``points`` ``(y, x)`` in the ``space`` ``scan``, in
        positions, or ``latents``, where y is the latent ``axes[1]`` and x ``axes[0]``, counted from 0; ``range`` has
        ``map``, ``low`` and ``high``; ``class`` has ``map`` and ``value``; ``points`` has ``points``.

    Returns
    -------
    ndarray of bool, shape (scan_y, scan_x)

    Raises
    ------
    DataError
        If the selection is not of these.
    """
    kind = selection.get("kind")
    rows, columns = scene.scan_shape
    if kind == "points":
        mask = np.zeros((rows, columns), bool)
        points = np.rint(_points(selection)).astype(int)
        within = ((points >= 0) & (points < (rows, columns))).all(axis=1)
        mask[tuple(points[within].T)] = True
        return mask
    if kind in ("range", "class"):
        shown = scene.maps.get(str(selection.get("map")))
        if shown is None:
            raise DataError(f"there is no map {selection.get('map')!r}; choose one of the list")
        values = shown.values if shown.strength is None else shown.strength
        if kind == "class":
            return np.asarray(values == _number(selection, "value"))
        return np.asarray((values >= _number(selection, "low")) & (values <= _number(selection, "high")))
    if kind not in ("rectangle", "lasso"):
        raise DataError(f"{kind!r} is no kind of selection; draw a rectangle or a lasso")
    y, x = _coordinates(scene, selection)
    points = _points(selection)
    if kind == "lasso":
        return inside_polygon(y, x, points)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((y >= low[0]) & (y <= high[0]) & (x >= low[1]) & (x <= high[1]))


def _coordinates(scene: Scene, selection: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if selection.get("space") != "latents":
        y, x = np.indices(scene.scan_shape, dtype=float)
        return y, x
    n_latent = 0 if scene.embedding is None else scene.embedding.n_latent
    axes = selection.get("axes", [0, 1])
    if not isinstance(axes, list) or len(axes) != 2 or not all(type(a) is int and 0 <= a < n_latent for a in axes):
        raise DataError(f"latents {axes} cannot be selected in: there are {n_latent}; choose two of these")
    assert scene.embedding is not None
    return scene.embedding.latents[..., axes[1]].astype(float), scene.embedding.latents[..., axes[0]].astype(float)


def _points(selection: Mapping[str, Any]) -> NDArray[np.float64]:
    try:
        points = np.asarray(selection.get("points"), dtype=float)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or not 1 <= len(points) <= _MOST_CORNERS:
        raise DataError(f"a selection needs 1 to {_MOST_CORNERS} points (y, x); draw it again")
    if not np.abs(points).max() < 1e9:
        raise DataError("a corner of the selection is no finite number; draw it again")
    return points


def _number(selection: Mapping[str, Any], name: str) -> float:
    value = selection.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"the selection's {name} is {value!r}; give a number")
    return float(value)


def plain_sums(dataset: Dataset4D, mask: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.float64], int]]:
    """Sum recorded patterns of a mask, block by block.

    Parameters
    ----------
    dataset : Dataset4D
        The scan.
    mask : ndarray of bool, shape (scan_y, scan_x)
        True at the positions to sum.

    Yields
    ------
    sum : ndarray of float, shape (k_y, k_x)
        Sum over all blocks so far.
    n : int
        Number of patterns in it.
    """
    if dataset.missing is not None:
        mask = mask & ~dataset.missing
    total, n = np.zeros(dataset.detector_shape), 0
    blocks = [block for block in partition(dataset.data) if mask[block.part].any()]
    # far apart first, so that a mean of some blocks is one of the whole selection
    for block in (blocks[i] for i in _scattered(len(blocks))):
        part = mask[block.part]
        total += block.read()[part].sum(axis=0, dtype=np.float64)
        n += int(part.sum())
        yield total, n


def rotated_sums(
    measurements: Measurements, embedding: Embedding | None, mask: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], int, int]]:
    """Sum polar patterns of a mask, as they are and rotated back by their angles.

    Parameters
    ----------
    measurements : Measurements
        A scan with polar patterns.
    embedding : Embedding or None
        Angles; without them nothing is rotated.
    mask : ndarray of bool, shape (scan_y, scan_x)
        True at the positions to sum.

    Yields
    ------
    plain, rotated : ndarray of float, shape (n_radial, n_azimuthal)
        Sums so far.
    n, n_rotated : int
        Number of patterns in each.
    """
    grid = measurements.grid
    plain, rotated, n, n_rotated = np.zeros(grid.shape), np.zeros(grid.shape), 0, 0
    mask = mask & measurements.recorded
    rows = np.flatnonzero(mask.any(axis=1))
    height = max(1, 512 // mask.shape[1])
    tops = np.unique(rows // height * height)
    for top in (tops[i] for i in _scattered(len(tops))):
        part = slice(top, top + height)
        patterns = np.asarray(measurements.polar[part], np.float64)[mask[part]]
        plain += patterns.sum(axis=0)
        n += len(patterns)
        if embedding is not None:
            angle = embedding.angle[part][mask[part]].astype(float)
            known = np.isfinite(angle)
            upright = rotate(harmonics_of(patterns[known]), -angle[known]).sum(axis=0)
            rotated += polar_from(upright, grid.n_azimuthal)
            n_rotated += int(known.sum())
        yield plain, rotated, n, n_rotated


def mean_patterns(scene: Scene, mask: NDArray[np.bool_], *, seconds: float | None = None) -> Iterator[MeanPattern]:
    """Mean pattern of a selection, plain and rotated to one orientation.

    Parameters
    ----------
    scene : Scene
        The scan.
    mask : ndarray of bool, shape (scan_y, scan_x)
        True at the positions to use.
    seconds : float, optional
        Stop after this time with the patterns read by then, which are spread over the selection.

    Yields
    ------
    MeanPattern
        The mean so far; the last one is complete where there is time.

    Raises
    ------
    DataError
        If nothing is selected, or there are no patterns.
    """
    if not mask.any():
        raise DataError("nothing is selected; draw around some positions")
    if not scene.pattern_source:
        raise DataError(f"{scene.name}: there are no patterns; open a run, or measure the scan with polar=True")
    began, n_all = time.monotonic(), int(mask.sum())
    empty = np.full(scene.detector_shape, np.nan)
    upright, plain, n = None, empty, 0
    parts = 2 if scene.dataset is not None and scene.has_polar else 1

    def in_time(part: float) -> bool:
        return seconds is None or time.monotonic() - began < seconds * part

    if scene.has_polar:
        assert scene.measurements is not None
        for plain_sum, rotated_sum, n, n_rotated in rotated_sums(scene.measurements, scene.embedding, mask):
            plain = scene.polar_drawn(plain_sum / max(n, 1))
            if n_rotated:
                upright = scene.polar_drawn(rotated_sum / n_rotated)
            yield MeanPattern(plain, upright, n, n / n_all / parts)
            if not in_time(1 / parts):
                break
    if scene.dataset is not None:
        bad = scene.bad_pixels
        for total, n in plain_sums(scene.dataset, mask):
            plain = total / max(n, 1)
            if bad is not None:
                plain = np.where(bad, np.nan, plain)
            yield MeanPattern(plain, upright, n, (n / n_all + parts - 1) / parts)
            if not in_time(1):
                break
    yield MeanPattern(plain, upright, n, 1.0)


def _scattered(n: int) -> Sequence[int]:
    """The numbers from 0 to n - 1, each as far from those before it as halving the range leaves it."""
    order = [0] if n else []
    step = 1 << max(0, (n - 1).bit_length())
    while step > 1:
        step //= 2
        order += range(step, n, 2 * step)
    return order
