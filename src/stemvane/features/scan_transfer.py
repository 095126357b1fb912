"""What the features of a scan have in common: one potential, seen through a transfer that the data tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.features.scan_frame import ScanFrame

__all__ = ["ScanTransfer"]

# rings overlap: they are half as far apart as a scan resolves, and a Gaussian of this many of their distances wide
_RING_WIDTH = 1.0
_N_ROUNDS = 2


@dataclass(frozen=True, eq=False)
class ScanTransfer:
    """Transfer from the potential to the features, by the length of the spatial frequency.

    Over a ring of spatial frequencies, the channels of `ScanFrame` have a real covariance. A thin specimen gives it one
    eigenvector, to 0.997 of the power, which is the transfer. Noise alone has eigenvalues up to ``(1 + √γ)²`` with γ
    channels per frequency (Marchenko & Pastur, Math. USSR Sb. 1, 457, 1967); of what lies above, noise has made the
    eigenvalue larger than it is and tilted the vector (Baik & Silverstein, J. Multivar. Anal. 97, 1382, 2006), which
    `share` takes back.

    Attributes
    ----------
    radii : ndarray of float, shape (n_rings,)
        Middle of each ring in 1/Å.
    vectors : ndarray of float32, shape (n_rings, n_channels)
        Transfer, of length 1.
    share : ndarray of float, shape (n_rings,)
        Share of the power along a vector beyond that of the noise that is signal; 0 where there may be nothing but
        noise.
    tilt : ndarray of float, shape (n_rings,)
        Squared sine of the angle by which noise has tilted a vector.
    cutoff : float
        Largest spatial frequency in 1/Å.
    handedness : int
        As of `ScanFrame`.
    """

    radii: NDArray[np.float64]
    vectors: NDArray[np.float32]
    share: NDArray[np.float64]
    tilt: NDArray[np.float64]
    cutoff: float
    handedness: int

    @classmethod
    def fit(
        cls,
        features: NDArray[np.complex64],
        weights: NDArray[np.floating[Any]],
        orders: NDArray[np.int64],
        step: tuple[float, float],
        cutoff: float,
    ) -> ScanTransfer:
        """Find the transfer of a scan.

        Parameters
        ----------
        features : ndarray of complex64, shape (n_features, scan_y, scan_x)
            Features less their mean, with noise of variance 1 in every real coordinate.
        weights : ndarray of float, shape (scan_y, scan_x)
            Taper towards edges and gaps, of mean square 1; 0 where there is no pattern.
        orders : ndarray of int, shape (n_features,)
            Circular order of each feature.
        step : tuple of float
            Scan step ``(y, x)`` in Å.
        cutoff : float
            Largest spatial frequency in 1/Å.

        Returns
        -------
        ScanTransfer
            Of that handedness which explains more.
        """
        shape = (weights.shape[0], weights.shape[1])
        frames = [ScanFrame(orders, shape, step, handedness) for handedness in (1, -1)]
        # the handedness is in the channels, not in the spectrum
        spectrum = frames[0].spectrum(features * weights.astype(np.float32)) / np.float32(np.sqrt(weights.size))
        fits = [_fit_rings(frame, frame.channels(spectrum), cutoff) for frame in frames]
        return max(fits, key=lambda fit: fit[0])[1]

    def responses(self, frame: ScanFrame) -> NDArray[np.complex64]:
        """Response of every feature to the potential, shape ``(n_features, y, x)``."""
        inside = (frame.frequency <= self.cutoff) & (frame.frequency > 0)
        below, above, part = self._between(frame.frequency)
        part = part[..., None]
        vector = np.moveaxis(self.vectors[below] * (1 - part) + self.vectors[above] * part, -1, 0)
        vector = vector * (inside / np.maximum(np.linalg.norm(vector, axis=0), 1e-6))
        return frame.responses(vector.astype(np.float32))

    def at(self, by_ring: NDArray[np.float64], frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        """`share` or `tilt` at any spatial frequency, shape as of the frequencies."""
        below, above, part = self._between(frequency)
        return np.asarray(by_ring[below] * (1 - part) + by_ring[above] * part)

    def _between(
        self, frequency: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        place = np.interp(frequency, self.radii, np.arange(len(self.radii)))
        below = np.minimum(place.astype(np.int64), len(self.radii) - 1)
        return below, np.minimum(below + 1, len(self.radii) - 1), place - below


def _fit_rings(frame: ScanFrame, channels: NDArray[np.complex64], cutoff: float) -> tuple[float, ScanTransfer]:
    """How much of the power is explained, and the transfer."""
    distance = 0.5 / max(n * d for n, d in zip(frame.shape, frame.step, strict=True))
    radii = np.arange(distance, min(cutoff, frame.frequency.max()) + 2 * distance, distance)
    importance = np.ones(frame.shape)
    vectors = np.zeros((len(radii), frame.n_channels), np.float32)
    values, ratio = np.zeros(len(radii)), np.ones(len(radii))
    for last in range(_N_ROUNDS):
        for number, radius in enumerate(radii):
            weight = np.exp(-0.5 * ((frame.frequency - radius) / (_RING_WIDTH * distance)) ** 2) * importance
            inside = weight > 0.01 * weight.max()
            part = weight[inside]
            x = channels[:, inside] * np.sqrt(part).astype(np.float32)
            value, vector = np.linalg.eigh((x @ x.conj().T).real / part.sum())
            # of a vector only the sign is open, which follows the ring before
            follows = number == 0 or vector[:, -1] @ vectors[number - 1] >= 0
            vectors[number], values[number] = vector[:, -1] * (1 if follows else -1), value[-1]
            # q and -q tell the same
            ratio[number] = frame.n_channels / max(0.5 * part.sum() ** 2 / (part**2).sum(), 1e-9)
        if last == 0:
            importance = _where_signal_is(frame, channels, radii, vectors)
    share, tilt = _signal_share(values, ratio)
    explained = float((share * (values - 1)).sum())
    return explained, ScanTransfer(radii, vectors, share, tilt, cutoff, frame.handedness)


def _where_signal_is(
    frame: ScanFrame, channels: NDArray[np.complex64], radii: NDArray[np.float64], vectors: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Weight of every frequency of a ring: a crystal has its power at few of them."""
    nearest = np.abs(frame.frequency[..., None] - radii).argmin(axis=-1)
    along = np.einsum("cyx,yxc->yx", channels, vectors[nearest])
    signal = np.maximum(ndimage.uniform_filter(np.abs(along) ** 2, 3, mode="wrap") - 1, 0)
    return np.asarray((signal / (signal + 1)) ** 2 + 0.01)


def _signal_share(
    values: NDArray[np.float64], ratio: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What `share` and `tilt` are for these eigenvalues and ratios of channels to frequencies."""
    excess = values - 1 - ratio
    root = np.sqrt(np.maximum(excess**2 - 4 * ratio, 0))
    signal = np.maximum((excess + root) / 2, 1e-9)
    overlap = np.clip((1 - ratio / signal**2) / (1 + ratio / signal), 0, 1)
    above = values > (1 + np.sqrt(ratio)) ** 2
    share = np.clip(signal / np.maximum(values - 1, 1e-9), 0, 1) * overlap
    return np.where(above, share, 0.0), np.where(above, 1 - overlap, 0.0)
