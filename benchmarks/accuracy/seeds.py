"""Ten seeds on the demo's graphene: from the alignment and from a random start, noiseless and at finite dose.

Run as ``python -m benchmarks.accuracy.seeds``; writes ``benchmarks/results/seeds.json`` and prints the tables of the
README:

- ``main``: seeds 0 to 9, noiseless, both starts, beside alignment + PCA with as many latents;
- ``dose``: 100,000, 20,000 and 4,000 electrons per pattern, with neighbours and every pattern by itself, against the
  noiseless COM, beside the raw COM;
- ``frontier``: explained variance against r and angle over the noise floor;
- ``dipole``: the same data with the m = 1 harmonic withheld.

``--only NAME`` runs one of them, ``--seeds N`` fewer seeds, ``--output FILE`` writes elsewhere. Tables of earlier
runs stay in the file until they are made again. A run that was stopped goes on where it was, from ``--work``.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.cells import ROOT, write_json
from stemvane.config import BasisConfig, Config, HarmonicConfig, TrainingConfig
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.evaluation.com_agreement import compare, explained_variance
from stemvane.models.rotation_vae import RotationVAE
from stemvane.reduction.measure import measure
from stemvane.simulation.simulate import simulate
from stemvane.workflow.pipeline import demo_config

RESULTS = Path(__file__).parents[1] / "results" / "seeds.json"
DOSES = (100_000, 20_000, 4_000)
FLOORS = (0.2, 0.1, 0.05, 0.03, 0.02, 0.01)


def fit_model(
    config: Config,
    measurements: Measurements,
    *,
    seed: int,
    start: str = "alignment",
    n_epochs: int | None = None,
    floor: float | None = None,
    drop: tuple[int, ...] = (),
    neighbours: bool = True,
    evidence: bool = True,
    maps: list[Embedding] | None = None,
) -> dict[str, Any]:
    """Train once and return the metrics of the table; the maps are added to `maps` and compared with its first."""
    model_section = {**config.model.model_dump(), "start": start}
    if floor is not None:
        model_section["noise_floor"] = floor
    training = {**config.training.model_dump(), "seed": seed}
    if n_epochs is not None:
        training["n_epochs"] = n_epochs
    model = RotationVAE(
        basis=BasisConfig(**{**config.basis.model_dump(), "drop_orders": drop, "neighbours": neighbours}),
        align=config.align,
        model=HarmonicConfig(**model_section),
        training=TrainingConfig(**training),
    ).fit(measurements)
    row: dict[str, Any] = {"seed": seed, "start": start, "noise_floor": model.model_config.noise_floor}
    embedding = model.embed(measurements)
    row |= compare(embedding, measurements)
    if maps is not None:
        maps.append(embedding)
        row |= agreement(embedding, maps[0])
    row["explained_variance"] = explained_variance(*model.misfit(measurements))
    truth = measurements.expectation or measurements
    row["explained_variance_truth"] = explained_variance(*model.misfit(measurements, truth=truth))
    row["train_seconds"] = model.history.seconds
    row["train_patterns_per_second"] = model.history.patterns_per_second
    if evidence and model.training_mask is not None:
        values, level = model.evidence(measurements, ~model.training_mask)
        row["evidence_heldout"], row["evidence_noise_level"] = float(values.mean()), level
    return row


def agreement(one: Embedding, other: Embedding) -> dict[str, float]:
    """Smallest Pearson r between two trainings' maps of a latent, and the median difference of their angles."""
    pairs = [(one.latents[..., k].ravel(), other.latents[..., k].ravel()) for k in range(one.n_latent)]
    difference = np.abs(np.angle(np.exp(1j * (one.angle - other.angle))))
    return {
        "maps_r_smallest": min(float(np.corrcoef(*pair)[0, 1]) for pair in pairs),
        "maps_angle_deg": float(np.degrees(np.median(difference))),
    }


def main_table(config: Config, measurements: Measurements, seeds: range) -> list[dict[str, Any]]:
    rows = []
    maps: dict[str, list[Embedding]] = {"alignment": [], "random": []}
    for seed in seeds:
        rows.append({"method": "alignment + PCA"} | fit_model(config, measurements, seed=seed, n_epochs=0))
        for start, method in (("alignment", "RotationVAE"), ("random", "RotationVAE, random")):
            row = fit_model(config, measurements, seed=seed, start=start, maps=maps[start])
            rows.append({"method": method} | row)
        for row in rows[-3:]:
            show(row)
    return rows


