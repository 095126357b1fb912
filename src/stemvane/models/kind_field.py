"""Kinds over the scan: a Potts field of neighbours with its strength, or surroundings that are of one kind together."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

__all__ = ["count_neighbours", "field_prior", "find_strength", "find_trust", "mean_field", "sum_votes"]

_N_SWEEPS = 30
_SETTLED = 1e-3
# neighbours side by side count as much as those at corners less far away do
_KERNEL = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 1.5
_STRONGEST = 6.0
# windows end where a vote counts for a hundredth
_REACH = 3.0
# positions of a kind from whose votes their scatter is known to a tenth
_LEAST_MEMBERS = 50

Doubles = NDArray[np.float64]


def count_neighbours(probability: Doubles) -> Doubles:
    """Expected number of neighbours of each kind, out of 8 that are weighed by nearness, shape ``(y, x, n_kinds)``."""
    parts = [ndimage.convolve(part, _KERNEL, mode="constant") for part in np.moveaxis(probability, -1, 0)]
    return np.stack(parts, axis=-1)


def field_prior(probability: Doubles, log_weights: Doubles, strength: float) -> Doubles:
    """Log probability of each kind at every position given its neighbours, shape ``(y, x, n_kinds)``."""
    log = log_weights + strength * count_neighbours(probability)
    return np.asarray(log - np.logaddexp.reduce(log, axis=-1, keepdims=True))


def mean_field(
    log_likelihood: Doubles, probability: Doubles, log_weights: Doubles, strength: float, fixed: NDArray[np.bool_]
) -> Doubles:
    """Probabilities of kinds that agree with the patterns and with each other.

    Parameters
    ----------
    log_likelihood : ndarray of float, shape (scan_y, scan_x, n_kinds)
        Of every pattern under each kind; NaN where there is none.
    probability : ndarray of float, shape (scan_y, scan_x, n_kinds)
        Where the iteration starts; 0 where there is no pattern.
    log_weights : ndarray of float, shape (n_kinds,)
    strength : float
        How much a neighbour of the same kind adds to the log probability.
    fixed : ndarray of bool, shape (scan_y, scan_x)
        Positions whose probability stays.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x, n_kinds)

    Notes
    -----
    ``q_k ∝ w_k p_k exp(strength · expected neighbours of kind k)``, one position after another, is coordinate ascent
    on the variational bound of a Potts field (Zhang, IEEE Trans. Signal Process. 40, 2570, 1992).
    """
    q = np.pad(probability, ((1, 1), (1, 1), (0, 0)))
    known = np.isfinite(log_likelihood).all(axis=-1) & ~fixed
    evidence = np.where(known[..., None], log_likelihood, 0.0) + log_weights
    _relax(q, evidence, known, float(strength), _KERNEL)
    return np.ascontiguousarray(q[1:-1, 1:-1])


@numba.njit(cache=True)
def _relax(q: Any, evidence: Any, known: Any, strength: float, kernel: Any) -> None:
    n_y, n_x, n_k = evidence.shape
    log = np.empty(n_k)
    for _ in range(_N_SWEEPS):
        largest = 0.0
        for y in range(n_y):
            for x in range(n_x):
                if not known[y, x]:
                    continue
                for k in range(n_k):
                    total = 0.0
                    for a in range(3):
                        for b in range(3):
                            total += kernel[a, b] * q[y + a, x + b, k]
                    log[k] = evidence[y, x, k] + strength * total
                top = log.max()
                norm = 0.0
                for k in range(n_k):
                    log[k] = np.exp(log[k] - top)
                    norm += log[k]
                for k in range(n_k):
                    value = log[k] / norm
                    largest = max(largest, abs(value - q[y + 1, x + 1, k]))
                    q[y + 1, x + 1, k] = value
        if largest < _SETTLED:
            break


def find_strength(probability: Doubles, log_weights: Doubles) -> float:
    """Strength of the field at which positions are likeliest given their neighbours: the pseudo-likelihood's maximum.

    Besag, J. R. Stat. Soc. B 36, 192 (1974), with the expected neighbours for the neighbours.
    """
    known = probability.sum(axis=-1) > 0
    q, neighbours = probability[known], count_neighbours(probability)[known]

    def loss(strength: float) -> float:
        log = log_weights + strength * neighbours
        return float((np.logaddexp.reduce(log, axis=1) - (q * log).sum(axis=1)).sum())

    return float(optimize.minimize_scalar(loss, bounds=(0.0, _STRONGEST), method="bounded").x)


def sum_votes(votes: Doubles, window: float) -> Doubles:
    """Votes summed over surroundings, in which a position's own counts as 1 and others less by a Gaussian.

    Parameters
    ----------
    votes : ndarray of float, shape (scan_y, scan_x, n)
        Log likelihoods; 0 where there is no pattern.
    window : float
        Standard deviation of the Gaussian in positions.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x, n)
    """
    reach = max(int(np.ceil(_REACH * window)), 1)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * window**2))
    for axis in (0, 1):
        votes = ndimage.correlate1d(votes, kernel, axis=axis, mode="constant")
    return np.asarray(votes)


def find_trust(log_likelihood: Doubles, kinds: NDArray[np.int64]) -> float:
    """Power of the likelihood at which its ratios scatter within a kind as they say that they do.

    Parameters
    ----------
    log_likelihood : ndarray of float, shape (n, n_kinds)
        Of every position under each kind.
    kinds : ndarray of int, shape (n,)
        Likeliest kind of each position, -1 for none.

    Returns
    -------
    float
        At most 1: 1 where the likelihood is right, less where patterns of a kind differ by more than the kind holds.

    Notes
    -----
    If ``d`` is the logarithm of ``p_k / p_l`` at positions of kind k, the mean of ``exp(-d)`` over these is 1 for
    densities that are right; for a normal ``d``, its variance is twice its mean. Where it scatters more, ``d`` times
    ``2 mean / variance`` is a ratio that is right (medians stand for both, which a border of two kinds moves little).
    """
    found, number = 0.0, 0
    for kind in range(log_likelihood.shape[1]):
        members = log_likelihood[kinds == kind]
        if len(members) < _LEAST_MEMBERS:
            continue
        ratios = members[:, [kind]] - np.delete(members, kind, axis=1)
        if not ratios.shape[1]:
            continue
        middle = np.median(ratios, axis=0)
        scatter = (1.4826 * np.median(np.abs(ratios - middle), axis=0)) ** 2
        # the rival that is hardest to tell apart
        power = np.min(2 * np.maximum(middle, 0) / np.maximum(scatter, 1e-12))
        found += len(members) * min(float(power), 1.0)
        number += len(members)
    return found / number if number else 1.0
