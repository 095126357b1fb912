"""Filters of whole patterns, and what is known of the probe, each in a few lines of NumPy; then the centre of mass.

All return the deflection in mrad as a complex map ``x − i y``, as the filters of `benchmarks.denoise.rivals` do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from sklearn.utils.extmath import randomized_svd

from benchmarks.denoise.rivals import frequencies, mean_over_rings

__all__ = ["Patterns", "Probe", "Sidebands", "principal_components", "ptychography", "tensor_svd"]

_Map = NDArray[np.complexfloating[Any, Any]]
_Floats = NDArray[np.floating[Any]]

_MOST_COMPONENTS = 60
# of the mean of all pixels: where hardly an electron comes, its counts are no Gaussian to be weighted by their noise
_DARK = 0.05
_N_ROUNDS = 3
# points along a pixel at which a probe is looked up
_N_SUBPIXELS = 3


@dataclass(frozen=True)
class Patterns:
    """Counts of a scan.

    Attributes
    ----------
    counts : ndarray, shape (scan_y, scan_x, k_y, k_x)
        Electrons.
    angles : ndarray of float, shape (2, k_y, k_x)
        ``(y, x)`` of every pixel from the optical axis, mrad.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    """

    counts: Any
    angles: _Floats
    step: tuple[float, float]


@dataclass(frozen=True)
class Probe:
    """What single-sideband ptychography is told: semi-angle in mrad, wavelength, defocus and astigmatism in Å."""

    semiangle: float
    wavelength: float
    defocus: float = 0.0
    astigmatism: float = 0.0

    def __call__(self, y: _Floats, x: _Floats) -> _Map:
        """Wave in the aperture at an angle in mrad."""
        foci = (self.defocus + self.astigmatism) * y**2 + (self.defocus - self.astigmatism) * x**2
        inside = np.hypot(y, x) <= self.semiangle
        return np.asarray(inside * np.exp(1j * np.pi / self.wavelength * 1e-6 * foci))


class _Components:
    """Principal components of patterns whose pixels are weighted by their noise (Keenan & Kotula, 2004)."""

    def __init__(self, patterns: Patterns) -> None:
        self.scan_shape = patterns.counts.shape[:2]
        rows = patterns.counts.reshape(math.prod(self.scan_shape), -1).astype(np.float32)
        self.mean = rows.mean(axis=0)
        self.noise = np.sqrt(np.maximum(self.mean, _DARK * self.mean.mean()))
        self.angles = (patterns.angles[1] - 1j * patterns.angles[0]).ravel()
        weighted = (rows - self.mean) / self.noise
        n = min(_MOST_COMPONENTS, *weighted.shape)
        u, self.sizes, self.vectors = randomized_svd(weighted, n, n_iter=4, random_state=0)
        self.scores = u * self.sizes
        # the largest of noise alone (Marchenko & Pastur, Math. USSR Sb. 1, 457, 1967); dark pixels have less of it
        largest = np.sqrt(len(weighted)) + np.sqrt((self.mean / self.noise**2).sum())
        self.n_beyond_noise = int((self.sizes > largest).sum())

    def deflection(self, scores: _Floats) -> _Map:
        """Centre of mass of patterns with these scores, shape ``(n, n_components)``."""
        vectors = self.vectors[: scores.shape[1]] * self.noise
        moment = self.mean @ self.angles + scores @ (vectors @ self.angles)
        return np.asarray(moment / (self.mean.sum() + scores @ vectors.sum(axis=1))).reshape(self.scan_shape)


def principal_components(patterns: Patterns, truth: _Map) -> _Map:
    """Patterns of as many principal components as come closest to the truth, which no user knows."""
    found = _Components(patterns)
    numbers = range(1, found.scores.shape[1] + 1)
    maps = [_centred(found.deflection(found.scores[:, :n])) for n in numbers]
    return min(maps, key=lambda each: float((np.abs(each - truth) ** 2).sum()))


def tensor_svd(patterns: Patterns) -> _Map:
    """Patterns of low rank along both axes of the scan and over pixels (Zhang and others, Ultramicroscopy 219, 2020).

    The rank of each axis is the number of its singular values beyond the largest of noise; then the subspaces are found
    in turns (De Lathauwer and others, SIAM J. Matrix Anal. Appl. 21, 1324, 2000).
    """
    found = _Components(patterns)
    n = max(found.n_beyond_noise, 1)
    tensor = found.scores[:, :n].reshape(*found.scan_shape, n)
    bases = [np.eye(size) for size in tensor.shape[:2]]
    for round_ in range(_N_ROUNDS):
        for axis in (0, 1):
            other = np.tensordot(tensor, bases[1 - axis], axes=(1 - axis, 0))
            unfolded = other.reshape(tensor.shape[axis], -1)
            u, sizes, _ = np.linalg.svd(unfolded, full_matrices=False)
            rank = int((sizes > sum(np.sqrt(unfolded.shape))).sum()) if round_ == 0 else bases[axis].shape[1]
            bases[axis] = u[:, : max(rank, 1)]
    rows, columns = (basis @ basis.T for basis in bases)
    filtered = np.einsum("ij,kl,jlm->ikm", rows, columns, tensor, optimize=True)
    return _centred(found.deflection(filtered.reshape(-1, n)))


class Sidebands:
    """What a spatial frequency of the specimen's phase does to the pixels of the disc, to first order.

    A coefficient puts ``i (P*(k) P(k − q) − P(k) P*(k + q))`` times itself on the pixels, which in focus is nothing but
    where one sideband alone overlaps with the disc (Pennycook and others, Ultramicroscopy 151, 160, 2015).

    Attributes
    ----------
    inside : ndarray of bool, shape (k_y, k_x)
        Pixels of the disc.
    share : ndarray of float, shape (n,)
        Share of all electrons that each of them receives without a specimen.
    position : ndarray of complex, shape (n,)
        Their angles in mrad as ``x − i y``.
    """

    def __init__(self, probe: Probe, angles: _Floats) -> None:
        y, x = angles
        pixel = float(x[0, 1] - x[0, 0])
        at = (np.arange(_N_SUBPIXELS) - (_N_SUBPIXELS - 1) / 2) / _N_SUBPIXELS * pixel
        points = [(y + dy, x + dx) for dy in at for dx in at]
        intensity = np.mean([np.abs(probe(*point)) for point in points], axis=0)
        self.probe, self.inside = probe, intensity > 0
        self.points = [(py[self.inside], px[self.inside]) for py, px in points]
        self.waves = [probe(*point) for point in self.points]
        self.share = intensity[self.inside] / intensity.sum()
        self.position = (x - 1j * y)[self.inside]
        self._total = float(intensity.sum())

    def __call__(self, qy: float, qx: float) -> _Map:
        """Change of the shares with the coefficient of a frequency, given as an angle in mrad; shape ``(n,)``."""
        change = np.zeros(len(self.share), complex)
        for wave, (y, x) in zip(self.waves, self.points, strict=True):
            change += np.conj(wave) * self.probe(y - qy, x - qx) - wave * np.conj(self.probe(y + qy, x + qx))
        return 1j * change / len(self.points) / self._total


def ptychography(patterns: Patterns, probe: Probe) -> _Map:
    """Potential from sidebands whose phases are known, and its deflection by the same probe.

    A Wiener filter in rings follows, its noise being known. The scan is mirrored at its edges, and every pattern with
    it.
    """
    sidebands = Sidebands(probe, patterns.angles)
    counts = patterns.counts
    n_electrons = float(counts.sum(axis=(2, 3)).mean())
    ny, nx = counts.shape[:2]
    counts = np.concatenate([counts, counts[:, ::-1, :, ::-1]], axis=1)
    counts = np.concatenate([counts, counts[::-1, :, ::-1]], axis=0)[:, :, sidebands.inside].astype(np.float32)
    spectrum = fft.fft2(counts, axes=(0, 1))
    shape = counts.shape[:2]
    frequency, _ = frequencies(shape, patterns.step)
    along = [1e3 * probe.wavelength * np.fft.fftfreq(n, d) for n, d in zip(shape, patterns.step, strict=True)]
    phase, transfer, information = np.zeros(shape, complex), np.zeros(shape, complex), np.zeros(shape)
    for row, column in np.argwhere((frequency > 0) & (1e3 * probe.wavelength * frequency < 2 * probe.semiangle)):
        change = sidebands(along[0][row], along[1][column])
        weighted = np.conj(change) / sidebands.share
        information[row, column] = n_electrons * (weighted @ change).real
        phase[row, column] = weighted @ spectrum[row, column]
        transfer[row, column] = sidebands.position @ change
    known = information > 1e-6 * information.max()
    information *= known
    phase = np.where(known, phase, 0) / np.where(known, information, 1)
    # of a spectrum of so many positions; rings have one power, each frequency the weight of what is known of it
    n = math.prod(shape)
    excess = mean_over_rings(information * np.abs(phase) ** 2 - n * known, frequency, patterns.step)
    power = np.clip(excess, 0, None) / np.maximum(mean_over_rings(information, frequency, patterns.step), 1e-30) / n
    phase *= power * information / (1 + power * information)
    return _centred(fft.ifft2(transfer * phase)[:ny, :nx])


def _centred(deflection: _Map) -> _Map:
    return np.asarray(deflection - deflection.mean())
