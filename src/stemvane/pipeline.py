"""The order of the stages: from a file or a simulation to a finished run folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from stemvane.agreement import invariance
from stemvane.baselines import load_model, pattern_model
from stemvane.cluster import connected
from stemvane.config import Config, MeasureConfig
from stemvane.dataset import Dataset4D
from stemvane.embedding import Embedding
from stemvane.errors import CalibrationError, RunError, StemvaneError
from stemvane.field import rotation_metrics, with_field
from stemvane.figures import save_figures
from stemvane.folders import file_states, keep_only
from stemvane.manifest import largest_memory_mb, source_record
from stemvane.measure import measure, standard_detectors
from stemvane.measurements import Measurements
from stemvane.pattern_models import PatternModel
from stemvane.preparation import corrected, prepared
from stemvane.run import Run
from stemvane.scores import scored
from stemvane.sources.files import open_source
from stemvane.sources.images import read_image
from stemvane.sources.simulation import simulate
from stemvane.survey import survey
from stemvane.training import EpochReport, TrainingHistory, checked_device
from stemvane.virtual_detectors import VirtualDetector

__all__ = ["Progress", "begun", "demo_config", "ready", "run_pipeline"]

Progress = Callable[[str, int, int, str], None]
"""Called with the stage, how much of it is done, how much there is, and a short note."""

_MEASURED = ("measurements.zarr",)
_LEARNED = ("model.safetensors", "model.toml", "history.csv", "embedding.zarr/zarr.json", "embedding.zarr/trained_on")


def run_pipeline(
    config: Config,
    output: str | Path,
    *,
    dataset: Dataset4D | None = None,
    command: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
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
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Run
        The finished run.

    Raises
    ------
    StemvaneError
        If the data, a setting or the folder do not allow it; the message names the cure.
    """
    tell = progress or (lambda stage, done, total, note: None)
    config = config.completed()
    device = checked_device(config.training.device)
    with begun(config, output, ["learn"], tell, dataset=dataset, command=command, overwrite=overwrite) as begin:
        run, measurements = begin
        model = _learned(run, measurements, config, device, tell)
        _read(run, measurements, model, config, tell)
    return run


@contextmanager
def begun(
    config: Config,
    output: str | Path,
    stages: Collection[str],
    tell: Progress,
    *,
    dataset: Dataset4D | None,
    command: str,
    overwrite: bool,
) -> Iterator[tuple[Run, Measurements]]:
    """Begin a folder, or go on with what a killed process has left of it, and measure; give it its name on leaving.

    Parameters
    ----------
    config : Config
        Settings; an empty ``source.path`` means: simulate.
    output : str or Path
        The folder; it appears under this name only when it is complete.
    stages : collection of str
        Stages after ``measure`` that may be taken over, besides those up to it; all others are forgotten.
    tell : Progress
        Told how far it is.
    dataset, command, overwrite
        As `run_pipeline` takes them.

    Yields
    ------
    Run
        Not finished yet.
    Measurements
        Of this process or of the killed one.

    Raises
    ------
    StemvaneError
        If the data, a setting or the folder do not allow it.
    """
    handed_over = dataset is not None
    if dataset is None and config.source.path:
        dataset = open_source(config.source)
    run = Run.create(output, config, command=command, overwrite=overwrite, resume=True)
    left = run.manifest["stages"]
    run.discard(*(left.keys() - {"source", "survey", "measure", *stages}))
    try:
        keep_only(
            run.folder, ["manifest.json", "config.toml", *(p for record in left.values() for p in record["parts"])]
        )
        try:
            # what is handed over in Python may have been changed on the way, so it is always measured again
            origin = None if handed_over else _origin(dataset, config)
            measurements = _measured(run, dataset, config, origin, tell)
        except StemvaneError:
            shutil.rmtree(run.folder, ignore_errors=True)  # refused data leave nothing worth keeping
            raise
        yield run, measurements
        run.finish()
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"{run.path}: cannot be written ({reason}); free some space, or choose another folder"
        ) from error


def _origin(dataset: Dataset4D | None, config: Config) -> dict[str, Any]:
    """Everything that the measurements of a file or, without one, of a simulation depend on."""
    settings = config.model_dump(mode="json")
    del settings["source"]["path"]
    names = ["source", "preparation", "survey", "measure", *(["simulation"] if dataset is None else [])]
    origin = {"settings": {name: settings[name] for name in names}, "n_sampled": config.compare.n_turned}
    choices = config.preparation
    images = (
        choices.dark,
        choices.bad_pixels,
        config.source.image,
        config.source.vacuum,
        *config.measure.masks.values(),
    )
    origin["images"] = [file_states(Path(path)) for path in images if path and Path(path).exists()]
    if dataset is not None:
        origin["data"] = source_record(dataset.name, dataset.shape, dataset.data.dtype, dataset.path)
        origin["files"] = [file_states(Path(name)) for name in dataset.metadata.get("files", [str(dataset.path)])]
    return origin


