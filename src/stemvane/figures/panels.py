"""One panel each: maps, colour bars, colour wheels, mosaics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Wedge
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib_scalebar.scalebar import ScaleBar
from numpy.typing import NDArray

from stemvane.figures.layout import Box, add_axes
from stemvane.figures.style import ANGLES, MAGNITUDES, MASKED, nice_number, tidy_number

__all__ = [
    "add_color_bar",
    "add_color_wheel",
    "add_scale_bar",
    "angle_certainty",
    "angle_colors",
    "draw_map",
    "draw_mosaic",
    "scan_extent",
    "without_ticks",
    "write_absent",
    "write_pearson",
]

_TURN = Normalize(-math.pi, math.pi)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def angle_colors(
    angle: NDArray[np.floating[Any]], strength: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.float64]:
    """Colours of angles, as in every angle map and its wheel.

    Parameters
    ----------
    angle : ndarray of float, shape (...)
        Angles in rad, counter-clockwise on the screen, 0 to the right.
    strength : ndarray of float, shape (...), optional
        From 0, where every angle is black, to 1, full colour; full colour everywhere where left out.

    Returns
    -------
    ndarray of float, shape (..., 4)
        Red, green, blue, opacity.
    """
    wrapped = np.angle(np.exp(1j * np.asarray(angle, float)))
    colors = np.asarray(ANGLES(_TURN(np.ma.masked_invalid(wrapped))), dtype=float)
    if strength is not None:
        colors[..., :3] *= np.where(np.isfinite(wrapped), np.clip(strength, 0, 1), 1)[..., None]
    return colors


def angle_certainty(posterior: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """How well angles are known, from 0 (not at all) to 1.

    Parameters
    ----------
    posterior : ndarray of float, shape (..., n_angles)
        Probability of equally spaced angles.

    Returns
    -------
    ndarray of float, shape (...)
        Largest modulus of the posterior's mean ``exp(i s angle)`` for s = 1, 2, 3, 4, 6: content of s-fold symmetry has
        an angle that is known up to a turn by 360°/s.
    """
    turn = np.exp(2j * np.pi * np.outer([1, 2, 3, 4, 6], np.arange(posterior.shape[-1])) / posterior.shape[-1])
    return np.asarray(np.abs(posterior @ turn.T).max(axis=-1), np.float64)


def scan_extent(
    scan_shape: tuple[int, int], scan_step: tuple[float, float] | None
) -> tuple[float, float, float, float]:
    """Edges ``(left, right, bottom, top)`` of a map in Å, or pixels, with the first position as the origin."""
    step = scan_step or (1.0, 1.0)
    return (-0.5 * step[1], (scan_shape[1] - 0.5) * step[1], (scan_shape[0] - 0.5) * step[0], -0.5 * step[0])


def draw_map(
    axes: Axes,
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
    axes : Axes
        Where to.
    values : ndarray of float, shape (scan_y, scan_x)
        NaN where there is no value.
    scan_step : tuple of float, optional
        Å ``(y, x)``; the scale bar is in pixels where it is unknown.
    colors : Colormap
        ``ANGLES`` for angles in rad.
    limits : tuple of float, optional
        Smallest and largest value; those of the map where left out.
    strength : ndarray of float, shape (scan_y, scan_x), optional
        Of the colours of angles, see `angle_colors`.

    Returns
    -------
    ScalarMappable
        For the colour bar.
    """
    cyclic = colors is ANGLES
    low, high = (-math.pi, math.pi) if cyclic else limits or _limits(values)
    image = axes.imshow(
        np.ma.masked_invalid(values) if strength is None else angle_colors(values, strength),
        cmap=colors,
        vmin=low,
        vmax=high,
        extent=scan_extent((values.shape[0], values.shape[1]), scan_step),
        origin="upper",
        interpolation="antialiased",
        interpolation_stage="rgba",  # the mean of two angles in numbers can be the opposite direction
    )
    without_ticks(axes)
    axes.set_facecolor(MASKED)
    add_scale_bar(axes, scan_step is not None)
    return image


