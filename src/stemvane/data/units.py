"""Units of lengths, angles and energies, however a file or a person spells them."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any, Literal, NamedTuple

__all__ = ["Quantity", "Unit", "read_unit"]

Quantity = Literal["length", "reciprocal", "angle", "energy"]


class Unit(NamedTuple):
    """What a unit measures, and how large it is.

    Attributes
    ----------
    quantity : {"length", "reciprocal", "angle", "energy"}
        What it measures.
    size : float
        One of it in Å, 1/Å, mrad or eV.
    """

    quantity: Quantity
    size: float


# every spelling after `_plain`, which has removed brackets and blanks and made the letters of Unicode alike; the
# first is ours
_SPELLINGS: dict[Quantity, dict[float, str]] = {
    "length": {
        1.0: "Å A AA Ang ang Angs angs angstrom angstroms ångström ångströms ångstrom ångstroms ångstrøm",
        1e-2: "pm picometer picometers picometre picometres",
        10.0: "nm nanometer nanometers nanometre nanometres",
        1e4: "μm um micron microns micrometer micrometers micrometre micrometres",
        1e7: "mm millimeter millimeters millimetre millimetres",
        1e8: "cm centimeter centimeters centimetre centimetres",
        1e10: "m meter meters metre metres",
    },
    "angle": {
        1.0: "mrad mrads milliradian milliradians",
        1e-3: "μrad urad μrads urads microrad microrads microradian microradians",
        1e-6: "nrad nanorad nanoradian nanoradians",
        1e3: "rad rads radian radians",
        1e3 * math.pi / 180: "° deg degs degree degrees",
        math.pi / 180: "mdeg mdegs millidegree millidegrees",
    },
    "energy": {
        1.0: "eV ev electronvolt electronvolts V volt volts",
        1e-3: "meV millielectronvolt millielectronvolts",
        1e3: "keV kev kiloelectronvolt kiloelectronvolts kV kilovolt kilovolts",
        1e6: "MeV megaelectronvolt megaelectronvolts MV",
    },
}
_UNITS = {
    word: Unit(quantity, size)
    for quantity, sizes in _SPELLINGS.items()
    for size, words in sizes.items()
    for word in words.split()
}
# words in any case, but not symbols: meV is not MeV
_WORDS = {word.lower(): unit for word, unit in _UNITS.items() if len(word) > 4}


def read_unit(text: Any) -> Unit | None:
    r"""Read a unit of length, reciprocal length, angle or energy.

    Parameters
    ----------
    text : object
        Such as ``"nm"``, ``b"1/nm"``, ``"nm^-1"``, ``"nm⁻¹"``, ``"[A^-1]"``, ``"µrad"``, ``"$\AA^{-1}$"``, or a
        unit of pint's.

    Returns
    -------
    Unit or None
        None where it is no such unit, as of axes in pixels.

    Examples
    --------
    >>> from stemvane.data.units import read_unit
    >>> read_unit("nm⁻¹")
    Unit(quantity='reciprocal', size=0.1)
    >>> read_unit("pixels") is None
    True
    """
    plain = _plain(text)
    reciprocal = re.fullmatch(r"(?:1?/|1\.0/|per|inverse|reciprocal|inv)(.+)|(.+?)(?:\^|\*\*)?-1", plain)
    if reciprocal is None:
        return _known(plain)
    unit = _known(reciprocal[1] or reciprocal[2])
    return Unit("reciprocal", 1.0 / unit.size) if unit is not None and unit.quantity == "length" else None


def _known(word: str) -> Unit | None:
    return _UNITS.get(word) or _WORDS.get(word.lower())


def _plain(text: Any) -> str:
    """Remove what does not distinguish units: brackets, blanks, LaTeX, and letters of Unicode that look the same."""
    word = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else str(text)
    word = re.sub(r"\\(?:mathrm|text|rm|unit|si)\b", "", word)
    word = re.sub(r"\\(?:AA|r ?A|angstrom)\b", "Å", word).replace("\\circ", "°")
    word = re.sub(r"\\(?:mu|micro)\b", "μ", word)
    # ⁻¹, the two Å and the two µ become -1, Å and μ; underscores are the NCEM's, one between any two letters
    word = unicodedata.normalize("NFKC", word).replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
    word = re.sub(r"[\s_${}\[\]()\\]", "", word)
    return word.replace("^°", "°")
