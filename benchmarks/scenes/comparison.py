"""Searches for defects in scans as they are recorded, scene by scene: ours, pooled dark field, unit-cell averaging.

Run as ``python -m benchmarks.scenes``; writes ``benchmarks/results/scenes.json``, and puts the tables between the
markers of ``benchmarks/README.md``. Every scan is a process of its own and a file under ``--work``, with the figure of
its defects beside it, so that a run that was stopped goes on where it was. It stops by itself after ``--minutes``;
``--full`` lets it run until everything is done.

``--quick`` takes one scene of three classes at one step and dose; its tables are printed and nothing is written.
``--seeds`` takes so many scenes of each class, ``--classes`` some of the classes. ``--resume`` takes over the scans of
a results file. ``--tables`` runs nothing and joins what is there.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.harness.cells import Progress, machine, run_module, write_json
from benchmarks.harness.comparison import Comparison, cells_as_json, read_report
from benchmarks.scenes.scans import DOSES, STEPS, Scene
from benchmarks.scenes.specimens import CLASSES
from benchmarks.scenes.tables import tables

QUICK = ("clean", "contaminated", "grains")
# of simulating a scene, and of recording and searching it, by step
SIMULATION_SECONDS, SECONDS = 60.0, {0.16: 60.0, 0.36: 15.0}

COMPARISON = Comparison("scenes", tables, cells_as_json)


def main() -> None:
    parser = COMPARISON.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="scenes of each class")
    parser.add_argument("--classes", help=f"comma-separated: {', '.join(CLASSES)}")
    chosen = parser.parse_args()
    work = COMPARISON.work(chosen)
    COMPARISON.require_page(chosen)
    if chosen.resume:
        restore(read_report(chosen.resume), work)
    todo = [scene for scene in all_scenes(chosen) if not place(scene, work).exists()]
    progress = COMPARISON.progress(chosen, len(todo))
    if not chosen.tables:
        run_all(todo, work, chosen, progress)
    COMPARISON.finish(joined(work), chosen, progress)


def all_scenes(chosen: argparse.Namespace) -> list[Scene]:
    """Every scan that was asked for: the coarse step of all scenes before the fine one."""
    names = chosen.classes.split(",") if chosen.classes else list(QUICK if chosen.quick else CLASSES)
    if unknown := set(names) - set(CLASSES):
        raise SystemExit(f"{', '.join(sorted(unknown))}: unknown; the classes are {', '.join(CLASSES)}")
    if chosen.quick:
        return [Scene(name, 0, STEPS[1], DOSES[1]) for name in names]
    return [
        Scene(name, seed, step, dose)
        for step in reversed(STEPS)
        for seed in range(chosen.seeds)
        for dose in DOSES
        for name in names
    ]


def place(scene: Scene, work: Path) -> Path:
    """Where the result of a scan lies."""
    return work / "cells" / f"{scene.name}-{scene.seed}-{scene.step:g}-{scene.dose:.0f}.json"


def run_all(todo: list[Scene], work: Path, chosen: argparse.Namespace, progress: Progress) -> None:
    """Run what fits into the time, side by side; what two scans share is simulated by the first."""
    data = chosen.work.absolute() / "data"
    simulating: dict[tuple[str, int], Lock] = defaultdict(Lock)

    def work_on(scene: Scene) -> None:
        with simulating[scene.name, scene.seed]:
            is_simulated = (data / f"{scene.name}-{scene.seed}.zarr").exists()
            if progress.admits(SECONDS[scene.step] + (0.0 if is_simulated else SIMULATION_SECONDS)):
                progress.add(place(scene, work).stem, run(scene, work, data))

    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(work_on, todo))


def run(scene: Scene, work: Path, data: Path) -> str:
    """Score one scan in a process of its own; returns what went wrong."""
    output = place(scene, work)
    task_path = output.with_suffix(".task")
    task_path.parent.mkdir(parents=True, exist_ok=True)
    task = {"scene": asdict(scene), "output": str(output), "data": str(data)}
    task_path.write_text(json.dumps(task), encoding="utf-8")
    ended = run_module("scenes.one_scan", str(task_path), threads=1)
    task_path.unlink()
    return f"failed:\n{ended.stderr[-2000:]}" if ended.returncode else ""


def restore(report: dict[str, Any], work: Path) -> None:
    """Write the scans of a report where those of this machine lie; those that are there already stay."""
    for record in report["cells"]:
        path = place(Scene(**record["cell"]), work)
        if not path.exists():
            write_json(record, path)


def joined(work: Path) -> dict[str, Any]:
    """All results that are there, in the order of the tables."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((work / "cells").glob("*.json"))]
    names = list(CLASSES)

    def order(record: dict[str, Any]) -> tuple[Any, ...]:
        cell = record["cell"]
        return names.index(cell["name"]), cell["step"], -cell["dose"], cell["seed"]

    return {"machine": machine(), "cells": sorted(cells, key=order)}
