"""How an object shows itself: a title and a few rows, as plain text in a terminal and as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

__all__ = [
    "Representable",
    "Row",
    "as_html",
    "as_text",
    "format_count",
    "format_position",
    "format_quantity",
    "format_shape",
    "format_size",
]

Row = tuple[str, str]
"""Name of a quantity, and its value with the unit."""

_MAX_LINES = 8
_MAX_COLUMNS = 120
# no colours: text and rules are those of the notebook, dark or light
_TABLE = "border-collapse:collapse;background:transparent;color:inherit;text-align:left"
_CAPTION = "caption-side:top;text-align:left;font-weight:bold;color:inherit;padding:2px 0"
_CELL = "padding:1px 12px 1px 0;border:none;text-align:left;background:transparent;color:inherit;vertical-align:top"


class Representable:
    """Base of objects that print as a title and rows, at most 8 lines, and as an HTML table in a notebook.

    A class gives its title and rows in ``_summary``. A dataclass must be made with ``repr=False``, because its own
    representation would take precedence over this one. Nothing lazy may be computed for a row.
    """

    def _summary(self) -> tuple[str, Sequence[Row]]:
        """Title, and rows of names and values with units; the rows that matter most come first."""
        return type(self).__name__, ()

    def __repr__(self) -> str:
        return as_text(*self._summary())

    def _repr_html_(self) -> str:
        return as_html(*self._summary())


def as_text(title: str, rows: Iterable[Row] = ()) -> str:
    """Plain text of at most 8 lines of at most 120 columns: the title, and one line for each row.

    Parameters
    ----------
    title : str
        What the object is, and its name.
    rows : iterable of (str, str)
        Names, and values with units.

    Returns
    -------
    str
        Rows for which there is no space are counted in the last line.
    """
    rows = [(_one_line(name), _one_line(value)) for name, value in rows]
    width = max((len(name) for name, _ in rows), default=0)
    lines = [_one_line(title), *(f"  {name:<{width}}  {value}" for name, value in rows)]
    if len(lines) > _MAX_LINES:
        names = ", ".join(name for name, _ in rows[_MAX_LINES - 2 :])
        lines = [*lines[: _MAX_LINES - 1], f"  … and {names}"]
    return "\n".join(_cut(line) for line in lines)


def as_html(title: str, rows: Iterable[Row] = ()) -> str:
    """HTML table of all rows under the title, readable on light and dark ground.

    Parameters
    ----------
    title : str
        What the object is, and its name.
    rows : iterable of (str, str)
        Names, and values with units.

    Returns
    -------
    str
        Titles, names and values are escaped.
    """
    body = "".join(
        f'<tr style="background:transparent"><th style="{_CELL};font-weight:normal;opacity:0.7">{escape(name)}</th>'
        f'<td style="{_CELL}">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table style="{_TABLE}"><caption style="{_CAPTION}">{escape(title)}</caption><tbody>{body}</tbody></table>'


def format_count(n: int, noun: str) -> str:
    """A number of things, such as ``1 defect`` or ``2 defects``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def format_quantity(value: float | Sequence[float] | None, unit: str = "", missing: str = "unknown") -> str:
    """A number, or numbers such as a pair ``(y, x)``, to four digits with its unit.

    Parameters
    ----------
    value : float, sequence of float or None
        Equal numbers of a pair are written once.
    unit : str
        Written behind the number.
    missing : str
        What stands for None.

    Returns
    -------
    str
    """
    if value is None:
        return missing
    numbers = [float(v) for v in np.atleast_1d(np.asarray(value, float))]
    words = [f"{v:.4g}" for v in numbers]
    text = words[0] if len(set(words)) == 1 else ", ".join(words)
    return f"{text} {unit}".rstrip()


def format_position(position: Sequence[float] | None, unit: str = "px") -> str:
    """A position ``(y, x)`` to a hundredth, with its unit."""
    return "unknown" if position is None else f"({position[0]:.2f}, {position[1]:.2f}) {unit}"


def format_shape(shape: Iterable[int]) -> str:
    """Numbers of samples along each axis, such as ``64 × 64``."""
    return " × ".join(str(n) for n in shape)


def format_size(n_bytes: float) -> str:
    """A number of bytes in the unit that suits it, such as ``1.07 GB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.4g} PB"


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())


def _cut(line: str) -> str:
    return line if len(line) <= _MAX_COLUMNS else f"{line[: _MAX_COLUMNS - 1]}…"
