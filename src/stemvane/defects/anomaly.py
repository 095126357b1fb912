"""How far the patterns around every probe position depart from the pristine lattice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.defects.numerics import median_and_spread
from stemvane.defects.sampling import Sampling

__all__ = ["anomaly_map"]


def anomaly_map(
    residual: NDArray[np.complexfloating[Any, Any]], sampling: Sampling, width: float
) -> NDArray[np.float64]:
    """Power of the residual around every position, in standard deviations from what is usual in this scan.

    Parameters
    ----------
    residual : ndarray of complex, shape (scan_y, scan_x, n_features)
        Features less those of the pristine lattice, in units of their noise.
    sampling : Sampling
        Probe positions.
    width : float
        Å, standard deviation of the Gaussian over which the residual is averaged.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x)
        NaN where nothing was recorded.
    """
    recorded, sigma = sampling.recorded, sampling.sigma(width)
    power = np.zeros(recorded.shape)
    for part in (residual.real, residual.imag):
        power += (ndimage.gaussian_filter(part, sigma, axes=(0, 1), mode="constant") ** 2).sum(axis=-1)
    # the variance of such a mean is that of the squared weights, a Gaussian narrower by √2, of the recorded positions
    averaged = ndimage.gaussian_filter(recorded.astype(float), [s / np.sqrt(2) for s in sigma], mode="constant")
    power /= np.maximum(averaged, 1e-9)
    median, spread = median_and_spread(power[recorded])
    return np.where(recorded, (power - median) / max(spread, 1e-30), np.nan)
