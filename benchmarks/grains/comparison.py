"""Orientation of grains in nanobeam scans of polycrystals: `RotationVAE`, and the phase of the dominant harmonic.

Run as ``python -m benchmarks.grains``; writes ``benchmarks/results/grains.json``, and puts the tables between the
markers of ``benchmarks/README.md``. Every scan is a process of its own and a file under ``--work``, so that a run that
was stopped goes on where it was. It stops by itself after ``--minutes``; ``--full`` lets it run until everything is
done.

``--quick`` takes four small scans and few epochs; its tables are printed and nothing is written. ``--seeds`` takes so
many draws of each scan, ``--jobs`` scans side by side. ``--resume`` takes over the scans of a results file.
``--tables`` runs nothing and joins what is there.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.grains.scenes import Scene
from benchmarks.grains.tables import tables
from benchmarks.harness.cells import Progress, machine, run_module, write_json
from benchmarks.harness.comparison import Comparison, cells_as_json, read_report

__all__ = ["SCENES"]

LATTICES = ("hexagon", "square", "two-fold")

SCENES = [
    Scene(lattice=lattice, beam=beam, dose=dose, n_grains=n_grains, size=128)
    for lattice, beam, dose, n_grains in product(LATTICES, (2.0, 10.0), (50_000.0, 1_000.0), (14, 80))
] + [
    Scene(beam=beam, dose=dose, n_grains=n_grains, size=256)
    for beam, dose, n_grains in product((2.0, 10.0), (50_000.0, 1_000.0), (14, 80))
]
"""Scans of 24 x 24 positions."""

QUICK_EPOCHS = 10
# a scan of 256 x 256 pixels takes twice as long
SECONDS, LARGE_SECONDS = 40.0, 80.0

COMPARISON = Comparison("grains", tables, cells_as_json)


def main() -> None:
    parser = COMPARISON.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="draws of each scan")
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
    """Every scan that was asked for, all once before any is drawn again."""
    if chosen.quick:
        return [Scene(lattice=lattice, size=64, scan=16, beam=beam) for lattice in LATTICES[:2] for beam in (2.0, 5.0)]
    return [replace(scene, seed=seed) for seed in range(chosen.seeds) for scene in SCENES]


def place(scene: Scene, work: Path) -> Path:
    """Where the result of a scan lies."""
    name = f"{scene.lattice}-{scene.size}-{scene.beam:g}-{scene.n_grains}-{scene.dose:g}-{scene.seed}.json"
    return work / "cells" / name


def run_all(todo: list[Scene], work: Path, chosen: argparse.Namespace, progress: Progress) -> None:
    """Run what fits into the time, side by side."""

    def work_on(scene: Scene) -> None:
        if progress.admits(LARGE_SECONDS if scene.size > 128 else SECONDS):
            progress.add(place(scene, work).stem, run(scene, work, quick=chosen.quick))

    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(work_on, todo))


def run(scene: Scene, work: Path, *, quick: bool) -> str:
    """Score one scan in a process of its own; returns what went wrong."""
    output = place(scene, work)
    task_path = output.with_suffix(".task")
    task_path.parent.mkdir(parents=True, exist_ok=True)
    task = {"scene": asdict(scene), "n_epochs": QUICK_EPOCHS if quick else None, "output": str(output)}
    task_path.write_text(json.dumps(task), encoding="utf-8")
    ended = run_module("grains.one_scan", str(task_path), threads=1)
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

    def order(record: dict[str, Any]) -> tuple[Any, ...]:
        cell = record["cell"]
        return (
            cell["size"],
            LATTICES.index(cell["lattice"]),
            cell["beam"],
            -cell["dose"],
            cell["n_grains"],
            cell["seed"],
        )

    return {"machine": machine(), "cells": sorted(cells, key=order)}
