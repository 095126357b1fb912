"""How unlikely a site is in the pristine lattice: quadratic scores, their p-values, and the false discovery rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from stemvane.defects.numerics import bisect, without_directions

__all__ = ["SMALLEST_P", "combine_p_values", "false_discovery_rate", "peak_discovery_rate", "quadratic_p", "squares_p"]

_Floats = NDArray[np.floating[Any]]

SMALLEST_P = 1e-300
"""p-values end here, where numbers do."""

# sums beyond these are as likely as these, in numbers that can be held
_SUMS = (1e-30, 1e30)
# 500 terms whose dependence is followed after directions were taken out: the eigenvalues of more take seconds
_HEAVY = 500
# 0.95: a channel that has seen nothing is no evidence against another, and at 1 would hide it,
# `pytest tests/test_symmetry_scores.py -k hide`; at 0.5 one defect of six at 10,000 electrons is lost; `python -m
# benchmarks.defects.constants`
_HIGHEST = 0.95


def quadratic_p(values: _Floats, weights: _Floats, freedom: float = np.inf) -> NDArray[np.float64]:
    """p-value of a sum of squares of independent standard normal numbers with weights.

    Parameters
    ----------
    values : ndarray of float, shape (n,)
        The sums.
    weights : ndarray of float, shape (n_terms,)
        Not negative.
    freedom : float
        Degrees of freedom of the variance by which the values were divided, where that was estimated, too.

    Returns
    -------
    ndarray of float, shape (n,)
        Probability of a larger sum, by saddlepoint approximation (Kuonen, Biometrika 86, 929, 1999): within 5 % for
        four terms or more, and 13 % for one, far out in the tail, too.

    Notes
    -----
    ``Σ λ z² > x`` is ``Σ λ z² - x χ²/ν > 0`` where the variance has ν degrees of freedom: one more term, of negative
    weight. Weights below a hundredth of the largest are joined to terms of one weight, with the same first two moments.
    """
    weights = weights[weights > 0]
    if not len(weights):
        return np.ones(len(values))
    terms, number = _joined(weights)
    x = np.clip(np.asarray(values, np.float64), *_SUMS)
    share = 1 / freedom
    low = -number.sum() / (2 * x)
    if share > 0:
        low = np.maximum(low, -(1 - 1e-12) / (2 * x * share))
    high = np.full(len(x), (1 - 1e-12) / (2 * terms.max()))

    def above(at: _Floats) -> NDArray[np.bool_]:
        return np.asarray(terms / (1 - 2 * at[:, None] * terms) @ number > x / (1 + 2 * at * x * share))

    return _tail(bisect(above, low, high), x, terms, number, freedom)


def _joined(weights: _Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights, those below a hundredth of the largest as one, and how many terms each stands for."""
    small = weights < 0.01 * weights.max()
    number = np.ones(int((~small).sum()) + bool(small.any()))
    terms = weights[~small]
    if small.any():
        total, squares = float(weights[small].sum()), float((weights[small] ** 2).sum())
        terms = np.append(terms, squares / total)
        number[-1] = total**2 / squares
    return terms, number


def _tail(at: _Floats, x: _Floats, terms: _Floats, number: _Floats, freedom: float) -> NDArray[np.float64]:
    """p-values of sums `x` whose saddlepoints are `at`."""
    share = 1 / freedom
    ours, other = terms / (1 - 2 * at[:, None] * terms), x / (1 + 2 * at * x * share)
    level = -0.5 * np.log1p(-2 * at[:, None] * terms) @ number
    level -= freedom / 2 * np.log1p(2 * at * x * share) if share > 0 else at * x
    curvature = 2 * ours**2 @ number + 2 * other**2 * share
    root = np.sign(at) * np.sqrt(np.maximum(-2 * level, 0.0))
    scaled = at * np.sqrt(curvature)
    # at the mean both are 0; the p-value there follows from the third cumulant
    is_middle = np.abs(root) < 1e-4
    skewness = (8 * terms**3 @ number - 8 * x**3 * share**2) / np.where(is_middle, curvature, 1.0) ** 1.5
    safe = np.where(is_middle, 1.0, root)
    ratio = np.maximum(scaled / safe, SMALLEST_P)
    result = np.where(
        is_middle, 0.5 - skewness / (6 * np.sqrt(2 * np.pi)), special.ndtr(-(safe + np.log(ratio) / safe))
    )
    return np.asarray(np.clip(np.nan_to_num(result, nan=1.0), SMALLEST_P, 1.0))


def _median(weights: _Floats, freedom: float) -> float:
    """Sum whose `quadratic_p` is 1/2.

    Which sum a saddlepoint belongs to is known in closed form, so that the saddlepoint is looked for and not the sum.
    """
    terms, number = _joined(weights[weights > 0])
    share = 1 / freedom

    def sums(at: _Floats) -> NDArray[np.float64]:
        ours = terms / (1 - 2 * at[:, None] * terms) @ number
        room = 1 - 2 * at * share * ours
        return np.asarray(np.where(room > 0, ours / np.where(room > 0, room, 1), np.inf))

    def above(at: _Floats) -> NDArray[np.bool_]:
        x = sums(at)
        # no sum has its saddlepoint beyond that of an infinite one
        return np.asarray(~(x < _SUMS[1]) | (_tail(at, np.minimum(x, _SUMS[1]), terms, number, freedom) <= 0.5))

    # a tenth of the largest term is less than the median of its square alone
    low, high = np.array([-5 * number.sum() / terms.max()]), np.array([(1 - 1e-12) / (2 * terms.max())])
    return float(sums(bisect(above, low, high))[0])


