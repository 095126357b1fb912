"""The best linear estimate of all features of a scan at once, from all of its positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from stemvane.features.scan_frame import ScanFrame, count_workers, mirror, noise_frequencies, scan_middle, taper
from stemvane.features.scan_transfer import ScanTransfer
from stemvane.features.shrinkage import estimate_power, ring_numbers

__all__ = ["FilteredRows", "PotentialFilter"]

# positions are filtered together in squares of this side, with those of a margin around them
_TILE = 256
_MARGIN = 24
# content of positions further apart than this is not compared
_FARTHEST = 96
# 64 x 64 positions need 20 to 30 rounds; beyond them the estimate changes by less than 1 % of its error
_MOST_ROUNDS = 30
_TOLERANCE = 3e-3
# a peak of a crystal falls between bins: spread over them, |COM| is found with 0.6 to 0.8 of the error
_SPREAD = 0.5
# remaining power that changes no estimate by more than a hundredth of its noise
_LEAST_REMAINDER = 0.02
# of the features' rms: single precision keeps signal to noise of this inverse squared
_LEAST_NOISE = 1e-3
# shares of a response within the scan for which the error is worked out
_INFORMATION = np.array([1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1])

Features = NDArray[np.complex64]
Floats = NDArray[np.floating[Any]]


class FilteredRows(NamedTuple):
    """Rows of a filtered scan.

    Attributes
    ----------
    rows : slice
        Rows of the scan.
    values : ndarray of complex64, shape (n_out, n_rows, scan_x)
        Estimate, with its mean over the scan.
    std : ndarray of float32, shape (n_out, n_rows, scan_x)
        Standard deviation of a real coordinate's error.
    potential : ndarray of float32, shape (n_rows, scan_x)
        What the features are responses to, in units in which the noise of a position is 1.
    """

    rows: slice
    values: Features
    std: NDArray[np.float32]
    potential: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PotentialFilter:
    """Estimate of every feature at every position from all features at all positions.

    All features of a thin specimen are one potential, seen through a transfer each (`ScanTransfer`). The potential is a
    random field whose power at every spatial frequency is found in the data (`estimate_power`), so nothing is assumed
    of a lattice. The estimate is the linear one of least mean square error over all positions at once (Wiener, 1949),
    edges and gaps left out exactly, by conjugate gradients on a torus that is larger than the scan by the largest
    distance compared. What the potential leaves unexplained, such as the content of thick crystals or of coarse scans,
    is filtered channel by channel.

    Attributes
    ----------
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    noise : ndarray of float, shape (n_features,)
        Standard deviation of the counting noise of a real coordinate of each feature.
    mean : ndarray of complex64, shape (n_features,)
        Mean of the features over the scan.
    transfer : ScanTransfer
        What the features have in common.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    """

    orders: NDArray[np.int64]
    noise: NDArray[np.float64]
    mean: NDArray[np.complex64]
    transfer: ScanTransfer
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

        Returns
        -------
        PotentialFilter
        """
        step = step or (1.0, 1.0)
        highest = float(np.hypot(0.5 / step[0], 0.5 / step[1]))
        cutoff = min(cutoff or highest, highest)
        mean = features[recorded].mean(axis=0)
        middle = tuple(scan_middle(n) for n in recorded.shape)
        centred = np.where(recorded[..., None], features - mean, 0)[middle].astype(np.complex64)
        weights = taper(recorded[middle])
        y = np.ascontiguousarray(np.moveaxis(centred, -1, 0))
        noise = _measure_noise(y, weights, orders, np.asarray(noise, float), step, cutoff)
        noise = np.maximum(noise, _LEAST_NOISE * float(np.sqrt((np.abs(y) ** 2).mean())))
        whitened = (y / noise[:, None, None]).astype(np.complex64)
        return cls(
            orders, np.asarray(noise, np.float64), mean, ScanTransfer.fit(whitened, weights, orders, step, cutoff), step
        )

    def estimate(
        self,
        read: Callable[[slice], Features],
        recorded: NDArray[np.bool_],
        readout: NDArray[np.complexfloating[Any, Any]],
    ) -> Iterator[FilteredRows]:
        """Filter a scan, some rows at a time.

        Parameters
        ----------
        read : callable
            Gives the features of a slice of rows, shape ``(n_rows, scan_x, n_features)``.
        recorded : ndarray of bool, shape (scan_y, scan_x)
            True where there is a pattern.
        readout : ndarray of complex, shape (n_out, n_features)
            Linear combinations of features that are wanted, each of one circular order.

        Yields
        ------
        FilteredRows
        """
        for rows, around in _cuts(recorded.shape[0]):
            features = read(around)
            part, strips = recorded[around], []
            for columns, beside in _cuts(recorded.shape[1]):
                tile = self._filter_tile(features[:, beside], part[:, beside], readout)
                top, left = rows.start - around.start, columns.start - beside.start
                inside = (
                    ...,
                    slice(top, top + rows.stop - rows.start),
                    slice(left, left + columns.stop - columns.start),
                )
                strips.append([array[inside] for array in tile])
            yield FilteredRows(rows, *(np.concatenate(arrays, axis=-1) for arrays in zip(*strips, strict=True)))

    def _filter_tile(
        self, features: Features, recorded: NDArray[np.bool_], readout: NDArray[np.complexfloating[Any, Any]]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Values, their standard deviation, and the potential of one tile."""
        centred = np.where(recorded[..., None], (features - self.mean) / self.noise, 0)
        y = np.ascontiguousarray(np.moveaxis(centred, -1, 0)).astype(np.complex64)
        shape = (recorded.shape[0], recorded.shape[1])
        transfer = self.transfer
        combined = (readout * self.noise).astype(np.complex64)
        potential = np.zeros(shape, np.float32)
        estimate = np.zeros_like(y)
        variance = np.zeros((len(combined), *shape), np.float32)
        if transfer.share.any() and recorded.any():
            frame = ScanFrame(self.orders, _torus(shape), self.step, transfer.handedness)
            problem = _Problem(frame, transfer.responses(frame), y, recorded)
            spectrum, power = self._solve(problem)
            potential = problem.on_scan(spectrum).astype(np.float32)
            estimate = problem.expected(spectrum)
            variance = problem.variance(power, transfer.at(transfer.tilt, frame.frequency), combined)
        remainder = _filter_channels(
            y - estimate, recorded, self.orders, self.step, transfer.handedness, transfer.cutoff
        )
        if remainder is not None:
            estimate = estimate + remainder.estimate
            variance += (np.abs(combined) ** 2 @ remainder.variance)[:, None, None].astype(np.float32)
        values = np.tensordot(combined, estimate, axes=1) + (readout @ self.mean)[:, None, None]
        return values.astype(np.complex64), np.sqrt(variance), potential

    def _solve(self, problem: _Problem) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Spectrum of the potential and its power, which a first solution has made clearer."""
        frame, shape = problem.frame, problem.recorded.shape
        width = 1 / max(n * d for n, d in zip(shape, self.step, strict=True))
        rings = ring_numbers(frame.frequency, width, self.transfer.cutoff)
        share = self.transfer.at(self.transfer.share, frame.frequency)
        blurred = _lag_spectrum(problem.on_scan(problem.data), problem.recorded, frame.shape)
        power = share * _symmetric(estimate_power(blurred, rings, 1, 1))
        known = problem.recorded.sum() / rings.size
        gain = np.maximum(known * power / (1 + known * power), 1e-3)
        squares = np.abs(problem.solve(power)) ** 2 / rings.size / gain**2
        sharp = _symmetric(estimate_power(squares, rings, 1 / known, 1))
        power = share * ndimage.gaussian_filter(sharp, _SPREAD, mode="wrap") * (rings >= 0)
        return problem.solve(power), power.astype(np.float32)


class _Problem:
    """Least squares for the potential of one tile."""

    def __init__(
        self, frame: ScanFrame, responses: NDArray[np.complex64], y: Features, recorded: NDArray[np.bool_]
    ) -> None:
        self.frame, self.responses, self.recorded = frame, responses, recorded
        self.present = recorded.astype(np.float32)
        self.data = self.project(y)

    def on_scan(self, spectrum: NDArray[np.complex64]) -> Floats:
        """Real field of a spectrum at the positions of the tile."""
        rows, columns = self.recorded.shape
        return np.asarray(fft.ifft2(spectrum)[:rows, :columns].real)

    def expected(self, spectrum: NDArray[np.complex64]) -> Features:
        """Features that a potential of this spectrum gives."""
        rows, columns = self.recorded.shape
        features = fft.ifft2(self.responses * spectrum, axes=(1, 2), overwrite_x=True, workers=count_workers())
        return np.asarray(features[:, :rows, :columns])

    def project(self, y: Features) -> NDArray[np.complex64]:
        """Adjoint of `expected` over the recorded positions, for a potential that is real."""
        along = np.einsum("kyx,kyx->yx", self.responses.conj(), self.frame.spectrum(y * self.present))
        return np.asarray((along + np.conj(mirror(along))) / 2)

    def solve(self, power: Floats) -> NDArray[np.complex64]:
        """Spectrum of least mean square error for a potential of the given power."""
        root = np.sqrt(power).astype(np.float32)
        return root * _conjugate_gradients(lambda u: u + root * self.project(self.expected(root * u)), root * self.data)

    def variance(
        self, power: NDArray[np.float32], tilt: NDArray[np.float64], combined: NDArray[Any]
    ) -> NDArray[np.float32]:
        """Error of a real coordinate of every combination of features at every position."""
        # towards an edge a position is seen by fewer patterns, by as much of the response as lies within the scan
        kernels = fft.ifft2(self.responses * (power > 0), axes=(1, 2), workers=count_workers())
        energy = (np.abs(kernels) ** 2).sum(axis=0)
        inside = np.zeros(self.frame.shape)
        rows, columns = self.recorded.shape
        inside[:rows, :columns] = self.present
        information = fft.ifft2(fft.fft2(inside) * np.conj(fft.fft2(energy))).real / max(energy.sum(), 1e-30)
        information = np.clip(information[:rows, :columns], _INFORMATION[-1], 1)
        squares = np.array(
            [np.abs(np.tensordot(row.astype(np.complex64), self.responses, axes=1)) ** 2 for row in combined]
        )
        levels = np.array([(squares * (power / (1 + known * power))).mean(axis=(1, 2)) for known in _INFORMATION])
        n_coordinates = np.where(self.frame.orders[np.abs(combined).argmax(axis=1)] == 0, 1, 2)
        # a tilted transfer gives a part of the potential to all channels alike
        astray = float((tilt * power).mean()) / self.frame.n_channels
        levels = levels / n_coordinates + astray * (np.abs(combined) ** 2).sum(axis=1)
        at = _INFORMATION[::-1]
        return np.stack([np.interp(information, at, level[::-1]) for level in levels.T]).astype(np.float32)


class _Remainder(NamedTuple):
    """Estimate, shape ``(n_features, scan_y, scan_x)``, and each feature's variance per real coordinate."""

    estimate: Features
    variance: NDArray[np.float64]


def _filter_channels(
    y: Features,
    recorded: NDArray[np.bool_],
    orders: NDArray[np.int64],
    step: tuple[float, float],
    handedness: int,
    cutoff: float,
) -> _Remainder | None:
    """Estimate features of which nothing is known but their noise, each by itself.

    The power of a channel of `ScanFrame` is taken as its mean over a ring of spatial frequencies times the share that
    each frequency has of the ring's power, all channels together: a crystal's peaks are at the same place in all.

    Parameters
    ----------
    y : ndarray of complex64, shape (n_features, scan_y, scan_x)
        Features less their mean, with noise of variance 1 in every real coordinate.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        True where there is a pattern.
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    handedness : int
        As of `ScanFrame`.
    cutoff : float
        Largest spatial frequency in 1/Å.

    Returns
    -------
    _Remainder or None
        None where there is nothing but noise.
    """
    shape = (recorded.shape[0], recorded.shape[1])
    weights = taper(recorded)
    small = ScanFrame(orders, shape, step, handedness)
    spectrum = small.spectrum(y * weights.astype(np.float32)) / np.float32(np.sqrt(weights.size))
    squares = np.abs(small.channels(spectrum)) ** 2
    width = 1.5 / max(n * d for n, d in zip(shape, step, strict=True))
    rings = ring_numbers(small.frequency, width, cutoff)
    together = _symmetric(estimate_power(squares.mean(axis=0), rings, 1, len(squares)))
    if not (together > _LEAST_REMAINDER).any():
        return None
    power = np.zeros(squares.shape, np.float32)
    for ring in range(int(rings.max()) + 1):
        inside = rings == ring
        weight = together[inside] / (1 + together[inside])
        if weight.sum() < _LEAST_REMAINDER:
            continue
        mean = squares[:, inside] @ weight / weight.sum() - 1
        # q and -q are one number; what its own scatter explains of a mean is not signal
        scatter = 2 * (weight**2).sum() / weight.sum() ** 2
        mean = np.maximum(mean, 0) ** 3 / (mean**2 + scatter)
        power[:, inside] = mean[:, None] * together[inside] / (together[inside] @ weight / weight.sum())
    torus = _torus(shape)
    places = [np.rint(np.arange(n) * m / n).astype(int) % m for n, m in zip(torus, shape, strict=True)]
    frame = ScanFrame(orders, torus, step, handedness)
    power = power[:, places[0][:, None], places[1]] * (frame.frequency <= cutoff)
    power = (power + mirror(power)) / 2
    root, present = np.sqrt(power), recorded.astype(np.float32)

    def colour(features: Features) -> Features:
        return frame.responses(root * frame.channels(features))

    def back(features: Features) -> Features:
        return np.asarray(fft.ifft2(features, axes=(1, 2), workers=count_workers())[:, : shape[0], : shape[1]])

    solution = _conjugate_gradients(
        lambda u: u + colour(frame.spectrum(back(colour(u)) * present)), colour(frame.spectrum(y * present))
    )
    of_channel = (power / (1 + power)).mean(axis=(1, 2))
    n = len(orders)
    variance = of_channel[:n].copy()
    variance[orders != 0] = (variance[orders != 0] + of_channel[n:]) / 2
    return _Remainder(back(colour(solution)), variance)


def _measure_noise(
    y: Features,
    weights: Floats,
    orders: NDArray[np.int64],
    expected: NDArray[np.float64],
    step: tuple[float, float],
    cutoff: float,
) -> NDArray[np.float64]:
    """Noise of a real coordinate of each feature, from spatial frequencies that hold nothing else.

    Parameters
    ----------
    y : ndarray of complex64, shape (n_features, scan_y, scan_x)
        Features less their mean.
    weights : ndarray of float, shape (scan_y, scan_x)
        Taper of mean square 1.
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    expected : ndarray of float, shape (n_features,)
        Noise that the counts tell, kept where the scan has no such frequencies.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    cutoff : float
        Largest spatial frequency of the content in 1/Å.

    Returns
    -------
    ndarray of float, shape (n_features,)
    """
    empty = noise_frequencies(weights.shape, step, cutoff)
    if empty is None:
        return expected
    power = np.array([(np.abs(fft.fft2(part * weights, norm="ortho")) ** 2)[empty].mean() for part in y])
    measured = np.sqrt(power / np.where(orders == 0, 1, 2))
    # what is far below the counts' own noise is rounding, not noise
    return np.asarray(np.maximum(measured, 0.1 * expected))


def _conjugate_gradients(
    apply: Callable[[NDArray[np.complex64]], NDArray[np.complex64]], right: NDArray[np.complex64]
) -> NDArray[np.complex64]:
    """Solve a system that is symmetric for the real part of the scalar product (Hestenes & Stiefel, 1952)."""
    solution = np.zeros_like(right)
    residual, direction = right.copy(), right.copy()
    size = first = float(np.vdot(residual, residual).real)
    for _ in range(_MOST_ROUNDS):
        if size <= _TOLERANCE**2 * first:
            break
        applied = apply(direction)
        length = np.float32(size / float(np.vdot(direction, applied).real))
        solution += length * direction
        residual -= length * applied
        before, size = size, float(np.vdot(residual, residual).real)
        direction = residual + np.float32(size / before) * direction
    return solution


def _lag_spectrum(values: Floats, recorded: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Power spectrum from the unbiased autocovariance, which gaps and edges do not bend."""
    present = recorded.astype(float)
    counts = np.maximum(np.rint(fft.ifft2(np.abs(fft.fft2(present, shape)) ** 2).real), 1)
    centred = (values - values[recorded].mean()) * present
    covariance = fft.ifft2(np.abs(fft.fft2(centred, shape)) ** 2).real / counts
    lags = [
        np.clip(1 - np.minimum(np.arange(n), n - np.arange(n)) / min(size, _FARTHEST), 0, None)
        for n, size in zip(shape, recorded.shape, strict=True)
    ]
    return np.asarray(fft.fft2(covariance * np.outer(*lags)).real)


def _torus(shape: tuple[int, int]) -> tuple[int, int]:
    rows, columns = (fft.next_fast_len(n + min(n, _FARTHEST)) for n in shape)
    return rows, columns


def _cuts(n: int) -> list[tuple[slice, slice]]:
    """Pieces of an axis, and each with its margins."""
    n_pieces = max(1, round(n / _TILE))
    edges = np.linspace(0, n, n_pieces + 1).astype(int)
    return [
        (slice(a, b), slice(max(0, a - _MARGIN), min(n, b + _MARGIN)))
        for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]


def _symmetric(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((power + mirror(power)) / 2)
