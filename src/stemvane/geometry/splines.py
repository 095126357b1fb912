"""Cubic splines through the pixels of a pattern, looked up between them."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["rotated_about"]

# beyond so many pixels the spline of a pattern that ends has no more than rounding of it
_PAD = 12


def rotated_about(
    content: NDArray[np.float64],
    angle: float,
    places: NDArray[np.float64],
    back: NDArray[np.float64],
    axis: tuple[float, float],
) -> NDArray[np.float64]:
    """Rotate a pattern that is 0 beyond its pixels, with cubic splines.

    Parameters
    ----------
    content : ndarray of float, shape (k_y, k_x)
        The pattern.
    angle : float
        In rad, counter-clockwise on the screen.
    places : ndarray of float, shape (2, k_y, k_x)
        Where pixels lie to the right of the axis and up, in a plane without distortion.
    back : ndarray of float, shape (2, 2)
        Takes such places to columns to the right and rows up.
    axis : tuple of float
        Pixel ``(y, x)`` about which it is rotated.

    Returns
    -------
    ndarray of float, shape (k_y, k_x)
    """
    spline = ndimage.spline_filter(np.pad(content, _PAD), order=3, output=np.float64, mode="grid-constant")
    out = np.empty_like(content)
    axis_y, axis_x = (float(middle + _PAD) for middle in axis)
    _look_up(spline, np.cos(angle), np.sin(angle), places, back, axis_y, axis_x, out)
    return out


@numba.njit(nogil=True, cache=True)
def _look_up(
    spline: NDArray[np.float64],
    cosine: float,
    sine: float,
    places: NDArray[np.float64],
    back: NDArray[np.float64],
    axis_y: float,
    axis_x: float,
    out: NDArray[np.float64],
) -> None:
    rows, columns = spline.shape
    along_y, along_x = np.empty(4), np.empty(4)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            right, up = places[0, i, j], places[1, i, j]
            from_right, from_up = right * cosine + up * sine, up * cosine - right * sine
            y = axis_y - (back[1, 0] * from_right + back[1, 1] * from_up)
            x = axis_x + back[0, 0] * from_right + back[0, 1] * from_up
            top, left = int(np.floor(y)), int(np.floor(x))
            _weights(y - top, along_y)
            _weights(x - left, along_x)
            total = 0.0
            for a in range(4):
                row = top - 1 + a
                if 0 <= row < rows:
                    for b in range(4):
                        column = left - 1 + b
                        if 0 <= column < columns:
                            total += along_y[a] * along_x[b] * spline[row, column]
            out[i, j] = total


@numba.njit(cache=True)
def _weights(t: float, weights: NDArray[np.float64]) -> None:
    """Cubic B-spline at the four nearest knots, `t` beyond the second of them."""
    s = 1 - t
    weights[0] = s**3 / 6
    weights[1] = 2 / 3 - t**2 * (1 - t / 2)
    weights[2] = 2 / 3 - s**2 * (1 - s / 2)
    weights[3] = t**3 / 6
