"""What comparisons share: the machine they ran on, files that are whole or not there, tables in a page, progress."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Progress", "machine", "split_at_markers", "write_json"]


def machine() -> dict[str, Any]:
    """What a comparison was made on, and when."""
    return {
        "processors": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a file that is complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
    partial.rename(path)


def split_at_markers(page: Path, begin: str, end: str) -> tuple[str, str]:
    """Text of a page before and after what stands between two markers."""
    before, begins, rest = page.read_text(encoding="utf-8").partition(begin) if page.exists() else ("", "", "")
    _, ends, after = rest.partition(end)
    if not (begins and ends):
        raise SystemExit(f"{page}: has no lines '{begin}' and '{end}' for the tables; write them where they belong")
    return before, after


@dataclass
class Progress:
    """Says of every piece of work that is done how many there are, and how long it has taken so far.

    Parameters
    ----------
    total : int
        Pieces of work.
    """

    total: int
    finished: int = 0
    failed: int = 0
    start: float = field(default_factory=time.perf_counter)

    def add(self, what: str, trouble: str) -> None:
        """Count one piece, and as failed where something went wrong with it."""
        self.finished += 1
        self.failed += bool(trouble)
        hours = (time.perf_counter() - self.start) / 3600
        print(f"{self.finished} of {self.total}, {hours:.2f} h: {what} {trouble}", file=sys.stderr, flush=True)
