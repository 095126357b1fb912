"""Runs that are killed at random moments and started again: are they the same as one that was left alone?

``python tests/kills.py 20`` kills 20 runs, prints a line for each, and fails where one differs. The suite does a few.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from stemvane.config import Config
from stemvane.io.files import save_dataset
from stemvane.simulation.synthetic import synthetic

TIMES = ("train_seconds", "train_patterns_per_second", "total_seconds", "peak_memory_mb")
SETTINGS = Config().replace(
    training={"n_epochs": 4, "holdout": 0.2},
    compare={"n_turned": 8},
    align={"n_iterations": 4},
    basis={"n_features": 16},
    figures={"manifold": 2, "dpi": 50},
    measure={"n_pixels": 6},
)
COMMAND = ["run", "scan.zarr", "-o", "run", "--config", "settings.toml", "--scan-rotation", "10"]

# forks a process for each command, so that what takes seconds to import is imported once; pages are left empty, since
# drawing them takes two thirds of so small a run, in which most kills would fall, and is the same after a kill
FORKING = """
import json, os, sys
import sklearn.metrics, torch
import stemvane.workflow.pipeline
from matplotlib.figure import Figure
from stemvane.cli.app import main
from stemvane.figures import saving
from stemvane.models import harmonic_model

harmonic_model.best_noise_variance = lambda model, features: 0.01  # most of so small a training
for page in ("overview_page", "field_page", "agreement_page", "history_page"):
    setattr(saving, page, lambda *_: Figure((1, 1)))

for line in sys.stdin:
    folder, arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        sys.argv = ["stemvane", *arguments]
        os.dup2(os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 99
        # PyTorch's compiler takes a second to import, and nothing needs it
        if code == 0 and "torch._dynamo" in sys.modules:
            code = 98
        sys.stdout.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Killed:
    """One run that was killed and started again."""

    seconds: float
    number: int
    code: int
    stage: str
    resumed: tuple[str, ...]
    differences: tuple[str, ...]

    def __str__(self):
        name = signal.Signals(self.number).name
        taken = ", ".join(self.resumed) or "nothing"
        end = "; ".join(self.differences) or "the same bits"
        return (
            f"{name:8} at {self.seconds:6.2f} s, exit {self.code:4}, during {self.stage:8} taken over: {taken}: {end}"
        )


class Forker:
    """Starts commands in processes forked from one that has imported everything."""

    def __enter__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
        self._process = subprocess.Popen([sys.executable, "-c", FORKING], **streams)
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, folder, arguments=COMMAND):
        self._process.stdin.write(json.dumps([str(folder), arguments]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def ends_within(self, seconds):
        """Whether the command that was started last ends within a time, which is waited for."""
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def wait(self):
        return int(self._process.stdout.readline())


def content(run):
    """All that must not depend on whether a run was killed: arrays, numbers, the model, names of files."""
    bits = {
        file.relative_to(run).as_posix(): b""
        for file in run.rglob("*")
        if file.is_file() and not any(part.name.endswith(".zarr") for part in file.parents)
    }
    for name in ("config.toml", "model.toml", "model.safetensors", "history.csv"):
        bits[name] = (run / name).read_bytes()
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    bits |= {f"metrics.json: {key}": repr(value).encode() for key, value in metrics.items() if key not in TIMES}
    for store in ("measurements.zarr", "embedding.zarr"):
        group = zarr.open_group(run / store, mode="r")
        bits[store] = json.dumps(dict(group.attrs), sort_keys=True).encode()
        for name, array in group.members(max_depth=None):
            if isinstance(array, zarr.Array):
                bits[f"{store}/{name}"] = np.ascontiguousarray(array[...]).tobytes()
    return bits


def prepare(folder, dose):
    """A small scan and quick settings."""
    folder.mkdir(parents=True)
    save_dataset(synthetic((8, 8), (16, 16), dose=dose)[0], folder / "scan.zarr")
    (folder / "settings.toml").write_text(SETTINGS.to_toml(), encoding="utf-8")


def copy_scan(source, place):
    """What a run is made from, in a new folder; the times of the files are the same to the nanosecond."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place, ignore=shutil.ignore_patterns("run", "said.txt"))
    for file in (place / "scan.zarr").rglob("*"):
        state = (source / file.relative_to(place)).stat()
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def running_stage(folder):
    """Stage that was running when a run was killed: the one after the last that its manifest says is complete."""
    stages = ["source", "survey", "measure", "learn", "read", "figures"]
    manifest = folder / ".run.partial" / "manifest.json"
    if not manifest.exists():
        return "start" if not (folder / "run").exists() else "end"
    known = json.loads(manifest.read_text(encoding="utf-8"))["stages"]
    complete = [name for name in stages if known.get(name, {}).get("complete")]
    return stages[len(complete)] if len(complete) < len(stages) else "end"


def kill_runs(folder, n, seed=0, dose=1e4):
    """Kill runs at random moments, one in each n-th of the time of a whole one, and start each again.

    SIGKILL and SIGTERM take turns. Yields a `Killed` for each.
    """
    rng = np.random.default_rng(seed)
    with Forker() as forker:
        prepare(folder / "whole", dose)
        began = time.perf_counter()
        forker.start(folder / "whole")
        assert forker.wait() == 0, (folder / "whole" / "said.txt").read_text(encoding="utf-8")
        duration = time.perf_counter() - began
        expected = content(folder / "whole" / "run")
        for number in range(n):
            moment = (number + rng.random()) / n
            place = folder / f"killed-{number}"
            kind = (signal.SIGKILL, signal.SIGTERM)[number % 2]
            code = 0
            while code == 0:
                copy_scan(folder / "whole", place)
                seconds, began = duration * moment, time.perf_counter()
                child = forker.start(place)
                if forker.ends_within(seconds):  # it was quicker than the one before
                    duration, moment = time.perf_counter() - began, 0.95 * moment
                else:
                    with suppress(ProcessLookupError):
                        os.kill(child, kind)
                code, stage = forker.wait(), running_stage(place)
            forker.start(place)
            assert forker.wait() == 0, (place / "said.txt").read_text(encoding="utf-8")
            bits = content(place / "run")
            differences = [name for name in sorted(bits.keys() | expected) if bits.get(name) != expected.get(name)]
            differences += sorted(entry.name for entry in place.iterdir() if entry.name.startswith("."))
            said = (place / "said.txt").read_text(encoding="utf-8")
            differences += [f"Traceback{end}" for end in said.split("Traceback")[1:]]
            manifest = json.loads((place / "run" / "manifest.json").read_text(encoding="utf-8"))
            yield Killed(seconds, kind, code, stage, tuple(manifest["resumed"]), tuple(differences))
            shutil.rmtree(place)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        ends = []
        for end in kill_runs(Path(place), int(sys.argv[1]), seed=int(sys.argv[2]) if len(sys.argv) > 2 else 0):
            sys.stdout.write(f"{end}\n")
            sys.stdout.flush()
            ends.append(end)
    n_same = sum(not end.differences for end in ends)
    sys.stdout.write(f"{n_same} of {len(ends)} runs are the same as one that was not killed\n")
    sys.exit(n_same < len(ends))
