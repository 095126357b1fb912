"""Whole runs from the file to the figures: time, memory and stages, now and at an earlier state.

Run as ``python -m benchmarks.whole`` on a machine that does nothing else; writes ``benchmarks/results/whole.json``, and
puts the tables between the markers of ``benchmarks/README.md``. Every job is a process of its own and every round a
file under ``--work``, so that a run that was stopped goes on where it was. Rounds of all jobs and states take turns.

``--before`` is a checkout of an earlier state, timed in the same rounds. ``--rounds`` takes so many, of which the
first, which compiles, does not count; ``--scale`` also one round of each size of scan and detector, whose exponents are
fitted and drawn, and of threads against processes. With ``--rounds 0`` it is these alone, and the other runs of the
last report stay. ``--quick`` is one round of the small jobs.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.cells import ROOT, machine, write_json
from benchmarks.harness.comparison import Comparison, cells_as_json, read_report
from benchmarks.whole.figure import draw
from benchmarks.whole.jobs import JOBS, SCALE, one_round
from benchmarks.whole.scale import scale_tables

__all__ = ["main", "tables"]

QUICK_SECONDS = 15.0


def tables(report: dict[str, Any]) -> str:
    """Medians of every job now and before, the stages of those that have some, and how they grow."""
    cells = report["cells"]
    lines = [
        f"{report['machine']['processors']} processors, {report['machine']['time']}; medians of the rounds, and the "
        "smallest and largest.",
        "",
        "| | rounds | before (s) | now (s) | aim (s) | CPU (s) | memory (MB) | stages (s) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(cell["job"]["name"] for cell in cells if cell["part"] == "jobs"):
        of_job = [cell for cell in cells if cell["part"] == "jobs" and cell["job"]["name"] == name]
        # the first round compiles what later ones find on the disk
        of_job = [cell for cell in of_job if cell["round"]] or of_job
        now = [cell["result"] for cell in of_job if cell["state"] == "now"]
        before = [cell["result"]["seconds"] for cell in of_job if cell["state"] == "before"]
        if now:
            seconds, aim = [one["seconds"] for one in now], of_job[0]["job"]["aim"]
            entries = [name, str(len(now)), spread(before), spread(seconds), f"{aim:g}" if aim else ""]
            entries += [f"{np.median([one[key] for one in now]):,.1f}" for key in ("cpu_seconds", "memory_mb")]
            lines.append(f"| {' | '.join([*entries, stages(now)])} |")
    sizes = [cell for cell in cells if cell["part"] == "scale"]
    if sizes:
        lines += ["", *scale_tables(sizes)]
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    """Median, smallest and largest."""
    if not values:
        return ""
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def stages(results: list[dict[str, Any]]) -> str:
    """Medians of the stages' times."""
    return ", ".join(
        f"{name} {np.median([one['stages'][name] for one in results]):.1f}" for name in results[0]["stages"]
    )


COMPARISON = Comparison("whole", tables, cells_as_json, draw)


def main() -> None:
    parser = COMPARISON.parser(__doc__)
    parser.add_argument("--before", type=Path, help="checkout of an earlier state")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--scale", action="store_true", help="one round of every size, too")
    parser.add_argument("--only", default="", help="jobs whose names hold this")
    chosen = parser.parse_args()
    COMPARISON.require_page(chosen)
    work = COMPARISON.work(chosen)
    work.mkdir(parents=True, exist_ok=True)
    states = {"now": ROOT / "src"} | ({"before": chosen.before.absolute() / "src"} if chosen.before else {})
    jobs = [job for job in JOBS if chosen.only in job.name and (not chosen.quick or job.seconds <= QUICK_SECONDS)]
    n_rounds = 1 if chosen.quick else chosen.rounds
    todo = [
        ("jobs", job, state, number)
        for number in range(n_rounds)
        for job in jobs
        for state in states
        if state == "now" or job.is_compared
    ]
    if chosen.scale and not chosen.quick:
        todo += [("scale", job, "now", 0) for job in SCALE]
    places = [
        work / f"{part}_{JOBS.index(job) if job in JOBS else SCALE.index(job)}_{state}_{number}.json"
        for part, job, state, number in todo
    ]
    missing = [one for one in zip(todo, places, strict=True) if not one[1].exists()]
    progress = COMPARISON.progress(chosen, len(missing))
    for (part, job, state, number), place in [] if chosen.tables else missing:
        if progress.admits(job.seconds):
            trouble, cell = "", {"part": part, "job": asdict(job), "state": state, "round": number}
            try:
                write_json(cell | {"result": one_round(job, states[state], work)}, place)
            except RuntimeError as error:
                trouble = str(error)
            progress.add(f"{job.name}, {state}", trouble)
    cells = [json.loads(place.read_text(encoding="utf-8")) for place in places if place.exists()]
    if not n_rounds and chosen.output.exists():
        # the runs of the last report stay
        cells = [cell for cell in read_report(chosen.output)["cells"] if cell["part"] == "jobs"] + cells
    COMPARISON.finish({"machine": machine(), "cells": cells}, chosen, progress)
