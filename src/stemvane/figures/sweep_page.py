"""The figure of a sweep: what each number of latents is worth."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stemvane.figures.layout import WIDTH, Box, add_axes, label_panel
from stemvane.figures.style import MAGNITUDES, STYLE
from stemvane.runs.sweep_folder import REFERENCES, Sweep

__all__ = ["sweep_page"]

_PITCH, _TOP, _FOOT, _SIZE = 1.79, 0.36, 0.5, (1.31, 1.31)
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_BAND = "0.9"


def sweep_page(sweep: Sweep) -> Figure:
    """Draw evidence, explained variance, correlation and angle error against the number of latents.

    Parameters
    ----------
    sweep : Sweep
        Complete or about to be.

    Returns
    -------
    Figure
        Each point is one training, each line the mean over the seeds; the recommended number has a grey band.
    """
    suffix = sweep.reference
    whose = REFERENCES[suffix]
    most = int(sweep.table["n_latent"].max())
    variances = {"explained_variance": ("all patterns", _BLUE), "explained_variance_heldout": ("held out", _ORANGE)}
    if suffix == "_truth":
        variances["explained_variance_truth"] = ("noiseless patterns", _GREEN)
    shades = MAGNITUDES(np.linspace(0.0, 0.85, max(most, 2)))
    latents = {f"pearson_r_{k}{suffix}": (f"latent {k}", shades[k - 1]) for k in range(1, most + 1)}
    titles = (
        ("Evidence", "of patterns kept from training"),
        ("Explained variance", "of the residuals"),
        ("Correlation", f"of each latent with |{whose}|"),
        ("Angle error", f"median against the {whose}"),
    )
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, _TOP + _SIZE[1] + _FOOT))
        boxes = [Box(0.46 + i * _PITCH, _TOP, *_SIZE) for i in range(4)]
        panels = [add_axes(figure, box, title) for box, (title, _) in zip(boxes, titles, strict=True)]
        _curves(panels[0], sweep, {"evidence_heldout": ("", _BLUE)})
        _curves(panels[1], sweep, variances)
        _curves(panels[2], sweep, latents, absolute=True)
        panels[2].set_ylim(-0.03, 1.03)
        _angle_panel(panels[3], sweep)
        for axes, unit in zip(panels, ("nat per pattern", "fraction", "|r|", "degrees"), strict=True):
            axes.set_ylabel(unit)
            _finish(axes, sweep)
        for box, letter, (title, remark) in zip(boxes, string.ascii_lowercase, titles, strict=False):
            label_panel(figure, box, letter, title, remark, indent=0.4)
        points = "each point is one seed, each line their mean" if len(sweep.summary["seeds"]) > 1 else "one seed"
        words = f"Grey band: recommended, {sweep.n_latent}; {points}."
        figure.text(0.06 / WIDTH, 0.05 / figure.get_figheight(), words, size=5.5, color="0.3")
    return figure


def _angle_panel(axes: Axes, sweep: Sweep) -> None:
    """From 0, so that differences between seeds do not look large; beside the error of the measured COM itself."""
    name = f"angle_error_median_deg{sweep.reference}"
    _curves(axes, sweep, {name: ("", _BLUE)})
    known = sweep.table[name][np.isfinite(sweep.table[name])]
    if not len(known):
        return
    most = float(known.max())
    if sweep.reference:
        own = float(sweep.table[f"com_{name}"][0])
        axes.axhline(own, color="k", linestyle=(0, (4, 2)), linewidth=0.8, zorder=1)
        axes.text(0.98, own, "measured COM", transform=axes.get_yaxis_transform(), ha="right", va="bottom", size=5.5)
        most = max(most, own)
    axes.set_ylim(0, 1.25 * most)


def _curves(axes: Axes, sweep: Sweep, columns: Mapping[str, tuple[str, Any]], *, absolute: bool = False) -> None:
    """Points for the seeds and a line through their means, for every column that is known."""
    for name, (label, color) in columns.items():
        values = np.abs(sweep.table[name]) if absolute else sweep.table[name]
        if not np.isfinite(values).any():
            continue
        numbers, mean = sweep.over_seeds(values)
        axes.plot(numbers, mean, color=color, label=label, zorder=2)
        axes.plot(sweep.table["n_latent"], values, ".", color=color, markersize=3.5, markeredgewidth=0, zorder=3)
    if not axes.lines:
        axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", color="0.4")
    elif len(columns) > 1:
        axes.legend(handlelength=1.0, borderaxespad=0.2, labelspacing=0.25)


def _finish(axes: Axes, sweep: Sweep) -> None:
    numbers = sweep.table["n_latent"]
    axes.axvspan(sweep.n_latent - 0.25, sweep.n_latent + 0.25, color=_BAND, linewidth=0, zorder=0)
    axes.set(xlabel="number of latents", xlim=(numbers.min() - 0.4, numbers.max() + 0.4))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.spines[["top", "right"]].set_visible(False)
