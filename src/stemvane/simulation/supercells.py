"""Supercells: a unit cell, or a few atoms, repeated until they fill what the probe of a scan can see."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stemvane.errors import ConfigError
from stemvane.extras import require_package
from stemvane.simulation.structures import EXTRA, SIMULATING

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["SEAM", "align_zone_axis", "fill_supercell", "shortest_vectors", "twist_layers"]

Floats = NDArray[np.float64]

SEAM = 15.0
"""Å between the scan and where a supercell ends that is no whole number of the crystal's periods."""
_VACUUM = 6.0
# 1e-3 of its length by which a lattice vector may miss the axis that it is a period along; the lattice constants of
# files are rarely better
_OFF_AXIS = 1e-3
# 0.01 Å: two places nearer than this are one
_SAME_PLACE = 0.01
# lattice vectors are looked for within so many cells along each axis
_FARTHEST_CELL = 6


def align_zone_axis(atoms: Atoms, zone_axis: tuple[int, int, int]) -> Atoms:
    """Rotate a crystal until a direction of its lattice is along the beam.

    Parameters
    ----------
    atoms : ase.Atoms
        Unit cell of a crystal that is periodic along all three axes.
    zone_axis : tuple of int
        Indices ``[u v w]`` of the direction in the cell of `atoms`.

    Returns
    -------
    ase.Atoms
        The same cell with the direction along z and, for another axis than [0 0 1], the shortest lattice vector across
        it along x.

    Raises
    ------
    ConfigError
        If the direction is none, or the atoms are no crystal.
    """
    if not np.any(zone_axis):
        raise ConfigError("zone_axis is [0 0 0], which is no direction; give one such as [1 1 0]")
    if not atoms.pbc.all():
        raise ConfigError(
            "zone_axis is for crystals, periodic along all three axes; leave it out for what is not, which is seen "
            "along z"
        )
    beam = np.asarray(zone_axis) @ atoms.cell.array
    beam = beam / np.linalg.norm(beam)
    vectors = _lattice_vectors(atoms)
    lengths = np.linalg.norm(vectors, axis=1)
    across = vectors[np.abs(vectors @ beam) < _OFF_AXIS * lengths]
    if tuple(zone_axis) == (0, 0, 1) or not len(across):
        # the first cell vector stays along x as nearly as the beam's direction lets it
        first = atoms.cell.array[0] - (atoms.cell.array[0] @ beam) * beam
    else:
        first = across[np.linalg.norm(across, axis=1).argmin()]
    x = first / np.linalg.norm(first)
    rotation = np.array([x, np.cross(beam, x), beam])
    rotated: Atoms = atoms.copy()
    rotated.set_cell(atoms.cell.array @ rotation.T)
    rotated.positions = atoms.positions @ rotation.T
    return rotated


