"""One scan: alignment + PCA and `RotationVAE` with two latents, and alignment + PCA with four; one process for each.

``python -m benchmarks.network.one_scan TASK.json`` writes the JSON file that the task names.
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

from benchmarks.harness.cells import write_json
from benchmarks.network.scenes import Scene, make_scan
from stemvane import AlignedPCA, Measurements, RotationVAE, measure
from stemvane.config import TrainingConfig
from stemvane.models.base import PatternModel

__all__ = ["score_model"]

# angles are compared where the deflection is at least this share of its maximum
_CLEAR = 0.2


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    record = task["scene"]
    axis = record["zone_axis"]
    scene = Scene(**record | {"thicknesses": tuple(record["thicknesses"]), "zone_axis": axis and tuple(axis)})
    dataset, clean = make_scan(scene)
    truth = measure(clean, progress=False)
    measured = truth if scene.dose is None else measure(dataset, progress=False)
    rows = {}
    for seed in range(task["n_seeds"]):
        training = TrainingConfig(seed=seed)
        rows[f"network, {seed}"] = score_model(RotationVAE(2, training=training), measured, truth)
    for n_latent in (2, 4):
        rows[f"closed form, {n_latent}"] = score_model(AlignedPCA(n_latent), measured, truth)
    write_json({"cell": asdict(scene), "rows": rows}, Path(task["output"]))


def score_model(model: PatternModel, measured: Measurements, truth: Measurements) -> dict[str, Any]:
    """Fit a model and score it.

    Parameters
    ----------
    model : PatternModel
        Not fitted yet.
    measured, truth : Measurements
        The scan as recorded, and without noise.

    Returns
    -------
    dict
        Share of the noiseless residuals' power that the model explains, evidence of held-out patterns in nat, median
        error of the angle against the noiseless COM in degrees, largest r of a latent with its length, seconds of the
        fit, and what a pilot of the network gained.
    """
    began = time.perf_counter()
    model.fit(measured, progress=False)
    seconds = time.perf_counter() - began
    embedding = model.embed(measured)
    misfit = model.misfit(measured, truth=truth)
    evidence = model.evidence(measured, measured.recorded & ~np.asarray(model.training_mask))
    clear = truth.com_magnitude > _CLEAR * np.nanmax(truth.com_magnitude)
    n = embedding.symmetry
    away = [
        np.exp(1j * n * (sense * embedding.angle[clear].astype(float) - truth.com_angle[clear])) for sense in (1, -1)
    ]
    errors = [np.abs(np.angle(part * np.exp(-1j * np.angle(part.mean())))) / n for part in away]
    r = [
        abs(np.corrcoef(one.ravel(), truth.com_magnitude.ravel())[0, 1])
        for one in np.moveaxis(embedding.latents, -1, 0)
    ]
    return {
        "explained": float(1 - np.nansum(misfit.residual) / np.nansum(misfit.total)),
        "evidence": None if evidence is None else float(evidence[0].mean()),
        "angle_deg": float(np.degrees(min(np.median(part) for part in errors))),
        "symmetry": n,
        "r": float(max(r)),
        "seconds": seconds,
        "gain": model.history.gain,
    }


if __name__ == "__main__":
    main()
