"""The closed-form start: rotate every residual onto a common template, then find principal components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import AlignConfig
from stemvane.data.representation import Representable, Row
from stemvane.features.cross_correlation import best_angles
from stemvane.features.harmonics import HarmonicBasis, rotate_features
from stemvane.features.parallel import on_one_blas_thread
from stemvane.features.template_symmetry import find_symmetry

__all__ = ["Alignment", "align_rotation", "likeliest_angles", "unexplained_power"]

_N_COMPARED = 2048
# of the power of all features; less is rounding
_LEAST_OCCUPIED = 1e-6


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


@on_one_blas_thread
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
    (`find_symmetry`), it takes its place. Last, the template is rotated so that its dipole (its strongest order, where
    it has hardly any) points to the right: this fixes which angle is called 0.

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
    every = max(1, len(compared) // _N_COMPARED)
    settings = {"n_angles": config.n_angles, "highest": config.max_order}
    along = None if compared is features else _occupied(features[::every] / basis.counting, orders)
    if along is None or not len(along):
        symmetry, template = find_symmetry(features[::every], template, orders, basis.counting, **settings)
    else:
        # what a filter leaves nothing of is no parameter of a template
        of_rows = np.array([orders[np.abs(row).argmax()] for row in along], np.int64)
        single = (compared[::every] / basis.counting) @ along.conj().T
        reduced = template / basis.counting @ along.conj().T
        noise = np.ones(len(along))
        symmetry, reduced = find_symmetry(single.astype(np.complex64), reduced, of_rows, noise, **settings)
        template = reduced @ along * basis.counting
    if symmetry > 1:
        angle = best_angles(features, template, orders, config.n_angles)
    return _finish(features, basis, angle, best, symmetry, n_components)


def unexplained_power(
    features: NDArray[np.complexfloating[Any, Any]], orders: NDArray[np.int64], config: AlignConfig
) -> float:
    """Mean squared length of what is left of patterns when one template, rotated to each of them, is taken off.

    Parameters
    ----------
    features : ndarray of complex, shape (n_patterns, n_features)
        Features of the patterns.
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    config : AlignConfig
        Grid, rounds and starts.

    Returns
    -------
    float
    """
    angle = likeliest_angles(features, orders, config)
    template = rotate_features(features, orders, -angle).mean(axis=0, dtype=np.complex128)
    power = float((np.abs(features) ** 2).sum(axis=1, dtype=np.float64).mean())
    return power - float(np.vdot(template, template).real)


def likeliest_angles(
    features: NDArray[np.complexfloating[Any, Any]], orders: NDArray[np.int64], config: AlignConfig
) -> NDArray[np.float64]:
    """Angles in rad at which one template fits every pattern best, shape ``(n_patterns,)``; as in `align_rotation`."""
    _, template = _likeliest_start(features, orders, config)
    return _follow(features, orders, best_angles(features, template, orders, config.n_angles), config)


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


def _occupied(features: NDArray[np.complexfloating[Any, Any]], orders: NDArray[np.int64]) -> NDArray[np.complex128]:
    """Orthonormal directions that the features lie along, each of one order, shape ``(n_directions, n_features)``."""
    least, rows = _LEAST_OCCUPIED * (np.abs(features) ** 2).mean(axis=0).sum(), []
    for order in np.unique(orders):
        at = np.flatnonzero(orders == order)
        values, vectors = np.linalg.eigh(features[:, at].T @ features[:, at].conj() / len(features))
        for vector in vectors.T[values > least]:
            rows.append(np.zeros(len(orders), np.complex128))
            rows[-1][at] = vector
    return np.array(rows).reshape(-1, len(orders))


def _real(features: NDArray[np.complexfloating[Any, Any]]) -> NDArray[np.float64]:
    """Real parts, then imaginary parts, along the last axis."""
    return np.concatenate([features.real, features.imag], axis=-1).astype(np.float64)


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
