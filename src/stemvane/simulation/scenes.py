"""build_structure: a specimen with its defects and the truth about them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stemvane.data.specimen import ScanDefects
from stemvane.errors import ConfigError
from stemvane.simulation.edges import graphene_edge
from stemvane.simulation.relaxed_defects import Placement, load_patch, placements
from stemvane.simulation.rule_defects import RulePlacement, change_atoms, rule_placements
from stemvane.simulation.structure_files import checked_structure, read_structure
from stemvane.simulation.structures import LAYER_SPACINGS, SHEETS, crystal
from stemvane.simulation.supercells import align_zone_axis, fill_supercell, twist_layers
from stemvane.specimens import DEFECTS, RULES, SPECIMENS, Specimen, find_specimen, is_rule, is_structure_file

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["build_structure"]

_SEPARATION = 7.0
_MARGIN = 3.0
_SMALLEST = 20.0
_CLOSEST = 4.0
"""Å between centres below which two defects would change the same sites."""
_TRIES = 100

_Placement = Placement | RulePlacement


def build_structure(
    name: str | Path | Atoms = "graphene",
    extent: tuple[float, float] = (46.0, 46.0),
    *,
    scan_extent: tuple[float, float] | None = None,
    zone_axis: tuple[int, int, int] | None = None,
    thickness: float | None = None,
    twist: float | None = None,
    defects: Mapping[str, int] | None = None,
    concentrations: Mapping[str, float] | None = None,
    seed: int = 0,
    separation: float = _SEPARATION,
    margin: float = _MARGIN,
) -> tuple[Atoms, ScanDefects]:
    """Build a specimen with defects in it.

    Parameters
    ----------
    name : str, Path or ase.Atoms
        A host such as ``"graphene"``, or one with a defect in the middle of the scan, such as ``"graphene-Si-C3"``;
        `stemvane structures` lists them. A file (.cif, .xyz, .extxyz) or atoms are a unit cell, which is repeated along
        its periodic axes; what has none is put into the middle of the scan.
    extent : tuple of float
        Smallest size ``(y, x)`` of the periodic supercell in Å.
    scan_extent : tuple of float, optional
        Size ``(y, x)`` in Å of the area, from the supercell's corner on, that defects are put into; all of `extent`
        where it is left out.
    zone_axis : tuple of int, optional
        Direction ``[u v w]`` of a crystal's lattice along the beam; [0 0 1] where it is left out.
    thickness : float, optional
        Thickness of a crystal in Å, rounded to whole periods along the beam; one period where it is left out.
    twist : float, optional
        Angle in degrees by which a second layer of a sheet is rotated against the first; one layer where it is left
        out.
    defects : mapping of str to int, optional
        How many defects of which kind at random places: ``{"N": 2, "Si-C3": 1}``. In any host they are made by rule,
        and not relaxed: ``{"V_S": 2, "Se_S": 1}``.
    concentrations : mapping of str to float, optional
        Random defects as a share of the lattice sites in the scanned area, rounded to whole numbers of defects.
    seed : int
        Random seed; one seed always gives the same places.
    separation : float
        Smallest distance between the centres of two defects in Å, 4 Å or more.
    margin : float
        Smallest distance of a random defect from the edge of the scanned area in Å.

    Returns
    -------
    atoms : ase.Atoms
        Positions ``(x, y, z)`` in Å; the array ``labels`` holds for each atom the kind of its defect or the host's
        name. Where a defect is an empty site, the atoms about it belong to it.
    defects : ScanDefects
        Defects with the supercell's corner as origin, the one of the middle first.

    Raises
    ------
    ConfigError
        If a name is unknown, a host takes no defects, or the defects do not fit into the area.
    FileFormatError
        If a file is missing or damaged, or holds no structure that can be simulated.

    Examples
    --------
    >>> from stemvane.simulation.scenes import build_structure
    >>> atoms, defects = build_structure("graphene", defects={"N": 2}, seed=1)
    >>> defects.kinds, sorted(set(atoms.get_array("labels").tolist()))
    (('N', 'N'), ['N', 'graphene'])
    """
    area = scan_extent or extent
    shape = _Shape(zone_axis, thickness, twist)
    specimen = _specimen(name)
    if specimen is None:
        atoms = _from_atoms(name, extent, area, shape)
    elif specimen.crystal:
        atoms = _fill(crystal(specimen.host), specimen.host, extent, area, shape)
    else:
        atoms = _sheet(specimen, extent, area, shape)
    counts = _numbers(atoms, area, defects or {}, concentrations or {})
    if not counts and (specimen is None or not specimen.defect):
        return atoms, _truth([])
    relaxed = [kind for kind in counts if kind in DEFECTS]
    endless = specimen is not None and not specimen.edge and twist is None
    if relaxed and not (specimen is not None and endless and specimen.host == DEFECTS[relaxed[0]].host):
        called = name if isinstance(name, str | Path) else "the structure"
        raise ConfigError(
            f"{called}: defects such as {relaxed[0]} are known in endless graphene only; take graphene, or make them "
            f"by rule: {RULES}"
        )
    size = (float(atoms.cell[0, 0]), float(atoms.cell[1, 1]))
    if min(size) < _SMALLEST:
        raise ConfigError(f"a supercell of {extent} Å is too small for a defect; give at least {_SMALLEST:.0f} Å")
    if not separation >= _CLOSEST:
        raise ConfigError(
            f"separation is {separation} Å; give at least {_CLOSEST:g}, so that no two defects share a site"
        )
    fits = {kind: _fits(kind, atoms, size) for kind in counts}
    first = [] if specimen is None or not specimen.defect else [_in_the_middle(specimen.defect, atoms, size, area)]
    placed = _at_random(first, fits, counts, size, area, separation, margin, seed)
    _replace(atoms, placed)
    return atoms, _truth(placed)


class _Shape(NamedTuple):
    """How a unit cell is laid out."""

    zone_axis: tuple[int, int, int] | None
    thickness: float | None
    twist: float | None


def _specimen(name: str | Path | Atoms) -> Specimen | None:
    """The entry of the table; None for a file or atoms."""
    if not isinstance(name, str) or is_structure_file(name):
        return None
    specimen = find_specimen(name)
    if specimen is None:
        raise ConfigError(f"unknown structure '{name}'; known are {', '.join(entry.name for entry in SPECIMENS)}")
    return specimen


def _sheet(specimen: Specimen, extent: tuple[float, float], area: tuple[float, float], shape: _Shape) -> Atoms:
    """A built-in sheet, endless, with an edge, or of two layers."""
    if shape.zone_axis is not None or shape.thickness is not None:
        raise ConfigError(f"{specimen.name} is a sheet; zone_axis and thickness are for crystals, leave them out")
    if shape.twist is None:
        if specimen.edge:
            return graphene_edge(specimen.edge, extent, area)
        return _labelled(SHEETS[specimen.host](extent), specimen.host)
    if specimen.geometry:
        raise ConfigError(f"{specimen.name}: only perfect sheets have a twist; leave it out, or take {specimen.host}")
    if not math.isfinite(shape.twist):
        raise ConfigError(f"twist is {shape.twist}; give an angle in degrees")
    cell = SHEETS[specimen.host]((1.0, 1.0))
    layers = twist_layers(cell, shape.twist, LAYER_SPACINGS[specimen.host], area)
    return _labelled(fill_supercell(layers, extent, area), specimen.host)


def _from_atoms(
    source: str | Path | Atoms, extent: tuple[float, float], area: tuple[float, float], shape: _Shape
) -> Atoms:
    """Atoms that are given, or those of a file."""
    if isinstance(source, str | Path):
        return _fill(read_structure(source), Path(source).stem, extent, area, shape)
    if not hasattr(source, "get_chemical_formula"):
        raise ConfigError(f"structure is of type {type(source).__name__}; give a name, a file or ase.Atoms")
    name = source.get_chemical_formula(empirical=True)
    return _fill(checked_structure(source, name), name, extent, area, shape)


def _fill(cell: Atoms, name: str, extent: tuple[float, float], area: tuple[float, float], shape: _Shape) -> Atoms:
    if shape.twist is not None:
        raise ConfigError(f"{name}: a twist is known for built-in sheets only; leave it out")
    # a slab or a molecule is seen along z, as it is; a crystal along its own third axis
    if cell.pbc.all() or shape.zone_axis is not None:
        cell = align_zone_axis(cell, shape.zone_axis or (0, 0, 1))
    return _labelled(fill_supercell([cell], extent, area, shape.thickness), name)


def _labelled(atoms: Atoms, host: str) -> Atoms:
    atoms.set_array("labels", np.full(len(atoms), host, dtype="U32"))
    return atoms


def _numbers(
    atoms: Atoms, area: tuple[float, float], defects: Mapping[str, int], concentrations: Mapping[str, float]
) -> dict[str, int]:
    """How many of each kind, in the order in which the kinds are listed."""
    asked = sorted({*defects, *concentrations} - DEFECTS.keys())
    for kind in asked:
        if not is_rule(kind):
            raise ConfigError(f"unknown defect '{kind}'; known are {', '.join(DEFECTS)}, and by rule: {RULES}")
    n_sites = len(atoms) / float(atoms.cell[0, 0] * atoms.cell[1, 1]) * area[0] * area[1]
    counts = {
        kind: int(defects.get(kind, 0)) + round(concentrations.get(kind, 0) * n_sites) for kind in [*DEFECTS, *asked]
    }
    for kind, share in concentrations.items():
        if share > 0 and round(share * n_sites) == 0:
            raise ConfigError(
                f"{share} of the {n_sites:.0f} sites of the scan is less than one {kind}; raise it, or scan more"
            )
    return {kind: n for kind, n in counts.items() if n}


def _fits(kind: str, atoms: Atoms, size: tuple[float, float]) -> Sequence[_Placement]:
    """Every way in which a defect fits into the host."""
    return placements(kind, size) if kind in DEFECTS else rule_placements(kind, atoms)


def _in_the_middle(kind: str, atoms: Atoms, size: tuple[float, float], area: tuple[float, float]) -> _Placement:
    """As stored, or as the rule has it first, as near to the middle of the area as the lattice lets it."""
    fits = _fits(kind, atoms, size)
    least = min(p.angle for p in fits)
    upright = [p for p in fits if p.angle < least + 0.01 and not p.mirrored]
    middle = np.array([area[1], area[0]]) / 2
    distances = np.array([np.linalg.norm(p.centre - middle) for p in upright])
    return upright[int(np.argmin(distances.round(6)))]


def _at_random(
    placed: list[_Placement],
    fitting: Mapping[str, Sequence[_Placement]],
    counts: Mapping[str, int],
    size: tuple[float, float],
    area: tuple[float, float],
    separation: float,
    margin: float,
    seed: int,
) -> list[_Placement]:
    """Fill in defects one by one, each anywhere that the others leave free; start again where there is no room."""
    free: dict[str, tuple[list[_Placement], NDArray[np.float64]]] = {}
    for kind in counts:
        fits = fitting[kind]
        centres = np.array([p.centre for p in fits])
        inside = np.all((centres >= margin) & (centres <= np.array([area[1], area[0]]) - margin), axis=1)
        free[kind] = [p for p, is_in in zip(fits, inside, strict=True) if is_in], centres[inside]
    # Its own stream, so that places, displacements and dose can be changed independently under one seed.
    rng = np.random.default_rng([seed, 2])
    order = [kind for kind, n in counts.items() for _ in range(n)]
    for _ in range(_TRIES):
        placed_so_far = list(placed)
        for kind in rng.permutation(order).tolist():
            choosable, centres = free[kind]
            apart = np.ones(len(choosable), bool)
            for other in placed_so_far:
                across = centres - other.centre
                across -= np.multiply(size, np.round(across / size))
                apart &= np.linalg.norm(across, axis=1) >= separation
            choices = np.flatnonzero(apart)
            if not len(choices):
                break
            placed_so_far.append(choosable[int(choices[rng.integers(len(choices))])])
        else:
            return placed_so_far
    listed = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    raise ConfigError(
        f"{listed}: no room in {area[0]:.4g} x {area[1]:.4g} Å for that many, {separation:g} Å from one another and "
        f"{margin:g} Å from the edge; ask for fewer, or scan more"
    )


def _replace(atoms: Atoms, placed: Sequence[_Placement]) -> None:
    """Put defects into the sheet, in place."""
    size = atoms.cell.lengths()[:2]
    sites = atoms.positions[:, :2] % size
    tree = cKDTree(np.where(sites >= size, 0, sites), boxsize=size)
    atoms.info.pop("n_cells", None)  # its cells are no longer alike
    shift, removed = np.zeros_like(atoms.positions), []
    numbers, labels = atoms.numbers.copy(), atoms.get_array("labels")
    by_rule = [placement for placement in placed if isinstance(placement, RulePlacement)]
    for placement in placed:
        if isinstance(placement, RulePlacement):
            continue
        patch = load_patch(placement.kind)
        index = tree.query(placement.map(patch.sites) % size)[1]
        shift[index] += patch.displacements @ placement.matrix.T
        changed = tree.query(placement.map(patch.changed) % size)[1]
        is_kept = np.isin(changed, index)
        removed += changed[~is_kept].tolist()
        foreign = np.isin(index, changed)
        numbers[index[foreign]] = patch.numbers[foreign]
        labels[changed] = placement.kind
        if not is_kept.any():
            for at in changed:
                labels[tree.query(tree.data[at], 4)[1]] = placement.kind
    emptied, added = change_atoms(atoms, by_rule, numbers, labels)
    atoms.positions += shift
    atoms.numbers = numbers
    atoms.set_array("labels", labels)
    del atoms[sorted({*removed, *emptied})]
    for number, position, label in added:
        atoms.append(number)
        atoms.positions[-1] = position
        atoms.arrays["labels"][-1] = label


def _truth(placed: Sequence[_Placement]) -> ScanDefects:
    def yx(points: Iterator[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.concatenate([np.zeros((0, 2)), *points])[:, ::-1].copy()

    sites = [p.sites if isinstance(p, RulePlacement) else p.map(load_patch(p.kind).changed) for p in placed]
    return ScanDefects(
        kinds=tuple(p.kind for p in placed),
        positions=yx(p.centre[None] for p in placed),
        angles=np.array([p.angle for p in placed], float),
        mirrored=np.array([p.mirrored for p in placed], bool),
        sites=yx(iter(sites)),
        owners=np.repeat(np.arange(len(placed)), [len(s) for s in sites]).astype(np.int64),
    )
