"""The command line: what works, and that whatever is wrong ends in one line and exit code 1."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version

import h5py
import numpy as np
import pytest
import typer
import zarr
from reader_files import SCAN, hdf5_stack, mib, raw, signal
from rsciio.hspy import file_writer as write_hspy

from stemvane.cli import app as cli
from stemvane.cli import options as option_values
from stemvane.config import Config
from stemvane.data.dataset import Dataset4D
from stemvane.errors import ConfigError
from stemvane.io.files import open_dataset, save_dataset
from stemvane.runs.run import Run
from stemvane.simulation.synthetic import synthetic
from stemvane.specimens import SPECIMENS

COMMANDS = ("demo", "simulate", "structures", "info", "run", "sweep", "figures", "export")
QUICK = Config().replace(
    training={"n_epochs": 1, "holdout": 0.0},
    compare={"n_turned": 0},
    align={"n_iterations": 2, "max_order": 1},
    model={"n_latent": 1},
    basis={"n_features": 8},
    figures={"manifold": 2, "dpi": 50},
)
CALIBRATION_ERRORS = [
    ("--axis", "8"),
    ("--axis", "8x8x8"),
    ("--axis", "infx8"),
    ("--axis", "nanx8"),
    ("--axis", ""),
    ("--disc-radius", "0.0"),
    ("--disc-radius", "-2.0"),
    ("--disc-radius", "inf"),
    ("--scan-rotation", "nan"),
    ("--scan-rotation", "inf"),
]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A good data set, one of each kind of bad ones, and quick settings."""
    folder = tmp_path_factory.mktemp("shelf")
    good = synthetic((6, 6), (16, 16))[0]
    patterns = good.data.compute()
    save_dataset(good, folder / "good.zarr")
    for name, value in (("nan", np.nan), ("negative", -1.0)):
        spoilt = patterns.copy()
        spoilt[3, 2, 8, 8] = value
        save_dataset(Dataset4D.from_array(spoilt, calibration=good.calibration, name=name), folder / f"{name}.zarr")
    spoilt = patterns.copy()
    spoilt[3, 2] = 0
    save_dataset(Dataset4D.from_array(spoilt, calibration=good.calibration, name="empty"), folder / "empty.zarr")
    save_dataset(Dataset4D.from_array(0 * patterns, name="dark"), folder / "dark.zarr")
    flat = np.random.default_rng(0).poisson(20, patterns.shape).astype(np.uint16)
    save_dataset(Dataset4D.from_array(flat, name="flat"), folder / "flat.zarr")
    save_dataset(Dataset4D.from_array(patterns[:1, :1], calibration=good.calibration), folder / "one.zarr")
    with h5py.File(folder / "bare.hspy", "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file["Experiments/a/data"] = np.ones((4, 8, 8))
    write_hspy(str(folder / "three.hspy"), signal(np.ones((4, 8, 8))), show_progressbar=False)
    with h5py.File(folder / "other.h5", "w") as file:
        file["data"] = patterns[0, 0]
    (folder / "words.hspy").write_text("no patterns at all")
    (folder / "nothing.zarr").touch()
    save_dataset(good, folder / "damaged.zarr")
    chunk = next(file for file in (folder / "damaged.zarr" / "data" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    zarr.open_group(folder / "foreign.zarr", mode="w").create_array("data", data=patterns[0, 0])
    (folder / "quick.toml").write_text(QUICK.to_toml())
    (folder / "unknown.toml").write_text("[training]\nn_epoch = 3\n")
    (folder / "section.toml").write_text("[trainign]\nn_epochs = 3\n")
    (folder / "range.toml").write_text("[training]\nn_epochs = -3\n")
    (folder / "broken.toml").write_text("[training\n")
    return folder


def assert_refused(result, *words):
    code, out, err = result
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_help_of_every_command(call):
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    for command in COMMANDS:
        assert command in out
        code, text, err = call(command, "--help")
        assert (code, err) == (0, "")
        assert f"stemvane {command} [OPTIONS]" in text


def test_version(call):
    assert call("--version") == (0, f"stemvane {version('stemvane')}\n", "")


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "a.zarr"], ["info"], ["nonsense"], ["demo", "--nonsense"], ["demo", "--seed", "x"]]
)
def test_usage_errors(call, tmp_path, arguments):
    code, _, err = call(*arguments)
    assert code == 2
    assert "Usage" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.zarr", "no such file"),
        ("three.hspy", "axes"),
        ("bare.hspy", "damaged"),
        ("dark.zarr", "are empty"),
        ("flat.zarr", "no bright-field disc"),
        ("one.zarr", "pattern"),
        ("other.h5", "four axes"),
        ("words.hspy", "not a format"),
        ("nothing.zarr", "empty"),
        ("damaged.zarr", "damaged"),
        ("foreign.zarr", "four axes"),
        (".", "folder"),
    ],
)
def test_bad_data(call, tmp_path, shelf, name, words):
    result = call("run", shelf / name, "-o", "run", "--config", shelf / "quick.toml")
    assert_refused(result, words, ";")
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == []
    with pytest.raises(Exception, match=r"not exist|not finished"):
        Run.open(tmp_path / "run")


