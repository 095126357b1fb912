"""Kinds in fields of several: `KindsModel` beside k-means, Gaussian mixtures, HDBSCAN and NMF, smoothed or not.

Run as ``python -m benchmarks.kinds``; writes ``benchmarks/results/kinds.json``, and puts the table between the markers
of ``benchmarks/README.md``. Every field is a process of its own and a file under ``--work``, so that a run that was
stopped goes on where it was. It stops by itself after ``--minutes``; ``--full`` lets it run until everything is done.

``--quick`` takes the analytic field alone, whose table is printed and nothing is written. ``--seeds`` takes so many
draws of each field, ``--jobs`` fields side by side. ``--resume`` takes over the fields of a results file. ``--tables``
runs nothing and joins what is there.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import Progress, machine, run_module, write_json
from benchmarks.harness.comparison import Comparison, cells_as_json, read_report
from benchmarks.kinds.tables import tables

__all__: list[str] = []

NAMES = ("analytic", "sheets", "turned over", "two phases")
DOSES = (20_000.0, 4_000.0, 1_000.0)
# dose and fields at which the number of kinds is looked for, too; the many features of polycrystals take long
COUNTED, COUNTED_NAMES = 20_000.0, NAMES[:2]
SECONDS, COUNTED_SECONDS = 150.0, 300.0

COMPARISON = Comparison("kinds", tables, cells_as_json)


def main() -> None:
    parser = COMPARISON.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="draws of each field")
    chosen = parser.parse_args()
    work = COMPARISON.work(chosen)
    COMPARISON.require_page(chosen)
    if chosen.resume:
        for record in read_report(chosen.resume)["cells"]:
            path = place(record["cell"], work)
            if not path.exists():
                write_json(record, path)
    todo = [cell for cell in all_cells(chosen) if not place(cell, work).exists()]
    progress = COMPARISON.progress(chosen, len(todo))
    if not chosen.tables:
        run_all(todo, work, chosen, progress)
    COMPARISON.finish(joined(work), chosen, progress)


def all_cells(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Every field that was asked for, all once before any is drawn again."""
    names = NAMES[:1] if chosen.quick else NAMES
    return [
        {"name": name, "dose": dose, "seed": seed} for seed in range(chosen.seeds) for name in names for dose in DOSES
    ]


def is_counted(cell: dict[str, Any]) -> bool:
    """Whether the number of kinds is looked for in a field."""
    return cell["dose"] == COUNTED and cell["name"] in COUNTED_NAMES


def place(cell: dict[str, Any], work: Path) -> Path:
    """Where the result of a field lies."""
    return work / "cells" / f"{cell['name'].replace(' ', '-')}-{cell['dose']:g}-{cell['seed']}.json"


def run_all(todo: list[dict[str, Any]], work: Path, chosen: argparse.Namespace, progress: Progress) -> None:
    """Run what fits into the time, side by side."""

    def work_on(cell: dict[str, Any]) -> None:
        if progress.admits(COUNTED_SECONDS if is_counted(cell) else SECONDS):
            progress.add(place(cell, work).stem, run(cell, work))

    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(work_on, todo))


def run(cell: dict[str, Any], work: Path) -> str:
    """Score one field in a process of its own; returns what went wrong."""
    output = place(cell, work)
    task_path = output.with_suffix(".task")
    task_path.parent.mkdir(parents=True, exist_ok=True)
    task = {"field": cell, "counts": is_counted(cell), "output": str(output)}
    task_path.write_text(json.dumps(task), encoding="utf-8")
    ended = run_module("kinds.one_field", str(task_path), threads=1)
    task_path.unlink()
    return f"failed:\n{ended.stderr[-2000:]}" if ended.returncode else ""


def joined(work: Path) -> dict[str, Any]:
    """All results that are there, in the order of the table."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((work / "cells").glob("*.json"))]

    def order(record: dict[str, Any]) -> tuple[Any, ...]:
        cell = record["cell"]
        return NAMES.index(cell["name"]), -cell["dose"], cell["seed"]

    return {"machine": machine(), "cells": sorted(cells, key=order)}
