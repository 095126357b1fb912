"""A killed run goes on where it stopped: what is taken over, what is not, and that the numbers are the same."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import zarr

from stemvane.config import Config
from stemvane.data.dataset import Dataset4D
from stemvane.errors import RunError
from stemvane.io.files import save_dataset
from stemvane.runs.run import Run
from stemvane.simulation.synthetic import synthetic
from stemvane.workflow.pipeline import run_pipeline
from stemvane.workflow.stages import training_inputs

QUICK = Config().replace(
    training={"n_epochs": 2, "holdout": 0.2},
    compare={"n_turned": 8},
    align={"n_iterations": 2, "max_order": 1},
    model={"n_latent": 1},
    basis={"n_features": 8},
    figures={"manifold": 2, "dpi": 50},
    measure={"n_pixels": 6},
)
SIMULATED = QUICK.replace(
    simulation={"scan_shape": (6, 6), "scan_extent": (2.5, 2.5), "detector_shape": (16, 16), "dose": 1e4}
)
TIMES = ("train_seconds", "train_patterns_per_second", "total_seconds", "peak_memory_mb")
# stage and progress at which a run is killed
SIMULATING, MEASURING, TRAINING, EMBEDDING, DRAWING = (
    ("simulate", 1),
    ("measure", 1),
    ("learn", 1),
    ("read", 0),
    ("read", 2),
)

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system knows no SIGKILL")

# forks a process for each run, so that what takes seconds to import is imported once
FORKING = """
import json, os, signal, sys
import ase.build, sklearn.metrics, torch
from stemvane import Config, run_pipeline

