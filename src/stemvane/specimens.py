"""The one table of specimens and defects that can be simulated: host, defect, bonds and their sources, and the rules.

It stands at the ground, below the settings, which take their choices from it, and below the simulation, which builds
from it; so it imports neither, and holds no atoms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

__all__ = [
    "DEFECTS",
    "EDGES",
    "HOSTS",
    "LATTICE_CONSTANT",
    "LIBRARIES",
    "RULES",
    "SPECIMENS",
    "STRUCTURE_FILES",
    "RuleStep",
    "Specimen",
    "find_specimen",
    "is_rule",
    "is_structure_file",
    "read_rule",
]

STRUCTURE_FILES = (".cif", ".xyz", ".extxyz")
"""How the names of files end that hold a structure."""


def is_structure_file(name: str) -> bool:
    """Whether a structure's name is that of a file, by its ending; not what macOS leaves beside it."""
    return not name.startswith("._") and name.lower().endswith(STRUCTURE_FILES)


LATTICE_CONSTANT = 2.46
"""Length of graphite's lattice vectors in Å (Baskin and Meyer, Phys. Rev. 100, 544 (1955))."""

RULES = "V_S empty, V_S2 two above one another, Se_S substituted, V_B+V_N side by side, ad-Si_Mo on top of an atom"
"""How defects by rule are written."""

_STEP = re.compile(r"(ad-)?([A-Z][a-z]?)_([A-Z][a-z]?)(2?)")


class RuleStep(NamedTuple):
    """One change that a defect by rule is made of.

    Attributes
    ----------
    element : str
        What comes; ``"V"`` for nothing.
    host : str
        Element of the host whose site it is.
    is_column : bool
        Whether both atoms of that element that are above one another are changed.
    is_added : bool
        Whether the element is put on top of the site, which keeps its own.
    """

    element: str
    host: str
    is_column: bool
    is_added: bool

    @property
    def is_empty(self) -> bool:
        """Whether the site is left empty."""
        return self.element == "V"


def is_rule(kind: str) -> bool:
    """Whether a kind of defects is written as a rule."""
    steps = kind.split("+")
    return len(steps) <= 2 and all(
        match is not None and not (match[1] and (match[2] == "V" or match[4] or len(steps) > 1))
        for match in map(_STEP.fullmatch, steps)
    )


def read_rule(kind: str) -> tuple[RuleStep, ...]:
    """What a rule changes: `RULES` has examples."""
    matches = [_STEP.fullmatch(step) for step in kind.split("+")]
    return tuple(RuleStep(m[2], m[3], bool(m[4]), bool(m[1])) for m in matches if m is not None)


_A, _B = LATTICE_CONSTANT, LATTICE_CONSTANT / math.sqrt(3)
_Pair = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Specimen:
    """One specimen.

    Attributes
    ----------
    host : str
        The perfect sheet.
    changed : str
        Which atoms differ from the perfect sheet.
    words : str
        What it is.
    bond : str
        Which bond is compared with published lengths.
    pairs : tuple of pairs of points
        Ideal sites (x, y) in the stored geometry, in Å, between whose atoms the bond is; the mean of several. A perfect
        sheet has one bond only, and none is named.
    published : tuple of float, optional
        Shortest and longest published length in Å; None where there is none to compare with.
    source : str
        Where these were published.
    defect : str
        Kind of the defect in the middle of the scan; empty where there is none.
    edge : str
        Kind of the edge; empty where the sheet does not end.
    rotations : tuple of int
        Rotations of the defect by multiples of 60° that differ from one another.
    two_sided : bool
        Whether the defect also differs when it is put upside down.
    crystal : bool
        Whether it is periodic along the beam.
    """

    host: str
    changed: str
    words: str
    bond: str
    pairs: tuple[_Pair, ...] = ()
    published: tuple[float, float] | None = None
    source: str = ""
    defect: str = ""
    edge: str = ""
    rotations: tuple[int, ...] = (0,)
    two_sided: bool = False
    crystal: bool = False

    @property
    def geometry(self) -> str:
        """Name of the stored geometry that it is made of; empty where it is a perfect sheet."""
        return f"{self.edge}-edge" if self.edge else self.defect

    @property
    def name(self) -> str:
        """Name, as `simulate` takes it."""
        return f"{self.host}-{self.geometry}" if self.geometry else self.host

    @property
    def published_words(self) -> str:
        """The published lengths for a table."""
        if self.published is None:
            return ""
        low, high = self.published
        return f"{low:.4g}" if low == high else f"{low:.2f} to {high:.2f}"


