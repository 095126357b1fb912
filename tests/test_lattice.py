import threading

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from stemvane.data.scan_geometry import probe_positions
from stemvane.defects.domains import find_domains
from stemvane.defects.lattice import Distortion, Lattice, find_lattice, reduce_vectors
from stemvane.defects.periodic_fit import PeriodicSeries, fit_periodic
from stemvane.defects.sampling import Sampling
from stemvane.defects.sites import find_sites
from stemvane.errors import DataError

HIGHEST = 1.1  # 1/Å
GRAPHENE = (2.46, 2.46, 120)
CELLS = {"hexagonal": GRAPHENE, "square": (2.9, 2.9, 90), "rectangular": (2.2, 3.4, 90), "oblique": (2.5, 3.1, 103)}


def cell(first, second, between, rotation=0.0):
    """Lattice vectors ``(y, x)`` in rows, the second counter-clockwise from the first on the screen."""
    at = np.deg2rad([rotation, rotation + between])
    return np.array([[first], [second]]) * np.stack([-np.sin(at), np.cos(at)], axis=-1)


def undistorted(vectors, shape=(64, 64), step=(0.25, 0.25), **more):
    half = (np.array(shape) - 1) * step / 2
    return Lattice(vectors, Distortion(half, half, **more))


def made_up(lattice, n_channels=16, seed=0):
    """A series with all orders up to `HIGHEST`, weaker the finer they are; all channels together are about 1."""
    rng = np.random.default_rng(seed)
    orders = lattice.orders(HIGHEST)
    strength = np.exp(-((np.linalg.norm(orders @ lattice.reciprocal, axis=1) / 0.6) ** 2))
    coefficients = rng.normal(size=(1 + 2 * len(orders), n_channels))
    coefficients[1:] *= np.tile(strength, 2)[:, None]
    return PeriodicSeries(lattice, orders, coefficients)


def recorded_maps(series, shape, step, noise=1.0, seed=1):
    clean = series.at(probe_positions(shape, step)).reshape(*shape, -1)
    return clean + noise * np.random.default_rng(seed).normal(size=clean.shape)


def off_by(actual, expected):
    """Largest relative error of vectors that must be whole combinations, with determinant ±1, of the wanted ones."""
    whole = np.round(actual @ np.linalg.inv(expected))
    assert abs(round(np.linalg.det(whole))) == 1
    return (np.linalg.norm(actual - whole @ expected, axis=1) / np.linalg.norm(actual, axis=1)).max()


@pytest.mark.parametrize("rotation", [0.0, 13.0, 77.0, 201.0])
@pytest.mark.parametrize("name", CELLS)
def test_a_lattice_at_any_orientation_is_found_in_noise(name, rotation):
    vectors = cell(*CELLS[name], rotation)
    shape, step = (60, 60), (0.25, 0.25)
    maps = recorded_maps(made_up(undistorted(vectors)), shape, step)
    lattice = find_lattice(maps, Sampling(np.ones(shape, bool), step, HIGHEST))
    assert off_by(lattice.vectors, vectors) < 0.005
    assert lattice.stands_out > 10
    assert lattice.distortion.degree == 1
    np.testing.assert_allclose(lattice.distortion.centre, (7.375, 7.375))


@pytest.mark.parametrize(("shape", "step"), [((48, 90), (0.35, 0.2)), ((110, 40), (0.15, 0.4))])
def test_a_lattice_is_found_where_steps_and_sides_differ(shape, step):
    vectors = cell(*CELLS["oblique"], 40)
    maps = recorded_maps(made_up(undistorted(vectors)), shape, step)
    assert off_by(find_lattice(maps, Sampling(np.ones(shape, bool), step, HIGHEST)).vectors, vectors) < 0.005


def test_gaps_do_not_hide_a_lattice_whatever_stands_in_them():
    vectors, shape, step = cell(*GRAPHENE, 21), (64, 64), (0.25, 0.25)
    maps = recorded_maps(made_up(undistorted(vectors)), shape, step) + 40.0
    recorded = np.random.default_rng(0).random(shape) > 0.15
    recorded[20:31, 35:60] = False
    maps[~recorded] = np.nan
    assert off_by(find_lattice(maps, Sampling(recorded, step, HIGHEST)).vectors, vectors) < 0.005


