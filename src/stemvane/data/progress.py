"""Progress bars and messages, shown where a person looks on: in a terminal and in a notebook.

Messages go to the logger ``stemvane`` at the level INFO. Where logging has not been set up and the session is
interactive, they are printed to stderr, or below the notebook's cell.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Progress", "StageProgress", "announce", "counting_bar", "is_interactive", "stage_bars"]

Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is."""

StageProgress = Callable[[str, int, int, str], None]
"""Called with the stage, how much of it is done, how much there is, and a short note."""

_LOGGER = logging.getLogger("stemvane")
_LOGGER.addHandler(logging.NullHandler())
# a notebook is sent a new picture of the bars at most this often
_SECONDS = 0.2


def is_interactive() -> bool:
    """Whether a person looks on: stderr is a terminal, or the session is a notebook's."""
    return _in_notebook() or bool(getattr(sys.stderr, "isatty", lambda: False)())


def announce(lines: Iterable[str]) -> None:
    """Say something to the user, line by line."""
    lines = list(lines)
    configured = _LOGGER.level != logging.NOTSET or _LOGGER.isEnabledFor(logging.INFO)
    for line in lines:
        _LOGGER.info(line)
    if lines and not configured and is_interactive():
        from rich.console import Console
        from rich.text import Text

        console = Console(stderr=True)
        for line in lines:
            console.print(Text(line), soft_wrap=True)


@contextmanager
def stage_bars(progress: StageProgress | bool | None = None) -> Iterator[StageProgress]:
    """Progress of several stages, a bar for each.

    Parameters
    ----------
    progress : callable or bool, optional
        A function takes the progress instead; True shows bars, False does not, and None shows them where a person
        looks on.

    Yields
    ------
    callable
        Function to be called with the stage, how much of it is done, how much there is, and a short note. The stage
        ``"resumed"`` is a message, its note, and no bar.
    """
    if callable(progress):
        yield progress
    elif progress is False or (progress is None and not is_interactive()):
        yield lambda stage, done, total, note: announce([f"resumed: {note}"] if stage == "resumed" else [])
    else:
        with _shown() as report:
            yield report


@contextmanager
def counting_bar(progress: Progress | bool | None, label: str) -> Iterator[Progress]:
    """Progress of one thing, as `stage_bars`; the callable takes how much is done, and how much there is."""
    if callable(progress):
        yield progress
        return
    with stage_bars(progress) as report:
        yield lambda done, total: report(label, done, total, "")


@contextmanager
def _shown() -> Iterator[StageProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    columns = (TextColumn("{task.description:<9}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    console = Console(stderr=True)
    bars = Bars(*columns, console=console, auto_refresh=not _in_notebook())
    picture = _Picture(bars) if _in_notebook() else None
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int, note: str) -> None:
        if stage == "resumed":
            console.print(Text(f"resumed: {note}"), soft_wrap=True)
            return
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total, note=note)
        bars.update(tasks[stage], completed=done, total=total, note=note)
        if picture is not None:
            picture.draw()

    if picture is not None:
        yield report
        picture.draw(last=True)
    else:
        with bars:
            yield report


class _Picture:
    """Bars below a notebook's cell; drawn by rich, and replaced there without ipywidgets."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._handle: Any = None
        self._drawn = 0.0

    def draw(self, *, last: bool = False) -> None:
        """Show how far it is, unless that was shown a moment ago."""
        if not last and time.monotonic() < self._drawn + _SECONDS:
            return
        self._drawn = time.monotonic()
        if self._handle is not None:
            self._handle.update(self._bars)
        elif self._bars.tasks:
            from IPython import display

            show: Any = display.display
            self._handle = show(self._bars, display_id=True)


def _in_notebook() -> bool:
    """Whether this is a kernel of Jupyter; IPython in a terminal is none."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and shell.__class__.__name__ == "ZMQInteractiveShell"
