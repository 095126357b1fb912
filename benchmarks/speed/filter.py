"""Time and memory of the filter over the whole scan, 64² to 1024² positions.

Run as ``python -m benchmarks.speed.filter`` on a machine that does nothing else; writes ``results/filter.json`` and
prints the table of ``benchmarks/README.md``. Scans are those of ``benchmarks.whole`` (32 × 32 pixels and 2,000
electrons, a step of 0.6 Å), measured once into ``--work``. `filter_com` then runs in a process of its own that reads
features from the disk, ``--rounds`` times; a first round that compiles does not count. ``--quick`` takes 64² alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import zarr

from benchmarks.harness.cells import ROOT, machine, run_module, write_json
from benchmarks.harness.memory import peak_mib
from benchmarks.whole.jobs import Job, data
from stemvane import filter_com, measure, open_dataset
from stemvane.data.measurements import Measurements

RESULTS = ROOT / "benchmarks" / "results" / "filter.json"
# positions along each side of the scan, and the seconds and MiB that the filter may take
AIMS = {64: (4.0, None), 256: (12.0, None), 1024: (200.0, 2048)}
SIZES = (64, 128, 256, 512, 1024)
PIXELS = 32


def measured(size: int, work: Path) -> Path:
    """Measure a scan into a folder, where it is missing."""
    store = work / f"{size}.zarr"
    if not store.exists():
        source = data(Job("", "run", size, PIXELS), work)
        partial = store.with_suffix(".partial")
        group = zarr.open_group(partial, mode="w")
        dataset = open_dataset(source, energy=6e4, convergence_semiangle=20, scan_step=0.6)
        measure(dataset, store=group, progress=False).write(group)
        partial.rename(store)
    return store


def timed(store: Path) -> None:
    """Filter a measured scan; prints seconds, seconds of the processors and MiB."""
    measurements = Measurements.read(zarr.open_group(store, mode="r"))
    start, busy = time.perf_counter(), time.process_time()
    filtered = filter_com(measurements)
    if not filtered.is_filtered:
        raise SystemExit("nothing was filtered")
    print(time.perf_counter() - start, time.process_time() - busy, peak_mib())


def table(rows: list[dict[str, Any]]) -> str:
    """Medians of the rounds beside their aims."""
    lines = [
        "| positions | seconds, median (smallest, largest) | aim | seconds of the processors | memory (MiB) | aim |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        seconds, busy, memory = zip(*row["rounds"], strict=True)
        most, largest = AIMS.get(row["size"], (None, None))
        lines.append(
            f"| {row['size']}² | {statistics.median(seconds):.1f} ({min(seconds):.1f}, {max(seconds):.1f}) "
            f"| {f'{most:g}' if most else ''} | {statistics.median(busy):.1f} | {statistics.median(memory):,.0f} "
            f"| {f'{largest:,}' if largest else ''} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "filter")
    parser.add_argument("--quick", action="store_true", help="64² positions, printed only")
    parser.add_argument("--timed", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.timed:
        timed(chosen.timed)
        return
    chosen.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in SIZES[:1] if chosen.quick else SIZES:
        store = measured(size, chosen.work)
        rounds = []
        for _ in range(chosen.rounds + 1):
            ended = run_module("speed.filter", "--timed", str(store))
            if ended.returncode:
                sys.exit(ended.stderr)
            rounds.append([float(word) for word in ended.stdout.split()])
        rows.append({"size": size, "rounds": rounds[1:]})
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr)
    if not chosen.quick:
        write_json({"machine": machine(), "rows": rows}, RESULTS)
    print(table(rows))


if __name__ == "__main__":
    main()
