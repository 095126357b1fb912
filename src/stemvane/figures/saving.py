"""Figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from stemvane.defects.analysis import DefectAnalysis
from stemvane.errors import ConfigError, RunError
from stemvane.figures.field_page import vector_field
from stemvane.figures.overview_page import overview
from stemvane.figures.plots import agreement, learning_curves
from stemvane.figures.structures_page import structures_page
from stemvane.figures.style import STYLE
from stemvane.figures.sweep_page import sweep_page
from stemvane.figures.symmetry_page import symmetry_page
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
        Finished or about to be.
    folder : str or Path, optional
        Where to; the run's own ``figures`` where left out.
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
    folder = run.figures_path if folder is None else Path(folder)
    first = "figure1" if run.measurements.atoms is not None else "figure2"
    drawn = [(first, overview), ("agreement", agreement), ("learning_curves", learning_curves)]
    if "field_x" in run.measurements.maps:
        drawn.insert(1, ("field", vector_field))
    return [path for name, draw in drawn for path in _saved(draw(run), folder, name, dpi or run.config.figures.dpi)]


def save_sweep_figure(sweep: Sweep, folder: str | Path | None = None, dpi: int = 200) -> list[Path]:
    """Write the figure of a sweep as PNG and as SVG with its words as text.

    Parameters
    ----------
    sweep : Sweep
        Finished or about to be.
    folder : str or Path, optional
        Where to; the sweep's own ``figures`` where left out.
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
    return _saved(sweep_page(sweep), sweep.figures_path if folder is None else Path(folder), "sweep", dpi)


def save_symmetry_figure(run: Run, analysis: DefectAnalysis, folder: str | Path, dpi: int | None = None) -> list[Path]:
    """Write the figure of a symmetry analysis as PNG and as SVG with its words as text.

    Parameters
    ----------
    run : Run
        A finished run.
    analysis : DefectAnalysis
        Of its measurements and embedding.
    folder : str or Path
        Where to.
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
    return _saved(symmetry_page(run, analysis), Path(folder), "symmetry", dpi or run.config.figures.dpi)


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


def _saved(figure: Figure, folder: Path, name: str, dpi: int) -> list[Path]:
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
