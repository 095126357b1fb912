"""What is damaged is noticed, what would mislead is refused, and a stopped command leaves the terminal in order."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from fake_run import make_run

from stemvane.cli import app as cli
from stemvane.config import Config
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.errors import ConfigError, DataError, FileFormatError, RunError
from stemvane.io.files import open_dataset, save_dataset
from stemvane.reduction.measure import measure
from stemvane.reduction.virtual_detectors import VirtualDetector
from stemvane.runs.run import Run
from stemvane.runs.sweep_folder import Sweep
from stemvane.simulation.synthetic import synthetic

SMALL = {"shape": (4, 4), "detector": (16, 16)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    make_run(path, **SMALL)
    return path


def read_whole(path, **options):
    """Open a run and read everything in it."""
    run = Run.open(path, **options)
    return run.measurements, run.embedding, run.manifold, run.manifold_latents, run.history, run.metrics, run.config


def flip(file, place=0.5):
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    file.write_bytes(content)


def test_every_flipped_byte_is_noticed(finished, tmp_path):
    """In each file of a run, somewhere in the middle; the message names the file."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    files = [file for file in sorted(run.rglob("*")) if file.is_file()]
    assert len(files) > 30
    for number, file in enumerate(files):
        whole, place = file.read_bytes(), (0.5, 0.3, 0.8)[number % 3]
        flip(file, place)
        with pytest.raises(RunError) as error:
            read_whole(run)
        assert "\n" not in str(error.value)
        if file.name not in ("checksums.sha256", "manifest.json"):
            assert file.relative_to(run).as_posix() in str(error.value)
        file.write_bytes(whole)
    read_whole(run)


def test_damage_is_read_on_demand(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text("{}\n" + " " * 2000)
    with pytest.raises(RunError, match=r"metrics\.json is not as it was written; .*verify=False"):
        Run.open(tmp_path / "run")
    assert Run.open(tmp_path / "run", verify=False).metrics == {}


def test_what_is_not_hashed_may_change(finished, tmp_path):
    """Figures are drawn again, defects are searched again, and file managers leave files behind."""
    shutil.copytree(finished, tmp_path / "run")
    for name in ("figures/figure1.png", "symmetry/sites.csv", ".DS_Store", "measurements.zarr/.DS_Store"):
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_text("later")
    read_whole(tmp_path / "run")
    (tmp_path / "run" / "checksums.sha256").unlink()
    with pytest.raises(RunError, match=r"checksums\.sha256 is missing"):
        Run.open(tmp_path / "run")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="this system has no sha256sum")
def test_other_programs_can_check_a_run(finished):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "checksums.sha256"], cwd=finished, check=True)


def test_a_damaged_sweep_is_noticed(tmp_path):
    run = Run.create(tmp_path / "sweep", Config())
    run.record(kind="sweep")
    Sweep.write(run.folder, [{"n_latent": 1.0}], {"recommended": 25})
    run.finish()
    Sweep.open(tmp_path / "sweep")
    (tmp_path / "sweep" / "sweep.json").write_text('{"recommended": 26}')
    with pytest.raises(RunError, match=r"sweep\.json is not as it was written"):
        Sweep.open(tmp_path / "sweep")
    assert Sweep.open(tmp_path / "sweep", verify=False).summary == {"recommended": 26}


