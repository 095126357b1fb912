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
# width of a ring over the radius of the disc, at least a pixel
_RING = 0.125
# share of the pixels that are taken for quiet
_QUIET = 0.1
_FEWEST_FRAMES = 16


@dataclass(frozen=True)
class RadialVariation:
    """Where patterns differ over the scan, by their variance beyond counting noise over that noise.

    Attributes
    ----------
    half : float
        Radius in pixel widths within which half of it lies.
    reach : float
        Radius out to which there is any.
    """

    half: float
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
    steps = np.rint(moves).astype(int)
    total, squares, n_seen = np.zeros((3, *bad.shape))
    for frame, step in zip(frames, steps, strict=True):
        # what comes in from the other side is of a dark corner and tells nothing
        here = np.roll(frame, tuple(-step), (0, 1)) if step.any() else frame
        good = np.roll(~bad, tuple(-step), (0, 1)) if step.any() else ~bad
        value = np.where(good & np.isfinite(here), here, 0).astype(np.float64)
        total += value
        squares += value**2
        n_seen += good
    seen = n_seen > len(frames) / 2
    number = np.maximum(n_seen, 1)
    mean = total / number
    variance = np.maximum(squares / number - mean**2, 0)
    counts = np.maximum(mean - noise.dark_level, 0)
    electron = noise.variance_per_count
    if not np.isfinite(electron) and (lit := seen & (counts > 0)).any():
        # it is no more than what the quietest pixels have; in patterns without noise that is next to nothing
        electron = float(np.quantile(np.maximum(variance - noise.readout**2, 0)[lit] / counts[lit], _QUIET))
    of_counts = noise.readout**2 + electron * counts
    rows, columns = np.indices(bad.shape, dtype=float)
    radius = np.hypot((rows - disc.centre[0]) * aspect, columns - disc.centre[1])
    width = max(1.0, _RING * disc.radius)
    ring = (radius / width).astype(int)
    use = seen & (of_counts > 0)
    if not use.any():
        return None
    n_pixels = np.bincount(ring[use], minlength=ring.max() + 1)
    beyond = np.bincount(ring[use], variance[use] / of_counts[use], len(n_pixels)) - n_pixels
    # the fourth moment of few counts is larger than that of a normal distribution
    spread = (2 + electron / np.maximum(counts[use], 1e-6)) / len(frames)
    error = np.sqrt(np.bincount(ring[use], spread, len(n_pixels)))
    beyond[beyond < np.maximum(_N_SIGMA * error, _LEAST_SHARE * n_pixels)] = 0
    within = np.cumsum(beyond)
    if not within[-1] > 0:
        return None
    half = int(np.searchsorted(within, within[-1] / 2))
    return RadialVariation((half + 1) * width, (int(np.flatnonzero(beyond)[-1]) + 1) * width)
