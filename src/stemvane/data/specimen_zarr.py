"""The known atoms and defects of a specimen as Zarr arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr

from stemvane.data.specimen import ScanAtoms, ScanDefects

__all__ = ["read_atoms", "write_atoms"]

_DEFECT_ARRAYS = ("positions", "angles", "mirrored", "sites", "owners")


def write_atoms(group: zarr.Group, atoms: ScanAtoms) -> None:
    """Write atoms into ``atoms`` of a Zarr group, and what is known of their defects into ``atoms/defects``."""
    folder = group.require_group("atoms")
    for name in ("numbers", "positions", "heights"):
        folder.create_array(name, data=np.asarray(getattr(atoms, name)), overwrite=True)
    if atoms.labels is not None:
        folder.attrs["labels"] = list(atoms.labels)
    if atoms.defects is not None:
        inner = folder.require_group("defects")
        for name in _DEFECT_ARRAYS:
            inner.create_array(name, data=np.asarray(getattr(atoms.defects, name)), overwrite=True)
        inner.attrs["kinds"] = list(atoms.defects.kinds)


def read_atoms(group: zarr.Group) -> ScanAtoms | None:
    """Read what `write_atoms` wrote, None where there is nothing."""
    if "atoms" not in group:
        return None
    folder: Any = group["atoms"]
    labels, inner = folder.attrs.get("labels"), folder.get("defects")
    return ScanAtoms(
        numbers=np.asarray(folder["numbers"][:]),
        positions=np.asarray(folder["positions"][:]),
        heights=np.asarray(folder["heights"][:]),
        labels=None if labels is None else tuple(labels),
        defects=None
        if inner is None
        else ScanDefects(
            kinds=tuple(inner.attrs["kinds"]), **{name: np.asarray(inner[name][:]) for name in _DEFECT_ARRAYS}
        ),
    )
