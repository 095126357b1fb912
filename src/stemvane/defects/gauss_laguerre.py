"""Smooth functions about a point, in which a rotation is a phase and white noise stays white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["Window", "gauss_laguerre"]

_Floats = NDArray[np.floating[Any]]


def gauss_laguerre(offsets: _Floats, width: float, n: int, order: int) -> NDArray[np.complex128]:
    """Values of a Gauss–Laguerre function, an eigenfunction of the harmonic oscillator in the plane.

    ``√(n! / (π (n + |l|)!)) / w · ρ^|l| L_n^|l|(ρ²) exp(-ρ²/2) exp(i l φ)`` with ``ρ = r / w``, l the angular order:
    the functions are orthonormal, and a rotation by θ multiplies one by ``exp(-i l θ)``.

    Parameters
    ----------
    offsets : ndarray of float, shape (..., 2)
        Positions ``(y, x)`` from the centre in Å; φ is counter-clockwise on the screen, 0 to the right.
    width : float
        Width w in Å.
    n : int
        Radial order, the number of rings on which the function is 0.
    order : int
        Angular order l.

    Returns
    -------
    ndarray of complex, shape (...)
        Values of the functions in 1/Å.
    """
    return np.asarray(_values(offsets, width, [(n, order)])[0])


@dataclass(frozen=True)
class Window:
    """All Gauss–Laguerre functions up to a degree about one point.

    Attributes
    ----------
    width : float
        Width of the functions in Å.
    degree : int
        Largest ``2 n + |l|``.
    """

    width: float
    degree: int

    @property
    def modes(self) -> list[tuple[int, int]]:
        """Radial and angular order ``(n, l)`` of each function."""
        return [
            (n, order)
            for order in range(-self.degree, self.degree + 1)
            for n in range((self.degree - abs(order)) // 2 + 1)
        ]

    @property
    def angular_orders(self) -> NDArray[np.int64]:
        """Angular order l of each function."""
        return np.array([order for _, order in self.modes])

    @property
    def reach(self) -> float:
        """Distance in Å beyond which the functions are taken as 0."""
        return float(self.width * (2.5 + 0.5 * self.degree**0.5 + 0.25 * self.degree))

    def values(self, offsets: _Floats) -> NDArray[np.complex128]:
        """All functions at offsets ``(y, x)`` in Å, shape ``(n_modes, n_offsets)``."""
        return _values(offsets, self.width, self.modes)


def _values(offsets: _Floats, width: float, modes: Sequence[tuple[int, int]]) -> NDArray[np.complex128]:
    """Values of several functions, shape ``(n_modes, ...)``, with what they share taken once."""
    rho2 = (offsets**2).sum(axis=-1) / width**2
    azimuth = np.arctan2(-offsets[..., 0], offsets[..., 1])
    decay = np.exp(-rho2 / 2)
    result = np.empty((len(modes), *rho2.shape), np.complex128)
    radials: dict[tuple[int, int], NDArray[np.float64]] = {}
    windings: dict[int, NDArray[np.complex128]] = {}
    for place, (n, order) in enumerate(modes):
        m = abs(order)
        if (n, m) not in radials:
            norm = np.exp(0.5 * (special.gammaln(n + 1) - special.gammaln(n + m + 1))) / np.sqrt(np.pi) / width
            radials[n, m] = norm * rho2 ** (m / 2) * special.eval_genlaguerre(n, m, rho2) * decay
        if order not in windings:
            windings[order] = np.exp(1j * order * azimuth)
        np.multiply(radials[n, m], windings[order], out=result[place])
    return result
