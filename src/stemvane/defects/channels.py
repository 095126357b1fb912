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
from stemvane.defects.p_values import SMALLEST_P, squares_p
from stemvane.defects.sites import Sites
from stemvane.defects.surroundings import Surroundings

__all__ = ["CHANNELS", "COMBINED", "ROUGH", "atom_p", "latent_p", "pattern_p", "pool_p_values", "site_p_values"]

_Floats = NDArray[np.floating[Any]]

CHANNELS = ("dark_field", "atoms", "patterns", "latents", "likelihood")
"""What each site is judged by."""

COMBINED = ("dark_field", "patterns")
"""Channels whose p-values are combined, with equal weights; the others are reported beside them."""

ROUGH = 3.0
"""Degrees of freedom for what a model says: the excess kurtosis of its log evidence is 10 to 15, and Student's
distribution of three has tails so heavy; combined by a normal one it made a false defect in a pristine scene."""

# 4: functions up to this degree hold what the probe resolves out to the next atoms; with 3 the AUC at 3,000 electrons
# is 0.015 lower where there is nitrogen; `python -m benchmarks.defects --methods ours`
_PATTERN_DEGREE = 4
# 0.3 atoms: what nitrogen and boron change in graphene, so that features count as such a change would move them;
# without it the position error at 3,000 electrons is 0.12 Å instead of 0.015; `python -m benchmarks.defects --methods
# ours`
_CHANGE = 0.3


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
        The p-value of every site by the names of `CHANNELS`; those in `COMBINED` decide what is a defect.
    """
    around, maps = fitted.around, fitted.residual_maps
    direction = maps[:, MapChannel.DIRECTION_REAL] + 1j * maps[:, MapChannel.DIRECTION_IMAGINARY]
    return {
        "dark_field": pool_p_values(around, maps[:, MapChannel.DARK_FIELD]),
        "atoms": atom_p(content, fitted.sites),
        "patterns": pattern_p(fitted),
        "latents": latent_p(around, maps[:, MapChannel.LATENTS :], direction),
        "likelihood": pool_p_values(around, maps[:, MapChannel.EVIDENCE], low_only=True, freedom=ROUGH),
    }


def pool_p_values(
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
    result = np.full(len(around.sites), np.nan)
    values = around.pool(residual[:, None])[:, 0]
    for members in _by_sublattice(around.sites):
        z = values[members] - np.median(values[members])
        z = z / robust_scale(z[:, None])[0]
        degrees = _freedom(members, freedom)
        result[members] = stats.t.cdf(z, degrees) if low_only else 2 * stats.t.sf(np.abs(z), degrees)
    return np.asarray(np.clip(result, SMALLEST_P, 1.0))


def atom_p(content: AtomContent, sites: Sites) -> NDArray[np.float64]:
    """p-value of the atoms' content, order by order; NaN at hollows."""
    p = np.full(len(sites), np.nan)
    z = content.excess / content.std
    scale = robust_scale(z, 1.0)
    deviation = np.median(content.std, axis=0) * scale
    p[sites.is_atom] = squares_p(z / scale, (_CHANGE / deviation) ** 2, _freedom(sites.is_atom))
    return p


def pattern_p(fitted: FittedScan) -> NDArray[np.float64]:
    """p-value of all features around every site, each weighted by what the pristine lattice holds of it there.

    What strain makes of a sublattice's surroundings does not count.
    """
    around = fitted.around
    window = Window(around.width, _PATTERN_DEGREE)
    residual, pristine = around.expand(fitted.residual, window), around.expand(fitted.modulation, window)
    strain = fitted.strain.of_sublattices(around, window)
    p = np.full(len(around.sites), np.nan)
    for members, directions in zip(_by_sublattice(around.sites), strain, strict=True):
        power = (np.abs(pristine[members].mean(axis=0)) ** 2 / 2).ravel()
        values = as_real(residual[members].reshape(int(members.sum()), -1))
        parts = as_real(directions.reshape(len(directions), -1))
        p[members] = squares_p(values, np.tile(_CHANGE**2 * power, 2), _freedom(members), without=parts)
    return p


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
    scalars = around.pool(latents)
    radial = around.expand(direction[:, None], Window(around.width, 1))[:, Window(around.width, 1).angular_orders == 1]
    values = np.concatenate([scalars, radial[:, :, 0].real, radial[:, :, 0].imag], axis=1)
    result = np.full(len(values), np.nan)
    for members in _by_sublattice(around.sites):
        z = values[members] - np.median(values[members], axis=0)
        result[members] = squares_p(z / robust_scale(z), np.full(z.shape[1], 1e6), _freedom(members, ROUGH))
    return result


def _freedom(members: NDArray[np.bool_], most: float = np.inf) -> float:
    """Degrees of freedom of a robust spread of so many: about half the number, by draws of 9 to 60 normal numbers."""
    return min(max((float(members.sum()) - 4) / 2, 1.0), most)


def _by_sublattice(sites: Sites) -> list[NDArray[np.bool_]]:
    return [sites.sublattices == s for s in np.unique(sites.sublattices)]
