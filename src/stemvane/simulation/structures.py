"""Perfect sheets as ASE Atoms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stemvane.errors import ConfigError
from stemvane.extras import require_package
from stemvane.specimens import LATTICE_CONSTANT

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["EXTRA", "SHEETS", "SIMULATING", "boron_nitride", "graphene", "molybdenum_disulphide"]

SIMULATING, EXTRA = "a simulated specimen", "stemvane[simulate]"
"""What abTEM and ASE are needed for, and how they are installed."""


def graphene(
    extent: tuple[float, float] = (46.0, 46.0), *, lattice_constant: float = LATTICE_CONSTANT, vacuum: float = 6.0
) -> Atoms:
    """Build a flat sheet of graphene in an orthogonal, periodic supercell.

    The zigzag rows run along x. A hexagon's centre lies on the corner of the cell, so the sheet is mapped onto
    itself by a rotation of 60° about the origin.

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
    >>> from stemvane.simulation.structures import graphene
    >>> len(graphene())
    836
    """
    return _honeycomb("graphene", "C4", extent, lattice_constant, vacuum)


def boron_nitride(
    extent: tuple[float, float] = (46.0, 46.0), *, lattice_constant: float = 2.504, vacuum: float = 6.0
) -> Atoms:
    """Build a flat sheet of hexagonal boron nitride, laid out as `graphene` is.

    Parameters
    ----------
    extent : tuple of float
        Smallest size ``(y, x)`` of the supercell in Å.
    lattice_constant : float
        Length of the lattice vectors in Å (2.504 Å: Paszkowicz and others, Appl. Phys. A 75, 431 (2002)).
    vacuum : float
        Empty space in Å on either side of the sheet, along the beam.

    Returns
    -------
    ase.Atoms
        Positions ``(x, y, z)`` in Å; a boron atom is below the hexagon on the corner of the cell.

    Raises
    ------
    ConfigError
        If a length is not positive and finite.
    """
    return _honeycomb("h-BN", "BN2B", extent, lattice_constant, vacuum)


def molybdenum_disulphide(
    extent: tuple[float, float] = (46.0, 46.0),
    *,
    lattice_constant: float = 3.160,
    thickness: float = 3.172,
    vacuum: float = 6.0,
) -> Atoms:
    """Build a layer of 2H-MoS2: a honeycomb of molybdenum and pairs of sulphur atoms above one another.

    Parameters
    ----------
    extent : tuple of float
        Smallest size ``(y, x)`` of the supercell in Å.
    lattice_constant, thickness : float
        Length of the lattice vectors, and distance between the two sulphur planes, in Å (Schönfeld, Huang and Moss,
        Acta Cryst. B 39, 404 (1983)); molybdenum and sulphur are 2.42 Å apart.
    vacuum : float
        Empty space in Å on either side of the layer, along the beam.

    Returns
    -------
    ase.Atoms
        Positions ``(x, y, z)`` in Å, as in `boron_nitride` with molybdenum in place of boron.

    Raises
    ------
    ConfigError
        If a length is not positive and finite.
    """
    if not 0 < thickness < math.inf:
        raise ConfigError(f"MoS2: thickness is {thickness}; give a positive length in Å")
    layer = _honeycomb("MoS2", "MoS2Mo", extent, lattice_constant, vacuum + thickness / 2)
    upper = layer[layer.symbols == "S"]
    layer.positions[layer.symbols == "S", 2] -= thickness / 2
    upper.positions[:, 2] += thickness / 2
    layer += upper
    return layer


SHEETS = {"graphene": graphene, "h-BN": boron_nitride, "MoS2": molybdenum_disulphide}
"""What builds each perfect sheet, by the sheet's name."""


def _honeycomb(name: str, symbols: str, extent: tuple[float, float], lattice_constant: float, vacuum: float) -> Atoms:
    """One plane of atoms; the symbols of a cell's four atoms, of which the first and the last are alike."""
    with require_package(SIMULATING, EXTRA):
        from ase import Atoms

    if not all(0 < v < math.inf for v in (*extent, lattice_constant, vacuum)):
        raise ConfigError(
            f"{name}: extent is {extent}, lattice_constant {lattice_constant}, vacuum {vacuum}; "
            "give positive lengths in Å"
        )
    bond = lattice_constant / math.sqrt(3)
    width, height = lattice_constant, 3 * bond
    cell = Atoms(
        symbols,
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
