"""Where a run may be written, and whether a finished one lies there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stemvane.config import Config
from stemvane.errors import RunError
from stemvane.io import atomic
from stemvane.io.places import Place, has_kind, partial

__all__ = ["finished_manifest", "is_run", "place_for_run"]


def is_run(folder: Path) -> bool:
    """Whether a folder is a run or a sweep, finished or not."""
    return has_kind(folder, ("run", "sweep"))


def finished_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a finished run.

    Parameters
    ----------
    path : Path
        Its folder.

    Returns
    -------
    dict

    Raises
    ------
    RunError
        If there is no finished run; the message says why.
    """
    if path.name.endswith(".partial"):
        raise RunError(f"{path}: this run was not finished; run it again under its own name")
    if not path.is_dir():
        unfinished = partial(path).is_dir()
        why = "was not finished; run it again" if unfinished else "does not exist; check the name"
        raise RunError(f"{path}: this run {why}")
    manifest = atomic.read_manifest(path)
    if manifest is None:
        raise RunError(f"{path}: not a run, for manifest.json is missing or damaged; run it again")
    if manifest.get("kind") == "sweep":
        raise RunError(f"{path}: a sweep, not a run; run it with the config.toml in it, or give another folder")
    if manifest.get("status") != "complete":
        raise RunError(f"{path}: this run is not complete (status {manifest.get('status')!r}); run it again")
    return manifest


def place_for_run(
    path: str | Path, config: Config, *, overwrite: bool = False, inputs: Sequence[str | Path] = ()
) -> Place:
    """Refuse a folder for a run that cannot be written, or in which something would be lost.

    Parameters
    ----------
    path : str or Path
        The folder.
    config : Config
        Settings of the run; the files that they name are inputs.
    overwrite : bool
        Whether a run or a sweep of this name may be replaced.
    inputs : sequence of str or Path
        Further files and folders that the run is made from.

    Returns
    -------
    Place

    Raises
    ------
    RunError
        If it is refused.
    """
    files = [*config.files(), *inputs]
    return Place.checked(path, "run", is_run, RunError, overwrite=overwrite, inputs=files)
