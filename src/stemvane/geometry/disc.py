"""The bright-field disc: its centre and radius to a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Disc", "find_disc"]

_MAX_ROUNDS = 8
_BLUR = 1 / 12 + 1 / 6
# Bragg discs this much darker than where most of the intensity lies still count as discs
_LEAST_BRAGG = 0.15
# two discs have no middle one
_LEAST_DISCS = 3


@dataclass(frozen=True)
class Disc:
    """A disc on the detector.

    Attributes
    ----------
    centre : tuple of float
        ``(y, x)`` in pixels.
    radius : float
        Radius in pixel widths.
    ellipse : tuple of float
        Long over short axis of the ellipse that fits the edge, and the long one's direction in rad, counter-clockwise
        on the screen, from -π/2 to π/2; (1, 0) where it was not fitted.
    n_similar : int
        Further discs of similar size, as crystals show them in a nearly parallel beam.
    """

    centre: tuple[float, float]
    radius: float
    ellipse: tuple[float, float] = (1.0, 0.0)
    n_similar: int = 0

    def covers(self, shape: tuple[int, ...], aspect: float = 1.0, margin: float = 1.0) -> NDArray[np.bool_]:
        """Pixels of a detector of shape ``(k_y, k_x)`` within the disc and a margin, in pixel widths."""
        y, x = np.indices(shape)
        distance = np.hypot((y - self.centre[0]) * aspect, x - self.centre[1])
        return np.asarray(distance < self.radius + margin)

    def share_outside(self, shape: tuple[int, ...]) -> float:
        """Share of the disc's area beyond a detector of shape ``(k_y, k_x)``, square pixels."""
        side = np.linspace(-1, 1, 201)
        up, right = np.meshgrid(side, side, indexing="ij")
        inside = np.hypot(up, right) < 1
        rows, columns = self.centre[0] + up[inside] * self.radius, self.centre[1] + right[inside] * self.radius
        beyond = (rows < -0.5) | (rows > shape[0] - 0.5) | (columns < -0.5) | (columns > shape[1] - 0.5)
        return float(beyond.mean())


def find_disc(pattern: NDArray[np.floating[Any]], aspect: float = 1.0) -> Disc | None:
    """Find the bright-field disc of a mean pattern.

    The edge is where the profile along a ray from the centre crosses the middle between the levels on either side of
    it; a circle is fitted to the crossings of many rays by least squares, again and again without the outliers.

    Parameters
    ----------
    pattern : ndarray of float, shape (k_y, k_x)
        Mean pattern without hot or dead pixels.
    aspect : float
        Height of a pixel divided by its width.

    Returns
    -------
    Disc or None
        None where there is no edge to follow.
    """
    disc, n_similar = _coarse(pattern, aspect)
    for _ in range(_MAX_ROUNDS):
        if disc is None:
            return None
        points, n_rays = _edge_points(pattern, disc, aspect)
        previous, disc = disc, _fit(points, n_rays, aspect)
        if disc is not None and _change(disc, previous) < 1e-3:
            break
    if disc is None or not _on_detector(disc, pattern.shape):
        return None
    # pixels (variance 1/12) and linear interpolation (1/6) blur the edge, and a blurred curved one crosses further in
    return Disc(disc.centre, disc.radius + _BLUR / (2 * disc.radius), _ellipse(points, disc, aspect), n_similar)


def _change(one: Disc, other: Disc) -> float:
    return max(abs(a - b) for a, b in zip((*one.centre, one.radius), (*other.centre, other.radius), strict=True))


def _on_detector(disc: Disc, shape: tuple[int, ...]) -> bool:
    return all(-0.5 <= c <= n - 0.5 for c, n in zip(disc.centre, shape, strict=True)) and disc.radius >= 1.0


