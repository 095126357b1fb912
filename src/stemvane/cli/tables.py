"""Tables that the commands print, and the bars that they show meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from stemvane.cli.options import show_bytes, show_number
from stemvane.data.progress import StageProgress, is_interactive, stage_bars
from stemvane.specimens import SPECIMENS

if TYPE_CHECKING:
    from stemvane.data.dataset import Dataset4D
    from stemvane.reduction.survey import Survey
    from stemvane.runs.sweep_folder import Sweep

__all__ = ["info_table", "print_table", "progress_bars", "structures_table", "sweep_table", "symmetry_table"]

# columns of a terminal, more than any table takes
_WIDEST = 10_000

_CALIBRATION = (
    ("scan_step", "Å"),
    ("pixel_size", "mrad"),
    ("convergence_semiangle", "mrad"),
    ("energy", "eV"),
)


def print_table(table: Table) -> None:
    """Print a table; where a terminal is too narrow for the longest words, lines run over and nothing is cut off."""
    console = Console()
    for column in table.columns:
        words = [word for cell in (column.header, *column.cells) for word in str(cell).split()]
        if column.overflow != "fold":
            column.min_width = max(map(cell_len, words), default=1)
    # columns of paths may be folded anywhere
    folds = any(column.overflow == "fold" for column in table.columns)
    options = console.options.update(max_width=_WIDEST)
    narrowest = 0 if folds else Measurement.get(console, options, table).minimum
    Console(width=max(narrowest, console.width)).print(table, crop=False)


def info_table(name: str, opened: Dataset4D, looked: Survey, shape_from: str, n_bytes: int) -> Table:
    """What is known of a data set, where each number came from, and what the survey has looked."""
    table = Table(title=Text(name), title_justify="left", show_header=True)
    for column in ("", "known", "from", "found"):
        table.add_column(column)
    calibration = opened.calibration
    completed = calibration
    if looked.has_disc or (calibration.optical_axis is not None and calibration.disc_radius is not None):
        completed = looked.complete(calibration)
    table.add_row("shape (scan y, x; detector y, x)", " x ".join(map(str, opened.shape)), shape_from)
    table.add_row("type", str(opened.data.dtype), "file")
    table.add_row("size on disk", show_bytes(n_bytes), "file")
    for key, unit in _CALIBRATION:
        table.add_row(f"{key.replace('_', ' ')} ({unit})", show_number(getattr(calibration, key)), opened.origin(key))
    rotation = None if calibration.scan_rotation is None else math.degrees(calibration.scan_rotation)
    table.add_row("scan rotation (deg)", show_number(rotation), opened.origin("scan_rotation"))
    centre = show_number(looked.disc_centre) if looked.has_disc else "no disc found"
    table.add_row("disc centre y, x (px)", show_number(calibration.optical_axis), opened.origin("optical_axis"), centre)
    radius = show_number(calibration.disc_radius)
    table.add_row("disc radius (px)", radius, opened.origin("disc_radius"), show_number(looked.disc_radius))
    if calibration.pixel_size is None and completed.pixel_size is not None:
        table.add_row("pixel size from the disc (mrad)", "", "", show_number(completed.pixel_size))
    if opened.missing is not None:
        table.add_row("patterns missing", "", "", f"{int(opened.missing.sum())} of {opened.n_patterns}")
    if opened.bad_pixels is not None:
        table.add_row("masked pixels", str(int(opened.bad_pixels.sum())), "file")
    counts = f"{looked.counts_mean:.6g} ({looked.counts_min:.6g} to {looked.counts_max:.6g})"
    table.add_row("counts per pattern: mean (range)", "", "", counts)
    table.add_row("largest pixel value", "", "", f"{looked.pixel_max:.6g}")
    table.add_row("hot, dead pixels", "", "", f"{len(looked.hot_pixels)}, {len(looked.dead_pixels)}")
    if looked.disc_ellipse is not None:
        ratio, direction = looked.disc_ellipse[0], math.degrees(looked.disc_ellipse[1]) + 0.0
        table.add_row("disc's long over short axis; direction (deg)", "", "", f"{ratio:.4f}; {direction:.0f}")
    if looked.has_disc:
        shift = f"{show_number(looked.beam_shift_along_y)}; {show_number(looked.beam_shift_along_x)}"
        table.add_row("beam shift over the scan along y; x (px)", "", "", shift)
    if looked.variation is not None:
        table.add_row("patterns differ out to (px)", "", "", show_number(looked.variation.reach))
    table.add_row("patterns looked at", "", "", str(looked.n_frames))
    return table


def structures_table() -> Table:
    """Every specimen that can be simulated, with a bond as relaxed and as published."""
    from stemvane.simulation.catalogue import TOLERANCE, bond_agrees, bond_length

    caption = f"* differs from the published lengths by more than {TOLERANCE} Å; see docs/structures.md"
    table = Table(title="Structures", title_justify="left", caption=caption, caption_justify="left")
    for label in ("name", "atoms changed", "what it is", "bond", "here (Å)", "published (Å)", "published in"):
        table.add_column(label, justify="right" if "Å" in label else "left")
    for entry in SPECIMENS:
        here = f"{bond_length(entry):.3f}{'' if bond_agrees(entry) else ' *'}"
        table.add_row(entry.name, entry.changed, entry.words, entry.bond, here, entry.published_words, entry.source)
    return table


def sweep_table(sweep: Sweep) -> Table:
    """Means over the seeds for each number of latents or kinds, their spread, and which number is recommended."""
    from stemvane.runs.sweep_folder import REFERENCES

    suffix = sweep.reference
    columns = (
        ("evidence_heldout", "evidence (nat)", "{:.1f}"),
        ("explained_variance", "explained variance", "{:.4f}"),
        ("explained_variance_heldout", "held out", "{:.4f}"),
        (f"pearson_r_1{suffix}", "r of the first", "{:.4f}"),
        (f"pearson_r_others_max{suffix}", "largest other |r|", "{:.3f}"),
        (f"angle_error_median_deg{suffix}", "angle error (deg)", "{:.2f}"),
        ("seconds", "seconds", "{:.1f}"),
    )
    finite_columns = [column for column in columns if np.isfinite(sweep.table.get(column[0], np.array(np.nan))).any()]
    caption = (
        f"mean ± standard deviation over the seeds; evidence of held-out patterns; r and angle: {REFERENCES[suffix]}"
    )
    table = Table(title=Text(str(sweep.path)), title_justify="left", caption=caption, caption_justify="left")
    for label in (f"{sweep.noun}s", *(label for _, label, _ in finite_columns)):
        table.add_column(label, justify="right")
    for entry in sweep.by_number:
        chosen = entry[sweep.varied] == sweep.number
        cells = [_with_spread(entry[name], form) for name, _, form in finite_columns]
        table.add_row(f"{'> ' if chosen else ''}{entry[sweep.varied]}", *cells, style="bold" if chosen else None)
    return table


def _with_spread(value: Mapping[str, Any], form: str) -> str:
    """Mean and standard deviation over the seeds; nothing where it is not known."""
    if value["mean"] is None:
        return ""
    spread = "" if value["spread"] is None else f" ± {form.format(value['spread'])}"
    return form.format(value["mean"]) + spread


def _add_groups(table: Table, summary: Mapping[str, Any]) -> None:
    """One row for each group of patterns of a scan without a lattice."""
    if not summary["n_groups"]:
        table.add_row("groups of patterns", "not looked for: too few positions, or no scan")
        return
    table.add_row("groups of patterns", f"{summary['n_groups']}, agreement of other starts {summary['stability']:.2f}")
    for number, group in enumerate(summary["groups"], 1):
        (deflection,) = ((key, group[key]) for key in group if key.startswith("deflection_"))
        unit = deflection[0].removeprefix("deflection_")
        table.add_row(
            f"group {number}: {_percent(group['share'])}",
            f"dark field {group['dark_field_over_median']:.3f}, bright field {group['bright_field_over_median']:.3f} "
            f"of the median, deflection {deflection[1]:.2g} {unit}",
        )


def symmetry_table(name: str, summary: Mapping[str, Any]) -> Table:
    """Lattice and kinds of defects, or groups of patterns, that a symmetry analysis has found."""
    table = Table(title=Text(name), title_justify="left", show_header=False)
    if not summary["lattice"]:
        table.add_row("lattice", "none: the maps repeat nowhere, so there are no sites and no defects")
        _add_groups(table, summary)
        return table
    shares = ", ".join(_percent(share) for share in summary["lattice_shares"])
    table.add_row("lattices", f"{summary['n_lattices']}, in {shares} of the field")
    table.add_row("searched", f"{_percent(summary['share_searched'])} of the field")
    a, b = summary["lattice_constants"]
    table.add_row("lattice constants (Å), angle", f"{a:.3f}, {b:.3f}, {summary['lattice_angle_deg']:.1f}°")
    table.add_row("atoms, hollows in the scan", f"{summary['n_atoms']}, {summary['n_hollows']}")
    winding = [summary[f"winding_{name}"] for name in ("atoms", "hollows", "bonds")]
    words = ", ".join("none" if value is None else f"{value:+.2f}" for value in winding)
    table.add_row("winding at atoms, hollows, bonds", words)
    table.add_row("defects, kinds", f"{summary['n_defects']}, {summary['n_kinds']}")
    rows = zip(summary["kind_counts"], summary["kind_excess_order_0"], summary["kind_excess_order_1"], strict=True)
    for kind, (count, scattering, deflection) in enumerate(rows, 1):
        name = ""
        if summary["kind_names"]:
            name = f" {summary['kind_names'][kind - 1]} at {_percent(summary['kind_probabilities'][kind - 1])},"
        table.add_row(
            f"kind {kind}:{name} {count} found", f"{scattering:+.2f} scattering, {deflection:+.2f} deflection (atoms)"
        )
    return table


@contextmanager
def progress_bars() -> Iterator[StageProgress]:
    """Show progress bars on stderr; where that is not a terminal, only say what a run has taken over."""
    console = Console(stderr=True)
    with stage_bars() as report:

        def show(stage: str, done: int, total: int, note: str) -> None:
            if stage == "resumed" and not is_interactive():
                console.print(Text(f"resumed: {note}"), soft_wrap=True)
            else:
                report(stage, done, total, note)

        yield show


def _percent(share: float) -> str:
    """A share in per cent, to two digits and at most whole ones."""
    return f"{100 * share:.{0 if share >= 0.1 else 1}f} %"
