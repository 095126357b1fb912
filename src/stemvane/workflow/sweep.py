"""Train with several numbers of latents or kinds and several seeds on one measurement, and recommend a number."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import Config
from stemvane.data.arguments import require
from stemvane.data.dataset import Dataset4D
from stemvane.data.measurements import Measurements
from stemvane.data.progress import StageProgress, stage_bars
from stemvane.errors import ConfigError, DataError
from stemvane.evaluation.metrics import score_model
from stemvane.evaluation.recommendation import Recommendation, recommend
from stemvane.evaluation.verdict import judge
from stemvane.figures.saving import save_sweep_figure
from stemvane.io import atomic
from stemvane.models.kinds_model import KindsModel
from stemvane.models.registry import pattern_model
from stemvane.models.training import check_device
from stemvane.runs.run import Run
from stemvane.runs.sweep_folder import NOUNS, REFERENCES, Sweep
from stemvane.workflow.stages import measure_stage, start_run

__all__ = ["run_sweep"]

_SECTIONS = ("basis", "align", "model", "training")
_SCORES = (
    "evidence_heldout",
    "evidence_noise_level",
    "explained_variance",
    "explained_variance_truth",
    "explained_variance_heldout",
)
_AGREEMENT = ("pearson_r_others_max", "angle_error_median_deg", "angle_error_mean_deg")

# each takes seconds at least, and its settings are held in memory
_MOST_TRAININGS = 1000


def run_sweep(
    config: Config,
    output: str | Path,
    *,
    n_latent: Sequence[int] | None = None,
    n_kinds: Sequence[int] | None = None,
    n_seeds: int | None = None,
    dataset: Dataset4D | None = None,
    command: str = "",
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
    progress: StageProgress | bool | None = None,
) -> Sweep:
    """Measure once, train with every number of latents or of kinds and every seed, and write the sweep's folder.

    Where a killed sweep has left its hidden folder, the measurements and each finished training are taken over if data,
    versions and the settings that they depend on are the same.

    Parameters
    ----------
    config : Config
        Settings; an empty ``source.path`` means: simulate. ``model.n_latent`` is not looked at unless kinds are
        counted, and ``training.seed`` is the first seed.
    output : str or Path
        The folder; it appears under this name only when it is complete.
    n_latent : sequence of int, optional
        Numbers of latents; 0 to 6 by default.
    n_kinds : sequence of int, optional
        Numbers of kinds instead: of `KindsModel`, whatever model the settings name, with ``model.n_latent`` latents
        each.
    n_seeds : int, optional
        Trainings for each of them; by default 3 of a model that is trained, and 1 of one in closed form.
    dataset : Dataset4D, optional
        Data to take instead of what the settings name; they are measured again also where a killed sweep has.
    command : str
        The command line, for the manifest.
    overwrite : bool
        Whether an existing folder of this name is replaced, once the new one is complete.
    inputs : sequence of str or Path
        Further files that must not be lost, such as a file of settings; the data and all files that the settings name
        are protected anyway.
    progress : callable or bool, optional
        A function is called with the stage, how much of it is done, how much there is, and a short note. True shows
        bars, False none; by default they are shown in a terminal and in a notebook.

    Returns
    -------
    Sweep
        Finished sweep with the recommendation.

    Raises
    ------
    StemvaneError
        If the data, a setting or the folder do not allow it, or no pattern is kept from training.
    """
    config = require(config, Config, "run_sweep").complete()
    varied, plan = _plan(config, n_latent, n_kinds, n_seeds)
    device = check_device(config.training.device)
    stages = [_stage(one, varied) for one in plan]
    options: dict[str, Any] = {"dataset": dataset, "command": command, "overwrite": overwrite, "inputs": inputs}
    with (
        stage_bars(progress) as report,
        start_run(config, output, stages, report, measure_stage=measure_stage, **options) as measured,
    ):
        run, measurements = measured
        run.record(kind="sweep", device=device, verdict=[finding.to_dict() for finding in judge(measurements)])
        rows = _trained(run, measurements, plan, varied, report)
        choice = _recommend(run, plan, rows, varied)
        best = _best_seed(rows, choice, varied)
        chosen = next(one for one in plan if (_number(one, varied), one.training.seed) == best)
        sweep = Sweep.write(run.folder, rows, _summary(rows, choice, best[1], measurements, varied))
        with run.stage("figures"):
            save_sweep_figure(sweep, dpi=config.figures.dpi)
        for name in ("model.safetensors", "model.toml"):
            shutil.copyfile(run.folder / _folder(chosen, varied) / name, run.folder / name)
        atomic.write_text(run.folder / "config.toml", chosen.to_toml())
        atomic.remove(run.folder / "trainings")
    return Sweep.open(run.path)


def _plan(
    config: Config, n_latent: Sequence[int] | None, n_kinds: Sequence[int] | None, n_seeds: int | None
) -> tuple[str, list[Config]]:
    """Name of the setting that is varied, and settings of every training."""
    if n_latent is not None and n_kinds is not None:
        raise ConfigError("a sweep over numbers of latents and of kinds at once; give one of them")
    varied, numbers = ("n_latent", n_latent) if n_kinds is None else ("n_kinds", n_kinds)
    numbers = range(7) if numbers is None else numbers
    if n_kinds is not None:
        config = config.replace(model={"model": "kinds"})
    if n_seeds is None:
        n_seeds = 3 if config.model.has_epochs else 1
    least = 0 if varied == "n_latent" else 1
    if not numbers or min(numbers) < least or n_seeds < 1:
        raise ConfigError(
            f"a sweep of {list(numbers)} {NOUNS[varied]}s and {n_seeds} seeds; give at least one number, none below "
            f"{least}, and at least one seed"
        )
    if len(numbers) * n_seeds > _MOST_TRAININGS:
        raise ConfigError(
            f"a sweep of {len(numbers)} {NOUNS[varied]}s and {n_seeds:.6g} seeds; give at most {_MOST_TRAININGS:,} "
            "trainings in all"
        )
    if not config.measure.keep_polar:
        raise ConfigError("a sweep trains on the same patterns many times over; set measure.keep_polar to true")
    if config.training.holdout == 0:
        raise ConfigError("training.holdout is 0, but a sweep compares on patterns kept from training; set it to 0.1")
    seeds = range(config.training.seed, config.training.seed + n_seeds)
    plan = [config.replace(model={varied: n}, training={"seed": s}) for n in sorted(set(numbers)) for s in seeds]
    if varied == "n_kinds":
        # labels name kinds, of which there are at least as many
        n_named = len(KindsModel.from_settings(plan[0]).labels)
        if n_named > min(numbers):
            raise ConfigError(
                f"labels name {n_named} kinds, and a sweep of fewer compares nothing; give numbers from {n_named}"
            )
    return varied, plan


def _number(config: Config, varied: str) -> int:
    return int(getattr(config.model, varied))


def _stage(config: Config, varied: str) -> str:
    return f"train {_number(config, varied)} {NOUNS[varied]}s, seed {config.training.seed}"


def _folder(config: Config, varied: str) -> str:
    return f"trainings/{_number(config, varied)}-{config.training.seed}"


def _trained(
    run: Run, measurements: Measurements, plan: Sequence[Config], varied: str, report: StageProgress
) -> list[dict[str, Any]]:
    """One row of the table for each training, of this process or of a killed one."""
    origins = [
        {
            "measurements": run.manifest["stages"]["measure"]["parts"],
            "settings": {name: getattr(one, name).model_dump(mode="json") for name in _SECTIONS},
        }
        for one in plan
    ]
    taken_over = [run.takes_over(_stage(one, varied), origin) for one, origin in zip(plan, origins, strict=True)]
    if run.manifest["resumed"]:
        words = ["measure"] if "measure" in run.manifest["resumed"] else []
        words += [f"{sum(taken_over)} of {len(plan)} trainings"] if any(taken_over) else []
        report("resumed", 1, 1, f"{' and '.join(words)} taken over from the sweep that was killed")
    run.discard(*(_stage(one, varied) for one, is_resumed in zip(plan, taken_over, strict=True) if not is_resumed))
    most = max(one.model.n_latent for one in plan)
    rows = []
    for number, (one, origin, is_resumed) in enumerate(zip(plan, origins, taken_over, strict=True)):
        folder = run.folder / _folder(one, varied)
        report("sweep", number, len(plan), _stage(one, varied))
        if not is_resumed:
            with run.stage(_stage(one, varied), made_from=origin, parts=[_folder(one, varied)]):
                _train(one, measurements, folder, varied, most, report)
        row = atomic.read_json(folder / "row.json")
        # a sweep that was killed may have had another largest number of latents
        rows.append({name: row.get(name) for name in _columns(varied, most)})
    report("sweep", len(plan), len(plan), "")
    return rows


def _train(
    config: Config, measurements: Measurements, folder: Path, varied: str, most: int, report: StageProgress
) -> None:
    """Train once; leave model, row and scores of the held-out patterns in a folder."""
    began = time.perf_counter()
    model = pattern_model(config)
    model.fit(measurements, progress=lambda epoch: report("learn", epoch.epoch, config.training.n_epochs, ""))
    metrics, held_out = score_model(model, model.embed(measurements), measurements)
    if not held_out:
        raise DataError(
            f"{measurements.name}: no pattern was kept from training, and a sweep compares on these; "
            "set training.holdout higher"
        )
    for suffix in REFERENCES:
        for k, r in enumerate(metrics[f"pearson_r{suffix}"] or [], start=1):
            metrics[f"pearson_r_{k}{suffix}"] = r
    metrics |= {varied: _number(config, varied), "seed": config.training.seed, "train_seconds": model.history.seconds}
    metrics["seconds"] = time.perf_counter() - began
    model.save(folder / "model.safetensors")
    atomic.write_table(folder / "held_out.csv", held_out)
    atomic.write_json(folder / "row.json", atomic.plain({name: metrics.get(name) for name in _columns(varied, most)}))


def _columns(varied: str, most: int) -> list[str]:
    """Columns of ``sweep.csv``."""
    columns = [varied, "seed", *_SCORES]
    for suffix in REFERENCES:
        columns += [f"pearson_r_{k}{suffix}" for k in range(1, most + 1)] + [f"{name}{suffix}" for name in _AGREEMENT]
        columns += [f"com_angle_error_median_deg{suffix}"] if suffix else []
    return [*columns, "train_seconds", "seconds"]


def _recommend(run: Run, plan: Sequence[Config], rows: Sequence[dict[str, Any]], varied: str) -> Recommendation:
    """By the evidence of the held-out patterns; by their explained variance where the model has no evidence."""
    tables = [_held_out(run.folder / _folder(one, varied) / "held_out.csv") for one in plan]
    by_evidence = all("evidence" in table for table in tables)
    scores: dict[int, list[Any]] = {}
    for row, table in zip(rows, tables, strict=True):
        score = table["evidence"] if by_evidence else 1 - table["residual"] / table["total"].mean()
        scores.setdefault(row[varied], []).append(score)
    stacked = {n: np.stack(values) for n, values in scores.items()}
    return recommend(stacked, "evidence" if by_evidence else "explained variance", NOUNS[varied])


def _held_out(path: Path) -> dict[str, NDArray[Any]]:
    """Scores of the held-out patterns of one training; a sweep that was killed may hold the columns' former names."""
    former = {"left": "residual", "whole": "total"}
    return {former.get(name, name): values for name, values in atomic.read_table(path).items()}


