"""The figure of a symmetry analysis: where the scan departs from its own lattice, and into which kinds that falls."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from stemvane.defects.analysis import DefectAnalysis, Defects
from stemvane.figures.group_panels import draw_groups, groups_height
from stemvane.figures.layout import FOOT, GAP, HEAD, MARGIN, WIDTH, Box, add_axes, label_panel
from stemvane.figures.panels import (
    add_color_bar,
    add_color_wheel,
    angle_certainty,
    draw_map,
    without_ticks,
    write_absent,
)
from stemvane.figures.style import ANGLES, DIVERGING, IMAGES, MAGNITUDES, STYLE
from stemvane.runs.run import Run

__all__ = ["symmetry_page"]

_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#000000")
_MARKERS = "osD^vPX*"
_MOST_KINDS = 5
_PLANE = 1.5
_OUTLINED: list[Any] = [withStroke(linewidth=1.4, foreground="k")]


def symmetry_page(run: Run, analysis: DefectAnalysis) -> Figure:
    """Draw dark field, anomaly, rotation and latents, and the kinds of defects or, without a lattice, the groups.

    Parameters
    ----------
    run : Run
        A finished run.
    analysis : DefectAnalysis
        Of its measurements and embedding.

    Returns
    -------
    Figure
        Marks of one colour and shape are one kind; crosses and words are the truth, where the source knows it.
    """
    measurements, embedding = run.measurements, run.embedding
    step, shape = measurements.calibration.scan_step, measurements.scan_shape
    lattice = analysis.lattice is not None
    width = (WIDTH - 2 * MARGIN - 3 * GAP) / 4
    height = width * min(max(shape[0] / shape[1], 0.5), 1.25)
    below = HEAD + _PLANE + 0.5 if lattice else 0.0
    if analysis.regions is not None:
        below = groups_height(analysis.regions, width, height)
    boxes = [Box(MARGIN + i * (width + GAP), HEAD, width, height) for i in range(4)]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEAD + height + FOOT + below + 0.05))
        titles = ["Dark field", "Anomaly", "Rotation", "Latent 1"]
        remarks = ["", "departure from the mean"]
        if lattice:
            remarks = ["defects that were found", "departure from the lattice"]
        panels = [add_axes(figure, box, title) for box, title in zip(boxes, titles, strict=True)]
        dark = draw_map(panels[0], measurements.maps["annular_dark_field"], step, IMAGES)
        add_color_bar(figure, _bar(boxes[0]), dark, "intensity", measurements.units["annular_dark_field"])
        most = float(np.nanquantile(analysis.anomaly, 0.998))
        shown = draw_map(panels[1], analysis.anomaly, step, MAGNITUDES, (0.0, max(min(most, 50.0), 3.0)))
        add_color_bar(figure, _bar(boxes[1]), shown, "residual", "s.d.")
        certain = angle_certainty(embedding.angle_posterior)
        draw_map(panels[2], embedding.angle, step, ANGLES, strength=certain)
        add_color_wheel(figure, boxes[2])
        if embedding.n_latent:
            values = embedding.latents[..., 0]
            limit = float(np.nanquantile(np.abs(values), 0.998))
            drawn = draw_map(panels[3], values, step, DIVERGING, (-limit, limit))
            add_color_bar(figure, _bar(boxes[3]), drawn, "latent 1", run.config.model.latent_unit)
        else:
            write_absent(panels[3], "no latents")
            without_ticks(panels[3])
        for box, letter, title, remark in zip(boxes, string.ascii_lowercase, titles, [*remarks, "", ""], strict=False):
            label_panel(figure, box, letter, title, remark)
        if analysis.defects is not None:
            _mark(panels[0], run, analysis.defects)
            _kinds(figure, run, analysis, HEAD + height + FOOT)
        if analysis.regions is not None:
            draw_groups(figure, run, analysis.regions, boxes[0].within(0, height + FOOT + HEAD, width, height))
    return figure


def _bar(box: Box) -> Box:
    return box.within(0.1 * box.width, box.height + 0.09, 0.8 * box.width, 0.06)


def _style(kind: int) -> tuple[str, str]:
    return _COLORS[kind % len(_COLORS)], _MARKERS[kind % len(_MARKERS)]


def _mark(axes: Axes, run: Run, defects: Defects) -> None:
    limits = axes.get_xlim(), axes.get_ylim()
    for kind in range(defects.kinds.n_kinds):
        color, marker = _style(kind)
        y, x = defects.positions[defects.kinds.kind == kind].T
        axes.plot(x, y, marker, mfc="none", mec=color, ms=8, mew=1.1)
    atoms = run.measurements.atoms
    if atoms is not None and atoms.defects is not None:
        for word, (y, x) in zip(atoms.defects.kinds, atoms.defects.positions, strict=True):
            axes.plot(x, y, "+", color="w", ms=3, mew=0.6, path_effects=_OUTLINED)
            name = axes.annotate(word, (x, y), (0, 6), textcoords="offset points", color="w", size=5.5, ha="center")
            name.set_path_effects(_OUTLINED)
    axes.set(xlim=limits[0], ylim=limits[1])


def _kinds(figure: Figure, run: Run, analysis: DefectAnalysis, top: float) -> None:
    """The plane of what is there more than in the lattice, and what each kind adds to a pattern."""
    defects, sites, content = analysis.defects, analysis.sites, analysis.content
    if defects is None or sites is None or content is None:
        return
    box = Box(MARGIN + 0.4, top + HEAD, _PLANE, _PLANE)
    axes = add_axes(figure, box, "excess")
    quiet = analysis.owner[sites.is_atom] < 0
    axes.plot(*content.excess[quiet, 1::-1].T, ".", color="0.75", ms=2, mew=0, label="pristine sites")
    for kind in range(defects.kinds.n_kinds):
        color, marker = _style(kind)
        own = defects.kinds.kind == kind
        axes.plot(*defects.excess[own, 1::-1].T, marker, mfc="none", mec=color, ms=5, mew=1.0)
    axes.axhline(0, color="0.6", lw=0.4, zorder=0)
    axes.axvline(0, color="0.6", lw=0.4, zorder=0)
    axes.margins(0.12)
    axes.set(xlabel="deflection (atoms)", ylabel="scattering (atoms)")
    label_panel(figure, box, "e", "Excess", "over the lattice, in its own atoms", indent=0.4)
    n = min(defects.kinds.n_kinds, _MOST_KINDS)
    first = box.left + box.width + 0.35
    size = min((WIDTH - MARGIN - first - 0.1 * max(n - 1, 0)) / max(n, 1), _PLANE - 0.25)
    patterns = run.measurements.grid.to_cartesian(defects.patterns[:n], run.measurements.detector_shape)
    for kind in range(n):
        place = Box(first + kind * (size + 0.1), top + HEAD, size, size)
        panel = add_axes(figure, place, f"kind {kind + 1}")
        limit = float(np.nanquantile(np.abs(patterns[kind]), 0.995)) or 1.0
        panel.imshow(patterns[kind], cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
        without_ticks(panel)
        count = int((defects.kinds.kind == kind).sum())
        title = f"Kind {kind + 1}" if defects.naming is None else defects.naming.kind_names[kind]
        label_panel(figure, place, string.ascii_lowercase[5 + kind], title, f"{count} found")
        color, marker = _style(kind)
        panel.plot(0.1, 0.9, marker, transform=panel.transAxes, mfc="none", mec=color, ms=6, mew=1.1, clip_on=False)
    if n:
        words = "What each kind adds to the pattern at its centre, turned to one orientation: red more, blue less."
        hidden = defects.kinds.n_kinds - n
        words += f"\nNot shown: kinds {n + 1} to {n + hidden}, see defects.csv." if hidden else ""
        figure.text(
            first / WIDTH, 1 - (top + HEAD + size + 0.08) / figure.get_figheight(), words, size=5.5, color="0.3"
        )
