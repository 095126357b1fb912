"""The patterns that a model decodes along its latents, side by side, and where the scan has no such pattern."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from stemvane.figures.panels import small_type, without_ticks
from stemvane.figures.style import MAGNITUDES, power_of_ten, tidy_number, unit_with_power
from stemvane.geometry.polar import PolarGrid

__all__ = ["Manifold", "crop", "draw_manifold", "empty_cells"]

_EMPTY = "0.55"


class Manifold(NamedTuple):
    """Decoded patterns along the first two latents, as `latent_manifold` makes them.

    Attributes
    ----------
    patterns : ndarray of float, shape (n_rows, n_columns, k_y, k_x)
        Mean intensity per detector pixel at angle 0; NaN where nothing is decoded.
    latents : ndarray of float, shape (n_rows, n_columns, n_latent)
        Latents that they are decoded from: latent 1 changes along a row, latent 2 down a column.
    """

    patterns: NDArray[np.floating[Any]]
    latents: NDArray[np.floating[Any]]


def empty_cells(manifold: Manifold, latents: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Tell which decoded patterns have no pattern of the scan near them.

    Parameters
    ----------
    manifold : Manifold
        Decoded patterns.
    latents : ndarray of float, shape (..., n_latent)
        Latents of the scan; NaN where a position was left out.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_columns)
        True where no position of the scan has its first two latents within half a step of the decoded ones.
    """
    shape = manifold.latents.shape[:2]
    n_latent = min(manifold.latents.shape[-1], 2)
    points = latents.reshape(-1, latents.shape[-1])[:, :n_latent]
    points = points[np.isfinite(points).all(axis=1)]
    cells = np.zeros((len(points), 2), int)
    inside = np.ones(len(points), bool)
    for axis, ladder in ((1, manifold.latents[0, :, :1]), (0, manifold.latents[:, 0, 1:2])):
        if ladder.shape[1] and len(ladder) > 1:
            step = ladder[1, 0] - ladder[0, 0]
            steps = (points[:, 1 - axis] - ladder[0, 0]) / (step or 1.0)
            inside &= (steps >= -0.5) & (steps < len(ladder) - 0.5)
            cells[:, axis] = np.clip(np.floor(steps + 0.5), 0, len(ladder) - 1)
    counts = np.zeros(shape, int)
    np.add.at(counts, tuple(cells[inside].T), 1)
    return np.asarray(counts == 0)


def draw_manifold(
    ax: Axes,
    manifold: Manifold,
    pixel_aspect: float,
    latent_unit: str,
    empty: NDArray[np.bool_] | None = None,
) -> ScalarMappable:
    """Draw decoded patterns side by side on one colour scale.

    Parameters
    ----------
    ax : Axes
        Axes to draw into.
    manifold : Manifold
        Decoded patterns.
    pixel_aspect : float
        Height of a detector pixel divided by its width.
    latent_unit : str
        Unit of the latents, for the labels of the axes.
    empty : ndarray of bool, shape (n_rows, n_columns), optional
        Patterns to be hatched, for the scan has none like them.

    Returns
    -------
    ScalarMappable
        The drawn image, for the colour bar.
    """
    patterns, latents = manifold
    n_rows, n_columns, height, width = patterns.shape
    gap = max(1, round(0.03 * width))
    canvas = np.full((n_rows * (height + gap) - gap, n_columns * (width + gap) - gap), np.nan)
    for row in range(n_rows):
        for column in range(n_columns):
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = patterns[row, column]
            if empty is not None and empty[row, column]:
                place = (left - 0.5, top - 0.5)
                ax.add_patch(Rectangle(place, width, height, fc=(1, 1, 1, 0.45), ec=_EMPTY, lw=0, hatch="////"))
    low, high = _manifold_limits(patterns)
    image = ax.imshow(
        np.ma.masked_invalid(canvas),
        cmap=MAGNITUDES.with_extremes(bad=(1, 1, 1, 0)),
        vmin=low,
        vmax=high,
        aspect=pixel_aspect,
        interpolation="antialiased",
        interpolation_stage="rgba",
    )
    ax.set_anchor("N")
    without_ticks(ax)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if latents.shape[-1] >= 1:
        words, unit = _ladder_words(latents[0, :, 0], latent_unit)
        ax.set_xticks(np.arange(n_columns) * (width + gap) + (width - 1) / 2, words)
        ax.set_xlabel(f"latent 1{unit}", labelpad=1.5)
    if latents.shape[-1] >= 2:
        words, unit = _ladder_words(latents[:, 0, 1], latent_unit)
        ax.set_yticks(np.arange(n_rows) * (height + gap) + (height - 1) / 2, words)
        ax.set_ylabel(f"latent 2{unit}", labelpad=1.5)
    ax.tick_params(length=0, labelsize=small_type(), pad=2)
    return image


