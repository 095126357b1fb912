"""Where a run may be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stemvane.config import Config
from stemvane.errors import RunError
from stemvane.io.places import Place, has_kind

__all__ = ["is_run", "place_for_run"]


def is_run(folder: Path) -> bool:
    """Whether a folder is a run or a sweep, finished or not."""
    return has_kind(folder, ("run", "sweep"))


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
