"""HyperSpy's .hspy files, through RosettaSciIO."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stemvane.data.axes import beam_of
from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError
from stemvane.io.on_disk import OnDisk
from stemvane.io.request import Request
from stemvane.io.stack import ArrayFrames, fold, whole_scan

__all__ = ["open_hspy"]


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
    array, missing = arrays[scans[0]], None
    if array.ndim == 3:
        data, missing = fold(ArrayFrames(array), request)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signal = file_reader(str(path), lazy=True)[names.index(scans[0])]
    get_file_handle(signal["data"]).close()
    axes = signal["axes"]
    if array.ndim == 3:
        axes = [{}, {}, *axes[1:]]
    else:
        order = _axis_order(axes, path)
        data = whole_scan(request, replace(array, order=tuple(order)), chunks_of[scans[0]])
        axes = [axes[i] for i in order]
    title = signal["metadata"].get("General", {}).get("title")
    dataset = Dataset4D(data=data, name=str(title or path.stem), path=path, missing=missing)
    return dataset.with_axes(axes, beam_of(signal["metadata"]))


def _data(file: h5py.File, names: list[str]) -> list[tuple[str, h5py.Dataset]]:
    return [(name, file[f"/Experiments/{name}/data"]) for name in names]


def _axis_order(axes: list[dict[str, Any]], path: Path) -> list[int]:
    """Positions of scan_y, scan_x, k_y, k_x among the array's axes."""
    scan = [i for i, axis in enumerate(axes) if axis.get("navigate") in (True, np.True_)]
    if len(scan) != 2:
        raise DataError(
            f"{path}: {len(scan)} of {len(axes)} axes are navigation axes; "
            "save the signal with two of each kind, for example after signal.transpose(signal_axes=2)"
        )
    return [*scan, *(i for i in range(len(axes)) if i not in scan)]
