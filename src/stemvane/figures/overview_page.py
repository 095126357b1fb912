"""The overview of a run: manifold, specimen, COM, rotation and latents."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stemvane.data.measurements import Measurements
from stemvane.figures.atom_overlay import draw_structure
from stemvane.figures.layout import WIDTH, Box, Overview, add_axes, label_panel, overview_layout
from stemvane.figures.panels import (
    add_color_bar,
    add_color_wheel,
    angle_certainty,
    draw_map,
    draw_mosaic,
    scan_extent,
    write_absent,
    write_pearson,
)
from stemvane.figures.style import ANGLES, IMAGES, MAGNITUDES, STYLE
from stemvane.runs.run import Run

__all__ = ["overview"]

# certainty of an angle below which its colour is seen to be darker
_FADED = 0.9


def overview(run: Run) -> Figure:
    """Draw the latent manifold, what the specimen is, the COM, the rotation and the latents.

    Parameters
    ----------
    run : Run
        With measurements, embedding and metrics.

    Returns
    -------
    Figure
        (a) decoded patterns over the latents; (b) the structure with the scan's outline, or a dark-field image where
        the structure is unknown; (c) COM angle; (d) COM magnitude; (e) rotation; (f) and further: the latents with
        their Pearson correlation with the COM magnitude.

    Raises
    ------
    RunError
        If a part of the run is missing or damaged.
    """
    measured, embedding = run.measurements, run.embedding
    left, right, bottom, top = scan_extent(measured.scan_shape, measured.calibration.scan_step)
    patterns = _cropped(run.manifold, measured)
    aspect = measured.grid.aspect
    layout = overview_layout(
        4 + embedding.n_latent,
        (bottom - top) / (right - left),
        patterns.shape[:2],
        patterns.shape[2] * aspect / patterns.shape[3],
    )
    with rc_context(STYLE):
        figure = Figure(figsize=layout.size)
        letters = iter(string.ascii_lowercase)
        _manifold_panel(figure, layout, run, patterns, next(letters))
        boxes = iter(layout.maps)
        _specimen_panel(figure, next(boxes), measured, next(letters))
        _com_panels(figure, boxes, measured, letters)
        _embedding_panels(figure, boxes, run, letters)
        if np.isnan(embedding.angle if _has_angle(run) else embedding.angle_std).any():
            height = layout.size[1]
            figure.text(1 - 0.08 / WIDTH, 0.04 / height, "grey: left out", size=5.5, color="0.3", ha="right")
    return figure


def _manifold_panel(
    figure: Figure, layout: Overview, run: Run, patterns: NDArray[np.floating[Any]], letter: str
) -> None:
    measured, n_latent = run.measurements, run.embedding.n_latent
    axes = add_axes(figure, layout.manifold, "manifold")
    image = draw_mosaic(axes, patterns, run.manifold_latents, measured.grid.aspect, run.config.model.latent_unit)
    title = "Latent manifold" if n_latent else "Decoded pattern"
    remarks = ["decoded at angle 0"] if _has_angle(run) else []
    remarks += ["other latents 0"] if n_latent > 2 else []
    label_panel(figure, layout.manifold, letter, title, ", ".join(remarks), indent=0.42 if n_latent > 1 else 0.0)
    noiseless = measured.noiseless
    unit = "dose / pixel" if noiseless else f"{measured.units['total']} / pixel"
    add_color_bar(figure, layout.manifold_bar, image, "intensity", unit, upright=n_latent == 1)


def _specimen_panel(figure: Figure, box: Box, measured: Measurements, letter: str) -> None:
    step = measured.calibration.scan_step
    if measured.atoms is not None and step is not None:
        axes = add_axes(figure, box, "structure")
        elements = draw_structure(axes, measured.atoms, measured.scan_shape, step)
        label_panel(figure, box, letter, "Structure", "dashed: scanned area")
        _element_key(figure, box, elements)
        return
    title, name = "Dark-field image", "ADF"
    if measured.image is not None:
        values, unit = measured.image, "arb. units"
        remark = "recorded with the scan"
    elif "annular_dark_field" in measured.maps:
        values, unit = measured.maps["annular_dark_field"], measured.units["annular_dark_field"]
        remark = "summed from the patterns"
    else:
        title, name = "Bright-field image", "BF"
        values, unit = measured.maps["bright_field"], measured.units["bright_field"]
        remark = "summed from the patterns"
    axes = add_axes(figure, box, "image")
    image = draw_map(axes, values, step, IMAGES)
    label_panel(figure, box, letter, title, remark)
    add_color_bar(figure, _bar_below(box), image, name, unit)


def _com_panels(figure: Figure, boxes: Iterator[Box], measured: Measurements, letters: Iterator[str]) -> None:
    step = measured.calibration.scan_step
    box = next(boxes)
    draw_map(add_axes(figure, box, "com_angle"), measured.com_angle, step, ANGLES)
    label_panel(figure, box, next(letters), "COM angle")
    add_color_wheel(figure, box)
    box = next(boxes)
    magnitude = measured.com_magnitude
    largest = float(np.nanpercentile(magnitude, 99.8)) or 1.0
    image = draw_map(add_axes(figure, box, "com_magnitude"), magnitude, step, MAGNITUDES, (0.0, largest))
    label_panel(figure, box, next(letters), "COM magnitude")
    add_color_bar(figure, _bar_below(box), image, "|COM|", measured.com_unit)


def _embedding_panels(figure: Figure, boxes: Iterator[Box], run: Run, letters: Iterator[str]) -> None:
    step, embedding = run.measurements.calibration.scan_step, run.embedding
    box = next(boxes)
    axes = add_axes(figure, box, "rotation")
    known = angle_certainty(embedding.angle_posterior)
    draw_map(axes, embedding.angle, step, ANGLES, strength=known)
    label_panel(figure, box, next(letters), "Rotation", _rotation_remark(run.metrics))
    if _has_angle(run):
        add_color_wheel(figure, box, fading=bool((known < _FADED).any()))
    else:
        write_absent(axes, "no angle")
    for index in range(embedding.n_latent):
        box = next(boxes)
        axes = add_axes(figure, box, f"latent_{index + 1}")
        image = draw_map(axes, embedding.latents[..., index], step, MAGNITUDES)
        label_panel(figure, box, next(letters), f"Latent {index + 1}")
        write_pearson(axes, run.metrics, index)
        add_color_bar(figure, _bar_below(box), image, f"latent {index + 1}", run.config.model.latent_unit)


def _has_angle(run: Run) -> bool:
    """Whether the model knows an angle at any position."""
    return bool(np.isfinite(run.embedding.angle).any())


def _rotation_remark(metrics: dict[str, Any]) -> str:
    error, offset = metrics.get("angle_error_median_deg"), metrics.get("angle_offset_deg")
    if error is None or offset is None:
        return ""
    mirrored = "mirrored, " if metrics.get("angle_sign") == -1 else ""
    return f"{mirrored}error {error:.1f}°, offset {offset:.0f}°".replace("-", "−").replace(" −0°", " 0°")


def _element_key(figure: Figure, box: Box, elements: list[tuple[str, NDArray[np.float64]]]) -> None:
    axes = add_axes(figure, box.within(0, box.height + 0.04, box.width, 0.14), "elements")
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    for index, (symbol, color) in enumerate(elements):
        place = 0.5 + (index - 0.5 * (len(elements) - 1)) * 0.25
        axes.plot(place - 0.05, 0.45, "o", ms=4.5, mfc=tuple(color), mec="0.15", mew=0.3)
        axes.text(place, 0.45, symbol, size=6, va="center")


def _bar_below(box: Box) -> Box:
    return box.within(0.1 * box.width, box.height + 0.07, 0.8 * box.width, 0.06)


def _cropped(manifold: NDArray[np.floating[Any]], measured: Measurements) -> NDArray[np.floating[Any]]:
    """Cut patterns to the disc and a little around it."""
    grid, radius = measured.grid, measured.calibration.disc_radius
    reach = grid.outer if radius is None else min(grid.outer, 1.25 * radius)
    y, x = (np.arange(n, dtype=float) for n in manifold.shape[2:])
    rows = np.flatnonzero(np.abs(y - grid.axis[0]) * grid.aspect <= reach)
    columns = np.flatnonzero(np.abs(x - grid.axis[1]) <= reach)
    return manifold[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
