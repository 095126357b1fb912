"""Polar sampling against exact areas, and turning against turned pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stemvane.errors import CalibrationError
from stemvane.geometry.polar import PolarGrid, harmonics_of, polar_from, rotate
from stemvane.reduction.virtual_detectors import VirtualDetector

few = settings(max_examples=25, deadline=None)
reals = st.floats(-1e3, 1e3, allow_subnormal=False)


def sample(grid, patterns, weights=None):
    """Polar patterns ``(..., n_radial, n_azimuthal)`` in plain NumPy, as `SampleWeights` defines them."""
    weights = weights or grid.weights(patterns.shape[-2:])
    flat = np.asarray(patterns, float).reshape(-1, patterns.shape[-2] * patterns.shape[-1])
    pixel = np.repeat(np.arange(flat.shape[1]), np.diff(weights.indptr))
    dense = np.zeros((flat.shape[1], grid.n_radial * grid.n_azimuthal))
    np.add.at(dense, (pixel, weights.sample), weights.weight)
    return (flat @ dense).reshape(*patterns.shape[:-2], grid.n_radial, grid.n_azimuthal)


def sector_areas(grid):
    """Areas of the samples in pixels, (r2² - r1²) Δφ / 2 / aspect."""
    edges = np.arange(grid.n_radial + 1) * grid.ring_width
    ring = np.diff(edges**2) * np.pi / grid.n_azimuthal / grid.aspect
    return np.broadcast_to(ring[:, None], (grid.n_radial, grid.n_azimuthal))


def blobs(shape, axis, seed=0, aspect=1.0, width=4.0):
    """A smooth pattern without symmetry, well within the detector."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape, dtype=float)
    pattern = np.zeros(shape)
    for _ in range(4):
        cy, cx = axis + rng.uniform(-6, 6, 2)
        pattern += rng.uniform(1, 3) * np.exp(-(((y - cy) * aspect) ** 2 + (x - cx) ** 2) / (2 * width**2))
    return pattern


@few
@given(
    y=st.floats(13.0, 18.0),
    x=st.floats(13.0, 18.0),
    aspect=st.floats(0.6, 1.7),
    n_radial=st.integers(1, 12),
    n_azimuthal=st.integers(4, 40),
)
def test_sample_areas_are_those_of_ring_sectors(y, x, aspect, n_radial, n_azimuthal):
    reach = min((y + 0.5) * aspect, (31.5 - y) * aspect, x + 0.5, 31.5 - x)
    grid = PolarGrid(axis=(y, x), outer=reach, n_radial=n_radial, n_azimuthal=n_azimuthal, aspect=aspect)
    weights = grid.weights((32, 32))
    np.testing.assert_allclose(weights.area, sector_areas(grid), rtol=1e-6, atol=1e-7)
    # and no pixel gives away more than its own area
    share = weights.weight * weights.area.ravel()[weights.sample]
    pixel = np.repeat(np.arange(32 * 32), np.diff(weights.indptr))
    assert np.bincount(pixel, weights=share).max() <= 1 + 1e-5
    assert share.min() > 0


def test_samples_beyond_the_edge_hold_only_what_was_recorded():
    grid = PolarGrid(axis=(3.0, 15.5), outer=12.0, n_radial=6, n_azimuthal=16)
    area = grid.weights((32, 32)).area
    assert (area <= sector_areas(grid) + 1e-7).all()
    assert area[-1, 4] == 0  # straight up, 12 pixels above row 3
    np.testing.assert_allclose(area[:, 12], sector_areas(grid)[:, 12], rtol=1e-6)
    np.testing.assert_array_equal(sample(grid, np.ones((32, 32)))[area == 0], 0)


@pytest.mark.parametrize("axis", [(15.5, 15.5), (14.2, 16.7), (15.0, 15.0)])
@pytest.mark.parametrize("aspect", [1.0, 0.8, 1.25])
def test_a_constant_pattern_has_constant_samples(axis, aspect):
    grid = PolarGrid(axis=axis, outer=10.0, n_radial=9, n_azimuthal=24, aspect=aspect)
    np.testing.assert_allclose(sample(grid, np.full((32, 32), 7.0)), 7.0, rtol=2e-6)


