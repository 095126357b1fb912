"""Figure of the comparison of defect searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.defects.methods import ROWS
from benchmarks.defects.scenes import KINDS
from benchmarks.defects.tables import OURS, detection, dose_title, doses_of, family, standard_error, steps_of
from stemvane.figures.style import STYLE

__all__ = ["draw"]

# colours that are told apart in grey and by the colour-blind (Okabe and Ito, 2008)
LOOKS = {
    "ours": ("#D55E00", "o"),
    "adf": ("#000000", "s"),
    "adf-own": ("#000000", "x"),
    "com-magnitude": ("0.5", "^"),
    "com-divergence": ("0.5", "v"),
    "unit-cell": ("#0072B2", "D"),
    "pca": ("#E69F00", "P"),
    "nmf": ("#E69F00", "X"),
    "alignment": ("#56B4E9", "d"),
    "vae": ("#CC79A7", "p"),
    "coordinate": ("#009E73", "*"),
}


def draw(report: dict[str, Any], path: Path) -> None:
    """AUC over the dose, one column for each step, one row for all kinds and one for each; writes a PNG."""
    cells = [cell for cell in report["cells"] if family(cell) != "turned"]
    steps, doses = steps_of(cells), doses_of(cells)
    if not steps:
        return
    with plt.rc_context(STYLE):
        shape = (len(KINDS) + 1, len(steps))
        size = (3.4 * len(steps), 1.15 * shape[0] + 0.6)
        figure, grid = plt.subplots(*shape, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained")
        for column, step in enumerate(steps):
            for row, kind in enumerate((None, *KINDS)):
                lines(grid[row, column], cells, step, doses, kind)
            grid[0, column].set_title(f"scan step {step:g} Å")
            grid[-1, column].set_xticks(range(len(doses)), [dose_title(dose) for dose in doses])
            grid[-1, column].set_xlabel("electrons per pattern")
        for axes, kind in zip(grid[:, 0], ("all kinds", *KINDS), strict=True):
            axes.set_ylabel(f"{kind}\nROC AUC")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=1 + len(steps))
        figure.savefig(path, dpi=200)
        plt.close(figure)


def lines(axes: Axes, cells: list[dict[str, Any]], step: float, doses: list[float | None], kind: str | None) -> None:
    """Every method's mean with its standard error over the scenes, or over a kind's atoms."""
    for i, (row, (colour, marker)) in enumerate(LOOKS.items()):
        at, means, errors = [], [], []
        for x, dose in enumerate(doses):
            detected = detection(cells, row, step, dose)
            values = [] if detected is None else detected["auc"] if kind is None else detected["kinds"].get(kind, [])
            if values:
                at.append(x + 0.5 * ((i + 0.5) / len(LOOKS) - 0.5))
                means.append(np.mean(values))
                errors.append(standard_error(values))
        if at:
            axes.errorbar(
                at,
                means,
                yerr=errors,
                color=colour,
                marker=marker,
                markersize=4 if row == OURS else 3,
                linewidth=1.2 if row == OURS else 0.5,
                elinewidth=0.5,
                zorder=3 if row == OURS else 2,
                label=ROWS[row],
            )
    axes.axhline(0.5, color="0.8", linewidth=0.5, zorder=0)
    axes.set_ylim(0.2, 1.03)
