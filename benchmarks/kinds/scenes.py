"""Fields of several kinds: analytic patterns, sheets side by side, and polycrystals of two phases or two hands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from benchmarks.denoise.scans import Scan, simulated
from benchmarks.grains.scenes import LATTICES, Lattice, _disc, _discs
from stemvane import Dataset4D
from stemvane.data.calibration import Calibration
from stemvane.simulation.synthetic import synthetic_patterns

__all__ = ["FIELDS", "Field", "KindField", "make_field", "polycrystal"]

_Doubles = NDArray[np.float64]
_Drawn = tuple[NDArray[np.float32], NDArray[np.int64], _Doubles | None, tuple[int, ...], Calibration]

_FOLDS = (1, 2, 3)
_PHASES = ((LATTICES["hexagon"], False), (LATTICES["square"], False))
# no rotation brings an oblique lattice onto its mirror image
_OBLIQUE = Lattice(1.25, 72.0, 2)
_HANDS = ((_OBLIQUE, False), (_OBLIQUE, True))
_ACROSS_ANALYTIC, _ACROSS_SHEETS, _ACROSS_PHASES, _ACROSS_HANDS = 40, 48, 32, 24
# Å between probe positions on the sheets; lattice constants of graphite and h-BN, and distance of layers
_STEP, _CARBON, _BORON, _LAYER = 0.4, 2.46, 2.504, 3.35
_SIZE, _BEAM, _N_GRAINS = 96, 3.0, 16
_DIFFUSE, _TILT, _THICKNESS, _SCATTER = 0.05, 0.2, 0.3, 0.1


@dataclass(frozen=True)
class Field:
    """One scan: its name in `FIELDS`, incident electrons per pattern (0: noiseless) and random seed."""

    name: str
    dose: float
    seed: int = 0


@dataclass(frozen=True, eq=False)
class KindField:
    """A scan, the kind of every position, and angle (rad) and symmetry of its content where these are known."""

    dataset: Dataset4D
    kind: NDArray[np.int64]
    angle: _Doubles | None = None
    folds: tuple[int, ...] = ()


def make_field(field: Field) -> KindField:
    """Draw the patterns of a field, and count their electrons."""
    expected, kind, angle, folds, calibration = FIELDS[field.name](field.seed)
    if not field.dose:
        dataset = Dataset4D.from_array(expected, calibration=calibration, noiseless=True, name=field.name)
        return KindField(dataset, kind, angle, folds)
    counts = np.random.default_rng([field.seed, 9]).poisson(np.maximum(expected * field.dose, 0)).astype(np.uint16)
    options = {"calibration": calibration, "electrons_per_pattern": field.dose}
    return KindField(Dataset4D.from_array(counts, name=field.name, **options), kind, angle, folds)


def _regions(n: int, n_kinds: int, n_cells: int, seed: int) -> tuple[_Doubles, NDArray[np.int64]]:
    """Centres of cells of Voronoi in positions, and the kind of each cell."""
    rng = np.random.default_rng([seed, 5])
    return rng.uniform(0, n, (n_cells, 2)), rng.permutation(np.arange(n_cells) % n_kinds)


def _cell_of(places: _Doubles, centres: _Doubles) -> NDArray[np.int64]:
    return np.linalg.norm(places[..., None, :] - centres, axis=-1).argmin(-1)


def _grid(n: int) -> _Doubles:
    return np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1).astype(float)


def _analytic(seed: int) -> _Drawn:
    """Three structures in one disc that differ by their symmetry alone, every position at an angle of its own."""
    n = _ACROSS_ANALYTIC
    centres, kinds = _regions(n, 3, 9, seed)
    kind, rng = kinds[_cell_of(_grid(n), centres)], np.random.default_rng([seed, 7])
    angle, expected = rng.uniform(0, 2 * np.pi, (n, n)), np.empty((n, n, 48, 48), np.float32)
    for k, fold in enumerate(_FOLDS):
        at = kind == k
        content = np.stack([2 / 3 + rng.uniform(-1, 1, (at.sum(), 1)) / 3, rng.uniform(-1, 1, (at.sum(), 1))])
        nothing = np.zeros((0, int(at.sum()), 1))
        expected[at] = synthetic_patterns(angle[at][:, None], content, nothing, (48, 48), symmetry=fold)[:, 0]
    calibration = Calibration(
        scan_step=(0.6, 0.6),
        pixel_size=(2.0, 2.0),
        optical_axis=(23.5, 23.5),
        disc_radius=15.0,
        convergence_semiangle=30.0,
        energy=60e3,
        scan_rotation=0.0,
    )
    return expected, kind, angle, _FOLDS, calibration


def _sheets(seed: int) -> _Drawn:
    """Graphene, its bilayer, vacuum and h-BN in one supercell, so that one probe and one grid see all of them."""
    n = _ACROSS_SHEETS
    centres, kinds = _regions(n, 4, 8, seed)
    extent = n * _STEP

    def build(_: tuple[float, float]) -> Atoms:
        parts = []
        bond = _CARBON / math.sqrt(3)
        for kind, constant, species, shift, height in (
            (0, _CARBON, "CC", 0.0, 0.0),
            (1, _CARBON, "CC", 0.0, 0.0),
            (1, _CARBON, "CC", bond, _LAYER),
            (3, _BORON, "BN", 0.0, 0.0),
        ):
            sites, symbols = _honeycomb(constant, species, extent, shift)
            inside = kinds[_cell_of(sites[:, ::-1] / _STEP, centres)] == kind
            heights = np.full(int(inside.sum()), 1 + height)
            parts.append(Atoms(list(symbols[inside]), positions=np.column_stack([sites[inside], heights])))
        atoms = sum(parts[1:], parts[0])
        atoms.set_cell((extent, extent, 10.0))
        atoms.set_pbc(True)
        return atoms

    settings = {"dose": None, "scan_shape": (n, n), "scan_extent": (extent, extent)}
    dataset = simulated(Scan(settings, build), 0)
    kind = kinds[_cell_of(_grid(n), centres)]
    return np.asarray(dataset.data, np.float32), kind, None, (), dataset.calibration


def _honeycomb(constant: float, species: str, extent: float, shift: float) -> tuple[_Doubles, NDArray[np.str_]]:
    """Sites ``(x, y)`` in Å within a square, and their elements."""
    n = int(extent / constant) + 4
    i, j = (part.ravel() for part in np.meshgrid(np.arange(-2 * n, 2 * n), np.arange(-n, 2 * n)))
    origin = np.column_stack([constant * (i + j / 2), constant * j * math.sqrt(3) / 2 + shift])
    sites = np.concatenate([origin, origin + np.array([0, constant / math.sqrt(3)])])
    symbols = np.repeat(np.array(list(species)), len(origin))
    inside = ((sites >= 0) & (sites < extent)).all(axis=1)
    return sites[inside], symbols[inside]


def _phases(seed: int) -> _Drawn:
    """A polycrystal of a hexagonal and a square phase, whose grains are tilted and of varying thickness."""
    expected, kind, angle, _ = polycrystal(seed, _PHASES, _ACROSS_PHASES)
    return expected, kind, angle, (6, 4), Calibration(scan_step=(20.0, 20.0), energy=200e3)


def _hands(seed: int) -> _Drawn:
    """A polycrystal of an oblique phase, half of whose grains are turned over."""
    expected, kind, angle, _ = polycrystal(seed, _HANDS, _ACROSS_HANDS)
    return expected, kind, angle, (2, 2), Calibration(scan_step=(20.0, 20.0), energy=200e3)


def polycrystal(
    seed: int, kinds: tuple[tuple[Lattice, bool], ...], n: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], _Doubles, _Doubles]:
    """Draw grains of lattices, mirrored or not: expected shares, and each position's kind, angle and thickness."""
    rng = np.random.default_rng([seed, 19])
    centres, _ = _regions(n, 2, _N_GRAINS, seed)
    cell, phase = _cell_of(_grid(n), centres), rng.permutation(np.arange(_N_GRAINS) % len(kinds))
    reach, axis = 0.47 * _SIZE - _BEAM, ((_SIZE - 1) / 2 + 0.3, (_SIZE - 1) / 2 - 0.2)
    rows, columns = np.indices((_SIZE, _SIZE), dtype=float)
    up, right = axis[0] - rows, columns - axis[1]
    direct, diffuse = _disc(up, right, _BEAM), np.exp(-np.hypot(up, right) / (0.15 * _SIZE))
    diffuse *= _DIFFUSE / diffuse.sum()
    expected, angle = np.empty((n, n, _SIZE, _SIZE), np.float32), np.empty((n, n))
    thickness = 1 + _THICKNESS * np.sin(2 * np.pi * (_grid(n) @ rng.normal(size=2)) / n)
    for number in range(_N_GRAINS):
        (lattice, is_mirrored), ring = kinds[phase[number]], reach / 2.02
        discs, share = _discs(lattice, ring, reach)
        orientation = rng.uniform(0, 2 * np.pi / lattice.symmetry)
        # a mirror image is mirrored at angle 0, and then rotated
        placed = discs * (1, -1) if is_mirrored else discs
        rotated = placed @ np.array(
            [[np.cos(orientation), np.sin(orientation)], [-np.sin(orientation), np.cos(orientation)]]
        )
        images = np.array([_disc(up - y, right - x, _BEAM).ravel() for x, y in rotated])
        tilted = share * np.clip(1 + _TILT * (discs @ rng.normal(size=2)) / ring, 0.05, None)
        for y, x in np.argwhere(cell == number):
            scattered = tilted * thickness[y, x] * np.exp(_SCATTER * rng.normal(size=len(discs)))
            pattern = (scattered @ images).reshape(_SIZE, _SIZE) + diffuse
            expected[y, x] = pattern + (1 - pattern.sum()) * direct
            angle[y, x] = orientation
    return expected, phase[cell], angle, thickness


FIELDS = {"analytic": _analytic, "sheets": _sheets, "two phases": _phases, "turned over": _hands}
"""How each field is drawn, from a seed: expected shares, kinds, angles, symmetries and calibration."""
