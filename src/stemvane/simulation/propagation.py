"""How the wave passes a specimen: at once, or slice by slice, in a supercell or in one cell of a crystal."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stemvane.simulation.optics import Optics, add_intensities
from stemvane.simulation.scattering import interaction_parameter, projected_scattering_factor

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["FINE_SAMPLING", "multislice", "n_cells_of", "out_of_focus", "single_slice", "transmission"]

Floats = NDArray[np.float32]
Reals = NDArray[np.floating[Any]]
Waves = NDArray[np.complex64]

FINE_SAMPLING = 0.08
"""Step in Å of the grid on which potentials are summed."""

_SLICE = 1.0
# 1/Å up to which beams are followed from slice to slice, in specimens of up to so many slices and in thicker ones:
# patterns of MoS2 are within 0.7 % and those of 40 Å of GaAs within 1.9 % of those with 6 1/Å; `python -m
# benchmarks.accuracy.slices`
_N_FEW_SLICES, _FARTHEST_IN_FEW, _FARTHEST = 4, 2.0, 4.0
_CHUNK_BYTES = 2**20


def out_of_focus(atoms: Atoms, optics: Optics) -> float:
    """Phase that the outermost beams of the probe gain over half the specimen's height: what one slice leaves out.

    Parameters
    ----------
    atoms : ase.Atoms
        The specimen; the beam runs along z.
    optics : Optics
        Probe and detector.

    Returns
    -------
    float
        rad: ``π α² h / (2 λ)`` for a specimen of the height ``h``.
    """
    height = float(np.ptp(atoms.positions[:, 2])) if len(atoms) else 0.0
    return float(np.pi * (1e-3 * optics.semiangle) ** 2 * height / (2 * optics.wavelength))


def n_cells_of(atoms: Atoms) -> tuple[int, int]:
    """Numbers of equal cells ``(y, x)`` that a supercell is a repetition of, the first of which comes first."""
    n_y, n_x = atoms.info.get("n_cells", (1, 1))
    return int(n_y), int(n_x)


def single_slice(atoms: Atoms, ys: Reals, xs: Reals, optics: Optics, patterns: Floats) -> Iterator[int]:
    """Add the patterns of one frozen configuration; yields numbers of patterns as they are done.

    The wave is needed on the detector only. A beam of the aperture reaches it through a component of the
    transmission function no farther out than aperture plus detector, so a grid of twice that width holds all that
    counts: what is wrapped round falls beside the detector.

    Parameters
    ----------
    atoms : ase.Atoms
        Supercell, periodic along y and x.
    ys, xs : ndarray of float, shapes (scan_y,), (scan_x,)
        Probe positions in Å.
    optics : Optics
        Probe and detector.
    patterns : ndarray of float, shape (scan_y, scan_x, k_y, k_x)
        Changed in place.

    Yields
    ------
    int
    """
    size = _size(atoms)
    orders, bins = _orders(size, optics)
    reach, edge = ([int(o[-1]) for o in kind] for kind in orders)
    shape = tuple(fft.next_fast_len(2 * (r + e) + 1) for r, e in zip(reach, edge, strict=True))
    probe = optics.probe(orders[0][0], orders[0][1], size)
    sheet = transmission(atoms, shape, [(n - 1) // 2 for n in shape], optics)
    # The probe's orders are stored from index 0 on, and so are the detector's: both shifts are phases on the specimen.
    ramps = [np.exp(2j * np.pi * (e - r) * np.arange(n) / n) for e, r, n in zip(edge, reach, shape, strict=True)]
    sheet = (sheet * ramps[0][:, None] * ramps[1]).astype(np.complex64)
    phases = _position_phases(ys, xs, orders[0], size)

    def work(iy: int, start: int, stop: int) -> int:
        row = fft.ifft(probe * phases[0][iy][:, None], shape[0], axis=0)
        wave = fft.ifft(row * phases[1][start:stop, None, :], shape[1], axis=2)
        wave *= sheet
        wave = fft.fft(wave, axis=2, overwrite_x=True)[:, :, : 2 * edge[1] + 1]
        wave = fft.fft(wave, axis=1)[:, : 2 * edge[0] + 1]
        add_intensities(wave, bins[0][0], bins[0][1], bins[1][0], bins[1][1], patterns[iy, start:stop])
        return stop - start

    yield from _run_threaded(work, _pieces(len(ys), len(xs), math.prod(shape)))


def multislice(atoms: Atoms, ys: Reals, xs: Reals, optics: Optics, patterns: Floats) -> Iterator[int]:
    """Add the patterns of one frozen configuration, slice by slice; arguments as of `single_slice`.

    ``ψ → P (t ψ)`` for every slice (Cowley and Moodie, Acta Cryst. 10, 609 (1957)), where ``t`` is the slice's
    transmission function and ``P = exp(−iπ α² Δz / λ)`` in Fourier space leads to the next one. Atoms within 1 Å along
    the beam make a slice, which lies at their mean height. A crystal without defects or thermal displacements is
    computed in one of its cells, beam by beam: a beam of the probe is scattered by reciprocal lattice vectors only.
    """
    slices = _Slices.of(atoms)
    size, n_cells = _size(atoms), n_cells_of(atoms)
    (in_probe, _), _ = _orders(size, optics)
    n_beams = np.count_nonzero(optics.probe(in_probe[0], in_probe[1], size))
    # a cell is 1/n of the supercell's area, and has as many beams as the supercell in all
    if math.prod(n_cells) > 1 and n_beams < len(ys) * len(xs) * math.prod(n_cells):
        work, n_points = _by_cell(slices, n_cells, size, ys, xs, optics, patterns)
    else:
        work, n_points = _by_position(slices, size, ys, xs, optics, patterns)
    yield from _run_threaded(work, _pieces(len(ys), len(xs), n_points))


@dataclass(frozen=True, eq=False)
class _Slices:
    """Atoms in slices of 1 Å, from where the beam comes; `to_next` is the distance to the next slice, 0 after the last.

    `depth` is how far the mean height of all atoms, on which the probe is focused, lies behind the first slice.
    """

    atoms: list[Atoms]
    to_next: list[float]
    depth: float

    @classmethod
    def of(cls, atoms: Atoms) -> _Slices:
        z = atoms.positions[:, 2]
        # a plane that thermal motion has roughened stays one slice where planes are farther apart than this
        order = np.argsort(z, kind="stable")
        index, first = np.zeros(len(z), np.int64), z[order[0]]
        number = 0
        for i in order:
            if z[i] - first > _SLICE:
                number, first = number + 1, z[i]
            index[i] = number
        groups = [np.flatnonzero(index == n) for n in range(number + 1)]
        heights = [float(z[group].mean()) for group in groups]
        return cls([atoms[group] for group in groups], [*np.diff(heights), 0.0], float(z.mean()) - heights[0])

    def transmissions(self, shape: tuple[int, ...], farthest: list[int], optics: Optics) -> list[Waves]:
        """Transmission function of each slice, up to orders by which no beam is folded back onto one that counts."""
        highest = [n - 2 * k - 1 for n, k in zip(shape, farthest, strict=True)]
        return [transmission(piece, shape, highest, optics).astype(np.complex64) for piece in self.atoms]

    def propagators(self, angle: Reals, limit: float, optics: Optics) -> list[Waves]:
        """Factors of the beams at these angles (mrad) on the way to each next slice; 0 beyond the limit."""
        chi = np.pi * (1e-3 * angle) ** 2 / optics.wavelength
        return [(np.exp(-1j * chi * gap) * (angle <= limit)).astype(np.complex64) for gap in self.to_next[:-1]]

    def pass_through(self, waves: Waves, sheets: list[Waves], propagators: list[Waves]) -> Waves:
        """Beams behind the last slice of waves before the first, shape ``(n, y, x)``."""
        for sheet, propagator in zip(sheets, [*propagators, None], strict=True):
            waves *= sheet
            waves = fft.fft2(waves, overwrite_x=True)
            if propagator is not None:
                waves *= propagator
                waves = fft.ifft2(waves, overwrite_x=True)
        return waves


_Work = Callable[[int, int, int], int]


def _by_position(
    slices: _Slices, size: tuple[float, float], ys: Reals, xs: Reals, optics: Optics, patterns: Floats
) -> tuple[_Work, int]:
    """Each probe through the whole supercell; also returns the number of points of its grid."""
    steps = [optics.angular_step(length) for length in size]
    limit, shape, farthest = _grid(slices, optics, steps)
    every = [np.rint(fft.fftfreq(n, 1 / n)).astype(np.int64) for n in shape]
    (orders, _), _ = _orders(size, optics)
    probe = _focused(optics, slices.depth).probe(orders[0], orders[1], size)
    angle = np.hypot(every[0][:, None] * steps[0], every[1] * steps[1])
    sheets, propagators = slices.transmissions(shape, farthest, optics), slices.propagators(angle, limit, optics)
    bins = [optics.bins(axis, o, s) for axis, (o, s) in enumerate(zip(every, steps, strict=True))]
    phases = _position_phases(ys, xs, orders, size)
    places = np.ix_(orders[0] % shape[0], orders[1] % shape[1])

    def work(iy: int, start: int, stop: int) -> int:
        waves = np.zeros((stop - start, *shape), np.complex64)
        waves[:, *places] = probe * phases[0][iy][:, None] * phases[1][start:stop, None, :]
        waves = slices.pass_through(fft.ifft2(waves, norm="forward", overwrite_x=True), sheets, propagators)
        # without the factor 1/n of the transforms through the specimen
        waves *= np.float32(1 / math.prod(shape))
        add_intensities(waves, bins[0][0], bins[0][1], bins[1][0], bins[1][1], patterns[iy, start:stop])
        return stop - start

    return work, 2 * math.prod(shape)


def _by_cell(
    slices: _Slices,
    n_cells: tuple[int, int],
    size: tuple[float, float],
    ys: Reals,
    xs: Reals,
    optics: Optics,
    patterns: Floats,
) -> tuple[_Work, int]:
    """Each beam of the probe through one cell, then all probes as sums of beams; otherwise as `_by_position`.

    Orders of the supercell that differ by its numbers of cells belong to one point of the Brillouin zone, and scatter
    into one another only.
    """
    one = _Slices([piece[: len(piece) // math.prod(n_cells)] for piece in slices.atoms], slices.to_next, slices.depth)
    cell = (size[0] / n_cells[0], size[1] / n_cells[1])
    for piece in one.atoms:
        piece.set_cell([cell[1], cell[0], piece.cell[2, 2]])
    (probe_orders, detector_orders), bins = _orders(size, optics)
    steps = [optics.angular_step(length) for length in cell]
    limit, shape, farthest = _grid(one, optics, steps)
    every = [np.rint(fft.fftfreq(n, 1 / n)).astype(np.int64) for n in shape]
    probe = _focused(optics, one.depth).probe(probe_orders[0], probe_orders[1], size)
    sheets = one.transmissions(shape, farthest, optics)
    points = [np.arange(n) / n for n in shape]

    def scattered(q_y: int, q_x: int) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[slice, slice], Waves]:
        """Rows and columns of the beams of a point in the zone, the detector's orders, and beams behind the cell."""
        rows, columns = (np.flatnonzero(o % n == q) for o, n, q in zip(probe_orders, n_cells, (q_y, q_x), strict=True))
        lit = np.argwhere(probe[np.ix_(rows, columns)] != 0)
        rows, columns = rows[lit[:, 0]], columns[lit[:, 1]]
        g_y, g_x = (probe_orders[0][rows] - q_y) // n_cells[0], (probe_orders[1][columns] - q_x) // n_cells[1]
        waves = (
            np.exp(2j * np.pi * g_y[:, None] * points[0])[:, :, None]
            * np.exp(2j * np.pi * g_x[:, None] * points[1])[:, None, :]
        )
        waves = (waves * probe[rows, columns][:, None, None]).astype(np.complex64)
        angle = np.hypot((every[0][:, None] + q_y / n_cells[0]) * steps[0], (every[1] + q_x / n_cells[1]) * steps[1])
        waves = one.pass_through(waves, sheets, one.propagators(angle, limit, optics))
        first = [(q + int(o[-1])) % n for o, n, q in zip(detector_orders, n_cells, (q_y, q_x), strict=True)]
        seen = tuple(slice(f, None, n) for f, n in zip(first, n_cells, strict=True))
        out = [(o[s] - q) // n for o, s, n, q in zip(detector_orders, seen, n_cells, (q_y, q_x), strict=True)]
        behind = waves[:, out[0][:, None] % shape[0], out[1] % shape[1]] * np.float32(1 / math.prod(shape))
        return rows, columns, (seen[0], seen[1]), np.ascontiguousarray(behind.reshape(len(rows), -1))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        zone = [(q_y, q_x) for q_y in range(n_cells[0]) for q_x in range(n_cells[1])]
        parts = list(pool.map(lambda q: scattered(*q), zone))
    phases = _position_phases(ys, xs, probe_orders, size)
    n_orders = tuple(len(o) for o in detector_orders)

    def work(iy: int, start: int, stop: int) -> int:
        waves = np.zeros((stop - start, *n_orders), np.complex64)
        for rows, columns, seen, behind in parts:
            at = waves[:, seen[0], seen[1]]
            weights = phases[0][iy, rows] * phases[1][start:stop, columns]
            at[...] = (weights @ behind).reshape(at.shape)
        add_intensities(waves, bins[0][0], bins[0][1], bins[1][0], bins[1][1], patterns[iy, start:stop])
        return stop - start

    return work, math.prod(n_orders)


def _focused(optics: Optics, depth: float) -> Optics:
    """The probe before the first slice, of one that is focused so far behind it."""
    return Optics(**{**vars(optics), "defocus": optics.defocus + depth})


def _grid(slices: _Slices, optics: Optics, steps: list[float]) -> tuple[float, tuple[int, ...], list[int]]:
    """Angle in mrad up to which beams are followed, the shape of a grid for them, and their highest orders.

    The grid also holds by how much the probe's beams are scattered to reach each of them.
    """
    frequency = _FARTHEST_IN_FEW if len(slices.atoms) <= _N_FEW_SLICES else _FARTHEST
    limit = max(optics.semiangle, math.hypot(*optics.outer), 1e3 * optics.wavelength * frequency)
    farthest = [math.ceil(limit / s) + 1 for s in steps]
    scattered = [math.ceil((limit + optics.semiangle) / s) + 1 for s in steps]
    shape = tuple(fft.next_fast_len(2 * k + g + 1) for k, g in zip(farthest, scattered, strict=True))
    return limit, shape, farthest


def _size(atoms: Atoms) -> tuple[float, float]:
    return float(atoms.cell[1, 1]), float(atoms.cell[0, 0])


def _orders(size: tuple[float, float], optics: Optics) -> tuple[Any, Any]:
    """Diffraction orders ``(y, x)`` of the aperture and of the detector, and where the detector's fall on it."""
    steps = [optics.angular_step(length) for length in size]
    reach = [math.ceil(optics.semiangle / s + 0.5) for s in steps]
    edge = [math.ceil(outer / s + 0.5) for outer, s in zip(optics.outer, steps, strict=True)]
    orders = [[np.arange(-n, n + 1) for n in kind] for kind in (reach, edge)]
    return orders, [optics.bins(axis, o, s) for axis, (o, s) in enumerate(zip(orders[1], steps, strict=True))]


def _position_phases(
    ys: Reals, xs: Reals, orders: Sequence[NDArray[np.int64]], size: tuple[float, float]
) -> list[Waves]:
    """Factors that put the probe's orders to each position, along y and along x."""
    return [
        np.exp(-2j * np.pi * np.outer(at, o) / length).astype(np.complex64)
        for at, o, length in zip((ys, xs), orders, size, strict=True)
    ]


def _pieces(n_y: int, n_x: int, n_points: int) -> list[tuple[int, int, int]]:
    """Pieces of scan lines whose waves of so many points stay in the cache."""
    chunk = max(1, _CHUNK_BYTES // (8 * n_points))
    return [(iy, i, min(i + chunk, n_x)) for iy in range(n_y) for i in range(0, n_x, chunk)]


def _run_threaded(work: _Work, pieces: list[tuple[int, int, int]]) -> Iterator[int]:
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for future in as_completed([pool.submit(work, *piece) for piece in pieces]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def transmission(
    atoms: Atoms, shape: tuple[int, ...], highest: Sequence[int], optics: Optics
) -> NDArray[np.complex128]:
    """exp(iσV) of one slice on a grid of this shape (y, x), diffraction orders up to the highest (y, x).

    The potential is summed atom by atom in Fourier space, exact at any position. (abTEM's own shares an atom between
    the four grid points about it, which on a grid of 0.13 Å moves the COM of graphene by 2 %.)
    """
    size = np.array(_size(atoms))
    # High frequencies of the potential come back to low ones in the exponential, so take that on a fine grid:
    # on 0.08 Å the COM of graphene is within 2e-4 mrad (of 0.5) of that on 0.02 Å.
    fine = [max(n, fft.next_fast_len(math.ceil(s / FINE_SAMPLING))) for n, s in zip(shape, size, strict=True)]
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
