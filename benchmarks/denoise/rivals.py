"""Filters of the centre of mass of a scan, each in a few lines of NumPy.

All take the deflection as a complex map ``x − i y``, whose phase is the direction counter-clockwise on the screen, with
the scan step ``(y, x)`` in Å, the band limit 2α/λ in 1/Å, and the mean square of the noise, which a user would have to
estimate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

__all__ = ["RIVALS", "best_gaussian", "best_gradient", "frequencies", "mean_over_rings"]

_Map = NDArray[np.complexfloating[Any, Any]]
_Real = NDArray[np.floating[Any]]

_Step = tuple[float, float]

_N_ROUNDS = 300
_WIDTHS = np.arange(0.0, 4.0, 0.1)


def frequencies(shape: tuple[int, ...], step: _Step) -> tuple[_Real, _Real]:
    """Length in 1/Å and direction of every frequency of a scan."""
    y, x = (np.fft.fftfreq(n, d) for n, d in zip(shape, step, strict=True))
    return np.hypot(y[:, None], x), np.arctan2(-y[:, None], x + 0 * y[:, None])


def mean_over_rings(power: _Real, frequency: _Real, step: _Step) -> _Real:
    """Every frequency's mean over its ring, which is as wide as the scan resolves."""
    ring = np.rint(frequency * min(n * d for n, d in zip(power.shape, step, strict=True))).astype(int)
    count = np.maximum(np.bincount(ring.ravel()), 1)
    return np.asarray((np.bincount(ring.ravel(), power.ravel()) / count)[ring])


def mean_of_nine(com: _Map, step: _Step, cutoff: float, noise: float) -> _Map:
    """Mean of 3 × 3 positions."""
    return np.asarray(ndimage.uniform_filter(com.real, 3) + 1j * ndimage.uniform_filter(com.imag, 3))


def _smoothed(com: _Map, width: float) -> _Map:
    return np.asarray(ndimage.gaussian_filter(com.real, width) + 1j * ndimage.gaussian_filter(com.imag, width))


def best_gaussian(com: _Map, truth: _Map) -> _Map:
    """Gaussian of that width which comes closest to the truth, which no user knows."""
    smooth = [_smoothed(com, width) for width in _WIDTHS]
    return np.asarray(min(smooth, key=lambda found: float((np.abs(found - truth) ** 2).sum())))


def best_gradient(phase: _Real, truth: _Map, step: _Step, cutoff: float) -> _Map:
    """Gradient of a phase, each ring of frequencies with the gain that comes closest to the truth."""
    frequency, angle = frequencies(phase.shape, step)
    gradient = 1j * np.exp(1j * angle) * fft.fft2(phase - phase.mean())
    common = mean_over_rings((np.conj(gradient) * fft.fft2(truth)).real, frequency, step)
    power = mean_over_rings(np.abs(gradient) ** 2, frequency, step)
    return np.asarray(fft.ifft2(common / np.maximum(power, 1e-30) * gradient * (frequency <= cutoff)))


