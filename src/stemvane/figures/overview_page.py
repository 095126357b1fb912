"""The overview of a run: manifold, specimen, COM, rotation and latents."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.figures.atom_overlay import draw_structure
from stemvane.figures.captions import (
    DETECTOR_FRAME,
    angle_error_caption,
    angle_error_remarks,
    angle_std_caption,
    caption_height,
    pearson_words,
    scan_rotation_remarks,
    write_caption,
)
from stemvane.figures.layout import Box, Overview, add_axes, label_panel, new_page, overview_layout
from stemvane.figures.manifold_panel import Manifold, crop, draw_manifold, empty_cells
from stemvane.figures.panels import (
    add_color_bar,
    add_color_wheel,
    angle_certainty,
    bar_below,
    draw_map,
    largest_of,
    scan_extent,
    write_absent,
)
from stemvane.figures.style import ANGLES, IMAGES, MAGNITUDES, SMALL, STYLE

__all__ = ["overview_page"]


def overview_page(
    measurements: Measurements,
    embedding: Embedding,
    manifold: Manifold,
    metrics: Mapping[str, Any],
    *,
    figure: Figure | None = None,
) -> Figure:
    """Draw the latent manifold, what the specimen is, the COM, the rotation and the latents.

    Parameters
    ----------
    measurements : Measurements
        Measurements of the scan.
    embedding : Embedding
        Latents and angles of the same scan.
    manifold : Manifold
        Patterns decoded along the latents.
    metrics : mapping
        Metrics as in ``metrics.json``: correlations, errors, and the scan rotation.
    figure : Figure, optional
        Empty figure to draw into; a new one where left out.

    Returns
    -------
    Figure
        (a) decoded patterns over the latents, hatched where the scan has none like them; (b) the structure with the
        scan's outline, or a dark-field image where the structure is unknown; (c) COM angle; (d) COM magnitude;
        (e) rotation; (f) and further: the latents with their Pearson correlation with the COM magnitude; last, where
        the measurements have it, angle and magnitude of the filtered COM.
    """
    left, right, bottom, top = scan_extent(measurements.scan_shape, measurements.calibration.scan_step)
    shown = crop(manifold.patterns, measurements.grid, measurements.calibration.disc_radius)
    manifold = Manifold(shown, manifold.latents)
    layout = overview_layout(
        4 + embedding.n_latent + (0 if measurements.filtered_deflection is None else 2),
        (bottom - top) / (right - left),
        manifold.latents.shape[:2],
        shown.shape[2] * measurements.grid.aspect / shown.shape[3],
    )
    empty = empty_cells(manifold, embedding.latents) if embedding.n_latent else None
    caption = _caption(embedding, metrics, empty)
    with rc_context(STYLE):
        figure = new_page((layout.size[0], layout.size[1] + caption_height(caption)), figure)
        letters = iter(string.ascii_lowercase)
        _manifold_panel(figure, layout, measurements, embedding, manifold, empty, next(letters))
        boxes = iter(layout.maps)
        _specimen_panel(figure, next(boxes), measurements, next(letters))
        _com_panels(figure, boxes, measurements, metrics, letters)
        _embedding_panels(figure, boxes, measurements, embedding, metrics, letters)
        _filtered_com_panels(figure, boxes, measurements, metrics, letters)
        write_caption(figure, caption)
    return figure


def _caption(embedding: Embedding, metrics: Mapping[str, Any], empty: NDArray[np.bool_] | None) -> str:
    words = []
    if empty is not None and empty.any():
        words.append("Hatched in (a): the scan has no pattern with such latents.")
    if _has_angle(embedding):
        words += ["Dark in (e): the angle is uncertain, black if all are equally likely.", angle_error_caption(metrics)]
        words.append(angle_std_caption(metrics))
    if np.isnan(embedding.angle if _has_angle(embedding) else embedding.angle_std).any():
        words.append("Grey: positions left out.")
    return " ".join(word for word in words if word)


def _manifold_panel(
    figure: Figure,
    layout: Overview,
    measurements: Measurements,
    embedding: Embedding,
    manifold: Manifold,
    empty: NDArray[np.bool_] | None,
    letter: str,
) -> None:
    n_latent = embedding.n_latent
    ax = add_axes(figure, layout.manifold, "manifold")
    image = draw_manifold(ax, manifold, measurements.grid.aspect, embedding.latent_unit, empty)
    title = "Latent manifold" if n_latent else "Decoded pattern"
    remarks = ["decoded at angle 0"] if _has_angle(embedding) else []
    remarks += ["other latents 0"] if n_latent > 2 else []
    label_panel(figure, layout.manifold, letter, title, ", ".join(remarks), indent=0.42 if n_latent > 1 else 0.0)
    unit = "dose / pixel" if measurements.noiseless else f"{measurements.units['total']} / pixel"
    add_color_bar(figure, layout.manifold_bar, image, "intensity", unit, upright=n_latent == 1)


def _specimen_panel(figure: Figure, box: Box, measurements: Measurements, letter: str) -> None:
    step = measurements.calibration.scan_step
    if measurements.atoms is not None and step is not None:
        ax = add_axes(figure, box, "structure")
        elements = draw_structure(ax, measurements.atoms, measurements.scan_shape, step)
        label_panel(figure, box, letter, "Structure", "dashed: scanned area")
        _element_key(figure, box, elements)
        return
    title, name = "Dark-field image", "ADF"
    if measurements.image is not None:
        values, unit = measurements.image, "arb. units"
        remark = "recorded with the scan"
    elif "annular_dark_field" in measurements.maps:
        values, unit = measurements.maps["annular_dark_field"], measurements.units["annular_dark_field"]
        remark = "summed from the patterns"
    else:
        title, name = "Bright-field image", "BF"
        values, unit = measurements.maps["bright_field"], measurements.units["bright_field"]
        remark = "summed from the patterns"
    ax = add_axes(figure, box, "image")
    image = draw_map(ax, values, step, IMAGES)
    label_panel(figure, box, letter, title, remark)
    add_color_bar(figure, bar_below(box), image, name, unit)


def _com_panels(
    figure: Figure,
    boxes: Iterator[Box],
    measurements: Measurements,
    metrics: Mapping[str, Any],
    letters: Iterator[str],
) -> None:
    words = _DeflectionWords("com", ("COM angle", *scan_rotation_remarks(metrics)), ("COM magnitude",), "|COM|")
    _deflection_panels(figure, boxes, measurements, measurements.deflection, letters, words)


def _embedding_panels(
    figure: Figure,
    boxes: Iterator[Box],
    measurements: Measurements,
    embedding: Embedding,
    metrics: Mapping[str, Any],
    letters: Iterator[str],
) -> None:
    step = measurements.calibration.scan_step
    box = next(boxes)
    ax = add_axes(figure, box, "rotation")
    symmetry = embedding.symmetry
    draw_map(ax, symmetry * embedding.angle, step, ANGLES, strength=angle_certainty(embedding.angle_posterior))
    title = "Rotation, mirrored" if metrics.get("angle_sign") == -1 else "Rotation"
    remarks = angle_error_remarks(metrics) if symmetry == 1 else (f"modulo {360 / symmetry:g}°",)
    label_panel(figure, box, next(letters), title, *remarks)
    if _has_angle(embedding):
        add_color_wheel(figure, box, DETECTOR_FRAME, "dark: angle\nuncertain", fading=True, symmetry=symmetry)
    else:
        write_absent(ax, "no angle")
    for index in range(embedding.n_latent):
        box = next(boxes)
        ax = add_axes(figure, box, f"latent_{index + 1}")
        image = draw_map(ax, embedding.latents[..., index], step, MAGNITUDES)
        label_panel(figure, box, next(letters), f"Latent {index + 1}", pearson_words(metrics, index))
        add_color_bar(figure, bar_below(box), image, f"latent {index + 1}", embedding.latent_unit)


def _filtered_com_panels(
    figure: Figure,
    boxes: Iterator[Box],
    measurements: Measurements,
    metrics: Mapping[str, Any],
    letters: Iterator[str],
) -> None:
    if measurements.filtered_deflection is None:
        return
    error = metrics.get("filtered_com_angle_error_median_deg_truth")
    remarks = [] if error is None else [f"error {error:.2g}°", "from the noiseless COM"]
    spread = float(np.sqrt(np.nanmean(measurements.maps["com_filtered_std"] ** 2)))
    words = _DeflectionWords(
        "com_filtered",
        ("Filtered COM angle", *remarks),
        ("Filtered COM size", f"± {spread:.2g} {measurements.com_unit}", "along y and x"),
        "filtered |COM|",
    )
    _deflection_panels(figure, boxes, measurements, measurements.filtered_deflection, letters, words)


class _DeflectionWords(NamedTuple):
    """Name of the axes of a deflection, title and remarks of angle and magnitude, and the colour bar's label."""

    name: str
    angle: tuple[str, ...]
    magnitude: tuple[str, ...]
    bar: str


