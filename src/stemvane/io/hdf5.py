"""HDF5 files of other programs: NeXus, and plain arrays.

RosettaSciIO keeps the file open for its lazy arrays, or reads all of it; the arrays here are opened anew for each
block.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
from numpy.typing import NDArray

from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError
from stemvane.io.on_disk import OnDisk
from stemvane.io.request import Request
from stemvane.io.stack import ArrayFrames, fold, whole_scan

__all__ = [
    "arrays_in",
    "hdf5_array",
    "open_array",
    "open_plain_hdf5",
    "sketch",
    "text",
]

_MOST_NAMES = 10_000


def sketch(path: Path) -> tuple[frozenset[str], dict[str, Any]]:
    """Names three levels deep, and the attributes of the root."""
    names: set[str] = set()

    def look(group: h5py.Group, prefix: str, depth: int) -> None:
        for key in group:
            names.add(prefix + key)
            if len(names) >= _MOST_NAMES or depth == 1:
                continue
            if group.get(key, getclass=True, getlink=True) is h5py.HardLink:
                below = group[key]
                if isinstance(below, h5py.Group):
                    look(below, f"{prefix}{key}/", depth - 1)

    with h5py.File(path, "r") as file:
        look(file, "", 3)
        return frozenset(names), {key: file.attrs[key] for key in file.attrs}


def text(value: Any) -> str:
    """A word from an attribute or a scalar, however it was written."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def hdf5_array(path: Path, array: h5py.Dataset, order: tuple[int, ...] = ()) -> OnDisk:
    """Return an array of an HDF5 file, left on disk."""
    return OnDisk(str(path.absolute()), array.name, "hdf5", array.shape, array.dtype, order)


def open_array(
    request: Request,
    array: OnDisk,
    chunks: tuple[int, ...] | None = None,
    recorded: tuple[int, int] | None = None,
) -> tuple[da.Array, NDArray[np.bool_] | None]:
    """A scan of an array with four axes, or of a stack with three."""
    if array.ndim == 3:
        return fold(ArrayFrames(array), request, recorded)
    return whole_scan(request, array, chunks), None


def open_plain_hdf5(request: Request) -> Dataset4D:
    """Open the array of an HDF5 file that `request.dataset` names, or the only one that can be a scan.

    Raises
    ------
    DataError
        If there is none, or more than one; or what is named is no array of three or four axes.
    """
    path = request.path
    with h5py.File(path, "r") as file:
        stored = _named_array(file, request) if request.dataset is not None else _only_array(file, path)
        array, chunks = hdf5_array(path, stored), stored.chunks
        axes = _nexus_axes(stored)
    data, missing = open_array(request, array, chunks)
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing)
    return dataset.with_axes(axes if array.ndim == 4 else [{}, {}, *axes[1:]], {})


def arrays_in(file: h5py.File) -> list[h5py.Dataset]:
    """All arrays that could hold patterns, those with four axes first."""
    arrays: list[h5py.Dataset] = []

    def look(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and thing.ndim > 2 and thing.dtype.kind in "uifbc":
            arrays.append(thing)

    file.visititems(look)
    return sorted(arrays, key=lambda array: array.ndim != 4)


def _named_array(file: h5py.File, request: Request) -> h5py.Dataset:
    name = str(request.dataset)
    array = file.get(name)
    if not isinstance(array, h5py.Dataset):
        choices = ", ".join(array.name.strip("/") for array in arrays_in(file)[:8]) or "no array of more than two axes"
        what = "is a group" if isinstance(array, h5py.Group) else "is not there"
        raise DataError(f"{request.path}: '{name}' {what}; give source.dataset, one of: {choices}")
    if array.ndim not in (3, 4):
        raise DataError(
            f"{request.path}: '{name}' has {array.ndim} axes {array.shape}; give source.dataset, an array of four, "
            "or a stack and source.scan_shape"
        )
    return array


def _only_array(file: h5py.File, path: Path) -> h5py.Dataset:
    arrays = arrays_in(file)
    four = [array for array in arrays if array.ndim == 4] or [array for array in arrays if array.ndim == 3]
    if len(four) == 1:
        return four[0]
    listed = ", ".join(f"{array.name.strip('/')} {array.shape}" for array in arrays[:8])
    if not four:
        raise DataError(
            f"{path}: an HDF5 file without an array of four axes{f' (it holds {listed})' if listed else ''}; "
            "give the file of the 4D-STEM scan"
        )
    raise DataError(f"{path}: holds more than one scan; give source.dataset, one of: {listed}")


def _nexus_axes(array: h5py.Dataset) -> list[Mapping[str, Any]]:
    """Steps and units as NeXus keeps them, in arrays beside the data that an attribute of the group names."""
    steps: list[Mapping[str, Any]] = [{}] * array.ndim
    names = np.atleast_1d(array.parent.attrs.get("axes", []))
    if len(names) != array.ndim:
        return steps
    for i, name in enumerate(text(name) for name in names):
        values = array.parent.get(name)
        if isinstance(values, h5py.Dataset) and values.ndim == 1 and values.shape[0] > 1 and values.dtype.kind in "uif":
            first, last = float(values[0]), float(values[-1])
            steps[i] = {"scale": (last - first) / (values.shape[0] - 1), "units": text(values.attrs.get("units", ""))}
    return steps
