"""Figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from stemvane.data.arguments import require
from stemvane.defects.analysis import DefectAnalysis
from stemvane.errors import ConfigError, RunError
from stemvane.figures.agreement_page import agreement_page
from stemvane.figures.defects_page import defects_page
from stemvane.figures.field_page import field_page
from stemvane.figures.history_page import history_page
from stemvane.figures.manifold_panel import Manifold
from stemvane.figures.overview_page import overview_page
from stemvane.figures.structures_page import structures_page
from stemvane.figures.style import STYLE
from stemvane.figures.sweep_page import sweep_page
from stemvane.runs.run import Run
from stemvane.runs.sweep_folder import Sweep

__all__ = ["save_figures", "save_structures_figure", "save_sweep_figure", "save_symmetry_figure"]

# without program and date the same figure has the same bytes
_METADATA: dict[str, dict[str, Any]] = {".png": {"Software": None}, ".svg": {"Date": None}}


def save_figures(run: Run, folder: str | Path | None = None, dpi: int | None = None) -> list[Path]:
    """Write all figures as PNG and as SVG with its words as text.

    Parameters
    ----------
    run : Run
        Run that is finished or about to be.
    folder : str or Path, optional
        Folder to write to; the run's own ``figures`` where left out.
    dpi : int, optional
        Pixels per inch; as in the run's settings where left out.

    Returns
    -------
    list of Path
        ``figure1`` where the atoms are known, ``figure2`` where an image stands in for them, ``field`` where the scan
        rotation is known, ``agreement`` and ``learning_curves``, each ``.png`` and ``.svg``. The same run gives the
        same bytes.

    Raises
    ------
    RunError
        If a part of the run is missing or damaged, or the folder cannot be written.
    """
    require(run, Run, "save_figures")
    folder = run.figures_path if folder is None else Path(folder)
    measurements, embedding, metrics = run.measurements, run.embedding, run.metrics
    first = "figure1" if measurements.atoms is not None else "figure2"
    manifold = Manifold(run.manifold, run.manifold_latents)
    pages = [(first, overview_page(measurements, embedding, manifold, metrics))]
    if "field_x" in measurements.maps:
        pages.append(("field", field_page(measurements, metrics)))
    pages.append(("agreement", agreement_page(measurements, embedding, metrics)))
    pages.append(("learning_curves", history_page(run.history)))
    return [path for name, page in pages for path in _save(page, folder, name, dpi or run.config.figures.dpi)]


def save_sweep_figure(sweep: Sweep, folder: str | Path | None = None, dpi: int = 200) -> list[Path]:
    """Write the figure of a sweep as PNG and as SVG with its words as text.

    Parameters
    ----------
    sweep : Sweep
        Sweep that is finished or about to be.
    folder : str or Path, optional
        Folder to write to; the sweep's own ``figures`` where left out.
    dpi : int
        Pixels per inch.

    Returns
    -------
    list of Path
        ``sweep.png`` and ``sweep.svg``.

    Raises
    ------
    RunError
        If the folder cannot be written.
    """
    return _save(sweep_page(sweep), sweep.figures_path if folder is None else Path(folder), "sweep", dpi)


def save_symmetry_figure(run: Run, analysis: DefectAnalysis, folder: str | Path, dpi: int | None = None) -> list[Path]:
    """Write the figure of a defect analysis as PNG and as SVG with its words as text.

    Parameters
    ----------
    run : Run
        A finished run.
    analysis : DefectAnalysis
        Analysis of its measurements and embedding.
    folder : str or Path
        Folder to write to.
    dpi : int, optional
        Pixels per inch; as in the run's settings where left out.

    Returns
    -------
    list of Path
        ``symmetry.png`` and ``symmetry.svg``.

    Raises
    ------
    RunError
        If the folder cannot be written.
    """
    return _save(
        defects_page(run.measurements, run.embedding, analysis),
        Path(folder),
        "symmetry",
        dpi or run.config.figures.dpi,
    )


def save_structures_figure(path: str | Path, dpi: int = 200) -> Path:
    """Write `structures_page`.

    Parameters
    ----------
    path : str or Path
        File to write; its ending is the format.
    dpi : int
        Pixels per inch.

    Returns
    -------
    Path

    Raises
    ------
    ConfigError
        If the ending is neither ``.png`` nor ``.svg``, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in _METADATA:
        raise ConfigError(f"{path}: pictures are written as .png or .svg; give a name that ends so")
    figure = structures_page()
    try:
        _write(figure, path, dpi)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error}); give another name") from None
    return path


def _save(figure: Figure, folder: Path, name: str, dpi: int) -> list[Path]:
    paths = [folder / f"{name}{ending}" for ending in _METADATA]
    try:
        for path in paths:
            _write(figure, path, dpi)
    except OSError as error:
        raise RunError(
            f"{folder}: figures cannot be written ({error.strerror or error}); give another folder"
        ) from None
    return paths


def _write(figure: Figure, path: Path, dpi: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        figure.savefig(path, dpi=dpi, metadata=_METADATA[path.suffix])
