"""All patterns in coarse bins of the detector, memory-mapped, so that a dragged detector answers at once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stemvane.data.dataset import Dataset4D
from stemvane.data.measurements import Measurements
from stemvane.reduction.blocks import in_order, n_threads, partition

__all__ = ["DetectorBins", "bin_dataset", "bin_measurements"]

# read as a whole in a fiftieth of a second, and small beside the memory that a viewer may take
_MOST_BYTES = 128 * 2**20
_MOST_BINS = 1024


class DetectorBins:
    """Counts of every pattern in bins of the detector.

    Parameters
    ----------
    scan_shape : tuple of int
        Probe positions ``(scan_y, scan_x)``.
    shares : sparse array of float, shape (n_bins, k_y * k_x)
        Area of every pixel in every bin.

    Attributes
    ----------
    counts : memmap of float32, shape (n_bins, scan_y * scan_x)
        Sum over each bin, in a temporary file without a name. Bins lie one after another, so that a small detector
        reads little.
    filled : ndarray of bool, shape (scan_y * scan_x,)
        Positions that have been binned.
    """

    def __init__(self, scan_shape: tuple[int, int], shares: sparse.csr_array) -> None:
        self.scan_shape = scan_shape
        self._areas = np.asarray(shares.sum(axis=1)).ravel()
        self._shares = shares
        n_positions = scan_shape[0] * scan_shape[1]
        with tempfile.TemporaryFile(prefix="stemvane-") as file:  # the map keeps what is in it
            self.counts = np.memmap(file, np.float32, "w+", shape=(shares.shape[0], n_positions))
        self.filled = np.zeros(n_positions, bool)

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return int(self.counts.shape[0])

    @property
    def is_complete(self) -> bool:
        """Whether every position has been binned."""
        return bool(self.filled.all())

    def put(self, positions: NDArray[np.integer[Any]] | slice, counts: NDArray[np.floating[Any]]) -> None:
        """Enter counts of some positions, shape ``(n_positions, n_bins)``."""
        self.counts[:, positions] = counts.T
        self.filled[positions] = True

    def respond(self, weights: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Signal of a virtual detector.

        Parameters
        ----------
        weights : ndarray of float, shape (k_y, k_x)
            Weight of each pixel; within a bin their mean counts.

        Returns
        -------
        ndarray of float32, shape (scan_y, scan_x)
            NaN where a position has not been binned yet.
        """
        by_bin = np.asarray(self._shares @ weights.ravel()) / np.maximum(self._areas, 1e-12)
        by_bin = by_bin.astype(np.float32)
        signal = np.zeros(self.counts.shape[1], np.float32)
        # neighbouring bins that count are one product of a vector and a matrix
        used = np.flatnonzero(np.abs(by_bin) > 1e-6)
        for run in np.split(used, np.flatnonzero(np.diff(used) > 1) + 1):
            if len(run):
                signal += by_bin[run[0] : run[-1] + 1] @ self.counts[run[0] : run[-1] + 1]
        signal[~self.filled] = np.nan
        return signal.reshape(self.scan_shape)


