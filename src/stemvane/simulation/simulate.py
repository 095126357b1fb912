"""simulate: a 4D-STEM scan of a known specimen."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.config import SimulationConfig
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D, ScanAtoms, ScanDefects
from stemvane.data.progress import Progress, counting_bar
from stemvane.simulation.limits import require_possible
from stemvane.simulation.optics import Optics, poisson_counts
from stemvane.simulation.propagation import FINE_SAMPLING, multislice, out_of_focus, single_slice
from stemvane.simulation.recording import Recording
from stemvane.simulation.scan_distortions import GridAxis
from stemvane.simulation.scenes import build_structure
from stemvane.specimens import DEFECTS, is_structure_file

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["simulate", "supercell_size"]

Floats = NDArray[np.float32]

_ATOM_MARGIN = 5.0
_MIN_CELL = 46.0
# 0.08 rad: up to it one slice changes the patterns by less than 4 % of what they change over the scan, and the COM by
# less than 2 %; the sulphur planes of MoS2, at 0.098 rad, change the COM by 3 %, those of MoSe2 by 10 %;
# `python -m benchmarks.accuracy.slices`
_MOST_PHASE = 0.08
_FWHM = 2 * math.sqrt(2 * math.log(2))


def simulate(
    config: SimulationConfig | None = None,
    *,
    structure: str | Path | Atoms | None = None,
    progress: Progress | bool | None = None,
    **changes: Any,
) -> Dataset4D:
    """Simulate a 4D-STEM scan.

    Potentials are those of independent atoms (Lobato and Van Dyck, Acta Cryst. A 70, 636 (2014), as abTEM has them):
    the charge that moves into the bonds is left out. The method 'single-slice' lets the wave pass the projected
    potential at once, ψ = probe · exp(iσV), as is right for a sheet one atom thick; 'multislice' lets it pass in slices
    of 1 Å. By default one slice is taken where the outermost beams of the probe gain less than a set phase over half of
    the specimen's height; ``metadata`` says what was taken, and why.

    Parameters
    ----------
    config : SimulationConfig, optional
        What to simulate; the defaults of `SimulationConfig` where it is left out.
    structure : str, Path or ase.Atoms, optional
        The specimen: a name that `stemvane structures` lists, a file (.cif, .xyz, .extxyz) or atoms. A unit cell is
        repeated along its periodic axes until it fills what the probe can see.
    progress : callable or bool, optional
        A function is called with the numbers of patterns simulated and in all. Each thermal configuration and the
        margin of the scan that a finite source needs count as patterns of their own, and so do those that a detector
        records. True shows a bar, False none; by
        default a bar is shown in a terminal and in a notebook.
    **changes
        Values of `SimulationConfig` that differ from `config`, for example ``scan_shape=(32, 32)``, or
        ``detector="analogue"`` for a typical detector of that kind.

    Returns
    -------
    Dataset4D
        ``data`` has the shape ``(*scan_shape, *detector_shape)``. Without a dose it holds the expectation as a
        fraction of the incident electrons per pixel (float32) and ``expectation`` is None; with one it holds
        Poisson counts (unsigned integers) and ``expectation`` the expected counts. Pixels are square,
        ``2 · detector_outer / max(detector_shape)`` mrad wide, and the optical axis is in the middle of the detector.
        With a detector it holds what that writes, ``expectation`` the expected electrons under the beam as it shifts,
        and ``truth`` all that was done. Optical axis, disc radius, dose and bad pixels are left for the analysis to
        find, as in a recorded scan.

    Raises
    ------
    ConfigError
        If a setting is unknown or out of range, or memory or the type of the counts does not hold the result.
    CalibrationError
        If the energy, the semi-angle or the scan step cannot be meant.
    MissingPackageError
        If ASE is not installed.
    FileFormatError
        If the file of a structure is missing or damaged.

    Notes
    -----
    The probe is focused on the mean height of the atoms.
    The aberration phase is ``χ = 2π/λ (−Δf α²/2 + Cs α⁴/4)``, the probe ``A exp(−iχ)``, as in abTEM. A positive
    defocus Δf is underfocus: the beam comes to its focus Δf behind the specimen, in the direction of flight.

    Examples
    --------
    >>> from stemvane.simulation.simulate import simulate
    >>> dataset = simulate(scan_shape=(2, 3), scan_extent=(0.4, 0.6), detector_shape=(16, 16))
    >>> dataset.shape
    (2, 3, 16, 16)
    """
    # the settings hold names and files only
    named = {"structure": structure} if isinstance(structure, str | os.PathLike) else {}
    settings = _settings(config, {**changes, **named})
    if structure is None or named:
        structure = settings.structure
    name = _name(structure)
    optics = Optics.of(settings)
    margin = [math.ceil(3 * settings.source_size / _FWHM / step) for step in settings.scan_step]
    n_positions = math.prod(n + 2 * pad for n, pad in zip(settings.scan_shape, margin, strict=True))
    require_possible(settings, optics, n_positions, supercell_size(settings), FINE_SAMPLING)
    atoms, defects = _specimen(structure, settings)
    recording = Recording.of(settings)
    grid, sampled = _regular_grid(settings), optics
    if recording is not None:
        grid = recording.grid(optics) or grid
        cell = float(atoms.cell[1, 1]), float(atoms.cell[0, 0])
        sampled = recording.optics(optics, (optics.angular_step(cell[0]), optics.angular_step(cell[1])))
    pad_y, pad_x = (math.ceil(3 * settings.source_size / _FWHM / axis.step) for axis in grid)
    ys, xs = grid[0].positions(pad_y), grid[1].positions(pad_x)

    propagation = _propagation(settings, atoms, optics)
    engine = single_slice if propagation["method"] == "single-slice" else multislice
    patterns = np.zeros((len(ys), len(xs), *sampled.detector_shape), np.float32)
    configurations = list(_thermal(atoms, settings))
    total = len(configurations) * len(ys) * len(xs) + (0 if recording is None else math.prod(recording.scan_shape))
    done = 0
    with counting_bar(progress, "simulate") as count:

        def report(n: int) -> None:
            nonlocal done
            done += n
            count(done, total)

        for displaced in configurations:
            for n in engine(displaced, ys, xs, sampled, patterns):
                report(n)
        patterns /= np.float32(len(configurations))
        patterns = _blur(patterns, settings.source_size, (grid[0].step, grid[1].step), (pad_y, pad_x))
        positioned = _scan_atoms(atoms, defects, settings, recording)
        if recording is None:
            return _dataset(patterns, name, settings, optics, positioned, propagation)
        expected, com = recording.expect(patterns, grid, sampled, optics)
        return recording.record(_dataset(expected, name, settings, optics, positioned, propagation), com, report)


def _regular_grid(settings: SimulationConfig) -> tuple[GridAxis, GridAxis]:
    (n_y, n_x), (step_y, step_x) = settings.scan_shape, settings.scan_step
    return GridAxis(0, n_y, step_y), GridAxis(0, n_x, step_x)


def _settings(config: SimulationConfig | None, changes: dict[str, Any]) -> SimulationConfig:
    settings = {} if config is None else config.model_dump()
    return SimulationConfig.from_dict({**settings, **changes}, "simulate")


def _name(structure: str | Path | Atoms) -> str:
    """What the record calls a structure: its name, that of its file, or its formula."""
    if isinstance(structure, str | os.PathLike):
        return Path(structure).name if is_structure_file(str(structure)) else str(structure)
    return str(structure.get_chemical_formula(empirical=True)) if hasattr(structure, "get_chemical_formula") else ""


def supercell_size(settings: SimulationConfig) -> tuple[float, float]:
    """Smallest size ``(y, x)`` in Å of a supercell that the probe fits in and that samples the pattern finely enough.

    Parameters
    ----------
    settings : SimulationConfig
        What is simulated.

    Returns
    -------
    tuple of float
    """
    optics = Optics.of(settings)
    alpha = 1e-3 * optics.semiangle
    # the focus is in the middle of the specimen
    defocus = abs(optics.defocus) + (settings.thickness or 0.0) / 2
    probe = 2 * (defocus * alpha + abs(optics.cs) * alpha**3)
    least = max(_MIN_CELL, 1.5 * 1e3 * optics.wavelength / optics.pixel, 20 + 1.5 * probe)
    return max(least, settings.scan_extent[0]), max(least, settings.scan_extent[1])


def _specimen(structure: str | Path | Atoms, settings: SimulationConfig) -> tuple[Atoms, ScanDefects]:
    """Atoms of the supercell, and the defects among them."""
    return build_structure(
        structure,
        supercell_size(settings),
        scan_extent=settings.scan_extent,
        zone_axis=settings.zone_axis,
        thickness=settings.thickness,
        twist=settings.twist,
        defects=dict[str, int](settings.defects.items()),
        concentrations=dict[str, float](settings.concentrations.items()),
        seed=settings.seed if settings.placement_seed is None else settings.placement_seed,
    )


def _propagation(settings: SimulationConfig, atoms: Atoms, optics: Optics) -> dict[str, str]:
    """The method that the settings ask for, or that serves, and why."""
    if settings.method != "auto":
        return {"method": settings.method, "method_reason": "as set"}
    phase = out_of_focus(atoms, optics)
    serves = phase <= _MOST_PHASE
    height = float(np.ptp(atoms.positions[:, 2]))
    return {
        "method": "single-slice" if serves else "multislice",
        "method_reason": f"atoms span {height:.3g} Å along the beam, over half of which the outermost beams of the "
        f"probe gain {phase:.2g} rad; one slice serves up to {_MOST_PHASE:g} rad",
    }


def _thermal(atoms: Atoms, settings: SimulationConfig) -> Iterator[Atoms]:
    """Frozen configurations of independently displaced atoms (Einstein model)."""
    if settings.phonon_sigma == 0:
        yield atoms
        return
    # Its own stream, so that dose and displacements can be changed independently under one seed.
    rng = np.random.default_rng([settings.seed, 1])
    for _ in range(settings.n_phonons):
        displaced: Atoms = atoms.copy()
        displaced.info.pop("n_cells", None)  # its cells are no longer alike
        displaced.positions += rng.normal(scale=settings.phonon_sigma, size=displaced.positions.shape)
        yield displaced


def _blur(patterns: Floats, source_size: float, steps: tuple[float, float], pads: tuple[int, int]) -> Floats:
    """Average over a Gaussian source and cut off the margin."""
    if source_size == 0:
        return patterns
    sigma = [source_size / _FWHM / s for s in steps]
    blurred = ndimage.gaussian_filter(patterns, sigma, axes=(0, 1), radius=list(pads), output=np.float32)
    n_y, n_x = blurred.shape[:2]
    return np.ascontiguousarray(blurred[pads[0] : n_y - pads[0], pads[1] : n_x - pads[1]])


def _scan_atoms(
    atoms: Atoms, defects: ScanDefects, settings: SimulationConfig, recording: Recording | None
) -> ScanAtoms:
    """Atoms in the scan and a margin about it, periodic images included; a scan that drifts covers more."""
    low, high = np.zeros(2), np.asarray(settings.scan_extent)
    if recording is not None:
        low = np.minimum(low, recording.path.positions.min(axis=0))
        high = np.maximum(high, recording.path.positions.max(axis=0))
    low, high = low - _ATOM_MARGIN, high + _ATOM_MARGIN
    size = np.array([atoms.cell[1, 1], atoms.cell[0, 0]])
    images = [
        np.arange(math.floor(first / s), math.ceil(last / s) + 1)
        for s, first, last in zip(size, low, high, strict=True)
    ]
    shifts = np.stack(np.meshgrid(*images, indexing="ij"), axis=-1).reshape(-1, 1, 2) * size
    positions = (atoms.positions[:, 1::-1] + shifts).reshape(-1, 2)
    inside = np.all((positions >= low) & (positions <= high), axis=1)
    return ScanAtoms(
        numbers=np.tile(atoms.numbers, len(shifts))[inside].astype(np.int64),
        positions=positions[inside],
        heights=np.tile(atoms.positions[:, 2], len(shifts))[inside],
        labels=tuple(np.tile(atoms.get_array("labels"), len(shifts))[inside].tolist()),
        defects=defects,
    )


def _dataset(
    patterns: Floats,
    name: str,
    settings: SimulationConfig,
    optics: Optics,
    atoms: ScanAtoms,
    propagation: dict[str, str],
) -> Dataset4D:
    n_y, n_x = settings.detector_shape
    calibration = Calibration(
        scan_step=settings.scan_step,
        pixel_size=(optics.pixel, optics.pixel),
        optical_axis=((n_y - 1) / 2, (n_x - 1) / 2),
        disc_radius=optics.semiangle / optics.pixel,
        convergence_semiangle=optics.semiangle,
        energy=optics.energy,
        scan_rotation=0.0,
    )
    metadata = {"simulated": True, **propagation, "structure": name}
    if atoms.defects is not None and not set(atoms.defects.kinds) <= DEFECTS.keys():
        metadata["defects"] = "by rule, not relaxed"
    expectation = None
    data: NDArray[Any] = patterns
    if settings.dose is not None:
        patterns *= np.float32(settings.dose)
        expectation = patterns
        # a detector draws electrons of its own
        data = patterns if settings.recorder else poisson_counts(patterns, settings.seed)
    return Dataset4D.from_array(
        data,
        calibration=calibration,
        name=name,
        expectation=expectation,
        atoms=atoms,
        metadata=metadata,
        electrons_per_pattern=settings.dose,
        noiseless=settings.dose is None,
    )
