"""How atoms scatter electrons: the potential of each element, and what a potential does to the phase of a wave."""

from __future__ import annotations

import csv
import functools
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.extras import require_package
from stemvane.simulation.structures import EXTRA, SIMULATING

__all__ = ["interaction_parameter", "known_elements", "projected_scattering_factor"]

Floats = NDArray[np.floating[Any]]


def interaction_parameter(energy: float) -> float:
    """Phase that a wave gains per V Å of projected potential: ``σ = 2π m e λ / h²``, relativistic.

    Parameters
    ----------
    energy : float
        Beam energy in eV.

    Returns
    -------
    float
        rad/(V Å).
    """
    with require_package(SIMULATING, EXTRA):
        from ase import units as u

    mass = (1 + u._e * energy / (u._me * u._c**2)) * u._me
    wavelength = u._hplanck * u._c / np.sqrt(energy * (2 * u._me * u._c**2 / u._e + energy)) / u._e * 1.0e10
    return float(2 * np.pi * mass * u.kg * u._e * u.C * wavelength / (u._hplanck * u.s * u.J) ** 2)


def projected_scattering_factor(symbol: str, square: Floats) -> NDArray[np.float64]:
    """Fourier transform of an atom's potential, projected along the beam.

    The parametrization is that of Lobato and Van Dyck (Acta Cryst. A 70, 636, 2014):
    ``f(q) = Σ a (2 + b q²) / (1 + b q²)²``. The constants of an atom are in single precision, as in abTEM, so that
    simulations are the same; abTEM itself takes seconds to import.

    Parameters
    ----------
    symbol : str
        Chemical element.
    square : ndarray of float, shape (...)
        Square of the spatial frequency, 1/Å².

    Returns
    -------
    ndarray of float, shape (...)
        V Å³.
    """
    with require_package(SIMULATING, EXTRA):
        from ase import units as u

    vacuum = u._eps0 * u.A**2 * u.s**4 / (u.kg * u.m**3)
    kappa = 4 * np.pi * vacuum / (2 * np.pi * u.Bohr * u._e * u.C)
    a, b = _parameters()[symbol]
    amplitudes = (np.pi**2 * a / b ** (3 / 2.0) / kappa).astype(np.float32)
    widths = (2 * np.pi / np.sqrt(b)).astype(np.float32)
    wavenumber = 4 * np.float32(np.pi**2) * square
    terms = [
        height / width / (wavenumber + width**2) + height * width / (wavenumber + width**2) ** 2
        for height, width in zip(amplitudes, widths, strict=True)
    ]
    return np.asarray(8 * np.float32(np.pi) * sum(terms), np.float64)


def known_elements() -> set[str]:
    """Symbols of the elements whose potential is known."""
    return set(_parameters())


@functools.cache
def _parameters() -> dict[str, NDArray[np.float64]]:
    """Five amplitudes in Å and five widths in Å² of every element."""
    text = resources.files("stemvane.simulation").joinpath("lobato.csv").read_text(encoding="ascii")
    rows = list(csv.reader(text.splitlines()))[1:]
    return {element: np.array(numbers, np.float64).reshape(2, 5) for element, *numbers in rows}
