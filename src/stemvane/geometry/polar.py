"""Polar patterns: area-true sampling, circular harmonics, and rotation.

A pattern that is rotated about the optical axis by an angle θ, counter-clockwise on the screen, is a polar pattern
shifted along its azimuth, and its circular harmonics are multiplied by ``exp(-1j * m * θ)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stemvane.errors import CalibrationError
from stemvane.geometry.overlap import SampleWeights, pixel_overlaps

__all__ = ["PolarGrid", "harmonics_of", "plane_of_pixels", "polar_from", "require_disc_radius", "rotate"]


# the range is at least this many radii of the disc, so that it never ends within what interferes with the direct beam
_LEAST_RADII = 3.0
# beyond so many there are other discs, which few sectors show as if they lay elsewhere: with a beam of 2 px, angles of
# square grains are off by 0.21°, 0.030° and 0.011° with 2, 4 and 8 times the outer radius over the beam's; with one of
# 10 px, those of hexagonal ones by 0.42°, 0.37° and 0.33° with 10, 20 and 40; `pytest tests/test_grains.py -k sectors`
_MOST_RADII, _SECTORS = 4.0, 16.0
_MOST_SAMPLES = 8_192, 16_384


def _power_of_two(least: float, smallest: int, largest: int) -> int:
    return int(np.clip(2 ** np.ceil(np.log2(least)), smallest, largest))


def require_disc_radius(radius: float, detector_shape: tuple[int, int]) -> None:
    """Refuse a radius of the disc, in pixels, that cannot be meant.

    Raises
    ------
    CalibrationError
        If it is more than ten times the detector's diagonal.
    """
    rows, columns = detector_shape
    if radius > 10 * float(np.hypot(rows, columns)):
        raise CalibrationError(
            f"a disc radius of {radius:g} px cannot be meant on a detector of {rows} x {columns} pixels; "
            "give source.disc_radius in pixels"
        )


@dataclass(frozen=True, repr=False)
class PolarGrid:
    """Rings and sectors around the optical axis.

    Parameters
    ----------
    axis : tuple of float
        Optical axis ``(y, x)`` in pixels.
    outer : float
        Radius of the outermost ring's outer edge in pixel widths.
    n_radial : int
        Number of rings, equally wide.
    n_azimuthal : int
        Number of sectors; sector ``n`` is centred on the azimuth ``2 π n / n_azimuthal``, counted
        counter-clockwise on the screen from the right.
    aspect : float
        Height of a pixel divided by its width.
    ellipse : tuple of float, optional
        Elliptical distortion that is undone: the detector shows circles stretched by the first number (long over short
        axis) along the direction of the second (rad, counter-clockwise on the screen). Areas stay.

    Raises
    ------
    CalibrationError
        If a number is impossible.
    """

    axis: tuple[float, float]
    outer: float
    n_radial: int
    n_azimuthal: int
    aspect: float = 1.0
    ellipse: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.outer) and self.outer > 0 and np.all(np.isfinite(self.axis)) and self.aspect > 0):
            raise CalibrationError(
                f"a polar grid around {self.axis} out to {self.outer} pixels is impossible; check axis and disc radius"
            )
        if self.n_radial < 1 or self.n_azimuthal < 4:
            raise CalibrationError("a polar grid needs at least 1 ring and 4 sectors")

    def __repr__(self) -> str:
        y, x = self.axis
        shape = "" if self.ellipse is None else f", ellipse {self.ellipse[0]:.4f}"
        return (
            f"PolarGrid: {self.n_radial} rings × {self.n_azimuthal} sectors around ({y:.4g}, {x:.4g}) px, "
            f"out to {self.outer:.4g} px{shape}"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    @classmethod
    def chosen(
        cls,
        axis: tuple[float, float],
        disc_radius: float,
        detector_shape: tuple[int, int],
        *,
        aspect: float = 1.0,
        ellipse: tuple[float, float] | None = None,
        outer: float | None = None,
        n_radial: int | None = None,
        n_azimuthal: int | None = None,
        margin: float = 0.0,
        reach: float | None = None,
    ) -> PolarGrid:
        """Choose rings and sectors that keep what the pixels hold.

        A ring is one pixel wide, or a twenty-fourth of the disc's radius where that is more. The number of sectors is
        the power of two next above the pixels on half the disc's circumference, between 32 and 128.

        Beyond four radii of the disc there are other discs, as small as the direct beam. The number of sectors is then
        the power of two next above sixteen times the outer radius over the disc's, at most 256 and as many as pixels on
        the outer edge, and the rings are a quarter of the disc's radius wide, but at least a pixel; wider ones where
        there would be more samples than half the pixels, of which 8,192 are always allowed and 16,384 at most.

        Parameters
        ----------
        axis : tuple of float
            Optical axis ``(y, x)`` in pixels.
        disc_radius : float
            Radius of the bright-field disc in pixel widths.
        detector_shape : tuple of int
            Detector pixels ``(k_y, k_x)``.
        aspect : float
            Height of a pixel divided by its width.
        ellipse : tuple of float, optional
            Elliptical distortion to undo, as in `PolarGrid`.
        outer : float, optional
            Outer radius in disc radii; where it is left out, as far as `reach`, or the largest circle on the detector.
        n_radial, n_azimuthal : int, optional
            Override the choice.
        margin : float
            Pixels along the detector's edges to keep away from.
        reach : float, optional
            Radius in pixel widths out to which patterns differ. At least three radii of the disc, where content
            interferes with the direct beam, are kept, and no more than the largest circle on the detector.

        Returns
        -------
        PolarGrid

        Raises
        ------
        CalibrationError
            If the axis lies outside the detector.
        """
        rows, columns = detector_shape
        inverse = np.linalg.inv(plane_of_pixels(aspect, ellipse))
        # how far right and up a circle of radius 1 reaches, in columns and rows
        right, up = np.linalg.norm(inverse, axis=1)
        inscribed = min(
            (axis[0] + 0.5) / up,
            (rows - 0.5 - axis[0]) / up,
            (axis[1] + 0.5) / right,
            (columns - 0.5 - axis[1]) / right,
        )
        inscribed -= margin / min(right, up) if margin else 0.0
        if not inscribed > 1:
            raise CalibrationError(
                f"the optical axis {axis} lies outside the detector of {rows} x {columns} pixels; "
                "give the axis, or a vacuum pattern to find it from"
            )
        require_disc_radius(disc_radius, detector_shape)
        if outer is not None:
            radius = outer * disc_radius
        else:
            radius = inscribed if reach is None else max(reach, _LEAST_RADII * disc_radius)
        if margin or outer is None:
            radius = min(radius, inscribed)
        if radius > _MOST_RADII * disc_radius:
            on_edge = 2 ** math.floor(math.log2(2 * np.pi * radius))
            sectors = n_azimuthal or min(_power_of_two(_SECTORS * radius / disc_radius, 32, 256), max(on_edge, 32))
            most = int(np.clip(rows * columns // 2, *_MOST_SAMPLES)) // sectors
            rings = n_radial or max(4, min(round(radius / max(1.0, disc_radius / 4)), most))
        else:
            sectors = n_azimuthal or _power_of_two(np.pi * disc_radius, 32, 128)
            rings = n_radial or max(4, round(radius / max(1.0, disc_radius / 24)))
        return cls(axis=axis, outer=float(radius), n_radial=rings, n_azimuthal=sectors, aspect=aspect, ellipse=ellipse)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON; an ellipse only where there is one."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PolarGrid:
        """Build a grid from the mapping that `to_dict` returns."""
        parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**parts)

    @property
    def plane(self) -> NDArray[np.float64]:
        """Matrix from ``(columns to the right, rows up)`` to ``(right, up)`` in pixel widths, without distortion."""
        return plane_of_pixels(self.aspect, self.ellipse)

    def places(self, detector_shape: tuple[int, int]) -> NDArray[np.float64]:
        """Where the pixels lie, ``(right, up)`` of the axis in pixel widths, shape ``(2, k_y, k_x)``."""
        rows, columns = np.indices(detector_shape, dtype=float)
        return np.tensordot(self.plane, np.stack([columns - self.axis[1], self.axis[0] - rows]), axes=1)

    @property
    def shape(self) -> tuple[int, int]:
        """Rings and sectors, ``(n_radial, n_azimuthal)``."""
        return self.n_radial, self.n_azimuthal

    @property
    def ring_width(self) -> float:
        """Width of a ring in pixel widths."""
        return self.outer / self.n_radial

    @property
    def radii(self) -> NDArray[np.float64]:
        """Mid radii of the rings in pixel widths, shape ``(n_radial,)``."""
        return np.asarray((np.arange(self.n_radial) + 0.5) * self.ring_width, dtype=np.float64)

    @property
    def azimuths(self) -> NDArray[np.float64]:
        """Azimuths of the sectors' centres in rad, shape ``(n_azimuthal,)``."""
        return 2 * np.pi * np.arange(self.n_azimuthal) / self.n_azimuthal

    @property
    def n_orders(self) -> int:
        """Number of circular harmonics kept, orders 0 to ``n_orders - 1``; the Nyquist one is left out."""
        return (self.n_azimuthal + 1) // 2

    def weights(self, detector_shape: tuple[int, int], mask: NDArray[np.bool_] | None = None) -> SampleWeights:
        """Overlap areas of every pixel with every sample, exact for square and oblong pixels.

        Parameters
        ----------
        detector_shape : tuple of int
            Detector pixels ``(k_y, k_x)``.
        mask : ndarray of bool, shape (k_y, k_x), optional
            True where a pixel counts. A sample is the mean over its recorded area; one without any lies on the line
            between the nearest recorded ones along its ring, and is 0 where the whole ring is not recorded. ``area``
            is 0 in both cases.

        Returns
        -------
        SampleWeights
        """
        valid = np.ones(detector_shape, bool) if mask is None else np.asarray(mask, bool)
        # of whole numbers everything would be compiled once more
        y, x, outer = map(float, (*self.axis, self.outer))
        samples = self.n_radial, self.n_azimuthal
        counts, sample, area = pixel_overlaps(*detector_shape, y, x, self.plane, outer, *samples, valid)
        total = np.asarray(np.bincount(sample, area, self.n_radial * self.n_azimuthal), dtype=np.float64)
        weight = area / np.where(total > 0, total, 1.0)[sample]
        if mask is not None and not valid.all():
            counts, sample, weight = self._bridge(counts, sample, weight, total)
        return SampleWeights.of(counts, sample, weight, total.reshape(self.n_radial, self.n_azimuthal))

    def _bridge(
        self, counts: NDArray[np.int64], sample: NDArray[np.int64], weight: NDArray[np.float64], total: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Let samples without a recorded pixel lie on the line between the nearest ones along their ring."""
        pixel = np.repeat(np.arange(len(counts)), counts)
        matrix = sparse.csr_array((weight, (sample, pixel)), shape=(total.size, len(counts)))
        bridge = sparse.lil_array((total.size, total.size))
        bridge.setdiag(1.0)
        recorded = total.reshape(self.n_radial, self.n_azimuthal) > 0
        for ring in np.flatnonzero(recorded.any(axis=1) & ~recorded.all(axis=1)):
            covered = np.flatnonzero(recorded[ring])
            for sector in np.flatnonzero(~recorded[ring]):
                before = (sector - covered) % self.n_azimuthal
                after = (covered - sector) % self.n_azimuthal
                share = before.min() / (before.min() + after.min())
                row = ring * self.n_azimuthal
                bridge[row + sector, row + covered[np.argmin(before)]] += 1 - share
                bridge[row + sector, row + covered[np.argmin(after)]] += share
        by_pixel = (bridge.tocsr() @ matrix).tocsc()
        return np.diff(by_pixel.indptr), by_pixel.indices.astype(np.int64), by_pixel.data

    def noise_covariance(self, weights: SampleWeights, variance: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Covariance of the harmonics' noise between rings, for independent noise in the pixels.

        Neighbouring samples share pixels and small samples hold few of them, so their noise is neither
        independent nor equal. The variance of a pixel is taken to depend on its radius alone, which makes the harmonics
        of different order independent to a good approximation.

        Parameters
        ----------
        weights : SampleWeights
            Weights of the samples, as `weights` gives them.
        variance : ndarray of float, shape (n_radial,) or (k_y, k_x)
            Variance of one pixel on each ring, or of every pixel; for counted electrons the mean counts.

        Returns
        -------
        ndarray of float, shape (n_orders, n_radial, n_radial)
            ``E[x_m(r) conj(x_m(r'))]`` of the noise.
        """
        n_pixels, pixel = len(weights.indptr) - 1, weights.pixel
        ring, sector = np.divmod(weights.sample, self.n_azimuthal)
        if np.ndim(variance) == 1:
            # the variance of a pixel is the mean of its rings', weighted by its overlap with each
            share = weights.overlap
            covered = np.bincount(pixel, weights=share, minlength=n_pixels)
            summed = np.bincount(pixel, weights=share * np.asarray(variance)[ring], minlength=n_pixels)
            variance = summed / np.where(covered > 0, covered, 1.0)
        # what a pixel adds to a ring; it lies on two or three of them, all pairs of which it has a part in
        places, entry = np.unique(pixel * self.n_radial + ring, return_inverse=True)
        columns, rows = np.divmod(places, self.n_radial)
        # a mean of counts without a dark level is below zero where next to nothing falls
        spread = np.sqrt(np.maximum(np.ravel(variance), 0))[columns]
        first, second = _pairs(columns)
        cell = rows[first] * self.n_radial + rows[second]
        result = np.zeros((self.n_orders, self.n_radial, self.n_radial))
        for order in range(self.n_orders):
            phase = weights.weight * np.exp(-1j * order * self.azimuths)[sector] / self.n_azimuthal
            real, imag = (np.bincount(entry, part, len(places)) * spread for part in (phase.real, phase.imag))
            products = real[first] * real[second] + imag[first] * imag[second]
            result[order] = np.bincount(cell, products, self.n_radial**2).reshape(self.n_radial, self.n_radial)
        return result

    def variance_by_ring(
        self, weights: SampleWeights, orders: NDArray[np.int64], analysis: NDArray[np.complexfloating[Any, Any]]
    ) -> NDArray[np.float64]:
        """What a variance of 1 in the pixels of each ring gives to sums over the rings' harmonics.

        Parameters
        ----------
        weights : SampleWeights
            Weights of the samples, as `weights` gives them.
        orders : ndarray of int, shape (n,)
            Circular order of each sum.
        analysis : ndarray of complex, shape (n, n_radial)
            Factors of the harmonics in each sum.

        Returns
        -------
        ndarray of float, shape (n, n_radial)
            As `noise_covariance` with one ring after the other would give it.
        """
        n_pixels, pixel = len(weights.indptr) - 1, weights.pixel
        ring, sector = np.divmod(weights.sample, self.n_azimuthal)
        share = weights.overlap
        covered = np.bincount(pixel, weights=share, minlength=n_pixels)
        share = share / np.where(covered > 0, covered, 1.0)[pixel]
        result = np.empty((len(orders), self.n_radial))
        for order in np.unique(orders):
            phase = weights.weight * np.exp(-1j * order * self.azimuths)[sector] / self.n_azimuthal
            for number in np.flatnonzero(orders == order):
                part = phase * analysis[number, ring]
                real, imag = (np.bincount(pixel, x, n_pixels) for x in (part.real, part.imag))
                result[number] = np.bincount(ring, share * (real**2 + imag**2)[pixel], self.n_radial)
        return result

    def to_cartesian(
        self, polar: NDArray[np.floating[Any]], detector_shape: tuple[int, int], fill: float = np.nan
    ) -> NDArray[np.float64]:
        """Draw polar patterns on the detector's pixels.

        Parameters
        ----------
        polar : ndarray of float, shape (..., n_radial, n_azimuthal)
            Mean intensity per pixel area of each sample.
        detector_shape : tuple of int
            Detector pixels ``(k_y, k_x)``.
        fill : float
            Value beyond the outermost ring.

        Returns
        -------
        ndarray of float, shape (..., k_y, k_x)
            Interpolated linearly between rings and along the azimuth.
        """
        sample, share, inside = self.interpolation(*self.places(detector_shape))
        flat = np.reshape(polar, (*np.shape(polar)[:-2], self.n_radial * self.n_azimuthal))
        drawn = flat[..., sample[0]] * share[0]
        for i in range(1, len(sample)):
            drawn += flat[..., sample[i]] * share[i]
        return np.where(inside, drawn, fill)

    def interpolation(
        self, right: NDArray[np.floating[Any]], up: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """Linear interpolation between rings and along the azimuth.

        Parameters
        ----------
        right, up : ndarray of float, shape (...)
            Places in the plane without distortion, seen from the axis, in pixel widths.

        Returns
        -------
        sample, share : ndarray, shape (4, ...)
            Samples ``ring * n_azimuthal + azimuth`` around each place, and their shares in it, which sum to 1.
        inside : ndarray of bool, shape (...)
            False beyond the outermost ring.
        """
        radius, azimuth = np.hypot(up, right), np.arctan2(up, right) % (2 * np.pi)
        ring = np.clip(radius / self.ring_width - 0.5, 0, self.n_radial - 1)
        inner = np.minimum(ring.astype(int), max(self.n_radial - 2, 0))
        outer = np.minimum(inner + 1, self.n_radial - 1)
        part = ring - inner
        sector = azimuth / (2 * np.pi) * self.n_azimuthal
        before = sector.astype(int) % self.n_azimuthal
        after = (before + 1) % self.n_azimuthal
        along = sector - np.floor(sector)
        sample = np.stack([at * self.n_azimuthal + to for at in (inner, outer) for to in (before, after)])
        share = np.stack([by * to for by in (1 - part, part) for to in (1 - along, along)])
        return sample, share, np.asarray(radius <= self.outer)


def plane_of_pixels(aspect: float, ellipse: tuple[float, float] | None) -> NDArray[np.float64]:
    """Matrix from ``(columns to the right, rows up)`` to ``(right, up)`` in pixel widths.

    Parameters
    ----------
    aspect : float
        Height of a pixel divided by its width.
    ellipse : tuple of float, optional
        Elliptical distortion to undo, as in `PolarGrid`.

    Returns
    -------
    ndarray of float, shape (2, 2)
    """
    plane = np.diag([1.0, aspect])
    if ellipse is None:
        return plane
    ratio, direction = ellipse
    along = np.array([np.cos(direction), np.sin(direction)])
    across = np.array([-along[1], along[0]])
    undo = np.outer(along, along) / np.sqrt(ratio) + np.outer(across, across) * np.sqrt(ratio)
    return np.asarray(undo @ plane)


def harmonics_of(polar: NDArray[np.floating[Any]]) -> NDArray[np.complexfloating[Any, Any]]:
    """Circular harmonics of polar patterns.

    Parameters
    ----------
    polar : ndarray of float, shape (..., n_radial, n_azimuthal)
        Polar patterns.

    Returns
    -------
    ndarray of complex, shape (..., n_orders, n_radial)
        ``x_m(r) = mean over φ of p(r, φ) exp(-i m φ)``, without the Nyquist order, whose phase under rotation is
        ambiguous.
    """
    n = polar.shape[-1]
    return np.swapaxes(np.fft.rfft(polar, axis=-1, norm="forward")[..., : (n + 1) // 2], -1, -2)


def polar_from(harmonics: NDArray[np.complexfloating[Any, Any]], n_azimuthal: int) -> NDArray[np.floating[Any]]:
    """Inverse of `harmonics_of`; shape ``(..., n_radial, n_azimuthal)``."""
    spectrum = np.swapaxes(harmonics, -1, -2)
    return np.fft.irfft(spectrum, n=n_azimuthal, axis=-1, norm="forward")


def rotate(
    harmonics: NDArray[np.complexfloating[Any, Any]], angle: NDArray[np.floating[Any]] | float
) -> NDArray[np.complexfloating[Any, Any]]:
    """Rotate patterns counter-clockwise on the screen.

    Parameters
    ----------
    harmonics : ndarray of complex, shape (..., n_orders, n_radial)
        Harmonics that `harmonics_of` returns.
    angle : float or ndarray of float, shape (...)
        Angles in rad.

    Returns
    -------
    ndarray of complex, shape (..., n_orders, n_radial)
    """
    order = np.arange(harmonics.shape[-2])[:, None]
    return np.asarray(harmonics * np.exp(-1j * order * np.asarray(angle)[..., None, None]))


def _pairs(group: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All ordered pairs, an entry with itself among them, of neighbouring entries of one group."""
    first = [np.arange(len(group))]
    second = [first[0]]
    for apart in range(1, len(group)):
        same = np.flatnonzero(group[apart:] == group[:-apart])
        if not len(same):
            break
        first += [same, same + apart]
        second += [same + apart, same]
    return np.concatenate(first), np.concatenate(second)
