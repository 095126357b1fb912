"""How far out patterns differ over the scan by more than the noise of their counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.geometry.disc import Disc
from stemvane.reduction.detector_noise import DetectorNoise

__all__ = ["RadialVariation", "radial_variation"]

# a ring varies where it does so by this many standard errors beyond its noise, and by this share of it, since the noise
# of pixels is known to some per cent
_N_SIGMA, _LEAST_SHARE = 5.0, 0.1
# width of a ring of pixels over the radius of the disc, at least a pixel
_RING = 0.125
# share of the pixels that are taken for quiet
_QUIET = 0.1
_FEWEST_FRAMES = 16


@dataclass(frozen=True)
class RadialVariation:
    """Where patterns differ over the scan, by their variance beyond counting noise over that noise.

    Attributes
    ----------
    half : float or None
        Radius in pixel widths within which half of it lies; None where single pixels do not tell.
    reach : float
        Radius out to which there is any.
    """

    half: float | None
    reach: float


def radial_variation(
    frames: NDArray[Any],
    moves: NDArray[np.float64],
    bad: NDArray[np.bool_],
    noise: DetectorNoise,
    disc: Disc,
    aspect: float,
) -> RadialVariation | None:
    """Find where patterns differ.

    How much they do is found pixel by pixel, and how far out on squares as wide as the disc's radius: a disc that comes
    and goes with one electron changes the noise of its pixels by little, and that of all of them together by as much.

    Parameters
    ----------
    frames : ndarray, shape (n, k_y, k_x)
        Patterns as recorded.
    moves : ndarray of float, shape (n, 2)
        Shift ``(y, x)`` of the beam in each, in pixels.
    bad : ndarray of bool, shape (k_y, k_x)
        Pixels that tell nothing.
    noise : DetectorNoise
        Dark level and noise of these patterns.
    disc : Disc
        The direct beam.
    aspect : float
        Height of a pixel divided by its width.

    Returns
    -------
    RadialVariation or None
        None where there are fewer than sixteen patterns, or they differ by no more than their noise.
    """
    if len(frames) < _FEWEST_FRAMES:
        return None
    side = max(1, int(disc.radius))
    steps = np.rint(moves).astype(int)
    of_pixels, of_squares = _Moments.empty(bad.shape), _Moments.empty(tuple(n // side for n in bad.shape))
    for frame, step in zip(frames, steps, strict=True):
        # what comes in from the other side is of a dark corner and tells nothing
        here, good = (np.roll(part, tuple(-step), (0, 1)) if step.any() else part for part in (frame, ~bad))
        good = good & np.isfinite(here)
        value = np.where(good, here - noise.dark_level, 0).astype(np.float64)
        of_pixels.add(value, good)
        of_squares.add(_sums(value, side), _sums(good, side) == side**2)
    electron = _counts_of_an_electron(of_pixels, noise)
    together = noise.counts_per_electron if np.isfinite(noise.counts_per_electron) else electron
    width = max(1.0, _RING * disc.radius)
    pixels = _beyond_noise(of_pixels, disc.centre, aspect, width, electron, noise.readout**2)
    middle = (disc.centre[0] - (side - 1) / 2) / side, (disc.centre[1] - (side - 1) / 2) / side
    squares = _beyond_noise(of_squares, middle, aspect, 1.0, together, side**2 * noise.readout**2)
    if not squares.any():
        return None
    reach = float((int(np.flatnonzero(squares)[-1]) + 1) * side)
    if not pixels.any():
        return RadialVariation(None, reach)
    within = np.cumsum(pixels)
    half = (int(np.searchsorted(within, within[-1] / 2)) + 1) * width
    return RadialVariation(half, max(reach, half))


@dataclass(frozen=True)
class _Moments:
    """Sums of values and of their squares over frames, and how many there were."""

    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    number: NDArray[np.float64]

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> _Moments:
        return cls(*np.zeros((3, *shape)))

    def add(self, values: NDArray[np.float64], good: NDArray[np.bool_]) -> None:
        self.total[good] += values[good]
        self.squares[good] += values[good] ** 2
        self.number[good] += 1

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Where most frames have a value."""
        return np.asarray(self.number > self.number.max(initial=1) / 2)

    @property
    def counts(self) -> NDArray[np.float64]:
        """Mean, 0 at least."""
        return np.maximum(self.total / np.maximum(self.number, 1), 0)

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance over the frames."""
        number = np.maximum(self.number, 1)
        return np.maximum(self.squares / number - (self.total / number) ** 2, 0)


def _sums(image: NDArray[Any], side: int) -> NDArray[Any]:
    """Sums over squares that fit into an image."""
    rows, columns = (n // side for n in image.shape)
    squares = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return np.asarray(squares.sum(axis=(1, 3)))


def _counts_of_an_electron(pixels: _Moments, noise: DetectorNoise) -> float:
    """Variance of a pixel's counting noise over its mean."""
    lit = pixels.seen & (pixels.counts > 0)
    if np.isfinite(noise.variance_per_count) or not lit.any():
        return noise.variance_per_count
    # it is no more than what the quietest pixels have; in patterns without noise that is next to nothing
    ratio = np.maximum(pixels.variance - noise.readout**2, 0)[lit] / pixels.counts[lit]
    return float(np.quantile(ratio, _QUIET))


def _beyond_noise(
    moments: _Moments, centre: tuple[float, float], aspect: float, width: float, electron: float, readout: float
) -> NDArray[np.float64]:
    """Variance beyond noise over noise, summed over the pixels of every ring; 0 where it may be chance."""
    rows, columns = np.indices(moments.total.shape, dtype=float)
    ring = (np.hypot((rows - centre[0]) * aspect, columns - centre[1]) / width).astype(int)
    of_counts = readout + electron * moments.counts
    use = moments.seen & (of_counts > 0)
    if not use.any():
        return np.zeros(1)
    n_pixels = np.bincount(ring[use], minlength=ring.max() + 1)
    beyond = np.bincount(ring[use], moments.variance[use] / of_counts[use], len(n_pixels)) - n_pixels
    # the fourth moment of few counts is larger than that of a normal distribution
    spread = (2 + electron / np.maximum(moments.counts[use], 1e-6)) / moments.number[use]
    error = np.sqrt(np.bincount(ring[use], spread, len(n_pixels)))
    beyond[beyond < np.maximum(_N_SIGMA * error, _LEAST_SHARE * n_pixels)] = 0
    return np.asarray(beyond)
