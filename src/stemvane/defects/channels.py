"""p-values of every site from every channel: what was recorded around it against what the pristine lattice says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stemvane.defects.fitted_scan import FittedScan, MapChannel
from stemvane.defects.gauss_laguerre import Window
from stemvane.defects.numerics import as_real, robust_scale
from stemvane.defects.p_values import SMALLEST_P, squares_p
from stemvane.defects.sites import Sites
from stemvane.defects.surroundings import Surroundings

__all__ = ["CHANNELS", "pattern_p", "pool_p_values", "site_p_values"]

_Floats = NDArray[np.floating[Any]]

CHANNELS = ("dark_field", "patterns")
"""What each site is judged by; the p-values of both are combined with equal weights."""

# Both: `python -m benchmarks.defects.constants`.
# 4: functions up to this degree hold what the probe resolves out to the next atoms; with 2 one defect of six at 10,000
# electrons is lost
_PATTERN_DEGREE = 4
# 0.3 atoms: what nitrogen and boron change in graphene, so that features count as such a change would move them; with
# twice of it, or all features alike, one defect of six at 10,000 electrons is lost
_CHANGE = 0.3


def site_p_values(fitted: FittedScan) -> dict[str, NDArray[np.float64]]:
    """p-values of all channels.

    Parameters
    ----------
    fitted : FittedScan
        The scan, its pristine lattice and its sites.

    Returns
    -------
    dict of str to ndarray of float, shape (n_sites,)
        The p-value of every site by the names of `CHANNELS`.
    """
    dark_field = fitted.residual_maps[:, MapChannel.DARK_FIELD]
    return {"dark_field": pool_p_values(fitted.around, dark_field), "patterns": pattern_p(fitted)}


def pool_p_values(around: Surroundings, residual: _Floats) -> NDArray[np.float64]:
    """p-value of a map's residual around every site.

    Parameters
    ----------
    around : Surroundings
        The sites.
    residual : ndarray of float, shape (n_points,)
        A map less that of the pristine lattice.

    Returns
    -------
    ndarray of float, shape (n_sites,)
    """
    result = np.full(len(around.sites), np.nan)
    values = around.pool(residual[:, None])[:, 0]
    for members in _by_sublattice(around.sites):
        z = values[members] - np.median(values[members])
        z = z / robust_scale(z[:, None])[0]
        result[members] = 2 * stats.t.sf(np.abs(z), _freedom(members))
    return np.asarray(np.clip(result, SMALLEST_P, 1.0))


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


def _freedom(members: NDArray[np.bool_]) -> float:
    """Degrees of freedom of a robust spread of so many: about half the number, by draws of 9 to 60 normal numbers."""
    return max((float(members.sum()) - 4) / 2, 1.0)


def _by_sublattice(sites: Sites) -> list[NDArray[np.bool_]]:
    return [sites.sublattices == s for s in np.unique(sites.sublattices)]
