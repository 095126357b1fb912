"""The lattice of a scan, found from its maps: two vectors and a smooth distortion."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from stemvane.defects.sampling import Sampling

__all__ = ["LEAST_PERIODS", "Distortion", "Lattice", "find_lattice", "lattice_rotations", "reduce_vectors"]

_Floats = NDArray[np.floating[Any]]

# All of these: `pytest tests/test_lattice.py`, cells of any shape in noise, and noise, blobs and waves without one.
# 5: a peak of the spectrum stands out of the ring around it by so much; at 1 waves along one direction are a lattice,
# at 40 coarse cells are missed
_STANDS_OUT = 5.0
# 24 peaks: pairs are tried, so the cost grows with the square; with 6 coarse cells are missed
_MOST_PEAKS = 24
# 0.6: least share of the peaks' power that a lattice explains; with 0.3 a scan of two cells has one. 0.97: lattices
# that explain so much of the most are alike; with 0.6 coarse cells are missed
_EXPLAINS, _AS_GOOD = 0.6, 0.97
# 3 periods along the shorter side: in fewer the peaks of a lattice are as wide as their distance; with 6 lattices of
# few cells are missed
LEAST_PERIODS = 3.0
# 1.2 half widths of the scan, beyond which a distortion grows no further: iterated from outside of the region that it
# was fitted to, a polynomial runs away; `pytest tests/test_regions.py -k grains`
_FARTHEST = 1.2
# 1 Å: width of the edge of what was recorded in a spectrum; a sharp one has peaks of its own
_SOFT = 1.0


@dataclass(frozen=True, eq=False)
class Distortion:
    """Smooth displacement ``u`` in Å: a polynomial without constant and linear part, which the lattice itself has.

    Attributes
    ----------
    centre, half : ndarray of float, shape (2,)
        Middle and half width ``(y, x)`` of the scan in Å.
    degree : int
        Highest degree; below 2 there is no distortion.
    coefficients : ndarray of float, shape (n_terms, 2)
        Å, of the products of Legendre polynomials in the order of `terms`.
    """

    centre: _Floats
    half: _Floats
    degree: int = 1
    coefficients: _Floats = field(default_factory=lambda: np.zeros((0, 2)))

    @staticmethod
    def terms(degree: int, least: int = 2) -> list[tuple[int, int]]:
        """Degrees ``(y, x)`` of the products of Legendre polynomials."""
        return [(i, total - i) for total in range(least, degree + 1) for i in range(total + 1)]

    def polynomials(self, points: _Floats, degree: int, least: int = 2) -> NDArray[np.float64]:
        """Values of the products, shape ``(n_points, n_terms)``."""
        at = np.clip((points - self.centre) / self.half, -_FARTHEST, _FARTHEST)
        y, x = (np.polynomial.legendre.legvander(at[:, axis], max(degree, 1)) for axis in (0, 1))
        terms = self.terms(degree, least)
        return np.stack([y[:, i] * x[:, j] for i, j in terms], axis=-1) if terms else np.zeros((len(points), 0))

    def at(self, points: _Floats) -> NDArray[np.float64]:
        """Displacement at positions ``(y, x)`` in Å, same shape ``(n_points, 2)``."""
        return np.asarray(self.polynomials(points, self.degree) @ self.coefficients)


@dataclass(frozen=True, eq=False)
class Lattice:
    """A lattice in the scan.

    Attributes
    ----------
    vectors : ndarray of float, shape (2, 2)
        Lattice vectors in rows, ``(y, x)`` in Å: the shortest two, at 90° to 120°, counter-clockwise on the screen.
    distortion : Distortion
        Displacement of what lies at a position from where the lattice without distortion has it.
    stands_out : float
        Ratio by which the lattice's peaks stand out of the spectrum around them.
    origin : ndarray of float, shape (2,)
        A lattice point ``(y, x)`` in Å, before the distortion.
    """

    vectors: _Floats
    distortion: Distortion
    stands_out: float = np.inf
    origin: _Floats = field(default_factory=lambda: np.zeros(2))

    @property
    def reciprocal(self) -> NDArray[np.float64]:
        """Reciprocal vectors in rows, 1/Å, without 2π."""
        return np.asarray(np.linalg.inv(self.vectors).T)

    @property
    def cell_area(self) -> float:
        """Area of the cell in Å²."""
        return float(abs(np.linalg.det(self.vectors)))

    def straight(self, points: _Floats) -> NDArray[np.float64]:
        """Positions ``(y, x)`` without the distortion, same shape ``(n_points, 2)``."""
        return np.asarray(points - self.distortion.at(points))

    def distort(self, points: _Floats) -> NDArray[np.float64]:
        """Where the distortion has put positions of the undistorted lattice, same shape ``(n_points, 2)``."""
        result = np.array(points, float)
        for _ in range(20):
            result = points + self.distortion.at(result)
        return np.asarray(result)

    def fractional(self, points: _Floats) -> NDArray[np.float64]:
        """Coordinates of positions in the scan along the lattice vectors, from the origin, shape ``(n_points, 2)``."""
        return np.asarray((self.straight(points) - self.origin) @ np.linalg.inv(self.vectors))

    def orders(self, highest: float) -> NDArray[np.int64]:
        """Half of the diffraction orders (h, k) up to a spatial frequency in 1/Å; the others are their negatives."""
        n = int(np.ceil(highest * np.linalg.norm(self.vectors, axis=1).max())) + 1
        h, k = np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1), indexing="ij")
        orders = np.stack([h.ravel(), k.ravel()], axis=-1)
        upper = (orders[:, 0] > 0) | ((orders[:, 0] == 0) & (orders[:, 1] > 0))
        return np.asarray(orders[upper & (np.linalg.norm(orders @ self.reciprocal, axis=1) <= highest)])

    def points_within(self, low: _Floats, high: _Floats, shift: _Floats) -> NDArray[np.float64]:
        """Lattice points moved by a shift, where the distortion has put them, inside a rectangle, ``(y, x)`` in Å."""
        rim = np.linspace(0, 1, 9)
        inside = np.stack(np.meshgrid(rim, rim, indexing="ij"), axis=-1).reshape(-1, 2) * (high - low) + low
        moved = np.abs(self.distortion.at(inside)).max(axis=0) + 1.0
        low_ideal, high_ideal = low - moved, high + moved
        corners = np.array([[y, x] for y in (low_ideal[0], high_ideal[0]) for x in (low_ideal[1], high_ideal[1])])
        at = (corners - self.origin - shift) @ np.linalg.inv(self.vectors)
        first, last = np.floor(at.min(axis=0)).astype(int), np.ceil(at.max(axis=0)).astype(int) + 1
        i, j = np.meshgrid(np.arange(first[0], last[0]), np.arange(first[1], last[1]), indexing="ij")
        ideal = np.stack([i.ravel(), j.ravel()], axis=-1) @ self.vectors + self.origin + shift
        near = np.all((ideal >= low_ideal) & (ideal <= high_ideal), axis=1)
        result = self.distort(ideal[near])
        return result[np.all((result >= low) & (result <= high), axis=1)]


def lattice_rotations(lattice: Lattice) -> NDArray[np.float64]:
    """Rotations (rad) that map a lattice onto itself: 6 of a hexagonal one, 4 of a square one, else 2."""
    a, b = lattice.vectors
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    cosine = a @ b / (lengths[0] * lengths[1])
    # within 4 %, by which steps along y and x are rarely off
    equal = abs(lengths[0] / lengths[1] - 1) < 0.04
    n = 6 if equal and abs(cosine + 0.5) < 0.04 else 4 if equal and abs(cosine) < 0.04 else 2
    return np.asarray(2 * np.pi * np.arange(n) / n)


def find_lattice(channels: _Floats, sampling: Sampling) -> Lattice | None:
    """Find the lattice of a scan from the peaks of the power spectrum of its maps.

    Parameters
    ----------
    channels : ndarray of float, shape (scan_y, scan_x, n_channels)
        Maps whose powers can be compared, such as in units of their noise.
    sampling : Sampling
        Where the maps were recorded, and up to which spatial frequency they hold anything.

    Returns
    -------
    Lattice or None
        Without distortion; None where no two independent peaks of one lattice stand out.
    """
    found = _spanning_peaks(channels, sampling)
    if found is None:
        return None
    pair, tapered, contrast = found
    extent = np.array(sampling.shape) * sampling.step
    reciprocal = _refine(pair, tapered, sampling.step, sampling.highest)
    vectors = reduce_vectors(np.linalg.inv(reciprocal).T)
    if extent.min() < LEAST_PERIODS * np.linalg.norm(vectors, axis=1).max():
        return None
    half = np.maximum(np.array(sampling.shape) - 1, 1) * sampling.step / 2
    distortion = Distortion(centre=sampling.extent / 2, half=half)
    return Lattice(vectors, distortion, contrast)


def _tolerance(sampling: Sampling) -> float:
    """How well the frequency of a peak is known, 1/Å: three quarters of the width that the shorter side gives to it."""
    return 0.75 / float(np.min(np.array(sampling.shape) * sampling.step))


def _spanning_peaks(channels: _Floats, sampling: Sampling) -> tuple[_Floats, _Floats, float] | None:
    """Frequencies of the two peaks that span the lattice, the tapered maps, and how far these peaks stand out."""
    recorded, step, highest = sampling.recorded, sampling.step, sampling.highest
    extent = np.array(sampling.shape) * step
    values = np.where(recorded[..., None], channels, 0.0)
    values = values - values[recorded].mean(axis=0) * recorded[..., None]
    taper = np.outer(*(np.hanning(n + 2)[1:-1] for n in recorded.shape))
    if not recorded.all():
        # a straight edge of what was recorded is as soft, gaps of single positions hardly count
        soft = ndimage.gaussian_filter(recorded.astype(float), sampling.sigma(_SOFT))
        taper *= np.clip(2 * soft - 1, 0.0, 1.0)
    tapered = values * taper[..., None]
    padded = [2 * n for n in recorded.shape]
    power = sum(np.abs(np.fft.rfft2(tapered[..., c], padded)) ** 2 for c in range(values.shape[-1]))
    frequency = np.stack(
        np.meshgrid(np.fft.fftfreq(padded[0], step[0]), np.fft.rfftfreq(padded[1], step[1]), indexing="ij"), axis=-1
    )
    peaks, strength, contrast = _peaks(np.asarray(power), frequency, highest, LEAST_PERIODS / extent.min())
    pair = _best_pair(peaks, strength, _tolerance(sampling))
    if pair is None:
        return None
    return peaks[list(pair)], tapered, float(min(contrast[list(pair)]))


def _peaks(
    power: _Floats, frequency: _Floats, highest: float, lowest: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Peaks of a power spectrum: frequencies, power, and how far they stand out of the ring around them."""
    radius = np.linalg.norm(frequency, axis=-1)
    width = 2 * lowest / LEAST_PERIODS
    ring = (radius / width).astype(int)
    level = ndimage.median(power, ring, np.arange(ring.max() + 1))
    contrast = power / np.maximum(level[ring], 1e-30)
    wrapped = ndimage.maximum_filter(power, size=5, mode=("wrap", "nearest"))
    is_peak = (power == wrapped) & (radius >= lowest) & (radius <= highest) & (contrast >= _STANDS_OUT)
    # along the first column a frequency stands beside its negative
    is_peak &= (frequency[..., 1] > 0) | (frequency[..., 0] > 0)
    if not is_peak.any():
        return np.zeros((0, 2)), np.zeros(0), np.zeros(0)
    strength = power[is_peak]
    order = np.argsort(-strength)[:_MOST_PEAKS]
    return frequency[is_peak][order], strength[order], contrast[is_peak][order]