def squares_p(
    values: _Floats, prior: _Floats, freedom: float = np.inf, *, without: _Floats | None = None
) -> NDArray[np.float64]:
    """p-value of numbers that are standard normal in the pristine lattice, against a change of known size.

    Parameters
    ----------
    values : ndarray of float, shape (n, n_terms)
        Values in units of their standard deviation; rows with NaN have no p-value.
    prior : ndarray of float, shape (n_terms,)
        Variance that a change would give to each, besides its noise: terms that a change would hardly move count less.
    freedom : float
        Degrees of freedom of the standard deviation, where it was estimated.
    without : ndarray of float, shape (n_directions, n_terms), optional
        Directions of no interest: what the values have of them has no part in it.

    Returns
    -------
    ndarray of float, shape (n,)

    Notes
    -----
    With a normal prior of the change the log likelihood ratio is ``Σ z² v / (1 + v) / 2`` and a constant, so the
    weights are ``v / (1 + v)``. Where the bulk of the sites has larger sums than it should, all are scaled down.
    """
    weights = prior / (1 + prior)
    if not weights.any():
        return np.where(np.isfinite(values).all(axis=1), 1.0, np.nan)
    if without is not None:
        values, basis = without_directions(values, without)
    sums = (values**2 * weights).sum(axis=1)
    if without is not None:
        weights = _left_weights(weights, basis)
    valid = np.isfinite(sums)
    if not valid.any():
        return np.full(len(values), np.nan)
    excess = max(1.0, float(np.median(sums[valid])) / _median(weights, freedom))
    return np.where(valid, quadratic_p(np.where(valid, sums, 0.0) / excess, weights, freedom), np.nan)


def _left_weights(weights: _Floats, basis: _Floats) -> NDArray[np.float64]:
    """Weights of the independent terms of a weighted sum of squares after some directions were taken out of them."""
    order = np.argsort(-weights)
    heavy, light = order[:_HEAVY], order[_HEAVY:]
    root = np.sqrt(weights[heavy])
    # the matrix P W P of a projection P has the eigenvalues of √W P √W, of which terms of little weight are left alone
    inner = np.diag(weights[heavy]) - (root[:, None] * basis[heavy]) @ (root[:, None] * basis[heavy]).T
    return np.concatenate([np.maximum(np.linalg.eigvalsh(inner), 0.0), weights[light]])


def combine_p_values(channels: Sequence[_Floats]) -> NDArray[np.float64]:
    """One p-value from those of several channels, which may depend on each other.

    The Cauchy combination (Liu and Xie, J. Am. Stat. Assoc. 115, 393, 2020): the mean of ``tan(π (1/2 - p))`` is nearly
    a Cauchy number in its tail, however the p-values depend on each other. p-values above 0.95 count as 0.95, which
    makes it cautious there: a channel that has seen nothing is no evidence against what others have seen. Channels
    without a p-value at a site have no part in it.
    """
    p = np.clip(np.stack(channels, axis=-1), SMALLEST_P, _HIGHEST)
    # tan(π (1/2 - p)) is 1 / (π p) where p is so small that the tangent would be rounded
    tangent = np.where(p < 1e-12, 1 / (np.pi * p), np.tan(np.pi * (0.5 - np.maximum(p, 1e-12))))
    number = np.isfinite(p).sum(axis=-1)
    statistic = np.nansum(tangent, axis=-1) / np.maximum(number, 1)
    large = statistic > 1e8
    single = np.where(large, 1 / (np.pi * np.maximum(statistic, 1e-9)), 0.5 - np.arctan(statistic) / np.pi)
    return np.where(number > 0, np.clip(single, SMALLEST_P, 1.0), np.nan)


def peak_discovery_rate(p: _Floats, neighbours: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """q-values of peaks: sites with the smallest p-value among their neighbours; NaN at all others.

    A defect makes many sites anomalous. If these counted as many discoveries, as many false ones would be allowed.

    Parameters
    ----------
    p : ndarray of float, shape (n,)
        The p-values of all sites.
    neighbours : sequence of sequence of int
        Neighbours of each site, itself among them. A peak's p-value is multiplied by their number (Bonferroni), since
        it is the smallest of so many.
    """
    best = np.array([p[near].min() for near in neighbours])
    number = np.array([len(near) for near in neighbours])
    return false_discovery_rate(np.where(p == best, np.minimum(p * number, 1.0), np.nan))


def false_discovery_rate(p: _Floats) -> NDArray[np.float64]:
    """q-values: the smallest false discovery rate at which each p-value would be a discovery; NaN stays NaN.

    Benjamini and Hochberg, J. R. Stat. Soc. B 57, 289 (1995).
    """
    valid = np.isfinite(p)
    result = np.full(np.shape(p), np.nan)
    if valid.any():
        result[valid] = stats.false_discovery_control(np.clip(p[valid], 0, 1))
    return result
