"""Tables of recorded scans, in Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.models.tables import spread
from benchmarks.recorded.conditions import CONDITIONS

__all__ = ["misses", "tables"]

# what is promised of the defaults: a multiple of the error by hand, r of the first latent, and no silence beyond
RATIO, LEAST_R, SILENT_DEG = 1.1, 0.90, 20.0

_Cells = list[dict[str, Any]]


def tables(report: dict[str, Any]) -> str:
    """The table of the defaults beside the targets, and that of runs that were given dark frame and bad pixels."""
    cells = report["cells"]
    by_condition = {
        name: here for name in CONDITIONS if (here := [cell for cell in cells if cell["cell"]["condition"] == name])
    }
    n_seeds = max((len(here) for here in by_condition.values()), default=0)
    parts = [
        f"{report['machine']['processors']} processors, {report['machine']['time']}; "
        + (
            "one draw of each condition." if n_seeds == 1 else f"ranges over at most {n_seeds} draws of each condition."
        ),
        defaults_table(by_condition),
    ]
    if any("given" in cell["rows"] for cell in cells):
        parts.append(given_table(by_condition))
    return "\n\n".join(parts) + "\n"


def defaults_table(by_condition: dict[str, _Cells]) -> str:
    """One row for each condition: by hand, `stemvane run` with its defaults, and what is missed."""
    lines = [
        "### With defaults",
        "",
        f"Aims: error at most {RATIO} times that of the filtered COM, r at least {LEAST_R:.2f}, and beyond "
        f"{SILENT_DEG:.0f}° a finding that is a failure.",
        "",
        "| | COM by hand | filtered: error | r | stemvane: error | r | over filtered | findings | seconds | aims |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, cells in by_condition.items():
        entries = [
            spread(values(cells, "raw", "angle_deg"), 2, "°"),
            spread(values(cells, "filtered", "angle_deg"), 2, "°"),
            spread(values(cells, "filtered", "r"), 3),
            *stemvane_entries(cells, "defaults"),
            ", ".join(misses(cells)) or "reached",
        ]
        lines.append(f"| {CONDITIONS[name].title} | {' | '.join(entries)} |")
    return "\n".join(lines)


def given_table(by_condition: dict[str, _Cells]) -> str:
    """One row for each condition whose dark frame and bad pixels were given."""
    lines = [
        "### With dark frame and bad pixels given",
        "",
        "| | stemvane: error | r | over filtered | findings | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, cells in by_condition.items():
        if with_images := [cell for cell in cells if "given" in cell["rows"]]:
            lines.append(f"| {CONDITIONS[name].title} | {' | '.join(stemvane_entries(with_images, 'given'))} |")
    return "\n".join(lines)


def stemvane_entries(cells: _Cells, row: str) -> list[str]:
    """Error, r, ratio of the errors, findings and seconds of `stemvane run`."""
    refusals = [cell["rows"][row]["refused"] for cell in cells if cell["rows"][row]["refused"]]
    findings = dict.fromkeys(
        f"{finding['id']} ({finding['severity']})"
        for cell in cells
        for finding in cell["rows"][row]["findings"]
        if finding["severity"] != "note"
    )
    return [
        f"refused: {refusals[0]}" if refusals else spread(values(cells, row, "angle_deg"), 2, "°"),
        spread(values(cells, row, "r"), 3),
        spread(ratios(cells, row), 2),
        ", ".join(findings),
        spread(values(cells, row, "seconds"), 0),
    ]


def misses(cells: _Cells) -> list[str]:
    """Which aims the defaults miss in any of the draws of one condition."""
    missed: dict[str, None] = {}
    for cell in cells:
        row = cell["rows"]["defaults"]
        if row["refused"]:
            missed["refused"] = None
            continue
        if row["mirrored"] or row["angle_deg"] > RATIO * cell["rows"]["filtered"]["angle_deg"]:
            missed["error"] = None
        if row["r"] is None or row["r"] < LEAST_R:
            missed["r"] = None
        has_failure = any(finding["severity"] == "failure" for finding in row["findings"])
        if (row["mirrored"] or row["angle_deg"] > SILENT_DEG) and not has_failure:
            missed["silent"] = None
    return list(missed)


def ratios(cells: _Cells, row: str) -> list[float]:
    """Errors over those of the filtered COM by hand."""
    return [
        cell["rows"][row]["angle_deg"] / cell["rows"]["filtered"]["angle_deg"]
        for cell in cells
        if cell["rows"][row]["angle_deg"] is not None
    ]


def values(cells: _Cells, row: str, name: str) -> list[float]:
    """A number over the draws, where it is known."""
    return [cell["rows"][row][name] for cell in cells if cell["rows"][row][name] is not None]
