"""The order of the stages: from a file or a simulation to a finished run folder."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.agreement import compare, explained_variance, invariance
from stemvane.config import Config
from stemvane.dataset import Dataset4D
from stemvane.embedding import Embedding
from stemvane.errors import CalibrationError, RunError, StemvaneError
from stemvane.figures import save_figures
from stemvane.measure import measure
from stemvane.measurements import Measurements
from stemvane.run import Run, peak_memory_mb
from stemvane.sources.files import open_dataset
from stemvane.sources.simulation import simulate
from stemvane.survey import survey
from stemvane.training import EpochReport
from stemvane.vae import RotationVAE

__all__ = ["Progress", "calibrated", "demo_config", "run_pipeline"]

Progress = Callable[[str, int, int, str], None]
"""Called with the stage, how much of it is done, how much there is, and a short note."""

_EDGE = 2**20


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

    Parameters
    ----------
    config : Config
        Settings; an empty ``source.path`` means: simulate.
    output : str or Path
        The run folder; it appears under this name only when it is complete.
    dataset : Dataset4D, optional
        Data to take instead of what the settings name.
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
    if dataset is None and config.source.path:
        dataset = open_dataset(config.source.path)
    run = Run.create(output, config, command=command, overwrite=overwrite)
    try:
        try:
            dataset, measurements = _measured(run, dataset, config, tell)
        except StemvaneError:
            shutil.rmtree(run.folder, ignore_errors=True)  # refused data leave nothing worth keeping
            raise
        _learn(run, dataset, measurements, config, tell)
        run.finish()
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"{run.path}: cannot be written ({reason}); free some space, or choose another folder"
        ) from error
    return run


def _measured(run: Run, dataset: Dataset4D | None, config: Config, tell: Progress) -> tuple[Dataset4D, Measurements]:
    """Everything that needs all raw data."""
    with run.stage("source"):
        if dataset is None:
            dataset = simulate(config.simulation, progress=lambda done, total: tell("simulate", done, total, ""))
        run.record(data=_origin(dataset))
    with run.stage("survey"):
        dataset = calibrated(dataset, config)
    with run.stage("measure"):
        store = run.store("measurements")
        found = measure(
            dataset, config=config.measure, store=store, progress=lambda done, total: tell("measure", done, total, "")
        )
        found.write(store)
        return dataset, Measurements.read(store)


def _learn(run: Run, dataset: Dataset4D, measurements: Measurements, config: Config, tell: Progress) -> None:
    """Everything after the pass over the raw data."""
    with run.stage("learn"):
        model = RotationVAE(basis=config.basis, align=config.align, model=config.model, training=config.training)
        model.fit(measurements, progress=lambda report: tell("learn", *_learned(report, config)))
        model.save(run.model_path)
        epochs = [asdict(report) for report in model.history.epochs]
        run.write_history({part.name: [epoch[part.name] for epoch in epochs] for part in fields(EpochReport)})
    with run.stage("read"):
        tell("read", 0, 3, "embedding")
        embedding = model.embed(measurements)
        run.write_embedding(embedding, *_manifold(model, embedding, config.figures.manifold))
        tell("read", 1, 3, "comparison")
        metrics = _metrics(dataset, measurements, model, embedding, config)
    with run.stage("figures"):
        tell("read", 2, 3, "figures")
        run.write_metrics(metrics | _totals(run))
        save_figures(run)
        tell("read", 3, 3, "")
    run.write_metrics(metrics | _totals(run))


def calibrated(dataset: Dataset4D, config: Config) -> Dataset4D:
    """Put the user's numbers over the file's, and find the disc where neither knows it.

    Parameters
    ----------
    dataset : Dataset4D
        As opened.
    config : Config
        ``source`` holds the user's numbers, ``survey`` how many frames to look at.

    Returns
    -------
    Dataset4D
        With optical axis and disc radius in its calibration.

    Raises
    ------
    CalibrationError
        If the disc cannot be found.
    """
    dataset = dataset.recalibrated(**config.source.calibration())
    known = dataset.calibration
    if known.optical_axis is not None and known.disc_radius is not None:
        return dataset
    found = survey(dataset, config.survey)
    try:
        return dataset.recalibrated(**vars(found.completed(known)))
    except CalibrationError as error:
        # what is wrong with the patterns may be why no disc was found
        notes = [note for note in found.notes if " patterns " in note]
        raise CalibrationError("; ".join([f"{dataset.name}: {error}", *notes])) from None


def demo_config() -> Config:
    """Settings of the demo, from ``demo.toml`` in the package."""
    with as_file(files("stemvane") / "demo.toml") as path:
        return Config.from_toml(path)


@dataclass(frozen=True)
class _Encoder:
    """From raw patterns to latents and angles, through the same pass as recorded data."""

    model: RotationVAE
    measurements: Measurements
    config: Config

    def __call__(self, patterns: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        calibration = self.measurements.calibration
        dataset = Dataset4D.from_array(patterns[None], calibration=calibration, name="turned patterns")
        found = measure(dataset, (), config=self.config.measure)
        # a few patterns do not have the scan's mean total, to which `embed` would scale them
        found.maps["total"][...] = self.model.basis.mean_total
        embedding = self.model.embed(found)
        return embedding.latents[0], embedding.angle[0]


def _metrics(
    dataset: Dataset4D, measurements: Measurements, model: RotationVAE, embedding: Embedding, config: Config
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
    metrics |= compare(embedding, measurements)
    basis, seen = model.basis, model.reconstruct(measurements)
    recorded = basis.features(measurements)
    metrics["explained_variance"] = explained_variance(recorded, seen, basis.scale)
    truth = measurements.expectation or (measurements if measurements.noiseless else None)
    metrics["explained_variance_truth"] = (
        None if truth is None else explained_variance(basis.features(truth), seen, basis.scale)
    )
    held = None if model.training_mask is None else ~model.training_mask
    metrics["explained_variance_heldout"] = metrics["evidence_heldout"] = metrics["evidence_noise_level"] = None
    if held is not None and held.any():
        at = held.ravel()
        metrics["explained_variance_heldout"] = explained_variance(recorded[at], seen[at], basis.scale)
        values, level = model.evidence(measurements, held)
        metrics["evidence_heldout"], metrics["evidence_noise_level"] = float(values.mean()), level
    metrics["invariance_error"] = metrics["equivariance_error_deg"] = None
    if config.compare.n_turned:
        chosen = np.random.default_rng(0).choice(
            measurements.n_patterns, min(config.compare.n_turned, measurements.n_patterns), replace=False
        )
        rows, columns = np.unravel_index(np.sort(chosen), measurements.scan_shape)
        patterns = dataset.data.vindex[rows, columns].compute().astype(np.float64)
        change, error = invariance(_Encoder(model, measurements, config), patterns, measurements)
        metrics["invariance_error"], metrics["equivariance_error_deg"] = change, error
    return metrics


def _totals(run: Run) -> dict[str, float]:
    stages = run.manifest.get("stages", {})
    return {
        "total_seconds": sum(stage.get("wall_seconds", 0.0) for stage in stages.values()),
        "peak_memory_mb": peak_memory_mb(),
    }


def _manifold(model: RotationVAE, embedding: Embedding, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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


def _learned(report: EpochReport, config: Config) -> tuple[int, int, str]:
    note = (
        f"loss {report.total:.2f} = reconstruction {report.reconstruction:.2f} + angle {report.kl_angle:.2f} "
        f"+ latents {report.kl_latent:.2f} nat"
    )
    return report.epoch, config.training.n_epochs, note


def _origin(dataset: Dataset4D) -> dict[str, Any]:
    """Where the data came from; a file is told apart by its size and a hash over its first and last MiB."""
    origin: dict[str, Any] = {"name": dataset.name, "shape": list(dataset.shape), "dtype": str(dataset.data.dtype)}
    if dataset.path is None:
        return origin
    origin["path"] = str(Path(dataset.path).resolve())
    if Path(dataset.path).is_file():
        with Path(dataset.path).open("rb") as file:
            digest = hashlib.sha256(file.read(_EDGE))
            size = file.seek(0, 2)
            file.seek(max(size - _EDGE, 0))
            digest.update(file.read(_EDGE))
        origin |= {"bytes": size, "sha256_first_and_last_mib": digest.hexdigest()}
    return origin
