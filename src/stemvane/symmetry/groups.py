"""From anomalous sites to defects, and from defects to kinds: the same but for a turn of the lattice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial import cKDTree

from stemvane.symmetry.descriptions import SHIFT, Descriptions
from stemvane.symmetry.sites import Sites
from stemvane.symmetry.strain import as_real

__all__ = ["Groups", "defect_centres", "group_defects"]

_Floats = NDArray[np.floating[Any]]

# two defects are of one kind where chance would make them differ as much this often, or where they differ by less than
# this share of their mean squared strength
_CHANCE, _SHARE_LIMIT = 1e-3, 0.02
_DRAWS = 20
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
        Angle (rad) by which each is turned from the first of its kind, counter-clockwise on the screen: the least of
        those that leave it as it is, not negative.
    fold : ndarray of int, shape (n_groups,)
        Into how many equal turns a whole one falls that leave a kind as it is, as far as noise tells.
    spread : ndarray of float, shape (n_groups,)
        Mean squared difference within a kind over the mean squared strength; NaN for a single defect.
    certainty : ndarray of float, shape (n_groups,)
        Share of the pairs with other defects that stay of one kind, or of two, where as much noise as there is is added
        once more; NaN where there is nothing to compare with.
    """

    group: NDArray[np.int64]
    turn: NDArray[np.float64]
    fold: NDArray[np.int64]
    spread: NDArray[np.float64]
    certainty: NDArray[np.float64]

    @property
    def n_groups(self) -> int:
        """Number of kinds."""
        return int(self.group.max(initial=-1)) + 1


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


def group_defects(described: Descriptions, turns: _Floats) -> Groups:
    """Sort defects into kinds; how many there are is found.

    Parameters
    ----------
    described : Descriptions
        Of the defects.
    turns : ndarray of float, shape (n_turns,)
        Turns of the lattice, rad.

    Returns
    -------
    Groups

    Notes
    -----
    A defect turned by θ has its coefficients multiplied by ``exp(-i (l + m) θ)``. All defects at all turns span a space
    of few dimensions that stand out of the noise (by the largest singular value that noise alone would have, Marchenko
    and Pastur). There two are compared at the turn where they differ least: the squared difference, in units of the
    covariance of pristine places, of which each has as much as its own counts make, and less what a shift of some
    hundredths of an ångström explains, is distributed as χ² where both are of one kind. They are joined by average
    linkage.
    """
    n = len(described)
    if n == 0:
        none = np.zeros(0)
        return Groups(none.astype(np.int64), none, none.astype(np.int64), none, none)
    compared = _Compared.of(described, turns)
    apart, share = compared.differences()
    best = apart.argmin(axis=-1)
    group = _numbered(_joined(apart.min(axis=-1)))
    share = np.take_along_axis(share, best[..., None], -1)[..., 0]
    n_groups = int(group.max()) + 1
    turn, fold, spread = np.zeros(n), np.ones(n_groups, np.int64), np.full(n_groups, np.nan)
    for number in range(n_groups):
        own = np.flatnonzero(group == number)
        fold[number] = _fold(apart[own, own])
        period = 2 * np.pi / fold[number]
        turned = -np.asarray(turns)[best[own[0], own]] % period
        turn[own] = np.where(np.isclose(turned, period), 0.0, turned)
        if len(own) > 1:
            spread[number] = share[np.ix_(own, own)][~np.eye(len(own), dtype=bool)].mean()
    return Groups(group, turn, fold, spread, _certainty(compared, group))