def _coarse(pattern: NDArray[np.floating[Any]], aspect: float) -> tuple[Disc | None, int]:
    """Centre and radius of a connected region above half the level where most of the intensity lies.

    Of several regions of one size, as a crystal's Bragg discs are, the one in their middle is the direct beam, bright
    or not; their number without it is returned, too.
    """
    smooth = ndimage.gaussian_filter(np.asarray(pattern, np.float64), 0.7, mode="nearest")
    smooth = np.maximum(smooth - np.percentile(smooth, 5), 0.0)
    total = float(smooth.sum())
    if not total > 0:
        return None, 0
    level = float((smooth**2).sum()) / total
    regions, n = ndimage.label(smooth > 0.5 * level)
    if n == 0:
        return None, 0
    sums = ndimage.sum_labels(smooth, regions, np.arange(1, n + 1))
    region = ndimage.binary_fill_holes(regions == 1 + int(np.argmax(sums)))
    region, n_similar = _middle_region(smooth, region, _LEAST_BRAGG * level)
    y, x = ndimage.center_of_mass(region)
    radius = float(np.sqrt(region.sum() * aspect / np.pi))
    return (Disc((float(y), float(x)), radius), n_similar) if radius >= 1.0 else (None, 0)


def _middle_region(
    smooth: NDArray[np.float64], brightest: NDArray[np.bool_], level: float
) -> tuple[NDArray[np.bool_], int]:
    """Of all regions as large as the brightest and compact as a disc is, the one in the middle of all."""
    regions, _ = ndimage.label(smooth > level)
    similar = []
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        region = ndimage.binary_fill_holes(regions[box] == number)
        height, width = region.shape
        touches = box[0].start == 0 or box[1].start == 0
        touches = touches or box[0].stop == smooth.shape[0] or box[1].stop == smooth.shape[1]
        is_round = region.sum() > 0.7 * height * width and 0.6 < height / width < 1.7
        if 0.6 < region.sum() / brightest.sum() < 1.7 and is_round and not touches:
            full = np.zeros(smooth.shape, bool)
            full[box] = region
            similar.append(full)
    if len(similar) < _LEAST_DISCS:
        return brightest, 0
    centres = np.array([ndimage.center_of_mass(region) for region in similar])
    nearest = int(np.argmin(np.linalg.norm(centres - centres.mean(axis=0), axis=1)))
    return similar[nearest], len(similar) - 1


def _edge_points(pattern: NDArray[np.floating[Any]], disc: Disc, aspect: float) -> tuple[NDArray[np.float64], int]:
    """Half-level crossings ``(y, x)`` in pixel widths, one for each ray that has one, and the number of rays."""
    n_rays = int(np.clip(4 * disc.radius, 64, 256))
    reach = max(2.5, 0.25 * disc.radius)
    radii = np.arange(max(0.0, disc.radius - reach), disc.radius + reach, 0.1)
    azimuth = (np.arange(n_rays) + 0.5) * 2 * np.pi / n_rays
    places = [
        disc.centre[0] - np.sin(azimuth)[:, None] * radii / aspect,
        disc.centre[1] + np.cos(azimuth)[:, None] * radii,
    ]
    profile = ndimage.map_coordinates(np.asarray(pattern, float), places, order=1, mode="constant", cval=np.nan)
    profile = _smooth(profile, max(1, round(0.2 * n_rays / (2 * np.pi))))
    margin = 1.0 + 0.005 * disc.radius
    within, beyond = radii < disc.radius - margin, radii > disc.radius + margin
    points = []
    for angle, line in zip(azimuth, profile, strict=True):
        finite = np.isfinite(line)
        if (finite & within).sum() < 3 or (finite & beyond).sum() < 3:
            continue
        high, low = np.median(line[finite & within]), np.median(line[finite & beyond])
        # an edge halves the intensity at least by a sixth; anything less is a slope
        if not high > 1.2 * low:
            continue
        radius = _crossing(radii[finite], line[finite], 0.5 * float(high + low), disc.radius)
        if radius is not None:
            points.append((disc.centre[0] * aspect - np.sin(angle) * radius, disc.centre[1] + np.cos(angle) * radius))
    return np.array(points, dtype=np.float64).reshape(-1, 2), n_rays


