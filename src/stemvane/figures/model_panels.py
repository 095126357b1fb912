"""A fitted model drawn: the patterns that it decodes, and how it learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from stemvane.figures.canvas import attach_color_bar, panel_axes
from stemvane.figures.history_page import draw_history
from stemvane.figures.manifold_panel import Manifold, crop, draw_manifold, empty_cells
from stemvane.geometry.polar import PolarGrid

__all__ = ["draw_model_history", "draw_model_manifold"]


def draw_model_manifold(
    manifold: Manifold,
    latents: NDArray[np.floating[Any]],
    grid: PolarGrid,
    disc_radius: float | None,
    unit: str,
    latent_unit: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw the patterns that a model decodes along its latents, hatched where the scan has none like them.

    Parameters
    ----------
    manifold : Manifold
        Decoded patterns.
    latents : ndarray of float, shape (..., n_latent)
        Latents of the scan.
    grid : PolarGrid
        Optical axis and aspect of the detector's pixels.
    disc_radius : float or None
        Radius of the bright-field disc in pixel widths; patterns are cut to it and a little around it.
    unit, latent_unit : str
        Units of the patterns and the latents.
    ax : Axes, optional
        Axes to draw into; those of a new figure where left out.

    Returns
    -------
    Axes
        The panel.
    """
    ax = panel_axes(ax)
    n_latent = manifold.latents.shape[-1]
    empty = empty_cells(manifold, latents) if n_latent else None
    shown = Manifold(crop(manifold.patterns, grid, disc_radius), manifold.latents)
    image = draw_manifold(ax, shown, grid.aspect, latent_unit, empty)
    attach_color_bar(ax, image, "intensity", unit)
    title = "Latent manifold" if n_latent else "Decoded pattern"
    ax.set_title(f"{title}\nhatched: no such pattern in the scan" if empty is not None and empty.any() else title)
    return ax


def draw_model_history(
    history: Mapping[str, NDArray[np.floating[Any]]], what: str = "loss", ax: Axes | None = None
) -> Axes:
    """Draw a learning curve; parameters and errors as of `draw_history`, axes of a new figure where left out."""
    ax = panel_axes(ax)
    draw_history(ax, history, what)
    ax.set_title(what[0].upper() + what[1:])
    return ax
