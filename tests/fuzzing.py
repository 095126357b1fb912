"""Damaged variants of a file, opened in another process with a limit on memory and time.

That process names each variant before it opens it. It is forked from one that has imported everything.
"""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import reader_files as made

MEMORY = 4 * 2**30
PATIENCE = 20.0
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["stemvane.io.files", "h5py", "hdf5plugin", "rsciio", "zarr", "dask.array"])
_MOST_BYTES = 2**26
_NUMBERS = (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 3 + b"\x7f", b"\xff\xff\0\0", b"\0\0\xff\xff")


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """One variant: bytes flipped, cut off, wiped, put in twice, or a number replaced by an extreme one."""
    content = bytearray(whole)
    near = min(len(content), 2048) if rng.random() < 0.5 else len(content)  # headers are at the beginning
    at, n = int(rng.integers(near)), int(rng.integers(1, 64))
    kind = rng.integers(6)
    if kind <= 1:
        for place in rng.integers(near, size=rng.integers(1, 12)):
            content[place] = rng.integers(256)
    elif kind == 2:
        del content[at:]
    elif kind == 3:
        content[at : at + n] = bytes(len(content[at : at + n]))
    elif kind == 4:
        content[at:at] = content[at : at + n]
    else:
        number = _NUMBERS[rng.integers(len(_NUMBERS))]
        content[at : at + len(number)] = number
    return bytes(content)


def spoil(path: Path, seed: int) -> str:
    """Damage one file of a data set, or remove it now and then; say which."""
    rng = np.random.default_rng(seed)
    folder = path if path.is_dir() else path.parent
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    chosen = path if path.is_file() and rng.random() < 0.6 else files[rng.integers(len(files))]
    if len(files) > 1 and rng.random() < 0.05:
        chosen.unlink()
    else:
        chosen.write_bytes(damaged(chosen.read_bytes(), rng))
    return chosen.name


def look(path: Path, options: dict) -> str:
    """Open a file and read it; anything but a data set or a `StemvaneError` is a fault."""
    from stemvane.errors import StemvaneError
    from stemvane.io.files import open_dataset

    try:
        dataset = open_dataset(path, **options)
        whole = dataset.data.nbytes <= _MOST_BYTES
        patterns = dataset.data.compute() if whole else dataset.pattern(0, 0)
        expected = dataset.shape if whole else dataset.detector_shape
        return "read" if patterns.shape == expected and patterns.dtype == dataset.data.dtype else "fault: wrong shape"
    except StemvaneError as error:
        return "refused" if "\n" not in str(error) and ";" in str(error) else f"fault: {error!r}"
    except BaseException as error:  # everything else is what is looked for
        return f"fault: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def forked(command: list[str], timeout: float, **_: object) -> subprocess.CompletedProcess:
    """Run Python code as `subprocess.run` does, but without starting Python and importing h5py anew each time."""
    child = os.fork()
    if child == 0:
        try:
            exec(command[-1], {})
        except BaseException:
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + timeout
    while True:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status))
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise subprocess.TimeoutExpired(command, timeout)
        time.sleep(0.001)


def work(lines: Connection, folder: Path, name: str, first: int, last: int) -> None:
    """Open variants and report each on a line of its own."""
    from stemvane.io import hdf5_guard

    with (folder / "errors.txt").open("w") as errors:
        os.dup2(errors.fileno(), sys.stderr.fileno())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    hdf5_guard.PATIENCE = PATIENCE / 4
    hdf5_guard.subprocess = types.SimpleNamespace(
        run=forked, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    write = getattr(made, name)
    good, place = folder / "good", folder / "variant"
    good.mkdir(exist_ok=True)
    written = write(good)
    for i in range(first, last):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(good, place)
        path = place / written.path.relative_to(good)
        lines.send(f"variant {i}")
        changed = spoil(path, i)
        lines.send(f"done {i} {changed} {look(path, written.options)}")


def faults(folder: Path, name: str, n: int, first: int = 0) -> tuple[list[str], dict[str, int]]:
    """What went wrong with `n` damaged variants of a format, and how the others ended."""
    messages: list[str] = []
    ends = {"read": 0, "refused": 0}
    following = first
    while following < first + n:
        folder.mkdir(parents=True, exist_ok=True)
        lines, ours = _FORKS.Pipe(duplex=False)
        worker = _FORKS.Process(target=work, args=(ours, folder, name, following, first + n))
        worker.start()
        ours.close()
        current = following
        for line in _receive(lines, worker):
            word, number, *rest = line.split(" ", 3)
            current = int(number)
            if word == "done":
                end = rest[1].strip()
                following = current + 1
                if end in ends:
                    ends[end] += 1
                else:
                    messages.append(f"{name} {current} ({rest[0]}): {end}")
        worker.join()
        if following < first + n:
            how = "hangs" if worker.exitcode == -9 else f"dies with {worker.exitcode}"
            messages.append(f"{name} {current}: {how}")
            following = current + 1
    return messages, ends


def _receive(lines: Connection, worker: multiprocessing.process.BaseProcess) -> Iterator[str]:
    """Lines of a process; it is killed when none comes in time."""
    patience = 3 * PATIENCE  # the first one waits for imports
    with lines:
        while lines.poll(patience):
            try:
                yield lines.recv()
            except EOFError:
                return
            patience = PATIENCE
        worker.kill()
