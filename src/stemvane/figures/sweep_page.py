"""The figure of a sweep: what each number of latents or kinds is worth."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stemvane.figures.layout import WIDTH, Box, add_axes, label_panel, new_page
from stemvane.figures.style import MAGNITUDES, SMALL, STYLE
from stemvane.runs.sweep_folder import REFERENCES, Sweep

__all__ = ["sweep_page"]

_PITCH, _TOP, _FOOT, _SIZE = 1.79, 0.46, 0.5, (1.31, 1.31)
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_BAND = "0.9"


def sweep_page(sweep: Sweep, *, figure: Figure | None = None) -> Figure:
    """Draw evidence, explained variance, correlation and angle error against the number of latents or kinds.

    Parameters
    ----------
    sweep : Sweep
        Sweep that is complete or about to be.
    figure : Figure, optional
        Empty figure to draw into; a new one where left out.

    Returns
    -------
    Figure
        Each point is one training, each line the mean over the seeds; the recommended number has a grey band.
    """
    suffix = sweep.reference
    whose = REFERENCES[suffix]
    most = sum(name.removeprefix("pearson_r_").isdigit() for name in sweep.table)
    variances = {"explained_variance": ("all patterns", _BLUE), "explained_variance_heldout": ("held out", _ORANGE)}
    if suffix == "_truth":
        variances["explained_variance_truth"] = ("noiseless patterns", _GREEN)
    shades = MAGNITUDES(np.linspace(0.0, 0.85, max(most, 2)))
    latents = {f"pearson_r_{k}{suffix}": (f"latent {k}", shades[k - 1]) for k in range(1, most + 1)}
    titles: tuple[tuple[str, ...], ...] = (
        # its numbers may be too long for a unit beside them
        ("Evidence", "of patterns kept from", "training, nat per pattern"),
        ("Explained variance", "of the residuals"),
        ("Correlation", "of each latent with the", f"length of the {whose}"),
        ("Angle error", "median, from the", whose),
    )
    with rc_context(STYLE):
        figure = new_page((WIDTH, _TOP + _SIZE[1] + _FOOT), figure)
        boxes = [Box(0.46 + i * _PITCH, _TOP, *_SIZE) for i in range(4)]
        panels = [add_axes(figure, box, title) for box, (title, *_) in zip(boxes, titles, strict=True)]
        _curves(panels[0], sweep, {"evidence_heldout": ("", _BLUE)})
        _curves(panels[1], sweep, variances)
        _curves(panels[2], sweep, latents, absolute=True)
        panels[2].set_ylim(-0.03, 1.03)
        _angle_panel(panels[3], sweep)
        for ax, unit in zip(panels, ("", "fraction", "|r|", "degrees"), strict=True):
            ax.set_ylabel(unit)
            _finish(ax, sweep)
        for box, letter, (title, *remarks) in zip(boxes, string.ascii_lowercase, titles, strict=False):
            label_panel(figure, box, letter, title, *remarks, indent=0.4)
        points = "each point is one seed, each line their mean" if len(sweep.summary["seeds"]) > 1 else "one seed"
        words = f"Grey band: recommended, {sweep.number}; {points}."
        figure.text(0.06 / WIDTH, 0.05 / figure.get_figheight(), words, size=SMALL, color="0.3")
    return figure


def _angle_panel(ax: Axes, sweep: Sweep) -> None:
    """From 0, so that differences between seeds do not look large; beside the error of the measured COM itself."""
    name = f"angle_error_median_deg{sweep.reference}"
    _curves(ax, sweep, {name: ("", _BLUE)})
    finite = sweep.table[name][np.isfinite(sweep.table[name])]
    if not len(finite):
        return
    most = float(finite.max())
    if sweep.reference:
        measured = float(sweep.table[f"com_{name}"][0])
        ax.axhline(measured, color="k", linestyle=(0, (4, 2)), linewidth=0.8, zorder=1)
        place = ax.get_yaxis_transform()
        ax.text(0.98, measured, "the COM itself", transform=place, ha="right", va="bottom", size=SMALL)
        most = max(most, measured)
    ax.set_ylim(0, 1.25 * most)


def _curves(ax: Axes, sweep: Sweep, columns: Mapping[str, tuple[str, Any]], *, absolute: bool = False) -> None:
    """Points for the seeds and a line through their means, for every column that is known."""
    for name, (label, color) in columns.items():
        values = np.abs(sweep.table[name]) if absolute else sweep.table[name]
        if not np.isfinite(values).any():
            continue
        numbers, mean = sweep.over_seeds(values)
        ax.plot(numbers, mean, color=color, label=label, zorder=2)
        ax.plot(sweep.table[sweep.varied], values, ".", color=color, markersize=3.5, markeredgewidth=0, zorder=3)
    if not ax.lines:
        ax.text(0.5, 0.5, "not known", transform=ax.transAxes, ha="center", color="0.4")
    elif len(columns) > 1:
        ax.legend(handlelength=1.0, borderaxespad=0.2, labelspacing=0.25)


def _finish(ax: Axes, sweep: Sweep) -> None:
    numbers = sweep.table[sweep.varied]
    ax.axvspan(sweep.number - 0.25, sweep.number + 0.25, color=_BAND, linewidth=0, zorder=0)
    ax.set(xlabel=f"number of {sweep.noun}s", xlim=(numbers.min() - 0.4, numbers.max() + 0.4))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.spines[["top", "right"]].set_visible(False)
