"""The rivals, written out: clusters of features, each position by itself or averaged over its surroundings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import NMF, PCA
from sklearn.mixture import GaussianMixture

from stemvane import Measurements

__all__ = ["rival_groups"]

_WINDOWS = (0.0, 1.0, 2.0, 4.0)
_N_COMPONENTS, _N_ORDERS = 8, 13


def rival_groups(measurements: Measurements, n_kinds: int) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Groups of the positions by every rival: its name, and the group of each position.

    All but HDBSCAN are told the number of kinds. Smoothing is by a Gaussian of 0, 1, 2 or 4 positions.
    """
    polar = np.concatenate(list(measurements.polar_blocks(measurements.recorded))).astype(float)
    harmonics = np.abs(np.fft.rfft(polar, axis=2))
    n = len(polar)
    for name, values in (
        # the square root makes counting noise alike everywhere
        ("PCA", np.sqrt(np.maximum(polar.reshape(n, -1), 0))),
        ("radial averages", np.sqrt(harmonics[:, :, 0])),
        ("harmonic powers", harmonics[:, :, :_N_ORDERS].reshape(n, -1)),
    ):
        along = PCA(_N_COMPONENTS, random_state=0).fit_transform(values)
        for window in _WINDOWS:
            smooth = _smoothed(along, measurements.scan_shape, window)
            words = f"{name}, smoothed by {window:g}" if window else name
            yield f"k-means of {words}", KMeans(n_kinds, n_init=5, random_state=0).fit_predict(smooth)
            mixture = GaussianMixture(n_kinds, n_init=2, random_state=0)
            yield f"Gaussian mixture of {words}", mixture.fit_predict(smooth)
            yield f"HDBSCAN of {words}", HDBSCAN(min_cluster_size=max(n // 50, 5)).fit_predict(smooth)
    parts = NMF(n_kinds, init="nndsvda", max_iter=200).fit_transform(np.maximum(polar.reshape(n, -1), 0))
    for window in _WINDOWS:
        words = f"NMF, smoothed by {window:g}" if window else "NMF"
        yield words, _smoothed(parts, measurements.scan_shape, window).argmax(axis=1)


def _smoothed(rows: NDArray[np.float64], scan_shape: tuple[int, int], window: float) -> NDArray[np.float64]:
    maps = gaussian_filter(rows.reshape(*scan_shape, -1), (window, window, 0)) if window else rows
    return np.asarray(maps.reshape(len(rows), -1))
