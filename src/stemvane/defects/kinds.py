"""From anomalous sites to defects, and from defects to kinds: alike but for a rotation of the lattice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial import cKDTree

from stemvane.defects.descriptions import SHIFT, Descriptions
from stemvane.defects.numerics import as_real, misfit_beyond_shift
from stemvane.defects.sites import Sites

__all__ = ["DefectKinds", "classify_defects", "defect_centres", "rotate_kinds"]

_Floats = NDArray[np.floating[Any]]

# 1e-3: how often chance alone makes two kinds of one, `pytest tests/test_symmetry_scores.py -k chance`; with 1e-4
# nothing changes, with 1e-2 one pair of 15 at 10,000 electrons; `python -m benchmarks.defects.constants`
_CHANCE = 1e-3
# 0.01 of the squared strength: two that differ by less are of one kind, or weak ones of one kind would be split by
# chance along what they have in common; `pytest tests/test_symmetry_scores.py -k weak`
_SHARE_LIMIT = 0.01
# 20 draws of the noise know a share of one half to a tenth
_DRAWS = 20


@dataclass(frozen=True, eq=False)
class DefectKinds:
    """Kinds of defects.

    Attributes
    ----------
    kind : ndarray of int, shape (n_defects,)
        Kind of each defect, the most frequent first. Kinds count from 0 here, as indices of `fold`, `spread` and
        `Defects.patterns`; figures, tables and files count them from 1.
    rotation : ndarray of float, shape (n_defects,)
        Angle (rad) by which each is rotated from the first of its kind, counter-clockwise on the screen: the smallest
        of those that are equivalent, not negative.
    fold : ndarray of int, shape (n_kinds,)
        Rotational symmetry of each kind: the number of equal rotations in a full one that leave it unchanged, as far
        as noise allows to say.
    spread : ndarray of float, shape (n_kinds,)
        Mean squared difference within a kind beyond the noise over the mean squared strength; NaN for a single defect.
    certainty : ndarray of float, shape (n_kinds,)
        Share of the pairs with other defects that remain of one kind, or of two, after the noise has been added once
        more; NaN where there is nothing to compare with.
    """

    kind: NDArray[np.int64]
    rotation: NDArray[np.float64]
    fold: NDArray[np.int64]
    spread: NDArray[np.float64]
    certainty: NDArray[np.float64]

    @property
    def n_kinds(self) -> int:
        """Number of kinds."""
        return int(self.kind.max(initial=-1)) + 1


def defect_centres(
    sites: Sites, is_anomalous: NDArray[np.bool_], strength: _Floats, reach: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Join anomalous sites that belong together, and say where each defect is.

    Parameters
    ----------
    sites : Sites
        All sites.
    is_anomalous : ndarray of bool, shape (n_sites,)
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
    at = np.flatnonzero(is_anomalous)
    if not len(at):
        return owner, np.zeros((0, 2))
    tree = cKDTree(sites.positions[at])
    parent = {}
    for i, near in zip(at, tree.query_ball_point(sites.positions[at], reach), strict=True):
        parent[i] = at[max(near, key=lambda j: strength[at[j]])]
    peaks = sorted((int(i) for i in at if parent[i] == i), key=lambda i: -strength[i])
    number = {peak: n for n, peak in enumerate(peaks)}
    for i in at:
        top = i
        while parent[top] != top:
            top = parent[top]
        owner[i] = number[int(top)]
    places = np.concatenate([sites.positions, sites.bond_centres])
    centres = np.zeros((len(peaks), 2))
    for n, peak in enumerate(peaks):
        members = (owner == n) & (np.linalg.norm(sites.positions - sites.positions[peak], axis=1) <= reach)
        centres[n] = np.average(sites.positions[members], axis=0, weights=np.maximum(strength[members], 1e-12))
        centres[n] = places[np.argmin(np.linalg.norm(places - centres[n], axis=1))]
    return owner, centres


def classify_defects(described: Descriptions, rotations: _Floats) -> DefectKinds:
    """Sort defects into kinds; how many there are is found.

    Parameters
    ----------
    described : Descriptions
        Descriptions of the defects.
    rotations : ndarray of float, shape (n_rotations,)
        Rotations that map the lattice onto itself, rad.

    Returns
    -------
    DefectKinds

    Notes
    -----
    A defect rotated by θ has its coefficients multiplied by ``exp(-i (l + m) θ)``. Two are compared at the rotation
    where they differ least, by their squared difference in units of its noise, less what a shift of some hundredths of
    an ångström explains. Every coefficient has the weight ``S / (S + N)`` of a Wiener filter: N is half of the
    difference's noise, S what a small shift of the pristine lattice would change in its feature, since defects are made
    of atoms, too. Such weights owe nothing to the defects' own noise, unlike the directions in which these differ most,
    so that what chance makes of a sum of weighted squares is known. Two that look alike can still be of different
    strength: their difference is also judged along their weighted mean, whose noise is independent of the difference's.
    Defects are joined by average linkage.
    """
    n = len(described)
    if n == 0:
        none = np.zeros(0)
        return DefectKinds(none.astype(np.int64), none, none.astype(np.int64), none, none)
    compared = _Compared.of(described, rotations)
    apart, share = compared.differences()
    best = apart.argmin(axis=-1)
    kind = _number(_join(apart.min(axis=-1)))
    share = np.take_along_axis(share, best[..., None], -1)[..., 0]
    n_kinds = int(kind.max()) + 1
    rotation, fold, spread = np.zeros(n), np.ones(n_kinds, np.int64), np.full(n_kinds, np.nan)
    for number in range(n_kinds):
        members = np.flatnonzero(kind == number)
        fold[number] = _fold(apart[members, members])
        period = 2 * np.pi / fold[number]
        negative_angle = -np.asarray(rotations)[best[members[0], members]] % period
        rotation[members] = np.where(np.isclose(negative_angle, period), 0.0, negative_angle)
        if len(members) > 1:
            spread[number] = share[np.ix_(members, members)][~np.eye(len(members), dtype=bool)].mean()
    return DefectKinds(kind, rotation, fold, spread, _certainty(compared, kind))


def rotate_kinds(kinds: DefectKinds, rotations: _Floats) -> DefectKinds:
    """Kinds of defects that were rotated back before they were compared, such as those of grains.

    Parameters
    ----------
    kinds : DefectKinds
        What `classify_defects` says of them.
    rotations : ndarray of float, shape (n_defects,)
        Angle (rad) by which each had been rotated, counter-clockwise on the screen.

    Returns
    -------
    DefectKinds
        With the rotations that they have in the scan.
    """
    rotation = kinds.rotation.copy()
    for number, fold in enumerate(kinds.fold):
        members = np.flatnonzero(kinds.kind == number)
        period = 2 * np.pi / fold
        angle = (rotation[members] + rotations[members] - rotations[members[0]]) % period
        rotation[members] = np.where(np.isclose(angle, period), 0.0, angle)
    return replace(kinds, rotation=rotation)


def _fold(itself: NDArray[np.float64]) -> int:
    """Largest number of equal rotations after each of which a kind's members differ little from themselves."""
    n_rotations = itself.shape[1]
    folds = [s for s in range(n_rotations, 1, -1) if n_rotations % s == 0]
    return next((s for s in folds if itself[:, n_rotations // s].mean() < 1), 1)


@dataclass(frozen=True, eq=False)
class _Compared:
    """Defects in the features in which they may be expected to differ.

    ``values`` and ``noise`` have the shape (n, n_modes, n_features), ``shifts`` (n, 2, n_modes, n_features), ``phases``
    (n_rotations, n_modes, n_features), ``pristine`` (n_places, n_modes, n_features), scaled to a noise of 1;
    ``expected`` (n_features,) is the variance that defects should have in each real number, of which a value is made of
    ``parts``.
    """

    values: NDArray[np.complex128]
    noise: NDArray[np.float64]
    shifts: NDArray[np.complex128]
    phases: NDArray[np.complex128]
    pristine: NDArray[np.complex128]
    expected: NDArray[np.float64]
    parts: NDArray[np.int64]

    @classmethod
    def of(cls, described: Descriptions, rotations: _Floats) -> _Compared:
        parts = described.parts
        shifts = (np.abs(described.strain[:, :2]) ** 2).sum(axis=1).mean(axis=(0, 1))
        expected = SHIFT**2 * shifts / parts
        weight = expected / (expected + described.noise.mean(axis=(0, 1)))
        excess = described.excess(weight)
        return cls(
            values=described.values,
            noise=excess * described.noise,
            shifts=described.shifts,
            phases=described.phases(rotations),
            pristine=described.pristine / np.sqrt(excess * described.pristine_noise),
            expected=expected,
            parts=parts,
        )

    def differences(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distance of each to each other one at every rotation, 1 being the most for one kind, and their share."""
        rows = [self._from(i) for i in range(len(self.values))]
        return np.stack([apart for apart, _ in rows]), np.stack([share for _, share in rows])

    def _from(self, i: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`differences` of one defect from all others, of shape (n, n_rotations)."""
        noise = self.noise[i] + self.noise
        weight = self.expected / (self.expected + noise / 2)
        mean, variance = ((weight**power * self.parts).sum(axis=(1, 2)) for power in (1, 2))
        # a sum of weighted squares is nearly a multiple of one of χ² with as much mean and variance
        most = variance / mean * stats.chi2.isf(_CHANCE / 2, mean**2 / variance)
        scale = np.sqrt(weight / noise)[:, None]
        rotated = self.values[:, None] * self.phases
        off = _rows((self.values[i] - rotated) * scale)
        shifts = _rows(self.shifts[i] * scale)
        squared, off = misfit_beyond_shift(off, shifts, SHIFT)
        # of their weighted mean the noise is independent of that of the difference
        common = (self.noise[:, None] * self.values[i] + self.noise[i] * rotated) / noise[:, None]
        spread = (_rows(common * scale * np.sqrt(weight)[:, None]) ** 2).sum(axis=-1)
        stronger = (off * _rows(common * scale)).sum(axis=-1) ** 2 / np.maximum(spread, 1e-12)
        apart = np.maximum(squared / most[:, None], stronger / stats.chi2.isf(_CHANCE / 2, 1))
        both = np.abs(self.values[i]) ** 2 + np.abs(self.values) ** 2
        strength = ((scale[:, 0] ** 2 * both).sum(axis=(1, 2)) - mean) / 2
        share = np.maximum((off**2).sum(axis=-1) - mean[:, None], 0.0) / np.maximum(strength, 1e-12)[:, None]
        return np.minimum(apart, share / _SHARE_LIMIT), share


def _rows(values: NDArray[np.complex128]) -> NDArray[np.float64]:
    """All real numbers of the coefficients in the last two axes."""
    return as_real(values.reshape(*values.shape[:-2], -1))


def _join(apart: NDArray[np.float64]) -> NDArray[np.int64]:
    """Labels by average linkage of what is less than 1 apart."""
    if len(apart) == 1:
        return np.zeros(1, np.int64)
    upper = ((apart + apart.T) / 2)[np.triu_indices(len(apart), 1)]
    return np.asarray(hierarchy.fcluster(hierarchy.linkage(upper, "average"), 1.0, "distance"))


def _certainty(compared: _Compared, kind: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of pairs of each kind's members with any defect that stay together, or apart, under as much noise again."""
    certainty = np.full(int(kind.max()) + 1, np.nan)
    n = len(kind)
    if n == 1 or not len(compared.pristine):
        return certainty
    rng = np.random.default_rng(0)
    together = kind[:, None] == kind
    same = np.zeros((n, n))
    for _ in range(_DRAWS):
        chosen = compared.pristine[rng.integers(len(compared.pristine), size=n)]
        noise = chosen * np.sqrt(compared.noise)
        noisier = replace(compared, values=compared.values + noise, noise=2 * compared.noise)
        label = _join(noisier.differences()[0].min(axis=-1))
        same += (label[:, None] == label) == together
    others = ~np.eye(n, dtype=bool)
    for number in range(len(certainty)):
        certainty[number] = same[kind == number][others[kind == number]].mean() / _DRAWS
    return certainty


def _number(label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0, the most frequent label first."""
    names, first, counts = np.unique(label, return_index=True, return_counts=True)
    order = sorted(range(len(names)), key=lambda i: (-counts[i], first[i]))
    number = np.empty(len(names), np.int64)
    number[order] = np.arange(len(names))
    return number[np.searchsorted(names, label)]
