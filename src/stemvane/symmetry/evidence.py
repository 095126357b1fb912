"""p-values of every site from every channel: what was recorded around it against what the pristine lattice says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import cKDTree

from stemvane.symmetry.atoms import AtomContent
from stemvane.symmetry.scores import robust_scale, squares_p
from stemvane.symmetry.sites import Sites
from stemvane.symmetry.windows import Window

__all__ = [
    "ROUGH",
    "SITE_WIDTH",
    "WEIGHTS",
    "Surroundings",
    "atom_p",
    "latent_p",
    "pattern_p",
    "pooled_p",
    "without_spikes",
]

_Floats = NDArray[np.floating[Any]]

WEIGHTS = {"dark_field": 0.4, "atoms": 0.3, "patterns": 0.1, "latents": 0.1, "likelihood": 0.1}
"""Share of each channel in the combined p-value."""

SITE_WIDTH = 0.63
"""Width of the functions about a site, over the finest period that the probe resolves."""

ROUGH = 3.0
"""Degrees of freedom for what a model says, whose distribution is not known."""

# how much a defect changes what is around an atom, in atoms of the lattice: the prior that scores expect
_CHANGE = 0.3
_DEGREE = 4
_SPIKE = 4.0
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Probe positions around every site.

    Attributes
    ----------
    sites : Sites
        The sites.
    points : ndarray of float, shape (n_points, 2)
        Probe positions ``(y, x)`` in Å.
    area : float
        Å² of the scan for each position.
    width : float
        Width in Å of the functions that positions are weighted by.
    """

    sites: Sites
    points: NDArray[np.float64]
    area: float
    width: float

    def pooled(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum around every site with Gaussian weights whose squares add to 1, shape ``(n_sites, n_channels)``."""
        found = np.zeros((len(self.sites), values.shape[1]), values.dtype)
        for i, (site, near) in enumerate(zip(self.sites.positions, self._near(3.5 * self.width), strict=True)):
            weight = np.exp(-((self.points[near] - site) ** 2).sum(axis=1) / (2 * self.width**2))
            found[i] = weight @ values[near] / np.linalg.norm(weight)
        return found

    def described(self, values: NDArray[np.complexfloating[Any, Any]], window: Window) -> NDArray[np.complex128]:
        """Coefficients of a window's functions around every site, shape ``(n_sites, n_modes, n_channels)``.

        White noise of standard deviation 1 has coefficients of standard deviation 1.
        """
        found = np.zeros((len(self.sites), len(window.modes), values.shape[1]), np.complex128)
        for i, (site, near) in enumerate(zip(self.sites.positions, self._near(window.reach), strict=True)):
            functions = window.values(self.points[near] - site).conj()
            found[i] = np.sqrt(self.area) * functions @ values[near]
        return found

    def _near(self, reach: float) -> list[list[int]]:
        found: list[list[int]] = self._tree.query_ball_point(self.sites.positions, reach).tolist()
        return found

    @cached_property
    def _tree(self) -> Any:
        return cKDTree(self.points)


def without_spikes(values: _Floats) -> NDArray[np.float64]:
    """Columns brought within four standard deviations of their medians, so that no single position makes a site.

    What a model says of single patterns has far heavier tails than a normal distribution: the excess kurtosis of its
    log evidence is 10 to 15.
    """
    middle = np.median(values, axis=0)
    reach = _SPIKE * robust_scale(values - middle)
    return np.asarray(np.clip(values, middle - reach, middle + reach))


def pooled_p(
    around: Surroundings, residual: _Floats, *, low_only: bool = False, freedom: float = np.inf
) -> NDArray[np.float64]:
    """p-value of a map's residual around every site.

    Parameters
    ----------
    around : Surroundings
        The sites.
    residual : ndarray of float, shape (n_points,)
        A map less that of the pristine lattice.
    low_only : bool
        Whether values that are too low count alone.
    freedom : float
        Degrees of freedom of Student's distribution for maps whose own distribution is not known. The spread comes from
        the sites of a sublattice, so there are never more than these.

    Returns
    -------
    ndarray of float, shape (n_sites,)
    """
    found = np.full(len(around.sites), np.nan)
    values = around.pooled(residual[:, None])[:, 0]
    for own in _by_sublattice(around.sites):
        z = values[own] - np.median(values[own])
        z = z / robust_scale(z[:, None])[0]
        student = stats.t(_freedom(own, freedom))
        found[own] = student.cdf(z) if low_only else 2 * student.sf(np.abs(z))
    return np.asarray(np.clip(found, _TINY, 1.0))


def atom_p(content: AtomContent, sites: Sites) -> NDArray[np.float64]:
    """p-value of the atoms' content, order by order; NaN at hollows."""
    found = np.full(len(sites), np.nan)
    z = content.excess / content.std
    scale = robust_scale(z, 1.0)
    deviation = np.median(content.std, axis=0) * scale
    found[sites.is_atom] = squares_p(z / scale, (_CHANGE / deviation) ** 2, _freedom(sites.is_atom))
    return found


def pattern_p(
    around: Surroundings,
    residual: NDArray[np.complexfloating[Any, Any]],
    pristine: NDArray[np.complexfloating[Any, Any]],
) -> NDArray[np.float64]:
    """p-value of all features around every site, each weighted by what the pristine lattice holds of it there."""
    window = Window(around.width, _DEGREE)
    missed, there = around.described(residual, window), around.described(pristine, window)
    found = np.full(len(around.sites), np.nan)
    for own in _by_sublattice(around.sites):
        power = (np.abs(there[own].mean(axis=0)) ** 2 / 2).ravel()
        flat = missed[own].reshape(len(missed[own]), -1)
        values = np.concatenate([flat.real, flat.imag], axis=1)
        found[own] = squares_p(values, np.tile(_CHANGE**2 * power, 2), _freedom(own))
    return found


def latent_p(around: Surroundings, latents: _Floats, direction: NDArray[np.complexfloating[Any, Any]]) -> Any:
    """p-value of latents and angle around every site.

    Parameters
    ----------
    around : Surroundings
        The sites.
    latents : ndarray of float, shape (n_points, n_latent)
        Less those of the pristine lattice.
    direction : ndarray of complex, shape (n_points,)
        ``exp(i angle)`` less that of the pristine lattice; a change that points to or from the site counts.
    """
    scalars = around.pooled(latents)
    radial = around.described(direction[:, None], Window(around.width, 1))[
        :, Window(around.width, 1).angular_orders == 1
    ]
    values = np.concatenate([scalars, radial[:, :, 0].real, radial[:, :, 0].imag], axis=1)
    found = np.full(len(values), np.nan)
    for own in _by_sublattice(around.sites):
        z = values[own] - np.median(values[own], axis=0)
        found[own] = squares_p(z / robust_scale(z), np.full(z.shape[1], 1e6), _freedom(own, ROUGH))
    return found


def _freedom(own: NDArray[np.bool_], most: float = np.inf) -> float:
    """Degrees of freedom of a robust spread of so many: about half the number, by draws of 9 to 60 normal numbers."""
    return min(max((float(own.sum()) - 4) / 2, 1.0), most)


def _by_sublattice(sites: Sites) -> list[NDArray[np.bool_]]:
    return [sites.sublattices == s for s in np.unique(sites.sublattices)]
