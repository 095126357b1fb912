"""How well one slice serves specimens that are not one plane of atoms: its COM against that of multislice.

Both methods are stemvane's own, at 60 kV and 31 mrad in focus on the middle of the specimen, and share the potential;
slices are 1 Å thick. The difference of the patterns themselves is given too: the thickness of a layer, which one slice
does not know, shows there first.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.speed.simulate import com
from stemvane.simulation.simulate import simulate

DETECTOR = {"detector_shape": (64, 64), "detector_outer": 66.0}
# one cell of the lattice, or the surroundings of a defect
SCANS = {
    "graphene": ((14, 8), (2.46 * 3**0.5, 2.46)),
    "h-BN": ((14, 8), (2.504 * 3**0.5, 2.504)),
    "MoS2": ((14, 8), (3.16 * 3**0.5, 3.16)),
    "graphene-Si-C3": ((10, 10), (5.0, 5.0)),
}


def rms(vectors: np.ndarray) -> float:
    return float(np.sqrt((vectors**2).sum(-1).mean()))


def compared(structure: str) -> dict[str, float]:
    shape, extent = SCANS[structure]
    single, multi = (
        simulate(structure=structure, method=method, scan_shape=shape, scan_extent=extent, **DETECTOR)
        for method in ("single-slice", "multislice")
    )
    fields = com(single), com(multi)
    patterns = [np.asarray(d.data, dtype=np.float64) for d in (single, multi)]
    changing = patterns[1] - patterns[1].mean((0, 1))
    return {
        "com_rms_mrad": rms(fields[1]),
        "com_rms_difference_mrad": rms(fields[0] - fields[1]),
        "com_relative_difference": rms(fields[0] - fields[1]) / rms(fields[1]),
        "pattern_relative_difference": float(np.sqrt(((patterns[0] - patterns[1]) ** 2).sum() / (changing**2).sum())),
    }


def main() -> None:
    result = {}
    print(f"{'structure':<16}{'rms COM (mrad)':>16}{'difference':>12}{'relative':>10}{'patterns':>10}")
    for structure in SCANS:
        result[structure] = differences = compared(structure)
        print(
            f"{structure:<16}{differences['com_rms_mrad']:>16.4f}{differences['com_rms_difference_mrad']:>12.2g}"
            f"{differences['com_relative_difference']:>10.2%}{differences['pattern_relative_difference']:>10.2%}"
        )
    path = Path(__file__).parents[1] / "results" / "slices.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
