"""Labels: positions of which somebody has said what they are."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.data.arguments import read_rows
from stemvane.errors import DataError

__all__ = ["Labels", "check_labels", "place_labels", "read_labels"]

Labels = Mapping[str, Sequence[tuple[int, int]]]
"""Positions ``(y, x)`` of each named kind."""


def check_labels(labels: Any) -> dict[str, list[tuple[int, int]]]:
    """Labels as a dictionary of lists of pairs.

    Parameters
    ----------
    labels : mapping of str to sequence of (int, int), or str or Path, or None
        Labels, or the CSV file that they are in.

    Returns
    -------
    dict of str to list of (int, int)

    Raises
    ------
    DataError
        If they are neither, a file cannot be read, a name is no text or has no positions, or a position is no pair of
        whole numbers.
    """
    if isinstance(labels, str | Path) and labels:
        return read_labels(labels)
    if not labels:
        return {}
    if not isinstance(labels, Mapping):
        raise DataError(
            f"labels are {type(labels).__name__}; give positions by name, such as {{'film': [(3, 4)]}}, or a CSV file"
        )
    checked = {}
    for name, positions in labels.items():
        if not isinstance(name, str):
            raise DataError(f"the label {name!r} is no text; give names in quotes")
        try:
            checked[name] = [_position(name, position) for position in positions]
        except TypeError:
            raise DataError(
                f"the label '{name}' has the positions {positions!r}; give a list of pairs (y, x)"
            ) from None
        if not checked[name]:
            raise DataError(f"the label '{name}' has no positions; give it some, or leave it out")
    return checked


def read_labels(path: str | Path) -> dict[str, list[tuple[int, int]]]:
    """Read labels from a CSV file with the columns ``y``, ``x`` and ``name``.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict of str to list of (int, int)
        Positions of each name, in the order of the file.

    Raises
    ------
    DataError
        If the file cannot be read, a column is missing, or a position is no pair of whole numbers.
    """
    labels: dict[str, list[tuple[int, int]]] = {}
    for number, row in enumerate(read_rows(path, "labels", "y, x, name"), start=2):
        try:
            name, position = (row["name"] or "").strip(), (int(row["y"]), int(row["x"]))
        except (KeyError, TypeError, ValueError):
            name, position = "", (0, 0)
        if not name:
            raise DataError(
                f"{path}, line {number}: no label; give whole numbers y and x, and a name, in these columns"
            )
        labels.setdefault(name, []).append(position)
    if not labels:
        raise DataError(f"{path}: holds no labels; give lines of y, x, name")
    return labels


def place_labels(labels: Labels, names: Sequence[str], scan_shape: tuple[int, int]) -> NDArray[np.int64]:
    """Kind of every labelled position as a map over the scan, -1 elsewhere.

    Parameters
    ----------
    labels : mapping of str to sequence of (int, int)
        Positions of each name.
    names : sequence of str
        Names of the kinds.
    scan_shape : tuple of int
        Probe positions ``(y, x)``.

    Returns
    -------
    ndarray of int, shape (scan_y, scan_x)

    Raises
    ------
    DataError
        If a position is not of the scan, or has two names.
    """
    kinds = np.full(scan_shape, -1, np.int64)
    for name, positions in labels.items():
        for y, x in positions:
            if not (0 <= y < scan_shape[0] and 0 <= x < scan_shape[1]):
                raise DataError(f"the label '{name}' is at ({y}, {x}), beyond the scan of {scan_shape}; leave it out")
            if kinds[y, x] not in (-1, names.index(name)):
                raise DataError(f"({y}, {x}) is labelled '{names[kinds[y, x]]}' and '{name}'; keep one of them")
            kinds[y, x] = names.index(name)
    return kinds


def _position(name: str, position: Any) -> tuple[int, int]:
    try:
        y, x = (operator.index(part) for part in position)
        return y, x
    except (TypeError, ValueError):
        raise DataError(
            f"the label '{name}' has the position {position!r}; give pairs (y, x) of whole numbers"
        ) from None
