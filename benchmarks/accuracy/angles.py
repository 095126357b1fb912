"""How often the intervals of both angles hold: that of the content and that of the centre of mass.

Run as ``python -m benchmarks.accuracy.angles``; writes ``benchmarks/results/angles.json`` and prints the table of the
README. Every scan is simulated at three doses, filtered, and a model is trained on it. The truth of the COM's angle is
the direction of the noiseless COM. That of the content's is what the same model says of the noiseless patterns; of
analytic patterns, whose content is one shape that rotates, it is the angle that they were made with up to a constant.
Without counts, the content's angle of a crystal is held against that of the closed-form alignment instead, which says
how far two models of the same patterns are apart.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.denoise.scans import SCANS, simulated
from stemvane import Measurements, RotationVAE, measure, pattern_model, synthetic
from stemvane.config import Config
from stemvane.data.dataset import Dataset4D
from stemvane.data.embedding import Embedding
from stemvane.features.filtered_com import add_filtered_com

RESULTS = Path(__file__).parents[1] / "results" / "angles.json"
LEVELS = (0.68, 0.95)
DOSES = (None, 20_000.0, 4_000.0)
CRYSTALS = {
    "graphene": "demo, 20,000",
    "SrTiO3 2 nm": "SrTiO3 2 nm, 20,000",
    "SrTiO3 10 nm": "SrTiO3 10 nm, 20,000",
    "defocus 60 Å": "defocus 60 Å, 20,000",
    "defocus 60 Å, astigmatism 20 Å": "defocus 60 Å, astigmatism 20 Å, 20,000",
}

_Floats = NDArray[np.floating[Any]]


def rows_of(name: str, dose: float | None) -> list[dict[str, Any]]:
    """Coverage of both angles in one scan."""
    known = None
    if name == "analytic":
        dataset, truth = synthetic((64, 64), dose=dose)
        known = truth.angle
    else:
        dataset = _crystal(name, dose)
    measured = add_filtered_com(measure(dataset))
    model = RotationVAE(2).fit(measured)
    embedding = model.embed(measured)
    noiseless = measured if dose is None else replace(measured.expectation, noiseless=True)
    if known is not None:
        apart = embedding.angle - known
        apart = apart - np.angle(np.exp(1j * apart).sum())
    elif dose is None:
        apart = embedding.angle - _aligned(measured).angle
        apart = apart - np.angle(np.exp(1j * apart).sum())
    else:
        apart = embedding.angle - model.embed(noiseless).angle
    widths = {level: embedding.angle_interval(level) for level in LEVELS}
    rows = [_row(name, dose, "content", apart, embedding.angle_std, widths)]
    if dose is not None:
        assert embedding.deflection_angle is not None
        assert embedding.deflection_angle_std is not None
        std = embedding.deflection_angle_std
        widths = {level: float(special.ndtri((1 + level) / 2)) * std for level in LEVELS}
        rows.append(_row(name, dose, "COM", embedding.deflection_angle - noiseless.com_angle, std, widths))
    return rows


def _crystal(name: str, dose: float | None) -> Dataset4D:
    scan = SCANS[CRYSTALS[name]]
    dataset = simulated(replace(scan, settings={**scan.settings, "dose": dose or 1.0}), seed=0)
    if dose is not None:
        return dataset
    return Dataset4D.from_array(
        np.asarray(dataset.expectation), calibration=dataset.calibration, noiseless=True, name=name
    )


def _aligned(measured: Measurements) -> Embedding:
    return pattern_model(Config().replace(model={"model": "alignment"})).fit(measured).embed(measured)


def _row(
    name: str, dose: float | None, of: str, apart: _Floats, std: _Floats, widths: dict[float, _Floats]
) -> dict[str, Any]:
    error = np.abs(np.angle(np.exp(1j * apart)))
    row = {"scan": name, "dose": dose, "of": of}
    row |= {"error": float(np.degrees(np.median(error))), "std": float(np.degrees(np.median(std)))}
    return row | {f"inside_{level}": float((error <= width).mean()) for level, width in widths.items()}


def show(row: dict[str, Any]) -> None:
    dose = "infinite" if row["dose"] is None else f"{row['dose']:,.0f}"
    inside = " | ".join(f"{100 * row[f'inside_{level}']:.0f} %" for level in LEVELS)
    print(f"| {row['scan']} | {dose} | {row['of']} | {row['error']:.2f}° | {row['std']:.2f}° | {inside} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="semicolon-separated names of scans")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    print(
        "| scan | electrons | angle of | error, median | its std, median | 68 % | 95 % |\n|---|---|---|---|---|---|---|"
    )
    rows = []
    for name in chosen.only.split(";") if chosen.only else ("analytic", *CRYSTALS):
        for dose in DOSES:
            rows += rows_of(name, dose)
            for row in rows[-2:] if dose is not None else rows[-1:]:
                show(row)
    chosen.output.parent.mkdir(exist_ok=True)
    chosen.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
