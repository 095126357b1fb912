"""How the filters share the processor's cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from scipy import linalg  # noqa: F401, so that its library is among those that are loaded
from threadpoolctl import ThreadpoolController

__all__ = ["count_workers", "for_each", "on_one_blas_thread"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Part = TypeVar("_Part")


def on_one_blas_thread(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Let a function multiply matrices on one thread: small products lose more by waiting than they gain.

    On a machine whose cores are busy, the eigenvectors of 200 x 200 numbers take 30 times as long with two threads.
    """

    @wraps(function)
    def limited(*args: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        with _libraries().limit(limits=1, user_api="blas"):
            return function(*args, **options)

    return limited


@cache
def _libraries() -> Any:
    """The libraries of this process that multiply matrices; to look for them takes some milliseconds."""
    return ThreadpoolController()


def count_workers() -> int:
    """Threads of a Fourier transform: as many as Numba may use."""
    from numba import get_num_threads

    return int(get_num_threads())


def for_each(function: Callable[[_Part], object], parts: Iterable[_Part]) -> None:
    """Call a function that writes its own results, for several parts side by side."""
    n_threads = count_workers()
    if n_threads == 1:
        for part in parts:
            function(part)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(function, parts):
            pass
