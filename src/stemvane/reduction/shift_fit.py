"""How the beam moves over the detector with the scan: a plane or a surface through the discs' positions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.geometry.disc import Disc

__all__ = ["ShiftFit", "disc_positions", "fit_shift"]

_N_ROUNDS = 4
# positions that a surface needs for each of its numbers, so that what remains tells its error
_LEAST_POSITIONS = 3
# a specimen's own deflection, seen at few positions, is a plane of some standard errors by chance
_N_SIGMA = 4.0
# a shift shorter than this share of what specimen and noise do, or of a pixel, changes no angle by a degree
_LEAST_SHARE = 0.1
_LEAST_SHIFT = 0.02
# parts of the scan that the numbers must agree in
_PART = 0.6
_STARTS = (0.0, 0.2, 0.4)


@dataclass(frozen=True, eq=False)
class ShiftFit:
    """A smooth surface through the positions of the disc.

    Attributes
    ----------
    coefficients : tuple of pair of float
        Shift ``(y, x)`` in pixels from the first scan row to the last, from the first column to the last, and, for a
        surface, the factors of the squares of both and of their product, as `BeamShift` takes them.
    uncertainty : float
        Standard error of these numbers, px: of independent noise, or, where that is larger, as they differ between
        parts of the scan, since a specimen's waves are planes to a part of the scan.
    remaining : float
        Root mean square of what is left along one axis, px: deflection by the specimen, and noise.
    bending : float
        Share of its variance, along the axis where it is larger, that polynomials of third to fifth order along rows
        and columns explain: small for a scan's own shift, large for a field of the specimen as long as the scan, such
        as that of a junction.
    """

    coefficients: tuple[tuple[float, float], ...]
    uncertainty: float
    remaining: float
    bending: float = 0.0

    @property
    def plane(self) -> float:
        """Length of the longer of the shifts along rows and columns, px."""
        return max(math.hypot(*pair) for pair in self.coefficients[:2])

    @property
    def curvature(self) -> float:
        """Length of the longest quadratic part from the scan's middle to its edge, px."""
        return max((math.hypot(*pair) / 4 for pair in self.coefficients[2:]), default=0.0)

    @property
    def matters(self) -> bool:
        """Whether the shift, of a surface its quadratic part, is beyond chance and beyond what the specimen does."""
        length = self.curvature if len(self.coefficients) > 2 else self.plane
        return length > max(_N_SIGMA * self.uncertainty, _LEAST_SHARE * self.remaining, _LEAST_SHIFT)


