"""Scans of the scenes: patterns simulated once on a fine grid, recorded at every dose and step along a real path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.scenes.specimens import CLASHING, EXTENT, Specimen, build_specimen
from stemvane import open_dataset
from stemvane.config import SimulationConfig
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.data.measurements import Measurements
from stemvane.data.specimen import ScanAtoms, ScanDefects
from stemvane.io.files import save_dataset
from stemvane.simulation.optics import Optics
from stemvane.simulation.recording import Recording
from stemvane.simulation.scan_distortions import GridAxis
from stemvane.simulation.simulate import simulate

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["DOSES", "STEPS", "Scan", "Scene", "record"]

STEPS = (0.16, 0.36)
DOSES = (100_000.0, 20_000.0)
SOURCE_SIZE = 0.8
N_PIXELS = 48
# Å from one simulated position to the next, and their first one: room for the drift and for interpolation
_GRID_STEP, _FIRST = 0.18, -17
_N_GRID = 203
DETECTORS = ("counting", "analogue")
PATH: dict[str, Any] = {"drift": (1.5, 0.8), "flyback_distortion": 0.5}


@dataclass(frozen=True)
class Scene:
    """One scan to search.

    Attributes
    ----------
    name : str
        Class of the specimen.
    seed : int
        Random seed of specimen, counts and bad pixels; scenes of odd seeds are recorded by an analogue detector whose
        readout noise is 0.17 electrons, those of even ones by a counting one.
    step : float
        Scan step in Å.
    dose : float
        Incident electrons per pattern.
    """

    name: str
    seed: int
    step: float
    dose: float

    @property
    def detector(self) -> str:
        """Kind of the detector."""
        return DETECTORS[self.seed % 2]


@dataclass(frozen=True, eq=False)
class Scan:
    """A recorded scan with the truth in its own coordinates.

    Attributes
    ----------
    dataset : Dataset4D
        What the detector has written.
    specimen : Specimen
        What was recorded.
    defects : ScanDefects
        The defects where the scan shows them, drift and flyback included.
    positions : ndarray of float, shape (scan_y, scan_x, 2)
        Where on the specimen the probe was, ``(y, x)`` in Å.
    """

    dataset: Dataset4D
    specimen: Specimen
    defects: ScanDefects
    positions: NDArray[np.float64]

    def as_shown(self, measurements: Measurements) -> Measurements:
        """Measurements of the scan with the truth where the scan shows it, for figures."""
        assert measurements.atoms is not None
        return replace(measurements, atoms=replace(measurements.atoms, defects=self.defects))


def record(scene: Scene, folder: Path) -> Scan:
    """Record a scene; its noiseless patterns are taken from a folder, or put there."""
    specimen = build_specimen(scene.name, scene.seed)
    n = round(EXTENT / scene.step)
    settings = _settings(n, EXTENT, dose=scene.dose, seed=scene.seed, detector=scene.detector, scan=PATH)
    recording = Recording.of(settings)
    assert recording is not None
    optics = Optics.of(settings)
    axis = GridAxis(_FIRST, _N_GRID, _GRID_STEP)
    patterns = np.asarray(_expectation(scene, specimen, folder).data.compute())
    expected, com = recording.expect(patterns, (axis, axis), optics, optics)
    del patterns
    at = specimen.atoms.positions[:, 1::-1]
    near = ((at > -2) & (at < EXTENT + 2)).all(axis=1)
    atoms = ScanAtoms(specimen.atoms.numbers[near], at[near], specimen.atoms.positions[near, 2], None, specimen.defects)
    dataset = Dataset4D.from_array(
        expected * np.float32(scene.dose),
        calibration=_calibration(settings, optics),
        name=f"{scene.name} {scene.seed}",
        metadata={"simulated": True},
        electrons_per_pattern=scene.dose,
    )
    written = recording.record(_with_expectation(dataset, atoms), com, lambda n: None)
    assert written.truth is not None
    defects = _as_scanned(specimen.defects, written.truth.positions, written.truth.places, scene.step)
    return Scan(written, specimen, defects, written.truth.positions)


def _with_expectation(dataset: Dataset4D, atoms: ScanAtoms) -> Dataset4D:
    return replace(dataset, expectation=dataset.data, atoms=atoms)


def _settings(n: int, extent: float, **changes: Any) -> SimulationConfig:
    return SimulationConfig.from_dict(
        {
            "scan_shape": (n, n),
            "scan_extent": (extent, extent),
            "detector_shape": (N_PIXELS, N_PIXELS),
            "source_size": SOURCE_SIZE,
            **changes,
        },
        "scenes",
    )


def _calibration(settings: SimulationConfig, optics: Optics) -> Calibration:
    n_y, n_x = settings.detector_shape
    return Calibration(
        scan_step=settings.scan_step,
        pixel_size=(optics.pixel, optics.pixel),
        optical_axis=((n_y - 1) / 2, (n_x - 1) / 2),
        disc_radius=optics.semiangle / optics.pixel,
        convergence_semiangle=optics.semiangle,
        energy=optics.energy,
        scan_rotation=0.0,
    )


def _expectation(scene: Scene, specimen: Specimen, folder: Path) -> Dataset4D:
    """Noiseless patterns on a fine grid that reaches beyond the scan, simulated once and kept as a Zarr folder."""
    path = folder / f"{scene.name}-{scene.seed}.zarr"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_dataset(simulate(_simulated(), structure=_moved(specimen), progress=False), path)
    return open_dataset(path)


def _simulated() -> SimulationConfig:
    # one slice takes a tenth of the time; over the 10 Å of a contaminated sheet more change patterns by 2 %
    return _settings(_N_GRID, _N_GRID * _GRID_STEP, method="single-slice")


def _moved(specimen: Specimen) -> Atoms:
    """Atoms so that the grid begins at the origin, without those that meet where the supercell repeats."""
    from ase.neighborlist import neighbor_list

    atoms = specimen.atoms.copy()
    atoms.positions[:, :2] -= _FIRST * _GRID_STEP
    atoms.pbc = (True, True, False)
    atoms.wrap()
    first, second = neighbor_list("ij", atoms, CLASHING)
    del atoms[np.unique(second[second > first])]
    return atoms


def _as_scanned(
    defects: ScanDefects, positions: NDArray[np.float64], places: NDArray[np.float64], step: float
) -> ScanDefects:
    """The truth where the scan shows it: at the place from which the probe met it."""
    tree = cKDTree(positions.reshape(-1, 2))
    flat = places.reshape(-1, 2) * step

    def moved(points: NDArray[np.float64]) -> NDArray[np.float64]:
        if not len(points):
            return points
        nearest = tree.query(points)[1]
        return np.asarray(flat[nearest] + points - positions.reshape(-1, 2)[nearest])

    return replace(defects, positions=moved(defects.positions), sites=moved(defects.sites))
