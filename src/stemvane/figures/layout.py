"""Where the panels of a page lie, in inches from its top left corner."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stemvane.figures.style import SMALL

__all__ = [
    "FOOT",
    "GAP",
    "HEAD",
    "MARGIN",
    "WIDTH",
    "Box",
    "Overview",
    "add_axes",
    "label_panel",
    "new_page",
    "overview_layout",
]

WIDTH = 7.2
"""Width of two columns of a journal."""
HEAD = 0.42
"""Room above a panel for its letter, its title and two lines of remarks."""
FOOT = 0.56
"""Room below a map for its colour bar or colour wheel."""
MARGIN = 0.08
"""Room at the sides of a page."""
GAP = 0.2
"""Room between maps side by side."""

_SIDE = 0.42
_AXIS = 0.3


class Box(NamedTuple):
    """A rectangle on the page in inches, from the top left."""

    left: float
    top: float
    width: float
    height: float

    def within(self, left: float, top: float, width: float, height: float) -> Box:
        """Box at an offset from this one's top left corner."""
        return Box(self.left + left, self.top + top, width, height)


class Overview(NamedTuple):
    """Size of the page (width, height), the manifold's box, its colour bar's, and one box for each map."""

    size: tuple[float, float]
    manifold: Box
    manifold_bar: Box
    maps: list[Box]


def overview_layout(n_maps: int, map_aspect: float, mosaic: tuple[int, int], pattern_aspect: float) -> Overview:
    """Fill the width of the page with the manifold and the maps.

    Parameters
    ----------
    n_maps : int
        Number of maps.
    map_aspect : float
        Height of a map divided by its width.
    mosaic : tuple of int
        Rows and columns of the manifold. A single pattern is drawn as large as a map, a single row gets a strip above
        the maps, anything else a block as high as two rows of maps.
    pattern_aspect : float
        Height of a decoded pattern divided by its width.

    Returns
    -------
    Overview
    """
    aspect = min(max(map_aspect, 0.5), 1.25)
    if mosaic == (1, 1):
        return _in_one_row(n_maps, aspect)
    if mosaic[0] == 1:
        return _below_a_strip(n_maps, aspect, pattern_aspect / mosaic[1])
    # side + block + gap + 3 maps and 2 gaps fill the width; the block is square and reaches down two rows
    free = WIDTH - 2 * MARGIN - _SIDE - 3 * GAP
    spare = FOOT + HEAD - _AXIS
    width = (free - spare) / (3 + 2 * aspect)
    height, pitch = aspect * width, width + GAP
    side = free - 3 * width
    row = HEAD + height + FOOT
    manifold = Box(MARGIN + _SIDE, HEAD, side, side)
    first = manifold.left + side + GAP
    boxes = [Box(first + i % 3 * pitch, i // 3 * row + HEAD, width, height) for i in range(min(n_maps, 6))]
    n_below = max(n_maps - 6, 0)
    n_across = int((WIDTH - MARGIN) / pitch)
    left = first + 3 * pitch - n_across * pitch
    for i in range(n_below):
        boxes.append(Box(left + i % n_across * pitch, (2 + i // n_across) * row + HEAD, width, height))
    n_rows = 2 + -(-n_below // n_across)
    bar = Box(manifold.left + 0.15 * side, HEAD + side + _AXIS + 0.08, 0.7 * side, 0.07)
    return Overview((WIDTH, n_rows * row + MARGIN), manifold, bar, boxes)


def _in_one_row(n_maps: int, aspect: float) -> Overview:
    n_across = 5
    width = (WIDTH - 2 * MARGIN - (n_across - 1) * GAP) / n_across
    height = aspect * width
    row = HEAD + height + FOOT
    boxes = [
        Box(MARGIN + i % n_across * (width + GAP), i // n_across * row + HEAD, width, height) for i in range(n_maps + 1)
    ]
    bar = boxes[0].within(0.1 * width, height + 0.07, 0.8 * width, 0.06)
    return Overview((WIDTH, -(-len(boxes) // n_across) * row + MARGIN), boxes[0], bar, boxes[1:])


def _below_a_strip(n_maps: int, aspect: float, strip_aspect: float) -> Overview:
    side = WIDTH - 2 * MARGIN - 0.5
    strip = Box(MARGIN, HEAD, side, min(side * strip_aspect, 2.0))
    bar = strip.within(side + 0.06, 0.05 * strip.height, 0.07, 0.9 * strip.height)
    below = _in_one_row(n_maps - 1, aspect)
    drop = HEAD + strip.height + _AXIS + 0.1
    boxes = [box.within(0, drop, box.width, box.height) for box in (below.manifold, *below.maps)]
    return Overview((WIDTH, drop + below.size[1]), strip, bar, boxes)


def new_page(size: tuple[float, float], figure: Figure | None = None) -> Figure:
    """Make an empty page of this width and height in inches, or give an empty figure this size."""
    if figure is None:
        return Figure(figsize=size)
    figure.set_size_inches(size)
    return figure


def add_axes(figure: Figure, box: Box, label: str) -> Axes:
    """Put axes into a box of the page."""
    width, height = figure.get_size_inches()
    place = (box.left / width, 1 - (box.top + box.height) / height, box.width / width, box.height / height)
    ax = figure.add_axes(place, label=label)
    # ticks are made when the page is drawn, maybe under another style
    ax.tick_params(which="both", labelsize=SMALL, length=2, width=0.5, pad=2)
    return ax


def label_panel(figure: Figure, box: Box, letter: str, title: str, *remarks: str, indent: float = 0.0) -> None:
    """Write letter, title and up to two lines of remarks above a box; `indent` moves them to the left, in inches."""
    width, height = figure.get_size_inches()
    left, base = (box.left - indent) / width, 1 - (box.top - 0.25) / height
    figure.text(left, base, f"({letter})", weight="bold", size=8, va="baseline")
    figure.text(left + 0.22 / width, base, title, size=7, va="baseline")
    for line, remark in enumerate(remarks, 1):
        figure.text(left, base - 0.1 * line / height, remark, size=SMALL, color="0.3", va="baseline")
