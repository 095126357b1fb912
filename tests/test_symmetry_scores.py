from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from stemvane.data.scan_geometry import probe_positions
from stemvane.defects.channels import pool_p_values
from stemvane.defects.descriptions import Descriptions
from stemvane.defects.gauss_laguerre import Window, gauss_laguerre
from stemvane.defects.kinds import _Compared, classify_defects, defect_centres
from stemvane.defects.lattice import Distortion, Lattice, lattice_rotations
from stemvane.defects.local_symmetry import fold_symmetry, winding_number
from stemvane.defects.numerics import robust_scale
from stemvane.defects.p_values import combine_p_values, false_discovery_rate, quadratic_p, squares_p
from stemvane.defects.sites import Sites
from stemvane.defects.surroundings import Surroundings


def test_window_functions_are_orthonormal():
    window, step = Window(0.8, 6), 0.1
    values = window.values(probe_positions((121, 121), (step, step)) - 6.0)
    assert len(values) == len(window.modes) == 28
    np.testing.assert_allclose(values @ values.conj().T * step**2, np.eye(28), atol=1e-6)


def test_coefficients_scatter_as_much_as_what_they_are_summed_over():
    window, rng = Window(0.6, 2), np.random.default_rng(0)
    points = probe_positions((40, 40), (0.15, 0.15))
    around = Surroundings(Sites.at(np.array([[3.0, 3.0], [0.3, 3.2]])), points, 0.15**2, 0.6)
    # ten times as noisy on the right, and the second site lies at the edge
    variance = np.where(points[:, 1] > 3.0, 10.0, 1.0)[:, None]
    draws = rng.normal(size=(len(points), 2000)) * np.sqrt(variance)
    scatter = (np.abs(around.expand(draws + 0j, window)) ** 2).mean(axis=-1)
    np.testing.assert_allclose(around.spread(variance, window)[..., 0], scatter, rtol=0.12)


@pytest.mark.parametrize("rotation", [0.3, -2.0])
def test_a_rotation_is_a_phase_of_the_coefficients(rotation):
    window, rng = Window(0.8, 5), np.random.default_rng(0)
    points, values = rng.normal(size=(50, 2)), rng.normal(size=50)
    up, right = -points[:, 0], points[:, 1]
    c, s = np.cos(rotation), np.sin(rotation)
    moved = np.stack([-(s * right + c * up), c * right - s * up], axis=-1)
    before, after = (window.values(at).conj() @ values for at in (points, moved))
    np.testing.assert_allclose(after, before * np.exp(-1j * window.angular_orders * rotation), atol=1e-10)


def test_a_function_of_order_1_is_real_to_the_right_and_imaginary_above():
    right, above = gauss_laguerre(np.array([[0.0, 0.5], [-0.5, 0.0]]), 0.8, 0, 1)
    # ρ exp(-ρ²/2) / (√π w), ρ = 0.625
    wanted = 0.625 * np.exp(-(0.625**2) / 2) / np.sqrt(np.pi) / 0.8
    assert right == pytest.approx(wanted)
    assert above == pytest.approx(1j * wanted)
    assert gauss_laguerre(np.zeros((1, 2)), 0.8, 0, 0)[0] == pytest.approx(1 / np.sqrt(np.pi) / 0.8)


def test_functions_are_weak_beyond_their_reach():
    for degree in (0, 3, 6):
        window = Window(0.8, degree)
        at = np.array([[0.0, window.reach]])
        assert np.abs(window.values(at)).max() < 0.12 / np.sqrt(np.pi) / 0.8


@pytest.fixture
def noise():
    """White noise of deviation 1 in 40 channels, and 9 sites far from the edge and from each other."""
    shape, step = (60, 80), (0.25, 0.2)
    centres = np.stack(np.meshgrid([5.0, 7.4, 9.8], [5.0, 7.9, 10.7], indexing="ij"), axis=-1).reshape(-1, 2)
    sites = Sites(centres, ("atom",) * 9, np.zeros(9, int))
    around = Surroundings(sites, probe_positions(shape, step), step[0] * step[1], 0.6)
    return around, np.random.default_rng(1).normal(size=(60 * 80, 40))


