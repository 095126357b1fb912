"""What the patterns of a scan are like: mean, moments and noise of their circular harmonics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stemvane.data.measurements import Measurements
from stemvane.data.representation import format_count
from stemvane.errors import DataError
from stemvane.features.parallel import map_in_order, on_one_blas_thread
from stemvane.geometry.polar import PolarGrid, harmonics_of

__all__ = ["PatternStatistics", "highest_order", "pattern_totals", "recorded_positions"]

# rings darker than this share of the brightest are dark if they are clear of the direct beam, which may be deflected,
# by this factor of its radius. Where they hold more than the last share of what patterns differ by, in units of noise,
# every ring has its own: polycrystals in a nearly parallel beam have 0.96 to 1.0 there, graphene, MoS2 and h-BN in a
# convergent one 0.06 to 0.15 without noise and 0 to 0.05 in counts; `pytest tests/test_grains.py -k share`
_DARK, _CLEAR, _MOST_ON_DARK = 0.25, 1.5, 0.5
# an order of a ring varies by more than its noise where it does so by this many standard errors
_BEYOND_CHANCE = 5.0
# step of the profile that the noise of pixels is read from, in pixels
_PROFILE_STEP = 0.5
# share of the brightest ring's noise below which there is rounding
_LEAST_NOISE = 1e-5


@dataclass(frozen=True, eq=False)
class PatternStatistics:
    """Mean and moments of patterns, and the noise that their counts have.

    Attributes
    ----------
    grid : PolarGrid
        Grid of the polar samples.
    mean_total : float
        Mean total intensity of the patterns.
    counts_per_electron : float
        Counts that an electron leaves, all pixels together, as the survey tells.
    background : ndarray of complex, shape (n_orders, n_radial)
        Harmonics of the mean pattern.
    moments : ndarray of complex, shape (n_orders, n_radial, n_radial)
        Second moments of the harmonics about those of the mean pattern.
    counting : ndarray of float, shape (n_orders, n_radial, n_radial)
        Covariance of counting noise, of electrons that count for one.
    covariance : ndarray of float, shape (n_orders, n_radial, n_radial)
        Covariance of the noise that features are weighed by.
    gain : float
        Counts that an electron leaves, as the highest orders tell.
    own_noise : bool
        Whether every ring counts with the noise of its own counts, because patterns differ on dark rings.
    beyond : ndarray of bool, shape (n_radial,)
        Rings on which the direct beam does not lie.
    """

    grid: PolarGrid
    mean_total: float
    counts_per_electron: float
    background: NDArray[np.complex128]
    moments: NDArray[np.complex128]
    counting: NDArray[np.float64]
    covariance: NDArray[np.float64]
    gain: float
    own_noise: bool
    beyond: NDArray[np.bool_]

    @classmethod
    def of(
        cls, measurements: Measurements, variance_floor: float | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Self:
        """Read the patterns of a scan.

        Parameters
        ----------
        measurements : Measurements
            A scan with polar patterns.
        variance_floor : float, optional
            Smallest noise variance of a pixel, over the brightest ring's; as the patterns ask where it is left out.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use; those without a pattern are left out.

        Returns
        -------
        PatternStatistics

        Raises
        ------
        DataError
            If fewer than two patterns remain.
        """
        grid = measurements.grid
        mask = recorded_positions(measurements, mask)
        total = pattern_totals(measurements, mask)
        if len(total) < 2:
            n_patterns = format_count(len(total), "pattern")
            raise DataError(f"{n_patterns}: too few to learn from; widen the mask or take a larger scan")
        blocks = measurements.polar_blocks(mask)
        mean = np.sum([block.sum(axis=0, dtype=np.float64) for block in blocks], axis=0) / len(total)
        background = np.asarray(harmonics_of(mean), dtype=np.complex128)
        ring = mean.mean(axis=1)
        weights = grid.weights(measurements.detector_shape)
        # variance = readout² + gain · mean: readout noise counts as that many counts more on every pixel
        counting = grid.noise_covariance(weights, ring + measurements.readout_counts)
        moments = np.zeros((grid.n_orders, grid.n_radial, grid.n_radial), np.complex128)

        @on_one_blas_thread
        def products(block: NDArray[np.float32]) -> NDArray[np.complexfloating[Any, Any]]:
            x = np.swapaxes(harmonics_of(block) - background, 0, 1)
            return np.asarray(np.swapaxes(x, 1, 2) @ x.conj())

        for product in map_in_order(products, measurements.polar_blocks(mask)):
            moments += product
        moments /= len(total)
        spectrum = _Spectrum.of(moments, counting, grid.radii)
        area = 2 * np.pi * grid.radii * grid.ring_width
        dark = (ring < _DARK * ring.max()) & _beyond_direct_beam(measurements, ring, _CLEAR)
        share = spectrum.share_on(dark, ring * area * len(total), len(total))
        own_noise = variance_floor is None and share > _MOST_ON_DARK
        if own_noise:
            counts = _counts_by_radius(measurements, ring) + measurements.readout_counts
            # fewer than one electron on a ring are no noise that a mean could tell
            electron = spectrum.quiet_gain / np.interp(_radii(measurements), grid.radii, area)
            least = np.maximum(electron, _LEAST_NOISE * counts.max())
            counting = grid.noise_covariance(weights, counts)
            covariance = grid.noise_covariance(weights, np.maximum(counts, least))
        else:
            # where all pixels count alike, readout noise changes nothing
            counts = ring if variance_floor is None else ring + measurements.readout_counts
            covariance = grid.noise_covariance(weights, np.maximum(counts, (variance_floor or 1.0) * counts.max()))
        return cls(
            grid=grid,
            mean_total=float(total.mean()),
            counts_per_electron=measurements.counts_per_electron,
            background=background,
            moments=moments,
            counting=counting,
            covariance=covariance,
            gain=spectrum.gain,
            own_noise=own_noise,
            beyond=_beyond_direct_beam(measurements, ring, 1.0),
        )

    def without_orientation(self) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        """A background that is the same all around beyond the direct beam, and the moments about it.

        The rest of the mean pattern rotates with the patterns.
        """
        rest = np.where(self.beyond, self.background, 0)
        rest[0] = 0
        return self.background - rest, self.moments + rest[:, :, None] * rest[:, None, :].conj()


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """Variance of patterns by circular order and ring, and that of electrons that count for one.

    Attributes
    ----------
    variance, counting : ndarray of float, shape (n_orders, n_radial)
    resolved : ndarray of bool, shape (n_orders, n_radial)
        Whether the pixels of a ring resolve an order.
    """

    variance: NDArray[np.float64]
    counting: NDArray[np.float64]
    resolved: NDArray[np.bool_]

    @classmethod
    def of(
        cls, moments: NDArray[np.complex128], counting: NDArray[np.float64], radii: NDArray[np.float64]
    ) -> _Spectrum:
        """Diagonals of both, shapes ``(n_orders, n_radial, n_radial)``."""
        resolved = np.arange(len(moments))[:, None] <= highest_order(radii)
        variance, of_counts = (np.diagonal(part, axis1=1, axis2=2).real for part in (moments, counting))
        return cls(variance, of_counts, resolved)

    @property
    def highest(self) -> slice:
        """The highest quarter of the orders."""
        return slice(len(self.variance) * 3 // 4, None)

    @property
    def gain(self) -> float:
        """Counts that an electron leaves, from orders that hold noise and hardly any signal: the highest."""
        return float(self.variance[self.highest].sum() / self.counting[self.highest].sum())

    @property
    def quiet_gain(self) -> float:
        """The same from the quietest rings of these orders, because small discs reach up to the highest."""
        return float(np.quantile(self._over_noise(self.highest), 0.25))

    def _over_noise(self, orders: slice) -> NDArray[np.float64]:
        """Variance over counting noise wherever there is noise."""
        counting = self.counting[orders]
        use = self.resolved[orders] & (counting > 0)
        return np.asarray(self.variance[orders][use] / counting[use]) if use.any() else np.zeros(1)

    def share_on(self, rings: NDArray[np.bool_], electrons: NDArray[np.float64], n_patterns: int) -> float:
        """Share of what patterns differ by around the circle, in units of noise, that some rings hold; 0 if nothing.

        `electrons` are those that all patterns together have on each ring; with their number the scatter of an order's
        variance falls.
        """
        gain = float(np.median(self._over_noise(self.highest)))
        use = self.resolved[1:] & (self.counting[1:] > 0)
        beyond = np.where(use, self.variance[1:] / np.where(use, self.counting[1:], 1.0) - gain, 0.0)
        by_chance = gain * np.sqrt(1 / n_patterns + 1 / np.maximum(electrons / max(gain, 1e-300), 1.0))
        by_ring = np.where(beyond > _BEYOND_CHANCE * by_chance, beyond, 0.0).sum(axis=0)
        whole = float(by_ring.sum())
        return float(by_ring[rings].sum()) / whole if whole > 0 else 0.0


def highest_order(radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Highest order that the pixels of a ring resolve: a ring of radius r pixels crosses 2 π r of them."""
    return np.maximum(np.pi * radii, 1.0)