def _smooth(profile: NDArray[np.float64], n_rays: int) -> NDArray[np.float64]:
    """Mean over neighbouring rays: the edge hardly moves within a fifth of a radian, the noise does."""
    finite = np.isfinite(profile)
    # a running sum would carry one NaN all the way round
    total = ndimage.uniform_filter1d(np.where(finite, profile, 0.0), n_rays, axis=0, mode="wrap")
    share = ndimage.uniform_filter1d(finite.astype(float), n_rays, axis=0, mode="wrap")
    return np.where(finite & (share > 0.99), total / np.maximum(share, 0.5), np.nan)


def _crossing(radii: NDArray[np.float64], line: NDArray[np.float64], level: float, near: float) -> float | None:
    """Radius where a profile falls through a level, the one nearest to where it is expected."""
    falls = np.flatnonzero((line[:-1] >= level) & (line[1:] < level))
    if len(falls) == 0:
        return None
    steps = (line[falls] - level) / (line[falls] - line[falls + 1])
    crossings = radii[falls] + steps * (radii[falls + 1] - radii[falls])
    return float(crossings[np.argmin(np.abs(crossings - near))])


def _fit(points: NDArray[np.float64], n_rays: int, aspect: float) -> Disc | None:
    """Circle through points, without the outliers; None where they do not agree on one."""
    keep = np.ones(len(points), bool)
    for _ in range(_MAX_ROUNDS):
        if keep.sum() < max(8, n_rays // 4):
            return None
        y, x, radius = _circle(points[keep])
        distance = np.abs(np.hypot(points[:, 0] - y, points[:, 1] - x) - radius)
        spread = 1.5 * float(np.median(distance[keep]))
        before, keep = keep, distance <= max(3 * spread, 0.1)
        if (before == keep).all():
            break
    if spread > 0.3 + 0.04 * radius:
        return None
    return Disc((y / aspect, x), radius)


def _ellipse(points: NDArray[np.float64], disc: Disc, aspect: float) -> tuple[float, float]:
    """Long over short axis and direction: the part of the edge's radius that has two maxima on the way round."""
    up, right = disc.centre[0] * aspect - points[:, 0], points[:, 1] - disc.centre[1]
    azimuth, excess = np.arctan2(up, right), np.hypot(up, right) / disc.radius - 1
    waves = [np.ones_like(azimuth), *(f(m * azimuth) for m in (1, 2) for f in (np.cos, np.sin))]
    keep = np.ones(len(points), bool)
    for _ in range(_MAX_ROUNDS):
        fit = np.linalg.lstsq(np.column_stack(waves)[keep], excess[keep], rcond=None)[0]
        distance = np.abs(np.column_stack(waves) @ fit - excess)
        keep = distance <= max(4.5 * float(np.median(distance)), 1e-6)
    strength = min(float(np.hypot(fit[3], fit[4])), 0.9)
    return (1 + strength) / (1 - strength), 0.5 * float(np.arctan2(fit[4], fit[3]))


def _circle(points: NDArray[np.float64]) -> tuple[float, float, float]:
    """Circle with the least squared distances from points: Kasa's algebraic one, then Gauss-Newton steps."""
    middle = points.mean(axis=0)
    y, x = (points - middle).T
    a, b, c = np.linalg.lstsq(np.column_stack([2 * y, 2 * x, np.ones(len(y))]), y**2 + x**2, rcond=None)[0]
    radius = np.sqrt(max(c + a**2 + b**2, 1e-12))
    for _ in range(5):
        distance = np.maximum(np.hypot(y - a, x - b), 1e-12)
        slopes = np.column_stack([(y - a) / distance, (x - b) / distance, np.ones(len(y))])
        change = np.linalg.lstsq(slopes, distance - radius, rcond=None)[0]
        a, b, radius = a + change[0], b + change[1], radius + change[2]
    return float(a + middle[0]), float(b + middle[1]), float(radius)
