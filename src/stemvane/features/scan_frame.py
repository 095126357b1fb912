"""Features over the scan's spatial frequencies, in the frame that rotates with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stemvane.features.parallel import count_workers, for_each

__all__ = [
    "BeyondLimit",
    "ScanFrame",
    "add_mirrored",
    "content_beyond",
    "mirror",
    "noise_frequencies",
    "scan_angles",
    "scan_frequencies",
    "scan_middle",
    "scan_part",
    "taper",
    "torus_spectrum",
    "trusted_limit",
]

# 256 positions along an axis tell the spectra of a scan
_MOST_FIELD = 256
# the noise is then known to 5 %
_FEWEST_BEYOND = 400
_FEWEST_COMPARED = 50
# share of the content that drift and jitter of a scan may put beyond the band limit
_MOST_BEYOND = 0.05
# a Hann window makes neighbouring frequencies alike: a sum's variance is as many times that of independent ones
_JOINED = 1.94**2
# standard deviations of the noise
_CLEARLY = 5.0
# graphene with lines displaced by 0.1 Å has 0.018, and filtered angles that are 3.5 instead of 1.0° off at 100,000
# electrons; at 20,000 it is seen from 0.2 Å on; `pytest tests/test_verdict.py -k displaced`
_DISPLACED = 0.01


class BeyondLimit(NamedTuple):
    """Content beyond the band limit over that within it.

    Attributes
    ----------
    share : float
        In all directions: then step, semi-angle or energy are not what is said.
    of_lines : float
        More of it from line to line than along lines: then lines are displaced at random.
    """

    share: float = 0.0
    of_lines: float = 0.0

    @property
    def lines_are_displaced(self) -> bool:
        """Whether lines are displaced so far that it matters."""
        return self.of_lines > _DISPLACED


@dataclass(frozen=True, eq=False)
class ScanFrame:
    """Discrete spatial frequencies of a scan, and features in the frame that rotates with them.

    What a thin specimen does to the pattern at a probe position is the same for all directions of a spatial frequency q
    but for a rotation of the pattern. A feature of order m takes the factor ``exp(-1j m φ)`` from a rotation by φ, so
    in the frame that rotates with q, ``a(q) = F(q) exp(1j m φ_q)`` depends on the length of q alone. With
    ``b(q) = conj F(-q) exp(-1j m φ_q) (-1)^m``, which stands for the same feature's conjugate, the channels
    ``(a + b) / 2`` and ``(a - b) / 2j`` are a real number each times the specimen's own spectrum. Order 0 has one.

    Attributes
    ----------
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    shape : tuple of int
        Frequencies ``(y, x)``.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    handedness : int
        1, or -1 where the scan is a mirror image of what the detector sees.
    """

    orders: NDArray[np.int64]
    shape: tuple[int, int]
    step: tuple[float, float]
    handedness: int = 1

    @property
    def n_channels(self) -> int:
        """Number of real channels of a position: two per feature, one where the order is 0."""
        return 2 * len(self.orders) - int(self.is_real.sum())

    @cached_property
    def is_real(self) -> NDArray[np.bool_]:
        """True for features of order 0."""
        return np.asarray(self.orders == 0)

    @cached_property
    def frequency(self) -> NDArray[np.float64]:
        """Length of the spatial frequency, shape ``(y, x)``, in 1/Å."""
        return scan_frequencies(self.shape, self.step)

    @cached_property
    def phases(self) -> NDArray[np.complex64]:
        """``exp(1j m φ_q)``, shape ``(n_features, y, x)``."""
        angle = self.handedness * scan_angles(self.shape, self.step)
        orders, of_each = np.unique(self.orders, return_inverse=True)
        return np.asarray(np.exp(1j * orders[:, None, None] * angle).astype(np.complex64)[of_each])

    def spectrum(self, features: NDArray[np.complexfloating[Any, Any]]) -> NDArray[np.complex64]:
        """Discrete Fourier transform, padded to the frame's shape; ``(n_features, y, x)`` to the same."""
        return torus_spectrum(features, self.shape)

    def channels(self, spectrum: NDArray[np.complexfloating[Any, Any]]) -> NDArray[np.complex64]:
        """Channels of spectra, shape ``(n_channels, y, x)``."""
        sign = np.where(self.orders % 2, -1, 1).astype(np.float32)[:, None, None]
        a = spectrum * self.phases
        b = sign * np.conj(mirror(spectrum) * self.phases)
        return np.concatenate([(a + b) / 2, ((a - b) / 2j)[~self.is_real]]).astype(np.complex64)

    def responses(self, channels: NDArray[np.floating[Any]]) -> NDArray[np.complex64]:
        """Spectra of features whose channels are these, real or not, ``(n_channels, ...)`` to ``(n_features, ...)``."""
        n = len(self.orders)
        result = channels[:n].astype(np.complex64)
        result[~self.is_real] += 1j * channels[n:]
        return np.asarray(result * np.conj(self.phases))

    def scaling(self, factors: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], NDArray[np.complex64]]:
        """Scale channels by real factors, ``responses(factors * channels(spectrum))``, at once.

        Parameters
        ----------
        factors : ndarray of float, shape (n_channels, y, x)

        Returns
        -------
        same, conjugate : ndarray, shape (n_features, y, x)
            Factors of a feature's spectrum and of ``conj(mirror(spectrum))``, as `add_mirrored` takes them.
        """
        n = len(self.orders)
        second = np.zeros_like(factors[:n])
        second[~self.is_real] = factors[n:]
        sign = np.where(self.orders % 2, -1, 1).astype(np.float32)[:, None, None]
        conjugate = sign * (factors[:n] - second) / 2 * np.conj(self.phases) ** 2
        return ((factors[:n] + second) / 2).astype(np.float32), conjugate.astype(np.complex64)


