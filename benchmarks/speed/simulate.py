"""Single-slice against multislice and abTEM on the same graphene: patterns per second and difference of the COM.

Single-slice and multislice share stemvane's potential; abTEM has its own, as it has its own waves and detector, and
runs at fewer positions. The difference from it, on a fine grid, tells how right the potential is.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from stemvane.data.dataset import Dataset4D
from stemvane.simulation.simulate import simulate
from stemvane.simulation.structures import graphene

SETTINGS = {"scan_extent": (2.46 * 3**0.5, 2.46), "detector_shape": (64, 64), "detector_outer": 66.0}
REPEATS = 3


def com(dataset: Dataset4D) -> np.ndarray:
    c = dataset.calibration
    assert c.optical_axis is not None
    assert c.pixel_size is not None
    a = np.asarray(dataset.data, dtype=np.float64)
    y, x = ((np.arange(n) - at) * size for n, at, size in zip(a.shape[2:], c.optical_axis, c.pixel_size, strict=True))
    return np.stack([(a * y[:, None]).sum((2, 3)), (a * x).sum((2, 3))], axis=-1) / a.sum((2, 3))[..., None]


def timed(method: str, scan_shape: tuple[int, int]) -> tuple[Dataset4D, float]:
    """Median rate of whole calls, potential and probe included."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        dataset = simulate(method=method, scan_shape=scan_shape, **SETTINGS)
        seconds.append(time.perf_counter() - start)
    return dataset, scan_shape[0] * scan_shape[1] / statistics.median(seconds)


def abtem_alone(shape: tuple[int, int], gpts: tuple[int, int]) -> np.ndarray:
    """COM (mrad; y, x) by abTEM alone, at positions of the scan of `SETTINGS`, on grid points that hold the atoms."""
    import abtem

    atoms = graphene((46, 46))
    potential = abtem.Potential(atoms, gpts=gpts, parametrization="lobato", projection="infinite", slice_thickness=1.0)
    # the waves start at the top of the cell and are in focus at the sheet
    probe = abtem.Probe(energy=60e3, semiangle_cutoff=31.0, defocus=float(atoms.positions[0, 2]))
    probe.grid.match(potential)
    ys, xs = (np.arange(n) * extent / n for n, extent in zip(shape, SETTINGS["scan_extent"], strict=True))
    positions = np.stack([np.tile(xs, len(ys)), np.repeat(ys, len(xs))], axis=1)
    patterns = probe.scan(
        potential, scan=abtem.CustomScan(positions), detectors=abtem.PixelatedDetector(max_angle=None), lazy=False
    )
    array = np.asarray(patterns.array, dtype=np.float64)
    k_x, k_y = (np.asarray(c) for c in patterns.angular_coordinates)
    # a pixel at the detector's edge counts with the part of it inside, as in the other two
    parts = [np.clip((SETTINGS["detector_outer"] - np.abs(k)) / (k[1] - k[0]) + 0.5, 0, 1)[:, None] for k in (k_x, k_y)]
    array = array * parts[0] * parts[1].T
    total = array.sum((1, 2))
    com_yx = np.stack([(array * k_y).sum((1, 2)), (array * k_x[:, None]).sum((1, 2))], axis=-1) / total[:, None]
    return com_yx.reshape(*shape, 2)


def main() -> None:
    for method in ("single-slice", "multislice"):  # imports and compilation are not what is measured
        simulate(method=method, scan_shape=(2, 2), **SETTINGS)
    multi, multi_rate = timed("multislice", (28, 16))
    single, _ = timed("single-slice", (28, 16))
    _, single_rate = timed("single-slice", (84, 48))
    difference, field = com(single) - com(multi), com(multi)
    few = (10, 6)
    alone = abtem_alone(few, (760, 792))
    # its rate is that on the coarsest grid that keeps the beams which the probe scatters onto the detector
    coarse, more = (304, 300), (14, 16)
    start = time.perf_counter()
    abtem_alone(more, coarse)
    abtem_rate = more[0] * more[1] / (time.perf_counter() - start)
    apart = com(simulate(scan_shape=few, **SETTINGS)) - alone
    result = {
        "cpu_count": os.cpu_count(),
        "detector_shape": list(SETTINGS["detector_shape"]),
        "single_slice_patterns_per_second": single_rate,
        "multislice_patterns_per_second": multi_rate,
        "abtem_patterns_per_second": abtem_rate,
        "ratio": single_rate / abtem_rate,
        "com_rms_difference_mrad": float(np.sqrt((difference**2).sum(-1).mean())),
        "com_rms_difference_to_abtem_alone_mrad": float(np.sqrt((apart**2).sum(-1).mean())),
        "com_rms_mrad": float(np.sqrt((field**2).sum(-1).mean())),
        "com_max_mrad": float(np.linalg.norm(field, axis=-1).max()),
    }
    print(f"{'method':<14}{'patterns/s':>12}")
    print(f"{'single-slice':<14}{single_rate:>12.0f}")
    print(f"{'multislice':<14}{multi_rate:>12.0f}")
    print(f"{'abTEM':<14}{abtem_rate:>12.0f}")
    print(f"single slice over abTEM: {result['ratio']:.1f}")
    print(
        f"COM: rms difference {result['com_rms_difference_mrad']:.2g} mrad, largest {result['com_max_mrad']:.3f} mrad"
    )
    print(f"COM: rms difference to abTEM alone {result['com_rms_difference_to_abtem_alone_mrad']:.2g} mrad")
    path = Path(__file__).parents[1] / "results" / "simulate.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
