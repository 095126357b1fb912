"""HDF5 files of other programs: NeXus, and plain arrays.

RosettaSciIO keeps the file open for its lazy arrays, or reads all of it; the arrays here are opened anew for each
block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
from numpy.typing import NDArray

from stemvane.data.axes import require_no_spectra
from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError
from stemvane.io.hdf5_guard import probe
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
_MOST_LINKS = 16
# what is smaller is no diffraction pattern
_LEAST_PIXELS = 8


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


def hdf5_array(path: Path, array: h5py.Dataset, order: tuple[int, ...] = (), name: str | None = None) -> OnDisk:
    """Return an array of an HDF5 file, left on disk; `name` is the path to it, where links lead there."""
    return OnDisk(str(path.absolute()), name or array.name, "hdf5", array.shape, array.dtype, order)


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
        name, stored = _named_array(file, request) if request.dataset is not None else _only_array(file, request)
        array, chunks = hdf5_array(path, stored, name=name), stored.chunks
        axes = _nexus_axes(file, stored)
        files = _files_of(path, stored)
    require_no_spectra(axes, str(path))
    data, missing = open_array(request, array, chunks)
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing, files=files)
    return dataset.with_axes(axes if array.ndim == 4 else [{}, {}, *axes[1:]], {})


def arrays_in(file: h5py.File) -> dict[str, h5py.Dataset]:
    """All arrays that could hold patterns, by the paths that lead to them, those with four axes first.

    Links to other files are followed, each file once it has passed the guard.
    """
    arrays: dict[str, h5py.Dataset] = {}
    links: list[tuple[str, Any]] = []
    visited = set()

    def look(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and _identity(thing) not in visited:
            visited.add(_identity(thing))
            if thing.ndim > 2 and thing.dtype.kind in "uifbc":
                arrays[name] = thing
        elif isinstance(thing, h5py.Group):
            links.extend((f"{name}/{key}", thing.get(key, getlink=True)) for key in thing)

    look("", file)
    file.visititems(look)
    outside = [(name.strip("/"), link) for name, link in links if isinstance(link, h5py.ExternalLink)]
    for name, link in outside[:_MOST_LINKS]:
        target = Path(file.filename).absolute().parent / link.filename
        if not target.is_file():
            continue
        probe(target)
        try:
            thing = file[name]
        except (KeyError, OSError):
            continue
        look(name, thing)
        if isinstance(thing, h5py.Group):
            thing.visititems(lambda below, inner, name=name: look(f"{name}/{below}", inner))
    return dict(sorted(arrays.items(), key=lambda item: item[1].ndim != 4))


def _identity(array: h5py.Dataset) -> tuple[int, int]:
    """The same for one array reached on several ways."""
    info = h5py.h5o.get_info(array.id)
    return int(info.fileno), int(info.addr)


def _files_of(path: Path, array: h5py.Dataset) -> tuple[Path, ...]:
    """The files that an array lies in, where these are more than the one that was asked for."""
    own = Path(array.file.filename).absolute()
    sources = [source.file_name for source in array.virtual_sources()] if array.is_virtual else []
    others = [own, *(own if name == "." else own.parent / name for name in sources)]
    files = tuple(file for file in dict.fromkeys([path.absolute(), *others]) if file.is_file())
    return files if len(files) > 1 else ()


def _named_array(file: h5py.File, request: Request) -> tuple[str, h5py.Dataset]:
    name = str(request.dataset)
    array = file.get(name)
    if not isinstance(array, h5py.Dataset):
        choices = ", ".join(list(arrays_in(file))[:8]) or "no array of more than two axes"
        what = "is a group" if isinstance(array, h5py.Group) else "is not there"
        raise DataError(f"{request.path}: '{name}' {what}; give source.dataset, one of: {choices}")
    if array.ndim not in (3, 4):
        raise DataError(
            f"{request.path}: '{name}' has {array.ndim} axes {array.shape}; give source.dataset, an array of four, "
            "or a stack and source.scan_shape"
        )
    return name, array


def _only_array(file: h5py.File, request: Request) -> tuple[str, h5py.Dataset]:
    """The array that can be the scan: of several the one that fits, or that the file names as its signal."""
    path, arrays = request.path, arrays_in(file)
    scans = {name: array for name, array in arrays.items() if array.ndim == 4}
    candidates = scans or {name: array for name, array in arrays.items() if array.ndim == 3}
    for is_likely in (_is_pattern_sized, lambda array: _fits(array, request), lambda array: bool(_nxdata(file, array))):
        likely = {name: array for name, array in candidates.items() if is_likely(array)}
        candidates = likely if likely and len(candidates) > 1 else candidates
    if len(candidates) == 1:
        return next(iter(candidates.items()))
    listed = ", ".join(f"{name} {array.shape}" for name, array in list((candidates or arrays).items())[:8])
    if not candidates:
        raise DataError(
            f"{path}: an HDF5 file without an array of four axes{f' (it holds {listed})' if listed else ''}; "
            "give the file of the 4D-STEM scan"
        )
    raise DataError(f"{path}: holds more than one scan; give source.dataset, one of: {listed}")


def _is_pattern_sized(array: h5py.Dataset) -> bool:
    """Not a table or a mask of a few numbers."""
    return bool(min(array.shape[-2:]) >= _LEAST_PIXELS and math.prod(array.shape[:-2]) > 1)


def _fits(array: h5py.Dataset, request: Request) -> bool:
    """Whether an array is as long as the scan that the user gives; frames may be left out on demand."""
    if request.scan_shape is None or -1 in request.scan_shape:
        return True
    n_frames, n_positions = math.prod(array.shape[:-2]), math.prod(request.scan_shape)
    return bool(n_frames >= n_positions if request.frame_settings() else n_frames == n_positions)


def _nxdata(file: h5py.File, array: h5py.Dataset) -> h5py.Group | None:
    """The NXdata group whose signal an array is."""
    groups: list[h5py.Group] = []

    def look(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Group) and "signal" in thing.attrs:
            signal = thing.get(text(thing.attrs["signal"]))
            if isinstance(signal, h5py.Dataset) and _identity(signal) == _identity(array):
                groups.append(thing)

    file.visititems(look)
    return groups[0] if groups else None


def _nexus_axes(file: h5py.File, array: h5py.Dataset) -> list[Mapping[str, Any]]:
    """Steps and units as NeXus keeps them, in arrays beside the data that an attribute of the group names."""
    steps: list[Mapping[str, Any]] = [{}] * array.ndim
    group = _nxdata(file, array) or array.parent
    names = np.atleast_1d(group.attrs.get("axes", []))
    if len(names) != array.ndim:
        return steps
    for i, name in enumerate(text(name) for name in names):
        values = group.get(name)
        if isinstance(values, h5py.Dataset) and values.ndim == 1 and values.shape[0] > 1 and values.dtype.kind in "uif":
            first, last = float(values[0]), float(values[-1])
            steps[i] = {"scale": (last - first) / (values.shape[0] - 1), "units": text(values.attrs.get("units", ""))}
    return steps
