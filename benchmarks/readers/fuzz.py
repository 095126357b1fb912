"""Open damaged variants of a small file of every format; none may end in anything but data or one clear line.

Run as ``python -m benchmarks.readers.fuzz --n 2000``; POSIX systems only. Prints a line for each format and
exits with 1 where a fault was found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import fuzzing
import reader_files as made


def main() -> int:
    names = [write.__name__ for write in made.WRITERS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000, help="variants of each format")
    parser.add_argument("--first", type=int, default=0, help="number of the first variant, which is its seed")
    parser.add_argument("formats", nargs="*", help=f"of {', '.join(names)}; all if left out")
    arguments = parser.parse_args()
    n_faults = 0
    print("| format | read | refused | faults | s |\n|---|---|---|---|---|")
    for name in arguments.formats or names:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            faulty, ends = fuzzing.faults(Path(folder) / "fuzz", name, arguments.n, arguments.first)
        seconds = time.perf_counter() - start
        print(f"| {name} | {ends['read']} | {ends['refused']} | {len(faulty)} | {seconds:.0f} |", flush=True)
        for line in faulty:
            print(f"fault: {line}", flush=True)
        n_faults += len(faulty)
    return 1 if n_faults else 0


if __name__ == "__main__":
    sys.exit(main())
