"""A sweep over numbers of latents: what it recommends, what it leaves, and that it goes on where it was killed."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from stemvane.cli import app as cli
from stemvane.cli.options import read_range
from stemvane.cli.run_tables import sweep_tables
from stemvane.cli.tables import sweep_table
from stemvane.config import Config
from stemvane.errors import ConfigError, DataError, RunError
from stemvane.io.files import save_dataset
from stemvane.models.rotation_vae import RotationVAE
from stemvane.runs.run import Run
from stemvane.runs.sweep_folder import Sweep
from stemvane.simulation.synthetic import synthetic
from stemvane.workflow.pipeline import run_pipeline
from stemvane.workflow.sweep import run_sweep

SETTINGS = Config().replace(
    training={"n_epochs": 15, "holdout": 0.2},
    align={"n_iterations": 4, "max_order": 1},
    basis={"n_features": 24},
    compare={"n_turned": 0},
    figures={"manifold": 2, "dpi": 50},
)
QUICK = SETTINGS.replace(
    training={"n_epochs": 1}, align={"n_iterations": 2}, basis={"n_features": 8}, model={"n_hidden": 4}
)
PARTS = {
    "config.toml", "manifest.json", "measurements.zarr", "model.safetensors", "model.toml", "sweep.csv", "sweep.json",
    "checksums.sha256",
    "figures",
}  # fmt: skip
TIMES = ("train_seconds", "seconds")


class Interrupted(BaseException):
    pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Counted patterns with two structures that turn; 0 to 3 latents."""
    dataset = synthetic((12, 12), (24, 24), n_content=2, dose=3e5)[0]
    path = tmp_path_factory.mktemp("sweeps") / "deep" / "sweep"
    calls = []
    run_sweep(SETTINGS, path, n_latent=range(4), n_seeds=2, dataset=dataset, progress=lambda *call: calls.append(call))
    return Sweep.open(path), calls


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shelf")
    save_dataset(synthetic((6, 6), (16, 16))[0], folder / "scan.zarr")
    return folder


@pytest.fixture(scope="module")
def recorded(shelf):
    return QUICK.replace(source={"path": str(shelf / "scan.zarr")})


@pytest.fixture(scope="module", autouse=True)
def likelihood_left_out_of_quick_sweeps():
    """Likelihood estimates take most of a quick training's time."""
    with pytest.MonkeyPatch.context() as patch:
        evidence = RotationVAE.evidence

        def quick(self, measurements, mask=None, **choices):
            if self.model_config.n_hidden > 4:
                return evidence(self, measurements, mask, **choices)
            return np.linspace(0, self.n_latent, int(mask.sum())), 0.01

        patch.setattr(RotationVAE, "evidence", quick)
        yield


def swept(config, path, **choices):
    return run_sweep(config, path, **({"n_latent": (0, 1), "n_seeds": 2} | choices))


def interrupted(config, path, after, **choices):
    """Stop before the training with this number, counted from 0."""

    def interrupt(stage, done, *_):
        if stage == "sweep" and done == after:
            raise Interrupted

    with pytest.raises(Interrupted):
        swept(config, path, progress=interrupt, **choices)
    assert not path.exists()


@pytest.fixture
def trainings(monkeypatch):
    """Numbers of latents and seeds of all trainings from now on."""
    done, fit = [], RotationVAE.fit

    def counted(self, *arguments, **choices):
        done.append((self.n_latent, self.training_config.seed))
        return fit(self, *arguments, **choices)

    monkeypatch.setattr(RotationVAE, "fit", counted)
    return done


def numbers(sweep):
    return {name: values for name, values in sweep.table.items() if name not in TIMES}


def assert_same(sweep, other):
    for name, values in numbers(sweep).items():
        np.testing.assert_array_equal(values, other.table[name])
    assert sweep.table.keys() == other.table.keys()
    assert sweep.summary["recommended"] == other.summary["recommended"]
    assert sweep.model_path.read_bytes() == other.model_path.read_bytes()


def test_two_structures_are_worth_two_latents(finished):
    sweep = finished[0]
    assert sweep.number == 2
    assert sweep.reason.startswith("2 latents: ")
    evidence = sweep.over_seeds(sweep.table["evidence_heldout"])[1]
    # a third structure is not there
    assert evidence[1] - evidence[0] > 20
    assert evidence[2] - evidence[1] > 10
    assert abs(evidence[3] - evidence[2]) < 2
    assert (np.abs(sweep.table["pearson_r_1_truth"][2:]) > 0.95).all()
    assert (sweep.table["angle_error_median_deg_truth"] < sweep.table["com_angle_error_median_deg_truth"]).all()


