"""What a detector adds to the electrons: dark level, readout noise, and counts per electron."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["DetectorNoise", "detector_noise"]

# frames beyond this number tell nothing more; their products would take seconds on a large detector
_MOST_FRAMES = 256
# share of the pixels, the darkest ones, that are taken for those beyond the signal
_DARK_SHARE = 0.25
# a dark level is one where the noise there is less than half of what so many counts of electrons would have
_LEAST_QUIET = 0.5
# pixels around one over which the charge of an electron is shared
_SPREAD = 1
# electrons count for one where the darkest pixels' variance is less than this over their mean: 0.99 to 1.00 with
# counted electrons, 3.3 on the recorded scan
_COUNTED = 1.2
# two estimates of the counts per electron differ where one is less than this share of the other: 0.1 to 0.7 among
# grains at 5,000 to 50,000 electrons; otherwise at least 0.9. `pytest tests/test_grains.py -k electron`
_CLEARLY = 0.8
# standard errors of counted electrons by which a pixel may be brighter than what surrounds it
_HOT = 5.0
_N_ROUNDS = 20
# a dark level differs by less than this share over the darkest quarter, where noise cannot tell it from electrons
_UNEVEN = 0.1


@dataclass(frozen=True, eq=False)
class DetectorNoise:
    """Noise of a detector, as the patterns show it.

    Attributes
    ----------
    dark_level : float
        Counts of a pixel without an electron; 0 where there is no sign of another level.
    dark_scatter : float
        Standard deviation of that level from pixel to pixel, where it can be seen.
    readout : float
        Standard deviation of a pixel without an electron, in counts.
    variance_per_count : float
        Variance of a single pixel over its mean without the dark level: smaller than the next where the charge of an
        electron is shared by pixels; NaN where patterns are free of noise.
    counts_per_electron : float
        Variance over mean of the sum of neighbouring pixels: the counts that an electron leaves, all pixels together,
        and a little more where electrons leave different numbers of counts; NaN where patterns are free of noise.
    """

    dark_level: float = 0.0
    dark_scatter: float = 0.0
    readout: float = 0.0
    variance_per_count: float = math.nan
    counts_per_electron: float = math.nan


def detector_noise(frames: NDArray[Any], bad: NDArray[np.bool_]) -> DetectorNoise:
    """Find dark level and noise from how much the values of pixels scatter.

    What the specimen does to the patterns is taken out first: the principal components that stand above those of noise
    (Marchenko & Pastur, Math. USSR Sb. 1, 457, 1967). Of the rest, the variance is ``readout² + gain · (mean - dark)``
    pixel by pixel. The darkest quarter of the detector has a dark level where it is brighter than so little noise
    allows; the median over the patterns is that level, since few electrons fall there.

    Parameters
    ----------
    frames : ndarray, shape (n, k_y, k_x)
        Patterns without NaN at good pixels.
    bad : ndarray of bool, shape (k_y, k_x)
        Pixels that tell nothing.

    Returns
    -------
    DetectorNoise
    """
    frames = frames[:: max(1, math.ceil(len(frames) / _MOST_FRAMES))]
    good = ~bad
    if len(frames) < 8 or good.sum() < 16:
        return DetectorNoise()
    values = frames[:, good]
    mean = values.mean(axis=0, dtype=np.float64)
    # half the numbers' size is half the time, and rounding is far below any noise
    spread = (values - mean).astype(np.float32)
    noise = _without_components(spread)
    if noise is None:
        return _even_level(frames, bad)
    variance = _variance(noise)
    if not variance.max() > 1e-9 * max(np.abs(mean).max(), 1e-300) ** 2:
        return _even_level(frames, bad)
    dark, surroundings = _darkest(mean, good)
    level = float(np.median(np.median(values[:, dark], axis=0)))
    quiet = float(np.median(variance[dark]))
    bright = float(np.quantile(mean, 0.95))
    lit = mean > level + 0.5 * (bright - level)
    if not lit.any() or bright <= level:
        return DetectorNoise(readout=math.sqrt(quiet))
    # one pixel has a part of an electron's counts, the pixels around it together have all
    per_pixel = float(np.median((variance[lit] - quiet) / (mean[lit] - level)))
    if not per_pixel > 0:
        return DetectorNoise(readout=math.sqrt(quiet))
    shared = _shared(noise, good)
    per_electron = float(np.median((shared[lit] - quiet) / (mean[lit] - level)))
    is_offset = abs(level) > 3 * math.sqrt(quiet / len(frames)) and quiet < _LEAST_QUIET * per_pixel * abs(level)
    # a hot pixel is bright without electrons, and one alone can outshine all others in the dark
    even = dark & (mean <= surroundings + _HOT * np.sqrt((np.maximum(surroundings, 0) + 1 / len(frames)) / len(frames)))
    if not is_offset and mean[even].sum() > 0:
        # discs that come and go as a whole leave some of themselves in the noise of where they are bright; in the
        # darkest pixels there is less of anything, and what scatters there tells whether electrons count for one
        bounds = [float(part[even].sum() / mean[even].sum()) for part in (_variance(spread), _shared(spread, good))]
        if bounds[0] < _COUNTED:
            per_pixel, per_electron = (
                bound if bound < _CLEARLY * estimate else estimate
                for bound, estimate in zip(bounds, (per_pixel, per_electron), strict=True)
            )
    if not is_offset:
        return DetectorNoise(0.0, 0.0, math.sqrt(quiet) if level <= 0 else 0.0, per_pixel, per_electron)
    levels = np.median(values[:, dark], axis=0)
    scatter = 1.4826 * float(np.median(np.abs(levels - level)))
    return DetectorNoise(level, scatter, math.sqrt(quiet), per_pixel, per_electron)


def _variance(noise: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean square of every good pixel's noise."""
    return np.asarray((noise**2).mean(axis=0, dtype=np.float64))


