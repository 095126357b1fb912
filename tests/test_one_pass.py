"""One pass that keeps no patterns: the same maps, and a model that was fitted to a sample of the scan."""

from dataclasses import replace

import numpy as np
import pytest
from pickled_tasks import PickledTasks

from stemvane.config import AlignConfig, BasisConfig, Config, MeasureConfig
from stemvane.errors import ConfigError, ModelError
from stemvane.models.aligned_pca import AlignedPCA
from stemvane.models.kinds_model import KindsModel
from stemvane.models.one_pass import measure_and_embed
from stemvane.models.pca import PCA
from stemvane.reduction.measure import measure
from stemvane.simulation.synthetic import synthetic
from stemvane.workflow.pipeline import run_pipeline
from stemvane.workflow.sweep import run_sweep

SAMPLED = MeasureConfig(n_sampled=150, n_pixels=8)


@pytest.fixture(scope="module")
def scan():
    dataset, _ = synthetic((24, 20), (20, 20), dose=2000.0, seed=1)
    # without a pattern: a position of the sample, and one of the others
    missing = np.zeros(dataset.scan_shape, bool)
    missing[1, 12] = missing[7, 3] = True
    return replace(dataset, data=dataset.data.rechunk((4, 10, 20, 20)), missing=missing)


def quick_model(**basis):
    return AlignedPCA(2, basis=BasisConfig(n_features=16, **basis), align=AlignConfig(n_iterations=4))


@pytest.fixture(scope="module")
def of_features(scan):
    return measure_and_embed(scan, quick_model(), config=SAMPLED)


@pytest.mark.parametrize("from_all", [quick_model(neighbours=False), PCA(n_latent=2)])
def test_one_pass_is_a_model_of_a_sample_on_every_pattern(scan, of_features, from_all):
    done = measure_and_embed(scan, PCA(n_latent=2), config=SAMPLED) if isinstance(from_all, PCA) else of_features
    kept = measure(scan, config=SAMPLED)
    assert (done.measurements.polar, done.measurements.pixels) == (None, None)
    assert set(done.measurements.maps) == set(kept.maps)
    for name, values in kept.maps.items():
        np.testing.assert_array_equal(done.measurements.maps[name], values)
    np.testing.assert_array_equal(done.measurements.mean_pattern, kept.mean_pattern)
    # four of twelve blocks of 40 positions, from everywhere, and a tenth of them held out
    assert done.sampled.sum() == 160
    assert done.sampled.any(axis=1).reshape(6, 4).all(axis=1).sum() == 4
    assert not done.trained_on[~done.sampled].any()
    assert done.trained_on.sum() == round(0.9 * kept.recorded[done.sampled].sum())
    # the same from all patterns, in two passes
    expected = from_all.fit(kept, mask=done.sampled).embed(kept, rescale=False)
    np.testing.assert_allclose(done.embedding.latents, expected.latents, atol=1e-4 * np.nanstd(expected.latents))
    turned = np.angle(np.exp(1j * (done.embedding.angle - expected.angle)))
    assert np.nanmax(np.abs(turned), initial=0) < 1e-4
    np.testing.assert_array_equal(np.isnan(done.embedding.latents).any(axis=-1), scan.missing)


def test_a_cluster_measures_and_embeds_to_the_same_bits(scan, of_features):
    client = PickledTasks()
    sent = measure_and_embed(scan, quick_model(), config=SAMPLED, client=client)
    # twelve blocks and one of noiseless patterns, and what they share for sample, rest and these
    assert client.n_tasks == 12 + 1 + 3
    for name in ("latents", "latent_std", "angle", "angle_std", "angle_posterior", "log_evidence"):
        np.testing.assert_array_equal(getattr(sent.embedding, name), getattr(of_features.embedding, name))
    for name, values in sent.measurements.maps.items():
        np.testing.assert_array_equal(values, of_features.measurements.maps[name])


def test_a_run_without_polar_patterns_says_what_it_lost(scan, tmp_path, monkeypatch):
    # figures draw maps, which are those of any run
    monkeypatch.setattr("stemvane.workflow.stages.save_figures", lambda run: None)
    # its search takes most of a small run's time
    monkeypatch.setattr("stemvane.models.harmonic_model.best_noise_variance", lambda model, features: 0.01)
    config = Config().replace(
        measure={"keep_polar": False, "n_sampled": 150},
        model={"model": "alignment"},
        basis={"n_features": 16},
        align={"n_iterations": 4},
        compare={"n_turned": 8},
        figures={"manifold": 2},
    )
    run = run_pipeline(config, tmp_path / "run", dataset=scan)
    assert "polar" not in run.store("measurements")
    assert run.manifest["stages"]["measure"]["patterns_sampled"] == 160
    sampled = np.asarray(run.store("measurements")["sampled"])
    assert run.trained_on.sum() == 143
    assert not run.trained_on[~sampled].any()
    finding = next(finding for finding in run.findings if finding.id == "one_pass")
    assert finding.severity == "warning"
    assert "160 of 480 patterns" in finding.message
    assert np.isfinite(run.embedding.angle).sum() == 478
    metrics = run.metrics
    assert not run.embedding.uses_neighbours
    assert all(metrics[name] is not None for name in ("evidence_heldout", "explained_variance_heldout"))
    assert metrics["equivariance_error_deg"] is not None


def test_what_needs_all_patterns_is_refused(scan, tmp_path):
    with pytest.raises(ModelError, match=r"measure\.keep_polar"):
        measure_and_embed(scan, KindsModel(n_kinds=2, labels={"a": [(0, 0)]}))
    with pytest.raises(ConfigError, match=r"measure\.keep_polar"):
        run_sweep(Config().replace(measure={"keep_polar": False}), tmp_path / "sweep", dataset=scan)
