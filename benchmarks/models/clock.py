"""The clock that trainings of other programs run against."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Clock", "OutOfTimeError", "now_of", "warm_up"]


def now_of(n_threads: int) -> Callable[[], float]:
    """Clock for a training: the processor's own where one thread runs, so that other work beside it does not count."""
    return time.process_time if n_threads == 1 else time.perf_counter


def warm_up() -> None:
    """Take a step of Adam: PyTorch imports much of itself at the first one, which is no part of any training."""
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.Adam([weight])
    (weight**2).sum().backward()
    optimizer.step()


class OutOfTimeError(Exception):
    """The budget is used up."""


class Clock:
    """Seconds and patterns of training, and what the model says at epochs 1, 2, 3, 5, 7, 10, 14, 20, ..."""

    def __init__(self, budget: float, n_patterns: int, *, n_threads: int, asks: bool) -> None:
        self.budget, self.n_patterns, self.asks = budget, n_patterns, asks
        self.now = now_of(n_threads)
        self.read: Callable[[], Any] = tuple
        self.notes: list[tuple[float, Any, Any]] = []
        self.epochs = self.next_note = 0
        self.seconds = self.first = 0.0
        self.resumed = 0.0

    def start(self, read: Callable[[], Any]) -> None:
        """Call when training begins; `read` gives angles and latents."""
        self.read = read
        self.resumed = self.now()

    def tick(self) -> None:
        """Call after every epoch; raises OutOfTimeError."""
        self.seconds += self.now() - self.resumed
        self.epochs += 1
        self.first = self.first or self.seconds
        if self.asks and self.epochs >= self.next_note:
            self.notes.append((self.seconds, *self.read()))
            self.next_note = max(self.epochs + 1, round(1.4 * self.epochs))
        self.resumed = self.now()
        if self.seconds * (1 + 1 / self.epochs) > self.budget:
            raise OutOfTimeError

    @property
    def rate(self) -> float:
        """Training patterns per second, after the first epoch where there are more."""
        if self.epochs == 1:
            return self.n_patterns / self.seconds
        return self.n_patterns * (self.epochs - 1) / (self.seconds - self.first)
