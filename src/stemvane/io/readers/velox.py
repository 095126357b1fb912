"""Velox .emd of Thermo Fisher: the stack of a camera.

RosettaSciIO needs a package more for a file that also holds a spectrum image, and the notes are short enough to be read
here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from stemvane.data.dataset import Dataset4D
from stemvane.data.units import read_unit
from stemvane.errors import DataError
from stemvane.io.readers.hdf5 import hdf5_array
from stemvane.io.request import Request
from stemvane.io.stack import ArrayFrames, fold

__all__ = ["open_velox"]

# detectors that record one number at each position, so that a stack of theirs is a movie
_SCANNING = re.compile(r"(HAADF|ADF|DF|ABF|BF|DPC|SE|BSE)([-_ ]?\w{1,2})?", re.IGNORECASE)


def open_velox(request: Request) -> Dataset4D:
    """Open the camera's stack of a Velox .emd, whose frames lie along the last axis.

    Parameters
    ----------
    request : Request
        The file; `dataset` chooses one of several cameras.

    Returns
    -------
    Dataset4D

    Raises
    ------
    DataError
        If it holds no stack of patterns, or several, or the shape of the scan is unknown.
    """
    path = request.path
    with h5py.File(path, "r") as file:
        stored, notes = _velox_stack(file, request)
        array = hdf5_array(path, stored, (2, 0, 1))
    recorded = _velox_scan(notes)
    if recorded is not None and math.prod(recorded) != array.shape[0]:
        recorded = None
    data, missing = fold(ArrayFrames(array), request, recorded)
    optics, result = notes.get("Optics", {}), notes.get("BinaryResult", {})
    size = result.get("PixelSize", {})
    axes = [
        {"scale": _number(size.get(side)), "units": result.get(f"PixelUnit{direction}")}
        for side, direction in (("height", "Y"), ("width", "X"))
    ]
    beam = {
        "beam_energy": 1e-3 * _number(optics.get("AccelerationVoltage")),
        "convergence_angle": 1e3 * _number(optics.get("BeamConvergence")),
    }
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing)
    return dataset.with_axes([{}, {}, *axes], beam)


def _velox_stack(file: h5py.File, request: Request) -> tuple[h5py.Dataset, dict[str, Any]]:
    """Array and notes of the stack that can be patterns: the camera's, not a movie of a scanning detector's."""
    path, images = request.path, file.get("Data/Image", {})
    stacks = {}
    for key in images:
        stored = images[key].get("Data") if isinstance(images[key], h5py.Group) else None
        if isinstance(stored, h5py.Dataset) and stored.ndim == 3 and stored.shape[2] > 1:
            stacks[key] = (stored, _velox_notes(images[key]))
    if request.dataset is not None:
        chosen = [key for key in stacks if key in request.dataset.split("/")]
    else:
        cameras = {key: _is_camera(notes) for key, (_, notes) in stacks.items()}
        chosen = [key for key in stacks if cameras[key] == max(cameras.values()) > 0]
    if len(chosen) == 1:
        return stacks[chosen[0]]
    listed = ", ".join(f"Data/Image/{key}/Data ({_detector(notes)})" for key, (_, notes) in stacks.items())
    if chosen or (stacks and request.dataset is not None):
        raise DataError(f"{path}: give source.dataset, one of: {listed}")
    movies = f" but movies of {', '.join(_detector(notes) for _, notes in stacks.values())}" if stacks else ""
    spectra = " and a spectrum image" if {"SpectrumStream", "SpectrumImage", "Spectrum"} & set(file["Data"]) else ""
    raise DataError(
        f"{path}: holds no stack of a camera{movies}{spectra}; give the file of the 4D-STEM scan, or "
        "export it as .mrc or .hspy"
    )


def _velox_notes(image: h5py.Group) -> dict[str, Any]:
    """The notes of the first frame: JSON, filled up with zero bytes."""
    stored = image.get("Metadata")
    if not isinstance(stored, h5py.Dataset) or stored.ndim != 2 or stored.dtype != np.uint8:
        return {}
    try:
        notes = json.loads(stored[:, 0].tobytes().partition(b"\0")[0])
    except ValueError:
        return {}
    return notes if isinstance(notes, dict) else {}


def _detector(notes: Mapping[str, Any]) -> str:
    return str(notes.get("BinaryResult", {}).get("Detector", "an unknown detector"))


def _is_camera(notes: Mapping[str, Any]) -> int:
    """How surely frames are patterns: 0 for a scanning detector's, 2 for pixels of angles, 1 otherwise."""
    unit = read_unit(notes.get("BinaryResult", {}).get("PixelUnitX"))
    if _SCANNING.fullmatch(_detector(notes)):
        return 0
    return 2 if unit is not None and unit.quantity in ("angle", "reciprocal") else 1


def _velox_scan(notes: Mapping[str, Any]) -> tuple[int, int] | None:
    size = notes.get("Scan", {}).get("ScanSize", {})
    rows, columns = _number(size.get("height")), _number(size.get("width"))
    return (int(rows), int(columns)) if rows >= 1 and columns >= 1 else None


def _number(value: Any) -> float:
    """A number, which the program writes as text; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