def test_the_table_has_a_row_for_each_training(finished):
    sweep = finished[0]
    with (sweep.path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["n_latent"], row["seed"]) for row in rows] == [(str(n), str(s)) for n in range(4) for s in (0, 1)]
    for row in rows:
        known = {k for k in range(1, 4) if row[f"pearson_r_{k}"]}
        # a third latent of two structures may be 0 everywhere
        assert set(range(1, min(int(row["n_latent"]), 2) + 1)) <= known <= set(range(1, int(row["n_latent"]) + 1))
        assert float(row["seconds"]) > float(row["train_seconds"]) > 0
        others = [abs(float(row[f"pearson_r_{k}"])) for k in known - {1}]
        assert row["pearson_r_others_max"] == (str(max(others)) if others else "")
    summary = json.loads((sweep.path / "sweep.json").read_text())
    assert summary == sweep.summary
    assert (summary["seeds"], summary["reference"]) == ([0, 1], "_truth")
    for entry, n in zip(summary["by_n_latent"], range(4), strict=True):
        values = sweep.table["evidence_heldout"][sweep.table["n_latent"] == n]
        assert entry["n_latent"] == n
        assert entry["evidence_heldout"] == pytest.approx({"mean": values.mean(), "spread": values.std(ddof=1)})
    behind = [entry["behind_best"]["mean"] for entry in summary["by_n_latent"]]
    assert min(behind) == 0


def test_the_folder_holds_the_recommended_model(finished, tmp_path, without_figures):
    sweep, calls = finished
    assert {part.name for part in sweep.path.iterdir()} == PARTS
    assert {part.name for part in sweep.figures_path.iterdir()} == {"sweep.png", "sweep.svg"}
    assert [part.name for part in sweep.path.parent.iterdir()] == ["sweep"]
    config = Config.from_toml(sweep.path / "config.toml")
    seed = sweep.summary["recommended"]["seed"]
    assert config == SETTINGS.complete().replace(model={"n_latent": 2}, training={"seed": seed})
    assert [call[1:3] for call in calls if call[0] == "sweep"] == [(n, 8) for n in range(9)]
    # the same settings give the same model in a run of its own
    run = run_pipeline(config, tmp_path / "run", dataset=synthetic((12, 12), (24, 24), n_content=2, dose=3e5)[0])
    row = (sweep.table["n_latent"] == 2) & (sweep.table["seed"] == seed)
    for name in ("evidence_heldout", "explained_variance", "explained_variance_heldout", "angle_error_median_deg"):
        assert run.metrics[name] == sweep.table[name][row][0]
    assert run.model_path.read_bytes() == sweep.model_path.read_bytes()
    assert RotationVAE.load(sweep.model_path).embed(run.measurements).n_latent == 2


def test_the_figure_and_the_table_say_what_is_recommended(finished):
    sweep = finished[0]
    words = (sweep.figures_path / "sweep.svg").read_text()
    for word in (
        "Evidence",
        "Explained variance",
        "Correlation",
        "Angle error",
        "recommended, 2;",
        "number of latents",
    ):
        assert word in words
    console = Console(width=200, record=True, file=io.StringIO())
    for table in sweep_tables(sweep):
        console.print(table)
    assert sweep.reason in console.export_text(clear=False)
    console.print(sweep_table(sweep))
    lines = console.export_text().splitlines()
    marked = [line for line in lines if "> " in line]
    assert len(marked) == 1
    evidence = sweep.over_seeds(sweep.table["evidence_heldout"])[1]
    assert f"> 2 │ {evidence[2]:.1f} ±" in " ".join(marked[0].split())


