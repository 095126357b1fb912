"""RotationVAE: what it promises, on patterns whose angle and content are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from stemvane import Dataset4D, RotationVAE, measure, synthetic
from stemvane.config import BasisConfig, HarmonicConfig, TrainingConfig
from stemvane.errors import ConfigError, DataError, ModelError
from stemvane.evaluation.com_agreement import explained_variance
from stemvane.models.adam import Adam

SCAN, DETECTOR, DOSE = (16, 16), (32, 32), 1e5
BASIS = BasisConfig(n_features=32)
ALONE = BASIS.model_copy(update={"neighbours": False})


def training(**options):
    return TrainingConfig(**{"n_epochs": 12, "device": "cpu", **options})


def fitted(measurements, n_latent=2, *, mask=None, start="alignment", basis=BASIS, **options):
    model = HarmonicConfig(batch_size=64, start=start)
    vae = RotationVAE(n_latent, basis=basis, model=model, training=training(**options))
    return vae.fit(measurements, mask=mask)


def as_dataset(patterns, like):
    return Dataset4D.from_array(np.ascontiguousarray(patterns, np.float32), calibration=like.calibration, name="again")


def difference(angle, other):
    """Offset and remaining absolute errors in degrees."""
    turns = np.ravel(angle) - np.ravel(other)
    offset = np.angle(np.exp(1j * turns).mean())
    return np.degrees(offset), np.degrees(np.abs(np.angle(np.exp(1j * (turns - offset)))))


def inside(vae, measurements):
    """Network and the features of all patterns as it takes them."""
    return vae._fitted.network, torch.cat(
        [part.x for part in vae._chunks(measurements, np.ones(measurements.scan_shape, bool))]
    )


def one_line(call, *arguments, error=ModelError):
    with pytest.raises(error) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def source():
    return synthetic(SCAN, DETECTOR, dose=DOSE, seed=1)


@pytest.fixture(scope="module")
def measurements(source):
    return measure(source[0])


@pytest.fixture(scope="module")
def vae(measurements):
    return fitted(measurements)


@pytest.fixture(scope="module")
def untrained(measurements):
    return fitted(measurements, n_epochs=0)


@pytest.fixture(scope="module")
def embedding(vae, measurements):
    return vae.embed(measurements)


def test_angle_and_content_are_found(embedding, source):
    offset, errors = difference(embedding.angle, source[1].angle)
    assert abs(offset) < 4
    assert np.median(errors) < 3
    amplitude = source[1].content[0].ravel()
    design = np.column_stack([embedding.latents.reshape(-1, 2), np.ones(amplitude.size)])
    left = np.linalg.lstsq(design, amplitude, rcond=None)[1][0]
    assert left / (amplitude.var() * amplitude.size) < 0.3


def test_latents_have_mean_0_where_trained_and_do_not_go_together(vae, embedding):
    trained = embedding.latents[vae.training_mask]
    np.testing.assert_allclose(trained.mean(0), 0, atol=0.02 * trained.std())
    spread = np.cov(trained.T)
    assert spread[0, 0] > spread[1, 1]
    assert abs(spread[0, 1]) < 0.05 * math.sqrt(spread[0, 0] * spread[1, 1])
    assert (embedding.latent_std > 0).all()
    assert vae.training_mask.sum() == round(0.9 * 256)


def test_latents_are_distances_between_patterns_along_the_components(vae):
    network, fit = vae._fitted.network, vae._fitted
    steps = np.array([[0.0, 0.0], [0.3, 0.0], [0.0, -0.2]], np.float32)
    content = fit.content(steps, np.zeros(3, np.float32)) / fit.length
    moved = np.concatenate([content.real, content.imag], axis=1)
    unit = torch.nn.functional.normalize(network.components, dim=1).numpy()
    np.testing.assert_allclose((moved[1:] - moved[0]) @ unit.T, steps[1:], atol=1e-5)
    again, _ = network.as_distances(network.from_distances(torch.from_numpy(steps)), torch.zeros(3, 2))
    np.testing.assert_allclose(again.numpy(), steps, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_rotated_pattern_is_drawn_as_the_drawing_rotated(vae, n):
    latents = np.random.default_rng(0).normal(size=(3, 2))
    straight = vae.decode(latents, background=False)
    rotated = vae.decode(latents, n * np.pi / 2, background=False)
    assert np.isnan(straight[:, 0, 0]).all()
    np.testing.assert_allclose(rotated, np.rot90(straight, n, axes=(1, 2)), atol=1e-5 * np.nanmax(np.abs(straight)))
    background = vae.decode(latents) - straight
    np.testing.assert_allclose(background, background[:1].repeat(3, 0), atol=1e-3)


def test_drawings_are_like_the_patterns(vae, source, measurements, embedding):
    drawn = vae.decode(embedding.latents, embedding.angle)
    expected = source[0].expectation.compute()
    known = np.isfinite(drawn)
    blank = np.broadcast_to(measurements.polar_patterns().mean(), drawn.shape)
    misfit = np.sqrt(np.mean((drawn - expected)[known] ** 2))
    assert misfit < 0.2 * np.sqrt(np.mean((blank - expected)[known] ** 2))


def test_rotated_data_keep_their_latents_and_rotate_their_angle():
    """Every pattern and its three quarter turns: then the background is the same after a quarter turn."""
    dataset, _ = synthetic((8, 16), DETECTOR, dose=2e4, seed=2)
    patterns = dataset.data.compute()
    vae = fitted(
        measure(as_dataset(np.concatenate([np.rot90(patterns, n, axes=(2, 3)) for n in range(4)]), dataset)),
        holdout=0.0,
        n_epochs=4,
        # rotated against the scan, patterns are others' neighbours
        basis=BASIS.model_copy(update={"neighbours": False}),
    )
    straight = vae.embed(measure(dataset))
    for n in (1, 2, 3):
        rotated = vae.embed(measure(as_dataset(np.rot90(patterns, n, axes=(2, 3)), dataset)))
        wrong = np.abs(np.angle(np.exp(1j * (rotated.angle - straight.angle - n * np.pi / 2))))
        assert wrong.max() < 1e-3
        np.testing.assert_allclose(rotated.latents, straight.latents, atol=2e-3)
        np.testing.assert_allclose(rotated.latent_std, straight.latent_std, rtol=2e-3)
        shift = n * vae.model_config.n_angles // 4
        np.testing.assert_allclose(
            rotated.angle_posterior, np.roll(straight.angle_posterior, shift, axis=-1), atol=5e-3
        )


def test_angle_posterior_is_a_distribution_with_one_peak(embedding):
    np.testing.assert_allclose(embedding.angle_posterior.sum(-1), 1, rtol=1e-5)
    assert np.median(embedding.n_peaks) == 1
    peak = 2 * np.pi / 72 * embedding.angle_posterior.argmax(-1)
    # the first latent is integrated out of the one and at its mean in the other
    assert np.abs(np.angle(np.exp(1j * (peak - embedding.angle)))).max() <= np.pi / 72 * 1.2


def test_angle_errors_are_as_large_as_said(embedding, source):
    _, errors = difference(embedding.angle, source[1].angle)
    within = np.mean(np.radians(errors) < 2 * embedding.angle_std.ravel())
    assert within > 0.8
    assert np.median(embedding.angle_std) < 0.2


@pytest.mark.parametrize("dose", [None, DOSE])
def test_threefold_content_has_three_peaks(dose):
    dataset, truth = synthetic(SCAN, DETECTOR, dose=dose, seed=1, symmetry=3)
    measurements = measure(dataset)
    embedding = fitted(measurements, 1, n_epochs=4).embed(measurements)
    assert np.mean(embedding.n_peaks == 3) > 0.95
    third = np.roll(embedding.angle_posterior, 24, axis=-1)
    assert np.median(np.abs(third - embedding.angle_posterior).sum(-1)) < 0.5
    # the angle is certain modulo a third of the circle
    assert embedding.symmetry == 3
    error = np.median(difference(3 * embedding.angle, 3 * truth.angle)[1]) / 3
    assert error < np.degrees(np.median(embedding.angle_std)) < 5


def test_patterns_of_noise_alone_have_numbers_for_everything(source):
    chance = np.random.default_rng(5)
    flat = measure(
        as_dataset(chance.poisson(np.broadcast_to(source[0].data[0, 0].compute(), SCAN + DETECTOR)), source[0])
    )
    vae = fitted(flat, n_epochs=2)
    embedding = vae.embed(flat)
    # no pattern differs from another
    assert np.ptp(embedding.latents, axis=(0, 1)).max() < 1e-5
    for name in ("latents", "latent_std", "angle", "angle_posterior", "log_evidence"):
        assert np.isfinite(getattr(embedding, name)).all(), name
    assert np.isfinite(vae.decode(np.zeros(2))[16, 16])


def test_a_pattern_without_content_has_no_direction(vae, measurements):
    mean = measurements.polar_patterns()[vae.training_mask.ravel()].mean(0, dtype=float)
    blank = replace(measurements, polar=np.broadcast_to(mean, measurements.polar.shape).astype(np.float32))
    embedding = vae.embed(blank)
    np.testing.assert_allclose(embedding.angle_posterior, 1 / 72, rtol=0.05)
    assert (embedding.n_peaks == 0).all()
    assert embedding.angle_std.min() > 2.0
    network, x = inside(vae, blank)
    with torch.no_grad():
        assert network.loss(x, 1.0, torch.Generator().manual_seed(0)).kl_angle < 0.01
        real = network.loss(inside(vae, measurements)[1], 1.0, torch.Generator().manual_seed(0))
    # a direction known to ± 0.1 rad or better is worth more than log(2 π / (0.1 √(2 π e))) = 2.7 nats
    assert real.kl_angle > 2.4


@pytest.mark.parametrize("n_latent", [0, 1, 3])
def test_any_number_of_latents(measurements, source, tmp_path, n_latent):
    vae = fitted(measurements, n_latent, n_epochs=3)
    embedding = vae.embed(measurements)
    assert embedding.latents.shape == embedding.latent_std.shape == (*SCAN, n_latent)
    assert np.median(difference(embedding.angle, source[1].angle)[1]) < 4
    assert vae.decode(np.zeros((2, 5, n_latent)), np.zeros(5)).shape == (2, 5, *DETECTOR)
    assert np.isfinite(vae.evidence(measurements, noise_level=vae.noise_level, n_samples=2)[0]).all()
    assert vae.reconstruct_features(measurements).shape == (256, 32)
    again = RotationVAE.load(vae.save(tmp_path / "model")).embed(measurements)
    np.testing.assert_array_equal(again.angle, embedding.angle)
    one_line(vae.decode, np.zeros((2, n_latent + 1)))


def test_latents_are_ordered_by_what_they_explain(measurements):
    vae = fitted(measurements, 3, n_epochs=20)
    network, x = inside(vae, measurements)
    with torch.no_grad():
        mean, _ = network.encode(x)
        misfit = []
        for n in range(4):
            content = network.decode(torch.where(torch.arange(3) < n, mean, 0.0))
            angle, _ = network.peak(*network.cross(x, content))
            misfit.append(float(((network.rotate(content, angle) - x) ** 2).sum(-1).mean()))
    gains = -np.diff(misfit)
    assert gains[0] > gains[1] > gains[2] > -1e-3


def test_mask_limits_fit_and_embedding(source, measurements):
    mask = np.zeros(SCAN, bool)
    mask[2:14, 3:12] = True
    patterns = source[0].data.compute().astype(np.float32)
    patterns[~mask] = np.random.default_rng(0).uniform(0, 1e4, (int((~mask).sum()), *DETECTOR))
    garbage = measure(as_dataset(patterns, source[0]))
    clean, other = (fitted(m, n_epochs=3, mask=mask) for m in (measurements, garbage))
    assert not clean.training_mask[~mask].any()
    embedding, again = clean.embed(measurements, mask=mask), other.embed(garbage, mask=mask)
    for name in ("latents", "latent_std", "angle", "angle_std", "angle_posterior", "log_evidence"):
        values = getattr(embedding, name)
        assert np.isnan(values[~mask]).all()
        assert not np.isnan(values[mask]).any()
        np.testing.assert_allclose(getattr(again, name), values, rtol=1e-4, atol=1e-4)


def test_mask_without_a_position_embeds_nothing(vae, measurements):
    embedding = vae.embed(measurements, mask=np.zeros(measurements.scan_shape, bool))
    assert np.isnan(embedding.angle).all()
    assert np.isnan(embedding.latents).all()


def test_mask_that_does_not_fit(vae, measurements):
    wrong = np.ones((3, 3), bool)
    assert "(3, 3)" in one_line(lambda: vae.embed(measurements, mask=wrong), error=DataError)
    assert "too few" in one_line(lambda: fitted(measurements, mask=np.zeros(SCAN, bool)), error=DataError)


def test_another_data_set_of_another_dose_is_embedded(vae, source, measurements, embedding):
    brighter = vae.embed(measure(as_dataset(3 * source[0].data.compute(), source[0])))
    # counts that are three times as many have less noise, and are filtered less
    assert np.median(np.abs(brighter.latents - embedding.latents)) < 0.03
    dataset, truth = synthetic(SCAN, DETECTOR, dose=4e5, seed=7)
    offset, errors = difference(vae.embed(measure(dataset)).angle, truth.angle)
    assert abs(offset) < 5
    assert np.median(errors) < 3


def test_saved_models_say_the_same_to_the_last_bit(vae, measurements, embedding, tmp_path):
    path = vae.save(tmp_path / "sub" / "model")
    assert path.name == "model.safetensors"
    again = RotationVAE.load(path)
    assert again.model_config == vae.model_config
    assert again.training_config == vae.training_config
    for name, values in vars(again.embed(measurements)).items():
        np.testing.assert_array_equal(values, getattr(embedding, name))
    latents = [[0.5, -1.0]]
    np.testing.assert_array_equal(again.decode(latents, 0.3), vae.decode(latents, 0.3))


@pytest.mark.parametrize("damage", ["truncated", "header", "empty", "missing", "no toml", "broken toml", "other size"])
def test_damaged_models_are_refused_in_one_line(vae, tmp_path, damage):
    path = vae.save(tmp_path / "model")
    content, settings = path.read_bytes(), path.with_suffix(".toml")
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "header":
        path.write_bytes(b"\xff" * 64 + content[64:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "missing":
        path.unlink()
    elif damage == "no toml":
        settings.unlink()
    elif damage == "broken toml":
        settings.write_bytes(b"\xff\xfe[model")
    else:
        settings.write_text(settings.read_text().replace("n_hidden = 64", "n_hidden = 32"))
    text = one_line(RotationVAE.load, path)
    assert str(path) in text
    assert "save" in text


def test_a_model_of_something_else_is_refused(vae, tmp_path):
    from safetensors.numpy import save_file

    path = vae.save(tmp_path / "model")
    save_file({"weight": np.zeros(3, np.float32)}, path)
    one_line(RotationVAE.load, path)


def test_before_the_fit(measurements, tmp_path):
    vae = RotationVAE(2)
    for call in (lambda: vae.embed(measurements), lambda: vae.decode([[0, 0]]), lambda: vae.save(tmp_path / "m")):
        assert "call fit" in one_line(call)
    assert "n_latent" in one_line(RotationVAE, -1, error=ConfigError)


def test_the_same_seed_gives_the_same(vae, measurements, embedding):
    again = fitted(measurements).embed(measurements)
    np.testing.assert_array_equal(again.angle, embedding.angle)
    np.testing.assert_array_equal(again.latents, embedding.latents)


def test_two_seeds_agree(vae, measurements, embedding):
    # another seed holds other patterns out, too
    other = fitted(measurements, seed=1).embed(measurements)
    offset, errors = difference(other.angle, embedding.angle)
    assert abs(offset) < 1
    assert np.median(errors) < 1
    assert np.corrcoef(other.latents[..., 0].ravel(), embedding.latents[..., 0].ravel())[0, 1] > 0.99
    one, two = (fitted(measurements, seed=seed, holdout=0.0).embed(measurements) for seed in (0, 1))
    offset, errors = difference(one.angle, two.angle)
    assert abs(offset) < 0.5
    assert np.median(errors) < 0.5
    assert np.corrcoef(one.latents[..., 0].ravel(), two.latents[..., 0].ravel())[0, 1] > 0.999


def test_a_random_start_learns_the_angle(measurements, source):
    vae = fitted(measurements, start="random", n_epochs=40)
    _, errors = difference(vae.embed(measurements).angle, source[1].angle)
    assert np.median(errors) < 10
    assert vae.history.epochs[-1].total < vae.history.epochs[0].total


def test_evidence_of_aligned_pca_is_that_of_its_closed_form(untrained, measurements):
    """log mean over θ of N(pattern turned back by θ; template, Wᵀ W + s² 1), on a fine grid of θ."""
    mask = np.zeros(SCAN, bool)
    mask[::3, ::3] = True
    level = 2 * untrained.noise_level
    evidence, used = untrained.evidence(measurements, mask, noise_level=level, n_samples=64)
    assert used == pytest.approx(level)
    network, orders = untrained._fitted.network, untrained.basis.orders
    n = len(orders)
    x = torch.cat([part.x for part in untrained._chunks(measurements, mask, neighbours=False)]).double().numpy()
    x = x[:, :n] + 1j * x[:, n:]
    with torch.no_grad():
        template = network.decode(torch.zeros(1, 2)).double().numpy()
        components = network.decode(torch.eye(2)).double().numpy() - template
    real = np.concatenate([np.ones(n, bool), orders > 0])
    covariance = (components.T @ components + level**2 * np.eye(2 * n))[np.ix_(real, real)]
    inverse, log_det = np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]
    angles = 2 * np.pi * np.arange(720) / 720
    values = np.empty((720, len(x)))
    for value, angle in zip(values, angles, strict=True):
        back = x * np.exp(1j * orders * angle)
        residual = (np.concatenate([back.real, back.imag], 1) - template)[:, real]
        value[:] = -0.5 * np.einsum("ni,ij,nj->n", residual, inverse, residual)
    highest = values.max(0)
    expected = highest + np.log(np.exp(values - highest).mean(0)) - 0.5 * (log_det + real.sum() * math.log(2 * np.pi))
    assert abs(np.mean(evidence - expected)) < 0.1
    assert np.mean(np.abs(evidence - expected)) < 0.15


def test_training_finds_content_that_bends(vae, source):
    """One quantity moves the content along a curve, which a line cannot follow."""
    chance = np.random.default_rng(3)
    amount = chance.uniform(-0.4, 0.4, SCAN)
    latents = np.stack([amount, 3 * amount**2 - 0.16], axis=-1)
    turns = chance.uniform(-np.pi, np.pi, SCAN)
    clean = np.clip(np.nan_to_num(vae.decode(latents, turns)), 0, None)
    measurements = measure(as_dataset(chance.poisson(clean), source[0]))
    before, after = (fitted(measurements, 1, n_epochs=n, basis=ALONE) for n in (0, 40))
    held = ~after.training_mask
    np.testing.assert_array_equal(held, ~before.training_mask)
    assert held.sum() == 26
    assert after.evidence(measurements, held)[0].mean() > before.evidence(measurements, held)[0].mean() + 2
    shares = [explained_variance(*(part[held] for part in model.misfit(measurements))) for model in (before, after)]
    assert shares[1] > shares[0] + 0.005


@pytest.mark.parametrize("dose", [None, DOSE])
def test_random_starts_end_with_the_same_maps(dose):
    measurements = measure(synthetic(SCAN, DETECTOR, dose=dose, seed=1)[0])
    aligned = fitted(measurements).embed(measurements)
    for seed in (0, 1):
        model = fitted(measurements, start="random", seed=seed, n_epochs=24)
        assert [report.epoch for report in model.history.epochs] == list(range(1, 25))
        assert model.history.n_patterns == 24 * 192
        embedding = model.embed(measurements)
        for k in range(2):
            assert np.corrcoef(embedding.latents[..., k].ravel(), aligned.latents[..., k].ravel())[0, 1] > 0.999
        offset, errors = difference(embedding.angle, aligned.angle)
        assert abs(offset) < 0.1
        assert np.median(errors) < 0.2


def test_what_is_learned_from_is_the_gradient(vae, measurements):
    """The closed form of the gradient against automatic differentiation of the same likelihood."""
    network, x = inside(vae, measurements)
    variance = network.noise_variance
    content = network.decode(0.7 * torch.ones(len(x), 2)).detach().requires_grad_(True)
    marginal, divergence = network.marginal(x, content)
    (gradient,) = torch.autograd.grad(marginal.sum(), content)
    with torch.no_grad():
        angle, _ = network.peak(*network.cross(x, content))
    spectrum = torch.cat(network.cross(network.rotate(x, -angle), content), dim=-1)
    lengths = (x**2).sum(-1) + (content**2).sum(-1)
    direct = 0.5 * lengths / variance - (spectrum @ network.table / variance).logsumexp(-1)
    (expected,) = torch.autograd.grad(direct.sum(), content)
    torch.testing.assert_close(gradient, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)
    assert not divergence.requires_grad
    assert (divergence > 0).all()


def test_derivatives_of_the_content_are_those_of_automatic_differentiation(vae):
    network = vae._fitted.network
    latents = torch.tensor([[0.7, -0.4], [-1.2, 0.3], [0.0, 2.0]])
    expected = torch.stack(
        [torch.autograd.functional.jacobian(lambda z: network.decode(z[None])[0], z) for z in latents]
    )
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()  # it bends
    torch.testing.assert_close(network.jacobian(latents), expected, atol=1e-6 * float(expected.abs().max()), rtol=1e-5)


def test_steps_are_those_of_pytorch_to_the_last_bit():
    chance = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=chance) for shape in ((7, 33), (33,), (), (5,))]
    ours, theirs = ([torch.nn.Parameter(value.clone()) for value in start] for _ in range(2))
    adam, reference = Adam(ours, (0.9, 0.99)), torch.optim.Adam(theirs, lr=1.0, betas=(0.9, 0.99), fused=True)
    for step in range(40):
        rate = 1e-2 / (1 + step)
        adam.zero_grad()
        reference.zero_grad()
        for mine, other in zip(ours[:-1], theirs[:-1], strict=True):  # the last is not trained
            mine.grad = torch.randn(mine.shape, generator=chance)
            other.grad = mine.grad.clone()
        adam.step(rate)
        reference.param_groups[0]["lr"] = rate
        reference.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        torch.testing.assert_close(mine, other, atol=0, rtol=0)
        assert torch.equal(mine, before) == (mine is ours[-1])


def test_training_does_not_spoil_what_alignment_has_found(vae, untrained, measurements):
    """Linear content and many electrons: aligned PCA is the truth, and nothing is to be gained."""
    held = ~vae.training_mask
    level = vae.noise_level
    before, after = (np.mean(m.evidence(measurements, held, noise_level=level)[0]) for m in (untrained, vae))
    assert after > before - 0.5


def test_the_level_that_evidence_chooses_is_the_best(vae, measurements):
    mask = np.zeros(SCAN, bool)
    mask[::4, ::4] = True
    best, level = vae.evidence(measurements, mask)
    for factor in (0.8, 1.25):
        other, _ = vae.evidence(measurements, mask, noise_level=factor * level)
        assert other.mean() < best.mean()


def test_encoder_bound_lies_below_the_evidence(vae, measurements):
    everywhere = np.ones(measurements.scan_shape, bool)
    network = vae._fitted.network
    x = torch.cat([part.x for part in vae._chunks(measurements, everywhere, neighbours=False)])
    with torch.no_grad():
        bound = -network.loss(x, 1.0, torch.Generator().manual_seed(0)).total
    assert float(bound) < vae.evidence(measurements, noise_level=vae.noise_level)[0].mean()


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_loss_is_the_sum_of_its_parts(vae, measurements, beta):
    network, x = inside(vae, measurements)
    with torch.no_grad():
        parts = network.loss(x, beta, torch.Generator().manual_seed(0))
    total = parts.reconstruction + parts.kl_angle + beta * parts.kl_latent
    assert float(parts.total) == pytest.approx(float(total), rel=1e-5)
    assert parts.kl_angle > 0
    assert parts.kl_latent > 0
    # the misfit that the noise level follows is a squared length of what is left, of patterns of length 1
    assert 0 < parts.squared_error < 0.5


def test_history_adds_up_and_the_noise_level_keeps_above_its_floor(vae, measurements):
    # what neighbours leave of the counting noise, the strongest feature's
    everywhere = measurements.recorded
    noise = vae._fitted.reader.features(measurements, everywhere, everywhere)[1]
    left = (noise.std / vae.basis.scale)[0] / vae._fitted.length
    floor = max(vae.model_config.noise_floor, 0.5 * left)
    assert 0 < left < vae.basis.noise / vae._fitted.length
    assert len(vae.history.epochs) == 12
    for report in vae.history.epochs:
        assert report.noise_level >= floor * (1 - 1e-6)
        assert report.total == pytest.approx(report.reconstruction + report.kl_angle + report.kl_latent, rel=1e-4)
    assert vae.noise_level >= floor * (1 - 1e-6)
    assert vae.history.patterns_per_second > 0
    noiseless = measure(synthetic(SCAN, DETECTOR, seed=1)[0])
    assert fitted(noiseless, n_epochs=6).noise_level >= 0.05 * (1 - 1e-6)


def test_no_content_has_a_part_along_the_rotation_of_the_template(vae):
    """Nor has the curved part one along a component."""
    network = vae._fitted.network
    latents = 2 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        content = network.decode(latents) - network.template
        closed = torch.nn.functional.normalize(network.derivative(network.template), dim=0)
        assert float((content @ closed).abs().max()) < 1e-5 * float(content.norm(dim=-1).max())
        curved = content - latents @ network.components
        along = curved @ torch.nn.functional.normalize(network.components, dim=1).T
        assert float(along.abs().max()) < 1e-5 * float(content.norm(dim=-1).max())
        # the derivative is what a small turn does
        step = torch.full((1,), 1e-3)
        slope = (network.rotate(network.template[None], step) - network.rotate(network.template[None], -step)) / 2e-3
        torch.testing.assert_close(slope[0], network.derivative(network.template), atol=1e-3, rtol=1e-3)


def test_training_keeps_template_and_components(vae, untrained):
    after, before = vae._fitted.network, untrained._fitted.network
    torch.testing.assert_close(after.template, before.template, atol=0, rtol=0)
    torch.testing.assert_close(after.components, before.components, atol=0, rtol=0)
    assert after.decoder[-1].weight.abs().max() > 0
    assert before.decoder[-1].weight.abs().max() == 0


def test_progress_is_reported_every_epoch(measurements):
    reports = []
    vae = RotationVAE(1, basis=BASIS, training=training(n_epochs=2)).fit(measurements, progress=reports.append)
    assert [report.epoch for report in reports] == [1, 2]
    assert reports == vae.history.epochs
    assert reports[-1].learning_rate < reports[0].learning_rate


def test_an_unknown_device_is_refused(measurements):
    assert "abacus" in one_line(lambda: fitted(measurements, device="abacus"))


def test_misfit_is_what_the_reconstruction_leaves(vae, measurements):
    residual, total = vae.misfit(measurements)
    features = vae.basis.features(measurements)
    scale = vae.basis.scale
    assert residual.shape == measurements.scan_shape
    np.testing.assert_allclose(total.ravel(), np.sum(np.abs(features / scale) ** 2, axis=1), rtol=1e-5)
    difference = (features - vae.reconstruct_features(measurements)) / scale
    np.testing.assert_allclose(residual.ravel(), np.sum(np.abs(difference) ** 2, axis=1), rtol=1e-4)
    again = vae.misfit(measurements, truth=measurements)
    np.testing.assert_array_equal(residual, again.residual)
    np.testing.assert_array_equal(total, again.total)


def test_training_takes_no_more_patterns_than_it_may(measurements):
    some = fitted(measurements, 1, n_epochs=1, max_patterns=40)
    assert some.training_mask.sum() == 40
    every = fitted(measurements, 1, n_epochs=0)
    assert every.training_mask.sum() == round(0.9 * measurements.n_patterns)
    assert (every.training_mask | ~some.training_mask).all()


def test_positions_without_a_pattern_are_left_out_and_stay_nan(measurements):
    gap = np.zeros(SCAN, bool)
    gap[3:5, 2:9] = True
    total = np.where(gap, np.nan, measurements.maps["total"])
    holed = replace(measurements, maps={**measurements.maps, "total": total})
    vae = fitted(holed, 1, n_epochs=1)
    assert not vae.training_mask[gap].any()
    embedding = vae.embed(holed)
    assert np.isnan(embedding.angle[gap]).all()
    assert np.isfinite(embedding.angle[~gap]).all()
    assert (np.isnan(vae.misfit(holed).residual) == gap).all()
