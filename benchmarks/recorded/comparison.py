"""Scans as detectors record them: `stemvane run` with defaults, beside a centre of mass that is prepared by hand.

Run as ``python -m benchmarks.recorded``; writes ``benchmarks/results/recorded.json``, and puts the tables between the
markers of ``benchmarks/README.md``. Every scan is a process of its own and a file under ``--work``, so that a run that
was stopped goes on where it was. It stops by itself after ``--minutes``; ``--full`` lets it run until everything is
done.

``--quick`` takes two conditions, small scans and few epochs; its tables are printed and nothing is written. ``--only``
takes some conditions, ``--seeds`` so many draws of each, ``--jobs`` scans side by side. ``--resume`` takes over the
scans of a results file. ``--tables`` runs nothing and joins what is there.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import Progress, machine, run_module, write_json
from benchmarks.harness.comparison import Comparison, cells_as_json, read_report
from benchmarks.recorded.conditions import CONDITIONS, N_POSITIONS, N_QUICK_POSITIONS, QUICK_CONDITIONS
from benchmarks.recorded.tables import tables

QUICK_EPOCHS = 10
# of a simulation with all that is started before it, and of each `stemvane run`
SIMULATION_SECONDS, RUN_SECONDS = 40.0, 40.0

COMPARISON = Comparison("recorded", tables, cells_as_json)


@dataclass(frozen=True)
class Job:
    """One recorded scan."""

    condition: str
    seed: int

    def path(self, work: Path) -> Path:
        """Where its result lies."""
        return work / "cells" / f"{self.condition}-{self.seed}.json"

    @property
    def seconds(self) -> float:
        """Rough cost on one core."""
        return SIMULATION_SECONDS + RUN_SECONDS * (1 + CONDITIONS[self.condition].has_more_to_give)


def main() -> None:
    parser = COMPARISON.parser(__doc__)
    parser.add_argument("--only", help=f"comma-separated: {', '.join(CONDITIONS)}")
    parser.add_argument("--seeds", type=int, default=1, help="draws of each condition")
    chosen = parser.parse_args()
    work = COMPARISON.work(chosen)
    jobs = all_jobs(chosen)
    COMPARISON.require_page(chosen)
    if chosen.resume:
        restore(read_report(chosen.resume), work)
    todo = [job for job in jobs if not job.path(work).exists()]
    progress = COMPARISON.progress(chosen, len(todo))
    if not chosen.tables:
        run_all(todo, work, chosen, progress)
    COMPARISON.finish(joined(work), chosen, progress)


def all_jobs(chosen: argparse.Namespace) -> list[Job]:
    """Every scan that was asked for, all conditions once before any is drawn again."""
    conditions = chosen.only.split(",") if chosen.only else QUICK_CONDITIONS if chosen.quick else list(CONDITIONS)
    if unknown := set(conditions) - set(CONDITIONS):
        raise SystemExit(f"{', '.join(sorted(unknown))}: unknown; see --help for the conditions")
    return [Job(condition, seed) for seed in range(chosen.seeds) for condition in conditions]


def run_all(todo: list[Job], work: Path, chosen: argparse.Namespace, progress: Progress) -> None:
    """Run what fits into the time, side by side."""

    def work_on(job: Job) -> None:
        if progress.admits(job.seconds):
            progress.add(f"{job.condition}, seed {job.seed}", run(job, work, quick=chosen.quick))

    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(work_on, todo))


def run(job: Job, work: Path, *, quick: bool) -> str:
    """Score one scan in a process of its own; returns what went wrong."""
    output = job.path(work)
    task_path = output.with_suffix(".task")
    task_path.parent.mkdir(parents=True, exist_ok=True)
    task = {"condition": job.condition, "seed": job.seed, "output": str(output)}
    task |= {
        "n_positions": N_QUICK_POSITIONS if quick else N_POSITIONS,
        "n_epochs": QUICK_EPOCHS if quick else None,
    }
    task_path.write_text(json.dumps(task), encoding="utf-8")
    ended = run_module("recorded.one_scan", str(task_path), threads=1)
    task_path.unlink()
    return f"failed:\n{ended.stderr[-2000:]}" if ended.returncode else ""


def restore(report: dict[str, Any], work: Path) -> None:
    """Write the scans of a report where those of this machine lie; those that are there already stay."""
    for record in report["cells"]:
        path = Job(**record["cell"]).path(work)
        if not path.exists():
            write_json(record, path)


def joined(work: Path) -> dict[str, Any]:
    """All results that are there, in the order of the tables."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((work / "cells").glob("*.json"))]
    order = list(CONDITIONS)
    cells.sort(key=lambda record: (order.index(record["cell"]["condition"]), record["cell"]["seed"]))
    return {"machine": machine(), "cells": cells}
