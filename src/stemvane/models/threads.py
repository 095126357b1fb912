"""How the models share the processor's cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["map_in_threads", "one_thread"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


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
