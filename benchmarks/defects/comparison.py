"""Searches for defects side by side: ours, and the same sites judged by what else is done with such scans.

Run as ``python -m benchmarks.defects``; writes ``benchmarks/results/defects.json`` and ``defects.png``, and puts the
tables between the markers of ``benchmarks/README.md``. Scenes of graphene with known defects and pristine ones are
simulated without noise once, then recorded at every dose and step. Every method on every recorded scan is a file under
``--work``, so that a run that was stopped goes on where it was: cheap methods of all scenes come first, scene by scene.
It stops by itself after ``--minutes``; ``--full`` lets it run until everything is done, as for the published tables.

``--quick`` takes two scenes and a pristine one, one step, two doses, and fewer epochs; its tables are printed and
nothing is written. ``--scenes`` takes the first so many scenes with defects (and a quarter as many pristine ones),
``--doses``, ``--steps`` and ``--methods`` some of what there is, ``--jobs`` scans side by side. ``--resume`` takes over
the cells of a results file, so that a run goes on where another machine was stopped. ``--tables`` only joins what is
there, ``--estimate`` only says how long it would take.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.defects.figure import draw
from benchmarks.defects.methods import METHODS, ROWS
from benchmarks.defects.scenes import DOSES, EXTENT, N_BROKEN, N_PRISTINE, STEPS, Scene, expectation, scenes
from benchmarks.defects.tables import tables
from benchmarks.harness.cells import Progress, machine, run_module, write_json
from benchmarks.harness.comparison import Comparison, cells_as_json, read_report

# scenes with defects for the published model
N_PUBLISHED_SCENES = 2
TURNED_DOSES = (100_000.0, 10_000.0)
# seconds for any scan, and per 10,000 patterns besides, of starting, counts, measuring and finding the sites; of
# simulating per 10,000 patterns
SHARED_SECONDS, SIMULATION_SECONDS = (8.0, 4.0), 15.0
QUICK_DOSES, QUICK_EPOCHS = (100_000.0, 10_000.0), 20

COMPARISON = Comparison("defects", tables, cells_as_json, draw)


@dataclass(frozen=True)
class Job:
    """One recorded scan and the methods that are to run on it."""

    scene: Scene
    step: float
    dose: float | None
    methods: tuple[str, ...]
    n_epochs: int | None = None

    def path(self, work: Path, method: str) -> Path:
        """Where the result of a method lies."""
        dose = "infinite" if self.dose is None else f"{self.dose:.0f}"
        return work / "cells" / self.scene.name / f"{self.step:g}-{dose}-{method}.json"

    def remaining(self, work: Path) -> Job:
        """Return the same with the methods that are not done."""
        todo = tuple(method for method in self.methods if not self.path(work, method).exists())
        return Job(self.scene, self.step, self.dose, todo, self.n_epochs)

    @property
    def size(self) -> float:
        """Number of patterns over 10,000."""
        return (EXTENT / self.step) ** 2 / 1e4

    @property
    def seconds(self) -> float:
        """Rough cost on one core."""
        costs = [SHARED_SECONDS, *(METHODS[method].seconds for method in self.methods)]
        return sum(fixed + growing * self.size for fixed, growing in costs)


def main() -> None:
    parser = COMPARISON.parser(__doc__)
    parser.add_argument("--scenes", type=int, metavar="N")
    parser.add_argument("--doses", help="comma-separated electrons per pattern, 'infinite' for none")
    parser.add_argument("--steps", help="comma-separated, Å")
    parser.add_argument("--methods", help=f"comma-separated: {', '.join(METHODS)}")
    parser.add_argument("--estimate", action="store_true")
    chosen = parser.parse_args()
    work = COMPARISON.work(chosen)
    COMPARISON.require_page(chosen)
    if chosen.resume:
        restore(read_report(chosen.resume), work)
    todo = [rest for job in all_jobs(chosen) if (rest := job.remaining(work)).methods]
    print(estimate(todo, chosen.jobs), file=sys.stderr)
    if chosen.estimate:
        return
    progress = COMPARISON.progress(chosen, len(todo))
    if not chosen.tables:
        run_all(todo, work, chosen.work.absolute() / "data", chosen.jobs, progress)
    COMPARISON.finish(joined(work), chosen, progress)


def all_jobs(chosen: argparse.Namespace) -> list[Job]:
    """Every scan that was asked for: cheap methods of all scenes, then the other ones."""
    methods = chosen.methods.split(",") if chosen.methods else list(METHODS)
    if unknown := set(methods) - set(METHODS):
        raise SystemExit(f"{', '.join(sorted(unknown))}: unknown; see --help for the methods")
    if chosen.doses:
        doses = tuple(None if word == "infinite" else float(word) for word in chosen.doses.split(","))
    else:
        doses = QUICK_DOSES if chosen.quick else DOSES
    steps = tuple(float(word) for word in chosen.steps.split(",")) if chosen.steps else STEPS
    n_broken = chosen.scenes or (2 if chosen.quick else N_BROKEN)
    n_pristine = min(N_PRISTINE, math.ceil(n_broken * N_PRISTINE / N_BROKEN))
    if chosen.quick and not chosen.steps:
        steps = STEPS[1:]
    few = QUICK_EPOCHS if chosen.quick else None
    jobs = []
    for tier in range(1 + max(method.tier for method in METHODS.values())):
        for scene in scenes(n_broken, n_pristine):
            if scene.family == "turned" and chosen.quick and scene.name != "turned-vacancy":
                continue
            for step in steps:
                for dose in doses:
                    methods_here = tuple(
                        method
                        for method in methods
                        if METHODS[method].tier == tier and is_planned(method, scene, dose, quick=chosen.quick)
                    )
                    if methods_here:
                        jobs.append(Job(scene, step, dose, methods_here, few))
    return jobs


def is_planned(method: str, scene: Scene, dose: float | None, *, quick: bool) -> bool:
    """Whether a method runs on a recorded scan: those that cost much run on some only."""
    if scene.family == "turned":
        return method == "ours" and dose in TURNED_DOSES
    if METHODS[method].tier < 2:
        return True
    return scene.family == "broken" and not quick and int(scene.name.partition("-")[2]) < N_PUBLISHED_SCENES


def estimate(jobs: list[Job], n_jobs: int) -> str:
    """How long the jobs should take, from what methods took on one core of a small machine."""
    sizes = {(job.scene.name, job.step): job.size for job in jobs}
    seconds = sum(job.seconds for job in jobs) + SIMULATION_SECONDS * sum(sizes.values())
    return f"{len(jobs)} scans, about {seconds / 3600 / n_jobs:.1f} h with {n_jobs} side by side"


def planned(jobs: list[Job], n_jobs: int, minutes: float | None) -> list[Job]:
    """Jobs, in their order, that should end in time, their simulations included; the first one always."""
    chosen: list[Job] = []
    simulated: set[tuple[str, float]] = set()
    seconds = 0.0
    for job in jobs:
        seconds += job.seconds / n_jobs
        if (job.scene.name, job.step) not in simulated:
            seconds += SIMULATION_SECONDS * job.size
        if minutes is not None and chosen and seconds > 60 * minutes:
            break
        simulated.add((job.scene.name, job.step))
        chosen.append(job)
    return chosen


def run_all(todo: list[Job], work: Path, data: Path, n_jobs: int, progress: Progress) -> None:
    """Run the jobs that fit into the time, side by side."""
    jobs = planned(todo, n_jobs, progress.minutes)
    progress.n_postponed += len(todo) - len(jobs)

    def work_on(job: Job) -> None:
        what = f"{job.scene.name}, {job.step:g} Å, {job.dose or math.inf:,.0f} electrons, {', '.join(job.methods)}"
        if progress.admits(job.seconds):
            progress.add(what, run(job, work, data))

    # (one by one: simulations use all processors)
    for job in {(job.scene.name, job.step): job for job in jobs}.values():
        expectation(job.scene, job.step, data)
    # the first search that names simulates the library, which the others read
    first = next((job for job in jobs if "ours" in job.methods), None)
    if first is not None:
        work_on(first)
    with ThreadPoolExecutor(n_jobs) as pool:
        list(pool.map(work_on, [job for job in jobs if job is not first]))


def run(job: Job, work: Path, data: Path) -> str:
    """Run all methods of a job in a process of its own; returns what went wrong."""
    files = {method: str(job.path(work, method)) for method in job.methods}
    task_path = job.path(work, job.methods[0]).with_suffix(".task")
    task_path.parent.mkdir(parents=True, exist_ok=True)
    task = {"scene": asdict(job.scene), "step": job.step, "dose": job.dose, "n_epochs": job.n_epochs}
    task_path.write_text(json.dumps(task | {"files": files, "data": str(data)}), encoding="utf-8")
    ended = run_module("defects.one_scan", str(task_path), threads=1)
    task_path.unlink()
    if ended.returncode:
        return f"failed:\n{ended.stderr[-2000:]}"
    return f"\n{ended.stderr[-2000:]}" if ended.stderr.strip() else ""


def restore(report: dict[str, Any], work: Path) -> None:
    """Write the cells of a report where those of this machine lie; those that are there already stay."""
    for record in report["cells"]:
        cell = record["cell"]
        if cell["method"] not in METHODS:
            continue
        job = Job(Scene(**cell["scene"]), cell["step"], cell["dose"], (cell["method"],), cell["n_epochs"])
        path = job.path(work, cell["method"])
        if not path.exists():
            # of channels that are gone there are no rows
            rows = {row: scores for row, scores in record["rows"].items() if row in ROWS}
            write_json(record | {"rows": rows}, path)


def joined(work: Path) -> dict[str, Any]:
    """All results that are there."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((work / "cells").glob("*/*.json"))]
    return {"machine": machine(), "cells": cells}
