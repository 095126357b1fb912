"""Models side by side: ours, the one as published, AtomAI's and pyroVED's rotation-invariant VAEs, and baselines.

Run as ``python -m benchmarks.models``; writes ``benchmarks/results/models.json`` and ``models.png``, and puts the
tables between the markers of ``benchmarks/README.md``. Every training is a process of its own, and every finished one
is a file under ``--work``, so that a run that was stopped goes on where it was. It stops by itself after ``--minutes``;
``--full`` lets it run until everything is done, as for the published tables. AtomAI and pyroVED get environments of
their own under ``--environments``.

``--quick`` takes five data sets, small scans, one seed and 6 s for each training of a peer; ``--only`` some data sets,
``--methods`` some methods, ``--budget`` other seconds for the long data sets (the others get a fifth), ``--jobs``
trainings side by side, one thread each. ``--resume`` takes over the trainings of a results file, so that a run goes on
where another machine was stopped. ``--tables`` only joins what is there. Throughput is measured first, alone on the
machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from benchmarks.harness.cells import Progress, machine, run_module, write_json
from benchmarks.harness.comparison import Comparison, read_report
from benchmarks.harness.environments import interpreter
from benchmarks.models.data import DATA_SETS, RECORDED, SPEED_SETS, Known
from benchmarks.models.figure import draw
from benchmarks.models.methods import METHODS, Method
from benchmarks.models.scores import angle_error, correlations, explained, poisson_excess, time_to_share
from benchmarks.models.tables import tables

REQUIREMENTS = {"atomai": ("atomai==0.8.1", ["six"]), "pyroved": ("pyroved==0.3.0", [])}
# a plain torch would come with gigabytes of CUDA
CONSTRAINTS = ["torch==2.13.0"]
BUDGET, QUICK_BUDGET, SPEED_BUDGET = 600.0, 6.0, 30.0
# one of every kind, and of graphene one with counts, too
QUICK_SETS = ("graphene", "graphene-20k", "analytic", "threefold", "rotavirus")
# r above which it means something when it was reached
LEARNED = 0.2
# of the data sets that are not long, over the budget of those that are
SHORT = 0.2
# seconds of starting, embedding and scoring, besides a training that has a budget; and of one that has none
BESIDES, UNBUDGETED = 60.0, 90.0

COMPARISON = Comparison("models", tables, lambda report: json.dumps(report, indent=1) + "\n", draw)


@dataclass(frozen=True)
class Cell:
    """One training: what is asked for, and so where its result lies."""

    data: str
    method: str
    seed: int
    threads: int
    budget: float
    speed_only: bool
    settings: dict[str, Any]

    @property
    def file(self) -> str:
        """Name of its result, without suffix."""
        threads = f"-{self.threads or 'all'}-threads" if self.speed_only else ""
        return f"{self.data}/{self.method}-{self.seed}{threads}"

    @property
    def seconds(self) -> float:
        """Rough cost."""
        return BESIDES + self.budget if METHODS[self.method].budgeted else UNBUDGETED


def main() -> None:
    parser = COMPARISON.parser(__doc__)
    parser.add_argument("--only", help=f"comma-separated: {', '.join([*DATA_SETS, 'speed'])}")
    parser.add_argument("--methods", help=f"comma-separated: {', '.join(METHODS)}")
    parser.add_argument("--budget", type=float, help="seconds for a training of a peer")
    parser.add_argument("--seeds", type=int, help="at most so many")
    parser.add_argument("--environments", type=Path, help="a folder in --work by default")
    chosen = parser.parse_args()
    work = COMPARISON.work(chosen)
    environments = chosen.environments or chosen.work / "environments"
    cells = all_cells(chosen)
    COMPARISON.require_page(chosen)
    if chosen.resume:
        restore(read_report(chosen.resume), work)
    todo = [cell for cell in cells if not done(cell, work)]
    progress = COMPARISON.progress(chosen, len(todo))
    if not chosen.tables:
        run_all(todo, work, environments, chosen.jobs, progress, quick=chosen.quick)
    COMPARISON.finish(joined(work), chosen, progress)


def all_cells(chosen: argparse.Namespace) -> list[Cell]:
    """Every training that was asked for, throughput first."""
    data_sets = chosen.only.split(",") if chosen.only else [*(QUICK_SETS if chosen.quick else DATA_SETS), "speed"]
    methods = chosen.methods.split(",") if chosen.methods else list(METHODS)
    if unknown := (set(data_sets) - {*DATA_SETS, "speed"}) | (set(methods) - set(METHODS)):
        raise SystemExit(f"{', '.join(sorted(unknown))}: unknown; see --help for data sets and methods")
    budget = chosen.budget or (QUICK_BUDGET if chosen.quick else BUDGET)
    cells = []
    if "speed" in data_sets:
        for data in SPEED_SETS:
            for name in methods:
                for threads in METHODS[name].speed_threads:
                    seconds = min(budget, SPEED_BUDGET)
                    cells.append(Cell(data, name, 0, threads, seconds, True, settings(METHODS[name], chosen.quick)))
    if "rotavirus" in data_sets and not RECORDED.exists():
        print(f"{RECORDED}: is missing, so the recorded scan is left out", file=sys.stderr)
        data_sets = [name for name in data_sets if name != "rotavirus"]
    threads = 1 if chosen.jobs > 1 else 0
    n_seeds = 1 if chosen.quick else chosen.seeds or max(method.n_seeds for method in METHODS.values())
    # seed by seed, so that a run that was stopped has something of everything
    for seed, (data, about) in itertools.product(range(n_seeds), DATA_SETS.items()):
        seconds = budget if about.long or chosen.quick else SHORT * budget
        for name in methods if data in data_sets else []:
            if seed < METHODS[name].n_seeds:
                cells.append(Cell(data, name, seed, threads, seconds, False, settings(METHODS[name], chosen.quick)))
    return cells


def settings(method: Method, quick: bool) -> dict[str, Any]:
    """What a method is given, with fewer epochs for a quick look."""
    result = dict(method.settings)
    if quick and "n_epochs" in result:
        result["n_epochs"] = min(result["n_epochs"] or 10**6, 30)
    return result


def run_all(todo: list[Cell], work: Path, environments: Path, n_jobs: int, progress: Progress, *, quick: bool) -> None:
    """Run what is missing and fits into the time: throughput one by one, then the others side by side."""
    pythons = {
        program: interpreter(environments, requirement, more=more, constraints=CONSTRAINTS)
        for program, (requirement, more) in REQUIREMENTS.items()
        if any(METHODS[cell.method].program == program for cell in todo)
    }
    prepared: dict[str, None] = {}
    one_at_a_time = Lock()

    def work_on(cell: Cell) -> None:
        if not progress.admits(cell.seconds):
            return
        with one_at_a_time:
            if cell.data not in prepared:
                prepare(cell.data, work, quick=quick)
                prepared[cell.data] = None
        progress.add(cell.file, run(cell, work, pythons))

    for cell in (c for c in todo if c.speed_only):
        work_on(cell)
    with ThreadPoolExecutor(n_jobs) as pool:
        list(pool.map(work_on, [cell for cell in todo if not cell.speed_only]))


def prepare(data: str, work: Path, *, quick: bool) -> None:
    """Make a data set in a process of its own, so that it does not count in anybody's memory."""
    folder = work / "data" / data
    if not (folder / "about.json").exists():
        ended = run_module("models.data", data, str(folder), *(["--quick"] if quick else []))
        if ended.returncode:
            raise SystemExit(f"{data}: cannot be made:\n{ended.stderr[-2000:]}")
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    write_json(about, about_path(work, data))


