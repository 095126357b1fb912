"""Power spectra from noisy squares: how much of what stands in a bin is signal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["estimate_power", "ring_numbers"]

# of one power to the next
_RATIO = 1.3
_N_ROUNDS = 40
# squares are taken for one that differ by this much of what chance makes them differ by, and all that are this small
# against the noise
_ALIKE, _NOTHING = 0.1, 1e-4
# no power is out of the question, so that every square has one
_LEAST_SHARE = 1e-30


def estimate_power(
    squares: NDArray[np.floating[Any]], rings: NDArray[np.int64], noise: float, n_averaged: float
) -> NDArray[np.float64]:
    """Find the signal's power behind every square, as a Wiener filter wants it.

    Within a ring of spatial frequencies the signal's power may be anything: nothing at most frequencies and much at a
    few, as for a crystal, or the same everywhere. Its distribution is the one that makes all squares of the ring
    likeliest (Robbins, Proc. 3rd Berkeley Symp. 1, 157, 1956; Laird, J. Am. Stat. Assoc. 73, 805, 1978), found by
    expectation maximisation; every square then has a posterior for its own power, and the result is the power whose
    Wiener gain ``p / (p + noise)`` is the posterior's mean gain.

    Parameters
    ----------
    squares : ndarray of float
        Squared lengths, each the mean of `n_averaged` squares of complex numbers of the same variance.
    rings : ndarray of int, same shape
        Number of the ring that each belongs to; below 0 where there is no signal.
    noise : float
        Variance of the noise.
    n_averaged : float
        How many squares each is the mean of.

    Returns
    -------
    ndarray of float, same shape
        Power, 0 outside of all rings.
    """
    inside = rings >= 0
    values, of_ring = np.maximum(squares[inside], _NOTHING * noise), rings[inside]
    power = np.zeros(squares.shape)
    if not len(values):
        return power
    smallest, largest = 0.02 * noise / np.sqrt(n_averaged), max(2 * values.max(), noise)
    powers = np.append(0, np.geomspace(smallest, largest, math.ceil(math.log(largest / smallest, _RATIO)) + 1))
    mean = powers + noise
    # all rings together: how often each has a level, and what every power makes of that
    step = np.floor(np.log(values) * (np.sqrt(n_averaged) / _ALIKE)).astype(np.int64)
    _, level = np.unique(step, return_inverse=True)
    n_levels = int(level.max()) + 1
    levels = np.bincount(level, values) / np.bincount(level)
    number = np.bincount(of_ring * n_levels + level, minlength=(int(of_ring.max()) + 1) * n_levels).reshape(
        -1, n_levels
    )
    likelihood = -n_averaged * (levels / mean[:, None] + np.log(mean)[:, None])
    likelihood = np.exp(likelihood - likelihood.max(axis=0))
    share = np.full((len(number), len(powers)), 1 / len(powers))
    of_each = np.maximum(number.sum(axis=1, keepdims=True), 1)
    for _ in range(_N_ROUNDS - 1):
        share *= (number / (share @ likelihood)) @ likelihood.T / of_each
        share = np.maximum(share, _LEAST_SHARE)
    gain = (share * (powers / mean)) @ likelihood / (share @ likelihood)
    # a gain rises from level to level
    above = np.clip(np.searchsorted(levels, values), 1, max(n_levels - 1, 1))
    below, above = above - 1, np.minimum(above, n_levels - 1)
    part = np.clip((values - levels[below]) / np.maximum(levels[above] - levels[below], 1e-30), 0, 1)
    gain = gain[of_ring, below] * (1 - part) + gain[of_ring, above] * part
    power[inside] = noise * gain / np.maximum(1 - gain, 1e-9)
    return power


def ring_numbers(frequency: NDArray[np.float64], width: float, cutoff: float) -> NDArray[np.int64]:
    """Number of the ring of every frequency, -1 beyond the cutoff."""
    return np.where(frequency <= cutoff, np.floor(frequency / width), -1).astype(np.int64)