def test_white_noise_stays_white_in_the_windows(noise):
    around, values = noise
    expansion = around.expand(values.astype(complex), Window(0.6, 3))
    # a real number in a complex function has its deviation 1 from both parts; 360 coefficients know it to 5 %
    deviation = np.sqrt((np.abs(expansion) ** 2).mean(axis=(0, 2)))
    np.testing.assert_allclose(deviation, 1, atol=0.12)
    assert np.sqrt((np.abs(expansion) ** 2).mean()) == pytest.approx(1, abs=0.03)
    apart = expansion[:, 0].ravel() @ expansion[:, 3].ravel().conj() / 360
    assert abs(apart) < 0.2


def test_a_window_finds_what_has_its_own_form(noise):
    around, _ = noise
    window = Window(0.6, 3)
    mode = window.modes.index((0, 2))
    site = around.sites.positions[4]
    form = gauss_laguerre(around.points - site, 0.6, 0, 2)[:, None]
    expansion = around.expand(form, window)[4, :, 0] * np.sqrt(around.area)
    np.testing.assert_allclose(expansion, np.eye(len(window.modes))[mode], atol=0.01)


def test_pooled_noise_has_deviation_1_and_a_constant_adds_up(noise):
    around, values = noise
    assert around.pool(values).std() == pytest.approx(1, abs=0.1)
    # Σ w / √Σ w² of a Gaussian over a plane: 2 √π · width / √area
    result = around.pool(np.ones((len(values), 1)))
    np.testing.assert_allclose(result, 2 * np.sqrt(np.pi) * 0.6 / np.sqrt(0.05), rtol=0.01)


def test_a_bright_site_is_unlikely_and_a_dark_one_too(noise):
    around, values = noise
    residual = values[:, 0] * 0.01
    for i, height in ((2, 1.0), (6, -1.0)):
        residual += height * np.exp(-((around.points - around.sites.positions[i]) ** 2).sum(1) / 0.5)
    p = pool_p_values(around, residual)
    # nine sites say little of the spread, so that less than this cannot be said
    assert np.all(p[[2, 6]] < 1e-3)
    assert np.all(np.delete(p, [2, 6]) > 0.01)


def test_a_spread_known_from_few_sites_is_uncertain(noise):
    around, _ = noise
    rng = np.random.default_rng(11)
    p = np.array([pool_p_values(around, rng.normal(size=len(around.points))) for _ in range(300)])
    # by the normal distribution 10 % of these 9 sites would be that unlikely
    assert (p < 0.01).mean() == pytest.approx(0.01, abs=0.006)


@pytest.mark.parametrize("weights", [[1.0] * 4, [5.0, 1, 0.5, 0.1, 0.1], [1.0], list(1 / np.arange(1, 40))])
def test_p_of_a_weighted_sum_of_squares_agrees_with_drawn_ones(weights):
    weights = np.array(weights)
    drawn = np.random.default_rng(0).normal(size=(300_000, len(weights))) ** 2 @ weights
    for share, tolerance in ((0.5, 0.04), (0.05, 0.05), (0.001, 0.2)):
        # a thousandth of 300 000 is known to 6 %; the rest is the approximation
        p = quadratic_p(np.quantile(drawn, [1 - share]), weights)[0]
        assert p == pytest.approx(share, rel=tolerance)


def test_p_of_equal_weights_is_that_of_chi_squared():
    values = np.array([0.5, 4.0, 30.0, 200.0])
    np.testing.assert_allclose(quadratic_p(2 * values, np.full(7, 2.0)), stats.chi2.sf(values, 7), rtol=0.03)
    # divided by a variance that is known from 9 numbers: Fisher's F
    np.testing.assert_allclose(quadratic_p(values, np.ones(7), 9.0), stats.f.sf(values / 7, 7, 9), rtol=0.03)
    np.testing.assert_allclose(quadratic_p(np.array([6.999, 7.0, 7.001]), np.ones(7)), stats.chi2.sf(7, 7), rtol=0.01)


def test_extreme_sums_and_no_weights_have_a_p():
    p = quadratic_p(np.array([0.0, 1e5, 1e300]), np.array([1.0, 0.5]))
    assert p[0] == pytest.approx(1, abs=0.01)
    assert np.all((p > 0) & (p <= 1))
    assert p[1] <= 1e-300
    np.testing.assert_array_equal(quadratic_p(np.array([3.0, 4.0]), np.zeros(2)), [1, 1])


