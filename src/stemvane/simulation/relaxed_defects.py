"""Relaxed defects of graphene, and where in the lattice they fit."""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemvane.extras import require_package
from stemvane.simulation.structures import EXTRA, SIMULATING
from stemvane.specimens import DEFECTS, LATTICE_CONSTANT

__all__ = ["Patch", "Placement", "fade", "load_patch", "placements", "read_geometry"]

Floats = NDArray[np.float64]

_WHOLE, _NOTHING = 6.0, 10.0
"""Distances (Å) from a defect's centre up to which it is as relaxed, and from which on the lattice is perfect."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A relaxed defect as changes of the lattice; everything (x, y) in Å from its centre, y downwards.

    Parameters
    ----------
    numbers : ndarray of int, shape (n,)
        Atomic numbers.
    sites : ndarray of float, shape (n, 2)
        Lattice site of each atom, also of the substituted and rotated ones.
    displacements : ndarray of float, shape (n, 3)
        Vectors from the site to the relaxed atom, fading to nothing far from the centre.
    changed : ndarray of float, shape (m, 2)
        Sites that are substituted, removed or rotated.
    hexagon : ndarray of float, shape (2,)
        A hexagon's centre.
    """

    numbers: NDArray[np.int64]
    sites: Floats
    displacements: Floats
    changed: Floats
    hexagon: Floats


class Placement(NamedTuple):
    """A patch in a sheet: turned over or not, rotated by multiples of 60°, its hexagon on one (x, y) of the sheet."""

    kind: str
    n_sixths: int
    mirrored: bool
    hexagon: tuple[float, float]

    @property
    def angle(self) -> float:
        """The rotation in rad."""
        return math.radians(60.0 * self.n_sixths)

    @property
    def matrix(self) -> Floats:
        """Matrix from (x, y, z) in the patch to (x, y, z) in the sheet; y grows downwards."""
        cos, sin = math.cos(self.n_sixths * math.pi / 3), math.sin(self.n_sixths * math.pi / 3)
        over = -1.0 if self.mirrored else 1.0
        return np.array([[cos, sin * over, 0], [-sin, cos * over, 0], [0, 0, over]])

    def map(self, points: Floats) -> Floats:
        """Points (x, y) of the patch, shape (n, 2), in the sheet."""
        placed: Floats = (points - load_patch(self.kind).hexagon) @ self.matrix[:2, :2].T + self.hexagon
        return placed

    @property
    def centre(self) -> Floats:
        """The defect's centre (x, y) in the sheet."""
        return np.asarray(self.map(np.zeros((1, 2)))[0])


@functools.cache
def load_patch(kind: str) -> Patch:
    """Read a relaxed geometry and fade it out.

    Parameters
    ----------
    kind : str
        Kind of the defect, one of `DEFECTS`.

    Returns
    -------
    Patch
    """
    atoms = read_geometry(kind)
    sites = atoms.get_array("site")
    distance = np.linalg.norm(sites, axis=1)
    share = fade(distance, _WHOLE, _NOTHING)
    near = share > 0
    shift = (atoms.positions - np.pad(sites, ((0, 0), (0, 1)))) * share[:, None]
    changed, hexagon = np.array(atoms.info["sites"], np.float64), np.array(atoms.info["hexagon"], np.float64)
    return Patch(atoms.numbers[near].astype(np.int64), sites[near], shift[near], changed, hexagon)


def fade(distance: Floats, full_until: float, nothing: float) -> Floats:
    """Share of a relaxation that is kept at a distance: 1 up to `full_until`, 0 from `nothing` on, smooth between."""
    share: Floats = np.cos(math.pi / 2 * np.clip((distance - full_until) / (nothing - full_until), 0, 1)) ** 2
    return share


def read_geometry(name: str) -> Any:
    """Read a relaxed geometry as ``ase.Atoms``; its array ``site`` holds ideal positions (x, y) in Å."""
    with require_package(SIMULATING, EXTRA):
        from ase.io import read

    text = resources.files("stemvane.simulation").joinpath(f"geometries/{name}.xyz").read_text(encoding="utf-8")
    return read(io.StringIO(text), format="extxyz")


def placements(kind: str, size: tuple[float, float]) -> list[Placement]:
    """Every way in which a defect fits into a periodic sheet of graphene.

    Parameters
    ----------
    kind : str
        Kind of the defect, one of `DEFECTS`.
    size : tuple of float
        Length of the sheet's cell (x, y) in Å: whole cells of graphene with a hexagon on its corner.

    Returns
    -------
    list of Placement
        Placements with centres in the cell.
    """
    specimen = DEFECTS[kind]
    width, height = LATTICE_CONSTANT, math.sqrt(3) * LATTICE_CONSTANT
    corners = [
        ((i + shift) * width, (j + shift) * height)
        for j in range(round(size[1] / height))
        for i in range(round(size[0] / width))
        for shift in (0.0, 0.5)
    ]
    over = (False, True) if specimen.two_sided else (False,)
    candidates = [
        Placement(kind, n_sixths, side, at) for at in corners for n_sixths in specimen.rotations for side in over
    ]
    return [p._replace(hexagon=_inside(p, size)) for p in candidates]


def _inside(placement: Placement, size: tuple[float, float]) -> tuple[float, float]:
    """The hexagon or that image of it with which the defect's centre lies in the cell."""
    cells = np.floor(placement.centre / size + 1e-9)
    x, y = placement.hexagon - cells * size
    return float(x), float(y)