@pytest.mark.parametrize("name", ["nan.zarr", "empty.zarr"])
def test_a_bad_pattern_does_not_stop_a_run(call, tmp_path, shelf, name):
    code, _, err = call("run", shelf / name, "-o", "run", "--config", shelf / "quick.toml")
    assert (code, err) == (0, "")
    run = Run.open(tmp_path / "run")
    ids = [finding.id for finding in run.measurements.findings]
    assert "missing_patterns" in ids
    assert run.measurements.recorded.sum() == 35
    assert np.isfinite(run.metrics["angle_error_mean_deg"])


@pytest.mark.parametrize(
    "name", ["missing.zarr", "three.hspy", "bare.hspy", "words.hspy", "foreign.zarr", "damaged.zarr"]
)
def test_info_of_bad_files(call, shelf, name):
    assert_refused(call("info", shelf / name), name)


@pytest.mark.parametrize("name", ["nan.zarr", "empty.zarr", "dark.zarr", "flat.zarr"])
def test_info_reports_bad_patterns(call, shelf, name):
    code, out, err = call("info", shelf / name)
    assert (code, err) == (0, "")
    assert any(f"{severity}: " in out for severity in ("note", "warning", "failure"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown.toml", "unknown setting 'training.n_epoch'; known here are n_epochs"),
        ("section.toml", "unknown setting 'trainign'"),
        ("range.toml", "training.n_epochs"),
        ("broken.toml", "not valid TOML"),
        ("missing.toml", "cannot be read"),
        (".", "cannot be read"),
        ("good.zarr/zarr.json", "not valid TOML"),
    ],
)
@pytest.mark.parametrize("command", ["run", "simulate"])
def test_bad_settings(call, tmp_path, shelf, name, words, command):
    first = (shelf / "good.zarr") if command == "run" else "graphene"
    assert_refused(call(command, first, "-o", tmp_path / "a.zarr", "--config", shelf / name), words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--energy", "60keX"),
        ("--energy", "1.2.3keV"),
        ("--energy", ".keV"),
        ("--energy", "-60keV"),
        ("--energy", "0"),
        ("--energy", "1e999"),
        ("--energy", ""),
        ("--semiangle", "-3"),
        ("--scan-step", "0.2x0.2x0.2"),
        ("--scan-step", "nan"),
        ("--scan-step", "0"),
        ("--scan-step", "x"),
        ("--n-latent", "-1"),
        ("--n-epochs", "-1"),
        ("--seed", "-1"),
        ("--pixel", "inf"),
        ("--device", "abacus"),
        *CALIBRATION_ERRORS,
    ],
)
def test_bad_options_of_run(call, tmp_path, shelf, option, value):
    result = call("run", shelf / "good.zarr", "-o", "run", "--config", shelf / "quick.toml", option, value)
    assert_refused(result)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), CALIBRATION_ERRORS)
def test_bad_options_of_info(call, shelf, option, value):
    assert_refused(call("info", shelf / "good.zarr", option, value), value)


def test_an_axis_beside_the_detector(call, tmp_path, shelf):
    result = call(*("run", shelf / "good.zarr", "-o", "run", "--config", shelf / "quick.toml", "--axis", "40x3"))
    assert_refused(result, "(40.0, 3.0)", "outside the detector")
    assert list(tmp_path.iterdir()) == []


