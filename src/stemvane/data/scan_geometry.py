"""Where the probe positions of a scan lie, and how finely a scan can be resolved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemvane.data.calibration import Calibration

__all__ = ["highest_frequency", "probe_positions"]


def highest_frequency(step: tuple[float, float], calibration: Calibration) -> float:
    """Highest spatial frequency in 1/Å that a scan of this step (Å) holds: of the step, or of the probe if known."""
    highest = 0.5 / max(step)
    return highest if calibration.band_limit is None else min(highest, calibration.band_limit)


def probe_positions(shape: tuple[int, ...], step: tuple[float, float]) -> NDArray[np.float64]:
    """Probe positions ``(y, x)`` in Å in the order of the scan, shape ``(n_positions, 2)``."""
    y, x = np.indices(shape[:2])
    return np.stack([y.ravel() * step[0], x.ravel() * step[1]], axis=-1)
