"""Write docs/cli.md from the help texts of the command line and the descriptions of the settings.

Run as ``python docs/make_cli_page.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from stemvane.cli.app import app
from stemvane.config import MODEL_CONFIGS, Config
from stemvane.config.section import section_of

PAGE = Path(__file__).parent / "cli.md"
HEAD = """# The command line

<!-- written by docs/make_cli_page.py; do not edit -->

`stemvane COMMAND --help` prints the same. Pairs are written as `YxX`. Progress goes to stderr and is silent where that
is not a terminal. A run that was killed goes on where it stopped when it is started again, and says so in one line on
stderr; see [the run folder](run_folder.md#after-a-kill). An error is one line on stderr and exit code 1; a wrong option
is exit code 2.

An option without a default leaves the setting as it is: in the file given with `--config`, in the package's
`workflow/demo.toml` for `demo`, and otherwise in the table of [settings](#settings).
"""
SETTINGS = """
## Settings

The keys of a `--config` file and of a run's `config.toml`, in TOML: a section is `[basis]`, an entry `n_features = 96`.
A missing entry has its default; an unknown one is an error.
"""


def page() -> str:
    """Return the page: a row for each argument and option of each command, and for each setting."""
    program: Any = typer.main.get_command(app)
    commands = "".join(_section(name, command) for name, command in program.commands.items())
    return HEAD + commands + SETTINGS + "".join(_settings(name) for name in Config.model_fields)


def _settings(section: str) -> str:
    """Table of a section; of the section ``model``, one table for each model."""
    if section == "model":
        words = "Each model has settings of its own; `model` says which one it is, the first if left out."
        return f"\n### {section}\n\n{words}\n" + "".join(
            _table(f"#### {name}", kind) for name, kind in MODEL_CONFIGS.items()
        )
    kind = type(Config.model_fields[section].default)
    nested = ((name, section_of(field.annotation)) for name, field in kind.model_fields.items())
    return _table(f"### {section}", kind) + "".join(
        _table(f"#### {section}.{name}", inner) for name, inner in nested if inner is not None
    )


def _table(title: str, section: Any) -> str:
    rows = []
    for name, field in section.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "none" if default is None else f"`{list(default) if isinstance(default, tuple) else default!r}`"
        rows.append(f"| `{name}` | {shown} | {field.description or ''} |\n")
    return f"\n{title}\n\n{section.__doc__}\n\n| | default | |\n|---|---|---|\n{''.join(rows)}"


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
