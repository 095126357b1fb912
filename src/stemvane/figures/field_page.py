"""The field of a run: arrows over the image, direction and magnitude, divergence, curl and integral."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stemvane.data.measurements import Measurements
from stemvane.errors import RunError
from stemvane.field.physical import projected_potential
from stemvane.figures.layout import FOOT, GAP, HEAD, MARGIN, WIDTH, Box, add_axes, label_panel
from stemvane.figures.panels import (
    add_color_bar,
    add_color_wheel,
    add_scale_bar,
    angle_colors,
    draw_map,
    scan_extent,
)
from stemvane.figures.style import DIVERGING, IMAGES, MAGNITUDES, STYLE, nice_number, tidy_number
from stemvane.runs.run import Run

__all__ = ["vector_field"]

_N_ARROWS = 20
_ARROW = "#d7301f"


class _Places(NamedTuple):
    size: tuple[float, float]
    large: Box
    small: list[Box]


def vector_field(run: Run) -> Figure:
    """Draw the field in the scan's frame.

    Parameters
    ----------
    run : Run
        With the maps of the field, and metrics.

    Returns
    -------
    Figure
        (a) arrows of the field, each the mean over the positions that it stands for, over the image that was recorded
        with the scan or the annular dark field; (b) direction as colour and magnitude as brightness; (c) divergence and
        (d) curl of the deflection on one scale; (e) the projected potential, or the integrated COM where the beam
        energy is unknown.

    Raises
    ------
    RunError
        If a part of the run is missing or damaged, or the scan rotation is not known.
    """
    measured = run.measurements
    if "field_x" not in measured.maps:
        raise RunError(
            f"{run.path}: no field, for the scan rotation is not known; run it again with source.scan_rotation"
        )
    step = measured.calibration.scan_step
    left, right, bottom, top = scan_extent(measured.scan_shape, step)
    places = _places((bottom - top) / (right - left))
    field = np.stack([measured.maps["field_y"], measured.maps["field_x"]], axis=-1)
    with rc_context(STYLE):
        figure = Figure(figsize=places.size)
        _arrow_panel(figure, places.large, run, field)
        _direction_panel(figure, places.small[0], measured, field)
        largest = float(np.nanpercentile(np.abs(measured.maps["divergence"]), 99.5)) or 1.0
        for letter, box, name, remark in (
            ("c", places.small[1], "divergence", "of the deflection, < 0 at scatterers"),
            ("d", places.small[2], "curl", "of the deflection, scale as in (c)"),
        ):
            axes = add_axes(figure, box, name)
            image = draw_map(axes, measured.maps[name], step, DIVERGING, (-largest, largest))
            label_panel(figure, box, letter, name.capitalize(), remark)
            add_color_bar(figure, _bar_below(box), image, name, measured.units[name])
        _potential_panel(figure, places.small[3], measured)
    return figure


def _places(aspect: float) -> _Places:
    """One map as high as two rows of smaller ones, and two of these across."""
    aspect = min(max(aspect, 0.5), 1.25)
    free = WIDTH - 2 * MARGIN - 2 * GAP
    width = (free - (HEAD + FOOT) / aspect) / 4
    height, row = aspect * width, HEAD + aspect * width + FOOT
    large = Box(MARGIN, HEAD, free - 2 * width, row + height)
    first = large.left + large.width + GAP
    small = [Box(first + i % 2 * (width + GAP), HEAD + i // 2 * row, width, height) for i in range(4)]
    return _Places((WIDTH, 2 * row + MARGIN), large, small)


def _arrow_panel(figure: Figure, box: Box, run: Run, field: NDArray[np.floating[Any]]) -> None:
    measured = run.measurements
    step, unit = measured.calibration.scan_step, measured.units["field_x"]
    axes = add_axes(figure, box, "arrows")
    if measured.image is not None:
        values, name, image_unit = measured.image, "image", "arb. units"
    else:
        name = "annular_dark_field" if "annular_dark_field" in measured.maps else "bright_field"
        values, image_unit = measured.maps[name], measured.units[name]
        name = "ADF" if name == "annular_dark_field" else "BF"
    image = draw_map(axes, values, step, IMAGES)
    _draw_arrows(axes, field, step, unit)
    title = "Projected field E·t" if unit == "V" else "Deflection"
    label_panel(figure, box, "a", f"{title} over {name}", _rotation_words(run.metrics, unit))
    add_color_bar(
        figure, box.within(0.06 * box.width, box.height + 0.07, 0.42 * box.width, 0.06), image, name, image_unit
    )


def _draw_arrows(axes: Axes, field: NDArray[np.floating[Any]], step: tuple[float, float] | None, unit: str) -> None:
    """Draw the mean field of square blocks of positions, and the length of a round value below the axes."""
    n_y, n_x = field.shape[:2]
    side = -(-max(n_y, n_x) // _N_ARROWS)
    rows, columns = max(n_y // side, 1), max(n_x // side, 1)
    size_y, size_x = min(side, n_y), min(side, n_x)
    first = ((n_y - rows * size_y) // 2, (n_x - columns * size_x) // 2)
    blocks = field[first[0] : first[0] + rows * size_y, first[1] : first[1] + columns * size_x]
    mean = blocks.reshape(rows, size_y, columns, size_x, 2).mean(axis=(1, 3))
    height, width = step or (1.0, 1.0)
    y = (first[0] + (np.arange(rows) + 0.5) * size_y - 0.5) * height
    x = (first[1] + (np.arange(columns) + 0.5) * size_x - 0.5) * width
    largest = float(np.nanpercentile(np.hypot(mean[..., 0], mean[..., 1]), 98)) or 1.0
    arrows = axes.quiver(
        *np.meshgrid(x, y),
        mean[..., 1],
        mean[..., 0],
        angles="xy",
        scale_units="x",
        scale=largest / (0.95 * side * width),
        pivot="mid",
        color=_ARROW,
        edgecolor="white",
        linewidth=0.25,
        width=0.0052,
        headwidth=3.6,
        headlength=4.0,
        headaxislength=3.6,
        minlength=0.4,
    )
    length = nice_number(largest)
    average = f" (means of {size_y} × {size_x} positions)" if side > 1 else ""
    axes.quiverkey(
        arrows,
        0.57,
        -0.045,
        length,
        f"{tidy_number(length)} {unit}{average}",
        labelpos="E",
        labelsep=0.06,
        fontproperties={"size": 6},
    )


def _direction_panel(figure: Figure, box: Box, measured: Measurements, field: NDArray[np.floating[Any]]) -> None:
    unit = measured.units["field_x"]
    magnitude = np.hypot(field[..., 0], field[..., 1])
    largest = float(np.nanpercentile(magnitude, 99.5)) or 1.0
    axes = add_axes(figure, box, "direction")
    axes.imshow(
        angle_colors(np.arctan2(-field[..., 0], field[..., 1]), magnitude / largest),
        extent=scan_extent(measured.scan_shape, measured.calibration.scan_step),
        origin="upper",
        interpolation="antialiased",
    )
    axes.set(xticks=[], yticks=[])
    add_scale_bar(axes, measured.calibration.scan_step is not None)
    symbol = "|E·t|" if unit == "V" else "|θ|"
    label_panel(
        figure, box, "b", "Direction and magnitude", f"full colour: {symbol} ≥ {tidy_number(largest, 2)} {unit}"
    )
    add_color_wheel(figure, box, fading=True)


def _potential_panel(figure: Figure, box: Box, measured: Measurements) -> None:
    values, unit = measured.maps["integrated_com"], measured.units["integrated_com"]
    energy = measured.calibration.energy
    title, name = "Integrated COM", "∫θ"
    if energy is not None and unit == "mrad·Å":
        values, unit = projected_potential(values, energy), "V·Å"
        title, name = "Projected potential", "∫V dz"
    image = draw_map(add_axes(figure, box, "potential"), values, measured.calibration.scan_step, MAGNITUDES)
    label_panel(figure, box, "e", title, "integrated COM, levelled")
    add_color_bar(figure, _bar_below(box), image, name, unit)


def _rotation_words(metrics: dict[str, Any], unit: str) -> str:
    words = ["E·t = −θ·pv/e, blurred by the probe" if unit == "V" else "blurred by the probe"]
    angle, error = metrics.get("scan_rotation_deg"), metrics.get("scan_rotation_uncertainty_deg")
    if angle is not None:
        turn = f"scan rotation {tidy_number(round(angle, 1), 4)}°"
        if error is not None:
            turn += f" ± {max(error, 0.1):.1f}°"
        words.append(f"{turn} ({metrics.get('scan_rotation_source')})")
    if metrics.get("scan_rotation_ambiguous"):
        words.append("or half a turn away")
    if metrics.get("scan_flipped"):
        words.append("detector flipped")
    return "; ".join(words)


def _bar_below(box: Box) -> Box:
    return box.within(0.1 * box.width, box.height + 0.07, 0.8 * box.width, 0.06)