def torus_spectrum(fields: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Discrete Fourier transform of fields ``(..., y, x)``, padded with zeros to a shape."""
    # rows of zeros need no transform
    along_x = fft.fft(np.asarray(fields, np.complex64), shape[1], axis=-1, workers=count_workers())
    return np.asarray(fft.fft(along_x, shape[0], axis=-2, workers=count_workers()))


def scan_part(spectrum: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.complex64]:
    """First rows and columns of the fields that have these spectra, ``(..., y, x)``; the inverse of the former."""
    along_y = fft.ifft(spectrum, axis=-2, workers=count_workers())[..., : shape[0], :]
    return np.asarray(fft.ifft(along_y, axis=-1, workers=count_workers())[..., : shape[1]])


def scan_frequencies(shape: tuple[int, ...], step: tuple[float, float]) -> NDArray[np.float64]:
    """Lengths in 1/Å of the discrete spatial frequencies of a scan of ``(y, x)`` positions, of the same shape."""
    y, x = _frequency_axes(shape, step)
    return np.asarray(np.hypot(y, x))


def scan_angles(shape: tuple[int, ...], step: tuple[float, float]) -> NDArray[np.float64]:
    """Directions in rad of the same, counter-clockwise on the screen."""
    y, x = _frequency_axes(shape, step)
    # y grows downwards
    return np.asarray(np.arctan2(-y, x))


def noise_frequencies(
    shape: tuple[int, ...], step: tuple[float, float], band_limit: float | None
) -> NDArray[np.bool_] | None:
    """Spatial frequencies of a tapered scan that hold nothing but noise.

    Parameters
    ----------
    shape : tuple of int
        Positions ``(y, x)``.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    band_limit : float, optional
        Largest spatial frequency of the content in 1/Å.

    Returns
    -------
    ndarray of bool, shape (scan_y, scan_x), or None
        None where they are too few to tell the noise, or where the band limit is unknown.
    """
    if band_limit is None:
        return None
    beyond = _beyond(shape, step, band_limit)
    return beyond if np.count_nonzero(beyond) >= _FEWEST_BEYOND else None


def _beyond(shape: tuple[int, ...], step: tuple[float, float], band_limit: float) -> NDArray[np.bool_]:
    # a Hann window lets nothing through beyond two bins
    margin = 2 / min(n * d for n, d in zip(shape, step, strict=True))
    return scan_frequencies(shape, step) > band_limit + margin


def content_beyond(
    features: NDArray[np.complexfloating[Any, Any]],
    recorded: NDArray[np.bool_],
    step: tuple[float, float] | None,
    band_limit: float | None,
) -> BeyondLimit:
    """Content beyond the band limit, where a probe records none.

    Parameters
    ----------
    features : ndarray of complex, shape (scan_y, scan_x, n_features)
        Any value where nothing was recorded.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        True where there is a pattern.
    step : tuple of float, optional
        Scan step ``(y, x)`` in Å.
    band_limit : float, optional
        Spatial frequency 2α/λ in 1/Å.

    Returns
    -------
    BeyondLimit
        Zeros where none stands out of the noise, or nothing is known to be empty.
    """
    shape = recorded.shape
    if step is None or band_limit is None:
        return BeyondLimit()
    empty = _beyond(shape, step, band_limit)
    if np.count_nonzero(empty) < _FEWEST_COMPARED:
        return BeyondLimit()
    frequency = scan_frequencies(shape, step)
    # white noise is the same at all frequencies that are empty; content is more at the lower ones of these
    inner = empty & (frequency < np.median(frequency[empty]))
    lines, along = _across_and_along_lines(shape, step, band_limit)
    parts = [_Compared(inner, empty & ~inner, empty)]
    if min(np.count_nonzero(lines), np.count_nonzero(along)) >= _FEWEST_COMPARED:
        parts.append(_Compared(lines, along, empty))
    mean, window = features[recorded].mean(axis=0), taper(recorded).astype(np.float32)
    for number in range(features.shape[-1]):
        centred = np.where(recorded, features[..., number] - mean[number], 0) * window
        power = np.abs(fft.fft2(centred, norm="ortho", workers=count_workers())) ** 2
        for part in parts:
            part.add(power)
    return BeyondLimit(*(part.share() for part in parts))


class _Compared:
    """Content in a part of the empty frequencies, against noise as it is in another part of them."""

    def __init__(self, part: NDArray[np.bool_], noise: NDArray[np.bool_], empty: NDArray[np.bool_]) -> None:
        self._part, self._noise, self._within = part, noise, ~empty
        n_noise, n_within = np.count_nonzero(noise), np.count_nonzero(~empty)
        self._doubtful = 2 * np.sqrt(_JOINED * (1 / n_noise + 1 / n_within))
        self._content, self._content_within, self._squares = 0.0, 0.0, 0.0

    def add(self, power: NDArray[np.floating[Any]]) -> None:
        """Add the power of a feature."""
        excess = power / max(power[self._noise].mean(), 1e-30) - 1
        # features count by the content that they have, so that the noise of all others does not hide it
        weight = max(float(excess[self._within].mean()) - self._doubtful, 0.0)
        self._content += weight * float(excess[self._part].sum())
        self._content_within += weight * float(excess[self._within].sum())
        self._squares += weight**2

    def share(self) -> float:
        """Content of the part over that within the band limit; 0 where it does not stand out of the noise."""
        n, n_noise = np.count_nonzero(self._part), np.count_nonzero(self._noise)
        spread = np.sqrt(self._squares * _JOINED * n * (1 + n / n_noise))
        if self._content <= _CLEARLY * spread:
            return 0.0
        return self._content / max(self._content_within, 1e-9 * self._content)


def _across_and_along_lines(
    shape: tuple[int, ...], step: tuple[float, float], band_limit: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Empty frequencies at which lines differ, and those at which the positions of a line do.

    Frequencies that are 0 along one of the axes are left out: there means of lines differ, as with the beam current.
    """
    margins = [2 / (n * d) for n, d in zip(shape, step, strict=True)]
    y, x = (np.abs(axis) for axis in _frequency_axes(shape, step))
    far = [axis > band_limit + margin for axis, margin in zip((y, x), margins, strict=True)]
    near = [(axis < band_limit) & (axis > margin) for axis, margin in zip((y, x), margins, strict=True)]
    return far[0] & near[1], near[0] & far[1]


def trusted_limit(band_limit: float | None, beyond: BeyondLimit) -> float | None:
    """The band limit, or None where more content lies beyond it than a scan's drift and small jitter put there."""
    return None if beyond.share > _MOST_BEYOND or beyond.lines_are_displaced else band_limit


def scan_middle(n: int, most: int = _MOST_FIELD) -> slice:
    """Positions in the middle of an axis of `n`, where what holds all over a large scan is measured."""
    return slice(max(0, (n - most) // 2), min(n, (n + most) // 2))


def taper(recorded: NDArray[np.bool_]) -> NDArray[np.floating[Any]]:
    """Hann window of mean square 1 over a scan, 0 where nothing was recorded."""
    rows, columns = recorded.shape
    weights = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(columns + 2)[1:-1]) * recorded
    return np.asarray(weights / max(np.sqrt((weights**2).mean()), 1e-9))


def mirror(spectrum: NDArray[Any]) -> NDArray[Any]:
    """Values at the opposite frequencies; the last two axes are y and x."""
    return np.roll(spectrum[..., ::-1, ::-1], (1, 1), (-2, -1))


def add_mirrored(
    same: NDArray[np.float32], conjugate: NDArray[np.complex64], spectrum: NDArray[np.complex64]
) -> NDArray[np.complex64]:
    """``same * spectrum + conjugate * conj(mirror(spectrum))``, the factors being those of `ScanFrame.scaling`."""
    result = np.empty_like(spectrum)
    for_each(lambda row: _add_mirrored(same, conjugate, spectrum, result, row), range(len(spectrum)))
    return result


@numba.njit(nogil=True, cache=True)
def _add_mirrored(
    same: NDArray[np.float32],
    conjugate: NDArray[np.complex64],
    spectrum: NDArray[np.complex64],
    result: NDArray[np.complex64],
    feature: int,
) -> None:
    _, rows, columns = spectrum.shape
    for y in range(rows):
        opposite = rows - y if y else 0
        for x in range(columns):
            there = np.conj(spectrum[feature, opposite, columns - x if x else 0])
            here = same[feature, y, x] * spectrum[feature, y, x]
            result[feature, y, x] = here + conjugate[feature, y, x] * there


def _frequency_axes(
    shape: tuple[int, ...], step: tuple[float, float]
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    y, x = (np.fft.fftfreq(n, d) for n, d in zip(shape, step, strict=True))
    return y[:, None], x[None, :]