def test_a_coarse_cell_with_weak_orders_of_its_own_is_not_missed():
    coarse, shape, step = cell(5.0, 5.0, 90, 10), (80, 80), (0.25, 0.25)
    series = made_up(undistorted(coarse))
    fine = np.all(series.orders % 2 == 0, axis=1)
    series.coefficients[1:][np.tile(fine, 2)] *= 2
    maps = recorded_maps(series, shape, step)
    assert off_by(find_lattice(maps, Sampling(np.ones(shape, bool), step, HIGHEST)).vectors, coarse) < 0.005


def domains_of(maps, step):
    return find_domains(maps, Sampling(np.isfinite(maps).all(axis=-1), step, HIGHEST), 3)


@pytest.mark.parametrize("angle", [10.0, 17.0, 30.0])
@pytest.mark.parametrize("is_grain", [(slice(None), slice(40)), (slice(45), slice(45))], ids=["half", "quarter"])
def test_grains_are_domains_of_their_own(angle, is_grain):
    shape, step = (80, 80), (0.25, 0.25)
    maps, grain = (
        recorded_maps(made_up(undistorted(cell(*GRAPHENE, 3 + more), shape, step)), shape, step)
        for more in (0.0, angle)
    )
    maps[is_grain] = grain[is_grain]
    label = np.zeros(shape, int)
    label[is_grain] = 1
    domains = domains_of(maps, step)
    assert len(domains) == 2
    for domain in domains:
        number = int(label[domain.region].mean() > 0.5)
        assert off_by(domain.lattice.vectors, cell(*GRAPHENE, 3 + angle * number)) < 0.02
        # all of it but a seam, and hardly anything of the other one
        inside = ndimage.distance_transform_edt(label == number, sampling=step) > 2.0
        outside = ndimage.distance_transform_edt(label != number, sampling=step) > 1.2
        assert domain.region[inside].all()
        assert not domain.region[outside].any()


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("shape", "step"), [((60, 60), (0.25, 0.25)), ((110, 40), (0.15, 0.4))])
def test_one_lattice_is_one_domain(name, shape, step):
    series = made_up(undistorted(cell(*CELLS[name], 13.0), shape, step))
    (domain,) = domains_of(recorded_maps(series, shape, step, noise=2.0), step)
    assert domain.region.all()
    assert off_by(domain.lattice.vectors, cell(*CELLS[name], 13.0)) < 0.01


def test_a_distorted_lattice_with_a_defect_is_one_domain_and_holds_the_defect(drifting):
    (domain,) = domains_of(drifting[1], STEP)
    assert domain.region.mean() > 0.99
    assert domain.region[drifting[3]].all()


def test_a_defect_beside_the_edge_of_a_scan_belongs_to_the_lattice():
    shape, step = (60, 60), (0.25, 0.25)
    maps = recorded_maps(made_up(undistorted(cell(*GRAPHENE, 9), shape, step)), shape, step)
    away = np.linalg.norm(probe_positions(shape, step) - (7.0, 1.5), axis=1).reshape(shape)
    maps[away < 2.4] += 2.0
    (domain,) = domains_of(maps, step)
    assert domain.region.all()


@pytest.mark.parametrize("kind", ["vacuum", "disorder", "noise of a detector"])
def test_half_a_field_without_a_lattice_is_left_out(kind):
    shape, step, rng = (80, 80), (0.25, 0.25), np.random.default_rng(2)
    maps = recorded_maps(made_up(undistorted(cell(*GRAPHENE, 9), shape, step)), shape, step)
    disorder = ndimage.gaussian_filter(rng.normal(size=maps.shape), (2, 2, 0))
    other = {"vacuum": 8.0, "disorder": 4 * disorder / disorder.std(), "noise of a detector": 0.0}[kind]
    maps[:, 40:] = (other + rng.normal(size=maps.shape))[:, 40:]
    (domain,) = domains_of(maps, step)
    assert domain.region[:, :30].all()
    assert not domain.region[:, 43:].any()


@pytest.mark.parametrize("seed", range(3))
def test_what_has_no_lattice_has_no_domain(seed):
    rng, shape, step = np.random.default_rng(seed), (60, 60), (0.25, 0.25)
    noise = rng.normal(size=(*shape, 16))
    # disorder as fine as the probe resolves, in four patterns that all channels share
    fine = ndimage.gaussian_filter(rng.normal(size=(*shape, 4)), (2, 2, 0)) @ rng.normal(size=(4, 16))
    for maps in (noise, 5 * fine / fine.std() + noise):
        assert domains_of(maps, step) == []


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_has_no_lattice(seed):
    noise = np.random.default_rng(seed).normal(size=(50, 50, 16))
    assert find_lattice(noise, Sampling(np.ones((50, 50), bool), (0.25, 0.25), HIGHEST)) is None


