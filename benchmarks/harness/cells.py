"""Results that are complete files or missing, the machine they were made on, and processes of their own for each."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Progress", "machine", "run_module", "write_json"]

ROOT = Path(__file__).parents[2]
"""The repository, from which modules of ``benchmarks`` are started."""


def machine() -> dict[str, Any]:
    """Describe the machine on which a comparison is made, and when."""
    return {
        "processors": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a file that is complete or missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, default=float) + "\n", encoding="utf-8")
    partial.rename(path)


def run_module(
    module: str, *arguments: str, python: str = sys.executable, threads: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a module of ``benchmarks`` in a process of its own, and return what it printed.

    Parameters
    ----------
    module : str
        Below ``benchmarks``: ``"models.peers"``.
    *arguments : str
        Absolute paths and options.
    python : str
        The interpreter, which may be one of another environment.
    threads : int, optional
        Number of threads for numerical libraries; their own choice where it is left out.
    """
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    limited = {} if threads is None else dict.fromkeys(limits, str(threads))
    command = [python, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **limited})


@dataclass
class Progress:
    """Counts pieces of work as they are done, and starts none that would end too late.

    Parameters
    ----------
    total : int
        Number of pieces of work.
    minutes : float, optional
        Time from `start` after which nothing should run; no limit where it is left out. One piece is always done.
    start : float
        Reading of ``time.perf_counter`` from which time is counted.
    """

    total: int
    minutes: float | None = None
    start: float = field(default_factory=time.perf_counter)
    n_started: int = 0
    n_finished: int = 0
    n_failed: int = 0
    n_postponed: int = 0

    def admits(self, seconds: float) -> bool:
        """Whether a piece that takes so many seconds may start; one that may not is counted as postponed."""
        elapsed = time.perf_counter() - self.start
        if self.minutes is not None and self.n_started and elapsed + seconds > 60 * self.minutes:
            self.n_postponed += 1
            return False
        self.n_started += 1
        return True

    def add(self, what: str, trouble: str) -> None:
        """Count one piece as finished, and as failed where something went wrong with it."""
        self.n_finished += 1
        self.n_failed += bool(trouble)
        hours = (time.perf_counter() - self.start) / 3600
        print(f"{self.n_finished} of {self.total}, {hours:.2f} h: {what} {trouble}", file=sys.stderr, flush=True)