@pytest.mark.parametrize("prior", [[1e6] * 5, [4.0, 1, 0.3, 0.1, 0.01]])
def test_p_of_standard_normal_numbers_is_uniform(prior):
    values = np.random.default_rng(3).normal(size=(4000, len(prior)))
    p = squares_p(values, np.array(prior))
    # scaled to the median of the sums, and never up
    for level in (0.5, 0.2, 0.05):
        assert (p < level).mean() == pytest.approx(level, abs=0.03)
    assert (p < 0.01).mean() == pytest.approx(0.01, abs=0.006)


def test_sums_that_are_too_large_everywhere_are_scaled_down_but_not_up():
    values, prior = np.random.default_rng(3).normal(size=(4000, 5)), np.full(5, 1e6)
    assert (squares_p(2 * values, prior) < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert (squares_p(0.5 * values, prior) < 0.05).mean() < 0.001


@pytest.mark.parametrize(("n_terms", "freedom"), [(1, np.inf), (7, np.inf), (300, np.inf), (7, 9.0), (300, 2.0)])
def test_the_bulk_of_the_sites_has_the_median_of_a_pristine_lattice(n_terms, freedom):
    values = 3 * np.random.default_rng(6).normal(size=(2001, n_terms))
    sums = (values**2).sum(axis=1)
    law = stats.chi2(n_terms) if freedom == np.inf else stats.f(n_terms, freedom, scale=n_terms)
    expected = law.sf(sums * law.median() / np.median(sums))
    p = squares_p(values, np.full(n_terms, 1e9), freedom)
    clear = (expected > 1e-3) & (expected < 0.999)
    np.testing.assert_allclose(p[clear], expected[clear], rtol=0.15 if n_terms == 1 else 0.04)


def test_a_change_that_was_expected_counts_and_another_does_not():
    values = np.random.default_rng(3).normal(size=(500, 4))
    values[0], values[1], values[2] = [9, 0, 0, 0], [0, 0, 0, 9], np.nan
    p = squares_p(values, np.array([100.0, 1, 1, 1e-4]))
    assert p[0] < 1e-8
    assert p[1] > 0.1
    assert np.isnan(p[2])
    assert np.isfinite(np.delete(p, 2)).all()


def test_without_prior_or_known_numbers_there_is_nothing_unlikely():
    values = np.array([[3.0, 8.0], [np.nan, 1.0]])
    np.testing.assert_array_equal(squares_p(values, np.zeros(2)), [1, np.nan])
    np.testing.assert_array_equal(squares_p(np.full((3, 2), np.nan), np.ones(2)), [np.nan] * 3)


def test_directions_taken_out_have_no_part_in_a_sum_of_squares():
    rng = np.random.default_rng(3)
    prior, directions = np.geomspace(30, 0.01, 12), rng.normal(size=(3, 12))
    values = rng.normal(size=(4000, 12))
    p = squares_p(values, prior, without=directions)
    assert stats.kstest(p, "uniform").statistic < 0.03
    strained = values + rng.normal(size=(4000, 3)) @ directions * 50
    np.testing.assert_allclose(squares_p(strained, prior, without=directions), p, atol=1e-6)
    assert (squares_p(np.vstack([values, strained[:50]]), prior)[-50:] < 1e-6).mean() > 0.9


@pytest.mark.parametrize("kind", ["independent", "identical", "correlated"])
def test_combined_p_keeps_its_tail_however_channels_depend(kind):
    rng, n = np.random.default_rng(0), 20_000
    common = rng.normal(size=n)
    share = {"independent": 0.0, "identical": 1.0, "correlated": 0.7}[kind]
    parts = [stats.norm.sf(np.sqrt(share) * common + np.sqrt(1 - share) * rng.normal(size=n)) for _ in range(5)]
    p = combine_p_values(parts)
    assert 0.005 < (p < 0.01).mean() < 0.015
    assert (p < 0.001).mean() < 0.002
    if kind == "identical":
        np.testing.assert_allclose(p, np.minimum(parts[0], 0.95), rtol=1e-6)


def test_combined_p_leaves_out_what_is_not_known():
    p = np.array([0.02, 0.3, np.nan])
    together = combine_p_values([p, np.array([np.nan, 0.3, np.nan])])
    np.testing.assert_allclose(together, [0.02, 0.3, np.nan], rtol=1e-9)


def test_tiny_p_do_not_overflow_and_weigh_by_their_share():
    together = combine_p_values([np.array([1e-10, 1e-20, 1e-200, 0.0]), *[np.full(4, 0.5)] * 4])
    # of tan(π/2 - πp) = 1 / (π p) a fifth remains
    np.testing.assert_allclose(together[:3], [5e-10, 5e-20, 5e-200], rtol=1e-4)
    assert 0 < together[3] < 1e-295
    all_sure = combine_p_values([np.array([1.0, 0.0])] * 5)
    assert all_sure[0] == pytest.approx(0.95)
    assert 0 < all_sure[1] < 1e-295


def test_a_channel_without_any_change_does_not_hide_another():
    unchanged = np.array([0.999])
    assert combine_p_values([np.array([1e-8]), *[unchanged] * 4])[0] < 1e-7
    # where the other channel is as sure that there is nothing as it can be, its share of the weight is lost
    assert combine_p_values([np.array([0.01]), unchanged])[0] < 0.05


def test_false_discovery_rate_of_an_example():
    # p · n / rank of 0.005, 0.01, 0.03, 0.04, 0.5, and from the right the smallest so far
    rates = false_discovery_rate(np.array([0.03, np.nan, 0.005, 0.5, 0.01, 0.04]))
    np.testing.assert_allclose(rates, [0.05, np.nan, 0.025, 0.5, 0.025, 0.05])
    assert np.isnan(false_discovery_rate(np.full(2, np.nan))).all()
    assert false_discovery_rate(np.zeros(0)).shape == (0,)


def test_robust_scale_is_hardly_moved_by_outliers():
    values = 3 * np.random.default_rng(0).normal(size=(5000, 2))
    values[:250] = 1e6
    values[250:400, 1] = np.nan
    np.testing.assert_allclose(robust_scale(values), 3, rtol=0.12)
    np.testing.assert_array_equal(robust_scale(np.zeros((0, 2))), 1)


@pytest.mark.parametrize("turns", [-2, -1, 0, 1, 3])
def test_winding_number_of_a_made_up_field(turns):
    shape, step, centre = (40, 50), (0.2, 0.15), np.array([4.1, 3.3])
    at = probe_positions(shape, step) - centre
    angle = (turns * np.arctan2(-at[:, 0], at[:, 1]) + 1.2).reshape(shape)
    angle = np.angle(np.exp(1j * angle))
    assert winding_number(angle, centre[None], step, 0.7)[0] == turns
    # off the centre nothing turns round
    assert winding_number(angle, np.array([[2.0, 5.5]]), step, 0.7)[0] == 0


def test_winding_number_is_unknown_at_the_rim_and_at_gaps():
    angle = np.zeros((40, 40))
    angle[30, 30] = np.nan
    winding = winding_number(angle, np.array([[2.0, 2.0], [0.3, 2.0], [3.0, 2.6], [2.0, 7.6]]), (0.1, 0.1), 0.4)
    np.testing.assert_array_equal(winding, [0, np.nan, np.nan, np.nan])


def coefficients(window, points, area, values):
    return np.sqrt(area) * window.values(points).conj() @ values


@pytest.mark.parametrize("fold", [2, 3, 4, 6])
def test_a_map_of_some_symmetry_keeps_it_and_no_other(fold):
    window, step = Window(0.7, 7), 0.1
    points = probe_positions((101, 101), (step, step)) - 5.0
    r, azimuth = np.hypot(*points.T), np.arctan2(-points[:, 0], points[:, 1])
    fall = np.exp(-((r / 1.2) ** 2))
    scalar = fall * (0.2 + r**fold * np.cos(fold * (azimuth - 0.3)))
    # a direction that turns with the specimen
    direction = fall * r ** (fold - 1) * np.exp(1j * azimuth) * (1 + np.cos(fold * (azimuth + 0.4)))
    described = coefficients(window, points, step**2, np.stack([scalar, direction], axis=-1))
    by_fold = {
        s: fold_symmetry(described[None, :, :1], described[None, :, 1], window.angular_orders, s)[0]
        for s in (2, 3, 4, 6)
    }
    for s, share in by_fold.items():
        if fold % s == 0:
            assert share == pytest.approx(1, abs=1e-3)
        else:
            assert share < 0.9


def test_nothing_at_all_has_no_symmetry():
    orders = Window(0.7, 2).angular_orders
    assert np.isnan(fold_symmetry(np.zeros((1, 6, 2), complex), np.zeros((1, 6), complex), orders, 3)[0])


def lattice_of(first, second, between):
    at = np.deg2rad([10.0, 10.0 + between])
    vectors = np.array([[first], [second]]) * np.stack([-np.sin(at), np.cos(at)], axis=-1)
    return Lattice(vectors, Distortion(np.zeros(2), np.ones(2)))


@pytest.mark.parametrize(
    ("lattice", "n"), [((2.46, 2.46, 120), 6), ((2.9, 2.9, 90), 4), ((2.9, 3.3, 90), 2), ((2.9, 2.9, 104), 2)]
)
def test_rotations_of_a_lattice(lattice, n):
    np.testing.assert_allclose(lattice_rotations(lattice_of(*lattice)), 2 * np.pi * np.arange(n) / n)


SIXTH = np.pi / 3
ANGULAR = Window(0.7, 3).angular_orders
CIRCULAR = np.repeat(np.arange(5), 4)


def kinds_of_defects(seed=0):
    """A kind without symmetry, and one that a third of a turn leaves as it is; every coefficient is about 4."""
    rng = np.random.default_rng(seed)
    forms = rng.normal(size=(2, len(ANGULAR), 20)) + 1j * rng.normal(size=(2, len(ANGULAR), 20))
    forms[1][(ANGULAR[:, None] + CIRCULAR) % 3 != 0] = 0
    return 3 * forms


def rotated_by(form, angle):
    return form * np.exp(-1j * (ANGULAR[:, None] + CIRCULAR) * angle)


def noise_like(n, seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, len(ANGULAR), 20)) + 1j * rng.normal(size=(n, len(ANGULAR), 20))
    # features of circular order 0 are real
    return noise * np.where(CIRCULAR == 0, np.sqrt(0.5), 1)


