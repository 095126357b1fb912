"""The published model: its parts as published, our conventions, and that it learns where it can."""

import math

import numpy as np
import pytest
import torch

from stemvane import Calibration, CoordinateVAE, Dataset4D, RotationVAE, load_model, measure
from stemvane.config import CoordinateConfig, MeasureConfig, PCAConfig, TrainingConfig
from stemvane.errors import ConfigError, DataError, ModelError
from stemvane.models.coordinate_network import CoordinateNetwork
from stemvane.models.pixel_network import wrapped_normal

SCAN, SIDE, N = (16, 16), 24, 8


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spots(angle, size):
    """A large spot to the right and a smaller one above, of given brightness, turned; nothing else in the pattern."""
    rows, columns = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    place = (columns - 1j * rows) / (SIDE / 2) * np.exp(-1j * angle)[..., None, None]
    large = np.exp(-(abs(place - 0.5) ** 2) / (2 * 0.25**2))
    return large + size[..., None, None] * np.exp(-(abs(place - 0.5j + 0.1) ** 2) / (2 * 0.2**2))


def scan_of(angle, size, n_pixels=N):
    calibration = Calibration(optical_axis=((SIDE - 1) / 2,) * 2, disc_radius=11.0)
    dataset = Dataset4D.from_array(spots(angle, size).astype(np.float32), calibration=calibration, name="spots")
    return measure(dataset, config=MeasureConfig(n_pixels=n_pixels, pixels_outer=0.95))


def scan(degrees):
    rng = np.random.default_rng(0)
    angle = np.radians(rng.uniform(-degrees, degrees, SCAN))
    return scan_of(angle, rng.uniform(0.2, 1, SCAN)), angle


def trained(measurements, n_latent=1, **options):
    training = TrainingConfig(**{"n_epochs": 30, "device": "cpu", "holdout": 0.0, **options})
    model = CoordinateConfig(learning_rate=5e-3, batch_size=32)
    return CoordinateVAE(n_latent, model=model, training=training).fit(measurements)


def errors_deg(estimate, angle):
    turns = estimate - angle
    offset = np.angle(np.exp(1j * turns).mean())
    return np.degrees(np.abs(np.angle(np.exp(1j * (turns - offset)))))


@pytest.fixture(scope="module")
def small():
    return scan(60)


@pytest.fixture(scope="module")
def model(small):
    return trained(small[0])


def untrained(n_latent=2, translation=0.0):
    torch.manual_seed(0)
    return CoordinateNetwork(N, n_latent, 128, angle_prior=0.1, translation=translation)


def test_it_learns_angles_on_part_of_the_circle_in_our_sense(model, small):
    measurements, angle = small
    embedding = model.embed(measurements)
    errors = errors_deg(embedding.angle, angle)
    assert np.median(errors) < 5
    assert errors.max() < 30
    assert np.median(errors_deg(-embedding.angle, angle)) > 30
    residual, total = model.misfit(measurements)
    assert 1 - residual.sum() / total.sum() > 0.7
    assert model.history.epochs[-1].total < 0.05 * model.history.epochs[0].total


def test_it_cannot_go_round_the_circle():
    """Along one full turn its angle comes back to where it was without having turned; ours turns once."""
    measurements, angle = scan(180)
    model = trained(measurements)
    assert errors_deg(model.embed(measurements).angle, angle).max() > 60
    ours = RotationVAE(1, training=TrainingConfig(n_epochs=0)).fit(measurements)
    loop = scan_of(np.linspace(0, 2 * np.pi, 1440, endpoint=False).reshape(36, 40), np.full((36, 40), 0.6))
    turns = []
    for one in (model, ours):
        estimate = one.embed(loop).angle.ravel()
        steps = np.angle(np.exp(1j * np.diff(estimate, append=estimate[0])))
        assert np.abs(steps).max() < 2
        turns.append(steps.sum() / (2 * np.pi))
    np.testing.assert_allclose(turns, [0, 1], atol=1e-3)


def test_layers_are_those_of_the_publication():
    sizes = {name: tuple(value.shape) for name, value in untrained().named_parameters()}
    assert sizes["hidden.0.weight"] == (128, N * N)
    assert sizes["hidden.2.weight"] == (128, 128)
    assert sizes["mean.weight"] == sizes["log_std.weight"] == (3, 128)
    assert sizes["from_coordinates.weight"] == (128, 2)
    assert sizes["from_latents.weight"] == (128, 2)
    assert sizes["decoder.0.weight"] == sizes["decoder.2.weight"] == (128, 128)
    assert sizes["out.weight"] == (1, 128)
    assert "from_latents.bias" not in sizes
    assert sum("weight" in name for name in sizes) == 9
    settings = CoordinateVAE()
    assert (settings.model_config.n_hidden, settings.model_config.learning_rate) == (128, 1e-4)
    assert settings.training_config.n_epochs == 75


