"""The map of a quantity that was known at a few positions, and how certain it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from stemvane.figures.canvas import attach_color_bar, panel_axes
from stemvane.figures.captions import caption_height, write_caption
from stemvane.figures.layout import FOOT, GAP, HEAD, MARGIN, WIDTH, Box, add_axes, label_panel, new_page
from stemvane.figures.panels import add_color_bar, bar_below, draw_map, scan_extent
from stemvane.figures.style import MAGNITUDES, STYLE

if TYPE_CHECKING:
    from stemvane.data.quantity_map import QuantityMap

__all__ = ["draw_quantity", "quantity_page"]


def draw_quantity(quantity: QuantityMap, *, ax: Axes | None = None) -> Axes:
    """Draw the map of a quantity, and circles in the colour of the values where it was known.

    Parameters
    ----------
    quantity : QuantityMap
        What to draw.
    ax : Axes, optional
        Axes to draw into; new ones where left out.

    Returns
    -------
    Axes
        The same axes.
    """
    ax = panel_axes(ax)
    image = _draw_mean(ax, quantity)
    ax.set_title(f"Circles: known; elsewhere ± {np.nanmedian(quantity.std):.2g} {quantity.unit}".rstrip())
    attach_color_bar(ax, image, quantity.name, quantity.unit)
    return ax


def quantity_page(quantity: QuantityMap, *, figure: Figure | None = None) -> Figure:
    """Draw a quantity and its uncertainty.

    Parameters
    ----------
    quantity : QuantityMap
        What to draw.
    figure : Figure, optional
        Empty figure to draw into; a new one where left out.

    Returns
    -------
    Figure
        (a) the quantity, with circles where it was known, (b) its standard deviation.
    """
    left, right, bottom, top = scan_extent(quantity.mean.shape, quantity.scan_step)
    aspect = min(max((bottom - top) / (right - left), 0.5), 1.25)
    width = (WIDTH - 2 * MARGIN - GAP) / 2
    boxes = [Box(MARGIN + i * (width + GAP), HEAD, width, width * aspect) for i in range(2)]
    caption = (
        f"Circles in (a): the {len(quantity.known)} positions where it is known. Elsewhere it follows from latents, "
        f"which tell {100 * max(quantity.explained, 0):.0f} % of the variance of known values that are left out."
    )
    with rc_context(STYLE):
        figure = new_page((WIDTH, HEAD + width * aspect + FOOT + caption_height(caption)), figure)
        image = _draw_mean(add_axes(figure, boxes[0], "quantity"), quantity)
        label_panel(figure, boxes[0], "a", quantity.name[:1].upper() + quantity.name[1:])
        add_color_bar(figure, bar_below(boxes[0]), image, quantity.name, quantity.unit)
        largest = float(np.nanmax(quantity.std)) or 1.0
        ax = add_axes(figure, boxes[1], "quantity_std")
        image = draw_map(ax, quantity.std, quantity.scan_step, MAGNITUDES, (0.0, largest))
        label_panel(figure, boxes[1], "b", "Uncertainty", "standard deviation")
        add_color_bar(figure, bar_below(boxes[1]), image, "σ", quantity.unit)
        write_caption(figure, caption)
    return figure


def _draw_mean(ax: Axes, quantity: QuantityMap) -> ScalarMappable:
    values = np.array(list(quantity.known.values()))
    low, high = float(min(np.nanmin(quantity.mean), values.min())), float(max(np.nanmax(quantity.mean), values.max()))
    image = draw_map(ax, quantity.mean, quantity.scan_step, MAGNITUDES, (low, high))
    step = np.array(quantity.scan_step or (1.0, 1.0))
    y, x = (np.array(list(quantity.known)) * step).T
    ax.scatter(x, y, c=values, cmap=MAGNITUDES, vmin=low, vmax=high, edgecolors="w", s=28, linewidths=1)
    return image
