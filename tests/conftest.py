"""What several modules need, made once for all the processes that run tests."""

import gc
import os
import sys

import pytest
from filelock import FileLock
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

from stemvane import simulate_library


def pytest_collection_finish():
    """What is imported by now is no garbage, and looking for some in it took a tenth of the time of figures' tests."""
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """What one process compiles the others read from the disk: compiling everything takes a minute."""
    folder, compiled = shared_folder(tmp_path_factory), Dispatcher.compile

    def compile_once(self, signature):
        name = f"{self.py_func.__module__}.{self.py_func.__name__}"
        if not name.startswith("stemvane."):
            return compiled(self, signature)
        with global_compiler_lock, FileLock(folder / f"{name}.lock"):
            return compiled(self, signature)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", compile_once)
        yield


def shared_folder(tmp_path_factory):
    """A folder that is the same for all processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def shared_library(tmp_path_factory):
    """`simulate_library` with a folder that all processes share, so that no library is simulated twice."""
    folder = shared_folder(tmp_path_factory) / "library"

    def simulated(measurements, config=None):
        with FileLock(folder.with_suffix(".lock")):
            return simulate_library(measurements, config, folder=folder)

    return simulated


@pytest.fixture
def short_training(monkeypatch):
    """Two epochs, whatever is asked for: for code of the documentation whose numbers nobody checks."""
    from stemvane.models.training import train

    def shortened(network, patterns, config, *arguments, **choices):
        few = config.model_copy(update={"n_epochs": min(2, config.n_epochs)})
        train(network, patterns, few, *arguments, **choices)

    for module in ("rotation_vae", "pixel_model"):
        monkeypatch.setattr(f"stemvane.models.{module}.train", shortened)


@pytest.fixture
def without_figures(monkeypatch):
    """Figures take most of a quick run's time, and have tests of their own."""
    monkeypatch.setattr("stemvane.workflow.stages.save_figures", lambda run: run.figures_path.mkdir())
    monkeypatch.setattr("stemvane.workflow.sweep.save_sweep_figure", lambda sweep, **_: sweep.figures_path.mkdir())


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run the command in this process, in an empty folder; gives exit code, stdout and stderr."""
    from stemvane.cli import app as cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["stemvane", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run
