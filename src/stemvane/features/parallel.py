"""How the filters share the processor's cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, wraps
from threading import Lock, local
from typing import Any, ParamSpec, TypeVar

from scipy import linalg  # noqa: F401, so that its library is among those that are loaded
from threadpoolctl import ThreadpoolController

__all__ = ["count_workers", "for_each", "map_in_order", "on_one_blas_thread"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Part = TypeVar("_Part")


def on_one_blas_thread(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Let a function multiply matrices on one thread: small products lose more by waiting than they gain.

    On a machine whose cores are busy, the eigenvectors of 200 x 200 numbers take 30 times as long with two threads.
    """

    @wraps(function)
    def limited(*args: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        with _ONE_THREAD:
            return function(*args, **options)

    return limited


class _OneThread:
    """One thread for matrix products of the process, as long as any of its threads asks for that."""

    def __init__(self) -> None:
        self._lock, self._n_asking = Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_asking:
                self._limit = _libraries().limit(limits=1, user_api="blas")
            self._n_asking += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_asking -= 1
            if not self._n_asking:
                self._limit.restore_original_limits()


_ONE_THREAD, _OWN = _OneThread(), local()


@cache
def _libraries() -> Any:
    """The libraries of this process that multiply matrices; to look for them takes some milliseconds."""
    return ThreadpoolController()


def count_workers() -> int:
    """Threads that may work here: as many as Numba may use, and one where others work beside it already."""
    from numba import get_num_threads

    return 1 if getattr(_OWN, "is_one_of_many", False) else int(get_num_threads())


def for_each(function: Callable[[_Part], object], parts: Iterable[_Part]) -> None:
    """Call a function that writes its own results, for several parts side by side."""
    parts = list(parts)
    if len(parts) < 2 or count_workers() == 1:
        for part in parts:
            function(part)
        return
    with _threads() as pool:
        for _ in pool.map(function, parts):
            pass


def map_in_order(function: Callable[[_Part], _Result], parts: Iterable[_Part]) -> Iterator[_Result]:
    """Give what a function makes of several parts, worked on side by side, in their order; none is taken early."""
    n_threads = count_workers()
    if n_threads == 1:
        yield from map(function, parts)
        return
    waiting: deque[Future[_Result]] = deque()
    with _threads() as pool:
        for part in parts:
            waiting.append(pool.submit(function, part))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _threads() -> ThreadPoolExecutor:
    """As many threads as may work, each of which starts no others."""
    return ThreadPoolExecutor(count_workers(), initializer=lambda: setattr(_OWN, "is_one_of_many", True))
