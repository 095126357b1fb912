"""Scans whose content depends on more than one number: wedges of crystals, and thin and thick ones beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stemvane import Config, Dataset4D
from stemvane.simulation.simulate import simulate

__all__ = ["SCENES", "Scene", "make_scan"]

_POSITIONS = 48
# Å; periods of the wedges' crystals are 4 to 6 Å, so that a strip shows two of them
_EXTENT = 11.0
_SIXTY_KEV = {"energy": 60e3, "convergence_semiangle": 31.0, "detector_outer": 66.0}
_THREE_HUNDRED_KEV = {"energy": 300e3, "convergence_semiangle": 20.0, "detector_outer": 42.0}


@dataclass(frozen=True)
class Scene:
    """A scan of 48 × 48 positions.

    Attributes
    ----------
    name : str
        As the tables call it.
    structure : str
        One that `simulate` knows.
    thicknesses : tuple of float
        Thickness in Å of strips of rows that lie one below the other; empty for a sheet.
    zone_axis : tuple of int, optional
        Direction along the beam.
    defocus : float
        Å.
    dose : float, optional
        Electrons per pattern; noiseless if none.
    """

    name: str
    structure: str
    thicknesses: tuple[float, ...] = ()
    zone_axis: tuple[int, int, int] | None = None
    defocus: float = 0.0
    dose: float | None = None


_NOISELESS = [
    Scene("graphene", "graphene"),
    Scene("MoS2", "MoS2"),
    Scene("graphene, defocus 60 Å", "graphene", defocus=60.0),
    Scene("SrTiO3, 20 Å", "SrTiO3", (20.0,)),
    Scene("SrTiO3, 100 Å", "SrTiO3", (100.0,)),
    Scene("SrTiO3, wedge of 20 to 200 Å", "SrTiO3", (20.0, 60.0, 120.0, 200.0)),
    Scene("GaAs [110], wedge of 20 to 160 Å", "GaAs", (20.0, 60.0, 100.0, 160.0), (1, 1, 0)),
]
SCENES = [replace(scene, dose=dose) for dose in (None, 20_000.0) for scene in _NOISELESS]
"""Scenes of the tables."""


def make_scan(scene: Scene) -> tuple[Dataset4D, Dataset4D]:
    """Simulate a scan.

    Parameters
    ----------
    scene : Scene
        What to simulate.

    Returns
    -------
    dataset : Dataset4D
        The scan as recorded.
    clean : Dataset4D
        The same without noise.
    """
    optics = _SIXTY_KEV if not scene.thicknesses else _THREE_HUNDRED_KEV
    strips = scene.thicknesses or (None,)
    rows = _POSITIONS // len(strips)
    patterns, calibration = [], None
    for thickness in strips:
        settings = {
            "structure": scene.structure,
            "thickness": thickness,
            "zone_axis": scene.zone_axis,
            "defocus": scene.defocus,
            "scan_shape": (rows, _POSITIONS),
            "scan_extent": (_EXTENT * rows / _POSITIONS, _EXTENT),
            "detector_shape": (48, 48),
            **optics,
        }
        part = simulate(Config().replace(simulation=settings).simulation)
        patterns.append(np.asarray(part.data.compute(), np.float64))
        calibration = part.calibration
    intensity = np.concatenate(patterns)
    clean = Dataset4D.from_array(intensity, name=scene.name, calibration=calibration)
    if scene.dose is None:
        return clean, clean
    counts = np.random.default_rng(0).poisson(intensity * scene.dose).astype(np.uint16)
    return Dataset4D.from_array(counts, name=scene.name, calibration=calibration), clean