_TWO, _THREE, _SIX = (0, 1), (0, 1, 2), (0, 1, 2, 3, 4, 5)
_ABOUT_A_SITE: tuple[_Pair, ...] = tuple(((0.0, 0.0), at) for at in ((0.0, _B), (_A / 2, -_B / 2), (-_A / 2, -_B / 2)))
_ZHOU = "Zhou and others, Phys. Rev. Lett. 109, 206803 (2012)"
_RANI = "Rani and Jindal, RSC Adv. 3, 802 (2013); Wang, Maiyalagan and Wang, ACS Catal. 2, 781 (2012)"
_BANHART = "El-Barbary and others, Phys. Rev. B 68, 144107 (2003); Banhart and others, ACS Nano 5, 26 (2011)"

SPECIMENS: tuple[Specimen, ...] = (
    Specimen(
        host="graphene",
        changed="none",
        words="perfect sheet",
        bond="C-C",
        published=(1.42, 1.42),
        source="Baskin and Meyer, Phys. Rev. 100, 544 (1955)",
    ),
    Specimen(
        host="graphene",
        defect="N",
        changed="1 C to N",
        words="nitrogen in place of carbon",
        bond="N-C",
        pairs=_ABOUT_A_SITE,
        published=(1.40, 1.41),
        source=_RANI,
        rotations=_TWO,
    ),
    Specimen(
        host="graphene",
        defect="B",
        changed="1 C to B",
        words="boron in place of carbon",
        bond="B-C",
        pairs=_ABOUT_A_SITE,
        published=(1.48, 1.49),
        source=_RANI,
        rotations=_TWO,
    ),
    Specimen(
        host="graphene",
        defect="P",
        changed="1 C to P",
        words="phosphorus in place of carbon, above the sheet",
        bond="P-C",
        pairs=_ABOUT_A_SITE,
        published=(1.76, 1.80),
        source="Susi and others, 2D Mater. 4, 021013 (2017)",
        rotations=_TWO,
        two_sided=True,
    ),
    Specimen(
        host="graphene",
        defect="Si-C3",
        changed="1 C to Si",
        words="silicon in place of one carbon, above it",
        bond="Si-C",
        pairs=_ABOUT_A_SITE,
        published=(1.75, 1.76),
        source=_ZHOU,
        rotations=_TWO,
        two_sided=True,
    ),
    Specimen(
        host="graphene",
        defect="Si-C4",
        changed="2 C to Si",
        words="silicon in place of two carbons, in the sheet",
        bond="Si-C",
        pairs=tuple(((0.0, -_B / 2), (x * _A / 2, y * _B)) for x in (-1, 1) for y in (-1, 1)),
        published=(1.87, 1.89),
        source=_ZHOU,
        rotations=_THREE,
    ),
    Specimen(
        host="graphene",
        defect="vacancy",
        changed="1 C missing",
        words="one carbon missing: a pentagon and a ring of nine",
        bond="C-C of the pentagon",
        pairs=(((_A / 2, -_B / 2), (-_A / 2, -_B / 2)),),
        published=(1.9, 2.1),
        source=_BANHART,
        rotations=_SIX,
    ),
    Specimen(
        host="graphene",
        defect="divacancy",
        changed="2 C missing",
        words="two carbons missing: rings of five, eight and five",
        bond="C-C of the pentagons",
        pairs=tuple(((_A / 2, y * _B), (-_A / 2, y * _B)) for y in (-1, 1)),
        published=(1.75, 1.80),
        source=_BANHART,
        rotations=_THREE,
    ),
    Specimen(
        host="graphene",
        defect="stone-wales",
        changed="2 C rotated",
        words="a bond rotated by 90°: two rings of five, two of seven",
        bond="rotated C-C",
        pairs=(((0.0, -_B / 2), (0.0, _B / 2)),),
        published=(1.32, 1.33),
        source="Ma and others, Phys. Rev. B 80, 033407 (2009)",
        rotations=_THREE,
    ),
    Specimen(
        host="graphene",
        defect="N-N-ortho",
        changed="2 C to N",
        words="two nitrogens side by side",
        bond="N-C",
        pairs=tuple(((0.0, y * _B / 2), (x * _A / 2, y * _B)) for x in (-1, 1) for y in (-1, 1)),
        published=(1.40, 1.41),
        source="as for one nitrogen",
        rotations=_THREE,
    ),
    Specimen(
        host="graphene",
        defect="N-N-para",
        changed="2 C to N",
        words="two nitrogens across a hexagon",
        bond="N-C",
        pairs=tuple(((0.0, y * _B), (x * _A / 2, y * _B / 2)) for x in (-1, 1) for y in (-1, 1)),
        published=(1.40, 1.41),
        source="as for one nitrogen",
        rotations=_THREE,
    ),
    Specimen(
        host="graphene",
        edge="zigzag",
        changed="end of the sheet",
        words="zigzag edge along x, bare",
        bond="outermost C-C",
        pairs=(((0.0, 0.0), (_A / 2, _B / 2)),),
    ),
    Specimen(
        host="graphene",
        edge="armchair",
        changed="end of the sheet",
        words="armchair edge along y, bare",
        bond="outermost C-C",
        pairs=(((0.0, 0.0), (0.0, _B)),),
        published=(1.23, 1.24),
        source="Koskinen and others, Phys. Rev. Lett. 101, 115502 (2008)",
    ),
    Specimen(
        host="h-BN",
        changed="none",
        words="hexagonal boron nitride",
        bond="B-N",
        published=(1.446, 1.446),
        source="Paszkowicz and others, Appl. Phys. A 75, 431 (2002)",
    ),
    Specimen(
        host="MoS2",
        changed="none",
        words="molybdenum disulphide, one layer",
        bond="Mo-S",
        published=(2.41, 2.42),
        source="Schönfeld, Huang and Moss, Acta Cryst. B 39, 404 (1983)",
    ),
    Specimen(
        host="MoSe2",
        changed="none",
        words="molybdenum diselenide, one layer",
        bond="Mo-Se",
        published=(2.527, 2.527),
        source="Bronsema, de Boer and Jellinek, Z. Anorg. Allg. Chem. 540, 15 (1986)",
    ),
    Specimen(
        host="WS2",
        changed="none",
        words="tungsten disulphide, one layer",
        bond="W-S",
        published=(2.405, 2.405),
        source="Schutte, de Boer and Jellinek, J. Solid State Chem. 70, 207 (1987)",
    ),
    Specimen(
        host="GaAs",
        changed="none",
        words="gallium arsenide, zinc blende",
        bond="Ga-As",
        published=(2.448, 2.448),
        source="Blakemore, J. Appl. Phys. 53, R123 (1982)",
        crystal=True,
    ),
    Specimen(
        host="ZnS",
        changed="none",
        words="zinc sulphide, zinc blende",
        bond="Zn-S",
        published=(2.342, 2.342),
        source="Skinner, Am. Mineral. 46, 1399 (1961)",
        crystal=True,
    ),
    Specimen(
        host="SrTiO3",
        changed="none",
        words="strontium titanate, perovskite",
        bond="Ti-O",
        published=(1.953, 1.953),
        source="Okazaki and Kawaminami, Mater. Res. Bull. 8, 545 (1973)",
        crystal=True,
    ),
)
"""Every specimen, in the order in which they are listed."""