def test_loss_is_that_of_the_publication():
    network, x = untrained(), torch.rand(5, N * N, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        parts = network.loss(x, 1.0, torch.Generator().manual_seed(2))
        hidden = network.hidden(x)
        mean, log_std = network.mean(hidden), network.log_std(hidden)
        z = mean + torch.randn(mean.shape, generator=torch.Generator().manual_seed(2)) * log_std.exp()
        decoded = network.decode(z[:, 1:], z[:, 0], torch.zeros(5, 2))
        variance = (2 * log_std).exp()
        kl_angle = -log_std[:, 0] + math.log(0.1) + variance[:, 0] / (2 * 0.1**2) - 0.5
        kl_latent = (0.5 * (variance[:, 1:] + mean[:, 1:] ** 2 - 1) - log_std[:, 1:]).sum(1)
    assert float(parts.reconstruction) == pytest.approx(float(0.5 * ((decoded - x) ** 2).sum(1).mean()), rel=1e-5)
    assert float(parts.kl_angle) == pytest.approx(float(kl_angle.mean()), rel=1e-5)
    assert float(parts.kl_latent) == pytest.approx(float(kl_latent.mean()), rel=1e-5, abs=1e-7)
    total = parts.reconstruction + parts.kl_angle + parts.kl_latent
    assert float(parts.total) == pytest.approx(float(total), rel=1e-6)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_an_angle_rotates_the_pattern_counter_clockwise(quarters):
    network = untrained()
    latents = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        still, rotated = (
            network.decode(latents, torch.full((3,), angle), torch.zeros(3, 2)).reshape(3, N, N).numpy()
            for angle in (0.0, quarters * math.pi / 2)
        )
    assert np.ptp(still) > 1e-3
    np.testing.assert_allclose(rotated, np.rot90(still, quarters, axes=(1, 2)), atol=1e-6)


def test_a_shift_moves_the_pattern_by_whole_pixels():
    network, pixel = untrained(translation=0.1), 2 / (N - 1)
    latents, angle = torch.zeros(1, 2), torch.zeros(1)
    with torch.no_grad():
        still, right, up = (
            network.decode(latents, angle, torch.tensor([[x, y]])).reshape(N, N).numpy()
            for x, y in ((0.0, 0.0), (pixel, 0.0), (0.0, pixel))
        )
        assert network.encode(torch.rand(4, N * N)).shift.abs().max() > 0
        assert network.encode(torch.rand(4, N * N)).latents.shape == (4, 2)
    np.testing.assert_allclose(right[:, :-1], still[:, 1:], atol=1e-6)
    np.testing.assert_allclose(up[1:], still[:-1], atol=1e-6)
    shifted = CoordinateVAE(model=CoordinateConfig(translation=0.1), training=TrainingConfig(n_epochs=1))
    assert np.isfinite(shifted.fit(scan(60)[0]).history.epochs[0].total)


@pytest.mark.parametrize("std", [0.002, 0.1, 0.6, 2.0, 20.0])
def test_posterior_is_the_gaussian_wrapped_around_the_circle(std):
    mean, n = torch.tensor([0.3, -3.1, 7.0]), 72
    posterior = wrapped_normal(mean, torch.full((3,), std), n).numpy()
    grid = 2 * np.pi * np.arange(n) / n
    distance = grid - mean.numpy()[:, None]
    if std < 0.05:
        nearest = np.abs(np.angle(np.exp(1j * distance))).argmin(1)
        np.testing.assert_array_equal(posterior.argmax(1), nearest)
        expected = np.eye(n)[nearest]
    else:
        order = np.arange(1, 200)[:, None, None]
        expected = 1 + 2 * (np.exp(-((order * std) ** 2) / 2) * np.cos(order * distance)).sum(0)
        expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(posterior, expected, atol=1e-5)
    np.testing.assert_allclose(posterior.sum(1), 1, rtol=1e-5)


def test_embedding_keeps_its_promises(model, small):
    embedding = model.embed(small[0])
    assert embedding.angle.shape == SCAN
    assert np.abs(embedding.angle).max() <= math.pi
    np.testing.assert_allclose(embedding.latents.mean((0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(embedding.latents.std((0, 1)), 1, atol=1e-3)
    assert embedding.angle_posterior.shape == (*SCAN, 72)
    np.testing.assert_allclose(embedding.angle_posterior.sum(-1), 1, rtol=1e-5)
    peak = 2 * np.pi / 72 * embedding.angle_posterior.argmax(-1)
    assert np.abs(np.angle(np.exp(1j * (peak - embedding.angle)))).max() <= np.pi / 72 * 1.01
    # the published prior, 0.1 rad, is all that bounds it where the patterns say little
    assert 0.05 < np.median(embedding.angle_std) < 0.11
    assert np.isnan(embedding.log_evidence).all()
    assert model.evidence(small[0]) is None
    assert model.noise_level is None


def test_patterns_as_it_sees_them(model, small):
    measurements = small[0]
    mask = np.zeros(SCAN, bool)
    mask[2:5] = True
    prediction = model.reconstruct(measurements, mask=mask)
    assert prediction.shape == (*SCAN, N, N)
    assert np.isnan(prediction[~mask]).all()
    truth = measurements.pixels[:][mask]
    left = ((prediction[mask] - truth) ** 2).sum() / ((truth - measurements.pixels[:].mean((0, 1))) ** 2).sum()
    assert left < 0.3
    # three times the electrons: the same latents, three times the pattern
    brighter = scan_of(small[1], np.random.default_rng(0).uniform(0.2, 1, SCAN))
    brighter.maps["total"][...] *= 3
    brighter.pixels[...] *= 3
    still = scan_of(small[1], np.random.default_rng(0).uniform(0.2, 1, SCAN))
    np.testing.assert_allclose(model.embed(brighter).latents, model.embed(still).latents, atol=1e-3)
    np.testing.assert_allclose(model.reconstruct(brighter), 3 * model.reconstruct(still), rtol=1e-4, atol=1e-4)


def test_drawings_lie_on_the_detector(model, small):
    drawn = model.decode([[0.0], [1.0]], [0.0, 0.5])
    assert drawn.shape == (2, SIDE, SIDE)
    inside = np.isfinite(drawn[0])
    assert inside[SIDE // 2, SIDE // 2]
    assert not inside[0, 0]
    recorded = spots(np.array([0.0]), np.array([0.6]))[0]
    assert np.abs(drawn[inside[None].repeat(2, 0)]).max() < 2 * recorded.max()
    without = model.decode([[0.0], [1.0]], [0.0, 0.5], background=False)
    mean = (drawn - without)[:, inside]
    np.testing.assert_allclose(mean[0], mean[1], atol=1e-6)


def test_saved_and_read_it_says_the_same(model, small, tmp_path):
    path = model.save(tmp_path / "sub" / "model")
    embedding = model.embed(small[0])
    for again in (CoordinateVAE.load(path), load_model(path)):
        assert isinstance(again, CoordinateVAE)
        assert again.model_config == model.model_config
        for name, values in vars(again.embed(small[0])).items():
            np.testing.assert_array_equal(values, getattr(embedding, name))
        assert again.mean_total == model.mean_total
        np.testing.assert_array_equal(again.decode([[0.5]], 0.3), model.decode([[0.5]], 0.3))


def test_the_same_seed_gives_the_same(small):
    one, two = (trained(small[0], n_epochs=2, holdout=0.1) for _ in range(2))
    np.testing.assert_array_equal(one.embed(small[0]).angle, two.embed(small[0]).angle)
    assert one.training_mask.sum() == round(0.9 * 256)
    assert one.history.patterns_per_second > 0
    assert one.history.epochs[0].learning_rate == one.history.epochs[1].learning_rate == 5e-3


def test_no_latent_is_a_template_that_rotates(small):
    model = trained(small[0], 0, n_epochs=2)
    embedding = model.embed(small[0])
    assert embedding.latents.shape == (*SCAN, 0)
    assert np.isfinite(embedding.angle).all()
    assert model.decode(np.zeros((2, 0))).shape == (2, SIDE, SIDE)


def test_what_does_not_fit_is_refused_in_one_line(model, small):
    def line(kind, call):
        with pytest.raises(kind) as caught:
            call()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    bare = measure(Dataset4D.from_array(spots(np.zeros(SCAN), np.ones(SCAN)), calibration=small[0].calibration))
    assert "n_pixels" in line(DataError, lambda: model.embed(bare))
    assert "n_pixels" in line(DataError, lambda: trained(bare))
    other = scan_of(small[1], np.ones(SCAN), n_pixels=10)
    assert "10 x 10" in line(ModelError, lambda: model.reconstruct(other))
    same = scan_of(np.zeros(SCAN), np.ones(SCAN))
    assert "the same" in line(DataError, lambda: trained(same))
    assert "too few" in line(DataError, lambda: CoordinateVAE().fit(small[0], mask=np.zeros(SCAN, bool)))
    assert not hasattr(model, "reconstruct_features")
    assert "call fit" in line(ModelError, lambda: CoordinateVAE().embed(small[0]))
    assert "(2, 3)" in line(ModelError, lambda: model.decode(np.zeros((2, 3))))
    assert "CoordinateConfig" in line(ConfigError, lambda: CoordinateVAE(model=PCAConfig()))
    assert "HarmonicConfig" in line(ConfigError, lambda: RotationVAE(model=CoordinateConfig()))