def test_info_and_run_take_the_same_calibration():
    options = {}
    for name, command in typer.main.get_command(cli.app).commands.items():
        options[name] = {o for p in command.params for o in p.opts}
    ours = {"--energy", "--semiangle", "--scan-step", "--pixel", "--axis", "--disc-radius", "--scan-rotation"}
    ours |= {"--scan", "--dataset", "--shape", "--dtype", "--image", "--vacuum"}
    ours |= {"--skip-frames", "--ignore-extra", "--flyback", "--sensor", "--background"}
    assert options["run"] & options["info"] - {"file"} == ours


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--scan", "0x4"),
        ("--scan", "4.5"),
        ("--scan", "4x4x4"),
        ("--scan-step", "nan"),
        ("--scan-step", "-1"),
        ("--detector", "2"),
        ("--outer", "10"),
        ("--dose", "0"),
        ("--energy", "60 kilovolt"),
        ("--energy", "1e999"),
        ("--method", "prism"),
        ("--source-size", "-1"),
        ("--phonons", "-1"),
        ("--n-phonons", "0"),
        ("--seed", "-1"),
        ("--defects", "N"),
        ("--defects", "N=0.5"),
        ("--defects", "N=-1"),
        ("--defects", "Xe=1"),
        ("--defects", "N=999"),
        ("--concentration", "N=2"),
        ("--concentration", "=0.1"),
        ("--concentration", "N=nan"),
        ("--placement-seed", "-1"),
    ],
)
def test_bad_options_of_simulate(call, tmp_path, option, value):
    assert_refused(call("simulate", "graphene", "-o", "a.zarr", "--scan", "2x2", "--detector", "16", option, value))
    assert list(tmp_path.iterdir()) == []


def test_defects_are_simulated_on_request(call, tmp_path):
    asked = ("--scan", "2x2", "--scan-step", "10", "--detector", "16", "--defects", "N=1, Si-C3=1", "--seed", "3")
    code, said, _ = call("simulate", "graphene-vacancy", "-o", "a.zarr", *asked, "--placement-seed", "4")
    assert (code, "a.zarr: 2 x 2 x 16 x 16" in said) == (0, True)
    defects = open_dataset(tmp_path / "a.zarr").atoms.defects
    assert defects.kinds[0] == "vacancy"
    assert set(defects.kinds[1:]) == {"N", "Si-C3"}


def test_structures_are_listed_and_drawn(call, tmp_path):
    code, said, _ = call("structures", "-o", "all.png")
    assert code == 0
    assert all(name in said for name in (specimen.name for specimen in SPECIMENS))
    assert (tmp_path / "all.png").stat().st_size > 20_000
    assert_refused(call("structures", "-o", "all.jpg"), "all.jpg", ".png or .svg")


def test_an_unknown_structure(call, tmp_path):
    assert_refused(call("simulate", "unobtainium", "-o", "a.zarr"), "unobtainium", "graphene")
    assert list(tmp_path.iterdir()) == []


def no_simulation(*_, **__):
    raise AssertionError("hours of computing, thrown away")


def test_the_output_of_a_simulation_is_checked_before_it_starts(call, tmp_path, monkeypatch):
    monkeypatch.setattr("stemvane.simulation.simulate.simulate", no_simulation)
    assert_refused(call("simulate", "graphene", "-o", "a.h5"), "a.h5", ".zarr")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.tex").touch()
    assert_refused(call("simulate", "graphene", "-o", "a.zarr"), "exists already", "--overwrite")
    assert (tmp_path / "a.zarr" / "thesis.tex").exists()


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_output_that_exists_is_left_alone(call, tmp_path, shelf, kind, overwrite):
    place = tmp_path / "run"
    if kind == "folder":
        place.mkdir()
    users_file = place / "thesis.tex" if kind == "folder" else place
    users_file.write_text("years of work")
    for command in (["run", shelf / "good.zarr"], ["demo"]):
        assert_refused(call(*command, "-o", "run", *overwrite), "exists", "another name")
    assert users_file.read_text() == "years of work"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_an_output_below_a_file(call, tmp_path, shelf, monkeypatch):
    (tmp_path / "file").write_text("years of work")
    assert_refused(call("run", shelf / "good.zarr", "-o", "file/run"), "cannot be written")
    monkeypatch.setattr("stemvane.simulation.simulate.simulate", lambda *_, **__: synthetic((2, 2), (16, 16))[0])
    assert_refused(call("simulate", "graphene", "-o", "file/a.zarr"), "cannot be written")
    assert (tmp_path / "file").read_text() == "years of work"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_folder_that_cannot_be_made(call, shelf):
    assert_refused(call("run", shelf / "good.zarr", "-o", "/dev/full/run"), "cannot be written")


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_figures_of_no_run(call, tmp_path, name):
    (tmp_path / "empty").mkdir()
    assert_refused(call("figures", name), name)