def as_described(values, pristine, noise=1.0, shifts=0.0):
    n = len(values)
    return Descriptions(
        positions=np.zeros((n, 2)),
        values=values,
        shifts=np.zeros((n, 2, *values.shape[1:]), complex) + shifts,
        noise=np.ones(values.shape) * noise,
        pristine=pristine,
        pristine_noise=np.ones(values.shape[1:]),
        strain=np.full((n, 6, *values.shape[1:]), 20.0 + 0j),
        angular_orders=ANGULAR,
        circular_orders=CIRCULAR,
    )


@pytest.mark.parametrize("seed", range(3))
def test_defects_are_sorted_into_kinds_with_their_rotations(seed):
    rng = np.random.default_rng(seed)
    kinds = kinds_of_defects(seed)
    kind = rng.permutation([0] * 9 + [1] * 5)
    turns = rng.integers(0, 6, 14)
    described = np.stack([rotated_by(kinds[k], t * SIXTH) for k, t in zip(kind, turns, strict=True)])
    described += noise_like(14, seed + 10)
    groups = classify_defects(as_described(described, noise_like(200, seed + 20)), SIXTH * np.arange(6))
    assert groups.n_kinds == 2
    # the more frequent kind is number 0
    np.testing.assert_array_equal(groups.kind, kind)
    for k, period in ((0, 6), (1, 2)):
        members = np.flatnonzero(kind == k)
        apart = (turns[members] - turns[members[0]]) - groups.rotation[members] / SIXTH
        np.testing.assert_allclose((apart + period / 2) % period, period / 2, atol=1e-6)
        assert groups.rotation[members[0]] == 0
    # 2 of noise in each difference over the mean square of 18 or, of a third of the numbers, 6
    assert np.all(groups.spread < 0.5)


