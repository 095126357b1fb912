"""simulate_library: every known defect as the microscope of a scan would record it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemvane.config import MeasureConfig, SimulationConfig, SymmetryConfig
from stemvane.data.dataset import Dataset4D
from stemvane.data.measurements import Measurements
from stemvane.data.progress import Progress, counting_bar
from stemvane.data.scan_geometry import highest_frequency
from stemvane.data.specimen import ScanDefects
from stemvane.defects.fitted_scan import defect_window
from stemvane.defects.naming import FARTHEST, UNKNOWN, DefectLibrary
from stemvane.defects.stored_library import has_stored_library, open_stored_library, store_library
from stemvane.errors import CalibrationError, ConfigError, FileFormatError
from stemvane.features.aberrations import aberrations_that_matter
from stemvane.io.files import open_dataset, save_dataset
from stemvane.reduction.measure import measure
from stemvane.simulation.embedded_defects import Host, embed_defect, read_defect_folder
from stemvane.simulation.simulate import simulate, supercell_size
from stemvane.simulation.structures import SHEETS
from stemvane.specimens import LIBRARIES

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["simulate_library"]

# All of these: `python -m benchmarks.defects.constants`.
# 0.38 of the finest period that the probe resolves: less than the half that the patterns need
_STEP = 0.38
# 1.3 Å by which the middle of a lattice's defect may miss the middle of the scan; `pytest tests/test_structures.py`
_OFF_MIDDLE = 1.3
# 8 pixels of disc radius resolve the rings of any polar grid; 128 pixels bound the time
_LEAST_RADIUS, _MOST_PIXELS = 8.0, 128
# tables separate by commas, figures take what is between dollars for a formula, and file systems limit names
_NAME = re.compile(r"[^,;\"\\$\x00-\x1f]{1,64}")


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
        Measurements of the scan whose defects are to be named: energy, semi-angle and polar grid are taken from it, and
        its defocus where that is not set and the scan tells it.
    config : SymmetryConfig, optional
        ``library`` is a sheet, graphene where none is named; or a folder of structures (CIF, XYZ, extended XYZ), one
        periodic supercell with one defect for each kind, called as the kind, and one called ``pristine`` for the host,
        without which the host is a built-in sheet of the same elements; or a folder that was the `folder` of an earlier
        call. Of the probe, defocus, spherical aberration and size of the source.
    folder : Path, optional
        Where the simulated scans are kept as Zarr folders, and taken from where they are there already.
    progress : callable or bool, optional
        A function is called with the numbers of patterns done and in all. True shows a bar, False none; by default a
        bar is shown in a terminal and in a notebook.

    Returns
    -------
    DefectLibrary
        ``probe`` says in words what was simulated with, and where that is from.

    Raises
    ------
    CalibrationError
        If energy, semi-angle or scan step are unknown.
    ConfigError
        If the library is neither a sheet nor a folder.
    FileFormatError
        If a structure cannot be read or is none of a defect in the host, or a stored library is of another probe.
    """
    config = config or SymmetryConfig()
    source = config.library or "graphene"
    _require_optics(measurements)
    defocus, said = _defocus(measurements, config)
    settings, measured_as = _settings(measurements, config, defocus)
    if source in LIBRARIES:
        host, specimens = source, _of_sheet(source)
    else:
        if not Path(source).is_dir():
            raise ConfigError(f"library '{source}' is neither a sheet ({', '.join(LIBRARIES)}) nor a folder")
        if has_stored_library(Path(source)):
            return open_stored_library(Path(source), settings, measured_as)
        host, specimens = _of_folder(Path(source), settings)
    scans, names = [], []
    with counting_bar(progress, "library") as count:
        for number, specimen in enumerate(specimens):

            def report(done: int, of: int, number: int = number) -> None:
                count(number * of + done, len(specimens) * of)

            # positions are of the host's own corner, so the lattice is the same in all
            scan, name = specimen.scan(settings, folder, report)
            scans.append(measure(scan, config=measured_as, progress=False))
            names.append(name)
    library = DefectLibrary(
        tuple(specimen.kind for specimen in specimens[1:]),
        tuple(scans[1:]),
        scans[0],
        specimens[0].vector,
        specimens[0].n_rotations,
        f"{host} at {settings.energy / 1e3:g} keV, {settings.convergence_semiangle:.3g} mrad and {said}, spherical "
        f"aberration {settings.cs:g} Å and source {settings.source_size:g} Å as set",
    )
    if folder is not None:
        store_library(library, settings, names, folder)
    return library


def _require_optics(measurements: Measurements) -> None:
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


def _defocus(measurements: Measurements, config: SymmetryConfig) -> tuple[float, str]:
    """Defocus of the library's probe in Å, and in words with where it is from."""
    if config.defocus is not None:
        return config.defocus, f"defocus {config.defocus:g} Å as set"
    found = aberrations_that_matter(measurements)
    if found is None:
        return 0.0, "in focus, as the scan does not tell otherwise"
    # 1 Å changes less than its noise does, and one that is rounded is simulated once
    defocus = float(round(found.defocus))
    said = f"defocus {defocus:g} ± {max(found.defocus_std, 0.5):.1g} Å as fitted to the scan"
    # kinds are compared at all rotations of the patterns, so the probe has to be round
    return defocus, said + (f", without its astigmatism of {found.astigmatism:.0f} Å" if found.is_astigmatic else "")


