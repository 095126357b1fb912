"""Tables of finished runs and sweeps: the metrics that end a run, and everything that ``stemvane info`` sums up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from stemvane.cli.options import show_bytes, show_number
from stemvane.data.calibration import Calibration
from stemvane.runs.run import Run
from stemvane.runs.sweep_folder import REFERENCES, Sweep

__all__ = ["folder_tables", "run_table", "sweep_tables"]

_PAPER = {"pearson_r_first": "-0.9917", "pearson_r_others_max": "about 0", "angle_sign": "-1"}
_ROWS = (
    ("pearson_r_first", "r of the first latent with |COM|", "{:.4f}"),
    ("pearson_r_others_max", "largest |r| of the others", "{:.4f}"),
    ("angle_error_median_deg", "median error of the angle against the COM (deg)", "{:.2f}"),
    ("angle_sign", "sense of the angle", "{:+d}"),
    ("explained_variance", "explained variance", "{:.4f}"),
    ("evidence_heldout", "evidence, held out (nat per pattern)", "{:.1f}"),
    ("pearson_r_first_neighbours", "r with the neighbours' |COM|", "{:.4f}"),
    ("angle_error_median_deg_neighbours", "median error against the neighbours' COM (deg)", "{:.2f}"),
    ("angle_error_median_deg_truth", "median error against the noiseless COM (deg)", "{:.2f}"),
    ("com_angle_error_median_deg_truth", "the same of the measured COM itself (deg)", "{:.2f}"),
    ("train_seconds", "training (s)", "{:.1f}"),
    ("train_patterns_per_second", "training patterns per second", "{:,.0f}"),
    ("total_seconds", "all stages (s)", "{:.1f}"),
)
_MEANINGS = {
    "n_patterns": "probe positions of the scan",
    "n_latent": "latent variables besides the angle",
    "seed": "seed of the training",
    "model": "which model was trained",
    "electrons_per_pattern": "incident electrons per pattern",
    "train_seconds": "wall time of the training (s)",
    "train_patterns_per_second": "patterns shown in training per second",
    "noise_level": "noise level at the end of training, in rms lengths of a residual",
    "scan_rotation_deg": "rotation from the detector to the scan (deg, counter-clockwise)",
    "scan_rotation_uncertainty_deg": "its standard error (deg)",
    "scan_rotation_source": "whether it was given, or found from the least curl",
    "scan_rotation_ambiguous": "whether it could as well be 180° away",
    "scan_flipped": "whether y of the detector was flipped before the rotation",
    "pearson_r": "correlation of each latent with |COM|",
    "pearson_r_first": "correlation of the first latent with |COM|",
    "pearson_r_others_max": "largest correlation of another latent with |COM|",
    "angle_sign": "+1 where the angle rotates the same way as the COM",
    "angle_offset_deg": "angle at which the COM points to the right (deg)",
    "angle_error_median_deg": "median error of the angle where |COM| is large (deg)",
    "angle_error_mean_deg": "mean error of the angle, weighted by |COM| (deg)",
    "com_angle_error_median_deg": "median error of the measured COM's own angle (deg)",
    "com_angle_error_mean_deg": "mean error of the measured COM's own angle (deg)",
    "com_pearson_r": "correlation of the measured |COM| itself",
    "explained_variance": "share of the residuals' power that the model explains",
    "explained_variance_truth": "the same share of the noiseless patterns' power",
    "explained_variance_heldout": "the same share in patterns kept from training",
    "evidence_heldout": "mean log evidence of patterns kept from training (nat per pattern)",
    "evidence_noise_level": "noise level at which the evidence is taken",
    "invariance_error": "change of the latents when patterns are rotated, in standard deviations",
    "equivariance_error_deg": "median error of the angle's change when patterns are rotated (deg)",
    "total_seconds": "wall time of all stages (s)",
    "peak_memory_mb": "largest memory held (MB)",
}
_FILES = {
    "config.toml": "every setting as used",
    "manifest.json": "versions, command, data, time and memory",
    "measurements.zarr": "COM, virtual images and patterns",
    "embedding.zarr": "latents, angle and decoded manifold",
    "model.safetensors": "the trained model",
    "model.toml": "the model's settings",
    "history.csv": "one row for each epoch",
    "metrics.json": "the numbers above",
    "figures": "figures as PNG and SVG",
    "symmetry": "defects, or groups of patterns",
    "sweep.csv": "one row for each training",
    "sweep.json": "means over the seeds, and the recommendation",
}
_UNITS = {
    "scan_step": "Å",
    "pixel_size": "mrad",
    "optical_axis": "px",
    "disc_radius": "px",
    "convergence_semiangle": "mrad",
    "energy": "eV",
}


def run_table(name: str, metrics: Mapping[str, Any], *, with_paper: bool = False) -> Table:
    """Metrics of a run; of the demo beside those of the paper's Figure 1, which it repeats."""
    table = Table(title=Text(name), title_justify="left")
    for column in ("", *(["here", "paper, Fig. 1"] if with_paper else ["value"])):
        table.add_column(column, justify="left" if not column else "right")
    for key, label, form in _ROWS:
        if metrics.get(key) is not None:
            beside = [_PAPER.get(key, "")] if with_paper else []
            table.add_row(label, form.format(metrics[key]), *beside)
    table.add_row("scan rotation (deg)", _rotation(metrics), *([""] if with_paper else []))
    return table


