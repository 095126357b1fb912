"""One scan: our model and the rival; one process for each.

``python -m benchmarks.grains.one_scan TASK.json`` writes the JSON file that the task names.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.grains.rival import angle_errors, harmonic_angle
from benchmarks.grains.scenes import GrainScan, Scene, make_scan
from benchmarks.harness.cells import write_json
from stemvane import RotationVAE, measure
from stemvane.config import TrainingConfig

__all__ = ["score_scan"]


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    scene = Scene(**task["scene"])
    rows = score_scan(make_scan(scene), scene, n_epochs=task["n_epochs"])
    write_json({"cell": asdict(scene), "rows": rows}, Path(task["output"]))


def score_scan(scan: GrainScan, scene: Scene, *, n_epochs: int | None = None) -> dict[str, dict[str, Any]]:
    """Score `RotationVAE` with its defaults, and the phase of the ring's dominant harmonic.

    Parameters
    ----------
    scan : GrainScan
        The scan; our model is given its patterns, scan step and energy.
    scene : Scene
        What it is made of; the rival is told axis, and radius of the ring.
    n_epochs : int, optional
        Epochs of a quick look.

    Returns
    -------
    dict
        Rows ``ours`` and ``rival``.
    """
    started = time.perf_counter()
    measurements = measure(scan.dataset, progress=False)
    training = TrainingConfig() if n_epochs is None else TrainingConfig(n_epochs=n_epochs)
    model = RotationVAE(n_latent=2, training=training).fit(measurements, progress=False)
    found = model.embed(measurements)
    seconds = time.perf_counter() - started
    # the truth decides modulo what angles are compared, so that a wrong symmetry is an error
    errors = angle_errors(found.angle, scan.angle, scan.symmetry)
    off = np.abs(errors) / found.angle_std
    ours = _errors(errors) | {
        "symmetry": found.symmetry,
        "within_68": float((off < 1).mean()),
        "within_95": float((off < 1.96).mean()),
        "std_deg": float(np.degrees(np.median(found.angle_std))),
        "infinite": float(np.isinf(found.angle_std).mean()),
        "seconds": seconds,
    }
    angle, order = harmonic_angle(scan, scene.beam + 1)
    rival = _errors(angle_errors(angle, scan.angle, scan.symmetry)) | {"symmetry": order}
    # told the symmetry, the rival cannot be wrong by a period of another order
    told, _ = harmonic_angle(scan, scene.beam + 1, orders=(scan.symmetry,))
    rival["told"] = _errors(angle_errors(told, scan.angle, scan.symmetry))
    return {"ours": ours, "rival": rival}


def _errors(errors: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "median_deg": float(np.degrees(np.median(np.abs(errors)))),
        "rms_deg": float(np.degrees(np.sqrt(np.mean(errors**2)))),
    }


if __name__ == "__main__":
    main()