def run(path, settings, stage, least):
    def kill(at, done, *_):
        if at == stage and done >= least:
            os.kill(os.getpid(), signal.SIGKILL)

    signal.alarm(120)
    run_pipeline(Config.from_toml(settings), path, progress=kill)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(*json.loads(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def killed():
    """Begin a run in a process of its own and kill it; what its manifest says then."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", FORKING], **streams) as forking:

        def kill(path, config, moment):
            settings = path.parent / "settings.toml"
            settings.write_text(config.to_toml(), encoding="utf-8")
            forking.stdin.write(json.dumps([str(path), str(settings), *moment]) + "\n")
            forking.stdin.flush()
            ended = int(forking.stdout.readline())
            settings.unlink()
            assert ended == -signal.SIGKILL
            assert not path.exists()
            return manifest(path)

        yield kill


class Interrupted(BaseException):
    pass


def interrupted(path, config, moment, dataset=None):
    """The same without a process of its own: quicker, but not as sudden."""

    def interrupt(stage, done, *_):
        if (stage, done) >= moment and stage == moment[0]:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_pipeline(config, path, dataset=dataset, progress=interrupt)
    assert not path.exists()
    return manifest(path)


def manifest(path):
    return json.loads((path.with_name(f".{path.name}.partial") / "manifest.json").read_text(encoding="utf-8"))


def numbers(run):
    return {key: value for key, value in run.metrics.items() if key not in TIMES}


def assert_same(run, other):
    assert numbers(run) == numbers(other)
    for name in ("latents", "latent_std", "angle", "angle_std", "angle_posterior", "log_evidence"):
        np.testing.assert_array_equal(getattr(run.embedding, name), getattr(other.embedding, name))
    np.testing.assert_array_equal(run.manifold, other.manifold)
    np.testing.assert_array_equal(run.trained_on, other.trained_on)
    np.testing.assert_array_equal(run.measurements.pixels[:], other.measurements.pixels[:])
    for name, values in run.history.items():
        np.testing.assert_array_equal(values, other.history[name])
    assert run.history.keys() == other.history.keys()
    assert sorted(entry.name for entry in run.path.iterdir()) == sorted(entry.name for entry in other.path.iterdir())


@pytest.fixture(scope="module", autouse=True)
def slow_parts_left_out():
    """Figures and the search for the likeliest noise take most of a small run's time and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stemvane.workflow.stages.save_figures", lambda run: run.figures_path.mkdir())
        patch.setattr("stemvane.models.harmonic_model.best_noise_variance", lambda model, features: 0.01)
        yield


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture(scope="module")
def recorded(shelf):
    """Settings that name a file."""
    save_dataset(synthetic((6, 6), (16, 16))[0], shelf / "scan.zarr")
    return QUICK.replace(source={"path": str(shelf / "scan.zarr")})


@pytest.fixture(scope="module")
def whole(shelf, recorded):
    """The runs as they are without being killed."""
    return {
        "file": run_pipeline(recorded, shelf / "file"),
        "simulation": run_pipeline(SIMULATED, shelf / "simulation"),
    }


@pytest.fixture(scope="module")
def left(shelf, recorded, killed):
    """What a run of a file leaves when it is killed while its figures are drawn."""
    killed(shelf / "killed", recorded, DRAWING)
    return shelf / ".killed.partial"


@pytest.fixture
def place(left, tmp_path):
    """A folder for a run that has a killed run's leavings beside it."""
    shutil.copytree(left, tmp_path / ".run.partial")
    return tmp_path / "run"


def test_a_killed_run_does_not_look_complete(place):
    partial = place.with_name(".run.partial")
    assert not place.exists()
    assert (partial / "measurements.zarr").exists()
    assert json.loads((partial / "manifest.json").read_text())["status"] == "running"
    for path in (place, partial):
        with pytest.raises(RunError, match="not finished") as error:
            Run.open(path)
        assert "\n" not in str(error.value)
    # even if somebody gives it the final name
    partial.rename(place)
    with pytest.raises(RunError, match="not complete"):
        Run.open(place)


def forbidden(*_, **__):
    raise AssertionError("this was done before")


def finish(path, config, before, expected, reference, monkeypatch):
    """Start a killed run again; whatever it has done before is not done again, and the numbers are the same."""
    calls = []
    with monkeypatch.context() as patch:
        if "measure" in expected:
            for name in ("simulate", "prepare_scan", "Measurements.write"):
                patch.setattr(f"stemvane.workflow.stages.{name}", forbidden)
        if "learn" in expected:
            patch.setattr("stemvane.models.rotation_vae.RotationVAE.fit", forbidden)
        run_pipeline(config, path, progress=lambda *call: calls.append(call))
    run = Run.open(path)
    assert run.manifest["resumed"] == expected
    assert_same(run, reference)
    assert [entry.name for entry in path.parent.iterdir()] == ["run"]
    words = f"{', '.join(expected)} taken over from the run that was killed"
    assert [call for call in calls if call[0] == "resumed"] == ([("resumed", 1, 1, words)] if expected else [])
    stages = run.manifest["stages"]
    assert list(stages) == ["source", "survey", "measure", "learn", "read", "figures"]
    for name in (["source", "survey"] if expected else []) + expected:
        assert stages[name] == before["stages"][name]
    earlier = sum(before["stages"][name]["wall_seconds"] for name in expected)
    assert run.manifest["total_seconds"] > earlier
    assert run.metrics["total_seconds"] > earlier
    peaks = [before["stages"][name]["peak_memory_mb"] for name in expected]
    assert min(run.metrics["peak_memory_mb"], run.manifest["peak_memory_mb"]) >= max(peaks, default=1)
    for key in ("data", "device"):
        assert run.manifest[key] == reference.manifest[key]
    if "learn" in expected:
        seconds, shown = (before["stages"]["learn"][key] for key in ("train_seconds", "patterns_shown"))
        assert run.metrics["train_seconds"] == seconds > 0
        assert run.metrics["train_patterns_per_second"] == shown / seconds


def test_a_run_killed_again_and_again(tmp_path, whole, recorded, killed, monkeypatch):
    first = killed(tmp_path / "run", recorded, TRAINING)
    second = killed(tmp_path / "run", recorded, EMBEDDING)
    assert (first["resumed"], second["resumed"]) == ([], ["measure"])
    assert second["stages"]["measure"] == first["stages"]["measure"]
    finish(tmp_path / "run", recorded, second, ["measure", "learn"], whole["file"], monkeypatch)


def test_a_killed_simulation_goes_on_and_is_not_simulated_again(tmp_path, whole, killed, monkeypatch):
    before = killed(tmp_path / "run", SIMULATED, EMBEDDING)
    finish(tmp_path / "run", SIMULATED, before, ["measure", "learn"], whole["simulation"], monkeypatch)


@pytest.mark.parametrize(
    ("moment", "expected"), [(MEASURING, []), (TRAINING, ["measure"]), (DRAWING, ["measure", "learn"])]
)
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, whole, recorded, monkeypatch, moment, expected):
    before = interrupted(tmp_path / "run", recorded, moment)
    finish(tmp_path / "run", recorded, before, expected, whole["file"], monkeypatch)


def test_a_simulation_interrupted_half_way_begins_again(tmp_path, whole, monkeypatch):
    before = interrupted(tmp_path / "run", SIMULATED, SIMULATING)
    finish(tmp_path / "run", SIMULATED, before, [], whole["simulation"], monkeypatch)


def test_a_run_that_was_not_killed_has_taken_nothing_over(whole):
    for run in whole.values():
        assert run.manifest["resumed"] == []
        assert all(record["complete"] for record in run.manifest["stages"].values())
        assert run.trained_on.sum() == 29


@pytest.mark.parametrize(
    ("section", "changes", "expected"),
    [
        ("figures", {"dpi": 60}, ["measure", "learn"]),
        ("training", {"seed": 1}, ["measure"]),
        ("model", {"n_latent": 2}, ["measure"]),
        ("basis", {"n_features": 6}, ["measure"]),
        ("compare", {"n_turned": 4}, []),
        ("measure", {"n_radial": 5}, []),
        ("measure", {"n_pixels": 7}, []),
        # measured again, and found to be the same as what was learned from
        ("survey", {"n_frames": 2000}, ["learn"]),
        ("source", {"energy": 8e4}, []),
        ("source", {"disc_radius": 4.0}, []),
    ],
)
def test_other_settings_take_over_only_what_does_not_depend_on_them(
    place, tmp_path, recorded, section, changes, expected
):
    config = recorded.replace(**{section: changes})
    run = run_pipeline(config, place)
    assert run.manifest["resumed"] == expected
    assert run.config == config.complete() == Config.from_toml(place / "config.toml")
    if expected:
        assert_same(run, run_pipeline(config, tmp_path / "afresh"))


def test_a_simulation_with_other_settings_starts_afresh(tmp_path):
    interrupted(tmp_path / "run", SIMULATED, EMBEDDING)
    config = SIMULATED.replace(simulation={"dose": 2e4})
    run = run_pipeline(config, tmp_path / "run")
    assert run.manifest["resumed"] == []
    assert run.metrics["electrons_per_pattern"] == 2e4


def test_a_file_that_has_changed_is_measured_again(tmp_path, recorded):
    scan = tmp_path / "scan.zarr"
    shutil.copytree(recorded.source.path, scan)
    config = recorded.replace(source={"path": str(scan)})
    interrupted(tmp_path / "run", config, DRAWING)
    shutil.copytree(tmp_path / ".run.partial", tmp_path / ".other.partial")
    chunk = next(file for file in (scan / "data" / "c").rglob("*") if file.is_file())
    os.utime(chunk, ns=(chunk.stat().st_atime_ns, chunk.stat().st_mtime_ns + 1))
    # measured again, and found to be the same as what was learned from
    assert run_pipeline(config, tmp_path / "run").manifest["resumed"] == ["learn"]
    data = zarr.open_array(scan / "data", mode="r+")
    data[3, 2, 8, 8] = data[3, 2, 8, 8] * 1.01
    assert run_pipeline(config, tmp_path / "other").manifest["resumed"] == []


def test_another_version_starts_afresh(place, recorded, monkeypatch):
    monkeypatch.setattr("stemvane.runs.manifest._version", lambda package: "0.0.1")
    assert run_pipeline(recorded, place).manifest["resumed"] == []


def damage(part, how):
    if how == "cut":
        part.write_bytes(part.read_bytes()[:-1])
    elif how == "missing":
        part.unlink()
    else:
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content)


