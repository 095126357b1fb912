"""Plain text files that appear whole, manifests, and what a folder of results holds."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "file_states",
    "fingerprint",
    "is_intact",
    "keep_only",
    "plain",
    "read_json",
    "read_manifest",
    "read_table",
    "remove",
    "size",
    "write_bytes",
    "write_json",
    "write_table",
    "write_text",
]


_MARKS = ("manifest.json", "zarr.json", "export.json")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Content of ``manifest.json``, None where it is missing or damaged."""
    try:
        return read_json(folder / "manifest.json")
    except (OSError, ValueError, TypeError):
        return None


def remove(part: Path) -> None:
    """Remove a file, or a folder with all that is in it, where there is one.

    What says of a folder whose it is goes last, so that what a killed removal leaves is still known as ours.
    """
    if part.is_dir() and not part.is_symlink():
        keep_only(part, _MARKS)
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)


def keep_only(folder: Path, parts: Collection[str]) -> None:
    """Remove everything from a folder but these files and folders, given by their paths within it."""
    protected = [folder / part for part in parts]
    for entry in folder.iterdir():
        if entry in protected:
            continue
        inner = [part.relative_to(entry).as_posix() for part in protected if part.is_relative_to(entry)]
        if inner and entry.is_dir() and not entry.is_symlink():
            keep_only(entry, inner)
        else:
            remove(entry)


def fingerprint(part: Path) -> str:
    """SHA-256 over name and content of a file, or of all files in a folder but hidden ones.

    Raises
    ------
    OSError
        If the part is missing or cannot be read.
    """
    total = hashlib.sha256()
    for file in _files(part):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(part.parent).as_posix()}\0{content}\0".encode())
    return total.hexdigest()


def is_intact(part: Path, expected: str) -> bool:
    """Whether a part is there and has this fingerprint."""
    try:
        return fingerprint(part) == expected
    except OSError:
        return False


def size(part: Path) -> int:
    """Bytes of a file, or of all files in a folder but hidden ones."""
    return sum(file.stat().st_size for file in _files(part))


def file_states(part: Path) -> list[list[Any]]:
    """Name, size and time of change (ns) of a file, or of all files in a folder but hidden ones."""
    states = [(file, file.stat()) for file in _files(part)]
    return [[file.relative_to(part).as_posix(), state.st_size, state.st_mtime_ns] for file, state in states]


def _files(part: Path) -> list[Path]:
    """A file itself, or all files in a folder in order, but hidden ones, which file managers leave behind."""
    if not part.is_dir():
        return [part]
    return sorted(file for file in part.rglob("*") if file.is_file() and not file.name.startswith("."))


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write what `plain` has returned as JSON."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises
    ------
    OSError, ValueError, TypeError
        If the file is missing or damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deep") from None
    if not isinstance(values, dict):
        raise TypeError(f"{path.name} holds no mapping")
    return values


def write_table(path: Path, columns: Mapping[str, Sequence[float | str] | NDArray[np.floating[Any]]]) -> None:
    """Write columns of numbers or single words, all of the same length, as CSV; NaN leaves a cell empty."""
    rows = zip(*columns.values(), strict=True)
    lines = [list(columns), *([_cell(value) for value in row] for row in rows)]
    write_text(path, "".join(",".join(line) + "\n" for line in lines))


def read_table(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read numbers that `write_table` wrote: columns by their names, NaN where a cell is empty."""
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = list(csv.reader(file))
    values = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(len(rows), len(names))
    return {name: values[:, index] for index, name in enumerate(names)}


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    number = float(value)
    return "" if math.isnan(number) else str(int(number)) if number.is_integer() else repr(number)


def plain(value: Any) -> Any:
    """Convert NumPy values and paths into what JSON knows; NaN and infinity into null.

    Raises
    ------
    TypeError
        If JSON has no place for the value.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"{value!r} has no place in a JSON file; give numbers, words, or lists of these")
