"""Figure of the comparison: time of every stage and memory, by the size of scan and detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.whole.scale import STAGES, Growth, growth
from stemvane.figures.style import STYLE

__all__ = ["draw"]

# colours that are told apart in grey and by the colour-blind (Okabe and Ito, 2008)
LINES = {
    "whole": ("#000000", "o"),
    "survey": ("#999999", "v"),
    "measure": ("#0072B2", "s"),
    "learn": ("#D55E00", "D"),
    "read": ("#009E73", "^"),
    "figures": ("#CC79A7", "x"),
}
ASIDE = {"positions": "32² pixels", "pixels": "32² positions"}


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw times and memory of the sizes of a report, if it has them; writes a PNG."""
    along = list(growth([cell for cell in report["cells"] if cell["part"] == "scale"]))
    if not along:
        return
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        panels = figure.subplots(1, 3)
        for axes, one in zip(panels, along, strict=False):
            _draw_times(axes, one)
        _draw_memory(panels[2], along)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.savefig(path, dpi=200, metadata={"Software": "stemvane"})


def _draw_times(axes: Axes, along: Growth) -> None:
    for name in ("whole", *STAGES):
        colour, marker = LINES[name]
        axes.loglog(
            along.sides, along.seconds(name), color=colour, marker=marker, markersize=3, linewidth=1, label=name
        )
    power = along.exponent(along.seconds("whole"))
    axes.set_title(f"Time, {ASIDE[along.axis]}: ∝ {along.axis}$^{{{power:.2f}}}$", fontsize=7)
    axes.set(ylabel="s")
    _name_sides(axes, along.sides, f"number of {along.axis}")


def _draw_memory(axes: Axes, every: list[Growth]) -> None:
    for along, style in zip(every, ("-o", "--s"), strict=False):
        words = f"{along.axis}, {ASIDE[along.axis]}"
        axes.semilogx(along.sides, along.memory, style, color="#000000", markersize=3, linewidth=1, label=words)
    axes.set_title("Largest memory", fontsize=7)
    axes.set(ylabel="MB", ylim=(0, 1.25 * max(max(along.memory) for along in every)))
    axes.legend(loc="upper left", fontsize=6, frameon=False)
    _name_sides(axes, sorted({side for along in every for side in along.sides}), "side of scan or detector")


def _name_sides(axes: Axes, sides: list[int], words: str) -> None:
    """Label the sides that were run, as squares."""
    axes.set_xticks(sides, [f"{side}²" for side in sides])
    axes.minorticks_off()
    axes.set_xlabel(words)
