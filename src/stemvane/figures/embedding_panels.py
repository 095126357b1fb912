"""An embedding drawn: rotation, latents, where these lie, and an overview of all."""

from __future__ import annotations

import string

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from stemvane.data.embedding import Embedding
from stemvane.errors import DataError
from stemvane.figures.canvas import attach_color_bar, attach_color_wheel, panel_axes
from stemvane.figures.captions import DETECTOR_FRAME, caption_height, write_caption
from stemvane.figures.kinds_page import draw_kinds
from stemvane.figures.layout import FOOT, GAP, HEAD, MARGIN, WIDTH, Box, add_axes, label_panel, new_page
from stemvane.figures.panels import (
    add_color_bar,
    add_color_wheel,
    angle_certainty,
    bar_below,
    draw_map,
    write_absent,
)
from stemvane.figures.style import ANGLES, MAGNITUDES, STYLE

__all__ = ["draw_embedding", "embedding_page"]

_ACROSS = 4
_CAPTION = "Dark in (a): the angle is uncertain, black if all are equally likely."


def draw_embedding(embedding: Embedding, what: str, ax: Axes | None = None) -> Axes:
    """Draw the rotation, a latent, or where the latents lie, with units, scale bar, colour bar and frame.

    Parameters
    ----------
    embedding : Embedding
        Latents and angles of a scan.
    what : str
        ``angle``, ``angle_std``, ``deflection_angle`` where that of the COM is known, ``kind`` in a model with kinds,
        ``latent 1`` and so on, ``latents`` for the plane of the first two, or ``log_evidence``.
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
    names = [f"latent {i + 1}" for i in range(embedding.n_latent)]
    of_com = [] if embedding.deflection_angle is None else ["deflection_angle"]
    of_com += [] if embedding.kind_probability is None else ["kind"]
    choices = ["angle", "angle_std", *of_com, *names, *(["latents"] if names else []), "log_evidence"]
    if what not in choices:
        raise DataError(f"an embedding has no {what!r} to draw; it has {', '.join(choices)}")
    ax, step = panel_axes(ax), embedding.scan_step
    if what == "angle":
        _draw_angle(ax, embedding)
        ax.set_title("Rotation (detector frame)")
        attach_color_wheel(ax, "dark: angle\nuncertain", fading=True, symmetry=embedding.symmetry)
    elif what == "angle_std":
        values = np.degrees(np.where(np.isfinite(embedding.angle_std), embedding.angle_std, np.nan))
        attach_color_bar(ax, draw_map(ax, values, step, MAGNITUDES), "standard deviation of the angle", "°")
        ax.set_title("Uncertainty of the rotation")
    elif what == "kind":
        place = (0.5, -0.02)
        patches = draw_kinds(ax, embedding)
        ax.legend(handles=patches, ncols=2, loc="upper center", bbox_to_anchor=place, borderaxespad=0, frameon=False)
        ax.set_title("Kinds")
    elif what == "deflection_angle" and embedding.deflection_angle is not None:
        draw_map(ax, embedding.deflection_angle, step, ANGLES)
        ax.set_title("Direction of the COM (detector frame)")
        attach_color_wheel(ax)
    elif what == "latents":
        attach_color_bar(ax, _draw_latents(ax, embedding), "patterns per bin", "")
        ax.set_title("Latents of the scan")
    elif what == "log_evidence":
        attach_color_bar(ax, draw_map(ax, embedding.log_evidence, step, MAGNITUDES), "log evidence", "nat")
        ax.set_title("Log evidence")
    else:
        values = embedding.latents[..., names.index(what)]
        attach_color_bar(ax, draw_map(ax, values, step, MAGNITUDES), what, embedding.latent_unit)
        ax.set_title(what.capitalize())
    return ax


def embedding_page(embedding: Embedding, *, figure: Figure | None = None) -> Figure:
    """Draw the rotation, every latent, and the plane of the first two.

    Parameters
    ----------
    embedding : Embedding
        Latents and angles of a scan.
    figure : Figure, optional
        Empty figure to draw into; a new one where left out.

    Returns
    -------
    Figure
        (a) rotation, in the detector's frame; then the latents; last, where the latents of the scan lie.
    """
    shape, step = embedding.scan_shape, embedding.scan_step or (1.0, 1.0)
    n_panels = 1 + embedding.n_latent + (embedding.n_latent > 0)
    width = (WIDTH - 2 * MARGIN - (_ACROSS - 1) * GAP) / _ACROSS
    height = width * min(max(shape[0] * step[0] / (shape[1] * step[1]), 0.5), 1.25)
    row = HEAD + height + FOOT
    boxes = [
        Box(MARGIN + i % _ACROSS * (width + GAP), HEAD + i // _ACROSS * row, width, height) for i in range(n_panels)
    ]
    size = (WIDTH - (_ACROSS - min(n_panels, _ACROSS)) * (width + GAP), -(-n_panels // _ACROSS) * row)
    has_angle = bool(np.isfinite(embedding.angle).any())
    caption = _CAPTION if has_angle else ""
    with rc_context(STYLE):
        figure = new_page((size[0], size[1] + caption_height(caption, size[0])), figure)
        letters = iter(string.ascii_lowercase)
        ax = add_axes(figure, boxes[0], "rotation")
        label_panel(figure, boxes[0], next(letters), "Rotation")
        _draw_angle(ax, embedding)
        if has_angle:
            words = (DETECTOR_FRAME, "dark: angle\nuncertain")
            add_color_wheel(figure, boxes[0], *words, fading=True, symmetry=embedding.symmetry)
        for index in range(embedding.n_latent):
            box, name = boxes[1 + index], f"latent {index + 1}"
            image = draw_map(
                add_axes(figure, box, f"latent_{index + 1}"),
                embedding.latents[..., index],
                embedding.scan_step,
                MAGNITUDES,
            )
            label_panel(figure, box, next(letters), name.capitalize())
            add_color_bar(figure, bar_below(box), image, name, embedding.latent_unit)
        if embedding.n_latent:
            box = boxes[-1].within(0.42, 0, width - 0.42, height)
            _draw_latents(add_axes(figure, box, "latents"), embedding)
            label_panel(figure, box, next(letters), "Latents of the scan", "darker: more patterns", indent=0.3)
        write_caption(figure, caption)
    return figure


def _draw_angle(ax: Axes, embedding: Embedding) -> None:
    strength = angle_certainty(embedding.angle_posterior)
    draw_map(ax, embedding.symmetry * embedding.angle, embedding.scan_step, ANGLES, strength=strength)
    if not np.isfinite(embedding.angle).any():
        write_absent(ax, "no angle")


def _draw_latents(ax: Axes, embedding: Embedding) -> ScalarMappable:
    """How many positions have which first two latents, or how much of which latent where there is one alone."""
    points = embedding.latents.reshape(-1, embedding.n_latent).astype(float)
    points = points[np.isfinite(points).all(axis=1)]
    unit = f" ({embedding.latent_unit})" if embedding.latent_unit else ""
    second = points[:, 1] if embedding.n_latent > 1 else np.zeros(len(points))
    if embedding.n_latent > 1:
        counts, x, y = np.histogram2d(points[:, 0], second, bins=60)
    else:
        counts, x, y = np.histogram2d(points[:, 0], second, bins=(60, 1))
    colors = MAGNITUDES.reversed().with_extremes(bad="white")
    norm = LogNorm(1, max(10.0, float(counts.max(initial=0))))
    mesh = ax.pcolormesh(x, y, np.ma.masked_equal(counts.T, 0), cmap=colors, norm=norm, rasterized=True)
    ax.set_xlabel(f"latent 1{unit}", labelpad=1.5)
    if embedding.n_latent > 1:
        ax.set_ylabel(f"latent 2{unit}", labelpad=1.5)
    else:
        ax.set_yticks([])
    ax.locator_params(nbins=4)
    return mesh
