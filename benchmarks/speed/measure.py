"""One pass over 128^4 counts of 16 bits: stemvane beside LiberTEM, py4DSTEM, pyxem, NumPy and the machine's own limits.

Run as ``python -m benchmarks.speed.measure``; writes ``benchmarks/results/measure.json`` and prints tables. Every
program runs in a process of its own, in an environment of its own that is made under ``--environments`` (a temporary
folder by default); all take turns, round by round. Their centres of mass and virtual images must agree with stemvane's.
Files are made cold with ``posix_fadvise(POSIX_FADV_DONTNEED)`` after ``fsync``, which needs no root.

``--rounds N`` takes more or fewer turns, ``--peers ''`` leaves the others out, ``--large GB`` instead measures a file
of that size, generated in the temporary folder and deleted again, and prints the largest memory that the process held.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import hdf5plugin
import numba
import numpy as np
import zarr
from rsciio.hspy import file_writer
from zarr.codecs import BloscCodec

from benchmarks.harness.cells import ROOT, machine
from benchmarks.harness.environments import interpreter
from benchmarks.harness.memory import peak_mib
from stemvane import (
    Calibration,
    Config,
    Dataset4D,
    PolarGrid,
    VirtualDetector,
    measure,
    open_dataset,
    run_pipeline,
    save_dataset,
)
from stemvane.data.dataset import pattern_chunks

RESULTS = Path(__file__).parents[1] / "results" / "measure.json"
SIZE = 128
KNOWN = Calibration(optical_axis=(63.3, 63.8), disc_radius=30.0)
BLOCK = 8 * 2**20
PEERS = {
    "numpy": None,
    "libertem-threads": "libertem==0.16.0",
    "libertem-pipelined": "libertem==0.16.0",
    "py4dstem": "py4DSTEM==0.14.18",
    "pyxem": "pyxem==0.21.0",
}
# a task that takes longer than this is done twice, not in every round
SLOW_SECONDS = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--folder", type=Path, help="where the data are written, a temporary folder by default")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--large", type=float, metavar="GB")
    parser.add_argument("--measure-large", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_large:
        measure_large(options.measure_large)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.large:
            large(Path(folder), options.large)
            return
        environments = options.environments or Path(folder) / "environments"
        compare(Path(folder), environments, [p for p in options.peers.split(",") if p], options.rounds, options.output)


def compare(folder: Path, environments: Path, peers: list[str], n_rounds: int, output: Path) -> None:
    path = folder / "scan.npy"
    write_scan(path)
    data = np.load(path)
    detectors = images()
    np.savez(folder / "masks.npz", **masks(detectors))
    runners = ours(data, path, folder, detectors)
    others = {name: Peer(name, path, folder / "masks.npz", peer_python(environments, name)) for name in peers}
    for name, peer in others.items():
        for task in peer.tasks:
            runners[f"{name} {task}"] = lambda peer=peer, task=task: peer.run(task)
    check(data, detectors, others, folder)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    load = []
    for i_round in range(n_rounds):
        load.append(os.getloadavg()[0])
        for name, run in runners.items():
            if i_round < 2 or min(seconds[name]) < SLOW_SECONDS:
                seconds[name].append(run())
                print(f"round {i_round + 1} of {n_rounds}: {name}: {seconds[name][-1]:.3f} s", file=sys.stderr)
    report = {
        "machine": machine() | {"python": platform.python_version(), "load_average": load},
        "bytes": data.nbytes,
        "polar_grid": polar_grid().to_dict(),
        "peak_mib": {name: peer.peak for name, peer in others.items()},
        "seconds": seconds,
        "gb_per_s": {
            name: {"best": data.nbytes / min(s) / 1e9, "median": data.nbytes / statistics.median(s) / 1e9}
            for name, s in seconds.items()
        },
    }
    report["ratios"] = ratios({name: rate["best"] for name, rate in report["gb_per_s"].items()})
    for peer in others.values():
        peer.close()
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show(report)


def images() -> list[VirtualDetector]:
    axis, radius = KNOWN.optical_axis, KNOWN.disc_radius
    shape = (SIZE, SIZE)
    return [
        VirtualDetector.disc("bright_field", shape, axis, radius),
        VirtualDetector.annulus("annular_bright_field", shape, axis, 0.5 * radius, radius),
        VirtualDetector.annulus("annular_dark_field", shape, axis, 1.1 * radius, 2 * radius),
    ]


def polar_grid() -> PolarGrid:
    return PolarGrid.chosen(KNOWN.optical_axis, KNOWN.disc_radius, (SIZE, SIZE))


def masks(detectors: list[VirtualDetector]) -> dict[str, Any]:
    polar = polar_grid().weights((SIZE, SIZE))
    return {
        "axis": np.array(KNOWN.optical_axis),
        "scan_shape": np.array((SIZE, SIZE)),
        "images": np.stack([detector.weights for detector in detectors]),
        "weight": polar.weight,
        "sample": polar.sample,
        "indptr": polar.indptr,
        "n_samples": polar.area.size,
    }


def write_scan(path: Path, n_rows: int = SIZE) -> None:
    """Counts of a disc that shifts a little, some hundred different patterns in random order."""
    random = np.random.default_rng(0)
    rows, columns = np.indices((SIZE, SIZE))
    pool = np.empty((256, SIZE, SIZE), np.uint16)
    for pattern in pool:
        y, x = np.array(KNOWN.optical_axis) + random.normal(0, 1.5, 2)
        radius = np.hypot(rows - y, columns - x)
        pattern[:] = random.poisson(0.02 + 20 / (1 + np.exp(radius - KNOWN.disc_radius)) + 2 * np.exp(-radius / 30))
    with path.open("wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": (n_rows, SIZE, SIZE, SIZE)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(n_rows):
            file.write(pool[random.integers(0, len(pool), SIZE)].tobytes())
        file.flush()
        os.fsync(file.fileno())


def raw(path: Path) -> Dataset4D:
    return open_dataset(path).recalibrate(optical_axis=KNOWN.optical_axis, disc_radius=KNOWN.disc_radius)


def ours(data: Any, path: Path, folder: Path, detectors: list[VirtualDetector]) -> dict[str, Callable[[], float]]:
    """Limits of the machine, and stemvane; each call gives seconds."""
    words = data.reshape(-1).view(np.uint64)
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    parts = range(0, words.size, BLOCK // 8)
    memory = Dataset4D.from_array(data, calibration=KNOWN)
    file = raw(path)
    stores = compressed(memory, folder)

    def com(dataset: Dataset4D = memory, **more: Any) -> None:
        measure(dataset, (), polar=False, mean_pattern=False, **more)

    def cold(work: Callable[[], Any], target: Path) -> Callable[[], float]:
        def run() -> float:
            forget(target)
            return timed(work)()

        return run

    def plainly() -> None:
        buffer = bytearray(BLOCK)
        with open(path, "rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass

    def in_parts() -> None:
        sum(pool.map(lambda i: int(sum_words(words[i : i + BLOCK // 8])), parts))

    def one_thread(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            with dask.config.set(num_workers=1):
                work()

        return run

    tasks = {
        "limit: sum in memory": timed(in_parts),
        "stemvane com": timed(com),
        "stemvane com_mean": timed(lambda: measure(memory, (), polar=False)),
        "stemvane com_images": timed(lambda: measure(memory, detectors, polar=False, mean_pattern=False)),
        "stemvane com_images_polar": timed(lambda: measure(memory, detectors, mean_pattern=False)),
        "limit: read() of the cold file": cold(plainly, path),
        "stemvane com, cold file": cold(lambda: com(file), path),
        "stemvane com_images_polar, cold file": cold(lambda: measure(file, detectors, mean_pattern=False), path),
        "stemvane com, warm file": timed(lambda: com(file)),
    }
    for name, dataset in stores.items():
        tasks[f"stemvane com, {name}"] = timed(lambda dataset=dataset: com(dataset))
        tasks[f"stemvane com, {name}, one thread"] = timed(one_thread(lambda dataset=dataset: com(dataset)))
    for task in tasks.values():  # compiles
        task()
    return tasks


def compressed(dataset: Dataset4D, folder: Path) -> dict[str, Dataset4D]:
    """The same patterns in Zarr and HDF5, as large chunks as the blocks."""
    array = dataset.data.compute()
    chunks = pattern_chunks(array.shape, array.dtype)
    zarr_path = save_dataset(dataset, folder / "scan.zarr")
    group = zarr.open_group(zarr_path, mode="r+")
    group.create_array(
        "data", shape=array.shape, dtype=array.dtype, chunks=chunks, compressors=BloscCodec(cname="lz4"), overwrite=True
    )
    group["data"][:] = array
    datasets = {"Zarr (Blosc LZ4)": open_dataset(zarr_path)}
    for name, options in (
        ("HDF5 (gzip)", {"compression": "gzip", "compression_opts": 4}),
        ("HDF5 (bitshuffle LZ4)", dict(hdf5plugin.Bitshuffle(cname="lz4"))),
    ):
        path = folder / f"{len(datasets)}.hspy"
        file_writer(str(path), as_signal(array), chunks=chunks, show_progressbar=False, **options)
        datasets[name] = open_dataset(path).recalibrate(
            optical_axis=KNOWN.optical_axis, disc_radius=KNOWN.disc_radius, pixel_size=None
        )
    return datasets


def as_signal(array: Any) -> dict[str, Any]:
    axes = [
        {"_type": "UniformDataAxis", "name": n, "size": s, "scale": 1.0, "offset": 0.0, "units": "", "navigate": i < 2}
        for i, (n, s) in enumerate(zip(("y", "x", "k_y", "k_x"), array.shape, strict=True))
    ]
    return {
        "data": array,
        "axes": axes,
        "metadata": {"General": {"title": "scan"}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "tmp_parameters": {},
        "learning_results": {},
        "attributes": {"_lazy": False, "ragged": False},
        "models": {},
        "package_info": {"package": "stemvane", "package_version": "0"},
    }


@numba.njit(nogil=True)
def sum_words(words: Any) -> Any:
    total = np.uint64(0)
    for i in range(words.size):
        total += words[i]
    return total


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Peer:
    """Another program in its own process."""

    def __init__(self, name: str, path: Path, masks_path: Path, python: str) -> None:
        command = [python, "-m", "benchmarks.speed.peers", name, str(path.absolute()), str(masks_path.absolute())]
        self.log = path.with_name(f"{name}.log").open("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=ROOT
        )
        self.peak = 0.0
        self.tasks: list[str] = self._answer()

    def _answer(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(self.log.read()[-2000:])
        return json.loads(line)

    def run(self, task: str, target: Path | None = None) -> float:
        """Seconds of a task; its result goes to a file where one is given."""
        self.process.stdin.write(f"{task} {target}\n" if target else f"{task}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.peak = max(self.peak, answer["peak_mib"])
        return float(answer["seconds"])

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def peer_python(environments: Path, name: str) -> str:
    """Python of the environment that holds a peer; NumPy runs in this one."""
    requirement = PEERS[name]
    if requirement is None:
        return sys.executable
    return interpreter(environments, requirement, more=["sparse"] if name.startswith("libertem") else [])


def check(data: Any, detectors: list[VirtualDetector], others: dict[str, Peer], folder: Path) -> None:
    """Every program must find the same numbers; this also is its first, uncounted turn."""
    dataset = Dataset4D.from_array(data, calibration=KNOWN)
    measured = measure(dataset, detectors, polar=False, mean_pattern=False)
    ours = np.stack([measured.maps[name].ravel() for name in ("com_y", "com_x", *(d.name for d in detectors))], axis=-1)
    for name, peer in others.items():
        for task in peer.tasks:
            peer.run(task, folder.absolute() / "found.npy")
            theirs = np.load(folder / "found.npy")
            worst = np.abs(theirs - ours[:, : theirs.shape[1]]).max()
            print(f"{name} {task}: differs by {worst:.1e} at most", file=sys.stderr)
            if worst > 1e-3:
                raise SystemExit(f"{name} {task} does not agree")


def ratios(rate: dict[str, float]) -> dict[str, float]:
    """What is promised, as best over best of the same run."""
    ratio = {
        "com / limit in memory": rate["stemvane com"] / rate["limit: sum in memory"],
        "com, cold file / read()": rate["stemvane com, cold file"] / rate["limit: read() of the cold file"],
    }
    fastest = {
        task: max(
            (r for name, r in rate.items() if name.startswith("libertem") and name.endswith(f" {task}")), default=0
        )
        for task in ("com", "com_images", "com_images_polar")
    }
    if fastest["com_images"]:
        ratio |= {f"{task} / LiberTEM's fastest {task}": rate[f"stemvane {task}"] / fastest[task] for task in fastest}
        ratio["com_images_polar / LiberTEM's fastest com_images"] = (
            rate["stemvane com_images_polar"] / fastest["com_images"]
        )
    for name in rate:
        if name.endswith(", one thread"):
            task = name.removesuffix(", one thread")
            ratio[f"{task.removeprefix('stemvane ')} / one thread"] = rate[task] / rate[name]
    return ratio


def show(report: dict[str, Any]) -> None:
    load = report["machine"]["load_average"]
    print(f"{report['machine']['processors']} processors, load average {min(load):.1f} to {max(load):.1f}\n")
    print("| | best (GB/s) | median (GB/s) |\n|---|---|---|")
    for name, rate in report["gb_per_s"].items():
        print(f"| {name} | {rate['best']:.2f} | {rate['median']:.2f} |")
    print("\n| ratio of the best | |\n|---|---|")
    for name, ratio in report["ratios"].items():
        print(f"| {name} | {ratio:.2f} |")
    print("\n| peak memory, data included (MiB) | |\n|---|---|")
    for name, peak in report["peak_mib"].items():
        print(f"| {name} | {peak:.0f} |")


@contextmanager
def removed(path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def large(folder: Path, gigabytes: float) -> None:
    """Analyse a large file in a process of its own."""
    n_rows = max(1, round(gigabytes * 1e9 / (2 * SIZE**3)))
    needed = 2 * SIZE**3 * n_rows
    # polar patterns as float32, hardly compressed, besides the file itself
    if shutil.disk_usage(folder).free < 2.2 * needed:
        raise SystemExit(f"{folder}: has no room for {2.2 * needed / 1e9:.0f} GB")
    with removed(folder / "large.npy") as path:
        write_scan(path, n_rows)
        forget(path)
        command = [sys.executable, "-m", "benchmarks.speed.measure", "--measure-large", str(path.absolute())]
        subprocess.run(command, check=True, cwd=ROOT)


def measure_large(path: Path) -> None:
    """The whole of ``stemvane run``: survey, pass, training, comparison and figures."""
    geometry = {"optical_axis": KNOWN.optical_axis, "disc_radius": KNOWN.disc_radius}
    folder = path.with_suffix("")
    run = run_pipeline(Config().replace(source={"path": str(path), **geometry}), folder)
    print("| stage | seconds | peak memory so far (MiB) |\n|---|---|---|")
    for name, stage in run.manifest["stages"].items():
        print(f"| {name} | {stage['wall_seconds']:.1f} | {stage['peak_memory_mb'] * 1e6 / 2**20:.0f} |")
    size = path.stat().st_size
    print(f"{size / 1e9:.1f} GB in {run.manifest['total_seconds']:.0f} s; peak memory {peak_mib():.0f} MiB")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
