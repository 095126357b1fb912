"""Tables of the comparison of models, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.models.methods import METHODS

__all__ = ["OURS", "PEERS", "best_rates", "column", "spread", "tables"]

OURS = "harmonic"
PEERS = [name for name, method in METHODS.items() if method.program != "stemvane"]
# what is promised: a share of the better peer's angle error, or a multiple of the bound, whichever is larger
SHARE, OVER_BOUND = 1 / 3, 1.3
PROMISED_SPEED = {"speed-64": 500, "speed-12": 50}


def tables(report: dict[str, Any]) -> str:
    """One table for each data set, and what follows from them."""
    parts = [f"{report['machine']['processors']} processors, {report['machine']['time']}."]
    data = report["data"]
    if speed := {name: data[name] for name in PROMISED_SPEED if name in data}:
        parts.append(speed_table(speed))
    accuracy = {name: record for name, record in data.items() if name not in PROMISED_SPEED}
    parts += [data_table(record) for record in accuracy.values()]
    if accuracy:
        parts.append(ahead_table(accuracy))
    return "\n\n".join(parts) + "\n"


def column(rows: Iterable[dict[str, Any]], method: str, name: str) -> list[float]:
    """Values of a score over a method's seeds; those that are missing are left out."""
    values = []
    for row in rows:
        scores = row["scores"]
        value = (scores["angle"] or {}).get("median_deg") if name == "angle" else scores[name]
        if row["cell"]["method"] == method and value is not None:
            values.append(value)
    return values


def data_table(record: dict[str, Any]) -> str:
    """One row for each method."""
    about, rows = record["about"], record["rows"]
    words = f"r with {'the ' if about['content'] != 'its length' else ''}{about['content']}".replace(
        "its length", f"the length of the {about['reference']}"
    )
    notes = [f"Angle against the {about['reference']}"]
    if about["symmetry"] > 1:
        notes[0] += f", modulo {360 // about['symmetry']}°"
    notes.append(words)
    if about["bound_deg"]:
        notes.append(f"Cramér–Rao bound of the median error {about['bound_deg']:.2f}°")
    excess = " | excess (nat)" if about["counts"] else ""
    lines = [
        f"### {about['title']}",
        "",
        "; ".join(notes) + ".",
        "",
        f"| | r | others' r | angle error | explained variance{excess} | patterns per second | time to 95 % of r (s) "
        "| peak memory (MiB) |",
        "|---|---|---|---|---|---|---|---|" + ("---|" if excess else ""),
    ]
    for name, method in METHODS.items():
        if not any(row["cell"]["method"] == name for row in rows):
            continue
        cells = [
            spread(column(rows, name, "r"), 3),
            spread(column(rows, name, "r_others"), 2),
            spread(column(rows, name, "angle"), 2, "°"),
            spread(column(rows, name, "explained"), 3),
            *([spread(column(rows, name, "excess"), 2)] if excess else []),
            spread(column(rows, name, "rate"), 0),
            spread(column(rows, name, "seconds_to_95"), 1),
            spread(column(rows, name, "peak_mib"), 0),
        ]
        lines.append(f"| {method.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], digits: int, unit: str = "") -> str:
    """Range over the seeds, one number where they agree."""
    if not values:
        return ""
    low, high = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def best_rates(rows: list[dict[str, Any]]) -> dict[str, tuple[float, int]]:
    """Patterns per second of each method, and with how many threads; 0 is PyTorch's own choice."""
    best: dict[str, tuple[float, int]] = {}
    for row in rows:
        cell, rate = row["cell"], row["scores"]["rate"]
        if rate is not None and rate > best.get(cell["method"], (0.0, 0))[0]:
            best[cell["method"]] = (rate, cell["threads"])
    return best


def speed_table(speed: dict[str, Any]) -> str:
    """Training patterns per second, alone on the machine, and ratios."""
    lines = [
        "### Throughput",
        "",
        "Training patterns per second, alone on the machine, of the faster of one thread and PyTorch's own choice; in "
        "brackets ours over theirs.",
        "",
        f"| | {' | '.join(record['about']['title'] for record in speed.values())} |",
        "|---|" + "---|" * len(speed),
    ]
    rates = {name: best_rates(record["rows"]) for name, record in speed.items()}
    for method in METHODS:
        cells = []
        for by_method in rates.values():
            if method not in by_method:
                cells.append("")
                continue
            rate, threads = by_method[method]
            ratio = "" if method == OURS or OURS not in by_method else f" ({by_method[OURS][0] / rate:,.0f} times)"
            note = " one thread" if threads == 1 and METHODS[method].program != "stemvane" else ""
            cells.append(f"{rate:,.0f}{note}{ratio}")
        if any(cells):
            lines.append(f"| {METHODS[method].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ahead_table(accuracy: dict[str, Any]) -> str:
    """Angle error of ours beside the best of the peers and the bound; means over seeds."""
    lines = [
        "### Ahead",
        "",
        "Median angle error, mean over the seeds: at most a third of the best of the peers, or 1.3 times the bound, "
        "whichever is larger.",
        "",
        "| | stemvane | best of the peers | ratio | 1.3 times the bound | reached |",
        "|---|---|---|---|---|---|",
    ]
    for record in accuracy.values():
        ours = mean(column(record["rows"], OURS, "angle"))
        theirs = [mean(column(record["rows"], peer, "angle")) for peer in PEERS]
        best = min((value for value in theirs if value is not None), default=None)
        if ours is None or best is None:
            continue
        bound = record["about"]["bound_deg"]
        limit = max(SHARE * best, OVER_BOUND * (bound or 0.0))
        lines.append(
            f"| {record['about']['title']} | {ours:.2f}° | {best:.2f}° | {ours / best:.2f} "
            f"| {f'{OVER_BOUND * bound:.2f}°' if bound else ''} | {'yes' if ours <= limit else 'no'} |"
        )
    return "\n".join(lines)


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