def _measured(
    run: Run, dataset: Dataset4D | None, config: Config, origin: dict[str, Any] | None, tell: Progress
) -> Measurements:
    """Everything that needs the raw data."""
    if run.takes_over("measure", origin):
        return run.measurements
    run.discard("source", "survey", "measure")
    with run.stage("source"):
        if dataset is None:
            dataset = simulate(config.simulation, progress=lambda done, total: tell("simulate", done, total, ""))
        run.record(data=source_record(dataset.name, dataset.shape, dataset.data.dtype, dataset.path))
    with run.stage("survey"):
        dataset, preparation = ready(dataset, config)
        run.record(preparation=preparation)
    with run.stage("measure", made_from=origin, parts=_MEASURED):
        store = run.store("measurements")
        with connected(config.measure) as client:
            found = measure(
                dataset,
                _detectors(dataset, config.measure),
                config=config.measure,
                store=store,
                progress=lambda done, total: tell("measure", done, total, ""),
                client=client,
            )
        with_field(found).write(store)
        _write_sample(store, dataset, config.compare.n_turned)
        return Measurements.read(store)


def _detectors(dataset: Dataset4D, config: MeasureConfig) -> tuple[VirtualDetector, ...]:
    """The standard virtual detectors, and the user's own."""
    standard = standard_detectors(dataset.calibration, dataset.detector_shape, config)
    return *standard, *(VirtualDetector.from_mask(name, read_image(path)) for name, path in config.masks.items())


def _write_sample(store: zarr.Group, dataset: Dataset4D, n: int) -> None:
    """Keep some patterns as recorded, for the test of invariance: nothing after the pass reads the raw data."""
    chosen = np.random.default_rng(0).choice(dataset.n_patterns, min(n, dataset.n_patterns), replace=False)
    rows, columns = np.unravel_index(np.sort(chosen), dataset.scan_shape)
    patterns = np.empty((0, *dataset.detector_shape), dataset.data.dtype)
    if len(chosen):
        patterns = dataset.data.vindex[rows, columns].compute()
    store.create_array("sample/patterns", data=patterns.astype(patterns.dtype.newbyteorder("=")), overwrite=True)
    store.create_array("sample/positions", data=np.stack([rows, columns], axis=-1), overwrite=True)


def _learned(run: Run, measurements: Measurements, config: Config, device: str, tell: Progress) -> PatternModel:
    """The trained model: from the run that was killed, or trained now."""
    sections = ("basis", "align", "model", "training")
    origin = {
        "measurements": run.manifest["stages"]["measure"]["parts"],
        "settings": {name: getattr(config, name).model_dump(mode="json") for name in sections},
    }
    takes_over = run.takes_over("learn", origin)
    if run.manifest["resumed"]:
        tell("resumed", 1, 1, f"{', '.join(run.manifest['resumed'])} taken over from the run that was killed")
    if takes_over:
        return _restored(run)
    run.discard("learn")
    with run.stage("learn", made_from=origin, parts=_LEARNED) as notes:
        model = pattern_model(config)
        model.fit(measurements, progress=lambda report: tell("learn", *_progress(report, config)))
        model.save(run.model_path)
        epochs = [asdict(report) for report in model.history.epochs]
        run.write_history({part.name: [epoch[part.name] for epoch in epochs] for part in fields(EpochReport)})
        run.write_trained_on(np.asarray(model.training_mask))
        run.record(device=device)
        notes |= {"train_seconds": model.history.seconds, "patterns_shown": model.history.n_patterns}
    return model


def _restored(run: Run) -> PatternModel:
    """The model of a run that was killed, with all that the comparison asks of it."""
    model = load_model(run.model_path)
    model.training_mask = run.trained_on
    columns, record = run.history, run.manifest["stages"]["learn"]
    rows = zip(*(columns[part.name] for part in fields(EpochReport)), strict=True)
    epochs = [EpochReport(int(epoch), *map(float, values)) for epoch, *values in rows]
    model.history = TrainingHistory(epochs, record["train_seconds"], record["patterns_shown"])
    return model


def _read(run: Run, measurements: Measurements, model: PatternModel, config: Config, tell: Progress) -> None:
    """Everything after training."""
    with run.stage("read"):
        tell("read", 0, 3, "embedding")
        embedding = model.embed(measurements)
        run.write_embedding(embedding, *_manifold(model, embedding, config.figures.manifold))
        tell("read", 1, 3, "comparison")
        sample: Any = run.store("measurements")["sample/patterns"]
        metrics = _metrics(np.asarray(sample[...]), measurements, model, embedding, config)
    with run.stage("figures"):
        tell("read", 2, 3, "figures")
        run.write_metrics(metrics | _totals(run))
        save_figures(run)
        tell("read", 3, 3, "")
    run.write_metrics(metrics | _totals(run))


