"""Perfect sheets and unit cells of crystals as ASE Atoms."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from stemvane.errors import ConfigError
from stemvane.extras import require_package
from stemvane.specimens import LATTICE_CONSTANT

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    "CRYSTALS",
    "EXTRA",
    "LAYER_SPACINGS",
    "SHEETS",
    "SIMULATING",
    "boron_nitride",
    "crystal",
    "dichalcogenide",
    "graphene",
]

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


def dichalcogenide(formula: str, extent: tuple[float, float] = (46.0, 46.0), *, vacuum: float = 6.0) -> Atoms:
    """Build a layer of a 2H dichalcogenide: a honeycomb of metal and of pairs of chalcogen atoms above one another.

    Parameters
    ----------
    formula : str
        ``"MoS2"``, ``"MoSe2"`` or ``"WS2"``.
    extent : tuple of float
        Smallest size ``(y, x)`` of the supercell in Å.
    vacuum : float
        Empty space in Å on either side of the layer, along the beam.

    Returns
    -------
    ase.Atoms
        Positions ``(x, y, z)`` in Å, as in `boron_nitride` with the metal in place of boron. Lattice constant and
        distance between the two chalcogen planes are those of the crystal: MoS2 3.160 and 3.172 Å (Schönfeld, Huang and
        Moss, Acta Cryst. B 39, 404 (1983)), MoSe2 3.289 and 3.335 Å (Bronsema, de Boer and Jellinek, Z. Anorg. Allg.
        Chem. 540, 15 (1986)), WS2 3.153 and 3.142 Å (Schutte, de Boer and Jellinek, J. Solid State Chem. 70, 207
        (1987)).

    Raises
    ------
    ConfigError
        If the formula is unknown, or a length is not positive and finite.
    """
    if formula not in _DICHALCOGENIDES:
        raise ConfigError(f"unknown dichalcogenide '{formula}'; known are {', '.join(_DICHALCOGENIDES)}")
    lattice_constant, thickness = _DICHALCOGENIDES[formula]
    metal, chalcogen = formula[:-1].removesuffix("Se").removesuffix("S"), "Se" if "Se" in formula else "S"
    layer = _honeycomb(formula, f"{metal}{chalcogen}2{metal}", extent, lattice_constant, vacuum + thickness / 2)
    cell = layer[: len(layer) // math.prod(layer.info["n_cells"])]
    upper = cell[cell.symbols == chalcogen]
    cell.positions[cell.symbols == chalcogen, 2] -= thickness / 2
    upper.positions[:, 2] += thickness / 2
    n_y, n_x = layer.info["n_cells"]
    cell = cell + upper
    cell.set_cell(layer.cell.lengths() / [n_x, n_y, 1])
    return _repeated(cell, n_y, n_x)


_DICHALCOGENIDES = {"MoS2": (3.160, 3.172), "MoSe2": (3.289, 3.335), "WS2": (3.1532, 3.142)}

SHEETS: dict[str, Callable[[tuple[float, float]], Atoms]] = {
    "graphene": graphene,
    "h-BN": boron_nitride,
    **{formula: functools.partial(dichalcogenide, formula) for formula in _DICHALCOGENIDES},
}
"""What builds each perfect sheet, by the sheet's name."""

LAYER_SPACINGS = {"graphene": 3.354, "h-BN": 3.330, "MoS2": 6.147, "MoSe2": 6.464, "WS2": 6.162}
"""Distance in Å between the layers of each sheet's crystal, half of its period, from the papers of the sheets."""

_ZINC_BLENDE = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_PEROVSKITE = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))
_CRYSTALS = {"GaAs": 5.6533, "ZnS": 5.4093, "SrTiO3": 3.905}

CRYSTALS = tuple(_CRYSTALS)
"""Names of the crystals that `crystal` builds."""


def crystal(name: str) -> Atoms:
    """Build the cubic unit cell of a crystal.

    Parameters
    ----------
    name : str
        ``"GaAs"``, 5.6533 Å (Blakemore, J. Appl. Phys. 53, R123 (1982)), ``"ZnS"``, zinc blende, 5.4093 Å (Skinner, Am.
        Mineral. 46, 1399 (1961)), or ``"SrTiO3"``, 3.905 Å (Okazaki and Kawaminami, Mater. Res. Bull. 8, 545 (1973)).

    Returns
    -------
    ase.Atoms
        The cation, or strontium, lies on the corner of the cell.

    Raises
    ------
    ConfigError
        If the name is unknown.
    """
    with require_package(SIMULATING, EXTRA):
        from ase import Atoms

    if name not in _CRYSTALS:
        raise ConfigError(f"unknown crystal '{name}'; known are {', '.join(_CRYSTALS)}")
    a = _CRYSTALS[name]
    if name == "SrTiO3":
        return Atoms("SrTiO3", scaled_positions=_PEROVSKITE, cell=[a] * 3, pbc=True)
    anions = [tuple(x + 0.25 for x in at) for at in _ZINC_BLENDE]
    symbols = {"GaAs": "Ga4As4", "ZnS": "Zn4S4"}[name]
    return Atoms(symbols, scaled_positions=[*_ZINC_BLENDE, *anions], cell=[a] * 3, pbc=True)


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
    return _repeated(cell, math.ceil(extent[0] / height), math.ceil(extent[1] / width))


def _repeated(cell: Atoms, n_y: int, n_x: int) -> Atoms:
    """A supercell that says of how many cells it is made."""
    sheet: Atoms = cell.repeat((n_x, n_y, 1))
    sheet.info["n_cells"] = (n_y, n_x)
    return sheet
