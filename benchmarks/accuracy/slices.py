"""How well one slice serves specimens that are not one plane of atoms: its COM against that of multislice.

Both methods are stemvane's own, at 60 kV and 31 mrad in focus on the middle of the specimen, and share the potential;
slices are 1 Å thick. The difference of the patterns themselves is given too: the thickness of a layer, which one slice
does not know, shows there first. Beside them is the phase by which the choice is made, and, for thick crystals, how far
off patterns are because beams are followed up to 4 1/Å only. `--abtem` compares with abTEM, which has a potential, a
propagation and a detector of its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.speed.simulate import com
from stemvane.config import SimulationConfig
from stemvane.simulation.optics import Optics
from stemvane.simulation.propagation import out_of_focus
from stemvane.simulation.scenes import build_structure
from stemvane.simulation.simulate import simulate

DETECTOR = {"detector_shape": (64, 64), "detector_outer": 66.0}
HONEYCOMB = 3**0.5
ALONG_110 = {"structure": "GaAs", "zone_axis": (1, 1, 0), "scan_shape": (12, 8), "scan_extent": (5.6533, 3.9975)}
ALONG_001 = {"scan_shape": (10, 10)}
# one cell of the lattice, or the surroundings of a defect
SCANS: dict[str, dict[str, Any]] = {
    **{
        name: {"structure": name, "scan_shape": (14, 8), "scan_extent": (a * HONEYCOMB, a)}
        for name, a in (("graphene", 2.46), ("h-BN", 2.504), ("MoS2", 3.16), ("MoSe2", 3.289), ("WS2", 3.1532))
    },
    "graphene-Si-C3": {"structure": "graphene-Si-C3", "scan_shape": (10, 10), "scan_extent": (5.0, 5.0)},
    "graphene, two layers": {"twist": 0.0, "scan_shape": (14, 8), "scan_extent": (2.46 * HONEYCOMB, 2.46)},
    "SrTiO3 [001], one period": {**ALONG_001, "structure": "SrTiO3", "scan_extent": (3.905, 3.905)},
    "GaAs [110], one period": ALONG_110,
    "GaAs [001], one period": {**ALONG_001, "structure": "GaAs", "scan_extent": (5.6533, 5.6533)},
    "GaAs [110], 20 Å": {**ALONG_110, "thickness": 20.0},
    "GaAs [110], 40 Å": {**ALONG_110, "thickness": 40.0},
}


def rms(vectors: np.ndarray) -> float:
    return float(np.sqrt((vectors**2).sum(-1).mean()))


def relative(patterns: Any, reference: Any) -> float:
    """Difference of patterns over the rms of what changes over the scan."""
    one, other = (np.asarray(d.data, dtype=np.float64) for d in (patterns, reference))
    changing = other - other.mean((0, 1))
    return float(np.sqrt(((one - other) ** 2).sum() / (changing**2).sum()))


def phase(settings: dict[str, Any]) -> float:
    """The phase by which the method is chosen."""
    extent = settings["scan_extent"]
    shape = {name: settings[name] for name in ("zone_axis", "thickness", "twist") if name in settings}
    atoms, _ = build_structure(settings.get("structure", "graphene"), scan_extent=extent, **shape)
    return out_of_focus(atoms, Optics.of(SimulationConfig()))


def compared(settings: dict[str, Any]) -> dict[str, float]:
    single, multi = (simulate(**settings, method=method, **DETECTOR) for method in ("single-slice", "multislice"))
    with patch.multiple("stemvane.simulation.propagation", _FARTHEST=6.0, _FARTHEST_IN_FEW=6.0):
        farther = simulate(**settings, method="multislice", **DETECTOR)
    fields = com(single), com(multi)
    return {
        "phase_rad": phase(settings),
        "com_rms_mrad": rms(fields[1]),
        "com_rms_difference_mrad": rms(fields[0] - fields[1]),
        "com_relative_difference": rms(fields[0] - fields[1]) / rms(fields[1]),
        "pattern_relative_difference": relative(single, multi),
        "pattern_difference_of_farther_beams": relative(multi, farther),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--abtem", action="store_true", help="compare with abTEM instead")
    if parser.parse_args().abtem:
        against_abtem()
        return
    result = {}
    print(f"{'structure':<26}{'phase (rad)':>12}{'rms COM (mrad)':>16}{'COM':>9}{'patterns':>10}{'farther':>9}")
    for name, settings in SCANS.items():
        result[name] = c = compared(settings)
        print(
            f"{name:<26}{c['phase_rad']:>12.3f}{c['com_rms_mrad']:>16.3f}{c['com_relative_difference']:>9.2%}"
            f"{c['pattern_relative_difference']:>10.2%}{c['pattern_difference_of_farther_beams']:>9.2%}",
            flush=True,
        )
    path = Path(__file__).parents[1] / "results" / "slices.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def against_abtem() -> None:
    """Patterns of GaAs along [110] by stemvane and by abTEM alone, at some positions of a cell."""
    import abtem

    settings = {**ALONG_110, "thickness": 20.0, "scan_shape": (4, 3)}
    ours = simulate(**settings, **DETECTOR)
    atoms, _ = build_structure("GaAs", scan_extent=(5.6533, 3.9975), zone_axis=(1, 1, 0), thickness=20.0)
    # the slices are those between planes of atoms, in the middle of which no atom is cut
    size, z = atoms.cell.lengths(), atoms.positions[:, 2]
    gap = 5.6533 / 8**0.5
    atoms.positions[:, 2] += gap / 2 - z.min()
    atoms.set_cell([size[0], size[1], np.ptp(z) + gap])
    potential = abtem.Potential(
        atoms, sampling=0.04, parametrization="lobato", projection="infinite", slice_thickness=gap
    )
    # the wave starts at the upper face of a slice that acts there, half a gap above its atoms
    probe = abtem.Probe(energy=60e3, semiangle_cutoff=31.0, defocus=float(np.ptp(z)) / 2)
    probe.grid.match(potential)
    ys, xs = (np.arange(n) * e / n for n, e in zip((4, 3), (5.6533, 3.9975), strict=True))
    positions = np.stack([np.tile(xs, len(ys)), np.repeat(ys, len(xs))], axis=1)
    waves = probe.scan(
        potential, scan=abtem.CustomScan(positions), detectors=abtem.PixelatedDetector(max_angle=None), lazy=False
    )
    array = np.asarray(waves.array, dtype=np.float64).swapaxes(1, 2).reshape(4, 3, *waves.shape[:0:-1])
    angles = [np.asarray(c) for c in waves.angular_coordinates][::-1]
    optics = Optics.of(SimulationConfig(**DETECTOR))
    binned = np.zeros((4, 3, *optics.detector_shape))
    pieces = [optics.bins(axis, np.rint(a / (a[1] - a[0])).astype(int), a[1] - a[0]) for axis, a in enumerate(angles)]
    for sy in range(2):
        for sx in range(2):
            (first_y, shares_y), (first_x, shares_x) = pieces
            weights = shares_y[:, sy, None] * shares_x[:, sx]
            iy, ix = np.clip(first_y + sy, 0, 63), np.clip(first_x + sx, 0, 63)
            for index in np.ndindex(4, 3):
                np.add.at(binned[index], np.ix_(iy, ix), weights * array[index])
    patterns = np.asarray(ours.data, dtype=np.float64)
    changing = binned - binned.mean((0, 1))
    difference = float(np.sqrt(((patterns - binned) ** 2).sum() / (changing**2).sum()))
    print(f"GaAs [110], 20 Å: patterns differ from abTEM's by {difference:.2%} of what changes over the scan")


if __name__ == "__main__":
    main()
