"""The deflection of noisy scans as filters find it, against the noiseless one.

Run as ``python -m benchmarks.denoise``; writes ``benchmarks/results/denoise.json``, and puts the table between the
markers of ``benchmarks/README.md``. Every draw of a scan is a file under ``--work``, so that a run that was stopped
goes on where it was. ``--quick`` takes two scans without the model; ``--only`` takes some scans, ``--seeds`` so many
draws.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.denoise.rivals import RIVALS, best_gaussian
from benchmarks.harness.cells import machine, write_json
from benchmarks.harness.comparison import Comparison, cells_as_json
from stemvane import RotationVAE, filter_com, measure, simulate
from stemvane.config import Config
from stemvane.data.dataset import Dataset4D
from stemvane.evaluation.com_agreement import compare

__all__ = ["SCANS", "score", "tables"]

_Map = NDArray[np.complexfloating[Any, Any]]

_DEFECTS = {"defects": {"N": 1, "Si-C3": 1, "vacancy": 1}, "placement_seed": 3}
_LARGER = {"scan_shape": (96, 96), "scan_extent": (15.75, 15.75)}

SCANS: dict[str, dict[str, Any]] = {
    "demo, 100,000 electrons": {"dose": 1e5},
    "demo, 20,000": {"dose": 2e4},
    "demo, 4,000": {"dose": 4e3},
    "source 0.8 Å, 20,000": {"dose": 2e4, "source_size": 0.8},
    "source 0.8 Å, 4,000": {"dose": 4e3, "source_size": 0.8},
    "step 0.32 Å, 20,000": {"dose": 2e4, "scan_shape": (32, 32), "scan_extent": (10.24, 10.24)},
    "step 0.6 Å, 20,000": {"dose": 2e4, "scan_shape": (17, 17), "scan_extent": (10.2, 10.2)},
    "defocus 60 Å, 100,000": {"dose": 1e5, "defocus": 60.0},
    "defocus 60 Å, 20,000": {"dose": 2e4, "defocus": 60.0},
    "h-BN, 20,000": {"dose": 2e4, "structure": "h-BN"},
    "N, Si and a vacancy, 100,000": {"dose": 1e5, **_DEFECTS, **_LARGER},
    "N, Si and a vacancy, 20,000": {"dose": 2e4, **_DEFECTS, **_LARGER},
}
"""Settings of the simulation by name.

