"""The truth of a simulated detector as Zarr arrays."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import zarr

from stemvane.data.truth import DetectorTruth

__all__ = ["read_truth", "write_truth"]


def write_truth(group: zarr.Group, truth: DetectorTruth) -> None:
    """Write arrays and numbers into ``truth`` of a Zarr group."""
    folder, numbers = group.require_group("truth"), {}
    for field in fields(truth):
        value = getattr(truth, field.name)
        if isinstance(value, np.ndarray):
            folder.create_array(field.name, data=value, overwrite=True)
        else:
            numbers[field.name] = float(value)
    folder.attrs.update(numbers)


def read_truth(group: zarr.Group) -> DetectorTruth | None:
    """Read what `write_truth` wrote, None where there is nothing."""
    if "truth" not in group:
        return None
    folder: Any = group["truth"]
    values: dict[str, Any] = {
        field.name: np.asarray(folder[field.name][:]) if field.name in folder else folder.attrs[field.name]
        for field in fields(DetectorTruth)
    }
    return DetectorTruth(**values)
