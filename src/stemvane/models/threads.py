"""How the models share the processor's cores, or those of a cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from stemvane.reduction.blocks import in_order

__all__ = ["map_in_threads", "map_on_workers", "one_thread"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")
_Shared = TypeVar("_Shared")


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch on one thread: small steps lose more time waiting for each other than they gain."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def map_in_threads(function: Callable[[_Part], _Result], parts: Iterable[_Part]) -> Iterator[_Result]:
    """Apply a function of PyTorch to parts that are worked on side by side, one thread each.

    Parameters
    ----------
    function : callable
        Called with one part.
    parts : iterable
        Taken one after the other, at most two ahead of the threads.

    Yields
    ------
    object
        Results in the order of the parts.
    """
    n_threads = torch.get_num_threads()
    waiting: deque[Future[_Result]] = deque()
    with one_thread(), ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for part in parts:
            waiting.append(pool.submit(function, part))
            if len(waiting) >= n_threads + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def map_on_workers(
    function: Callable[[_Part, _Shared], _Result], parts: Iterable[_Part], shared: _Shared, client: Any
) -> Iterator[_Result]:
    """Apply a function of PyTorch to parts in threads of this process or, where there is a client, on its cluster.

    Every part is worked on by one thread wherever that is, so that the result is the same to the last bit.

    Parameters
    ----------
    function : callable
        Called with one part and what all share; on a cluster it must belong to a module.
    parts : iterable
        Taken one after the other, a few ahead of the workers.
    shared : object
        Sent to each worker once.
    client : distributed.Client or None
        A Dask cluster.

    Yields
    ------
    object
        Results in the order of the parts.
    """
    if client is None:
        yield from map_in_threads(lambda part: function(part, shared), parts)
        return
    for _, result in in_order(_on_one_thread, parts, (function, shared), threads=1, client=client):
        yield result


def _on_one_thread(part: Any, work: tuple[Callable[[Any, Any], Any], Any]) -> Any:
    function, shared = work
    with one_thread():
        return function(part, shared)
