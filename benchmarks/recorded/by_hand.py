"""The rival: a centre of mass prepared by hand in a few lines of NumPy, as it is and filtered in rings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["filter_in_rings", "prepared_com"]

_Floats = NDArray[np.floating[Any]]

# over the radius of the disc
_EDGE = 1.2


def prepared_com(patterns: NDArray[Any], dark: _Floats, bad_pixels: NDArray[np.bool_], disc_radius: float) -> _Floats:
    """Centre of mass of a scan, less its plane.

    The dark frame is subtracted, bad pixels are 0, and pixels beyond 1.2 disc radii from the detector's middle are left
    out.

    Parameters
    ----------
    patterns : ndarray, shape (scan_y, scan_x, k_y, k_x)
        Patterns as recorded.
    dark : ndarray of float, shape (k_y, k_x)
        Dark frame.
    bad_pixels : ndarray of bool, shape (k_y, k_x)
        True where a pixel does not count.
    disc_radius : float
        Radius of the disc, pixels.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x, 2)
        ``(y, x)`` in pixels.
    """
    y, x = np.indices(dark.shape) - (np.array(dark.shape)[:, None, None] - 1) / 2
    use = (np.hypot(y, x) < _EDGE * disc_radius) & ~bad_pixels
    weights = np.stack([use, use * y, use * x]).astype(float)
    sums = np.array([np.tensordot(row - dark, weights, axes=([1, 2], [1, 2])) for row in patterns])
    com = sums[..., 1:] / sums[..., :1]
    places = np.indices(com.shape[:2]).reshape(2, -1).T
    design = np.column_stack([np.ones(len(places)), places])
    flat = com.reshape(-1, 2)
    return np.asarray((flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]).reshape(com.shape))


def filter_in_rings(com: _Floats, step: float, band_limit: float) -> _Floats:
    """Wiener filter of the centre of mass, with one weight for each ring of spatial frequencies.

    The noise is the mean power beyond the band limit 2α/λ, where a scan holds nothing of the specimen; the signal is
    what a ring has above it.

    Parameters
    ----------
    com : ndarray of float, shape (n, n, 2)
        Centre of mass of a square scan.
    step : float
        Scan step, Å.
    band_limit : float
        Highest spatial frequency of the intensity, 1/Å.

    Returns
    -------
    ndarray of float, shape (n, n, 2)
    """
    n = len(com)
    spectrum = np.fft.fft2(com, axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(n, step)[:, None], np.fft.fftfreq(n, step))
    power = (np.abs(spectrum) ** 2).sum(axis=2)
    noise = power[frequency > band_limit].mean()
    ring = np.rint(frequency * n * step).astype(int)
    mean_power = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    weight = np.maximum(1 - noise / np.maximum(mean_power, 1e-300), 0)[ring] * (frequency <= band_limit)
    return np.asarray(np.fft.ifft2(spectrum * weight[..., None], axes=(0, 1)).real)
