"""The path of the probe in a scan that drifts and flies back, and patterns along it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.interpolate import BSpline

from stemvane.config import ScanConfig

__all__ = ["GridAxis", "ScanPath", "interpolate_patterns"]

Floats = NDArray[np.float32]
Reals = NDArray[np.float64]

_DEGREE = 5
# of the random numbers that displace lines, beside the seed
_LINES = 11
_MARGIN = 6
"""Grid points beyond the outermost probe position. What a spline does at its end falls by 0.43 for each of them."""


class GridAxis(NamedTuple):
    """Positions ``(first + i) · step``, Å, for i below n."""

    first: int
    n: int
    step: float

    def positions(self, margin: int = 0) -> Reals:
        """All positions, and so many more at both ends."""
        return np.asarray(np.arange(self.first - margin, self.first + self.n + margin) * self.step)


@dataclass(frozen=True, eq=False)
class ScanPath:
    """The frames of a scan in the order in which they were recorded.

    Attributes
    ----------
    places : ndarray of float, shape (n, 2)
        Where in the scan the probe was sent, ``(y, x)`` in scan steps; behind the last column while it flies back.
    positions : ndarray of float, shape (n, 2)
        Where on the specimen it was, ``(y, x)`` in Å, in the coordinates of `ScanAtoms`.
    """

    places: Reals
    positions: Reals

    @classmethod
    def of(cls, config: ScanConfig, scan_shape: tuple[int, int], scan_step: tuple[float, float], seed: int) -> ScanPath:
        """Follow the probe line by line; one seed always loses the same frames.

        Parameters
        ----------
        config : ScanConfig
            Distortions.
        scan_shape : tuple of int
            Probe positions ``(y, x)``.
        scan_step : tuple of float
            Scan step ``(y, x)``, Å.
        seed : int
            Random seed.
        """
        n_y, n_x = scan_shape
        # back from behind the last column to the first one, the whole way at constant speed
        back = n_x * (1 - np.arange(1, config.n_flyback + 1) / (config.n_flyback + 1))
        columns = np.concatenate([np.arange(n_x), back])
        rows = np.repeat(np.arange(n_y), len(columns))
        places = np.stack([rows, np.tile(columns, n_y)], axis=1).astype(np.float64)
        positions = places * scan_step
        # the probe lags behind its flyback, and reaches its line exponentially
        lag = config.flyback_distortion * np.exp(-np.arange(n_x) / config.flyback_decay)
        positions[:, 1] += np.tile(np.concatenate([lag, np.zeros(config.n_flyback)]), n_y)
        if config.line_jitter:
            displaced = np.random.default_rng([seed, _LINES]).normal(0, config.line_jitter, n_y)
            positions[:, 1] += np.repeat(displaced, len(columns))
        # where the specimen has drifted by +d, the probe meets what was at −d
        time = np.arange(len(places)) / max(1, len(places) - 1)
        positions -= time[:, None] * np.asarray(config.drift)
        chosen = _recorded_frames(len(places), config, seed)
        return cls(places[chosen], positions[chosen])

    def grid(self, scan_step: tuple[float, float], largest_step: float) -> tuple[GridAxis, GridAxis]:
        """Regular positions that the path can be interpolated from.

        Parameters
        ----------
        scan_step : tuple of float
            Scan step ``(y, x)``, Å; that of the grid is a whole fraction of it.
        largest_step : float
            Largest step of the grid, Å.
        """
        axes = []
        for at, step in zip(self.positions.T, scan_step, strict=True):
            fine = step / math.ceil(step / largest_step - 1e-9)
            first, last = math.floor(at.min() / fine) - _MARGIN, math.ceil(at.max() / fine) + _MARGIN
            axes.append(GridAxis(first, last + 1 - first, fine))
        return axes[0], axes[1]

    def fold(self, values: NDArray[Any], scan_shape: tuple[int, int]) -> NDArray[Any]:
        """Fold what belongs to frames into a scan, as a reader does that trusts the number of frames.

        Parameters
        ----------
        values : ndarray, shape (n, ...)
            One for each frame.
        scan_shape : tuple of int
            Shape of the scan.

        Returns
        -------
        ndarray, shape (*scan_shape, ...)
            Frames that are too many are cut off at the end; where frames lack, reals are NaN, other numbers 0.
        """
        n = scan_shape[0] * scan_shape[1]
        if len(values) >= n:
            return values[:n].reshape(*scan_shape, *values.shape[1:])
        folded = np.full((n, *values.shape[1:]), np.nan if values.dtype == np.float64 else 0, values.dtype)
        folded[: len(values)] = values
        return folded.reshape(*scan_shape, *values.shape[1:])


def _recorded_frames(n: int, config: ScanConfig, seed: int) -> NDArray[np.int64]:
    """Indices of the frames that are recorded, in order: some twice, some not at all."""
    rng = np.random.default_rng([seed, 5])
    repeats = np.ones(n, np.int64)
    order = rng.permutation(n)
    repeats[order[: config.n_lost]] = 0
    repeats[order[config.n_lost : config.n_lost + config.n_extra]] = 2
    return np.repeat(np.arange(n), repeats)


def interpolate_patterns(patterns: Floats, grid: tuple[GridAxis, GridAxis], positions: Reals) -> Floats:
    """Interpolate patterns between the positions of a regular grid.

    The intensity in any pixel has no finer structure along the scan than twice the aperture does, so a spline through
    at least four samples in its period finds it; the finest structure to 0.3 %.

    Parameters
    ----------
    patterns : ndarray of float, shape (grid_y, grid_x, k_y, k_x)
        Patterns on the grid.
    grid : tuple of GridAxis
        Its axes ``(y, x)``, as `ScanPath.grid` gives them.
    positions : ndarray of float, shape (n, 2)
        Positions ``(y, x)``, Å.

    Returns
    -------
    ndarray of float, shape (n, k_y, k_x)
    """
    coefficients = patterns
    for axis in (0, 1):
        coefficients = ndimage.spline_filter1d(coefficients, _DEGREE, axis, np.float32)
    rows, columns = (_spline_weights(axis, at) for axis, at in zip(grid, positions.T, strict=True))
    taps, n_y, n_x = _DEGREE + 1, grid[0].n, grid[1].n
    weights = (rows[1][:, :, None] * columns[1][:, None, :]).reshape(-1)
    indices = (rows[0][:, :, None] * n_x + columns[0][:, None, :]).reshape(-1)
    ends = np.arange(len(positions) + 1) * taps**2
    matrix = sparse.csr_array((weights.astype(np.float32), indices, ends), (len(positions), n_y * n_x))
    values: Floats = matrix @ coefficients.reshape(n_y * n_x, -1)
    # a spline may overshoot a little where there are hardly any electrons
    np.maximum(values, 0, out=values)
    return values.reshape(len(positions), *patterns.shape[2:])


def _spline_weights(axis: GridAxis, at: Reals) -> tuple[NDArray[np.int64], Reals]:
    """Index and weight of the splines that reach each position, both of shape ``(n, degree + 1)``."""
    knots = np.arange(axis.n + _DEGREE + 1) - (_DEGREE + 1) / 2
    matrix = BSpline.design_matrix(at / axis.step - axis.first, knots, _DEGREE)
    return matrix.indices.reshape(len(at), -1).astype(np.int64), matrix.data.reshape(len(at), -1)
