"""What one atom adds to the patterns around it, learned from the pristine lattice, and how much of it is at each site.

In a sheet the patterns of a lattice are, to a good part, a sum over its atoms: an atom at a changes the features of
order m around it by ``K_m(r - a)``, and an atom is round, so ``K_m`` is a radial function times ``exp(-i m φ)``. The
sum over the lattice is known from the averaged cell, so the radial functions follow from least squares. Nothing is
assumed of the element, of the probe or of the aberrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from stemvane.defects.gauss_laguerre import gauss_laguerre
from stemvane.defects.periodic_fit import PeriodicSeries
from stemvane.defects.sites import Sites

__all__ = ["AtomContent", "AtomKernel", "excess"]

_Floats = NDArray[np.floating[Any]]

# All of these: `pytest tests/test_strain.py`, and `python -m benchmarks.defects.constants`.
# 3 radial functions and orders up to 6: what a probe resolves of one atom; with 4 functions one defect of six at 10,000
# electrons is lost
_N_RADIAL, _HIGHEST_ORDER = 3, 6
# 4 widths, where the functions end; with 3 or 6 nothing changes
_REACH = 4.0
# 1e-3 / Å: step of a numerical derivative, far below the period of anything in a scan
_WAVE_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class AtomKernel:
    """What an atom of one sublattice adds to the features of the patterns around it.

    Attributes
    ----------
    width : float
        Width of the Gauss–Laguerre functions in Å.
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    coefficients : ndarray of complex, shape (n_sublattices, n_radial, n_features)
        Coefficients of the functions of radial order n and angular order ``-m``.
    """

    width: float
    orders: NDArray[np.int64]
    coefficients: NDArray[np.complex128]

    @classmethod
    def fit(cls, series: PeriodicSeries, orders: NDArray[np.int64], sites: Sites, width: float) -> AtomKernel:
        """Find the radial functions from the averaged cell.

        Parameters
        ----------
        series : PeriodicSeries
            Real parts of all features, then imaginary parts, and possibly other channels after them.
        orders : ndarray of int, shape (n_features,)
            Circular order of each feature.
        sites : Sites
            Atoms of the lattice.
        width : float
            Å, about a third of the finest detail that the probe resolves.

        Returns
        -------
        AtomKernel
        """
        k = len(orders)
        lattice = series.lattice
        # the transform of the sum over a lattice is the transform of one atom at the diffraction orders
        wave = series.orders @ lattice.reciprocal
        cosine, sine = np.split(series.coefficients[1:], 2)
        parts = (cosine[:, :k] + 1j * cosine[:, k : 2 * k]) / 2, (sine[:, :k] + 1j * sine[:, k : 2 * k]) / 2
        wave = np.concatenate([wave, -wave])
        target = np.concatenate([parts[0] - 1j * parts[1], parts[0] + 1j * parts[1]])
        atoms = [_first(sites, lattice.origin, s) for s in np.unique(sites.sublattices[sites.is_atom])]
        straight = lattice.straight(np.array(atoms))
        shift = np.exp(-2j * np.pi * wave @ straight.T) / lattice.cell_area
        result = np.zeros((len(atoms), _N_RADIAL, k), np.complex128)
        for m in np.unique(orders[orders <= _HIGHEST_ORDER]):
            at = np.flatnonzero(orders == m)
            radial = np.stack([_transform(wave, width, n, -int(m)) for n in range(_N_RADIAL)], axis=-1)
            design = (shift[:, :, None] * radial[:, None, :]).reshape(len(wave), -1)
            # orders at which an atom's transform is 0 leave it open
            solved = np.linalg.lstsq(design, target[:, at])[0]
            result[:, :, at] = solved.reshape(len(atoms), _N_RADIAL, len(at))
        return cls(width, orders, result)

    def narrow(self, series: PeriodicSeries, sites: Sites) -> PeriodicSeries:
        """Sum over the atoms of ``ρ_i ∂_j K``, ρ being the distance from each.

        A lattice under a strain E is ``-E r · grad`` of the lattice's features where everything is strained. Atoms keep
        their size, so ``E ρ · grad K`` comes back at each.

        Returns
        -------
        PeriodicSeries
            Channels of shape (i, j, part, feature), y before x, real before imaginary parts.
        """
        lattice, k = series.lattice, len(self.orders)
        wave = np.concatenate([np.zeros((1, 2)), series.orders @ lattice.reciprocal])
        atoms = lattice.straight(np.array([_first(sites, lattice.origin, s) for s in range(len(self.coefficients))]))
        both = []
        for sign in (1, -1):
            at = sign * wave
            result = np.zeros((2, 2, len(at), k), np.complex128)
            for atom, coefficients in zip(atoms, self.coefficients, strict=True):
                shift = np.exp(-2j * np.pi * at @ atom)[:, None] / lattice.cell_area
                # the transform of ρ_i ∂_j K is -∂/∂q_i (q_j times that of K)
                for i, step in enumerate(_WAVE_STEP * np.eye(2)):
                    ahead, behind = (self._transformed(at + move, coefficients) for move in (step, -step))
                    for j in range(2):
                        moved = [((at + move)[:, j, None] * part) for move, part in ((step, ahead), (-step, behind))]
                        result[i, j] -= shift * (moved[0] - moved[1]) / (2 * _WAVE_STEP)
            both.append(result)
        cosine, sine = both[0] + both[1], 1j * (both[0] - both[1])
        rows = np.concatenate([both[0][:, :, :1], cosine[:, :, 1:], sine[:, :, 1:]], axis=2)
        channels = np.stack([rows.real, rows.imag], axis=3).transpose(2, 0, 1, 3, 4)
        return replace(series, coefficients=channels.reshape(len(channels), -1))

    def _transformed(self, wave: _Floats, coefficients: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Fourier transform of what an atom adds to every feature, shape ``(n_waves, n_features)``."""
        result = np.zeros((len(wave), len(self.orders)), np.complex128)
        for m in np.unique(self.orders[self.orders <= _HIGHEST_ORDER]):
            at = np.flatnonzero(self.orders == m)
            radial = np.stack([_transform(wave, self.width, n, -int(m)) for n in range(_N_RADIAL)], axis=-1)
            result[:, at] = radial @ coefficients[:, at]
        return result

    def values(self, offsets: _Floats, sublattice: int, order: int) -> NDArray[np.complex128]:
        """Features of one order at offsets ``(y, x)`` in Å from an atom, shape ``(n_offsets, n_features_of_order)``."""
        radial = np.stack([gauss_laguerre(offsets, self.width, n, -order) for n in range(_N_RADIAL)], axis=-1)
        return np.asarray(radial @ self.coefficients[sublattice][:, self.orders == order])


