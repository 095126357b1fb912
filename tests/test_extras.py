"""What works without the packages that are installed on demand, and the line that names a missing one."""

import ast
import re
import sys
from pathlib import Path

import pytest

import stemvane as sv
from stemvane import save_dataset, synthetic
from stemvane.cli.app import main
from stemvane.config import MeasureConfig
from stemvane.errors import MissingPackageError
from stemvane.extras import require_package
from stemvane.reduction.cluster import connect
from stemvane.simulation.relaxed_defects import read_geometry

ON_DEMAND = ("abtem", "ase", "tifffile", "distributed", "hyperspy", "tblite", "starlette", "uvicorn", "anywidget")
SIMULATED = 'a simulated specimen needs ase; install it: pip install "stemvane[simulate]"'


@pytest.fixture(autouse=True)
def hidden(monkeypatch):
    """Hide the packages, with all their modules, as if they were not installed."""
    loaded = {name for name in sys.modules if name.partition(".")[0] in ON_DEMAND}
    for name in loaded | set(ON_DEMAND):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; gives its exit code and what it wrote to stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["stemvane", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capsys.readouterr().err

    return run


def test_no_module_asks_for_them_when_it_is_imported():
    """Only within functions, which is where a missing one can be reported."""
    for path in Path(sv.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & set(ON_DEMAND), path


def test_a_file_is_run_without_them(tmp_path, command):
    dataset, _ = synthetic((10, 10), (24, 24), dose=2e4)
    save_dataset(dataset, tmp_path / "scan.zarr")
    code, errors = command("run", "scan.zarr", "-o", "run", "--n-epochs", "2")
    assert code == 0, errors
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert list((tmp_path / "run" / "figures").glob("*.png"))
    run = sv.Run.open(tmp_path / "run")
    with pytest.raises(
        MissingPackageError, match=r'^export to tiff needs tifffile; .*pip install "stemvane\[export\]"$'
    ):
        sv.export_run(run, "tiff", tmp_path / "out")
    with pytest.raises(MissingPackageError, match=r'^to_hyperspy needs hyperspy; .*pip install "hyperspy"$'):
        run.to_hyperspy()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "scan.zarr"]


def test_simulations_name_the_extra():
    for ask in (
        lambda: sv.simulate(scan_shape=(2, 2)),
        lambda: sv.simulate(scan_shape=(2, 2), method="multislice"),
        lambda: sv.graphene(),
        lambda: sv.build_structure("graphene-N"),
        lambda: read_geometry("N"),
    ):
        with pytest.raises(MissingPackageError, match=f"^{re.escape(SIMULATED)}$"):
            ask()


def test_clusters_name_the_extra():
    line = r'^measuring on a cluster needs distributed; .*pip install "stemvane\[cluster\]"$'
    with pytest.raises(MissingPackageError, match=line), connect(MeasureConfig(n_workers=1)):
        pass


def test_the_viewer_names_its_extras(tmp_path, command):
    dataset, _ = synthetic((3, 3), (16, 16))
    save_dataset(dataset, tmp_path / "scan.zarr")
    code, errors = command("view", "scan.zarr")
    assert code == 1
    assert errors.strip() == 'error: the viewer needs starlette; install it: pip install "stemvane[view]"'
    with pytest.raises(
        MissingPackageError, match=r'^the viewer in a notebook needs anywidget; .*"stemvane\[notebook\]"$'
    ):
        dataset.view()


@pytest.mark.parametrize("words", ["demo -o demo", "structures", "structures -o picture.png"])
def test_commands_end_with_that_line(tmp_path, command, words):
    code, errors = command(*words.split())
    assert code == 1
    assert errors.strip().splitlines()[-1] == f"error: {SIMULATED}"
    assert list(tmp_path.iterdir()) == []


def test_only_a_failed_import_is_a_missing_package():
    with pytest.raises(ZeroDivisionError), require_package("counting", "abacus"):
        1 / 0
    line = r'^counting needs nobodys; install it: pip install "abacus"$'
    with pytest.raises(MissingPackageError, match=line), require_package("counting", "abacus"):
        import nobodys.module  # noqa: F401
