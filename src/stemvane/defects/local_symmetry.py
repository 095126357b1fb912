"""Local symmetry about a site: what a rotation leaves as it is, and the winding number of the rotation map."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.data.embedding import Embedding
from stemvane.defects.gauss_laguerre import Window
from stemvane.defects.surroundings import Surroundings

__all__ = ["fold_symmetries", "fold_symmetry", "winding_number"]

_Floats = NDArray[np.floating[Any]]

# 36 points: a rotation map that winds 6 times turns by 60° between two of them; `pytest tests/test_symmetry_scores.py`
_N_RING = 36
# 4: functions up to this degree hold angular orders 3 and 4, so two-, three- and four-fold variation;
# `pytest tests/test_symmetry.py -k fold`
_DEGREE = 4


def winding_number(angle: _Floats, centres: _Floats, step: tuple[float, float], radius: float) -> NDArray[np.float64]:
    """Count how often the angle runs through 360° on a circle about each centre.

    Parameters
    ----------
    angle : ndarray of float, shape (scan_y, scan_x)
        Rad.
    centres : ndarray of float, shape (n, 2)
        ``(y, x)`` in Å.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    radius : float
        Radius of the circle, Å.

    Returns
    -------
    ndarray of float, shape (n,)
        Whole numbers, counted counter-clockwise; NaN where the circle leaves the scan or meets a gap.

    Notes
    -----
    In pristine graphene it is +1 at atoms and hollows and -1 at bond centres, of which a cell has two, one and three:
    the sum over a cell is 0, as for any field on a torus (Poincaré–Hopf).
    """
    azimuth = 2 * np.pi * np.arange(_N_RING) / _N_RING
    ring = radius * np.stack([-np.sin(azimuth), np.cos(azimuth)], axis=-1)
    at = (centres[:, None] + ring) / step
    # the direction is averaged between positions, never the angle
    real, imag = (
        ndimage.map_coordinates(part, at.reshape(-1, 2).T, order=1, cval=np.nan, mode="constant")
        for part in (np.cos(angle), np.sin(angle))
    )
    direction = (real + 1j * imag).reshape(len(centres), _N_RING)
    steps = np.angle(np.roll(direction, -1, axis=1) * direction.conj())
    return np.asarray(np.round(steps.sum(axis=1) / (2 * np.pi)))


def fold_symmetries(embedding: Embedding, around: Surroundings, folds: Iterable[int]) -> dict[int, NDArray[np.float64]]:
    """Share of the variation of latents and angle around each site that each rotation leaves unchanged.

    Parameters
    ----------
    embedding : Embedding
        Latents and angles of the scan.
    around : Surroundings
        The sites.
    folds : iterable of int
        Rotational symmetries to look for.

    Returns
    -------
    dict of int to ndarray of float, shape (n_sites,)
        `fold_symmetry` for each.
    """
    window = Window(around.width, _DEGREE)
    latents = np.nan_to_num(embedding.latents.reshape(len(around.points), -1)).astype(np.complex128)
    direction = np.nan_to_num(np.exp(1j * embedding.angle.ravel()))[:, None]
    scalars = around.expand(latents - latents.mean(axis=0), window)
    vectors = around.expand(direction, window)[:, :, 0]
    return {fold: fold_symmetry(scalars, vectors, window.angular_orders, fold) for fold in folds}


def fold_symmetry(
    scalars: NDArray[np.complex128], direction: NDArray[np.complex128], angular_orders: NDArray[np.int64], fold: int
) -> NDArray[np.float64]:
    """Share of the variation around each site that a rotation by 360° / fold leaves as it is.

    Parameters
    ----------
    scalars : ndarray of complex, shape (n_sites, n_modes, n_maps)
        Coefficients of maps that have no direction, such as the latents, in functions of angular order l.
    direction : ndarray of complex, shape (n_sites, n_modes)
        Coefficients of ``exp(i angle)``, which rotates with the specimen.
    angular_orders : ndarray of int, shape (n_modes,)
        Angular order l of each function.
    fold : int
        2, 3, 4 or 6.

    Returns
    -------
    ndarray of float, shape (n_sites,)
        1 where the symmetry is perfect.

    Notes
    -----
    A rotation by θ multiplies a coefficient of a scalar by ``exp(-i l θ)`` and one of the direction by
    ``exp(-i (l - 1) θ)``, so what is s-fold has coefficients where l, or l - 1, is a multiple of s. Both
    parts count alike.
    """
    shares = []
    for power, order in (
        ((np.abs(scalars) ** 2).sum(axis=2), angular_orders),
        (np.abs(direction) ** 2, angular_orders - 1),
    ):
        total_power, unchanged = power.sum(axis=1), power[:, order % fold == 0].sum(axis=1)
        shares.append(np.divide(unchanged, total_power, out=np.full(len(total_power), np.nan), where=total_power > 0))
    valid = np.isfinite(shares)
    count = valid.sum(axis=0)
    total = np.where(valid, shares, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0))