HOSTS = tuple(specimen.host for specimen in SPECIMENS if not specimen.geometry)
"""Perfect sheets and crystals."""

DEFECTS = {specimen.defect: specimen for specimen in SPECIMENS if specimen.defect}
"""Specimens with one defect, by its kind."""

EDGES = {specimen.edge: specimen for specimen in SPECIMENS if specimen.edge}
"""Sheets that end, by the kind of their edge."""

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "graphene": tuple(DEFECTS),
    "h-BN": ("V_B", "V_N", "V_B+V_N", "C_B", "C_N", "C_B+C_N", "O_N", "N_B", "B_N"),
    "MoS2": ("V_S", "V_S2", "V_Mo", "Mo_S2", "S_Mo", "O_S", "Se_S", "W_Mo"),
    "MoSe2": ("V_Se", "V_Se2", "V_Mo", "Mo_Se2", "Se_Mo", "O_Se", "S_Se", "W_Mo"),
    "WS2": ("V_S", "V_S2", "V_W", "W_S2", "S_W", "O_S", "Se_S", "Mo_W"),
}
"""Defects that a library of each sheet holds: relaxed ones of graphene, those of the others by rule."""


def find_specimen(name: str) -> Specimen | None:
    """The specimen of a name: an entry of the table, or a host with a defect by rule; None where there is none."""
    for specimen in SPECIMENS:
        if specimen.name == name:
            return specimen
    for specimen in SPECIMENS:
        kind = name.removeprefix(f"{specimen.host}-")
        if not specimen.geometry and kind != name and is_rule(kind):
            return replace(specimen, defect=kind, changed=kind, words=f"{specimen.words}, with a defect by rule")
    return None
