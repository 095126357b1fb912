"""Signals that stop a command: whatever is open is closed first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopped", "stopping_signals"]


class Stopped(BaseException):
    """The process was asked to stop; no error, so that nothing but the end of the command catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stopping_signals() -> Iterator[None]:
    """Raise `Stopped` on SIGINT and SIGTERM, so that bars end, the cursor comes back, and half a file is removed.

    A second signal ends the process at once. Outside of the main thread, where no signal arrives, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        received.append(number)
        raise Stopped(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    except Exception as error:
        # an extension that is being imported turns what the handler raises into an error of its own
        if received:
            raise Stopped(received[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
