"""Maps of virtual detectors that a person has added to a finished run."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemvane.config.map_names import find_name_trouble
from stemvane.data.measurements import Measurements
from stemvane.errors import DataError, RunError
from stemvane.io import atomic

__all__ = ["DETECTOR_MAPS", "add_detector_maps", "detector_map_names", "with_detector_maps"]

DETECTOR_MAPS = "detector_maps.npz"
"""Name of the file in the run."""

_UNITS = "units"
_MOST_MAPS = 200


def detector_map_names(folder: Path, measurements: Measurements, title: str, endings: Sequence[str]) -> list[str]:
    """Make names of maps of what a person has called a detector.

    Parameters
    ----------
    folder : Path
        The run's folder, where a detector of the same name may have been kept before.
    measurements : Measurements
        What was measured, whose maps keep their names.
    title : str
        Any words.
    endings : sequence of str
        Endings of the names.

    Returns
    -------
    list of str
        Names of letters, digits and ``_``.

    Raises
    ------
    DataError
        If another map has such a name.
    RunError
        If the file of maps is damaged.
    """
    words = re.sub(r"[^A-Za-z0-9]+", "_", title).strip("_")[:60]
    plain = words if words[:1].isalpha() else f"detector_{words}".rstrip("_")
    names = [f"{plain}{ending}" for ending in endings]
    taken = set(measurements.maps) - set(_read(folder / DETECTOR_MAPS)[0])
    for name in names:
        trouble = find_name_trouble(name)
        if trouble or name in taken:
            raise DataError(trouble or f"{name!r} is the name of another map; choose another name, such as left_half")
    return names


def add_detector_maps(folder: Path, maps: Mapping[str, NDArray[np.floating]], units: Mapping[str, str]) -> Path:
    """Add maps to those of a finished run, or replace those of the same name.

    Parameters
    ----------
    folder : Path
        The run's folder.
    maps : mapping of str to ndarray of float, shape (scan_y, scan_x)
        Maps by name.
    units : mapping of str to str
        Their units.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RunError
        If the file is damaged or cannot be written, or there are too many maps.
    """
    path = folder / DETECTOR_MAPS
    all_maps, all_units = _read(path)
    all_maps |= {name: np.asarray(values, np.float32) for name, values in maps.items()}
    all_units |= units
    if len(all_maps) > _MOST_MAPS:
        raise RunError(f"{path}: holds {_MOST_MAPS} maps of detectors, and no more fit; remove the file")
    content = BytesIO()
    np.savez(content, allow_pickle=False, **all_maps, **{_UNITS: np.array(json.dumps(all_units))})
    try:
        atomic.write_bytes(path, content.getvalue())
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error}); check its permissions") from None
    return path


def with_detector_maps(measurements: Measurements, folder: Path) -> Measurements:
    """Measurements of a run with the maps that `add_detector_maps` has written.

    Raises
    ------
    RunError
        If the file is damaged, or is of another scan.
    """
    path = folder / DETECTOR_MAPS
    maps, units = _read(path)
    if not maps:
        return measurements
    if any(values.shape != measurements.scan_shape for values in maps.values()):
        raise RunError(f"{path}: its maps are of another scan; remove it")
    return replace(measurements, maps={**maps, **measurements.maps}, units={**units, **measurements.units})


def _read(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Maps and units; empty where there is no file."""
    if not path.exists():
        return {}, {}
    try:
        with np.load(path, allow_pickle=False) as file:
            units = {str(name): str(unit) for name, unit in json.loads(str(file[_UNITS])).items()}
            return {name: np.asarray(file[name], np.float32) for name in units}, units
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: damaged ({error}); remove it, and keep the detectors again") from None