def test_names_that_look_like_markup(call, tmp_path, shelf):
    odd = tmp_path / "[red]a[/nonsense] :warning:.zarr"
    odd.parent.mkdir()
    assert_refused(call("info", odd), odd.name)
    odd.symlink_to(shelf / "good.zarr")
    code, out, _ = call("info", odd)
    assert code == 0
    assert odd.name in out


@pytest.mark.parametrize(
    ("text", "energy"),
    [("60keV", 60e3), ("60 kV", 60e3), ("60000", 60e3), ("6e4 eV", 60e3), ("0.3MeV", 300e3), ("80KEV", 80e3)],
)
def test_energies(text, energy):
    assert option_values.read_energy(text) == pytest.approx(energy)


@pytest.mark.parametrize("text", ["keV", "60e", "60keV!", "6O", "1,5keV", "nan", "inf"])
def test_words_that_are_no_energies(text):
    with pytest.raises(ConfigError, match="60keV"):
        option_values.read_energy(text)


def test_pairs():
    assert option_values.read_pair("64x32", int, "--scan") == (64, 32)
    assert option_values.read_pair("0.2,0.3", float, "--scan-step") == (0.2, 0.3)
    assert option_values.read_pair("5", int, "--scan") == (5, 5)


def test_from_a_simulation_to_figures(call, tmp_path, shelf, monkeypatch):
    code, out, err = call(
        *("simulate", "graphene", "-o", "g.zarr", "--scan", "8x10", "--scan-step", "0.5x0.4", "--energy", "80keV"),
        *("--detector", "16", "--semiangle", "30", "--dose", "1e5", "--seed", "3"),
    )
    assert (code, err) == (0, "")
    assert out.startswith("g.zarr: 8 x 10 x 16 x 16, uint")
    dataset = open_dataset(tmp_path / "g.zarr")
    assert dataset.calibration.scan_step == pytest.approx((0.5, 0.4))
    assert (dataset.calibration.energy, dataset.electrons_per_pattern) == (80e3, 1e5)
    assert_refused(call("simulate", "graphene", "-o", "g.zarr", "--scan", "2x2"), "exists already")

    code, out, err = call("info", "g.zarr")
    assert (code, err) == (0, "")
    for words in ("8 x 10 x 16 x 16", "0.5, 0.4", "80000", "disc radius"):
        assert words in out

    code, out, err = call(
        "run", "g.zarr", "-o", "run", "--config", shelf / "quick.toml", "--seed", "5", "--n-latent", "2"
    )
    assert (code, err) == (0, "")
    assert "median error of the angle" in out
    assert "paper" not in out
    assert "0.0 (given)" in out
    assert str(tmp_path / "run" / "figures" / "figure1.png") in out.splitlines()
    run = Run.open(tmp_path / "run")
    assert (run.manifest["seed"], run.metrics["n_latent"]) == (5, 2)
    assert run.manifest["command"].startswith("stemvane run g.zarr -o run --config ")
    chosen = QUICK.replace(training={"seed": 5}, model={"n_latent": 2}, source={"path": "g.zarr"})
    assert run.config == chosen.complete()
    before = (tmp_path / "run" / "manifest.json").read_text()
    assert_refused(call("run", "g.zarr", "-o", "run"), "exists already", "--overwrite")
    assert (tmp_path / "run" / "manifest.json").read_text() == before

    code, out, err = call("info", "run")
    assert (code, err) == (0, "")
    flowing = " ".join(out.split())
    for words in (
        "graphene: 8 x 10 x 16 x 16",
        "80000 eV (file)",
        "nothing was done",
        "harmonic, 2 latents",
        "figures",
    ):
        assert words in flowing
    for words in ("unknown", "None", "nan", "_"):
        assert words not in out.partition("agreement")[2]
    assert re.search(rf"^ *explained variance +{run.metrics['explained_variance']:.4g} *$", out, re.MULTILINE)
    monkeypatch.setenv("COLUMNS", "80")
    lines = call("info", "run")[1].splitlines()
    monkeypatch.setenv("COLUMNS", "200")
    assert len(lines) <= 50
    assert max(len(line.rstrip()) for line in lines) <= 80, out

    code, out, err = call("figures", "run", "-o", "drawn", "--dpi", "60")
    assert (code, err) == (0, "")
    assert sorted(out.split()) == sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "drawn").iterdir())
    assert len(out.split()) == 8
    assert (tmp_path / "run" / "manifest.json").read_text() == before
    assert_refused(call("figures", "run", "-o", tmp_path / "run" / "manifest.json"), "cannot be written")
    for dpi in ("0", "-5", "1"):
        assert_refused(call("figures", "run", "-o", "other", "--dpi", dpi), "dpi")
    assert not (tmp_path / "other").exists()


