"""How many latents or kinds a scan is worth: from scores of held-out patterns to a number and the reason for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHARE", "Recommendation", "recommend"]

SHARE = 0.1
"""A latent or kind that adds less than this share of what the first ones add is not worth it."""

_UNITS = {"evidence": ("evidence", "{:.1f} nat per pattern"), "explained variance": ("explained variance", "{:.4f}")}


@dataclass(frozen=True)
class Recommendation:
    """A number of latents or kinds, and why.

    Attributes
    ----------
    number : int
        The recommended number.
    best : int
        Number with the highest mean score.
    score : str
        Score that was compared: ``evidence`` or ``explained variance``, of held-out patterns.
    rule : str
        ``best`` where no smaller number comes close, ``one standard error``, or ``small gains``.
    reason : str
        Reason for the choice, as a sentence.
    behind : mapping of int to float
        Amount by which each number falls short of the best one.
    standard_error : mapping of int to float
        Standard error of each of these differences.
    """

    number: int
    best: int
    score: str
    rule: str
    reason: str
    behind: Mapping[int, float]
    standard_error: Mapping[int, float]


def recommend(scores: Mapping[int, NDArray[np.floating[Any]]], score: str, noun: str = "latent") -> Recommendation:
    """Choose the smallest number of latents, or of kinds, that is as good as the best one, or nearly.

    Parameters
    ----------
    scores : mapping of int to ndarray of float, shape (n_seeds, n_patterns)
        Score, for each number, of every held-out pattern under the model of every seed; the higher the
        better. The patterns are the same for all models.
    score : str
        ``evidence`` (nat) or ``explained variance``, whose mean over the patterns is the model's.
    noun : str
        What is counted: ``latent`` or ``kind``.

    Returns
    -------
    Recommendation

    Notes
    -----
    The smallest number is taken for which one of these holds:

    - Its mean score is within one standard error of the best one's (Breiman, Friedman, Olshen & Stone, Classification
      and Regression Trees, 1984, sec. 3.4.3; Hastie, Tibshirani & Friedman, The Elements of Statistical Learning,
      2nd ed., sec. 7.10). The standard error is that of the difference: over the patterns, paired, and over the seeds
      of both, ``sqrt(var_i(d_i) / n_patterns + (var_s(best) + var_s(this)) / n_seeds)``.
    - No larger number gains more than `SHARE` of the largest gain per latent, times the number of additional latents.
      The largest gain is that from the smallest number to any other one, divided by their difference. Without noise,
      scores never stop growing, and every standard error becomes too small to reject a further latent.
    """
    numbers = sorted(scores)
    mean = {n: float(scores[n].mean()) for n in numbers}
    best = max(numbers, key=lambda n: (mean[n], -n))
    behind = {n: mean[best] - mean[n] for n in numbers}
    error = {n: _standard_error(scores[best], scores[n]) if n != best else 0.0 for n in numbers}
    steepest = max([(mean[n] - mean[numbers[0]]) / (n - numbers[0]) for n in numbers[1:]], default=0.0)
    enough = SHARE * max(steepest, 0.0)

    def gain(n: int) -> float:
        """Largest gain per latent of any larger number."""
        return max([(mean[m] - mean[n]) / (m - n) for m in numbers if m > n], default=0.0)

    chosen = next(n for n in numbers if behind[n] <= error[n] or gain(n) < enough)
    name, form = _UNITS[score]
    if chosen == best:
        rule = "best"
        reason = f"it has the highest {name} of held-out patterns"
        if chosen != numbers[0]:
            reason += f", and fewer {noun}s fall short by more than one standard error"
        if chosen == numbers[-1] and len(numbers) > 1:
            reason += "; the sweep ends here, so a larger number may be better still"
    elif behind[chosen] <= error[chosen]:
        rule = "one standard error"
        reason = (
            f"the highest {name} of held-out patterns, with {_counted(best, noun)}, is higher by "
            f"{form.format(behind[chosen])}, which is within one standard error ({form.format(error[chosen])})"
        )
    else:
        rule = "small gains"
        reason = (
            f"more {noun}s add {form.format(max(gain(chosen), 0.0))} each at most to the {name} of held-out patterns, "
            f"less than {SHARE:.0%} of the largest gain per {noun} ({form.format(steepest)})"
        )
    return Recommendation(chosen, best, score, rule, f"{_counted(chosen, noun)}: {reason}", behind, error)


def _standard_error(best: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float:
    """Standard error of the difference of two means, over patterns and seeds; that of a single one counts as 0."""
    difference = best.mean(axis=0) - other.mean(axis=0)
    variance = difference.var(ddof=1) / len(difference) if len(difference) > 1 else 0.0
    for scores in (best, other):
        if len(scores) > 1:
            variance += scores.mean(axis=1).var(ddof=1) / len(scores)
    return float(np.sqrt(variance))


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
