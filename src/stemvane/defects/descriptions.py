"""What is recorded around defects more than in the pristine lattice, in coefficients that a rotation gives a phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.defects.fitted_scan import FittedScan
from stemvane.defects.gauss_laguerre import Window
from stemvane.defects.strain import without_strain
from stemvane.defects.surroundings import Surroundings

__all__ = ["SHIFT", "Descriptions", "describe", "displace"]

_Floats = NDArray[np.floating[Any]]

SHIFT = 0.06
"""Å (standard deviation) between a defect and the place in the lattice that it is taken to be at.

Centres may be wrong by this much where a scan is distorted; `pytest tests/test_symmetry_scores.py -k off_its_place`.
The scenes of `python -m benchmarks.defects.constants` that are named are not distorted, and nothing changes in them.
"""

# 0.05 Å: step of a numerical derivative, a tenth of the functions' width; `pytest tests/test_naming.py`
_STEP = 0.05
# 0.05 of what is usual on a ring: an estimate from few counts can be negative, which no variance is; from 0 to 0.2
# nothing changes; `python -m benchmarks.defects.constants`
_LEAST = 0.05


@dataclass(frozen=True, eq=False)
class Descriptions:
    """Coefficients of the features around some places, less those of the pristine lattice, strained or not.

    Attributes
    ----------
    positions : ndarray of float, shape (n, 2)
        Positions ``(y, x)`` of the places in Å.
    values : ndarray of complex, shape (n, n_modes, n_features)
        Coefficients of functions of angular order l, in units of the mean pattern's counting noise.
    shifts : ndarray of complex, shape (n, 2, n_modes, n_features)
        Change per Å by which the defect lies further down, and to the right.
    noise : ndarray of float, shape (n, n_modes, n_features)
        Variance of the values' counting noise over that of the mean pattern's.
    pristine : ndarray of complex, shape (n_places, n_modes, n_features)
        Coefficients around places where nothing was found: what noise makes of no defect.
    pristine_noise : ndarray of float, shape (n_modes, n_features)
        Mean of the noise there.
    strain : ndarray of complex, shape (n, 6, n_modes, n_features)
        Directions that were taken out of the values.
    angular_orders, circular_orders : ndarray of int, shape (n_modes,) and (n_features,)
        Angular order l of each function and circular order m of each feature.
    """

    positions: NDArray[np.float64]
    values: NDArray[np.complex128]
    shifts: NDArray[np.complex128]
    noise: NDArray[np.float64]
    pristine: NDArray[np.complex128]
    pristine_noise: NDArray[np.float64]
    strain: NDArray[np.complex128]
    angular_orders: NDArray[np.int64]
    circular_orders: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def joined(cls, parts: Sequence[Descriptions], rotations: Sequence[float]) -> Descriptions:
        """Descriptions from several lattices, each rotated by an angle (rad), counter-clockwise on the screen."""
        phases = [part.phases(np.array([angle]))[0] for part, angle in zip(parts, rotations, strict=True)]

        def rotated(name: str) -> NDArray[np.complex128]:
            pairs = zip(parts, phases, strict=True)
            return np.concatenate([getattr(part, name) * phase for part, phase in pairs])

        n_places = np.array([len(part.pristine) for part in parts])
        weights = n_places / n_places.sum() if n_places.any() else np.full(len(parts), 1 / len(parts))
        return cls(
            positions=np.concatenate([part.positions for part in parts]),
            values=rotated("values"),
            shifts=rotated("shifts"),
            noise=np.concatenate([part.noise for part in parts]),
            pristine=rotated("pristine"),
            pristine_noise=np.einsum("p,p...->...", weights, np.array([part.pristine_noise for part in parts])),
            strain=rotated("strain"),
            angular_orders=parts[0].angular_orders,
            circular_orders=parts[0].circular_orders,
        )

    def at_those(self, chosen: NDArray[np.int64]) -> Descriptions:
        """Return some of the descriptions, or all in another order."""
        names = ("positions", "values", "shifts", "noise", "strain")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def phases(self, rotations: _Floats) -> NDArray[np.complex128]:
        """Factors ``exp(-i (l + m) θ)`` of rotations by angles (rad), shape ``(n_rotations, n_modes, n_features)``."""
        orders = self.angular_orders[:, None] + self.circular_orders
        return np.asarray(np.exp(-1j * orders * np.asarray(rotations)[:, None, None]))

    @property
    def n_coordinates(self) -> int:
        """Real numbers in a description: features of circular order 0 are real in the functions of both signs of l."""
        return int(self.parts.sum()) * len(self.angular_orders)

    @cached_property
    def pristine_power(self) -> NDArray[np.float64]:
        """Squared length of the description of every pristine place in units of its noise, or what it should be."""
        if not len(self.pristine):
            return np.array([float(self.n_coordinates)])
        return np.asarray((np.abs(self.pristine) ** 2 / self.pristine_noise).sum(axis=(1, 2)))

    def excess(self, weight: _Floats) -> float:
        """Variance of the pristine places over that of counting, at least 1, with a weight for each feature.

        Features are the directions in which a scan varies most, so more noise is in them than counting makes.
        """
        if not len(self.pristine):
            return 1.0
        power = np.abs(self.pristine) ** 2 / self.pristine_noise
        usual = len(self.angular_orders) * float(weight @ self.parts)
        return max(float(np.median((power @ weight).sum(axis=1))) / usual, 1.0)

    @property
    def excess_noise(self) -> float:
        """Standard deviation of the pristine places over that of counting, all features alike."""
        return float(np.sqrt(self.excess(np.ones(len(self.circular_orders)))))

    @property
    def parts(self) -> NDArray[np.int64]:
        """Real numbers that each feature has in a function, the functions of both signs of l taken together."""
        return np.where(self.circular_orders == 0, 1, 2)


def describe(fitted: FittedScan, around: Surroundings, quiet: Surroundings) -> Descriptions:
    """Describe the surroundings of places.

    Parameters
    ----------
    fitted : FittedScan
        The scan and its pristine lattice.
    around, quiet : Surroundings
        Centres of defects, and places without any.

    Returns
    -------
    Descriptions
    """
    window, basis, residual, strain = fitted.window, fitted.basis, fitted.residual, fitted.strain
    directions = strain.directions(around, window)
    shape = (len(window.modes), basis.n_features)
    measurements = fitted.scan.measurements
    weights = measurements.grid.weights(measurements.detector_shape)
    of_rings = measurements.grid.variance_by_ring(weights, basis.orders, basis.analysis)
    pristine = quiet.expand(residual, window)
    return Descriptions(
        positions=around.sites.positions,
        values=without_strain(around.expand(residual, window), directions),
        shifts=without_strain(displace(around, residual, window), directions),
        noise=_noise(around, fitted, of_rings),
        pristine=without_strain(pristine, strain.directions(quiet, window)),
        pristine_noise=_noise(quiet, fitted, of_rings).mean(axis=0) if len(pristine) else np.ones(shape),
        strain=directions,
        angular_orders=window.angular_orders,
        circular_orders=basis.orders,
    )


def displace(around: Surroundings, values: NDArray[np.complex128], window: Window) -> NDArray[np.complex128]:
    """Change of the coefficients per Å by which what is there lies further down, and to the right.

    Returns
    -------
    ndarray of complex, shape (n_sites, 2, n_modes, n_channels)
    """
    changes = []
    for step in _STEP * np.eye(2):
        back, forth = (around.at(around.sites.positions + move).expand(values, window) for move in (-step, step))
        changes.append((back - forth) / (2 * _STEP))
    return np.stack(changes, axis=1)


def _noise(around: Surroundings, fitted: FittedScan, weight: _Floats) -> NDArray[np.float64]:
    """Variance of the counting noise of every coefficient around every site over that of the mean pattern's.

    Counts make their own noise, so it is larger where more is scattered into the rings that a feature holds; a
    coefficient has that of all positions over which it is summed. Near an edge, where some of these were not recorded
    and coefficients are smaller than a model's for that alone, it is taken as if they had been. `weight` is what each
    ring has in the noise of every feature, shape ``(n_features, n_radial)``.
    """
    basis, features = fitted.basis, fitted.features
    usual = np.maximum(basis.polar(np.zeros((1, basis.n_features), complex))[0].mean(axis=-1), 0.0)
    usual = usual + fitted.scan.measurements.readout_counts
    spread = around.spread(np.column_stack([np.ones(len(features)), features]), fitted.window)
    total, summed = spread[..., :1].real, spread[..., 1:].reshape(-1, basis.n_features).astype(np.complex128)
    beyond = basis.polar(summed * basis.counting, background=False).mean(axis=-1)
    rings = usual + beyond.reshape(*total.shape[:2], len(usual)) / np.maximum(total, 1e-6)
    return np.asarray(np.maximum(rings, _LEAST * usual) @ weight.T / np.maximum(weight @ usual, 1e-30))
