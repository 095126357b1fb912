"""Atoms and bonds from above."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from stemvane.data.dataset import ScanAtoms
from stemvane.figures.panels import add_scale_bar, scan_extent, without_ticks

__all__ = ["draw_atoms", "draw_structure"]

_METALS = (*range(21, 31), *range(39, 49), *range(72, 81))


def draw_structure(
    axes: Axes, atoms: ScanAtoms, scan_shape: tuple[int, int], scan_step: tuple[float, float]
) -> list[tuple[str, NDArray[np.float64]]]:
    """Draw atoms and bonds around the scan, and the scan's outline.

    Returns
    -------
    list of (str, ndarray)
        Symbol and colour of each element, for the key.
    """
    left, right, bottom, top = scan_extent(scan_shape, scan_step)
    pad_x, pad_y = 0.16 * (right - left), 0.16 * (bottom - top)
    axes.set_xlim(left - pad_x, right + pad_x)
    axes.set_ylim(bottom + pad_y, top - pad_y)
    axes.set_aspect("equal")
    without_ticks(axes)
    y, x = atoms.positions.T
    near = (np.abs(x - (left + right) / 2) < 0.66 * (right - left) + 2) & (
        np.abs(y - (top + bottom) / 2) < 0.66 * (bottom - top) + 2
    )
    elements = draw_atoms(axes, atoms, near)
    window = Rectangle((left, top), right - left, bottom - top, fill=False, ls="--", lw=0.9, ec="#c1121f", zorder=3)
    axes.add_patch(window)
    add_scale_bar(axes, True)
    return elements


def draw_atoms(axes: Axes, atoms: ScanAtoms, near: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.float64]]]:
    """Draw some of the atoms, the highest in front, and bonds between them.

    Returns
    -------
    list of (str, ndarray)
        Symbol and colour of each element, for the key.
    """
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors

    y, x = atoms.positions.T
    order = np.flatnonzero(near)[np.argsort(atoms.heights[near], kind="stable")]
    numbers, radii = atoms.numbers[order], covalent_radii[atoms.numbers[order]]
    places = np.stack([x[order], y[order]], axis=-1)
    axes.add_collection(LineCollection(_bonds(places, atoms.heights[order], numbers), colors="0.45", linewidths=0.7))
    axes.add_collection(
        PatchCollection(
            [Circle((a, b), 0.42 * radius) for (a, b), radius in zip(places, radii, strict=True)],
            facecolors=list(0.85 * jmol_colors[numbers]),
            edgecolors="0.15",
            linewidths=0.3,
            zorder=2,
        )
    )
    return [(chemical_symbols[z], 0.85 * jmol_colors[z]) for z in np.unique(numbers)]


def _bonds(places: NDArray[np.float64], heights: NDArray[np.float64], numbers: NDArray[np.int64]) -> list[Any]:
    from ase.data import covalent_radii
    from scipy.spatial import cKDTree

    if len(places) < 2:
        return []
    points, radii = np.column_stack([places, heights]), covalent_radii[numbers]
    pairs = cKDTree(points).query_pairs(2.4 * float(radii.max()), output_type="ndarray")
    length = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    # two metal atoms of a compound touch without a bond of their own
    metal = np.isin(numbers, _METALS)[pairs].all(axis=1)
    return list(places[pairs[(length < 1.2 * radii[pairs].sum(axis=1)) & ~metal]])