def test_the_command_reads_on_where_that_is_asked_for(finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished, tmp_path / "run")
    flip(tmp_path / "run" / "history.csv")
    monkeypatch.setattr(sys, "argv", ["stemvane", "info", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        cli.main()
    assert "history.csv is not as it was written" in (said := capsys.readouterr().err)
    assert "--no-verify" in said


# Signals ------------------------------------------------------------------------------------------------------------

STOPPING = """
import sys, time
import stemvane.workflow.stages as stages
from stemvane.cli.app import main

def slow(config, progress):
    for done in range(10_000):
        progress(done, 10_000)
        time.sleep(0.02)

stages.simulate = slow
main()
"""


def test_a_stopped_command_restores_the_terminal(tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", STOPPING, "demo", "-o", "run"]
    environment = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown, end = b"", time.monotonic() + 100
    while b"simulate" not in shown and time.monotonic() < end:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGTERM)
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # Linux says so where the other end was closed
        pass
    os.close(ours)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert b"\x1b[?25l" in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert b"run the same command again to go on" in shown
    assert b"Traceback" not in shown
    assert os.listdir(tmp_path) == [".run.partial"]


@pytest.mark.parametrize(
    ("command", "words"),
    [(["demo", "-o", "run"], "again to go on"), (["simulate", "graphene", "-o", "a.zarr"], "command again\n")],
)
@pytest.mark.parametrize("importing", [False, True])
def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch, capsys, command, words, importing):
    def stop(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException as stopped:
            if importing:
                raise ImportError("an extension could not be initialised") from stopped
            raise

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stemvane", *command])
    monkeypatch.setattr("stemvane.workflow.stages.simulate", stop)
    monkeypatch.setattr("stemvane.simulation.simulate.simulate", stop)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 128 + signal.SIGINT
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1
    assert signal.getsignal(signal.SIGINT) is before


# Files that mislead -------------------------------------------------------------------------------------------------


def external(path, name, n=256 * 4, group="data"):
    """An HDF5 file whose numbers lie in another file."""
    with h5py.File(path, "w") as file:
        file.create_dataset(group, (2, 2, 16, 16), "u1", external=[(str(name), 0, n)])


def test_raw_numbers_outside_of_the_folder_are_refused(tmp_path, monkeypatch):
    inside, outside = tmp_path / "scans", tmp_path / "elsewhere"
    inside.mkdir()
    outside.mkdir()
    secret = np.random.default_rng(0).integers(0, 255, 1024, np.uint8).tobytes()
    (outside / "secret.bin").write_bytes(secret)
    (inside / "raw.bin").write_bytes(secret)
    (inside / "link.bin").symlink_to(outside / "secret.bin")
    (tmp_path / "scans-2").mkdir()
    (tmp_path / "scans-2" / "raw.bin").write_bytes(secret)
    external(inside / "good.h5", inside / "raw.bin")
    assert open_dataset(inside / "good.h5").data.compute().tobytes() == secret
    for number, name in enumerate(
        (
            outside / "secret.bin",
            inside / ".." / "elsewhere" / "secret.bin",
            inside / "link.bin",
            tmp_path / "scans-2" / "raw.bin",
        )
    ):
        external(inside / f"bad{number}.h5", name)
        with pytest.raises(FileFormatError, match="outside of the file's folder") as error:
            open_dataset(inside / f"bad{number}.h5")
        assert "\n" not in str(error.value)
    # a name that is not absolute is taken from wherever the program was started
    external(inside / "relative.h5", "raw.bin")
    monkeypatch.chdir(inside)
    assert open_dataset(inside / "relative.h5").data.compute().tobytes() == secret
    monkeypatch.chdir(tmp_path / "scans-2")
    shutil.copy(inside / "relative.h5", inside / "again.h5")
    with pytest.raises(FileFormatError, match="outside of the file's folder"):
        open_dataset(inside / "again.h5")
    # nor through a file that links to such a file
    with h5py.File(inside / "master.h5", "w") as file:
        file["data"] = h5py.ExternalLink("bad0.h5", "/data")
    with pytest.raises(FileFormatError, match="outside of the file's folder"):
        open_dataset(inside / "master.h5")


@pytest.mark.parametrize(
    "name", ["total", "TOTAL", "com_x", "bright_field", "curl", "angle", "latent_1", "latent_std_2"]
)
def test_a_mask_does_not_replace_a_map(name):
    with pytest.raises(ConfigError, match=r"is the name of another map; choose another name"):
        Config().replace(measure={"masks": {name: "a.npy"}})


@pytest.mark.parametrize("name", ["", " ", "a/b", "../a", ".", "a.b", "a b", "é", "1", "zarr.json", "x" * 100, "a\nb"])
def test_a_mask_has_a_plain_name(name):
    with pytest.raises(ConfigError, match=r"cannot be the name of a map"):
        Config().replace(measure={"masks": {name: "a.npy"}})


def test_virtual_detectors_have_names_of_their_own():
    scan = synthetic((2, 2), (16, 16))[0]
    weights = np.ones((16, 16))
    for names in (("total",), ("com_y",), ("divergence",), ("a/b",), ("left", "left")):
        with pytest.raises(DataError, match=";"):
            measure(scan, [VirtualDetector(name, weights) for name in names])
    assert "left" in measure(scan, [VirtualDetector("left", weights)]).maps


def test_a_data_set_survives_a_stopped_overwrite(tmp_path):
    """The old data set is there, whole, when the new one cannot be computed."""
    scan = synthetic((2, 2), (16, 16))[0]
    path = save_dataset(scan, tmp_path / "a.zarr")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_dataset(Dataset4D.from_array(np.ones((2, 2, 16, 16))), path, overwrite=True, progress=stop)
    np.testing.assert_array_equal(open_dataset(path).data.compute(), scan.data.compute())
    assert os.listdir(tmp_path) == ["a.zarr"]
    assert isinstance(open_dataset(path).calibration, Calibration)
