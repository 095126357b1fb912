"""Models of this package on a prepared data set: one process for each training.

``python -m benchmarks.models.ours TASK.json`` writes what ``peers.py`` writes for the other programs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from benchmarks.harness.memory import peak_mib
from benchmarks.models.clock import now_of, warm_up
from benchmarks.models.data import HELD_OUT, Known
from stemvane import Config, Measurements, pattern_model

# epochs after which the model is asked, so that the curve costs little
ASKED = {1, 2, 3, 5, 7, 10, 14, 20, 28, 39, 55, 75}


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if task["threads"]:
        torch.set_num_threads(task["threads"])
    folder = Path(task["folder"])
    reference = Known.read(folder)
    measurements = Measurements.read(zarr.open_group(folder / "measurements.zarr", mode="r"))
    if task["model"] in ("com", "mean"):
        result = without_model(task["model"], reference)
    else:
        # the others take some patterns for their speed, which a fast one would be through at once
        everything = np.ones(measurements.scan_shape, bool)
        few = task["speed_only"] and task["budgeted"]
        mask = reference.training.reshape(measurements.scan_shape) if few else everything
        result = trained(task, measurements, mask)
        if not task["speed_only"] and not np.array_equal(result.pop("training").ravel(), reference.training):
            raise SystemExit("the model was not trained on the patterns that the other programs were")
    np.savez(task["output"], peak_mib=peak_mib(), **result)


def without_model(method: str, reference: Known) -> dict[str, Any]:
    """The raw centre of mass, which predicts nothing, or the mean pattern, which has no latents."""
    n = len(reference.patterns)
    if method == "com":
        return {"angle": reference.com_angle, "latents": reference.com_magnitude[:, None]}
    mean = reference.patterns[reference.training].mean(axis=0)
    return {
        "angle": np.full(n, np.nan),
        "latents": np.zeros((n, 0)),
        "predicted": np.broadcast_to(mean, (n, *mean.shape)),
    }


def trained(task: dict[str, Any], measurements: Measurements, mask: Any) -> dict[str, Any]:
    """Train on the positions of the mask; the model is asked between epochs with the clock stopped."""
    warm_up()
    # held-out patterns stay neighbours of those that are trained on
    holdout = 0.0 if task["speed_only"] else HELD_OUT
    training = {"seed": task["seed"], "holdout": holdout, "device": "cpu"} | task["settings"]
    if task["budgeted"]:
        training["n_epochs"] = min(training["n_epochs"], affordable(task, measurements, mask, training))
    config = Config().replace(model={"model": task["model"], "n_latent": 2}, training=training, basis=task["basis"])
    model = pattern_model(config)
    notes: list[tuple[float, Any, Any]] = []
    now = now_of(task["threads"])
    stopped, ends = 0.0, []
    start = now()

    def ask(report: Any) -> None:
        nonlocal stopped
        here = now()
        ends.append(here - start - stopped)
        if report.epoch in ASKED and not task["speed_only"]:
            embedding = model.embed(measurements)
            notes.append((here - start - stopped, embedding.angle.ravel(), latents_of(embedding)))
        stopped += now() - here

    model.fit(measurements, mask=mask, progress=ask)
    seconds = now() - start - stopped
    n_epochs = len(model.history.epochs)
    result: dict[str, Any] = {"seconds": seconds, "epochs": n_epochs}
    # where a pilot was the whole training, its epochs are told all at once when it has ended
    if n_epochs == config.training.n_epochs > 1:
        result["rate"] = model.history.n_patterns * (1 - 1 / n_epochs) / (ends[-1] - ends[0])
    elif n_epochs:
        result["rate"] = model.history.patterns_per_second
    if task["speed_only"]:
        return result
    embedding = model.embed(measurements)
    notes.append((seconds, embedding.angle.ravel(), latents_of(embedding)))
    times, angles, latents = zip(*notes, strict=True)
    n = measurements.pixel_grid.n
    return result | {
        "training": model.training_mask,
        "angle": angles[-1],
        "latents": latents[-1],
        "predicted": model.reconstruct(measurements).reshape(-1, n, n),
        "curve_seconds": times,
        "curve_angle": np.stack(angles),
        "curve_latents": np.stack(latents),
    }


def latents_of(embedding: Any) -> Any:
    return embedding.latents.reshape(-1, embedding.n_latent)


def affordable(task: dict[str, Any], measurements: Measurements, mask: Any, training: dict[str, Any]) -> int:
    """Epochs that fit the budget, from the speed of one epoch on some patterns."""
    few = np.zeros(mask.size, bool)
    few[np.flatnonzero(mask)[:256]] = True
    config = Config().replace(model={"model": task["model"], "n_latent": 2}, training=training | {"n_epochs": 1})
    now = now_of(task["threads"])
    start = now()
    n_patterns = pattern_model(config).fit(measurements, mask=few.reshape(mask.shape)).history.n_patterns
    return max(1, int(task["budget"] * n_patterns / (now() - start) / mask.sum()))


if __name__ == "__main__":
    main()