def fill_supercell(
    parts: Sequence[Atoms],
    extent: tuple[float, float],
    scan_extent: tuple[float, float],
    thickness: float | None = None,
) -> Atoms:
    """Repeat a unit cell, or one of each layer, until they fill a supercell about the scan.

    Along an axis in which all parts have the same period the supercell is a whole number of periods. Along another it
    is cut `SEAM` away from the scan, where its periodic images do not continue one another. What is not periodic, such
    as a molecule, is put into the middle of the scan.

    Parameters
    ----------
    parts : sequence of ase.Atoms
        Unit cells, with the beam along z; ``pbc`` says along which of its vectors each is repeated.
    extent : tuple of float
        Smallest size ``(y, x)`` of the supercell in Å.
    scan_extent : tuple of float
        Size ``(y, x)`` of the scan in Å, which begins at the supercell's corner.
    thickness : float, optional
        Thickness in Å, rounded to whole periods along the beam; one period where it is left out.

    Returns
    -------
    ase.Atoms
        Positions ``(x, y, z)`` in Å in an orthogonal cell. ``info["n_cells"]`` holds the numbers of equal cells
        ``(y, x)``, the first of which comes first, where there are several.

    Raises
    ------
    ConfigError
        If there is no period along the beam where one is needed.
    """
    with require_package(SIMULATING, EXTRA):
        from ase import Atoms

    vectors = [_lattice_vectors(part) for part in parts]
    slabs = [_slab(part, found, thickness) for part, found in zip(parts, vectors, strict=True)]
    n_cells, size = [1, 1], [0.0, 0.0]
    for i, axis in enumerate((1, 0)):
        period = _common_period(vectors, axis)
        n_cells[i] = 0 if period is None else math.ceil(extent[i] / period - 1e-9)
        size[i] = max(extent[i], scan_extent[i] + 2 * SEAM) if period is None else n_cells[i] * period
    # a cell to be repeated has periods along both axes
    n_y, n_x = n_cells if all(n_cells) else (1, 1)
    filled = Atoms(cell=[size[1] / n_x, size[0] / n_y, 0], pbc=True)
    for part, (low, depth) in zip(parts, slabs, strict=True):
        box = np.array([size[1] / n_x, size[0] / n_y, depth])
        corner = np.array([0, 0, low])
        if not part.pbc[:2].any():
            # its middle to that of the scan
            ends = part.positions[:, :2].min(axis=0), part.positions[:, :2].max(axis=0)
            corner[:2] = (ends[0] + ends[1]) / 2 - np.array(scan_extent[::-1]) / 2
            box[:2] = np.maximum(box[:2], ends[1] - ends[0] + 2 * SEAM)
            filled.set_cell([*box[:2], 0])
        filled += _within(part, corner, box)
    filled.positions[:, 2] += _VACUUM - filled.positions[:, 2].min()
    filled.cell[2, 2] = filled.positions[:, 2].max() + _VACUUM
    supercell: Atoms = filled.repeat((n_x, n_y, 1))
    if n_x * n_y > 1:
        supercell.info["n_cells"] = (n_y, n_x)
    return supercell


def twist_layers(sheet: Atoms, twist: float, spacing: float, scan_extent: tuple[float, float]) -> list[Atoms]:
    """Two layers of a sheet, the second above the first and rotated.

    Parameters
    ----------
    sheet : ase.Atoms
        Orthogonal cell of one layer with a hexagon's centre on its corner and in its middle.
    twist : float
        Angle in degrees by which the second layer is rotated against the first, counter-clockwise on the screen, about
        the hexagon nearest to the middle of the scan; at 0 its atoms lie on those of the first.
    spacing : float
        Distance between the middles of the layers in Å.
    scan_extent : tuple of float
        Size ``(y, x)`` of the scan in Å.

    Returns
    -------
    list of ase.Atoms
        Cells of the two layers, for `fill_supercell`.
    """
    cell = sheet.cell.lengths() * [1, 1, 0]
    middle = np.array([scan_extent[1], scan_extent[0], 0]) / 2
    corner = np.round(middle[:2] / cell[:2]) * cell[:2]
    centre = np.append(corner, 0)
    angle = math.radians(twist)
    # y grows downwards, so counter-clockwise on the screen takes x to -y
    rotation = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    layers = []
    for matrix, height in ((np.eye(3), 0.0), (rotation, spacing)):
        layer = sheet.copy()
        layer.set_cell(sheet.cell.array @ matrix)
        layer.positions = (sheet.positions - centre) @ matrix + centre + [0, 0, height]
        layer.pbc = (True, True, False)
        layers.append(layer)
    return layers


def shortest_vectors(atoms: Atoms) -> Floats | None:
    """The shortest two lattice vectors across the beam.

    Parameters
    ----------
    atoms : ase.Atoms
        A cell with the beam along z.

    Returns
    -------
    ndarray of float, shape (2, 2), or None
        ``(x, y)`` in Å, in rows; None where there are no two.
    """
    vectors = _lattice_vectors(atoms)
    across = vectors[np.abs(vectors[:, 2]) < _SAME_PLACE][:, :2]
    if not len(across):
        return None
    across = across[np.argsort(np.linalg.norm(across, axis=1).round(6), kind="stable")]
    first = across[0]
    area = np.abs(across[:, 0] * first[1] - across[:, 1] * first[0])
    others = across[area > _OFF_AXIS * np.linalg.norm(across, axis=1) * np.linalg.norm(first)]
    return np.array([first, others[0]]) if len(others) else None


