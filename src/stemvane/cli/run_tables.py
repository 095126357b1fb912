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
    ("angle_std_median_deg", "the content's angle is uncertain by (deg, median)", "{:.2f}"),
    ("deflection_angle_std_median_deg", "the angle of the deflection is uncertain by (deg, median)", "{:.2f}"),
    ("angle_differs_share", "share of positions where the two differ beyond both", "{:.2f}"),
    ("explained_variance", "explained variance", "{:.4f}"),
    ("evidence_heldout", "evidence, held out (nat per pattern)", "{:.1f}"),
    ("pearson_r_first_neighbours", "r with the neighbours' |COM|", "{:.4f}"),
    ("angle_error_median_deg_neighbours", "median error against the neighbours' COM (deg)", "{:.2f}"),
    ("angle_error_median_deg_truth", "median error against the noiseless COM (deg)", "{:.2f}"),
    ("com_angle_error_median_deg_truth", "the same of the measured COM itself (deg)", "{:.2f}"),
    ("filtered_com_angle_error_median_deg_truth", "the same of the filtered COM (deg)", "{:.2f}"),
    ("defocus", "defocus of the probe, fitted (Å)", "{:.1f}"),
    ("astigmatism", "its astigmatism, fitted (Å)", "{:.1f}"),
    ("train_seconds", "training (s)", "{:.1f}"),
    ("train_patterns_per_second", "training patterns per second", "{:,.0f}"),
    ("total_seconds", "all stages (s)", "{:.1f}"),
)
# agreement with a centre of mass, one column for each that the scan can be held against
_AGREEMENT = {
    "pearson_r": "r of each latent with |COM|",
    "angle_sign": "sense of the angle",
    "angle_offset_deg": "offset of the angle (deg)",
    "angle_error_median_deg": "angle error, median (deg)",
    "angle_error_mean_deg": "angle error, weighted mean (deg)",
    "com_angle_error_median_deg": "the measured COM's error, median (deg)",
    "com_angle_error_mean_deg": "the measured COM's, weighted mean (deg)",
    "com_pearson_r": "r of the measured |COM|",
    "filtered_com_angle_error_median_deg": "the filtered COM's error, median (deg)",
    "filtered_com_pearson_r": "r of the filtered |COM|",
}
_LEARNED = {
    "explained_variance": "explained variance",
    "explained_variance_heldout": "of patterns held out from training",
    "explained_variance_truth": "of the noiseless patterns",
    "evidence_heldout": "evidence, held out (nat per pattern)",
    "evidence_noise_level": "noise level of the evidence",
    "network_gain": "gained by the network over the closed form (nat per pattern)",
    "network_gain_std": "standard error of this",
    "noise_level": "noise level of the training (rms residual)",
    "quantity_explained": "variance of known values that is predicted where each is left out",
    "quantity_std_median": "the quantity is uncertain by (median)",
    "invariance_error": "latents of rotated patterns change by (s.d.)",
    "angle_std_median_deg": "the content's angle is uncertain by (deg, median)",
    "deflection_angle_std_median_deg": "the angle of the deflection is uncertain by (deg, median)",
    "angle_difference_median_deg": "the two differ by (deg, median)",
    "angle_differs_share": "share of positions where they differ beyond both",
    "equivariance_error_deg": "angles of rotated patterns are off by (deg)",
    "defocus": "defocus of the probe, fitted (Å)",
    "defocus_std": "its standard error (Å)",
    "astigmatism": "astigmatism of the probe, fitted (Å)",
    "astigmatism_std": "its standard error (Å)",
    "astigmatism_angle_deg": "direction of the largest defocus (deg)",
    "electrons_per_pattern": "electrons per pattern",
    "peak_memory_mb": "largest memory (MB)",
}
# metrics that stand in other rows
_ELSEWHERE = {"n_patterns", "n_latent", "seed", "model", "total_seconds", "train_seconds", "train_patterns_per_second"}
_ELSEWHERE |= {f"pearson_r_{word}{suffix}" for word in ("first", "others_max") for suffix in REFERENCES}
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
    """What a run says of itself: how it was made, its data, calibration, model, metrics and files."""
    manifest, measured, metrics = run.manifest, run.measurements, run.metrics
    data, preparation = manifest.get("data", {}), measured.preparation
    table = _plain_table(str(run.path))
    finished = str(manifest.get("finished")).replace("T", " ").replace("+00:00", " UTC")
    table.add_row("made", f"{finished} in {manifest.get('total_seconds', math.nan):.0f} s")
    table.add_row("command", Text(manifest.get("command") or "none: made in Python"))
    shape = " x ".join(map(str, data.get("shape", [])))
    table.add_row("data", Text(f"{data.get('name')}: {shape}, {data.get('dtype')}"))
    table.add_row("file", Text(data.get("path", "none: simulated, or handed over in Python")))
    table.add_row("calibration", Text("; ".join(_calibration(measured.calibration, measured.origins))))
    table.add_row("scan rotation", _rotation(metrics, "°"))
    for step in () if preparation is None else preparation.steps:
        table.add_row("preparation", Text(step))
    for warning in () if preparation is None else preparation.warnings:
        table.add_row("warning", Text(warning))
    if preparation is None or not preparation.steps:
        table.add_row("preparation", "nothing was done to the patterns")
    table.add_row("model", f"{metrics.get('model')}, {metrics.get('n_latent')} latents")
    table.add_row("training", _training(run))
    table.add_row("files", Text(", ".join(_files(run.path))))
    yield table
    yield _agreement(metrics)
    yield _learned(metrics)


