"""Features of noisy patterns from the whole scan, and the models that learn from them."""

import numpy as np
import pytest

from stemvane import RotationVAE, filter_com, measure, simulate, synthetic
from stemvane.config import BasisConfig, Config, TrainingConfig
from stemvane.features.feature_noise import FeatureNoise
from stemvane.features.feature_reader import FeatureReader
from stemvane.features.potential_filter import PotentialFilter

SCAN = (24, 20)


def smooth_field(rng, shape, n_features=2, cutoff=0.12):
    """Complex random fields of rms 1 without spatial frequencies above a cutoff."""
    y, x = (np.fft.fftfreq(n) for n in shape)
    inside = np.hypot(y[:, None], x) < cutoff
    white = rng.normal(size=(*shape, n_features)) + 1j * rng.normal(size=(*shape, n_features))
    field = np.fft.ifft2(np.fft.fft2(white, axes=(0, 1)) * inside[..., None], axes=(0, 1))
    return field / np.sqrt((np.abs(field) ** 2).mean(axis=(0, 1)))


def noisy(rng, field, variance):
    scatter = rng.normal(size=field.shape) + 1j * rng.normal(size=field.shape)
    return (field + scatter * np.sqrt(np.asarray(variance) / 2)).astype(np.complex64)


def with_filter(features, recorded, variance, step=None):
    """Filtered features of the recorded positions; each of the features has its own order and goes its own way."""
    orders, std = np.arange(1, features.shape[-1] + 1), np.sqrt(np.asarray(variance) / 2)
    scan_filter = PotentialFilter.fit(features, recorded, orders, std, step, None)
    result = np.empty_like(features)
    for tile in scan_filter.filter(lambda rows: features[rows], recorded):
        result[tile.rows, tile.columns] = np.moveaxis(tile.features(), 0, -1)
    return result[recorded]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_error_is_close_to_that_of_a_filter_that_knows_the_band(rng):
    field = smooth_field(rng, (64, 64), 3)
    noise = np.array([0.1, 1.0, 10.0])
    features, recorded = noisy(rng, field, noise), np.ones((64, 64), bool)
    estimate = with_filter(features, recorded, noise).reshape(field.shape)
    inside = (slice(8, -8), slice(8, -8))
    error = (np.abs(estimate - field)[inside] ** 2).mean(axis=(0, 1))
    share = np.pi * 0.12**2
    best = share * noise / (1 + share * noise)
    assert (error < 0.25 * noise).all()
    assert (error < 3 * best).all()
    assert (error > 0.6 * best).all()


def test_nothing_but_noise_is_shrunk_to_next_to_nothing(rng):
    noise, recorded = np.array([2.0, 2.0]), np.ones((64, 64), bool)
    features = noisy(rng, np.zeros((64, 64, 2)), noise)
    assert (np.abs(with_filter(features, recorded, noise)) ** 2).mean() < 0.02 * 2.0


def test_positions_that_were_not_recorded_count_nowhere(rng):
    recorded = rng.random(SCAN) > 0.2
    features = noisy(rng, smooth_field(rng, SCAN), 0.3)
    garbage = np.where(recorded[..., None], features, 1e6).astype(np.complex64)
    np.testing.assert_array_equal(*(with_filter(part, recorded, np.full(2, 0.3)) for part in (features, garbage)))


def test_tiles_of_a_large_scan_fit_together(rng):
    """A scan of more rows than a tile has is no worse where two tiles meet."""
    shape = (400, 16)
    field, recorded = smooth_field(rng, shape), np.ones(shape, bool)
    recorded[190:193, 4] = False
    features = noisy(rng, field, 1.0)
    filtered = np.zeros((*shape, 2), complex)
    filtered[recorded] = with_filter(features, recorded, np.ones(2))
    squares = np.where(recorded[..., None], np.abs(filtered - field) ** 2, np.nan)
    elsewhere = np.nanmean(squares[40:160])
    assert np.nanmean(squares[190:210]) < 2 * elsewhere
    assert elsewhere < 0.5