def _best_pair(peaks: _Floats, strength: _Floats, tolerance: float) -> tuple[int, int] | None:
    """The two peaks that span the coarsest reciprocal lattice on which most of the peaks' power lies."""
    result: list[tuple[float, float, tuple[int, int]]] = []
    for i, j in itertools.combinations(range(len(peaks)), 2):
        pair = peaks[[i, j]]
        area = abs(float(np.linalg.det(pair)))
        # peaks within 15° of each other say little of the second direction
        if area < 0.25 * np.linalg.norm(pair, axis=1).prod():
            continue
        index = peaks @ np.linalg.inv(pair)
        miss = np.linalg.norm((index - np.round(index)) @ pair, axis=1)
        # a dense lattice comes near everything by chance
        if tolerance > 0.2 * area / np.linalg.norm(pair, axis=1).max():
            continue
        result.append((float(strength[miss < tolerance].sum()), area, (i, j)))
    if not result:
        return None
    most = max(share for share, _, _ in result)
    if most < _EXPLAINS * strength.sum():
        return None
    return max((area, pair) for share, area, pair in result if share >= _AS_GOOD * most)[1]


def _refine(reciprocal: _Floats, tapered: _Floats, step: tuple[float, float], highest: float) -> NDArray[np.float64]:
    """Reciprocal vectors at which the summed power of all orders is largest."""
    y, x = (np.arange(n) * d for n, d in zip(tapered.shape[:2], step, strict=True))
    # the lowest orders, which hold nearly all of the power
    h, k = np.meshgrid(np.arange(-3, 4), np.arange(0, 4), indexing="ij")
    orders = np.stack([h.ravel(), k.ravel()], axis=-1)
    orders = orders[(orders[:, 1] > 0) | (orders[:, 0] > 0)]
    orders = orders[np.linalg.norm(orders @ reciprocal, axis=1) <= highest]

    def lost(flat: _Floats) -> float:
        at = orders @ flat.reshape(2, 2)
        down = np.exp(-2j * np.pi * np.outer(at[:, 0], y))
        across = np.exp(-2j * np.pi * np.outer(at[:, 1], x))
        transform = np.einsum("gy,yxc,gx->gc", down, tapered, across, optimize=True)
        return -float((np.abs(transform) ** 2).sum())

    size = 0.15 / max(len(y) * step[0], len(x) * step[1])
    simplex = reciprocal.ravel() + size * np.vstack([np.zeros(4), np.eye(4)])
    best = optimize.minimize(
        lost,
        reciprocal.ravel(),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 1e-3 * size, "fatol": 1e-9 * abs(lost(reciprocal.ravel()))},
    )
    return np.asarray(best.x.reshape(2, 2))