def bin_measurements(
    measurements: Measurements, progress: Callable[[DetectorBins, float], bool] = lambda bins, done: True
) -> DetectorBins:
    """Bin polar patterns: neighbouring sectors, then rings, are joined until all patterns are small enough.

    Parameters
    ----------
    measurements : Measurements
        A scan with polar patterns.
    progress : callable
        Called with the bins and the share that is done; work ends where it returns False.

    Returns
    -------
    DetectorBins
        In counts, as far as the rings reach.
    """
    grid, scan_shape = measurements.grid, measurements.scan_shape
    most = _most_bins(scan_shape)
    sectors, rings = 1, 1
    while (grid.n_azimuthal // sectors) * -(-grid.n_radial // rings) > most and sectors < grid.n_azimuthal:
        if sectors <= 2 * rings and grid.n_azimuthal % (2 * sectors) == 0:
            sectors *= 2
        else:
            rings += 1
    ring, sector = np.divmod(np.arange(grid.n_radial * grid.n_azimuthal), grid.n_azimuthal)
    group = (ring // rings) * (grid.n_azimuthal // sectors) + sector // sectors
    bad = measurements.bad_pixels
    overlaps = grid.weights(measurements.detector_shape, None if bad is None else ~bad)
    areas = overlaps.area.ravel()
    n_bins = int(group.max()) + 1
    shares = sparse.csr_array(
        (overlaps.overlap, (group[overlaps.sample], overlaps.pixel)),
        shape=(n_bins, int(np.prod(measurements.detector_shape))),
    )
    # a sample is a mean over its area
    joined = sparse.csr_array((areas, (np.arange(len(group)), group)), shape=(len(group), n_bins))
    bins = DetectorBins(scan_shape, shares)
    done = 0
    for block in measurements.polar_blocks():
        bins.put(slice(done, done + len(block)), block.reshape(len(block), -1) @ joined)
        done += len(block)
        if not progress(bins, done / len(bins.filled)):
            break
    return bins


def bin_dataset(
    dataset: Dataset4D, progress: Callable[[DetectorBins, float, NDArray[np.float64]], bool]
) -> DetectorBins:
    """Bin recorded patterns in one pass.

    Parameters
    ----------
    dataset : Dataset4D
        The scan.
    progress : callable
        Called with the bins, the share that is done, and total counts and first moments along y and x of all patterns
        (shape ``(3, scan_y, scan_x)``, NaN where nothing has been read); work ends where it returns False.

    Returns
    -------
    DetectorBins
        Rectangles of the detector's pixels; bad pixels count nothing.
    """
    scan_shape, (height, width) = dataset.scan_shape, dataset.detector_shape
    side = max(1, int(np.sqrt(_most_bins(scan_shape))))
    edges = [np.unique(np.linspace(0, n, min(side, n) + 1).astype(int)[:-1]) for n in (height, width)]
    row, column = (
        np.searchsorted(e, np.arange(n), side="right") - 1 for e, n in zip(edges, (height, width), strict=True)
    )
    group = row[:, None] * len(edges[1]) + column
    valid = np.ones((height, width)) if dataset.bad_pixels is None else (~dataset.bad_pixels).astype(float)
    pixels = np.arange(height * width)
    shares = sparse.csr_array((valid.ravel(), (group.ravel(), pixels)), shape=(group.max() + 1, height * width))
    bins = DetectorBins(scan_shape, shares)
    moments = np.full((3, *scan_shape), np.nan)
    blocks = partition(dataset.data)
    n_done = 0
    threads = n_threads(8 * height * width)
    for block, (counts, sums) in in_order(_bin_block, blocks, (edges, dataset.bad_pixels), threads=threads):
        at = np.add.outer(
            np.arange(block.top, block.top + block.height) * scan_shape[1], block.left + np.arange(block.width)
        )
        bins.put(at.ravel(), counts)
        moments[:, *block.part] = sums
        if dataset.missing is not None:
            moments[:, *block.part][:, dataset.missing[block.part]] = np.nan
        n_done += block.height * block.width
        if not progress(bins, n_done / dataset.n_patterns, moments):
            break
    return bins


def _bin_block(block: Any, shared: Any) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Counts in bins, shape ``(n, n_bins)``, and total and first moments, shape ``(3, height, width)``, of a block."""
    edges, bad = shared
    frames = block.read()
    if frames.dtype.kind == "b":
        frames = frames.astype(np.uint8)
    if bad is not None and bad.any():
        frames = np.where(bad, 0, frames)
    kind = np.float64 if frames.dtype.kind == "f" else np.int64
    # rows of the detector are joined first, which leaves little for the columns
    by_row = np.add.reduceat(frames, edges[0], axis=2, dtype=np.float32)
    counts = np.add.reduceat(by_row, edges[1], axis=3)
    rows, columns = (frames.sum(axis=axis, dtype=kind) for axis in (3, 2))
    total = rows.sum(axis=-1)
    sums = np.stack([total, rows @ np.arange(rows.shape[-1]), columns @ np.arange(columns.shape[-1])])
    return counts.reshape(block.height * block.width, -1), sums.astype(np.float64)


def _most_bins(scan_shape: tuple[int, int]) -> int:
    return max(16, min(_MOST_BINS, _MOST_BYTES // (4 * scan_shape[0] * scan_shape[1])))
