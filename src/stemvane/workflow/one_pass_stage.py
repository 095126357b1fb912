"""The stage of a run that keeps no patterns: measuring, training and embedding in one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

from stemvane.config import Config
from stemvane.data.dataset import Dataset4D
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.progress import StageProgress
from stemvane.field.maps import add_field
from stemvane.models.base import PatternModel
from stemvane.models.one_pass import measure_and_embed
from stemvane.models.registry import pattern_model
from stemvane.models.training import check_device
from stemvane.reduction.cluster import connect
from stemvane.runs.run import Run
from stemvane.workflow.stages import MEASURED, prepare_stage, wanted_detectors, write_model, write_sample

__all__ = ["Passed", "one_pass_stage"]


class Passed(NamedTuple):
    """What a pass leaves for evaluation.

    Attributes
    ----------
    measurements : Measurements
        Of the scan.
    model : PatternModel
        Fitted to the sample.
    embedding : Embedding
        Of the scan.
    sample : Measurements
        Patterns that were kept.
    """

    measurements: Measurements
    model: PatternModel
    embedding: Embedding
    sample: Measurements


def one_pass_stage(
    run: Run, dataset: Dataset4D | None, config: Config, made_from: dict[str, Any] | None, report: StageProgress
) -> Passed:
    """Everything that needs raw data or patterns.

    Nothing is taken over from a run that was killed: there is no half of a pass, whatever it was `made_from`.
    """
    run.discard(*run.manifest["stages"])
    dataset = prepare_stage(run, dataset, config, report)
    model, n_epochs = pattern_model(config), config.training.n_epochs
    with run.stage("measure", parts=MEASURED) as notes:
        store = run.store("measurements")
        with connect(config.measure) as client:
            done = measure_and_embed(
                dataset,
                model,
                wanted_detectors(dataset, config.measure),
                config=config.measure,
                progress=lambda done, total: report("measure", done, total, ""),
                on_epoch=lambda epoch: report("learn", epoch.epoch, n_epochs, str(epoch)),
                client=client,
            )
        add_field(done.measurements).write(store)
        store.create_array("sampled", data=done.sampled, overwrite=True)
        write_sample(store, dataset, done.measurements, config.compare.n_turned)
        notes |= write_model(run, model, done.trained_on, check_device(config.training.device))
        notes["patterns_sampled"] = int(done.sampled.sum())
    return Passed(Measurements.read(store), model, done.embedding, done.sample)
