"""The whole pipeline: from data with a known answer to a finished run, and what is left when it is not finished."""

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from stemvane.config import Config
from stemvane.data.dataset import Dataset4D
from stemvane.errors import CalibrationError, DataError, ModelError, RunError, StemvaneError
from stemvane.io.files import save_dataset
from stemvane.reduction.prepare import prepare_scan
from stemvane.runs.run import Run
from stemvane.simulation.synthetic import synthetic
from stemvane.workflow.pipeline import demo_config, run_pipeline

ROTAVIRUS = Path(__file__).parents[2] / "shared" / "data" / "rotavirus_cryo_127x127.hspy"
SETTINGS = Config().replace(training={"n_epochs": 15}, compare={"n_turned": 48}, figures={"manifold": 3, "dpi": 60})
QUICK = SETTINGS.replace(
    training={"n_epochs": 1, "holdout": 0.0},
    compare={"n_turned": 0},
    align={"n_iterations": 2, "max_order": 1},
    model={"n_latent": 1},
    basis={"n_features": 8},
)
# house plan, "The run folder"
ALWAYS = {
    "n_patterns", "n_latent", "seed", "model", "electrons_per_pattern", "train_seconds", "train_patterns_per_second",
    "total_seconds", "peak_memory_mb", "pearson_r", "pearson_r_first", "pearson_r_others_max", "angle_sign",
    "angle_offset_deg", "angle_error_median_deg", "angle_error_mean_deg", "explained_variance",
    "explained_variance_truth", "explained_variance_heldout", "evidence_heldout", "invariance_error",
    "equivariance_error_deg",
}  # fmt: skip
TRUTH = {
    "pearson_r_truth", "pearson_r_first_truth", "pearson_r_others_max_truth", "angle_sign_truth",
    "angle_offset_deg_truth", "angle_error_median_deg_truth", "angle_error_mean_deg_truth",
    "com_angle_error_median_deg_truth", "com_pearson_r_truth",
}  # fmt: skip
TIMES = ("train_seconds", "train_patterns_per_second", "total_seconds", "peak_memory_mb")
PARTS = {
    "config.toml", "manifest.json", "measurements.zarr", "embedding.zarr", "model.safetensors", "model.toml",
    "history.csv", "metrics.json", "figures", "checksums.sha256",
}  # fmt: skip


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def content(folder):
    """Names and hashes of all files under a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def scan():
    return synthetic((20, 20), (32, 32))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, scan):
    calls = []
    path = tmp_path_factory.mktemp("runs") / "deep" / "synthetic"
    run_pipeline(SETTINGS, path, dataset=scan[0], command="test", progress=lambda *call: calls.append(call))
    return Run.open(path), calls


@pytest.fixture(scope="module")
def small():
    return synthetic((6, 6), (16, 16))[0]


def angle_errors(run, truth):
    return np.degrees(np.angle(np.exp(1j * (run.embedding.angle - truth.angle))))


def test_angle_and_latents_follow_the_truth(finished, scan):
    run, truth = finished[0], scan[1]
    errors = angle_errors(run, truth)
    # the gauge calls 0 what the COM calls 0, up to the part of the content that is no dipole
    assert abs(np.median(errors)) < 2
    assert np.median(np.abs(errors)) < 2
    assert np.abs(errors).max() < 30
    r = np.corrcoef(run.embedding.latents[..., 0].ravel(), truth.content[0].ravel())[0, 1]
    assert abs(r) > 0.95
    assert np.corrcoef(run.embedding.latents[..., 1].ravel(), truth.content[1].ravel())[0, 1] ** 2 > 0.8


def test_the_metrics_agree_with_the_truth(finished):
    metrics = finished[0].metrics
    assert (metrics["angle_sign"], metrics["angle_sign_truth"]) == (1, 1)
    assert abs(metrics["angle_offset_deg"]) < 2
    assert metrics["angle_error_median_deg"] < 2
    assert metrics["angle_error_median_deg"] == metrics["angle_error_median_deg_truth"]
    assert metrics["com_angle_error_median_deg_truth"] == pytest.approx(0, abs=1e-3)
    assert abs(metrics["pearson_r_first"]) > 0.9
    assert metrics["pearson_r_others_max"] < 0.4
    assert 0.9 < metrics["explained_variance"] <= 1
    assert 0.9 < metrics["explained_variance_heldout"] <= 1
    assert metrics["invariance_error"] < 0.2
    assert metrics["equivariance_error_deg"] < 2


def test_no_metric_is_missing(finished):
    run = finished[0]
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    assert (ALWAYS | TRUTH) - metrics.keys() == set()
    assert not any(isinstance(value, dict) for value in metrics.values())
    assert metrics["electrons_per_pattern"] is None
    assert (metrics["n_patterns"], metrics["n_latent"], metrics["model"]) == (400, 2, "harmonic")
    assert len(metrics["pearson_r"]) == 2
    missing = {key for key in ALWAYS | TRUTH if metrics[key] is None}
    assert missing == {"electrons_per_pattern"}
    assert metrics["total_seconds"] > metrics["train_seconds"] > 0


def test_the_run_folder_is_complete(finished, scan):
    run = finished[0]
    assert {entry.name for entry in run.path.iterdir()} == PARTS
    assert [entry.name for entry in run.path.parent.iterdir()] == ["synthetic"]
    figures = {file.name for file in run.figures_path.iterdir()}
    assert figures == {
        f"{name}.{ending}" for name in ("figure2", "field", "agreement", "learning_curves") for ending in ("png", "svg")
    }
    assert min(file.stat().st_size for file in run.figures_path.iterdir()) > 5000
    assert run.config == Config.from_toml(run.path / "config.toml") == SETTINGS.complete()
    assert list(run.manifest["stages"]) == ["source", "survey", "measure", "learn", "read", "figures"]
    assert run.manifest["data"]["shape"] == [20, 20, 32, 32]
    assert (run.manifest["command"], run.manifest["status"]) == ("test", "complete")
    assert run.history["epoch"].tolist() == list(range(1, 16))
    parts = [run.history[name] for name in ("reconstruction", "kl_latent", "kl_angle")]
    np.testing.assert_allclose(run.history["total"], np.sum(parts, axis=0), rtol=1e-4)
    assert run.manifold.shape == (3, 3, 32, 32)
    np.testing.assert_allclose(run.measurements.com, scan[1].com, atol=1e-4)


def test_progress_is_reported_stage_by_stage(finished):
    calls = finished[1]
    stages = list(dict.fromkeys(call[0] for call in calls))
    assert stages == ["measure", "learn", "read"]
    for stage in stages:
        n_done = [call[1] for call in calls if call[0] == stage]
        assert n_done == sorted(n_done)
        assert calls[[call[0] for call in calls].index(stage)][2] == n_done[-1]


def test_the_same_seed_gives_the_same_run(finished, tmp_path, scan):
    run = run_pipeline(SETTINGS, tmp_path / "again", dataset=scan[0])
    assert {k: v for k, v in run.metrics.items() if k not in TIMES} == {
        k: v for k, v in finished[0].metrics.items() if k not in TIMES
    }
    np.testing.assert_array_equal(run.embedding.latents, finished[0].embedding.latents)
    assert content(run.figures_path)["figure2.png"] == content(finished[0].figures_path)["figure2.png"]


def test_counts_with_a_known_expectation(tmp_path, without_figures):
    dataset, truth = synthetic((16, 16), (24, 24), dose=20000)
    run = run_pipeline(QUICK.replace(model={"n_latent": 0}), tmp_path / "run", dataset=dataset)
    metrics = run.metrics
    assert metrics["electrons_per_pattern"] == 20000
    assert metrics["angle_sign_truth"] == 1
    assert metrics["angle_error_median_deg_truth"] < metrics["com_angle_error_median_deg_truth"]
    assert 0.5 < metrics["com_pearson_r_truth"] < 0.9999
    assert metrics["explained_variance"] < metrics["explained_variance_truth"] <= 1
    assert (metrics["pearson_r"], metrics["pearson_r_first"]) == ([], None)
    assert np.median(np.abs(angle_errors(run, truth))) < 10


def test_the_invariance_of_a_recorded_scan_is_that_of_prepared_patterns(tmp_path, without_figures):
    dataset, _ = synthetic((20, 20), (32, 32), dose=20000)
    rng, expected = np.random.default_rng(1), dataset.expectation.compute()
    moves = np.stack(np.meshgrid(*2 * [np.linspace(-1.5, 1.5, 20)], indexing="ij"), axis=-1)
    counts = np.empty(expected.shape, np.uint16)
    for y, x in np.ndindex(20, 20):
        counts[y, x] = rng.poisson(np.maximum(ndimage.shift(expected[y, x], moves[y, x], order=1), 0))
    hot = ([3, 14, 15, 22], [9, 12, 20, 30])
    counts[..., hot[0], hot[1]] = 3000
    counts[4:6] = 0
    calibration = dataset.calibration.replace(optical_axis=None, disc_radius=None)
    run = run_pipeline(SETTINGS, tmp_path / "run", dataset=Dataset4D.from_array(counts, calibration=calibration))
    sample = {name: np.asarray(run.store("measurements")[f"sample/{name}"][...]) for name in ("patterns", "positions")}
    assert not np.isin(sample["positions"][:, 0], (4, 5)).any()
    # every pattern has its disc at the same place, and no hot pixel
    places = [ndimage.center_of_mass(pattern) for pattern in sample["patterns"]]
    assert np.std(places, axis=0).max() < 0.15
    assert sample["patterns"].max() < 200
    # 20 and 90 deg where bad pixels and beam shift are left in
    assert run.metrics["invariance_error"] < 0.2
    assert run.metrics["equivariance_error_deg"] < 2


def test_a_simulated_run_knows_its_atoms(tmp_path):
    config = QUICK.replace(
        simulation={"scan_shape": (12, 12), "scan_extent": (4.9, 4.9), "detector_shape": (16, 16)},
        training={"n_epochs": 0},
    )
    stages = []
    run_pipeline(config, tmp_path / "run", progress=lambda stage, *_: stages.append(stage))
    run = Run.open(tmp_path / "run")
    assert "simulate" in stages
    assert run.store("measurements")["sample/patterns"].shape == (0, 16, 16)
    assert set(run.measurements.atoms.numbers) == {6}
    assert (run.figures_path / "figure1.svg").exists()
    assert not (run.figures_path / "figure2.svg").exists()
    assert run.metrics["angle_sign"] == 1
    assert run.metrics["angle_error_median_deg"] < 20
    # what was not asked for is null, not made up
    assert (ALWAYS | TRUTH) - run.metrics.keys() == set()
    assert run.metrics["explained_variance_heldout"] is None
    assert run.metrics["evidence_heldout"] is None
    assert run.metrics["invariance_error"] is None
    assert run.metrics["train_patterns_per_second"] is None
    assert run.history["epoch"].shape == (0,)


def test_the_demo_is_the_paper_s_figure():
    settings = demo_config().simulation
    assert (settings.energy, settings.convergence_semiangle, settings.dose, settings.source_size) == (60e3, 31, None, 0)
    assert demo_config().model.n_latent == 2


def test_a_run_that_fails_does_not_look_complete(tmp_path, small, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr("stemvane.models.rotation_vae.RotationVAE.fit", fail)
    with pytest.raises(RuntimeError, match="boom"):
        run_pipeline(QUICK, tmp_path / "run", dataset=small)
    assert not (tmp_path / "run").exists()
    with pytest.raises(RunError) as error:
        Run.open(tmp_path / "run")
    assert "not finished" in one_line(error)


def test_an_existing_folder_is_refused_and_left_alone(tmp_path, small):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RunError) as error:
            run_pipeline(QUICK, tmp_path / "run", dataset=small, overwrite=overwrite)
        assert "another name" in one_line(error)
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")] == ["run", "run/thesis.tex"]


def test_an_old_run_stays_until_the_new_one_is_complete(tmp_path, small, monkeypatch, without_figures):
    path = tmp_path / "run"
    run_pipeline(QUICK, path, dataset=small)
    before = content(path)
    with pytest.raises(RunError, match="exists already"):
        run_pipeline(QUICK, path, dataset=small)
    assert content(path) == before

    with monkeypatch.context() as patch:
        patch.setattr("stemvane.workflow.stages.save_figures", lambda run: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_pipeline(QUICK, path, dataset=small, overwrite=True)
    assert content(path) == before
    with pytest.raises(StemvaneError):
        run_pipeline(QUICK, path, dataset=filled(small, np.nan), overwrite=True)
    assert content(path) == before

    seeds = []
    newer = QUICK.replace(training={"seed": 7})
    run_pipeline(
        newer, path, dataset=small, overwrite=True, progress=lambda *_: seeds.append(Run.open(path).manifest["seed"])
    )
    assert set(seeds) == {0}
    assert Run.open(path).manifest["seed"] == 7
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def filled(dataset, value):
    """A data set of the same calibration that holds one value everywhere."""
    patterns = np.full(dataset.shape, value, np.float32)
    return Dataset4D.from_array(patterns, calibration=dataset.calibration, name="spoilt")


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0])
def test_refused_data_leave_nothing(tmp_path, small, value):
    with pytest.raises(DataError) as error:
        run_pipeline(QUICK, tmp_path / "run", dataset=filled(small, value))
    assert "spoilt: no pattern has counts above zero; " in one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_patterns_that_cannot_be_measured_are_missing(tmp_path, small, without_figures):
    patterns = small.data.compute().astype(np.float32)
    patterns[3, 2], patterns[1, 4, 5, 5], patterns[0, 1, 5, 5], patterns[5, 5] = 0, np.nan, np.inf, -1
    lost = np.zeros(small.scan_shape, bool)
    lost[[3, 1, 0, 5], [2, 4, 1, 5]] = True
    dataset = Dataset4D.from_array(patterns, calibration=small.calibration, name="spoilt")
    run = run_pipeline(QUICK, tmp_path / "run", dataset=dataset)
    np.testing.assert_array_equal(run.measurements.recorded, ~lost)
    np.testing.assert_array_equal(np.isnan(run.embedding.angle), lost)
    (finding,) = (finding for finding in run.measurements.findings if finding.id == "missing_patterns")
    assert finding.message.startswith(f"4 of {small.n_patterns} patterns are empty or nearly so, or hold NaN")
    assert "(0, 1)" in finding.message


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_missing_device_is_refused_before_any_work(tmp_path, monkeypatch, device):
    monkeypatch.setattr("stemvane.workflow.stages.open_source", lambda config: pytest.fail("the file was opened"))
    config = QUICK.replace(training={"device": device}, source={"path": "a.zarr"})
    with pytest.raises(ModelError, match=f"device '{device}' is not available"):
        run_pipeline(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_names_the_device(finished):
    import torch

    expected = f"cuda: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "cpu"
    assert finished[0].manifest["device"] == expected


def test_nothing_after_the_pass_reads_the_raw_data(finished, scan):
    sample = finished[0].store("measurements")["sample"]
    rows, columns = sample["positions"][...].T
    assert sample["patterns"].shape == (48, 32, 32)
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == 48
    np.testing.assert_array_equal(sample["patterns"][...], scan[0].data.compute()[rows, columns])


def test_a_full_disk_is_reported(tmp_path, small, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for place in ("stemvane.workflow.stages.Measurements.write", "stemvane.workflow.stages.Run.write_embedding"):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            with pytest.raises(RunError) as error:
                run_pipeline(QUICK, tmp_path / "run", dataset=small)
        assert "No space left" in one_line(error)
        assert not (tmp_path / "run").exists()


def test_the_users_numbers_take_precedence_over_those_of_the_file(small):
    config = QUICK.replace(source={"scan_step": (0.5, 0.6), "energy": 80e3})
    calibration = prepare_scan(small.recalibrate(**config.source.calibration())).calibration
    assert (calibration.scan_step, calibration.energy) == ((0.5, 0.6), 80e3)
    assert calibration.pixel_size == small.calibration.pixel_size


def test_an_unknown_disc_is_measured(scan):
    dataset = scan[0]
    known = dataset.calibration
    bare = dataset.recalibrate(optical_axis=None, disc_radius=None, pixel_size=None)
    completed = prepare_scan(bare).calibration
    np.testing.assert_allclose(completed.optical_axis, known.optical_axis, atol=0.2)
    assert completed.disc_radius == pytest.approx(known.disc_radius, abs=0.3)
    np.testing.assert_allclose(completed.pixel_size, known.pixel_size, rtol=0.05)


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.0, "no bright-field disc"), (0.0, "are empty"), (np.nan, "hold NaN"), (-1.0, "no bright-field disc")],
)
def test_a_missing_disc_is_reported(tmp_path, value, words):
    dataset = Dataset4D.from_array(np.full((4, 4, 16, 16), value), name="flat")
    with pytest.raises(CalibrationError) as error:
        run_pipeline(QUICK, tmp_path / "run", dataset=dataset)
    assert "no bright-field disc" in one_line(error)
    assert words in one_line(error)
    assert "flat" in one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_names_the_file(tmp_path, small, without_figures):
    path = save_dataset(small, tmp_path / "a.zarr")
    run = run_pipeline(QUICK.replace(source={"path": str(path)}), tmp_path / "run")
    assert run.manifest["data"]["path"] == str(path)
    assert run.config.source.path == str(path)


@pytest.mark.skipif(not ROTAVIRUS.is_file(), reason=f"{ROTAVIRUS} is not there")
def test_a_recorded_scan(tmp_path):
    config = SETTINGS.replace(
        source={"path": str(ROTAVIRUS)},
        preparation={"scan_binning": 2},
        align={"n_iterations": 8, "max_order": 2},
        basis={"n_features": 48},
        training={"n_epochs": 3, "holdout": 0.02},
        compare={"n_turned": 64},
    )
    run_pipeline(config, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.embedding.scan_shape == (63, 63)
    assert np.isfinite(run.embedding.angle).all()
    assert np.isfinite(run.embedding.latents).all()
    assert (run.figures_path / "figure2.png").exists()
    assert not (run.figures_path / "figure1.png").exists()
    assert len(run.manifest["data"]["sha256_first_and_last_mib"]) == 64
    metrics = run.metrics
    assert metrics["angle_sign"] == 1
    assert metrics["angle_error_median_deg"] < 60
    # the estimate uses the neighbours, so that it is not held against them; the COM does not
    of_neighbours = {key for key in metrics if key.endswith("_neighbours") and not key.startswith("com_")}
    assert metrics["com_angle_error_median_deg_neighbours"] == pytest.approx(22.3, abs=0.5)
    assert 0 < metrics["explained_variance_heldout"] < 1
    # no truth is known here, and none is made up
    assert (ALWAYS | TRUTH) - metrics.keys() == set()
    null = {key for key, value in metrics.items() if value is None}
    unasked = {"electrons_per_pattern", "network_gain", "network_gain_std"}
    unasked |= {"quantity_known", "quantity_explained", "quantity_std_median"}
    # a probe and a weak specimen do not explain it
    of_probe = {"defocus", "defocus_std", "astigmatism", "astigmatism_std", "astigmatism_angle_deg"}
    assert null == {key for key in metrics if key.endswith("_truth")} | of_neighbours | unasked | of_probe