def _settings(
    measurements: Measurements, config: SymmetryConfig, defocus: float
) -> tuple[SimulationConfig, MeasureConfig]:
    """What each defect is simulated with, and how its scan is measured."""
    calibration, grid = measurements.calibration, measurements.grid
    semiangle, radius = calibration.convergence_semiangle, calibration.disc_radius
    assert semiangle is not None
    assert radius is not None
    assert calibration.scan_step is not None
    outer = grid.outer / radius
    detector_outer = max(outer, 1.05) * semiangle
    n_pixels = min(2 * math.ceil(max(radius, _LEAST_RADIUS) * detector_outer / semiangle), _MOST_PIXELS)
    window = defect_window(highest_frequency(calibration.scan_step, calibration))
    extent = 2 * (1.05 * window.reach + FARTHEST + _OFF_MIDDLE)
    step = _STEP / highest_frequency((1e-3, 1e-3), calibration)
    n = math.ceil(extent / step)
    settings = SimulationConfig.from_dict(
        {
            "energy": calibration.energy,
            "convergence_semiangle": semiangle,
            "defocus": defocus,
            "cs": config.cs,
            "source_size": config.source_size,
            "scan_shape": (n, n),
            "scan_extent": (n * step, n * step),
            "detector_shape": (n_pixels, n_pixels),
            "detector_outer": detector_outer,
        },
        "library",
    )
    return settings, MeasureConfig(n_radial=grid.n_radial, n_azimuthal=grid.n_azimuthal, outer=outer)


@dataclass(frozen=True, eq=False)
class _Specimen:
    """A host, or a defect in it: what is simulated, by its name or as atoms, and the host's lattice."""

    kind: str
    name: str
    vector: NDArray[np.float64]
    n_rotations: int
    atoms: Atoms | None = None
    defects: ScanDefects | None = None

    def scan(
        self, settings: SimulationConfig, folder: Path | None, progress: Callable[[int, int], None]
    ) -> tuple[Dataset4D, str]:
        """The simulated scan, from the folder where it is there, and what it is called there."""
        if self.atoms is None:
            settings = SimulationConfig.from_dict(settings.model_dump() | {"structure": self.name}, "library")
        # scans of other settings, and of other atoms, have other names
        content = settings.model_dump_json().encode()
        if self.atoms is not None:
            numbers, places = np.asarray(self.atoms.numbers, "<i8"), np.round(self.atoms.positions, 4) + 0.0
            content += numbers.tobytes() + places.astype("<f8").tobytes()
        name = f"{self.name}-{hashlib.sha256(content).hexdigest()[:12]}.zarr"
        if folder is not None and (folder / name).exists():
            return open_dataset(folder / name), name
        dataset = simulate(settings, structure=self.atoms, progress=progress)
        if self.atoms is not None:
            assert dataset.atoms is not None
            dataset = replace(dataset, name=self.name, atoms=replace(dataset.atoms, defects=self.defects))
        if folder is None:
            return dataset, name
        folder.mkdir(parents=True, exist_ok=True)
        save_dataset(dataset, folder / name, progress=False)
        return open_dataset(folder / name), name


def _of_sheet(sheet: str) -> list[_Specimen]:
    """A built-in sheet and its defects."""
    # a row of the sheet's cell, which runs along x
    vector = np.array([0.0, SHEETS[sheet]((1.0, 1.0)).cell[0, 0]])
    kinds = {"": sheet} | {kind: f"{sheet}-{kind}" for kind in LIBRARIES[sheet]}
    return [_Specimen(kind, name, vector, 6) for kind, name in kinds.items()]


def _of_folder(folder: Path, settings: SimulationConfig) -> tuple[str, list[_Specimen]]:
    """What the host of a folder of structures is called, the host, and its defects."""
    read = read_defect_folder(folder)
    unfit = next((kind for kind in read.defects if not _NAME.fullmatch(kind) or kind == UNKNOWN), None)
    if unfit is not None:
        raise FileFormatError(
            f"{folder}: a file is called {unfit!r}, which tables and figures cannot name a kind; rename it, as N-pair: "
            "at most 64 letters, and no commas, quotes, dollar or control characters"
        )
    host = Host.of(read.host, read.pristine, supercell_size(settings), settings.scan_extent)
    if host.n_rotations == 2:
        raise FileFormatError(f"{folder}: the host's lattice is neither hexagonal nor square, so no defect is named")
    vector, fold = host.vectors[0, ::-1].copy(), host.n_rotations
    specimens = [_Specimen("", read.host, vector, fold, read.pristine)]
    middle = settings.scan_extent[0] / 2, settings.scan_extent[1] / 2
    for kind, supercell in read.defects.items():
        atoms, defects = embed_defect(kind, supercell, host, middle)
        specimens.append(_Specimen(kind, f"{read.host}-{kind}", vector, fold, atoms, defects))
    return read.host, specimens
