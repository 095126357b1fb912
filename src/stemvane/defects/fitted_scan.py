"""The state of a search: a scan in units of its noise, its fitted lattice and sites, and what these leave of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.config import BasisConfig, SymmetryConfig
from stemvane.data.measurements import Measurements
from stemvane.data.scan_geometry import highest_frequency
from stemvane.defects.atoms import AtomKernel
from stemvane.defects.domains import Domain, find_domains
from stemvane.defects.gauss_laguerre import Window
from stemvane.defects.lattice import Lattice
from stemvane.defects.periodic_fit import PeriodicFit, fit_periodic
from stemvane.defects.sampling import Sampling
from stemvane.defects.sites import Sites, find_sites
from stemvane.defects.strain import Strain
from stemvane.defects.surroundings import Surroundings
from stemvane.errors import DataError
from stemvane.features.harmonics import HarmonicBasis

__all__ = ["SITE_WIDTH", "FittedScan", "MapChannel", "RecordedScan", "defect_window"]

_Floats = NDArray[np.floating[Any]]

SITE_WIDTH = 0.63
"""Width of the functions about a site, over the finest period that the probe resolves.

As wide as the image of an atom is; with 0.45 one defect of six at 10,000 electrons is lost, and one name more; `python
-m benchmarks.defects.constants`, as for all of these.
"""

# 1e-4: dark rings are quiet, and what scatters there distinguishes elements, so their noise is taken as it is; with
# 1e-2 two of five names at 3,000 electrons are lost
_VARIANCE_FLOOR = 1e-4
# 24 features that vary most show the lattice, with 12 or 48 it is the same; the transforms of all 96 take four times as
# long
_SEARCHED = 24
# 0.5: width of the functions that an atom is made of, narrower than its image, over the finest period that the probe
# resolves; with 0.63 defects at 3,000 electrons lie 0.15 Å off instead of 0.015, and one of six at 10,000 is lost
_ATOM_WIDTH = 0.5
# 3: finer functions about a defect hold more noise than defect; with 2 or 4 one of six nitrogen atoms at 10,000
# electrons and 0.16 Å loses its name
_DEFECT_DEGREE = 3
# 1 Å: nearer to the edge half of an atom's surroundings were not recorded; with 0.5 nothing changes, 2 leaves more out
_MARGIN = 1.0
# 3 Å, two bonds: what is no lattice changes the patterns, and moves the atoms, as far as this beside it; `python -m
# benchmarks.scenes`
_REACH = 3.0


class MapChannel(IntEnum):
    """Maps that are fitted beside the features, in this order."""

    DARK_FIELD = 0
    DEFLECTION_DOWN = 1
    DEFLECTION_RIGHT = 2


def defect_window(highest: float) -> Window:
    """Functions about a defect, for a scan that holds spatial frequencies up to `highest` in 1/Å."""
    return Window(SITE_WIDTH / highest, _DEFECT_DEGREE)


@dataclass(frozen=True, eq=False)
class RecordedScan:
    """A scan as the search reads it.

    Attributes
    ----------
    measurements : Measurements
        Maps and polar patterns.
    basis : HarmonicBasis
        Basis of the features.
    features : ndarray of complex, shape (scan_y, scan_x, n_features)
        Features of every pattern in units of their counting noise.
    sampling : Sampling
        Probe positions.
    """

    measurements: Measurements
    basis: HarmonicBasis
    features: NDArray[np.complex64]
    sampling: Sampling

    @classmethod
    def read(cls, measurements: Measurements, config: SymmetryConfig) -> RecordedScan:
        """Read the features of a scan; raises a `DataError` where the scan step is unknown."""
        calibration, recorded = measurements.calibration, measurements.recorded
        step = calibration.scan_step
        if step is None:
            raise DataError(
                f"{measurements.name}: the scan step is unknown, so no lattice can be fitted; give source.scan_step"
            )
        basis = HarmonicBasis.fit(
            measurements,
            BasisConfig(n_features=config.n_features, variance_floor=_VARIANCE_FLOOR),
        )
        features = np.zeros((*measurements.scan_shape, basis.n_features), np.complex64)
        features[recorded] = basis.features(measurements, recorded) / basis.counting
        sampling = Sampling(recorded, step, highest_frequency(step, calibration))
        return cls(measurements, basis, features, sampling)

    def find_domains(self, degree: int) -> list[Domain]:
        """Lattices in the features that vary most, distorted by polynomials of up to this degree, and their regions."""
        return find_domains(_real(self.features[..., :_SEARCHED]), self.sampling, degree)

    @property
    def scan_rotation(self) -> float:
        """By how much (rad) a vector on the detector is rotated to be one in the scan; 0 where it is unknown."""
        return self.measurements.calibration.scan_rotation or 0.0

    def maps(self) -> NDArray[np.float64]:
        """The channels of `MapChannel`, shape ``(scan_y, scan_x, n_channels)``; the deflection is that in the scan."""
        y, x = np.moveaxis(self.measurements.deflection, -1, 0)
        deflection = (x - 1j * y) * np.exp(1j * self.scan_rotation)
        maps = [self.measurements.maps["annular_dark_field"], -deflection.imag, deflection.real]
        return np.stack(maps, axis=-1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class FittedScan:
    """A scan with its pristine lattice and its sites; everything that the search derives from these.

    Attributes
    ----------
    scan : RecordedScan
        The scan.
    domain : Domain
        Where in it the lattice is.
    fit : PeriodicFit
        Series of the features, real parts before imaginary parts, and of the maps after them; the origin of its
        lattice is a site.
    sites : Sites
        Atoms and hollows, but those within the reach of what does not follow the lattice.
    is_clear : ndarray of bool, shape (scan_y, scan_x)
        Positions beyond that reach.
    """

    scan: RecordedScan
    domain: Domain
    fit: PeriodicFit
    sites: Sites
    is_clear: NDArray[np.bool_]

    @classmethod
    def of(cls, scan: RecordedScan, domain: Domain, degree: int) -> FittedScan:
        """Fit the pristine lattice of a domain with a distortion of up to this degree, and find its sites."""
        k = scan.basis.n_features
        values = np.concatenate([_real(scan.features), scan.maps()], axis=-1)
        is_known = np.isfinite(values).all(axis=-1)
        sampling = replace(scan.sampling, recorded=domain.region & is_known)
        fit = fit_periodic(domain.lattice, values, sampling, judged_by=slice(0, 2 * k), degree=degree)
        lattice, sites = find_sites(fit.series, _brightness(fit, 2 * k), sampling, _MARGIN)
        is_clear = _clear_of(scan.sampling.recorded & ~domain.region, scan.sampling)
        row, column = np.rint(sites.positions / scan.sampling.step).astype(int).T
        return cls(
            scan,
            domain,
            replace(fit, series=replace(fit.series, lattice=lattice)),
            sites.at_those(is_clear[row, column]),
            is_clear,
        )

    @property
    def basis(self) -> HarmonicBasis:
        """Basis of the features."""
        return self.scan.basis

    @property
    def region(self) -> NDArray[np.bool_]:
        """Positions at which the lattice was fitted or compared, shape ``(scan_y, scan_x)``."""
        return self.domain.region

    @property
    def direction(self) -> float:
        """Direction (rad) of the first lattice vector, counter-clockwise on the screen, 0 to the right."""
        down, right = self.lattice.vectors[0]
        return float(np.arctan2(-down, right))

    @property
    def lattice(self) -> Lattice:
        """The lattice with its distortion."""
        return self.fit.series.lattice

    @cached_property
    def features(self) -> NDArray[np.complex64]:
        """Features of all positions in units of their counting noise, shape ``(n_points, n_features)``."""
        return self.scan.features.reshape(-1, self.basis.n_features)

    @cached_property
    def residual(self) -> NDArray[np.complex128]:
        """Features less those of the pristine lattice, shape ``(n_points, n_features)``."""
        return self._as_features(self.fit.residual.reshape(len(self.features), -1))

    @cached_property
    def modulation(self) -> NDArray[np.complex128]:
        """Features of the pristine lattice less their mean over the cell, shape ``(n_points, n_features)``."""
        return self._as_features(self.fit.series.variation(self.scan.sampling.points))

    @cached_property
    def residual_maps(self) -> NDArray[np.float64]:
        """The channels of `MapChannel` less those of the pristine lattice, shape ``(n_points, n_channels)``."""
        return self.fit.residual.reshape(len(self.features), -1)[:, 2 * self.basis.n_features :]

    @cached_property
    def around(self) -> Surroundings:
        """Probe positions around the sites."""
        sampling = self.scan.sampling
        return Surroundings(self.sites, sampling.points, sampling.area, SITE_WIDTH / sampling.highest)

    @property
    def window(self) -> Window:
        """Functions in which defects are described."""
        return defect_window(self.scan.sampling.highest)

    @cached_property
    def kernel(self) -> AtomKernel:
        """What one atom adds to the features around it."""
        width = _ATOM_WIDTH / self.scan.sampling.highest
        return AtomKernel.fit(self.fit.series, self.basis.orders, self.sites, width)

    @cached_property
    def strain(self) -> Strain:
        """What shifts and gradients of the lattice do to the features."""
        return Strain(self.fit.series, self.kernel.narrow(self.fit.series, self.sites))

    def _as_features(self, rows: _Floats) -> NDArray[np.complex128]:
        k = self.basis.n_features
        return np.asarray(rows[:, :k] + 1j * rows[:, k : 2 * k])


def _clear_of(off: NDArray[np.bool_], sampling: Sampling) -> NDArray[np.bool_]:
    """Positions beyond the reach of others."""
    if not off.any():
        return np.ones_like(off)
    return np.asarray(ndimage.distance_transform_edt(~off, sampling=sampling.step) > _REACH)


def _real(features: NDArray[np.complexfloating[Any, Any]]) -> NDArray[np.float64]:
    return np.concatenate([features.real, features.imag], axis=-1).astype(np.float64)


def _brightness(fit: PeriodicFit, first: int) -> NDArray[np.float64]:
    """Dark field and negative divergence of the deflection as series, each in units of its noise."""
    series = fit.series
    noise = np.maximum(fit.residual[fit.pristine].std(axis=0), 1e-30)
    cosine, sine = np.split(series.coefficients[1:], 2)
    wave = 2 * np.pi * series.orders @ series.lattice.reciprocal
    darkness, down, across = (
        first + channel for channel in (MapChannel.DARK_FIELD, MapChannel.DEFLECTION_DOWN, MapChannel.DEFLECTION_RIGHT)
    )
    dark = np.concatenate([cosine[:, darkness], sine[:, darkness]]) / noise[darkness]
    # the derivative of a cosine is a sine with the wave vector as a factor, and the other way round
    rising = wave[:, 0] * sine[:, down] + wave[:, 1] * sine[:, across]
    falling = -(wave[:, 0] * cosine[:, down] + wave[:, 1] * cosine[:, across])
    inwards = -np.concatenate([rising, falling]) / (noise[down] * np.sqrt((wave**2).mean()))
    return np.stack([dark, inwards], axis=-1)