def test_the_users_numbers_reach_the_settings(call, tmp_path, shelf, without_figures):
    code, _, err = call(
        *("run", shelf / "good.zarr", "-o", "run", "--config", shelf / "quick.toml"),
        *("--energy", "100keV", "--semiangle", "12", "--scan-step", "0.7", "--pixel", "1.5x1.6", "--n-epochs", "0"),
        *("--axis", "7.25x8", "--disc-radius", "3.5", "--scan-rotation", "-90"),
    )
    assert (code, err) == (0, "")
    run = Run.open(tmp_path / "run")
    source = run.config.source
    assert (source.energy, source.convergence_semiangle) == (100e3, 12)
    assert (source.scan_step, source.pixel_size) == ((0.7, 0.7), (1.5, 1.6))
    assert (source.optical_axis, source.disc_radius, source.scan_rotation) == ((7.25, 8), 3.5, -90)
    used = run.measurements.calibration
    assert (used.optical_axis, used.disc_radius, used.energy) == ((7.25, 8), 3.5, 100e3)
    assert used.scan_rotation == pytest.approx(-np.pi / 2)
    assert run.measurements.grid.axis == (7.25, 8)


def test_info_shows_what_is_given(call, shelf):
    code, out, err = call(
        *("info", shelf / "flat.zarr", "--energy", "100keV", "--semiangle", "12", "--scan-step", "0.7"),
        *("--pixel", "1.5x1.6", "--axis", "-0.25x8", "--disc-radius", "3.5", "--scan-rotation", "-30"),
    )
    assert (code, err) == (0, "")
    shown = {re.sub(r" \(.*", "", row[0]): row[1] for row in cells(out)}
    assert (shown["energy"], shown["convergence semiangle"], shown["scan step"]) == ("100000", "12", "0.7, 0.7")
    assert (shown["pixel size"], shown["disc centre y, x"]) == ("1.5, 1.6", "-0.25, 8")
    assert (shown["disc radius"], shown["scan rotation"]) == ("3.5", "-30")
    assert call("info", shelf / "good.zarr", "--disc-radius", "7.5")[1].count("calibration says 7.50 px") == 1


def test_a_scan_without_a_disc_runs_once_axis_and_radius_are_given(call, tmp_path, shelf, without_figures):
    command = ("run", shelf / "flat.zarr", "-o", "run", "--config", shelf / "quick.toml")
    assert_refused(call(*command), "flat", "--axis", "source.optical_axis")
    assert_refused(call(*command, "--axis", "7.5x7.5"), "--disc-radius", "source.disc_radius")
    out = call("info", shelf / "flat.zarr")[1]
    assert "give source.optical_axis (--axis) and source.disc_radius (--disc-radius) in pixels" in out
    code, _, err = call(*command, "--axis", "7.5x7.5", "--disc-radius", "4")
    assert (code, err) == (0, "")
    assert Run.open(tmp_path / "run").measurements.calibration.disc_radius == 4