@pytest.mark.parametrize("seed", range(3))
def test_smooth_maps_have_no_lattice(seed):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(60, 60, 16)), (8, 8, 0))
    maps = 10 * smooth / smooth.std() + rng.normal(size=smooth.shape)
    assert find_lattice(maps, Sampling(np.ones((60, 60), bool), (0.25, 0.25), HIGHEST)) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_few_blobs_have_no_lattice(seed):
    rng = np.random.default_rng(seed)
    at = probe_positions((60, 60), (0.25, 0.25))
    centres = rng.uniform(2, 13, (7, 2))
    blobs = np.exp(-((at[:, None] - centres) ** 2).sum(-1) / (2 * 0.7**2)) @ rng.normal(size=(7, 16))
    maps = 10 * blobs.reshape(60, 60, 16) + rng.normal(size=(60, 60, 16))
    assert find_lattice(maps, Sampling(np.ones((60, 60), bool), (0.25, 0.25), HIGHEST)) is None


def test_plane_waves_along_one_direction_are_no_lattice():
    shape, step = (64, 64), (0.25, 0.25)
    series = made_up(undistorted(cell(*GRAPHENE, 9)))
    series.coefficients[1:][np.tile(series.orders[:, 1] != 0, 2)] = 0
    assert find_lattice(recorded_maps(series, shape, step), Sampling(np.ones(shape, bool), step, HIGHEST)) is None


def test_a_scan_of_two_cells_is_too_small_and_one_of_five_is_not():
    series, step = made_up(undistorted(cell(*GRAPHENE, 21))), (0.2, 0.2)
    for n, is_enough in ((24, False), (34, False), (62, True)):
        lattice = find_lattice(
            recorded_maps(series, (n, 80), step, 0.1), Sampling(np.ones((n, 80), bool), step, HIGHEST)
        )
        assert (lattice is not None) == is_enough


def lengths_by_trial(vectors):
    """Lengths of the shortest vector, and of the shortest that does not lie along it."""
    i, j = np.meshgrid(np.arange(-12, 13), np.arange(-12, 13))
    points = np.stack([i.ravel(), j.ravel()], axis=-1) @ vectors
    points = points[np.argsort(np.linalg.norm(points, axis=1))][1:]
    other = points[np.abs(points[:, 0] * points[0, 1] - points[:, 1] * points[0, 0]) > 1e-6]
    return np.linalg.norm([points[0], other[0]], axis=1)


def reduced_in_time(vectors):
    """What `reduce_vectors` returns, or a failure where it does not end."""
    results = []
    worker = threading.Thread(target=lambda: results.append(reduce_vectors(vectors)), daemon=True)
    worker.start()
    worker.join(5)
    assert results, f"no end for {vectors!r}"
    return results[0]


def test_rounding_does_not_keep_the_reduction_from_ending():
    # the two are of one length and at 120° to the last digit, where a round of the reduction changes nothing
    a, b = reduced_in_time(cell(*GRAPHENE, 70.0))
    np.testing.assert_allclose(np.linalg.norm([a, b, a + b], axis=1), 2.46)


@pytest.mark.parametrize("name", CELLS)
def test_reduced_vectors_are_the_shortest_and_counter_clockwise(name):
    rng = np.random.default_rng(4)
    for rotation in rng.uniform(0, 360, 12):
        vectors = cell(*CELLS[name], rotation)
        n, m = rng.integers(-3, 4, 2)
        mixed = np.array([[1, 0], [n, 1]]) @ np.array([[1, m], [0, 1]]) @ vectors * [[1], [rng.choice([-1, 1])]]
        a, b = reduced_in_time(mixed)
        assert off_by(np.stack([a, b]), vectors) < 1e-9
        np.testing.assert_allclose(np.sort(np.linalg.norm([a, b], axis=1)), lengths_by_trial(vectors), rtol=1e-9)
        # on the screen, where y grows upwards
        angle = np.rad2deg(np.arctan2(a[1] * -b[0] + a[0] * b[1], a @ b))
        assert 90 - 1e-6 <= angle <= 120 + 1e-6
        # of vectors as short the first is the one nearest to the right
        equal = np.isclose(np.linalg.norm(a), np.linalg.norm(b))
        assert abs(np.rad2deg(np.arctan2(-a[0], a[1]))) < (
            30.001 if name == "hexagonal" else 45.001 if equal else 90.001
        )


