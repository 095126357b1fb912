"""The table of kinds, in Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["tables"]

# adjusted Rand index that is aimed at, by the dose
_AIMS = {20_000.0: 0.98, 4_000.0: 0.90}


def tables(report: dict[str, Any]) -> str:
    """Make the table: a row for each field and dose, medians over its draws."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for record in report["cells"]:
        groups.setdefault((record["cell"]["name"], record["cell"]["dose"]), []).append(record)
    most = max((len(records) for records in groups.values()), default=0)
    lines = [
        f"{report['machine']['processors']} processors, {report['machine']['time']}; medians over "
        f"{'one draw' if most == 1 else f'at most {most} draws'} of each field.",
        "",
        "| field | electrons | ours: adjusted Rand index | best rival here | which | wrong, and as probabilities say |"
        " angle within the kind | kinds found | right with 5 labels per kind | AUC of a kind without labels |"
        " patterns/s | aim |",
        f"|{'---|' * 12}",
    ]
    for (name, dose), records in groups.items():
        ours = [record["ours"] for record in records]
        rivals = {key: float(np.median([r["rivals"][key] for r in records])) for key in records[0]["rivals"]}
        best = max(rivals, key=lambda key: rivals[key])
        ari = _median(ours, "ari")
        counted = [row for row in ours if row["n_found"] is not None]
        n_right = sum(row["n_found"] == row["n_kinds"] for row in counted)
        found = ", ".join(str(row["n_found"]) for row in counted)
        angle = "" if ours[0]["angle_deg"] is None else f"{_median(ours, 'angle_deg'):.3g}°"
        entries = [
            name,
            f"{dose:,.0f}" if dose else "no noise",
            f"{ari:.3f}{_windowed(ours)}",
            f"{rivals[best]:.3f}",
            best,
            f"{100 * _median(ours, 'wrong'):.2g} %, {100 * _median(ours, 'wrong_expected'):.2g} %",
            angle,
            f"{found} ({n_right} of {len(counted)} right)" if counted else "",
            "" if ours[0]["labelled"] is None else f"{100 * _median(ours, 'labelled'):.1f} %",
            f"{min(areas):.3f} to {max(areas):.3f}"
            if (areas := [a for row in ours for a in row["unknown_auc"]])
            else "",
            f"{_median(ours, 'patterns_per_second'):.0f}",
            _verdict(ari, rivals[best], _AIMS.get(dose)),
        ]
        lines.append(f"| {' | '.join(entries)} |")
    return "\n".join(lines) + "\n"


def _windowed(rows: list[dict[str, Any]]) -> str:
    """Index, and share that is wrong, where the size of a unit cell is told."""
    told = [row["windowed"] for row in rows if row["windowed"]]
    if not told:
        return ""
    wrong, says = (100 * _median(told, name) for name in ("wrong", "wrong_expected"))
    return f"; {_median(told, 'ari'):.3f} with a window of half a cell ({wrong:.2g} % wrong, {says:.2g} % as it says)"


def _verdict(ari: float, best: float, aim: float | None) -> str:
    missed = [f"below {aim}"] if aim is not None and ari < aim else []
    missed += ["a rival wins"] if best > ari + 1e-3 else []
    return ", ".join(missed) or "reached"


def _median(rows: list[dict[str, Any]], name: str) -> float:
    return float(np.median([row[name] for row in rows]))