def test_masked_pixels_do_not_count():
    grid = PolarGrid(axis=(15.5, 15.5), outer=14.0, n_radial=7, n_azimuthal=8)
    mask = np.random.default_rng(0).random((32, 32)) > 0.1
    pattern = np.where(mask, 3.0, 1e6)
    weights = grid.weights((32, 32), mask)
    np.testing.assert_allclose(sample(grid, pattern, weights)[weights.area > 0], 3.0, rtol=2e-6)
    assert weights.area.sum() < sector_areas(grid).sum()


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("size", [32, 33])
def test_rotated_pixels_are_shifted_samples(quarters, size):
    centre = (size - 1) / 2
    grid = PolarGrid(axis=(centre, centre), outer=15.0, n_radial=15, n_azimuthal=64)
    pattern = np.random.default_rng(0).random((size, size))
    before = sample(grid, pattern)
    after = sample(grid, np.rot90(pattern, quarters))
    np.testing.assert_allclose(after, np.roll(before, 16 * quarters, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(
        harmonics_of(after), rotate(harmonics_of(before), quarters * np.pi / 2), atol=1e-6, rtol=1e-5
    )


@few
@given(hnp.arrays(float, (3, 5, 16), elements=reals), st.integers(-16, 16))
def test_rotating_by_whole_sectors_is_a_shift(polar, n):
    harmonics = harmonics_of(polar)
    expected = harmonics_of(np.roll(polar, n, axis=-1))
    np.testing.assert_allclose(rotate(harmonics, 2 * np.pi * n / 16), expected, atol=1e-9)
    angles = np.full(3, 2 * np.pi * n / 16)
    np.testing.assert_allclose(rotate(harmonics, angles), expected, atol=1e-9)


@few
@given(hnp.arrays(float, (2, 3, 15), elements=reals))
def test_harmonics_and_back_odd(polar):
    np.testing.assert_allclose(polar_from(harmonics_of(polar), 15), polar, atol=1e-9)


@few
@given(hnp.arrays(float, (2, 3, 16), elements=reals), st.floats(-7, 7), st.floats(-7, 7))
def test_harmonics_and_back_even(polar, one, other):
    harmonics = harmonics_of(polar)
    assert harmonics.shape == (2, PolarGrid((0, 0), 1.0, 3, 16).n_orders, 3) == (2, 8, 3)
    # the Nyquist order is gone, and nothing else
    nyquist = (polar * (-1.0) ** np.arange(16)).mean(-1, keepdims=True) * (-1.0) ** np.arange(16)
    np.testing.assert_allclose(polar_from(harmonics, 16), polar - nyquist, atol=1e-9)
    np.testing.assert_allclose(harmonics_of(polar_from(harmonics, 16)), harmonics, atol=1e-9)
    np.testing.assert_allclose(rotate(rotate(harmonics, one), other), rotate(harmonics, one + other), atol=1e-9)
    np.testing.assert_allclose(harmonics[:, 0].real, polar.mean(-1), atol=1e-9)


def test_a_rotation_by_any_angle_follows_the_pixels():
    # blobs turned about the axis on the screen, counter-clockwise
    axis, angle = np.array([31.5, 31.5]), 0.6
    y, x = np.indices((64, 64), dtype=float)

    def drawn(rotation):
        pattern = np.zeros((64, 64))
        for radius, azimuth, height in ((9.0, 0.3, 1.0), (12.0, 2.0, 2.0), (6.0, 4.4, 0.7)):
            cy, cx = axis[0] - radius * np.sin(azimuth + rotation), axis[1] + radius * np.cos(azimuth + rotation)
            pattern += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 3.0**2))
        return pattern

    grid = PolarGrid.chosen((31.5, 31.5), 15.0, (64, 64))
    expected = harmonics_of(sample(grid, drawn(angle)))
    difference = rotate(harmonics_of(sample(grid, drawn(0.0))), angle) - expected
    # the square pixels do not turn with the pattern: they mix orders that differ by four, near the axis most
    weighted = np.sqrt(grid.radii)
    assert np.linalg.norm(difference * weighted) < 0.015 * np.linalg.norm(expected * weighted)


