"""How whole runs grow with the scan and with the detector, and what follows for a scan of a terabyte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["STAGES", "Growth", "exponent", "growth", "scale_tables"]

STAGES = ("survey", "measure", "learn", "read", "figures")
# a pattern of 256² pixels of two bytes
_PATTERN_BYTES = 2 * 256**2
_TERABYTE = 1e12
_N_WORKERS = 64

Cells = Sequence[dict[str, Any]]


class Growth(NamedTuple):
    """Runs along one axis.

    Attributes
    ----------
    axis : str
        ``positions`` or ``pixels``.
    sides : list of int
        Sides of scan or detector, growing.
    results : list of dict
        What `one_round` has measured of each.
    """

    axis: str
    sides: list[int]
    results: list[dict[str, Any]]

    def seconds(self, stage: str) -> list[float]:
        """Seconds of a stage, or of the whole run where it is called ``whole``."""
        return [one["seconds"] if stage == "whole" else one["stages"][stage] for one in self.results]

    @property
    def memory(self) -> list[float]:
        """Largest memory of each run in MB."""
        return [one["memory_mb"] for one in self.results]

    def exponent(self, values: Sequence[float]) -> float:
        """Exponent with the number of positions or of pixels."""
        return exponent([side**2 for side in self.sides], values)


def growth(cells: Cells) -> Iterator[Growth]:
    """Runs along positions and along pixels, where there are three at least."""
    runs = [cell for cell in cells if cell["job"]["kind"] == "run"]
    for axis, other in (("positions", "pixels"), ("pixels", "positions")):
        if not runs:
            return
        largest = max(runs, key=lambda cell: cell["job"][axis])
        chosen = [cell for cell in runs if cell["job"][other] == largest["job"][other]]
        chosen.sort(key=lambda cell: cell["job"][axis])
        if len(chosen) >= 3:
            yield Growth(axis, [cell["job"][axis] for cell in chosen], [cell["result"] for cell in chosen])


def exponent(numbers: Sequence[int], values: Sequence[float]) -> float:
    """Slope of the logarithms over the larger half of the sizes."""
    half = len(numbers) // 2
    x, y = np.log(numbers[half:]), np.log(np.maximum(values[half:], 1e-3))
    return float(np.polyfit(x, y, 1)[0])


def scale_tables(cells: Cells) -> list[str]:
    """Lines of Markdown: every size, exponents, processes against threads, and the terabyte."""
    lines = [
        "Stages: seconds, and in brackets the largest memory up to their end in MB. *Stored* are the measurements, "
        "*angle ±* is the median error that the angle is said to have; without patterns kept, nothing is filtered.",
        "",
        f"| | whole (s) | {' | '.join(STAGES)} | memory (MB) | stored (MB) | angle ± |",
        f"|---|---|{'---|' * len(STAGES)}---|---|---|",
    ]
    for cell in cells:
        job, result = cell["job"], cell["result"]
        if job["kind"] == "workers":
            continue
        seconds, held = result["stages"], result["memory_by_stage"]
        stages = [f"{seconds[name]:.1f} ({held[name]:,.0f})" if name in seconds else "" for name in STAGES]
        entries = [job["name"], f"{result['seconds']:.1f}", *stages, f"{result['memory_mb']:,.0f}"]
        entries += [f"{result['stored_mb']:,.0f}", f"{result['angle_std_deg']:.1f}°"]
        lines.append(f"| {' | '.join(entries)} |")
    for along in growth(cells):
        parts = [f"{stage} {along.exponent(along.seconds(stage)):.2f}" for stage in STAGES]
        lines += [
            "",
            f"Exponents with the number of {along.axis}, over the larger half of the sizes: whole "
            f"{along.exponent(along.seconds('whole')):.2f} ({', '.join(parts)}), memory "
            f"{along.exponent(along.memory):.2f}.",
        ]
    workers = [cell for cell in cells if cell["job"]["kind"] == "workers"]
    if workers:
        lines += ["", *workers_table(workers), "", terabyte(cells, workers)]
    return lines


def workers_table(cells: Cells) -> Iterator[str]:
    """The pass and the embedding on threads and on processes."""
    yield "| | pass: two threads (s) | two processes (s) | embedding: two threads (s) | two processes (s) | bits |"
    yield "|---|---|---|---|---|---|"
    for cell in cells:
        result = cell["result"]
        times = [f"{result[where][what]:.2f}" for what in ("measure", "embed") for where in ("threads", "processes")]
        name = cell["job"]["name"].removesuffix(", workers")
        yield f"| {name} | {' | '.join(times)} | {'the same' if result['same'] else '**not the same**'} |"


def terabyte(cells: Cells, workers: Cells) -> str:
    """What a scan of a terabyte takes on a cluster, from the parts that were measured."""
    widest = max(workers, key=lambda cell: cell["job"]["pixels"])["result"]
    longest = max(workers, key=lambda cell: cell["job"]["positions"])["result"]
    n_patterns = _TERABYTE / _PATTERN_BYTES
    # of one of two workers
    bytes_a_second = widest["bytes"] / widest["processes"]["measure"] / 2
    embedded = longest["patterns"] / longest["processes"]["embed"] / 2
    of_pass, of_embedding = (n / 3600 for n in (_TERABYTE / bytes_a_second, n_patterns / embedded))
    minutes = (of_pass + of_embedding) * 60 / _N_WORKERS
    storage = _TERABYTE / (of_pass * 3600 / _N_WORKERS) / 1e9
    largest = max((cell for cell in cells if cell["job"]["kind"] == "run"), key=lambda cell: cell["job"]["positions"])
    stages, n_positions = largest["result"]["stages"], largest["job"]["positions"] ** 2
    here = sum(stages[name] for name in ("measure", "learn", "read")) / n_positions * n_patterns / 3600
    return (
        f"A scan of 1 TB is {n_patterns / 1e6:.1f} million patterns of 256² pixels of two bytes. One worker of the "
        f"cluster above measures {bytes_a_second / 1e9:.2f} GB and embeds {embedded:,.0f} patterns a second, so the "
        f"pass takes {of_pass:.1f} hours of one core and the embedding {of_embedding:.1f}, both "
        f"{minutes:.0f} minutes on {_N_WORKERS} workers, if the storage gives them {storage:.1f} GB/s. That is "
        "`measure.keep_polar=false`, to which training on a sample adds less than a minute. "
        "With polar patterns kept and the filter over the scan, "
        f"which runs in the process that asks, that process works {here:.1f} hours more at the rate of "
        f"{largest['job']['name']}. The cluster was two processes of one machine: what a network adds was not measured."
    )
