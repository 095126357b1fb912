"""Methods on one recorded scan: one process for each scan.

``python -m benchmarks.defects.one_scan TASK.json`` writes a JSON file for every method that the task names.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.defects.methods import METHODS, Prepared, embedding_of_nothing
from benchmarks.defects.scenes import Scene, expectation, recorded
from benchmarks.defects.scores import Places, compare_defects, defect_level, site_level
from benchmarks.harness.cells import write_json
from stemvane import find_defects, measure, simulate_library
from stemvane.config import MeasureConfig
from stemvane.data.dataset import ScanDefects

# samples along each side of the Cartesian patterns, and half their square in disc radii: all of the detector, or the
# inside of the disc, which the published model needs
N_PIXELS, WHOLE, INNER = 16, 2.12, 0.7


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    scene = Scene(**task["scene"])
    started = time.perf_counter()
    dataset = recorded(expectation(scene, task["step"], Path(task["data"])), task["dose"], scene.seed)
    # ours takes polar patterns alone
    n_pixels = N_PIXELS if set(task["files"]) - {"ours"} else 0
    measurements = measure(dataset, config=MeasureConfig(n_pixels=n_pixels, pixels_outer=WHOLE), progress=False)
    inner = measurements
    if "coordinate" in task["files"]:
        inner = measure(dataset, config=MeasureConfig(n_pixels=N_PIXELS, pixels_outer=INNER), progress=False)
    del dataset
    shared = time.perf_counter() - started
    library = None
    if "ours" in task["files"]:
        library = simulate_library(measurements, folder=Path(task["data"]) / "library", progress=False)
    started = time.perf_counter()
    nothing = embedding_of_nothing(measurements.scan_shape)
    analysis = find_defects(measurements, nothing, library=library, progress=False)
    searching = time.perf_counter() - started
    prepared = Prepared(measurements, inner, analysis, task["n_epochs"])
    atoms = measurements.atoms
    truth = None if atoms is None else atoms.defects
    assert truth is not None
    for name, path in task["files"].items():
        started = time.perf_counter()
        cell = {key: task[key] for key in ("scene", "step", "dose", "n_epochs")} | {"method": name}
        record: dict[str, Any] = {"cell": cell, "rows": {}, "found": None, "failed": None}
        if analysis.lattice is None:
            record["failed"] = "no lattice was found"
        else:
            try:
                record |= judged(name, prepared, truth)
            except Exception as error:  # what is worth knowing of one method must not stop the others
                traceback.print_exc()
                record["failed"] = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - started + (searching if name == "ours" else 0.0)
        record |= {"seconds": round(seconds, 2), "shared_seconds": round(shared, 2)}
        write_json(record, Path(path))


def judged(name: str, prepared: Prepared, truth: ScanDefects) -> dict[str, Any]:
    """Run a method, and score all its rows at both levels."""
    method = METHODS[name]
    places = Places.of(prepared.sites.positions, prepared.sites.is_atom, truth)
    rows = {}
    for row, scored in method.score(prepared, **method.options).items():
        at = places
        if scored.positions is not None:
            at = Places.of(scored.positions, np.ones(len(scored.positions), bool), truth)
        rows[row] = {"site": site_level(scored.scores, at)}
        if ":" not in row:  # single channels are for insight only
            rows[row]["defect"] = defect_level(scored.scores, at)
    comparison = None
    if name == "ours":
        comparison = compare_defects(prepared.analysis.defects, truth)
        comparison["share_searched"] = round(prepared.analysis.share_searched, 4)
    return {"rows": rows, "found": comparison}


if __name__ == "__main__":
    main()