@pytest.mark.parametrize(
    ("setting", "n", "least"),
    [
        ("measure.masks.left", 16, 0),
        ("preparation.bad_pixels", 16, 0),
        ("preparation.gain", 16, 1),
        ("preparation.missing", 6, 0),
    ],
)
def test_an_image_that_has_changed_is_measured_again(tmp_path, recorded, setting, n, least):
    image = tmp_path / "image.npy"
    np.save(image, least + (np.arange(n * n).reshape(n, n) < 2))
    section, name, *key = setting.split(".")
    config = recorded.replace(**{section: {name: {key[0]: str(image)} if key else str(image)}})
    interrupted(tmp_path / "run", config, DRAWING)
    np.save(image, least + (np.arange(n * n).reshape(n, n) < 4))
    run = run_pipeline(config, tmp_path / "run")
    assert "measure" not in run.manifest["resumed"]


def test_labels_that_have_changed_are_learned_from_again(tmp_path, whole):
    path = tmp_path / "labels.csv"
    config = Config().replace(model={"model": "kinds", "labels": str(path)})
    path.write_text("y,x,name\n1,2,film\n")
    before = training_inputs(whole["file"], config)
    path.write_text("y,x,name\n1,2,support\n")
    assert training_inputs(whole["file"], config) != before


@pytest.mark.parametrize(
    ("part", "how", "expected"),
    [
        # what was learned counts if measuring again gives the same
        ("measurements.zarr/polar/c", "one bit", ["learn"]),
        ("measurements.zarr/polar/c", "missing", ["learn"]),
        ("measurements.zarr/pixels/c", "one bit", ["learn"]),
        ("measurements.zarr/zarr.json", "cut", ["learn"]),
        ("model.safetensors", "one bit", ["measure"]),
        ("history.csv", "missing", ["measure"]),
        ("embedding.zarr/trained_on/zarr.json", "cut", ["measure"]),
    ],
)
def test_damage_is_done_again(place, recorded, whole, part, how, expected):
    part = place.with_name(".run.partial") / part
    damage(part if part.is_file() else next(file for file in sorted(part.rglob("*")) if file.is_file()), how)
    run = run_pipeline(recorded, place)
    assert run.manifest["resumed"] == expected
    assert_same(run, whole["file"])