def sweep_tables(sweep: Sweep) -> Iterator[Table]:
    """What a sweep recommends, and its files; `sweep_table` has the numbers behind it."""
    table = _plain_table(str(sweep.path))
    table.add_row("data", Text(f"{sweep.summary['data']}, {sweep.summary['n_patterns']} patterns"))
    table.add_row("trainings", f"{len(sweep.table['seed'])}, seeds {', '.join(map(str, sweep.summary['seeds']))}")
    table.add_row("recommended", sweep.reason)
    table.add_row("files", Text(", ".join(_files(sweep.path))))
    yield table


def _plain_table(title: str) -> Table:
    """A table of a label and a value, without lines."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", show_header=False, box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _rotation(metrics: Mapping[str, Any], unit: str = "") -> str:
    """Angle with its uncertainty and its source."""
    angle, spread = metrics.get("scan_rotation_deg"), metrics.get("scan_rotation_uncertainty_deg")
    if angle is None:
        return "unknown"
    words = [str(metrics.get("scan_rotation_source"))]
    words += ["or 180° away"] if metrics.get("scan_rotation_ambiguous") else []
    words += ["detector flipped"] if metrics.get("scan_flipped") else []
    return f"{angle:.1f}{unit}{'' if spread is None else f' ± {spread:.1f}{unit}'} ({', '.join(words)})"


def _calibration(calibration: Calibration, origins: Mapping[str, str]) -> Iterator[str]:
    """Numbers of the calibration, each with where it came from."""
    for name, unit in _UNITS.items():
        value, label = getattr(calibration, name), name.replace("_", " ")
        if value is None:
            yield f"{label} unknown"
        else:
            yield f"{label} {show_number(value)} {unit} ({origins.get(name, 'unknown origin')})"


def _training(run: Run) -> str:
    """How the model was trained, and how long it took."""
    training, metrics = run.config.training, run.metrics
    n_epochs = len(run.history["epoch"])
    epochs = f"{n_epochs} epochs" if run.config.model.has_epochs else "closed form"
    if run.config.model.has_epochs and n_epochs < training.n_epochs:
        epochs = f"closed form, since {n_epochs} epochs of the network gained nothing"
    words = [epochs, f"seed {training.seed}", f"on {run.manifest.get('device', 'an unknown device')}"]
    seconds, speed = metrics.get("train_seconds"), metrics.get("train_patterns_per_second")
    words += [] if seconds is None else [f"{seconds:.3g} s"]
    words += [] if speed is None else [f"{speed:,.0f} patterns per second"]
    return ", ".join(words)


def _agreement(metrics: Mapping[str, Any]) -> Table:
    """Agreement with each centre of mass that is known; what is not known is left out."""
    columns = {
        suffix: name
        for suffix, name in REFERENCES.items()
        if any(metrics.get(f"{key}{suffix}") is not None for key in _AGREEMENT)
    }
    table = Table(title="agreement with the centre of mass (COM)", title_justify="left", title_style="bold", box=None)
    table.add_column("against the", overflow="fold")
    for name in columns.values():
        table.add_column(name, justify="right", no_wrap=True)
    for key, label in _AGREEMENT.items():
        values = [metrics.get(f"{key}{suffix}") for suffix in columns]
        if any(value is not None for value in values):
            table.add_row(Text(label), *("" if value is None else _value(value) for value in values))
    if not table.row_count:
        table.add_row("not known")
    return table


def _learned(metrics: Mapping[str, Any]) -> Table:
    """What the model has learned; what is not known is left out, and metrics without a label have their names."""
    table = Table(title="metrics", title_justify="left", title_style="bold", show_header=False, box=None)
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    labelled = {f"{key}{suffix}" for key in _AGREEMENT for suffix in REFERENCES} | _ELSEWHERE
    others = [key for key in metrics if key not in {*labelled, *_LEARNED} and not key.startswith("scan_")]
    for key, label in [*_LEARNED.items(), *((key, key) for key in others)]:
        if metrics.get(key) is not None:
            table.add_row(Text(label), _value(metrics[key]))
    return table


def _value(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, list):
        return ", ".join(_value(part) for part in value)
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        n_bytes = sum(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file())
        yield f"{path.name} {show_bytes(n_bytes)}"
