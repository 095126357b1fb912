"""The notebooks of the documentation run from top to bottom, and are kept without their output."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs" / "notebooks").glob("*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_is_a_notebook_for_each_way_in():
    assert {path.stem for path in NOTEBOOKS} == {"array", "hyperspy_signal", "detector_file", "defects"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch, short_training):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    try:
        for number, cell in enumerate(code_cells(path)):
            exec(compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec"), names)
        assert plt.get_fignums(), "draws nothing"
    finally:
        plt.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_output(path):
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(path))
