"""Names by strength alone: the simulated defect whose dark field and COM divergence are nearest at the site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from stemvane.data.scan_geometry import probe_positions
from stemvane.defects.fitted_scan import FittedScan, MapChannel
from stemvane.defects.naming import UNKNOWN, DefectLibrary
from stemvane.defects.numerics import robust_scale
from stemvane.defects.sites import Sites
from stemvane.defects.surroundings import Surroundings

__all__ = ["STRENGTHS", "name_by_strength"]

STRENGTHS = {"dark": "dark field", "dark_com": "dark field, COM divergence"}
"""What is compared, and its words: one number or two."""

# Å beyond which a site knows nothing of a defect
_FAR = 3.5

_Floats = NDArray[np.float64]


def name_by_strength(
    library: DefectLibrary, fitted: FittedScan, centres: _Floats
) -> dict[str, list[tuple[str, float]]]:
    """Likeliest name of every defect and its probability, for each of `STRENGTHS`.

    Parameters
    ----------
    library : DefectLibrary
        Simulated defects, each at its middle and at its own sites, at any of which a search may put it.
    fitted : FittedScan
        The scan and its pristine lattice.
    centres : ndarray of float, shape (n_defects, 2)
        Where defects were found, ``(y, x)`` in Å.

    Returns
    -------
    dict of str to list of tuple

    Notes
    -----
    The noise is the spread of the same numbers at the sites far from every defect; all names, and none of them, which
    has the strength 0, are equally probable beforehand.
    """
    dark_field = fitted.scan.maps()[..., MapChannel.DARK_FIELD]
    maps = fitted.residual_maps[:, [MapChannel.DARK_FIELD, MapChannel.DEFLECTION_DOWN, MapChannel.DEFLECTION_RIGHT]]
    maps = maps / [float(np.nanmean(dark_field)), 1, 1]
    around = fitted.around
    away = np.linalg.norm(fitted.sites.positions[:, None] - centres, axis=-1).min(axis=1)
    quiet = strengths(around.at(fitted.sites.positions[away > _FAR]), maps)
    found = strengths(around.at(centres), maps) - np.median(quiet, axis=0)
    spread = quiet - np.median(quiet, axis=0)
    scale = robust_scale(spread)
    # a few outliers hardly move the product of clipped numbers
    correlation = float(np.clip(np.mean(np.clip((spread / scale).prod(axis=1), -9, 9)), -0.95, 0.95))
    covariance = np.outer(scale, scale) * np.array([[1, correlation], [correlation, 1]])
    simulated = [*of_library(library, around.width), np.zeros((1, 2))]
    names = (*library.names, UNKNOWN)
    result = {}
    for key, n in (("dark", 1), ("dark_com", 2)):
        inverse = np.linalg.inv(covariance[:n, :n])
        evidence = np.stack([likelihood(found[:, :n], values[:, :n], inverse) for values in simulated], axis=-1)
        probability = softmax(evidence, axis=1)
        best = probability.argmax(axis=1)
        result[key] = [(names[i], float(row[i])) for i, row in zip(best, probability, strict=True)]
    return result


def likelihood(found: _Floats, places: _Floats, inverse: _Floats) -> _Floats:
    """Log likelihood of each defect, all places being equally probable."""
    off = found[:, None] - places
    return np.asarray(logsumexp(-np.einsum("ijk,kl,ijl->ij", off, inverse, off) / 2, axis=1) - np.log(len(places)))


def strengths(around: Surroundings, maps: NDArray[Any]) -> _Floats:
    """Excess of the dark field over its mean, and divergence of the deflection, in an atom's image, both in Å²."""
    result = np.zeros((len(around.sites), 2))
    for i, (site, near) in enumerate(zip(around.sites.positions, around.near(3.5 * around.width), strict=True)):
        off = around.points[near] - site
        weight = around.area * np.exp(-(off**2).sum(axis=1) / (2 * around.width**2))
        dark, deflection = maps[near, 0], maps[near, 1:]
        # the divergence is moved onto the weight (integration by parts)
        result[i] = weight @ dark, weight @ (off * deflection).sum(axis=1) / around.width**2
    return result


def of_library(library: DefectLibrary, width: float) -> Sequence[_Floats]:
    """The same numbers of every simulated defect, at its middle and at its sites, shape ``(n_places, 2)``."""
    pristine = library.pristine
    step = pristine.calibration.scan_step
    assert step is not None
    points, mean = probe_positions(pristine.scan_shape, step), float(pristine.maps["annular_dark_field"].mean())
    result = []
    for scan in library.scans:
        assert scan.atoms is not None
        assert scan.atoms.defects is not None
        dark = (scan.maps["annular_dark_field"] - pristine.maps["annular_dark_field"]) / mean
        maps = np.concatenate([dark[..., None], scan.deflection - pristine.deflection], axis=-1).reshape(-1, 3)
        places = np.concatenate([scan.atoms.defects.positions, scan.atoms.defects.sites])
        around = Surroundings(Sites.at(np.unique(places, axis=0)), points, step[0] * step[1], width)
        result.append(strengths(around, maps.astype(np.float64)))
    return result
