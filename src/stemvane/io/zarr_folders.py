"""Zarr folders of other programs, formats 2 and 3: HyperSpy's .zspy and plain arrays.

RosettaSciIO opens a .zspy for writing too, and keeps it open; so it is read here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError
from stemvane.io.hdf5 import open_array
from stemvane.io.on_disk import OnDisk
from stemvane.io.request import Request
from stemvane.io.stack import whole_scan

__all__ = ["is_zarr", "open_plain_zarr", "open_zspy", "zarr_array", "zarr_sketch"]

_MARKS = ("zarr.json", ".zgroup", ".zarray")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return any((path / mark).is_file() for mark in _MARKS)


def zarr_sketch(path: Path) -> tuple[frozenset[str], dict[str, Any]]:
    """Names three levels deep, and the attributes of the root."""
    node = zarr.open(path, mode="r")
    names: set[str] = set()
    folders = [(path, "")]
    for _ in range(3):
        groups = [
            (below, f"{prefix}{below.name}")
            for folder, prefix in folders
            for below in sorted(folder.iterdir())
            if below.is_dir() and is_zarr(below)
        ]
        names |= {name for _, name in groups}
        folders = [(folder, f"{name}/") for folder, name in groups]
    return frozenset(names), dict(node.attrs)


def zarr_array(path: Path, key: str, order: tuple[int, ...] = ()) -> tuple[OnDisk, tuple[int, ...]]:
    """Return an array of a Zarr folder, left on disk, and its chunks.

    Raises
    ------
    DataError
        If there is no such array.
    """
    array = zarr.open(path / key, mode="r") if is_zarr(path / key) else None
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
        node = zarr.open(path, mode="r")
        key = "" if isinstance(node, zarr.Array) else _only(path)
    array, chunks = zarr_array(path, key)
    data, missing = open_array(request, array, chunks)
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing)


def _only(path: Path) -> str:
    names_of: dict[int, list[str]] = {3: [], 4: []}
    for name in sorted(zarr_sketch(path)[0]):
        array = zarr.open(path / name, mode="r")
        if isinstance(array, zarr.Array) and array.ndim in names_of:
            names_of[array.ndim].append(name)
    names = names_of[4] or names_of[3]
    if len(names) == 1:
        return names[0]
    if not names:
        raise DataError(f"{path}: a Zarr folder without an array of four axes; give the folder of the 4D-STEM scan")
    raise DataError(f"{path}: holds more than one scan; give source.dataset, one of: {', '.join(names[:8])}")


def open_zspy(request: Request) -> Dataset4D:
    """Open the one scan of a .zspy, its axes transposed to ``(scan_y, scan_x, k_y, k_x)``.

    Raises
    ------
    DataError
        If it holds none, or more than one.
    """
    path = request.path
    group = zarr.open_group(path, mode="r")
    names = [
        name for name in sorted(zarr_sketch(path)[0]) if name.startswith("Experiments/") and name.endswith("/data")
    ]
    signals = [name.removesuffix("/data") for name in names]
    four = [name for name in signals if len(_axes(group, name)) == 4] or signals
    if len(four) != 1:
        raise DataError(f"{path}: holds {len(four)} scans; save the one you want to a file of its own")
    axes = _axes(group, four[0])
    scan = [i for i, axis in enumerate(axes) if axis.get("navigate")]
    if len(scan) != 2 or len(axes) != 4:
        raise DataError(
            f"{path}: {len(scan)} of {len(axes)} axes are navigation axes; "
            "save the signal with two of each kind, for example after signal.transpose(signal_axes=2)"
        )
    order = (*scan, *(i for i in range(4) if i not in scan))
    array, chunks = zarr_array(path, f"{four[0]}/data", order)
    beam: dict[str, Any] = {}
    for kind in ("SEM", "TEM"):
        place = f"{four[0]}/metadata/Acquisition_instrument/{kind}"
        if is_zarr(path / place):
            beam = dict(zarr.open_group(path / place, mode="r").attrs)
    data = whole_scan(request, array, chunks)
    dataset = Dataset4D(data=data, name=four[0].rpartition("/")[2] or path.stem, path=path)
    return dataset.with_axes([axes[i] for i in order], beam)


def _axes(group: zarr.Group, name: str) -> list[dict[str, Any]]:
    signal = group[name]
    axes: list[dict[str, Any]] = []
    while isinstance(signal, zarr.Group) and f"axis-{len(axes)}" in signal:
        axes.append(dict(signal[f"axis-{len(axes)}"].attrs))
    return axes
