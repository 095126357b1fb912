"""A long comparison: its command line, its tables in a page, and what it says when its time is up."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import ROOT, Progress

__all__ = ["Comparison", "cells_as_json", "read_report"]

MINUTES = 35.0
"""Default time after which no further cell is started, so that a call ends within 40 minutes."""


@dataclass(frozen=True)
class Comparison:
    """One comparison whose cells are files.

    Parameters
    ----------
    name : str
        Name of its folder, its results and the markers of its tables.
    tables : callable
        Makes Markdown of a report.
    as_json : callable
        Makes the text of the results file of a report.
    draw : callable, optional
        Draws a report into a PNG file.
    """

    name: str
    tables: Callable[[dict[str, Any]], str]
    as_json: Callable[[dict[str, Any]], str]
    draw: Callable[[dict[str, Any], Path], None] | None = None

    @property
    def begin(self) -> str:
        """The line before the tables in the page."""
        return f"<!-- {self.name}: begin -->"

    @property
    def end(self) -> str:
        """The line after the tables in the page."""
        return f"<!-- {self.name}: end -->"

    def parser(self, description: str | None) -> argparse.ArgumentParser:
        """Command line with the options that all comparisons have."""
        parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{self.name}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        results = ROOT / "benchmarks" / "results" / f"{self.name}.json"
        parser.add_argument("--quick", action="store_true", help="a small choice, whose tables are only printed")
        parser.add_argument("--jobs", type=int, default=2, help="cells side by side")
        limit = parser.add_mutually_exclusive_group()
        limit.add_argument("--minutes", type=float, default=MINUTES, help="start no cell that would end later")
        limit.add_argument("--full", action="store_true", help="run until everything is done")
        parser.add_argument("--work", type=Path, default=ROOT / "build" / self.name, help="where finished cells lie")
        parser.add_argument("--output", type=Path, default=results)
        parser.add_argument("--readme", type=Path, default=ROOT / "benchmarks" / "README.md")
        parser.add_argument("--resume", type=Path, metavar="RESULTS", help=f"a file like results/{self.name}.json")
        parser.add_argument("--tables", action="store_true", help="run nothing, only join what is done")
        return parser

    def work(self, chosen: argparse.Namespace) -> Path:
        """Folder of the cells; those of a quick look lie apart."""
        return Path(chosen.work / ("quick" if chosen.quick else "full")).absolute()

    def progress(self, chosen: argparse.Namespace, total: int) -> Progress:
        """Count cells, within the time that was chosen."""
        return Progress(total, None if chosen.full else chosen.minutes)

    def finish(self, report: dict[str, Any], chosen: argparse.Namespace, progress: Progress) -> None:
        """Publish the tables of a complete comparison, print those of an incomplete one, and report failures."""
        text = self.tables(report)
        if chosen.quick or progress.n_postponed:
            print(text)
        else:
            self.publish(report, text, chosen.output, chosen.readme)
        if progress.n_postponed:
            print(
                f"time is up: {progress.n_postponed} of {progress.total} are not done yet, so nothing was written but "
                f"their cells in {chosen.work}; the same command goes on with them",
                file=sys.stderr,
            )
        if progress.n_failed:
            raise SystemExit(f"{progress.n_failed} failed, see above; the others stay in {chosen.work}")

    def publish(self, report: dict[str, Any], text: str, output: Path, readme: Path) -> None:
        """Write the results, the figure where there is one, and the tables between the markers of the page."""
        before, after = split_at_markers(readme, self.begin, self.end)
        output.parent.mkdir(exist_ok=True)
        output.write_text(self.as_json(report), encoding="utf-8")
        if self.draw is not None:
            self.draw(report, output.with_suffix(".png"))
        readme.write_text(f"{before}{self.begin}\n\n{text}\n{self.end}{after}", encoding="utf-8")

    def require_page(self, chosen: argparse.Namespace) -> None:
        """Refuse a page that has no place for the tables before anything is run."""
        if not chosen.quick:
            split_at_markers(chosen.readme, self.begin, self.end)


def split_at_markers(page: Path, begin: str, end: str) -> tuple[str, str]:
    """Text of a page before and after what stands between two markers."""
    before, begins, rest = page.read_text(encoding="utf-8").partition(begin) if page.exists() else ("", "", "")
    _, ends, after = rest.partition(end)
    if not (begins and ends):
        raise SystemExit(f"{page}: has no lines '{begin}' and '{end}' for the tables; write them where they belong")
    return before, after


def cells_as_json(report: dict[str, Any]) -> str:
    """Write one cell a line, so that a change of one is a change of one line."""
    lines = ",\n".join(json.dumps(cell, separators=(",", ":")) for cell in report["cells"])
    return f'{{"machine": {json.dumps(report["machine"])},\n"cells": [\n{lines}\n]}}\n'


def read_report(path: Path) -> dict[str, Any]:
    """Read the results file of an earlier comparison."""
    return dict(json.loads(path.read_text(encoding="utf-8")))
