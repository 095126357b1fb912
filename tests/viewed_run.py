"""A small run of a file, with a model, for the tests of the viewer."""

from pathlib import Path

import pytest

import stemvane as sv


def make_viewed_run(folder: Path) -> sv.Run:
    """Write a scan and analyse it as the pipeline does, without figures."""
    dataset, _ = sv.synthetic((12, 10), (24, 24), dose=2e4)
    sv.save_dataset(dataset, folder / "scan.zarr")
    config = sv.Config().replace(
        source={"path": str(folder / "scan.zarr")}, training={"n_epochs": 2}, compare={"n_turned": 4}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stemvane.workflow.stages.save_figures", lambda run: run.figures_path.mkdir())
        return sv.run_pipeline(config, folder / "run")