def test_one_kind_is_not_split_and_an_odd_one_stands_alone():
    kinds = kinds_of_defects(5)
    described = np.stack([rotated_by(kinds[0], t * SIXTH) for t in (0, 1, 1, 3, 4, 5)]) + noise_like(6, 1)
    pristine, turns = noise_like(100, 2), SIXTH * np.arange(6)
    assert classify_defects(as_described(described, pristine), turns).n_kinds == 1
    described[3] = rotated_by(kinds[1], SIXTH) + noise_like(1, 3)[0]
    groups = classify_defects(as_described(described, pristine), turns)
    np.testing.assert_array_equal(groups.kind, [0, 0, 0, 1, 0, 0])
    assert np.isnan(groups.spread[1])


def test_a_defect_that_is_noisier_or_lies_off_its_place_is_no_other_kind():
    form, turns = kinds_of_defects(4)[0] / 4, SIXTH * np.arange(6)
    values = np.stack([form] * 4) + noise_like(4, 5)
    values[3] += 2 * noise_like(1, 6)[0]
    pristine, noise = noise_like(300, 7), np.array([1.0, 1, 1, 5])[:, None, None]
    assert classify_defects(as_described(values, pristine, noise), turns).n_kinds == 1
    moved, direction = np.stack([3 * form] * 4) + noise_like(4, 5), 30 * kinds_of_defects(8)[0]
    moved[3] += 0.05 * direction
    assert classify_defects(as_described(moved, pristine), turns).n_kinds == 2
    # from here on the direction is what a shift by 1 Å to the right would make
    shifts = np.stack([np.zeros_like(direction), direction])
    assert classify_defects(as_described(moved, pristine, shifts=shifts), turns).n_kinds == 1


