"""Sites of a lattice: its atoms and the hollows between them, found from the maps averaged over the cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from stemvane.defects.lattice import Lattice
from stemvane.defects.periodic_fit import PeriodicSeries
from stemvane.defects.sampling import Sampling
from stemvane.errors import DataError

__all__ = ["Sites", "find_sites"]

_Floats = NDArray[np.floating[Any]]

# all of these: `pytest tests/test_lattice.py -k "atoms or hollow or site"`
# 48 points along each side of the cell, about 0.05 Å, between which peaks are interpolated
_GRID = 48
# 0.3: least peak of an atom in the averaged map over the highest one's, both from the lowest value
_LEAST_PEAK = 0.3
# 0.9: least distance of a hollow from the nearest atom over the largest there is
_LEAST_HOLLOW = 0.9
# 1.2 bonds: neighbours, also under strain, and no second neighbours
_LONGEST_BOND = 1.2


@dataclass(frozen=True, eq=False)
class Sites:
    """Atoms and hollows of a lattice inside a scan.

    Attributes
    ----------
    positions : ndarray of float, shape (n, 2)
        ``(y, x)`` in Å.
    kinds : tuple of str, shape (n,)
        ``"atom"`` or ``"hollow"``.
    sublattices : ndarray of int, shape (n,)
        Which of the cell's sites each is, atoms first.
    """

    positions: NDArray[np.float64]
    kinds: tuple[str, ...]
    sublattices: NDArray[np.int64]

    @classmethod
    def at(cls, positions: _Floats) -> Sites:
        """Places of no kind, ``(y, x)`` in Å."""
        return cls(np.asarray(positions, np.float64), ("place",) * len(positions), np.zeros(len(positions), np.int64))

    def __len__(self) -> int:
        return len(self.kinds)

    @classmethod
    def joined(cls, parts: Sequence[Sites]) -> Sites:
        """Sites of several lattices, whose sublattices are numbered on."""
        n_before = np.cumsum([0, *(int(part.sublattices.max(initial=-1)) + 1 for part in parts[:-1])])
        return cls(
            np.concatenate([part.positions for part in parts]),
            tuple(kind for part in parts for kind in part.kinds),
            np.concatenate([part.sublattices + n for part, n in zip(parts, n_before, strict=True)]),
        )

    def at_those(self, chosen: NDArray[np.bool_]) -> Sites:
        """Return some of the sites."""
        kinds = tuple(kind for kind, stays in zip(self.kinds, chosen, strict=True) if stays)
        return Sites(self.positions[chosen], kinds, self.sublattices[chosen])

    @cached_property
    def is_atom(self) -> NDArray[np.bool_]:
        """True at atoms, shape ``(n,)``."""
        return np.array([kind == "atom" for kind in self.kinds], bool)

    @cached_property
    def bond(self) -> float:
        """Median distance in Å of an atom from its nearest neighbour."""
        atoms = self.positions[self.is_atom]
        return float(np.median(cKDTree(atoms).query(atoms, k=2)[0][:, 1]))

    @cached_property
    def bond_centres(self) -> NDArray[np.float64]:
        """Middles ``(y, x)`` in Å between atoms that are about a bond apart, shape ``(n_bonds, 2)``."""
        atoms = self.positions[self.is_atom]
        pairs = cKDTree(atoms).query_pairs(_LONGEST_BOND * self.bond, output_type="ndarray")
        return np.asarray((atoms[pairs[:, 0]] + atoms[pairs[:, 1]]) / 2)


def find_sites(series: PeriodicSeries, brightness: _Floats, sampling: Sampling, margin: float) -> tuple[Lattice, Sites]:
    """Locate atoms and hollows in the cell, and list all of them in the scan.

    Parameters
    ----------
    series : PeriodicSeries
        Series of channels from which the brightness of atoms follows.
    brightness : ndarray of float, shape (n_series, n_channels)
        Coefficients of a map that is high at atoms, in the order of ``series.coefficients`` without the mean, one
        column for each map to add.
    sampling : Sampling
        Where the lattice was recorded.
    margin : float
        Distance in Å that sites keep from the edge of the scan.

    Returns
    -------
    Lattice
        Lattice with its origin at the most symmetric hollow, or the first atom where there is no hollow.
    Sites

    Raises
    ------
    DataError
        If the map has no peaks.
    """
    lattice = series.lattice
    grid = np.stack(np.meshgrid(*[np.arange(_GRID) / _GRID] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    ideal = grid @ lattice.vectors
    wave = 2 * np.pi * ideal @ (series.orders @ lattice.reciprocal).T
    values = (np.concatenate([np.cos(wave), np.sin(wave)], axis=1) @ brightness).sum(axis=1).reshape(_GRID, _GRID)
    low, high = values.min(), values.max()
    if not high > low:
        raise DataError("the maps averaged over the cell have no peaks, so there are no sites to look at")
    peaks = [peak for peak in _maxima(values) if _value(values, peak) - low >= _LEAST_PEAK * (high - low)]
    atoms = np.array(sorted(peaks, key=lambda peak: -_value(values, peak))) / _GRID
    distance = _distance(grid, atoms, lattice).reshape(_GRID, _GRID)
    hollows = (
        np.array([p for p in _maxima(distance) if _value(distance, p) >= _LEAST_HOLLOW * distance.max()]).reshape(-1, 2)
        / _GRID
    )
    shifts = np.concatenate([atoms, hollows]) @ lattice.vectors
    kinds = ["atom"] * len(atoms) + ["hollow"] * len(hollows)
    lattice = replace(lattice, origin=shifts[len(atoms) if len(hollows) else 0])
    # beyond the rectangle that was recorded a distortion is not known
    at = np.argwhere(sampling.recorded) * sampling.step
    low, high = np.maximum(at.min(axis=0), margin), np.minimum(at.max(axis=0), sampling.extent - margin)
    points = [lattice.points_within(low, high, shift - lattice.origin) for shift in shifts]
    return lattice, Sites(
        positions=np.concatenate(points),
        kinds=tuple(kind for kind, part in zip(kinds, points, strict=True) for _ in part),
        sublattices=np.repeat(np.arange(len(points)), [len(part) for part in points]),
    )


def _maxima(values: _Floats) -> list[tuple[float, float]]:
    """Maxima of a periodic map in grid units, between grid points, but those that lie within two of a higher one."""
    top = (values == ndimage.maximum_filter(values, size=5, mode="wrap")).nonzero()
    result: list[tuple[float, float]] = []
    for row, column in sorted(zip(*top, strict=True), key=lambda at: -values[at]):
        if any(np.hypot(*((np.array([row, column]) - f + _GRID / 2) % _GRID - _GRID / 2)) < 2 for f in result):
            continue
        offset = []
        for axis, at in enumerate((row, column)):
            index = [((row + d) % _GRID, column) if axis == 0 else (row, (column + d) % _GRID) for d in (-1, 0, 1)]
            before, here, after = (values[i] for i in index)
            bend = before - 2 * here + after
            offset.append(at + (0.5 * (before - after) / bend if bend < 0 else 0.0))
        result.append((offset[0], offset[1]))
    return result


def _value(values: _Floats, at: tuple[float, float]) -> float:
    return float(values[round(at[0]) % _GRID, round(at[1]) % _GRID])


def _distance(points: _Floats, atoms: _Floats, lattice: Lattice) -> NDArray[np.float64]:
    """Distance in Å of points to the nearest atom, both in fractional coordinates."""
    shifts = np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    all_atoms = (atoms[:, None] + shifts).reshape(-1, 2)
    apart = (points[:, None] - all_atoms) @ lattice.vectors
    return np.asarray(np.linalg.norm(apart, axis=-1).min(axis=1))