def _shared(noise: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean product of every good pixel's noise with that of itself and the pixels around it."""
    image = np.zeros((len(noise), *good.shape), np.float32)
    image[:, good] = noise
    width = 2 * _SPREAD + 1
    sums = ndimage.uniform_filter(image, (0, width, width), mode="constant") * width**2
    return np.asarray((image * sums).mean(axis=0, dtype=np.float64)[good])


def _even_level(frames: NDArray[Any], bad: NDArray[np.bool_]) -> DetectorNoise:
    """Dark level of patterns whose noise cannot be told from what changes: where the darkest quarter is even and quiet.

    All variance counts as noise, which is more than there is; scattered electrons are neither even nor quiet. What is
    not counted has no noise to be held against, and a level is one where the brightest pixels are well above it.
    """
    values = frames[:, ~bad]
    mean = values.mean(axis=0, dtype=np.float64)
    dark, surroundings = _darkest(mean, ~bad)
    levels = np.median(values[:, dark], axis=0)
    level = float(np.median(levels))
    quiet = float(np.median(values[:, dark].var(axis=0, dtype=np.float64)))
    if not (level > 0 and np.ptp(surroundings[dark]) < _UNEVEN * level):
        return DetectorNoise()
    is_counted = frames.dtype.kind in "ui"
    bright = float(np.quantile(mean, 0.95))
    if not (quiet < _LEAST_QUIET * level if is_counted else quiet < (_UNEVEN * level) ** 2 and level < bright / 2):
        return DetectorNoise()
    return DetectorNoise(level, 1.4826 * float(np.median(np.abs(levels - level))), math.sqrt(quiet))


def _darkest(mean: NDArray[np.float64], good: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which of the good pixels lie in the darkest quarter, and the mean around each.

    They are chosen by their surroundings: the darkest pixels by themselves would be those of the lowest level.
    """
    image = np.full(good.shape, np.median(mean))
    image[good] = mean
    surroundings = ndimage.median_filter(image, 5, mode="nearest")[good]
    return surroundings <= np.quantile(surroundings, _DARK_SHARE), surroundings


def _without_components(residual: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Residuals without the components that stand above noise, scaled to its variance; None where there is none."""
    n = len(residual)
    spread = np.sqrt((residual**2).mean(axis=0))
    varying = spread > 0
    scaled = residual[:, varying] / spread[varying]
    values, vectors = np.linalg.eigh((scaled @ scaled.T).astype(np.float64) / max(int(varying.sum()), 1))
    # noise alone has no eigenvalue above this multiple of its mean
    highest = (1 + math.sqrt(n / max(int(varying.sum()), 1))) ** 2
    keep = np.ones(n, bool)
    for _ in range(_N_ROUNDS):
        before, keep = keep, values <= values[keep].mean() * highest
        if not keep.any() or (before == keep).all():
            break
    # without noise the components fall off for ever, and nearly all stand above the rest
    if keep.sum() < n / 2:
        return None
    # centring has taken one direction already
    n_left = max(1, int(keep.sum()) - 1)
    held = vectors[:, keep].astype(np.float32)
    return np.asarray((held @ (held.T @ residual)) * np.float32(math.sqrt(n / n_left)))
