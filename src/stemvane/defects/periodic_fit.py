"""What the pristine lattice says should be recorded at every probe position: a Fourier series fitted to the scan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.defects.lattice import Distortion, Lattice
from stemvane.defects.numerics import median_and_spread
from stemvane.defects.sampling import Sampling
from stemvane.geometry.smoothing import gaussian_mean

__all__ = ["PeriodicFit", "PeriodicSeries", "fit_periodic"]

_Floats = NDArray[np.floating[Any]]

# 8192 positions at a time bound the memory
_BLOCK = 8192
# 4 rounds, after which what is left out hardly changes; without any a sheet with six defects is the same, so that they
# are there for distorted ones, `pytest tests/test_lattice.py -k follow`
_ROUNDS = 4
# 0.8 Å, half a bond: over this the residual power is averaged; 3 deviations above the median are left out, with 1.5 the
# pristine part is left out, too; `pytest tests/test_lattice.py -k follow`
_AROUND, _OUTLYING = 0.8, 3.0
# 40,000 positions say enough of a polynomial, and bound the time
_MOST_POSITIONS = 40_000
# 0.3: share of the power beyond that of noise that a distortion must explain, since defects strain the lattice too, and
# beyond 0.02 of the power itself, since noise is not known better; at 3,000 electrons nothing changes without;
# `python -m benchmarks.defects.constants`
_WORTH_CURVING, _LEAST_EXCESS = 0.3, 0.02


@dataclass(frozen=True, eq=False)
class PeriodicSeries:
    """Fourier series of several channels on a lattice.

    Attributes
    ----------
    lattice : Lattice
        Lattice with its distortion.
    orders : ndarray of int, shape (n_orders, 2)
        Diffraction orders (h, k), one of each pair of opposite ones.
    coefficients : ndarray of float, shape (1 + 2 n_orders, n_channels)
        Mean, cosines and sines.
    """

    lattice: Lattice
    orders: NDArray[np.int64]
    coefficients: _Floats

    def at(self, points: _Floats) -> NDArray[np.float64]:
        """Values at positions ``(y, x)`` in Å of the scan, shape ``(n_points, n_channels)``."""
        return np.asarray(_design(self.lattice, self.orders, points) @ self.coefficients)

    def variation(self, points: _Floats) -> NDArray[np.float64]:
        """Values less their mean over the cell, shape ``(n_points, n_channels)``."""
        return np.asarray(_design(self.lattice, self.orders, points)[:, 1:] @ self.coefficients[1:])

    def slopes(self, points: _Floats) -> NDArray[np.float64]:
        """Derivatives along y and x, shape ``(2, n_points, n_channels)``."""
        wave = 2 * np.pi * self.orders @ self.lattice.reciprocal
        phase = self.lattice.straight(points) @ wave.T
        cosine, sine = np.split(self.coefficients[1:], 2)
        return np.stack([(np.cos(phase) * k) @ sine - (np.sin(phase) * k) @ cosine for k in wave.T])


@dataclass(frozen=True, eq=False)
class PeriodicFit:
    """A series, and where in the scan it was taken from.

    Attributes
    ----------
    series : PeriodicSeries
        What the pristine lattice says.
    residual : ndarray of float, shape (scan_y, scan_x, n_channels)
        What was recorded less what the series says; 0 where nothing was recorded.
    pristine : ndarray of bool, shape (scan_y, scan_x)
        Positions that the series was fitted to.
    """

    series: PeriodicSeries
    residual: NDArray[np.float64]
    pristine: NDArray[np.bool_]


def fit_periodic(
    lattice: Lattice,
    values: _Floats,
    sampling: Sampling,
    *,
    judged_by: slice = slice(None),
    degree: int = 3,
) -> PeriodicFit:
    """Fit lattice, distortion and Fourier series together, and leave out positions that do not follow.

    Parameters
    ----------
    lattice : Lattice
        Lattice without distortion, as `find_lattice` gives it.
    values : ndarray of float, shape (scan_y, scan_x, n_channels)
        Maps; those in `judged_by` in units of their noise, so that their squares can be added.
    sampling : Sampling
        Where the maps were recorded, and the highest spatial frequency of the series.
    judged_by : slice
        Channels that distortion and outliers are found from.
    degree : int
        Highest degree of the distortion; 1 where a higher one explains little.

    Returns
    -------
    PeriodicFit

    Notes
    -----
    A distortion is kept where it explains much of what a lattice without one leaves, beyond the noise. Where a pattern
    was recorded at r, the series is taken at ``r - u(r)``. A small change of u changes the series by
    ``-u · grad``, so u follows from least squares over all channels and positions (Gauss–Newton). The fit begins in the
    middle of the scan and grows outwards, so that u may become larger than the cell.
    """
    points = sampling.points
    rows = values.reshape(len(points), -1)
    use = sampling.recorded.ravel()
    orders = lattice.orders(sampling.highest)
    judged = rows[:, judged_by]
    straight = _grown(lattice, orders, points[use], judged[use], 1)
    lattice = straight if degree < 2 else _grown(lattice, orders, points[use], judged[use], degree)
    if degree > 1:
        plain, curved = (_usual_power(option, orders, points[use], judged[use]) for option in (straight, lattice))
        # defects strain the lattice around them, which is no distortion of the scan
        if plain - curved < _WORTH_CURVING * max(plain - judged.shape[1], _LEAST_EXCESS * plain):
            lattice, degree = straight, 1
    for number in range(_ROUNDS):
        if number:
            lattice = _straighten(lattice, orders, points[use], rows[use][:, judged_by], degree)
        series = PeriodicSeries(lattice, orders, _coefficients(lattice, orders, points[use], rows[use]))
        residual = np.zeros_like(rows)
        for part in _blocks(len(rows)):
            residual[part] = (rows[part] - series.at(points[part])) * sampling.recorded.ravel()[part, None]
        follows = _follow(residual[:, judged_by], sampling)
        if np.array_equal(follows, use):
            break
        use = follows
    return PeriodicFit(series, np.asarray(residual.reshape(values.shape), np.float64), use.reshape(sampling.shape))


def _grown(lattice: Lattice, orders: NDArray[np.int64], points: _Floats, rows: _Floats, degree: int) -> Lattice:
    """Lattice and distortion fitted to the middle of the scan first, then to more and more of it."""
    # over the middle third a distortion is nearly a strain, over the middle half nearly of degree 2
    for share, most in ((0.35, 1), (0.6, min(degree, 2)), (1.0, degree), (1.0, degree)):
        inside = np.abs(points - lattice.distortion.centre) <= share * lattice.distortion.half + 1e-9
        part = inside.all(axis=1)
        lattice = _straighten(lattice, orders, points[part], rows[part], most)
    return lattice


def _usual_power(lattice: Lattice, orders: NDArray[np.int64], points: _Floats, rows: _Floats) -> float:
    """Median over the positions of the squared length of what a series on the lattice leaves."""
    stride = max(1, len(points) // _MOST_POSITIONS)
    points, rows = points[::stride], rows[::stride]
    series = PeriodicSeries(lattice, orders, _coefficients(lattice, orders, points, rows))
    return float(np.median(((rows - series.at(points)) ** 2).sum(axis=1)))


def _blocks(n: int) -> list[slice]:
    return [slice(i, min(i + _BLOCK, n)) for i in range(0, n, _BLOCK)]


def _design(lattice: Lattice, orders: NDArray[np.int64], points: _Floats) -> NDArray[np.float64]:
    phase = 2 * np.pi * lattice.straight(points) @ (orders @ lattice.reciprocal).T
    return np.concatenate([np.ones((len(points), 1)), np.cos(phase), np.sin(phase)], axis=1)


def _coefficients(lattice: Lattice, orders: NDArray[np.int64], points: _Floats, rows: _Floats) -> NDArray[np.float64]:
    n = 1 + 2 * len(orders)
    square, right = np.zeros((n, n)), np.zeros((n, rows.shape[1]))
    for part in _blocks(len(points)):
        design = _design(lattice, orders, points[part])
        square += design.T @ design
        right += design.T @ rows[part]
    # frequencies that the scan cannot tell apart share what there is
    return np.asarray(np.linalg.lstsq(square, right, rcond=1e-9)[0])


def _straighten(lattice: Lattice, orders: NDArray[np.int64], points: _Floats, rows: _Floats, degree: int) -> Lattice:
    """Lattice whose vectors and distortion fit better, by two Gauss–Newton steps."""
    stride = max(1, len(points) // _MOST_POSITIONS)
    points, rows = points[::stride], rows[::stride]
    for _ in range(2):
        series = PeriodicSeries(lattice, orders, _coefficients(lattice, orders, points, rows))
        distortion = lattice.distortion
        terms = distortion.terms(degree, least=1)
        n = len(terms)
        square, right = np.zeros((2 * n, 2 * n)), np.zeros(2 * n)
        for part in _blocks(len(points)):
            missed = rows[part] - series.at(points[part])
            slope_y, slope_x = series.slopes(points[part])
            shape = distortion.polynomials(points[part], degree, least=1)
            pairs = [(slope_y * slope_y).sum(1), (slope_y * slope_x).sum(1), (slope_x * slope_x).sum(1)]
            yy, yx, xx = (shape.T @ (shape * pair[:, None]) for pair in pairs)
            square += np.block([[yy, yx], [yx.T, xx]])
            right -= np.concatenate([shape.T @ (slope * missed).sum(1) for slope in (slope_y, slope_x)])
        moved = np.linalg.lstsq(square, right, rcond=1e-9)[0].reshape(2, n).T
        lattice = _move(lattice, moved, degree)
    return lattice


def _move(lattice: Lattice, moved: _Floats, degree: int) -> Lattice:
    """Lattice after a further displacement, whose linear part goes into the vectors."""
    distortion = lattice.distortion
    # the terms of first degree come first, that of x before that of y; those of a lower degree before those of a higher
    strain = moved[1::-1] / distortion.half[:, None]
    # what lies at r came from r - r·strain, so the cell is larger by the strain
    vectors = lattice.vectors @ np.linalg.inv(np.eye(2) - strain)
    degree = max(degree, distortion.degree)
    curved = np.zeros((len(Distortion.terms(degree)), 2))
    curved[: len(distortion.coefficients)] = distortion.coefficients
    curved[: len(moved) - 2] += moved[2:]
    return replace(lattice, vectors=vectors, distortion=replace(distortion, degree=degree, coefficients=curved))


def _follow(residual: _Floats, sampling: Sampling) -> NDArray[np.bool_]:
    """Positions around which the residual has no more power than is usual in this scan."""
    power = sampling.as_map((residual**2).sum(axis=1))
    smooth = gaussian_mean(power, sampling.recorded, sampling.sigma(_AROUND))
    median, spread = median_and_spread(smooth[sampling.recorded])
    return np.asarray((sampling.recorded & (smooth <= median + _OUTLYING * spread)).ravel())
