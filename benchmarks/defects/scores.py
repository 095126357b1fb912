"""What a search for defects is scored by: pure functions of scores, places and the truth."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = [
    "FAR",
    "MISSED",
    "Places",
    "auc",
    "average_precision",
    "compare_defects",
    "condensed",
    "defect_level",
    "false_alarms",
    "mahalanobis",
    "pair_groups",
    "robust_z",
    "site_level",
]

_Floats = NDArray[np.floating[Any]]

NEAR = 0.8
"""Å between a true site and the atom found there."""
FAR = 3.5
"""Å from every true site and centre beyond which a site is pristine; those between are strained and left out."""
AROUND = 1.5
"""Å around an atom over which the highest score is taken at the level of defects: a little more than a bond."""
REACH = 1.5
"""Å between a true centre and the one found."""
MISSED = -1e9
"""Score of a true site at which a method has no site; JSON holds no infinities."""
_DEVIATION = 1.4826
# of the pristine scores so many of the highest are kept as they are, the rest as so many groups' means
_KEPT, _GROUPS = 20, 20


@dataclass(frozen=True, eq=False)
class Places:
    """Which sites hold defects, and which are pristine.

    Attributes
    ----------
    positions : ndarray of float, shape (n_sites, 2)
        All sites, ``(y, x)`` in Å.
    changed : ndarray of int, shape (n_changed,)
        Atom site of every atom that is substituted, removed or turned; -1 where there is none.
    owners : ndarray of int, shape (n_changed,)
        Defect of each.
    kinds : tuple of str
        Kind of each defect.
    centres : ndarray of float, shape (n_defects, 2)
        True centres ``(y, x)`` in Å.
    far : ndarray of bool, shape (n_sites,)
        Sites beyond `FAR`.
    is_atom : ndarray of bool, shape (n_sites,)
        The others are hollows.
    """

    positions: NDArray[np.float64]
    changed: NDArray[np.int64]
    owners: NDArray[np.int64]
    kinds: tuple[str, ...]
    centres: NDArray[np.float64]
    far: NDArray[np.bool_]
    is_atom: NDArray[np.bool_]

    @classmethod
    def of(cls, positions: _Floats, is_atom: NDArray[np.bool_], defects: Any) -> Places:
        """Compare sites with the truth, a `ScanDefects`."""
        positions = np.asarray(positions, float)
        anchors = np.concatenate([defects.sites, defects.positions])
        atoms = np.flatnonzero(is_atom)
        changed, far = np.full(len(defects.sites), -1), np.ones(len(positions), bool)
        if len(anchors):
            far = cKDTree(anchors).query(positions)[0] > FAR
        if len(atoms) and len(defects.sites):
            away, nearest = cKDTree(positions[atoms]).query(defects.sites)
            changed = np.where(away <= NEAR, atoms[nearest], -1)
        return cls(positions, changed, defects.owners, defects.kinds, defects.positions, far, is_atom)


def site_level(scores: _Floats, places: Places) -> dict[str, Any]:
    """Score of the atom at every changed atom of every defect, and of every pristine atom."""
    scores = np.nan_to_num(np.asarray(scores, float), nan=0.0)
    values = np.where(places.changed >= 0, scores[places.changed], MISSED) if len(scores) else np.zeros(0)
    return {
        "kinds": [places.kinds[i] for i in places.owners],
        "scores": [_short(v) for v in values],
        **condensed(scores[places.far & places.is_atom]),
    }


def defect_level(scores: _Floats, places: Places) -> dict[str, Any]:
    """Highest score around the site nearest to every defect's centre, and around every pristine atom.

    Both get the highest of all sites, atoms and hollows, within `AROUND` of one site. Around a pristine atom only
    pristine sites count, of which the ones at the rim of a defect's strain have fewer.
    """
    scores = np.nan_to_num(np.asarray(scores, float), nan=0.0)
    tree = cKDTree(places.positions)
    near = tree.query_ball_point(places.positions, AROUND)
    values = []
    for i, centre in enumerate(places.centres):
        if not (places.changed[places.owners == i] >= 0).any():
            values.append(MISSED)
            continue
        values.append(max(scores[j] for j in near[int(tree.query(centre)[1])]))
    pristine = [max(scores[j] for j in near[i] if places.far[j]) for i in np.flatnonzero(places.far & places.is_atom)]
    return {"kinds": list(places.kinds), "scores": [_short(v) for v in values], **condensed(np.array(pristine))}


def condensed(pristine: _Floats) -> dict[str, list[float]]:
    """Scores of pristine places and how many each stands for, the highest as they are and the rest in groups."""
    ordered = np.sort(np.asarray(pristine, float))[::-1]
    highest, rest = ordered[:_KEPT], ordered[_KEPT:]
    groups = np.array_split(rest, min(_GROUPS, len(rest))) if len(rest) else []
    return {
        "pristine": [_short(v) for v in [*highest, *(group.mean() for group in groups)]],
        "weights": [1] * len(highest) + [len(group) for group in groups],
    }


def auc(scores: _Floats, pristine: _Floats, weights: _Floats) -> NDArray[np.float64]:
    """Share of the pristine places that each score is above, ties counted half; the mean of it is the ROC AUC."""
    scores, pristine, weights = (np.asarray(v, float) for v in (scores, pristine, weights))
    above = (scores[:, None] > pristine) + 0.5 * (scores[:, None] == pristine)
    return np.asarray(above @ weights / weights.sum())


def average_precision(scores: _Floats, pristine: _Floats, weights: _Floats) -> float:
    """Mean, over the positives, of the precision at the threshold that just finds each."""
    scores, pristine, weights = (np.asarray(v, float) for v in (scores, pristine, weights))
    n_above = np.array([(scores >= s).sum() for s in scores])
    false = np.array([weights[pristine >= s].sum() for s in scores])
    return float(np.mean(n_above / (n_above + false)))


def false_alarms(scores: _Floats, pristine: _Floats, weights: _Floats, recall: float = 0.9) -> float:
    """Pristine places per 100 at or above the highest threshold that still finds a share of the positives."""
    scores, pristine, weights = (np.asarray(v, float) for v in (scores, pristine, weights))
    threshold = np.sort(scores)[::-1][int(np.ceil(recall * len(scores) - 1e-9)) - 1]
    return float(100 * weights[pristine >= threshold].sum() / weights.sum())


def robust_z(values: _Floats, sublattices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Deviation from the median of the sublattice in robust standard deviations, shape ``(n_sites,)``."""
    deviation = np.zeros(len(values))
    for s in np.unique(sublattices):
        members = sublattices == s
        away = values[members] - np.median(values[members])
        deviation[members] = away / max(_DEVIATION * float(np.median(np.abs(away))), 1e-30)
    return deviation