def ready(dataset: Dataset4D, config: Config) -> tuple[Dataset4D, dict[str, Any]]:
    """Put the user's numbers over the file's, prepare the patterns, and find the disc where nobody knows it.

    Parameters
    ----------
    dataset : Dataset4D
        As opened.
    config : Config
        ``source`` holds the user's numbers, ``preparation`` the switches, ``survey`` how many frames to look at.

    Returns
    -------
    Dataset4D
        Ready for `measure`, with optical axis and disc radius in its calibration.
    dict
        What was done, for the manifest.

    Raises
    ------
    CalibrationError
        If the disc cannot be found.
    DataError, ConfigError, FileFormatError
        If a switch or an image does not fit the data.
    """
    choices = config.preparation
    images = {name: read_image(path) for name in ("dark", "bad_pixels") if (path := getattr(choices, name))}
    dataset, done = prepared(dataset.recalibrated(**config.source.calibration()), choices, **images)
    found = survey(dataset, config.survey)
    try:
        dataset = dataset.recalibrated(origin="found", **vars(found.completed(dataset.calibration)))
    except CalibrationError as error:
        # what is wrong with the patterns may be why no disc was found
        notes = [note for note in found.notes if " patterns " in note]
        raise CalibrationError("; ".join([f"{dataset.name}: {error}", *notes])) from None
    dataset, corrections = corrected(dataset, choices, **found.corrections())
    return dataset, done | corrections


def demo_config() -> Config:
    """Settings of the demo, from ``demo.toml`` in the package."""
    with as_file(files("stemvane") / "demo.toml") as path:
        return Config.from_toml(path)


@dataclass(frozen=True)
class _Encoder:
    """From raw patterns to latents and angles, through the same pass as recorded data."""

    model: PatternModel
    measurements: Measurements
    config: Config

    def __call__(self, patterns: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        calibration = self.measurements.calibration
        dataset = Dataset4D.from_array(
            patterns[None], calibration=calibration, name="turned patterns", metadata={"is_scan": False}
        )
        dataset = replace(dataset, bad_pixels=self.measurements.bad_pixels, signed=True)
        found = measure(dataset, (), config=self.config.measure)
        # a few patterns do not have the scan's mean total, to which `embed` would scale them
        found.maps["total"][...] = self.model.mean_total
        embedding = self.model.embed(found)
        return embedding.latents[0], embedding.angle[0]


def _metrics(
    sample: NDArray[Any], measurements: Measurements, model: PatternModel, embedding: Embedding, config: Config
) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "n_patterns": measurements.n_patterns,
        "n_latent": model.n_latent,
        "seed": config.training.seed,
        "model": config.model.model,
        "electrons_per_pattern": measurements.metadata.get("electrons_per_pattern"),
        "train_seconds": model.history.seconds,
        "train_patterns_per_second": model.history.patterns_per_second,
        "noise_level": model.noise_level,
    }
    metrics |= rotation_metrics(measurements) | scored(model, embedding, measurements)[0]
    metrics["invariance_error"] = metrics["equivariance_error_deg"] = None
    if len(sample):
        encode = _Encoder(model, measurements, config)
        spread = np.nanstd(embedding.latents, axis=(0, 1))
        spread[spread == 0] = 1
        change, error = invariance(encode, sample.astype(np.float64), measurements, spread=spread)
        metrics["invariance_error"], metrics["equivariance_error_deg"] = change, error
    return metrics


def _totals(run: Run) -> dict[str, float]:
    seconds = sum(record["wall_seconds"] for record in run.manifest["stages"].values())
    return {"total_seconds": seconds, "peak_memory_mb": largest_memory_mb(run.manifest)}


def _manifold(model: PatternModel, embedding: Embedding, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Decoded patterns at angle 0 over the first two latents' 2nd to 98th percentile, the others at their mean."""
    n_latent = model.n_latent
    columns, rows = (n if n_latent > 0 else 1), (n if n_latent > 1 else 1)
    latents = np.zeros((rows, columns, n_latent))
    values = embedding.latents.reshape(math.prod(embedding.scan_shape), n_latent)
    values = values[np.isfinite(values).all(axis=1)]
    if n_latent > 0:
        latents[..., 0] = np.linspace(np.quantile(values[:, 0], 0.02), np.quantile(values[:, 0], 0.98), columns)[
            None, :
        ]
    if n_latent > 1:
        latents[..., 1] = np.linspace(np.quantile(values[:, 1], 0.98), np.quantile(values[:, 1], 0.02), rows)[:, None]
    return model.decode(latents), latents


def _progress(report: EpochReport, config: Config) -> tuple[int, int, str]:
    note = (
        f"loss {report.total:.2f} = reconstruction {report.reconstruction:.2f} + angle {report.kl_angle:.2f} "
        f"+ latents {report.kl_latent:.2f} nat"
    )
    return report.epoch, config.training.n_epochs, note