@dataclass(frozen=True, eq=False)
class AtomContent:
    """How much more of an atom sits at each site than in the pristine lattice, one column for each circular order.

    Attributes
    ----------
    orders : ndarray of int, shape (n_orders,)
        Order 0 is the scattering into rings, the dark field above all; order 1 the deflection.
    excess : ndarray of float, shape (n_atoms, n_orders)
        Excess in atoms of the lattice: -1 where an atom is missing, 0 in the pristine lattice.
    std : ndarray of float, shape (n_atoms, n_orders)
        Standard deviation that the counting noise gives to it.
    """

    orders: NDArray[np.int64]
    excess: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[AtomContent]) -> AtomContent:
        """Content of the atoms of several lattices."""
        excess, std = (np.concatenate([getattr(part, name) for part in parts]) for name in ("excess", "std"))
        return cls(parts[0].orders, excess, std)

    @property
    def strength(self) -> NDArray[np.float64]:
        """Squared excess of scattering and deflection in units of its variance, shape ``(n_atoms,)``."""
        return np.asarray(((self.excess / self.std)[:, :2] ** 2).sum(axis=1))


def excess(
    kernel: AtomKernel,
    features: NDArray[np.complexfloating[Any, Any]],
    points: _Floats,
    sites: Sites,
) -> AtomContent:
    """Least-squares content of all atoms of a scan together, order by order.

    Parameters
    ----------
    kernel : AtomKernel
        What one atom adds.
    features : ndarray of complex, shape (n_points, n_features)
        Recorded features less those of the pristine lattice, in units of their noise.
    points : ndarray of float, shape (n_points, 2)
        Probe positions ``(y, x)`` in Å.
    sites : Sites
        Where the atoms are.

    Returns
    -------
    AtomContent
        Rows are the atoms of `sites`, in their order.
    """
    atoms, kinds = sites.positions[sites.is_atom], sites.sublattices[sites.is_atom]
    near = cKDTree(points).query_ball_point(atoms, _REACH * kernel.width)
    orders = np.array([m for m in np.unique(kernel.orders) if m <= _HIGHEST_ORDER])
    result, deviation = np.zeros((2, len(atoms), len(orders)))
    for column, m in enumerate(orders):
        part = features[:, kernel.orders == m]
        n = part.shape[1]
        right, rows, entries = np.zeros(len(atoms)), [], []
        for i, (atom, kind, at) in enumerate(zip(atoms, kinds, near, strict=True)):
            values = kernel.values(points[at] - atom, int(kind), int(m))
            right[i] = (values.conj() * part[at]).real.sum()
            flat = (np.asarray(at)[:, None] * n + np.arange(n)).ravel()
            rows.append(flat)
            entries.append(values.ravel())
        pointer = np.cumsum([0, *(len(r) for r in rows)])
        matrix = sparse.csc_matrix(
            (np.concatenate(entries), np.concatenate(rows), pointer), shape=(len(points) * n, len(atoms))
        )
        normal = (matrix.conj().T @ matrix).real.tocsc()
        # atoms around which nothing was recorded have no content
        normal += sparse.identity(len(atoms), format="csc") * (1e-6 * normal.diagonal().max())
        solver = splu(normal)
        result[:, column] = solver.solve(right)
        deviation[:, column] = np.sqrt(np.maximum(np.diag(solver.solve(np.eye(len(atoms)))), 0))
    return AtomContent(orders, result, deviation)


def _first(sites: Sites, origin: _Floats, sublattice: int) -> NDArray[np.float64]:
    """Any atom of a sublattice: the one nearest to the origin."""
    members = sites.positions[sites.sublattices == sublattice]
    return np.asarray(members[np.argmin(np.linalg.norm(members - origin, axis=1))])


def _transform(wave: _Floats, width: float, n: int, order: int) -> NDArray[np.complex128]:
    """Fourier transform ``∫ f exp(-2πi q·r)`` of a Gauss–Laguerre function; the functions are their own transforms."""
    scaled = wave * 2 * np.pi * width**2
    values = gauss_laguerre(scaled, width, n, order) * width**2 * 2 * np.pi
    # of the oscillator's eigenfunction of degree N the transform is (-i)^N times itself
    return np.asarray(values * (-1j) ** (2 * n + abs(order)))
