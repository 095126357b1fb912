"""The rotational symmetry of a template: how many angles are equally likely."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemvane.features.cross_correlation import best_angles, cross_spectrum, grid_phases, order_phases
from stemvane.features.harmonics import rotate_features

__all__ = ["SymmetricTemplate", "find_symmetry"]

_N_ROUNDS = 12
_SETTLED = 1e-4
# a template of higher symmetry stands for the patterns where it holds this share of the power of the likeliest
_MOST = 0.5
# content that is locked to the template has one direction and one strength: the first number is the mean of its phase
# factors, the second what its mean explains of its power. 1 and 1 for content that is as strong everywhere; 2/π of the
# power for strengths that are normally distributed around 0. `pytest tests/test_grains.py -k symmetry`
_LOCKED_PHASE, _LOCKED_POWER = 0.7, 0.8
# noise of a phase (rad) above which it says nothing of being locked, and patterns that it takes to see
_NOISY_PHASE, _FEWEST = 0.7, 16

Features = NDArray[np.complexfloating[Any, Any]]


class SymmetricTemplate(NamedTuple):
    """A template, and the number of angles between which it cannot tell."""

    symmetry: int
    template: NDArray[np.complex128]


def find_symmetry(
    features: Features,
    template: NDArray[np.complex128],
    orders: NDArray[np.int64],
    counting: NDArray[np.float64],
    *,
    n_angles: int,
    highest: int,
) -> SymmetricTemplate:
    """Find the symmetry of the content that patterns share, and the likeliest template of this symmetry.

    Parameters
    ----------
    features : ndarray of complex, shape (n_patterns, n_features)
        Features of single patterns, whose noise is independent.
    template : ndarray of complex, shape (n_features,)
        The template without a symmetry of its own.
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    counting : ndarray of float, shape (n_features,)
        Standard deviation of the counting noise of a real coordinate.
    n_angles : int
        Grid points on the circle.
    highest : int
        Highest symmetry to look for.

    Returns
    -------
    SymmetricTemplate

    Notes
    -----
    Content of s-fold symmetry fits equally well at s angles, of which noise picks one; the mean of patterns rotated by
    their picks then holds the picked noise in orders that are no multiples of s. So templates with and without these
    orders are compared by their likelihood with the angle integrated out, less half the logarithm of the number of
    patterns for every real coordinate (the Bayesian information criterion; Schwarz, Ann. Statist. 6, 461, 1978). A
    symmetry is found only where the likeliest template is likelier than none at all.

    Where counts are many, what picks is no noise but content that differs from pattern to pattern: a crystal of
    six-fold symmetry that is tilted by a little has stronger discs on one side, and of its six angles the one is
    picked at which these lie as in all others. So a template of higher symmetry is taken where it holds most of the
    power and the rest is not locked to it: content that is locked has, at one of the s angles, one direction and
    strength in all patterns.
    """
    angle = best_angles(features, template, orders, n_angles)
    residual = rotate_features(features, orders, -angle) - template
    misfit = float((np.abs(residual) ** 2).sum(axis=1, dtype=np.float64).mean())
    # what the counting noise of each order leaves unexplained is shared by all
    noise = counting**2
    level = np.sqrt(noise + max(misfit / 2 - noise.sum(), 1e-6 * misfit) / len(orders))
    white, start = features / level.astype(np.float32), template / level
    found: dict[int, NDArray[np.complex128]] = {}
    best, best_value = 1, -math.inf
    for symmetry in range(1, highest + 1):
        allowed = orders % symmetry == 0
        if symmetry > 1 and not (allowed & (orders > 0)).any():
            continue
        found[symmetry], value = _soft_mean(white, np.where(allowed, start, 0), orders, n_angles)
        value -= np.log(len(features)) * np.count_nonzero(allowed)
        if value > best_value:
            best, best_value = symmetry, value
    # where single patterns do not even tell a template from none, the one with fewest coordinates would win
    if best_value <= 0:
        return SymmetricTemplate(1, template)
    power = {symmetry: float(np.vdot(mean, mean).real) for symmetry, mean in found.items()}
    spread = np.maximum(counting, 1e-3 * level)
    for symmetry in sorted(found, reverse=True):
        if symmetry > best and symmetry % best == 0 and power[symmetry] > _MOST * power[best]:
            candidate = found[symmetry] * level
            turned = rotate_features(features, orders, -best_angles(features, candidate, orders, n_angles))
            if not any(_is_locked(turned / spread, orders, symmetry, kind) for kind in range(1, symmetry // 2 + 1)):
                return SymmetricTemplate(symmetry, candidate)
    return SymmetricTemplate(best, template if best == 1 else found[best] * level)


def _soft_mean(
    features: Features, template: NDArray[np.complex128], orders: NDArray[np.int64], n_angles: int
) -> tuple[NDArray[np.complex128], float]:
    """Likeliest template with the angle integrated out, in the orders it starts with, and its log likelihood.

    Noise has the standard deviation 1 on each real coordinate. Angles are those of a grid that is centred on the
    highest peak of every pattern, so that peaks narrower than its cells are not missed.
    """
    phase, multiple, allowed = grid_phases(orders, n_angles), np.arange(int(orders.max()) + 1), template != 0
    cell, value = 2 * np.pi / n_angles, -math.inf
    for _ in range(_N_ROUNDS):
        angle = best_angles(features, template, orders, n_angles)
        about = cross_spectrum(features, template, orders) * order_phases(angle, len(multiple))
        log = about.real @ phase.real - about.imag @ phase.imag
        top = log.max(axis=1, keepdims=True)
        weight = np.exp(np.maximum(log - top, -80.0))
        total = weight.sum(axis=1, keepdims=True)
        # a peak within a cell holds its Gaussian integral, not the grid points on it
        bend = np.maximum(about.real @ multiple**2, 1e-12)
        on_grid = 1 + 2 * sum(np.exp(-bend / 2 * (j * cell) ** 2) for j in range(1, 5))
        share = np.where(np.sqrt(bend) * cell < 1, 1.0, np.minimum(np.sqrt(2 * np.pi / bend) / cell / on_grid, 1.0))
        evidence = np.log(total[:, 0] * share / n_angles) + top[:, 0]
        value = float(evidence.sum() - len(features) * np.vdot(template, template).real / 2)
        back = (weight / total) @ phase.T
        turned = rotate_features(features, orders, -angle) * back[:, orders]
        before, template = template, np.where(allowed, turned.mean(axis=0, dtype=np.complex128), 0)
        if np.linalg.norm(template - before) < _SETTLED * np.linalg.norm(before):
            break
    return template, value


def _is_locked(aligned: Features, orders: NDArray[np.int64], symmetry: int, kind: int) -> bool:
    """Whether content of the orders ±kind modulo the symmetry has one direction and strength in the template's frame.

    Noise has the standard deviation 1 on each real coordinate. A rotation by 360°/symmetry takes the content's phase on
    by ``kind`` of these steps, so a power of it is the same at all of the equally likely angles.
    """
    rest = orders % symmetry
    used = np.flatnonzero((rest == kind) | (rest == symmetry - kind))
    if not len(used):
        return False
    part = np.where(rest[used] == kind, aligned[:, used], aligned[:, used].conj()).astype(np.complex128)
    strongest = np.linalg.eigh(part.T @ part.conj())[1][:, -1]
    along = part @ strongest.conj()
    n_steps = symmetry // math.gcd(symmetry, kind)
    clear = np.abs(along) > n_steps * math.sqrt(2) / _NOISY_PHASE
    # where it is weaker than noise, it cannot have picked the angles
    if clear.sum() < max(_FEWEST, len(along) / 4):
        return False
    mean = np.exp(1j * n_steps * np.angle(along[clear])).mean()
    step = np.pi / n_steps
    direction = (np.angle(along) - np.angle(mean) / n_steps + step) % (2 * step) - step
    explained = np.abs((np.abs(along) * np.exp(1j * direction)).mean()) ** 2
    power = max(float((np.abs(along) ** 2).mean()) - 2.0, 1e-30)
    return bool(np.abs(mean) > _LOCKED_PHASE and explained > _LOCKED_POWER * power)