Graphene, 60 kV, 31 mrad, 64 × 64 positions 0.16 Å apart where nothing else is said; 96 × 96 with defects.
"""

_QUICK = ("demo, 20,000", "step 0.6 Å, 20,000")
_SECONDS = 60.0


@dataclass(frozen=True)
class Score:
    """How far an estimate is from the noiseless deflection."""

    angle: float
    r: float
    error: float
    kept: float | None = None
    coverage: tuple[float, float] | None = None


def main() -> None:
    warnings.filterwarnings("ignore")
    comparison = Comparison("denoise", tables, cells_as_json)
    parser = comparison.parser(__doc__)
    parser.add_argument("--only", help="semicolon-separated names of scans")
    parser.add_argument("--seeds", type=int, default=1, help="draws of each scan")
    chosen = parser.parse_args()
    work = comparison.work(chosen)
    comparison.require_page(chosen)
    torch.set_num_threads(1)
    names = chosen.only.split(";") if chosen.only else _QUICK if chosen.quick else list(SCANS)
    todo = [(name, seed) for seed in range(chosen.seeds) for name in names if not _path(work, name, seed).exists()]
    progress = comparison.progress(chosen, len(todo))
    for name, seed in [] if chosen.tables else todo:
        if progress.admits(_SECONDS):
            _run(name, seed, _path(work, name, seed), with_model=not chosen.quick)
            progress.add(f"{name}, draw {seed}", "")
    comparison.finish(_joined(work), chosen, progress)


def _path(work: Path, name: str, seed: int) -> Path:
    return work / "cells" / f"{list(SCANS).index(name)}-{seed}.json"


def _run(name: str, seed: int, path: Path, *, with_model: bool) -> None:
    settings = SCANS[name] | {"seed": seed}
    dataset = simulate(Config().replace(simulation=settings).simulation, progress=False)
    pristine = None
    if "defects" in settings:
        plain = {key: value for key, value in settings.items() if key not in _DEFECTS}
        pristine = deflection(simulate(Config().replace(simulation=plain | {"dose": None}).simulation, progress=False))
    rows = score(dataset, pristine, with_model=with_model)
    cell = {"scan": name, "seed": seed}
    write_json({"cell": cell, "rows": {key: vars(value) for key, value in rows.items()}}, path)


def score(dataset: Dataset4D, pristine: _Map | None = None, *, with_model: bool = True) -> dict[str, Score]:
    """Score all methods on one scan.

    Parameters
    ----------
    dataset : Dataset4D
        A simulated scan with its expectation.
    pristine : ndarray of complex, shape (scan_y, scan_x), optional
        Noiseless deflection of the same scan without its defects.
    with_model : bool
        Whether `RotationVAE` is trained, too.

    Returns
    -------
    dict
        By the name of the method.
    """
    measured, calibration = measure(dataset), dataset.calibration
    truth = _as_complex(measured.expectation.deflection)
    com = _as_complex(measured.deflection)
    step, cutoff = calibration.scan_step[0], calibration.band_limit
    noise = float((np.abs(com - truth) ** 2).mean())
    rows = {name: _score(rival(com, step, cutoff, noise), truth, pristine) for name, rival in RIVALS.items()}
    rows["Gaussian, best width"] = _score(best_gaussian(com, truth), truth, pristine)
    filtered = filter_com(measured)
    ours = _as_complex(filtered.deflection)
    off = np.abs(np.stack([(ours - truth).real, (ours - truth).imag])) / filtered.std
    coverage = float((off < 1).mean()), float((off < 1.96).mean())
    rows["`filter_com`"] = Score(**vars(_score(ours, truth, pristine)) | {"coverage": coverage})
    if with_model:
        model = RotationVAE(n_latent=2).fit(measured)
        agreement = compare(model.embed(measured), measured)
        rows["`RotationVAE`"] = Score(
            agreement["angle_error_median_deg_truth"], abs(agreement["pearson_r_first_truth"]), float("nan")
        )
    return rows


def deflection(dataset: Dataset4D) -> _Map:
    """Deflection of a scan in mrad, as `score` takes it."""
    return _as_complex(measure(dataset, polar=False).deflection)


def _as_complex(vectors: NDArray[np.floating[Any]]) -> _Map:
    return np.asarray(vectors[..., 1] - 1j * vectors[..., 0])


def _score(found: _Map, truth: _Map, pristine: _Map | None) -> Score:
    found, strong = found - found.mean(), np.abs(truth) > 0.2 * np.abs(truth).max()
    angle = np.degrees(np.median(np.abs(np.angle(found * np.conj(truth))[strong])))
    r = np.corrcoef(np.abs(found).ravel(), np.abs(truth).ravel())[0, 1]
    error = np.sqrt((np.abs(found - truth) ** 2).mean() / (np.abs(truth) ** 2).mean())
    kept = None
    if pristine is not None:
        change = truth - pristine
        near = np.abs(change) > 0.2 * np.abs(change).max()
        kept = float(np.vdot(change[near], (found - pristine)[near]).real / np.vdot(change[near], change[near]).real)
    return Score(float(angle), float(r), float(error), kept)


def _joined(work: Path) -> dict[str, Any]:
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in (work / "cells").glob("*.json")]
    cells.sort(key=lambda record: (list(SCANS).index(record["cell"]["scan"]), record["cell"]["seed"]))
    return {"machine": machine(), "cells": cells}


def tables(report: dict[str, Any]) -> str:
    """Make the table: median over the draws of angle error / r / rms error, a row for each method."""
    scans = [name for name in SCANS if any(record["cell"]["scan"] == name for record in report["cells"])]
    lines = []
    for name in scans:
        draws = [record["rows"] for record in report["cells"] if record["cell"]["scan"] == name]
        lines += [f"**{name}** ({len(draws)} {'draws' if len(draws) > 1 else 'draw'})", ""]
        lines += [
            "| method | angle (°) | r | rms error | defects kept | within 1, 1.96 std |",
            "|---|---|---|---|---|---|",
        ]
        for method in draws[0]:
            parts = [draw[method] for draw in draws if method in draw]
            angle, r, error = (float(np.median([part[key] for part in parts])) for key in ("angle", "r", "error"))
            kept = "" if parts[0]["kept"] is None else f"{np.median([part['kept'] for part in parts]):.2f}"
            inside = ""
            if parts[0]["coverage"]:
                inside = ", ".join(f"{share:.2f}" for share in np.median([part["coverage"] for part in parts], axis=0))
            size = "" if np.isnan(error) else f"{error:.3f}"
            lines.append(f"| {method} | {angle:.2f} | {r:.4f} | {size} | {kept} | {inside} |")
        lines.append("")
    return "\n".join(lines)
