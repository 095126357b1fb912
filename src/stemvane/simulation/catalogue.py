"""How the bonds of the specimens compare with published ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemvane.simulation.relaxed_defects import read_geometry
from stemvane.simulation.structures import SHEETS, crystal
from stemvane.specimens import Specimen

__all__ = ["TOLERANCE", "bond_agrees", "bond_length"]

TOLERANCE = 0.03
"""How far (Å) a bond may be from the published ones to count as the same."""


def bond_agrees(specimen: Specimen) -> bool:
    """Whether the relaxed bond is that of the literature, within `TOLERANCE`, or there is none to compare with."""
    if specimen.published is None:
        return True
    low, high = specimen.published
    return low - TOLERANCE <= round(bond_length(specimen), 3) <= high + TOLERANCE


def bond_length(specimen: Specimen) -> float:
    """Mean length in Å of the bond that a specimen names, from the stored geometry.

    Parameters
    ----------
    specimen : Specimen
        One of `SPECIMENS`.

    Returns
    -------
    float
    """
    if not specimen.geometry:
        perfect = crystal(specimen.host) if specimen.crystal else SHEETS[specimen.host]((8.0, 8.0))
        distances = perfect.get_all_distances(mic=True)
        return float(distances[distances > 0].min())
    atoms = read_geometry(specimen.geometry)
    sites, size = atoms.get_array("site"), atoms.cell.lengths()

    def at(point: tuple[float, float]) -> NDArray[np.float64]:
        gap = sites - np.asarray(point)
        gap -= size[:2] * np.round(gap / size[:2])
        return np.asarray(atoms.positions[np.linalg.norm(gap, axis=1).argmin()])

    vectors = np.array([at(one) - at(other) for one, other in specimen.pairs])
    vectors -= size * np.round(vectors / size)
    return float(np.linalg.norm(vectors, axis=1).mean())
