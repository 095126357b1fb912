"""Compiled sums over neighbouring probe positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

__all__ = ["weighted_neighbours"]


@njit(parallel=True, cache=True, fastmath=True)
def weighted_neighbours(
    features: NDArray[Any], kind: NDArray[Any], weights: NDArray[Any], top: int, out: NDArray[Any]
) -> None:  # pragma: no cover - compiled
    """Sum the features of a window around every position, each with its weight.

    Parameters
    ----------
    features : ndarray of complex64, shape (n_rows, n_columns, n_features)
        Rows of the scan, with those that the windows reach into.
    kind : ndarray of int32, shape (n_out, n_columns)
        Which weights each position takes; below 0 where there is nothing to do.
    weights : ndarray of float32, shape (n_kinds, side, side, n_features)
        0 where a window has no neighbour.
    top : int
        Row of `features` that the first row of the result belongs to.
    out : ndarray of complex64, shape (n_out, n_columns, n_features)
        Where the sums are written.
    """
    n_rows, n_columns, n_features = features.shape
    side = weights.shape[1]
    reach = side // 2
    for row in prange(len(kind)):
        for column in range(n_columns):
            which = kind[row, column]
            out[row, column] = 0
            if which < 0:
                continue
            for j in range(side):
                y = top + row + j - reach
                if y < 0 or y >= n_rows:
                    continue
                for i in range(side):
                    x = column + i - reach
                    if x < 0 or x >= n_columns:
                        continue
                    for k in range(n_features):
                        out[row, column, k] += np.complex64(weights[which, j, i, k]) * features[y, x, k]
