"""Vector fields on the scan: gradient, divergence, curl and integration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.errors import DataError

__all__ = ["curl", "divergence", "gradient", "integrate"]

_Floats = NDArray[np.floating[Any]]


def gradient(image: _Floats, step: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """Gradient of a periodic image.

    Parameters
    ----------
    image : ndarray of float, shape (scan_y, scan_x)
        Scalar map.
    step : tuple of float
        Distance of neighbouring positions ``(y, x)``.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x, 2)
        Derivatives ``(y, x)``, y growing downwards, by Fourier differentiation; the Nyquist frequency of an even axis,
        whose derivative is not defined, is left out.

    Raises
    ------
    DataError
        If the image is not two-dimensional.
    """
    if image.ndim != 2:
        raise DataError(f"a gradient needs a map of two axes (scan_y, scan_x), not of shape {image.shape}")
    spectrum = np.fft.fft2(image)
    parts = [np.fft.ifft2(1j * k * spectrum).real for k in _wave_numbers((image.shape[0], image.shape[1]), step)]
    return np.stack(parts, axis=-1)


def divergence(field: _Floats, step: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """Divergence of a periodic field of shape ``(scan_y, scan_x, 2)``; negative where the vectors point inwards."""
    return np.asarray(gradient(field[..., 0], step)[..., 0] + gradient(field[..., 1], step)[..., 1])


def curl(field: _Floats, step: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """Curl of a periodic field, shape ``(scan_y, scan_x)``; positive where it turns counter-clockwise on the screen."""
    return np.asarray(gradient(field[..., 0], step)[..., 1] * -1 + gradient(field[..., 1], step)[..., 0])


def integrate(field: _Floats, step: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """Scalar map whose gradient fits a periodic field best, in the sense of least squares.

    Parameters
    ----------
    field : ndarray of float, shape (scan_y, scan_x, 2)
        Vectors ``(y, x)``.
    step : tuple of float
        Distance of neighbouring positions ``(y, x)``.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x)
        Mean 0; the inverse of `gradient` for images of mean 0 without a Nyquist frequency.

    Raises
    ------
    DataError
        If the field does not have the shape of one.

    Notes
    -----
    In Fourier space ``φ = -i k·F / k²``; Lazić, Bosch & Lazar, Ultramicroscopy 160, 265 (2016).
    """
    if field.ndim != 3 or field.shape[2] != 2:
        raise DataError(f"a field has the shape (scan_y, scan_x, 2), not {field.shape}")
    k_y, k_x = _wave_numbers((field.shape[0], field.shape[1]), step)
    square = k_y**2 + k_x**2
    along = k_y * np.fft.fft2(field[..., 0]) + k_x * np.fft.fft2(field[..., 1])
    spectrum = np.where(square > 0, -1j * along / np.where(square > 0, square, 1.0), 0.0)
    return np.asarray(np.fft.ifft2(spectrum).real)


def _wave_numbers(shape: tuple[int, int], step: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    k_y, k_x = (2 * np.pi * np.fft.fftfreq(n, d) for n, d in zip(shape, step, strict=True))
    for k in (k_y, k_x):
        if len(k) % 2 == 0:
            k[len(k) // 2] = 0.0
    return np.asarray(k_y[:, None], np.float64), np.asarray(k_x[None, :], np.float64)
