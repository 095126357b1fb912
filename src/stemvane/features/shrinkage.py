"""Power spectra from noisy squares: how much of what stands in a bin is signal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.features.parallel import for_each

__all__ = ["estimate_power", "ring_numbers"]

_N_POWERS = 32
_N_ROUNDS = 40
# relative difference of squares that are taken for one; Wiener gains change by less than 0.003 by that
_ALIKE = 0.02


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
    power = np.zeros(squares.shape)

    def fill(ring: int) -> None:
        chosen = rings == ring
        if not chosen.any():
            return
        values = np.maximum(squares[chosen], 1e-9 * noise)
        smallest = 0.02 * noise / np.sqrt(n_averaged)
        powers = np.append(0, np.geomspace(smallest, max(2 * values.max(), noise), _N_POWERS))
        mean = powers + noise
        # squares that are nearly the same are one, as often as there are of them
        levels, number = _levels(values)
        likelihood = -n_averaged * (levels[:, None] / mean + np.log(mean))
        likelihood = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
        share = np.full(len(powers), 1 / len(powers))
        # the mean of the posteriors ``likelihood * share / total`` without a matrix for them
        for _ in range(_N_ROUNDS - 1):
            share *= likelihood.T @ (number / (likelihood @ share)) / len(values)
        gain = likelihood @ (share * powers / mean) / (likelihood @ share)
        gain = np.interp(values, levels, gain)
        power[chosen] = noise * gain / np.maximum(1 - gain, 1e-9)

    for_each(fill, range(int(rings.max(initial=-1)) + 1))
    return power


def _levels(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Means of values that are alike to `_ALIKE`, in rising order, and how many values each stands for."""
    step = np.floor(np.log(values) / _ALIKE).astype(np.int64)
    step -= step.min()
    number = np.bincount(step)
    filled = np.flatnonzero(number)
    return np.bincount(step, values, len(number))[filled] / number[filled], number[filled]


def ring_numbers(frequency: NDArray[np.float64], width: float, cutoff: float) -> NDArray[np.int64]:
    """Number of the ring of every frequency, -1 beyond the cutoff."""
    return np.where(frequency <= cutoff, np.floor(frequency / width), -1).astype(np.int64)
