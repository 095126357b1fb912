"""Tables of the scenes: what is claimed, what of it is false, and what is missed, by class of scene."""

from __future__ import annotations

from itertools import groupby
from typing import Any

__all__ = ["tables"]

ROWS = {"ours": "stemvane", "adf": "dark field", "unit-cell": "unit cell"}
KINDS = ("Si-C3", "vacancy", "N", "B")
AIM_FALSE = 0.1


def tables(report: dict[str, Any]) -> str:
    """Markdown of all tables."""
    cells = report["cells"]
    machine = report["machine"]
    lines = [
        f"{machine['processors']} processors, {machine['time']}; {len(cells)} scans.",
        "",
        "False share of all claims (claims of all scans), at a nominal rate of 0.05:",
        "",
        "| scenes | step (Å) | electrons | scans | " + " | ".join(ROWS.values()) + " | reached |",
        "|---|---|---|---|" + "---|" * (len(ROWS) + 1),
    ]
    groups = [(key, list(members)) for key, members in groupby(cells, _place)]
    for (name, step, dose), members in groups:
        shares = [_false(members, row) for row in ROWS]
        reached = "yes" if shares[0][1] <= AIM_FALSE * max(shares[0][0], 1) else "**no**"
        texts = [f"{n_false / max(n, 1):.2f} ({n_false} of {n})" for n, n_false in shares]
        lines.append(f"| {name} | {step:g} | {dose:,.0f} | {len(members)} | {' | '.join(texts)} | {reached} |")
    lines += [
        "",
        "Found of the defects that are clear of what is no lattice, by kind: ours; dark field; unit cell. Lattices "
        "found of those that there are; share of the field that was searched, and that belongs to a lattice.",
        "",
        "| scenes | step (Å) | electrons | " + " | ".join(KINDS) + " | lattices | searched | lattice | seconds |",
        "|---|---|---|" + "---|" * (len(KINDS) + 4),
    ]
    for (name, step, dose), members in groups:
        texts = [_recall(members, kind) for kind in KINDS]
        lattices = ", ".join(f"{a} of {b}" for a, b in (cell["n_lattices"] for cell in members))
        searched, clear = (_mean([cell[f"share_{part}"] for cell in members]) for part in ("searched", "clear"))
        seconds = max(cell["seconds"] for cell in members)
        lines.append(
            f"| {name} | {step:g} | {dose:,.0f} | {' | '.join(texts)} | {lattices} | {searched:.2f} | {clear:.2f} "
            f"| {seconds:.0f} |"
        )
    return "\n".join([*lines, ""])


def _place(record: dict[str, Any]) -> tuple[str, float, float]:
    cell = record["cell"]
    return cell["name"], cell["step"], cell["dose"]


def _false(members: list[dict[str, Any]], row: str) -> tuple[int, int]:
    """Numbers of claims, and of false ones."""
    n_claimed, n_false = (sum(cell["rows"][row][key] for cell in members) for key in ("n_claimed", "n_false"))
    return n_claimed, n_false


def _recall(members: list[dict[str, Any]], kind: str) -> str:
    """How many of a kind each row has found, and how many there are."""
    counts = []
    for row in ROWS:
        scored = [cell["rows"][row] for cell in members]
        pairs = [pair for part in scored for pair in zip(part["kinds"], part["is_found"], strict=True)]
        hits = [hit for name, hit in pairs if name == kind]
        counts.append(sum(hits))
    return f"{'; '.join(map(str, counts))} of {len(hits)}" if hits else ""


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
