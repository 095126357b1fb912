"""The best linear estimate of all features of a scan at once, from all of its positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stemvane.features.channel_filter import filter_channels
from stemvane.features.probe_transfer import ProbeTransfer
from stemvane.features.scan_estimate import Remainder, ScanEstimate, return_excess
from stemvane.features.scan_frame import noise_frequencies, scan_middle, taper
from stemvane.features.scan_problem import ScanProblem
from stemvane.features.scan_transfer import ScanTransfer

__all__ = ["FilteredTile", "PotentialFilter", "measure_noise"]

# positions are filtered together in squares of this side, with those of a margin around them
_TILE = 256
_MARGIN = 24
# of the features' rms: single precision keeps signal to noise of this inverse squared
_LEAST_NOISE = 1e-3
# with 60 Å of defocus the COM's angle is off by 6.7° without, and by 6.1, 5.4 and 5.3° after one to three of them
_N_REFITS = 2

# share of the power along the learned transfer that a computed one must explain: of a known probe it is 0.975 and more
# where it gains, and 0.967 where neither does; of one whose semi-angle is told 5 % wrong it is 0.967 at most, which
# costs 1.7°; `python -m benchmarks.denoise.choices`
_AS_GOOD = 0.97
# of the mean square that chance gives a correlation, exceeded by one in fifty
_BY_CHANCE = 4.0
# a Hann window makes neighbouring frequencies alike: means have as many times the variance of those of as many numbers
_JOINED = 1.94**2

Features = NDArray[np.complex64]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class FilteredTile:
    """A part of a filtered scan.

    Attributes
    ----------
    rows, columns : slice
        Where it lies in the scan.
    directions : ndarray of complex64, shape (n_directions, n_features)
        Features of a unit along each combination that holds something.
    values : ndarray of complex64, shape (n_directions, n_rows, n_columns)
        Estimate along these.
    mean : ndarray of complex64, shape (n_features,)
        Features where there is nothing along any direction.
    mean_std : ndarray of float, shape (n_features,)
        Standard deviation of the error of a real coordinate of these.
    covariance : ndarray of float, shape (2 n_directions, 2 n_directions)
        Covariance of the error far from edges and gaps, of real parts and then of imaginary parts.
    scale : ndarray of float32, shape (n_rows, n_columns)
        Factor on the error's standard deviation towards edges and gaps.
    potential, potential_std : ndarray of float32, shape (n_rows, n_columns)
        What the features are responses to, in units in which the noise of a position is 1, and its standard deviation.
    gradient : ndarray of complex64, shape (n_rows, n_columns)
        Estimate of the combination of features that was asked for, less its mean over the tile; 0 without one.
    gradient_std : ndarray of float32, shape (n_rows, n_columns)
        Standard deviation of a real coordinate's error.
    """

    rows: slice
    columns: slice
    directions: Features
    values: Features
    mean: Features
    mean_std: NDArray[np.float64]
    covariance: NDArray[np.float64]
    scale: NDArray[np.float32]
    potential: NDArray[np.float32]
    potential_std: NDArray[np.float32]
    gradient: Features
    gradient_std: NDArray[np.float32]

    def features(self) -> Features:
        """Estimate of all features, shape ``(n_features, n_rows, n_columns)``."""
        return np.asarray(np.tensordot(self.directions.T, self.values, axes=1) + self.mean[:, None, None])


@dataclass(frozen=True, eq=False)
class PotentialFilter:
    """Estimate of every feature at every position from all features at all positions.

    All features of a thin specimen are one potential, seen through a transfer each (`ScanTransfer`). The potential is a
    random field whose power at every spatial frequency is found in the data (`estimate_power`), so nothing is assumed
    of a lattice. The estimate is the linear one of least mean square error over all positions at once (Wiener, 1949;
    `ScanProblem`). What the potential leaves unexplained, such as the content of thick crystals or of coarse scans, is
    filtered channel by channel (`filter_channels`).

    Attributes
    ----------
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    colour : ndarray of complex, shape (n_features, n_features)
        Makes the features' counting noise of noise that has variance 1 in every real coordinate; Hermitian, and 0
        between features of different order.
    transfer : ScanTransfer or ProbeTransfer
        What the features have in common.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    """

    orders: NDArray[np.int64]
    colour: NDArray[np.complex128]
    transfer: ScanTransfer | ProbeTransfer
    step: tuple[float, float]

    @classmethod
    def fit(
        cls,
        features: Features,
        recorded: NDArray[np.bool_],
        orders: NDArray[np.int64],
        noise: Floats,
        step: tuple[float, float] | None,
        cutoff: float | None,
        probe: Callable[[NDArray[np.complex128]], NDArray[np.complex128]] | None = None,
    ) -> PotentialFilter:
        """Find noise and transfer of a scan.

        Parameters
        ----------
        features : ndarray of complex64, shape (scan_y, scan_x, n_features)
            Any value where nothing was recorded.
        recorded : ndarray of bool, shape (scan_y, scan_x)
            True where there is a pattern.
        orders : ndarray of int, shape (n_features,)
            Circular order of each feature.
        noise : ndarray of float, shape (n_features,)
            Standard deviation of the counting noise of a real coordinate, as it follows from the counts. Where the scan
            shows frequencies beyond the cutoff, the noise is measured there.
        step : tuple of float, optional
            Scan step ``(y, x)`` in Å.
        cutoff : float, optional
            Spatial frequency 2α/λ in 1/Å, beyond which a scan holds nothing of the specimen.
        probe : callable, optional
            Response of the features to frequencies of the scan, as `ProbeTransfer.of` takes it. It is taken where it
            explains as much of the patterns as the transfer that they tell, which noise has bent towards them.

        Returns
        -------
        PotentialFilter
        """
        step = step or (1.0, 1.0)
        highest = float(np.hypot(0.5 / step[0], 0.5 / step[1]))
        cutoff = min(cutoff or highest, highest)
        middle = tuple(scan_middle(n) for n in recorded.shape)
        recorded, features = recorded[middle], features[middle]
        y = _centred(features, recorded)[0]
        weights = taper(recorded)
        least = _LEAST_NOISE * float(np.sqrt((np.abs(y) ** 2).mean()))
        colour = measure_noise(y, weights, orders, np.asarray(noise, float), least, step, cutoff)
        whiten = np.linalg.inv(colour)
        y = np.tensordot(whiten.astype(np.complex64), y, axes=1)
        transfer = ScanTransfer.fit(y, weights, orders, step, cutoff)
        if transfer.share.any():
            along = np.tensordot(transfer.directions.conj(), y, axes=1)
            for _ in range(_N_REFITS):
                problem = ScanProblem(transfer, step, along, recorded)
                transfer = problem.refit(transfer, problem.solve())
            if probe is not None:
                computed = ProbeTransfer.of(lambda q: whiten @ probe(q), orders, cutoff)
                problem = ScanProblem(transfer, step, along, recorded)
                other = ScanProblem(computed, step, np.tensordot(computed.directions.conj(), y, axes=1), recorded)
                if other.explained > _AS_GOOD * problem.explained:
                    return cls(orders, colour, computed, step)
        return cls(orders, colour, transfer, step)

    def filter(
        self,
        read: Callable[[slice], Features],
        recorded: NDArray[np.bool_],
        gradient: NDArray[np.complexfloating[Any, Any]] | None = None,
    ) -> Iterator[FilteredTile]:
        """Filter a scan, some rows at a time.

        Parameters
        ----------
        read : callable
            Gives the features of a slice of rows, shape ``(n_rows, scan_x, n_features)``.
        recorded : ndarray of bool, shape (scan_y, scan_x)
            True where there is a pattern.
        gradient : ndarray of complex, shape (n_features,), optional
            Linear combination of features of order 1 that is a gradient of the potential where the specimen is thin,
            such as the COM.

        Yields
        ------
        FilteredTile
            From left to right, then downwards.
        """
        combination = np.zeros(len(self.orders), complex) if gradient is None else gradient
        for rows, around in _cuts(recorded.shape[0]):
            features = read(around)
            for columns, beside in _cuts(recorded.shape[1]):
                inner = tuple(
                    slice(part.start - wide.start, part.stop - wide.start)
                    for part, wide in ((rows, around), (columns, beside))
                )
                yield self._filter_tile(
                    rows, columns, inner, features[:, beside], recorded[around, beside], combination
                )
            # before the next rows are read
            del features

    def _filter_tile(
        self,
        rows: slice,
        columns: slice,
        inner: tuple[slice, ...],
        features: Features,
        recorded: NDArray[np.bool_],
        combination: NDArray[np.complexfloating[Any, Any]],
    ) -> FilteredTile:
        """Filter a part of a scan with its margins, which are then left out."""
        y, mean = _centred(features, recorded)
        y = np.tensordot(np.linalg.inv(self.colour).astype(np.complex64), y, axes=1)
        combination = (combination @ self.colour).astype(np.complex64)
        transfer, shape = self.transfer, (recorded.shape[0], recorded.shape[1])
        estimate = ScanEstimate(len(self.orders), shape)
        potential, potential_variance = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        gradient, gradient_variance = np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
        if transfer.share.any() and recorded.any():
            along = np.tensordot(transfer.directions.conj(), y, axes=1)
            problem = ScanProblem(transfer, self.step, along, recorded)
            solution = problem.solve()
            potential = problem.on_scan(solution.spectrum).astype(np.float32)
            potential_variance = problem.error_levels(solution, np.ones(problem.frame.shape))
            gradient, gradient_variance = problem.gradient(solution, transfer.directions @ combination)
            scale = potential_variance / np.float32(max(float(potential_variance.min()), 1e-30))
            covariance = problem.error_covariance(solution)
            estimate.add(transfer.directions, problem.expected(solution.spectrum), covariance, scale)
        for part in (self._channels, self._excess) if recorded.any() else ():
            rest = part(y - estimate.features(), recorded, estimate)
            if rest is None:
                continue
            estimate.add(rest.directions, rest.values, np.diag(np.tile(rest.variance, 2)), rest.scale)
            along = rest.directions @ combination
            gradient = gradient + np.tensordot(along, rest.values, axes=1)
            gradient_variance = gradient_variance + np.float32(np.abs(along) ** 2 @ rest.variance) * rest.scale
        return FilteredTile(
            rows,
            columns,
            (estimate.directions @ self.colour.T).astype(np.complex64),
            estimate.values[:, *inner],
            mean,
            np.asarray(np.linalg.norm(self.colour, axis=1) / np.sqrt(max(int(np.count_nonzero(recorded)), 1))),
            estimate.covariance,
            estimate.scale()[inner],
            potential[inner],
            np.sqrt(potential_variance)[inner],
            gradient[inner],
            np.sqrt(gradient_variance)[inner],
        )

    def _channels(self, rest: Features, recorded: NDArray[np.bool_], estimate: ScanEstimate) -> Remainder | None:
        return filter_channels(rest, recorded, self.orders, self.step, self.transfer)

    def _excess(self, rest: Features, recorded: NDArray[np.bool_], estimate: ScanEstimate) -> Remainder | None:
        return return_excess(rest, recorded, self.orders, estimate.error())


def _centred(features: Features, recorded: NDArray[np.bool_]) -> tuple[Features, Features]:
    """Features less their mean, ``(n_features, scan_y, scan_x)``, 0 where nothing was recorded, and the mean."""
    mean = features[recorded].mean(axis=0) if recorded.any() else np.zeros(features.shape[-1], np.complex64)
    centred = np.where(recorded[..., None], features - mean, 0)
    return np.ascontiguousarray(np.moveaxis(centred, -1, 0)).astype(np.complex64), mean.astype(np.complex64)


def measure_noise(
    y: Features,
    weights: Floats,
    orders: NDArray[np.int64],
    expected: NDArray[np.float64],
    least: float,
    step: tuple[float, float],
    cutoff: float,
) -> NDArray[np.complex128]:
    """Root of the noise's covariance, from spatial frequencies that hold nothing else.

    Where patterns are far brighter in the middle than further out, noise of features of one order goes together.
    Correlations that so few frequencies have by chance are taken back (James & Stein, 1961).

    Parameters
    ----------
    y : ndarray of complex64, shape (n_features, scan_y, scan_x)
        Features less their mean.
    weights : ndarray of float, shape (scan_y, scan_x)
        Taper of mean square 1.
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    expected : ndarray of float, shape (n_features,)
        Noise of a real coordinate that the counts tell, kept where the scan has no such frequencies.
    least : float
        What is less counts as that much.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    cutoff : float
        Largest spatial frequency of the content in 1/Å.

    Returns
    -------
    ndarray of complex, shape (n_features, n_features)
        Of a real coordinate.
    """
    empty = noise_frequencies(weights.shape, step, cutoff)
    if empty is None:
        return np.diag(np.maximum(expected, least)).astype(complex)
    spectra = np.array([fft.fft2(part * weights, norm="ortho")[empty] for part in y])
    root = np.zeros((len(y), len(y)), complex)
    for order in np.unique(orders):
        chosen = np.flatnonzero(orders == order)
        x, n_coordinates = spectra[chosen], 1 if order == 0 else 2
        covariance = x @ x.conj().T / (x.shape[1] * n_coordinates)
        level = np.sqrt(np.diag(covariance).real)
        correlation = covariance / np.maximum(np.outer(level, level), 1e-30)
        by_chance = _BY_CHANCE * _JOINED * n_coordinates / (2 * x.shape[1])
        correlation *= np.clip(1 - by_chance / np.maximum(np.abs(correlation) ** 2, 1e-30), 0, 1)
        np.fill_diagonal(correlation, 1)
        # what is far below the counts' own noise is rounding, not noise
        level = np.maximum(level, np.maximum(0.1 * expected[chosen], least))
        values, vectors = np.linalg.eigh(correlation * np.outer(level, level))
        values = np.maximum(values, 1e-3 * values[-1])
        root[np.ix_(chosen, chosen)] = (vectors * np.sqrt(values)) @ vectors.conj().T
    return root


def _cuts(n: int) -> list[tuple[slice, slice]]:
    """Pieces of an axis, and each with its margins."""
    n_pieces = max(1, round(n / _TILE))
    edges = np.linspace(0, n, n_pieces + 1).astype(int)
    return [
        (slice(a, b), slice(max(0, a - _MARGIN), min(n, b + _MARGIN)))
        for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
