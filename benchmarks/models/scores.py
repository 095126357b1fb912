"""What a model's latents, angles and patterns are worth, beside what is known of a scan: plain functions on arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AngleError",
    "angle_error",
    "correlations",
    "explained",
    "poisson_excess",
    "time_to_share",
]

_Floats = NDArray[np.floating[Any]]

# the smallest intensity that a model may predict for a sample, over the mean of all samples
POSITIVE_FLOOR = 1e-3


@dataclass(frozen=True)
class AngleError:
    """Agreement of angles with known ones: sign, constant offset and what is left, degrees."""

    sign: int
    offset_deg: float
    median_deg: float
    mean_deg: float


def angle_error(
    angle: _Floats, expected: _Floats, *, symmetry: int = 1, weight: _Floats | None = None, use: Any = None
) -> AngleError | None:
    """Compare angles with known ones modulo 360° / symmetry; sign and offset are free.

    Parameters
    ----------
    angle, expected : ndarray of float, shape (n,)
        Angles in rad; NaN where there is none.
    symmetry : int
        The content stays the same when rotated by ``2π / symmetry``.
    weight : ndarray of float, shape (n,), optional
        Weight of each position in sign, offset and mean error.
    use : ndarray of bool, shape (n,), optional
        Where the median is taken; everywhere if left out.

    Returns
    -------
    AngleError or None
        None where there is no angle.

    Notes
    -----
    Angles that are the same modulo ``2π / s`` have the same ``exp(i s angle)``. The offset is
    ``arg(Σ w exp(i s (angle - sign known))) / s``, the sign whichever makes the sum longer.
    """
    weight = np.ones(angle.shape) if weight is None else weight
    use = np.ones(angle.shape, bool) if use is None else use
    both_finite = np.isfinite(angle) & np.isfinite(expected)
    if not (both_finite & use).any():
        return None
    angle, expected, weight, use = (a[both_finite] for a in (angle, expected, weight, use))
    sums = {sign: np.sum(weight * np.exp(1j * symmetry * (angle - sign * expected))) for sign in (1, -1)}
    sign = max(sums, key=lambda s: abs(sums[s]))
    difference = symmetry * (angle - sign * expected) - np.angle(sums[sign])
    error = np.degrees(np.abs(np.angle(np.exp(1j * difference)))) / symmetry
    return AngleError(
        sign=sign,
        offset_deg=float(np.degrees(np.angle(sums[sign])) / symmetry),
        median_deg=float(np.median(error[use])),
        mean_deg=float(np.average(error, weights=weight)),
    )


def correlations(latents: _Floats, expected: _Floats) -> list[float]:
    """|Pearson r| of each latent, shape (n, k), with a known quantity, shape (n,); 0 for a latent that is constant."""
    values = []
    for column in latents.T:
        use = np.isfinite(column) & np.isfinite(expected)
        varies = use.sum() > 1 and np.std(column[use]) > 1e-9 * (1 + np.abs(column[use]).max())
        values.append(abs(float(np.corrcoef(column[use].astype(float), expected[use])[0, 1])) if varies else 0.0)
    return values


def explained(predicted: _Floats, target: _Floats, mean: _Floats) -> float:
    """Share of the targets' scatter about a mean pattern that predictions explain; patterns have shape (n, m)."""
    return float(1 - np.sum((target - predicted) ** 2, dtype=float) / np.sum((target - mean) ** 2, dtype=float))


def poisson_excess(expected: _Floats, predicted: _Floats) -> NDArray[np.float64]:
    """Expected loss of log likelihood of fresh counts through a prediction, nats per pattern, shape (n,).

    ``E[log p(x | λ) - log p(x | μ)] = Σ λ log(λ / μ) - λ + μ`` for counts x of the expectation λ: the Kullback-Leibler
    divergence of the two Poisson distributions, 0 for the truth. Predictions are raised to `POSITIVE_FLOOR` of the mean
    expectation where they are lower.

    Parameters
    ----------
    expected, predicted : ndarray of float, shape (n, m)
        Counts per sample.
    """
    lam = np.maximum(np.asarray(expected, np.float64), 0)
    mu = np.maximum(np.asarray(predicted, np.float64), POSITIVE_FLOOR * lam.mean())
    logarithm = np.log(np.divide(lam, mu, out=np.ones_like(lam), where=lam > 0))
    return np.asarray(np.sum(lam * logarithm - lam + mu, axis=-1))


def time_to_share(seconds: _Floats, values: _Floats, share: float = 0.95) -> float | None:
    """First time from which on a curve stays at or above a share of its last value; None for an empty curve."""
    if not len(values):
        return None
    below = np.flatnonzero(np.asarray(values) < share * values[-1])
    return float(seconds[below[-1] + 1 if len(below) else 0])
