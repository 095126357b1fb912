"""A selection as an HDF5 file: which positions, their maps, and their mean pattern."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import h5py
import numpy as np

from stemvane.viewer.scene import Scene
from stemvane.viewer.selections import mean_patterns, select_positions

__all__ = ["selection_hdf5"]


def selection_hdf5(scene: Scene, selection: Mapping[str, Any]) -> bytes:
    """Write a selection as HDF5, in memory.

    Parameters
    ----------
    scene : Scene
        The scan.
    selection : mapping
        As `select_positions` takes it.

    Returns
    -------
    bytes
        A file with ``mask`` (scan_y, scan_x), ``positions`` (n, 2) as ``(y, x)``, ``maps/<name>`` (n,) with the
        attribute ``unit``, and ``mean_pattern`` and, with angles, ``mean_pattern_rotated`` (k_y, k_x). The attributes
        hold the name of the scan, the selection as JSON and the calibration.

    Raises
    ------
    DataError
        If nothing is selected.
    """
    mask = select_positions(scene, selection)
    *_, mean = mean_patterns(scene, mask)
    content = BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["scan"] = scene.name
        file.attrs["selection"] = json.dumps(dict(selection))
        file.attrs.update(scene.calibration.to_dict())
        file["mask"] = mask
        file["positions"] = np.argwhere(mask)
        for name, shown in scene.maps.items():
            file[f"maps/{name}"] = shown.values[mask]
            file[f"maps/{name}"].attrs["unit"] = "rad" if shown.kind == "vector" else shown.unit
            if shown.strength is not None:
                file[f"maps/{name}_strength"] = shown.strength[mask]
                file[f"maps/{name}_strength"].attrs["unit"] = shown.unit
        file["mean_pattern"] = mean.plain
        if mean.rotated is not None:
            file["mean_pattern_rotated"] = mean.rotated
    return content.getvalue()