def restore(report: dict[str, Any], work: Path) -> None:
    """Write the trainings of a report where those of this machine lie; those that are there already stay."""
    for data, record in report["data"].items():
        write_json(record["about"], about_path(work, data))
        for row in record["rows"]:
            path = cell_path(work, Cell(**row["cell"]))
            if not path.exists():
                write_json(row, path)


def about_path(work: Path, data: str) -> Path:
    return work / "cells" / f"{data}.json"


def cell_path(work: Path, cell: Cell) -> Path:
    return work / "cells" / f"{cell.file}.json"


def done(cell: Cell, work: Path) -> bool:
    path = cell_path(work, cell)
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["cell"] == asdict(cell)


def run(cell: Cell, work: Path, pythons: dict[str, str]) -> str:
    """Train in a process of its own, and write the scores; returns what went wrong."""
    target = cell_path(work, cell)
    target.parent.mkdir(parents=True, exist_ok=True)
    method = METHODS[cell.method]
    folder, output, task_path = work / "data" / cell.data, target.with_suffix(".npz"), target.with_suffix(".task")
    task = {
        **asdict(cell),
        "program": method.program,
        "model": method.model,
        "basis": method.basis,
        "folder": str(folder),
        "patterns": str(folder / "known.npz"),
        "output": str(output),
        "budgeted": method.budgeted,
    }
    task_path.write_text(json.dumps(task), encoding="utf-8")
    python = pythons.get(method.program, sys.executable)
    module = "models.peers" if method.program in pythons else "models.ours"
    ended = run_module(module, str(task_path), python=python, threads=cell.threads or None)
    if ended.returncode:
        return f"failed:\n{ended.stderr[-2000:]}"
    found = dict(np.load(output))
    row = {"seconds": float(found["seconds"]) if "seconds" in found else None, "peak_mib": float(found["peak_mib"])}
    row |= {"rate": float(found["rate"]) if "rate" in found else None}
    row |= {"epochs": int(found["epochs"]) if "epochs" in found else None}
    if not cell.speed_only:
        row |= scores(found, Known.read(folder))
    write_json({"cell": asdict(cell), "scores": row}, target)
    output.unlink()
    task_path.unlink()
    return ""


