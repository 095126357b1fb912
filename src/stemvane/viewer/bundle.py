"""The page's modules as one script, for reports and notebooks, which take a single file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

__all__ = ["KINDS", "bundle_modules", "bundled", "static_files"]

KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
"""Media types of the page's files, by the ends of their names."""

_IMPORT = re.compile(r'^import \{ ([^}]*) \} from "\./([a-z_]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_EXPORTED = re.compile(r"^export (?:async )?(?:function|class|const) (\w+)", re.MULTILINE)


def static_files() -> dict[str, bytes]:
    """Content of every file of the page, by name."""
    folder = files("stemvane.viewer") / "static"
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.rpartition(".")[2] in KINDS}


def bundle_modules(modules: Mapping[str, str], entry: str) -> str:
    """Join modules that import one another to one script.

    Parameters
    ----------
    modules : mapping of str to str
        Source of every module by its name, without ``.js``. They import by ``import { a, b } from "./name.js";`` on a
        line of its own, and export functions, classes and constants where they define them.
    entry : str
        The module that needs all others.

    Returns
    -------
    str
        Each module as a function of its own, whose result is what it exports; that of the entry is called
        ``module_<entry>``.

    Raises
    ------
    ValueError
        If modules import one another in a circle, or in another way.
    """
    done: list[str] = []
    parts: list[str] = []

    def add(name: str, path: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in path:
            raise ValueError(f"modules import one another in a circle: {' → '.join([*path, name])}")
        source = modules[name]
        heads = []
        for names, other in _IMPORT.findall(source):
            add(other, (*path, name))
            heads.append(f"const {{ {names} }} = module_{other};")
        body = _EXPORT.sub("", _IMPORT.sub("", source))
        if re.search(r"^(?:import|export)\b", body, re.MULTILINE):
            raise ValueError(f"{name}.js imports or exports in a way that is not joined")
        exported = ", ".join(_EXPORTED.findall(source))
        parts.append(
            "\n".join([f"const module_{name} = (() => {{", *heads, body, f"return {{ {exported} }};", "})();"])
        )
        done.append(name)

    add(entry, ())
    return "\n".join(parts)


@cache
def bundled(entry: str) -> str:
    """The page's modules that one of them needs, as one script."""
    modules = {name.removesuffix(".js"): text.decode() for name, text in static_files().items() if name.endswith(".js")}
    return bundle_modules(modules, entry)
