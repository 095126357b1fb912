"""What a person has marked in a run: labels of positions and regions, and virtual detectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemvane.errors import DataError, RunError
from stemvane.io import atomic
from stemvane.runs.run import Run

__all__ = ["ANNOTATIONS", "check_annotations", "read_annotations", "write_annotations"]

ANNOTATIONS = "annotations.json"
"""Name of the file in the run."""

_MOST_ENTRIES = 2000
_MOST_LETTERS = 200
_PARTS = ("labels", "detectors")


def read_annotations(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Read the labels and detectors of a run.

    Parameters
    ----------
    run : Run
        A finished run.

    Returns
    -------
    dict
        ``labels``, each with ``name`` and ``selection``, and ``detectors``, each with ``name`` and ``detector``; empty
        lists where nothing was marked.

    Raises
    ------
    RunError
        If the file is damaged.
    """
    path = run.path / ANNOTATIONS
    if not path.exists():
        return {part: [] for part in _PARTS}
    try:
        return check_annotations(atomic.read_json(path))
    except (OSError, ValueError, TypeError, DataError) as error:
        raise RunError(f"{path}: damaged ({error}); remove it, or mend it by hand") from None


def write_annotations(run: Run, annotations: Mapping[str, Any]) -> Path:
    """Write the labels and detectors of a run; the only file of a finished run that changes.

    Parameters
    ----------
    run : Run
        A finished run.
    annotations : mapping
        As `read_annotations` returns them.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If they are not as they should be.
    RunError
        If the file cannot be written.
    """
    checked = check_annotations(annotations)
    path = run.path / ANNOTATIONS
    try:
        atomic.write_json(path, checked)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error}); check its permissions") from None
    return path


def check_annotations(annotations: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Refuse labels and detectors that are not plain and named.

    Parameters
    ----------
    annotations : mapping
        What `read_annotations` returns.

    Returns
    -------
    dict
        The same, without anything else that was in it.

    Raises
    ------
    DataError
        If a name is missing, too long or no word, or there are too many.
    """
    checked: dict[str, list[dict[str, Any]]] = {}
    for part, content in zip(_PARTS, ("selection", "detector"), strict=True):
        entries = annotations.get(part, [])
        if not isinstance(entries, list) or len(entries) > _MOST_ENTRIES:
            raise DataError(f"{part} are no list of at most {_MOST_ENTRIES}; mark fewer")
        checked[part] = []
        for entry in entries:
            name = entry.get("name") if isinstance(entry, Mapping) else None
            if not isinstance(name, str) or not 0 < len(name.strip()) <= _MOST_LETTERS:
                raise DataError(f"one of the {part} has no name of 1 to {_MOST_LETTERS} letters; name it")
            inner = entry.get(content)
            if not isinstance(inner, Mapping) or not _is_plain(inner):
                raise DataError(f"'{name}' of the {part} has no {content}; mark it again")
            checked[part].append({"name": name.strip(), content: dict(inner)})
    return checked


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is of finite numbers, words, and lists and mappings of these."""
    if isinstance(value, Mapping):
        return depth < 4 and all(isinstance(k, str) and _is_plain(v, depth + 1) for k, v in value.items())
    if isinstance(value, list):
        return depth < 4 and all(_is_plain(v, depth + 1) for v in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int | bool)
