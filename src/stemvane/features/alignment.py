"""The closed-form start: rotate every residual onto a common template, then find principal components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import AlignConfig
from stemvane.data.representation import Representable, Row
from stemvane.features.harmonics import HarmonicBasis, rotate_features

__all__ = ["Alignment", "align_rotation"]

_N_COMPARED = 2048
_N_SOFT_ROUNDS = 12


@dataclass(frozen=True, eq=False, repr=False)
class Alignment(Representable):
    """Angles, template and principal components of rotated residuals.

    Attributes
    ----------
    angle : ndarray of float, shape (n_patterns,)
        Rotation of each pattern in rad, counter-clockwise on the screen.
    template : ndarray of complex, shape (n_features,)
        Mean of the residuals rotated back by their angles.
    components : ndarray of complex, shape (n_components, n_features)
        Principal components of the rotated residuals, as vectors of length 1, the one with most variance first.
    variance : ndarray of float, shape (n_components,)
        Variance along each component.
    scores : ndarray of float, shape (n_patterns, n_components)
        Coordinate of each pattern along each component, mean 0 where the template has no symmetry.
    start_order : int
        Circular order of the start that was likeliest; 0 if none did, or angles were given.
    symmetry : int
        Rotational symmetry of the template: angles that differ by ``2 π / symmetry`` are the same.
    """

    angle: NDArray[np.float64]
    template: NDArray[np.complex128]
    components: NDArray[np.complex128]
    variance: NDArray[np.float64]
    scores: NDArray[np.float64]
    start_order: int
    symmetry: int

    def _summary(self) -> tuple[str, Sequence[Row]]:
        share = self.variance / max(float(self.variance.sum()), np.finfo(float).tiny)
        rows = [
            ("patterns", f"{len(self.angle)}, each with an angle"),
            ("template", f"{len(self.template)} features, {self.symmetry}-fold symmetry"),
            (
                "components",
                f"{len(self.components)}, with {', '.join(f'{100 * s:.3g} %' for s in share[:6])} of theirs",
            ),
            ("start", f"circular order {self.start_order}" if self.start_order else "none, or given angles"),
        ]
        return "Alignment", rows


def align_rotation(
    features: NDArray[np.complexfloating[Any, Any]],
    basis: HarmonicBasis,
    config: AlignConfig | None = None,
    *,
    n_components: int = 2,
    as_recorded: NDArray[np.complexfloating[Any, Any]] | None = None,
    angle: NDArray[np.float64] | None = None,
) -> Alignment:
    """Rotate every residual onto a common template; deterministic, and without using the COM.

    Each circular order provides a first guess of the angles: the phase of the order's strongest direction. Then, until
    nothing moves: the template is the mean of the rotated residuals, and every residual is rotated to where
    its circular cross-correlation with the template is largest. The start whose template is longest is kept, because
    for fixed noise the likelihood grows with the template's length. Where a template of s-fold symmetry is as likely
    (see Notes), it takes its place. Last, the template is rotated so that its dipole (its strongest order, where it has
    hardly any) points to the right: this fixes which angle is called 0.

    Parameters
    ----------
    features : ndarray of complex, shape (n_patterns, n_features)
        Features of the patterns, from `HarmonicBasis.features`.
    basis : HarmonicBasis
        The basis of the features.
    config : AlignConfig, optional
        Grid, rounds and starts.
    n_components : int
        Principal components of the rotated residuals to find.
    as_recorded : ndarray of complex, shape (n, n_features), optional
        Features of single patterns, whose noise is independent of each other's, to compare symmetries on; `features`
        if left out.
    angle : ndarray of float, shape (n_patterns,), optional
        Angles in rad to start from instead of the circular orders' guesses.

    Returns
    -------
    Alignment

    Notes
    -----
    The amplitude of the template is positive in every pattern: a free sign would let a pattern be rotated by 180° with
    its sign flipped, a false optimum.

    Content of s-fold symmetry fits equally well at s angles, of which noise picks one; the mean of patterns rotated by
    their picks then holds the picked noise in orders that are no multiples of s. So templates with and without these
    orders are compared by their likelihood with the angle integrated out, less half the logarithm of the number of
    patterns for every real coordinate (the Bayesian information criterion; Schwarz, Ann. Statist. 6, 461, 1978).
    """
    config = config or AlignConfig()
    orders, best = basis.orders, 0
    if angle is None:
        best, template = _likeliest_start(features, orders, config)
        angle = best_angles(features, template, orders, config.n_angles)
    angle = _follow(features, orders, angle, config)
    template = rotate_features(features, orders, -angle).mean(axis=0, dtype=np.complex128)
    # a likelihood needs patterns whose noise is independent
    compared = features if as_recorded is None else as_recorded
    symmetry, template = _symmetrise(compared[:: max(1, len(compared) // _N_COMPARED)], template, basis, config)
    if symmetry > 1:
        angle = best_angles(features, template, orders, config.n_angles)
    return _finish(features, basis, angle, best, symmetry, n_components)


def _likeliest_start(
    features: NDArray[np.complexfloating[Any, Any]], orders: NDArray[np.int64], config: AlignConfig
) -> tuple[int, NDArray[np.complex128]]:
    """Circular order whose guess of the angles ends with the longest template, and that template; 0 if none does."""
    # which start is likeliest shows on some of the patterns; the winner is then followed on all
    some = features[:: max(1, len(features) // _N_COMPARED)]
    best, best_template = 0, np.zeros(len(orders), np.complex128)
    for order in range(1, config.max_order + 1):
        at = np.flatnonzero(orders == order)
        if len(at) == 0:
            continue
        part = some[:, at]
        direction = np.linalg.eigh(part.T @ part.conj())[1][:, -1]
        angle = _follow(some, orders, -np.angle(part @ direction.conj()) / order, config)
        template = rotate_features(some, orders, -angle).mean(axis=0, dtype=np.complex128)
        if np.linalg.norm(template) > np.linalg.norm(best_template) * (1 + 1e-6):
            best, best_template = order, template
    return best, best_template


def _follow(
    features: NDArray[np.complexfloating[Any, Any]],
    orders: NDArray[np.int64],
    angle: NDArray[np.float64],
    config: AlignConfig,
) -> NDArray[np.float64]:
    """Alternate averaging and rotating until hardly any angle moves."""
    for _ in range(config.n_iterations):
        template = rotate_features(features, orders, -angle).mean(axis=0, dtype=np.complex128)
        moved = best_angles(features, template, orders, config.n_angles)
        change = np.abs(np.angle(np.exp(1j * (moved - angle))))
        angle = moved
        if np.quantile(change, 0.99) < 1e-4:
            break
    return angle


def _symmetrise(
    features: NDArray[np.complexfloating[Any, Any]],
    template: NDArray[np.complex128],
    basis: HarmonicBasis,
    config: AlignConfig,
) -> tuple[int, NDArray[np.complex128]]:
    """Symmetry of the likeliest template, and that template."""
    orders = basis.orders
    cross, phase = _cross_spectrum(features, template, orders), _phases(orders, config.n_angles)
    fit = (cross.real @ phase.real - cross.imag @ phase.imag).max(axis=1)
    misfit = (np.abs(features) ** 2).sum(axis=1).mean() + np.vdot(template, template).real - 2 * fit.mean()
    # what the counting noise of each order leaves unexplained is shared by all
    counting = basis.counting**2
    level = np.sqrt(counting + max(misfit / 2 - counting.sum(), 1e-6 * misfit) / len(orders))
    white, start = features / level.astype(np.float32), template / level
    best, best_value, best_template = 1, -np.inf, start
    for symmetry in range(1, config.max_order + 1):
        allowed = orders % symmetry == 0
        if symmetry > 1 and not (allowed & (orders > 0)).any():
            continue
        candidate, value = _soft_mean(white, np.where(allowed, start, 0), orders, config.n_angles)
        value -= np.log(len(features)) * np.count_nonzero(allowed)
        if value > best_value:
            best, best_value, best_template = symmetry, value, candidate
    return best, (template if best == 1 else best_template * level)


def _soft_mean(
    features: NDArray[np.complexfloating[Any, Any]],
    template: NDArray[np.complex128],
    orders: NDArray[np.int64],
    n_angles: int,
) -> tuple[NDArray[np.complex128], float]:
    """Likeliest template with the angle integrated out, in the orders it starts with, and its log likelihood.

    Noise has the standard deviation 1 on each real coordinate.
    """
    phase, allowed, value = _phases(orders, n_angles), template != 0, -np.inf
    for _ in range(_N_SOFT_ROUNDS):
        cross = _cross_spectrum(features, template, orders)
        log = cross.real @ phase.real - cross.imag @ phase.imag
        top = log.max(axis=1, keepdims=True)
        weight = np.exp(log - top)
        total = weight.sum(axis=1, keepdims=True)
        value = float((np.log(total / n_angles) + top).sum() - len(features) * np.vdot(template, template).real / 2)
        back = (weight / total) @ phase.T
        template = np.where(allowed, (features * back[:, orders]).mean(axis=0, dtype=np.complex128), 0)
    return template, value


def _cross_spectrum(
    features: NDArray[np.complexfloating[Any, Any]],
    template: NDArray[np.complexfloating[Any, Any]],
    orders: NDArray[np.int64],
) -> NDArray[np.complex64]:
    """Circular cross-spectrum of patterns and template by order, shape ``(n_patterns, n_orders)``."""
    by_order = np.zeros((len(orders), int(orders.max()) + 1), np.float32)
    by_order[np.arange(len(orders)), orders] = 1.0
    cross: NDArray[np.complex64] = np.asarray((features * template.conj().astype(np.complex64)) @ by_order)
    return cross


def _phases(orders: NDArray[np.int64], n_angles: int) -> NDArray[np.complex64]:
    """``exp(i m θ)`` for each order m and grid angle θ."""
    grid = 2 * np.pi * np.arange(n_angles) / n_angles
    phases: NDArray[np.complex64] = np.exp(1j * np.outer(np.arange(int(orders.max()) + 1), grid)).astype(np.complex64)
    return phases


def _real(features: NDArray[np.complexfloating[Any, Any]]) -> NDArray[np.float64]:
    """Real parts, then imaginary parts, along the last axis."""
    return np.concatenate([features.real, features.imag], axis=-1).astype(np.float64)


def best_angles(
    features: NDArray[np.complexfloating[Any, Any]],
    template: NDArray[np.complexfloating[Any, Any]],
    orders: NDArray[np.int64],
    n_angles: int,
) -> NDArray[np.float64]:
    """Angles (rad) by which the template must be rotated to fit each pattern best, refined between grid points."""
    cross, phase = _cross_spectrum(features, template, orders), _phases(orders, n_angles)
    m = np.arange(len(phase))
    best = np.argmax(cross.real @ phase.real - cross.imag @ phase.imag, axis=1)
    angle = 2 * np.pi / n_angles * best
    for _ in range(3):
        term = cross * np.exp(1j * m * angle[:, None])
        slope, bend = -(term.imag * m).sum(axis=1), -(term.real * m**2).sum(axis=1)
        step = np.where(bend < 0, -slope / np.where(bend < 0, bend, -1.0), 0.0)
        angle = angle + np.clip(step, -np.pi / n_angles, np.pi / n_angles)
    return np.asarray(np.angle(np.exp(1j * angle)))


def _finish(
    features: NDArray[np.complexfloating[Any, Any]],
    basis: HarmonicBasis,
    angle: NDArray[np.float64],
    start_order: int,
    symmetry: int,
    n_components: int,
) -> Alignment:
    orders = basis.orders
    angle = angle + gauge_angle(rotate_features(features, orders, -angle).mean(axis=0, dtype=np.complex128), basis)
    aligned = rotate_features(features, orders, -angle)
    template = np.where(orders % symmetry == 0, aligned.mean(axis=0, dtype=np.complex128), 0)
    real = _real(aligned - template)
    # at each of its equally likely angles a pattern counts alike
    rotations = 2 * np.pi / symmetry * np.arange(1, symmetry)
    moments = [real.T @ real]
    for rotation in rotations:
        again = _real(rotate_features(aligned, orders, np.full(len(aligned), rotation)) - template)
        moments.append(again.T @ again)
    values, vectors = np.linalg.eigh(sum(moments) / (len(real) * symmetry))
    n = min(n_components, len(values))
    vectors = vectors[:, ::-1][:, :n]
    # more of the first component means more of the template; the others point where their scores are skewed to
    scores = real @ vectors
    along = _real(template) @ vectors
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
        symmetry=symmetry,
    )


def gauge_angle(template: NDArray[np.complexfloating[Any, Any]], basis: HarmonicBasis) -> float:
    """Angle (rad) at which the template's dipole points; of its strongest order where the dipole is weak beside it.

    The dipole is the first moment that the content adds to a pattern: ``Σ r² x_1(r)`` over the rings.
    """
    strength = np.array([np.linalg.norm(template[basis.orders == m]) for m in range(int(basis.orders.max()) + 1)])
    strength[0] = 0.0
    if not strength.any():
        return 0.0
    # noise leaves a little of every order in the template, which does not define a direction
    order = 1 if strength[1] >= 0.2 * strength.max() else int(np.argmax(strength))
    at = basis.orders == order
    radius = np.arange(basis.synthesis.shape[1]) + 0.5
    moment = template[at] @ basis.synthesis[at] @ radius ** (order + 1)
    return float(-np.angle(moment) / order)
