"""The deflection of noisy scans as filters find it, against the noiseless one.

Run as ``python -m benchmarks.denoise``; writes ``benchmarks/results/denoise.json`` and its figure, and puts the tables
between the markers of ``benchmarks/README.md``. Every draw of a scan is a file under ``--work``, so that a run that was
stopped goes on where it was. It stops by itself after ``--minutes``; ``--full`` lets it run until everything is done.
Models are trained on the first draw of a scan only. Total variation is scikit-image's and parallax py4DSTEM's, which
get environments of their own under ``--environments``; what cannot be installed is left out.

``--quick`` takes two scans without the models; its tables are printed and nothing is written. ``--only`` takes some
scans, ``--seeds`` so many draws of each, ``--jobs`` draws side by side. ``--resume`` takes over the draws of a results
file. ``--renew`` scores `filter_com` and the models again in the draws that are there, and leaves everything else as it
was. ``--tables`` runs nothing and joins what is there.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import traceback
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.denoise.figure import draw
from benchmarks.denoise.methods import BOUNDS, OURS, Pythons, score_bounds, score_ours, score_scan
from benchmarks.denoise.scans import QUICK, SCANS
from benchmarks.denoise.scores import Score
from benchmarks.denoise.unseen import RECORDED, TITLE, score_unseen
from benchmarks.harness.cells import machine, write_json
from benchmarks.harness.comparison import Comparison, cells_as_json, read_report
from benchmarks.harness.environments import interpreter

__all__ = ["tables"]

_SEEDS = 3
_SECONDS, _SECONDS_WITH_MODELS = 40.0, 90.0
_REQUIREMENTS = {"variation": "scikit-image==0.26.0", "parallax": "py4DSTEM==0.14.18"}

_COLUMNS = {"angle": "angle (°)", "r": "r", "error": "rms error"}
_DIGITS = {"angle": 2, "r": 4, "error": 3}


@dataclass(frozen=True)
class Job:
    """One draw of a scan."""

    scan: str
    seed: int

    def path(self, work: Path) -> Path:
        """Where its result lies."""
        name = re.sub(r"[^0-9A-Za-z]+", "-", self.scan).strip("-")
        return work / "cells" / f"{name}-{self.seed}.json"

    @property
    def seconds(self) -> float:
        """Rough cost on one core."""
        return _SECONDS if self.seed else _SECONDS_WITH_MODELS


def main() -> None:
    warnings.filterwarnings("ignore")
    comparison = Comparison("denoise", tables, cells_as_json, draw)
    parser = comparison.parser(__doc__)
    parser.add_argument("--only", help="semicolon-separated names of scans")
    parser.add_argument("--seeds", type=int, default=_SEEDS, help="draws of each scan")
    parser.add_argument(
        "--renew", action="store_true", help="score filter_com and the models again in the draws that are there"
    )
    parser.add_argument("--environments", type=Path, help="a folder in --work by default")
    chosen = parser.parse_args()
    work = comparison.work(chosen)
    jobs = all_jobs(chosen)
    comparison.require_page(chosen)
    if chosen.resume:
        restore(read_report(chosen.resume), work)
    todo = [job for job in jobs if job.path(work).exists() == chosen.renew]
    progress = comparison.progress(chosen, len(todo))
    if todo and not chosen.tables:
        environments = chosen.environments or chosen.work / "environments"
        pythons = Pythons() if chosen.renew else _install(environments, quick=chosen.quick)
        with ProcessPoolExecutor(chosen.jobs, get_context("spawn"), _start) as pool:
            running = {}
            for job in todo:
                # no more is handed out than can run, so that the time left decides what is
                if len(running) == chosen.jobs:
                    _collect(running, progress)
                if progress.admits(job.seconds):
                    submitted = pool.submit(
                        run, job, job.path(work), pythons, with_models=not chosen.quick, renew=chosen.renew
                    )
                    running[submitted] = job
            while running:
                _collect(running, progress)
    comparison.finish(joined(work), chosen, progress)


def all_jobs(chosen: argparse.Namespace) -> list[Job]:
    """Every draw that was asked for, all scans once before any is drawn again; a recorded scan is there once."""
    known = [*SCANS, TITLE]
    names = chosen.only.split(";") if chosen.only else QUICK if chosen.quick else known
    if unknown := set(names) - set(known):
        raise SystemExit(f"{'; '.join(sorted(unknown))}: unknown; known are {'; '.join(known)}")
    if TITLE in names and not RECORDED.exists():
        print(f"{RECORDED}: is missing, so the recorded scan is left out", file=sys.stderr)
        names = [name for name in names if name != TITLE]
    n_seeds = 1 if chosen.quick else chosen.seeds
    return [Job(name, seed) for seed in range(n_seeds) for name in names if name != TITLE or not seed]


def _install(environments: Path, *, quick: bool) -> Pythons:
    """Interpreters of other programs; a quick look has no scan that parallax is for."""
    found = {}
    for name, requirement in _REQUIREMENTS.items():
        if quick and name == "parallax":
            continue
        try:
            found[name] = interpreter(environments, requirement)
        except subprocess.CalledProcessError:
            print(f"{requirement} cannot be installed and is left out", file=sys.stderr)
    return Pythons(**found)


def _start() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)


def _collect(running: dict[Any, Job], progress: Any) -> None:
    """Wait for the first that ends."""
    ended = next(as_completed(running))
    job = running.pop(ended)
    progress.add(f"{job.scan}, draw {job.seed}", ended.result())


def run(job: Job, path: Path, pythons: Pythons, *, with_models: bool, renew: bool) -> str:
    """Score one draw; returns what went wrong."""
    rows: dict[str, Any] = {}
    try:
        if renew:
            rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        rows |= {name: vars(row) for name, row in _score(job, pythons, with_models, renew).items()}
    except Exception:
        return f"failed:\n{traceback.format_exc()[-2000:]}"
    write_json({"cell": vars(job), "rows": rows}, path)
    return ""


def _score(job: Job, pythons: Pythons, with_models: bool, renew: bool) -> dict[str, Score]:
    if job.scan == TITLE:
        return score_unseen(pythons)
    scan, is_first = SCANS[job.scan], job.seed == 0
    if renew:
        return score_ours(scan, job.seed, with_models=with_models and is_first)
    rows = score_scan(scan, job.seed, pythons, with_models=with_models and is_first)
    return rows | (score_bounds(scan) if is_first else {})


def restore(report: dict[str, Any], work: Path) -> None:
    """Write the draws of a report where those of this machine lie; those that are there already stay."""
    for record in report["cells"]:
        path = Job(**record["cell"]).path(work)
        if not path.exists():
            write_json(record, path)


def joined(work: Path) -> dict[str, Any]:
    """All results that are there, in the order of the tables."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in (work / "cells").glob("*.json")]
    order = [*SCANS, TITLE]
    cells.sort(key=lambda record: (order.index(record["cell"]["scan"]), record["cell"]["seed"]))
    return {"machine": machine(), "cells": cells}


