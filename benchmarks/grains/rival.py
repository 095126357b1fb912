"""The rival, in a few lines: the phase of the ring's dominant harmonic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.grains.scenes import GrainScan

__all__ = ["angle_errors", "harmonic_angle"]

_ORDERS = (2, 3, 4, 6)


def harmonic_angle(
    scan: GrainScan, half_width: float, orders: tuple[int, ...] = _ORDERS
) -> tuple[NDArray[np.float64], int]:
    """Angle of every position in rad, from the pixels of the first ring of discs, and the order that it is read from.

    Axis and radius of the ring are told; the order is the strongest of those that are allowed.
    """
    patterns = np.asarray(scan.dataset.data.compute(), np.float64)
    rows, columns = np.indices(patterns.shape[2:], dtype=float)
    up, right = scan.axis[0] - rows, columns - scan.axis[1]
    on_ring = np.abs(np.hypot(up, right) - scan.ring) < half_width
    values, azimuth = patterns[..., on_ring], np.arctan2(up, right)[on_ring]
    harmonics = {order: values @ np.exp(-1j * order * azimuth) for order in orders}
    order = max(harmonics, key=lambda m: float((np.abs(harmonics[m]) ** 2).mean()))
    return -np.angle(harmonics[order]) / order, order


def angle_errors(found: NDArray[np.floating], truth: NDArray[np.float64], symmetry: int) -> NDArray[np.float64]:
    """Errors in rad, with their sign, modulo the symmetry and less the angle that is called 0."""
    turns = symmetry * (found - truth)
    offset = np.angle(np.exp(1j * turns).mean())
    for _ in range(10):
        offset += np.median(np.angle(np.exp(1j * (turns - offset))))
    return np.asarray(np.angle(np.exp(1j * (turns - offset))) / symmetry)