def test_every_column_and_file_is_documented(finished):
    page = (Path(__file__).parents[1] / "docs" / "sweep.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)…?`", page.split("Columns of")[1].split("## The rule")[0]))
    plain = {re.sub(r"_\d+$", "_1", re.sub(r"(_truth|_neighbours)$", "", name)) for name in finished[0].table}
    missing = {name for name in plain if name not in named and f"{name}_" not in named}
    assert missing == set()
    assert all(f"\n  {part} " in page or f"\n  {part}/ " in page for part in PARTS - {"model.toml"})


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system knows no SIGKILL")
def test_a_killed_sweep_goes_on_where_it_was(tmp_path, recorded, trainings, without_figures):
    (tmp_path / "settings.toml").write_text(recorded.to_toml())
    code = """
import os, signal, sys
import numpy as np
from stemvane.config import Config
from stemvane.workflow.sweep import run_sweep
from stemvane.models.rotation_vae import RotationVAE

def quick(self, measurements, mask=None, **_):
    return np.linspace(0, self.n_latent, int(mask.sum())), 0.01

RotationVAE.evidence = quick

def kill(stage, done, *_):
    if stage == "sweep" and done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

run_sweep(Config.from_toml(sys.argv[1]), sys.argv[2], n_latent=(0, 1), n_seeds=2, progress=kill)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "settings.toml"), str(tmp_path / "sweep")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == -signal.SIGKILL, result.stderr
    calls = []
    sweep = swept(recorded, tmp_path / "sweep", progress=lambda *call: calls.append(call))
    assert trainings == [(1, 1)]
    assert ("resumed", 1, 1, "measure and 3 of 4 trainings taken over from the sweep that was killed") in calls
    assert sorted(part.name for part in tmp_path.iterdir()) == ["settings.toml", "sweep"]
    assert_same(sweep, swept(recorded, tmp_path / "afresh"))


def test_trainings_are_taken_over_one_by_one(tmp_path, recorded, trainings, without_figures):
    interrupted(recorded, tmp_path / "sweep", 3)
    assert trainings == [(0, 0), (0, 1), (1, 0)]
    hidden = tmp_path / ".sweep.partial"
    for name in ("other", "damaged", "wider", "measured", "run"):
        shutil.copytree(hidden, tmp_path / f".{name}.partial")
    trainings.clear()
    # other settings of training: measured, but not trained before
    swept(recorded.replace(model={"learning_rate": 1e-3}), tmp_path / "other")
    assert len(trainings) == 4
    trainings.clear()
    damaged = tmp_path / ".damaged.partial" / "trainings" / "0-1" / "row.json"
    damaged.write_text(damaged.read_text().replace("0.", "1.", 1))
    swept(recorded, tmp_path / "damaged")
    assert trainings == [(0, 1), (1, 1)]
    trainings.clear()
    wider = swept(recorded, tmp_path / "wider", n_latent=(1, 2), n_seeds=1)
    assert trainings == [(2, 0)]
    assert list(wider.table["n_latent"]) == [1, 2]
    assert np.isnan(wider.table["pearson_r_2"][0])
    assert {part.name for part in wider.path.iterdir()} == PARTS
    trainings.clear()
    swept(recorded.replace(measure={"n_radial": 5}), tmp_path / "measured")
    assert len(trainings) == 4
    # a run under the name of a killed sweep has its measurements and nothing else of it
    run = run_pipeline(recorded.replace(model={"n_latent": 1}), tmp_path / "run")
    assert run.manifest["resumed"] == ["measure"]
    assert run.manifest["kind"] == "run"
    assert not (run.path / "trainings").exists()
    assert not [stage for stage in run.manifest["stages"] if stage.startswith("train ")]


def test_a_folder_that_exists_is_refused(tmp_path, recorded, without_figures):
    path = swept(recorded, tmp_path / "sweep", n_seeds=1).path
    before = (path / "sweep.csv").read_bytes()
    with pytest.raises(RunError, match="exists already"):
        swept(recorded, path)
    assert (path / "sweep.csv").read_bytes() == before
    assert len(swept(recorded, path, overwrite=True).table["seed"]) == 4


@pytest.mark.parametrize(
    ("choices", "changes", "words"),
    [
        ({"n_latent": ()}, {}, "at least one"),
        ({"n_latent": (-1, 2)}, {}, "at least one"),
        ({"n_seeds": 0}, {}, "at least one"),
        ({"n_latent": None, "n_kinds": (0, 1)}, {}, "none below 1"),
        ({"n_kinds": (1, 2)}, {}, "give one of them"),
        ({}, {"training": {"holdout": 0.0}}, "training.holdout"),
    ],
)
def test_bad_ranges_are_refused_before_anything_is_done(tmp_path, recorded, choices, changes, words):
    with pytest.raises(ConfigError, match=words) as info:
        swept(recorded.replace(**changes), tmp_path / "sweep", **choices)
    assert "\n" not in str(info.value)
    assert list(tmp_path.iterdir()) == []


def test_a_scan_too_small_to_keep_patterns_from_training(tmp_path, recorded):
    with pytest.raises(DataError, match=r"set training\.holdout higher"):
        swept(recorded.replace(training={"holdout": 0.01}), tmp_path / "sweep")


def test_a_model_without_evidence_is_judged_by_explained_variance(tmp_path, recorded, monkeypatch):
    monkeypatch.setattr(RotationVAE, "evidence", lambda *_, **__: None)
    sweep = swept(recorded, tmp_path / "sweep")
    assert sweep.summary["recommended"]["score"] == "explained variance"
    assert "explained variance of held-out patterns" in sweep.reason
    assert np.isnan(sweep.table["evidence_heldout"]).all()
    mean = sweep.over_seeds(sweep.table["explained_variance_heldout"])[1]
    behind = [entry["behind_best"]["mean"] for entry in sweep.summary["by_n_latent"]]
    np.testing.assert_allclose(behind, mean.max() - mean, atol=1e-12)
    assert "not known" in (sweep.figures_path / "sweep.svg").read_text()


@pytest.mark.parametrize("dose", [None, 1e5])
def test_what_the_agreement_is_with(tmp_path, dose):
    dataset = synthetic((6, 6), (16, 16), dose=dose)[0]
    sweep = swept(QUICK, tmp_path / "sweep", dataset=dataset, n_seeds=1)
    assert sweep.reference == ("" if dose is None else "_truth")
    assert ("the COM itself" in (sweep.figures_path / "sweep.svg").read_text()) == (dose is not None)


def test_a_sweep_over_kinds(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("y,x,name\n0,0,left\n11,11,right\n")
    dataset = synthetic((12, 12), (16, 16), dose=1e5)[0]
    few = {"n_latent": None, "n_seeds": None, "dataset": dataset}
    with pytest.raises(ConfigError, match="labels name 2 kinds"):
        swept(QUICK.replace(model={"model": "kinds", "labels": str(labels)}), tmp_path / "no", n_kinds=(1, 2), **few)
    settings = QUICK.replace(model={"model": "kinds", "n_latent": 1, "window": 0.0})
    sweep = swept(settings, tmp_path / "sweep", n_kinds=(1, 3), **few)
    # the scan has patterns of one kind
    assert (sweep.varied, sweep.number) == ("n_kinds", 1)
    assert sweep.reason.startswith("1 kind: ")
    assert "latent" not in sweep.reason
    assert (list(sweep.table["n_kinds"]), list(sweep.table["seed"])) == ([1, 3], [0, 0])
    assert Config.from_toml(sweep.path / "config.toml").model.n_kinds == sweep.number
    assert "number of kinds" in (sweep.figures_path / "sweep.svg").read_text()
    assert "kinds" in repr(sweep)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(sweep_table(sweep))
    assert f"> {sweep.number} │" in " ".join(console.export_text().split())


def test_opening_what_is_no_sweep(tmp_path, recorded, finished, without_figures):
    with pytest.raises(RunError, match="does not exist"):
        Sweep.open(tmp_path / "nothing")
    interrupted(recorded, tmp_path / "sweep", 1)
    with pytest.raises(RunError, match="was not finished"):
        Sweep.open(tmp_path / "sweep")
    run_pipeline(recorded, tmp_path / "run")
    with pytest.raises(RunError, match="a run, not a sweep"):
        Sweep.open(tmp_path / "run")
    with pytest.raises(RunError, match="a sweep, not a run"):
        Run.open(finished[0].path)
    shutil.copytree(finished[0].path, tmp_path / "damaged")
    (tmp_path / "damaged" / "sweep.json").write_text("{")
    with pytest.raises(RunError, match="damaged") as info:
        Sweep.open(tmp_path / "damaged")
    assert "\n" not in str(info.value)


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["stemvane", "sweep", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    return code, *capsys.readouterr()


def test_the_command(tmp_path, shelf, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.toml").write_text(QUICK.to_toml())
    choices = ("--config", "quick.toml", "--n-latent", "0,2", "--seeds", 1, "--set", "training.seed=5")
    code, out, err = command(monkeypatch, capsys, shelf / "scan.zarr", *choices)
    assert (code, err) == (0, "")
    sweep = Sweep.open("runs/sweep")
    assert (list(sweep.table["n_latent"]), list(sweep.table["seed"])) == ([0, 2], [5, 5])
    assert f"recommended: {sweep.reason}\n" in out
    assert str(sweep.figures_path / "sweep.png") in out
    manifest = json.loads((sweep.path / "manifest.json").read_text())
    assert manifest["command"].startswith("stemvane sweep ")
    assert manifest["data"]["path"] == str(shelf / "scan.zarr")
    code, out, err = command(monkeypatch, capsys, shelf / "scan.zarr", *choices)
    assert (code, out) == (1, "")
    assert "exists already" in err


def test_without_a_file_the_demo_is_simulated(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stemvane.workflow.stages.simulate", lambda config, **_: asked.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command(monkeypatch, capsys, "--set", "simulation.dose=20000")
    assert (asked[0].scan_shape, asked[0].dose) == ((64, 64), 20000)


@pytest.mark.parametrize("text", ["3..1", "a", "-1..2", "1..", "0..2..4", "", "1,,2", "0..1000000", "1.5"])
def test_bad_ranges_on_the_command_line(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(monkeypatch, capsys, f"--n-latent={text}")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: --n-latent is '{text}'; write a range such as 0..6")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_ranges():
    assert read_range("0..6", "--n-latent") == (0, 1, 2, 3, 4, 5, 6)
    assert read_range("4", "--n-latent") == read_range("4..4", "--n-latent") == (4,)
    assert read_range("3, 1,3", "--n-latent") == (1, 3)