def test_fractional_coordinates_and_orders_belong_to_the_vectors():
    lattice = Lattice(cell(*GRAPHENE, 21), Distortion(np.full(2, 8.0), np.full(2, 8.0)), origin=np.array([0.3, -0.2]))
    points = np.array([[1.0, 2], [-3, 0.25]]) @ lattice.vectors + lattice.origin
    np.testing.assert_allclose(lattice.fractional(points), [[1, 2], [-3, 0.25]], atol=1e-12)
    np.testing.assert_allclose(lattice.reciprocal @ lattice.vectors.T, np.eye(2), atol=1e-12)
    assert lattice.cell_area == pytest.approx(2.46**2 * np.sqrt(3) / 2)
    # 6 orders at 0.469 /Å, 6 at 0.813, 6 at 0.939: half of each
    assert [len(lattice.orders(up_to)) for up_to in (0.46, 0.48, 0.82, 0.95)] == [0, 3, 6, 9]


@pytest.fixture
def curved():
    """Degree 3 about the middle of a scan of 24 Å, at most about 1 Å."""
    rng = np.random.default_rng(7)
    coefficients = rng.uniform(-0.45, 0.45, (len(Distortion.terms(3)), 2))
    return Lattice(
        cell(*GRAPHENE, 21),
        Distortion(np.full(2, 12.0), np.full(2, 12.0), 3, coefficients),
        origin=np.array([0.4, 0.9]),
    )


def test_distorted_undoes_straight(curved):
    points = np.random.default_rng(0).uniform(0, 24, (200, 2))
    moved = curved.straight(points)
    assert 0.5 < np.abs(moved - points).max() < 2
    np.testing.assert_allclose(curved.distort(moved), points, atol=1e-6)


def test_a_distortion_has_no_constant_and_no_linear_part(curved):
    y, x = np.meshgrid(*[np.polynomial.legendre.leggauss(6)[0]] * 2, indexing="ij")
    weight = np.outer(*[np.polynomial.legendre.leggauss(6)[1]] * 2).ravel()
    at = np.stack([y.ravel(), x.ravel()], axis=-1)
    moved = curved.distortion.at(12 + 12 * at)
    np.testing.assert_allclose(np.column_stack([np.ones(len(at)), at]).T @ (weight[:, None] * moved), 0, atol=1e-12)
    assert Distortion.terms(3, least=1)[:5] == [(0, 1), (1, 0), (0, 2), (1, 1), (2, 0)]


def same_points_within(lattice, shift, low, high):
    """`points_within` against a search of a larger area."""
    points = lattice.points_within(low, high, shift)
    i, j = np.meshgrid(np.arange(-60, 61), np.arange(-60, 61))
    wide = np.stack([i.ravel(), j.ravel()], axis=-1) @ lattice.vectors + lattice.origin + shift
    wide = lattice.distort(wide[np.all((wide > low - 4) & (wide < high + 4), axis=1)])
    expected = wide[np.all((wide >= low) & (wide <= high), axis=1)]
    assert len(expected) > 55
    assert len(points) == len(expected)
    assert cKDTree(expected).query(points)[0].max() < 1e-6


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.9, -1.6), (5.1, -7.3)])
@pytest.mark.parametrize("distorted", [False, True])
def test_points_within_are_exactly_those_inside(curved, distorted, shift):
    straight = Lattice(curved.vectors, Distortion(np.full(2, 12.0), np.full(2, 12.0)), origin=curved.origin)
    same_points_within(curved if distorted else straight, np.array(shift), np.array([1.0, 3.0]), np.array([19.0, 22.5]))


def test_points_within_are_complete_where_the_distortion_is_larger_than_the_cell(curved):
    # 3 Å to the right and down at the left and right rims, which are 74 Å apart
    bent = Distortion(np.full(2, 40.0), np.full(2, 40.0), 2, np.array([[3.5, 3.5], [0, 0], [0, 0]]))
    same_points_within(Lattice(curved.vectors, bent), np.zeros(2), np.full(2, 3.0), np.full(2, 77.0))


SHAPE, STEP = (96, 100), (0.3, 0.28)


def quadratic(points):
    """At most 1 Å along y and 0.6 Å along x, with no linear part about the middle of the scan."""
    half = (np.array(SHAPE) - 1) * STEP / 2
    y, x = ((points - half) / half).T
    return np.stack([0.7 * x**2 - 0.3 * x * y, 0.6 * y**2], axis=-1)


