"""From anomalous sites to defects, and from defects to kinds: the same but for a turn of the lattice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial import cKDTree

from stemvane.symmetry.lattice import Lattice
from stemvane.symmetry.sites import Sites

__all__ = ["Groups", "defect_centres", "group_defects", "lattice_turns"]

_Floats = NDArray[np.floating[Any]]

# two defects are of one kind where they differ by less than this multiple of what this share of the pristine places
# differ by at most, or by less than this share of their mean squared strength
_AS_PRISTINE, _QUANTILE, _SHARE_LIMIT = 2.5, 0.75, 0.02
# a centre is moved to an atom, a hollow or the middle of a bond that is nearer than this, in bond lengths
_SNAP = 0.45
# around a defect the lattice is strained: a peak this much weaker, within twice the reach, is part of the stronger one
_STRAIN = 0.03


@dataclass(frozen=True, eq=False)
class Groups:
    """Kinds of defects.

    Attributes
    ----------
    group : ndarray of int, shape (n_defects,)
        Kind of each defect, the most frequent first.
    turn : ndarray of float, shape (n_defects,)
        Angle (rad) by which each is turned from the first of its kind, counter-clockwise on the screen.
    spread : ndarray of float, shape (n_groups,)
        Mean squared difference within a kind over the mean squared strength; NaN for a single defect.
    """

    group: NDArray[np.int64]
    turn: NDArray[np.float64]
    spread: NDArray[np.float64]

    @property
    def n_groups(self) -> int:
        """Number of kinds."""
        return int(self.group.max(initial=-1)) + 1


def lattice_turns(lattice: Lattice) -> NDArray[np.float64]:
    """Turns (rad) that map a lattice onto itself: 6 of a hexagonal one, 4 of a square one, else 2."""
    a, b = lattice.vectors
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    cosine = a @ b / (lengths[0] * lengths[1])
    equal = abs(lengths[0] / lengths[1] - 1) < 0.04
    n = 6 if equal and abs(cosine + 0.5) < 0.04 else 4 if equal and abs(cosine) < 0.04 else 2
    return np.asarray(2 * np.pi * np.arange(n) / n)


def defect_centres(
    sites: Sites, found: NDArray[np.bool_], strength: _Floats, reach: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Join anomalous sites that belong together, and say where each defect is.

    Parameters
    ----------
    sites : Sites
        All sites.
    found : ndarray of bool, shape (n_sites,)
        True where a site is anomalous.
    strength : ndarray of float, shape (n_sites,)
        How anomalous each is, as a square; a site belongs to its strongest neighbour, and so to the peak of a defect.
    reach : float
        Distance in Å up to which sites are neighbours.

    Returns
    -------
    owner : ndarray of int, shape (n_sites,)
        Defect of each site, -1 for none; the strongest defect is 0.
    centres : ndarray of float, shape (n_defects, 2)
        ``(y, x)`` in Å: the mean position of a defect's sites, weighted by their strength, moved to the atom, hollow or
        bond centre nearest to it.
    """
    owner = np.full(len(sites), -1)
    at = np.flatnonzero(found)
    if not len(at):
        return owner, np.zeros((0, 2))
    tree = cKDTree(sites.positions[at])
    parent = {}
    for i, near in zip(at, tree.query_ball_point(sites.positions[at], reach), strict=True):
        parent[i] = at[max(near, key=lambda j: strength[at[j]])]
    peaks: list[int] = []
    for i in sorted((i for i in at if parent[i] == i), key=lambda i: -strength[i]):
        away = np.linalg.norm(sites.positions[peaks] - sites.positions[i], axis=1)
        covers = (away <= 2 * reach) & (strength[i] < _STRAIN * strength[peaks])
        if covers.any():
            parent[i] = peaks[int(np.argmin(np.where(covers, away, np.inf)))]
        else:
            peaks.append(int(i))
    number = {peak: n for n, peak in enumerate(peaks)}
    for i in at:
        top = i
        while parent[top] != top:
            top = parent[top]
        owner[i] = number[int(top)]
    places = np.concatenate([sites.positions, sites.bond_centres])
    centres = np.zeros((len(peaks), 2))
    for n, peak in enumerate(peaks):
        own = (owner == n) & (np.linalg.norm(sites.positions - sites.positions[peak], axis=1) <= reach)
        centres[n] = np.average(sites.positions[own], axis=0, weights=np.maximum(strength[own], 1e-12))
        near = np.linalg.norm(places - centres[n], axis=1)
        if near.min() <= _SNAP * sites.bond:
            centres[n] = places[np.argmin(near)]
    return owner, centres


