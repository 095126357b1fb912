"""The centre of mass of a scan, filtered over all of its positions; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stemvane.data.arguments import require
from stemvane.data.findings import Finding
from stemvane.data.measurements import Measurements
from stemvane.data.representation import Representable, Row, format_shape
from stemvane.features.filtered_scan import filter_scan
from stemvane.features.scan_frame import BeyondLimit

__all__ = ["FilteredCom", "add_filtered_com", "filter_com"]

# of fewer nothing is filtered
_FEWEST_PATTERNS = 64
# content beyond the band limit over that within: at most 0.1 with lines that jitter by two steps, 2.3 where the step is
# said five times too small; `pytest tests/test_verdict.py -k limit`
_CONTRADICTION = 0.2


@dataclass(frozen=True, eq=False, repr=False)
class FilteredCom(Representable):
    """Deflection of a scan as all of its patterns tell it.

    Attributes
    ----------
    deflection : ndarray of float, shape (scan_y, scan_x, 2)
        ``(y, x)``, mean 0 over the scan, in `unit`; NaN where no pattern was recorded.
    std : ndarray of float, shape (scan_y, scan_x)
        Standard deviation of the error of either coordinate, in `unit`; NaN also where the counts do not tell it, and
        all over the scan where no deflection stands out of the noise.
    unit : str
        ``mrad``, or ``px`` where the pixel size is unknown.
    is_filtered : bool
        False where the deflection is the measured one: without noise to speak of, or in a scan too small to filter.
    potential, potential_std : ndarray of float, shape (scan_y, scan_x)
        What all features of a thin specimen are responses to, as sharp as the probe lets it be seen, and its standard
        deviation, in units in which the counting noise of a single pattern is 1; larger where electrons are attracted,
        as long as the detector is not rotated by more than 90° against the scan or its rotation is known, and a scan
        that is a mirror image is one along x. 0 where the features have nothing in common, NaN where nothing is
        filtered or recorded.
    beyond_limit : BeyondLimit
        Content at spatial frequencies beyond 2α/λ over that within: ``share`` of it in all directions, ``of_lines``
        more of it from line to line than along lines; 0 where none is seen.
    """

    deflection: NDArray[np.float64]
    std: NDArray[np.float64]
    unit: str
    is_filtered: bool
    potential: NDArray[np.float64]
    potential_std: NDArray[np.float64]
    beyond_limit: BeyondLimit

    @property
    def shows_deflection(self) -> bool:
        """Whether any of the deflection stands out of the noise; where none does, the estimate is 0 everywhere."""
        return not self.is_filtered or bool(np.isfinite(self.std).any())

    @property
    def magnitude(self) -> NDArray[np.float64]:
        """Length of the deflection, shape ``(scan_y, scan_x)``, in `unit`."""
        return np.asarray(np.linalg.norm(self.deflection, axis=-1))

    @property
    def angle(self) -> NDArray[np.float64]:
        """Direction of the deflection in rad, counter-clockwise on the screen, 0 to the right."""
        return np.asarray(np.arctan2(-self.deflection[..., 0], self.deflection[..., 1]))

    def _summary(self) -> tuple[str, Sequence[Row]]:
        size, spread = _rms(self.magnitude), _rms(self.std)
        rows = [
            ("scan", f"{format_shape(self.magnitude.shape)} positions"),
            ("deflection", f"rms {size:.3g} {self.unit}" if np.isfinite(size) else "unknown"),
            ("error", f"± {spread:.2g} {self.unit} along y and x" if np.isfinite(spread) else "unknown"),
            ("filtered", "over the whole scan" if self.is_filtered else "no, as measured"),
            *([] if self.shows_deflection else [("warning", "nothing of the deflection stands out of the noise")]),
        ]
        return "FilteredCom", rows


def _rms(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.sqrt((known**2).mean())) if len(known) else np.nan


def filter_com(measurements: Measurements) -> FilteredCom:
    """Estimate the deflection at every position from all patterns of the scan.

    The features of all patterns are taken as responses to one potential (see `PotentialFilter`), the COM among them:
    what it holds beyond the features counts as one more, so that nothing of it is lost where the specimen is thick.

    Parameters
    ----------
    measurements : Measurements
        A scan with polar patterns.

    Returns
    -------
    FilteredCom

    Raises
    ------
    DataError
        If these are no measurements, they have no polar patterns, or fewer than two patterns were recorded.
    """
    require(measurements, Measurements, "filter_com")
    recorded, scan = measurements.recorded, filter_scan(measurements)
    if not scan.tiles:
        raw = np.asarray(measurements.deflection, float)
        std, unknown = np.where(recorded, scan.com_std, np.nan), np.full(recorded.shape, np.nan)
        return FilteredCom(raw, std, measurements.com_unit, False, unknown, unknown.copy(), scan.beyond_limit)
    estimate = np.zeros(recorded.shape, complex)
    std, potential, potential_std = (np.full(recorded.shape, np.nan) for _ in range(3))
    for tile in scan.tiles:
        place = tile.rows, tile.columns
        estimate[place], std[place] = tile.gradient + scan.readout @ tile.mean, tile.gradient_std
        potential[place], potential_std[place] = tile.potential, tile.potential_std
    estimate -= estimate[recorded].mean()
    if not np.nanmax(std) > 0:
        # no direction of the features holds more than noise: an error of 0 would say that the deflection is known
        estimate[:], std[:] = 0, np.nan
    deflection = np.stack([estimate.imag, estimate.real], axis=-1)
    # electrons are deflected towards a higher potential; the features alone do not tell its sign
    rotation = measurements.calibration.scan_rotation or 0.0
    step = measurements.calibration.scan_step or (1.0, 1.0)
    along_x = np.gradient(potential, step[1], axis=1) * scan.handedness
    uphill = along_x + 1j * np.gradient(potential, step[0], axis=0)
    if (uphill.conj() * estimate * np.exp(-1j * rotation)).real.sum() < 0:
        potential = -potential
    for part in (deflection, std, potential, potential_std):
        part[~recorded] = np.nan
    return FilteredCom(deflection, std, measurements.com_unit, True, potential, potential_std, scan.beyond_limit)


def add_filtered_com(measurements: Measurements) -> Measurements:
    """Add the maps of a scan that is filtered: ``com_filtered_y`` and the like, and ``shared_potential``.

    Content beyond the band limit and displaced lines are findings.
    """
    if measurements.polar is None or np.count_nonzero(measurements.recorded) < _FEWEST_PATTERNS:
        return measurements
    filtered = filter_com(measurements)
    found = tuple(_findings(filtered, measurements.calibration.band_limit))
    if found:
        measurements = replace(measurements, findings=(*measurements.findings, *found))
    if not (filtered.is_filtered and filtered.shows_deflection):
        return measurements
    maps = {
        "com_filtered_y": filtered.deflection[..., 0],
        "com_filtered_x": filtered.deflection[..., 1],
        "com_filtered_std": filtered.std,
    }
    units = dict.fromkeys(maps, filtered.unit)
    if np.nanmax(filtered.potential_std) > 0:
        maps |= {"shared_potential": filtered.potential, "shared_potential_std": filtered.potential_std}
        units |= {"shared_potential": "noise of a pattern", "shared_potential_std": "noise of a pattern"}
    return replace(measurements, maps={**measurements.maps, **maps}, units={**measurements.units, **units})


def _findings(filtered: FilteredCom, band_limit: float | None) -> Iterator[Finding]:
    """What the filter has noticed of a scan."""
    if band_limit is not None and filtered.beyond_limit.share > _CONTRADICTION:
        yield Finding(
            "content_beyond_limit",
            "warning",
            f"much of what the scan holds lies at spatial frequencies beyond 2α/λ = {band_limit:.3g} 1/Å, where a "
            "probe records nothing: scan step, semi-angle or energy are not what is said",
            "check source.scan_step, source.convergence_semiangle and source.energy",
        )
    if filtered.beyond_limit.lines_are_displaced:
        yield Finding(
            "lines_displaced",
            "warning",
            "lines of the scan do not fit each other: they hold content that changes faster from line to line than a "
            "probe records it, so they are displaced at random; angles and filtered maps are off by more than they say",
            "scan faster or with a longer settling time of each line, or shield the scan from stray fields",
        )
    if not filtered.shows_deflection:
        yield Finding(
            "no_deflection",
            "warning",
            "nothing of the deflection stands out of the noise of the counts: directions of the COM are those of noise",
            "record more electrons per pattern, or add patterns up with preparation.scan_binning",
        )
