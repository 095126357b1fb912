"""Specimens of the scenes: sheets of graphene that are not clean, not whole, not one crystal, or not straight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stemvane.data.specimen import ScanDefects
from stemvane.simulation.scenes import build_structure
from stemvane.specimens import LATTICE_CONSTANT

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["CELL", "CLASHING", "CLASSES", "EXTENT", "Specimen", "build_specimen"]

_Floats = NDArray[np.floating[Any]]

EXTENT = 30.24
"""Side of the scanned area in Å, a whole number of both steps."""
CELL = 64.0
"""Side of the supercell in Å, and with it the room around the scan in which the specimen goes on."""

_DEFECTS = {"N": 2, "B": 2, "Si-C3": 2, "vacancy": 2}
# where a part of the field is not seen
_MORE_DEFECTS = {"N": 2, "B": 2, "Si-C3": 3, "vacancy": 3}
CLASHING = 1.15
"""Å below which one of two atoms at a boundary is taken away."""

# degrees between the two grains
_MISORIENTATION = 17.0
# amorphous carbon: share of the field, Å of thickness, atoms per Å³ (2 g/cm³), and Å between atoms at least
_COVERED, _THICKNESS, _DENSITY, _APART = 0.3, 8.0, 0.1, 1.3
# Å in the supercell at which it begins, 2 Å above the sheet
_ABOVE = 8.0
# Å from a boundary, an edge or contamination within which a defect need not be found
_REACH = 4.0
# Poisson's ratio of graphene, and Å by which a dislocation lies outside the field
_POISSON, _OUTSIDE = 0.16, 7.0


@dataclass(frozen=True, eq=False)
class Specimen:
    """Atoms, and the truth about them.

    Attributes
    ----------
    atoms : ase.Atoms
        Positions ``(x, y, z)`` in Å in a periodic cell; the scan goes from 0 to `EXTENT` along both axes.
    defects : ScanDefects
        All point defects of the lattices.
    distance : callable
        Distance in Å of positions ``(y, x)``, shape ``(n, 2)``, from what is no lattice: negative in contamination and
        vacuum, at grain boundaries 0.
    n_lattices : int
        Number of lattices in the field.
    """

    atoms: Atoms
    defects: ScanDefects
    distance: Callable[[_Floats], NDArray[np.float64]]
    n_lattices: int = 1

    @property
    def is_clear(self) -> NDArray[np.bool_]:
        """Defects that should be found, shape ``(n_defects,)``: in the field and far from what is no lattice."""
        places = self.defects.positions
        return np.asarray((self.distance(places) > _REACH) & _inside(places))


def build_specimen(name: str, seed: int) -> Specimen:
    """Build a specimen of one of `CLASSES`; one seed always gives the same one."""
    return CLASSES[name](seed, np.random.default_rng([seed, 23]))


def _clean(seed: int, rng: np.random.Generator) -> Specimen:
    atoms, defects = _sheet(_DEFECTS, seed)
    return Specimen(atoms, defects, _everywhere)


def _pristine(seed: int, rng: np.random.Generator) -> Specimen:
    atoms, defects = _sheet({}, seed)
    return Specimen(atoms, defects, _everywhere)


def _contaminated(seed: int, rng: np.random.Generator) -> Specimen:
    """Amorphous carbon on top of a part of the sheet, whose outline is a line that waves."""
    atoms, defects = _sheet(_DEFECTS, seed)
    direction = rng.uniform(0, 2 * np.pi)
    outwards = np.array([np.sin(direction), np.cos(direction)])
    amplitude, wavelength, phase = rng.uniform(1, 3), rng.uniform(15, 25), rng.uniform(0, 2 * np.pi)

    def depth(points: _Floats) -> NDArray[np.float64]:
        from_middle = points - EXTENT / 2
        along = from_middle @ np.array([-outwards[1], outwards[0]])
        return np.asarray(from_middle @ outwards + amplitude * np.sin(2 * np.pi * along / wavelength + phase))

    grid = np.stack(np.meshgrid(*[np.linspace(0, EXTENT, 101)] * 2, indexing="ij"), -1).reshape(-1, 2)
    start = np.quantile(depth(grid), 1 - _COVERED)
    film = _amorphous(rng)
    film = film[depth(film[:, 1::-1]) > start]
    return Specimen(_with_carbon(atoms, film), defects, lambda points: start - depth(points))


def _grains(seed: int, rng: np.random.Generator) -> Specimen:
    """Two grains that meet at a straight, unrelaxed boundary through the field."""
    middle = rng.uniform(0.35, 0.65) * EXTENT
    lean = rng.uniform(-0.3, 0.3)
    normal = np.array([-np.sin(lean), np.cos(lean)])

    def side(points: _Floats) -> NDArray[np.float64]:
        return np.asarray((points - [EXTENT / 2, middle]) @ normal)

    parts, truths = [], []
    for sign in (-1, 1):
        atoms, defects = _sheet(_MORE_DEFECTS, seed + (sign > 0) * 500)
        positions, defects = _rotate(atoms, defects, sign * np.radians(_MISORIENTATION / 2))
        atoms.positions = positions
        parts.append(atoms[sign * side(positions[:, 1::-1]) > 0])
        truths.append(_chosen(defects, sign * side(defects.positions) > 0))
    pairs = cKDTree(parts[0].positions).query_ball_tree(cKDTree(parts[1].positions), CLASHING)
    parts[1] = parts[1][np.setdiff1d(np.arange(len(parts[1])), [j for near in pairs for j in near])]
    return Specimen(parts[0] + parts[1], _joined(truths), lambda points: np.abs(side(points)), n_lattices=2)


def _edge(seed: int, rng: np.random.Generator) -> Specimen:
    """Half a field of vacuum behind a straight, unrelaxed edge without dangling atoms."""
    direction = rng.uniform(0, 2 * np.pi)
    outwards = np.array([np.sin(direction), np.cos(direction)])

    def depth(points: _Floats) -> NDArray[np.float64]:
        return np.asarray((EXTENT / 2 - points) @ outwards)

    atoms, defects = _sheet(_MORE_DEFECTS, seed)
    defects = _chosen(defects, depth(defects.positions) > 0)
    sheet = atoms[depth(atoms.positions[:, 1::-1]) > 0]
    for _ in range(3):
        n_near = np.array([len(near) for near in cKDTree(sheet.positions).query_ball_point(sheet.positions, 1.8)])
        # (two neighbours besides itself, unless the missing one is of a vacancy inside the sheet)
        sheet = sheet[(n_near >= 3) | (depth(sheet.positions[:, 1::-1]) > 3)]
    return Specimen(sheet, defects, depth)


def _vacancies(seed: int, rng: np.random.Generator) -> Specimen:
    """A line of unrelaxed vacancies, two or three lattice constants apart, and other defects elsewhere."""
    atoms, defects = _sheet({"N": 2, "Si-C3": 2}, seed)
    away = cKDTree(defects.positions).query(atoms.positions[:, 1::-1])[0]
    y, spacing = atoms.positions[:, 1], LATTICE_CONSTANT * rng.integers(2, 4)
    # atoms of one row lie a lattice constant apart along x
    rows = np.unique(np.round(y[(y > 5) & (y < EXTENT - 5) & (away > 5)], 2))
    for row in rng.permutation(rows):
        at = np.flatnonzero(np.abs(y - row) < 0.02)
        at = at[np.argsort(atoms.positions[at, 0])]
        at = at[(atoms.positions[at, 0] > 3) & (atoms.positions[at, 0] < EXTENT - 3)]
        chosen = at[:: round(spacing / LATTICE_CONSTANT)]
        if (away[chosen] > 5).all():
            break
    else:
        raise ValueError(f"seed {seed}: no room for a line of vacancies; take another")
    places = atoms.positions[chosen, 1::-1].copy()
    del atoms[chosen]
    return Specimen(atoms, _joined([defects, _truth("vacancy", places)]), _everywhere)


def _strained(seed: int, rng: np.random.Generator) -> Specimen:
    """The field beside an edge dislocation of one lattice constant, by isotropic elasticity."""
    atoms, defects = _sheet(_DEFECTS, seed)
    core = np.array([rng.uniform(0.3, 0.7) * EXTENT, -_OUTSIDE])
    positions = atoms.positions.copy()
    positions[:, 1::-1] += _dislocation(positions[:, 1::-1] - core)
    atoms.positions = positions
    defects = replace(
        defects,
        positions=defects.positions + _dislocation(defects.positions - core),
        sites=defects.sites + _dislocation(defects.sites - core),
    )
    return Specimen(atoms, defects, _everywhere)


CLASSES: dict[str, Callable[[int, np.random.Generator], Specimen]] = {
    "clean": _clean,
    "pristine": _pristine,
    "contaminated": _contaminated,
    "grains": _grains,
    "edge": _edge,
    "vacancies": _vacancies,
    "strained": _strained,
}
"""Classes of scenes in the order of the tables."""


def _everywhere(points: _Floats) -> NDArray[np.float64]:
    return np.full(len(points), np.inf)


def _sheet(counts: dict[str, int], seed: int) -> tuple[Atoms, ScanDefects]:
    return build_structure("graphene", (CELL, CELL), scan_extent=(EXTENT, EXTENT), defects=counts, seed=seed)


def _inside(points: _Floats) -> NDArray[np.bool_]:
    return np.asarray(((points > 3) & (points < EXTENT - 3)).all(axis=1))


def _rotate(atoms: Atoms, defects: ScanDefects, angle: float) -> tuple[NDArray[np.float64], ScanDefects]:
    """Positions and truth, rotated counter-clockwise on the screen about the middle of the scan.

    The sheet is repeated around itself, so that no corner of the scan is left without atoms.
    """
    cosine, sine = np.cos(angle), np.sin(angle)
    # y grows downwards
    matrix = np.array([[cosine, -sine], [sine, cosine]])

    def moved(points: _Floats) -> NDArray[np.float64]:
        return np.asarray((points - EXTENT / 2) @ matrix.T + EXTENT / 2)

    size = atoms.cell.lengths()
    # the half of the supercell opposite to the scan belongs to the image before it
    atoms.positions[:, :2] -= np.where(atoms.positions[:, :2] > EXTENT / 2 + size[:2] / 2, size[:2], 0.0)
    positions = atoms.positions.copy()
    positions[:, 1::-1] = moved(positions[:, 1::-1])
    truth = replace(
        defects, positions=moved(defects.positions), sites=moved(defects.sites), angles=defects.angles + angle
    )
    return positions, truth


def _dislocation(offset: _Floats) -> NDArray[np.float64]:
    """Displacement ``(y, x)`` in Å at offsets ``(y, x)`` from a core with its Burgers vector along y.

    Hirth and Lothe, Theory of Dislocations, 1982, section 3.4, in plane stress; the cut runs away from the field.
    """
    along, across = offset[:, 0], offset[:, 1]
    ratio = _POISSON / (1 + _POISSON)
    r2 = along**2 + across**2
    scale = LATTICE_CONSTANT / (2 * np.pi)
    lateral = np.arctan2(along, across)
    u_along = -scale * (lateral - along * across / (2 * (1 - ratio) * r2))
    u_across = -scale * (
        (1 - 2 * ratio) / (4 * (1 - ratio)) * np.log(r2) + (along**2 - across**2) / (4 * (1 - ratio) * r2)
    )
    return np.stack([u_along, u_across], axis=-1)


def _amorphous(rng: np.random.Generator) -> NDArray[np.float64]:
    """Random places ``(x, y, z)`` in Å, none too near to another, above the sheet and around the field."""
    low, high = np.array([-8.0, -8.0, _ABOVE]), np.array([EXTENT + 8, EXTENT + 8, _ABOVE + _THICKNESS])
    wanted = int(_DENSITY * np.prod(high - low))
    drawn = rng.uniform(low, high, (6 * wanted, 3))
    tree = cKDTree(drawn)
    taken = np.ones(len(drawn), bool)
    for i, near in enumerate(tree.query_ball_point(drawn, _APART)):
        if taken[i]:
            taken[[j for j in near if j > i]] = False
    return np.asarray(drawn[taken][:wanted])


def _with_carbon(atoms: Atoms, places: _Floats) -> Atoms:
    from ase import Atoms

    return atoms + Atoms("C" * len(places), positions=places)


def _truth(kind: str, places: _Floats) -> ScanDefects:
    n = len(places)
    return ScanDefects((kind,) * n, places, np.zeros(n), np.zeros(n, bool), places, np.arange(n))


def _chosen(defects: ScanDefects, remain: NDArray[np.bool_]) -> ScanDefects:
    """Some of the defects."""
    number = np.cumsum(remain) - 1
    sites = remain[defects.owners]
    return ScanDefects(
        kinds=tuple(kind for kind, stays in zip(defects.kinds, remain, strict=True) if stays),
        positions=defects.positions[remain],
        angles=defects.angles[remain],
        mirrored=defects.mirrored[remain],
        sites=defects.sites[sites],
        owners=number[defects.owners[sites]],
    )


def _joined(parts: list[ScanDefects]) -> ScanDefects:
    offsets = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return ScanDefects(
        kinds=tuple(kind for part in parts for kind in part.kinds),
        positions=np.concatenate([part.positions for part in parts]),
        angles=np.concatenate([part.angles for part in parts]),
        mirrored=np.concatenate([part.mirrored for part in parts]),
        sites=np.concatenate([part.sites for part in parts]),
        owners=np.concatenate([part.owners + at for part, at in zip(parts, offsets, strict=True)]),
    )
