"""The order of the stages: from a file or a simulation to a finished run folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from stemvane.config import Config
from stemvane.data.arguments import require
from stemvane.data.dataset import Dataset4D
from stemvane.data.progress import StageProgress, stage_bars
from stemvane.errors import ConfigError
from stemvane.evaluation.quantity import read_known
from stemvane.models.training import check_device
from stemvane.runs.run import Run
from stemvane.workflow.one_pass_stage import one_pass_stage
from stemvane.workflow.stages import evaluate_stage, learn_stage, measure_stage, start_run

__all__ = ["demo_config", "run_pipeline"]


def run_pipeline(
    config: Config,
    output: str | Path,
    *,
    dataset: Dataset4D | None = None,
    command: str = "",
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
    progress: StageProgress | bool | None = None,
) -> Run:
    """Run every stage and write the run folder.

    Where a killed run has left its hidden folder, ``measure`` and ``learn`` are taken over from it if they were
    complete and data, versions and the settings that they depend on are the same.

    Parameters
    ----------
    config : Config
        Settings; an empty ``source.path`` means: simulate.
    output : str or Path
        The run folder; it appears under this name only when it is complete.
    dataset : Dataset4D, optional
        Data to take instead of what the settings name; they are measured again also where a killed run has.
    command : str
        The command line, for the manifest.
    overwrite : bool
        Whether an existing run of this name is replaced, once the new one is complete.
    inputs : sequence of str or Path
        Further files that must not be lost, such as a file of settings; the data and all files that the settings name
        are protected anyway.
    progress : callable or bool, optional
        A function is called with the stage, how much of it is done, how much there is, and a short note. True shows
        bars, False none; by default they are shown in a terminal and in a notebook.

    Returns
    -------
    Run
        The finished run.

    Raises
    ------
    StemvaneError
        If the data, a setting or the folder do not allow it; the message names the cure.
    """
    config = require(config, Config, "run_pipeline").complete()
    device = check_device(config.training.device)
    if config.quantity.known:
        # what cannot be used is refused before the work
        read_known(config.quantity.known)
        if not config.model.n_latent:
            raise ConfigError("'quantity.known' needs latents to find a quantity from; set model.n_latent=2")
    options: dict[str, Any] = {"dataset": dataset, "command": command, "overwrite": overwrite, "inputs": inputs}
    with stage_bars(progress) as report:
        if config.measure.keep_polar:
            with start_run(config, output, ["learn"], report, measure_stage=measure_stage, **options) as measured:
                run, measurements = measured
                model = learn_stage(run, measurements, config, device, report)
                evaluate_stage(run, measurements, model, config, report)
            return run
        with start_run(config, output, [], report, measure_stage=one_pass_stage, **options) as passed:
            run, done = passed
            write_results = partial(evaluate_stage, run, done.measurements, done.model, config, report)
            write_results(embedding=done.embedding, patterns=done.sample)
        return run


def demo_config() -> Config:
    """Settings of the demo, from ``demo.toml`` beside this module."""
    with as_file(files("stemvane.workflow") / "demo.toml") as path:
        return Config.from_toml(path)
