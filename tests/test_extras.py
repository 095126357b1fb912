"""What works without the packages that are installed on demand, and the line that names a missing one."""

import json
import subprocess
import sys

import pytest

from stemvane import save_dataset, synthetic
from stemvane.errors import MissingPackageError
from stemvane.extras import needed_for

# the packages are hidden, as if they were not installed, before anything is imported; one process for all, for its
# imports take longer than what is asked of it
SESSION = """
import contextlib, io, json, sys
for name in ("abtem", "ase", "tifffile", "distributed", "hyperspy", "tblite", "starlette", "uvicorn", "anywidget"):
    sys.modules[name] = None
import stemvane as sv
from stemvane.cli.app import main
from stemvane.config import MeasureConfig
from stemvane.errors import MissingPackageError
from stemvane.reduction.cluster import connected
from stemvane.simulation.catalogue import bond_length
from stemvane.specimens import SPECIMENS

def command(*words):
    sys.argv, errors = ["stemvane", *words], io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main()
        except SystemExit as end:
            code = end.code
    return [code or 0, errors.getvalue()]

def error_of(door, *arguments, **settings):
    try:
        door(*arguments, **settings)
    except MissingPackageError as error:
        return str(error)

def connect():
    with connected(MeasureConfig(n_workers=1)):
        pass

answers = {"run": command("run", "scan.zarr", "-o", "run", "--n-epochs", "2")}
run = sv.Run.open("run")
answers["doors"] = [
    error_of(sv.simulate, scan_shape=(2, 2)),
    error_of(sv.simulate, scan_shape=(2, 2), method="multislice"),
    error_of(sv.graphene),
    error_of(sv.build_structure, "graphene-N"),
    error_of(bond_length, SPECIMENS[0]),
    error_of(connect),
    error_of(sv.export_run, run, "tiff", "out"),
    error_of(run.to_hyperspy),
]
answers["demo"] = command("demo", "-o", "demo")
answers["structures"] = command("structures")
answers["picture"] = command("structures", "-o", "picture.png")
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The folder of a Python that lacks the packages, and what it answered."""
    folder = tmp_path_factory.mktemp("extras")
    dataset, _ = synthetic((10, 10), (24, 24), dose=2e4)
    save_dataset(dataset, folder / "scan.zarr")
    command = [sys.executable, "-c", SESSION]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return folder, json.loads(ended.stdout)


def test_a_file_is_run_without_them(session):
    folder, answers = session
    assert answers["run"][0] == 0, answers["run"][1]
    assert (folder / "run" / "metrics.json").is_file()
    assert list((folder / "run" / "figures").glob("*.png"))


def test_each_door_to_a_missing_package_names_the_cure(session):
    folder, answers = session
    assert answers["doors"] == [
        *['a simulated specimen needs ase; install it: pip install "stemvane[simulate]"'] * 5,
        'measuring on a cluster needs distributed; install it: pip install "stemvane[cluster]"',
        'export to tiff needs tifffile; install it: pip install "stemvane[export]"',
        'to_hyperspy needs hyperspy; install it: pip install "hyperspy"',
    ]
    assert not (folder / "out").exists()


def test_commands_end_with_that_line(session):
    folder, answers = session
    for name in ("demo", "structures", "picture"):
        code, errors = answers[name]
        assert code == 1, name
        assert 'install it: pip install "stemvane[simulate]"' in errors, name
        assert "Traceback" not in errors, name
    assert sorted(path.name for path in folder.iterdir()) == ["run", "scan.zarr"]


def test_only_a_failed_import_is_a_missing_package():
    with pytest.raises(ZeroDivisionError), needed_for("counting", "abacus"):
        1 / 0
    line = r'^counting needs nobodys; install it: pip install "abacus"$'
    with pytest.raises(MissingPackageError, match=line), needed_for("counting", "abacus"):
        import nobodys.module  # noqa: F401
