"""What a simulation cannot compute: more than fits into memory, and counts beyond their type."""

from __future__ import annotations

import math

import numpy as np
import psutil

from stemvane.config import SimulationConfig
from stemvane.data.calibration import require_plausible
from stemvane.data.representation import format_size
from stemvane.errors import ConfigError
from stemvane.simulation.optics import Optics

__all__ = ["require_possible"]

# atoms in an Å² of graphene, the densest sheet
_DENSITY = 0.39
# bytes per point of the fine grid while exp(iσV) is made: potential, exponential and its spectrum
_POTENTIAL_BYTES = 48


def require_possible(
    settings: SimulationConfig, optics: Optics, n_positions: int, cell: tuple[float, float], sampling: float
) -> None:
    """Refuse a simulation that cannot be meant, that memory does not hold, or whose counts their type does not hold.

    Parameters
    ----------
    settings : SimulationConfig
        All settings of the simulation.
    optics : Optics
        Probe and detector.
    n_positions : int
        Number of probe positions, the margins for a finite source included.
    cell : tuple of float
        Height and width of the supercell in Å.
    sampling : float
        Step of the fine grid of the potential in Å.

    Raises
    ------
    ConfigError
        If memory or the type of the counts do not hold it.
    CalibrationError
        If energy, semi-angle or scan step cannot be meant.
    """
    require_plausible(
        energy=settings.energy,
        convergence_semiangle=settings.convergence_semiangle,
        scan_step=settings.scan_step,
    )
    # patterns and, where they are there, their blurred copy, the counts, and what a detector makes of them
    n_copies = 1 + (settings.source_size > 0) + (settings.dose is not None) + 2 * (settings.recorder is not None)
    patterns = 4 * n_copies * n_positions * math.prod(settings.detector_shape)
    points = [math.ceil(length / sampling) for length in cell]
    # the phases of all atoms along both axes of the grid are summed as a matrix product
    phases = 16 * _DENSITY * math.prod(cell) * sum(points)
    needed = patterns + phases + _POTENTIAL_BYTES * math.prod(points)
    available = psutil.virtual_memory().available
    if needed > available:
        cure = "simulation.scan_shape or simulation.detector_shape"
        if patterns < needed / 2:
            cure = "simulation.scan_extent or simulation.defocus, or larger pixels (simulation.detector_outer)"
        raise ConfigError(
            f"the simulation needs {format_size(int(needed))} of memory, and {format_size(available)} are free; "
            f"give a smaller {cure}"
        )
    if settings.dose is None or settings.recorder is not None:
        return
    # the disc without a specimen is the brightest that a pattern can be all over, and interference at most doubles it
    disc = max(1.0, math.pi * (optics.semiangle / optics.pixel) ** 2)
    most = float(np.iinfo(np.uint32).max) * disc / 4
    if settings.dose > most:
        raise ConfigError(
            f"simulation.dose is {settings.dose:g} electrons per pattern, more than counts of 32 bits hold; give at "
            f"most {most:.1g}"
        )
