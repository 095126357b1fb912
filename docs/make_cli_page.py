"""Write docs/cli.md from the help texts of the command line.

Run as ``python docs/make_cli_page.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from stemvane.cli import app

PAGE = Path(__file__).parent / "cli.md"
HEAD = """# The command line

<!-- written by docs/make_cli_page.py; do not edit -->

`stemvane COMMAND --help` prints the same. Pairs are written as `YxX`. Progress goes to stderr and is silent where that is not a terminal. An error is one line
on stderr and exit code 1; a wrong option is exit code 2.
"""


def page() -> str:
    """Return the page: a section for each command, a row for each argument and option."""
    program: Any = typer.main.get_command(app)
    return HEAD + "".join(_section(name, command) for name, command in program.commands.items())


def _section(name: str, command: Any) -> str:
    given = [p for p in command.params if p.name != "help"]
    arguments = [p for p in given if p.param_type_name == "argument"]
    usage = " ".join(["stemvane", name, *(f"<{p.name}>" for p in arguments), "[OPTIONS]"])
    rows = [
        f"| {_name(p)} | {_default(p)} | {p.help} |\n" for p in [*arguments, *(p for p in given if p not in arguments)]
    ]
    words = " ".join(command.help.split())
    return f"\n## {name}\n\n{words}\n\n```\n{usage}\n```\n\n| | default | |\n|---|---|---|\n{''.join(rows)}"


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`<{parameter.name}>`"
    return ", ".join(f"`{option}`" for option in parameter.opts)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    return f"`{parameter.default}`" if parameter.default not in (None, False) else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
