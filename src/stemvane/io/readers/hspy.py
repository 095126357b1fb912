"""HyperSpy's .hspy files, through RosettaSciIO, and its .zspy, folders or zipped.

RosettaSciIO opens a .zspy for writing too, and keeps it open; so it is read here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stemvane.data.axes import beam_of, require_no_spectra
from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError
from stemvane.io.on_disk import OnDisk
from stemvane.io.readers.zarr_folders import open_node, zarr_array, zarr_sketch
from stemvane.io.request import Request
from stemvane.io.stack import ArrayFrames, fold, whole_scan

__all__ = ["open_hspy", "open_zspy"]


def open_hspy(request: Request) -> Dataset4D:
    """Open the one 4D signal of an .hspy file, its axes transposed to ``(scan_y, scan_x, k_y, k_x)``.

    Raises
    ------
    DataError
        If it holds no signal, or more than one, with two navigation and two signal axes of real numbers.
    """
    import hdf5plugin  # noqa: F401  registers the compressors
    from rsciio.hspy import file_reader
    from rsciio.utils.file import get_file_handle

    path = request.path
    with h5py.File(path, "r") as file:
        experiments = file.get("Experiments", {})
        names = [n for n in experiments if isinstance(experiments[n], h5py.Group) and "data" in experiments[n]]
        arrays = {
            n: OnDisk(str(path.absolute()), f"/Experiments/{n}/data", "hdf5", d.shape, d.dtype)
            for n, d in _data(file, names)
        }
        chunks_of = {n: d.chunks for n, d in _data(file, names)}
    scans = [n for n, array in arrays.items() if array.ndim == 4] or names[:1]
    if len(scans) != 1:
        trouble = f"holds {len(scans)} scans" if scans else "holds no signal"
        raise DataError(f"{path}: {trouble}; save the one you want to a file of its own")
    if arrays[scans[0]].dtype.kind == "O":
        raise DataError(f"{path}: holds ragged or object data; save patterns of one shape, stacked to a scan")
    if arrays[scans[0]].ndim not in (3, 4):
        raise DataError(
            f"{path}: holds an array of {arrays[scans[0]].ndim} axes {arrays[scans[0]].shape}; stemvane needs four, "
            "two of the scan and two of the detector: give the file of the 4D-STEM scan"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signal = file_reader(str(path), lazy=True)[names.index(scans[0])]
    get_file_handle(signal["data"]).close()
    return _open(request, arrays[scans[0]], chunks_of[scans[0]], signal["axes"], signal["metadata"])


def open_zspy(request: Request) -> Dataset4D:
    """Open the one scan of a .zspy, its axes transposed to ``(scan_y, scan_x, k_y, k_x)``.

    Raises
    ------
    DataError
        If it holds none, or more than one.
    """
    path = request.path
    data = [name for name in zarr_sketch(path)[0] if name.startswith("Experiments/") and name.endswith("/data")]
    signals = {name.removesuffix("/data"): zarr_array(path, name) for name in sorted(data)}
    scans = [name for name, (array, _) in signals.items() if array.ndim == 4] or list(signals)
    if len(scans) != 1:
        raise DataError(f"{path}: holds {len(scans)} scans; save the one you want to a file of its own")
    axes: list[dict[str, Any]] = []
    while axis := _attributes(path, f"{scans[0]}/axis-{len(axes)}"):
        axes.append(axis)
    kinds = {kind: _attributes(path, f"{scans[0]}/metadata/Acquisition_instrument/{kind}") for kind in ("SEM", "TEM")}
    general = _attributes(path, f"{scans[0]}/metadata/General")
    return _open(request, *signals[scans[0]], axes, {"Acquisition_instrument": kinds, "General": general})


def _attributes(path: Path, key: str) -> dict[str, Any]:
    with open_node(path, key) as node:
        return {} if node is None else dict(node.attrs)


def _open(
    request: Request,
    array: OnDisk,
    chunks: tuple[int, ...] | None,
    axes: list[dict[str, Any]],
    metadata: Mapping[str, Any],
) -> Dataset4D:
    """The scan or stack of a signal that has these axes."""
    path, missing = request.path, None
    require_no_spectra(axes, str(path))
    scan = [i for i, axis in enumerate(axes) if axis.get("navigate") in (True, np.True_)]
    detector = [i for i in range(len(axes)) if i not in scan]
    if len(axes) != array.ndim or len(detector) != 2 or len(scan) != array.ndim - 2:
        raise DataError(
            f"{path}: {len(scan)} of {len(axes)} axes are navigation axes; "
            "save the signal with two of each kind, for example after signal.transpose(signal_axes=2)"
        )
    placed = replace(array, order=(*scan, *detector))
    if array.ndim == 3:
        data, missing = fold(ArrayFrames(placed), request)
    else:
        data = whole_scan(request, placed, chunks)
    steps = [axes[i] for i in scan] if array.ndim == 4 else [{}, {}]
    title = metadata.get("General", {}).get("title")
    dataset = Dataset4D(data=data, name=str(title or path.stem), path=path, missing=missing)
    return dataset.with_axes([*steps, *(axes[i] for i in detector)], beam_of(metadata))


def _data(file: h5py.File, names: list[str]) -> list[tuple[str, h5py.Dataset]]:
    return [(name, file[f"/Experiments/{name}/data"]) for name in names]