def group_defects(
    described: NDArray[np.complex128],
    pristine: NDArray[np.complex128],
    angular_orders: NDArray[np.int64],
    circular_orders: NDArray[np.int64],
    turns: _Floats,
) -> Groups:
    """Sort defects into kinds; how many there are is found.

    Parameters
    ----------
    described : ndarray of complex, shape (n_defects, n_modes, n_features)
        Features around each centre less those of the pristine lattice, in functions of angular order l, in units of
        their noise.
    pristine : ndarray of complex, shape (n_places, n_modes, n_features)
        The same around places where nothing was found: what noise and strain make of no defect.
    angular_orders, circular_orders : ndarray of int, shape (n_modes,) and (n_features,)
        l of each function, m of each feature.
    turns : ndarray of float, shape (n_turns,)
        Turns of the lattice, rad.

    Returns
    -------
    Groups

    Notes
    -----
    A defect turned by θ has its coefficients multiplied by ``exp(-i (l + m) θ)``. All defects at all turns span a space
    of few dimensions that stand out of the noise (by the largest singular value that noise alone would have, Marchenko
    and Pastur); differences are taken there, at the turn where they are smallest, and joined by average linkage.
    """
    n = len(described)
    if n == 0:
        return Groups(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    phase = np.exp(-1j * (angular_orders[:, None] + circular_orders) * np.asarray(turns)[:, None, None])
    reduced, usual = _reduced(described[:, None] * phase, pristine)
    # the first as it is against the second at every turn, shape (n_turns, n, n)
    squared = ((reduced[None, :, None, 0] - reduced.transpose(1, 0, 2)[:, None]) ** 2).sum(axis=-1)
    best = squared.argmin(axis=0)
    squared = squared.min(axis=0)
    strength = (reduced[:, 0] ** 2).sum(axis=1)
    share = squared / np.maximum((strength[:, None] + strength) / 2, 1e-12)
    # 1 is where two are as different as those of one kind may be
    apart = np.minimum(squared / max(2 * _AS_PRISTINE * usual, 1e-12), share / _SHARE_LIMIT)
    label = np.zeros(n, int)
    if n > 1:
        upper = ((apart + apart.T) / 2)[np.triu_indices(n, 1)]
        label = hierarchy.fcluster(hierarchy.linkage(upper, "average"), 1.0, "distance") - 1
    group = _numbered(label)
    turn, spread = np.zeros(n), np.full(int(group.max()) + 1, np.nan)
    for number in range(len(spread)):
        own = np.flatnonzero(group == number)
        turn[own] = [-turns[best[own[0], i]] for i in own]
        if len(own) > 1:
            spread[number] = share[np.ix_(own, own)][~np.eye(len(own), dtype=bool)].mean()
    return Groups(group, np.angle(np.exp(1j * turn)), spread)


def _reduced(copies: NDArray[np.complex128], pristine: NDArray[np.complex128]) -> tuple[NDArray[np.float64], float]:
    """Defects at all turns in the few dimensions that stand out, and the squared length of pristine places there."""
    n, n_turns = copies.shape[:2]
    whole = _rows(copies.reshape(n * n_turns, -1))
    left, values, right = np.linalg.svd(whole, full_matrices=False)
    # copies at other turns hold the same noise, so the edge is that of as many times more rows
    edge = np.sqrt(whole.shape[1]) + np.sqrt(len(whole) * n_turns)
    rank = max(1, int((values > edge).sum()))
    reduced = (left * values)[:, :rank].reshape(n, n_turns, rank)
    if not len(pristine):
        return reduced, float(rank)
    lengths = ((_rows(pristine.reshape(len(pristine), -1)) @ right[:rank].T) ** 2).sum(axis=1)
    return reduced, float(np.quantile(lengths, _QUANTILE))


def _rows(values: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.concatenate([values.real, values.imag], axis=1)


def _numbered(label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0, the most frequent label first."""
    names, first, counts = np.unique(label, return_index=True, return_counts=True)
    order = sorted(range(len(names)), key=lambda i: (-counts[i], first[i]))
    number = np.empty(len(names), np.int64)
    number[order] = np.arange(len(names))
    return number[np.searchsorted(names, label)]
