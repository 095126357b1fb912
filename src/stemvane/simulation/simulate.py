"""simulate: a 4D-STEM scan of a known specimen. The only importer of abTEM."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from stemvane.config import SimulationConfig
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D, ScanAtoms, ScanDefects
from stemvane.data.progress import Progress, counting_bar
from stemvane.extras import require_package
from stemvane.simulation.limits import require_possible
from stemvane.simulation.optics import Optics, add_intensities, poisson_counts
from stemvane.simulation.recording import Recording
from stemvane.simulation.scan_distortions import GridAxis
from stemvane.simulation.scattering import interaction_parameter, projected_scattering_factor
from stemvane.simulation.scenes import build_structure
from stemvane.simulation.structures import EXTRA, SIMULATING

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["simulate"]

Floats = NDArray[np.float32]
Reals = NDArray[np.floating[Any]]

_ATOM_MARGIN = 5.0
_FINE_SAMPLING = 0.08
_MIN_CELL = 46.0
_SLICE = 1.0
_FWHM = 2 * math.sqrt(2 * math.log(2))
_CHUNK_BYTES = 2**20


def simulate(
    config: SimulationConfig | None = None, *, progress: Progress | bool | None = None, **changes: Any
) -> Dataset4D:
    """Simulate a 4D-STEM scan.

    Potentials are those of independent atoms (Lobato and Van Dyck, Acta Cryst. A 70, 636 (2014), as abTEM has them):
    the charge that moves into the bonds is left out. The method 'single-slice' lets the wave pass the projected
    potential at once, ψ = probe · exp(iσV), as is right for a sheet one atom thick; 'multislice' is abTEM's
    (Madsen and Susi, Open Research Europe 1, 24 (2021)), for thicker specimens and as the reference.

    Parameters
    ----------
    config : SimulationConfig, optional
        What to simulate; the defaults of `SimulationConfig` where it is left out.
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
        If ASE is not installed, or abTEM for 'multislice'.

    Notes
    -----
    The aberration phase is ``χ = 2π/λ (−Δf α²/2 + Cs α⁴/4)``, the probe ``A exp(−iχ)``, as in abTEM. A positive
    defocus Δf is underfocus: the beam comes to its focus Δf behind the specimen, in the direction of flight.

    Examples
    --------
    >>> from stemvane.simulation.simulate import simulate
    >>> dataset = simulate(scan_shape=(2, 3), scan_extent=(0.4, 0.6), detector_shape=(16, 16))
    >>> dataset.shape
    (2, 3, 16, 16)
    """
    settings = _settings(config, changes)
    optics = Optics.of(settings)
    margin = [math.ceil(3 * settings.source_size / _FWHM / step) for step in settings.scan_step]
    n_positions = math.prod(n + 2 * pad for n, pad in zip(settings.scan_shape, margin, strict=True))
    require_possible(settings, optics, n_positions, _cell_size(settings, optics), _FINE_SAMPLING)
    atoms, defects = _specimen(settings, optics)
    recording = Recording.of(settings)
    grid, sampled = _regular_grid(settings), optics
    if recording is not None:
        grid = recording.grid(optics) or grid
        cell = float(atoms.cell[1, 1]), float(atoms.cell[0, 0])
        sampled = recording.optics(optics, (optics.angular_step(cell[0]), optics.angular_step(cell[1])))
    pad_y, pad_x = (math.ceil(3 * settings.source_size / _FWHM / axis.step) for axis in grid)
    ys, xs = grid[0].positions(pad_y), grid[1].positions(pad_x)

    engine = _single_slice if settings.method == "single-slice" else _multislice
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
            return _dataset(patterns, settings, optics, positioned)
        expected, com = recording.expect(patterns, grid, sampled, optics)
        return recording.record(_dataset(expected, settings, optics, positioned), com, report)


def _regular_grid(settings: SimulationConfig) -> tuple[GridAxis, GridAxis]:
    (n_y, n_x), (step_y, step_x) = settings.scan_shape, settings.scan_step
    return GridAxis(0, n_y, step_y), GridAxis(0, n_x, step_x)


def _settings(config: SimulationConfig | None, changes: dict[str, Any]) -> SimulationConfig:
    settings = {} if config is None else config.model_dump()
    return SimulationConfig.from_dict({**settings, **changes}, "simulate")


def _cell_size(settings: SimulationConfig, optics: Optics) -> tuple[float, float]:
    """A supercell so large that the probe fits in and that it samples the pattern finer than the detector does."""
    alpha = 1e-3 * optics.semiangle
    probe = 2 * (abs(optics.defocus) * alpha + abs(optics.cs) * alpha**3)
    least = max(_MIN_CELL, 1.5 * 1e3 * optics.wavelength / optics.pixel, 20 + 1.5 * probe)
    return max(least, settings.scan_extent[0]), max(least, settings.scan_extent[1])


def _specimen(settings: SimulationConfig, optics: Optics) -> tuple[Atoms, ScanDefects]:
    """Atoms of the supercell, and the defects among them."""
    return build_structure(
        settings.structure,
        _cell_size(settings, optics),
        scan_extent=settings.scan_extent,
        defects=dict[str, int](settings.defects.items()),
        concentrations=dict[str, float](settings.concentrations.items()),
        seed=settings.seed if settings.placement_seed is None else settings.placement_seed,
    )


def _thermal(atoms: Atoms, settings: SimulationConfig) -> Iterator[Atoms]:
    """Frozen configurations of independently displaced atoms (Einstein model)."""
    if settings.phonon_sigma == 0:
        yield atoms
        return
    # Its own stream, so that dose and displacements can be changed independently under one seed.
    rng = np.random.default_rng([settings.seed, 1])
    for _ in range(settings.n_phonons):
        displaced: Atoms = atoms.copy()
        displaced.positions += rng.normal(scale=settings.phonon_sigma, size=displaced.positions.shape)
        yield displaced


def _single_slice(atoms: Atoms, ys: Reals, xs: Reals, optics: Optics, patterns: Floats) -> Iterator[int]:
    """Add the patterns of one frozen configuration; yields numbers of patterns as they are done.

    The wave is needed on the detector only. A beam of the aperture reaches it through a component of the
    transmission function no farther out than aperture plus detector, so a grid of twice that width holds all that
    counts: what is wrapped round falls beside the detector.
    """
    size = (float(atoms.cell[1, 1]), float(atoms.cell[0, 0]))
    steps = [optics.angular_step(length) for length in size]
    reach = [math.ceil(optics.semiangle / s + 0.5) for s in steps]
    edge = [math.ceil(outer / s + 0.5) for outer, s in zip(optics.outer, steps, strict=True)]
    shape = tuple(fft.next_fast_len(2 * (r + e) + 1) for r, e in zip(reach, edge, strict=True))
    bins = [optics.bins(axis, np.arange(-e, e + 1), s) for axis, (e, s) in enumerate(zip(edge, steps, strict=True))]
    orders = [np.arange(-r, r + 1) for r in reach]
    probe = optics.probe(orders[0], orders[1], size)
    sheet = _transmission(atoms, shape, [(n - 1) // 2 for n in shape], optics)
    # The probe's orders are stored from index 0 on, and so are the detector's: both shifts are phases on the specimen.
    ramps = [np.exp(2j * np.pi * (e - r) * np.arange(n) / n) for e, r, n in zip(edge, reach, shape, strict=True)]
    sheet = (sheet * ramps[0][:, None] * ramps[1]).astype(np.complex64)
    phases = [
        np.exp(-2j * np.pi * np.outer(at, o) / length).astype(np.complex64)
        for at, o, length in zip((ys, xs), orders, size, strict=True)
    ]

    def work(iy: int, start: int, stop: int) -> int:
        row = fft.ifft(probe * phases[0][iy][:, None], shape[0], axis=0)
        wave = fft.ifft(row * phases[1][start:stop, None, :], shape[1], axis=2)
        wave *= sheet
        wave = fft.fft(wave, axis=2, overwrite_x=True)[:, :, : 2 * edge[1] + 1]
        wave = fft.fft(wave, axis=1)[:, : 2 * edge[0] + 1]
        add_intensities(wave, *bins[0], *bins[1], patterns[iy, start:stop])
        return stop - start

    chunk = max(1, _CHUNK_BYTES // (8 * shape[0] * shape[1]))
    pieces = [(iy, i, min(i + chunk, len(xs))) for iy in range(len(ys)) for i in range(0, len(xs), chunk)]
    yield from _run_threaded(work, pieces)


def _run_threaded(work: Callable[..., int], pieces: list[tuple[int, int, int]]) -> Iterator[int]:
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for future in as_completed([pool.submit(work, *piece) for piece in pieces]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _multislice(atoms: Atoms, ys: Reals, xs: Reals, optics: Optics, patterns: Floats) -> Iterator[int]:
    """Add the patterns of one frozen configuration by abTEM's multislice; yields numbers as they are done."""
    with require_package(SIMULATING, EXTRA):
        import abtem
        from abtem.antialias import AntialiasAperture
        from abtem.multislice import FresnelPropagator, conventional_multislice_step
        from abtem.potentials.iam import TransmissionFunction

    size = (float(atoms.cell[1, 1]), float(atoms.cell[0, 0]))
    steps = [optics.angular_step(length) for length in size]
    # abTEM keeps the waves below 2/3 of the highest frequency of the grid (and its edge is a few per cent soft)
    least = 1.03 * max(optics.semiangle + max(optics.outer), math.hypot(*optics.outer))
    shape = tuple(fft.next_fast_len(math.ceil(3 * least / s)) for s in steps)
    bins = [optics.bins(axis, fft.fftfreq(n, 1 / n), s) for axis, (n, s) in enumerate(zip(shape, steps, strict=True))]
    slices, depth = _slices(atoms)
    transmissions = [
        TransmissionFunction(
            _transmission(piece, shape, [n // 3 for n in shape], optics).T[None].astype(np.complex64),
            _SLICE,
            extent=size[::-1],
            energy=optics.energy,
        )
        for piece in slices
    ]
    probe = abtem.Probe(
        energy=optics.energy,
        semiangle_cutoff=optics.semiangle,
        gpts=shape[::-1],
        extent=size[::-1],
        defocus=optics.defocus + depth,
        Cs=optics.cs,
    )
    propagator, antialias = FresnelPropagator(), AntialiasAperture()  # type: ignore[no-untyped-call]
    chunk = max(1, _CHUNK_BYTES // (2 * shape[0] * shape[1]))
    for iy, start in product(range(len(ys)), range(0, len(xs), chunk)):
        at = xs[start : start + chunk]
        waves = probe.build(abtem.CustomScan(np.stack([at, np.full(len(at), ys[iy])], axis=1)), lazy=False)
        for transmission in transmissions:
            waves = conventional_multislice_step(waves, transmission, propagator, antialias)
        spectrum = fft.fft2(waves.array, workers=-1).swapaxes(1, 2)
        add_intensities(spectrum, *bins[0], *bins[1], patterns[iy, start : start + len(at)])
        yield len(at)


def _slices(atoms: Atoms) -> tuple[list[Atoms], float]:
    """Cut the specimen into slices, without the empty space; also returns the depth of its middle in Å."""
    z = atoms.positions[:, 2]
    n = 2 * math.ceil(np.ptp(z) / (2 * _SLICE)) + 1
    index = np.floor((z - (z.max() + z.min()) / 2) / _SLICE + n / 2)
    # abTEM lets the wave pass a slice at its upper face.
    return [atoms[index == i] for i in range(n)], n // 2 * _SLICE


def _transmission(
    atoms: Atoms, shape: tuple[int, ...], highest: Sequence[int], optics: Optics
) -> NDArray[np.complex128]:
    """exp(iσV) of one slice on a grid of this shape (y, x), diffraction orders up to the highest (y, x).

    The potential is summed atom by atom in Fourier space, exact at any position. (abTEM's own shares an atom between
    the four grid points about it, which on a grid of 0.13 Å moves the COM of graphene by 2 %.)
    """
    size = np.array([atoms.cell[1, 1], atoms.cell[0, 0]])
    # High frequencies of the potential come back to low ones in the exponential, so take that on a fine grid:
    # on 0.08 Å the COM of graphene is within 2e-4 mrad (of 0.5) of that on 0.02 Å.
    fine = [max(n, fft.next_fast_len(math.ceil(s / _FINE_SAMPLING))) for n, s in zip(shape, size, strict=True)]
    ky, kx = fft.fftfreq(fine[0], size[0] / fine[0]), fft.rfftfreq(fine[1], size[1] / fine[1])
    potential = np.zeros((len(ky), len(kx)), np.complex128)
    for symbol in sorted(set(atoms.symbols)):
        y, x = atoms.positions[atoms.symbols == symbol, 1::-1].T
        factor = projected_scattering_factor(symbol, ky[:, None] ** 2 + kx**2)
        potential += factor * (np.exp(-2j * np.pi * np.outer(ky, y)) @ np.exp(-2j * np.pi * np.outer(x, kx)))
    projected = fft.irfft2(potential, fine, norm="forward", workers=-1) / size.prod()
    spectrum = fft.fft2(np.exp(1j * interaction_parameter(optics.energy) * projected), norm="forward", workers=-1)
    low_orders = np.ix_(*(np.arange(-h, h + 1) for h in highest))
    low = np.zeros(shape, np.complex128)
    low[low_orders] = spectrum[low_orders]
    return np.asarray(fft.ifft2(low, norm="forward"))


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


def _dataset(patterns: Floats, settings: SimulationConfig, optics: Optics, atoms: ScanAtoms) -> Dataset4D:
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
    metadata = {
        "simulated": True,
        "method": settings.method,
        "structure": settings.structure,
    }
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
        name=settings.structure,
        expectation=expectation,
        atoms=atoms,
        metadata=metadata,
        electrons_per_pattern=settings.dose,
        noiseless=settings.dose is None,
    )