def test_kinds_that_noise_would_mix_are_less_certain():
    near, far = (
        np.stack([kinds_of_defects(1)[0] * size] * 3 + [kinds_of_defects(1)[1] * size] * 3) + noise_like(6, 2)
        for size in (0.25, 1.0)
    )
    sure = classify_defects(as_described(far, noise_like(300, 3)), SIXTH * np.arange(6))
    np.testing.assert_array_equal(sure.certainty, 1)
    unsure = classify_defects(as_described(near, noise_like(300, 3)), SIXTH * np.arange(6))
    assert unsure.certainty.min() < 0.95


@pytest.mark.parametrize("size", [0.15, 0.3])
def test_weak_defects_of_one_kind_are_not_split_by_their_noise(size):
    form = size * kinds_of_defects(3)[0]
    for seed in range(10):
        values = np.stack([rotated_by(form, t * SIXTH) for t in range(6)]) + noise_like(6, seed)
        assert classify_defects(as_described(values, noise_like(150, 50 + seed)), SIXTH * np.arange(6)).n_kinds == 1


def test_what_is_alike_but_weaker_is_another_kind():
    form = kinds_of_defects(3)[0]
    values = np.stack([form] * 3 + [0.75 * form] * 3) + 2 * noise_like(6, 2)
    described = as_described(values, 2 * noise_like(150, 3), noise=4.0)
    described = replace(described, pristine_noise=4 * described.pristine_noise)
    np.testing.assert_array_equal(classify_defects(described, SIXTH * np.arange(6)).kind, [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("size", [0.0, 0.3, 3.0])
def test_chance_makes_two_kinds_of_one_one_time_in_a_thousand(size):
    level = np.linspace(1, 3, 60)
    values = size * kinds_of_defects(3)[0] + np.sqrt(level)[:, None, None] * noise_like(60, 4)
    described = as_described(values, noise_like(300, 5), noise=level[:, None, None])
    apart = _Compared.of(described, np.zeros(1)).differences()[0][..., 0][np.triu_indices(60, 1)]
    assert (apart > 1).mean() < 0.004
    # few are too far apart, but many nearly, unless they are strong and differ by a small share of it
    assert size == 3 or (apart > 0.75).mean() > 0.2


def test_features_in_which_the_lattice_is_even_do_not_hide_a_difference():
    one, other = (0.35 * form for form in kinds_of_defects(6))
    is_even = np.arange(20) % 4 != 0
    one[:, is_even] = other[:, is_even] = 0
    values = np.stack([one] * 3 + [other] * 3) + noise_like(6, 2)
    described, turns = as_described(values, noise_like(200, 3)), SIXTH * np.arange(6)
    assert classify_defects(described, turns).n_kinds == 1
    even = replace(described, strain=described.strain * ~is_even)
    np.testing.assert_array_equal(classify_defects(even, turns).kind, [0, 0, 0, 1, 1, 1])


def test_rotations_that_the_lattice_does_not_have_are_not_tried():
    kinds = kinds_of_defects(5)
    described = np.stack([rotated_by(kinds[0], t) for t in (0, SIXTH, 0, SIXTH)]) + noise_like(4, 1)
    groups = classify_defects(as_described(described, noise_like(100, 2)), np.array([0, np.pi]))
    np.testing.assert_array_equal(groups.kind, [0, 1, 0, 1])


def test_no_defect_and_one_defect_have_their_groups():
    none = classify_defects(as_described(noise_like(0, 0), noise_like(50, 1)), np.zeros(1))
    assert none.n_kinds == 0
    assert none.rotation.shape == none.kind.shape == none.spread.shape == none.certainty.shape == (0,)
    one = classify_defects(as_described(kinds_of_defects()[:1], noise_like(50, 1)), SIXTH * np.arange(6))
    np.testing.assert_array_equal(one.kind, [0])
    np.testing.assert_array_equal(one.rotation, [0])
    assert np.isnan(one.spread).all()
    assert np.isnan(one.certainty).all()


def test_defects_are_sorted_where_no_pristine_place_is_left():
    unknown = classify_defects(as_described(kinds_of_defects(), noise_like(0, 1)), SIXTH * np.arange(6))
    assert unknown.n_kinds == 2


@pytest.fixture(scope="module")
def honeycomb():
    a, b = np.array([0.0, 2.46]), np.array([-2.1304, -1.23])
    i, j = np.meshgrid(np.arange(-8, 9), np.arange(-8, 9), indexing="ij")
    cells = np.stack([i.ravel(), j.ravel()], axis=-1) @ np.stack([a, b])
    shifts = [(a + 2 * b) / 3, (2 * a + b) / 3, 0 * a]
    return Sites(
        np.concatenate([cells + s for s in shifts]),
        ("atom",) * (2 * len(cells)) + ("hollow",) * len(cells),
        np.repeat(np.arange(3), len(cells)),
    )


def nearest(sites, at, n=1):
    """The atoms nearest to a position."""
    away = np.where(sites.is_atom, np.linalg.norm(sites.positions - at, axis=1), np.inf)
    return np.argsort(away)[:n]


def centres_of_sites(sites, strengths):
    chosen, strength = np.zeros(len(sites), bool), np.full(len(sites), 0.1)
    for i, value in strengths.items():
        chosen[i], strength[i] = True, value
    return defect_centres(sites, chosen, strength, 2.2)


def test_neighbours_are_joined_to_the_strongest(honeycomb):
    middle = nearest(honeycomb, [0.0, 0.0])[0]
    around = nearest(honeycomb, honeycomb.positions[middle], 4)[1:]
    far = nearest(honeycomb, [7.0, 7.0])[0]
    owner, centres = centres_of_sites(honeycomb, {middle: 50.0, **dict.fromkeys(around, 9.0), far: 80.0})
    np.testing.assert_array_equal(owner[[far, middle, *around]], [0, 1, 1, 1, 1])
    assert (owner >= 0).sum() == 5
    np.testing.assert_allclose(centres, honeycomb.positions[[far, middle]], atol=1e-12)


def test_a_centre_between_two_atoms_is_the_middle_of_their_bond(honeycomb):
    middle = nearest(honeycomb, [0.0, 0.0])[0]
    other = nearest(honeycomb, honeycomb.positions[middle], 2)[1]
    _, centres = centres_of_sites(honeycomb, {middle: 50.0, other: 42.0})
    np.testing.assert_allclose(centres, honeycomb.positions[[middle, other]].mean(axis=0)[None], atol=1e-12)


def test_nothing_detected_has_no_centres(honeycomb):
    owner, centres = centres_of_sites(honeycomb, {})
    assert centres.shape == (0, 2)
    assert np.all(owner == -1)
