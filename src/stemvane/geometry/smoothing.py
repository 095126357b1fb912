"""Means over the neighbours of every probe position, of those that were recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["gaussian_mean"]


def gaussian_mean(
    values: NDArray[Any], recorded: NDArray[np.bool_], sigma: float | Sequence[float]
) -> NDArray[np.float64]:
    """Mean around every position, weighted by a Gaussian, over the recorded positions alone.

    Parameters
    ----------
    values : ndarray, shape (scan_y, scan_x)
        A map; what stands in its gaps has no influence.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        True where the map has a value.
    sigma : float or sequence of float
        Standard deviation of the weights in positions, one for both axes or ``(y, x)``.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x)
    """
    weight = ndimage.gaussian_filter(recorded.astype(float), sigma, mode="constant")
    summed = ndimage.gaussian_filter(np.where(recorded, values, 0.0).astype(float), sigma, mode="constant")
    return np.asarray(summed / np.maximum(weight, 1e-9))
