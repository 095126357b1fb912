"""From a field to the scalar map whose gradient it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stemvane.data.arguments import require_array
from stemvane.errors import DataError
from stemvane.field.derivatives import wave_numbers

__all__ = ["integrate"]

_CURE = "give measured.deflection, where measured = measure(scan), or call field_maps(measured)"

_Floats = NDArray[np.floating[Any]]


def integrate(field: _Floats, step: tuple[float, float] = (1.0, 1.0), *, periodic: bool = True) -> NDArray[np.float64]:
    """Scalar map whose gradient fits a field best, in the sense of least squares.

    Parameters
    ----------
    field : ndarray of float, shape (scan_y, scan_x, 2)
        Vectors ``(y, x)``, all finite.
    step : tuple of float
        Distance of neighbouring positions ``(y, x)``.
    periodic : bool
        Whether the field repeats beyond its edges. A recorded scan does not: taken for periodic, its map bends
        towards the opposite edge.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x)
        Mean 0. Periodic: the inverse of `gradient` for images of mean 0 without a Nyquist frequency.

    Raises
    ------
    DataError
        If the field does not have the shape of one.

    Notes
    -----
    Periodic: in Fourier space ``φ = -i k·F / k²``; Lazić, Bosch & Lazar, Ultramicroscopy 160, 265 (2016).

    Otherwise the steps of φ between neighbours are fitted to the field's integral from one to the next, which is that
    of the cubic through the four nearest positions (Li, Li, Liu, Ma & Wang, J. Opt. Soc. Am. A 30, 1448 (2013)). The
    least squares are solved in one cosine transform: φ is mirrored at the edges, and so the component of the field
    across an edge is mirrored with the opposite sign.
    """
    require_array(field, "integrate", "a field of shape (scan_y, scan_x, 2)", _CURE)
    if field.ndim != 3 or field.shape[2] != 2:
        raise DataError(f"a field has the shape (scan_y, scan_x, 2), not {field.shape}")
    return _periodic(field, step) if periodic else _bound(np.asarray(field, np.float64), step)


def _periodic(field: _Floats, step: tuple[float, float]) -> NDArray[np.float64]:
    k_y, k_x = wave_numbers((field.shape[0], field.shape[1]), step)
    square = k_y**2 + k_x**2
    along = k_y * np.fft.fft2(field[..., 0]) + k_x * np.fft.fft2(field[..., 1])
    spectrum = np.where(square > 0, -1j * along / np.where(square > 0, square, 1.0), 0.0)
    return np.asarray(np.fft.ifft2(spectrum).real)


def _bound(field: NDArray[np.float64], step: tuple[float, float]) -> NDArray[np.float64]:
    shape = field.shape[:2]
    source = np.zeros(shape)
    for axis in (0, 1):
        between = np.moveaxis(_between(field[..., axis], axis), axis, 0) / step[axis]
        part = np.moveaxis(source, axis, 0)
        part[:-1] += between
        part[1:] -= between
    stiffness = [4 * np.sin(np.pi * np.arange(n) / (2 * n)) ** 2 / d**2 for n, d in zip(shape, step, strict=True)]
    square = stiffness[0][:, None] + stiffness[1]
    square[0, 0] = 1.0
    spectrum = -fft.dctn(source, norm="ortho") / square
    spectrum[0, 0] = 0.0
    return np.asarray(fft.idctn(spectrum, norm="ortho"))


def _between(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of a function from each position to the next, by the cubic through the four nearest positions."""
    f = np.moveaxis(values, axis, 0)
    mean = (f[1:] + f[:-1]) / 2
    if len(f) > 3:
        mean[1:-1] = (13 * (f[1:-2] + f[2:-1]) - f[:-3] - f[3:]) / 24
        mean[0] = (9 * f[0] + 19 * f[1] - 5 * f[2] + f[3]) / 24
        mean[-1] = (9 * f[-1] + 19 * f[-2] - 5 * f[-3] + f[-4]) / 24
    return np.moveaxis(mean, 0, axis)
