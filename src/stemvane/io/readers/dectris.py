"""Masters of Dectris detectors (Arina, Eiger): the data files they link to, and Arina's notes beside them.

RosettaSciIO reads all of a data file at once; the arrays here are opened anew for each block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stemvane.data.dataset import Dataset4D
from stemvane.data.findings import Finding
from stemvane.data.units import read_unit
from stemvane.errors import DataError, FileFormatError
from stemvane.io.on_disk import OnDisk
from stemvane.io.readers.hdf5 import text
from stemvane.io.request import Request
from stemvane.io.stack import ArrayFrames, JoinedFrames, fold

__all__ = ["open_dectris"]

_DETECTOR = "entry/instrument/detector"


def open_dectris(request: Request) -> Dataset4D:
    """Open a master file with the data files beside it.

    Parameters
    ----------
    request : Request
        The master, and what the user says of it.

    Returns
    -------
    Dataset4D
        Pixels that the file's ``pixel_mask`` marks, for whatever reason, are bad pixels. Where the last data files are
        lost, their positions are missing, and a finding says so.

    Raises
    ------
    FileFormatError
        If a data file is missing, and what it held cannot be told.
    DataError
        If the shape of the scan is unknown or does not fit.
    """
    path = request.path
    notes = _arina_notes(path)
    with h5py.File(path, "r") as file:
        stacks, lost = _stacks(file, path)
        if len({(stack.frame_shape, stack.dtype) for stack in stacks}) != 1:
            raise DataError(f"{path}: its data files hold frames of different kinds; copy the files again")
        frames = JoinedFrames(tuple(stacks))
        recorded = _scan(file, notes, frames.n_frames)
        if lost and not (recorded or request.scan_shape):
            raise FileFormatError(f"{path}: refers to {lost[0]}, which cannot be opened; put it beside it")
        mask = _pixel_mask(file)
        tension = _number(notes.get("High Tension"))
        energy = _incident_energy(file) if tension is None else tension
    data, missing = fold(frames, request, recorded, may_miss=True)
    data_files = [Path(stack.array.path) for stack in stacks if isinstance(stack.array, OnDisk)]
    files = tuple(dict.fromkeys([path.absolute(), *data_files]))
    dataset = Dataset4D(data=data, name=path.stem.removesuffix("_master"), path=path, missing=missing, files=files)
    step = {"scale": _number(notes.get("Pixel Size")), "units": "nm"}
    dataset = dataset.with_axes([step, step, {}, {}], {} if energy is None else {"beam_energy": 1e-3 * energy})
    findings = [_lost_finding(lost, missing)] if lost and missing is not None else []
    if mask is not None and mask.shape != dataset.detector_shape:
        findings.append(_mask_finding(mask.shape, dataset.detector_shape))
        mask = None
    bad = None if mask is None or not mask.any() else mask
    return replace(dataset, bad_pixels=bad, findings=(*dataset.findings, *findings))


def _stacks(file: h5py.File, path: Path) -> tuple[list[ArrayFrames], list[str]]:
    """Stacks of the data files in their order, and the names of the last files, where these are lost."""
    group = file["entry/data"]
    stacks: list[ArrayFrames | None] = []
    lost: list[str] = []
    for name in sorted(key for key in group if key.startswith("data")):
        try:
            stack = group[name]
        except (KeyError, OSError):
            stacks.append(None)
            lost.append(str(getattr(group.get(name, getlink=True), "filename", name)))
            continue
        if not isinstance(stack, h5py.Dataset) or stack.ndim != 3:
            raise DataError(f"{path}: '{name}' is no stack of frames; copy the files again")
        data_file = str(Path(stack.file.filename).absolute())
        stacks.append(ArrayFrames(OnDisk(data_file, stack.name, "hdf5", stack.shape, stack.dtype)))
    opened = [stack for stack in stacks[: len(stacks) - len(lost)] if stack is not None]
    # frames of a later file would take the places of those that are lost
    if lost and (not opened or len(opened) + len(lost) < len(stacks)):
        raise FileFormatError(f"{path}: refers to {lost[0]}, which cannot be opened; put it beside it")
    return opened, lost


def _scan(file: h5py.File, notes: Mapping[str, Any], n_frames: int) -> tuple[int, int] | None:
    """Rows and columns: Arina's notes say them, or there was one trigger for each line of the scan."""
    rows, columns = _number(notes.get("NumPixelsY")), _number(notes.get("NumPixelsX"))
    noted = (int(rows), int(columns)) if rows and columns and min(rows, columns) >= 1 else None
    triggers, images = (_number(file.get(f"{_DETECTOR}/detectorSpecific/{key}")) for key in ("ntrigger", "nimages"))
    triggered = (int(triggers), int(images)) if triggers and images and min(triggers, images) > 1 else None
    if noted and triggered and math.prod(noted) != n_frames == math.prod(triggered):
        return triggered
    return noted or triggered


def _incident_energy(file: h5py.File) -> float | None:
    energy = file.get("entry/instrument/beam/incident_energy")
    value = _number(energy)
    unit = read_unit(text(energy.attrs.get("units", "eV"))) if value is not None else None
    return None if value is None or unit is None or unit.quantity != "energy" else unit.size * value


def _pixel_mask(file: h5py.File) -> NDArray[np.bool_] | None:
    """Pixels that do not count: each bit of the mask is a reason."""
    for place in (f"{_DETECTOR}/pixel_mask", f"{_DETECTOR}/detectorSpecific/pixel_mask"):
        mask = file.get(place)
        if isinstance(mask, h5py.Dataset) and mask.ndim in (2, 3) and mask.dtype.kind in "uib":
            marked: NDArray[np.bool_] = np.asarray(mask[()]) != 0
            return marked if marked.ndim == 2 else np.asarray(marked.any(axis=0))
    return None


def _arina_notes(path: Path) -> dict[str, Any]:
    """Scan, step in nm and high tension in V, which the programs of Arina write to a file of its own."""
    beside = path.with_name(path.name.replace("_master", ""))
    if beside == path or not beside.is_file():
        return {}
    try:
        with h5py.File(beside, "r") as file:
            return dict(file["STEM Metadata"].attrs)
    except (OSError, KeyError, ValueError, TypeError):
        return {}


def _number(value: Any) -> float | None:
    """The one number of an attribute or an array; None where it is none."""
    if isinstance(value, h5py.Dataset):
        value = value[()] if value.size == 1 else None
    numbers = np.ravel(value) if value is not None else np.empty(0)
    if numbers.size != 1 or numbers.dtype.kind not in "uif" or not np.isfinite(numbers[0]):
        return None
    return float(numbers[0])


def _lost_finding(lost: list[str], missing: NDArray[np.bool_]) -> Finding:
    files = f"{lost[0]} is" if len(lost) == 1 else f"{', '.join(lost)} are"
    return Finding(
        "data_file_lost",
        "warning",
        f"{files} not beside the master, so {int(missing.sum())} of {missing.size} positions are missing",
        "put it there, if it is to be had",
    )


def _mask_finding(mask: tuple[int, ...], detector: tuple[int, int]) -> Finding:
    return Finding(
        "pixel_mask_ignored",
        "warning",
        f"the file's pixel_mask has {mask[0]}x{mask[1]} pixels and its frames {detector[0]}x{detector[1]}, so the mask "
        "is ignored",
        "give preparation.bad_pixels",
    )
