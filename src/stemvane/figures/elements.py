"""How atoms of each element are drawn: symbol, covalent radius and colour."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Element", "element"]


class Element(NamedTuple):
    """How atoms of one element are drawn.

    Attributes
    ----------
    symbol : str
        Chemical symbol, or ``Z = 92`` where neither the table below nor ASE knows the element.
    radius : float
        Covalent radius in Å.
    color : tuple of float
        Red, green and blue, from 0 to 1.
    """

    symbol: str
    radius: float
    color: tuple[float, float, float]


# covalent radii of Cordero et al., Dalton Trans. 2832 (2008), and the colours of Jmol, both as ASE has them: figures of
# the usual specimens need no ASE
_TABLE = {
    1: Element("H", 0.31, (1.0, 1.0, 1.0)),
    5: Element("B", 0.84, (1.0, 0.71, 0.71)),
    6: Element("C", 0.76, (0.565, 0.565, 0.565)),
    7: Element("N", 0.71, (0.188, 0.314, 0.973)),
    8: Element("O", 0.66, (1.0, 0.051, 0.051)),
    13: Element("Al", 1.21, (0.749, 0.651, 0.651)),
    14: Element("Si", 1.11, (0.941, 0.784, 0.627)),
    15: Element("P", 1.07, (1.0, 0.502, 0.0)),
    16: Element("S", 1.05, (1.0, 1.0, 0.188)),
    22: Element("Ti", 1.6, (0.749, 0.761, 0.78)),
    26: Element("Fe", 1.32, (0.878, 0.4, 0.2)),
    34: Element("Se", 1.2, (1.0, 0.631, 0.0)),
    38: Element("Sr", 1.95, (0.0, 1.0, 0.0)),
    42: Element("Mo", 1.54, (0.329, 0.71, 0.71)),
    74: Element("W", 1.62, (0.129, 0.58, 0.839)),
    79: Element("Au", 1.36, (1.0, 0.82, 0.137)),
}
_UNKNOWN_RADIUS, _UNKNOWN_COLOR = 1.4, (0.75, 0.75, 0.75)


def element(number: int) -> Element:
    """How atoms of an atomic number are drawn; grey where the element is not in the table and ASE is not installed."""
    if number in _TABLE:
        return _TABLE[number]
    try:
        from ase.data import chemical_symbols, covalent_radii
        from ase.data.colors import jmol_colors
    except ImportError:
        return Element(f"Z = {number}", _UNKNOWN_RADIUS, _UNKNOWN_COLOR)
    red, green, blue = (float(part) for part in jmol_colors[number])
    return Element(chemical_symbols[number], float(covalent_radii[number]), (red, green, blue))