def folder_tables(run: Run) -> Iterator[Table]:
    """Everything that a run says of itself: how it was made, its data, calibration, model, metrics and files."""
    manifest, measured, settings = run.manifest, run.measurements, run.config
    data, preparation = manifest.get("data", {}), measured.preparation
    table = Table(title=Text(str(run.path)), title_justify="left", show_header=False)
    table.add_row("made", f"{manifest.get('finished')} in {manifest.get('total_seconds', math.nan):.0f} s")
    table.add_row("command", Text(manifest.get("command") or "none: made in Python"))
    shape = " x ".join(map(str, data.get("shape", [])))
    table.add_row("data", Text(f"{data.get('name')}: {shape}, {data.get('dtype')}"))
    table.add_row("file", Text(data.get("path", "none: simulated, or handed over in Python")))
    for label, value in _calibration(measured.calibration, measured.origins):
        table.add_row(label, value)
    for step in () if preparation is None else preparation.steps:
        table.add_row("preparation", Text(step))
    for warning in () if preparation is None else preparation.warnings:
        table.add_row("warning", Text(warning))
    if preparation is None or not preparation.steps:
        table.add_row("preparation", "nothing was done to the patterns")
    model, training = run.metrics.get("model"), settings.training
    table.add_row("model", f"{model}, {run.metrics.get('n_latent')} latents")
    table.add_row(
        "training",
        f"{training.n_epochs} epochs, seed {training.seed}, on {manifest.get('device', 'an unknown device')}",
    )
    yield table
    yield _metrics(run.metrics)
    yield _files(run.path)


def sweep_tables(sweep: Sweep) -> Iterator[Table]:
    """What a sweep recommends, and its files; `sweep_table` has the numbers behind it."""
    table = Table(title=Text(str(sweep.path)), title_justify="left", show_header=False)
    table.add_row("data", Text(f"{sweep.summary['data']}, {sweep.summary['n_patterns']} patterns"))
    table.add_row("trainings", f"{len(sweep.table['n_latent'])}, seeds {', '.join(map(str, sweep.summary['seeds']))}")
    table.add_row("recommended", f"{sweep.n_latent} latents: {sweep.reason}")
    yield table
    yield _files(sweep.path)


def _rotation(metrics: Mapping[str, Any]) -> str:
    """Angle with its uncertainty and its source."""
    angle, spread = metrics.get("scan_rotation_deg"), metrics.get("scan_rotation_uncertainty_deg")
    if angle is None:
        return "unknown"
    words = [str(metrics.get("scan_rotation_source"))]
    words += ["or 180° away"] if metrics.get("scan_rotation_ambiguous") else []
    words += ["detector flipped"] if metrics.get("scan_flipped") else []
    return f"{angle:.1f}{'' if spread is None else f' ± {spread:.1f}'} ({', '.join(words)})"


def _calibration(calibration: Calibration, origins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Numbers of the calibration, each with where it came from."""
    for name, unit in _UNITS.items():
        value = getattr(calibration, name)
        origin = "" if value is None else f" ({origins.get(name, 'unknown origin')})"
        yield f"{name.replace('_', ' ')} ({unit})", f"{show_number(value)}{origin}"


def _metrics(metrics: Mapping[str, Any]) -> Table:
    table = Table(title="metrics", title_justify="left")
    for column in ("", "value", "what it means"):
        table.add_column(column, overflow="fold")
    suffixes = sorted(filter(None, REFERENCES), key=len, reverse=True)
    for key, value in metrics.items():
        suffix = next((end for end in suffixes if key.endswith(end)), "")
        meaning = _MEANINGS.get(key.removesuffix(suffix), "")
        against = f"; against the {REFERENCES[suffix]}" if suffix else ""
        table.add_row(Text(key), _value(value), _MEANINGS.get(key, f"{meaning}{against}"))
    return table


def _value(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, list):
        return ", ".join(_value(part) for part in value)
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _files(folder: Path) -> Table:
    table = Table(title="files", title_justify="left", show_header=False)
    for path in sorted(folder.iterdir()):
        n_bytes = sum(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file())
        table.add_row(Text(path.name), show_bytes(n_bytes), _FILES.get(path.name, ""))
    return table
