"""Single-slice against multislice on the same graphene: patterns per second and difference of the COM.

Single-slice runs on all cores; multislice is abTEM with its own settings, which is one core for most of the work.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from stemvane.dataset import Dataset4D
from stemvane.sources.simulation import simulate

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


def main() -> None:
    for method in ("single-slice", "multislice"):  # imports and compilation are not what is measured
        simulate(method=method, scan_shape=(2, 2), **SETTINGS)
    multi, multi_rate = timed("multislice", (28, 16))
    single, _ = timed("single-slice", (28, 16))
    _, single_rate = timed("single-slice", (84, 48))
    difference, field = com(single) - com(multi), com(multi)
    result = {
        "cpu_count": os.cpu_count(),
        "detector_shape": list(SETTINGS["detector_shape"]),
        "single_slice_patterns_per_second": single_rate,
        "multislice_patterns_per_second": multi_rate,
        "ratio": single_rate / multi_rate,
        "com_rms_difference_mrad": float(np.sqrt((difference**2).sum(-1).mean())),
        "com_rms_mrad": float(np.sqrt((field**2).sum(-1).mean())),
        "com_max_mrad": float(np.linalg.norm(field, axis=-1).max()),
    }
    print(f"{'method':<14}{'patterns/s':>12}")
    print(f"{'single-slice':<14}{single_rate:>12.0f}")
    print(f"{'multislice':<14}{multi_rate:>12.0f}")
    print(f"ratio {result['ratio']:.1f}")
    print(
        f"COM: rms difference {result['com_rms_difference_mrad']:.2g} mrad, largest {result['com_max_mrad']:.3f} mrad"
    )
    path = Path(__file__).parent / "results" / "simulate.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