@pytest.mark.parametrize("aspect", [1.0, 1.25])
def test_to_cartesian(aspect):
    axis = (31.2, 30.7)
    pattern = blobs((64, 64), axis, aspect=aspect)
    grid = PolarGrid.chosen(axis, 15.0, (64, 64), aspect=aspect)
    back = grid.to_cartesian(sample(grid, np.stack([pattern, 2 * pattern])), (64, 64))
    inside = np.isfinite(back[0])
    assert np.abs(back[0] - pattern)[inside].max() < 0.03 * pattern.max()
    np.testing.assert_allclose(back[1][inside], 2 * back[0][inside])
    y, x = np.indices((64, 64))
    np.testing.assert_array_equal(inside, np.hypot((y - axis[0]) * aspect, x - axis[1]) <= grid.outer)
    assert (grid.to_cartesian(sample(grid, pattern), (64, 64), fill=0.0)[~inside] == 0).all()


@pytest.mark.parametrize("aspect", [1.0, 1.3])
def test_noise_covariance_is_that_of_white_noise(aspect):
    grid = PolarGrid(axis=(15.3, 15.8), outer=14.5, n_radial=8, n_azimuthal=32, aspect=aspect)
    weights = grid.weights((32, 32))
    noise = np.random.default_rng(0).normal(0.0, 1.5, (6000, 32, 32))
    harmonics = harmonics_of(sample(grid, noise, weights))
    expected = grid.noise_covariance(weights, np.full(8, 1.5**2))
    assert expected.shape == (16, 8, 8)
    for order in range(6):
        covariance = (harmonics[:, order].T @ harmonics[:, order].conj()).real / len(noise)
        scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        assert np.abs(covariance - expected[order]).max() < 0.08 * scale.max()
        np.testing.assert_allclose(np.diag(covariance), np.diag(expected[order]), rtol=0.1)
        assert np.linalg.eigvalsh(expected[order]).min() > 0


def test_variance_by_ring_adds_up_to_the_covariance():
    random = np.random.default_rng(2)
    grid = PolarGrid((15.2, 16.1), 14.0, 6, 32)
    weights = grid.weights((32, 32))
    variance, orders = random.uniform(0.2, 3.0, 6), np.array([0, 0, 2, 5])
    analysis = random.normal(size=(4, 6)) + 1j * random.normal(size=(4, 6))
    covariance = grid.noise_covariance(weights, variance)[orders]
    expected = np.einsum("ki,kij,kj->k", analysis, covariance, analysis.conj()).real
    np.testing.assert_allclose(grid.variance_by_ring(weights, orders, analysis) @ variance, expected, rtol=1e-3)


def test_noise_covariance_follows_the_rings_variance():
    grid = PolarGrid(axis=(15.5, 15.5), outer=15.0, n_radial=5, n_azimuthal=32)
    weights = grid.weights((32, 32))
    y, x = np.indices((32, 32))
    ring = np.minimum((np.hypot(y - 15.5, x - 15.5) / grid.ring_width).astype(int), 4)
    variance = np.array([9.0, 7.0, 5.0, 3.0, 1.0])
    noise = np.random.default_rng(1).normal(0.0, 1.0, (6000, 32, 32)) * np.sqrt(variance[ring])
    harmonics = harmonics_of(sample(grid, noise, weights))
    for order in (0, 1, 2):
        power = (np.abs(harmonics[:, order]) ** 2).mean(0)
        np.testing.assert_allclose(power, np.diag(grid.noise_covariance(weights, variance)[order]), rtol=0.12)


def test_white_noise_of_order_zero_is_the_variance_over_the_ring():
    # far out a ring's mean is a mean of that many pixels
    grid = PolarGrid(axis=(31.5, 31.5), outer=30.0, n_radial=3, n_azimuthal=64)
    weights = grid.weights((64, 64))
    covariance = grid.noise_covariance(weights, np.ones(3))
    np.testing.assert_allclose(np.diag(covariance[0]), 1 / weights.area.sum(1), rtol=0.05)


