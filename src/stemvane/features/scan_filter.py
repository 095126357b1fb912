"""The best linear estimate of every feature from neighbouring probe positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from stemvane.features.scan_frame import scan_frequencies, scan_middle, taper
from stemvane.features.scan_kernel import weighted_neighbours

__all__ = ["ScanFilter", "Windows"]

_N_FREQUENCIES = 64
# a detector that spreads every electron over some pixels has more noise at low orders than the highest show
_MOST_COLOUR = 4.0
# multiplications that finding the weights may take: some seconds
_MOST_WORK = 2e11

Features = NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True, eq=False)
class Windows:
    """Weights of the neighbours of every position of one scan.

    Attributes
    ----------
    kind : ndarray of int32, shape (scan_y, scan_x)
        Which weights a position takes; -1 where no pattern was recorded.
    weights : ndarray of float32, shape (n_kinds, side, side, n_features)
        Weights by window, row and column of the neighbour, and feature; 0 where a window has no neighbour.
    """

    kind: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def reach(self) -> int:
        """Rows above and below a position that it takes from."""
        return int(self.weights.shape[1] // 2)

    def gain(self) -> NDArray[np.float32]:
        """Variance of the remaining noise over that of a single pattern, shape ``(n_kinds, n_features)``."""
        return np.asarray((self.weights**2).sum(axis=(1, 2)))


@dataclass(frozen=True, eq=False)
class ScanFilter:
    """Estimate of the features of a pattern from its own and its neighbours' features.

    A scan is an image: the features of neighbouring patterns differ by less than their noise does. Over the scan, every
    feature is taken as a random field with a power spectrum that depends on the length of the spatial frequency alone
    and falls with it, so nothing is assumed of a lattice; the spectrum is the one of the data, without the counting
    noise. The estimate is the linear one of least mean square error from all neighbours within the reach (Wiener, 1949;
    with irregular neighbours also known as kriging: Matheron, Economic Geology 58, 1246, 1963). Features of content
    that rotates are complex numbers whose phase is the angle times the order, and such numbers are averaged, not
    angles, so that the angle can go round a vortex.

    Attributes
    ----------
    spectrum : ndarray of float, shape (n_features, n_bins)
        Power of the content of each feature, per probe position, in bins of spatial frequency of equal width.
    highest : float
        Upper edge of the last bin, per Å, or per position where the scan step is unknown.
    noise : ndarray of float, shape (n_features,)
        Variance of the noise of each feature in the patterns that the filter was fitted to.
    fresh_noise : ndarray of float, shape (n_features,)
        Noise in other counts of such patterns: less where features were chosen by what noise gave them.
    step : tuple of float
        Scan step ``(y, x)`` in Å, or 1 where it is unknown.
    reach : int
        Positions to each side that are taken from, at most.
    """

    spectrum: NDArray[np.float64]
    highest: float
    noise: NDArray[np.float64]
    fresh_noise: NDArray[np.float64]
    step: tuple[float, float]
    reach: int
    # the windows of the last scan: a model reads the same one many times over
    _latest: dict[tuple[Any, ...], Windows] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def fit(
        cls,
        features: Features,
        recorded: NDArray[np.bool_],
        noise: NDArray[np.floating[Any]],
        step: tuple[float, float] | None,
        reach: int,
        *,
        chosen: float = 1.0,
    ) -> ScanFilter:
        """Find the spectra of a scan.

        Parameters
        ----------
        features : ndarray of complex, shape (scan_y, scan_x, n_features)
            Any value where nothing was recorded.
        recorded : ndarray of bool, shape (scan_y, scan_x)
            True where there is a pattern.
        noise : ndarray of float, shape (n_features,)
            Variance of the counting noise of each feature. It is taken to be larger, up to four times, where the
            spectrum does not fall to it at its highest frequencies: counts spread over pixels are not independent.
        step : tuple of float, optional
            Scan step ``(y, x)`` in Å.
        reach : int
            Positions to each side to take from.
        chosen : float
            Factor by which the noise of features that were chosen by their variance in these patterns may exceed that
            of other counts (Marchenko & Pastur, Math. USSR Sb. 1, 457, 1967).

        Returns
        -------
        ScanFilter
        """
        step = step or (1.0, 1.0)
        middle = tuple(scan_middle(n) for n in recorded.shape)
        present = recorded[middle]
        rows, columns = present.shape
        # the edges of the scan would leak into all frequencies
        weights = taper(present)
        frequency = scan_frequencies(present.shape, step)
        highest = 0.5 / max(step)
        n_bins = max(2, int(min(rows * step[0], columns * step[1]) / (2 * max(step))))
        at = np.minimum((frequency / highest * n_bins).astype(int), n_bins - 1).ravel()
        count = np.maximum(np.bincount(at, minlength=n_bins), 1e-9)
        spectrum, level = np.empty((features.shape[-1], n_bins)), np.empty(features.shape[-1])
        for k in range(len(spectrum)):
            part = np.where(present, features[middle[0], middle[1], k], 0)
            power = np.abs(np.fft.fft2(part * weights, norm="ortho")) ** 2
            mean = np.bincount(at, power.ravel(), minlength=n_bins) / count
            falling = optimize.isotonic_regression(mean, weights=count, increasing=False).x
            level[k] = np.clip(falling[-max(1, n_bins // 4) :].mean(), noise[k], _MOST_COLOUR * noise[k])
            spectrum[k] = np.maximum(falling - level[k], 0)
        return cls(spectrum, highest, level, np.maximum(level / chosen, noise), step, reach)

    def windows(self, recorded: NDArray[np.bool_], step: tuple[float, float] | None = None) -> Windows:
        """Weights for a scan.

        Parameters
        ----------
        recorded : ndarray of bool, shape (scan_y, scan_x)
            True where there is a pattern.
        step : tuple of float, optional
            Scan step ``(y, x)`` in Å; that of the fitted scan if left out.

        Returns
        -------
        Windows

        Notes
        -----
        Positions near an edge or a gap have fewer neighbours and weights of their own. Where the gaps are so many that
        finding the weights would take long, the reach is shortened.
        """
        step = step or self.step
        key = (recorded.shape, recorded.tobytes(), step)
        windows = self._latest.get(key)
        if windows is None:
            windows = self._solve(recorded, step)
            self._latest.clear()
            self._latest[key] = windows
        return windows

    def _solve(self, recorded: NDArray[np.bool_], step: tuple[float, float]) -> Windows:
        reach = self.reach
        while True:
            unique, kind, flips = _kinds(recorded, reach)
            if reach == 0 or len(unique) * float((2 * reach + 1) ** 6) * len(self.noise) / 3 <= _MOST_WORK:
                break
            reach -= 1
        side = 2 * reach + 1
        covariance = self._covariance(reach, step)
        row, column = np.divmod(np.arange(side**2), side)
        solved = np.zeros((len(unique), len(self.noise), side**2), np.float32)
        with_content = np.flatnonzero(self.spectrum.any(axis=1))
        for number, present in enumerate(unique):
            here = np.flatnonzero(present)
            lag_y, lag_x = (p[here][:, None] - p[here] + 2 * reach for p in (row, column))
            centre_y, centre_x = (p[here] + reach for p in (row, column))
            for k in with_content:
                matrix = covariance[k][lag_y, lag_x]
                matrix[np.diag_indices(len(here))] += self.noise[k] + 1e-9 * covariance[k].max()
                solved[number, k, here] = np.linalg.solve(matrix, covariance[k][centre_y, centre_x])
        squares = solved.reshape(len(unique), len(self.noise), side, side).transpose(0, 2, 3, 1)
        weights = np.empty((len(flips), side, side, len(self.noise)), np.float32)
        for number, (which, up, across) in enumerate(flips):
            weights[number] = squares[which][:: -1 if up else 1, :: -1 if across else 1]
        return Windows(kind, weights)

    def blocks(
        self, blocks: Iterable[Features], recorded: NDArray[np.bool_], windows: Windows
    ) -> Iterator[tuple[NDArray[np.complex64], NDArray[np.int32]]]:
        """Filter features that come some rows of the scan at a time.

        Parameters
        ----------
        blocks : iterable of ndarray of complex, shape (n, n_features)
            Features of the recorded positions in the order of the scan; a block ends where a row does.
        recorded : ndarray of bool, shape (scan_y, scan_x)
            True where there is a pattern.
        windows : Windows
            Weights for this scan.

        Yields
        ------
        features : ndarray of complex64, shape (n, n_features)
            Filtered, of the recorded positions in the order of the scan.
        kind : ndarray of int32, shape (n,)
            The weights that each of them took.
        """
        n_rows, reach = len(recorded), windows.reach
        ends = np.cumsum(recorded.sum(axis=1))
        held = np.zeros((0, recorded.shape[1], len(self.noise)), np.complex64)
        # rows `first` to `first + len(held)` of the scan are held, rows up to `done` are filtered
        first = done = n_read = 0
        for block in blocks:
            n_read += len(block)
            last = n_rows if n_read == ends[-1] else int(np.searchsorted(ends, n_read, side="left")) + 1
            end = first + len(held)
            fresh = np.zeros((last - end, *held.shape[1:]), np.complex64)
            fresh[recorded[end:last]] = block
            held = np.concatenate([held, fresh])
            until = n_rows if last == n_rows else last - reach
            if until <= done:
                continue
            out = np.empty((until - done, *held.shape[1:]), np.complex64)
            weighted_neighbours(held, windows.kind[done:until], windows.weights, done - first, out)
            part = recorded[done:until]
            yield out[part], windows.kind[done:until][part]
            done = until
            keep = max(done - reach, 0)
            held, first = held[keep - first :], keep

    def _covariance(self, reach: int, step: tuple[float, float]) -> NDArray[np.float64]:
        """Covariance of the content of two positions by lag, shape ``(n_features, 4 reach + 1, 4 reach + 1)``."""
        n = max(_N_FREQUENCIES, 8 * reach + 4)
        frequency = scan_frequencies((n, n), step)
        centres = (np.arange(self.spectrum.shape[1]) + 0.5) / self.spectrum.shape[1] * self.highest
        lags = np.arange(-2 * reach, 2 * reach + 1)
        out = np.empty((len(self.spectrum), len(lags), len(lags)))
        for k, spectrum in enumerate(self.spectrum):
            power = np.interp(frequency, centres, spectrum, right=0.0)
            out[k] = np.fft.ifft2(power).real[np.ix_(lags, lags)]
        return out


def _kinds(
    recorded: NDArray[np.bool_], reach: int
) -> tuple[NDArray[np.bool_], NDArray[np.int32], list[tuple[int, bool, bool]]]:
    """Windows that differ by more than a flip, the window of every position, and what each is a flip of."""
    side = 2 * reach + 1
    padded = np.pad(recorded, reach)
    around = np.lib.stride_tricks.sliding_window_view(padded, (side, side))[recorded]
    packed = np.packbits(around.reshape(len(around), side**2), axis=1)
    _, first, which = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    kind = np.full(recorded.shape, -1, np.int32)
    kind[recorded] = which.ravel()
    unique: list[NDArray[np.bool_]] = []
    numbers: dict[bytes, int] = {}
    flips = []
    for window in around[first]:
        options = {}
        for up in (False, True):
            for across in (False, True):
                flipped = window[:: -1 if up else 1, :: -1 if across else 1]
                options[np.packbits(flipped).tobytes()] = (up, across, flipped)
        key = min(options)
        up, across, flipped = options[key]
        if key not in numbers:
            numbers[key] = len(unique)
            unique.append(flipped.ravel())
        flips.append((numbers[key], up, across))
    return np.array(unique), kind, flips
