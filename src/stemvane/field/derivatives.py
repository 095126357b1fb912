"""Vector fields on the scan: rotation, gradient, divergence and curl."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.errors import DataError

__all__ = ["curl", "divergence", "gradient", "rotate_vectors", "subtract_plane", "wave_numbers"]

_Floats = NDArray[np.floating[Any]]


def rotate_vectors(field: _Floats, angle: float, *, flipped: bool = False) -> NDArray[np.float64]:
    """Rotate the vectors of a field, each where it stands.

    Parameters
    ----------
    field : ndarray of float, shape (..., 2)
        Vectors ``(y, x)``, y growing downwards.
    angle : float
        Angle in rad, counter-clockwise on the screen; ``Calibration.scan_rotation`` takes a deflection from the
        detector into the scan.
    flipped : bool
        Whether y changes its sign before the vectors are rotated.

    Returns
    -------
    ndarray of float, shape (..., 2)
        The rotated vectors.
    """
    down, right = -field[..., 0] if flipped else field[..., 0], field[..., 1]
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([down * cosine - right * sine, right * cosine + down * sine], axis=-1)


def gradient(image: _Floats, step: tuple[float, float] = (1.0, 1.0), *, periodic: bool = True) -> NDArray[np.float64]:
    """Gradient of an image.

    Parameters
    ----------
    image : ndarray of float, shape (scan_y, scan_x)
        Scalar map.
    step : tuple of float
        Distance of neighbouring positions ``(y, x)``.
    periodic : bool
        Whether the image repeats beyond its edges, as a simulated cell does and a recorded scan does not.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x, 2)
        Derivatives ``(y, x)``, y growing downwards. Periodic: by Fourier differentiation; the Nyquist frequency of an
        even axis, whose derivative is not defined, is left out. Otherwise by central differences of fourth order, of
        second order in the two outermost positions.

    Raises
    ------
    DataError
        If the image is not two-dimensional, or has fewer than three positions along an axis and is not periodic.
    """
    if image.ndim != 2:
        raise DataError(f"a gradient needs a map of two axes (scan_y, scan_x), not of shape {image.shape}")
    if not periodic:
        return np.stack([_differences(image, axis, step[axis]) for axis in (0, 1)], axis=-1)
    spectrum = np.fft.fft2(image)
    parts = [np.fft.ifft2(1j * k * spectrum).real for k in wave_numbers((image.shape[0], image.shape[1]), step)]
    return np.stack(parts, axis=-1)


def divergence(field: _Floats, step: tuple[float, float] = (1.0, 1.0), *, periodic: bool = True) -> NDArray[np.float64]:
    """Divergence of a field of shape ``(scan_y, scan_x, 2)``; negative where the vectors point inwards.

    `step` and `periodic` are those of `gradient`.
    """
    down, right = (gradient(field[..., axis], step, periodic=periodic)[..., axis] for axis in (0, 1))
    return np.asarray(down + right)


def curl(field: _Floats, step: tuple[float, float] = (1.0, 1.0), *, periodic: bool = True) -> NDArray[np.float64]:
    """Curl of a field, shape ``(scan_y, scan_x)``; positive where it circulates counter-clockwise on the screen.

    `step` and `periodic` are those of `gradient`.
    """
    across, along = (gradient(field[..., axis], step, periodic=periodic)[..., 1 - axis] for axis in (0, 1))
    return np.asarray(along - across)


def subtract_plane(maps: _Floats) -> NDArray[np.float64]:
    """Subtract the plane that fits best from each of the maps, shape ``(scan_y, scan_x, n)``; NaN is not fitted."""
    values = np.asarray(maps, np.float64)
    rows, columns = np.indices(values.shape[:2], dtype=float)
    design = np.stack([np.ones_like(rows), rows - rows.mean(), columns - columns.mean()], axis=-1)
    use = np.isfinite(values).all(axis=-1)
    if not use.any():
        return values
    return np.asarray(values - design @ np.linalg.lstsq(design[use], values[use], rcond=None)[0])


def wave_numbers(shape: tuple[int, int], step: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angular wave numbers of a discrete Fourier transform, shapes ``(n_y, 1)`` and ``(1, n_x)``; Nyquist's are 0."""
    k_y, k_x = (2 * np.pi * np.fft.fftfreq(n, d) for n, d in zip(shape, step, strict=True))
    for k in (k_y, k_x):
        if len(k) % 2 == 0:
            k[len(k) // 2] = 0.0
    return np.asarray(k_y[:, None], np.float64), np.asarray(k_x[None, :], np.float64)


def _differences(image: _Floats, axis: int, step: float) -> NDArray[np.float64]:
    values = np.moveaxis(np.asarray(image, np.float64), axis, 0)
    if len(values) < 3:
        raise DataError(f"a gradient needs at least 3 positions along each axis, not a map of shape {image.shape}")
    slope = np.gradient(values, step, axis=0, edge_order=2)
    if len(values) > 4:
        slope[2:-2] = (8 * (values[3:-1] - values[1:-3]) - (values[4:] - values[:-4])) / (12 * step)
    return np.moveaxis(slope, 0, axis)
