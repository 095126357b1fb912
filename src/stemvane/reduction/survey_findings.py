"""What a survey says about patterns, disc and calibration, as findings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.data.calibration import Calibration
from stemvane.data.findings import Finding
from stemvane.geometry.disc import Disc
from stemvane.reduction.detector_noise import DetectorNoise

__all__ = [
    "bright_region_findings",
    "bright_spot_findings",
    "calibration_findings",
    "disc_findings",
    "gain_findings",
    "hidden_findings",
    "lone_region_findings",
    "patch_findings",
    "pattern_findings",
    "saturation_findings",
    "shadow_findings",
    "spike_findings",
]

# a circle that lies beyond the detector by this share has lost counts of one side
_MOST_CUT = 0.02
# axis and radius may differ from the disc's by this share of the radius, or half a pixel, before a word is said;
# beyond the second share the COM is one of the wrong point
_DIFFERENCE = 0.05
_CONTRADICTION = 0.25
# pixels of the disc below this share of its level are in a shadow; shares of its area that are worth a word, and two
_SHADOW = 0.1
_LEAST_SHADOW = 0.02
_MOST_SHADOW = 0.05
_LEAST_PIXELS = 16
# where half of the disc's pixels are saturated in most patterns, the COM keeps a third of its length and its directions
# are 13 degrees off (`synthetic` patterns, clipped)
_MOST_SATURATED = 0.5
# a bright region that holds less than this share of the counts turns angles by less than 2 degrees; with the second one
# it may be the disc itself. `pytest tests/test_verdict.py -k region`
_LEAST_LONE = 0.05
_MOST_LONE = 0.2
# a patch differs by this share of the disc's level from what lies as far from the axis, over so many of the disc's
# area; with less, eight pixels across, angles are as they are without it. `pytest tests/test_verdict.py -k patch`
_PATCH = 0.3
_LEAST_PATCH = 0.02
# moment of the bad pixels about the disc's centre, over its area and radius, from which they are worth a word: a block
# of 8 x 8 on a disc of 20 pixels, 0.1, makes angles of 1.9 degrees 3.3; a gap through the middle has next to none
_LEAST_HIDDEN = 0.02
# what lies across the axis is its counterpart from this share of its level, found within so many pixels
_COUNTERPART = 0.25
_ACROSS = 2
# standard errors of a mean by which it is another one
_N_SIGMA = 6.0
# a pixel that is as many times as bright as all around it in its own and in the mean pattern, and by as many electrons
# and standard deviations of the readout noise beyond, was not lit by the beam; discs of fewer pixels are such pixels
_SPIKE = 8.0
_SPIKE_ELECTRONS = 20.0
_SPIKE_SIGMA = 10.0
_SMALLEST_DISC = 3.0
# where 5 % of the patterns have one the filtered COM is lost; `pytest tests/test_verdict.py -k spike`
_MOST_SPIKES = 0.005
# chips that are matched to less than this show in no map
_GAIN_STEP = 0.05


def pattern_findings(
    n_frames: int, is_broken: NDArray[np.bool_], frames: NDArray[Any], bad: NDArray[np.bool_], level: float
) -> Iterator[Finding]:
    """Patterns without counts, and negative values that no dark level explains."""
    if is_broken.any():
        yield Finding(
            "empty_patterns",
            "warning" if is_broken.mean() > 0.05 else "note",
            f"{int(is_broken.sum())} of {n_frames} patterns are empty or hold NaN; their positions count as missing",
        )
    if frames.dtype.kind not in "if" or not len(frames):
        return
    good = frames[:, ~bad]
    total, negative = float(good.sum(dtype=np.float64)), float(good[good < 0].sum(dtype=np.float64))
    if level == 0 and total > 0 and -negative > total:
        yield Finding(
            "negative_counts",
            "warning",
            f"the negative counts of the patterns amount to {-negative / total:.1f} times their total",
            "check the dark image (preparation.dark): more may have been subtracted than there is",
        )


def saturation_findings(
    frames: NDArray[Any], bad: NDArray[np.bool_], disc: Disc | None, aspect: float
) -> Iterator[Finding]:
    """Pixels at the largest number that their type holds, or values that pile up at the largest that is found."""
    if not frames.size or bad.all():
        return
    good = frames[:, ~bad]
    highest = good.max()
    at_highest = good == highest
    n_pixels = int(at_highest.any(axis=0).sum())
    if frames.dtype.kind in "ui" and highest == np.iinfo(frames.dtype).max:
        words = f"{n_pixels} pixels reach {highest}, the largest {frames.dtype} there is: saturated, or masked"
    else:
        # counts thin out towards their largest value; a counter that is full has most of them there
        just_below = int(((good >= 0.9 * highest) & ~at_highest).sum())
        if not (highest >= 32 and n_pixels >= 4 and int(at_highest.sum()) > max(8, just_below)):
            return
        words = f"{n_pixels} pixels stop at {highest}: the detector saturates there"
    share = 0.0
    if disc is not None and (inside := _inside(disc, bad.shape, aspect)[~bad]).any():
        share = float((at_highest[:, inside].mean(axis=0) > 0.5).mean())
    if share > _MOST_SATURATED:
        words += f", over {100 * share:.0f} % of the disc, so that the COM hardly follows the deflection"
    yield Finding(
        "saturation",
        "failure" if share > _MOST_SATURATED else "warning",
        words,
        "record with fewer electrons per frame, or mask these pixels (preparation.bad_pixels)",
    )


def _inside(disc: Disc, shape: tuple[int, ...], aspect: float) -> NDArray[np.bool_]:
    """Pixels of the disc that its edge does not touch."""
    y, x = np.indices(shape)
    return np.asarray(np.hypot((y - disc.centre[0]) * aspect, x - disc.centre[1]) < 0.95 * disc.radius - 0.5)


def disc_findings(disc: Disc | None, pattern: NDArray[Any]) -> Iterator[Finding]:
    """A disc that is missing, cut by the edge, or one of several."""
    if disc is None:
        yield Finding(
            "no_disc",
            "warning",
            "no bright-field disc was found",
            "give source.optical_axis and source.disc_radius in pixels, or a mask of what is no part of the pattern "
            "(preparation.bad_pixels)",
        )
        return
    cut = disc.share_outside(pattern.shape)
    if cut > 0:
        yield Finding(
            "disc_cut",
            "failure" if cut > _MOST_CUT else "warning",
            f"the detector's edge cuts {100 * cut:.0f} % of the disc off, so that the COM does not follow the "
            "deflection",
            "move the pattern to the detector's middle when recording",
        )
    if disc.n_similar:
        yield Finding(
            "several_discs",
            "warning",
            f"{disc.n_similar} further discs are as large as the one in the middle of all, which is taken for the "
            "direct beam",
            "check the optical axis, and give source.optical_axis where it is another one",
        )


def shadow_findings(
    disc: Disc | None,
    pattern: NDArray[np.float64],
    error: NDArray[np.float64],
    bad: NDArray[np.bool_],
    aspect: float,
) -> Iterator[Finding]:
    """Good pixels within the disc that stay dark: a beam stop, a dead region, or a ring instead of a disc."""
    if disc is None:
        return
    inside = _inside(disc, pattern.shape, aspect)
    good = inside & ~bad
    if good.sum() < _LEAST_PIXELS:
        return
    # over some pixels, so that those which no electron has hit by chance do not count
    weight = ndimage.gaussian_filter((~bad).astype(float), 1.0)
    smooth = ndimage.gaussian_filter(np.where(bad, 0.0, pattern), 1.0) / np.maximum(weight, 1e-3)
    level = float(np.quantile(smooth[good], 0.75))
    # a Gaussian of one pixel averages over 4π of them
    if not level > 0 or float(np.quantile(error[good], 0.75)) > 0.2 * level * np.sqrt(4 * np.pi):
        return
    share = float((smooth[good] < _SHADOW * level).sum() / inside.sum())
    if share > _LEAST_SHADOW:
        yield Finding(
            "disc_shadowed",
            "failure" if share > _MOST_SHADOW else "warning",
            f"{100 * share:.0f} % of the disc's area is dark: a beam stop, a dead part of the detector, or a ring that "
            "was taken for the disc, so that the COM does not follow the deflection",
            "give these pixels as a mask (preparation.bad_pixels), or source.optical_axis and source.disc_radius",
        )


def hidden_findings(disc: Disc | None, found: NDArray[np.bool_], aspect: float) -> Iterator[Finding]:
    """Bad pixels that the survey has found on one side of the disc."""
    if disc is None or not (inside := _inside(disc, found.shape, aspect)).any():
        return
    share = float(found[inside].mean())
    offset = np.argwhere(found & inside) - np.array(disc.centre)
    if np.hypot(*offset.sum(axis=0)) > _LEAST_HIDDEN * disc.radius * inside.sum():
        yield Finding(
            "disc_hidden",
            "warning",
            f"{100 * share:.0f} % of the disc's area are pixels that were found to be bad, most of them on one side: "
            "what they hide of the deflection is lost",
            "see that they are bad in the mean pattern, and give a mask (preparation.bad_pixels) of those that are",
        )


def patch_findings(
    disc: Disc | None,
    pattern: NDArray[np.float64],
    error: NDArray[np.float64],
    bad: NDArray[np.bool_],
    aspect: float,
) -> Iterator[Finding]:
    """A part of the disc, or one that touches it, that is brighter or darker than that across the axis."""
    if disc is None:
        return
    y, x = np.indices(pattern.shape)
    radius = np.hypot((y - disc.centre[0]) * aspect, x - disc.centre[1])
    inside = _inside(disc, pattern.shape, aspect) & ~bad
    if inside.sum() < _LEAST_PIXELS:
        return
    # what most pixels of a ring have is what a patch of it lacks; the disc's own edge is as wide as the opening below
    ring = radius.astype(int)
    usual = ndimage.median(pattern, np.where(bad, -1, ring), np.arange(ring.max() + 1))
    excess = pattern - np.nan_to_num(usual)[ring]
    level = float(np.median(pattern[inside]))
    is_clear = ~bad & (np.abs(excess) > np.maximum(_PATCH * level, _N_SIGMA * error))
    for sign, word in ((1, "brighter"), (-1, "darker")):
        patch = ndimage.binary_opening(is_clear & (np.sign(excess) == sign), np.ones((3, 3)))
        regions, n = ndimage.label(patch)
        nearby = ndimage.maximum_filter(patch, 2 * _ACROSS + 1)
        for number in range(1, n + 1):
            places = np.argwhere(regions == number)
            if radius[regions == number].min() > disc.radius + 1:
                continue
            across = np.rint(2 * np.array(disc.centre) - places).astype(int)
            across = across[((across >= 0) & (across < pattern.shape)).all(axis=1)]
            share = len(places) / (np.pi * disc.radius**2 / aspect)
            if share < _LEAST_PATCH or nearby[tuple(across.T)].sum() > 0.5 * len(places):
                continue
            rows, columns = places.T
            yield Finding(
                "uneven_disc",
                "warning",
                f"rows {rows.min()} to {rows.max()}, columns {columns.min()} to {columns.max()}, on the disc or beside "
                f"it, are {word} than what lies across the axis: a defect of the detector, or a tilted crystal",
                "give these pixels as a mask (preparation.bad_pixels) if they are not part of the pattern",
            )


def spike_findings(
    frames: NDArray[Any],
    positions: NDArray[np.int64],
    mean: NDArray[np.float64],
    bad: NDArray[np.bool_],
    disc: Disc | None,
    noise: DetectorNoise,
) -> Iterator[Finding]:
    """Patterns with single pixels that X-rays or cosmic rays have lit."""
    if disc is None or disc.radius < _SMALLEST_DISC or not np.isfinite(noise.counts_per_electron):
        return
    beyond = _SPIKE_ELECTRONS * max(noise.counts_per_electron, 1.0) + _SPIKE_SIGMA * noise.readout + noise.dark_level
    limit = np.where(bad, np.inf, _SPIKE * np.maximum(ndimage.maximum_filter(mean, 5), 0) + beyond)
    hit = [number for number, frame in enumerate(frames) if _has_spike(frame, limit, bad, noise.dark_level)]
    if hit:
        y, x = positions[hit[0]]
        share = len(hit) / len(frames)
        yield Finding(
            "spikes",
            "failure" if share > _MOST_SPIKES else "warning",
            f"{len(hit)} of {len(frames)} patterns hold single pixels that are far brighter than all around them, the "
            f"first at scan position ({y}, {x}): X-rays or cosmic rays, which move the COM",
            "remove them from the data, or leave the positions out (preparation.missing)",
        )


def _has_spike(frame: NDArray[Any], limit: NDArray[np.float64], bad: NDArray[np.bool_], level: float) -> bool:
    """Whether a pixel beyond its limit is alone, the charge that it shares with its neighbours aside."""
    for y, x in np.argwhere(frame > limit):
        top, left = max(0, y - 2), max(0, x - 2)
        around = np.where(bad, level, frame)[top : y + 3, left : x + 3] - level
        rows, columns = np.indices(around.shape)
        border = np.maximum(np.abs(rows + top - y), np.abs(columns + left - x)) == 2
        if frame[y, x] - level > _SPIKE * np.max(around[border], initial=0):
            return True
    return False


def bright_spot_findings(n_pixels: int) -> Iterator[Finding]:
    """Pixels that may be hot or discs of a crystal."""
    if n_pixels:
        yield Finding(
            "hot_or_bragg",
            "note",
            f"{n_pixels} bright pixels are as large as the direct beam and may be Bragg discs; they are left in, and "
            "preparation.bad_pixels takes a mask if they are hot",
        )


def bright_region_findings(region: NDArray[np.bool_]) -> Iterator[Finding]:
    """A bright rectangle beside the disc, which no specimen makes."""
    if region.any():
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        yield Finding(
            "bright_region",
            "warning",
            f"{int(region.sum())} pixels in rows {rows[0]} to {rows[-1]} and columns {columns[0]} to {columns[-1]} are "
            "a rectangle that is bright with sharp edges: taken for a defect of the detector, and left out",
            "see the mean pattern; if they are part of it, set preparation.mask_hot_and_dead to false",
        )


def lone_region_findings(
    disc: Disc | None, pattern: NDArray[np.floating[Any]], calibration: Calibration
) -> Iterator[Finding]:
    """A bright region beside the disc without a counterpart across the axis: stray light, a defect, or the disc."""
    if disc is None:
        return
    smooth = ndimage.gaussian_filter(pattern, 0.7, mode="nearest")
    smooth = np.maximum(smooth - np.percentile(smooth, 5), 0.0)
    beside = np.where(disc.covers(pattern.shape, calibration.pixel_aspect, 2 + 0.1 * disc.radius), 0.0, smooth)
    if not beside.any():
        return
    regions, n = ndimage.label(beside > 0.5 * (beside**2).sum() / beside.sum())
    sums = ndimage.sum_labels(beside, regions, np.arange(1, n + 1))
    region = regions == 1 + int(np.argmax(sums))
    share = float(sums.max() / smooth.sum())
    if share < _LEAST_LONE:
        return
    # the strongest of the pixels nearby, since the axis is known to a part of a pixel and discs are distorted
    nearby = ndimage.maximum_filter(beside, 2 * _ACROSS + 1)
    across = np.rint(2 * np.array(disc.centre) - np.argwhere(region)).astype(int)
    across = across[((across >= 0) & (across < pattern.shape)).all(axis=1)]
    if nearby[tuple(across.T)].sum() > _COUNTERPART * sums.max():
        return
    y, x = ndimage.center_of_mass(np.where(region, beside, 0.0))
    yield Finding(
        "lone_region",
        "failure" if share > _MOST_LONE and calibration.optical_axis is None else "warning",
        f"a bright region about ({y:.0f}, {x:.0f}) px holds {100 * share:.0f} % of the counts and has no counterpart "
        "across the axis, as discs of a crystal have: stray light, a defect of the detector, or the direct beam itself",
        "give its pixels as a mask (preparation.bad_pixels), or source.optical_axis and source.disc_radius",
    )


def calibration_findings(disc: Disc | None, calibration: Calibration) -> Iterator[Finding]:
    """Axis and radius that were given against those of the disc, and a scan step too coarse for the probe."""
    if calibration.scan_step is not None and calibration.band_limit is not None:
        # the probe's maps hold periods down to that of the band limit, each of which needs two positions
        coarsest = 0.5 / calibration.band_limit
        if max(calibration.scan_step) > 1.05 * coarsest:
            yield Finding(
                "coarse_scan",
                "warning",
                f"the scan step of {max(calibration.scan_step):.3g} Å is above {coarsest:.3g} Å, half the finest "
                "detail of the probe's maps: details may be aliased",
                "scan with smaller steps",
            )
    if disc is None:
        return
    expected = calibration.disc_radius
    angle = calibration.convergence_semiangle
    if expected is None and angle is not None and calibration.pixel_size is not None:
        expected = angle / calibration.pixel_size[1]
    tolerance = max(0.5, _DIFFERENCE * disc.radius)
    if expected is not None and abs(expected - disc.radius) > tolerance:
        yield Finding(
            "radius_contradicts",
            "warning",
            f"the disc's radius is {disc.radius:.2f} px, the calibration says {expected:.2f} px",
            "check convergence_semiangle, pixel_size and disc_radius in [source]",
        )
    axis = calibration.optical_axis
    if axis is None:
        return
    distance = float(np.hypot(axis[0] - disc.centre[0], axis[1] - disc.centre[1]))
    if distance > tolerance:
        yield Finding(
            "axis_contradicts",
            "failure" if distance > _CONTRADICTION * disc.radius else "warning",
            f"the disc's centre is ({disc.centre[0]:.2f}, {disc.centre[1]:.2f}) px, "
            f"the calibration says ({axis[0]:.2f}, {axis[1]:.2f}) px",
            "check source.optical_axis, or leave it out so that the disc's centre is taken",
        )


def gain_findings(pattern: NDArray[Any], error: NDArray[np.float64], bad: NDArray[np.bool_]) -> Iterator[Finding]:
    """Steps of the gain between neighbouring columns or rows, as chips and readout channels have."""
    bright = float(np.quantile(pattern, 0.98))
    # two pixels from the disc's edge its level is the gain's alone
    lit = ndimage.binary_erosion(pattern > 0.5 * bright, np.ones((3, 3)), iterations=2) & ~bad
    for axis, name in ((1, "column"), (0, "row")):
        values, use, noise = (np.moveaxis(a, axis, 0) for a in (pattern, lit, error))
        steps, errors = [], []
        for one in range(len(values) - 1):
            both = use[one] & use[one + 1]
            if both.sum() < 8:
                steps.append(np.nan)
                errors.append(np.nan)
                continue
            ratio = np.log(values[one + 1][both] / values[one][both])
            steps.append(float(np.median(ratio)))
            relative = np.hypot(noise[one][both] / values[one][both], noise[one + 1][both] / values[one + 1][both])
            spread = 1.4826 * float(np.median(np.abs(ratio - np.median(ratio))))
            errors.append(max(spread, float(np.median(relative))) * 1.25 / np.sqrt(both.sum()))
        step, limit = np.abs(np.array(steps)), np.maximum(6 * np.array(errors), _GAIN_STEP)
        large = np.flatnonzero(step > limit)
        # the disc's own shading changes from every column to the next, a step of the gain at few places
        if 0 < len(large) <= 4:
            yield Finding(
                "gain_steps",
                "warning",
                f"the gain changes by {100 * step[large].max():.0f} % from {name} {large[0]} to the next",
                "give a flat-field image (preparation.gain)",
            )
