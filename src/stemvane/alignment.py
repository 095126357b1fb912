"""The closed-form start: turn every residual onto a common template, then find principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import AlignConfig
from stemvane.harmonics import HarmonicBasis, turned

__all__ = ["Alignment", "align_rotation"]

_N_COMPARED = 2048


@dataclass(frozen=True, eq=False)
class Alignment:
    """Angles, template and principal components of turned residuals.

    Attributes
    ----------
    angle : ndarray of float, shape (n_patterns,)
        Rotation of each pattern in rad, counter-clockwise on the screen.
    template : ndarray of complex, shape (n_features,)
        Mean of the residuals turned back by their angles.
    components : ndarray of complex, shape (n_components, n_features)
        Principal components of the turned residuals, as vectors of length 1, the one with most variance first.
    variance : ndarray of float, shape (n_components,)
        Variance along each component.
    scores : ndarray of float, shape (n_patterns, n_components)
        Coordinate of each pattern along each component, mean 0.
    start_order : int
        Circular order of the start that turned out likeliest.
    """

    angle: NDArray[np.float64]
    template: NDArray[np.complex128]
    components: NDArray[np.complex128]
    variance: NDArray[np.float64]
    scores: NDArray[np.float64]
    start_order: int


def align_rotation(
    features: NDArray[np.complexfloating[Any, Any]],
    basis: HarmonicBasis,
    config: AlignConfig | None = None,
    *,
    n_components: int = 2,
) -> Alignment:
    """Turn every residual onto a common template; deterministic, and not told the COM.

    From each circular order in turn a first guess of the angles is taken: the phase of the order's strongest direction.
    Then, until nothing moves: the template is the mean of the turned residuals, and every residual is turned to where
    its circular cross-correlation with the template is largest. The start whose template is longest is kept, because
    for fixed noise the likelihood grows with the template's length. Last, the template is turned so that its
    dipole (its strongest order, where it has hardly any) points to the right: this fixes which angle is called 0.

    Parameters
    ----------
    features : ndarray of complex, shape (n_patterns, n_features)
        From `HarmonicBasis.features`.
    basis : HarmonicBasis
        The basis of the features.
    config : AlignConfig, optional
        Grid, rounds and starts.
    n_components : int
        Principal components of the turned residuals to find.

    Returns
    -------
    Alignment

    Notes
    -----
    The amplitude of the template is positive in every pattern: a free sign would let a pattern be turned by 180° with
    its sign flipped, a false optimum.
    """
    config = config or AlignConfig()
    orders = basis.orders
    # which start is likeliest shows on some of the patterns; the winner is then followed on all
    some = features[:: max(1, len(features) // _N_COMPARED)]
    best, best_template = 0, np.zeros(len(orders), np.complex128)
    for order in range(1, config.max_order + 1):
        at = np.flatnonzero(orders == order)
        if len(at) == 0:
            continue
        part = some[:, at]
        direction = np.linalg.eigh(part.T @ part.conj())[1][:, -1]
        angle = _followed(some, orders, -np.angle(part @ direction.conj()) / order, config)
        template = turned(some, orders, -angle).mean(axis=0, dtype=np.complex128)
        if np.linalg.norm(template) > np.linalg.norm(best_template) * (1 + 1e-6):
            best, best_template = order, template
    angle = _followed(features, orders, best_angles(features, best_template, orders, config.n_angles), config)
    return _finished(features, basis, angle, best, n_components)


def _followed(
    features: NDArray[np.complexfloating[Any, Any]],
    orders: NDArray[np.int64],
    angle: NDArray[np.float64],
    config: AlignConfig,
) -> NDArray[np.float64]:
    """Average and turn in turns, until hardly any angle moves."""
    for _ in range(config.n_iterations):
        template = turned(features, orders, -angle).mean(axis=0, dtype=np.complex128)
        moved = best_angles(features, template, orders, config.n_angles)
        change = np.abs(np.angle(np.exp(1j * (moved - angle))))
        angle = moved
        if np.quantile(change, 0.99) < 1e-4:
            break
    return angle


def best_angles(
    features: NDArray[np.complexfloating[Any, Any]],
    template: NDArray[np.complexfloating[Any, Any]],
    orders: NDArray[np.int64],
    n_angles: int,
) -> NDArray[np.float64]:
    """Angles (rad) by which the template must be turned to fit each pattern best, refined between grid points."""
    n_orders = int(orders.max()) + 1
    by_order = np.zeros((len(orders), n_orders), np.float32)
    by_order[np.arange(len(orders)), orders] = 1.0
    cross = (features * template.conj().astype(np.complex64)) @ by_order
    m = np.arange(n_orders)
    grid = 2 * np.pi * np.arange(n_angles) / n_angles
    phase = np.exp(1j * np.outer(m, grid)).astype(np.complex64)
    angle = grid[np.argmax(cross.real @ phase.real - cross.imag @ phase.imag, axis=1)]
    for _ in range(3):
        term = cross * np.exp(1j * m * angle[:, None])
        slope, bend = -(term.imag * m).sum(axis=1), -(term.real * m**2).sum(axis=1)
        step = np.where(bend < 0, -slope / np.where(bend < 0, bend, -1.0), 0.0)
        angle = angle + np.clip(step, -np.pi / n_angles, np.pi / n_angles)
    return np.asarray(np.angle(np.exp(1j * angle)))


def _finished(
    features: NDArray[np.complexfloating[Any, Any]],
    basis: HarmonicBasis,
    angle: NDArray[np.float64],
    start_order: int,
    n_components: int,
) -> Alignment:
    orders = basis.orders
    angle = angle + gauge_angle(turned(features, orders, -angle).mean(axis=0, dtype=np.complex128), basis)
    straight = turned(features, orders, -angle)
    template = straight.mean(axis=0, dtype=np.complex128)
    real = np.concatenate([straight.real, straight.imag], axis=1).astype(np.float64)
    real -= real.mean(axis=0)
    values, vectors = np.linalg.eigh(real.T @ real / len(real))
    n = min(n_components, len(values))
    vectors = vectors[:, ::-1][:, :n]
    # more of the first component means more of the template; the others point where their scores are skewed to
    scores = real @ vectors
    along = np.concatenate([template.real, template.imag]) @ vectors
    sign = np.where(np.arange(n) == 0, np.sign(along), np.sign((scores**3).sum(axis=0)))
    sign[sign == 0] = 1.0
    vectors, scores = vectors * sign, scores * sign
    half = len(orders)
    return Alignment(
        angle=np.asarray(np.angle(np.exp(1j * angle))),
        template=template,
        components=(vectors[:half] + 1j * vectors[half:]).T,
        variance=values[::-1][:n].copy(),
        scores=scores,
        start_order=start_order,
    )


def gauge_angle(template: NDArray[np.complexfloating[Any, Any]], basis: HarmonicBasis) -> float:
    """Angle (rad) at which the template's dipole points; of its strongest order where the dipole is weak beside it.

    The dipole is the first moment that the content adds to a pattern: ``Σ r² x_1(r)`` over the rings.
    """
    strength = np.array([np.linalg.norm(template[basis.orders == m]) for m in range(int(basis.orders.max()) + 1)])
    strength[0] = 0.0
    if not strength.any():
        return 0.0
    # noise leaves some of every order in the template, which says nothing about a direction
    order = 1 if strength[1] >= 0.2 * strength.max() else int(np.argmax(strength))
    at = basis.orders == order
    radius = np.arange(basis.synthesis.shape[1]) + 0.5
    moment = template[at] @ basis.synthesis[at] @ radius ** (order + 1)
    return float(-np.angle(moment) / order)