def _deflection_panels(
    figure: Figure,
    boxes: Iterator[Box],
    measurements: Measurements,
    deflection: NDArray[np.floating[Any]],
    letters: Iterator[str],
    words: _DeflectionWords,
) -> None:
    """Angle and magnitude of a deflection, ``(y, x)`` along its last axis, each in a box."""
    step = measurements.calibration.scan_step
    box, angle = next(boxes), np.arctan2(-deflection[..., 0], deflection[..., 1])
    draw_map(add_axes(figure, box, f"{words.name}_angle"), angle, step, ANGLES)
    label_panel(figure, box, next(letters), *words.angle)
    add_color_wheel(figure, box, DETECTOR_FRAME)
    box, magnitude = next(boxes), np.linalg.norm(deflection, axis=-1)
    # each deflection has a scale of its own: that of the measured COM would be that of its noise
    limits = (0.0, largest_of(magnitude, 99.8))
    image = draw_map(add_axes(figure, box, f"{words.name}_magnitude"), magnitude, step, MAGNITUDES, limits)
    label_panel(figure, box, next(letters), *words.magnitude)
    add_color_bar(figure, bar_below(box), image, words.bar, measurements.com_unit)


def _has_angle(embedding: Embedding) -> bool:
    """Whether the model gives an angle at any position."""
    return bool(np.isfinite(embedding.angle).any())


def _element_key(figure: Figure, box: Box, elements: list[tuple[str, NDArray[np.float64]]]) -> None:
    ax = add_axes(figure, box.within(0, box.height + 0.04, box.width, 0.14), "elements")
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    for index, (symbol, color) in enumerate(elements):
        place = 0.5 + (index - 0.5 * (len(elements) - 1)) * 0.25
        ax.plot(place - 0.05, 0.45, "o", ms=4.5, mfc=tuple(color), mec="0.15", mew=0.3)
        ax.text(place, 0.45, symbol, size=SMALL, va="center")
