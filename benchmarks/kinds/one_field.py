"""One field: our model and the rivals.

``python -m benchmarks.kinds.one_field TASK.json`` writes the JSON file that the task names.
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
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from benchmarks.harness.cells import write_json
from benchmarks.kinds.rivals import rival_groups
from benchmarks.kinds.scenes import Field, KindField, make_field
from stemvane import Embedding, KindsModel, Measurements, measure
from stemvane.config import KindsConfig
from stemvane.evaluation.recommendation import recommend

_N_COMPARED = 5
_N_LABELS = 5
_EDGES = (0.6, 0.8, 0.9, 0.99)
# half a unit cell of graphene in positions
_SHEETS_WINDOW = 3.0
# what a field is told beside the number of kinds
_TOLD = {"turned over": KindsConfig(n_kinds=1, mirror=True)}


def main() -> None:
    warnings.filterwarnings("ignore")
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    field = Field(**task["field"])
    scan = make_field(field)
    measurements = measure(scan.dataset, progress=False)
    told = _TOLD.get(field.name, KindsConfig())
    row = score_ours(scan, measurements, told)
    windowed = KindsConfig(window=_SHEETS_WINDOW)
    row["windowed"] = score_ours(scan, measurements, windowed) if field.name == "sheets" else None
    row |= score_labels(scan, measurements, windowed if field.name == "sheets" else told, field.seed)
    row["n_found"] = number_found(measurements) if task["counts"] else None
    truth = scan.kind.ravel()
    rivals = {
        name: float(adjusted_rand_score(truth, groups)) for name, groups in rival_groups(measurements, row["n_kinds"])
    }
    write_json({"cell": asdict(field), "ours": row, "rivals": rivals}, Path(task["output"]))


def score_ours(scan: KindField, measurements: Measurements, told: KindsConfig) -> dict[str, Any]:
    """Score `KindsModel` that is told the number of kinds, with its other defaults."""
    n_kinds, began = int(scan.kind.max()) + 1, time.perf_counter()
    model = KindsModel(told.n_kinds if told.mirror else n_kinds, model=told)
    embedding = model.fit(measurements, progress=False).embed(measurements)
    seconds = time.perf_counter() - began
    kind, probability = embedding.kind, embedding.kind_probability
    assert kind is not None
    assert probability is not None
    # the kind that most positions of a group have is the group's
    right = np.zeros(kind.shape, bool)
    for group in np.unique(kind):
        members = kind == group
        right[members] = scan.kind[members] == np.bincount(scan.kind[members]).argmax()
    return {
        "n_kinds": n_kinds,
        "ari": float(adjusted_rand_score(scan.kind.ravel(), kind.ravel())),
        "wrong": float(1 - right.mean()),
        "wrong_expected": float(1 - probability.max(axis=-1).mean()),
        "angle_deg": angle_error(scan, embedding),
        "patterns_per_second": kind.size / seconds,
        "window": model.window,
        "reliability": reliability(probability.max(axis=-1), right),
    }


def reliability(says: NDArray[np.float64], right: NDArray[np.bool_]) -> list[list[float]]:
    """Number of positions, mean of what their probability says, and share that is right, by that probability."""
    groups = np.digitize(says, _EDGES)
    return [
        [int((groups == g).sum()), float(says[groups == g].mean()), float(right[groups == g].mean())]
        for g in np.unique(groups)
    ]


def score_labels(scan: KindField, measurements: Measurements, told: KindsConfig, seed: int) -> dict[str, Any]:
    """Score five labels per kind, and how well a kind of which nobody has labelled any is told from the others."""
    rng, n_kinds = np.random.default_rng([seed, 23]), int(scan.kind.max()) + 1
    labels = {
        str(k): [(int(y), int(x)) for y, x in rng.choice(np.argwhere(scan.kind == k), _N_LABELS, replace=False)]
        for k in range(n_kinds)
    }
    options = told.model_copy(update={"n_kinds": 1})
    found = KindsModel(labels=labels, model=options).fit(measurements, progress=False).embed(measurements)
    assert found.kind is not None
    areas = []
    for absent in range(n_kinds):
        # two hands are known only together
        if told.mirror:
            break
        # one kind more than names: what belongs to no label
        known = {name: at for name, at in labels.items() if name != str(absent)}
        model = KindsModel(n_kinds, labels=known, model=told)
        seen = model.fit(measurements, progress=False).embed(measurements).kind_probability
        assert seen is not None
        areas.append(float(roc_auc_score(scan.kind.ravel() == absent, seen[..., n_kinds - 1 :].sum(axis=-1).ravel())))
    return {
        "labelled": float((found.kind == scan.kind + 1).mean()),
        "unknown_auc": areas,
    }


def angle_error(scan: KindField, embedding: Embedding) -> float | None:
    """Median error of the angle within the kinds, modulo their symmetry and less the angle that is called 0."""
    if scan.angle is None:
        return None
    errors = []
    for k, fold in enumerate(scan.folds):
        at = scan.kind == k
        phase = np.exp(1j * fold * (embedding.angle - scan.angle)[at])
        errors.append(np.abs(np.angle(phase / np.exp(1j * np.angle(phase.mean())))) / fold)
    return float(np.degrees(np.median(np.concatenate(errors))))


def number_found(measurements: Measurements) -> int:
    """Number of kinds that held-out patterns ask for."""
    scores = {}
    for n in range(1, _N_COMPARED + 1):
        model = KindsModel(n).fit(measurements, progress=False)
        held = ~np.asarray(model.training_mask) & measurements.recorded
        scores[n] = model.evidence(measurements, held)[0][None]
    return recommend(scores, "evidence", "kind").number


if __name__ == "__main__":
    main()
