"""Features: a turn is a phase, counting noise is white and found, nothing that was kept is lost."""

from dataclasses import replace

import numpy as np
import pytest

from stemvane import Dataset4D, measure, synthetic
from stemvane.config import BasisConfig, MeasureConfig
from stemvane.errors import DataError, ModelError
from stemvane.features.harmonics import HarmonicBasis, rotate_features


def changed(dataset, change):
    """The same scan with its patterns changed in Cartesian pixels, before anything is measured."""
    patterns = np.asarray(dataset.data.compute(), np.float32)
    return Dataset4D.from_array(np.ascontiguousarray(change(patterns)), calibration=dataset.calibration, name="changed")


def quarter_rotated(dataset, n):
    return changed(dataset, lambda patterns: np.rot90(patterns, n, axes=(2, 3)))


@pytest.fixture(scope="module")
def dataset():
    return synthetic((16, 16), (32, 32), seed=1)[0]


@pytest.fixture(scope="module")
def measurements(dataset):
    return measure(dataset)


@pytest.fixture(scope="module")
def basis(measurements):
    return HarmonicBasis.fit(measurements)


@pytest.fixture(scope="module")
def counted():
    return synthetic((16, 16), (32, 32), dose=2e3, seed=3)[0]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_rotated_pattern_has_features_times_a_phase(dataset, measurements, n):
    # a background that is the same after a quarter turn is what stays fixed; the residual is what turns
    every = measure(
        changed(dataset, lambda p: np.concatenate([np.rot90(p, k, axes=(2, 3)) for k in range(4)]).astype(np.float32))
    )
    basis = HarmonicBasis.fit(every)
    features = basis.features(measurements)
    expected = features * np.exp(-1j * basis.orders * n * np.pi / 2)
    result = basis.features(measure(quarter_rotated(dataset, n)))
    np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(features).max())
    np.testing.assert_allclose(
        rotate_features(features, basis.orders, np.full(len(features), n * np.pi / 2)),
        expected,
        atol=1e-5 * np.abs(features).max(),
    )


def test_features_survive_the_way_through_polar_patterns(measurements, basis):
    features = basis.features(measurements)
    polar = basis.polar(features)
    again = basis.features(replace(measurements, polar=polar.reshape(measurements.polar.shape).astype(np.float32)))
    np.testing.assert_allclose(again, features, atol=1e-5 * np.abs(features).max())


def test_any_features_survive_not_only_those_of_patterns(measurements, basis):
    rng = np.random.default_rng(0)
    shape = (measurements.n_patterns, basis.n_features)
    features = rng.normal(size=shape) + 1j * rng.normal(size=shape) * (basis.orders > 0)
    # small against the pattern, so that float32 samples hold them
    polar = basis.polar(features).reshape(measurements.polar.shape)
    again = basis.features(replace(measurements, polar=polar.astype(np.float32)))
    np.testing.assert_allclose(again, features, atol=2e-4)


def test_squared_length_is_kept_by_rotating_and_background_can_be_left_out(measurements, basis):
    features = basis.features(measurements)
    assert basis.n_coordinates == 2 * basis.n_features - np.count_nonzero(basis.orders == 0)
    # an order 0 has no phase: its features are real
    assert np.abs(features[:, basis.orders == 0].imag).max() < 1e-6 * np.abs(features).max()
    with_background = basis.polar(features) - basis.polar(features, background=False)
    np.testing.assert_allclose(with_background, with_background[:1].repeat(len(features), 0), atol=1e-12)
    np.testing.assert_allclose(with_background[0], measurements.polar_patterns().mean(0, dtype=float), atol=1e-4)


def test_discarded_is_the_variance_that_is_missing(counted):
    measurements = measure(counted)
    few, all_of_them = (HarmonicBasis.fit(measurements, BasisConfig(n_features=n)) for n in (20, 10_000))
    assert few.n_features == 20
    assert all_of_them.discarded == 0.0
    retained, whole = (
        np.sum(np.abs(b.features(measurements) / b.scale) ** 2) / measurements.n_patterns for b in (few, all_of_them)
    )
    assert few.discarded == pytest.approx(1 - retained / whole, abs=1e-4)
    assert 0.1 < few.discarded < 0.9


@pytest.mark.parametrize("dose", [200, 2e3, 2e4])
def test_noise_of_counted_electrons_is_one(dose):
    dataset = synthetic((16, 16), (32, 32), dose=dose, seed=3)[0]
    assert HarmonicBasis.fit(measure(dataset)).noise == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("gain", [0.25, 4.0, 100.0])
