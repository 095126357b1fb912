"""Table of what the network adds, in Markdown."""

from __future__ import annotations

from typing import Any

__all__ = ["tables"]


def tables(report: dict[str, Any]) -> str:
    """Make the table: a row for each scan; where seeds differ, their range."""
    lines = [
        f"{report['machine']['processors']} processors, {report['machine']['time']}.",
        "",
        "| scan | electrons | explained: closed form, network, closed form of 4 latents | evidence, held out (nat) "
        "| angle | gain of a pilot (nat) | the network |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in report["cells"]:
        cell, rows = record["cell"], record["rows"]
        network = [row for name, row in rows.items() if name.startswith("network")]
        two, four = rows["closed form, 2"], rows["closed form, 4"]
        gains = [row["gain"] for row in network if row["gain"] is not None]
        spread = max(row["evidence"] for row in network) - min(row["evidence"] for row in network)
        adds = min(row["evidence"] for row in network) > two["evidence"] + spread
        explains = min(row["explained"] for row in network) > two["explained"] + 5e-4
        entries = [
            cell["name"],
            "noiseless" if cell["dose"] is None else f"{cell['dose']:,.0f}",
            columns(network, two, four, "explained", 3),
            columns(network, two, four, "evidence", 1),
            columns(network, two, four, "angle_deg", 2, "°"),
            " to ".join(dict.fromkeys(f"{gain[0]:.1f} ± {gain[1]:.1f}" for gain in gains[:1])) or "none run",
            "adds" if adds and explains else "adds likelihood alone" if adds else "adds nothing",
        ]
        lines.append(f"| {' | '.join(entries)} |")
    return "\n".join(lines) + "\n"


def columns(network: list[dict[str, Any]], two: Any, four: Any, name: str, digits: int, unit: str = "") -> str:
    """Values of the closed form, the network over its seeds, and the closed form of four latents."""
    values = [row[name] for row in network]
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    middle = low if low == high else f"{low} to {high}"
    return ", ".join(f"{text}{unit}" for text in (f"{two[name]:.{digits}f}", middle, f"{four[name]:.{digits}f}"))
