"""The stages of a run: what each depends on, and what it leaves in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray

from stemvane.config import Config, MeasureConfig
from stemvane.data.dataset import Dataset4D
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.progress import StageProgress
from stemvane.errors import RunError, StemvaneError
from stemvane.evaluation.metrics import quantity_metrics, run_metrics
from stemvane.evaluation.quantity import predict_quantity
from stemvane.evaluation.verdict import judge
from stemvane.features.filtered_com import add_filtered_com
from stemvane.features.scan_memory import hand_on
from stemvane.field.maps import add_field
from stemvane.figures.saving import save_figures
from stemvane.io.atomic import file_states, keep_only, remove
from stemvane.io.files import open_source
from stemvane.io.images import read_image
from stemvane.models.base import PatternModel
from stemvane.models.manifold import latent_manifold
from stemvane.models.registry import load_model, pattern_model
from stemvane.models.training import EpochReport, TrainingHistory
from stemvane.reduction.cluster import connect
from stemvane.reduction.measure import measure, standard_detectors
from stemvane.reduction.prepare import prepare_scan
from stemvane.reduction.prepared_frames import prepared_patterns
from stemvane.reduction.virtual_detectors import VirtualDetector
from stemvane.runs.manifest import largest_memory_mb, source_record
from stemvane.runs.run import Run
from stemvane.runs.run_place import place_for_run
from stemvane.simulation.simulate import simulate

__all__ = [
    "LEARNED",
    "MEASURED",
    "evaluate_stage",
    "learn_stage",
    "measure_stage",
    "prepare_stage",
    "start_run",
    "training_inputs",
    "wanted_detectors",
    "write_model",
    "write_sample",
]

Measured = TypeVar("Measured")

MEASURED = ("measurements.zarr",)
LEARNED = ("model.safetensors", "model.toml", "history.csv", "embedding.zarr/zarr.json", "embedding.zarr/trained_on")


@contextmanager
def start_run(
    config: Config,
    output: str | Path,
    stages: Collection[str],
    report: StageProgress,
    *,
    dataset: Dataset4D | None,
    command: str,
    overwrite: bool,
    inputs: Sequence[str | Path] = (),
    measure_stage: Callable[[Run, Dataset4D | None, Config, dict[str, Any] | None, StageProgress], Measured],
) -> Iterator[tuple[Run, Measured]]:
    """Begin a folder, or go on with what a killed process has left of it, and measure; give it its name on leaving.

    Parameters
    ----------
    config : Config
        Settings; an empty ``source.path`` means: simulate.
    output : str or Path
        The folder; it appears under this name only when it is complete.
    stages : collection of str
        Stages after ``measure`` that may be taken over, besides those up to it; all others are forgotten.
    report : StageProgress
        Called as the work goes on.
    dataset, command, overwrite, inputs
        Arguments of `run_pipeline`.
    measure_stage : callable
        Does everything that needs the raw data.

    Yields
    ------
    Run
        Not finished yet.
    Measurements
        What `measure_stage` returns.

    Raises
    ------
    StemvaneError
        If the data, a setting or the folder do not allow it.
    """
    handed_over = dataset is not None
    place_for_run(output, config, overwrite=overwrite, inputs=inputs)
    if dataset is None and config.source.path:
        dataset = open_source(config.source)
    if dataset is not None:
        inputs = [*inputs, *(path for path in (dataset.path, *dataset.files) if path is not None)]
    run = Run.create(output, config, command=command, overwrite=overwrite, resume=True, inputs=inputs)
    records = run.manifest["stages"]
    run.discard(*(records.keys() - {"source", "survey", "measure", *stages}))
    try:
        parts = [part for record in records.values() for part in record["parts"]]
        keep_only(run.folder, ["manifest.json", "config.toml", *parts])
        try:
            # what is handed over in Python may have been changed on the way, so it is always measured again
            made_from = None if handed_over else _measure_inputs(dataset, config)
            measured = measure_stage(run, dataset, config, made_from, report)
        except StemvaneError:
            remove(run.folder)  # refused data leave nothing worth keeping
            raise
        yield run, measured
        run.finish()
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"{run.path}: cannot be written ({reason}); free some space, or choose another folder"
        ) from error


def learn_stage(
    run: Run, measurements: Measurements, config: Config, device: str, report: StageProgress
) -> PatternModel:
    """The trained model: from the run that was killed, or trained now."""
    made_from = training_inputs(run, config)
    is_resumed = run.takes_over("learn", made_from)
    if run.manifest["resumed"]:
        report("resumed", 1, 1, f"{', '.join(run.manifest['resumed'])} taken over from the run that was killed")
    if is_resumed:
        return _restore_model(run)
    run.discard("learn")
    with run.stage("learn", made_from=made_from, parts=LEARNED) as notes:
        model = pattern_model(config)
        n_epochs = config.training.n_epochs
        model.fit(measurements, progress=lambda epoch: report("learn", epoch.epoch, n_epochs, str(epoch)))
        notes |= write_model(run, model, np.asarray(model.training_mask), device)
    return model


def write_model(run: Run, model: PatternModel, trained_on: NDArray[np.bool_], device: str) -> dict[str, Any]:
    """Write a trained model into a run; returns what the record says of its training."""
    model.save(run.model_path)
    run.write_history(model.history.columns)
    run.write_trained_on(trained_on)
    run.record(device=device)
    history = model.history
    return {"train_seconds": history.seconds, "patterns_shown": history.n_patterns, "network_gain": history.gain}


def training_inputs(run: Run, config: Config) -> dict[str, Any]:
    """Everything that a training depends on."""
    sections = ("basis", "align", "model", "training")
    return {
        "measurements": run.manifest["stages"]["measure"]["parts"],
        "files": [file_states(path) for path in config.model.files() if path.exists()],
        "settings": {name: getattr(config, name).model_dump(mode="json") for name in sections},
    }


def evaluate_stage(
    run: Run,
    measurements: Measurements,
    model: PatternModel,
    config: Config,
    report: StageProgress,
    *,
    embedding: Embedding | None = None,
    patterns: Measurements | None = None,
) -> None:
    """Everything after training: embedding, metrics and figures.

    Where the patterns of the scan were not kept, `embedding` is what was made of them during the pass, and `patterns`
    are those that were.
    """
    with run.stage("read"):
        report("read", 0, 3, "embedding")
        if embedding is None:
            with connect(config.measure) as client:
                embedding = model.embed(measurements, client=client)
        run.write_embedding(embedding, *latent_manifold(model, embedding.latents, config.figures.manifold))
        known, quantity = config.quantity, None
        if known.known:
            quantity = predict_quantity(embedding, known.known, name=known.name, unit=known.unit)
            run.write_quantity(quantity)
        report("read", 1, 3, "comparison")
        sample: Any = run.store("measurements")["sample/patterns"]
        run.record(verdict=[finding.to_dict() for finding in judge(measurements, embedding, quantity)])
        metrics = run_metrics(model, embedding, measurements, np.asarray(sample[...]), config.measure, patterns)
        metrics |= quantity_metrics(quantity)
        metrics |= {"seed": config.training.seed, "model": config.model.model}
    with run.stage("figures"):
        report("read", 2, 3, "figures")
        run.write_metrics(metrics | _totals(run))
        save_figures(run)
        report("read", 3, 3, "")
    run.write_metrics(metrics | _totals(run))


def _measure_inputs(dataset: Dataset4D | None, config: Config) -> dict[str, Any]:
    """Everything that the measurements of a file or, without one, of a simulation depend on."""
    settings = config.model_dump(mode="json")
    del settings["source"]["path"]
    names = ["source", "preparation", "survey", "measure", *(["simulation"] if dataset is None else [])]
    made_from = {"settings": {name: settings[name] for name in names}, "n_sampled": config.compare.n_turned}
    preparation, source = config.preparation, config.source
    images = [preparation.dark, preparation.gain, preparation.bad_pixels, preparation.missing]
    images += [source.image, source.vacuum, *config.measure.masks.values()]
    made_from["images"] = [file_states(Path(path)) for path in images if path and Path(path).exists()]
    if dataset is not None:
        made_from["data"] = source_record(dataset.name, dataset.shape, dataset.data.dtype, dataset.path)
        made_from["files"] = [file_states(path) for path in dataset.files or (dataset.path,) if path is not None]
    return made_from


def measure_stage(
    run: Run, dataset: Dataset4D | None, config: Config, made_from: dict[str, Any] | None, report: StageProgress
) -> Measurements:
    """Everything that needs the raw data, of this process or of the killed one."""
    if run.takes_over("measure", made_from):
        return run.measurements
    run.discard("source", "survey", "measure")
    dataset = prepare_stage(run, dataset, config, report)
    with run.stage("measure", made_from=made_from, parts=MEASURED):
        store = run.store("measurements")
        with connect(config.measure) as client:
            measurements = measure(
                dataset,
                wanted_detectors(dataset, config.measure),
                config=config.measure,
                store=store,
                progress=lambda done, total: report("measure", done, total, ""),
                client=client,
            )
        # maps as they are stored, so that what is worked out of them is the same when they are read again
        maps = {name: np.asarray(values, np.float32) for name, values in measurements.maps.items()}
        measurements = replace(measurements, maps=maps)
        add_field(add_filtered_com(measurements)).write(store)
        write_sample(store, dataset, measurements, config.compare.n_turned)
        stored = Measurements.read(store)
        hand_on(measurements, stored)
        return stored


def prepare_stage(run: Run, dataset: Dataset4D | None, config: Config, report: StageProgress) -> Dataset4D:
    """Find or simulate the scan, and prepare it."""
    with run.stage("source"):
        if dataset is None:
            dataset = simulate(config.simulation, progress=lambda done, total: report("simulate", done, total, ""))
        run.record(data=source_record(dataset.name, dataset.shape, dataset.data.dtype, dataset.path))
    with run.stage("survey"):
        dataset = dataset.recalibrate(**config.source.calibration())
        dataset = prepare_scan(dataset, config.preparation, config.survey)
        run.record(preparation=dataset.preparation.record if dataset.preparation else {})
    return dataset


def wanted_detectors(dataset: Dataset4D, config: MeasureConfig) -> tuple[VirtualDetector, ...]:
    """The standard virtual detectors, and the user's own."""
    standard = standard_detectors(dataset.calibration, dataset.detector_shape, config)
    return *standard, *(VirtualDetector.from_mask(name, read_image(path)) for name, path in config.masks.items())