def _lattice_vectors(atoms: Atoms) -> Floats:
    """Translations that map the crystal onto itself, within some cells; those of centred cells included."""
    counts = [range(-_FARTHEST_CELL, _FARTHEST_CELL + 1) if along else range(1) for along in atoms.pbc]
    whole = np.array(list(itertools.product(*counts)), float)
    vectors: Floats = np.concatenate([whole + shift for shift in _centring(atoms)]) @ atoms.cell.complete().array
    return np.asarray(vectors[np.linalg.norm(vectors, axis=1) > 0.1])


def _centring(atoms: Atoms) -> list[Floats]:
    """Fractions of the cell by which the crystal can be moved onto itself, none among them."""
    at, size = atoms.positions @ np.linalg.inv(atoms.cell.complete().array), float(atoms.cell.lengths().max())
    at[:, atoms.pbc] %= 1.0
    at[:, atoms.pbc] %= 1.0  # the remainder of a tiny negative number is 1
    elements, counts = np.unique(atoms.numbers, return_counts=True)
    trees = {n: cKDTree(at[atoms.numbers == n], boxsize=atoms.pbc.astype(float)) for n in elements}
    rarest = at[atoms.numbers == elements[counts.argmin()]]
    shifts = [np.zeros(3)]
    for shift in rarest[1:] - rarest[0]:
        if np.abs(shift[~atoms.pbc]).sum() * size > _SAME_PLACE:
            continue
        misses = [tree.query(tree.data + shift * atoms.pbc)[0].max() for tree in trees.values()]
        if max(misses) * size < _SAME_PLACE:
            shifts.append(shift)
    return shifts


def _common_period(vectors: Sequence[Floats], axis: int) -> float | None:
    """Length in Å of the shortest lattice vector along an axis, if it is that of all; None where there is none."""
    periods = []
    for of_part in vectors:
        lengths = np.linalg.norm(of_part, axis=1)
        along = lengths[np.abs(of_part[:, axis]) > lengths * math.sqrt(1 - _OFF_AXIS**2)]
        periods.append(float(along.min()) if len(along) else np.inf)
    return periods[0] if np.isfinite(periods[0]) and np.ptp(periods) < _OFF_AXIS * periods[0] else None


def _slab(atoms: Atoms, vectors: Floats, thickness: float | None) -> tuple[float, float]:
    """Where along the beam the specimen begins, and how deep it is: whole periods, cut where they are emptiest."""
    z = atoms.positions[:, 2]
    if not atoms.pbc[2]:
        if thickness is not None:
            raise ConfigError("thickness is for crystals that are periodic along the beam; leave it out")
        return float(z.min()) - 0.5, float(np.ptp(z)) + 1.0
    period = _common_period([vectors], 2)
    if period is None:
        raise ConfigError("the crystal has no period along the beam; give a zone_axis of small whole numbers")
    levels = np.unique(np.round(z % period, 3) % period)
    gaps = np.diff(np.append(levels, levels[0] + period))
    # of gaps as wide as one another the last one, so that a crystal begins with the plane at 0
    widest = len(gaps) - 1 - int(np.argmax(gaps[::-1] > gaps.max() - _SAME_PLACE))
    repeats = 1 if thickness is None else max(1, round(thickness / period))
    return float(levels[widest] + gaps[widest] / 2), repeats * period


def _within(atoms: Atoms, low: Floats, size: Floats) -> Atoms:
    """All images of the atoms in a box, moved to the origin along y and x; those on its far faces are left out."""
    corners = low + np.array(list(itertools.product((0.0, 1.0), repeat=3))) * size
    inverse = np.linalg.inv(atoms.cell.complete().array)
    reach, inside_cell = corners @ inverse, atoms.positions @ inverse
    first = np.floor(reach.min(axis=0) - inside_cell.max(axis=0)).astype(int)
    last = np.ceil(reach.max(axis=0) - inside_cell.min(axis=0)).astype(int)
    counts = [range(a, b + 1) if along else range(1) for a, b, along in zip(first, last, atoms.pbc, strict=True)]
    shifts = np.array(list(itertools.product(*counts))) @ atoms.cell.complete().array - low
    slack, pieces = _SAME_PLACE, []
    for atom in atoms:
        images = shifts + atom.position
        pieces.append(images[np.all((images >= -slack) & (images < size - slack), axis=1)])
    filled: Atoms = atoms[np.repeat(np.arange(len(atoms)), [len(piece) for piece in pieces])]
    filled.positions = np.concatenate(pieces)
    filled.positions[:, 2] += low[2]
    return filled
