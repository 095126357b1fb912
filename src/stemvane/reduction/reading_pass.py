"""A pass that reads every pattern while it is there, and keeps none of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemvane.config import MeasureConfig
from stemvane.data.arguments import ScanLike
from stemvane.data.measurements import Measurements
from stemvane.data.progress import Progress, counting_bar
from stemvane.reduction.blocks import Block, in_order, n_threads, partition
from stemvane.reduction.kernels.frames import FrameSums
from stemvane.reduction.kernels.passes import PassPlan
from stemvane.reduction.measure import MeasuringPlan, measure, plan_measuring
from stemvane.reduction.pass_plan import ScanGrids
from stemvane.reduction.pass_result import LEAST_TOTAL, as_measurements, maps_of, measure_block
from stemvane.reduction.virtual_detectors import VirtualDetector

__all__ = ["ReadScan", "Reader", "measure_reading"]

Reader = Callable[[Measurements], Sequence[NDArray[Any]]]
"""What is read of patterns: columns of shape ``(*scan_shape, ...)``, NaN where there is no pattern."""


class ReadScan(NamedTuple):
    """What a pass has measured and read.

    Attributes
    ----------
    measurements : Measurements
        Of the scan, without polar and Cartesian patterns.
    columns : list of ndarray, shape (scan_y, scan_x, ...)
        What was read; NaN where no pattern was recorded.
    sample : Measurements
        Patterns that the reader was learned from, in one row, as positions that are no scan.
    positions : ndarray of int, shape (n_sampled, 2)
        Where these lie in the scan, ``(y, x)``.
    """

    measurements: Measurements
    columns: list[NDArray[Any]]
    sample: Measurements
    positions: NDArray[np.int64]


def measure_reading(
    dataset: ScanLike,
    learn: Callable[[Measurements], Reader],
    detectors: Sequence[VirtualDetector] | None = None,
    *,
    config: MeasureConfig | None = None,
    progress: Progress | bool | None = None,
    client: Any = None,
) -> ReadScan:
    """Measure every pattern in one pass, and read it on the way by what a sample has taught.

    Blocks of the scan that are spread evenly over it are measured first, and kept in memory. From them a reader is
    learned, which every other block meets as soon as it is measured, in the thread or on the worker that has measured
    it. Every raw value is read once, and no more than the sample and a few blocks are held at any time.

    Parameters
    ----------
    dataset, detectors, config, progress, client
        As of `measure`; ``config.n_sampled`` is how many patterns the sample holds at least, where there are so many.
    learn : callable
        Called once with the sample, whose positions are no scan. What it returns is called with the measurements of
        some patterns at a time, in one row, and returns columns; the workers of a cluster are sent it.

    Returns
    -------
    ReadScan

    Raises
    ------
    CalibrationError, DataError
        As `measure`, and whatever `learn` raises.
    """
    config = config or MeasureConfig()
    options: dict[str, Any] = {"prepare": True, "said": progress is not False, "polar": True, "mean": True}
    plan = plan_measuring(dataset, detectors, config, "measure_reading", **options)
    dataset = plan.dataset
    blocks = partition(dataset.data)
    first = set(_spread(blocks, config.n_sampled))
    threads = n_threads(max(block.height * block.width for block in blocks) * dataset.data[0, 0].nbytes)
    workers: dict[str, Any] = {"threads": threads, "client": client}
    n_passes = 1 if dataset.expectation is None else 2
    with counting_bar(progress, "measure") as count:
        gathered = _Gathered(plan, lambda done: count(done, n_passes * dataset.n_patterns))
        chosen = [block for number, block in enumerate(blocks) if number in first]
        sampled = list(in_order(measure_block, chosen, (plan.passing, None, dataset.missing), **workers))
        sample, positions = _sample(plan, sampled)
        reading = _Reading.of(plan, sample, learn(sample))
        for block, measured in sampled:
            gathered.add(block, measured, reading.columns(measured))
        rest = [block for number, block in enumerate(blocks) if number not in first]
        for block, (measured, values) in in_order(_measure_and_read, rest, reading, **workers):
            gathered.add(block, measured, values)
        whole = gathered.measurements()
        if dataset.expectation is not None:
            noiseless = replace(dataset, data=dataset.expectation, expectation=None)
            maps_alone = config.model_copy(update={"n_pixels": 0})
            options = {"config": maps_alone, "prepare": False, "polar": False, "progress": False, "client": client}
            whole = replace(whole, expectation=measure(noiseless, plan.detectors, **options))
    for column in gathered.columns:
        column[~whole.recorded] = np.nan
    return ReadScan(whole, gathered.columns, sample, positions)


class _Gathered:
    """Sums over patterns, and columns that were read of them, of the blocks that are done."""

    def __init__(self, plan: MeasuringPlan, report: Callable[[int], None]) -> None:
        self._plan, self._report = plan, report
        self._scan_shape = plan.dataset.scan_shape
        self._sums = np.empty((*self._scan_shape, 3 + len(plan.detectors)))
        self._pattern: Any = 0
        self._done = 0
        self.columns: list[NDArray[Any]] = []

    def add(self, block: Block, measured: FrameSums, values: Sequence[NDArray[Any]]) -> None:
        """Put everything of a block where it belongs."""
        self._sums[block.part] = measured.sums.reshape(block.height, block.width, -1)
        self._pattern = self._pattern + measured.pattern
        if not self.columns:
            self.columns = [np.full((*self._scan_shape, *part.shape[2:]), np.nan, part.dtype) for part in values]
        for column, part in zip(self.columns, values, strict=True):
            column[block.part] = part.reshape(block.height, block.width, *part.shape[2:])
        self._done += block.height * block.width
        self._report(self._done)

    def measurements(self) -> Measurements:
        """Measurements of the scan, without patterns."""
        dataset, detectors, grids, _ = self._plan
        return as_measurements(dataset, detectors, grids, self._sums, {}, self._pattern, dataset.missing)


def _spread(blocks: Sequence[Block], n_patterns: int) -> list[int]:
    """Numbers of blocks that are evenly spread over the scan and hold as many patterns together."""
    largest = max(block.height * block.width for block in blocks)
    n = min(len(blocks), -(-n_patterns // largest))
    return [(2 * i + 1) * len(blocks) // (2 * n) for i in range(n)]


def _sample(plan: MeasuringPlan, sampled: Sequence[tuple[Block, FrameSums]]) -> tuple[Measurements, NDArray[np.int64]]:
    """Measurements of some blocks as one row of positions, and where these lie in the scan."""
    numbers = np.arange(plan.dataset.n_patterns).reshape(plan.dataset.scan_shape)
    flat = np.concatenate([numbers[block.part].ravel() for block, _ in sampled])
    positions = np.stack(np.unravel_index(flat, numbers.shape), axis=1)
    dataset, sums = plan.dataset, np.concatenate([measured.sums for _, measured in sampled])
    missing = None if dataset.missing is None else dataset.missing[tuple(positions.T)][None]
    samples = [measured.samples for _, measured in sampled if measured.samples is not None]
    patterns = _apart(plan.grids, np.concatenate(samples))
    pattern: Any = sum(measured.pattern for _, measured in sampled)
    sample = as_measurements(dataset, plan.detectors, plan.grids, sums[None], patterns, pattern, missing)
    return replace(sample, is_scan=False, atoms=None, image=None), positions


def _apart(grids: ScanGrids, samples: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Polar and Cartesian patterns of one row of positions, from the samples of both, ``(n, n_samples)``."""
    ends = np.cumsum([math.prod(grid.shape) for grid in grids.sampled.values()])[:-1]
    parts = zip(grids.sampled.items(), np.split(samples, ends, axis=1), strict=True)
    return {name: part.reshape(1, len(samples), *grid.shape) for (name, grid), part in parts}


