"""The page of kinds: where each lies, its pattern, the angle within it, and how certain the kind is."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from stemvane.data.embedding import Embedding
from stemvane.errors import DataError
from stemvane.figures.captions import DETECTOR_FRAME, caption_height, write_caption
from stemvane.figures.layout import FOOT, GAP, HEAD, MARGIN, WIDTH, Box, add_axes, label_panel, new_page
from stemvane.figures.panels import (
    add_color_bar,
    add_color_wheel,
    angle_certainty,
    bar_below,
    draw_map,
    scan_extent,
    without_ticks,
)
from stemvane.figures.style import ANGLES, DIVERGING, IMAGES, MAGNITUDES, MASKED, SMALL, STYLE

__all__ = ["draw_kinds", "kind_colors", "kinds_page"]

_NONE = "#404040"
# distinct for all kinds of colour vision (Wong, Nat. Methods 8, 441, 2011)
_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_PATTERNS_ACROSS = 6
_LEGEND_LINE = 0.13
_BETWEEN = 0.14
_TITLE = 0.3
_SCALE = 99.8


def kind_colors(n_kinds: int) -> list[str]:
    """Colour of each kind, repeated where there are more than colours."""
    return [_COLORS[k % len(_COLORS)] for k in range(n_kinds)]


def draw_kinds(ax: Axes, embedding: Embedding) -> list[Patch]:
    """Draw the map of kinds, and return a patch of each kind's colour for a legend.

    Parameters
    ----------
    ax : Axes
        Axes to draw into.
    embedding : Embedding
        Embedding of a model with kinds.

    Returns
    -------
    list of Patch
        The kinds that lie in the scan, and, where there are any, positions of none.

    Raises
    ------
    DataError
        If the embedding has no kinds.
    """
    kind = _kind(embedding)
    names, n = embedding.kind_names, max(int((kind >= 0).sum()), 1)
    colors = [_NONE, *kind_colors(len(names))]
    flat = ListedColormap(colors).with_extremes(bad=MASKED)
    values = np.where(kind < 0, np.nan, kind.astype(float))
    draw_map(ax, values, embedding.scan_step, flat, (-0.5, len(names) + 0.5))
    words = ["none of these", *names]
    return [
        Patch(color=colors[k], label=f"{words[k]}: {100 * float((kind == k).sum()) / n:.3g} %")
        for k in (*range(1, len(names) + 1), 0)
        if k or (kind == 0).any()
    ]


def kinds_page(embedding: Embedding, *, figure: Figure | None = None) -> Figure:
    """Draw the kinds of a scan.

    Parameters
    ----------
    embedding : Embedding
        Embedding of a model with kinds.
    figure : Figure, optional
        Empty figure to draw into; a new one where left out.

    Returns
    -------
    Figure
        (a) kinds with their shares of the scan, (b) the angle within each kind, (c) probability of the likeliest kind;
        below, the mean of the kinds' patterns, and what each differs from it by, all on one colour scale.

    Raises
    ------
    DataError
        If the embedding has no kinds.
    """
    kind = _kind(embedding)
    left, right, bottom, top = scan_extent(embedding.scan_shape, embedding.scan_step or (1.0, 1.0))
    aspect = min(max((bottom - top) / (right - left), 0.5), 1.25)
    width = (WIDTH - 2 * MARGIN - 2 * GAP) / 3
    maps = [Box(MARGIN + i * (width + GAP), HEAD, width, width * aspect) for i in range(3)]
    n_kinds = len(embedding.kind_names)
    n_patterns = n_kinds + (n_kinds > 1)
    across = max(min(n_patterns, _PATTERNS_ACROSS), 4)
    side = (WIDTH - 2 * MARGIN - (across - 1) * _BETWEEN) / across
    below = HEAD + width * aspect + max(FOOT, 0.1 + (n_kinds + 1) * _LEGEND_LINE)
    n_rows = -(-n_patterns // across)
    what = (
        "Mean of all kinds' patterns, as the square root of the intensity, and what each kind has more (red) or less "
        "(blue) than it, over that root, on one scale."
        if n_kinds > 1
        else "The pattern is the square root of its intensity."
    )
    caption = (
        f"{what} Patterns are at the angle 0 with latents of 0. Dark in (b): the angle is uncertain; it is known "
        "modulo 360° over the kind's symmetry."
    )
    with rc_context(STYLE):
        height = below + _TITLE + n_rows * (side + _TITLE) + caption_height(caption)
        figure = new_page((WIDTH, height), figure)
        ax = add_axes(figure, maps[0], "kinds")
        patches = draw_kinds(ax, embedding)
        label_panel(figure, maps[0], "a", "Kinds")
        ax.legend(handles=patches, loc="upper left", bbox_to_anchor=(0, -0.02), borderaxespad=0, handlelength=1)
        ax = add_axes(figure, maps[1], "angle")
        # what a kind of n-fold symmetry repeats, the wheel does, too
        fold = np.array([1, *embedding.kind_symmetry])[np.maximum(kind, 0)]
        angle = np.where(kind > 0, fold * embedding.angle, np.nan)
        draw_map(ax, angle, embedding.scan_step, ANGLES, strength=angle_certainty(embedding.angle_posterior))
        label_panel(figure, maps[1], "b", "Angle within the kind", "times its symmetry")
        add_color_wheel(figure, maps[1], DETECTOR_FRAME, "dark: angle\nuncertain", fading=True)
        ax = add_axes(figure, maps[2], "confidence")
        assert embedding.kind_probability is not None
        image = draw_map(ax, embedding.kind_probability.max(axis=-1), embedding.scan_step, MAGNITUDES, (0.0, 1.0))
        label_panel(figure, maps[2], "c", "Confidence", "probability of the likeliest kind")
        add_color_bar(figure, bar_below(maps[2]), image, "probability", "")
        _draw_patterns(figure, embedding, below + _TITLE, side, across)
        write_caption(figure, caption)
    return figure


def _draw_patterns(figure: Figure, embedding: Embedding, top: float, side: float, across: int) -> None:
    patterns = embedding.kind_patterns
    if patterns is None:
        return
    patterns = _cropped(patterns)
    mean = patterns.mean(axis=0)
    root = np.sqrt(np.maximum(mean, 0))
    # where there is next to nothing, a difference over its root is nothing but rounding
    least = 0.02 * float(np.nanmax(root))
    differences = (patterns - mean) / np.maximum(root, least)
    names = ("mean", *(_words(embedding, k) for k in range(len(patterns))))
    images = (root, *differences) if len(patterns) > 1 else (root,)
    names = names if len(patterns) > 1 else names[1:]
    colors = ["k", *kind_colors(len(patterns))] if len(patterns) > 1 else kind_colors(1)
    # a few pixels at the edge of the beam do not set the scale
    highest = max(float(np.nanpercentile(np.abs(differences), _SCALE)), 1e-30)
    for n, (image, name, color) in enumerate(zip(images, names, colors, strict=True)):
        box = Box(MARGIN + n % across * (side + _BETWEEN), top + n // across * (side + _TITLE), side, side)
        is_mean = image is root
        ax = add_axes(figure, box, "mean" if name == "mean" else f"pattern_{max(n, 1)}")
        if is_mean:
            ax.imshow(image, cmap=IMAGES, vmin=0, interpolation="nearest")
        else:
            ax.imshow(image, cmap=DIVERGING, vmin=-highest, vmax=highest, interpolation="nearest")
        without_ticks(ax)
        for spine in ax.spines.values():
            spine.set(visible=True, color=color, linewidth=1.8)
        ax.set_title(name, fontsize=SMALL, pad=3)


def _words(embedding: Embedding, kind: int) -> str:
    """Name and symmetry of a kind."""
    fold = embedding.kind_symmetry[kind]
    return f"{embedding.kind_names[kind]}, {'no symmetry' if fold == 1 else f'{fold}-fold'}"


def _cropped(patterns: NDArray[np.floating]) -> NDArray[np.floating]:
    """Without rows and columns that no ring reaches."""
    known = np.isfinite(patterns).any(axis=0)
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    return patterns[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _kind(embedding: Embedding) -> NDArray[np.int64]:
    kind = embedding.kind
    if kind is None:
        raise DataError("the embedding is of a model without kinds; call KindsModel(n_kinds=3).fit(measured)")
    return kind
