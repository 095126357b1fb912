"""Defects made by rule in any host: atoms removed, substituted or added, and nothing relaxed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stemvane.errors import ConfigError
from stemvane.specimens import RuleStep, read_rule

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["RulePlacement", "change_atoms", "rule_placements"]

Floats = NDArray[np.float64]

# 0.3 Å: atoms this near in projection are above one another
_SAME_COLUMN = 0.3
# 0.1 Å by which neighbours may differ in distance, and atoms in height from the middle, to count as alike
_ALIKE = 0.1
# 1.25 of the nearest distance: what lies around an empty site
_AROUND = 1.25


@dataclass(frozen=True, eq=False)
class RulePlacement:
    """A defect by rule in its place.

    Attributes
    ----------
    kind : str
        Its rule.
    steps : tuple of RuleStep
        What is changed.
    atoms : tuple of ndarray of int
        Indices of the atoms of each step, those of a column together.
    sites : ndarray of float, shape (n, 2)
        Positions ``(x, y)`` in Å of what is changed.
    angle : float
        Direction in rad from the first step's site to the second's, counter-clockwise on the screen; 0 of one site.
    mirrored : bool
        Whether it is made on the lower side of the sheet.
    """

    kind: str
    steps: tuple[RuleStep, ...]
    atoms: tuple[NDArray[np.int64], ...]
    sites: Floats
    angle: float
    mirrored: bool

    @property
    def centre(self) -> Floats:
        """The mean ``(x, y)`` of its sites."""
        return np.asarray(self.sites.mean(axis=0))


def rule_placements(kind: str, atoms: Atoms) -> list[RulePlacement]:
    """Every place in a periodic supercell in which a defect can be made by rule.

    Parameters
    ----------
    kind : str
        Its rule, as `read_rule` reads it.
    atoms : ase.Atoms
        The host.

    Returns
    -------
    list of RulePlacement

    Raises
    ------
    ConfigError
        If the host has no such sites.
    """
    steps = read_rule(kind)
    size = atoms.cell.lengths()[:2]
    columns = [_columns(step, atoms, size) for step in steps]
    for step, found in zip(steps, columns, strict=True):
        if not found:
            what = f"two {step.host} above one another" if step.is_column else step.host
            raise ConfigError(f"{kind}: {_formula(atoms)} has no {what}; name elements of the host after the _")
    at = [np.array([atoms.positions[c[0]] for c in found]) for found in columns]
    # what is below the middle of a sheet hangs down from it; a column is of both sides
    middle = float(atoms.positions[:, 2].mean())
    if len(steps) == 1:
        lowest = (at[0][:, 2] < middle - _ALIKE) & (not steps[0].is_column)
        sides = (False, True) if steps[0].is_added else (None,)
        return [
            RulePlacement(kind, steps, (column,), xyz[None, :2], 0.0, bool(low) if side is None else side)
            for column, xyz, low in zip(columns[0], at[0], lowest, strict=True)
            for side in sides
        ]
    tree = cKDTree(at[1][:, :2] % size % size, boxsize=size)
    placed = []
    for column, xyz in zip(columns[0], at[0], strict=True):
        reach = 1.0
        near: list[int] = []
        while not near:  # the nearest sites that are not of the same column
            reach *= 1.5
            near = [j for j in tree.query_ball_point(xyz[:2] % size, reach) if _apart(at[1][j], xyz, size) > 0.5]
        distances = np.array([_apart(at[1][j], xyz, size, in_plane=False) for j in near])
        for j in np.array(near)[distances < distances.min() + _ALIKE]:
            across = _across(at[1][j] - xyz, size)
            sites = xyz[:2] + np.array([[0.0, 0.0], across[:2]])
            angle = math.atan2(-across[1], across[0])
            placed.append(
                RulePlacement(
                    kind,
                    steps,
                    (column, columns[1][j]),
                    sites,
                    angle,
                    bool(len(column) == 1 and xyz[2] < middle - _ALIKE),
                )
            )
    return placed


def change_atoms(
    atoms: Atoms, placed: list[RulePlacement], numbers: NDArray[np.int64], labels: NDArray[np.str_]
) -> tuple[list[int], list[tuple[int, Floats, str]]]:
    """Make defects: elements and labels of atoms are changed in place.

    Parameters
    ----------
    atoms : ase.Atoms
        The host.
    placed : list of RulePlacement
        The defects.
    numbers, labels : ndarray, shape (n_atoms,)
        Atomic numbers, and what each atom belongs to.

    Returns
    -------
    removed : list of int
        Indices of atoms that are to be removed.
    added : list of tuple
        Atomic number, position ``(x, y, z)`` and label of each atom that is to be added.
    """
    from ase.data import atomic_numbers, covalent_radii

    size = atoms.cell.lengths()[:2]
    removed: list[int] = []
    added: list[tuple[int, Floats, str]] = []
    for placement in placed:
        for step, column in zip(placement.steps, placement.atoms, strict=True):
            number = 0 if step.is_empty else atomic_numbers[step.element]
            if step.is_added:
                # a bond's length above the outermost atom of the column
                below = np.array([_apart(p, atoms.positions[column[0]], size) for p in atoms.positions]) < _SAME_COLUMN
                heights = atoms.positions[below, 2]
                bond = covalent_radii[number] + covalent_radii[atoms.numbers[column[0]]]
                z = heights.min() - bond if placement.mirrored else heights.max() + bond
                added.append((number, np.array([*atoms.positions[column[0], :2], z]), placement.kind))
            elif step.is_empty:
                removed += column.tolist()
                labels[_around(atoms, column, size)] = placement.kind
            else:
                removed += column[1:].tolist()
                numbers[column[0]] = number
                labels[column[0]] = placement.kind
                atoms.positions[column[0], 2] = atoms.positions[column, 2].mean()
    return removed, added


def _columns(step: RuleStep, atoms: Atoms, size: Floats) -> list[NDArray[np.int64]]:
    """Atoms that a step can change, each by itself, or those of a column together."""
    hosts = np.flatnonzero(atoms.symbols == step.host)
    if not step.is_column or not len(hosts):
        return [np.array([i]) for i in hosts]
    flat = atoms.positions[hosts, :2] % size % size
    groups = cKDTree(flat, boxsize=size).query_ball_point(flat, _SAME_COLUMN)
    return [hosts[sorted(g)] for i, g in enumerate(groups) if len(g) == 2 and min(g) == i]


def _around(atoms: Atoms, column: NDArray[np.int64], size: Floats) -> NDArray[np.int64]:
    """Nearest neighbours of empty sites."""
    vectors = atoms.positions - atoms.positions[column[0]]
    vectors[:, :2] -= size * np.round(vectors[:, :2] / size)
    distances = np.linalg.norm(vectors, axis=1)
    distances[column] = np.inf
    return np.flatnonzero(distances < _AROUND * distances.min())


def _across(vector: Floats, size: Floats) -> Floats:
    """The vector to the nearest image."""
    flat = vector[:2] - size * np.round(vector[:2] / size)
    return np.array([*flat, vector[2]])


def _apart(one: Floats, other: Floats, size: Floats, *, in_plane: bool = True) -> float:
    across = _across(one - other, size)
    return float(np.linalg.norm(across[:2] if in_plane else across))


def _formula(atoms: Atoms) -> str:
    return "".join(sorted(Counter(atoms.get_chemical_symbols())))
