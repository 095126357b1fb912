"""What the two choices of `filter_com` are worth: whether to filter at all, and whether to compute the transfer.

Run as ``python -m benchmarks.denoise.choices`` (10 minutes on one core); writes ``benchmarks/results/choices.json`` and
prints the tables of the README. Every scan is filtered both ways, whatever `filter_com` would choose: with the learned
transfer and with the computed one, and not at all. Semi-angles that are told wrongly make a computed transfer wrong.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.denoise.scans import SCANS, Scan, simulated
from benchmarks.harness.cells import ROOT, write_json
from stemvane import FilteredCom, Measurements, filter_com, measure
from stemvane.features import filtered_scan, potential_filter
from stemvane.features.scan_problem import ScanProblem

RESULTS = ROOT / "benchmarks" / "results" / "choices.json"
# scans out of focus, and the semi-angle that is told over the true one
OUT_OF_FOCUS: tuple[tuple[str, Scan, float], ...] = (
    *((name, SCANS[name], 1.0) for name in SCANS if name.startswith("defocus")),
    ("defocus 60 Å, 4,000", Scan({"dose": 4e3, "defocus": 60.0}), 1.0),
    ("defocus −50 Å, 20,000", Scan({"dose": 2e4, "defocus": -50.0}), 1.0),
    ("defocus 30 Å, 20,000", Scan({"dose": 2e4, "defocus": 30.0}), 1.0),
    ("defocus 60 Å, source 0.8 Å, 20,000", Scan({"dose": 2e4, "defocus": 60.0, "source_size": 0.8}), 1.0),
    *(
        (f"defocus 60 Å, semi-angle told {change:+.0%}, {dose:,}", Scan({"dose": dose, "defocus": 60.0}), 1 + change)
        for change in (-0.1, -0.05, 0.05, 0.1)
        for dose in (100_000, 20_000)
    ),
)
# scans with little noise
BRIGHT = (
    *((f"SrTiO3 10 nm, {dose:,}", "SrTiO3 10 nm, 20,000", dose) for dose in (4_000, 10_000, 20_000, 50_000, 100_000)),
    *((f"SrTiO3 2 nm, {dose:,}", "SrTiO3 2 nm, 20,000", dose) for dose in (20_000, 100_000, 1_000_000)),
    *((f"demo, {dose:,}", "demo, 20,000", dose) for dose in (1_000_000, 10_000_000, 100_000_000)),
    *((f"bilayer, {dose:,}", "bilayer, 20,000", dose) for dose in (1_000_000, 100_000_000)),
    *((f"strain, {dose:,}", "strain of 3 to 0.5 %, 20,000", dose) for dose in (1_000_000, 100_000_000)),
)


def error(estimate: FilteredCom, measured: Measurements) -> tuple[float, float]:
    """Median error of the direction in degrees, and rms error of the deflection over its rms."""
    truth, found = (part - part.mean(axis=(0, 1)) for part in (measured.expectation.deflection, estimate.deflection))
    apart = np.angle(np.exp(1j * (estimate.angle - np.arctan2(-truth[..., 0], truth[..., 1]))))
    return float(np.degrees(np.median(np.abs(apart)))), float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def afresh(measured: Measurements) -> FilteredCom:
    """Filtered COM, as what is kept of a scan was made with another choice."""
    return filter_com(replace(measured))


def transfer_row(name: str, scan: Scan, told: float) -> dict[str, Any]:
    """Errors with the learned and the computed transfer, and how much of what one explains the other does."""
    dataset = simulated(scan, 0)
    semiangle = dataset.calibration.convergence_semiangle
    assert semiangle is not None
    measured = measure(dataset.recalibrate(convergence_semiangle=told * semiangle))
    explained: list[float] = []

    class Recorded(ScanProblem):
        @property
        def explained(self) -> float:
            explained.append(super().explained)
            return explained[-1]

    row: dict[str, Any] = {"scan": name}
    with patch.object(potential_filter, "ScanProblem", Recorded):
        for what, limit in (("learned", np.inf), ("computed", 0.0)):
            with patch.object(potential_filter, "_AS_GOOD", limit):
                row[what] = error(afresh(measured), measured)
    row["ratio"] = explained[0] / explained[1] if explained else None
    row["taken"] = "computed" if explained and row["ratio"] > potential_filter._AS_GOOD else "learned"
    return row


def noise_row(name: str, of: str, dose: float) -> dict[str, Any]:
    """Errors of the COM as measured and filtered, and the noise's share of its power."""
    measured = measure(simulated(replace(SCANS[of], settings={**SCANS[of].settings, "dose": float(dose)}), 0))
    row: dict[str, Any] = {"scan": name}
    for what, limit in (("measured", np.inf), ("filtered", 0.0)):
        with patch.object(filtered_scan, "_WORTH_FILTERING", limit):
            row[what] = error(afresh(measured), measured)
    content = float((measured.deflection**2).sum(axis=-1).mean())
    row["noise"] = 2 * float(np.mean(measured.com_noise(measured.counts_per_electron) ** 2)) / content
    row["taken"] = "filtered" if afresh(measured).is_filtered else "measured"
    return row


def tables(transfers: list[dict[str, Any]], noises: list[dict[str, Any]]) -> str:
    """Both tables."""
    lines = [
        "Median error of the angle, and rms error over the rms; in bold what `filter_com` takes.",
        "",
        "| scan | explained, computed over learned | learned | computed |",
        "|---|---|---|---|",
    ]
    for row in transfers:
        ratio = f"{row['ratio']:.3f}" if row["ratio"] else "not computed"
        lines.append(f"| {row['scan']} | {ratio} | {cell(row, 'learned')} | {cell(row, 'computed')} |")
    lines += ["", "| scan | noise over deflection, power | as measured | filtered |", "|---|---|---|---|"]
    for row in noises:
        lines.append(f"| {row['scan']} | {row['noise']:.1e} | {cell(row, 'measured')} | {cell(row, 'filtered')} |")
    return "\n".join(lines)


def cell(row: dict[str, Any], what: str) -> str:
    angle, rms = row[what]
    words = f"{angle:.2f}°, {rms:.4f}"
    return f"**{words}**" if row["taken"] == what else words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="two scans of each, printed only")
    chosen = parser.parse_args()
    few = slice(2) if chosen.quick else slice(None)
    transfers = [transfer_row(*one) for one in OUT_OF_FOCUS[few]]
    noises = [noise_row(*one) for one in BRIGHT[few]]
    if not chosen.quick:
        write_json({"transfers": transfers, "noises": noises}, chosen.output)
    print(tables(transfers, noises))


if __name__ == "__main__":
    main()
