"""All features of a scan, and its COM with them, filtered over all of its positions; once for all who ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemvane.data.measurements import Measurements
from stemvane.features.aberrations import computed_response
from stemvane.features.harmonics import HarmonicBasis
from stemvane.features.parallel import on_one_blas_thread
from stemvane.features.potential_filter import FilteredTile, PotentialFilter
from stemvane.features.scan_frame import (
    BeyondLimit,
    content_beyond,
    noise_frequencies,
    scan_middle,
    taper,
    trusted_limit,
)
from stemvane.features.scan_memory import once, usual_basis

__all__ = ["FilteredScan", "filter_scan"]

# along a shorter axis a scan does not tell a spectrum from a plane
_FEWEST_POSITIONS = 8
# noise of less power than this share of the deflection's is left where it is: at 5e-5 a filter still gains in all
# specimens, at 2.3e-5 it loses in one; `python -m benchmarks.denoise.choices`
_WORTH_FILTERING = 3e-5
# features with least variance, of which most are noise where nothing of the scan is left out; the noise is known to 5 %
_N_LAST = 9
_CLEAR_EXCESS = 1.12


@dataclass(frozen=True, eq=False)
class FilteredScan:
    """Features and COM of a scan as all of its patterns tell them.

    Attributes
    ----------
    basis : HarmonicBasis
        `usual_basis` of the scan.
    is_all : bool
        Whether the features are all that stands out of the noise, so that filtered features of any other basis follow
        from them.
    beyond_limit : BeyondLimit
        Content at spatial frequencies beyond 2α/λ.
    com_std : float
        Standard deviation of a coordinate of the measured COM by its counts.
    readout : ndarray of complex, shape (n_features + 1,)
        The COM, ``x + 1j y`` with y downwards, in the filtered features, of which the last is what it holds beyond
        those of the basis.
    handedness : int
        1, or -1 where the scan is a mirror image of what the detector sees.
    tiles : sequence of FilteredTile
        Parts of the scan; none where it is too small to filter, or its noise not worth it.
    """

    basis: HarmonicBasis
    is_all: bool
    beyond_limit: BeyondLimit
    com_std: float
    readout: NDArray[np.complex128]
    handedness: int
    tiles: Sequence[FilteredTile]


def filter_scan(measurements: Measurements) -> FilteredScan:
    """Filter a scan; what was found is kept as long as the measurements are.

    Parameters, and what is done, are those of `filter_com`.

    Returns
    -------
    FilteredScan

    Raises
    ------
    DataError
        If there are no polar patterns, or fewer than two patterns were recorded.
    """
    return once(measurements, _filter_scan)


@on_one_blas_thread
def _filter_scan(measurements: Measurements) -> FilteredScan:
    recorded = measurements.recorded
    basis = usual_basis(measurements)
    # the conjugate rotates as a feature of order 1 does
    raw = measurements.deflection
    com = np.where(recorded, raw[..., 1] + 1j * raw[..., 0], 0)
    too_small = not measurements.is_scan or min(recorded.shape) < _FEWEST_POSITIONS

    def read(rows: slice) -> NDArray[np.complex64]:
        """Features of some rows, and room for one more."""
        part = np.zeros_like(recorded)
        part[rows] = recorded[rows]
        features = np.zeros((*recorded[rows].shape, basis.n_features + 1), np.complex64)
        flat, places, n_done = features.reshape(recorded[rows].size, -1), np.flatnonzero(recorded[rows]), 0
        for block in basis.feature_blocks(measurements, part, rescale=False) if part.any() else ():
            flat[places[n_done : n_done + len(block)], :-1] = block
            n_done += len(block)
        return features

    middle = scan_middle(recorded.shape[0])
    whole_middle = read(middle)
    in_middle = whole_middle[..., :-1]
    is_all = _holds_all(in_middle[recorded[middle]], basis)
    said_step, said_limit = measurements.calibration.scan_step, measurements.calibration.band_limit
    beyond = content_beyond(in_middle, recorded[middle], said_step, said_limit)
    step, band_limit = said_step or (1.0, 1.0), trusted_limit(said_limit, beyond)
    known, readout, spread = _read_com(in_middle, com[middle], recorded[middle], basis, step, band_limit)
    noise = np.append(basis.counting, spread)
    # content makes the highest orders say more counts per electron than there are, never fewer
    each = measurements.counts_per_electron if measurements.counts_per_electron > 1 else min(basis.noise**2, 1.0)
    variance = float(np.nan_to_num(measurements.com_noise(each))) ** 2
    content = float(np.nanmean(np.abs(com[recorded]) ** 2))
    # counts that are no counts, such as negative ones, tell no noise
    if too_small or not 2 * variance >= _WORTH_FILTERING * content:
        return FilteredScan(basis, is_all, beyond, np.sqrt(variance), readout, 1, ())

    def read_all(rows: slice) -> NDArray[np.complex64]:
        features = whole_middle if rows == middle else read(rows)
        # row by row, since a product of two precisions copies the features
        for line, deflection in zip(features, com[rows], strict=True):
            line[:, -1] = deflection - line[:, :-1] @ known
        return features

    orders = np.append(basis.orders, 1)
    probe = computed_response(measurements, basis, with_com=known)
    scan_filter = PotentialFilter.fit(read_all(middle), recorded[middle], orders, noise, step, band_limit, probe)
    tiles = tuple(scan_filter.filter(read_all, recorded, readout))
    return FilteredScan(basis, is_all, beyond, np.sqrt(variance), readout, scan_filter.transfer.handedness, tiles)


def _holds_all(features: NDArray[np.complex64], basis: HarmonicBasis) -> bool:
    """Whether the last of the features, in the order of their variance over noise, are noise."""
    power = (np.abs(features) ** 2).mean(axis=0) / (basis.coordinates * np.maximum(basis.counting, 1e-30) ** 2)
    # largest eigenvalue of nothing but noise (Marchenko & Pastur, Math. USSR Sb. 1, 457, 1967)
    edge = (1 + np.sqrt(basis.analysis.shape[1] / len(features))) ** 2
    return bool(np.median(power[-_N_LAST:]) <= _CLEAR_EXCESS * edge)


def _read_com(
    features: NDArray[np.complex64],
    com: NDArray[np.complex128],
    recorded: NDArray[np.bool_],
    basis: HarmonicBasis,
    step: tuple[float, float],
    band_limit: float | None,
) -> tuple[NDArray[np.complex128], NDArray[np.complex128], float]:
    """The COM's part that features of order 1 tell, the COM in features and rest, and the rest's noise."""
    weights = taper(recorded)
    chosen = np.flatnonzero(basis.orders == 1)
    centred = [
        np.where(recorded, part - part[recorded].mean(), 0) for part in (*features[..., chosen].T.swapaxes(1, 2), com)
    ]
    spectra = np.array([np.fft.fft2(part * weights, norm="ortho") for part in centred])
    # the rest must share no noise with the features, which is best seen where there is nothing else
    empty = noise_frequencies(recorded.shape, step, band_limit)
    used = np.ones_like(recorded) if empty is None else empty
    known = np.zeros(basis.n_features, np.complex128)
    of_order = spectra[:-1, used].T
    known[chosen] = np.linalg.lstsq(of_order, spectra[-1, used], rcond=None)[0]
    rest = spectra[-1, used] - of_order @ known[chosen]
    spread = float(np.sqrt(max((np.abs(rest) ** 2).mean() / 2, 1e-30)))
    return known, np.append(known, 1), spread
