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
from stemvane.features.cross_correlation import order_phases
from stemvane.features.parallel import map_in_order, on_one_blas_thread
from stemvane.features.pattern_statistics import PatternStatistics, highest_order, pattern_totals, recorded_positions
from stemvane.geometry.polar import harmonics_of, polar_from

__all__ = ["HarmonicBasis", "rotate_features"]

# noise level of order m over that of order 0 is 1 + (m / this)² where all pixels count alike
_ORDER_SCALE = 3.0


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
        return cls.of(PatternStatistics.of(measurements, config.variance_floor, mask), config)

    @classmethod
    def of(cls, statistics: PatternStatistics, config: BasisConfig, *, mirrored: bool = False) -> HarmonicBasis:
        """Find background and features of patterns whose statistics are known; errors as for `fit`.

        With `mirrored` they are of these patterns and their mirror images together, whose features are then the complex
        conjugates.
        """
        grid, own_noise = statistics.grid, statistics.own_noise
        order_scale = config.order_scale or (np.inf if own_noise else _ORDER_SCALE)
        counting = statistics.counting
        background, moments = statistics.background, statistics.moments
        if config.background == "rings":
            background, moments = statistics.without_orientation()
        if mirrored:
            # a mirrored pattern has conjugated harmonics, so the mean of both moments is real, as are its directions
            moments = moments.real.astype(np.complex128)
        directions = [
            direction
            for order in range(grid.n_orders)
            if order not in config.drop_orders
            for direction in _directions(statistics.covariance[order], moments[order], order, grid.radii)
        ]
        directions.sort(key=lambda direction: -direction.variance)
        variance = np.array([direction.variance for direction in directions])
        # a millionth of every pixel: less than that is rounding
        if not (len(directions) and variance[0] > 1e-12 * statistics.mean_total):
            raise DataError("all patterns are the same, so there is nothing to learn; check scan and detector")
        gain = _noise_of_most(directions, counting) if own_noise else statistics.gain
        chosen = directions[: config.n_features]
        orders = np.array([direction.order for direction in chosen])
        scale = 1 / (1 + (orders / order_scale) ** 2)
        # shared charge takes noise out of the highest orders, not out of the low ones, where all of an electron counts
        counting_gain = max(gain, statistics.counts_per_electron) if statistics.counts_per_electron > 1 else gain
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
            mean_total=statistics.mean_total,
            own_noise=own_noise,
        )

    def has_grid_of(self, other: HarmonicBasis) -> bool:
        """Whether both read polar patterns of the same rings and sectors."""
        return (self.background.shape, self.n_azimuthal) == (other.background.shape, other.n_azimuthal)

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
        total = pattern_totals(measurements, recorded_positions(measurements, mask))
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
        mask = recorded_positions(measurements, mask)
        if factor is None:
            factor = self.intensity_factor(measurements, mask) if rescale else 1.0
        if mask is not None and not mask.any():
            yield np.empty((0, self.n_features), np.complex64)

        orders = [(order, np.flatnonzero(self.orders == order)) for order in np.unique(self.orders)]

        @on_one_blas_thread
        def analyse(block: NDArray[np.floating[Any]]) -> NDArray[np.complex64]:
            x = harmonics_of(block) * factor - self.background
            out = np.empty((len(block), self.n_features), np.complex64)
            for order, at in orders:
                out[:, at] = x[:, order] @ self.analysis[at].T
            return out

        yield from map_in_order(analyse, measurements.polar_blocks(mask))

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
    phase = order_phases(-np.asarray(angle, np.float64), int(orders.max(initial=0)) + 1).astype(np.complex64)
    result: NDArray[np.complex64] = (features * phase[:, orders]).astype(np.complex64)
    return result


class _Direction(NamedTuple):
    """Variance, order, analysis and synthesis vector of what may become a feature."""

    variance: float
    order: int
    analysis: NDArray[np.complex128]
    synthesis: NDArray[np.complex128]


def _directions(
    covariance: NDArray[np.float64], moment: NDArray[np.complex128], order: int, radii: NDArray[np.float64]
) -> list[_Direction]:
    """Directions of one order in which noise is white."""
    usable = np.flatnonzero(order <= highest_order(radii))
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


def _noise_of_most(directions: Sequence[_Direction], counting: NDArray[np.float64]) -> float:
    """Variance over counting noise of most directions of the upper half of the orders: few hold more than noise."""
    ratios = [
        d.variance / noise
        for d in directions
        if d.order > len(counting) // 2 and (noise := np.vdot(d.analysis, counting[d.order] @ d.analysis).real) > 0
    ]
    return float(np.median(ratios)) if ratios else 0.0