def cells(table):
    """Cells of every row of a printed table."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line]


def test_a_run_says_what_it_resumes_from(call, tmp_path, shelf, monkeypatch):
    command = ("run", shelf / "good.zarr", "-o", "run", "--config", shelf / "quick.toml")
    with monkeypatch.context() as patch:
        patch.setattr("stemvane.workflow.stages.save_figures", no_simulation)
        with pytest.raises(AssertionError, match="hours"):
            call(*command)
    monkeypatch.setattr("stemvane.workflow.stages.save_figures", lambda run: run.figures_path.mkdir())
    code, out, err = call(*command)
    assert (code, err) == (0, "resumed: measure, learn taken over from the run that was killed\n")
    assert "resumed" not in out
    assert Run.open(tmp_path / "run").manifest["resumed"] == ["measure", "learn"]
    assert call(*command, "--overwrite")[2] == ""


def test_in_a_separate_process(tmp_path, shelf):
    """Exit codes and streams as a shell sees them; stderr is no terminal here, so it stays silent."""
    stemvane = [sys.executable, "-c", "from stemvane.cli.app import main; main()"]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def call(*arguments):
        command = [*stemvane, *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    quick = ("--config", shelf / "quick.toml", "--set", "model.model=pca")
    result = call("run", shelf / "good.zarr", "-o", "run", *quick)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["n_patterns"] == 36
    result = call("info", shelf / "missing.zarr")
    assert_refused((result.returncode, result.stdout, result.stderr), "no such file")


def test_other_errors_are_not_hidden(call, monkeypatch, shelf):
    monkeypatch.setattr("stemvane.io.files.open_dataset", no_simulation)
    with pytest.raises(AssertionError, match="hours"):
        call("info", shelf / "good.zarr")


def test_info_of_an_aborted_scan(call, tmp_path):
    path = mib(tmp_path, n_frames=10).path
    code, out, err = call("info", path, "--energy", "60keV")
    assert (code, err) == (0, "")
    lines = {line.split("│")[1].strip(): line for line in out.splitlines() if line.count("│") > 3}
    assert "2 of 12" in lines["patterns missing"]
    assert "given" in lines["energy (eV)"]
    assert "unknown" in lines["scan step (Å)"]
    assert "kB" in lines["size on disk"]


def test_reading_options_reach_the_reader(call, tmp_path):
    path = raw(tmp_path).path
    assert call("info", path, "--shape", "3x4x16x16", "--dtype", ">u2")[0] == 0
    assert call("info", path, "--shape", "12x16x16", "--dtype", ">u2", "--scan", "3x4")[0] == 0
    stack = hdf5_stack(tmp_path).path
    assert_refused(call("info", stack), "--scan", ";")
    assert_refused(call("info", stack, "--scan", "5x5"), "12 frames", ";")
    assert_refused(call("info", stack, "--scan", "3x4x5"), "--scan", ";")
    assert_refused(call("info", stack, "--dataset", "nothing"), "is not there", ";")
    assert_refused(call("info", stack, "--scan", "3x3"), "source.flyback (--flyback)", "(--ignore-extra)", ";")
    for options in (["--flyback", "1"], ["--skip-frames", "3"], ["--ignore-extra"]):
        code, out, err = call("info", stack, "--scan", "3x3", *options)
        assert (code, err) == (0, "")
        assert "3 x 3 x 16 x 16" in out
    assert_refused(call("info", stack, "--scan", "3x3", "--skip-frames", "-1"), "skip_frames", ":")
    np.save(tmp_path / "adf.npy", np.ones(SCAN))
    assert call("info", stack, "--scan", "3x4", "--image", tmp_path / "adf.npy", "--vacuum", path)[0] == 1


def test_any_setting_can_be_set(call, tmp_path, shelf):
    np.save(tmp_path / "half.npy", np.arange(64).reshape(8, 8) % 8 < 4)
    code, _, err = call(
        "run", shelf / "good.zarr", "-o", "run", "--config", shelf / "quick.toml",
        "--set", "preparation.detector_binning=2", "--set", "preparation.scan_region = [1, 6, 0, 6]",
        "--set", "measure.masks={left = 'half.npy'}", "--set", "model.start=random", "--set", "figures.dpi=60",
    )  # fmt: skip
    assert (code, err) == (0, "")
    run = Run.open(tmp_path / "run")
    assert run.config.preparation.detector_binning == 2
    assert run.config.model.start == "random"
    assert run.manifest["preparation"].items() >= {"scan_region": [1, 6, 0, 6], "detector_binning": 2}.items()
    assert run.measurements.scan_shape == (5, 6)
    assert run.measurements.detector_shape == (8, 8)
    left = run.measurements.maps["left"]
    assert left.shape == (5, 6)
    assert (left > 0.2).all()
    assert (left < 0.8).all()
    # what is drawn of a scan that was cropped and binned
    pages = sorted(page.name for page in (tmp_path / "run" / "figures").glob("*.png"))
    assert pages == ["agreement.png", "field.png", "figure2.png", "learning_curves.png"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("descan=true", "write section.name=value"),
        ("preparation.descan", "write section.name=value"),
        ("preparation.descant=true", "unknown setting 'preparation.descant'"),
        ("preparation.scan_binning=two", "'preparation.scan_binning' is 'two'"),
        ("measure.masks={a = 'nowhere.npy'}", "nowhere.npy: no such file"),
        ("preparation.dark=nowhere.tif", "nowhere.tif: no such file"),
        ("model.angle_prior=0.3", "the model 'harmonic' has no setting 'model.angle_prior'"),
    ],
)
def test_bad_settings_on_the_command_line(call, tmp_path, shelf, text, words):
    assert_refused(call("run", shelf / "good.zarr", "-o", "run", "--set", text), words)
    assert not (tmp_path / "run").exists()


def test_the_paper_s_numbers_stand_beside_the_demo_only(call, monkeypatch, shelf, without_figures):
    monkeypatch.setattr("stemvane.workflow.pipeline.demo_config", lambda: Config.from_toml(shelf / "quick.toml"))
    small = ("--set", "simulation.scan_shape=[8, 8]", "--set", "simulation.detector_shape=[16, 16]")
    code, out, _ = call("demo", "-o", "run", *small)
    assert code == 0
    assert "paper, Fig. 1" in out


def test_an_error_names_the_option_of_its_command():
    text = "give source.optical_axis in pixels; 'source.scan_shape' and source.scan_shapes, or overwrite=True"
    shown = option_values.add_flags(text, {"--axis", "--scan"})
    expected = "give source.optical_axis (--axis) in pixels; 'source.scan_shape' (--scan) and source.scan_shapes, "
    assert shown == f"{expected}or overwrite=True"


@pytest.mark.parametrize("columns", ["80", "40"])
def test_nothing_is_cut_off_in_a_narrow_terminal(call, monkeypatch, shelf, columns):
    monkeypatch.setenv("COLUMNS", columns)
    for command in (("structures",), ("info", shelf / "good.zarr")):
        code, out, err = call(*command)
        assert (code, err) == (0, "")
        assert "…" not in out
        assert len({len(line.rstrip()) for line in out.splitlines() if line.startswith("│")}) == 1
    assert "graphene-armchair-edge" in call("structures")[1]


def test_names_with_brackets_are_printed_as_they_are(call, shelf, tmp_path, without_figures):
    """Folders and settings may hold what rich takes for a style, such as [red], or for its end, [/red]."""
    odd = tmp_path / "[red]a[" / "b]"
    shutil.copytree(shelf / "good.zarr", odd / "scan[/red].zarr")
    assert call("run", odd / "scan[/red].zarr", "-o", odd / "run", "--config", shelf / "quick.toml")[0] == 0
    code, out, err = call("info", odd / "run")
    assert (code, err) == (0, "")
    plain = "".join(line[15:].strip() for line in out.partition("agreement")[0].splitlines())
    for words in (f"stemvane run '{odd}/scan[/red].zarr'", f"{odd}/scan[/red].zarr"):
        assert words in plain


def test_every_flag_is_an_option_and_every_setting_is_one():
    commands = typer.main.get_command(cli.app).commands
    parts = [part for command in commands.values() for part in command.params]
    options = {flag for part in parts for flag in (*part.opts, *part.secondary_opts)}
    assert set(option_values.FLAGS.values()) <= options
    config = Config()
    for name in option_values.FLAGS.keys() - {"overwrite=True", "verify=False"}:
        section, _, setting = name.partition(".")
        assert setting in type(getattr(config, section)).model_fields, name


def test_epochs_have_no_effect_on_a_model_in_closed_form(call, shelf, tmp_path, without_figures):
    quick = ("--config", shelf / "quick.toml", "--set", "model.model=alignment")
    run = ("run", shelf / "good.zarr", "-o", tmp_path / "run", *quick)
    code, _, err = call(*run, "--n-epochs", "3")
    assert code == 0
    assert "--n-epochs has no effect on the model alignment" in err


def test_info_of_a_folder_that_is_no_run(call, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    assert_refused(call("info", tmp_path), "not complete")
