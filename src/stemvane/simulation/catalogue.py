"""What can be simulated, and how its bonds compare with published ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemvane.simulation.relaxed_defects import read_geometry
from stemvane.simulation.structures import LATTICE_CONSTANT, SHEETS

__all__ = ["CATALOGUE", "TOLERANCE", "Entry", "bond_length"]

TOLERANCE = 0.03
"""How far (Å) a bond may be from the published ones to count as the same."""

_A, _B = LATTICE_CONSTANT, LATTICE_CONSTANT / math.sqrt(3)
_Pair = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Entry:
    """One specimen.

    Parameters
    ----------
    name : str
        As `simulate` takes it.
    geometry : str
        The stored geometry that it is made of; empty where it is a perfect sheet.
    changed : str
        Which atoms differ from the perfect sheet.
    words : str
        What it is.
    bond : str
        Which bond is compared.
    pairs : tuple of pairs of points
        Ideal sites (x, y) in the stored geometry, in Å, between whose atoms the bond is; the mean of several.
    published : tuple of float, optional
        Shortest and longest published length in Å; None where there is none to compare with.
    source : str
        Where these were published.
    """

    name: str
    geometry: str
    changed: str
    words: str
    bond: str
    pairs: tuple[_Pair, ...]
    published: tuple[float, float] | None
    source: str

    @property
    def published_words(self) -> str:
        """The published lengths for a table."""
        if self.published is None:
            return ""
        low, high = self.published
        return f"{low:.4g}" if low == high else f"{low:.2f} to {high:.2f}"

    @property
    def agrees(self) -> bool:
        """Whether the relaxed bond is that of the literature, within `TOLERANCE`, or there is none to compare with."""
        if self.published is None:
            return True
        low, high = self.published
        return low - TOLERANCE <= round(bond_length(self), 3) <= high + TOLERANCE


def bond_length(entry: Entry) -> float:
    """Mean length in Å of the bond that an entry names, from the stored geometry.

    Parameters
    ----------
    entry : Entry
        One of `CATALOGUE`.

    Returns
    -------
    float
    """
    if not entry.geometry:
        distances = SHEETS[entry.name]((8.0, 8.0)).get_all_distances(mic=True)
        return float(distances[distances > 0].min())
    atoms = read_geometry(entry.geometry)
    sites, size = atoms.get_array("site"), atoms.cell.lengths()

    def at(point: tuple[float, float]) -> NDArray[np.float64]:
        gap = sites - np.asarray(point)
        gap -= size[:2] * np.round(gap / size[:2])
        return np.asarray(atoms.positions[np.linalg.norm(gap, axis=1).argmin()])

    vectors = np.array([at(one) - at(other) for one, other in entry.pairs])
    vectors -= size * np.round(vectors / size)
    return float(np.linalg.norm(vectors, axis=1).mean())


_ABOUT_A_SITE: tuple[_Pair, ...] = tuple(((0.0, 0.0), at) for at in ((0.0, _B), (_A / 2, -_B / 2), (-_A / 2, -_B / 2)))
_ZHOU = "Zhou and others, Phys. Rev. Lett. 109, 206803 (2012)"
_RANI = "Rani and Jindal, RSC Adv. 3, 802 (2013); Wang, Maiyalagan and Wang, ACS Catal. 2, 781 (2012)"
_BANHART = "El-Barbary and others, Phys. Rev. B 68, 144107 (2003); Banhart and others, ACS Nano 5, 26 (2011)"

CATALOGUE: tuple[Entry, ...] = (
    Entry(
        "graphene", "", "none", "perfect sheet", "C-C", (), (1.42, 1.42), "Baskin and Meyer, Phys. Rev. 100, 544 (1955)"
    ),
    Entry("graphene-N", "N", "1 C to N", "nitrogen in place of carbon", "N-C", _ABOUT_A_SITE, (1.40, 1.41), _RANI),
    Entry("graphene-B", "B", "1 C to B", "boron in place of carbon", "B-C", _ABOUT_A_SITE, (1.48, 1.49), _RANI),
    Entry(
        "graphene-P",
        "P",
        "1 C to P",
        "phosphorus in place of carbon, above the sheet",
        "P-C",
        _ABOUT_A_SITE,
        (1.76, 1.80),
        "Susi and others, 2D Mater. 4, 021013 (2017)",
    ),
    Entry(
        "graphene-Si-C3",
        "Si-C3",
        "1 C to Si",
        "silicon in place of one carbon, above it",
        "Si-C",
        _ABOUT_A_SITE,
        (1.75, 1.76),
        _ZHOU,
    ),
    Entry(
        "graphene-Si-C4",
        "Si-C4",
        "2 C to Si",
        "silicon in place of two carbons, in the sheet",
        "Si-C",
        tuple(((0.0, -_B / 2), (x * _A / 2, y * _B)) for x in (-1, 1) for y in (-1, 1)),
        (1.87, 1.89),
        _ZHOU,
    ),
    Entry(
        "graphene-vacancy",
        "vacancy",
        "1 C missing",
        "one carbon missing: a pentagon and a ring of nine",
        "C-C of the pentagon",
        (((_A / 2, -_B / 2), (-_A / 2, -_B / 2)),),
        (1.9, 2.1),
        _BANHART,
    ),
    Entry(
        "graphene-divacancy",
        "divacancy",
        "2 C missing",
        "two carbons missing: rings of five, eight and five",
        "C-C of the pentagons",
        tuple(((_A / 2, y * _B), (-_A / 2, y * _B)) for y in (-1, 1)),
        (1.75, 1.80),
        _BANHART,
    ),
    Entry(
        "graphene-stone-wales",
        "stone-wales",
        "2 C turned",
        "a bond turned by 90°: two rings of five, two of seven",
        "turned C-C",
        (((0.0, -_B / 2), (0.0, _B / 2)),),
        (1.32, 1.33),
        "Ma and others, Phys. Rev. B 80, 033407 (2009)",
    ),
    Entry(
        "graphene-N-N-ortho",
        "N-N-ortho",
        "2 C to N",
        "two nitrogens side by side",
        "N-C",
        tuple(((0.0, y * _B / 2), (x * _A / 2, y * _B)) for x in (-1, 1) for y in (-1, 1)),
        (1.40, 1.41),
        "as for one nitrogen",
    ),
    Entry(
        "graphene-N-N-para",
        "N-N-para",
        "2 C to N",
        "two nitrogens across a hexagon",
        "N-C",
        tuple(((0.0, y * _B), (x * _A / 2, y * _B / 2)) for x in (-1, 1) for y in (-1, 1)),
        (1.40, 1.41),
        "as for one nitrogen",
    ),
    Entry(
        "graphene-zigzag-edge",
        "zigzag-edge",
        "end of the sheet",
        "zigzag edge along x, bare",
        "outermost C-C",
        (((0.0, 0.0), (_A / 2, _B / 2)),),
        None,
        "",
    ),
    Entry(
        "graphene-armchair-edge",
        "armchair-edge",
        "end of the sheet",
        "armchair edge along y, bare",
        "outermost C-C",
        (((0.0, 0.0), (0.0, _B)),),
        (1.23, 1.24),
        "Koskinen and others, Phys. Rev. Lett. 101, 115502 (2008)",
    ),
    Entry(
        "h-BN",
        "",
        "none",
        "hexagonal boron nitride",
        "B-N",
        (),
        (1.446, 1.446),
        "Paszkowicz and others, Appl. Phys. A 75, 431 (2002)",
    ),
    Entry(
        "MoS2",
        "",
        "none",
        "molybdenum disulphide, one layer",
        "Mo-S",
        (),
        (2.41, 2.42),
        "Schönfeld, Huang and Moss, Acta Cryst. B 39, 404 (1983)",
    ),
)
"""Every specimen, in the order in which they are listed."""