@dataclass(frozen=True, eq=False)
class _Reading:
    """What workers need to read a block: how it is measured, what its measurements are like, and the reader."""

    passing: PassPlan
    missing: NDArray[np.bool_] | None
    grids: ScanGrids
    detectors: list[str]
    in_electrons: bool
    like: Measurements
    least_total: float
    read: Reader

    @classmethod
    def of(cls, plan: MeasuringPlan, sample: Measurements, read: Reader) -> _Reading:
        """Reading of a scan of which a sample has been measured."""
        return cls(
            plan.passing,
            plan.dataset.missing,
            plan.grids,
            [detector.name for detector in plan.detectors],
            bool(plan.dataset.electrons_per_pattern),
            replace(sample, maps={}, polar=None, pixels=None),
            LEAST_TOTAL * float(np.nanmedian(sample.maps["total"])),
            read,
        )

    def columns(self, measured: FrameSums) -> Sequence[NDArray[Any]]:
        """What is read of the patterns of a block."""
        assert measured.samples is not None
        # what is empty in the end depends on the whole scan, whose usual counts are those of the sample but for chance
        sums = np.where(measured.sums[:, :1] > self.least_total, measured.sums, np.nan)[None]
        maps, units = maps_of(sums, self.like.calibration, self.detectors, in_electrons=self.in_electrons)
        patterns: dict[str, Any] = _apart(self.grids, measured.samples)
        return self.read(replace(self.like, maps=maps, units=units, **patterns))


def _measure_and_read(block: Block, reading: _Reading) -> tuple[FrameSums, Sequence[NDArray[Any]]]:
    measured = measure_block(block, (reading.passing, None, reading.missing))
    return replace(measured, samples=None), reading.columns(measured)