def mahalanobis(values: _Floats, sublattices: NDArray[np.int64], share: float = 0.75) -> NDArray[np.float64]:
    """Distance of each row from the bulk of its sublattice, whose shape is that of the nearest share of its rows."""
    distances = np.zeros(len(values))
    for s in np.unique(sublattices):
        members = sublattices == s
        rows = np.stack([robust_z(column, sublattices[members]) for column in values[members].T], axis=1)
        distance = np.linalg.norm(rows, axis=1)
        for _ in range(3):
            bulk = rows[distance <= np.quantile(distance, share)]
            covariance = np.atleast_2d(np.cov(bulk.T)) + 1e-9 * np.eye(rows.shape[1])
            away = rows - bulk.mean(axis=0)
            distance = np.sqrt((away * np.linalg.solve(covariance, away.T).T).sum(axis=1))
        distances[members] = distance
    return distances


def compare_defects(defects: Any, truth: Any) -> dict[str, Any]:
    """How the defects that were found compare with the true ones.

    Parameters
    ----------
    defects : Defects
        Defects of a symmetry analysis; `naming`, where it has one, says the kinds.
    truth : ScanDefects
        The true ones.

    Returns
    -------
    dict
        ``kinds``; ``errors`` in Å, None where none was found within `REACH`; ``named``, whether the name is right, None
        where there is no name; ``n_found``; ``n_false``, those beyond `FAR` of everything; ``n_double``, those that
        are nearer but not the nearest to any; ``pairs`` as of `pair_groups`.
    """
    positions = np.asarray(defects.positions, float).reshape(-1, 2)
    match = np.full(len(truth), -1)
    errors: list[float | None] = [None] * len(truth)
    if len(positions) and len(truth):
        away = np.linalg.norm(truth.positions[:, None] - positions, axis=-1)
        match = np.where(away.min(axis=1) <= REACH, away.argmin(axis=1), -1)
        errors = [_short(a) if a <= REACH else None for a in away.min(axis=1)]
    anchors = np.concatenate([truth.sites, truth.positions])
    false = np.ones(len(positions), bool)
    if len(anchors) and len(positions):
        false = cKDTree(anchors).query(positions)[0] > FAR
    names = None if defects.naming is None else defects.naming.names
    named: list[bool | None] = [
        None if names is None or j < 0 else names[j] == kind for j, kind in zip(match, truth.kinds, strict=True)
    ]
    return {
        "kinds": list(truth.kinds),
        "errors": errors,
        "named": named,
        "n_found": len(positions),
        "n_false": int(false.sum()),
        "n_double": int(len(positions) - false.sum() - len(set(match[match >= 0].tolist()))),
        "pairs": pair_groups(truth.kinds, truth.angles, truth.mirrored, match, defects.kinds.kind),
    }


def pair_groups(
    kinds: tuple[str, ...],
    angles: _Floats,
    mirrored: NDArray[np.bool_],
    match: NDArray[np.int64],
    group: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """Pairs of defects that were found: their kinds, the turn between them (degrees), and whether grouped together."""
    rows = []
    for i, j in combinations(np.flatnonzero(np.asarray(match) >= 0), 2):
        difference = abs((np.degrees(angles[i] - angles[j]) + 180) % 360 - 180)
        rows.append(
            {
                "kinds": sorted([kinds[i], kinds[j]]),
                "turn": round(float(difference)),
                "mirrored": bool(mirrored[i] != mirrored[j]),
                "together": bool(group[match[i]] == group[match[j]]),
            }
        )
    return rows


def _short(value: float) -> float:
    return float(f"{float(value):.4g}")
