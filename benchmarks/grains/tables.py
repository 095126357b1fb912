"""Tables of grains, in Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["misses", "tables"]

# what is aimed at: shares of the angles that are off by less than 1 and 1.96 standard deviations
_AIMS = {"within_68": (0.68, 0.05), "within_95": (0.95, 0.03)}
_FOLDS = {"hexagon": 6, "square": 4, "two-fold": 2}

_Cells = list[dict[str, Any]]


def tables(report: dict[str, Any]) -> str:
    """Make the table: a row for each kind of scan, medians over its draws."""
    groups: dict[tuple[Any, ...], _Cells] = {}
    for record in report["cells"]:
        cell = record["cell"]
        key = cell["size"], cell["lattice"], cell["beam"], cell["dose"], cell["n_grains"]
        groups.setdefault(key, []).append(record)
    most = max((len(cells) for cells in groups.values()), default=0)
    lines = [
        f"{report['machine']['processors']} processors, {report['machine']['time']}; medians over "
        f"{'one draw' if most == 1 else f'at most {most} draws'} of each scan.",
        "",
        "| detector | discs | beam | electrons | grains | ours: median (rms) | rival | rival, told the order | "
        "symmetry right: ours, rival | `angle_std` | within 1, 1.96 std | infinite | seconds | aims |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (size, lattice, beam, dose, n_grains), cells in groups.items():
        ours, rival = ([record["rows"][name] for record in cells] for name in ("ours", "rival"))
        right = [f"{sum(row['symmetry'] == _FOLDS[lattice] for row in rows)} of {len(rows)}" for rows in (ours, rival)]
        inside = ", ".join(f"{median(ours, name):.2f}" for name in _AIMS)
        entries = [
            f"{size}²",
            lattice,
            f"{beam:g} px",
            f"{dose:,.0f}",
            str(n_grains),
            error(ours),
            error(rival),
            error([row["told"] for row in rival]),
            ", ".join(right),
            f"{median(ours, 'std_deg'):.3f}°",
            inside,
            f"{100 * median(ours, 'infinite'):g} %",
            f"{median(ours, 'seconds'):.0f}",
            ", ".join(misses(cells)) or "reached",
        ]
        lines.append(f"| {' | '.join(entries)} |")
    return "\n".join(lines) + "\n"


def misses(cells: _Cells) -> list[str]:
    """Which aims the draws of one kind of scan miss: error, symmetry, coverage, finite deviations."""
    ours = [record["rows"]["ours"] for record in cells]
    told = [record["rows"]["rival"]["told"] for record in cells]
    missed = []
    if median(ours, "median_deg") > median(told, "median_deg"):
        missed.append("error")
    if any(record["rows"]["ours"]["symmetry"] != _FOLDS[record["cell"]["lattice"]] for record in cells):
        missed.append("symmetry")
    if any(row["infinite"] > 0 for row in ours):
        missed.append("infinite")
    for name, (share, tolerance) in _AIMS.items():
        if abs(median(ours, name) - share) > tolerance:
            missed.append(f"{100 * share:.0f} %")
    return missed


def median(rows: list[dict[str, Any]], name: str) -> float:
    """Median over draws."""
    return float(np.median([row[name] for row in rows]))


def error(rows: list[dict[str, Any]]) -> str:
    """Median and root mean square error in degrees."""
    return f"{median(rows, 'median_deg'):.3f}° ({median(rows, 'rms_deg'):.3f}°)"
