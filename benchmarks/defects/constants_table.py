"""Which cells each variation of the search for defects moves, in Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["AS_IS", "cells_of", "moved", "table"]

AS_IS = "as it is"
"""Name of the search that nothing was changed in."""

COUNTS = ("found", "false", "double", "named", "grouped", "n_lattices")
TITLES = {"auc": "AUC", "n_lattices": "lattices", "share_searched": "searched", "error": "position error"}
# least change that is listed: of the AUC, of the share searched, of the position error (Å), of the winding number
LEAST = {"auc": 0.003, "share_searched": 0.02, "error": 0.02, "winding": 0.05}


def cells_of(report: dict[str, Any], name: str, draw: int = 0, beside: str = AS_IS) -> dict[str, dict[str, float]]:
    """Quantities of each group of scans, counts added, the rest averaged; none where a search failed.

    Only scans count that were also searched for what `beside` names.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in report["cells"]:
        about = record["cell"]
        if about["draw"] == draw and {name, beside} <= record["outcomes"].keys():
            groups.setdefault(about["group"], []).append(record["outcomes"][name])
    result = {}
    for group, outcomes in groups.items():
        if any("failed" in outcome for outcome in outcomes):
            result[group] = {"failed": 1.0}
            continue
        cell = {key: float(sum(outcome[key] for outcome in outcomes)) for key in COUNTS}
        for key in LEAST:
            values = [outcome[key] for outcome in outcomes if outcome[key] is not None]
            cell[key] = float(np.mean(values)) if values else np.nan
        result[group] = cell
    return result


def spreads(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Standard deviation of each quantity of the search as it is over draws of the noise, where there are some."""
    draws = sorted({record["cell"]["draw"] for record in report["cells"]})
    several = [cells_of(report, AS_IS, draw) for draw in draws]
    result: dict[str, dict[str, float]] = {}
    for group in several[0]:
        cells = [cells[group] for cells in several if group in cells and "failed" not in cells[group]]
        if len(cells) > 2:
            result[group] = {key: float(np.nanstd([cell[key] for cell in cells], ddof=1)) for key in cells[0]}
    return result


def moved(
    before: dict[str, dict[str, float]], after: dict[str, dict[str, float]], spread: dict[str, dict[str, float]]
) -> list[str]:
    """What differs, one text for each group; what differs by more than the spread in bold."""
    texts = []
    for group, cell in after.items():
        if "failed" in cell:
            texts.append(f"{group}: **no result**")
            continue
        parts = []
        for key in (*COUNTS, *LEAST):
            old, new = before[group][key], cell[key]
            if not abs(new - old) >= LEAST.get(key, 1):
                continue
            text = f"{old:.0f} → {new:.0f}" if key in COUNTS else f"{old:.3f} → {new:.3f}"
            text = f"{TITLES.get(key, key)} {text}"
            parts.append(f"**{text}**" if abs(new - old) > spread.get(group, {}).get(key, np.inf) else text)
        if parts:
            texts.append(f"{group}: {', '.join(parts)}")
    return texts


def table(report: dict[str, Any]) -> str:
    """What changes, by variation, and what changes nothing."""
    before, spread = cells_of(report, AS_IS), spreads(report)
    names = list(dict.fromkeys(name for record in report["cells"] for name in record["outcomes"] if name != AS_IS))
    rows, quiet = [], []
    for name in names:
        texts = moved(cells_of(report, AS_IS, beside=name), cells_of(report, name), spread)
        if texts:
            rows.append(f"| {_code(name)} | {'; '.join(texts)} |")
        else:
            quiet.append(name)
    lines = [
        "| scans | found | false | double | named | grouped | lattices | AUC | position error (Å) | searched |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for group, cell in before.items():
        entries = []
        for key in (*COUNTS, "auc", "error", "share_searched"):
            about = spread.get(group, {}).get(key)
            text = f"{cell[key]:.0f}" if key in COUNTS else f"{cell[key]:.3f}"
            entries.append(
                text if about is None else f"{text} ± {about:.1f}" if key in COUNTS else f"{text} ± {about:.3f}"
            )
        lines.append(f"| {group} | {' | '.join(entries)} |")
    return "\n".join(
        [*lines, "", "| changed | cells |", "|---|---|", *rows, "", f"Nothing changes: {', '.join(_quiet(quiet))}.", ""]
    )


def _code(name: str) -> str:
    return f"`{name}`" if " = " in name else name


def _quiet(names: list[str]) -> list[str]:
    """Names of what moves nothing, values of one constant together."""
    values: dict[str, list[str]] = {}
    for name in names:
        before, _, value = name.partition(" = ")
        values.setdefault(before, []).append(value)
    return [f"`{name}` = {' or '.join(of)}" if of != [""] else name for name, of in values.items()]
