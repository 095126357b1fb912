"""Findings at the end of a command."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import typer
from rich.console import Console
from rich.text import Text

from stemvane.cli.options import add_flags
from stemvane.data.findings import Finding

__all__ = ["print_findings"]

_STYLES = {"note": "", "warning": "yellow", "failure": "bold red"}


def print_findings(
    console: Console, findings: Sequence[Finding], available: Collection[str], *, strict: bool = False
) -> None:
    """Print what makes a result doubtful, the worst last, where the eye is.

    Parameters
    ----------
    console : Console
        Where to print.
    findings : sequence of Finding
        The worst first.
    available : collection of str
        Options that the command has.
    strict : bool
        Whether failures end the command with exit code 2.
    """
    for finding in reversed(findings):
        line = f"{finding.severity}: {add_flags(str(finding), available)}"
        console.print(Text(line, style=_STYLES[finding.severity]), soft_wrap=True)
    if strict and any(finding.severity == "failure" for finding in findings):
        raise typer.Exit(2)
