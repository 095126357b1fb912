"""Libraries in a folder: which scans belong to one, and whether they were simulated for a scan's microscope."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemvane.config import MeasureConfig, SimulationConfig
from stemvane.defects.naming import DefectLibrary
from stemvane.errors import FileFormatError
from stemvane.io.atomic import read_json, write_json
from stemvane.io.files import open_dataset
from stemvane.reduction.measure import measure
from stemvane.specimens import is_structure_file

__all__ = ["has_stored_library", "open_stored_library", "store_library"]

_NAMES = "library-*.json"
# 0.02: by how much energy, semi-angle, extent and reach may differ from the run's; semi-angles are known to 1 or 2 %
_TOLERANCE = 0.02


def has_stored_library(folder: Path) -> bool:
    """Whether a folder holds a library that `store_library` has written, and no structures that it would be made of."""
    return any(folder.glob(_NAMES)) and not any(is_structure_file(path.name) for path in folder.iterdir())


def store_library(library: DefectLibrary, settings: SimulationConfig, names: Sequence[str], folder: Path) -> None:
    """Write which scans of a folder are a library.

    Parameters
    ----------
    library : DefectLibrary
        The library.
    settings : SimulationConfig
        What all its scans were simulated with.
    names : sequence of str
        Names of the scans in the folder, that of the host first.
    folder : Path
        Where the scans are.
    """
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    pristine, *defects = names
    record = {
        "pristine": pristine,
        "defects": dict(zip(library.names, defects, strict=True)),
        "vector": library.vector.tolist(),
        "n_rotations": library.n_rotations,
        "probe": library.probe,
        "energy": settings.energy,
        "convergence_semiangle": settings.convergence_semiangle,
        "defocus": settings.defocus,
        "detector_outer": settings.detector_outer,
        "scan_extent": settings.scan_extent[0],
    }
    write_json(folder / f"library-{digest}.json", record)


def open_stored_library(folder: Path, settings: SimulationConfig, measured_as: MeasureConfig) -> DefectLibrary:
    """Open the library of a folder that fits a scan.

    Parameters
    ----------
    folder : Path
        Folder of stored libraries.
    settings : SimulationConfig
        What would be simulated for the scan: energy and semi-angle have to be those of the library, detector and scan
        as large. Of several that fit, the one whose defocus is nearest is taken.
    measured_as : MeasureConfig
        Polar grid of the scan.

    Returns
    -------
    DefectLibrary

    Raises
    ------
    FileFormatError
        If a file is damaged or missing, or no library fits.
    """
    records = list(_records(folder))
    fitting = [record for record in records if _fits(record, settings)]
    if not fitting:
        stored = sorted({f"{r['energy'] / 1e3:g} keV and {r['convergence_semiangle']:.3g} mrad" for r in records})
        raise FileFormatError(
            f"{folder}: its libraries are of {', '.join(stored)}, and none fits the scan's {settings.energy / 1e3:g} "
            f"keV, {settings.convergence_semiangle:.3g} mrad and detector; simulate one for it"
        )
    record = min(fitting, key=lambda record: abs(record["defocus"] - settings.defocus))

    def measured(name: str) -> Any:
        return measure(open_dataset(folder / name), config=measured_as, progress=False)

    return DefectLibrary(
        tuple(record["defects"]),
        tuple(measured(name) for name in record["defects"].values()),
        measured(record["pristine"]),
        np.array(record["vector"], float),
        int(record["n_rotations"]),
        f"{record['probe']}; stored in {folder}",
    )


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(_NAMES)):
        try:
            record = read_json(path)
            numbers = ("energy", "convergence_semiangle", "defocus", "detector_outer", "scan_extent", "n_rotations")
            is_whole = bool(np.isfinite([float(record[name]) for name in numbers]).all())
            vector = np.array(record["vector"], float)
            is_whole &= vector.shape == (2,) and 0 < float(np.linalg.norm(vector)) < math.inf
            is_whole &= record["n_rotations"] in (4, 6) and isinstance(record["probe"], str)
            names = [record["pristine"], *record["defects"].values()]
            # a name with a folder in it would leave this one
            is_whole &= len(names) > 1 and all(Path(name).name == name not in ("", "..") for name in names)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            is_whole = False
        if not is_whole:
            raise FileFormatError(f"{path}: it describes no library; delete it, or simulate the library once more")
        missing = next((name for name in names if not (folder / name).exists()), None)
        if missing is not None:
            raise FileFormatError(f"{folder}: the scan {missing} of its library is missing; simulate it once more")
        yield record


def _fits(record: dict[str, Any], settings: SimulationConfig) -> bool:
    ratios = np.array([record[name] / getattr(settings, name) for name in ("energy", "convergence_semiangle")])
    large = record["detector_outer"] / settings.detector_outer, record["scan_extent"] / settings.scan_extent[0]
    return bool(np.abs(ratios - 1).max() <= _TOLERANCE and min(large) >= 1 - _TOLERANCE)
