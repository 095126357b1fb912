"""Checksums of a finished folder, in the form that ``sha256sum -c`` reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from stemvane.errors import RunError
from stemvane.io import atomic

__all__ = ["CHECKSUMS", "is_small", "require_checksums", "write_checksums"]

CHECKSUMS = "checksums.sha256"

# drawn or searched again at any time, by commands of their own
_LATER = ("figures", "symmetry")
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def is_small(name: str) -> bool:
    """Whether a file, by its name within a folder, is none of the arrays in a Zarr store."""
    return ".zarr/" not in name or name.endswith(".zarr/zarr.json")


def write_checksums(folder: Path) -> None:
    """Write the checksum of every file of a folder but hidden ones, figures and defect searches."""
    lines = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.is_file() and not file.name.startswith(".") and name.parts[0] not in (*_LATER, CHECKSUMS):
            lines.append(f"{_checksum(file)}  {name.as_posix()}\n")
    atomic.write_text(folder / CHECKSUMS, "".join(lines))


def require_checksums(folder: Path, belongs: Callable[[str], bool]) -> None:
    """Compare files with their checksums.

    Parameters
    ----------
    folder : Path
        A finished folder; one that was written without checksums passes.
    belongs : callable
        Whether a file, by its name within the folder, is to be compared.

    Raises
    ------
    RunError
        If a file is missing or not as it was written; the message names the first one.
    """
    if not (folder / CHECKSUMS).exists():
        return
    try:
        text = (folder / CHECKSUMS).read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = "?"
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise _changed(folder, CHECKSUMS)
        if belongs(match[2]) and not _is_intact(folder / match[2], match[1]):
            raise _changed(folder, match[2])


def _changed(folder: Path, name: str) -> RunError:
    return RunError(
        f"{folder}: {name} is not as it was written; copy the folder again, run it again, or open it as it is with "
        "verify=False"
    )


def _is_intact(file: Path, expected: str) -> bool:
    try:
        return _checksum(file) == expected
    except (OSError, ValueError):
        return False


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
