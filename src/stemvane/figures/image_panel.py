"""Where patterns say what an image does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from stemvane.figures.canvas import attach_color_bar, panel_axes
from stemvane.figures.panels import draw_map
from stemvane.figures.style import MAGNITUDES

if TYPE_CHECKING:
    from stemvane.evaluation.from_image import ImagePrediction

__all__ = ["draw_disagreement"]

# so many times what is expected stands out of everything
_LARGEST = 5.0


def draw_disagreement(predicted: ImagePrediction, *, ax: Axes | None = None) -> Axes:
    """Draw by how much patterns disagree with what an image says of them.

    Parameters
    ----------
    predicted : ImagePrediction
        What to draw; positions without a pattern stay empty.
    ax : Axes, optional
        Axes to draw into; new ones where left out.

    Returns
    -------
    Axes
        The same axes.
    """
    ax = panel_axes(ax)
    shown = np.minimum(predicted.disagreement, _LARGEST)
    image = draw_map(ax, shown, predicted.scan_step, MAGNITUDES, (0.0, _LARGEST))
    ax.set_title("Patterns against the image (1: as expected)")
    attach_color_bar(ax, image, "disagreement", "")
    return ax
