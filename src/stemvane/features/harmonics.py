"""A basis in which patterns are short vectors, a rotation is a phase, and counting noise is white."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemvane.config import BasisConfig
from stemvane.data.measurements import Measurements
from stemvane.data.representation import Representable, Row
from stemvane.errors import DataError, ModelError
from stemvane.geometry.polar import harmonics_of, polar_from

__all__ = ["HarmonicBasis", "rotate_features"]

# rings darker than this share of the brightest are dark if they are clear of the direct beam, which may be deflected,
# by this factor of its radius. Where they hold more than the last share of what patterns differ by, in units of noise,
# every ring has its own: polycrystals in a nearly parallel beam have 0.96 to 1.0 there, graphene, MoS2 and h-BN in a
# convergent one 0.06 to 0.15 without noise and 0 to 0.05 in counts; `pytest tests/test_grains.py -k share`
_DARK, _CLEAR, _MOST_ON_DARK = 0.25, 1.5, 0.5
# an order of a ring varies by more than its noise where it does so by this many standard errors
_BEYOND_CHANCE = 5.0
# noise level of order m over that of order 0 is 1 + (m / this)² where all pixels count alike
_ORDER_SCALE = 3.0
# step of the profile that the noise of pixels is read from, in pixels
_PROFILE_STEP = 0.5
# share of the brightest ring's noise below which there is rounding
_LEAST_NOISE = 1e-5


@dataclass(frozen=True, eq=False, repr=False)
class HarmonicBasis(Representable):
    """Short complex vectors, the features, of the residual patterns.

    A pattern minus the background is expanded in circular harmonics. For each order the rings are combined so that
    noise that is independent from pixel to pixel becomes white, the directions that hold most variance over the data
    set are kept, and order m is divided by ``1 + (m / order_scale)²``. A pattern rotated by θ, counter-clockwise on the
    screen, has its features multiplied by ``exp(-1j * orders * θ)``.

    In a convergent beam, whose bright disc holds most of what patterns differ by, every pixel's noise is taken as the
    brightest ring's, and high orders, which stay with the lattice, are weighed down. Where patterns differ on dark
    rings, as those of grains in a nearly parallel beam do, every ring counts with the noise of its own counts, and all
    orders alike: there the whole pattern rotates.

    Attributes
    ----------
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    scale : ndarray of float, shape (n_features,)
        Factor of each feature that stands for the noise level of its order; without it the squared length of a
        feature vector is the residual's, summed over pixels in units of their counting noise.
    analysis : ndarray of complex, shape (n_features, n_radial)
        ``feature_k = Σ_r analysis[k, r] x_m(r)``, with m = ``orders[k]``.
    synthesis : ndarray of complex, shape (n_features, n_radial)
        ``x_m(r) = Σ_k synthesis[k, r] feature_k`` over the features of order m.
    background : ndarray of complex, shape (n_orders, n_radial)
        Harmonics of the fixed background: the mean pattern, or, beyond the direct beam, its means over the rings.
    counting : ndarray of float, shape (n_features,)
        Standard deviation of the counting noise of a real coordinate of each feature: that of the mean pattern's counts
        on the rings that it holds, and of the readout noise, times `noise`.
    n_azimuthal : int
        Samples on a ring.
    noise : float
        Counting noise over that of electrons that count for one, found from the highest orders; nearly 0 for noiseless
        data.
    discarded : float
        Share of the residuals' variance that the features leave out.
    mean_total : float
        Mean total intensity of the patterns that the basis was fitted to.
    own_noise : bool
        Whether every ring counts with the noise of its own counts, because patterns differ on dark rings.
    """

    orders: NDArray[np.int64]
    scale: NDArray[np.float64]
    analysis: NDArray[np.complex128]
    synthesis: NDArray[np.complex128]
    background: NDArray[np.complex128]
    counting: NDArray[np.float64]
    n_azimuthal: int
    noise: float
    discarded: float
    mean_total: float
    own_noise: bool = False

    def _summary(self) -> tuple[str, Sequence[Row]]:
        rows = [
            ("features", f"{len(self.orders)} complex numbers per pattern"),
            ("circular orders", f"0 to {int(np.max(self.orders, initial=0))}"),
            ("rings, sectors", f"{self.analysis.shape[1]}, {self.n_azimuthal}"),
            ("discarded", f"{100 * self.discarded:.3g} % of the residuals' variance"),
            ("counting noise", f"{self.noise:.3g} times that of electrons that count for one"),
            (
                "weights",
                "every ring by its own noise" if self.own_noise else "all pixels by the brightest ring's noise",
            ),
        ]
        return "HarmonicBasis", rows

    @classmethod
    def fit(
        cls,
        measurements: Measurements,
        config: BasisConfig | None = None,
        *,
        mask: NDArray[np.bool_] | None = None,
    ) -> HarmonicBasis:
        """Find background and features of a data set.

        Parameters
        ----------
        measurements : Measurements
            A scan with polar patterns.
        config : BasisConfig, optional
            How many features, and how they are weighted.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use; those without a pattern are left out.

        Returns
        -------
        HarmonicBasis

        Raises
        ------
        DataError
            If fewer than two patterns remain, or all patterns are the same.
        """
        config = config or BasisConfig()
        grid = measurements.grid
        mask = _recorded(measurements, mask)
        total = _totals(measurements, mask)
        if len(total) < 2:
            raise DataError(f"{len(total)} patterns are too few to learn from; widen the mask or take a larger scan")
        blocks = measurements.polar_blocks(mask)
        mean = np.sum([block.sum(axis=0, dtype=np.float64) for block in blocks], axis=0) / len(total)
        background = np.asarray(harmonics_of(mean), dtype=np.complex128)
        ring = mean.mean(axis=1)
        weights = grid.weights(measurements.detector_shape)
        # variance = readout² + gain · mean: readout noise counts as that many counts more on every pixel
        counting = grid.noise_covariance(weights, ring + measurements.readout_counts)
        moments = np.zeros((grid.n_orders, grid.n_radial, grid.n_radial), np.complex128)
        for block in measurements.polar_blocks(mask):
            x = np.swapaxes(harmonics_of(block) - background, 0, 1)
            moments += np.swapaxes(x, 1, 2) @ x.conj()
        moments /= len(total)
        spectrum = _Spectrum.of(moments, counting, grid.radii)
        area = 2 * np.pi * grid.radii * grid.ring_width
        dark = (ring < _DARK * ring.max()) & _beyond_direct_beam(measurements, ring, _CLEAR)
        share = spectrum.share_on(dark, ring * area * len(total), len(total))
        own_noise = config.variance_floor is None and share > _MOST_ON_DARK
        order_scale = config.order_scale or (np.inf if own_noise else _ORDER_SCALE)
        if own_noise:
            counts = _counts_by_radius(measurements, ring) + measurements.readout_counts
            # fewer than one electron on a ring are no noise that a mean could tell
            electron = spectrum.quiet_gain / np.interp(_radii(measurements), grid.radii, area)
            least = np.maximum(electron, _LEAST_NOISE * counts.max())
            counting = grid.noise_covariance(weights, counts)
            covariance = grid.noise_covariance(weights, np.maximum(counts, least))
        else:
            covariance = grid.noise_covariance(weights, np.maximum(ring, (config.variance_floor or 1.0) * ring.max()))
        if config.background == "rings":
            # what stays is the same all around, so the rest of the mean rotates with the patterns
            beyond = _beyond_direct_beam(measurements, ring, 1.0)
            rest = np.where(beyond, background[1:], 0)
            kept = background[1:] - rest
            moments[1:] += rest[:, :, None] * rest[:, None, :].conj()
            background[1:] = kept
        directions = [
            direction
            for order in range(grid.n_orders)
            if order not in config.drop_orders
            for direction in _directions(covariance[order], moments[order], order, grid.radii)
        ]
        directions.sort(key=lambda direction: -direction.variance)
        variance = np.array([direction.variance for direction in directions])
        # a millionth of every pixel: less than that is rounding
        if not (len(directions) and variance[0] > 1e-12 * total.mean()):
            raise DataError("all patterns are the same, so there is nothing to learn; check scan and detector")
        gain = _noise_of_most(directions, counting) if own_noise else spectrum.gain
        chosen = directions[: config.n_features]
        orders = np.array([direction.order for direction in chosen])
        scale = 1 / (1 + (orders / order_scale) ** 2)
        # shared charge takes noise out of the highest orders, not out of the low ones, where all of an electron counts
        counting_gain = max(gain, measurements.counts_per_electron) if measurements.counts_per_electron > 1 else gain
        analysis = np.array([direction.analysis for direction in chosen], np.complex128) * scale[:, None]
        variance_of_counts = np.einsum("ki,kij,kj->k", analysis, counting[orders], analysis.conj()).real
        return cls(
            orders=orders,
            scale=scale,
            analysis=analysis,
            synthesis=np.array([direction.synthesis for direction in chosen], np.complex128) / scale[:, None],
            background=background,
            counting=np.sqrt(counting_gain * variance_of_counts / np.where(orders == 0, 1, 2)),
            n_azimuthal=grid.n_azimuthal,
            noise=float(np.sqrt(gain)),
            discarded=float(variance[config.n_features :].sum() / variance.sum()),
            mean_total=float(total.mean()),
            own_noise=bool(own_noise),
        )

    @property
    def n_features(self) -> int:
        """Number of complex features per pattern."""
        return len(self.orders)

    @property
    def coordinates(self) -> NDArray[np.int64]:
        """Real coordinates of each feature, shape ``(n_features,)``: two, one where the order is 0."""
        return np.where(self.orders == 0, 1, 2)

    @property
    def n_coordinates(self) -> int:
        """Number of real coordinates of all features."""
        return int(self.coordinates.sum())

    def features(self, measurements: Measurements, mask: NDArray[np.bool_] | None = None) -> NDArray[np.complex64]:
        """Features of every pattern.

        Parameters
        ----------
        measurements : Measurements
            A scan of the same polar grid; intensities are scaled to the mean total that the basis was fitted to.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use; those without a pattern are left out.

        Returns
        -------
        ndarray of complex64, shape (n_patterns, n_features)

        Raises
        ------
        ModelError
            If the polar grid has another size.
        """
        return np.concatenate(list(self.feature_blocks(measurements, mask)))

    def intensity_factor(self, measurements: Measurements, mask: NDArray[np.bool_] | None = None) -> float:
        """Factor that scales intensities to the mean total that the basis was fitted to."""
        total = _totals(measurements, _recorded(measurements, mask))
        return self.mean_total / float(total.mean()) if len(total) else 1.0

    def feature_blocks(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_] | None = None,
        *,
        rescale: bool = True,
        factor: float | None = None,
    ) -> Iterator[NDArray[np.complex64]]:
        """Features some patterns at a time, for scans larger than memory; parameters and errors as for `features`.

        Without `rescale` intensities stay as they were measured. A `factor` is taken instead of `intensity_factor`.
        """
        grid = measurements.grid
        if (grid.n_orders, grid.n_radial) != self.background.shape or grid.n_azimuthal != self.n_azimuthal:
            raise ModelError(
                f"the polar patterns have {grid.n_radial} rings of {grid.n_azimuthal} samples, the model was fitted to "
                f"{self.background.shape[1]} of {self.n_azimuthal}; measure with the same n_radial and n_azimuthal"
            )
        mask = _recorded(measurements, mask)
        if factor is None:
            factor = self.intensity_factor(measurements, mask) if rescale else 1.0
        orders = [(order, np.flatnonzero(self.orders == order)) for order in np.unique(self.orders)]
        if mask is not None and not mask.any():
            yield np.empty((0, self.n_features), np.complex64)
        for block in measurements.polar_blocks(mask):
            x = harmonics_of(block) * factor - self.background
            out = np.empty((len(block), self.n_features), np.complex64)
            for order, at in orders:
                out[:, at] = x[:, order] @ self.analysis[at].T
            yield out

    def polar(self, features: NDArray[np.complexfloating[Any, Any]], *, background: bool = True) -> NDArray[np.float64]:
        """Polar patterns of features, shape ``(n_patterns, n_radial, n_azimuthal)``."""
        x = np.zeros((len(features), *self.background.shape), np.complex128)
        for order in np.unique(self.orders):
            at = np.flatnonzero(self.orders == order)
            x[:, order] = features[:, at] @ self.synthesis[at]
        harmonics = x + self.background if background else x
        return np.asarray(polar_from(harmonics, self.n_azimuthal), dtype=np.float64)


def rotate_features(
    features: NDArray[np.complexfloating[Any, Any]], orders: NDArray[np.int64], angle: NDArray[np.floating[Any]]
) -> NDArray[np.complex64]:
    """Features of patterns rotated counter-clockwise on the screen by ``angle`` (rad, one per pattern)."""
    phase = np.exp(-1j * np.arange(orders.max(initial=0) + 1) * np.asarray(angle)[:, None]).astype(np.complex64)
    result: NDArray[np.complex64] = (features * phase[:, orders]).astype(np.complex64)
    return result


class _Direction(NamedTuple):
    """Variance, order, analysis and synthesis vector of what may become a feature."""

    variance: float
    order: int
    analysis: NDArray[np.complex128]
    synthesis: NDArray[np.complex128]


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
        resolved = np.arange(len(moments))[:, None] <= _highest_order(radii)
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


def _highest_order(radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Highest order that the pixels of a ring resolve: a ring of radius r pixels crosses 2 π r of them."""
    return np.maximum(np.pi * radii, 1.0)


