"""How often the intervals of angle and latents hold: one frozen model, the same patterns counted again and again.

Run as ``python -m benchmarks.accuracy.uncertainty``; writes ``benchmarks/results/uncertainty.json`` and prints the
table of the README. At every dose a model is trained on the demo's graphene, and other counts of the same patterns
(``--draws``) are embedded by it. What must lie within an interval is the model's own value for the noiseless patterns,
which no filter touches.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from stemvane.data.embedding import Embedding
from stemvane.models.rotation_vae import RotationVAE
from stemvane.reduction.measure import measure
from stemvane.simulation.simulate import simulate
from stemvane.workflow.pipeline import demo_config

RESULTS = Path(__file__).parents[1] / "results" / "uncertainty.json"
LEVELS = (0.68, 0.95)


def errors_and_widths(estimate: Embedding, expected: Embedding) -> dict[str, tuple[Any, Any, dict[float, Any]]]:
    """Error, standard deviation and half widths of the intervals, flat, of the angle and of every latent."""
    error = np.abs(np.angle(np.exp(1j * (estimate.angle - expected.angle)))).ravel()
    columns = {
        "angle": (
            error,
            estimate.angle_std.ravel(),
            {level: estimate.angle_interval(level).ravel() for level in LEVELS},
        )
    }
    for k in range(estimate.n_latent):
        std = estimate.latent_std[..., k].ravel()
        widths = {level: special.ndtri((1 + level) / 2) * std for level in LEVELS}
        columns[f"latent {k + 1}"] = np.abs(estimate.latents[..., k] - expected.latents[..., k]).ravel(), std, widths
    return columns


def coverage(dose: float, n_draws: int) -> list[dict[str, Any]]:
    """Share of the values inside their intervals, over all and in each tenth of the standard deviation."""
    settings = demo_config().simulation
    first = measure(simulate(settings, dose=dose))
    model = RotationVAE(2).fit(first)
    expected = model.embed(replace(first.expectation, noiseless=True))
    draws = []
    for seed in range(1, n_draws + 1):
        again = measure(replace(simulate(settings, dose=dose, seed=seed), expectation=None), polar=True)
        draws.append(errors_and_widths(model.embed(again), expected))
    rows = []
    for name in draws[0]:
        error, std = (np.concatenate([draw[name][i] for draw in draws]) for i in (0, 1))
        tenth = np.argsort(np.argsort(std, kind="stable")) * 10 // len(std)
        row: dict[str, Any] = {"dose": dose, "of": name, "n": len(error), "median_std": float(np.median(std))}
        for level in LEVELS:
            inside = error <= np.concatenate([draw[name][2][level] for draw in draws])
            row[f"inside_{level}"] = float(inside.mean())
            row[f"tenths_{level}"] = [float(inside[tenth == i].mean()) for i in range(10)]
        rows.append(row)
        show(row)
    return rows


def show(row: dict[str, Any]) -> None:
    cells = []
    for level in LEVELS:
        tenths = row[f"tenths_{level}"]
        cells.append(f"{100 * row[f'inside_{level}']:.1f} % | {100 * min(tenths):.0f} to {100 * max(tenths):.0f} %")
    print(f"| {row['dose']:,.0f} | {row['of']} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    print("| electrons per pattern | of | 68 % | tenths | 95 % | tenths |\n|---|---|---|---|---|---|")
    rows = [row for dose in (100_000.0, 20_000.0, 4_000.0) for row in coverage(dose, chosen.draws)]
    chosen.output.parent.mkdir(exist_ok=True)
    chosen.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
