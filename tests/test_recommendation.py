"""From scores of held-out patterns to a number of latents: each rule, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemvane.evaluation.recommendation import SHARE, recommend


def scores(means, *, n_seeds=3, n_patterns=400, by_pattern=0.0, by_model=0.0, by_seed=0.0, chance=0):
    """Scores with these means: what all models share, what differs from model to model, and what from seed to seed."""
    random = np.random.default_rng(chance)
    shared = by_pattern * random.standard_normal(n_patterns)

    def centred(scale, shape):
        values = scale * random.standard_normal(shape)
        return values - values.mean()

    return {
        n: mean
        + shared
        + centred(by_model, n_patterns)
        + centred(by_seed, (n_seeds, 1))
        + np.zeros((n_seeds, n_patterns))
        for n, mean in means.items()
    }


def test_the_best_number_where_all_others_fall_short():
    recommendation = recommend(scores({0: 0.0, 1: 5.0, 2: 9.0, 3: 8.0}, by_model=1.0), "evidence")
    assert (recommendation.number, recommendation.best, recommendation.rule) == (2, 2, "best")
    assert recommendation.reason.startswith("2 latents: it has the highest evidence of held-out patterns, and fewer")
    assert recommendation.behind == pytest.approx({0: 9.0, 1: 4.0, 2: 0.0, 3: 1.0})
    assert "ends here" not in recommendation.reason
    assert "ends here" in recommend(scores({0: 0.0, 1: 5.0, 2: 9.0}, by_model=1.0), "evidence").reason


def test_one_standard_error_over_patterns():
    # the difference of two models scatters by 20 √2 over 400 patterns: its standard error is √2
    means = {0: 0.0, 1: 9.0, 2: 10.0, 3: 9.5}
    recommendation = recommend(scores(means, by_model=20.0), "evidence")
    assert recommendation.standard_error[1] == pytest.approx(np.sqrt(2), rel=0.15)
    assert (recommendation.number, recommendation.best, recommendation.rule) == (1, 2, "one standard error")
    assert recommendation.reason.startswith(
        "1 latent: the highest evidence of held-out patterns, with 2 latents, is higher by"
    )
    assert recommend(scores(means, by_model=2.0), "evidence").number == 2


def test_what_all_models_find_hard_does_not_count():
    means = {0: 0.0, 1: 8.0, 2: 10.0}
    recommendation = recommend(scores(means, by_pattern=1000.0, by_model=1.0), "evidence")
    assert recommendation.number == 2
    assert recommendation.standard_error[1] == pytest.approx(np.sqrt(2) / 20, rel=0.2)


def test_seeds_that_scatter_count():
    means = {0: 0.0, 1: 8.0, 2: 10.0}
    recommendation = recommend(scores(means, n_seeds=4, by_seed=6.0), "evidence")
    assert recommendation.number == 1
    table = scores(means, n_seeds=4, by_seed=6.0)
    spread = [table[n].mean(axis=1).std(ddof=1) for n in (1, 2)]
    assert recommendation.standard_error[1] == pytest.approx(np.hypot(*spread) / 2)


def test_small_gains_are_not_worth_it():
    # as without noise: every gain is certain
    means = {0: 380.0, 1: 564.0, 2: 658.0, 3: 782.0, 4: 792.0, 5: 797.0, 6: 797.2}
    recommendation = recommend(scores(means, by_model=0.1), "evidence")
    assert (recommendation.number, recommendation.best, recommendation.rule) == (3, 6, "small gains")
    assert "10.0 nat per pattern each at most" in recommendation.reason
    assert "10% of the largest gain per latent (184.0" in recommendation.reason
    # a small gain before a large one is no end
    assert recommend(scores({0: 0.0, 1: 100.0, 2: 101.0, 3: 180.0}), "evidence").number == 3
    # many small gains together are worth no more than each of them
    many = {0: 0.0, 1: 100.0} | {n: 100.0 + 5 * (n - 1) for n in range(2, 20)}
    assert recommend(scores(many, by_model=0.01), "evidence").number == 1
    assert SHARE == 0.1


def test_latents_that_gain_nothing():
    recommendation = recommend(scores({0: 10.0, 1: 9.0, 2: 8.0}), "explained variance")
    assert (recommendation.number, recommendation.rule) == (0, "best")
    assert recommendation.reason == "0 latents: it has the highest explained variance of held-out patterns"
    assert recommend(scores({2: 1.0}), "evidence").number == 2
    assert recommend(scores({0: 1.0, 1: 1.0}), "evidence").number == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000), st.floats(-1e3, 1e3), st.floats(0.1, 10))
def test_neither_unit_nor_order_matters(n, chance, shift, scale):
    means = np.random.default_rng(chance).normal(0, 5, n)
    table = scores(dict(enumerate(means)), n_patterns=50, by_model=5.0, by_seed=1.0, chance=chance)
    recommendation = recommend(table, "evidence")
    order = np.random.default_rng(chance).permutation(50)
    other = recommend({n: scale * values[::-1, order] + shift for n, values in reversed(table.items())}, "evidence")
    assert (other.number, other.best, other.rule) == (
        recommendation.number,
        recommendation.best,
        recommendation.rule,
    )
    assert recommendation.number <= recommendation.best
    assert other.behind == pytest.approx({n: scale * value for n, value in recommendation.behind.items()}, abs=1e-8)
