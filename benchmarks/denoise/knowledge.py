"""What it is worth to know something of a scan: the error that is left in the deflection, step by step.

All numbers are expectations, made from noiseless patterns and the known probe; no filter is run. Without a prior, the
error of a frequency is its noise. With the power known, it is that of a Wiener filter, ``S N / (S + N)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.denoise.bound import bounds_of
from benchmarks.denoise.methods import as_complex, patterns_of
from benchmarks.denoise.pattern_rivals import Patterns, Probe, Sidebands
from benchmarks.denoise.rivals import frequencies
from benchmarks.denoise.scans import Scan
from stemvane import measure, simulate
from stemvane.data.calibration import wavelength

__all__ = ["expected_errors", "information_gain"]

_Floats = NDArray[np.floating[Any]]

_N_DRAWS = 50
# positions over a unit cell of graphene, and its size in Å
_FEW, _FEW_EXTENT = (10, 6), (4.26, 2.46)


def expected_errors(scan: Scan) -> dict[str, float]:
    """Rms error of the deflection over its rms, by what is known beforehand, each step on top of the one before."""
    settings = scan.config()
    assert settings.dose is not None
    dataset = simulate(scan.config(dose=None), progress=False)
    truth = as_complex(measure(dataset, polar=False).deflection)
    patterns = patterns_of(dataset)
    noise = _noise_of_com(patterns) / settings.dose
    frequency, angle = frequencies(truth.shape, patterns.step)
    probe = _probe(scan)
    size = 1e3 * probe.wavelength
    band = (size * frequency < 2 * probe.semiangle) & (frequency > 0)
    sidebands = Sidebands(probe, patterns.angles)
    of_disc = np.zeros(truth.shape)
    for row, column in np.argwhere(band):
        length, direction = size * frequency[row, column], angle[row, column]
        of_disc[row, column] = _noise_of_disc(sidebands, length, direction) / settings.dose
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in truth.shape))
    along = np.fft.fft2((truth - truth.mean()) * window) * np.exp(-1j * angle)
    power = np.abs(along) ** 2 / (window**2).sum()
    steps = {
        "nothing: the COM of a pattern": noise,
        "nothing beyond 2α/λ": noise * band.mean(),
        "no curl": noise / 2 * band.mean(),
        "the probe: the whole disc tells": float(of_disc.mean()),
        "power of each frequency": float((power * of_disc / np.maximum(power + of_disc, 1e-30)).mean()),
    }
    errors = {name: float(np.sqrt(each / (np.abs(truth) ** 2).mean())) for name, each in steps.items()}
    bounds = bounds_of(scan)
    for name, seen in (("the lattice", "disc"), ("the dark field, too", "patterns")):
        bound, rng = bounds[seen], np.random.default_rng(0)
        squares = [np.mean(np.abs(bound.draw(rng) - bound.truth) ** 2) for _ in range(_N_DRAWS)]
        errors[name] = float(np.sqrt(np.mean(squares) / np.mean(np.abs(bound.truth) ** 2)))
    return errors


def information_gain(scan: Scan, lengths: _Floats) -> _Floats:
    """How many times as much the disc tells of a spatial frequency, of such lengths in 1/Å, as the COM does."""
    few = simulate(scan.config(dose=None, scan_shape=_FEW, scan_extent=_FEW_EXTENT), progress=False)
    patterns, probe = patterns_of(few), _probe(scan)
    sidebands = Sidebands(probe, patterns.angles)
    noise = _noise_of_com(patterns) / 2
    size = 1e3 * probe.wavelength
    return np.array([noise / _noise_of_disc(sidebands, size * length, 0.0) for length in lengths])


def _noise_of_com(patterns: Patterns) -> float:
    """Variance of the deflection, per electron: that of the places of single electrons."""
    total = patterns.counts.sum(axis=(2, 3))
    squares = np.tensordot(patterns.counts, (patterns.angles**2).sum(axis=0), 2) / total
    mean = np.tensordot(patterns.counts, patterns.angles[1] - 1j * patterns.angles[0], 2) / total
    return float(((squares - np.abs(mean) ** 2) / total).mean())


def _noise_of_disc(sidebands: Sidebands, length: float, direction: float) -> float:
    """Variance, per electron, of a frequency's deflection as the disc tells it."""
    change = sidebands(-length * np.sin(direction), length * np.cos(direction))
    information = float((np.abs(change) ** 2 / sidebands.share).sum())
    return float(np.abs(sidebands.position @ change) ** 2) / max(information, 1e-30)


def _probe(scan: Scan) -> Probe:

    settings = scan.config()
    return Probe(settings.convergence_semiangle, wavelength(settings.energy), settings.defocus, scan.astigmatism)