def crop(patterns: NDArray[np.floating[Any]], grid: PolarGrid, disc_radius: float | None) -> NDArray[np.floating[Any]]:
    """Cut patterns to the disc and a little around it; axes ``(..., k_y, k_x)``, `disc_radius` in pixel widths.

    Where most of what has an orientation lies farther out, as the discs of a crystal do, nothing is cut off.
    """
    near = math.inf if disc_radius is None else 1.25 * disc_radius
    reach = min(grid.outer, near)
    if _share_beyond(patterns, grid, reach) > 0.5:
        reach = grid.outer
    y, x = (np.arange(n, dtype=float) for n in patterns.shape[-2:])
    rows = np.flatnonzero(np.abs(y - grid.axis[0]) * grid.aspect <= reach)
    columns = np.flatnonzero(np.abs(x - grid.axis[1]) <= reach)
    return patterns[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _share_beyond(patterns: NDArray[np.floating[Any]], grid: PolarGrid, reach: float) -> float:
    """Share of what differs around the circle, in units of counting noise, that lies beyond a radius in pixels."""
    rows, columns = patterns.shape[-2:]
    mean = patterns.reshape(-1, rows, columns).mean(axis=0)
    radius = np.hypot(*grid.places((rows, columns)))
    known = np.isfinite(mean)
    ring = np.rint(radius[known]).astype(int)
    level = np.bincount(ring, mean[known]) / np.maximum(np.bincount(ring), 1)
    squares = (mean[known] - level[ring]) ** 2 / np.maximum(level[ring], 1e-6 * max(float(level.max()), 1e-30))
    return float(squares[radius[known] > reach].sum() / max(float(squares.sum()), 1e-30))


def _manifold_limits(patterns: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Colour limits of decoded patterns.

    What changes with the latents is often a few per cent of the disc's brightness, so the scale is that of the disc
    where nine tenths of its pixels are that much alike.
    """
    low, high = float(np.nanmin(patterns)), float(np.nanmax(patterns))
    # discs of a crystal would not be seen beside a direct beam that is a hundred times brighter
    most = float(np.nanquantile(patterns, 0.98))
    if most < 0.2 * high:
        return 0.0, most
    bright = patterns[patterns > 0.5 * high]
    floor = float(np.quantile(bright, 0.1)) if bright.size else low
    if floor > 0.6 * high:
        return floor, high
    return min(low, 0.0) if low < 0.2 * high else low, high


def _ladder_words(values: NDArray[np.floating[Any]], unit: str) -> tuple[list[str], str]:
    """Words of the latents along an axis, and their unit in brackets, which takes a power of ten from small ones."""
    power = power_of_ten(float(np.abs(values).max(initial=0.0)))
    scaled = values / 10.0**power
    # as many digits as tell neighbours apart
    step = float(np.ptp(scaled)) / max(len(scaled) - 1, 1)
    decimals, digits = 2, 3
    if 0 < step < 0.05:
        decimals = min(1 - math.floor(math.log10(step)), 6)
        digits = decimals + 3
    unit = unit_with_power(unit, power)
    words = [tidy_number(round(float(value), decimals), digits) for value in scaled]
    return words, f" ({unit})" if unit else ""