def add_scale_bar(axes: Axes, known: bool) -> None:
    """Add a scale bar of about a quarter of the width; `known` if the axes are in Å, pixels otherwise."""
    left, right = axes.get_xlim()
    inches = axes.get_position().width * axes.get_figure(root=True).get_size_inches()[0]  # type: ignore[union-attr]
    length = nice_number(0.25 * abs(right - left))
    if known:
        label = f"{length / 10:g} nm" if length >= 10 else f"{length:g} Å"
        scale: dict[str, Any] = {"dx": 0.1, "units": "nm", "fixed_value": length / 10, "fixed_units": "nm"}
    else:
        length = max(1, round(length))
        label = f"{length:g} px"
        scale = {"dx": 1, "units": "px", "dimension": "pixel-length", "fixed_value": length, "fixed_units": "px"}
    axes.add_artist(
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
            font_properties={"size": 5.5},
        )
    )


def add_color_bar(
    figure: Figure, box: Box, mappable: ScalarMappable, title: str, unit: str, *, upright: bool = False
) -> None:
    """Add a colour bar with its quantity and unit; a power of ten goes to the unit."""
    low, high = (float(limit or 0) for limit in mappable.get_clim())
    largest = max(abs(low), abs(high))
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    power = power if power < -2 or power > 2 else 0
    if power:
        unit = f"10{str(power).translate(_SUPERSCRIPT)} {unit}".strip()
    axes = add_axes(figure, box, "colour bar")
    values: Any = np.ma.masked_invalid(np.ma.asarray(mappable.get_array()))
    beyond = (bool((values < low).any()), bool((values > high).any()))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    bar = figure.colorbar(
        mappable, cax=axes, orientation="vertical" if upright else "horizontal", extend=extend, extendfrac=0.06
    )
    bar.locator = MaxNLocator(max(3, round(4 * max(box.width, box.height))), steps=[1, 2, 2.5, 5, 10])
    bar.formatter = FuncFormatter(lambda value, position: tidy_number(value / 10**power, 4))
    bar.outline.set_linewidth(0.4)
    bar.ax.tick_params(labelsize=5.5, length=1.5, width=0.4, pad=1.5)
    space = "\n" if upright else " "
    bar.set_label(f"{title}{space}({unit})" if unit else title, size=6, labelpad=2)


def add_color_wheel(figure: Figure, below: Box, *, fading: bool = False) -> Axes:
    """Add the colour wheel of an angle map below its box: 0° to the right, counter-clockwise, as on the screen.

    `fading` if the map shows a magnitude too: then the wheel is black in its middle.
    """
    size, offset = 0.3, 0.14
    axes = add_axes(figure, below.within(0.5 * (below.width - size), below.height + offset, size, size), "colour wheel")
    n = 256
    y, x = np.indices((n, n)) - (n - 1) / 2
    strength = np.hypot(y, x) / (n / 2) if fading else None
    image = axes.imshow(
        angle_colors(np.arctan2(-y, x), strength), extent=(-1, 1, -1, 1), origin="upper", interpolation="bilinear"
    )
    ring = Wedge((0, 0), 1, 0, 360, width=1.0 if fading else 0.55, transform=axes.transData)
    image.set_clip_path(ring)
    axes.set_axis_off()
    for text, x_text, y_text, across, along in (
        ("0°", 1.2, 0.0, "left", "center"),
        ("90°", 0.0, 1.1, "center", "bottom"),
        ("180°", -1.2, 0.0, "right", "center"),
        ("−90°", 0.0, -1.1, "center", "top"),
    ):
        axes.text(x_text, y_text, text, size=5.5, ha=across, va=along)
    return axes


