"""Environments for other programs, outside the repository: each peer has one of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["interpreter"]


def interpreter(
    environments: Path, requirement: str, *, more: Sequence[str] = (), constraints: Sequence[str] = ()
) -> str:
    """Python of an environment that holds a requirement, made where it is missing.

    ``more`` are packages that the requirement needs and does not name, ``constraints`` pin what it pulls in.
    """
    folder = environments.absolute() / requirement
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pinned = folder / "constraints.txt"
        pinned.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(pinned)]
        subprocess.run([*pip, requirement, *more], check=True)
        (folder / "complete").touch()
    return str(python)
