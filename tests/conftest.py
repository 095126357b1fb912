"""What several modules need, made once for all the processes that run tests."""

import os
import sys

import pytest
from filelock import FileLock

from stemvane import simulate_library


@pytest.fixture(scope="session")
def kept_library(tmp_path_factory):
    """`simulate_library` with a folder that all processes share, so that no library is simulated twice."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "library"

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
