"""Searches for defects side by side: ours, and the same sites judged by what else is done with such scans.

Run as ``python benchmarks/defects.py``; writes ``benchmarks/results/defects.json`` and ``defects.png``, and puts the
tables between the markers of ``benchmarks/README.md``. Scenes of graphene with known defects and pristine ones are
simulated without noise once, then recorded at every dose and step. Every method on every recorded scan is a file under
``--work``, so that a run that was stopped goes on where it was: cheap methods of all scenes come first, scene by scene.

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
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cells import Progress, machine, split_at_markers, write_json
from defect_figure import draw
from defect_methods import METHODS
from defect_scenes import DOSES, EXTENT, N_BROKEN, N_PRISTINE, STEPS, Scene, expectation, scenes
from defect_tables import tables

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "defects.json"
BEGIN, END = "<!-- defects: begin -->", "<!-- defects: end -->"
# scenes with defects for the numbers of latents (at one dose and step), and for the published model
N_LATENT_SCENES, LATENT_DOSE, LATENT_STEP = 3, 100_000.0, 0.16
N_PUBLISHED_SCENES = 2
TURNED_DOSES = (100_000.0, 10_000.0)
# seconds for any scan, and per 10,000 patterns besides, of starting, counts, measuring and finding the sites; of
# simulating per 10,000 patterns
SHARED_SECONDS, SIMULATION_SECONDS = (8.0, 4.0), 15.0
QUICK_DOSES, QUICK_EPOCHS = (100_000.0, 10_000.0), 20


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

    def left(self, work: Path) -> Job:
        """The same with the methods that are not done."""
        todo = tuple(method for method in self.methods if not self.path(work, method).exists())
        return Job(self.scene, self.step, self.dose, todo, self.n_epochs)

    @property
    def seconds(self) -> float:
        """Rough cost on one core."""
        size = (EXTENT / self.step) ** 2 / 1e4
        costs = [SHARED_SECONDS, *(METHODS[method].seconds for method in self.methods)]
        return sum(fixed + growing * size for fixed, growing in costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scenes", type=int, metavar="N")
    parser.add_argument("--doses", help="comma-separated electrons per pattern, 'infinite' for none")
    parser.add_argument("--steps", help="comma-separated, Å")
    parser.add_argument("--methods", help=f"comma-separated: {', '.join(METHODS)}")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=HERE.parent / "build" / "defects")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--resume", type=Path, metavar="RESULTS", help="a file like results/defects.json")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--estimate", action="store_true")
    chosen = parser.parse_args()
    work = (chosen.work / ("quick" if chosen.quick else "full")).absolute()
    if chosen.resume:
        restore(json.loads(chosen.resume.read_text(encoding="utf-8")), work)
    if not chosen.quick:
        # a page without a place for the tables is told of before anything is run
        split_at_markers(chosen.readme, BEGIN, END)
    todo = [left for job in all_jobs(chosen) if (left := job.left(work)).methods]
    print(estimate(todo, chosen.jobs), file=sys.stderr)
    if chosen.estimate:
        return
    failed = 0 if chosen.tables else run_all(todo, work, chosen.work.absolute() / "data", chosen.jobs)
    report = joined(work)
    text = tables(report)
    if chosen.quick:
        print(text)
    else:
        publish(report, text, chosen.output, chosen.readme)
    if failed:
        raise SystemExit(f"{failed} scans failed, see above; the others are kept")


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
                    wanted = tuple(
                        method
                        for method in methods
                        if METHODS[method].tier == tier and is_wanted(method, scene, step, dose, quick=chosen.quick)
                    )
                    if wanted:
                        jobs.append(Job(scene, step, dose, wanted, few))
    return jobs


def is_wanted(method: str, scene: Scene, step: float, dose: float | None, *, quick: bool) -> bool:
    """Whether a method runs on a recorded scan: those that cost much run on some only."""
    if scene.family == "turned":
        return method == "ours" and dose in TURNED_DOSES
    if METHODS[method].tier < 2:
        return True
    number = int(scene.name.partition("-")[2])
    if scene.family != "broken" or quick:
        return False
    if method == "coordinate":
        return number < N_PUBLISHED_SCENES
    return number < N_LATENT_SCENES and step == LATENT_STEP and dose == LATENT_DOSE


def estimate(jobs: list[Job], n_jobs: int) -> str:
    """How long the jobs should take, from what methods took on one core of a small machine."""
    sizes = {(job.scene.name, job.step): (EXTENT / job.step) ** 2 / 1e4 for job in jobs}
    seconds = sum(job.seconds for job in jobs) + SIMULATION_SECONDS * sum(sizes.values())
    return f"{len(jobs)} scans, about {seconds / 3600 / n_jobs:.1f} h with {n_jobs} side by side"


def run_all(jobs: list[Job], work: Path, data: Path, n_jobs: int) -> int:
    """Run the jobs side by side; returns how many failed."""
    progress = Progress(len(jobs))

    def work_on(job: Job) -> None:
        what = f"{job.scene.name}, {job.step:g} Å, {job.dose or math.inf:,.0f} electrons, {', '.join(job.methods)}"
        progress.add(what, run(job, work, data))

    # (one by one: simulations use all processors)
    for job in {(job.scene.name, job.step): job for job in jobs}.values():
        expectation(job.scene, job.step, data)
    # the first search that names simulates the library, which the others read
    first = next((job for job in jobs if any(method.startswith("ours") for method in job.methods)), None)
    if first is not None:
        work_on(first)
    with ThreadPoolExecutor(n_jobs) as pool:
        list(pool.map(work_on, [job for job in jobs if job is not first]))
    return progress.failed


def run(job: Job, work: Path, data: Path) -> str:
    """Run all methods of a job in a process of its own; returns what went wrong."""
    files = {method: str(job.path(work, method)) for method in job.methods}
    task_path = job.path(work, job.methods[0]).with_suffix(".task")
    task_path.parent.mkdir(parents=True, exist_ok=True)
    task = {"scene": asdict(job.scene), "step": job.step, "dose": job.dose, "n_epochs": job.n_epochs}
    task_path.write_text(json.dumps(task | {"files": files, "data": str(data)}), encoding="utf-8")
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "defect_cells.py"), str(task_path)]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    task_path.unlink()
    if ended.returncode:
        return f"failed:\n{ended.stderr[-2000:]}"
    return f"\n{ended.stderr[-2000:]}" if ended.stderr.strip() else ""


def restore(report: dict[str, Any], work: Path) -> None:
    """Write the cells of a report where those of this machine lie; those that are there already stay."""
    for found in report["cells"]:
        cell = found["cell"]
        job = Job(Scene(**cell["scene"]), cell["step"], cell["dose"], (cell["method"],), cell["n_epochs"])
        path = job.path(work, cell["method"])
        if not path.exists():
            write_json(found, path)


def joined(work: Path) -> dict[str, Any]:
    """All results that are there."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((work / "cells").glob("*/*.json"))]
    return {"machine": machine(), "cells": cells}


def publish(report: dict[str, Any], text: str, output: Path, readme: Path) -> None:
    """Write the JSON file, the figure, and the tables between the markers."""
    before, after = split_at_markers(readme, BEGIN, END)
    output.parent.mkdir(exist_ok=True)
    # one cell a line, so that a change of one is a change of one line
    lines = ",\n".join(json.dumps(cell, separators=(",", ":")) for cell in report["cells"])
    output.write_text(f'{{"machine": {json.dumps(report["machine"])},\n"cells": [\n{lines}\n]}}\n', encoding="utf-8")
    draw(report, output.with_suffix(".png"))
    readme.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
