"""The figure of a defect analysis: where the scan departs from its own lattice, and the kinds of its defects."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.defects.analysis import DefectAnalysis, Defects
from stemvane.figures.captions import DETECTOR_FRAME, caption_height, write_caption
from stemvane.figures.group_panels import draw_groups, groups_height
from stemvane.figures.layout import FOOT, GAP, HEAD, MARGIN, WIDTH, Box, add_axes, label_panel, new_page
from stemvane.figures.panels import (
    add_color_bar,
    add_color_wheel,
    angle_certainty,
    bar_below,
    draw_map,
    without_ticks,
    write_absent,
)
from stemvane.figures.style import ANGLES, DIVERGING, IMAGES, MAGNITUDES, SMALL, STYLE

__all__ = ["defects_page"]

_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#000000")
_MARKERS = "osD^vPX*"
_MOST_KINDS = 5
_VEIL = (0.55, 0.55, 0.55, 0.55)
_PLANE = 1.5
_OUTLINED: list[Any] = [withStroke(linewidth=1.4, foreground="k")]


def defects_page(
    measurements: Measurements, embedding: Embedding, analysis: DefectAnalysis, *, figure: Figure | None = None
) -> Figure:
    """Draw dark field, anomaly, rotation and latents, and the kinds of defects or, without a lattice, the groups.

    Parameters
    ----------
    measurements : Measurements
        Measurements of the scan.
    embedding : Embedding
        Latents and angles of the same scan.
    analysis : DefectAnalysis
        Analysis of both.
    figure : Figure, optional
        Empty figure to draw into; a new one where left out.

    Returns
    -------
    Figure
        Marks of one colour and shape are one kind; crosses and words are the truth, where the source knows it.
    """
    step, shape = measurements.calibration.scan_step, measurements.scan_shape
    has_lattice = analysis.lattice is not None
    width = (WIDTH - 2 * MARGIN - 3 * GAP) / 4
    height = width * min(max(shape[0] / shape[1], 0.5), 1.25)
    below = HEAD + _PLANE + 0.5 if has_lattice else 0.0
    if analysis.regions is not None:
        below = groups_height(analysis.regions, width, height)
    boxes = [Box(MARGIN + i * (width + GAP), HEAD, width, height) for i in range(4)]
    caption = _caption(measurements, analysis)
    with rc_context(STYLE):
        total = HEAD + height + FOOT + below + 0.05 + caption_height(caption)
        figure = new_page((WIDTH, total), figure)
        titles = ["Dark field", "Anomaly", "Rotation", "Latent 1"]
        remarks = ["", "departure from the mean"]
        if has_lattice:
            remarks = ["marks: detected defects", "departure from the lattice"]
        panels = [add_axes(figure, box, title) for box, title in zip(boxes, titles, strict=True)]
        dark = draw_map(panels[0], measurements.maps["annular_dark_field"], step, IMAGES)
        add_color_bar(figure, bar_below(boxes[0]), dark, "intensity", measurements.units["annular_dark_field"])
        most = float(np.nanquantile(analysis.anomaly, 0.998))
        shown = draw_map(panels[1], analysis.anomaly, step, MAGNITUDES, (0.0, max(min(most, 50.0), 3.0)))
        add_color_bar(figure, bar_below(boxes[1]), shown, "residual", "s.d.")
        symmetry, certainty = embedding.symmetry, angle_certainty(embedding.angle_posterior)
        draw_map(panels[2], symmetry * embedding.angle, step, ANGLES, strength=certainty)
        add_color_wheel(figure, boxes[2], DETECTOR_FRAME, "dark: angle\nuncertain", fading=True, symmetry=symmetry)
        if embedding.n_latent:
            values = embedding.latents[..., 0]
            limit = float(np.nanquantile(np.abs(values), 0.998))
            drawn = draw_map(panels[3], values, step, DIVERGING, (-limit, limit))
            add_color_bar(figure, bar_below(boxes[3]), drawn, "latent 1", embedding.latent_unit)
        else:
            write_absent(panels[3], "no latents")
            without_ticks(panels[3])
        for box, letter, title, remark in zip(boxes, string.ascii_lowercase, titles, [*remarks, "", ""], strict=False):
            label_panel(figure, box, letter, title, remark)
        if analysis.defects is not None:
            for panel in panels[:2]:
                _outline(panel, analysis, step)
            _mark(panels[0], measurements, analysis.defects)
            _kinds(figure, measurements, analysis, HEAD + height + FOOT)
        if analysis.regions is not None:
            place = boxes[0].within(0, height + FOOT + HEAD, width, height)
            draw_groups(figure, measurements, analysis.regions, place)
        write_caption(figure, caption)
    return figure


def _caption(measurements: Measurements, analysis: DefectAnalysis) -> str:
    if analysis.defects is None:
        return ""
    n_kinds = analysis.defects.kinds.n_kinds
    n_shown = min(n_kinds, _MOST_KINDS)
    words = ["Marks of one colour and shape are defects of one kind."]
    if analysis.is_searched is not None and not analysis.is_searched.all():
        words.append(
            f"Lines: where {'each' if len(analysis.lattices) > 1 else 'the'} lattice ends; veiled: not searched "
            f"({100 * (1 - analysis.share_searched):.0f} % of the field)."
        )
    if measurements.atoms is not None and measurements.atoms.defects is not None:
        words.append("Crosses and names in (a): the true defects.")
    if n_shown:
        words.append(
            "Patterns: what a kind adds to the pattern at its centre, rotated to one orientation (red more, blue less)."
            + (" Each has a colour scale of its own, below it." if n_shown > 1 else "")
        )
    if n_kinds > n_shown:
        words.append(f"Not shown: kinds {n_shown + 1} to {n_kinds}, see defects.csv.")
    return " ".join(words)


def _style(kind: int) -> tuple[str, str]:
    return _COLORS[kind % len(_COLORS)], _MARKERS[kind % len(_MARKERS)]


def _outline(ax: Axes, analysis: DefectAnalysis, step: tuple[float, float] | None) -> None:
    """Where each lattice ends, and a veil over what was not searched."""
    lattice_map, is_searched = analysis.lattice_map, analysis.is_searched
    if lattice_map is None or is_searched is None or is_searched.all():
        return
    limits = ax.get_xlim(), ax.get_ylim()
    y, x = (np.arange(n) * d for n, d in zip(lattice_map.shape, step or (1.0, 1.0), strict=True))
    veil = np.zeros((*is_searched.shape, 4))
    veil[~is_searched] = _VEIL
    half_y, half_x = (y[1] - y[0]) / 2, (x[1] - x[0]) / 2
    ax.imshow(veil, extent=(x[0] - half_x, x[-1] + half_x, y[-1] + half_y, y[0] - half_y), interpolation="nearest")
    for number in range(len(analysis.lattices)):
        # (a lattice that fills the scan has no end)
        if not (lattice_map == number).all():
            ax.contour(x, y, lattice_map == number, [0.5], colors="w", linewidths=0.8)
    ax.set(xlim=limits[0], ylim=limits[1])


def _mark(ax: Axes, measurements: Measurements, defects: Defects) -> None:
    limits = ax.get_xlim(), ax.get_ylim()
    for kind in range(defects.kinds.n_kinds):
        color, marker = _style(kind)
        y, x = defects.positions[defects.kinds.kind == kind].T
        ax.plot(x, y, marker, mfc="none", mec=color, ms=8, mew=1.1)
    atoms = measurements.atoms
    if atoms is not None and atoms.defects is not None:
        for word, (y, x) in zip(atoms.defects.kinds, atoms.defects.positions, strict=True):
            ax.plot(x, y, "+", color="w", ms=3, mew=0.6, path_effects=_OUTLINED)
            name = ax.annotate(word, (x, y), (0, 6), textcoords="offset points", color="w", size=SMALL, ha="center")
            name.set_path_effects(_OUTLINED)
    ax.set(xlim=limits[0], ylim=limits[1])


def _kinds(figure: Figure, measurements: Measurements, analysis: DefectAnalysis, top: float) -> None:
    """The plane of excess scattering and deflection, and what each kind adds to a pattern."""
    defects, sites, content = analysis.defects, analysis.sites, analysis.content
    if defects is None or sites is None or content is None:
        return
    box = Box(MARGIN + 0.4, top + HEAD, _PLANE, _PLANE)
    ax = add_axes(figure, box, "excess")
    is_pristine = analysis.owner[sites.is_atom] < 0
    ax.plot(*content.excess[is_pristine, 1::-1].T, ".", color="0.75", ms=2, mew=0, label="pristine sites")
    for kind in range(defects.kinds.n_kinds):
        color, marker = _style(kind)
        members = defects.kinds.kind == kind
        ax.plot(*defects.excess[members, 1::-1].T, marker, mfc="none", mec=color, ms=5, mew=1.0)
    ax.axhline(0, color="0.6", lw=0.4, zorder=0)
    ax.axvline(0, color="0.6", lw=0.4, zorder=0)
    ax.margins(0.12)
    ax.set(xlabel="deflection (atoms)", ylabel="scattering (atoms)")
    label_panel(figure, box, "e", "Excess", "over the lattice, in its own atoms", "grey: pristine sites", indent=0.4)
    n = min(defects.kinds.n_kinds, _MOST_KINDS)
    first = box.left + box.width + 0.35
    size = min((WIDTH - MARGIN - first - 0.14 * max(n - 1, 0)) / max(n, 1), _PLANE - 0.25)
    patterns = measurements.grid.to_cartesian(defects.patterns[:n], measurements.detector_shape)
    unit = f"{measurements.units['total']} / pixel"
    for kind in range(n):
        place = Box(first + kind * (size + 0.14), top + HEAD, size, size)
        panel = add_axes(figure, place, f"kind {kind + 1}")
        limit = float(np.nanquantile(np.abs(patterns[kind]), 0.995)) or 1.0
        image = panel.imshow(patterns[kind], cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
        without_ticks(panel)
        count = int((defects.kinds.kind == kind).sum())
        naming, words = defects.naming, f"{count} detected"
        title = f"Kind {kind + 1}" if naming is None else naming.kind_names[kind]
        if naming is not None:
            words += f", {100 * naming.kind_probabilities[kind].max():.0f} %"
        label_panel(figure, place, string.ascii_lowercase[5 + kind], title, words)
        add_color_bar(figure, bar_below(place), image, "", unit)
        color, marker = _style(kind)
        panel.plot(0.1, 0.9, marker, transform=panel.transAxes, mfc="none", mec=color, ms=6, mew=1.1, clip_on=False)
