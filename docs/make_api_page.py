"""Write docs/api.md from the public names of the package and the first lines of their docstrings.

Run as ``python docs/make_api_page.py``.
"""

from __future__ import annotations

import functools
import inspect
import sys
from pathlib import Path
from typing import Any

import stemvane

PAGE = Path(__file__).parent / "api.md"
HEAD = """# Python

<!-- written by docs/make_api_page.py; do not edit -->

Every public name, as in `from stemvane import measure`. `help(measure)` gives shapes, units and errors.
"""


def page() -> str:
    """Return the page: a section for each public name, with its members where it is a class."""
    return HEAD + "".join(_section(name, getattr(stemvane, name)) for name in stemvane.__all__)


def _section(name: str, thing: Any) -> str:
    members = _members(thing) if inspect.isclass(thing) and not issubclass(thing, Exception) else []
    rows = "".join(f"| `{label}` | {words} |\n" for label, words in members)
    table = f"\n| | |\n|---|---|\n{rows}" if rows else ""
    call = name if inspect.isclass(thing) and issubclass(thing, Exception) else f"{name}{_signature(thing)}"
    return f"\n## {name}\n\n```\n{call}\n```\n\n{_first_line(thing)}\n{table}"


def _members(thing: type) -> list[tuple[str, str]]:
    """Public methods and properties in the order in which they are written."""
    found = []
    for name, member in vars(thing).items():
        if name.startswith("_") or name in getattr(thing, "model_fields", {}):
            continue
        if isinstance(member, property | functools.cached_property):
            found.append((name, _first_line(member)))
        elif inspect.isfunction(member) or isinstance(member, classmethod | staticmethod):
            found.append((f"{name}{_signature(getattr(thing, name))}", _first_line(getattr(thing, name))))
    return found


def _signature(thing: Any) -> str:
    """Names and defaults of the arguments, without types; a default that is an object or a factory is an ellipsis."""
    parameters = []
    for parameter in inspect.signature(thing).parameters.values():
        if parameter.name == "self":
            continue
        default = parameter.default
        if default is not parameter.empty and not isinstance(default, bool | int | float | str | tuple | None):
            default = ...
        parameters.append(parameter.replace(annotation=parameter.empty, default=default))
    return str(inspect.Signature(parameters)).replace("Ellipsis", "...").replace("=<factory>", "=...")


def _first_line(thing: Any) -> str:
    first = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(first.split()).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
