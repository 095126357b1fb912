import numpy as np
import pytest

from stemvane import RotationVAE, measure, synthetic
from stemvane.config import BasisConfig, TrainingConfig
from stemvane.features.feature_reader import FeatureReader
from stemvane.features.scan_filter import ScanFilter

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


def with_filter(scan_filter, features, recorded):
    windows = scan_filter.windows(recorded)
    return np.concatenate([part for part, _ in scan_filter.blocks([features[recorded]], recorded, windows)])


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_weights_are_those_of_a_gaussian_process(rng):
    """With a reach over the whole scan the estimate is the exact posterior mean, edges and a gap included."""
    recorded = np.ones((7, 6), bool)
    recorded[2, 3] = False
    spectrum = np.array([[9.0, 4.0, 1.0, 0.2, 0.0, 0.0]])
    scan_filter = ScanFilter(spectrum, 0.5, np.array([0.7]), np.array([0.7]), (1.0, 1.0), 6)
    features = (rng.normal(size=(7, 6, 1)) + 1j * rng.normal(size=(7, 6, 1))).astype(np.complex64)
    n = 256
    fine = np.fft.fftfreq(n)
    centres = (np.arange(6) + 0.5) / 12
    power = np.interp(np.hypot(fine[:, None], fine), centres, spectrum[0], right=0.0)
    covariance = np.fft.ifft2(power).real
    at = np.argwhere(recorded)
    lag = at[:, None] - at
    matrix = covariance[lag[..., 0], lag[..., 1]]
    expected = matrix @ np.linalg.solve(matrix + 0.7 * np.eye(len(at)), features[recorded][:, 0])
    np.testing.assert_allclose(with_filter(scan_filter, features, recorded)[:, 0], expected, atol=2e-3)


def test_error_is_close_to_that_of_a_filter_that_knows_the_band(rng):
    field = smooth_field(rng, (64, 64), 3)
    noise = np.array([0.1, 1.0, 10.0])
    features, recorded = noisy(rng, field, noise), np.ones((64, 64), bool)
    scan_filter = ScanFilter.fit(features, recorded, noise, None, 6)
    estimate = with_filter(scan_filter, features, recorded).reshape(field.shape)
    inside = (slice(8, -8), slice(8, -8))
    error = (np.abs(estimate - field)[inside] ** 2).mean(axis=(0, 1))
    share = np.pi * 0.12**2
    best = share * noise / (1 + share * noise)
    assert (error < 0.25 * noise).all()
    assert (error < 2.5 * best).all()
    assert (error > 0.6 * best).all()


def test_noise_that_is_left_is_as_predicted(rng):
    noise = np.array([0.5, 5.0])
    field, recorded = smooth_field(rng, (40, 40)), np.ones((40, 40), bool)
    scan_filter = ScanFilter.fit(noisy(rng, field, noise), recorded, noise, None, 5)
    windows = scan_filter.windows(recorded)
    draws = [with_filter(scan_filter, noisy(rng, 0 * field, noise), recorded) for _ in range(60)]
    variance = (np.abs(draws) ** 2).mean(axis=0).reshape(40, 40, 2)
    predicted = noise * windows.gain()[windows.kind]
    corner, middle = (0, 0), (20, 20)
    assert predicted[corner][0] > 1.5 * predicted[middle][0]
    for rows in (slice(0, 1), slice(10, 30)):
        np.testing.assert_allclose(variance[rows].mean(axis=(0, 1)), predicted[rows].mean(axis=(0, 1)), rtol=0.1)


def test_nothing_but_noise_is_shrunk_to_next_to_nothing(rng):
    noise, recorded = np.array([2.0, 2.0]), np.ones((64, 64), bool)
    features = noisy(rng, np.zeros((64, 64, 2)), noise)
    scan_filter = ScanFilter.fit(features, recorded, noise, None, 4)
    assert (np.abs(with_filter(scan_filter, features, recorded)) ** 2).mean() < 0.02 * 2.0