@pytest.mark.parametrize(
    "stages",
    [
        None,
        [],
        {"measure": None, "learn": 3},
        {"measure": {"complete": True}},
        {"measure": {"complete": True, "wall_seconds": "long", "peak_memory_mb": 1, "parts": {}}},
        {"measure": {"complete": True, "wall_seconds": 1, "peak_memory_mb": 1, "parts": {"../../x": "y", "/": 3}}},
    ],
)
def test_a_manifest_that_is_not_as_we_write_it_starts_afresh(place, recorded, whole, stages):
    path = place.with_name(".run.partial") / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "stages": stages}))
    run = run_pipeline(recorded, place)
    assert run.manifest["resumed"] == []
    assert_same(run, whole["file"])


def test_a_stage_that_failed_is_not_taken_over(tmp_path, recorded, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("stemvane.workflow.stages.Run.write_trained_on", forbidden)
        with pytest.raises(AssertionError, match="before"):
            run_pipeline(recorded, tmp_path / "run")
    left = manifest(tmp_path / "run")["stages"]
    assert (left["measure"]["complete"], left["learn"]["complete"]) == (True, False)
    assert left["learn"]["wall_seconds"] > 0
    assert (tmp_path / ".run.partial" / "model.safetensors").exists()
    run = run_pipeline(recorded, tmp_path / "run")
    assert run.manifest["resumed"] == ["measure"]


def test_what_is_handed_over_is_always_measured_again(tmp_path):
    dataset = synthetic((6, 6), (16, 16))[0]
    interrupted(tmp_path / "run", QUICK, EMBEDDING, dataset)
    shutil.copytree(tmp_path / ".run.partial", tmp_path / ".other.partial")
    run = run_pipeline(QUICK, tmp_path / "run", dataset=dataset)
    assert run.manifest["resumed"] == ["learn"]
    assert_same(run, run_pipeline(QUICK, tmp_path / "afresh", dataset=dataset))
    patterns = dataset.data.compute()
    patterns[3, 2, 8, 8] *= 1.01
    changed = Dataset4D.from_array(
        patterns, calibration=dataset.calibration, name=dataset.name, metadata=dataset.metadata
    )
    assert run_pipeline(QUICK, tmp_path / "other", dataset=changed).manifest["resumed"] == []


def test_what_another_process_writes_is_not_taken_over(place, recorded):
    path = place.with_name(".run.partial") / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": 1}))
    before = path.read_text()
    with pytest.raises(RunError, match="another process"):
        run_pipeline(recorded, place)
    assert path.read_text() == before
    path.unlink()
    with pytest.raises(RunError, match="not ours"):
        run_pipeline(recorded, place)
    assert (path.parent / "model.safetensors").exists()


def test_an_old_run_stays_while_a_killed_one_goes_on(place, recorded, whole):
    shutil.copytree(whole["file"].path, place)
    with pytest.raises(RunError, match="exists already"):
        run_pipeline(recorded, place)
    assert place.with_name(".run.partial").exists()
    run = run_pipeline(recorded, place, overwrite=True)
    assert run.manifest["resumed"] == ["measure", "learn"]
    assert_same(Run.open(place), whole["file"])


def test_nothing_else_of_a_killed_run_stays(place, recorded, tmp_path):
    partial = place.with_name(".run.partial")
    (partial / "figures").mkdir()
    (partial / "figures" / "figure9.png").write_text("drawn by an older version")
    (partial / "metrics.json").write_text("{")
    (partial / "embedding.zarr" / "angle").mkdir(exist_ok=True)
    (partial / "embedding.zarr" / "angle" / "zarr.json").write_text("{")
    outside = tmp_path / "thesis"
    outside.mkdir()
    (outside / "thesis.tex").write_text("years of work")
    (partial / "elsewhere").symlink_to(outside)
    run = run_pipeline(recorded, place)
    assert run.manifest["resumed"] == ["measure", "learn"]
    assert not (run.figures_path / "figure9.png").exists()
    assert not (run.path / "elsewhere").exists()
    assert (outside / "thesis.tex").exists()
    assert np.isfinite(run.embedding.angle).all()


def test_create_without_resume_begins_afresh(place):
    run = Run.create(place, Config())
    assert sorted(entry.name for entry in run.folder.iterdir()) == ["config.toml", "manifest.json"]
    assert run.manifest["stages"] == {}
