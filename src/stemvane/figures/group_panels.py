"""Where the groups of patterns of a scan are, and what the mean pattern of each has more or less than all."""

from __future__ import annotations

import string

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from stemvane.data.measurements import Measurements
from stemvane.figures.layout import GAP, HEAD, MARGIN, WIDTH, Box, add_axes, label_panel
from stemvane.figures.panels import add_color_bar, draw_map, without_ticks
from stemvane.figures.style import DIVERGING, MAGNITUDES, MASKED, SMALL, tidy_number
from stemvane.segmentation import Regions

__all__ = ["draw_groups", "groups_height"]

# for eyes of every kind: Okabe and Ito (2008); more groups than these take an even scale
_COLORS = ("#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#4D4D4D", "#E69F00", "#0072B2", "#F0E442")
_BETWEEN, _FOOT = 0.12, 0.5
_LARGEST = 1.25
_ACROSS = 6
_LEGEND = 7


def groups_height(regions: Regions, width: float, height: float) -> float:
    """Height in inches of what `draw_groups` draws, for a map of this width and height."""
    rows, _, size = _arrange(regions, width)
    legend = 0.16 * -(-regions.n_groups // _LEGEND) + 0.12
    return max(HEAD + height + legend, rows * (HEAD + size) + _FOOT)


def draw_groups(figure: Figure, measurements: Measurements, regions: Regions, box: Box) -> None:
    """Draw the map of groups into a box, and the mean pattern of each to the right of it.

    Parameters
    ----------
    figure : Figure
        The page.
    measurements : Measurements
        Measurements that were analysed.
    regions : Regions
        Groups of the patterns.
    box : Box
        Box of the map; the head above it and `groups_height` are free.
    """
    colors = _colors(regions.n_groups)
    ax = add_axes(figure, box, "groups")
    shown = np.where(regions.label >= 0, regions.label, np.nan)
    flat = ListedColormap(colors).with_extremes(bad=MASKED)
    draw_map(ax, shown, measurements.calibration.scan_step, flat, (-0.5, regions.n_groups - 0.5))
    # a legend is filled column by column, and read row by row
    order = [i for column in range(_LEGEND) for i in range(column, regions.n_groups, _LEGEND)]
    ax.legend(
        handles=[Patch(color=colors[i], label=str(i + 1)) for i in order],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=_LEGEND,
        handlelength=0.9,
        handleheight=0.9,
        handletextpad=0.35,
        columnspacing=0.7,
    )
    label_panel(figure, box, "e", "Groups", "1 scatters least into the dark field")
    _, across, size = _arrange(regions, box.width)
    first = box.left + box.width + GAP
    relative = _relative(measurements, regions)
    limit = float(np.nanquantile(np.abs(relative), 0.97)) or 1.0
    place, drawn = box, None
    for i in range(regions.n_groups):
        row, column = divmod(i, across)
        place = Box(first + column * (size + _BETWEEN), box.top + row * (HEAD + size), size, size)
        panel = add_axes(figure, place, f"group {i + 1}")
        drawn = panel.imshow(relative[i], cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
        without_ticks(panel)
        for spine in panel.spines.values():
            spine.set(color=colors[i], linewidth=1.8)
        share = f"{tidy_number(100 * regions.share[i], 2)} % of scan"
        label_panel(figure, place, string.ascii_lowercase[5 + i], f"Group {i + 1}", share)
    if drawn is None:
        return
    below = place.top + size + 0.1
    add_color_bar(figure, Box(first, below, 1.5, 0.06), drawn, "over the mean pattern", "%")
    words = (
        "What the mean pattern of each group has more (red) or less (blue) than\nthat of the scan, "
        "rotated to one orientation by the angle of every pattern."
    )
    at = 1 - (below - 0.02) / figure.get_figheight()
    figure.text((first + 1.7) / WIDTH, at, words, size=SMALL, color="0.3", va="top", linespacing=1.3)


def _arrange(regions: Regions, width: float) -> tuple[int, int, float]:
    """Rows and columns of patterns, and the side of one in inches."""
    rows = -(-regions.n_groups // _ACROSS)
    across = -(-regions.n_groups // rows)
    free = WIDTH - 2 * MARGIN - width - GAP
    return rows, across, min((free - (across - 1) * _BETWEEN) / across, _LARGEST)


def _colors(n: int) -> list[str] | NDArray[np.float64]:
    return list(_COLORS[:n]) if n <= len(_COLORS) else np.asarray(MAGNITUDES(np.linspace(0, 1, n)))


def _relative(measurements: Measurements, regions: Regions) -> NDArray[np.float64]:
    """Patterns of the groups less that of the scan, in per cent of the scan's ring by ring."""
    mean = np.average(regions.patterns, axis=0, weights=regions.counts)
    # the mean of a ring: single samples of a dark ring may be empty
    ring = np.maximum(mean.mean(axis=1), 1e-4 * mean.max())
    relative = 100 * (regions.patterns - mean) / ring[:, None]
    return measurements.grid.to_cartesian(relative, measurements.detector_shape)