def draw_mosaic(
    axes: Axes,
    patterns: NDArray[np.floating[Any]],
    latents: NDArray[np.floating[Any]],
    pixel_aspect: float,
    latent_unit: str,
) -> ScalarMappable:
    """Draw decoded patterns side by side on one colour scale.

    Parameters
    ----------
    axes : Axes
        Where to.
    patterns : ndarray of float, shape (n_rows, n_columns, k_y, k_x)
        NaN where nothing is decoded.
    latents : ndarray of float, shape (n_rows, n_columns, n_latent)
        Latent 1 changes along a row, latent 2 down a column.
    pixel_aspect : float
        Height of a detector pixel divided by its width.
    latent_unit : str
        For the axes' labels.

    Returns
    -------
    ScalarMappable
        For the colour bar.
    """
    n_rows, n_columns, height, width = patterns.shape
    gap = max(1, round(0.03 * width))
    canvas = np.full((n_rows * (height + gap) - gap, n_columns * (width + gap) - gap), np.nan)
    for row in range(n_rows):
        for column in range(n_columns):
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = patterns[row, column]
    low, high = _mosaic_limits(patterns)
    image = axes.imshow(
        np.ma.masked_invalid(canvas),
        cmap=MAGNITUDES.with_extremes(bad=(1, 1, 1, 0)),
        vmin=low,
        vmax=high,
        aspect=pixel_aspect,
        interpolation="antialiased",
        interpolation_stage="rgba",
    )
    axes.set_anchor("N")
    without_ticks(axes)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if latents.shape[-1] >= 1:
        axes.set_xticks(np.arange(n_columns) * (width + gap) + (width - 1) / 2, _tick_words(latents[0, :, 0]))
        axes.set_xlabel(f"latent 1 ({latent_unit})", size=6.5, labelpad=1.5)
    if latents.shape[-1] >= 2:
        axes.set_yticks(np.arange(n_rows) * (height + gap) + (height - 1) / 2, _tick_words(latents[:, 0, 1]))
        axes.set_ylabel(f"latent 2 ({latent_unit})", size=6.5, labelpad=1.5)
    axes.tick_params(length=0, labelsize=5.5, pad=2)
    return image


def _mosaic_limits(patterns: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Colour limits of decoded patterns.

    What changes with the latents is often a few per cent of the disc's brightness, so the scale is that of the disc
    where nine tenths of its pixels are that much alike.
    """
    low, high = float(np.nanmin(patterns)), float(np.nanmax(patterns))
    bright = patterns[patterns > 0.5 * high]
    floor = float(np.quantile(bright, 0.1)) if bright.size else low
    if floor > 0.6 * high:
        return floor, high
    return min(low, 0.0) if low < 0.2 * high else low, high


def write_absent(axes: Axes, words: str) -> None:
    """Write into an empty panel why it is empty."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, size=7, color="0.35", ha="center", va="center")


def write_pearson(axes: Axes, metrics: dict[str, Any], index: int) -> None:
    """Write a latent's correlation with the COM magnitude into the corner of its panel, where it is known."""
    words = pearson_words(metrics, index)
    if not words:
        return
    axes.text(
        0.96,
        0.95,
        words,
        transform=axes.transAxes,
        size=5.5,
        ha="right",
        va="top",
        bbox={"boxstyle": "square,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.75},
    )


def pearson_words(metrics: dict[str, Any], index: int) -> str:
    """A latent's correlation with the COM magnitude in words, empty where it is unknown."""
    values = metrics.get("pearson_r") or []
    value = values[index] if index < len(values) else None
    if value is None:
        return ""
    digits = 4 if abs(value) >= 0.99 else 2
    return f"r = {value:.{digits}f}".replace("-", "−")


def _tick_words(values: NDArray[np.floating[Any]]) -> list[str]:
    return [tidy_number(round(float(value), 2)) for value in values]


def _limits(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, (0.2, 99.8)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def without_ticks(axes: Axes) -> None:
    """Leave a thin frame and nothing else."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
