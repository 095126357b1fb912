"""How far an estimate of the deflection is from the noiseless one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Score", "score", "with_coverage"]

_Map = NDArray[np.complexfloating[Any, Any]]

# of the largest deflection; below it a direction means little
_STRONG = 0.2
# of a Gaussian, half of the intervals that hold 68 and 95 % of it
_INTERVALS = (0.9945, 1.96)


@dataclass(frozen=True)
class Score:
    """One row of the tables.

    Attributes
    ----------
    angle : float
        Median error of the direction in degrees, where the deflection exceeds a fifth of its maximum.
    r : float
        Correlation of the lengths.
    error : float or None
        Rms error of the vector over the vector's rms.
    kept : float or None
        Slope of what the estimate has beyond the pristine sheet on what the noiseless deflection has.
    coverage : pair of float or None
        Share of the coordinates within intervals that should hold 68 and 95 % of them.
    """

    angle: float
    r: float
    error: float | None = None
    kept: float | None = None
    coverage: tuple[float, float] | None = None


def score(found: _Map, truth: _Map, pristine: _Map | None = None) -> Score:
    """Score an estimate, given the noiseless deflection and, where it has defects, that of the pristine sheet."""
    found, strong = found - found.mean(), np.abs(truth) > _STRONG * np.abs(truth).max()
    angle = np.degrees(np.median(np.abs(np.angle(found * np.conj(truth))[strong])))
    r = np.corrcoef(np.abs(found).ravel(), np.abs(truth).ravel())[0, 1]
    error = np.sqrt((np.abs(found - truth) ** 2).mean() / (np.abs(truth) ** 2).mean())
    kept = None
    if pristine is not None:
        change = truth - pristine
        near = np.abs(change) > _STRONG * np.abs(change).max()
        kept = float(np.vdot(change[near], (found - pristine)[near]).real / np.vdot(change[near], change[near]).real)
    return Score(float(angle), float(r), float(error), kept)


def with_coverage(plain: Score, found: _Map, std: NDArray[np.floating[Any]], truth: _Map) -> Score:
    """Add how often the truth is within the intervals that the standard deviations of the coordinates give."""
    off = np.abs(np.stack([(found - truth).real, (found - truth).imag])) / std
    narrow, wide = (float((off < interval).mean()) for interval in _INTERVALS)
    return Score(plain.angle, plain.r, plain.error, plain.kept, (narrow, wide))
