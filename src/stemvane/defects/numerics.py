"""What several steps of the search need: robust spreads, projections, shifts that do not count, and bisection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["as_real", "bisect", "median_and_spread", "misfit_beyond_shift", "robust_scale", "without_directions"]

_Floats = NDArray[np.floating[Any]]

# 0.91126 is the variance of a standard normal number within 2.5 standard deviations; the median deviation alone is so
# noisy that one defect of six at 10,000 electrons is lost; `python -m benchmarks.defects.constants`
_CLIPPED, _CLIPPED_VARIANCE, _CLIPPINGS = 2.5, 0.91126, 4


def median_and_spread(values: _Floats) -> tuple[float, float]:
    """Median, and the standard deviation that the median absolute deviation of a normal distribution tells."""
    return float(np.median(values)), float(stats.median_abs_deviation(values, axis=None, scale="normal"))


def robust_scale(values: _Floats) -> NDArray[np.float64]:
    """Standard deviation of each column about 0, which a few outliers hardly move.

    Parameters
    ----------
    values : ndarray of float, shape (n, n_columns)
        NaN is left out.

    Returns
    -------
    ndarray of float, shape (n_columns,)

    Notes
    -----
    The median absolute deviation is the start; then the standard deviation of what lies within 2.5 of it, times what a
    normal distribution loses by that, four times over.
    """
    if not len(values):
        return np.ones(values.shape[1])
    size = np.abs(values)
    scale = np.nanmedian(size, axis=0) / stats.norm.ppf(0.75)
    for _ in range(_CLIPPINGS):
        clipped = np.where(size <= _CLIPPED * scale, size**2, np.nan)
        scale = np.where(scale > 0, np.sqrt(np.nanmean(clipped, axis=0) / _CLIPPED_VARIANCE), scale)
    return np.asarray(np.maximum(np.nan_to_num(scale, nan=1.0), 1e-12))


def as_real(values: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Real parts, then imaginary parts, along the last axis."""
    return np.concatenate([values.real, values.imag], axis=-1)


def without_directions(values: _Floats, directions: _Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors less their components along some directions.

    Parameters
    ----------
    values : ndarray of float, shape (..., n, n_terms)
        The vectors.
    directions : ndarray of float, shape (..., n_directions, n_terms)
        Directions, which need not be orthogonal.

    Returns
    -------
    ndarray of float
        Values without these directions, of the same shape.
    ndarray of float, shape (..., n_terms, n_directions)
        An orthonormal basis of the directions, in columns.
    """
    basis = np.linalg.qr(np.swapaxes(directions, -2, -1))[0]
    return values - values @ basis @ np.swapaxes(basis, -2, -1), basis


def misfit_beyond_shift(
    difference: _Floats, shifts: _Floats, deviation: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """χ² of differences after a small shift of unknown size, with a normal prior, has been taken out of them.

    Parameters
    ----------
    difference : ndarray of float, shape (n, m, n_terms)
        Differences in units of their noise.
    shifts : ndarray of float, shape (n, 2, n_terms)
        Change of the differences per Å along y and x.
    deviation : float
        Standard deviation of the shift along each axis in Å.

    Returns
    -------
    squared : ndarray of float, shape (n, m)
        ``dᵀ (1 + σ² S Sᵀ)⁻¹ d``, by Woodbury's identity.
    rest : ndarray of float, shape (n, m, n_terms)
        The differences less what the likeliest shift explains.
    """
    along = np.einsum("nmr,nar->nma", difference, shifts)
    inner = shifts @ np.swapaxes(shifts, 1, 2) + np.eye(2) / deviation**2
    likeliest = np.linalg.solve(inner[:, None], along[..., None])[..., 0]
    return (difference**2).sum(axis=-1) - (along * likeliest).sum(axis=-1), difference - likeliest @ shifts


def bisect(
    is_above: Callable[[_Floats], NDArray[np.bool_]], low: _Floats, high: _Floats, n_steps: int = 80
) -> NDArray[np.float64]:
    """Places between bounds at which monotonic functions change from not above to above, all side by side."""
    for _ in range(n_steps):
        middle = (low + high) / 2
        above = is_above(middle)
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.asarray((low + high) / 2)