@pytest.fixture(scope="module")
def drifting():
    """Graphene-like maps with noise under `quadratic`, with a disc of something else; and the same without noise."""
    half = (np.array(SHAPE) - 1) * STEP / 2
    lattice = undistorted(cell(*GRAPHENE, 21), SHAPE, STEP)
    at = probe_positions(SHAPE, STEP)
    clean = made_up(lattice, 6, seed=3).at(at - quadratic(at)).reshape(*SHAPE, 6)
    noisy = clean + np.random.default_rng(5).normal(size=clean.shape)
    disc = (np.linalg.norm(at - [9.0, 20.0], axis=1) < 1.2).reshape(SHAPE)
    noisy[disc] += 2.5
    start = find_lattice(noisy, Sampling(np.ones(SHAPE, bool), STEP, HIGHEST))
    fit = fit_periodic(start, noisy, Sampling(np.ones(SHAPE, bool), STEP, HIGHEST))
    return fit, noisy, clean, disc, at, half


def test_a_known_distortion_is_found_up_to_its_affine_part(drifting):
    fit, *_, at, half = drifting
    lattice = fit.series.lattice
    assert lattice.distortion.degree == 3
    assert off_by(lattice.vectors, cell(*GRAPHENE, 21)) < 0.002
    missed = lattice.distortion.at(at) - quadratic(at)
    affine = np.column_stack([np.ones(len(at)), at - half])
    missed -= affine @ np.linalg.lstsq(affine, missed, rcond=None)[0]
    # in the corners a polynomial of degree 3 is known four times worse than elsewhere
    assert np.quantile(np.linalg.norm(missed, axis=1), 0.98) < 0.02
    assert np.linalg.norm(missed, axis=1).max() < 0.05
    assert np.linalg.norm(quadratic(at), axis=1).max() > 1


def test_what_does_not_follow_the_lattice_is_left_out(drifting):
    fit, _, _, disc, at, _ = drifting
    away = (np.linalg.norm(at - [9.0, 20.0], axis=1) > 3).reshape(SHAPE)
    assert not fit.pristine[disc].any()
    assert fit.pristine[away].mean() > 0.97
    # and so it stays in the residual
    assert fit.residual[disc].mean() == pytest.approx(2.5, abs=0.15)


def test_values_of_the_series_are_those_of_the_maps(drifting):
    fit, noisy, clean, disc, at, _ = drifting
    series = fit.series.at(at).reshape(clean.shape)
    np.testing.assert_allclose(series + fit.residual, noisy, atol=1e-9)
    # 1 + 2 · 15 numbers and the distortion share the noise of 9600 positions
    assert np.sqrt(((series - clean)[~disc] ** 2).mean()) < 0.1
    assert clean[~disc].std() > 1
    varying = fit.series.variation(at).reshape(clean.shape)
    np.testing.assert_allclose(series - varying, np.broadcast_to(fit.series.coefficients[0], clean.shape), atol=1e-9)


def test_channels_that_judge_alone_find_the_distortion_and_the_others_follow(drifting):
    _, noisy, clean, _, at, _ = drifting
    both = np.concatenate([noisy, 1e4 * np.random.default_rng(0).normal(size=(*SHAPE, 2))], axis=-1)
    both[:9] = np.nan
    recorded = np.ones(SHAPE, bool)
    recorded[:9] = False
    start = undistorted(cell(*GRAPHENE, 21) * 1.01, SHAPE, STEP)
    fit = fit_periodic(start, np.nan_to_num(both), Sampling(recorded, STEP, HIGHEST), judged_by=slice(0, 6))
    assert not fit.residual[:9].any()
    assert not fit.pristine[:9].any()
    missed = (fit.series.at(at).reshape(*SHAPE, 8)[..., :6] - clean)[recorded]
    assert np.sqrt((missed**2).mean()) < 0.1


def test_a_scan_of_few_cells_has_no_distortion():
    shape, step = (40, 40), (0.25, 0.25)
    lattice = undistorted(cell(*GRAPHENE, 21), shape, step)
    fit = fit_periodic(
        lattice, recorded_maps(made_up(lattice), shape, step), Sampling(np.ones(shape, bool), step, HIGHEST)
    )
    assert fit.series.lattice.distortion.degree == 1
    assert not fit.series.lattice.distortion.coefficients.any()


