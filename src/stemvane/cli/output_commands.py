"""Commands that show finished runs or hand them on: view, report, figures, export."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from stemvane.cli.options import source_settings

__all__ = ["export", "figures", "report", "view"]

_Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="compare the run's files with their checksums")]


def view(
    paths: Annotated[
        list[Path],
        typer.Argument(help="runs, 4D-STEM scans, or one folder whose newest run is shown", metavar="RUN|FILE…"),
    ],
    port: Annotated[
        int | None, typer.Option(help="port to listen on; the first free one from 8765 if left out")
    ] = None,
    host: Annotated[
        str, typer.Option(help="address to listen on; any but this machine's needs --token as well")
    ] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(help="token of the address, 12 letters or more; made up if left out")
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="a further name to be called by, such as that of a JupyterHub; may be repeated"),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open the page in a browser")] = True,
    energy: Annotated[str | None, typer.Option(help="beam energy, such as 60keV")] = None,
    semiangle: Annotated[float | None, typer.Option(help="convergence semi-angle, mrad")] = None,
    scan_step: Annotated[str | None, typer.Option(help="Å, one number or YxX")] = None,
    pixel: Annotated[str | None, typer.Option(help="mrad per detector pixel, one number or YxX")] = None,
    scan: Annotated[str | None, typer.Option(help="probe positions YxX, for a stack that does not say it")] = None,
    verify: _Verify = True,
) -> None:
    """Show runs and scans in a browser: maps, patterns and the learned space in one page, linked."""
    from stemvane.cli.options import read_pair
    from stemvane.config import Config
    from stemvane.io.files import open_source
    from stemvane.viewer.answers import Answers
    from stemvane.viewer.serving import ViewServer, require_server, scenes_of

    require_server()

    source = source_settings(energy, semiangle, scan_step, pixel, None, None, None)
    if scan is not None:
        source["scan_shape"] = read_pair(scan, int, "--scan")

    def open_file(path: Path) -> Any:
        return open_source(Config().replace(source={**source, "path": str(path)}).source)

    scenes, watch = scenes_of(paths, open_file, verify=verify)
    server = ViewServer(Answers(scenes, watch), host=host, port=port, token=token, names=names or [])
    for scene in scenes:
        scene.start()
    console = Console()
    console.print(Text(f"viewer: {server.address}"), soft_wrap=True)
    if "SSH_CONNECTION" in os.environ:
        user, name = os.environ.get("USER", "USER"), os.uname().nodename if hasattr(os, "uname") else "HOST"
        console.print(
            Text(f"from your own machine: ssh -L {server.port}:127.0.0.1:{server.port} {user}@{name}"), soft_wrap=True
        )
    console.print(Text("Ctrl+C ends it"), soft_wrap=True)
    sys.stdout.flush()
    if browser and ("DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ or sys.platform != "linux"):
        webbrowser.open(server.address)
    server.run()


def report(
    folder: Annotated[Path, typer.Argument(help="a finished run")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="HTML file to write; RUN_report.html beside the run if left out"),
    ] = None,
    verify: _Verify = True,
) -> None:
    """Write a run as one HTML file: findings, metrics, maps to look at, settings; it needs no server."""
    from stemvane.runs.run import Run
    from stemvane.viewer.report_page import write_report

    typer.echo(write_report(Run.open(folder, verify=verify), output))


def figures(
    folder: Annotated[Path, typer.Argument(help="a finished run")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for the figures; the run's own if left out")
    ] = None,
    dpi: Annotated[int | None, typer.Option(help="resolution of the PNG files")] = None,
    verify: _Verify = True,
) -> None:
    """Draw the figures of a run again."""
    from stemvane.config import Config
    from stemvane.figures.saving import save_figures
    from stemvane.runs.run import Run

    if dpi is not None:
        Config().replace(figures={"dpi": dpi})  # the settings know which resolutions make sense
    for path in save_figures(Run.open(folder, verify=verify), output, dpi):
        typer.echo(path)


def export(
    folder: Annotated[Path, typer.Argument(help="a finished run")],
    to: Annotated[str, typer.Option("--to", help="hspy, emd, zarr, tiff or csv")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="what to write; the run's name, beside the run, if left out")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace what is there")] = False,
    verify: _Verify = True,
) -> None:
    """Write the maps and patterns of a run for other programs, with units on every axis."""
    from stemvane.export.writers import export_run as write
    from stemvane.runs.run import Run

    typer.echo(write(Run.open(folder, verify=verify), to, output, overwrite))