def _best_seed(rows: Sequence[dict[str, Any]], choice: Recommendation, varied: str) -> tuple[int, int]:
    """Number and seed of the recommended model."""
    key = f"{choice.score.replace(' ', '_')}_heldout"
    row = max((row for row in rows if row[varied] == choice.number), key=lambda row: row[key])
    return row[varied], row["seed"]


def _summary(
    rows: Sequence[dict[str, Any]], choice: Recommendation, seed: int, measurements: Measurements, varied: str
) -> dict[str, Any]:
    """Content of ``sweep.json``."""
    table = {name: np.array([math.nan if row[name] is None else row[name] for row in rows]) for name in rows[0]}
    reference = "" if measurements.noiseless or measurements.expectation is None else "_truth"
    if not measurements.noiseless and np.isfinite(table["angle_error_median_deg_neighbours"]).any():
        reference = reference or "_neighbours"
    numbers = []
    for n in np.unique(table[varied]):
        here = table[varied] == n
        entry: dict[str, Any] = {varied: int(n)}
        for name, values in table.items():
            if name not in (varied, "seed"):
                spread = float(values[here].std(ddof=1)) if here.sum() > 1 else math.nan
                entry[name] = {"mean": float(values[here].mean()), "spread": spread}
        entry["behind_best"] = {"mean": choice.behind[int(n)], "standard_error": choice.standard_error[int(n)]}
        numbers.append(entry)
    return {
        "data": measurements.name,
        "n_patterns": measurements.n_patterns,
        "seeds": [int(s) for s in np.unique(table["seed"])],
        "varied": varied,
        "reference": reference,
        "recommended": {
            varied: choice.number,
            "seed": seed,
            "score": choice.score,
            "rule": choice.rule,
            "reason": choice.reason,
        },
        f"by_{varied}": numbers,
    }
