"""Circular cross-correlation of patterns and a template in features, and the angles at which it is largest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_angles", "cross_spectrum", "grid_phases", "order_phases"]

Features = NDArray[np.complexfloating[Any, Any]]


def cross_spectrum(features: Features, template: Features, orders: NDArray[np.int64]) -> NDArray[np.complex64]:
    """Circular cross-spectrum of patterns and template by order, shape ``(n_patterns, n_orders)``."""
    by_order = np.zeros((len(orders), int(orders.max()) + 1), np.float32)
    by_order[np.arange(len(orders)), orders] = 1.0
    cross: NDArray[np.complex64] = np.asarray((features * template.conj().astype(np.complex64)) @ by_order)
    return cross


def grid_phases(orders: NDArray[np.int64], n_angles: int) -> NDArray[np.complex64]:
    """``exp(i m θ)`` for each order m and grid angle θ, shape ``(n_orders, n_angles)``."""
    grid = 2 * np.pi * np.arange(n_angles) / n_angles
    phases: NDArray[np.complex64] = np.exp(1j * np.outer(np.arange(int(orders.max()) + 1), grid)).astype(np.complex64)
    return phases


def order_phases(angle: NDArray[np.floating[Any]], n_orders: int) -> NDArray[np.complex128]:
    """``exp(i m angle)`` for the orders m from 0 on, shape ``(n, n_orders)``, as powers of the first one."""
    phases = np.ones((len(angle), n_orders), np.complex128)
    phases[:, 1:] = np.exp(1j * angle)[:, None]
    return np.asarray(np.multiply.accumulate(phases, axis=1, out=phases))


def best_angles(
    features: Features, template: Features, orders: NDArray[np.int64], n_angles: int
) -> NDArray[np.float64]:
    """Angles (rad) by which the template must be rotated to fit each pattern best, refined between grid points.

    The grid has `n_angles` points on the circle, or a multiple of them where the highest order needs it: with fewer
    than two points on its period a peak may lie unseen between them.
    """
    n_angles *= -(-2 * (int(orders.max()) + 1) // n_angles)
    cross, phase = cross_spectrum(features, template, orders), grid_phases(orders, n_angles)
    m = np.arange(len(phase))
    best = np.argmax(cross.real @ phase.real - cross.imag @ phase.imag, axis=1)
    angle = 2 * np.pi / n_angles * best
    for _ in range(3):
        term = cross * order_phases(angle, len(m))
        slope, bend = -(term.imag * m).sum(axis=1), -(term.real * m**2).sum(axis=1)
        step = np.where(bend < 0, -slope / np.where(bend < 0, bend, -1.0), 0.0)
        angle = angle + np.clip(step, -np.pi / n_angles, np.pi / n_angles)
    return np.asarray(np.angle(np.exp(1j * angle)))
