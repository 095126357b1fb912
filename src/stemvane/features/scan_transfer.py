"""What the features of a scan have in common: one potential, seen through a transfer that the data tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, linalg, ndimage

from stemvane.features.parallel import count_workers, for_each, map_in_order, on_one_blas_thread
from stemvane.features.scan_frame import ScanFrame, mirror, scan_middle

__all__ = ["ScanTransfer"]

Floats = NDArray[np.floating[Any]]

# rings overlap: they are half as far apart as a scan resolves, and a Gaussian of this many of their distances wide
_RING_WIDTH = 1.0
_N_ROUNDS = 2
# deviations of the eigenvalues of drawn noise by which one of the data must be larger
_DEVIATIONS = 4.0
# exceeded by the singular values of noise in one of seven orders at most
_SCATTER = 2.0
# share of one potential's power that a window over the scan makes look like another's
_WINDOW_TILT = 1e-3
# a transfer changes over a part of the aperture, and a scan of hundreds of positions resolves more than that
_MOST_RINGS = 48
# directions show in as many positions along an axis; for the transfer along these, all are used
_MOST_POSITIONS = 128


@dataclass(frozen=True, eq=False)
class ScanTransfer:
    """Transfer from the potential to the features, by the length of the spatial frequency.

    Over a ring of spatial frequencies, the channels of `ScanFrame` have a real covariance. A thin specimen gives it one
    eigenvector, to 0.997 of the power, which is the transfer. Noise alone has eigenvalues up to ``(1 + √γ)²`` with γ
    channels per frequency (Marchenko & Pastur, Math. USSR Sb. 1, 457, 1967); of what lies above, noise has made the
    eigenvalue larger than it is and tilted the vector (Baik & Silverstein, J. Multivar. Anal. 97, 1382, 2006), which
    `share` takes back.

    Most features have no share in the potential but for noise. What has is a few combinations of features for every
    order, which are the same for all rings: the singular vectors of the rings' transfers that noise does not explain.
    The transfer is found once more for these alone, with less tilt the fewer they are.

    Attributes
    ----------
    directions : ndarray of complex64, shape (n_directions, n_features)
        Combinations of features that respond to the potential, orthonormal, each of one order.
    orders : ndarray of int, shape (n_directions,)
        Circular order of each combination.
    radii : ndarray of float, shape (n_rings,)
        Middle of each ring in 1/Å.
    vectors : ndarray of float32, shape (n_rings, n_channels)
        Transfer to the channels of the combinations, of length 1.
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

    directions: NDArray[np.complex64]
    orders: NDArray[np.int64]
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
        middle = tuple(scan_middle(n, _MOST_POSITIONS) for n in weights.shape)
        spectrum, shape = _tapered(features[:, *middle], weights[middle])
        largest = _largest_of_noise(ScanFrame(orders, shape, step), weights[middle], cutoff)

        @on_one_blas_thread
        def fit(handedness: int) -> _Rings:
            return _fit_rings(ScanFrame(orders, shape, step, handedness), spectrum, cutoff, largest)

        candidates = list(map_in_order(fit, (1, -1)))
        whole = max(candidates, key=lambda rings: rings.explained)
        directions, of_directions = _responding(whole, orders)
        rings = whole
        if len(directions):
            spectrum, shape = _tapered(np.tensordot(directions.conj(), features, axes=1), weights)
            frame = ScanFrame(of_directions, shape, step, whole.handedness)
            rings = _fit_rings(frame, spectrum, cutoff, _largest_of_noise(frame, weights, cutoff))
        # what no combination of features follows, as noise that all share, is not a potential's
        share = rings.share if len(directions) else np.zeros_like(rings.share)
        return cls(directions, of_directions, rings.radii, rings.vectors, share, rings.tilt, cutoff, whole.handedness)

    @property
    def complex_vectors(self) -> NDArray[np.complex128]:
        """Transfer to the combinations themselves, shape ``(n_rings, n_directions)``."""
        n = len(self.orders)
        vectors = self.vectors[:, :n].astype(np.complex128)
        vectors[:, self.orders != 0] += 1j * self.vectors[:, n:]
        return vectors

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance of every number of the vectors, shape ``(n_rings,)``."""
        return np.asarray(np.where(self.share > 0, self.tilt, 1.0) / max(self.vectors.shape[1], 1))

    def with_vectors(self, vectors: NDArray[np.complex128]) -> ScanTransfer:
        """The same transfer with other vectors, of the shape of `complex_vectors` and of any length."""
        channels = np.concatenate([vectors.real, vectors.imag[:, self.orders != 0]], axis=1)
        lengths = np.linalg.norm(channels, axis=1, keepdims=True)
        return replace(self, vectors=(channels / np.maximum(lengths, 1e-9)).astype(np.float32))

    def responses(self, frame: ScanFrame) -> NDArray[np.complex64]:
        """Response of every combination to the potential, of length 1, shape ``(n_directions, y, x)``."""
        return frame.responses(self.channels_at(frame.frequency))

    def channels_at(self, frequency: NDArray[np.float64]) -> NDArray[np.float32]:
        """Response of every channel to the potential, of length 1, shape ``(n_channels, y, x)``."""
        inside = (frequency <= self.cutoff) & (frequency > 0)
        below, above, part = self._between(frequency)
        part = part[..., None]
        vector = np.moveaxis(self.vectors[below] * (1 - part) + self.vectors[above] * part, -1, 0)
        return np.asarray(vector * (inside / np.maximum(np.linalg.norm(vector, axis=0), 1e-6)), np.float32)

    def hats(self, frequency: NDArray[np.float64]) -> NDArray[np.float32]:
        """What each ring counts for between the rings, shape ``(n_rings, y, x)``."""
        below, above, part = self._between(frequency)
        hats = np.zeros((len(self.radii), frequency.size), np.float32)
        place = np.arange(frequency.size)
        inside = (frequency <= self.cutoff) & (frequency > 0)
        np.add.at(hats, (below.ravel(), place), np.where(inside, 1 - part, 0).ravel())
        np.add.at(hats, (above.ravel(), place), np.where(inside, part, 0).ravel())
        return hats.reshape(len(self.radii), *frequency.shape)

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


def _tapered(
    features: NDArray[np.complex64], weights: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.complex64], tuple[int, int]]:
    """Spectra of a scan under a window, in which noise of variance 1 stays so, and their shape."""
    rows, columns = weights.shape
    window = (weights / np.sqrt((weights**2).mean())).astype(np.float32)
    spectrum = fft.fft2(features * window, axes=(1, 2), norm="ortho", workers=count_workers())
    return np.asarray(spectrum), (rows, columns)


def _largest_of_noise(frame: ScanFrame, weights: NDArray[np.floating[Any]], cutoff: float) -> float:
    """What the largest eigenvalues of drawn noise may be over the edge for infinitely many independent frequencies."""
    rng = np.random.default_rng(0)
    size = (len(frame.orders), *weights.shape)
    drawn = rng.standard_normal(size, np.float32).astype(np.complex64)
    drawn += 1j * ~frame.is_real[:, None, None] * rng.standard_normal(size, np.float32)
    rings = _fit_rings(frame, _tapered(drawn, weights)[0], cutoff, n_rounds=1)
    over = rings.values / (1 + np.sqrt(rings.ratio)) ** 2
    return float(over.mean() + _DEVIATIONS * over.std())


class _Rings(NamedTuple):
    """Transfer by ring, how much of the power it explains, and what share of frequencies two rings have in common."""

    radii: NDArray[np.float64]
    vectors: NDArray[np.float32]
    share: NDArray[np.float64]
    tilt: NDArray[np.float64]
    values: NDArray[np.float64]
    ratio: NDArray[np.float64]
    explained: float
    overlap: NDArray[np.floating[Any]]
    handedness: int


def _fit_rings(
    frame: ScanFrame, spectrum: NDArray[np.complex64], cutoff: float, largest: float = 1.0, n_rounds: int = _N_ROUNDS
) -> _Rings:
    """Find the transfer at every ring; `largest` is what noise makes of an eigenvalue over what it should."""
    channels = frame.channels(spectrum)
    # channels at opposite frequencies are each other's conjugates, so one of each two is taken
    place = np.arange(frame.frequency.size).reshape(frame.shape)
    half = place <= mirror(place)
    farthest = min(cutoff, float(frame.frequency.max()))
    distance = max(0.5 / max(n * d for n, d in zip(frame.shape, frame.step, strict=True)), farthest / _MOST_RINGS)
    radii = np.arange(distance, farthest + 2 * distance, distance)
    importance = np.ones(frame.shape)
    vectors, last_one = np.zeros((len(radii), frame.n_channels), np.float32), 2 * [frame.n_channels - 1]
    values, ratio = np.zeros(len(radii)), np.ones(len(radii))
    for last in range(n_rounds):
        weights = np.empty((len(radii), frame.frequency.size), np.float32)

        def fit(number: int, weights: NDArray[np.float32] = weights, importance: Floats = importance) -> None:
            distances = (frame.frequency - radii[number]) / (_RING_WIDTH * distance)
            weight = np.exp(-0.5 * distances**2) * importance
            weights[number] = weight.ravel()
            inside = (weight > 0.01 * weight.max()) & half
            part = weight[inside]
            x = channels[:, inside] * np.sqrt(part).astype(np.float32)
            x = np.concatenate([x.real, x.imag], axis=1)
            value, vector = linalg.eigh(x @ x.T / part.sum(), subset_by_index=last_one, check_finite=False)
            vectors[number], values[number] = vector[:, -1], value[-1]
            ratio[number] = frame.n_channels / max(part.sum() ** 2 / (part**2).sum(), 1e-9)

        for_each(fit, range(len(radii)))
        # of a vector only the sign is open, which follows the ring before
        for before, vector in pairwise(vectors):
            if vector @ before < 0:
                vector *= -1
        if last == 0:
            clear = values > largest * (1 + np.sqrt(ratio)) ** 2
            importance = _where_signal_is(frame, channels, radii, vectors)
    share, tilt = _signal_share(values, ratio)
    share, tilt = np.where(clear, share, 0.0), np.where(clear, tilt, 0.0)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    explained = float((share * (values - 1)).sum())
    return _Rings(radii, vectors, share, tilt, values, ratio, explained, weights @ weights.T, frame.handedness)


def _responding(rings: _Rings, orders: NDArray[np.int64]) -> tuple[NDArray[np.complex64], NDArray[np.int64]]:
    """Combinations of features that noise in the transfer does not explain, and their orders."""
    used = np.flatnonzero(rings.share)
    directions, of_directions = [], []
    if len(used):
        n = len(orders)
        transfer = rings.vectors[used, :n].astype(np.complex128)
        transfer[:, orders != 0] += 1j * rings.vectors[used, n:]
        # noise of variance 1 in every real coordinate
        transfer /= np.sqrt(np.maximum(rings.tilt[used], _WINDOW_TILT) / rings.vectors.shape[1])[:, None]
        overlap = rings.overlap[np.ix_(used, used)]
        largest = np.linalg.eigvalsh(overlap)[-1]
        for order in np.unique(orders):
            chosen = np.flatnonzero(orders == order)
            _, values, right = np.linalg.svd(transfer[:, chosen], full_matrices=False)
            n_coordinates = 1 if order == 0 else 2
            # bound on the mean of the largest singular value of noise in rings that overlap (Gordon, Isr. J. Math. 50,
            # 265, 1985), and what the value scatters by at most
            mean = np.sqrt(n_coordinates) * (np.sqrt(len(used)) + np.sqrt(len(chosen) * largest))
            edge = mean + _SCATTER * np.sqrt(largest)
            for row in right[values > edge]:
                direction = np.zeros(n, np.complex64)
                direction[chosen] = row
                directions.append(direction)
                of_directions.append(order)
    return np.array(directions, np.complex64).reshape(-1, len(orders)), np.array(of_directions, np.int64)


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
