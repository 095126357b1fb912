"""The pure functions that benchmarks are scored by."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def tools():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import bounds
        import model_scores
        import model_tables
    finally:
        sys.path.remove(str(BENCHMARKS))
    return SimpleNamespace(bounds=bounds, scores=model_scores, tables=model_tables)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("symmetry", [1, 2, 3, 6])
@pytest.mark.parametrize("sign", [1, -1])
def test_angles_that_differ_by_a_symmetry_agree(tools, rng, symmetry, sign):
    known = rng.uniform(0, 2 * np.pi, 500)
    jumps = rng.integers(0, symmetry, 500) * 2 * np.pi / symmetry
    found = tools.scores.angle_error(sign * known + 0.3 / symmetry + jumps, known, symmetry=symmetry)
    assert found.sign == sign
    assert found.median_deg == pytest.approx(0, abs=1e-6)
    assert found.offset_deg == pytest.approx(np.degrees(0.3 / symmetry), abs=1e-6)


def test_angle_error_is_that_of_a_gaussian(tools, rng):
    known = rng.uniform(0, 2 * np.pi, 20_000)
    deviation = np.radians(5.0)
    found = tools.scores.angle_error(known + rng.normal(0, deviation, known.shape), known)
    assert found.median_deg == pytest.approx(5 * tools.bounds.MEDIAN_OF_DEVIATION, rel=0.02)
    assert found.mean_deg == pytest.approx(5 * np.sqrt(2 / np.pi), rel=0.02)


def test_no_knowledge_is_a_quarter_of_the_period(tools, rng):
    known, angle = rng.uniform(0, 2 * np.pi, (2, 50_000))
    for symmetry in (1, 2, 3):
        found = tools.scores.angle_error(angle, known, symmetry=symmetry)
        assert found.median_deg == pytest.approx(90 / symmetry, rel=0.03)


def test_angle_error_without_an_angle(tools):
    assert tools.scores.angle_error(np.full(4, np.nan), np.zeros(4)) is None


def test_only_the_chosen_positions_count_in_the_median(tools):
    known, angle = np.zeros(10), np.where(np.arange(10) < 3, 1.0, 0.0)
    weight = np.where(np.arange(10) < 3, 0.0, 1.0)
    found = tools.scores.angle_error(angle, known, weight=weight, use=np.arange(10) < 3)
    assert found.median_deg == pytest.approx(np.degrees(1.0))
    assert found.mean_deg == 0


def test_poisson_excess_is_the_expected_loss_of_likelihood(tools, rng):
    lam, mu = rng.uniform(2, 9, (2, 3, 4))
    counts = rng.poisson(lam, (200_000, 3, 4))
    loss = (counts * np.log(lam / mu) - lam + mu).sum(axis=-1)
    expected = tools.scores.poisson_excess(lam, mu)
    # five standard errors of the mean over the counts
    assert np.all(np.abs(loss.mean(axis=0) - expected) < 5 * loss.std(axis=0) / np.sqrt(len(counts)))
    np.testing.assert_allclose(tools.scores.poisson_excess(lam, lam), 0, atol=1e-12)


def test_poisson_excess_of_impossible_predictions_is_finite(tools):
    lam = np.array([[0.0, 2.0]])
    floor = tools.scores.POSITIVE_FLOOR
    found = tools.scores.poisson_excess(lam, np.array([[-1.0, 0.0]]))
    assert found == pytest.approx([floor + 2 * np.log(2 / floor) - 2 + floor])


def test_correlations_of_a_constant_latent(tools, rng):
    known = rng.normal(size=100)
    latents = np.stack([-2 * known, np.full(100, 0.3), rng.normal(size=100)], axis=1)
    r = tools.scores.correlations(latents, known)
    assert r[0] == pytest.approx(1)
    assert r[1] == 0
    assert r[2] < 0.4


def test_time_to_share_is_the_last_crossing(tools):
    seconds = np.arange(6.0)
    assert tools.scores.time_to_share(seconds, np.array([0.1, 0.99, 0.5, 0.94, 0.96, 1.0])) == 4
    assert tools.scores.time_to_share(seconds, np.ones(6)) == 0
    assert tools.scores.time_to_share(seconds[:0], seconds[:0]) is None


def test_explained_variance_of_the_mean_and_of_the_truth(tools, rng):
    target = rng.normal(size=(50, 6))
    mean = target.mean(axis=0)
    assert tools.scores.explained(target, target, mean) == 1
    assert tools.scores.explained(np.broadcast_to(mean, target.shape), target, mean) == 0


def test_fisher_information_of_a_gaussian_spot(tools):
    # where a spot of width s lies is known to s / sqrt(n) from n counts
    y, x = np.indices((60, 60)) / 4 - 7.5
    width, n = 1.5, 1000.0
    spot = n * np.exp(-(x**2 + y**2) / (2 * width**2)) / (2 * np.pi * width**2 * 16)
    slopes = np.stack([spot * x / width**2, spot * y / width**2]).reshape(2, -1)
    information = tools.bounds.fisher(spot.ravel(), slopes)
    np.testing.assert_allclose(information, n / width**2 * np.eye(2), rtol=1e-3, atol=1e-6 * n)
    found = tools.bounds.propagated(information, np.array([3.0, 4.0]))
    assert found == pytest.approx(5 * width / np.sqrt(n), rel=1e-3)


def test_unknown_amplitudes_cannot_sharpen_the_angle(tools):
    from stemvane.sources.synthetic import synthetic

    shape, detector = (4, 4), (24, 24)
    _, truth = synthetic(shape, detector)
    _, more = synthetic(shape, detector, n_fixed=2)
    plain = tools.bounds.analytic_bound(truth, detector)
    assert tools.bounds.analytic_bound(more, detector) >= plain * (1 - 0.02)
    assert 100 < plain < 5000


def test_tables_show_the_range_over_seeds(tools):
    assert tools.tables.spread([], 2) == ""
    assert tools.tables.spread([1.001, 1.002], 2, "°") == "1.00°"
    assert tools.tables.spread([1.5, 1.25, 2000.0], 1) == "1.2 to 2,000.0"
