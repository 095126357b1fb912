"""The page of a polycrystal: its grains by their angles, how certain these are, and the pattern that they rotate."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.figures.captions import DETECTOR_FRAME, caption_height, write_caption
from stemvane.figures.layout import FOOT, GAP, HEAD, MARGIN, WIDTH, Box, add_axes, label_panel, new_page
from stemvane.figures.manifold_panel import Manifold, draw_manifold
from stemvane.figures.panels import (
    add_color_bar,
    add_color_wheel,
    angle_colors,
    bar_below,
    draw_map,
    largest_of,
    scan_extent,
)
from stemvane.figures.style import ANGLES, MAGNITUDES, SMALL, STYLE, tidy_number
from stemvane.segmentation import Grains

__all__ = ["grains_page"]

# grains with a number and a line of the legend, and the lines of a column of it
_MOST_NUMBERED, _LINES = 24, 8
_LINE = 0.125
# a number is written into a grain that is at least so wide, in inches
_LEAST_WIDTH = 0.12


def grains_page(
    measurements: Measurements,
    embedding: Embedding,
    grains: Grains,
    manifold: Manifold,
    *,
    figure: Figure | None = None,
) -> Figure:
    """Draw the grains of a polycrystal.

    Parameters
    ----------
    measurements : Measurements
        Measurements of the scan.
    embedding : Embedding
        Angles of the same scan.
    grains : Grains
        Its grains.
    manifold : Manifold
        Patterns decoded along the latents; the one in the middle is drawn.
    figure : Figure, optional
        Empty figure to draw into; a new one where left out.

    Returns
    -------
    Figure
        (a) grains, coloured by their angle and numbered by size, (b) standard deviation of the angle, (c) the pattern
        at the angle 0, and a legend with angle, spread and share of the largest grains.
    """
    shape, step = measurements.scan_shape, measurements.calibration.scan_step
    left, right, bottom, top = scan_extent(shape, step)
    aspect = min(max((bottom - top) / (right - left), 0.5), 1.25)
    width = (WIDTH - 2 * MARGIN - 2 * GAP) / 3.3
    large = Box(MARGIN, HEAD, 1.3 * width, 1.3 * width * aspect)
    second = Box(large.left + large.width + GAP, HEAD, width, width * aspect)
    third = Box(second.left + width + GAP, HEAD, width, width)
    n_lines = min(grains.n_grains, _MOST_NUMBERED, _LINES)
    below = HEAD + max(large.height, second.height, third.height) + FOOT
    caption = _caption(grains)
    with rc_context(STYLE):
        height = below + 0.2 + n_lines * _LINE + caption_height(caption)
        figure = new_page((WIDTH, height), figure)
        ax = add_axes(figure, large, "grains")
        _draw_grains(ax, grains, step, large.width / shape[1])
        period = 360 / grains.symmetry
        modulo = "" if grains.symmetry == 1 else f"angles modulo {period:g}°"
        title = f"{grains.n_grains} {'grain' if grains.n_grains == 1 else 'grains'}"
        label_panel(figure, large, "a", title, modulo)
        add_color_wheel(figure, large, DETECTOR_FRAME, symmetry=grains.symmetry)
        ax = add_axes(figure, second, "angle_std")
        spread = np.degrees(np.where(np.isfinite(embedding.angle_std), embedding.angle_std, np.nan))
        image = draw_map(ax, spread, step, MAGNITUDES, (0.0, largest_of(spread, 98)))
        label_panel(figure, second, "b", "Uncertainty", "standard deviation of the angle")
        add_color_bar(figure, bar_below(second), image, "of the angle", "°")
        ax = add_axes(figure, third, "pattern")
        middle = tuple(slice(n // 2, n // 2 + 1) for n in manifold.patterns.shape[:2])
        pattern = Manifold(manifold.patterns[middle], manifold.latents[middle][..., :0])
        image = draw_manifold(ax, pattern, measurements.grid.aspect, "")
        label_panel(figure, third, "c", "Pattern", "decoded at the angle 0")
        unit = "dose / pixel" if measurements.noiseless else f"{measurements.units['total']} / pixel"
        add_color_bar(figure, bar_below(third), image, "intensity", unit)
        _legend(figure, grains, below)
        write_caption(figure, caption)
    return figure


def _caption(grains: Grains) -> str:
    words = [
        "A grain is a set of neighbours whose angles differ by less than 1°, or by no more than their uncertainty."
    ]
    if grains.n_grains > _MOST_NUMBERED:
        words.append(f"The {_MOST_NUMBERED} largest are in the legend.")
    if (grains.label < 0).any():
        words.append("Grey: borders, and positions without an angle.")
    return " ".join(words)


def _draw_grains(ax: Axes, grains: Grains, step: tuple[float, float] | None, inches: float) -> None:
    """Grains in the colour of their angle, with outlines, and numbers where they are wide enough."""
    label = grains.label
    angle = np.where(label >= 0, np.append(grains.angle, np.nan)[label], np.nan)
    draw_map(ax, np.angle(np.exp(1j * grains.symmetry * angle)), step, ANGLES)
    pitch_y, pitch_x = step or (1.0, 1.0)
    y, x = np.nonzero(label[1:] != label[:-1])
    ax.hlines((y + 0.5) * pitch_y, (x - 0.5) * pitch_x, (x + 0.5) * pitch_x, color="black", lw=0.5)
    y, x = np.nonzero(label[:, 1:] != label[:, :-1])
    ax.vlines((x + 0.5) * pitch_x, (y - 0.5) * pitch_y, (y + 0.5) * pitch_y, color="black", lw=0.5)
    for number in range(min(grains.n_grains, _MOST_NUMBERED)):
        # where there is most room around it
        room = ndimage.distance_transform_edt(np.pad(label == number, 1))[1:-1, 1:-1]
        if 2 * room.max() * inches < _LEAST_WIDTH:
            continue
        row, column = divmod(int(np.argmax(room)), room.shape[1])
        text = ax.text(column * pitch_x, row * pitch_y, str(number + 1), size=SMALL, ha="center", va="center")
        text.set_path_effects([withStroke(linewidth=1.2, foreground="white")])


def _legend(figure: Figure, grains: Grains, top: float) -> None:
    """Number, colour, angle, spread and share of the largest grains, column by column."""
    width, height = figure.get_size_inches()
    shown = min(grains.n_grains, _MOST_NUMBERED)
    column = (WIDTH - 2 * MARGIN) / 3
    colors: NDArray[np.float64] = angle_colors(grains.symmetry * grains.angle)
    heads = ("grain", "angle", "spread", "of the scan")
    places = (0.16, 0.62, 1.1, 1.62)
    for first in range(0, shown, _LINES):
        left = MARGIN + first // _LINES * column
        for place, word in zip(places, heads, strict=True):
            figure.text((left + place) / width, 1 - top / height, word, size=SMALL, color="0.3", va="top")
        for line, number in enumerate(range(first, min(first + _LINES, shown)), 1):
            at = top + line * _LINE
            patch = Rectangle(
                (left / width, 1 - (at + 0.09) / height),
                0.1 / width,
                0.09 / height,
                fc=tuple(colors[number]),
                ec="0.2",
                lw=0.3,
            )
            figure.add_artist(patch)
            words = (
                str(number + 1),
                f"{np.degrees(grains.angle[number]):.2f}°",
                f"{tidy_number(np.degrees(grains.spread[number]), 2)}°",
                f"{tidy_number(100 * grains.share[number], 2)} %",
            )
            for place, word in zip(places, words, strict=True):
                figure.text((left + place) / width, 1 - at / height, word, size=SMALL, va="top")
