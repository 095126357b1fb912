"""Folders that appear under their name only when they are complete, and the plain text files in them."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shutil
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from stemvane.errors import RunError

__all__ = [
    "claim",
    "file_states",
    "fingerprint",
    "is_intact",
    "keep_only",
    "partial",
    "plain",
    "publish",
    "put_in_place",
    "read_json",
    "read_manifest",
    "read_table",
    "remove",
    "size",
    "write_json",
    "write_table",
    "write_text",
    "written_whole",
]


def claim(path: Path, *, overwrite: bool, resume: bool = False) -> Path:
    """Make the hidden folder in which `path` is prepared.

    Parameters
    ----------
    path : Path
        Absolute path of the final folder.
    overwrite : bool
        Whether a finished run may lie there already.
    resume : bool
        Whether what a killed run has left stays.

    Returns
    -------
    Path
        The sibling ``.<name>.partial``; empty, or with the manifest and the files of a killed run.

    Raises
    ------
    RunError
        If `path` exists and is not to be overwritten, or another process is preparing it.
    """
    folder = partial(path)
    if _aside(path).exists() and not path.exists():
        os.replace(_aside(path), path)  # a replacement was killed between its two renames
    _require_free(path, overwrite)
    _require_ours(folder, path)
    if not resume or read_manifest(folder) is None:
        remove(folder)
        folder.mkdir(parents=True)
    return folder


def publish(folder: Path, path: Path, *, overwrite: bool) -> None:
    """Give a complete folder its final name; an old one is kept until the new one is in place.

    Raises
    ------
    RunError
        If `path` exists and is not to be overwritten.
    OSError
        If the folder cannot be renamed.
    """
    _require_free(path, overwrite)
    put_in_place(folder, path)


def put_in_place(part: Path, path: Path) -> None:
    """Give a complete file or folder its final name; what has that name stays until then.

    Raises
    ------
    OSError
        If it cannot be renamed.
    """
    aside = _aside(path)
    if path.is_dir():  # a file is replaced in one step, a folder is not
        remove(aside)
        os.replace(path, aside)
    os.replace(part, path)
    remove(aside)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Prepare a file or folder beside its place, and give it its name when that is done.

    Parameters
    ----------
    path : Path
        The final name; the folder that it lies in is made. What has that name stays until then.

    Yields
    ------
    Path
        The hidden name to write under. What a killed write has left there is removed first, and what a failed one has
        written is removed, too.

    Raises
    ------
    OSError
        If it cannot be removed or renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = partial(path)
    remove(hidden)
    try:
        yield hidden
        put_in_place(hidden, path)
    except BaseException:
        remove(hidden)
        raise


def partial(path: Path) -> Path:
    """Hidden folder in which `path` is prepared."""
    return path.with_name(f".{path.name}.partial")


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Content of ``manifest.json``, None where it is missing or damaged."""
    try:
        return read_json(folder / "manifest.json")
    except (OSError, ValueError, TypeError):
        return None


def _require_free(path: Path, overwrite: bool) -> None:
    if not path.exists():
        return
    if not overwrite:
        raise RunError(f"{path} exists already; choose another name, or overwrite=True to replace it")
    if read_manifest(path) is None:
        raise RunError(f"{path} exists but is not a run, so it is not overwritten; choose another name")


def _require_ours(folder: Path, path: Path) -> None:
    """Refuse a partial folder that a run of this name has not left, or is still writing."""
    if not folder.exists():
        return
    manifest = read_manifest(folder)
    if manifest is None and any(folder.iterdir()):
        raise RunError(f"{folder} is in the way and is not ours; remove it, or choose another name than {path.name}")
    if manifest is not None and _is_written(manifest):
        raise RunError(f"{path}: another process is writing this run now; wait for it, or choose another name")


def _is_written(manifest: Mapping[str, Any]) -> bool:
    """Whether another process that is still there began this run; a younger one has only inherited its number."""
    pid = manifest.get("pid")
    if manifest.get("host") != socket.gethostname() or not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        return float(psutil.Process(pid).create_time()) <= datetime.fromisoformat(manifest["started"]).timestamp() + 1
    except (psutil.Error, ValueError, KeyError, TypeError):
        return False


def remove(part: Path) -> None:
    """Remove a file, or a folder with all that is in it, where there is one."""
    if part.is_dir() and not part.is_symlink():
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
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
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
    values = json.loads(path.read_text(encoding="utf-8"))
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