def scores(output: dict[str, Any], reference: Known) -> dict[str, Any]:
    """Everything that a training is judged by."""
    about = reference.about
    agreement = angle_error(
        output["angle"].astype(float),
        reference.angle,
        symmetry=about["symmetry"],
        weight=reference.weight,
        use=reference.use,
    )
    r = correlations(output["latents"], reference.content)
    best = int(np.argmax(r)) if r else None
    row: dict[str, Any] = {
        "angle": asdict(agreement) if agreement else None,
        "r_each": r,
        "r": None if best is None else r[best],
        "r_others": max(r[:best] + r[best + 1 :], default=None) if best is not None else None,
        "seconds_to_95": None,
        "explained": None,
        "excess": None,
    }
    if best is not None and r[best] > LEARNED and "curve_latents" in output:
        curve = [correlations(latents, reference.content)[best] for latents in output["curve_latents"]]
        row["seconds_to_95"] = time_to_share(np.asarray(output["curve_seconds"]), np.asarray(curve))
    if "predicted" in output:
        held = ~reference.training
        predicted = output["predicted"].reshape(len(held), -1)[held].astype(float)
        mean = reference.patterns[reference.training].mean(axis=0, dtype=float).ravel()
        row["explained"] = explained(predicted, reference.target[held], mean)
        if about["counts"]:
            excess = poisson_excess(about["counts"] * reference.target[held].astype(float), about["counts"] * predicted)
            row["excess"] = float(excess.mean())
    return row


def joined(work: Path) -> dict[str, Any]:
    """All results that are there."""
    data = {}
    for name in [*SPEED_SETS, *DATA_SETS]:
        files = sorted((work / "cells" / name).glob("*.json"))
        if files:
            about = json.loads(about_path(work, name).read_text(encoding="utf-8"))
            data[name] = {"about": about, "rows": [json.loads(file.read_text(encoding="utf-8")) for file in files]}
    return {"machine": machine(), "data": data}