def test_noise_tells_the_gain(counted, gain):
    measurements = measure(changed(counted, lambda patterns: gain * patterns))
    assert HarmonicBasis.fit(measurements).noise == pytest.approx(np.sqrt(gain), rel=0.05)


def test_counting_noise_is_white():
    """Noise of constant expected patterns: every coordinate of order m has variance scale² / 1."""
    expected = synthetic((1, 1), (32, 32), angle=0.0)[0].data.compute()[0, 0] * 5e3 + 20
    patterns = np.random.default_rng(0).poisson(expected, (32, 32, 32, 32)).astype(np.float32)
    calibration = synthetic((1, 1), (32, 32))[0].calibration
    measurements = measure(Dataset4D.from_array(patterns, calibration=calibration))
    basis = HarmonicBasis.fit(measurements, BasisConfig(n_features=10_000, variance_floor=1e-3))
    features = basis.features(measurements) / basis.scale
    for order in (1, 3, 6):
        at = basis.orders == order
        assert np.mean(features[:, at].real ** 2) == pytest.approx(1.0, abs=0.15)
        assert np.mean(features[:, at].imag ** 2) == pytest.approx(1.0, abs=0.15)


def test_noiseless_data_have_no_noise(basis):
    assert basis.noise < 1e-3
    assert basis.discarded < 1e-6


def test_orders_can_be_withheld(measurements):
    basis = HarmonicBasis.fit(measurements, BasisConfig(drop_orders=(1, 4)))
    assert not np.isin(basis.orders, (1, 4)).any()
    assert np.isin((0, 2, 3), basis.orders).all()
    dipole = np.fft.rfft(basis.polar(basis.features(measurements), background=False), axis=-1)[..., 1]
    assert np.abs(dipole).max() < 1e-12


def test_intensities_of_another_data_set_are_scaled(dataset, measurements, basis):
    brighter = measure(changed(dataset, lambda patterns: 7 * patterns))
    features = basis.features(measurements)
    np.testing.assert_allclose(basis.features(brighter), features, atol=1e-5 * np.abs(features).max())


def test_mask_picks_patterns(measurements, basis):
    mask = np.zeros((16, 16), bool)
    mask[3, 4:9] = True
    np.testing.assert_allclose(
        basis.features(measurements, mask),
        basis.features(measurements).reshape(16, 16, -1)[mask],
        atol=1e-6,
    )
    fitted = HarmonicBasis.fit(measurements, mask=mask)
    assert fitted.mean_total == pytest.approx(measurements.maps["total"][mask].mean())


def test_positions_without_a_pattern_are_left_out(dataset, measurements, basis):
    """An aborted scan has the basis and the features of the rows that were recorded."""
    missing = np.zeros((16, 16), bool)
    missing[11:] = True
    aborted = measure(replace(changed(dataset, lambda patterns: patterns * ~missing[..., None, None]), missing=missing))
    fitted, expected = HarmonicBasis.fit(aborted), HarmonicBasis.fit(measurements, mask=~missing)
    np.testing.assert_allclose(fitted.background, expected.background, rtol=1e-6)
    assert fitted.mean_total == pytest.approx(expected.mean_total)
    everywhere = np.ones((16, 16), bool)
    for mask in (None, everywhere):
        features = basis.features(aborted, mask)
        np.testing.assert_allclose(features, basis.features(measurements, ~missing), atol=1e-6)


@pytest.mark.parametrize("other", [{"n_radial": 7}, {"n_azimuthal": 64}])
def test_another_polar_grid_is_refused(dataset, basis, other):
    with pytest.raises(ModelError, match=r"rings of .* samples.*same n_radial and n_azimuthal") as caught:
        basis.features(measure(dataset, config=MeasureConfig(**other)))
    assert "\n" not in str(caught.value)


def test_constant_data_are_refused(dataset):
    constant = measure(changed(dataset, lambda patterns: np.broadcast_to(patterns[:1, :1], patterns.shape)))
    with pytest.raises(DataError, match="all patterns are the same"):
        HarmonicBasis.fit(constant)


def test_too_few_patterns_are_refused(measurements):
    mask = np.zeros((16, 16), bool)
    mask[0, 0] = True
    with pytest.raises(DataError, match="1 pattern: too few to learn from"):
        HarmonicBasis.fit(measurements, mask=mask)
