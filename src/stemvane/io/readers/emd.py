"""EMD files: py4DSTEM (1.0 and older), Prismatic, and those of HyperSpy and the NCEM.

RosettaSciIO returns every axis of a py4DSTEM file as a detector axis and keeps the file open, so they are read here.
"""

from __future__ import annotations

import re
from typing import Any

import h5py
import numpy as np

from stemvane.data.axes import require_no_spectra
from stemvane.data.dataset import Dataset4D
from stemvane.data.units import read_unit
from stemvane.errors import DataError
from stemvane.io.readers.hdf5 import hdf5_array, open_array, text
from stemvane.io.request import Request

__all__ = ["open_emd"]

# py4DSTEM calls rows x, so its order is ours; Prismatic's x is the columns; HyperSpy reverses the axes
_ROWS_FIRST, _X_FIRST, _REVERSED = (0, 1, 2, 3), (1, 0, 3, 2), (3, 2, 1, 0)
_PRISMATIC = "4DSTEM_simulation"
# what programs call the two spaces, before or after y and x
_SCAN_WORDS = {"", "r", "scan", "nav", "pos", "position", "probe", "stage", "real", "sample"}
_DETECTOR_WORDS = {"k", "q", "det", "detector", "diff", "diffraction", "pattern", "camera", "sig"}


def open_emd(request: Request) -> Dataset4D:
    """Open the one 4D array of an EMD file.

    Raises
    ------
    DataError
        If it holds none, or more than one.
    """
    path = request.path
    with h5py.File(path, "r") as file:
        groups = _scans(file)
        if request.dataset is not None:
            named = request.dataset.strip("/")
            groups = {name: group for name, group in groups.items() if named in (name, f"{name}/{_data(group)}")}
        if len(groups) != 1:
            listed = ", ".join(_scans(file))
            trouble = f"give source.dataset, one of: {listed}" if listed else "give the file of the 4D-STEM scan"
            raise DataError(
                f"{path}: holds {len(groups) or 'no'} scan{'s' * (len(groups) != 1)} of that kind; {trouble}"
            )
        name, group = next(iter(groups.items()))
        stored = group[_data(group)]
        order = _order(group, stored.ndim)
        array, chunks = hdf5_array(path, stored, order), stored.chunks
        axes = [_axis(group, i) for i in order]
        beam = _beam(file)
        axes = _calibrate(file, name, axes)
    require_no_spectra(axes, str(path))
    data, missing = open_array(request, array, chunks)
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing)
    return dataset.with_axes(axes if array.ndim == 4 else [{}, {}, *axes[1:]], beam)


def _scans(file: h5py.File) -> dict[str, h5py.Group]:
    """Groups that hold an array of four axes, or of three where none has four."""
    groups: dict[str, h5py.Group] = {}

    def look(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Group) and "emd_group_type" in thing.attrs and _data(thing):
            groups[name] = thing

    file.visititems(look)
    four = {name: group for name, group in groups.items() if group[_data(group)].ndim == 4}
    return four or {name: group for name, group in groups.items() if group[_data(group)].ndim == 3}


def _data(group: h5py.Group) -> str:
    for name in ("data", "datacube"):
        array = group.get(name)
        if isinstance(array, h5py.Dataset) and array.ndim in (3, 4):
            return name
    return ""


def _order(group: h5py.Group, ndim: int) -> tuple[int, ...]:
    """Places of ``(scan_y, scan_x, k_y, k_x)`` among the stored axes; of a stack, of its frames, k_y and k_x."""
    if group.name.startswith(f"/{_PRISMATIC}"):
        return _X_FIRST
    is_py4dstem = "dim0" in group or group.name.startswith("/4DSTEM")
    if not is_py4dstem and group.name.startswith("/signals/"):  # HyperSpy's, and nobody else's
        return _REVERSED[-ndim:]
    if is_py4dstem or ndim != 4:
        return _ROWS_FIRST[:ndim]
    return _order_by_names(group) or _order_by_units(group)


def _order_by_names(group: h5py.Group) -> tuple[int, ...]:
    """The order that the names of the axes say, such as scanY, ky or detX; empty where they do not say it."""
    places: dict[tuple[str, str], int] = {}
    for i in range(4):
        name = re.sub(r"[^a-z]", "", text(group[f"dim{i + 1}"].attrs.get("name", "")).lower()) if _has(group, i) else ""
        for word, direction in ((name[:-1], name[-1:]), (name[1:], name[:1])):
            space = "scan" if word in _SCAN_WORDS else "detector" if word in _DETECTOR_WORDS else ""
            if space and direction in ("y", "x"):
                places[space, direction] = i
    order = [places.get((space, direction)) for space in ("scan", "detector") for direction in ("y", "x")]
    return tuple(i for i in order if i is not None) if len(set(order) - {None}) == 4 else ()


def _order_by_units(group: h5py.Group) -> tuple[int, ...]:
    """The order as it is stored, but for a scan that lies innermost: lengths there, and none outermost."""
    units = [read_unit(_axis(group, i).get("units")) for i in range(4)]
    lengths = [unit is not None and unit.quantity == "length" for unit in units]
    return (2, 3, 0, 1) if lengths == [False, False, True, True] else _ROWS_FIRST


def _has(group: h5py.Group, i: int) -> bool:
    return isinstance(group.get(f"dim{i + 1}"), h5py.Dataset)


def _axis(group: h5py.Group, i: int) -> dict[str, Any]:
    values = group.get(f"dim{i if 'dim0' in group else i + 1}")
    if (
        not isinstance(values, h5py.Dataset)
        or values.ndim != 1
        or values.shape[0] < 2
        or values.dtype.kind not in "uif"
    ):
        return {}
    first, second = float(values[0]), float(values[1])
    # the NCEM writes units as [n_m], with one underscore between letters
    return {"scale": second - first, "units": text(values.attrs.get("units", "")).replace("_", "")}


def _calibrate(file: h5py.File, name: str, axes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let py4DSTEM's own calibration take precedence over the axes, which it does not always renew."""
    notes = file.get(f"{name.split('/')[0]}/metadatabundle/calibration")
    if not isinstance(notes, h5py.Group) or len(axes) != 4:
        return axes

    def stored_axis(space: str) -> dict[str, Any]:
        size, units = notes.get(f"{space}_pixel_size"), notes.get(f"{space}_pixel_units")
        if size is None or units is None or size.shape != () or size.dtype.kind not in "uif":
            return {}
        return {"scale": float(size[()]), "units": text(units[()])}

    scan, detector = stored_axis("R"), stored_axis("Q")
    return [{**axis, **stored} for axis, stored in zip(axes, (scan, scan, detector, detector), strict=True)]


def _beam(file: h5py.File) -> dict[str, float]:
    """Energy and semi-angle of a simulation of Prismatic's."""
    notes = file.get(f"{_PRISMATIC}/metadata/metadata_0/original/simulation_parameters")
    if not isinstance(notes, h5py.Group):
        return {}
    beam = {}
    for name, key in (("beam_energy", "E"), ("convergence_angle", "sa")):
        value = np.ravel(notes.attrs.get(key, []))
        if value.size == 1 and value.dtype.kind in "uif":
            beam[name] = float(value[0])
    if "beam_energy" in beam and beam["beam_energy"] > 5e3:
        beam["beam_energy"] *= 1e-3  # some versions write eV, others keV
    return beam
