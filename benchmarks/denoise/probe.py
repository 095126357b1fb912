"""Defocus and astigmatism as `fit_aberrations` finds them, and the learned transfer beside the known probe's.

Run as ``python -m benchmarks.denoise.probe``; writes ``benchmarks/results/probe.json`` and its figure, and prints the
table of the README. Graphene of the demo, 64 × 64 positions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.denoise.scans import Scan, simulated
from benchmarks.harness.cells import write_json
from stemvane import Measurements, fit_aberrations, measure
from stemvane.config import BasisConfig
from stemvane.features.aberrations import ProbeResponse
from stemvane.features.harmonics import HarmonicBasis
from stemvane.features.potential_filter import PotentialFilter
from stemvane.figures.layout import WIDTH, Box, add_axes, label_panel
from stemvane.figures.style import STYLE

RESULTS = Path(__file__).parents[1] / "results" / "probe.json"
# defocus and astigmatism in Å
PROBES = ((0.0, 0.0), (60.0, 0.0), (-50.0, 0.0), (60.0, 20.0), (0.0, 10.0))
DOSES = (100_000.0, 20_000.0, 4_000.0)
SHOWN = (0.0, 60.0, -50.0)
_N_DRAWS = 3
# Okabe and Ito, 2008
_COLOURS = ("0.5", "#0072B2", "#D55E00", "#009E73")

_Floats = NDArray[np.float64]


def row_of(defocus: float, astigmatism: float, dose: float) -> dict[str, Any]:
    """What is found in some draws, and the errors that are given with it."""
    scan = Scan({"dose": dose, "defocus": defocus}, astigmatism=astigmatism)
    found = [fit_aberrations(measure(simulated(scan, seed))) for seed in range(_N_DRAWS)]
    return {
        "defocus": defocus,
        "astigmatism": astigmatism,
        "dose": dose,
        "found": [[one.defocus, one.astigmatism, float(np.degrees(one.astigmatism_angle))] for one in found],
        "std": [[one.defocus_std, one.astigmatism_std] for one in found],
    }


def show(row: dict[str, Any]) -> None:
    found, std = np.array(row["found"]), np.array(row["std"])
    mean, scatter, said = found.mean(axis=0), found.std(axis=0, ddof=1), std.mean(axis=0)
    cells = [f"{mean[i]:.1f} ± {scatter[i]:.1f}" for i in (0, 1)]
    angle = f"{found[:, 2].mean():.0f}°" if row["astigmatism"] else ""
    known = f"| {row['defocus']:.0f} | {row['astigmatism']:.0f} | {row['dose']:,.0f}"
    line = f"{known} | {cells[0]} | {said[0]:.1f} | {cells[1]} | {said[1]:.1f} | {angle} |"
    print(line.replace("| -", "| −"), flush=True)


def transfers(measured: Measurements, defocus: float) -> tuple[_Floats, _Floats, _Floats, _Floats]:
    """Spatial frequencies, shares of the orders 0 to 3 in the learned transfer and the probe's, and their overlap."""
    calibration = measured.calibration
    assert calibration.scan_step is not None
    basis = HarmonicBasis.fit(measured, BasisConfig())
    features = basis.features(measured).reshape(*measured.scan_shape, -1)
    learned = PotentialFilter.fit(
        features, measured.recorded, basis.orders, basis.counting, calibration.scan_step, calibration.band_limit
    )
    transfer = learned.transfer
    radii = transfer.radii[transfer.share > 0]
    vectors = transfer.complex_vectors[transfer.share > 0] @ transfer.directions
    answers = np.linalg.inv(learned.colour) @ ProbeResponse(measured, basis)(
        radii.astype(complex), np.array([defocus, 0, 0])
    )
    answers = (answers / np.linalg.norm(answers, axis=0)).T
    overlap = np.abs((vectors.conj() * answers).sum(axis=1).real)
    by_order = [
        np.array([(np.abs(part[:, basis.orders == order]) ** 2).sum(axis=1) for order in range(4)])
        for part in (vectors, answers)
    ]
    return radii, by_order[0], by_order[1], overlap


def draw(path: Path) -> None:
    """Draw both transfers by circular order, in focus, and on both sides of it; writes a PNG."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.5))
        for i, defocus in enumerate(SHOWN):
            measured = measure(simulated(Scan({"dose": 2e4, "defocus": defocus}), 0))
            radii, learned, known, overlap = transfers(measured, defocus)
            box = Box(0.48 + 2.35 * i, 0.46, 1.95, 1.45)
            words = f"defocus {defocus:.0f} Å".replace("-", "−")
            label_panel(figure, box, "abc"[i], words, f"overlap {np.average(overlap):.2f}", indent=0.4)
            axes = add_axes(figure, box, f"transfer {i}")
            for order, colour in enumerate(_COLOURS):
                axes.plot(radii, known[order], color=colour, lw=1, label=f"order {order}")
                axes.plot(radii, learned[order], color=colour, marker="o", ms=2.5, ls="")
            axes.set(xlabel="spatial frequency (1/Å)", ylim=(0, 1.02), ylabel="" if i else "share of the transfer")
            axes.spines[["top", "right"]].set_visible(False)
            if i == 1:
                axes.legend(loc="upper right", handlelength=1.2, labelspacing=0.2)
        figure.text(
            0.01, 0.02, "Points: learned from 20,000 electrons per pattern. Lines: the probe of the simulation.", size=6
        )
        figure.savefig(path, dpi=200, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    print("| defocus (Å) | astigmatism (Å) | electrons | defocus found | std | astigmatism found | std | direction |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for defocus, astigmatism in PROBES:
        for dose in DOSES:
            rows.append(row_of(defocus, astigmatism, dose))
            show(rows[-1])
    write_json({"rows": rows}, chosen.output)
    draw(chosen.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
