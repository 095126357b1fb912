"""From measurements to the features that models learn from, each pattern by itself or with its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemvane.config import BasisConfig
from stemvane.data.measurements import Measurements
from stemvane.features.background import fit_basis
from stemvane.features.harmonics import HarmonicBasis
from stemvane.features.scan_filter import ScanFilter

__all__ = ["FeatureReader"]

# share of the residuals' power that counting noise must have to be worth a filter
_WORTH_FILTERING = 1e-3
_MOST_POSITIONS = 65_536


@dataclass(frozen=True, eq=False)
class FeatureReader:
    """A basis, and a filter over the scan where the patterns are noisy.

    Attributes
    ----------
    basis : HarmonicBasis
        Background and features.
    scan_filter : ScanFilter or None
        None where every pattern stands for itself.
    noise : ndarray of float, shape (n_features,)
        Standard deviation of the counting noise of a real coordinate of each feature in the patterns fitted to, far
        from edges and gaps; 0 where the data have no noise to speak of.
    """

    basis: HarmonicBasis
    scan_filter: ScanFilter | None
    noise: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        measurements: Measurements,
        config: BasisConfig,
        *,
        used: NDArray[np.bool_],
        allowed: NDArray[np.bool_],
    ) -> FeatureReader:
        """Find basis and filter of a data set.

        Parameters
        ----------
        measurements : Measurements
            A scan with polar patterns.
        config : BasisConfig
            How many features, and whether neighbours are used.
        used : ndarray of bool, shape (scan_y, scan_x)
            Positions that the basis is fitted to.
        allowed : ndarray of bool, shape (scan_y, scan_x)
            Positions that may serve as neighbours.

        Returns
        -------
        FeatureReader

        Raises
        ------
        DataError
            If fewer than two patterns remain, or all patterns are the same.
        """
        basis = fit_basis(measurements, config, mask=used)
        rows = _middle_rows(allowed)
        part = np.zeros_like(allowed)
        part[rows] = allowed[rows]
        features = np.zeros((*allowed[rows].shape, basis.n_features), np.complex64)
        features[allowed[rows]] = basis.features(measurements, part)
        variance = basis.coordinates * basis.counting**2
        if variance.sum() < _WORTH_FILTERING * (np.abs(features[allowed[rows]]) ** 2).mean(axis=0).sum():
            return cls(basis, None, np.zeros(basis.n_features))
        # a filter that is the same everywhere mixes the grains on either side of a border
        neighbours = not basis.own_noise if config.neighbours is None else config.neighbours
        if not neighbours:
            return cls(basis, None, basis.counting)
        step = measurements.calibration.scan_step
        # of all directions of an order, those were chosen in which the noise of these patterns happens to be largest
        chosen = (1 + np.sqrt(basis.analysis.shape[1] / np.count_nonzero(used))) ** 2
        scan_filter = ScanFilter.fit(features, allowed[rows], variance, step, config.reach, chosen=chosen)
        return cls.with_filter(basis, scan_filter)

    @classmethod
    def with_filter(cls, basis: HarmonicBasis, scan_filter: ScanFilter) -> FeatureReader:
        """Reader with a filter whose noise far from edges and gaps is worked out from its weights."""
        reach = scan_filter.reach
        windows = scan_filter.windows(np.ones((2 * reach + 1, 2 * reach + 1), bool))
        gain = windows.gain()[windows.kind[reach, reach]]
        return cls(basis, scan_filter, np.sqrt(gain * scan_filter.noise / basis.coordinates))

    def blocks(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_],
        *,
        neighbours: bool = True,
        rescale: bool = True,
    ) -> Iterator[tuple[NDArray[np.complex64], NDArray[np.float32]]]:
        """Features and their noise, some patterns at a time.

        Parameters
        ----------
        measurements : Measurements
            A scan of the same polar grid; intensities are scaled to the mean total that the basis was fitted to.
        mask : ndarray of bool, shape (scan_y, scan_x)
            True at the probe positions to use, also as neighbours.
        neighbours : bool
            Whether the filter is used, if the patterns are a scan.
        rescale : bool
            Whether intensities are scaled at all.

        Yields
        ------
        features : ndarray of complex64, shape (n, n_features)
        noise : ndarray of float32, shape (n, n_features)
            Standard deviation of the counting noise of a real coordinate in any counts; 0 where it is not known.

        Raises
        ------
        ModelError
            If the polar grid has another size.
        """
        blocks = self.basis.feature_blocks(measurements, mask, rescale=rescale)
        if self.scan_filter is None or not neighbours or not measurements.is_scan:
            alone = (self.basis.counting if self.noise.any() else self.noise).astype(np.float32)
            yield from ((block, np.broadcast_to(alone, block.shape)) for block in blocks)
            return
        windows = self.scan_filter.windows(mask, measurements.calibration.scan_step)
        variance = self.scan_filter.fresh_noise / self.basis.coordinates
        noise = np.sqrt(variance * windows.gain()).astype(np.float32)
        yield from ((block, noise[kind]) for block, kind in self.scan_filter.blocks(blocks, mask, windows))

    def features(
        self, measurements: Measurements, positions: NDArray[np.bool_], mask: NDArray[np.bool_]
    ) -> NDArray[np.complex64]:
        """Features of the given positions in the mask, shape ``(n_patterns, n_features)``; errors as for `blocks`."""
        chosen, n_done, parts = positions[mask], 0, []
        for block, _ in self.blocks(measurements, mask):
            parts.append(block[chosen[n_done : n_done + len(block)]])
            n_done += len(block)
        return np.concatenate(parts)


def _middle_rows(allowed: NDArray[np.bool_]) -> slice:
    """As many rows around the middle of the allowed positions as a look at the spectra needs."""
    rows = np.flatnonzero(allowed.any(axis=1))
    top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    n = max(2, _MOST_POSITIONS // allowed.shape[1])
    middle = (top + bottom) // 2
    return slice(max(top, middle - n // 2), min(bottom, middle + (n + 1) // 2))