def test_steps_that_differ_are_counted_in_length(rng):
    """Twice as many rows, half as far apart, hold no higher spatial frequencies along them."""
    field, recorded = smooth_field(rng, (64, 32), cutoff=0.1), np.ones((64, 32), bool)
    features = noisy(rng, field, 1.0)
    error = [
        (np.abs(with_filter(features, recorded, np.ones(2), step) - field[recorded]) ** 2).mean()
        for step in ((1.0, 1.0), (1.0, 4.0))
    ]
    # counted as four times as wide, the field is no longer the same in all directions
    assert error[0] < error[1]


def test_a_vortex_keeps_its_winding(rng):
    y, x = np.mgrid[-15:16, -15:16] / 6.0
    vortex = ((x - 1j * y) * np.exp(-(x**2 + y**2) / 4))[..., None]
    recorded = np.ones(vortex.shape[:2], bool)
    angle = np.angle(with_filter(noisy(rng, vortex, 0.15), recorded, np.array([0.15])).reshape(31, 31))
    loop = [(15 + j, 15 + i) for j, i in [(-3, k) for k in range(-3, 3)] + [(k, 3) for k in range(-3, 3)]]
    loop += [(30 - j, 30 - i) for j, i in loop]
    turns = np.angle(np.exp(1j * np.diff([angle[p] for p in [*loop, loop[0]]]))).sum() / (2 * np.pi)
    assert round(turns) == -1


def test_errors_along_directions_are_those_of_features(rng):
    directions = (rng.normal(size=(2, 5)) + 1j * rng.normal(size=(2, 5))).astype(np.complex64)
    root = rng.normal(size=(4, 4))
    noise = FeatureNoise.along([directions], [root.T @ root], np.zeros(5), np.ones(3))
    along = rng.normal(size=(200_000, 4)) @ root
    errors = (along[:, :2] + 1j * along[:, 2:]) @ directions
    coordinates = np.concatenate([errors.real, errors.imag], axis=1)
    np.testing.assert_allclose(noise.factor.T @ noise.factor, np.cov(coordinates.T), atol=0.3)
    np.testing.assert_allclose(noise.std**2, (np.abs(errors) ** 2).mean(axis=0) / 2, rtol=0.02)
    both = FeatureNoise.joined([noise, FeatureNoise.independent(np.ones(5), 2)])
    np.testing.assert_allclose(both.factor.T @ both.factor, (noise.factor.T @ noise.factor + np.eye(10)) / 2, rtol=1e-4)
    assert len(both.scale) == 5


def angle_error(embedding, truth):
    difference = np.angle(np.exp(1j * (embedding.angle - truth.angle)))
    offset = np.angle(np.exp(1j * difference).mean())
    return float(np.median(np.abs(np.angle(np.exp(1j * (difference - offset))))))


@pytest.fixture(scope="module")
def counted():
    dataset, truth = synthetic((24, 24), (32, 32), dose=3000.0)
    return measure(dataset), truth


def model(measurements, **basis):
    return RotationVAE(2, basis=BasisConfig(**basis), training=TrainingConfig(n_epochs=8)).fit(measurements)


@pytest.fixture(scope="module")
def together(counted):
    """A model whose features are those of neighbouring patterns, too."""
    return model(counted[0])


def test_neighbours_make_the_angle_better(counted, together):
    measurements, truth = counted
    alone = model(measurements, neighbours=False)
    errors = [angle_error(m.embed(measurements), truth) for m in (alone, together)]
    assert errors[1] < 0.6 * errors[0]


def test_without_noise_every_pattern_stands_for_itself():
    measurements = measure(synthetic((12, 12), (32, 32))[0])
    alone, together = (model(measurements, neighbours=chosen).embed(measurements) for chosen in (False, True))
    np.testing.assert_array_equal(alone.angle, together.angle)
    np.testing.assert_array_equal(alone.latents, together.latents)