def _radii(measurements: Measurements) -> NDArray[np.float64]:
    """Distance of every pixel from the optical axis in pixel widths, shape ``(k_y, k_x)``."""
    return np.asarray(np.hypot(*measurements.grid.places(measurements.detector_shape)))


def _counts_by_radius(measurements: Measurements, ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean counts of a pixel by its distance from the axis alone, shape ``(k_y, k_x)``.

    A ring may be wider than the edge of a disc, whose pixels differ by more than an order of magnitude.
    """
    radius, mean = _radii(measurements), np.asarray(measurements.mean_pattern, np.float64)
    use = np.isfinite(mean)
    if measurements.bad_pixels is not None:
        use &= ~measurements.bad_pixels
    if not use.any():
        return np.interp(radius, measurements.grid.radii, ring)
    radius = radius / _PROFILE_STEP
    step = np.rint(radius).astype(int)
    number = np.bincount(step[use], minlength=step.max() + 1)
    profile = np.bincount(step[use], mean[use], len(number)) / np.maximum(number, 1)
    known = np.flatnonzero(number)
    return np.maximum(np.interp(radius, known, profile[known]), 0)


def _beyond_direct_beam(measurements: Measurements, ring: NDArray[np.float64], factor: float) -> NDArray[np.bool_]:
    """Rings beyond the direct beam's radius times a factor, and a pixel, where the beam's own edge does not lie."""
    grid, radius = measurements.grid, measurements.calibration.disc_radius
    if radius is None:
        return np.asarray(ring < _DARK * ring.max())
    return np.asarray(grid.radii - grid.ring_width / 2 > max(radius + 1, factor * radius))


def recorded_positions(measurements: Measurements, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Positions in the mask that hold a pattern; None for all of the scan."""
    recorded = measurements.recorded
    if recorded.all():
        return mask
    return recorded if mask is None else mask & recorded


def pattern_totals(measurements: Measurements, mask: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Totals of the patterns in a mask, in the order of the scan."""
    total = np.asarray(measurements.maps["total"], dtype=float)
    return total.ravel() if mask is None else total[mask]