def reduce_vectors(vectors: _Floats) -> NDArray[np.float64]:
    """The two shortest lattice vectors at 90° or more, counter-clockwise on the screen, the first nearest to x."""
    a, b = np.asarray(vectors[0], np.float64), np.asarray(vectors[1], np.float64)
    while True:
        if a @ a > b @ b:
            a, b = b, a
        share = a @ b / (a @ a)
        # at just a half the other choice is as short, and rounding would go on for ever
        if abs(share) <= 0.5 + 1e-9:
            break
        b = b - np.round(share) * a
    # vectors as short as these that span the same lattice
    family: list[Any] = [
        v for v in (a, b, -a, -b, a + b, a - b, -a - b, b - a) if np.linalg.norm(v) < 1.05 * np.linalg.norm(b)
    ]
    area = abs(float(np.linalg.det(np.stack([a, b]))))
    # y grows downwards, so rows (y, x) with a positive determinant run counter-clockwise on the screen
    pairs: list[tuple[Any, Any]] = [
        (first, second)
        for first, second in itertools.permutations(family, 2)
        if abs(float(np.linalg.det(np.stack([first, second]))) / area - 1) < 1e-6 and first @ second <= 1e-6 * area
    ]
    rightwards = [float(first[1]) / float(np.linalg.norm(first)) for first, _ in pairs]
    return np.stack(pairs[int(np.argmax(rightwards))])
