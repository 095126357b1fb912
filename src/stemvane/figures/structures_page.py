"""The picture of every specimen that can be simulated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from numpy.typing import NDArray

from stemvane.data.dataset import ScanAtoms
from stemvane.figures.atom_overlay import draw_atoms
from stemvane.figures.layout import WIDTH, Box, add_axes
from stemvane.figures.panels import without_ticks
from stemvane.figures.style import SMALL, STYLE
from stemvane.simulation.scenes import build_structure
from stemvane.specimens import SPECIMENS

__all__ = ["structures_page"]

_ACROSS = 5
_SIZE, _GAP, _HEAD, _MARGIN, _FOOT = 1.33, 0.105, 0.2, 0.07, 0.46
_VIEW = 11.0
"""Å along each side of a panel."""
_BAR = 5.0
_HALO = "#FFD98A"


def structures_page() -> Figure:
    """Draw every specimen from above, atoms coloured by element, those of a defect with a halo.

    Returns
    -------
    Figure
        One panel for each entry of the catalogue, in its order.
    """
    n_down = -(-len(SPECIMENS) // _ACROSS)
    height = n_down * (_HEAD + _SIZE) + (n_down - 1) * 0.06 + _FOOT
    elements: dict[str, NDArray[np.float64]] = {}
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        for index, entry in enumerate(SPECIMENS):
            left = _MARGIN + index % _ACROSS * (_SIZE + _GAP)
            top = _HEAD + index // _ACROSS * (_SIZE + _HEAD + 0.06)
            ax = add_axes(figure, Box(left, top, _SIZE, _SIZE), entry.name)
            ax.set_title(entry.name, size=7, pad=3)
            elements |= _panel(ax, entry.name)
        _key(figure, elements)
    return figure


def _panel(ax: Axes, name: str) -> dict[str, NDArray[np.float64]]:
    """One specimen about the middle of a scan; returns the colour of each element."""
    sheet, defects = build_structure(name, (46.0, 46.0), scan_extent=(_VIEW, _VIEW))
    middle = defects.positions[0] if len(defects) else np.full(2, _VIEW / 2)
    size = sheet.cell.lengths()[1::-1]
    offsets = sheet.positions[:, 1::-1] - middle
    if "edge" not in name:  # the sheet goes on beyond the cell's border
        offsets -= size * np.round(offsets / size)
    labels = sheet.get_array("labels")
    atoms = ScanAtoms(sheet.numbers, offsets, sheet.positions[:, 2], tuple(labels.tolist()))
    ax.set_xlim(-_VIEW / 2, _VIEW / 2)
    ax.set_ylim(_VIEW / 2, -_VIEW / 2)
    ax.set_aspect("equal")
    without_ticks(ax)
    host = "graphene" if name.startswith("graphene") else name
    marked = offsets[labels != host]
    halos = [Circle((x, y), 0.75) for y, x in marked]
    ax.add_collection(PatchCollection(halos, facecolors=_HALO, edgecolors="none", zorder=0))
    elements = draw_atoms(ax, atoms, np.all(np.abs(offsets) < _VIEW / 2 + 2, axis=1))
    return dict(elements)


def _key(figure: Figure, elements: Mapping[str, NDArray[np.float64]]) -> None:
    """Colours of the elements, below all panels."""
    order = list(elements)
    handles = [
        Line2D([], [], ls="", marker="o", ms=5, mfc=tuple(elements[s]), mec="0.15", mew=0.3, label=s) for s in order
    ]
    handles.append(Line2D([], [], ls="", marker="o", ms=8, mfc=_HALO, mec="none", label="atoms of a defect or an edge"))
    figure.legend(
        handles=handles,
        loc="lower right",
        ncols=(len(handles) + 1) // 2,
        bbox_to_anchor=(1, 0),
        handletextpad=0.2,
        columnspacing=1.2,
        borderaxespad=0.3,
    )
    _scale_bar(figure)


def _scale_bar(figure: Figure) -> None:
    """One for all panels, beside the key, where it covers no atoms."""
    width, height = figure.get_size_inches()
    left, base, length = _MARGIN / width, 0.14 / height, _BAR / _VIEW * _SIZE / width
    figure.add_artist(Line2D([left, left + length], [base, base], lw=2, color="k", solid_capstyle="butt"))
    figure.text(left + length + 0.06 / width, base, f"{_BAR:g} Å, all panels", size=SMALL, va="center")
