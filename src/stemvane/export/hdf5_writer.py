"""HyperSpy's .hspy and EMD 1.0, both HDF5, made in memory.

The HDF5 library ends the process where a disk fills up while it writes (seen with h5py 3.16), so it never writes to a
disk here; RosettaSciIO's writer does, and is not used for that reason. Maps are small; what is large is not written
as HDF5.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import numpy as np

from stemvane.data.calibration import Calibration
from stemvane.data.signals import Signal, hyperspy_fields

__all__ = ["MARK", "emd_bytes", "hspy_bytes", "is_marked"]

MARK = "stemvane_export"  # on whatever export writes, so that nothing else is ever replaced
_HSPY_VERSION = "3.3"
_EMD_UNITS = {"Å": "A", "px": "pixels"}  # py4DSTEM's words


def is_marked(path: Path) -> bool:
    """Whether a file is HDF5 that `hspy_bytes` or `emd_bytes` made."""
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return MARK in file.attrs


def hspy_bytes(signals: list[Signal], origin: Mapping[str, Any], calibration: Calibration) -> bytes:
    """A file that ``hyperspy.api.load`` opens as a list of signals.

    Parameters
    ----------
    signals : list of Signal
        Signals of different names.
    origin : mapping
        The mapping that `origin_of` returns; it becomes the original metadata.
    calibration : Calibration
        Energy and semi-angle.

    Returns
    -------
    bytes

    Notes
    -----
    Layout as RosettaSciIO 0.15 writes it: ``Experiments/<title>`` with ``data``, attributes in ``axis-<i>``, and
    groups of metadata whose values are attributes.
    """
    content = BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs.update({"file_format": "HyperSpy", "file_format_version": _HSPY_VERSION, MARK: 1})
        experiments = file.create_group("Experiments", track_order=True)
        for signal in signals:
            group = experiments.create_group(signal.name)
            group.attrs.update({"package": "", "package_version": ""})
            group.create_dataset("data", data=np.asarray(signal.values), compression="gzip", shuffle=True)
            fields = hyperspy_fields(signal, origin, calibration)
            for index, axis in enumerate(fields.pop("axes")):
                _hspy_values(group.create_group(f"axis-{index}"), axis)
            fields |= {"learning_results": {}, "attributes": {"_lazy": False, "ragged": False}}
            for name, values in fields.items():
                _hspy_values(group.create_group(name), values)
    return content.getvalue()


def _hspy_values(group: h5py.Group, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            _hspy_values(group.create_group(name), value)
        elif isinstance(value, list) and value:
            group.create_dataset(f"_list_{name}", data=_list_of(value))
        else:
            key = f"_list_empty_{name}" if value == [] else name
            group.attrs[key] = "_None_" if value in (None, []) else value


def emd_bytes(signals: list[Signal], origin: Mapping[str, Any]) -> bytes:
    """A file that ``emdfile.read`` and ``py4DSTEM.read`` open as a tree of arrays.

    Parameters
    ----------
    signals : list of Signal
        Signals of different names.
    origin : mapping
        The mapping that `origin_of` returns; it becomes the root's metadata ``stemvane``.

    Returns
    -------
    bytes

    Notes
    -----
    Layout as emdfile 0.0.16 reads it, https://emdatasets.com/format. Every node is a plain ``Array``, because emdfile
    cannot open py4DSTEM's own classes, and those forget their axes. Axes are written at full length: from two numbers
    emdfile makes one position too many where rounding wants it so.
    """
    content = BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs.update(
            {
                "emd_group_type": "file",
                "version_major": 1,
                "version_minor": 0,
                "UUID": str(uuid4()),
                "authoring_program": "stemvane",
                "authoring_user": "",
                MARK: 1,
            }
        )
        root = _node(file, "stemvane_run", "root", "Root")
        bundle = root.create_group("metadatabundle")
        bundle.attrs["emd_group_type"] = "metadatabundle"
        _emd_values(_node(bundle, "stemvane", "metadata", "Metadata"), origin)
        for signal in signals:
            group = _node(root, signal.name, "array", "Array")
            data = group.create_dataset("data", data=np.asarray(signal.values), compression="gzip", shuffle=True)
            data.attrs["units"] = signal.unit
            for index, axis in enumerate(signal.axes):
                positions = group.create_dataset(f"dim{index}", data=axis.positions)
                positions.attrs.update({"name": axis.name, "units": _EMD_UNITS.get(axis.unit, axis.unit)})
    return content.getvalue()


def _node(parent: h5py.Group, name: str, kind: str, python_class: str) -> h5py.Group:
    group = parent.create_group(name, track_order=True)
    group.attrs.update({"emd_group_type": kind, "python_class": python_class})
    return group


def _emd_values(group: h5py.Group, values: Mapping[str, Any]) -> None:
    """Return metadata items, each with the name of its type, as emdfile needs it."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            inner = group.create_group(name)
            inner.attrs["type"] = "dict"
            _emd_values(inner, value)
            continue
        stored, kind = value, "number"
        if value is None:
            stored, kind = b"_None", "None"
        elif isinstance(value, str):
            stored, kind = value.encode(), "string"
        elif isinstance(value, bool):
            kind = "bool"
        elif isinstance(value, list):
            stored, kind = _list_of(value), "list"
        group.create_dataset(name, data=stored).attrs["type"] = kind


def _list_of(values: list[Any]) -> Any:
    """Return numbers as they are, None as NaN, and words as HDF5 stores them."""
    if any(isinstance(value, str) for value in values):
        return np.array([str(value).encode() for value in values])
    return np.array(values, np.float64)
