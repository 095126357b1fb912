"""abTEM's Zarr folders, and HDF5 of its first version. Both have x first; the axes are transposed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import zarr

from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError, FileFormatError
from stemvane.io.readers.hdf5 import hdf5_array, text
from stemvane.io.readers.zarr_folders import zarr_array
from stemvane.io.request import Request
from stemvane.io.stack import whole_scan

__all__ = ["open_abtem_hdf5", "open_abtem_zarr"]

_X_FIRST = (1, 0, 3, 2)


def open_abtem_zarr(request: Request) -> Dataset4D:
    """Open diffraction patterns that abTEM wrote with ``to_zarr``.

    Raises
    ------
    FileFormatError
        If the notes are damaged.
    DataError
        If it holds anything but patterns of a two-dimensional scan.
    """
    path = request.path
    group = zarr.open_group(path, mode="r")
    # the beta versions of abTEM 1.0 keep one array and its notes, later ones number them
    numbered = group.attrs.get("metadata0") or group.attrs.get("kwargs0")
    key, notes = ("array", _plain(dict(group.attrs))) if numbered is None else ("array0", _plain(numbered))
    if not isinstance(notes, Mapping) or key not in group:
        raise FileFormatError(f"{path}: abTEM's notes are damaged; write it again")
    array, chunks = zarr_array(path, key, _X_FIRST)
    if array.ndim != 4:
        raise DataError(
            f"{path}: abTEM's array has {array.ndim} axes {array.shape}; stemvane needs four: "
            "reduce ensembles first, for example with .reduce_ensemble()"
        )
    beam_notes = notes.get("metadata", notes) if "axes" not in notes else notes
    kwargs = notes.get("kwargs", notes)
    if kwargs.get("fftshift", True) is False:
        raise DataError(f"{path}: the patterns have their centre in the corners; write them with fftshift=True")
    axes = _steps(notes, kwargs)
    beam = {"convergence_angle": beam_notes.get("semiangle_cutoff")}
    if isinstance(beam_notes.get("energy"), int | float):
        beam["beam_energy"] = 1e-3 * beam_notes["energy"]
    dataset = Dataset4D(data=whole_scan(request, array, chunks), name=path.stem, path=path)
    return dataset.with_axes([axes[i] for i in _X_FIRST], beam)


def _steps(notes: Mapping[str, Any], kwargs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Steps and units in abTEM's order of axes; the first versions keep them in another place."""
    if "axes" in notes:
        axes = [notes["axes"].get(f"axis_{i}", {}) for i in range(4)]
        return [{"scale": axis.get("sampling"), "units": axis.get("units")} for axis in axes]
    scan = list(kwargs.get("ensemble_axes_metadata", []))[:2]
    steps: list[Mapping[str, Any]] = [{"scale": axis.get("sampling"), "units": "Å"} for axis in scan]
    steps += [{}] * (2 - len(steps))
    return steps + [{"scale": step, "units": "1/Å"} for step in list(kwargs.get("sampling", []))[:2]] + [{}, {}]


def _plain(value: Any) -> Any:
    """Undo abTEM's writing of tuples."""
    if isinstance(value, Mapping):
        return _plain(value["_value"]) if value.get("_type") == "tuple" else {k: _plain(v) for k, v in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def open_abtem_hdf5(request: Request) -> Dataset4D:
    """Open patterns that abTEM's first version wrote.

    Raises
    ------
    DataError
        If it holds no array with four axes.
    """
    path = request.path
    with h5py.File(path, "r") as file:
        stored, sampling, units = file["array"], file["sampling"][()], file["units"][()]
        if stored.ndim != 4 or len(sampling) != 4 or len(units) != 4:
            raise DataError(f"{path}: abTEM's array has {stored.ndim} axes; give the file of a 4D-STEM simulation")
        array, chunks = hdf5_array(path, stored, _X_FIRST), stored.chunks
        axes = [{"scale": float(step), "units": text(unit)} for step, unit in zip(sampling, units, strict=True)]
    dataset = Dataset4D(data=whole_scan(request, array, chunks), name=path.stem, path=path)
    return dataset.with_axes([axes[i] for i in _X_FIRST], {})