def _directions(
    covariance: NDArray[np.float64], moment: NDArray[np.complex128], order: int, radii: NDArray[np.float64]
) -> list[_Direction]:
    """Directions of one order in which noise is white."""
    usable = np.flatnonzero(order <= _highest_order(radii))
    if len(usable) == 0:
        return []
    shared = covariance[np.ix_(usable, usable)]
    # rings that share their pixels are one; dark rings are quiet, which does not make them one
    level = np.sqrt(np.diag(shared))
    values, vectors = np.linalg.eigh(shared / np.outer(level, level))
    keep = values > 1e-3 * values.max()
    whiten = np.zeros((int(keep.sum()), len(radii)))
    colour = np.zeros((len(radii), int(keep.sum())))
    whiten[:, usable] = (vectors[:, keep] / np.sqrt(values[keep])).T / level
    colour[usable] = level[:, None] * vectors[:, keep] * np.sqrt(values[keep])
    # an order above 0 stands for itself and its conjugate, so its length counts twice
    double = 1.0 if order == 0 else 2.0
    variances, axes = np.linalg.eigh(double * whiten @ moment @ whiten.T)
    return [
        _Direction(float(v), order, np.sqrt(double) * (axis.conj() @ whiten), (colour @ axis) / np.sqrt(double))
        for v, axis in zip(variances, axes.T, strict=True)
    ]


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


def _noise_of_most(directions: Sequence[_Direction], counting: NDArray[np.float64]) -> float:
    """Variance over counting noise of most directions of the upper half of the orders: few hold more than noise."""
    ratios = [
        d.variance / noise
        for d in directions
        if d.order > len(counting) // 2 and (noise := np.vdot(d.analysis, counting[d.order] @ d.analysis).real) > 0
    ]
    return float(np.median(ratios)) if ratios else 0.0


def _recorded(measurements: Measurements, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Positions in the mask that hold a pattern; None for all of the scan."""
    recorded = measurements.recorded
    if recorded.all():
        return mask
    return recorded if mask is None else mask & recorded


def _totals(measurements: Measurements, mask: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    total = np.asarray(measurements.maps["total"], dtype=float)
    return total.ravel() if mask is None else total[mask]
