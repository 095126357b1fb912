"""The field of a scan: arrows over the image, direction and magnitude, divergence, curl and integral."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stemvane.data.measurements import Measurements
from stemvane.errors import DataError
from stemvane.field.maps import rotation_metrics
from stemvane.field.physical import projected_potential
from stemvane.figures.captions import SCAN_FRAME, caption_height, scan_rotation_remarks, write_caption
from stemvane.figures.layout import FOOT, GAP, HEAD, MARGIN, WIDTH, Box, add_axes, label_panel, new_page
from stemvane.figures.panels import (
    add_color_bar,
    add_color_wheel,
    bar_below,
    draw_map,
    draw_vectors,
    largest_of,
    scan_extent,
)
from stemvane.figures.style import DIVERGING, IMAGES, MAGNITUDES, SMALL, STYLE, nice_number, tidy_number

__all__ = ["field_page"]

_N_ARROWS = 20
_ARROW = "#d7301f"


class _Places(NamedTuple):
    size: tuple[float, float]
    large: Box
    small: list[Box]


def field_page(
    measurements: Measurements, rotation: Mapping[str, Any] | None = None, *, figure: Figure | None = None
) -> Figure:
    """Draw the field in the scan's frame.

    Parameters
    ----------
    measurements : Measurements
        Measurements with the maps of the field, as `add_field` gives them.
    rotation : mapping, optional
        The scan rotation with its standard error and source, as in ``metrics.json``; what the measurements say of it
        where left out.
    figure : Figure, optional
        Empty figure to draw into; a new one where left out.

    Returns
    -------
    Figure
        (a) arrows of the field, each the mean over the positions that it stands for, over the image that was recorded
        with the scan or the annular dark field; (b) direction as colour and magnitude as brightness; (c) divergence and
        (d) curl of the deflection on one scale; (e) the projected potential, or the integrated COM where the beam
        energy is unknown.

    Raises
    ------
    DataError
        If the measurements have no maps of the field, for the scan rotation is not known.
    """
    if "field_x" not in measurements.maps:
        raise DataError(
            f"{measurements.name}: no field, for the scan rotation is not known; give calibration.scan_rotation, in a "
            "run source.scan_rotation"
        )
    rotation = rotation_metrics(measurements) if rotation is None else rotation
    step, unit = measurements.calibration.scan_step, measurements.units["field_x"]
    left, right, bottom, top = scan_extent(measurements.scan_shape, step)
    places = _places((bottom - top) / (right - left))
    field = np.stack([measurements.maps["field_y"], measurements.maps["field_x"]], axis=-1)
    is_filtered = measurements.filtered_deflection is not None
    caption = _caption(unit, "integrated_com" in measurements.maps, is_filtered)
    with rc_context(STYLE):
        figure = new_page((places.size[0], places.size[1] + caption_height(caption)), figure)
        _arrow_panel(figure, places.large, measurements, field, rotation)
        _direction_panel(figure, places.small[0], measurements, field)
        largest = largest_of(np.abs(measurements.maps["divergence"]))
        for letter, box, name, remarks in (
            ("c", places.small[1], "divergence", ("of the deflection,", "< 0 at scatterers")),
            ("d", places.small[2], "curl", ("of the deflection,", "scale as in (c)")),
        ):
            ax = add_axes(figure, box, name)
            image = draw_map(ax, measurements.maps[name], step, DIVERGING, (-largest, largest))
            label_panel(figure, box, letter, name.capitalize(), *remarks)
            add_color_bar(figure, bar_below(box), image, name, measurements.units[name])
        _potential_panel(figure, places.small[3], measurements)
        write_caption(figure, caption)
    return figure


def _caption(unit: str, is_integrated: bool, is_filtered: bool) -> str:
    words = "All maps are in the scan's frame and blurred by the probe."
    words += " They are made from the COM filtered over the scan." if is_filtered else ""
    if unit == "V":
        words += " E·t = −θ·pv/e is the electric field integrated along the beam; it points away from the nuclei."
    else:
        words += " The deflection points at the nuclei; it is not a field, for pixel size or beam energy are unknown."
    return words + (" The integral is levelled: it is known up to a plane." if is_integrated else "")


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


def _arrow_panel(
    figure: Figure,
    box: Box,
    measurements: Measurements,
    field: NDArray[np.floating[Any]],
    rotation: Mapping[str, Any],
) -> None:
    step, unit = measurements.calibration.scan_step, measurements.units["field_x"]
    ax = add_axes(figure, box, "arrows")
    if measurements.image is not None:
        values, name, image_unit = measurements.image, "image", "arb. units"
    else:
        name = "annular_dark_field" if "annular_dark_field" in measurements.maps else "bright_field"
        values, image_unit = measurements.maps[name], measurements.units[name]
        name = "ADF" if name == "annular_dark_field" else "BF"
    image = draw_map(ax, values, step, IMAGES)
    _draw_arrows(ax, field, step, unit)
    title = "Projected field E·t" if unit == "V" else "Deflection"
    label_panel(figure, box, "a", f"{title} over {name}", "scan frame", ", ".join(scan_rotation_remarks(rotation)))
    add_color_bar(
        figure, box.within(0.06 * box.width, box.height + 0.07, 0.42 * box.width, 0.06), image, name, image_unit
    )


def _draw_arrows(ax: Axes, field: NDArray[np.floating[Any]], step: tuple[float, float] | None, unit: str) -> None:
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
    largest = largest_of(np.hypot(mean[..., 0], mean[..., 1]), 98)
    arrows = ax.quiver(
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
    ax.quiverkey(
        arrows,
        0.57,
        -0.045,
        length,
        f"{tidy_number(length)} {unit}{average}",
        labelpos="E",
        labelsep=0.06,
        fontproperties={"size": SMALL},
    )


def _direction_panel(figure: Figure, box: Box, measurements: Measurements, field: NDArray[np.floating[Any]]) -> None:
    unit = measurements.units["field_x"]
    largest = largest_of(np.hypot(field[..., 0], field[..., 1]))
    draw_vectors(add_axes(figure, box, "direction"), field, measurements.calibration.scan_step, largest)
    symbol = "|E·t|" if unit == "V" else "|θ|"
    label_panel(
        figure, box, "b", "Direction and magnitude", "full colour:", f"{symbol} ≥ {tidy_number(largest, 2)} {unit}"
    )
    add_color_wheel(figure, box, SCAN_FRAME, f"dark:\nsmall {symbol}", fading=True)


def _potential_panel(figure: Figure, box: Box, measurements: Measurements) -> None:
    values, unit = measurements.maps["integrated_com"], measurements.units["integrated_com"]
    energy = measurements.calibration.energy
    title, name = "Integrated COM", "∫θ"
    if energy is not None and unit == "mrad·Å":
        values, unit = projected_potential(values, energy), "V·Å"
        title, name = "Projected potential", "∫V dz"
    image = draw_map(add_axes(figure, box, "potential"), values, measurements.calibration.scan_step, MAGNITUDES)
    label_panel(figure, box, "e", title, "from the COM, levelled")
    add_color_bar(figure, bar_below(box), image, name, unit)