def _fold(itself: NDArray[np.float64]) -> int:
    """Largest number of equal turns after each of which a kind's members differ little from themselves."""
    n_turns = itself.shape[1]
    folds = [s for s in range(n_turns, 1, -1) if n_turns % s == 0]
    return next((s for s in folds if itself[:, n_turns // s].mean() < 1), 1)


@dataclass(frozen=True, eq=False)
class _Compared:
    """Defects at all turns in the few dimensions that stand out, where pristine places have unit covariance.

    ``values`` has the shape (n, n_turns, rank), ``shifts`` (n, 2, rank) is of the first turn, ``variance`` (n,) is
    over that of pristine places, ``pristine`` has the shape (n_places, rank), ``plain`` (rank, rank) brings back the
    units of the counting noise.
    """

    values: NDArray[np.float64]
    shifts: NDArray[np.float64]
    variance: NDArray[np.float64]
    pristine: NDArray[np.float64]
    plain: NDArray[np.float64]

    @classmethod
    def of(cls, described: Descriptions, turns: _Floats) -> _Compared:
        n, n_turns = len(described), len(turns)
        # features that are noisy at some defect count less at all of them, so that differences keep their meaning
        usual = np.sqrt(described.noise.mean(axis=0))
        phases = described.phases(turns) / usual
        copies = as_real((described.values[:, None] * phases).reshape(n * n_turns, -1))
        quiet = as_real((described.pristine / usual).reshape(len(described.pristine), usual.size))
        level = np.repeat(described.levels / np.sqrt((described.levels**2).mean()), n_turns)
        values, right = np.linalg.svd(copies / level[:, None], full_matrices=False)[1:]
        # copies at other turns hold the same noise, so the edge is that of as many times more rows
        edge = described.excess_noise * (np.sqrt(copies.shape[1]) + np.sqrt(len(copies) * n_turns))
        n_clear = int((values > edge).sum())
        right = right[: max(1, n_clear)]
        share = (right**2).reshape(-1, *usual.shape).sum(axis=0) / usual**2
        expected = np.einsum("imf,mf->i", described.noise, share), float((described.pristine_noise * share).sum())
        rank = len(right)
        noise = quiet @ right.T
        covariance = np.diag((right**2) @ np.tile((described.pristine_noise / usual**2).ravel(), 2))
        if len(noise) > 2 * rank:
            covariance = np.cov(noise.T, bias=True).reshape(rank, rank) + 1e-6 * covariance
        root = np.linalg.cholesky(covariance)
        white = np.linalg.inv(root).T
        shifts = as_real((described.shifts * phases[0]).reshape(2 * n, -1)) @ right.T @ white
        return cls(
            # in a direction that noise has chosen everything would differ
            values=(copies @ right.T @ white).reshape(n, n_turns, rank) * (n_clear > 0),
            shifts=shifts.reshape(n, 2, rank),
            variance=np.maximum(expected[0] / expected[1], 1.0),
            pristine=noise @ white,
            plain=root.T,
        )

    def differences(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far each and each other one at every turn are apart, 1 being the most for one kind, and their share."""
        rank = self.values.shape[2]
        values = self.values
        variance = self.variance[:, None, None] + self.variance[:, None]
        off = values[:, None, None, 0] - values[None]
        # of a shift with a normal prior (Woodbury)
        inner = np.einsum("iar,ibr->iab", self.shifts, self.shifts)[:, None, None] + (
            variance[..., None, None] / SHIFT**2 * np.eye(2)
        )
        along = np.einsum("ijtr,iar->ijta", off, self.shifts)
        solved = np.linalg.solve(np.broadcast_to(inner, (*off.shape[:3], 2, 2)), along[..., None])[..., 0]
        squared = ((off**2).sum(axis=-1) - (along * solved).sum(axis=-1)) / variance
        left = ((off - np.einsum("ijta,iar->ijtr", solved, self.shifts)) @ self.plain) ** 2
        strength = ((values[:, 0] @ self.plain) ** 2).sum(axis=-1)
        share = left.sum(axis=-1) / np.maximum((strength[:, None] + strength) / 2, 1e-12)[..., None]
        return np.minimum(squared / stats.chi2(rank).isf(_CHANCE), share / _SHARE_LIMIT), share


def _joined(apart: NDArray[np.float64]) -> NDArray[np.int64]:
    """Labels by average linkage of what is less than 1 apart."""
    if len(apart) == 1:
        return np.zeros(1, np.int64)
    upper = ((apart + apart.T) / 2)[np.triu_indices(len(apart), 1)]
    return np.asarray(hierarchy.fcluster(hierarchy.linkage(upper, "average"), 1.0, "distance"))


def _certainty(compared: _Compared, group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of pairs of each kind's members with any defect that stay together, or apart, under as much noise again."""
    certainty = np.full(int(group.max()) + 1, np.nan)
    n = len(group)
    if n == 1 or not len(compared.pristine) or not compared.values.any():
        return certainty
    rng = np.random.default_rng(0)
    together = group[:, None] == group
    same = np.zeros((n, n))
    for _ in range(_DRAWS):
        chosen = compared.pristine[rng.integers(len(compared.pristine), size=(n, 1))]
        # (a place's noise at other turns is other noise, which is just as large)
        noise = chosen * np.sqrt(compared.variance)[:, None, None]
        noisier = replace(compared, values=compared.values + noise, variance=2 * compared.variance)
        label = _joined(noisier.differences()[0].min(axis=-1))
        same += (label[:, None] == label) == together
    others = ~np.eye(n, dtype=bool)
    for number in range(len(certainty)):
        certainty[number] = same[group == number][others[group == number]].mean() / _DRAWS
    return certainty


def _numbered(label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0, the most frequent label first."""
    names, first, counts = np.unique(label, return_index=True, return_counts=True)
    order = sorted(range(len(names)), key=lambda i: (-counts[i], first[i]))
    number = np.empty(len(names), np.int64)
    number[order] = np.arange(len(names))
    return number[np.searchsorted(names, label)]
