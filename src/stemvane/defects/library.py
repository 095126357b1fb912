"""simulate_library: every known defect as the microscope of a scan would record it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stemvane.config import MeasureConfig, SimulationConfig, SymmetryConfig
from stemvane.data.dataset import Dataset4D
from stemvane.data.measurements import Measurements
from stemvane.data.progress import Progress, counting_bar
from stemvane.data.scan_geometry import highest_frequency
from stemvane.defects.fitted_scan import defect_window
from stemvane.defects.naming import FARTHEST, DefectLibrary
from stemvane.errors import CalibrationError
from stemvane.io.files import open_dataset, save_dataset
from stemvane.reduction.measure import measure
from stemvane.simulation.simulate import simulate
from stemvane.simulation.structures import SHEETS
from stemvane.specimens import LIBRARIES

__all__ = ["simulate_library"]

# All of these: `python -m benchmarks.defects.constants`.
# 0.38 of the finest period that the probe resolves: less than the half that the patterns need
_STEP = 0.38
# 1.3 Å by which the middle of a lattice's defect may miss the middle of the scan; `pytest tests/test_structures.py`
_OFF_MIDDLE = 1.3
# 8 pixels of disc radius resolve the rings of any polar grid; 128 pixels bound the time
_LEAST_RADIUS, _MOST_PIXELS = 8.0, 128


def simulate_library(
    measurements: Measurements,
    config: SymmetryConfig | None = None,
    *,
    folder: Path | None = None,
    progress: Progress | bool | None = None,
) -> DefectLibrary:
    """Simulate each defect of a host, noiseless, in the middle of a small scan.

    Parameters
    ----------
    measurements : Measurements
        Measurements of the scan whose defects are to be named: energy, semi-angle and polar grid are taken from it.
    config : SymmetryConfig, optional
        The sheet, graphene where none is named, and what the calibration does not say of the probe: defocus, spherical
        aberration, size of the source.
    folder : Path, optional
        Where the simulated scans are kept as Zarr folders, and taken from where they are there already.
    progress : callable or bool, optional
        A function is called with the numbers of patterns done and in all. True shows a bar, False none; by default a
        bar is shown in a terminal and in a notebook.

    Returns
    -------
    DefectLibrary

    Raises
    ------
    CalibrationError
        If energy, semi-angle or scan step are unknown.
    """
    config = config or SymmetryConfig()
    host = config.library or "graphene"
    calibration = measurements.calibration
    if calibration.energy is None or calibration.convergence_semiangle is None or calibration.scan_step is None:
        missing = (
            "energy"
            if calibration.energy is None
            else "semi-angle"
            if calibration.scan_step is not None
            else "scan step"
        )
        raise CalibrationError(
            f"{measurements.name}: the {missing} is unknown, so no defect can be simulated; give it when you run, "
            "or leave the library out"
        )
    assert calibration.disc_radius is not None
    semiangle, grid = calibration.convergence_semiangle, measurements.grid
    outer = grid.outer / calibration.disc_radius
    detector_outer = max(outer, 1.05) * semiangle
    radius = max(calibration.disc_radius, _LEAST_RADIUS)
    n_pixels = min(2 * math.ceil(radius * detector_outer / semiangle), _MOST_PIXELS)
    window = defect_window(highest_frequency(calibration.scan_step, calibration))
    extent = 2 * (1.05 * window.reach + FARTHEST + _OFF_MIDDLE)
    step = _STEP / highest_frequency((1e-3, 1e-3), calibration)
    n = math.ceil(extent / step)
    base: dict[str, Any] = {
        "energy": calibration.energy,
        "convergence_semiangle": semiangle,
        "defocus": config.defocus,
        "cs": config.cs,
        "source_size": config.source_size,
        "scan_shape": (n, n),
        "scan_extent": (n * step, n * step),
        "detector_shape": (n_pixels, n_pixels),
        "detector_outer": detector_outer,
    }
    measured_as = MeasureConfig(n_radial=grid.n_radial, n_azimuthal=grid.n_azimuthal, outer=outer)
    defects = {kind: f"{host}-{kind}" for kind in LIBRARIES[host]}
    structures = [host, *defects.values()]
    scans = []
    with counting_bar(progress, "library") as count:
        for number, structure in enumerate(structures):

            def report(done: int, of: int, number: int = number) -> None:
                count(number * of + done, len(structures) * of)

            # positions are of the sheet's own corner, so the lattice is the same in all
            settings = SimulationConfig(structure=structure, **base)
            scans.append(measure(_scan(settings, folder, report), config=measured_as, progress=False))
    # a row of the sheet's cell, which runs along x
    vector = np.array([0.0, SHEETS[host]((1.0, 1.0)).cell[0, 0]])
    return DefectLibrary(tuple(defects), tuple(scans[1:]), scans[0], vector)


def _scan(settings: SimulationConfig, folder: Path | None, progress: Callable[[int, int], None]) -> Dataset4D:
    if folder is None:
        return simulate(settings, progress=progress)
    # scans of other settings have other names
    digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]
    path = folder / f"{settings.structure}-{digest}.zarr"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_dataset(simulate(settings, progress=progress), path, progress=False)
    return open_dataset(path)
