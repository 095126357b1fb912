"""p-values of every site from every channel: what was recorded around it against what the pristine lattice says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stemvane.defects.atoms import AtomContent
from stemvane.defects.fitted_scan import FittedScan, MapChannel
from stemvane.defects.gauss_laguerre import Window
from stemvane.defects.numerics import as_real, robust_scale
from stemvane.defects.p_values import squares_p
from stemvane.defects.sites import Sites
from stemvane.defects.surroundings import Surroundings

__all__ = ["ROUGH", "WEIGHTS", "atom_p", "latent_p", "pattern_p", "pooled_p", "site_p_values", "without_spikes"]

_Floats = NDArray[np.floating[Any]]

WEIGHTS = {"dark_field": 0.6, "atoms": 0.2, "patterns": 0.1, "latents": 0.05, "likelihood": 0.05}
"""Share of each channel in the combined p-value."""

ROUGH = 3.0
"""Degrees of freedom for what a model says, whose distribution is not known."""

# degree of the functions about a site in which all features are looked at
_PATTERN_DEGREE = 4
# how much a defect changes what is around an atom, in atoms of the lattice: the prior that scores expect
_CHANGE = 0.3
# share of an atom that one that strain has moved seems to have less
_MOVED = 0.1
_SPIKE = 4.0
_TINY = 1e-300


def site_p_values(fitted: FittedScan, content: AtomContent) -> dict[str, NDArray[np.float64]]:
    """p-values of all channels.

    Parameters
    ----------
    fitted : FittedScan
        The scan, its pristine lattice and its sites.
    content : AtomContent
        How much more of an atom each atom site holds.

    Returns
    -------
    dict of str to ndarray of float, shape (n_sites,)
        By the names of `WEIGHTS`.
    """
    around, maps = fitted.around, fitted.residual_maps
    modelled = without_spikes(maps)
    direction = modelled[:, MapChannel.DIRECTION_REAL] + 1j * modelled[:, MapChannel.DIRECTION_IMAGINARY]
    strain = fitted.strain.of_sublattices(around, Window(around.width, _PATTERN_DEGREE))
    return {
        "dark_field": pooled_p(around, maps[:, MapChannel.DARK_FIELD]),
        "atoms": atom_p(content, fitted.sites),
        "patterns": pattern_p(around, fitted.residual, fitted.modulation, strain),
        "latents": latent_p(around, modelled[:, MapChannel.LATENTS :], direction),
        "likelihood": pooled_p(around, modelled[:, MapChannel.EVIDENCE], low_only=True, freedom=ROUGH),
    }


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
    """p-value of the atoms' content, order by order; NaN at hollows.

    Where the lattice is strained, atoms are off their places and match less of what they hold, all orders alike; what
    `_MOVED` could make of it counts as noise.
    """
    found = np.full(len(sites), np.nan)
    z = content.excess / content.std
    scale = robust_scale(z, 1.0)
    deviation = np.median(content.std, axis=0) * scale
    z, less = z / scale, _MOVED / content.std / scale
    # with the inverse root of the covariance 1 + less lessᵀ
    size = (less**2).sum(axis=1, keepdims=True)
    along = (z * less).sum(axis=1, keepdims=True) / size
    z = z - along * less * (1 - 1 / np.sqrt(1 + size))
    found[sites.is_atom] = squares_p(z, (_CHANGE / deviation) ** 2, _freedom(sites.is_atom))
    return found


def pattern_p(
    around: Surroundings,
    residual: NDArray[np.complexfloating[Any, Any]],
    pristine: NDArray[np.complexfloating[Any, Any]],
    strain: NDArray[np.complex128],
) -> NDArray[np.float64]:
    """p-value of all features around every site, each weighted by what the pristine lattice holds of it there.

    Parameters
    ----------
    around : Surroundings
        The sites.
    residual, pristine : ndarray of complex, shape (n_points, n_features)
        What the pristine lattice leaves, and how it varies, in units of the counting noise.
    strain : ndarray of complex, shape (n_sublattices, n_directions, n_modes, n_features)
        What strain makes of each sublattice's surroundings in the functions of this channel; it does not count.
    """
    window = Window(around.width, _PATTERN_DEGREE)
    missed, there = around.described(residual, window), around.described(pristine, window)
    found = np.full(len(around.sites), np.nan)
    for own, directions in zip(_by_sublattice(around.sites), strain, strict=True):
        power = (np.abs(there[own].mean(axis=0)) ** 2 / 2).ravel()
        values = as_real(missed[own].reshape(int(own.sum()), -1))
        parts = as_real(directions.reshape(len(directions), -1))
        found[own] = squares_p(values, np.tile(_CHANGE**2 * power, 2), _freedom(own), without=parts)
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
