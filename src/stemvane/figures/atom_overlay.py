"""Atoms and bonds from above."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from stemvane.data.dataset import ScanAtoms
from stemvane.figures.elements import element
from stemvane.figures.panels import add_scale_bar, scan_extent, without_ticks

__all__ = ["draw_atoms", "draw_structure"]

_METALS = (*range(21, 31), *range(39, 49), *range(72, 81))


def draw_structure(
    ax: Axes, atoms: ScanAtoms, scan_shape: tuple[int, int], scan_step: tuple[float, float]
) -> list[tuple[str, NDArray[np.float64]]]:
    """Draw atoms and bonds around the scan, and the scan's outline.

    Returns
    -------
    list of (str, ndarray)
        Symbol and colour of each element, for the key.
    """
    left, right, bottom, top = scan_extent(scan_shape, scan_step)
    pad_x, pad_y = 0.16 * (right - left), 0.16 * (bottom - top)
    ax.set_xlim(left - pad_x, right + pad_x)
    ax.set_ylim(bottom + pad_y, top - pad_y)
    ax.set_aspect("equal")
    without_ticks(ax)
    y, x = atoms.positions.T
    near = (np.abs(x - (left + right) / 2) < 0.66 * (right - left) + 2) & (
        np.abs(y - (top + bottom) / 2) < 0.66 * (bottom - top) + 2
    )
    elements = draw_atoms(ax, atoms, near)
    window = Rectangle((left, top), right - left, bottom - top, fill=False, ls="--", lw=0.9, ec="#c1121f", zorder=3)
    ax.add_patch(window)
    add_scale_bar(ax, True)
    return elements


def draw_atoms(ax: Axes, atoms: ScanAtoms, near: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.float64]]]:
    """Draw some of the atoms, the highest in front, and bonds between them.

    Returns
    -------
    list of (str, ndarray)
        Symbol and colour of each element, for the key.
    """
    y, x = atoms.positions.T
    order = np.flatnonzero(near)[np.argsort(atoms.heights[near], kind="stable")]
    numbers = atoms.numbers[order]
    elements = {int(number): element(int(number)) for number in np.unique(numbers)}
    colors = {number: 0.85 * np.array(one.color) for number, one in elements.items()}
    radii = np.array([elements[int(number)].radius for number in numbers], float)
    places = np.stack([x[order], y[order]], axis=-1)
    bonds = _bonds(places, atoms.heights[order], numbers, radii)
    ax.add_collection(LineCollection(bonds, colors="0.45", linewidths=0.7))
    ax.add_collection(
        PatchCollection(
            [Circle((a, b), 0.42 * radius) for (a, b), radius in zip(places, radii, strict=True)],
            facecolors=[colors[int(number)] for number in numbers],
            edgecolors="0.15",
            linewidths=0.3,
            zorder=2,
        )
    )
    return [(one.symbol, colors[number]) for number, one in elements.items()]


def _bonds(
    places: NDArray[np.float64], heights: NDArray[np.float64], numbers: NDArray[np.int64], radii: NDArray[np.float64]
) -> list[Any]:
    from scipy.spatial import cKDTree

    if len(places) < 2:
        return []
    points = np.column_stack([places, heights])
    pairs = cKDTree(points).query_pairs(2.4 * float(radii.max()), output_type="ndarray")
    length = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    # two metal atoms of a compound touch without a bond of their own
    metal = np.isin(numbers, _METALS)[pairs].all(axis=1)
    return list(places[pairs[(length < 1.2 * radii[pairs].sum(axis=1)) & ~metal]])