def test_positions_that_were_not_recorded_count_nowhere(rng):
    recorded = rng.random(SCAN) > 0.2
    features = noisy(rng, smooth_field(rng, SCAN), 0.3)
    garbage = np.where(recorded[..., None], features, 1e6).astype(np.complex64)
    results = [
        with_filter(ScanFilter.fit(f, recorded, np.full(2, 0.3), None, 3), f, recorded) for f in (features, garbage)
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("rows", [1, 3, 10])
def test_rows_that_come_one_after_the_other_give_the_same(rng, rows):
    recorded = np.ones(SCAN, bool)
    recorded[5, :], recorded[11, 3:9], recorded[-2:] = False, False, False
    features = noisy(rng, smooth_field(rng, SCAN), 0.3)
    scan_filter = ScanFilter.fit(features, recorded, np.full(2, 0.3), None, 4)
    windows = scan_filter.windows(recorded)
    parts = [features[top : top + rows][recorded[top : top + rows]] for top in range(0, SCAN[0], rows)]
    pieces = [part for part, _ in scan_filter.blocks([part for part in parts if len(part)], recorded, windows)]
    np.testing.assert_array_equal(np.concatenate(pieces), with_filter(scan_filter, features, recorded))


def test_steps_that_differ_are_counted_in_length(rng):
    """A scan of twice as many rows, half as far apart, reaches twice as many rows."""
    scan_filter = ScanFilter(np.array([[5.0, 1.0, 0.1, 0.0]]), 0.5, np.array([1.0]), np.array([1.0]), (0.5, 1.0), 6)
    weights = scan_filter.windows(np.ones((13, 13), bool)).weights[..., 0]
    middle = max(weights, key=np.count_nonzero)
    np.testing.assert_allclose(middle, middle[::-1, ::-1], atol=1e-6)
    assert middle[8, 6] > middle[6, 8]


def test_a_vortex_keeps_its_winding(rng):
    y, x = np.mgrid[-15:16, -15:16] / 6.0
    vortex = ((x - 1j * y) * np.exp(-(x**2 + y**2) / 4))[..., None]
    noise = np.array([0.15])
    features = noisy(rng, vortex, noise)
    recorded = np.ones(vortex.shape[:2], bool)
    scan_filter = ScanFilter.fit(features, recorded, noise, None, 5)
    angle = np.angle(with_filter(scan_filter, features, recorded).reshape(31, 31))
    loop = [(15 + j, 15 + i) for j, i in [(-3, k) for k in range(-3, 3)] + [(k, 3) for k in range(-3, 3)]]
    loop += [(30 - j, 30 - i) for j, i in loop]
    turns = np.angle(np.exp(1j * np.diff([angle[p] for p in [*loop, loop[0]]]))).sum() / (2 * np.pi)
    assert round(turns) == -1


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


def test_intervals_hold_the_noiseless_value_as_often_as_they_say(counted, together):
    """Repeated counts of the same patterns, embedded by one model, against its embedding of the noiseless ones."""
    noiseless = together.embed(counted[0].expectation)
    inside = {0.68: [], 0.95: []}
    dataset, _ = synthetic((24, 24), (32, 32), dose=3000.0)
    for seed in range(1, 5):
        counts = np.random.default_rng(seed).poisson(dataset.expectation.compute()).astype(np.float32)
        again = together.embed(measure(type(dataset).from_array(counts, calibration=dataset.calibration)))
        for level, shares in inside.items():
            error = np.abs(np.angle(np.exp(1j * (again.angle - noiseless.angle))))
            shares.append(np.mean(error <= again.angle_interval(level)))
            width = {0.68: 0.9945, 0.95: 1.96}[level] * again.latent_std
            shares.append(np.mean(np.abs(again.latents - noiseless.latents) <= width))
    for level, shares in inside.items():
        assert abs(np.mean(shares[::2]) - level) < 0.05
        assert abs(np.mean(shares[1::2]) - level) < 0.05


def test_noise_that_chose_the_features_is_not_that_of_other_counts():
    dataset, _ = synthetic((24, 24), (32, 32), dose=3000.0)
    measurements = measure(dataset)
    everywhere = np.ones((24, 24), bool)
    reader = FeatureReader.fit(measurements, BasisConfig(), used=everywhere, allowed=everywhere)
    noiseless, variances = reader.basis.features(measurements.expectation), []
    for seed in range(1, 6):
        counts = np.random.default_rng(seed).poisson(dataset.expectation.compute()).astype(np.float32)
        again = measure(type(dataset).from_array(counts, calibration=dataset.calibration))
        variances.append((np.abs(reader.basis.features(again) - noiseless) ** 2).mean(axis=0))
    ratio = np.mean(variances, axis=0) / reader.scan_filter.fresh_noise
    assert abs(ratio.mean() - 1) < 0.02
    assert (ratio[:8] > 0.93).all()
    assert (reader.scan_filter.fresh_noise < 0.95 * reader.scan_filter.noise).any()


def test_intervals_hold_where_they_are_widest(rng):
    """The second latent of 2-fold content, which noise in the angle is the most of."""
    dataset, _ = synthetic((24, 24), (32, 32), dose=2000.0, seed=2, symmetry=2)
    measurements = measure(dataset)
    fitted = model(measurements)
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