@pytest.mark.parametrize("aspect", [1.0, 1.4])
def test_annulus_areas(aspect):
    axis = (30.2, 32.9)
    ring = VirtualDetector.annulus("ring", (64, 64), axis, 7.3, 18.1, aspect)
    assert ring.weights.sum() == pytest.approx(np.pi * (18.1**2 - 7.3**2) / aspect, rel=1e-5)
    assert ring.weights.min() > -1e-6
    assert ring.weights.max() < 1 + 1e-6
    disc = VirtualDetector.disc("disc", (64, 64), axis, 7.3, aspect)
    assert disc.weights.sum() == pytest.approx(np.pi * 7.3**2 / aspect, rel=1e-5)
    y, x = np.indices((64, 64))
    radius = np.hypot((y - axis[0]) * aspect, x - axis[1])
    np.testing.assert_allclose(disc.weights[radius < 6], 1, rtol=1e-5)
    assert (disc.weights[radius > 9] == 0).all()
    whole = VirtualDetector.disc("whole", (64, 64), axis, 200.0, aspect)
    np.testing.assert_allclose(whole.weights, 1, rtol=1e-5)


def test_chosen_grids():
    grid = PolarGrid.chosen((31.0, 30.0), 15.0, (64, 64))
    assert (grid.outer, grid.n_azimuthal) == (30.5, 64)
    assert grid.ring_width == pytest.approx(1.0, abs=0.05)
    assert len(grid.radii) == grid.n_radial
    assert PolarGrid.chosen((31.0, 30.0), 15.0, (64, 64), outer=1.5).outer == 22.5
    assert PolarGrid.chosen((127.0, 127.0), 96.0, (256, 256)).n_azimuthal == 128
    np.testing.assert_allclose(np.diff(grid.azimuths), 2 * np.pi / 64)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PolarGrid.chosen((-5.0, 30.0), 15.0, (64, 64)),
        lambda: PolarGrid.chosen((np.nan, 30.0), 15.0, (64, 64)),
        lambda: PolarGrid((3.0, 3.0), -1.0, 3, 16),
        lambda: PolarGrid((3.0, np.inf), 1.0, 3, 16),
        lambda: PolarGrid((3.0, 3.0), 1.0, 0, 16),
        lambda: PolarGrid((3.0, 3.0), 1.0, 3, 16, aspect=0.0),
        lambda: VirtualDetector.annulus("ring", (8, 8), (3.5, 3.5), 3.0, 2.0),
    ],
)
def test_impossible_grids_are_refused_in_one_line(wrong):
    with pytest.raises(CalibrationError) as info:
        wrong()
    assert "\n" not in str(info.value)


def test_masked_pixels_are_bridged_along_their_ring():
    grid = PolarGrid(axis=(20.0, 20.0), outer=18.0, n_radial=18, n_azimuthal=48)
    rows, columns = np.indices((41, 41), dtype=float)
    # smooth along the azimuth, constant along the radius
    image = 10 + 3 * np.cos(np.arctan2(20.0 - rows, columns - 20.0) - 0.4)
    mask = np.ones((41, 41), bool)
    mask[18:22, 30:36] = False
    image = np.where(mask, image, 1e6)
    weights = grid.weights((41, 41), mask)
    assert (weights.area == 0).any()
    pixel = np.repeat(np.arange(41 * 41), np.diff(weights.indptr))
    polar = np.bincount(weights.sample, weights.weight * image.ravel()[pixel], 18 * 48).reshape(18, 48)
    wanted = 10 + 3 * np.cos(grid.azimuths - 0.4)
    np.testing.assert_allclose(polar[3:], np.broadcast_to(wanted, (15, 48)), rtol=0.03)
    # without a mask nothing changes
    whole, all_true = grid.weights((41, 41)), grid.weights((41, 41), np.ones((41, 41), bool))
    np.testing.assert_array_equal(whole.weight, all_true.weight)
