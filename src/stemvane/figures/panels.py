"""Parts of a panel: maps, scale bars, colour bars and colour wheels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Wedge
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib_scalebar.scalebar import ScaleBar
from numpy.typing import NDArray

from stemvane.figures.layout import Box, add_axes
from stemvane.figures.style import ANGLES, MASKED, SMALL, nice_number, power_of_ten, tidy_number, unit_with_power

__all__ = [
    "add_color_bar",
    "add_color_wheel",
    "add_scale_bar",
    "angle_certainty",
    "angle_colors",
    "bar_below",
    "draw_color_bar",
    "draw_color_wheel",
    "draw_map",
    "draw_vectors",
    "largest_of",
    "scan_extent",
    "small_type",
    "without_ticks",
    "write_absent",
]

_FULL_CIRCLE = Normalize(-math.pi, math.pi)


def small_type() -> float:
    """Size in points of the type within a panel, in proportion to the font size in use; on a page `SMALL`."""
    return float(rcParams["font.size"]) * SMALL / 7


def angle_colors(
    angle: NDArray[np.floating[Any]], strength: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.float64]:
    """Colours of angles, as in every angle map and its wheel.

    Parameters
    ----------
    angle : ndarray of float, shape (...)
        Angles in rad, counter-clockwise on the screen, 0 to the right.
    strength : ndarray of float, shape (...), optional
        Strength from 0, where every angle is black, to 1, full colour; full colour everywhere where left out.

    Returns
    -------
    ndarray of float, shape (..., 4)
        Red, green, blue, opacity.
    """
    wrapped = np.angle(np.exp(1j * np.asarray(angle, float)))
    colors = np.asarray(ANGLES(_FULL_CIRCLE(np.ma.masked_invalid(wrapped))), dtype=float)
    if strength is not None:
        colors[..., :3] *= np.where(np.isfinite(wrapped), np.clip(strength, 0, 1), 1)[..., None]
    return colors


def angle_certainty(posterior: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """How certain angles are, from 0 (not at all) to 1.

    Parameters
    ----------
    posterior : ndarray of float, shape (..., n_angles)
        Probability of equally spaced angles.

    Returns
    -------
    ndarray of float, shape (...)
        Largest modulus of the posterior's mean ``exp(i s angle)`` for s = 1, 2, 3, 4, 6: the angle of content with
        s-fold symmetry is certain up to a rotation by 360°/s.
    """
    phase = np.exp(2j * np.pi * np.outer([1, 2, 3, 4, 6], np.arange(posterior.shape[-1])) / posterior.shape[-1])
    return np.asarray(np.abs(posterior @ phase.T).max(axis=-1), np.float64)


def largest_of(magnitude: NDArray[np.floating[Any]], percentile: float = 99.5) -> float:
    """Magnitude at which a colour scale ends: a high percentile, so that a few outliers do not darken a map."""
    finite = magnitude[np.isfinite(magnitude)]
    return (float(np.percentile(finite, percentile)) if finite.size else 0.0) or 1.0


def scan_extent(
    scan_shape: tuple[int, int], scan_step: tuple[float, float] | None
) -> tuple[float, float, float, float]:
    """Edges ``(left, right, bottom, top)`` of a map in Å, or pixels, with the first position as the origin."""
    step = scan_step or (1.0, 1.0)
    return (-0.5 * step[1], (scan_shape[1] - 0.5) * step[1], (scan_shape[0] - 0.5) * step[0], -0.5 * step[0])


def draw_map(
    ax: Axes,
    values: NDArray[np.floating[Any]],
    scan_step: tuple[float, float] | None,
    colors: Colormap,
    limits: tuple[float, float] | None = None,
    *,
    strength: NDArray[np.floating[Any]] | None = None,
) -> ScalarMappable:
    """Draw a map of the scan with its scale bar.

    Parameters
    ----------
    ax : Axes
        Axes to draw into.
    values : ndarray of float, shape (scan_y, scan_x)
        NaN where there is no value.
    scan_step : tuple of float, optional
        Å ``(y, x)``; the scale bar is in pixels where it is unknown.
    colors : Colormap
        ``ANGLES`` for angles in rad.
    limits : tuple of float, optional
        Smallest and largest value; those of the map where left out.
    strength : ndarray of float, shape (scan_y, scan_x), optional
        Brightness of the colours of angles, see `angle_colors`.

    Returns
    -------
    ScalarMappable
        The drawn image, for the colour bar.
    """
    is_cyclic = colors is ANGLES
    low, high = (-math.pi, math.pi) if is_cyclic else limits or _limits(values)
    image = ax.imshow(
        np.ma.masked_invalid(values) if strength is None else angle_colors(values, strength),
        cmap=colors,
        vmin=low,
        vmax=high,
        extent=scan_extent((values.shape[0], values.shape[1]), scan_step),
        origin="upper",
        interpolation="antialiased",
        interpolation_stage="rgba",  # the mean of two angles in numbers can be the opposite direction
    )
    without_ticks(ax)
    ax.set_facecolor(MASKED)
    add_scale_bar(ax, scan_step is not None)
    return image


def draw_vectors(
    ax: Axes,
    field: NDArray[np.floating[Any]],
    scan_step: tuple[float, float] | None,
    largest: float,
) -> ScalarMappable:
    """Draw a map of vectors: direction as hue, magnitude as brightness.

    Parameters
    ----------
    ax : Axes
        Axes to draw into.
    field : ndarray of float, shape (scan_y, scan_x, 2)
        Vectors ``(y, x)``, y growing downwards.
    scan_step : tuple of float, optional
        Å ``(y, x)``; the scale bar is in pixels where it is unknown.
    largest : float
        Magnitude from which on colours are full.

    Returns
    -------
    ScalarMappable
        The drawn image.
    """
    direction = np.arctan2(-field[..., 0], field[..., 1])
    return draw_map(ax, direction, scan_step, ANGLES, strength=np.hypot(field[..., 0], field[..., 1]) / largest)


def add_scale_bar(ax: Axes, is_calibrated: bool, unit: str = "px") -> None:
    """Add a scale bar of about a quarter of the width, in Å or nm where the axes are in Å, in `unit` otherwise."""
    left, right = ax.get_xlim()
    inches = ax.get_position().width * ax.get_figure(root=True).get_size_inches()[0]  # type: ignore[union-attr]
    length = nice_number(0.25 * abs(right - left))
    if is_calibrated:
        label = f"{length / 10:g} nm" if length >= 10 else f"{length:g} Å"
        scale: dict[str, Any] = {"dx": 0.1, "units": "nm", "fixed_value": length / 10, "fixed_units": "nm"}
    else:
        length = max(1, round(length)) if unit == "px" else length
        label = f"{length:g} {unit}"
        # the label is our own, so that the bar's own unit does not matter
        scale = {"dx": 1, "units": "px", "dimension": "pixel-length", "fixed_value": length, "fixed_units": "px"}
    ax.add_artist(
        ScaleBar(
            **scale,
            scale_formatter=lambda value, unit: label,
            location="lower left",
            scale_loc="right",
            box_alpha=0.75,
            pad=0.2,
            border_pad=0.25,
            sep=2,
            width_fraction=min(0.02, 0.03 / inches),
            font_properties={"size": small_type()},
        )
    )


def bar_below(box: Box) -> Box:
    """Box of the colour bar below the box of a map."""
    return box.within(0.1 * box.width, box.height + 0.07, 0.8 * box.width, 0.06)


def add_color_bar(
    figure: Figure, box: Box, mappable: ScalarMappable, title: str, unit: str, *, upright: bool = False
) -> None:
    """Add a colour bar with its quantity and unit to a box of a page."""
    ax = add_axes(figure, box, "colour bar")
    n_ticks = max(3, round(4 * max(box.width, box.height)))
    bar = draw_color_bar(ax, mappable, title, unit, n_ticks=n_ticks, upright=upright, is_short=True)
    bar.ax.tick_params(length=1.5, width=0.4, pad=1.5)
    bar.outline.set_linewidth(0.4)


def draw_color_bar(
    ax: Axes,
    mappable: ScalarMappable,
    title: str,
    unit: str,
    *,
    n_ticks: int = 5,
    upright: bool = True,
    is_short: bool = False,
) -> Colorbar:
    """Draw a colour bar into axes of its own, with its quantity and unit; a power of ten goes to the unit.

    Parameters
    ----------
    ax : Axes
        Axes of the colour bar.
    mappable : ScalarMappable
        What has these colours.
    title, unit : str
        Quantity and unit, for the label.
    n_ticks : int
        Most numbers along the bar.
    upright : bool
        Whether the bar stands beside its map.
    is_short : bool
        Whether an upright bar is too short for its label in one line.

    Returns
    -------
    Colorbar
        The bar.
    """
    low, high = (float(limit or 0) for limit in mappable.get_clim())
    largest = max(abs(low), abs(high))
    power = power_of_ten(largest)
    unit = unit_with_power(unit, power)
    values: Any = np.ma.masked_invalid(np.ma.asarray(mappable.get_array()))
    beyond = (bool((values < low).any()), bool((values > high).any()))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    figure: Any = ax.get_figure(root=True)
    bar: Colorbar = figure.colorbar(
        mappable, cax=ax, orientation="vertical" if upright else "horizontal", extend=extend, extendfrac=0.06
    )
    bar.locator = MaxNLocator(n_ticks, steps=[1, 2, 2.5, 5, 10])
    # a narrow range of large numbers needs more digits to tell its ends apart
    narrow = largest / (high - low) if high > low else 1.0
    digits = max(4, 3 + math.ceil(math.log10(narrow)))
    bar.formatter = FuncFormatter(lambda value, position: tidy_number(value / 10**power, digits))
    bar.ax.tick_params(labelsize=small_type())
    space = "\n" if upright and is_short else " "
    label = f"{title}{space}({unit})" if title and unit else title or unit
    bar.set_label(label, size=small_type(), labelpad=2)
    return bar


def add_color_wheel(figure: Figure, below: Box, *words: str, fading: bool = False, symmetry: int = 1) -> Axes:
    """Add the colour wheel of an angle map below its box, with lines of words to the left of it.

    `fading` if the map shows a magnitude too: then the wheel is black in its middle, and the words say what is dark.
    Angles that differ by 360° over the symmetry have one colour.
    """
    size, right, offset = 0.3, 0.19, 0.15
    ax = add_axes(figure, below.within(below.width - size - right, below.height + offset, size, size), "colour wheel")
    draw_color_wheel(ax, fading=fading, symmetry=symmetry)
    page_width, page_height = figure.get_size_inches()
    figure.text(
        below.left / page_width,
        1 - (below.top + below.height + 0.05) / page_height,
        "\n".join(words),
        size=SMALL,
        color="0.3",
        va="top",
        linespacing=1.15,
    )
    return ax


def draw_color_wheel(ax: Axes, *, fading: bool = False, symmetry: int = 1) -> None:
    """Draw a colour wheel: 0° to the right, counter-clockwise as on the screen; `fading` to black in its middle.

    Colours repeat as often as the symmetry says.
    """
    n = 256
    y, x = np.indices((n, n)) - (n - 1) / 2
    strength = np.hypot(y, x) / (n / 2) if fading else None
    image = ax.imshow(
        angle_colors(symmetry * np.arctan2(-y, x), strength),
        extent=(-1, 1, -1, 1),
        origin="upper",
        interpolation="bilinear",
    )
    image.set_clip_path(Wedge((0, 0), 1, 0, 360, width=1.0 if fading else 0.55, transform=ax.transData))
    ax.set_axis_off()
    ax.text(1.15, 0.0, "0°", size=small_type(), ha="left", va="center")
    if symmetry == 1:
        ax.text(0.0, 1.1, "90°", size=small_type(), ha="center", va="bottom")
        return
    period = 2 * np.pi / symmetry
    ax.text(
        1.15 * np.cos(period),
        1.15 * np.sin(period) + 0.1,
        f"{360 / symmetry:g}°",
        size=small_type(),
        ha="center" if abs(np.cos(period)) < 0.9 else "right",
        va="bottom" if symmetry > 2 else "center",
    )


def write_absent(ax: Axes, words: str) -> None:
    """Write into an empty panel why it is empty."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, size=rcParams["font.size"], color="0.35", ha="center", va="center")


def without_ticks(ax: Axes) -> None:
    """Leave a thin frame and nothing else."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_linewidth(0.5)


def _limits(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, (0.2, 99.8)))
    # what differs by less than single precision resolves is rounding, not contrast
    if high - low > 1e-5 * max(abs(low), abs(high)):
        return low, high
    half = 0.5 * abs(low) or 0.5
    return low - half, low + half
