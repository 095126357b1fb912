"""The command ``stemvane``: parse, call, print."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stemvane.cli.file_options import (
    ArrayOption,
    BackgroundOption,
    DtypeOption,
    FlybackOption,
    IgnoreOption,
    ImageOption,
    ScanOption,
    SensorOption,
    ShapeOption,
    SkipOption,
    VacuumOption,
    reading_settings,
)
from stemvane.cli.findings_list import print_findings
from stemvane.cli.options import (
    add_flags,
    drop_missing,
    read_range,
    source_settings,
    with_choices,
    with_settings,
)
from stemvane.cli.output_commands import export, figures, report, view
from stemvane.cli.simulation_commands import simulate, structures
from stemvane.cli.stopping import Stopped, stopping_signals
from stemvane.cli.tables import info_table, print_table, progress_bars, sweep_table, symmetry_table
from stemvane.data.findings import sort_findings
from stemvane.errors import ConfigError, StemvaneError

if TYPE_CHECKING:
    from stemvane.config import Config

__all__ = ["app", "main"]

app = typer.Typer(
    name="stemvane",
    help="Rotation-aware analysis of 4D-STEM diffraction patterns: from a file to a figure in one command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# what these leave when they are stopped is taken over by the next call
_GOING_ON = ("demo", "run", "sweep")

_Output = Annotated[Path, typer.Option("-o", "--output", help="run folder to write")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there")]
_Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="compare the run's files with their checksums")]
_Seed = Annotated[int | None, typer.Option(help="random seed")]
_Latents = Annotated[int | None, typer.Option("--n-latent", help="latent variables besides the angle")]
_Epochs = Annotated[int | None, typer.Option("--n-epochs", help="passes over the training patterns")]
_Device = Annotated[str | None, typer.Option(help="'auto', 'cpu' or 'cuda'")]
_Settings = Annotated[Path | None, typer.Option("--config", help="TOML file of settings, such as a run's config.toml")]
_Set = Annotated[
    list[str] | None, typer.Option("--set", help="any setting, such as preparation.descan=true; may be repeated")
]
_Energy = Annotated[str | None, typer.Option(help="beam energy, such as 60keV")]
_Semiangle = Annotated[float | None, typer.Option(help="convergence semi-angle, mrad")]
_Step = Annotated[str | None, typer.Option(help="Å, one number or YxX")]
_Pixel = Annotated[str | None, typer.Option(help="mrad per detector pixel, one number or YxX")]
_Axis = Annotated[
    str | None, typer.Option(help="optical axis on the detector YxX, px; the centre of the first pixel is 0x0")
]
_Radius = Annotated[float | None, typer.Option(help="radius of the bright-field disc, px")]
_Rotation = Annotated[
    float | None,
    typer.Option(help="degrees that rotate a vector on the detector into the scan, counter-clockwise on the screen"),
]
_Workers = Annotated[int | None, typer.Option("--workers", help="processes to measure with; threads if left out")]
_Cluster = Annotated[str | None, typer.Option(help="Dask scheduler to measure and embed on, such as tcp://host:8786")]
_Strict = Annotated[bool, typer.Option("--strict", help="end with exit code 2 where a finding is a failure")]


@app.callback(invoke_without_command=True)
def _options(show: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False) -> None:
    if show:
        typer.echo(f"stemvane {version('stemvane')}")
        raise typer.Exit


@app.command()
def demo(
    output: _Output = Path("runs/demo"),
    seed: _Seed = None,
    n_latent: _Latents = None,
    n_epochs: _Epochs = None,
    device: _Device = None,
    set_: _Set = None,
    overwrite: _Overwrite = False,
) -> None:
    """Simulate graphene and make Figure 1 of the paper by Oxley and others, 2021."""
    from stemvane.workflow.pipeline import demo_config

    config = with_settings(demo_config(), set_)
    _run(with_choices(config, seed, n_latent, n_epochs, device), output, overwrite, with_paper=True)


for _command_of_simulation in (simulate, structures):
    app.command()(_command_of_simulation)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="4D-STEM scan, or the folder of a run or a sweep")],
    energy: _Energy = None,
    semiangle: _Semiangle = None,
    scan_step: _Step = None,
    pixel: _Pixel = None,
    axis: _Axis = None,
    disc_radius: _Radius = None,
    scan_rotation: _Rotation = None,
    scan: ScanOption = None,
    dataset: ArrayOption = None,
    shape: ShapeOption = None,
    dtype: DtypeOption = None,
    skip_frames: SkipOption = None,
    ignore_extra: IgnoreOption = False,
    flyback: FlybackOption = None,
    sensor: SensorOption = None,
    background: BackgroundOption = None,
    image: ImageOption = None,
    vacuum: VacuumOption = None,
    verify: _Verify = True,
) -> None:
    """Print what a file says of itself, and what a look at some of its patterns finds; or sum up a run or a sweep.

    Numbers given as options take precedence over the file's.
    """
    from stemvane.config import Config

    source = source_settings(energy, semiangle, scan_step, pixel, axis, disc_radius, scan_rotation)
    source |= reading_settings(
        file, scan, dataset, shape, dtype, skip_frames, ignore_extra, flyback, sensor, background, image, vacuum
    )
    console = Console()
    if _is_run_folder(file):
        if len(source) > 1:
            option = next(name for name in source if name != "path")
            raise ConfigError(
                f"{file} is a run or a sweep, which source.{option} does not change; give the folder alone"
            )
        for table in _summaries(file, verify=verify):
            print_table(table)
        return
    from stemvane.io.files import open_source, size_on_disk
    from stemvane.reduction.survey import survey

    opened = open_source(Config().replace(source=source).source)
    looked = survey(opened)
    shape_from = "given" if scan or shape else "file"
    print_table(info_table(str(file), opened, looked, shape_from, size_on_disk(opened)))
    print_findings(console, sort_findings([*opened.findings, *looked.findings]), _available())


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="4D-STEM scan: a file of any of the formats in docs/formats.md")],
    output: _Output,
    n_latent: _Latents = None,
    n_epochs: _Epochs = None,
    seed: _Seed = None,
    energy: _Energy = None,
    semiangle: _Semiangle = None,
    scan_step: _Step = None,
    pixel: _Pixel = None,
    axis: _Axis = None,
    disc_radius: _Radius = None,
    scan_rotation: _Rotation = None,
    scan: ScanOption = None,
    dataset: ArrayOption = None,
    shape: ShapeOption = None,
    dtype: DtypeOption = None,
    skip_frames: SkipOption = None,
    ignore_extra: IgnoreOption = False,
    flyback: FlybackOption = None,
    sensor: SensorOption = None,
    background: BackgroundOption = None,
    image: ImageOption = None,
    vacuum: VacuumOption = None,
    device: _Device = None,
    workers: _Workers = None,
    cluster: _Cluster = None,
    settings: _Settings = None,
    set_: _Set = None,
    overwrite: _Overwrite = False,
    strict: _Strict = False,
) -> None:
    """Measure, align, learn, compare and draw: from a recorded or simulated scan to Figure 2 or 1."""
    from stemvane.config import Config

    config = with_settings(Config.from_toml(settings) if settings else Config(), set_)
    source = source_settings(energy, semiangle, scan_step, pixel, axis, disc_radius, scan_rotation)
    source |= reading_settings(
        file, scan, dataset, shape, dtype, skip_frames, ignore_extra, flyback, sensor, background, image, vacuum
    )
    config = config.replace(source=source, measure=drop_missing({"n_workers": workers, "cluster": cluster}))
    inputs = [settings] if settings else []
    _run(with_choices(config, seed, n_latent, n_epochs, device), output, overwrite, inputs=inputs, strict=strict)


@app.command()
def sweep(
    file: Annotated[
        Path | None, typer.Argument(help="4D-STEM scan; simulated as for the demo, or as --config says, if left out")
    ] = None,
    output: _Output = Path("runs/sweep"),
    n_latent: Annotated[
        str | None, typer.Option(help="numbers of latents: a range such as 0..6, which is the default, or 0,2,4")
    ] = None,
    n_kinds: Annotated[
        str | None, typer.Option(help="numbers of kinds of the model 'kinds' instead, such as 1..6")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="trainings for each number; 3 by default, 1 of a model in closed form")
    ] = None,
    n_epochs: _Epochs = None,
    device: _Device = None,
    settings: _Settings = None,
    set_: _Set = None,
    overwrite: _Overwrite = False,
) -> None:
    """Train with several numbers of latents or kinds and several seeds, and recommend a number with its reason."""
    from stemvane.config import Config

    latents = None if n_latent is None else read_range(n_latent, "--n-latent")
    kinds = None if n_kinds is None else read_range(n_kinds, "--n-kinds")
    from stemvane.workflow.pipeline import demo_config
    from stemvane.workflow.sweep import run_sweep

    config = Config.from_toml(settings) if settings else Config() if file else demo_config()
    config = with_choices(with_settings(config, set_), None, None, n_epochs, device)
    if file:
        config = config.replace(source={"path": str(file)})
    command = shlex.join(["stemvane", *sys.argv[1:]])
    with progress_bars() as report:
        finished = run_sweep(
            config,
            output,
            n_latent=latents,
            n_kinds=kinds,
            n_seeds=seeds,
            command=command,
            overwrite=overwrite,
            inputs=[settings] if settings else [],
            progress=report,
        )
    console = Console()
    print_table(sweep_table(finished))
    console.print(Text(f"recommended: {finished.reason}"), soft_wrap=True)
    console.print(Text(str(finished.figures_path / "sweep.png")), soft_wrap=True)
    print_findings(console, finished.findings, _available())


@app.command()
def symmetry(
    folder: Annotated[Path, typer.Argument(help="a finished run")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for the results; symmetry in the run if left out")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="false discovery rate: share of false ones among the defects")
    ] = None,
    library: Annotated[
        str | None,
        typer.Option(
            "--library",
            help="graphene, h-BN, MoS2, MoSe2 or WS2: simulate its defects with this probe to name those found; or a "
            "folder with a structure file for each kind, or with a stored library",
        ),
    ] = None,
    set_: _Set = None,
    verify: _Verify = True,
) -> None:
    """Find where a scan departs from its own lattice and sort the defects; without a lattice, sort the patterns."""
    from stemvane.defects.library import simulate_library
    from stemvane.defects.search import find_defects
    from stemvane.figures.saving import save_symmetry_figure
    from stemvane.runs.defects_folder import place_for_symmetry, summary_of, write_symmetry
    from stemvane.runs.run import Run

    run = Run.open(folder, verify=verify)
    config = with_settings(run.config, set_)
    config = config.replace(symmetry=drop_missing({"false_discovery_rate": rate, "library": library}))
    place_for_symmetry(run, output)
    simulated = None
    if config.symmetry.library:
        with progress_bars() as report:
            simulated = simulate_library(
                run.measurements, config.symmetry, progress=lambda done, n: report("library", done, n, "")
            )
    with progress_bars() as report:
        analysis = find_defects(
            run.measurements,
            run.embedding,
            config.symmetry,
            library=simulated,
            progress=lambda done, n: report("defects", done, n, ""),
        )
    place = write_symmetry(run, analysis, output)
    console = Console()
    print_table(symmetry_table(str(run.path), summary_of(analysis)))
    for path in [*sorted(place.glob("*.csv")), *save_symmetry_figure(run, analysis, place)]:
        console.print(Text(str(path)), soft_wrap=True)
    print_findings(console, sort_findings([*analysis.findings, *run.findings]), _available())


for _command_of_output in (figures, report, export, view):
    app.command()(_command_of_output)

_PROGRAM: Any = typer.main.get_command(app)  # all commands with their options


def main() -> None:
    """Entry point of the command; a `StemvaneError` becomes one line on stderr and exit code 1.

    Stopped by SIGINT or SIGTERM, it clears up, says how to go on, and ends with 128 plus the signal's number.
    """
    try:
        with stopping_signals():
            _PROGRAM()
    except MemoryError as error:
        reason = " ".join(str(error).split()) or "a smaller part of it may fit"
        message = f"error: not enough memory ({reason}); close other programs, or crop or bin the scan"
        Console(stderr=True).print(Text(message, style="red"), soft_wrap=True)
        sys.exit(1)
    except Stopped as stop:
        end = " to go on" if _command() in _GOING_ON else ""
        Console(stderr=True).print(Text(f"stopped; run the same command again{end}", style="yellow"), soft_wrap=True)
        sys.exit(128 + stop.number)
    except StemvaneError as error:
        message = add_flags(" ".join(str(error).split()), _available())
        line = Text(f"error: {message}", style="red")
        Console(stderr=True).print(line, soft_wrap=True)
        sys.exit(1)


def _available() -> set[str]:
    """Options of the command that is running."""
    options = getattr(_PROGRAM.commands.get(_command()), "params", [])
    return {flag for option in options for flag in (*option.opts, *option.secondary_opts)}


def _command() -> str | None:
    """Name of the command that is running."""
    return next((word for word in sys.argv[1:] if word in _PROGRAM.commands), None)


def _is_run_folder(path: Path) -> bool:
    """Whether a folder is a run or a sweep, and no data set."""
    return path.is_dir() and (path / "manifest.json").is_file()


def _summaries(folder: Path, *, verify: bool) -> list[Table]:
    """Tables that sum up a run, or a sweep."""
    from stemvane.cli.run_tables import folder_tables, sweep_tables
    from stemvane.io.atomic import read_manifest
    from stemvane.runs.run import Run
    from stemvane.runs.sweep_folder import Sweep

    if (read_manifest(folder) or {}).get("kind") == "sweep":
        sweep = Sweep.open(folder, verify=verify)
        return [*sweep_tables(sweep), sweep_table(sweep)]
    return [*folder_tables(Run.open(folder, verify=verify))]


def _run(
    config: Config,
    output: Path,
    overwrite: bool,
    *,
    inputs: Sequence[Path] = (),
    with_paper: bool = False,
    strict: bool = False,
) -> None:
    from stemvane.cli.run_tables import run_table
    from stemvane.workflow.pipeline import run_pipeline

    command = shlex.join(["stemvane", *sys.argv[1:]])
    with progress_bars() as report:
        finished = run_pipeline(config, output, command=command, overwrite=overwrite, inputs=inputs, progress=report)
    console = Console()
    print_table(run_table(str(finished.path), finished.metrics, with_paper=with_paper))
    for path in sorted(finished.figures_path.glob("*.png")):
        console.print(Text(str(path)), soft_wrap=True)
    print_findings(console, finished.findings, _available(), strict=strict)
