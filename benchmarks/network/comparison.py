"""What the network adds to the closed form, where content bends: thick crystals, wedges, sheets, defocus.

Run as ``python -m benchmarks.network``; writes ``benchmarks/results/network.json``, and puts the table between the
markers of ``benchmarks/README.md``. Every scan is a process of its own and a file under ``--work``, so that a run that
was stopped goes on where it was. It stops by itself after ``--minutes``; ``--full`` lets it run until everything is
done.

``--quick`` takes graphene with one seed; its table is printed and nothing is written. ``--resume`` takes over the scans
of a results file, ``--tables`` runs nothing and joins what is there.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness.cells import machine, run_module, write_json
from benchmarks.harness.comparison import Comparison, cells_as_json, read_report
from benchmarks.network.scenes import SCENES, Scene
from benchmarks.network.tables import tables

N_SEEDS = 3
SECONDS = 90.0

COMPARISON = Comparison("network", tables, cells_as_json)


def main() -> None:
    chosen = COMPARISON.parser(__doc__).parse_args()
    work = COMPARISON.work(chosen)
    COMPARISON.require_page(chosen)
    scenes = SCENES[:1] if chosen.quick else SCENES
    if chosen.resume:
        for record in read_report(chosen.resume)["cells"]:
            path = place(record["cell"]["name"], record["cell"]["dose"], work)
            if not path.exists():
                write_json(record, path)
    todo = [scene for scene in scenes if not place(scene.name, scene.dose, work).exists()]
    progress = COMPARISON.progress(chosen, len(todo))

    def work_on(scene: Scene) -> None:
        if progress.admits(SECONDS):
            progress.add(scene.name, run(scene, work, 1 if chosen.quick else N_SEEDS))

    if not chosen.tables:
        with ThreadPoolExecutor(chosen.jobs) as pool:
            list(pool.map(work_on, todo))
    done = [path for scene in scenes if (path := place(scene.name, scene.dose, work)).exists()]
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in done]
    COMPARISON.finish({"machine": machine(), "cells": cells}, chosen, progress)


def place(name: str, dose: float | None, work: Path) -> Path:
    """Where the result of a scan lies."""
    words = "-".join("".join(c if c.isalnum() else " " for c in name).split())
    return work / "cells" / f"{words}-{'noiseless' if dose is None else f'{dose:g}'}.json"


def run(scene: Scene, work: Path, n_seeds: int) -> str:
    """Score one scan in a process of its own; returns what went wrong."""
    output = place(scene.name, scene.dose, work)
    task_path = output.with_suffix(".task")
    task_path.parent.mkdir(parents=True, exist_ok=True)
    task = {"scene": asdict(scene), "n_seeds": n_seeds, "output": str(output)}
    task_path.write_text(json.dumps(task), encoding="utf-8")
    ended = run_module("network.one_scan", str(task_path), threads=1)
    task_path.unlink()
    return f"failed:\n{ended.stderr[-2000:]}" if ended.returncode else ""
