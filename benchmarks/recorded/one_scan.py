"""One scan: recorded, prepared by hand, and given to `stemvane run`; one process for each.

``python -m benchmarks.recorded.one_scan TASK.json`` writes the JSON file that the task names.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness.cells import write_json
from benchmarks.models.scores import angle_error, correlations
from benchmarks.recorded.by_hand import filter_in_rings, prepared_com
from benchmarks.recorded.conditions import CONDITIONS, simulation
from stemvane import simulate
from stemvane.config import Config
from stemvane.data.dataset import Dataset4D
from stemvane.data.truth import DetectorTruth
from stemvane.errors import StemvaneError
from stemvane.workflow.pipeline import run_pipeline

__all__ = ["score_scan"]

_Floats = NDArray[np.floating[Any]]


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    condition = CONDITIONS[task["condition"]]
    dataset = simulate(simulation(condition, task["seed"], task["n_positions"]), progress=False)
    rows = score_scan(dataset, given=condition.has_more_to_give, n_epochs=task["n_epochs"])
    write_json({"cell": {"condition": task["condition"], "seed": task["seed"]}, "rows": rows}, Path(task["output"]))


def score_scan(dataset: Dataset4D, *, given: bool, n_epochs: int | None = None) -> dict[str, dict[str, Any]]:
    """Score the centre of mass prepared by hand and `stemvane run` against the noiseless deflection.

    Parameters
    ----------
    dataset : Dataset4D
        A square simulated scan with its `truth`. `stemvane run` sees its numbers, energy, semi-angle and step only.
    given : bool
        Whether `stemvane run` gets the dark frame and the mask of bad pixels in a run of its own.
    n_epochs : int, optional
        Epochs of a quick look.

    Returns
    -------
    dict
        Rows ``raw`` and ``filtered`` of the centre of mass, ``defaults`` and ``given`` of `stemvane run`.
    """
    truth, calibration = dataset.truth, dataset.calibration
    assert isinstance(truth, DetectorTruth)
    assert calibration.scan_step is not None
    assert calibration.pixel_size is not None
    assert calibration.convergence_semiangle is not None
    assert calibration.band_limit is not None
    reference = truth.com - np.nanmean(truth.com, axis=(0, 1))
    patterns = dataset.data.compute()

    disc_radius = calibration.convergence_semiangle / calibration.pixel_size[0]
    com = prepared_com(patterns, truth.dark_frame, truth.bad_pixels, disc_radius)
    filtered = filter_in_rings(com, calibration.scan_step[0], calibration.band_limit)
    rows = {
        name: compare(direction(values), np.hypot(values[..., 0], values[..., 1])[..., None], reference)
        for name, values in (("raw", com), ("filtered", filtered))
    }

    with tempfile.TemporaryDirectory() as folder:
        path, dark, mask = (Path(folder) / f"{name}.npy" for name in ("scan", "dark", "mask"))
        np.save(path, patterns)
        np.save(dark, truth.dark_frame)
        np.save(mask, truth.bad_pixels.astype(np.uint8))
        del patterns
        source = {name: getattr(calibration, name) for name in ("energy", "convergence_semiangle", "scan_step")}
        config = Config().replace(source={"path": str(path), **source})
        if n_epochs is not None:
            config = config.replace(training={"n_epochs": n_epochs})
        rows["defaults"] = run_and_compare(config, Path(folder) / "defaults", reference)
        if given:
            images = {"dark": str(dark)} if truth.dark.any() else {}
            config = config.replace(preparation={**images, "bad_pixels": str(mask)})
            rows["given"] = run_and_compare(config, Path(folder) / "given", reference)
    return rows


def run_and_compare(config: Config, output: Path, reference: _Floats) -> dict[str, Any]:
    """What the command `stemvane run` makes of a file; a refusal is a result, too."""
    started = time.perf_counter()
    try:
        run = run_pipeline(config, output, progress=False)
    except StemvaneError as error:
        return {"angle_deg": None, "r": None, "findings": [], "seconds": None, "refused": str(error)}
    seconds = time.perf_counter() - started
    row = compare(run.embedding.angle, run.embedding.latents, reference)
    findings = [finding.to_dict() for finding in run.findings]
    return {**row, "findings": findings, "seconds": round(seconds, 1), "refused": None}


def compare(angle: _Floats, latents: _Floats, reference: _Floats) -> dict[str, Any]:
    """Mean angle error weighted by the length of the reference, its offset free, and r of the first latent."""
    length = np.hypot(reference[..., 0], reference[..., 1])
    use = np.isfinite(angle) & np.isfinite(length)
    agreement = angle_error(angle[use], direction(reference)[use], weight=length[use])
    r = correlations(latents[use], length[use])
    return {
        "angle_deg": None if agreement is None else round(agreement.mean_deg, 3),
        "mirrored": agreement is not None and agreement.sign < 0,
        "r": round(r[0], 4) if r else None,
    }


def direction(vectors: _Floats) -> _Floats:
    """Directions of vectors ``(y, x)``, counter-clockwise on the screen."""
    return np.asarray(np.arctan2(-vectors[..., 0], vectors[..., 1]))


if __name__ == "__main__":
    main()
