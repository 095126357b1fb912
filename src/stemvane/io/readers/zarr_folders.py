"""Zarr of other programs, formats 2 and 3, as folders or zipped: how to look into it, and plain arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import ZipStore

from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError
from stemvane.io.on_disk import OnDisk
from stemvane.io.readers.hdf5 import open_array
from stemvane.io.request import Request

__all__ = ["is_zarr", "open_node", "open_plain_zarr", "zarr_array", "zarr_sketch"]

_MARKS = ("zarr.json", ".zgroup", ".zarray")
_DEPTH = 3


def is_zarr(path: Path) -> bool:
    """Whether a folder, or a zip archive, is a Zarr group or array."""
    if path.is_dir():
        return any((path / mark).is_file() for mark in _MARKS)
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(set(_MARKS) & set(archive.namelist()))
    except (OSError, zipfile.BadZipFile):
        return False


@contextmanager
def open_node(path: Path, key: str = "") -> Iterator[zarr.Group | zarr.Array[Any] | None]:
    """A group or array of Zarr, to be read within the block; None where there is none of that name."""
    if path.is_dir():
        yield zarr.open(path / key, mode="r") if is_zarr(path / key) else None
        return
    with ZipStore(path, mode="r") as store:
        try:
            yield zarr.open(store, path=key, mode="r")
        except (FileNotFoundError, KeyError):
            yield None


def zarr_sketch(path: Path) -> tuple[frozenset[str], dict[str, Any]]:
    """Names three levels deep, and the attributes of the root."""
    with open_node(path) as node:
        attributes = dict(node.attrs) if node is not None else {}
    if not path.is_dir():
        with zipfile.ZipFile(path) as archive:
            marked = {tuple(name.split("/")[:-1]) for name in archive.namelist() if name.endswith(_MARKS)}
        return frozenset("/".join(parts) for parts in marked if 0 < len(parts) <= _DEPTH), attributes
    names: set[str] = set()
    folders = [(path, "")]
    for _ in range(_DEPTH):
        groups = [
            (below, f"{prefix}{below.name}")
            for folder, prefix in folders
            for below in sorted(folder.iterdir())
            if below.is_dir() and is_zarr(below)
        ]
        names |= {name for _, name in groups}
        folders = [(folder, f"{name}/") for folder, name in groups]
    return frozenset(names), attributes


def zarr_array(path: Path, key: str, order: tuple[int, ...] = ()) -> tuple[OnDisk, tuple[int, ...]]:
    """Return an array of Zarr, left on disk, and its chunks.

    Raises
    ------
    DataError
        If there is no such array.
    """
    with open_node(path, key) as array:
        if not isinstance(array, zarr.Array):
            choices = ", ".join(sorted(zarr_sketch(path)[0])[:8]) or "nothing"
            raise DataError(f"{path}: has no array '{key}', but {choices}; give source.dataset, one of these")
        order = order if len(order) == array.ndim else ()
        dtype = np.dtype(array.dtype)
        return OnDisk(str(path.absolute()), key, "zarr", array.shape, dtype, order), array.chunks


def open_plain_zarr(request: Request) -> Dataset4D:
    """Open the array of a Zarr folder that `request.dataset` names, or the only one that can be a scan.

    Raises
    ------
    DataError
        If there is none, or more than one.
    """
    path = request.path
    key = request.dataset
    if key is None:
        with open_node(path) as node:
            key = "" if isinstance(node, zarr.Array) else _only(path)
    array, chunks = zarr_array(path, key)
    data, missing = open_array(request, array, chunks)
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing)


def _only(path: Path) -> str:
    names_of: dict[int, list[str]] = {3: [], 4: []}
    for name in sorted(zarr_sketch(path)[0]):
        with open_node(path, name) as array:
            if isinstance(array, zarr.Array) and array.ndim in names_of:
                names_of[array.ndim].append(name)
    names = names_of[4] or names_of[3]
    if len(names) == 1:
        return names[0]
    if not names:
        raise DataError(f"{path}: a Zarr folder without an array of four axes; give the folder of the 4D-STEM scan")
    raise DataError(f"{path}: holds more than one scan; give source.dataset, one of: {', '.join(names[:8])}")