def disc_positions(
    frames: Iterable[NDArray[Any]], disc: Disc, aspect: float, moves: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Centre of mass of the bright field of each frame, about the disc's centre.

    Parameters
    ----------
    frames : iterable of ndarray of float, shape (k_y, k_x)
        Patterns without bad pixels, or with these filled.
    disc : Disc
        Disc of the mean pattern.
    aspect : float
        Height of a pixel divided by its width.
    moves : ndarray of float, shape (n, 2)
        How far the disc of each frame is expected from there, ``(y, x)`` in pixels.

    Returns
    -------
    positions : ndarray of float, shape (n, 2)
        ``(y, x)`` in pixels.
    is_lit : ndarray of bool, shape (n,)
        Whether the disc of a frame has counts at all.
    """
    sums, areas, outside = [], [], []
    windows: dict[tuple[int, int], tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]] = {}
    for frame, move in zip(frames, np.rint(moves).astype(int), strict=True):
        place = int(move[0]), int(move[1])
        if place not in windows:
            rows, columns = np.indices(frame.shape, dtype=float)
            rows, columns = rows - disc.centre[0], columns - disc.centre[1]
            radius = np.hypot((rows - place[0]) * aspect, columns - place[1])
            near = radius < 1.25 * disc.radius + 1
            # what lies beyond the disc does not move with it, and would pull its COM to the window's middle
            ring = (radius > 1.1 * disc.radius + 1) & (radius < 1.5 * disc.radius + 2)
            weights = np.stack([near, near * rows, near * columns]).reshape(3, -1)
            windows[place] = weights, weights.sum(axis=1), ring.ravel()
        weights, area, ring = windows[place]
        values = np.asarray(frame, np.float64).ravel()
        sums.append(weights @ values)
        areas.append(area)
        outside.append(values[ring].mean() if ring.any() else 0.0)
    if not sums:
        return np.empty((0, 2)), np.zeros(0, bool)
    corrected = np.array(sums) - np.median(outside) * np.array(areas)
    is_lit = corrected[:, 0] > 0
    return corrected[:, 1:] / np.where(is_lit, corrected[:, 0], 1.0)[:, None], is_lit


def fit_shift(
    positions: NDArray[np.floating[Any]], places: NDArray[Any], scan_shape: tuple[int, int], *, curved: bool
) -> ShiftFit | None:
    """Fit a plane, or a surface of second order, without outliers.

    Parameters
    ----------
    positions : ndarray of float, shape (n, 2)
        Positions ``(y, x)`` of the disc in pixels.
    places : ndarray, shape (n, 2)
        Scan positions ``(row, column)`` of the frames.
    scan_shape : tuple of int
        Probe positions ``(scan_y, scan_x)``.
    curved : bool
        Whether the surface has squares and a product beside the plane.

    Returns
    -------
    ShiftFit or None
        None where there are too few frames.
    """
    last = np.array(scan_shape) - 1
    # from -1/2 to 1/2 over the scan, so that a slope is the shift over all of it; a single row or column has none
    down, right = ((places - last / 2) / np.maximum(last, 1)).T
    terms = [np.ones(len(places)), down, right]
    if curved:
        terms += [down**2 - 1 / 12, right**2 - 1 / 12, down * right]
    design = np.column_stack(terms)
    keep = np.ones(len(positions), bool)
    fit = np.zeros((design.shape[1], 2))
    for _ in range(_N_ROUNDS):
        if keep.sum() < _LEAST_POSITIONS * design.shape[1]:
            return None
        fit = np.linalg.lstsq(design[keep], positions[keep], rcond=None)[0]
        distance = np.linalg.norm(positions - design @ fit, axis=1)
        keep = distance <= max(4 * float(np.median(distance)), 1e-9)
    residual = (positions - design @ fit)[keep]
    remaining = float(np.sqrt((residual**2).mean()))
    # a slope over a uniform scan of unit length has a variance of 12/n
    uncertainty = max(remaining * math.sqrt(12 / len(residual)), _leakage(positions[keep], design[keep], curved=curved))
    bending = _bending(residual, design[keep, 1:3])
    return ShiftFit(tuple((float(y), float(x)) for y, x in fit[1:]), uncertainty, remaining, bending)


def _bending(residual: NDArray[np.floating[Any]], places: NDArray[np.float64]) -> float:
    """Share of the variance that Legendre polynomials of third to fifth order explain, less that by chance."""
    orders = np.eye(6)[3:]
    design = np.concatenate([np.polynomial.legendre.legval(2 * places, c) for c in orders], axis=1)
    design = np.column_stack([np.ones(len(design)), design])
    n_left, total = len(residual) - design.shape[1], (residual**2).sum(axis=0)
    if n_left < 1 or not total.min() > 0:
        return 0.0
    rest = residual - design @ np.linalg.lstsq(design, residual, rcond=None)[0]
    return max(0.0, float((1 - (rest**2).sum(axis=0) / total * len(residual) / n_left).max()))


def _leakage(positions: NDArray[np.floating[Any]], design: NDArray[np.float64], *, curved: bool) -> float:
    """Standard error by how slopes, or curvatures, along each axis differ between overlapping parts of the scan.

    What waves add to a slope falls with the square of the length that it is fitted over, to a curvature with the cube.
    """
    largest = 0.0
    for axis in (1, 2):
        place = design[:, axis]
        low, high = place.min(), place.max()
        fits = []
        for start in _STARTS:
            first = low + start * (high - low)
            use = (place >= first - 1e-9) & (place <= first + _PART * (high - low) + 1e-9)
            terms = [np.ones(use.sum()), design[use, 1], design[use, 2], *([place[use] ** 2] if curved else [])]
            if high > low and use.sum() > 2 * len(terms):
                fit = np.linalg.lstsq(np.column_stack(terms), positions[use], rcond=None)[0]
                fits.append(fit[3] if curved else fit[axis])
        if len(fits) == len(_STARTS):
            spread = float(np.linalg.norm(np.std(fits, axis=0, ddof=1)))
            largest = max(largest, spread * _PART**3 / 4 if curved else spread * _PART**2)
    return largest
