"""Sheets of graphene that end in the middle of the scan."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemvane.simulation.relaxed_defects import fade, read_geometry
from stemvane.simulation.structures import graphene
from stemvane.specimens import EDGES, LATTICE_CONSTANT

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["graphene_edge"]

_GAP = 15.0
"""Empty space (Å) before the scan, and sheet behind it: what a probe in the scan can see."""
_WHOLE, _NOTHING = 3.0, 5.5
"""Depths (Å) up to which the relaxation is kept, and from which on the sheet is perfect."""


def graphene_edge(
    kind: str, extent: tuple[float, float] = (46.0, 46.0), scan_extent: tuple[float, float] | None = None
) -> Atoms:
    """Build graphene that ends in the middle of the scan, at an edge of bare carbon atoms.

    Parameters
    ----------
    kind : str
        ``"zigzag"``: the edge runs along x, with the sheet below it. ``"armchair"``: it runs along y, with the sheet to
        its right.
    extent : tuple of float
        Smallest size ``(y, x)`` of the supercell in Å; it is made larger where the sheet's other end would come near
        the scan.
    scan_extent : tuple of float, optional
        Size ``(y, x)`` of the scan in Å; the extent less 30 Å across the edge where it is left out.

    Returns
    -------
    ase.Atoms
        Positions ``(x, y, z)`` in Å; the array ``labels`` is `kind` for the outermost row, ``"graphene"`` for the rest.
    """
    axis = {"zigzag": 1, "armchair": 0}[kind]  # across the edge, in the order (x, y, z) of ASE
    room = list(extent)
    scan = scan_extent or tuple(e - 2 * _GAP * (axis == 1 - i) for i, e in enumerate(extent))
    room[1 - axis] = max(extent[1 - axis], scan[1 - axis] + 2 * _GAP)
    endless = graphene((room[0], room[1]))
    bond = LATTICE_CONSTANT / math.sqrt(3)
    first, step = (bond / 2, 1.5 * bond) if kind == "zigzag" else (0.0, LATTICE_CONSTANT / 2)
    line = first + step * round((scan[1 - axis] / 2 - first) / step)
    across = endless.positions[:, axis]
    remains = (across > line - 1e-6) & (across < endless.cell[axis, axis] - _GAP)
    sheet: Atoms = endless[remains]
    depth = sheet.positions[:, axis] - line
    outermost = depth < 1e-6
    sheet.positions += _displacements(kind, depth, sheet.positions[:, 1 - axis], outermost, axis)
    sheet.set_array("labels", np.where(outermost, kind, "graphene").astype("U16"))
    return sheet


def _displacements(
    kind: str, depth: NDArray[np.float64], along: NDArray[np.float64], outermost: NDArray[np.bool_], axis: int
) -> NDArray[np.float64]:
    """Shifts (x, y, z) of atoms at these depths, and positions along the edge."""
    stored = _edge_geometry(kind)
    period = float(stored.cell[1 - axis, 1 - axis])
    sites = stored.get_array("site")
    # the origin of the stored geometry is an outermost atom: the first one along the edge in each period
    edge = np.sort(along[outermost])
    origin = edge[0] if kind == "zigzag" or edge[1] - edge[0] < 0.5 * period else edge[1]
    gap_along = (along[:, None] - origin - sites[:, 1 - axis] + period / 2) % period - period / 2
    gap = np.hypot(depth[:, None] - sites[:, axis], gap_along)
    nearest = gap.argmin(axis=1)
    share = fade(depth, _WHOLE, _NOTHING)
    share[gap.min(axis=1) > 0.1] = 0
    shifts = stored.positions - np.pad(sites, ((0, 0), (0, 1)))
    return np.asarray(shifts[nearest] * share[:, None])


@functools.cache
def _edge_geometry(kind: str) -> Any:
    return read_geometry(EDGES[kind].geometry)
