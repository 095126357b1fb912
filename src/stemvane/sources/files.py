"""Files: `open_dataset` and `save_dataset`.

The format is told from what a file holds, not from its name. `docs/format.md` describes our own Zarr layout.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from stemvane.dataset import Dataset4D
from stemvane.errors import FileFormatError
from stemvane.sources.hspy import open_hspy
from stemvane.sources.layout import FORMAT, open_zarr, write_zarr
from stemvane.sources.on_disk import READABLE, told

__all__ = ["open_dataset", "save_dataset"]

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def open_dataset(path: str | os.PathLike[str]) -> Dataset4D:
    """Open a 4D-STEM scan; patterns stay on disk until they are needed.

    Parameters
    ----------
    path : str or path
        A ``.zarr`` folder that `save_dataset` wrote, or a HyperSpy ``.hspy`` file with two navigation and two
        signal axes. The format is told from the content.

    Returns
    -------
    Dataset4D
        Lazy, in the order ``(scan_y, scan_x, k_y, k_x)``, with what the file knows of its calibration: steps in Å and
        mrad, energy in eV, semi-angle in mrad. No file is kept open.

    Raises
    ------
    FileFormatError
        If the file is missing, damaged, or not of a format that stemvane reads.
    DataError
        If the file holds no real array with two scan and two detector axes.

    Notes
    -----
    Nothing is ever unpickled. Damage within a compressed block shows when that block is read, then too as a
    `FileFormatError`.
    """
    source = Path(path)
    with told(source):
        if source.is_dir():
            return open_zarr(source)
        with source.open("rb") as stream:
            magic = stream.read(len(_HDF5_MAGIC))
        if not magic:
            raise FileFormatError(f"{source}: the file is empty; copy or record it again")
        if magic == _HDF5_MAGIC:
            return open_hspy(source)
        raise FileFormatError(f"{source}: not a format that stemvane knows; {READABLE}")


def save_dataset(
    dataset: Dataset4D,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a data set as a ``.zarr`` folder in the layout of ``docs/format.md``.

    The folder is written beside its place under a hidden name and renamed last, so that a killed write leaves nothing
    that looks complete.

    Parameters
    ----------
    dataset : Dataset4D
        Lazy data are computed block by block, data and noiseless patterns together.
    path : str or path
        Name of the folder, ending in ``.zarr``.
    overwrite : bool
        Replace an existing data set of the same name.
    progress : callable, optional
        Called with the numbers of patterns done and in all.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileFormatError
        If the folder exists already or cannot be written.
    """
    target = Path(path)
    if target.suffix != ".zarr":
        raise FileFormatError(f"{target}: data sets are saved as Zarr folders; give a name that ends in .zarr")
    partial = target.with_name(f".{target.name}.partial")
    with told(target, "written", "check the disk and its permissions"):
        _require_free(target, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            write_zarr(dataset, partial, progress)
            _put_in_place(partial, target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return target


def _require_free(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FileFormatError(
            f"{target}: exists already; give another name, or --overwrite (overwrite=True) to replace it"
        )
    head = target / "zarr.json"
    if not head.is_file() or FORMAT not in head.read_text(encoding="utf-8", errors="replace"):
        raise FileFormatError(
            f"{target}: exists and is no data set of stemvane's, so it is left alone; give another name"
        )


def _put_in_place(partial: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