def write_sample(store: zarr.Group, dataset: Dataset4D, measurements: Measurements, n: int) -> None:
    """Keep some patterns as the pass measures them, for the test of invariance: nothing after it reads raw data."""
    recorded = np.argwhere(measurements.recorded)
    chosen = np.random.default_rng(0).choice(len(recorded), min(n, len(recorded)), replace=False)
    positions = recorded[np.sort(chosen)]
    store.create_array("sample/patterns", data=prepared_patterns(dataset, positions), overwrite=True)
    store.create_array("sample/positions", data=positions, overwrite=True)


def _restore_model(run: Run) -> PatternModel:
    """The model of a run that was killed, with all that the comparison asks of it."""
    model = load_model(run.model_path)
    model.training_mask = run.trained_on
    columns, record = run.history, run.manifest["stages"]["learn"]
    rows = zip(*(columns[part.name] for part in fields(EpochReport)), strict=True)
    epochs = [EpochReport(int(epoch), *map(float, values)) for epoch, *values in rows]
    gain = record.get("network_gain")
    of_training = record["train_seconds"], record["patterns_shown"]
    model.history = TrainingHistory(epochs, *of_training, None if gain is None else tuple(gain))
    return model


def _totals(run: Run) -> dict[str, float]:
    seconds = sum(record["wall_seconds"] for record in run.manifest["stages"].values())
    return {"total_seconds": seconds, "peak_memory_mb": largest_memory_mb(run.manifest)}