def test_slopes_are_derivatives():
    series = made_up(undistorted(cell(*GRAPHENE, 21)), 2)
    at, d = np.random.default_rng(0).uniform(0, 15, (20, 2)), 1e-5
    slopes = series.slopes(at)
    for axis, by in enumerate(d * np.eye(2)):
        np.testing.assert_allclose(slopes[axis], (series.at(at + by) - series.at(at - by)) / (2 * d), atol=1e-6)


def brightness(lattice, orders, atoms, weights):
    """Cosines and sines of round atoms at fractional positions."""
    wave = orders @ lattice.reciprocal
    phase = 2 * np.pi * orders @ np.asarray(atoms).T
    fall = np.exp(-((np.linalg.norm(wave, axis=1) / 0.7) ** 2))[:, None] * weights
    return np.concatenate([(fall * np.cos(phase)).sum(1), (fall * np.sin(phase)).sum(1)])[:, None]


def sites_of(atoms, weights, vectors, margin=1.0, shape=(64, 72), step=(0.25, 0.2)):
    lattice = undistorted(vectors, shape, step)
    orders = lattice.orders(1.3)
    series = PeriodicSeries(lattice, orders, np.zeros((1 + 2 * len(orders), 1)))
    return find_sites(
        series, brightness(lattice, orders, atoms, weights), Sampling(np.ones(shape, bool), step, HIGHEST), margin
    )


def everywhere(lattice, fractional, edge):
    """All positions in the scan of 64 by 72 steps that lie at least `edge` from its rim."""
    i, j = np.meshgrid(np.arange(-30, 31), np.arange(-30, 31))
    points = (np.stack([i.ravel(), j.ravel()], axis=-1) + fractional) @ lattice.vectors
    return points[np.all((points >= edge) & (points <= np.array([63 * 0.25, 71 * 0.2]) - edge), axis=1)]


HOLLOW = np.array([0.21, 0.57])
ATOMS = HOLLOW + np.array([[1 / 3, 2 / 3], [2 / 3, 1 / 3]])


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.6, 1.0)])
def test_graphene_has_two_atoms_and_one_hollow_in_a_cell(weights):
    lattice, sites = sites_of(ATOMS, weights, cell(*GRAPHENE, 21))
    assert sorted(set(zip(sites.kinds, sites.sublattices.tolist(), strict=True))) == [
        ("atom", 0),
        ("atom", 1),
        ("hollow", 2),
    ]
    assert len(sites) == len(sites.positions) == len(sites.sublattices)
    for expected, is_kind, near in ((ATOMS, sites.is_atom, 0.02), (HOLLOW[None], ~sites.is_atom, 0.04)):
        positions = sites.positions[is_kind]
        true, surely, at_most = (
            np.concatenate([everywhere(lattice, f, edge) for f in expected]) for edge in (0.5, 1 + near, 1 - near)
        )
        assert cKDTree(true).query(positions)[0].max() < near
        assert cKDTree(positions).query(surely)[0].max() < near
        assert len(surely) <= len(positions) <= len(at_most)
    # the origin is a hollow
    apart = np.linalg.norm(everywhere(lattice, HOLLOW, -5) - lattice.origin, axis=1)
    assert apart.min() < 0.04
    if weights[0] != weights[1]:
        brightest = sites.positions[sites.sublattices == 0]
        assert cKDTree(everywhere(lattice, ATOMS[1], 0.5)).query(brightest)[0].max() < 0.02


def test_a_square_lattice_has_one_atom_and_one_hollow_in_a_cell():
    lattice, sites = sites_of([[0.3, 0.1]], [1.0], cell(2.9, 2.9, 90, 10), margin=0.0)
    assert cKDTree(everywhere(lattice, [0.3, 0.1], -0.5)).query(sites.positions[sites.is_atom])[0].max() < 0.01
    assert cKDTree(everywhere(lattice, [0.8, 0.6], -0.5)).query(sites.positions[~sites.is_atom])[0].max() < 0.04
    assert set(sites.sublattices) == {0, 1}
    assert sites.is_atom.sum() == pytest.approx(15.75 * 14.2 / 2.9**2, abs=5)


def test_a_faint_peak_is_no_atom():
    _, sites = sites_of(ATOMS, (1.0, 0.15), cell(*GRAPHENE, 21))
    assert set(sites.sublattices[sites.is_atom]) == {0}


def test_a_cell_without_peaks_has_no_sites():
    with pytest.raises(DataError, match="no peaks"):
        sites_of(ATOMS, (0.0, 0.0), cell(*GRAPHENE, 21))
