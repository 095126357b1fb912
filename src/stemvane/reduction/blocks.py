"""Blocks of a lazy array: fetched without detours, worked on side by side, handed back in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate, product
from typing import Any, TypeVar

import dask.array as da
import numpy as np
from dask import config
from dask.base import optimize
from dask.local import get_sync
from dask.optimization import cull
from numpy.typing import NDArray

from stemvane.data.dataset import pattern_chunks, reading_lazily

__all__ = ["Block", "in_order", "n_threads", "partition"]

Part = TypeVar("Part")
Result = TypeVar("Result")

# blocks of all threads together hold at most this much
_MOST_BYTES = 2**29


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring patterns of a scan, not yet read.

    Attributes
    ----------
    top, left, height, width : int
        Where it lies in the scan.
    array : ndarray, optional
        The patterns, where they are in memory.
    graph : mapping
        Dask's recipe for them, where they are not; a worker can be sent it.
    keys : tuple
        Names of their pieces in the recipe, an array of two axes: a pattern may be in several pieces.
    detector_shape : tuple of int
        Shape ``(k_y, k_x)`` that the recipe promises.
    """

    top: int
    left: int
    height: int
    width: int
    array: NDArray[Any] | None = None
    graph: Mapping[Any, Any] = field(default_factory=dict)
    keys: tuple[tuple[Any, ...], ...] = ()
    detector_shape: tuple[int, ...] = ()

    @property
    def part(self) -> tuple[slice, slice]:
        """Where it lies in the scan, as slices ``(y, x)``."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def read(self) -> NDArray[Any]:
        """The patterns, shape ``(height, width, k_y, k_x)``.

        Raises
        ------
        DataError
            If the recipe fails, or makes something of another shape than it promises.
        """
        if self.array is not None:
            return self.array
        with reading_lazily(f"the patterns from scan position ({self.top}, {self.left}) on"):
            pieces = [[np.asarray(get_sync(self.graph, key)) for key in row] for row in self.keys]
            whole = pieces[0][0]
            if len(pieces) > 1 or len(pieces[0]) > 1:
                whole = np.concatenate([np.concatenate(row, axis=3) for row in pieces], axis=2)
            expected = (self.height, self.width, *self.detector_shape)
            if whole.shape != expected:
                raise ValueError(f"a block has the shape {whole.shape}, and {expected} was promised")
        return whole


def partition(data: da.Array) -> list[Block]:
    """Blocks of an array ``(scan_y, scan_x, k_y, k_x)`` along its own chunks, in the order of the scan.

    Arrays in memory are found in the graph and not copied, and cut to some megabytes; of all others a block gets its
    part of the graph.
    """
    blocks = _in_memory_blocks(data)
    if blocks is not None:
        return blocks
    (optimized,) = optimize(data)
    graph = dict(optimized.__dask_graph__())
    n_pieces = [range(n) for n in optimized.numblocks[2:]]
    blocks = []
    for corner, (i, j) in _corners(optimized):
        keys = tuple(tuple((optimized.name, i, j, k, m) for m in n_pieces[1]) for k in n_pieces[0])
        needed, _ = cull(graph, [key for row in keys for key in row])
        blocks.append(
            Block(
                *corner,
                optimized.chunks[0][i],
                optimized.chunks[1][j],
                graph=needed,
                keys=keys,
                detector_shape=optimized.shape[2:],
            )
        )
    return blocks


def _in_memory_blocks(data: da.Array) -> list[Block] | None:
    graph: Any = data.__dask_graph__()
    if data.numblocks[2:] != (1, 1):
        return None
    blocks = []
    for corner, (i, j) in _corners(data):
        node = graph[data.name, i, j, 0, 0]
        # some versions of dask wrap data in a node of its own
        array = getattr(node, "value", node)
        if not isinstance(array, np.ndarray):
            return None
        rows, columns = pattern_chunks(array.shape, array.dtype)[:2]
        for y, x in product(range(0, array.shape[0], rows), range(0, array.shape[1], columns)):
            piece = array[y : y + rows, x : x + columns]
            blocks.append(Block(corner[0] + y, corner[1] + x, piece.shape[0], piece.shape[1], array=piece))
    return blocks


def _corners(data: da.Array) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """First scan position and number of each block, row by row."""
    tops, lefts = ([0, *accumulate(sizes)] for sizes in data.chunks[:2])
    for i, j in product(*(range(n) for n in data.numblocks[:2])):
        yield (tops[i], lefts[j]), (i, j)


def n_threads(block_bytes: int) -> int:
    """Threads to work with: Dask's setting ``num_workers``, else all processors, fewer where blocks are very large."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(config.get("num_workers", None) or available), _MOST_BYTES // max(1, block_bytes)))


def in_order(
    work: Callable[..., Result], blocks: Iterable[Part], shared: Any, *, threads: int, client: Any = None
) -> Iterator[tuple[Part, Result]]:
    """Call ``work(block, shared)`` for all blocks side by side; yield the results in the order of the blocks.

    Few results wait at any time, so that memory stays bounded however many blocks there are.

    Parameters
    ----------
    work : callable
        Function of one block; on a cluster it must belong to a module.
    blocks : iterable
        What to work on, such as each `Block`; taken one after the other, a few ahead of the workers.
    shared : object
        Sent to each worker once.
    threads : int
        Threads of this process, where there is no cluster.
    client : distributed.Client, optional
        A Dask cluster. A block of a lost worker is worked on again by another one.

    Yields
    ------
    block, result : object
        Each block with its result.
    """
    waiting: deque[tuple[Part, Any]] = deque()
    pool = None if client is not None else ThreadPoolExecutor(threads)
    submit = (pool or client).submit
    depth = 2 + (threads if client is None else 2 * max(1, sum(client.nthreads().values())))
    if client is not None:
        # the result of a task, unlike data that were sent, is made again when its worker is lost
        shared = client.submit(_as_it_is, shared, pure=False)
    try:
        for block in blocks:
            waiting.append((block, submit(work, block, shared)))
            if len(waiting) >= depth:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for _, future in waiting:
            future.cancel()
        if pool is not None:
            pool.shutdown()


def _as_it_is(value: Any) -> Any:
    return value
