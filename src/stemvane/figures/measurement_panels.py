"""One panel of measurements: the COM, a map, the image or the mean pattern."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from numpy.typing import NDArray

from stemvane.data.measurements import Measurements
from stemvane.errors import DataError
from stemvane.figures.canvas import attach_color_bar, attach_color_wheel, panel_axes
from stemvane.figures.panels import add_scale_bar, draw_map, draw_vectors, largest_of, small_type, without_ticks
from stemvane.figures.style import DIVERGING, IMAGES, MAGNITUDES, tidy_number

__all__ = ["draw_measurement"]

_TITLES = {
    "total": "Total intensity",
    "bright_field": "Bright field",
    "annular_dark_field": "Annular dark field",
    "com_y": "COM along y (detector frame)",
    "com_x": "COM along x (detector frame)",
    "com_filtered_y": "Filtered COM along y (detector frame)",
    "com_filtered_x": "Filtered COM along x (detector frame)",
    "com_filtered_std": "Error of the filtered COM",
    "shared_potential": "Potential that all features share",
    "shared_potential_std": "Error of the shared potential",
    "field_y": "Field along y (scan frame)",
    "field_x": "Field along x (scan frame)",
    "divergence": "Divergence of the deflection",
    "curl": "Curl of the deflection",
    "integrated_com": "Integrated COM, levelled",
}
_SIGNED = (
    "com_y",
    "com_x",
    "com_filtered_y",
    "com_filtered_x",
    "shared_potential",
    "field_y",
    "field_x",
    "divergence",
    "curl",
)
_MARK = "#d7301f"


def draw_measurement(measurements: Measurements, what: str, ax: Axes | None = None) -> Axes:
    """Draw the COM, a map, the image or the mean pattern, with units, scale bar, colour bar and frame.

    Parameters
    ----------
    measurements : Measurements
        Measurements of a scan.
    what : str
        ``com``, ``com_magnitude``, ``mean_pattern``, ``image`` or the name of a map.
    ax : Axes, optional
        Axes to draw into; those of a new figure where left out.

    Returns
    -------
    Axes
        The panel.

    Raises
    ------
    DataError
        If there is nothing of that name.
    """
    choices = ["com", "com_magnitude", *measurements.maps]
    choices += ["image"] if measurements.image is not None else []
    choices += ["mean_pattern"] if np.isfinite(measurements.mean_pattern).any() else []
    if what not in choices:
        raise DataError(f"{measurements.name}: nothing measured is called {what!r}; there are {', '.join(choices)}")
    ax = panel_axes(ax)
    step = measurements.calibration.scan_step
    if what == "com":
        _draw_com(ax, measurements)
    elif what == "com_magnitude":
        magnitude = measurements.com_magnitude
        image = draw_map(ax, magnitude, step, MAGNITUDES, (0.0, largest_of(magnitude, 99.8)))
        ax.set_title("COM magnitude")
        attach_color_bar(ax, image, "|COM|", measurements.com_unit)
    elif what == "image":
        attach_color_bar(ax, draw_map(ax, _image(measurements), step, IMAGES), "intensity", "arb. units")
        ax.set_title("Image recorded with the scan")
    elif what == "mean_pattern":
        _draw_mean_pattern(ax, measurements)
    else:
        _draw_named(ax, measurements, what)
    return ax


def _draw_com(ax: Axes, measurements: Measurements) -> None:
    largest = largest_of(measurements.com_magnitude)
    draw_vectors(ax, measurements.deflection, measurements.calibration.scan_step, largest)
    ax.set_title("COM (detector frame)")
    words = f"full colour:\n|COM| ≥\n{tidy_number(largest, 2)} {measurements.com_unit}"
    attach_color_wheel(ax, words, fading=True)


def _draw_named(ax: Axes, measurements: Measurements, what: str) -> None:
    values = np.asarray(measurements.maps[what], float)
    colors, limits = IMAGES, None
    if what in _SIGNED:
        largest = largest_of(np.abs(values))
        colors, limits = DIVERGING, (-largest, largest)
    elif what == "integrated_com":
        colors = MAGNITUDES
    image = draw_map(ax, values, measurements.calibration.scan_step, colors, limits)
    title = _TITLES.get(what, what.replace("_", " ").capitalize())
    ax.set_title(title)
    quantity = "intensity" if colors is IMAGES else title.split(" (")[0].split(",")[0]
    attach_color_bar(ax, image, quantity, measurements.units[what])


def _draw_mean_pattern(ax: Axes, measurements: Measurements) -> None:
    """The mean pattern with optical axis and bright-field disc, in mrad where the pixel size is known."""
    calibration, aspect = measurements.calibration, measurements.grid.aspect
    size = calibration.pixel_size
    # a pixel size along y and x, or one for both where only the aspect is known
    height, width = (aspect, 1.0) if size is None else (float(part) for part in np.broadcast_to(size, 2))
    n_y, n_x = measurements.detector_shape
    axis_y, axis_x = measurements.grid.axis
    extent = (
        (-0.5 - axis_x) * width,
        (n_x - 0.5 - axis_x) * width,
        (n_y - 0.5 - axis_y) * height,
        (-0.5 - axis_y) * height,
    )
    pattern = np.ma.masked_invalid(measurements.mean_pattern)
    image = ax.imshow(pattern, cmap=IMAGES, extent=extent, origin="upper", interpolation="antialiased")
    ax.plot(0, 0, "+", color=_MARK, ms=1.5 * small_type())
    title = "Mean pattern\n+ optical axis"
    if calibration.disc_radius is not None:
        radius = calibration.disc_radius * width
        ax.add_patch(Circle((0, 0), radius, fill=False, ec=_MARK, lw=1.0, ls="--"))
        title += ", dashed: disc"
    without_ticks(ax)
    add_scale_bar(ax, is_calibrated=False, unit="px" if size is None else "mrad")
    ax.set_title(title, size="medium")
    attach_color_bar(ax, image, "intensity", f"{measurements.units['total']} / pixel")


def _image(measurements: Measurements) -> NDArray[Any]:
    return np.asarray(measurements.image, float)
