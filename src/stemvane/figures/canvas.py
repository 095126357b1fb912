"""Where the plot methods draw: into axes or a figure of the user's, or into a new one of pyplot's, which is shown."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import make_axes
from matplotlib.figure import Figure

from stemvane.figures.panels import draw_color_bar, draw_color_wheel, small_type

__all__ = ["attach_color_bar", "attach_color_wheel", "panel_axes", "shown_figure"]

_PAGE_DPI = 150
"""Pages have small type, which is hard to read at the resolution that notebooks take by themselves."""


def panel_axes(ax: Axes | None) -> Axes:
    """The user's axes, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def shown_figure(figure: Figure | None) -> Figure:
    """The user's figure, or a new one for a page."""
    if figure is not None:
        return figure
    import matplotlib.pyplot as plt

    return plt.figure(dpi=_PAGE_DPI)


def attach_color_bar(ax: Axes, mappable: ScalarMappable, title: str, unit: str) -> None:
    """Put a colour bar beside axes, with its quantity and unit."""
    place, _ = _make_axes(ax, fraction=0.046, pad=0.03)
    place.set_label("colour bar")
    draw_color_bar(place, mappable, title, unit, n_ticks=6)


def attach_color_wheel(ax: Axes, words: str = "", *, fading: bool = False, symmetry: int = 1) -> None:
    """Put a colour wheel beside axes, with words below it; `fading` and `symmetry` as of `draw_color_wheel`."""
    figure: Any = ax.get_figure(root=True)
    width = ax.get_position().width * figure.get_size_inches()[0]
    # room for the words: about ten characters
    fraction = min(max(6.5 * small_type() / 72 / width, 0.13), 0.4)
    place, _ = _make_axes(ax, fraction=fraction, pad=0.03, aspect=1, shrink=1.0)
    place.set_label("colour wheel")
    draw_color_wheel(place, fading=fading, symmetry=symmetry)
    place.set(xlim=(-1.9, 1.9), ylim=(-1.9, 1.9))
    place.text(0, -1.2, words, size=small_type(), ha="center", va="top")


def _make_axes(ax: Axes, **options: Any) -> tuple[Axes, Any]:
    made: tuple[Axes, Any] = make_axes(ax, location="right", **options)
    return made