def tables(report: dict[str, Any]) -> str:
    """Make a summary, and a table for each scan: means and standard deviations over its draws, the best in bold."""
    draws: dict[str, list[dict[str, Any]]] = {}
    for record in report["cells"]:
        draws.setdefault(record["cell"]["scan"], []).append(record["rows"])
    lines = [*_summary({name: each for name, each in draws.items() if name != TITLE}), ""]
    for name, each in draws.items():
        lines += [f"**{name}** ({len(each)} {'draws' if len(each) > 1 else 'draw'})", ""]
        lines += (_unseen_table(each[0]) if name == TITLE else _table(each)) + [""]
    return "\n".join(lines)


def _summary(draws: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Angle errors in a line for each scan; of the others the one that is best there."""
    lines = [
        "| angle error (°) | COM | `filter_com` | best of the others | | bound, disc alone |",
        "|---|---|---|---|---|---|",
    ]
    for scan, each in draws.items():
        parts = _methods(each)
        means = {name: float(np.mean([part.angle for part in of_one])) for name, of_one in parts.items()}
        others = [name for name in means if name not in (*BOUNDS, OURS, "COM")]
        best = min(others, key=lambda name: means[name])
        written = {name: f"{means[name]:.2f}" for name in ("COM", OURS, best) if name in means}
        least = min(written.values(), key=float)
        cells = [f"**{text}**" if text == least else text for text in written.values()]
        bound = next((f"{means[name]:.2f}" for name in BOUNDS if name in means), "")
        lines.append(f"| {scan} | {' | '.join(cells)} | {best} | {bound} |")
    return lines


def _methods(draws: Sequence[dict[str, Any]]) -> dict[str, list[Score]]:
    """Scores of each method, bounds last."""
    names = [name for name in draws[0] if name not in BOUNDS] + [name for name in BOUNDS if name in draws[0]]
    return {name: [Score(**draw[name]) for draw in draws if name in draw] for name in names}


def _table(draws: Sequence[dict[str, Any]]) -> list[str]:
    parts = _methods(draws)
    with_defects = any(part[0].kept is not None for part in parts.values())
    best = {}
    for key in _COLUMNS:
        means = {name: _mean(part, key) for name, part in parts.items() if name not in BOUNDS}
        written = {name: _written(mean, key) for name, mean in means.items() if mean is not None}
        best[key] = (max if key == "r" else min)(written.values(), key=float)
    extra = ["defects kept"] if with_defects else []
    header = ["method", *_COLUMNS.values(), *extra, "within 68, 95 %"]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for name, part in parts.items():
        cells = [name]
        for key in _COLUMNS:
            mean = _mean(part, key)
            text = "" if mean is None else _written(mean, key)
            is_best = text == best[key] and name not in BOUNDS
            cells.append(f"**{text}**{_spread(part, key)}" if is_best else f"{text}{_spread(part, key)}")
        if with_defects:
            cells.append("" if part[0].kept is None else f"{np.mean([each.kept for each in part]):.2f}")
        shares = [each.coverage for each in part if each.coverage is not None]
        cells.append(", ".join(f"{100 * share:.0f}" for share in np.mean(shares, axis=0)) if shares else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _mean(part: Sequence[Score], key: str) -> float | None:
    values = [getattr(each, key) for each in part]
    return None if values[0] is None else float(np.mean(values))


def _written(mean: float, key: str) -> str:
    return f"{mean:.{_DIGITS[key]}f}"


def _spread(part: Sequence[Score], key: str) -> str:
    values = [getattr(each, key) for each in part]
    return f" ± {np.std(values, ddof=1):.{_DIGITS[key]}f}" if len(values) > 1 and values[0] is not None else ""


def _unseen_table(rows: dict[str, Any]) -> list[str]:
    best = min(f"{row['error']:.3f}" for row in rows.values() if row["error"] is not None)
    lines = ["| method | angle (°) | r | rms difference over noise |", "|---|---|---|---|"]
    for name, row in rows.items():
        size = f"{row['error']:.3f}"
        lines.append(f"| {name} | {row['angle']:.2f} | {row['r']:.4f} | {f'**{size}**' if size == best else size} |")
    return lines
