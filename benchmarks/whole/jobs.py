"""What is timed: commands and the data that they are given."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.cells import ROOT

__all__ = ["JOBS", "SCALE", "Job", "one_round"]

_CALIBRATION = ("--energy", "60keV", "--semiangle", "20", "--scan-step", "0.6")
# electrons per pattern: noisy enough to be filtered, as most recorded scans are
_DOSE = 2000.0
# of the scan that is simulated, and then repeated to the size that is asked for
_TILE = 64
_COMMAND = "from stemvane.cli.app import main; main()"
_LEARN = """
import sys
import stemvane
measurements = stemvane.measure(stemvane.open_dataset(sys.argv[1], energy=6e4, convergence_semiangle=20, scan_step=0.6))
from time import perf_counter
start = perf_counter()
stemvane.RotationVAE(2).fit(measurements)
print(perf_counter() - start)
"""


@dataclass(frozen=True)
class Job:
    """One command, and what it should take.

    Attributes
    ----------
    name : str
        Its row in the table.
    kind : str
        ``demo``, ``run``, ``one pass``, ``workers``, ``learn``, ``help`` or ``import``.
    positions, pixels : int
        Sides of scan and detector; 0 where there is no file.
    aim : float
        Seconds that it should take at most; 0 where no aim was set.
    seconds : float
        What one round takes about, to stop in time.
    is_compared : bool
        Whether an earlier state is timed, too.
    """

    name: str
    kind: str
    positions: int = 0
    pixels: int = 0
    aim: float = 0.0
    seconds: float = 10.0
    is_compared: bool = True


JOBS = [
    Job("`import stemvane`", "import", aim=0.15, seconds=1),
    Job("`stemvane --help`", "help", aim=0.4, seconds=1),
    Job("`stemvane demo`, all stages", "demo", aim=10, seconds=15),
    Job("`stemvane run`, 16² positions of 256² pixels", "run", 16, 256, aim=6, seconds=12),
    Job("16 patterns of 512² pixels, learn", "learn", 4, 512, aim=3, seconds=10),
    Job("`stemvane run`, 256² positions of 32² pixels", "run", 256, 32, aim=15, seconds=40),
    Job("`stemvane run`, 512² positions of 32² pixels", "run", 512, 32, aim=40, seconds=120, is_compared=False),
]
SCALE = [
    *(Job(f"{n}² positions of 32² pixels", "run", n, 32, seconds=10 + n**2 / 2500) for n in (64, 128, 256, 512, 1024)),
    *(Job(f"32² positions of {n}² pixels", "run", 32, n, seconds=15) for n in (32, 64, 128, 256, 512)),
    *(Job(f"{n}² positions of 32² pixels, no patterns kept", "one pass", n, 32, seconds=n / 6) for n in (256, 512)),
    *(Job(f"{n}² positions of {m}² pixels, workers", "workers", n, m, seconds=90) for n, m in ((256, 32), (64, 256))),
]


def data(job: Job, folder: Path) -> Path:
    """File of counts of a job, made where it is missing: a simulated scan of 64² positions, repeated."""
    path = folder / f"{job.positions}x{job.pixels}.npy"
    if not path.exists():
        from stemvane import synthetic

        side = min(job.positions, _TILE)
        dataset, _ = synthetic((side, side), (job.pixels, job.pixels), dose=_DOSE, seed=1)
        counts = np.asarray(dataset.data).astype(np.uint16)
        n = -(-job.positions // side)
        partial = path.with_suffix(".partial.npy")
        shape = (job.positions, job.positions, job.pixels, job.pixels)
        out = np.lib.format.open_memmap(partial, "w+", np.uint16, shape)
        # every copy has noise of its own, or the filter would see a period
        random = np.random.default_rng(0)
        for row in range(n):
            for column in range(n):
                at = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
                part = out[at]
                out[at] = (counts if n == 1 else random.poisson(np.asarray(dataset.expectation)))[
                    : part.shape[0], : part.shape[1]
                ]
        out.flush()
        partial.rename(path)
    return path


def one_round(job: Job, source: Path, folder: Path) -> dict[str, Any]:
    """Run a job once in a process of its own.

    Parameters
    ----------
    job : Job
        What is run.
    source : Path
        Folder ``src`` of the version that is run.
    folder : Path
        Where data and runs lie.

    Returns
    -------
    dict
        ``seconds``, ``cpu_seconds``, ``memory_mb`` of the process, and ``stages``, seconds of each; of ``learn`` the
        training alone. Of runs also ``memory_by_stage``, the largest up to the end of each, ``stored_mb``, the size of
        the measurements, and ``angle_std_deg``, the median error that the angle is said to have; of ``workers`` what
        `compare_workers` reports.
    """
    output = folder / "run"
    arguments: Callable[[], list[str]] = {
        "import": lambda: ["-c", "import stemvane"],
        "help": lambda: ["-c", _COMMAND, "--help"],
        "demo": lambda: ["-c", _COMMAND, "demo", "-o", str(output), "--overwrite"],
        "run": lambda: run_of(job, folder, output),
        "one pass": lambda: [*run_of(job, folder, output), "--set", "measure.keep_polar=false"],
        "workers": lambda: ["-m", "benchmarks.whole.workers", str(data(job, folder)), str(64 / job.pixels)],
        "learn": lambda: ["-c", _LEARN, str(data(job, folder))],
    }[job.kind]
    words = [sys.executable, *arguments()]
    printed = folder / "printed.txt"
    with printed.open("w") as out:
        start = time.perf_counter()
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, out.fileno(), 2)]
        # as an installed package, whose modules are compiled
        modules = os.pathsep.join([str(source), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": modules, "PYTHONDONTWRITEBYTECODE": ""}
        process = os.posix_spawn(words[0], words, environment, file_actions=actions)
        _, status, usage = os.wait4(process, 0)
        seconds = time.perf_counter() - start
    text = printed.read_text(encoding="utf-8")
    if status:
        raise RuntimeError(f"{' '.join(words)}: {text.strip().splitlines()[-1] if text.strip() else status}")
    result: dict[str, Any] = {
        "seconds": float(text.split()[-1]) if job.kind == "learn" else seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "memory_mb": usage.ru_maxrss * 1024 / 1e6,
        "stages": {},
    }
    if job.kind in ("demo", "run", "one pass"):
        manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
        metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
        result["stages"] = {name: record["wall_seconds"] for name, record in manifest["stages"].items()}
        result["memory_by_stage"] = {name: record["peak_memory_mb"] for name, record in manifest["stages"].items()}
        result["stored_mb"] = manifest["bytes"]["measurements.zarr"] / 1e6
        result["angle_std_deg"] = metrics["angle_std_median_deg"]
    if job.kind == "workers":
        result |= json.loads(text.splitlines()[-1])
    return result


def run_of(job: Job, folder: Path, output: Path) -> list[str]:
    """Arguments of Python for ``stemvane run`` on a job's file."""
    return [
        *("-c", _COMMAND, "run", str(data(job, folder)), "-o", str(output), "--overwrite"),
        *(*_CALIBRATION, "--pixel", str(64 / job.pixels)),
    ]
