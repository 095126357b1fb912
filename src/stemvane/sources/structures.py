"""Specimens as ASE Atoms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stemvane.errors import ConfigError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LATTICE_CONSTANT", "graphene"]

LATTICE_CONSTANT = 2.46
"""Length of graphite's lattice vectors in Å (Baskin and Meyer, Phys. Rev. 100, 544 (1955))."""


def graphene(
    extent: tuple[float, float] = (46.0, 46.0), *, lattice_constant: float = LATTICE_CONSTANT, vacuum: float = 6.0
) -> Atoms:
    """Build a flat sheet of graphene in an orthogonal, periodic supercell.

    The zigzag rows run along x. A hexagon's centre lies on the corner of the cell, so the sheet is mapped onto
    itself by a turn of 60° about the origin.

    Parameters
    ----------
    extent : tuple of float
        Smallest size ``(y, x)`` of the supercell in Å. It is filled with whole cells of ``√3 a`` by ``a``. The
        default gives 11 by 19 cells, 46.87 Å by 46.74 Å, square to 0.3 %.
    lattice_constant : float
        Length ``a`` of the lattice vectors in Å; atoms are ``a/√3`` apart, 1.42 Å for the 2.46 Å of graphite
        (Baskin and Meyer, Phys. Rev. 100, 544 (1955)).
    vacuum : float
        Empty space in Å on either side of the sheet, along the beam.

    Returns
    -------
    ase.Atoms
        Carbon atoms with positions ``(x, y, z)`` in Å, as ASE has them; ``z`` is `vacuum` for all.

    Raises
    ------
    ConfigError
        If a length is not positive and finite.

    Examples
    --------
    >>> from stemvane.sources.structures import graphene
    >>> len(graphene())
    836
    """
    from ase import Atoms

    if not all(0 < v < math.inf for v in (*extent, lattice_constant, vacuum)):
        raise ConfigError(
            f"graphene: extent is {extent}, lattice_constant {lattice_constant}, vacuum {vacuum}; "
            "give positive lengths in Å"
        )
    bond = lattice_constant / math.sqrt(3)
    width, height = lattice_constant, 3 * bond
    cell = Atoms(
        "C4",
        positions=[
            (0, bond, vacuum),
            (0, 2 * bond, vacuum),
            (width / 2, bond / 2, vacuum),
            (width / 2, 5 * bond / 2, vacuum),
        ],
        cell=(width, height, 2 * vacuum),
        pbc=True,
    )
    repeats = (math.ceil(extent[1] / width), math.ceil(extent[0] / height), 1)
    sheet: Atoms = cell.repeat(repeats)
    return sheet
