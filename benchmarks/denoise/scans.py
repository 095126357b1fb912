"""The scans that filters are compared on: how each is simulated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from stemvane import simulate
from stemvane.config import SimulationConfig
from stemvane.data.dataset import Dataset4D
from stemvane.simulation.optics import Optics, poisson_counts
from stemvane.simulation.scenes import build_structure
from stemvane.simulation.structures import graphene

__all__ = ["QUICK", "SCANS", "Scan", "astigmatic_phase", "pristine", "simulated"]

_Floats = NDArray[np.floating[Any]]

_DEFECTS = {"defects": {"N": 1, "Si-C3": 1, "vacancy": 1}, "placement_seed": 3}
_LARGER = {"scan_shape": (96, 96), "scan_extent": (15.75, 15.75)}
_PATH = {"drift": (1.5, 0.8), "flyback_distortion": 0.5}

# Å, of graphite (Baskin and Meyer, Phys. Rev. 100, 544 (1955))
_BETWEEN_LAYERS = 3.35
_STRAIN = 0.03
# Å at room temperature (Okazaki and Kawaminami, Mater. Res. Bull. 8, 545 (1973))
_PEROVSKITE = 3.905
# positions along a cell of SrTiO3, and cells along the supercell that the probe is propagated in
_N_STEPS, _N_CELLS = 24, 8


@dataclass(frozen=True)
class Scan:
    """How one scan is simulated.

    Attributes
    ----------
    settings : dict
        Of `SimulationConfig`: graphene, 60 kV, 31 mrad, 64 × 64 positions 0.16 Å apart where nothing else is said.
    specimen : callable, optional
        Builds the atoms of a supercell that is at least ``(y, x)`` Å large, where `simulate` does not know the
        specimen.
    astigmatism : float
        Two-fold astigmatism in Å: the defocus along x is smaller by this much, and along y it is larger.
    is_thick : bool
        Whether the specimen is a crystal of `_PEROVSKITE`, of which a quarter of one cell is simulated.
    """

    settings: dict[str, Any]
    specimen: Callable[[tuple[float, float]], Atoms] | None = None
    astigmatism: float = 0.0
    is_thick: bool = False

    def config(self, **changes: Any) -> SimulationConfig:
        """Settings of the simulation."""
        return SimulationConfig.from_dict({**self.settings, **changes})

    @property
    def has_bound(self) -> bool:
        """Whether a thin specimen repeats with the cell of a honeycomb, as `benchmarks.denoise.bound` asks."""
        return not (self.is_thick or self.specimen is strained or "defects" in self.settings)


def bilayer(extent: tuple[float, float]) -> Atoms:
    """Two sheets of graphene, stacked as in graphite."""
    lower, upper = graphene(extent), graphene(extent)
    bond = float(lower.positions[1, 1] - lower.positions[0, 1])
    upper.positions += (0, bond, _BETWEEN_LAYERS)
    return lower + upper


def strained(extent: tuple[float, float]) -> Atoms:
    """Graphene stretched along x by 3 % where the scan begins, and by 0.5 % where it ends, 10.5 Å to the right."""
    atoms = graphene(extent)
    wave = 2 * math.pi / float(atoms.cell[0, 0])
    atoms.positions[:, 0] += _STRAIN / wave * np.sin(wave * atoms.positions[:, 0])
    return atoms


def _strontium_titanate(n_layers: int) -> Callable[[tuple[float, float]], Atoms]:
    cell = Atoms(
        "SrTiO3",
        scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
        cell=[_PEROVSKITE] * 3,
        pbc=True,
    )
    return lambda extent: cell.repeat((_N_CELLS, _N_CELLS, n_layers))


def _thick(n_layers: int) -> Scan:
    side = 64 * _PEROVSKITE / _N_STEPS
    beam = {"energy": 200e3, "convergence_semiangle": 20.0, "detector_outer": 42.0, "method": "multislice"}
    return Scan({"dose": 2e4, "scan_extent": (side, side), **beam}, _strontium_titanate(n_layers), is_thick=True)


SCANS: dict[str, Scan] = {
    "demo, 100,000 electrons": Scan({"dose": 1e5}),
    "demo, 20,000": Scan({"dose": 2e4}),
    "demo, 4,000": Scan({"dose": 4e3}),
    "source 0.8 Å, 20,000": Scan({"dose": 2e4, "source_size": 0.8}),
    "source 0.8 Å, 4,000": Scan({"dose": 4e3, "source_size": 0.8}),
    "step 0.32 Å, 20,000": Scan({"dose": 2e4, "scan_shape": (32, 32), "scan_extent": (10.24, 10.24)}),
    "step 0.6 Å, 20,000": Scan({"dose": 2e4, "scan_shape": (17, 17), "scan_extent": (10.2, 10.2)}),
    "defocus 60 Å, 100,000": Scan({"dose": 1e5, "defocus": 60.0}),
    "defocus 60 Å, 20,000": Scan({"dose": 2e4, "defocus": 60.0}),
    "defocus 60 Å, astigmatism 20 Å, 20,000": Scan({"dose": 2e4, "defocus": 60.0}, astigmatism=20.0),
    "h-BN, 20,000": Scan({"dose": 2e4, "structure": "h-BN"}),
    "bilayer, 20,000": Scan({"dose": 2e4}, bilayer),
    "strain of 3 to 0.5 %, 20,000": Scan({"dose": 2e4}, strained),
    "drift and flyback, 20,000": Scan({"dose": 2e4, "scan": _PATH}),
    "SrTiO3 2 nm, 20,000": _thick(5),
    "SrTiO3 10 nm, 20,000": _thick(26),
    "N, Si and a vacancy, 100,000": Scan({"dose": 1e5, **_DEFECTS, **_LARGER}),
    "N, Si and a vacancy, 20,000": Scan({"dose": 2e4, **_DEFECTS, **_LARGER}),
}
"""Simulated scans by their name in the tables."""

QUICK = ("demo, 20,000", "step 0.6 Å, 20,000")


def simulated(scan: Scan, seed: int) -> Dataset4D:
    """Simulate a scan with its noise, which the seed draws, and its expectation."""
    with _applied(scan):
        if not scan.is_thick:
            return simulate(scan.config(seed=seed), progress=False)
        settings = scan.config(seed=seed)
        # of the same optics, to be filled with the patterns of the crystal
        empty = simulate(scan.config(dose=None, method="single-slice", scan_shape=(1, 1)), progress=False)
    assert settings.dose is not None
    expected = _tiled(_quarter_of_a_cell(scan), settings.scan_shape) * np.float32(settings.dose)
    return Dataset4D.from_array(
        poisson_counts(expected, seed),
        calibration=empty.calibration.replace(scan_step=settings.scan_step),
        expectation=expected,
        electrons_per_pattern=settings.dose,
        name="SrTiO3",
    )


def pristine(scan: Scan) -> Dataset4D:
    """Simulate the noiseless scan of the sheet without its defects."""
    plain = {key: value for key, value in scan.settings.items() if key not in _DEFECTS}
    return simulate(SimulationConfig.from_dict(plain | {"dose": None}), progress=False)


def _quarter_of_a_cell(scan: Scan) -> _Floats:
    """Patterns of positions from the corner of a cell to its middle, shape ``(13, 13, k_y, k_x)``.

    Mirror planes through the corner and lattice vectors take them everywhere.
    """
    n = _N_STEPS // 2 + 1
    side = n * _PEROVSKITE / _N_STEPS
    with _applied(scan):
        dataset = simulate(scan.config(dose=None, scan_shape=(n, n), scan_extent=(side, side)), progress=False)
    return np.asarray(dataset.data)


def _tiled(quarter: _Floats, scan_shape: tuple[int, int]) -> _Floats:
    """Patterns at all positions of a scan that begins in the corner of a cell."""
    for axis, n in enumerate(scan_shape):
        place = np.arange(n) % _N_STEPS
        beyond = np.flatnonzero(place > _N_STEPS // 2)
        place[beyond] = _N_STEPS - place[beyond]
        quarter = np.take(quarter, place, axis)
        # the mirror image of a position has the mirror image of its pattern
        mirrored: tuple[Any, ...] = (beyond,) if axis == 0 else (slice(None), beyond)
        quarter[mirrored] = np.flip(quarter[mirrored], axis + 2)
    return quarter


@contextmanager
def _applied(scan: Scan) -> Iterator[None]:
    """Let `simulate` take another specimen and another probe than it knows."""
    with ExitStack() as stack:
        if scan.specimen is not None:
            make = scan.specimen

            def build(name: str, extent: tuple[float, float], **_: Any) -> tuple[Atoms, Any]:
                atoms = make(extent)
                atoms.set_array("labels", np.full(len(atoms), name, dtype="U16"))
                return atoms, build_structure()[1]

            stack.enter_context(patch("stemvane.simulation.simulate.build_structure", build))
        if scan.astigmatism:
            plain = Optics.probe

            def probe(optics: Optics, rows: Any, columns: Any, size: tuple[float, float]) -> Any:
                wave = plain(optics, rows, columns, size)
                y, x = (n * optics.angular_step(length) for n, length in zip((rows, columns), size, strict=True))
                phase = astigmatic_phase(y[:, None], x, scan.astigmatism, optics.wavelength)
                return (wave * np.exp(-1j * phase)).astype(np.complex64)

            stack.enter_context(patch.object(Optics, "probe", probe))
        yield


def astigmatic_phase(y: _Floats, x: _Floats, astigmatism: float, wavelength: float) -> _Floats:
    """What an astigmatism in Å adds to the phase of the aberrations at the angles ``y``, ``x`` in mrad."""
    return np.asarray(np.pi / wavelength * astigmatism * 1e-6 * (x**2 - y**2))