def dose_table(config: Config, dose: float, seeds: range) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    measurements = measure(simulate(config.simulation, dose=dose))
    maps: dict[str, list[Embedding]] = {"RotationVAE": [], "RotationVAE, random": []}
    for seed in seeds:
        for method, options in (
            ("alignment + PCA, alone", {"n_epochs": 0, "neighbours": False}),
            ("RotationVAE, alone", {"neighbours": False}),
            ("alignment + PCA", {"n_epochs": 0}),
            ("RotationVAE", {}),
            ("RotationVAE, random", {"start": "random"}),
        ):
            row = fit_model(config, measurements, seed=seed, maps=maps.get(method), **options)
            rows.append({"dose": dose, "method": method} | row)
            show(rows[-1], "_truth")
    raw = rows[-1]
    print(f"  raw COM at {dose}: r {raw['com_pearson_r_truth']:.4f} {raw['com_angle_error_median_deg_truth']:.2f} deg")
    return rows


def frontier(config: Config, measurements: Measurements) -> list[dict[str, Any]]:
    rows = []
    for n_latent in (2, 3):
        section = config.replace(model={"n_latent": n_latent})
        for floor in FLOORS:
            rows.append(
                {"n_latent": n_latent, "method": f"{n_latent} latents"}
                | fit_model(section, measurements, seed=0, floor=floor)
            )
            show(rows[-1])
    return rows


def dipole_table(config: Config, measurements: Measurements) -> list[dict[str, Any]]:
    rows = []
    for n_epochs, method in ((0, "alignment + PCA, no m = 1"), (None, "RotationVAE, no m = 1")):
        rows.append(
            {"method": method} | fit_model(config, measurements, seed=0, n_epochs=n_epochs, drop=(1,), evidence=False)
        )
        show(rows[-1])
    return rows


def show(row: dict[str, Any], suffix: str = "") -> None:
    def number(name: str) -> float:
        value = row.get(name)
        return float("nan") if value is None else float(value)

    print(
        f"  {row['method']:<26} seed {row['seed']} floor {row['noise_floor']:<5} "
        f"r {number(f'pearson_r_first{suffix}'):+.5f} others {number(f'pearson_r_others_max{suffix}'):.4f} "
        f"angle {number(f'angle_error_median_deg{suffix}'):6.2f} deg (sign {number(f'angle_sign{suffix}'):+.0f}) "
        f"EV {number('explained_variance_truth'):.4f} evidence {number('evidence_heldout'):.1f} "
        f"maps r {number('maps_r_smallest'):.5f} {number('maps_angle_deg'):.3f} deg "
        f"train {number('train_seconds'):.1f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("main", "dose", "frontier", "dipole"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "seeds")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    config, seeds = demo_config(), range(chosen.seeds)

    @functools.cache
    def noiseless() -> Measurements:
        return measure(simulate(config.simulation))

    parts: dict[str, list[Callable[[], list[dict[str, Any]]]]] = {
        "main": [lambda: main_table(config, noiseless(), seeds)],
        "frontier": [lambda: frontier(config, noiseless())],
        "dipole": [lambda: dipole_table(config, noiseless())],
        "dose": [lambda dose=dose: dose_table(config, dose, seeds) for dose in DOSES],
    }
    tables: dict[str, Any] = {}
    for name in [chosen.only] if chosen.only else parts:
        print(name)
        # a part is a file until its table is complete, so that a run that was stopped goes on where it was
        files = [chosen.work / f"{name}-{number}-{len(seeds)}-seeds.json" for number in range(len(parts[name]))]
        for file, make in zip(files, parts[name], strict=True):
            if not file.exists():
                write_json({"rows": make()}, file)
        tables = json.loads(chosen.output.read_text()) if chosen.output.exists() else {}
        tables[name] = [row for file in files for row in json.loads(file.read_text())["rows"]]
        chosen.output.parent.mkdir(exist_ok=True)
        chosen.output.write_text(json.dumps(tables, indent=1) + "\n")
        for file in files:
            file.unlink()
    arrived = [
        abs(r["pearson_r_first"]) >= 0.998 and r["angle_error_median_deg"] <= 1.3
        for r in tables.get("main", [])
        if r["start"] == "random"
    ]
    print(f"random starts that arrived: {np.count_nonzero(arrived)} of {len(arrived)}")


if __name__ == "__main__":
    main()
