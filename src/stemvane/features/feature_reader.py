"""From measurements to the features that models learn from, each pattern by itself or with the whole scan."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemvane.config import BasisConfig
from stemvane.data.measurements import Measurements
from stemvane.errors import DataError
from stemvane.features.aberrations import computed_response
from stemvane.features.background import fit_basis
from stemvane.features.feature_noise import FeatureNoise
from stemvane.features.filtered_scan import FilteredScan, filter_scan
from stemvane.features.harmonics import HarmonicBasis
from stemvane.features.parallel import on_one_blas_thread
from stemvane.features.potential_filter import FilteredTile, PotentialFilter
from stemvane.features.scan_frame import content_beyond, scan_middle, trusted_limit

__all__ = ["FeatureReader"]

# share of the residuals' power that counting noise must have to be worth a filter
_WORTH_FILTERING = 1e-3
# the same where nothing is filtered: sharp discs tell an angle so well that less noise than that is all of its error
_WORTH_KNOWING = 1e-6
# along a shorter axis a scan does not tell a spectrum from a plane
_FEWEST_POSITIONS = 8


class _Filtered(NamedTuple):
    """A scan as it was filtered last, for a model reads the same one many times over."""

    measurements: weakref.ref[Measurements]
    key: tuple[bytes, bool]
    tiles: list[FilteredTile]


@dataclass(frozen=True, eq=False)
class FeatureReader:
    """A basis, and whether patterns are estimated from the whole scan where they are noisy.

    Every scan is filtered as its own patterns demand, whatever its dose, its step, and the direction in which the
    detector is rotated against it.

    Attributes
    ----------
    basis : HarmonicBasis
        Background and features.
    is_noisy : bool
        False where the patterns fitted to have no noise to speak of.
    neighbours : bool
        Whether noisy patterns are estimated from those of the whole scan.
    """

    basis: HarmonicBasis
    is_noisy: bool
    neighbours: bool
    _latest: list[_Filtered] = field(default_factory=list, init=False, repr=False)

    @classmethod
    @on_one_blas_thread
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
        rows = _around(np.asarray(allowed.any(axis=1)))
        power = (np.abs(_read(basis, measurements, allowed, rows)[allowed[rows]]) ** 2).mean(axis=0).sum()
        least = _WORTH_KNOWING if basis.own_noise else _WORTH_FILTERING
        is_noisy = bool((basis.coordinates * basis.counting**2).sum() >= least * power)
        # a filter that is the same everywhere mixes the grains on either side of a border
        neighbours = not basis.own_noise if config.neighbours is None else config.neighbours
        return cls(basis, is_noisy, neighbours)

    def uses_neighbours(self, measurements: Measurements) -> bool:
        """Whether patterns of these measurements are estimated from those of the whole scan."""
        is_known = self.is_noisy and self.neighbours and not measurements.noiseless
        return is_known and measurements.is_scan and min(measurements.scan_shape) >= _FEWEST_POSITIONS

    def blocks(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_],
        *,
        neighbours: bool = True,
        rescale: bool = True,
    ) -> Iterator[tuple[NDArray[np.complex64], FeatureNoise]]:
        """Features and their errors, some patterns at a time.

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
        noise : FeatureNoise
            Of these patterns; 0 where it is not known.

        Raises
        ------
        ModelError
            If the polar grid has another size.
        """
        if not (neighbours and mask.any() and self.uses_neighbours(measurements)):
            factor = FeatureNoise.independent(self._counting(measurements, mask, rescale), 0).factor
            for block in self.basis.feature_blocks(measurements, mask, rescale=rescale):
                yield block, FeatureNoise(factor, np.ones(len(block), np.float32))
            return
        tiles = self._filtered(measurements, mask, rescale)
        for start in sorted({tile.rows.start for tile in tiles}):
            strip = [tile for tile in tiles if tile.rows.start == start]
            part = mask[strip[0].rows]
            features = np.empty((*part.shape, self.basis.n_features), np.complex64)
            scale = np.empty(part.shape, np.float32)
            for tile in strip:
                features[:, tile.columns] = np.moveaxis(tile.features(), 0, -1)
                scale[:, tile.columns] = tile.scale
            if part.any():
                directions, covariances = [tile.directions for tile in strip], [tile.covariance for tile in strip]
                mean_std = np.sqrt(np.mean([tile.mean_std**2 for tile in strip], axis=0))
                yield features[part], FeatureNoise.along(directions, covariances, mean_std, scale[part])

    def features(
        self, measurements: Measurements, positions: NDArray[np.bool_], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.complex64], FeatureNoise]:
        """Features of the given positions in the mask, shape ``(n_patterns, n_features)``; errors as for `blocks`."""
        chosen, n_done, parts, noise = positions[mask], 0, [], []
        for block, of_block in self.blocks(measurements, mask):
            here = chosen[n_done : n_done + len(block)]
            parts.append(block[here])
            noise.append(of_block.of(here))
            n_done += len(block)
        return np.concatenate(parts), FeatureNoise.joined(noise)

    def _counting(self, measurements: Measurements, mask: NDArray[np.bool_], rescale: bool) -> NDArray[np.floating]:
        """Standard deviation of the counting noise of a coordinate of each feature; 0 where there is none."""
        if not self.is_noisy or measurements.noiseless:
            return np.zeros(self.basis.n_features)
        # fewer counts that are scaled up have the more noise
        factor = self.basis.intensity_factor(measurements, mask) if rescale else 1.0
        return np.asarray(self.basis.counting * np.sqrt(max(factor, 0.0)))

    @on_one_blas_thread
    def _filtered(self, measurements: Measurements, mask: NDArray[np.bool_], rescale: bool) -> list[FilteredTile]:
        """All parts of the filtered scan."""
        key = (mask.tobytes(), rescale)
        for latest in self._latest:
            if latest.measurements() is measurements and latest.key == key:
                return latest.tiles

        filtered = _filtered_with_com(measurements, mask)
        if filtered is not None and filtered.basis.has_grid_of(self.basis):
            factor = self.basis.intensity_factor(measurements, mask) if rescale else 1.0
            return _of_other_features(filtered, self.basis, factor)
        rows, columns = (_around(np.asarray(mask.any(axis=axis))) for axis in (1, 0))
        in_middle = _read(self.basis, measurements, mask, rows, rescale=rescale)

        def read(part: slice) -> NDArray[np.complex64]:
            return in_middle if part == rows else _read(self.basis, measurements, mask, part, rescale=rescale)

        features, middle = in_middle[:, columns], mask[rows, columns]
        step, band_limit = measurements.calibration.scan_step, measurements.calibration.band_limit
        noise = self._counting(measurements, mask, rescale)
        limit = trusted_limit(band_limit, content_beyond(features, middle, step, band_limit))
        probe = computed_response(measurements, self.basis) if measurements.is_scan else None
        scan_filter = PotentialFilter.fit(features, middle, self.basis.orders, noise, step, limit, probe)
        tiles = list(scan_filter.filter(read, mask))
        self._latest[:] = [_Filtered(weakref.ref(measurements), key, tiles)]
        return tiles


def _filtered_with_com(measurements: Measurements, mask: NDArray[np.bool_]) -> FilteredScan | None:
    """The scan as it is filtered for its COM; None where it is not, or does not stand for the features in the mask."""
    if not (measurements.is_scan and np.array_equal(mask, measurements.recorded)):
        return None
    try:
        filtered = filter_scan(measurements)
    except DataError:
        # patterns that tell no features of their own, such as those of vacuum, still have those of a model
        return None
    return filtered if filtered.tiles and filtered.is_all else None


def _of_other_features(filtered: FilteredScan, basis: HarmonicBasis, factor: float) -> list[FilteredTile]:
    """A scan that was filtered with its COM, as features of another basis, intensities times a factor.

    One filter serves the COM and any model: what its own features leave out is noise, of which nothing remains.
    """
    own, orders = filtered.basis, basis.orders
    onto = factor * np.where(orders[:, None] == own.orders, basis.analysis @ own.synthesis.T, 0)
    fixed = (basis.analysis * (factor * own.background[orders] - basis.background[orders])).sum(axis=1)
    return [
        replace(
            tile,
            directions=(tile.directions[:, :-1] @ onto.T).astype(np.complex64),
            mean=(onto @ tile.mean[:-1] + fixed).astype(np.complex64),
            mean_std=np.sqrt(np.abs(onto) ** 2 @ tile.mean_std[:-1] ** 2),
        )
        for tile in filtered.tiles
    ]


def _read(
    basis: HarmonicBasis, measurements: Measurements, mask: NDArray[np.bool_], rows: slice, *, rescale: bool = True
) -> NDArray[np.complex64]:
    """Features of some rows of a scan, 0 where the mask is not, scaled as those of the whole mask."""
    part = np.zeros_like(mask)
    part[rows] = mask[rows]
    features = np.zeros((*mask[rows].shape, basis.n_features), np.complex64)
    if part.any():
        factor = basis.intensity_factor(measurements, mask) if rescale else 1.0
        features[mask[rows]] = np.concatenate(list(basis.feature_blocks(measurements, part, factor=factor)))
    return features


def _around(present: NDArray[np.bool_]) -> slice:
    """The middle of the part of an axis that has positions."""
    places = np.flatnonzero(present)
    first, last = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
    middle = scan_middle(last - first)
    return slice(first + middle.start, first + middle.stop)
