"""Folders that appear under their name only when they are complete, and the plain text files in them."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from stemvane.errors import RunError

__all__ = ["claim", "partial", "plain", "publish", "read_manifest", "size", "write_json", "write_text"]


def claim(path: Path, *, overwrite: bool) -> Path:
    """Make the hidden folder in which `path` is prepared.

    Parameters
    ----------
    path : Path
        Absolute path of the final folder.
    overwrite : bool
        Whether a finished run may lie there already.

    Returns
    -------
    Path
        The sibling ``.<name>.partial``, empty. What a killed run has left there is removed.

    Raises
    ------
    RunError
        If `path` exists and is not to be overwritten, or another process is preparing it.
    """
    folder = partial(path)
    if _aside(path).exists() and not path.exists():
        os.replace(_aside(path), path)  # a replacement was killed between its two renames
    _require_free(path, overwrite)
    _remove_stale(folder, path)
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
    aside = _aside(path)
    if path.exists():
        _remove(aside)
        os.replace(path, aside)
    os.replace(folder, path)
    _remove(aside)


def partial(path: Path) -> Path:
    """Hidden folder in which `path` is prepared."""
    return path.with_name(f".{path.name}.partial")


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Content of ``manifest.json``, None where it is missing or damaged."""
    try:
        values = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _require_free(path: Path, overwrite: bool) -> None:
    if not path.exists():
        return
    if not overwrite:
        raise RunError(f"{path} exists already; choose another name, or pass --overwrite to replace it")
    if read_manifest(path) is None:
        raise RunError(f"{path} exists but is not a run, so it is not overwritten; choose another name")


def _remove_stale(folder: Path, path: Path) -> None:
    """Remove what a killed run of this name has left."""
    if not folder.exists():
        return
    manifest = read_manifest(folder)
    if manifest is None and any(folder.iterdir()):
        raise RunError(f"{folder} is in the way and is not ours; remove it, or choose another name than {path.name}")
    if manifest is not None and _is_written(manifest):
        raise RunError(f"{path}: another process is writing this run now; wait for it, or choose another name")
    shutil.rmtree(folder)


def _is_written(manifest: Mapping[str, Any]) -> bool:
    """Whether another process that is still there began this run; a younger one has only inherited its number."""
    pid = manifest.get("pid")
    if manifest.get("host") != socket.gethostname() or not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        return float(psutil.Process(pid).create_time()) <= datetime.fromisoformat(manifest["started"]).timestamp() + 1
    except (psutil.Error, ValueError, KeyError, TypeError):
        return False


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def size(part: Path) -> int:
    """Bytes of a file, or of all files in a folder but hidden ones, which file managers leave behind."""
    if part.is_file():
        return part.stat().st_size
    return sum(file.stat().st_size for file in part.rglob("*") if file.is_file() and not file.name.startswith("."))


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write what `plain` has returned as JSON."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def plain(value: Any) -> Any:
    """Turn NumPy values and paths into what JSON knows; NaN and infinity into null.

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