def test_saved_model_filters_alike(counted, together, tmp_path):
    measurements, _ = counted
    again = RotationVAE.load(together.save(tmp_path / "vane"))
    embedding, same = together.embed(measurements), again.embed(measurements)
    for name in ("angle", "angle_std", "latents", "latent_std"):
        np.testing.assert_array_equal(getattr(embedding, name), getattr(same, name))


def test_intervals_hold_the_noiseless_value_as_often_as_they_say():
    """Repeated counts of the same patterns, embedded by one model, against its embedding of the noiseless ones."""
    settings = {"scan_shape": (32, 32), "scan_extent": (6.4, 6.4), "detector_shape": (32, 32), "dose": 20_000.0}
    dataset = simulate(Config().replace(simulation=settings).simulation, progress=False)
    measurements = measure(dataset)
    fitted = model(measurements)
    noiseless = fitted.embed(measurements.expectation)
    inside = {0.68: [], 0.95: []}
    for seed in range(1, 3):
        counts = np.random.default_rng(seed).poisson(dataset.expectation.compute()).astype(np.float32)
        again = fitted.embed(measure(type(dataset).from_array(counts, calibration=dataset.calibration)))
        for level, shares in inside.items():
            error = np.abs(np.angle(np.exp(1j * (again.angle - noiseless.angle))))
            shares.append(np.mean(error <= again.angle_interval(level)))
            width = {0.68: 0.9945, 0.95: 1.96}[level] * again.latent_std
            shares.append(np.mean(np.abs(again.latents - noiseless.latents) <= width))
    for level, shares in inside.items():
        assert abs(np.mean(shares[::2]) - level) < 0.05
        assert abs(np.mean(shares[1::2]) - level) < 0.05


def test_intervals_hold_where_they_are_widest(rng):
    """The second latent of 2-fold content, which noise in the angle is the most of."""
    dataset, _ = synthetic((24, 24), (32, 32), dose=2000.0, seed=2, symmetry=2)
    measurements = measure(dataset)
    fitted = model(measurements, neighbours=False)
    wanted = fitted.embed(measurements.expectation).latents[..., 1]
    inside, width = [], []
    for _ in range(5):
        counts = rng.poisson(dataset.expectation.compute()).astype(np.float32)
        again = fitted.embed(measure(type(dataset).from_array(counts, calibration=dataset.calibration)))
        inside.append((np.abs(again.latents[..., 1] - wanted) <= again.latent_std[..., 1]).ravel())
        width.append(again.latent_std[..., 1].ravel())
    order = np.argsort(np.concatenate(width))
    thirds = [np.concatenate(inside)[part].mean() for part in np.array_split(order, 3)]
    np.testing.assert_allclose(thirds, 0.68, atol=0.07)


def test_one_filter_serves_the_com_and_every_model(monkeypatch):
    dataset, _ = synthetic((32, 30), (24, 24), dose=1000.0, seed=2)
    measured = measure(dataset)
    fits = []
    fit = PotentialFilter.fit.__func__
    counted = classmethod(lambda cls, *arguments: fits.append(1) or fit(cls, *arguments))
    monkeypatch.setattr(PotentialFilter, "fit", counted)
    assert filter_com(measured).is_filtered
    used, everywhere = np.ones(measured.scan_shape, bool), measured.recorded
    used[::7] = False
    reader = FeatureReader.fit(measured, BasisConfig(), used=used, allowed=everywhere)
    shared, of_shared = reader.features(measured, everywhere, everywhere)
    assert len(fits) == 1
    # with a filter of its own for these features, without the COM
    monkeypatch.setattr("stemvane.features.filtered_scan._CLEAR_EXCESS", 0.0)
    again = measure(dataset)
    own, of_own = reader.features(again, everywhere, everywhere)
    assert len(fits) == 3
    recorded = reader.basis.features(measured)
    apart, filtered = (np.abs(part - own) for part in (shared, recorded))
    assert (apart**2).mean() < 0.05 * (filtered**2).mean()
    np.testing.assert_allclose(of_shared.std.mean(), of_own.std.mean(), rtol=0.2)
