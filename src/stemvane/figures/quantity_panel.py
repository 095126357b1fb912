"""The map of a quantity that was known at a few positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from stemvane.figures.canvas import attach_color_bar, panel_axes
from stemvane.figures.panels import draw_map
from stemvane.figures.style import MAGNITUDES

if TYPE_CHECKING:
    from stemvane.evaluation.quantity import QuantityMap

__all__ = ["draw_quantity"]


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
    values = np.array(list(quantity.known.values()))
    low, high = float(min(np.nanmin(quantity.mean), values.min())), float(max(np.nanmax(quantity.mean), values.max()))
    image = draw_map(ax, quantity.mean, quantity.scan_step, MAGNITUDES, (low, high))
    step = np.array(quantity.scan_step or (1.0, 1.0))
    y, x = (np.array(list(quantity.known)) * step).T
    ax.scatter(x, y, c=values, cmap=MAGNITUDES, vmin=low, vmax=high, edgecolors="w", s=28, linewidths=1)
    ax.set_title(f"Circles: known; elsewhere ± {np.nanmedian(quantity.std):.2g}")
    attach_color_bar(ax, image, quantity.name, "")
    return ax
