"""Tables of the comparison of defect searches, in Markdown, and the sums that they and the figure are made of."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.defects.methods import ROWS
from benchmarks.defects.scenes import KINDS, Scene
from benchmarks.defects.scores import auc, average_precision, false_alarms

__all__ = ["BASELINES", "OURS", "detection", "doses_of", "steps_of", "tables"]

OURS = "ours"
BASELINES = [row for row in ROWS if not row.startswith(OURS)]
GOOD = 0.99
EASY_KINDS = ("Si-C3", "Si-C4", "vacancy", "divacancy", "stone-wales")


def tables(report: dict[str, Any]) -> str:
    """All tables that there are cells for."""
    cells = report["cells"]
    mixed = [cell for cell in cells if family(cell) != "turned"]
    parts = [f"{report['machine']['processors']} processors, {report['machine']['time']}."]
    for step in steps_of(mixed):
        parts += [detection_table(mixed, step, "auc"), detection_table(mixed, step, "alarms")]
        parts.append(kind_table(mixed, step))
    parts.append(reported_table(mixed))
    parts.append(rotated_table([cell for cell in cells if family(cell) == "turned"]))
    parts += [promise_table(mixed), failure_table(cells), cost_table(cells)]
    return "\n\n".join(part for part in parts if part) + "\n"


def family(cell: dict[str, Any]) -> str:
    """Family of the scene of a cell."""
    return Scene(**cell["cell"]["scene"]).family


def steps_of(cells: list[dict[str, Any]]) -> list[float]:
    return sorted({cell["cell"]["step"] for cell in cells})


def doses_of(cells: Iterable[dict[str, Any]]) -> list[float | None]:
    """Doses from the highest, infinite, to the lowest."""
    return sorted({cell["cell"]["dose"] for cell in cells}, key=lambda dose: -(math.inf if dose is None else dose))


def dose_title(dose: float | None) -> str:
    return "infinite" if dose is None else f"{dose:,.0f}"


def detection(
    cells: list[dict[str, Any]], row: str, step: float, dose: float | None, level: str = "site"
) -> dict[str, Any] | None:
    """Everything about how well a row's scores tell changed from pristine atoms; None where there are no cells.

    Returns
    -------
    dict
        ``auc``, one for each scene, against the pristine places of the same scene; ``kinds``, kind to a list with
        every positive's share of pristine places of its scene that it is above; ``auc_pristine``, against the pristine
        scenes, None where there are none; ``precision`` and ``alarms``, over all scenes together.
    """
    broken, pristine = [], []
    for cell in cells:
        about = cell["cell"]
        if row not in cell["rows"] or about["step"] != step or about["dose"] != dose:
            continue
        (broken if family(cell) == "broken" else pristine).append(cell["rows"][row][level])
    if not broken:
        return None
    kinds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    scenes = []
    for cell in broken:
        shares = auc(cell["scores"], cell["pristine"], cell["weights"])
        scenes.append(float(shares.mean()))
        for kind, share in zip(cell["kinds"], shares, strict=True):
            kinds[kind].append(float(share))
    scores = np.concatenate([cell["scores"] for cell in broken])
    values = np.concatenate([cell["pristine"] for cell in broken + pristine])
    weights = np.concatenate([cell["weights"] for cell in broken + pristine])
    against = None
    if pristine:
        quiet = [np.concatenate([cell[key] for cell in pristine]) for key in ("pristine", "weights")]
        against = float(auc(scores, *quiet).mean())
    return {
        "auc": scenes,
        "auc_pristine": against,
        "kinds": {kind: shares for kind, shares in kinds.items() if shares},
        "precision": average_precision(scores, values, weights),
        "alarms": false_alarms(scores, values, weights),
    }


def detection_table(cells: list[dict[str, Any]], step: float, what: str) -> str:
    """One row for each method, one column for each dose."""
    doses = doses_of(cells)
    if what == "auc":
        title = "ROC AUC of the atoms"
        note = (
            "Mean over the scenes with its standard error; in brackets the AUC of the same atoms against those of the "
            "pristine scenes, where no defect strains the lattice."
        )
    else:
        title = "Average precision and false alarms"
        note = "Average precision; false alarms per 100 pristine atoms where 90 % of the changed ones are found."
    lines = [
        f"### Scan step {step:g} Å: {title}",
        "",
        note,
        "",
        f"| electrons per pattern | {' | '.join(dose_title(dose) for dose in doses)} |",
        "|---|" + "---|" * len(doses),
    ]
    for row, name in ROWS.items():
        entries = []
        for dose in doses:
            detected = detection(cells, row, step, dose)
            if detected is None:
                entries.append("")
            elif what == "auc":
                against = "" if detected["auc_pristine"] is None else f" ({detected['auc_pristine']:.3f})"
                entries.append(f"{with_error(detected['auc'])}{against}")
            else:
                entries.append(f"{detected['precision']:.3f}; {detected['alarms']:.1f}")
        if any(entries):
            lines.append(f"| {name} | {' | '.join(entries)} |")
    return "\n".join(lines)


def kind_table(cells: list[dict[str, Any]], step: float) -> str:
    """AUC of every kind, ours and the best of the others, at every dose."""
    doses = doses_of(cells)
    lines = [
        f"### Scan step {step:g} Å: kinds",
        "",
        "ROC AUC of every kind's atoms: ours / the best of the others.",
        "",
        f"| electrons per pattern | {' | '.join(dose_title(dose) for dose in doses)} |",
        "|---|" + "---|" * len(doses),
    ]
    for kind in KINDS:
        entries = []
        for dose in doses:
            mine, other, _ = rivals(cells, step, dose, kind)
            entries.append("" if mine is None else f"{mine[0]:.3f}{'' if other is None else f' / {other[0]:.3f}'}")
        if any(entries):
            lines.append(f"| {kind} | {' | '.join(entries)} |")
    return "\n".join(lines)


def rivals(
    cells: list[dict[str, Any]], step: float, dose: float | None, kind: str | None = None
) -> tuple[tuple[float, float] | None, tuple[float, float] | None, str]:
    """AUC with its standard error of ours and of the best baseline, and its name; of all kinds where none is given."""
    shares = {row: detection(cells, row, step, dose) for row in [OURS, *BASELINES]}
    means = {}
    for row, about in shares.items():
        values = [] if about is None else about["auc"] if kind is None else about["kinds"].get(kind, [])
        if values:
            means[row] = (float(np.mean(values)), standard_error(values))
    best = max((row for row in means if row != OURS), key=lambda row: means[row][0], default="")
    return means.get(OURS), means.get(best), best


def standard_error(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def with_error(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {standard_error(values):.3f}"


def reported_table(cells: list[dict[str, Any]]) -> str:
    """What was reported as a defect at the false discovery rate of the settings."""
    lines = [
        "### Defects reported, at a false discovery rate of 0.05",
        "",
        "Found: share of the true ones that have one within 1.5 Å; false: share of those reported that are more than "
        "3.5 Å from everything true; doubles are nearer but not the nearest. Named and grouped are over those found: "
        "named right, mean over the kinds; pairs of one kind in one group; pairs of two kinds in one group.",
        "",
        "| step (Å) | electrons | found | position error (Å) | false | doubles per scene | reported per pristine scene "
        "| named | one kind together | two kinds together |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    n_head = len(lines)
    for step in steps_of(cells):
        for dose in doses_of(cells):
            chosen = [
                cell
                for cell in cells
                if (cell["cell"]["method"], cell["cell"]["step"], cell["cell"]["dose"]) == (OURS, step, dose)
                and cell["found"]
            ]
            broken = [cell["found"] for cell in chosen if family(cell) == "broken"]
            pristine = [cell["found"] for cell in chosen if family(cell) == "pristine"]
            if broken:
                lines.append(f"| {step:g} | {dose_title(dose)} | {' | '.join(reported_entries(broken, pristine))} |")
    return "\n".join(lines) if len(lines) > n_head else ""


def reported_entries(broken: list[dict[str, Any]], pristine: list[dict[str, Any]]) -> list[str]:
    errors = [error for result in broken for error in result["errors"]]
    measured_errors = [error for error in errors if error is not None]
    n_reported = sum(result["n_found"] for result in broken)
    named: dict[str, list[bool]] = {}
    for result in broken:
        for kind, right in zip(result["kinds"], result["named"], strict=True):
            if right is not None:
                named.setdefault(kind, []).append(right)
    pairs = [pair for result in broken for pair in result["pairs"]]
    same = [pair["together"] for pair in pairs if pair["kinds"][0] == pair["kinds"][1]]
    other = [pair["together"] for pair in pairs if pair["kinds"][0] != pair["kinds"][1]]
    return [
        share(len(measured_errors), len(errors)),
        f"{np.mean(measured_errors):.3f}" if measured_errors else "",
        share(sum(result["n_false"] for result in broken), n_reported),
        f"{sum(result['n_double'] for result in broken) / len(broken):.2f}",
        f"{sum(result['n_found'] for result in pristine) / len(pristine):.1f}" if pristine else "",
        f"{np.mean([np.mean(right) for right in named.values()]):.1%}" if named else "",
        share(sum(same), len(same)),
        share(sum(other), len(other)),
    ]


def share(part: int, total: int) -> str:
    return f"{part / total:.1%} of {total}" if total else ""


def rotated_table(cells: list[dict[str, Any]]) -> str:
    """Whether the same defect at another rotation is in the same group."""
    lines = [
        "### One kind, turned",
        "",
        "Scenes of one kind each: share of the pairs of those found that are in one group, by the turn between them.",
        "",
        "| step (Å) | electrons | kind | found | 0° | 60° | 120° | 180° | all |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    n_head = len(lines)
    pooled: dict[tuple[float, float | None], list[dict[str, Any]]] = {}
    for cell in sorted(cells, key=lambda c: (c["cell"]["step"], -(c["cell"]["dose"] or math.inf))):
        about, result = cell["cell"], cell["found"]
        if not result:
            continue
        pooled.setdefault((about["step"], about["dose"]), []).append(result)
        kind = about["scene"]["name"].partition("-")[2]
        lines.append(
            f"| {about['step']:g} | {dose_title(about['dose'])} | {kind} | {' | '.join(rotation_entries([result]))} |"
        )
    for (step, dose), several in pooled.items():
        lines.append(f"| {step:g} | {dose_title(dose)} | all | {' | '.join(rotation_entries(several))} |")
    return "\n".join(lines) if len(lines) > n_head else ""


def rotation_entries(several: list[dict[str, Any]]) -> list[str]:
    errors = [error for result in several for error in result["errors"]]
    pairs = [pair for result in several for pair in result["pairs"]]
    entries = [f"{sum(error is not None for error in errors)} of {len(errors)}"]
    for angle in (0, 60, 120, 180, None):
        together = [pair["together"] for pair in pairs if angle is None or pair["turn"] == angle]
        entries.append(share(sum(together), len(together)))
    return entries


def promise_table(cells: list[dict[str, Any]]) -> str:
    """Where ours is worse than the best of the others beyond its spread, or not better where that is below 0.99."""
    lines = [
        "### Against the best of the others",
        "",
        f"AUC with standard errors. Ours must not be below the best of the others by more than the standard errors of "
        f"both, and above it wherever it is below {GOOD:g}.",
        "",
        "| step (Å) | electrons | kind | ours | best of the others | | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    n_head = len(lines)
    for step in steps_of(cells):
        for dose in doses_of(cells):
            for kind in (None, *KINDS):
                mine, other, name = rivals(cells, step, dose, kind)
                if mine is None or other is None:
                    continue
                worse = mine[0] < other[0] - math.hypot(mine[1], other[1])
                reached = not worse and (other[0] >= GOOD or mine[0] > other[0])
                lines.append(
                    f"| {step:g} | {dose_title(dose)} | {kind or 'all'} | {mine[0]:.3f} ± {mine[1]:.3f} "
                    f"| {other[0]:.3f} ± {other[1]:.3f} | {ROWS[name]} | {'yes' if reached else 'no'} |"
                )
    lines += limits(cells)
    return "\n".join(lines) if len(lines) > n_head else ""


def limits(cells: list[dict[str, Any]]) -> list[str]:
    """What is to be reached whatever the others do."""
    high, low = detection(cells, OURS, 0.16, 1e5), detection(cells, OURS, 0.16, 1e4)
    lines = []
    if high:
        worst, value = min(((k, float(np.mean(v))) for k, v in high["kinds"].items()), key=lambda item: item[1])
        lines += [
            "",
            f"At 0.16 Å and 100,000 electrons the AUC of every kind should be 0.99: lowest {value:.3f} ({worst});",
        ]
        lines.append(f"false alarms per 100 pristine atoms at 90 % recall below 1: {high['alarms']:.2f}.")
    if low:
        means = ", ".join(f"{kind} {np.mean(low['kinds'][kind]):.3f}" for kind in EASY_KINDS if kind in low["kinds"])
        lines.append(f"At 0.16 Å and 10,000 electrons it should be 0.95 for these: {means}.")
    return lines


def failure_table(cells: list[dict[str, Any]]) -> str:
    """Cells without a result."""
    failed = [cell for cell in cells if cell["failed"]]
    if not failed:
        return ""
    lines = ["### Without a result", "", "| scene | step (Å) | electrons | method | why |", "|---|---|---|---|---|"]
    for cell in failed:
        about = cell["cell"]
        lines.append(
            f"| {about['scene']['name']} | {about['step']:g} | {dose_title(about['dose'])} | {about['method']} "
            f"| {cell['failed']} |"
        )
    return "\n".join(lines)


def cost_table(cells: list[dict[str, Any]]) -> str:
    """Seconds of every method on one core, without reading, counts and measuring."""
    steps = steps_of(cells)
    lines = [
        "### Cost",
        "",
        "Seconds on one core for a scan, median; counts and measuring are shared; all take the sites that ours finds.",
        "",
        f"| step (Å) | {' | '.join(f'{step:g}' for step in steps)} |",
        "|---|" + "---|" * len(steps),
    ]
    for method in dict.fromkeys(cell["cell"]["method"] for cell in cells):
        entries = []
        for step in steps:
            seconds = [c["seconds"] for c in cells if (c["cell"]["method"], c["cell"]["step"]) == (method, step)]
            entries.append(f"{np.median(seconds):.1f}" if seconds else "")
        lines.append(f"| {method} | {' | '.join(entries)} |")
    shared = [[c["shared_seconds"] for c in cells if c["cell"]["step"] == step] for step in steps]
    lines.append(f"| shared | {' | '.join(f'{np.median(seconds):.1f}' for seconds in shared)} |")
    return "\n".join(lines)