def gaussian_by_risk(com: _Map, step: _Step, cutoff: float, noise: float) -> _Map:
    """Gaussian of that width whose error Stein's unbiased estimate says is least (Ann. Statist. 9, 1135, 1981)."""
    one = np.zeros(com.shape)
    one[tuple(n // 2 for n in com.shape)] = 1

    def risk(width: float) -> float:
        own = float(ndimage.gaussian_filter(one, width).max())
        return float((np.abs(_smoothed(com, width) - com) ** 2).mean()) + 2 * noise * own

    return _smoothed(com, min(_WIDTHS, key=risk))


def wiener(com: _Map, step: _Step, cutoff: float, noise: float) -> _Map:
    """Wiener filter with one weight for each ring of frequencies."""
    frequency, _ = frequencies(com.shape, step)
    spectrum = fft.fft2(com)
    mean = mean_over_rings(np.abs(spectrum) ** 2, frequency, step) / com.size
    gain = np.clip(1 - noise / np.maximum(mean, 1e-30), 0, None)
    return np.asarray(fft.ifft2(gain * spectrum))


def wiener_without_curl(com: _Map, step: _Step, cutoff: float, noise: float) -> _Map:
    """Wiener filter in rings of what has no curl and lies within the band; the scan is mirrored at its edges."""
    ny, nx = com.shape
    # a vector changes its sign across a mirror
    right = np.concatenate([com, -np.conj(com[:, ::-1])], axis=1)
    whole = np.concatenate([right, np.conj(right[::-1])], axis=0)
    frequency, angle = frequencies(whole.shape, step)
    spectrum = fft.fft2(whole) * np.exp(-1j * angle)
    opposite = np.conj(np.roll(spectrum[::-1, ::-1], (1, 1), (0, 1)))
    # in the frame of the frequency a gradient is i times a real potential's spectrum, and half of the noise is not
    free = (spectrum - opposite) / 2
    mean = mean_over_rings(np.abs(free) ** 2, frequency, step) / whole.size
    gain = np.clip(1 - noise / 2 / np.maximum(mean, 1e-30), 0, None) * (frequency <= cutoff)
    return np.asarray(fft.ifft2(gain * free * np.exp(1j * angle))[:ny, :nx])


def gaussian_process(com: _Map, step: _Step, cutoff: float, noise: float, *, with_curl: bool = False) -> _Map:
    """The COM of the whole scan as one Gaussian process, whose spectrum in the plane is that of the data."""
    shape = tuple(2 * n for n in com.shape)
    # autocovariances without bias, their lags tapered
    counts = np.maximum(np.rint(fft.ifft2(np.abs(fft.fft2(np.ones(com.shape), shape)) ** 2).real), 1)
    forward, conjugate = fft.fft2(com, shape), fft.fft2(np.conj(com), shape)
    taper = np.outer(
        *(np.clip(1 - np.minimum(np.arange(2 * n), 2 * n - np.arange(2 * n)) / n, 0, 1) for n in com.shape)
    )
    covariance = fft.ifft2(np.abs(forward) ** 2) / counts
    covariance[0, 0] -= noise
    relation = fft.ifft2(forward * np.conj(conjugate)) / counts
    frequency, angle = frequencies(shape, step)
    phase = np.exp(2j * angle)
    total = fft.fft2(covariance * taper).real
    total = (total + np.roll(total[::-1, ::-1], (1, 1), (0, 1))) / 2
    difference = (fft.fft2(relation * taper) * np.conj(phase)).real
    inside = frequency <= cutoff
    along = np.maximum(total + difference, 0) / 2 * inside
    across = np.maximum(total - difference, 0) / 2 * inside * with_curl
    own, other = along + across, (along - across) * phase
    ny, nx = com.shape

    def prior(x: _Map) -> _Map:
        return np.asarray(fft.ifft2(own * fft.fft2(x, shape) + other * fft.fft2(np.conj(x), shape))[:ny, :nx])

    x, residual = np.zeros_like(com), com.copy()
    direction, size = residual.copy(), float(np.vdot(residual, residual).real)
    first = size
    for _ in range(_N_ROUNDS):
        if size < 1e-10 * first:
            break
        applied = prior(direction) + noise * direction
        length = size / float(np.vdot(direction, applied).real)
        x, residual = x + length * direction, residual - length * applied
        before, size = size, float(np.vdot(residual, residual).real)
        direction = residual + size / before * direction
    return prior(x)


def gaussian_process_with_curl(com: _Map, step: _Step, cutoff: float, noise: float) -> _Map:
    """The same, with a curl as large as the data have."""
    return gaussian_process(com, step, cutoff, noise, with_curl=True)


RIVALS = {
    "COM": lambda com, step, cutoff, noise: com,
    "mean of 3 × 3": mean_of_nine,
    "Gaussian, width by SURE": gaussian_by_risk,
    "Wiener in rings": wiener,
    "the same, no curl, in the band": wiener_without_curl,
    "Gaussian process": gaussian_process_with_curl,
    "Gaussian process, no curl": gaussian_process,
}
"""By their name in the tables."""
