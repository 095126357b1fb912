"""What no estimate of a scan's deflection can do better, where the crystal's spatial frequencies are known.

Unknown are the Fourier coefficients of the projected potential at the frequencies of the lattice up to 2α/λ, Gaussian
with variances equal to the true powers. All counts of all patterns tell of them, with the Fisher information of the
true specimen under the known probe: nothing is linearised but about the truth, and dark pixels count, too. The error
that is left at every frequency (the Bayesian Cramér-Rao bound: Van Trees, Detection, Estimation, and Modulation Theory,
1968, section 2.4) is propagated into the deflection. Who has to find the lattice, the power at every frequency or the
probe in the data does worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from benchmarks.denoise.pattern_rivals import Probe
from benchmarks.denoise.scans import Scan
from stemvane.data.calibration import wavelength
from stemvane.simulation.scattering import interaction_parameter, projected_scattering_factor
from stemvane.simulation.structures import SHEETS

__all__ = ["Bound", "Seen", "bounds_of"]

_Map = NDArray[np.complexfloating[Any, Any]]
_Floats = NDArray[np.floating[Any]]

# Å, of the cell that the probe is in: a sample of its patterns is as wide as a pixel of the detector
_CELL = 21.0
# Å, of the potential
_SAMPLING = 0.09
# positions in an orthogonal unit cell; patterns have no frequencies above 2α/λ along the scan
_GRID = (20, 12)
_FWHM = 2 * np.sqrt(2 * np.log(2))
# share of the strongest power below which a frequency counts as known
_WEAK = 1e-6
# share of all electrons in a sample; less tells nothing
_DARK = 1e-12
Seen = Literal["patterns", "disc", "com"]


@dataclass(frozen=True)
class Bound:
    """Error of the best estimate.

    Attributes
    ----------
    truth : ndarray of complex, shape (n,)
        Deflection in mrad at the positions of a unit cell, ``x − i y``.
    responses : ndarray of float, shape (2, n, n_unknowns)
        How it depends on the unknowns, in y and x.
    root : ndarray of float, shape (n_unknowns, n_unknowns)
        Of their posterior covariance.
    """

    truth: _Map
    responses: _Floats
    root: _Floats

    def draw(self, rng: np.random.Generator) -> _Map:
        """Deflection as the best estimate may find it."""
        y, x = self.responses @ (self.root @ rng.standard_normal(len(self.root)))
        return np.asarray(self.truth + x - 1j * y)


def bounds_of(scan: Scan) -> dict[Seen, Bound]:
    """Bounds for a crystal that repeats with the cell of a honeycomb, by what is seen of every pattern.

    They are those of the whole patterns, of their discs alone, and of their centre of mass alone.
    """
    settings = scan.config()
    cell = _simulate_cell(scan)
    intensity, slope = cell.intensity, cell.slope
    total = intensity.sum(axis=(1, 2))
    moments = np.array([np.tensordot(intensity, each, 2) / total for each in (cell.y, cell.x)])
    squares = np.array([np.tensordot(intensity, each**2, 2) / total for each in (cell.y, cell.x)])
    unnormalised = np.array([np.tensordot(slope, each, 2) for each in (cell.y, cell.x)])
    responses = (unnormalised - moments[..., None] * slope.sum(axis=(2, 3))) / total[:, None]
    # the COM's variance is that of the places of single electrons
    of_com = np.moveaxis(responses / np.sqrt((squares - moments**2) / total)[..., None], 0, -1)
    of_pixels = slope / np.sqrt(np.maximum(intensity, _DARK))[:, None]
    disc = np.hypot(cell.y, cell.x) <= settings.convergence_semiangle
    weighted: dict[Seen, _Floats] = {
        "com": of_com,
        "disc": of_pixels[..., disc],
        "patterns": of_pixels.reshape(*slope.shape[:2], -1),
    }
    n_electrons = float(settings.dose or 0) * np.prod(settings.scan_shape)
    truth = moments[1] - 1j * moments[0]
    bounds: dict[Seen, Bound] = {}
    for seen, each in weighted.items():
        per_electron = np.einsum("npk,nqk->pq", each, each, optimize=True) / len(each)
        covariance = np.linalg.inv(n_electrons * per_electron + np.diag(1 / cell.powers))
        bounds[seen] = Bound(truth - truth.mean(), responses, np.linalg.cholesky(covariance))
    return bounds


@dataclass(frozen=True)
class _Cell:
    """Patterns over a unit cell.

    ``intensity``, shape ``(n, k_y, k_x)``, sums to the share of the electrons that the detector receives; ``slope``,
    shape ``(n, n_unknowns, k_y, k_x)``, is its change with the unknowns, whose variances are ``powers``; ``y`` and
    ``x`` are the angles of the samples in mrad.
    """

    intensity: _Floats
    slope: _Floats
    powers: _Floats
    y: _Floats
    x: _Floats


def _simulate_cell(scan: Scan) -> _Cell:
    settings = scan.config()
    extent = (_CELL, _CELL)
    atoms = scan.specimen(extent) if scan.specimen else SHEETS[settings.structure](extent)
    size = float(atoms.cell[1, 1]), float(atoms.cell[0, 0])
    length = wavelength(settings.energy)
    probe = Probe(settings.convergence_semiangle, length, settings.defocus, scan.astigmatism)
    shape = tuple(2 * round(side / _SAMPLING / 2) for side in size)
    orders = [np.rint(np.fft.fftfreq(n, 1 / n)).astype(int) for n in shape]
    angles = [1e3 * length * order / side for order, side in zip(orders, size, strict=True)]
    phase = _phase(atoms, size, shape, interaction_parameter(settings.energy))
    aperture = probe(angles[0][:, None], angles[1])
    aperture /= np.linalg.norm(aperture)

    chosen = _unknowns(phase, orders, angles, 2 * settings.convergence_semiangle)
    powers = np.array([np.abs(phase[row, column]) ** 2 for row, column in chosen])
    kept = [np.flatnonzero(np.abs(angle) <= settings.detector_outer) for angle in angles]
    transmission = np.exp(1j * np.fft.ifft2(phase).real * phase.size)
    cell = _unit_cell(atoms, size)
    patterns, slopes = [], []
    for y in np.arange(_GRID[0]) / _GRID[0] * cell[0]:
        for x in np.arange(_GRID[1]) / _GRID[1] * cell[1]:
            shift = np.exp(-2j * np.pi * (orders[0][:, None] * y / size[0] + orders[1] * x / size[1]))
            wave = np.fft.fft2(np.fft.ifft2(aperture * shift) * transmission)
            patterns.append(np.abs(wave[np.ix_(*kept)]) ** 2)
            slopes.append([_slope(wave, row, column, kept) for row, column in chosen])
    blur = _blur(cell, settings.source_size)
    intensity, slope = blur(np.array(patterns, np.float32)).real, blur(np.array(slopes, np.complex64))
    # a coefficient and its opposite are conjugate: two real unknowns of the same power
    slope = np.sqrt(2) * np.concatenate([slope.real, slope.imag], axis=1)
    at = np.meshgrid(*(angle[index] for angle, index in zip(angles, kept, strict=True)), indexing="ij")
    return _Cell(intensity, slope, np.tile(powers, 2), *at)


def _phase(atoms: Atoms, size: tuple[float, float], shape: tuple[int, ...], sigma: float) -> _Map:
    """Fourier coefficients of the phase that the specimen gives the wave."""
    ky, kx = (np.fft.fftfreq(n, side / n) for n, side in zip(shape, size, strict=True))
    result = np.zeros(shape, complex)
    for symbol in sorted(set(atoms.symbols)):
        x, y = atoms.positions[atoms.symbols == symbol, :2].T
        factor = projected_scattering_factor(symbol, ky[:, None] ** 2 + kx**2)
        result += factor * (np.exp(-2j * np.pi * np.outer(ky, y)) @ np.exp(-2j * np.pi * np.outer(x, kx)))
    return np.asarray(sigma * result / np.prod(size))


def _unknowns(phase: _Map, orders: Any, angles: Any, largest: float) -> list[tuple[int, int]]:
    """Orders of the frequencies that the deflection holds, one of each opposite pair."""
    inside = np.hypot(angles[0][:, None], angles[1]) < largest
    strong = np.abs(phase) ** 2 > _WEAK * (np.abs(phase[inside & (phase != phase[0, 0])]) ** 2).max()
    found = [(int(orders[0][i]), int(orders[1][j])) for i, j in np.argwhere(inside & strong)]
    return [(row, column) for row, column in found if (row, column) > (0, 0)]


def _slope(wave: _Map, row: int, column: int, kept: list[Any]) -> _Map:
    """Change of the intensity with a coefficient: what it scatters out of and into every pixel."""
    up, down = (np.roll(wave, (sign * row, sign * column), (0, 1))[np.ix_(*kept)] for sign in (1, -1))
    here = wave[np.ix_(*kept)]
    return np.asarray(1j * (np.conj(here) * up - here * np.conj(down)))


def _unit_cell(atoms: Atoms, size: tuple[float, float]) -> tuple[float, float]:
    """Orthogonal cell of the honeycomb that the supercell is made of."""
    side = float(np.sort(np.unique(atoms.positions[:, 0].round(6)))[:2] @ (-2, 2))
    n_y, n_x = round(size[0] / (np.sqrt(3) * side)), round(size[1] / side)
    return size[0] / n_y, size[1] / n_x


def _blur(cell: tuple[float, float], source_size: float) -> Any:
    """Average over the source, of anything that repeats with the cell."""
    y, x = (np.fft.fftfreq(n, side / n) for n, side in zip(_GRID, cell, strict=True))
    damping = np.exp(-2 * (np.pi * source_size / _FWHM) ** 2 * (y[:, None] ** 2 + x**2))

    def apply(values: Any) -> Any:
        if source_size == 0:
            return values
        on_grid = np.fft.fft2(values.reshape(*_GRID, -1), axes=(0, 1)) * damping[..., None]
        return np.fft.ifft2(on_grid, axes=(0, 1)).astype(np.complex64).reshape(values.shape)

    return apply
