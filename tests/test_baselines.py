"""Baselines behind one interface: what they find, keep, save and predict, and whole runs of them."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stemvane import (
    AlignedPCA,
    Calibration,
    Config,
    Dataset4D,
    RotationVAE,
    Run,
    align_rotation,
    load_model,
    measure,
    pattern_model,
    run_pipeline,
    synthetic,
)
from stemvane.config import MeasureConfig
from stemvane.errors import ConfigError, DataError, ModelError
from stemvane.models.checks import check_mask
from stemvane.models.training import TrainingHistory, training_positions

SCAN, DETECTOR, N = (12, 12), (32, 32), 16
ALL = ("harmonic", "coordinate", "vae", "pca", "nmf", "alignment")
WITHOUT_ANGLE = ("vae", "pca", "nmf")
TRAINED = ("harmonic", "coordinate", "vae")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def measurements():
    return measure(synthetic(SCAN, DETECTOR, dose=1e5, seed=1)[0], config=MeasureConfig(n_pixels=N))


@pytest.fixture(scope="module")
def noiseless():
    return measure(synthetic(SCAN, DETECTOR, seed=1)[0], config=MeasureConfig(n_pixels=N))


def settings(name, n_latent=2, **training):
    training = {"n_epochs": 2, "device": "cpu", **training}
    model = {"model": name, "n_latent": n_latent}
    if name in TRAINED:
        model["batch_size"] = 64
        model |= {key: training.pop(key) for key in ("batch_size", "learning_rate") if key in training}
    return Config().replace(basis={"n_features": 32}, model=model, training=training)


def fitted(measurements, name, n_latent=2, *, mask=None, **training):
    return pattern_model(settings(name, n_latent, **training)).fit(measurements, mask=mask)


@pytest.fixture(scope="module")
def models(measurements):
    return {name: fitted(measurements, name) for name in ALL}


def pixels(measurements):
    return np.asarray(measurements.pixels[:], float)


def explained(measurements, prediction):
    """Share of the variance of the pixels that a prediction explains."""
    truth = pixels(measurements)
    return 1 - ((prediction - truth) ** 2).sum() / ((truth - truth.mean((0, 1))) ** 2).sum()


@pytest.mark.parametrize("name", ALL)
def test_every_model_keeps_the_interface(models, measurements, name):
    model = models[name]
    assert model.n_latent == 2
    assert isinstance(model.history, TrainingHistory)
    np.testing.assert_array_equal(
        model.training_mask, training_positions(measurements.recorded, settings(name).training)
    )
    assert model.mean_total == pytest.approx(measurements.maps["total"][model.training_mask].mean(), rel=1e-6)
    embedding = model.embed(measurements)
    trained = embedding.latents[model.training_mask]
    np.testing.assert_allclose(trained.mean(0) / trained.std(0), 0, atol=0.05)
    if settings(name).model.latent_unit == "s.d.":
        np.testing.assert_allclose(trained.std(0), 1, atol=0.05)
    else:
        # content is some of a residual
        assert 1 > trained[:, 0].std() > trained[:, 1].std() > 0
    np.testing.assert_allclose(embedding.angle_posterior.sum(-1), 1, rtol=1e-4)
    assert np.isfinite(embedding.angle).all() == (name not in WITHOUT_ANGLE)
    drawn = model.decode(np.zeros((3, 1, 2)), np.zeros(1))
    assert drawn.shape == (3, 1, *DETECTOR)
    assert np.isfinite(drawn[..., 16, 16]).all()
    assert np.isnan(drawn[..., 0, 0]).all()
    misfit = model.misfit(measurements)
    again = model.misfit(measurements, truth=measurements.expectation)
    assert misfit.residual.shape == misfit.total.shape == SCAN
    assert np.isfinite(misfit.residual).all()
    assert again.residual.sum() != misfit.residual.sum()
    assert (model.evidence(measurements, n_samples=1) is None) == (name not in ("harmonic", "alignment"))
    assert (model.noise_level is None) == (name not in ("harmonic", "alignment"))


@pytest.mark.parametrize("name", ALL)
def test_every_model_refuses_what_was_not_measured_in_one_line(models, name):
    dataset = synthetic(SCAN, DETECTOR)[0]
    model = models[name]
    for call in (model.fit, model.embed, model.reconstruct, model.misfit, model.evidence):
        if call == model.evidence and name not in ("harmonic", "alignment"):
            continue
        with pytest.raises(DataError, match="call measure first") as caught:
            call(dataset)
        assert type(model).__name__ in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ALL)
def test_every_model_prints_in_a_few_lines(models, name):
    for model, state in ((models[name], "fitted"), (pattern_model(settings(name)), "not fitted")):
        lines = repr(model).splitlines()
        assert lines[0] == f"{type(model).__name__}, {state}"
        assert len(lines) <= 8
        assert any(line.split() == ["number", "of", "latents", "2"] for line in lines)
        assert type(model).__name__ in model._repr_html_()


def test_a_file_of_another_model_is_refused(models, tmp_path):
    path = models["pca"].save(tmp_path / "pca")
    with pytest.raises(ModelError, match=r"holds the model 'pca'.*call load_model"):
        RotationVAE.load(path)


def test_an_embedding_says_whether_it_uses_neighbours(models, measurements, noiseless):
    for name, model in models.items():
        embedding = model.embed(measurements)
        assert embedding.uses_neighbours == (name in ("harmonic", "alignment"))
        assert embedding.latent_unit == settings(name).model.latent_unit
    alone = replace(measurements, is_scan=False)
    assert not models["harmonic"].embed(alone).uses_neighbours
    assert not fitted(noiseless, "alignment").embed(noiseless).uses_neighbours


@pytest.mark.parametrize("name", WITHOUT_ANGLE)
def test_models_without_an_angle_say_so(models, measurements, name):
    embedding = models[name].embed(measurements)
    assert np.isnan(embedding.angle).all()
    assert np.isinf(embedding.angle_std).all()
    np.testing.assert_allclose(embedding.angle_posterior, 1 / 72, rtol=1e-6)
    assert (embedding.n_peaks == 0).all()
    np.testing.assert_array_equal(models[name].decode([[0.5, 0]], 0.0), models[name].decode([[0.5, 0]], 2.0))


@pytest.mark.parametrize("name", ALL)
def test_saved_and_read_every_model_says_the_same(models, measurements, name, tmp_path):
    path = models[name].save(tmp_path / name)
    assert path.name == f"{name}.safetensors"
    again = load_model(path)
    assert type(again) is type(models[name])
    assert type(models[name]).load(path).n_latent == 2
    embedding = models[name].embed(measurements)
    for part, values in vars(again.embed(measurements)).items():
        np.testing.assert_array_equal(values, getattr(embedding, part))
    np.testing.assert_array_equal(again.reconstruct(measurements), models[name].reconstruct(measurements))
    np.testing.assert_array_equal(again.decode([[0.5, -1]], 0.3), models[name].decode([[0.5, -1]], 0.3))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="save"):
        load_model(path)
    with pytest.raises(ModelError, match="gone"):
        load_model(tmp_path / "gone")


@pytest.mark.parametrize("name", ALL)
def test_masks_and_gaps_stay_out_of_every_model(measurements, name):
    mask = np.ones(SCAN, bool)
    mask[:, 9:] = False
    gap = np.zeros(SCAN, bool)
    gap[2, 3:6] = True
    garbage = {part: np.where(gap, np.nan, values) for part, values in measurements.maps.items()}
    spoilt = np.where(mask[..., None, None] & ~gap[..., None, None], measurements.pixels[:], 1e6).astype(np.float32)
    holed = replace(measurements, maps=garbage, pixels=spoilt)
    clean = replace(measurements, maps=garbage)
    one, other = (fitted(data, name, mask=mask) for data in (holed, clean))
    assert not one.training_mask[gap | ~mask].any()
    used = mask & ~gap
    prediction = one.reconstruct(holed, mask=mask)
    assert np.isnan(prediction[~used]).all()
    np.testing.assert_allclose(prediction[used], other.reconstruct(clean, mask=mask)[used], rtol=1e-4, atol=1e-2)
    embedding = one.embed(holed, mask=mask)
    assert np.isnan(embedding.latents[~used]).all()
    assert np.isnan(embedding.angle_std[~used]).all()
    assert np.isfinite(embedding.latents[used]).all()
    assert (np.isnan(one.misfit(clean).residual) == gap).all()
    nothing = one.embed(measurements, mask=np.zeros(SCAN, bool))
    assert np.isnan(nothing.latents).all()
    assert np.isnan(one.reconstruct(measurements, mask=np.zeros(SCAN, bool))).all()
    with pytest.raises(DataError, match=r"\(3, 3\)"):
        one.embed(measurements, mask=np.ones((3, 3), bool))


def test_principal_components_are_those_of_the_covariance(noiseless):
    model = fitted(noiseless, "pca", 5, holdout=0.0)
    truth = pixels(noiseless).reshape(-1, N * N)
    values = np.linalg.svd(truth - truth.mean(0), compute_uv=False) ** 2
    assert explained(noiseless, model.reconstruct(noiseless)) == pytest.approx(
        values[:5].sum() / values.sum(), abs=1e-5
    )
    residual, total = model.misfit(noiseless)
    assert 1 - residual.sum() / total.sum() == pytest.approx(values[:5].sum() / values.sum(), abs=1e-5)
    # the drawing of one standard deviation along each component has the variance that it explains
    steps = model.decode(np.eye(5)) - model.decode(np.zeros((5, 5)))
    lengths = np.nansum(steps**2, axis=(1, 2))
    np.testing.assert_allclose(lengths / lengths[0], values[:5] / values[0], rtol=0.15)
    latents = model.embed(noiseless).latents.reshape(-1, 5)
    np.testing.assert_allclose(latents.T @ latents / len(latents), np.eye(5), atol=1e-3)
    assert (np.mean(latents**3, axis=0) > -1e-3).all()


def test_a_rotated_pattern_takes_two_components_for_each_order_and_one_template():
    """A dipole with an admixture of order 2, turned by all angles: rank 4, or one template."""
    angle = 2 * np.pi * np.arange(144).reshape(SCAN) / 144
    dataset, truth = synthetic(SCAN, DETECTOR, n_content=1, angle=angle)
    # the same amplitude everywhere
    still = dataset.data.compute()
    mean = still.mean((0, 1))
    same = (still - mean) / truth.content[0][..., None, None]
    patterns = (mean + same - same.mean((0, 1))).astype(np.float32)
    measured = measure(replace(dataset, data=dataset.data * 0 + patterns), config=MeasureConfig(n_pixels=N))
    shares = [explained(measured, fitted(measured, "pca", n, holdout=0.0).reconstruct(measured)) for n in (1, 2, 3, 4)]
    assert shares[0] < 0.55
    assert shares[2] < 0.98
    assert shares[3] > 0.995
    assert explained(measured, fitted(measured, "alignment", 0, holdout=0.0).reconstruct(measured)) > 0.97
    parts = fitted(measured, "nmf", 2, holdout=0.0)
    assert explained(measured, parts.reconstruct(measured)) < shares[1]


def test_parts_are_not_negative_and_ordered(noiseless):
    model = fitted(noiseless, "nmf", 4, holdout=0.0)
    network = model._fitted.network
    assert float(network.parts.min()) >= 0
    amounts = model.embed(noiseless).latents * network.latent_scale.numpy() + network.latent_mean.numpy()
    assert amounts.min() > -1e-5
    varying = amounts.reshape(-1, 4).var(0) * (network.parts.numpy() ** 2).sum(1)
    assert (np.diff(varying) <= 1e-6 * varying[0]).all()
    assert (
        0.3
        < explained(noiseless, model.reconstruct(noiseless))
        <= explained(noiseless, fitted(noiseless, "pca", 4, holdout=0.0).reconstruct(noiseless))
    )


def test_plain_autoencoder_learns():
    """Two spots whose brightnesses vary by themselves."""
    rows, columns = np.indices(DETECTOR) - 15.5
    spots = [np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 30) for y, x in ((-4, 3), (5, -2))]
    # nowhere so dark that the beam would be taken to be off
    amounts = 0.52 - 0.5 * np.cos(np.random.default_rng(0).uniform(0, np.pi, (*SCAN, 2)))
    patterns = np.tensordot(amounts, spots, axes=1).astype(np.float32)
    calibration = Calibration(optical_axis=(15.5, 15.5), disc_radius=10.0)
    measured = measure(Dataset4D.from_array(patterns, calibration=calibration), config=MeasureConfig(n_pixels=32))
    model = fitted(measured, "vae", n_epochs=100, learning_rate=3e-3, batch_size=32)
    # noise of variance 1 beside a variance of 12 along each spot
    assert explained(measured, model.reconstruct(measured)) > 0.8
    assert model.history.epochs[-1].kl_latent > 1
    assert model.history.epochs[-1].kl_angle == 0
    latents = model.embed(measured).latents.reshape(-1, 2)
    design = np.column_stack([latents, latents**2, latents.prod(1), np.ones(len(latents))])
    for k in range(2):
        amount = amounts[..., k].ravel()
        left = np.linalg.lstsq(design, amount, rcond=None)[1][0]
        assert left / (amount.var() * amount.size) < 0.25


def test_alignment_is_that_of_align_rotation(models, measurements):
    model = models["alignment"]
    assert isinstance(model, AlignedPCA)
    assert model.history.epochs == []
    basis = model.basis
    features, _ = model._fitted.reader.features(measurements, model.training_mask, measurements.recorded)
    alignment = align_rotation(features, basis, n_components=2)
    embedding = model.embed(measurements)
    # the latents move the content a little, and the angle with it
    turns = embedding.angle[model.training_mask] - alignment.angle
    assert np.quantile(np.abs(np.angle(np.exp(1j * turns))), 0.9) < np.radians(2)
    scores = alignment.scores / alignment.scores.std(0)
    for k in range(2):
        r = np.corrcoef(embedding.latents[model.training_mask][:, k], scores[:, k])[0, 1]
        assert r > 0.99
    trained = RotationVAE(2, basis=model.basis_config, training=settings("harmonic", n_epochs=0).training)
    same = trained.fit(measurements).embed(measurements)
    np.testing.assert_array_equal(embedding.angle, same.angle)


@pytest.mark.parametrize("name", ["harmonic", "alignment"])
def test_harmonic_models_predict_pixels(noiseless, name):
    model = fitted(noiseless, name, n_epochs=0, holdout=0.0)
    prediction = model.reconstruct(noiseless)
    assert prediction.shape == (*SCAN, N, N)
    assert prediction.dtype == np.float32
    residual, total = model.misfit(noiseless)
    # what the polar patterns lose on their way to pixels is little beside what the model leaves
    assert explained(noiseless, prediction) > 1 - residual.sum() / total.sum() - 0.03
    assert explained(noiseless, prediction) > 0.9
    # a model that has seen no pixels takes its background from the polar mean, blurred at the disc's edge
    bare = replace(noiseless, pixels=None, pixel_grid=None)
    blind = fitted(bare, name, n_epochs=0, holdout=0.0)
    other = blind.reconstruct(noiseless)
    shift = (other - prediction).reshape(-1, N, N)
    np.testing.assert_allclose(shift, shift[:1].repeat(len(shift), 0), atol=1e-6 * prediction.max())
    middle = slice(5, 11)
    assert np.abs(shift[0, middle, middle]).max() < 0.02 * prediction.max()
    with pytest.raises(DataError, match="n_pixels"):
        model.reconstruct(bare)


def test_settings_choose_the_model_and_its_defaults():
    kinds = {name: type(pattern_model(Config().replace(model={"model": name}))).__name__ for name in ALL}
    assert kinds == {
        "harmonic": "RotationVAE",
        "coordinate": "CoordinateVAE",
        "vae": "PlainVAE",
        "pca": "PCA",
        "nmf": "NMF",
        "alignment": "AlignedPCA",
    }
    for name, width, batch, rate, n_pixels in (
        ("harmonic", 64, 512, 8e-3, 0),
        ("coordinate", 128, 256, 1e-4, 16),
        ("vae", 128, 256, 1e-4, 16),
    ):
        config = Config().replace(model={"model": name}).complete()
        assert (config.model.n_hidden, config.model.batch_size, config.model.learning_rate) == (width, batch, rate)
        assert config.measure.n_pixels == n_pixels
    assert Config().replace(model={"model": "pca"}).complete().measure.n_pixels == 16
    chosen = Config().replace(
        model={"model": "vae", "n_hidden": 32, "learning_rate": 0.01, "batch_size": 10},
        measure={"n_pixels": 24},
    )
    assert chosen.complete() == chosen
    with pytest.raises(ConfigError, match=r"model\.model"):
        Config().replace(model={"model": "umap"})


def test_impossible_numbers_of_latents_are_refused(measurements):
    with pytest.raises(ModelError, match="n_latent"):
        fitted(measurements, "nmf", 0)
    for name in ("pca", "nmf"):
        with pytest.raises(ModelError, match="n_latent"):
            fitted(measurements, name, 200)
    none = fitted(measurements, "pca", 0)
    assert none.embed(measurements).latents.shape == (*SCAN, 0)
    assert explained(measurements, none.reconstruct(measurements)) == pytest.approx(0, abs=0.02)
    with pytest.raises(ModelError, match="call fit"):
        pattern_model(settings("pca")).embed(measurements)


def test_mask_of_another_shape(measurements):
    assert check_mask(None, measurements).all()
    with pytest.raises(DataError):
        check_mask(np.ones((2, 2), bool), measurements)


@pytest.mark.parametrize("name", ["pca", "coordinate"])
def test_a_whole_run_of_another_model(tmp_path, name):
    dataset, _ = synthetic((8, 8), DETECTOR, dose=1e5)
    config = Config().replace(
        model={"model": name},
        training={"n_epochs": 1, "device": "cpu"},
        compare={"n_turned": 4},
        figures={"dpi": 50, "manifold": 2},
    )
    run = run_pipeline(config, tmp_path / name, dataset=dataset)
    metrics = Run.open(run.path).metrics
    assert metrics["model"] == name
    assert run.config.measure.n_pixels == 16
    assert run.measurements.pixels.shape == (8, 8, 16, 16)
    assert (metrics["angle_error_median_deg"] is None) == (name == "pca")
    assert (metrics["equivariance_error_deg"] is None) == (name == "pca")
    assert metrics["invariance_error"] > 0
    assert metrics["evidence_heldout"] is None
    assert metrics["explained_variance_heldout"] is not None
    assert metrics["noise_level"] is None
    drawn = {path.stem: path.with_suffix(".svg").read_text(encoding="utf-8") for path in run.figures_path.glob("*.png")}
    for figure in ("figure2", "agreement"):
        assert ("no angle" in drawn[figure]) == (name == "pca")
    assert ("no epochs of training" in drawn["learning_curves"]) == (name == "pca")
    assert "noise level" not in drawn["learning_curves"]


def test_a_killed_run_of_a_baseline_goes_on(tmp_path, monkeypatch, without_figures):
    from stemvane import save_dataset
    from stemvane.workflow import pipeline

    path = save_dataset(synthetic((8, 8), DETECTOR, dose=1e5)[0], tmp_path / "scan.zarr")
    config = Config().replace(
        source={"path": str(path)}, model={"model": "nmf"}, compare={"n_turned": 2}, figures={"dpi": 50, "manifold": 2}
    )
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "evaluate_stage", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(config, tmp_path / "run")
    run = run_pipeline(config, tmp_path / "run")
    assert run.manifest["resumed"] == ["measure", "learn"]
    assert run.metrics["train_seconds"] > 0
    assert run.metrics["explained_variance_heldout"] is not None


def test_the_picture_of_the_motive_shows_what_is_measured():
    script = Path(__file__).parent.parent / "docs" / "draw_motive.py"
    spec = importlib.util.spec_from_file_location("draw_motive", script)
    drawn = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawn)
    drawn.SCAN = (8, 8)
    measured = drawn.measured()
    ours = drawn.explained(measured, drawn.fit_model(measured, "alignment", 0))
    assert ours > 0.999
    assert drawn.explained(measured, drawn.fit_model(measured, "pca", 16)) < ours
    assert drawn.explained(measured, drawn.fit_model(measured, "pca", 1)) == pytest.approx(0.354, abs=0.002)
    assert drawn.PICTURE.exists()
