"""Figure of the comparison of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmarks.models.methods import METHODS
from benchmarks.models.tables import OURS, best_rates, column
from stemvane.figures.style import STYLE

__all__ = ["draw"]

# colours that are told apart in grey and by the colour-blind (Okabe and Ito, 2008)
LOOKS = {
    "harmonic": ("#D55E00", "o", True),
    "coordinate": ("#000000", "s", True),
    "atomai-defaults": ("#0072B2", "v", False),
    "atomai-tuned": ("#0072B2", "v", True),
    "pyroved-defaults": ("#009E73", "^", False),
    "pyroved-tuned": ("#009E73", "^", True),
    "vae": ("#CC79A7", "D", True),
    "pca": ("#E69F00", "P", True),
    "nmf": ("#E69F00", "X", False),
    "alignment": ("#56B4E9", "d", True),
    "com": ("0.5", "_", True),
}
SHORT = {
    "graphene": "noiseless",
    "graphene-100k": "100,000 e",
    "graphene-20k": "20,000 e",
    "graphene-4k": "4,000 e",
    "underfocus": "defocus\n+80 Å",
    "overfocus": "defocus\n−50 Å",
    "source": "source\n0.5 Å",
    "analytic": "all turns",
    "analytic-fixed": "part is\nfixed",
    "twofold": "2-fold",
    "threefold": "3-fold",
    "sixfold": "6-fold",
    "rotavirus": "rotavirus",
}
GROUPS = {"graphene": 7, "analytic patterns": 5, "recorded": 1}


def draw(report: dict[str, Any], path: Path) -> None:
    """Angle error, r, likelihood and throughput of every method on every data set; writes a PNG."""
    data = {name: report["data"][name] for name in SHORT if name in report["data"]}
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(7.2, 7.6), layout="constrained")
        grid = figure.add_gridspec(4, 1, height_ratios=[1.25, 1, 1, 1.2])
        panels = [figure.add_subplot(grid[0])]
        panels += [figure.add_subplot(grid[i], sharex=panels[0]) for i in (1, 2)]
        below = grid[3].subgridspec(1, 2, width_ratios=[1, 1])
        speed, legend = figure.add_subplot(below[0]), figure.add_subplot(below[1])
        for axes, name, label in zip(
            panels,
            ("angle", "r", "excess"),
            ("median angle error (°)", "|r| of the best latent", "excess, held out (nat)"),
            strict=True,
        ):
            scatter(axes, data, name)
            axes.set_ylabel(label)
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_formatter("{x:g}")
        panels[1].set_ylim(-0.03, 1.03)
        panels[2].set_yscale("log")
        bounds(panels[0], data)
        label_groups(panels, data)
        bars(speed, report["data"])
        key(legend)
        for axes, letter in zip([*panels, speed], "abcd", strict=True):
            axes.set_title(letter, loc="left", fontweight="bold", fontsize=8)
        figure.savefig(path, dpi=250)
        plt.close(figure)


def scatter(axes: Axes, data: dict[str, Any], name: str) -> None:
    """One column for each data set, in it one place for each method; seeds as points."""
    methods = list(LOOKS)
    for x, record in enumerate(data.values()):
        for i, method in enumerate(methods):
            values = column(record["rows"], method, name)
            colour, marker, full = LOOKS[method]
            axes.plot(
                np.full(len(values), x + 0.8 * ((i + 0.5) / len(methods) - 0.5)),
                values,
                linestyle="none",
                marker=marker,
                markersize=4.5 if method == OURS else 3.5,
                color=colour,
                markerfacecolor=colour if full else "white",
                markeredgewidth=0.7,
                zorder=3 if method == OURS else 2,
            )
    axes.tick_params(axis="x", length=0)


def bounds(axes: Axes, data: dict[str, Any]) -> None:
    for x, record in enumerate(data.values()):
        if bound := record["about"]["bound_deg"]:
            axes.plot([x - 0.45, x + 0.45], [bound, bound], color="black", linewidth=0.8)


def label_groups(panels: list[Axes], data: dict[str, Any]) -> None:
    """Names below the last of the panels, groups above the first."""
    names = list(data)
    for axes in panels:
        axes.set_xlim(-0.5, len(names) - 0.5)
        for x in range(1, len(names)):
            axes.axvline(x - 0.5, color="0.9", linewidth=0.5, zorder=0)
        axes.tick_params(labelbottom=False)
    panels[-1].tick_params(labelbottom=True)
    panels[-1].set_xticks(range(len(names)), [SHORT[name] for name in names])
    order, first = list(SHORT), 0
    for group, size in GROUPS.items():
        members = [names.index(name) for name in order[first : first + size] if name in names]
        first += size
        if members:
            middle = (members[0] + members[-1]) / 2
            panels[0].text(middle, 1.03, group, transform=panels[0].get_xaxis_transform(), ha="center", va="bottom")
            for axes in panels if members[-1] < len(names) - 1 else []:
                axes.axvline(members[-1] + 0.5, color="0.4", linewidth=0.6, zorder=0)


def bars(axes: Axes, data: dict[str, Any]) -> None:
    """Training patterns per second for both sizes of pattern."""
    rates = {
        title: best_rates(data[name]["rows"])
        for name, title in (("speed-64", "64 × 64 pixels"), ("speed-12", "12 × 12 pixels"))
        if name in data
    }
    methods = [method for method in LOOKS if any(method in rate for rate in rates.values())]
    for y, rate in enumerate(rates.values()):
        for i, method in enumerate(methods):
            if method not in rate:
                continue
            place = y + 0.75 * ((i + 0.5) / len(methods) - 0.5)
            axes.barh(place, rate[method][0], height=0.65 / len(methods), color=LOOKS[method][0])
            axes.text(rate[method][0] * 1.1, place, f"{rate[method][0]:,.0f}", va="center", fontsize=5)
    axes.set_yticks(range(len(rates)), list(rates))
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("training patterns per second")


def key(axes: Axes) -> None:
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=marker,
            markersize=4,
            color=colour,
            markerfacecolor=colour if full else "white",
            markeredgewidth=0.7,
            label=METHODS[name].title.replace("`", ""),
        )
        for name, (colour, marker, full) in LOOKS.items()
    ]
    handles.append(Line2D([], [], color="black", linewidth=0.8, label="Cramér–Rao bound of the median"))
    axes.legend(handles=handles, loc="center", ncols=2, borderaxespad=0, columnspacing=1.0, handletextpad=0.4)
    axes.axis("off")
