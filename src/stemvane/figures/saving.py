"""Figures as files."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from stemvane.data.arguments import require
from stemvane.data.findings import Finding
from stemvane.errors import ConfigError, RunError
from stemvane.figures.agreement_page import agreement_page
from stemvane.figures.field_page import field_page
from stemvane.figures.history_page import history_page
from stemvane.figures.manifold_panel import Manifold
from stemvane.figures.overview_page import overview_page
from stemvane.figures.structures_page import structures_page
from stemvane.figures.style import STYLE
from stemvane.figures.sweep_page import sweep_page
from stemvane.io.places import Place
from stemvane.runs.run import Run
from stemvane.runs.sweep_folder import Sweep

if TYPE_CHECKING:
    from stemvane.defects.analysis import DefectAnalysis

__all__ = ["save_figures", "save_structures_figure", "save_sweep_figure", "save_symmetry_figure"]

# without versions and date the same figure has the same bytes; the name says whose it is, so that nothing else is
# ever replaced
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": "stemvane"},
    ".svg": {"Creator": "stemvane", "Date": None},
}
_MARKS = {".png": b"Software\0stemvane", ".svg": b"<dc:title>stemvane</dc:title>"}
_HEAD = 4096


def save_figures(run: Run, folder: str | Path | None = None, dpi: int | None = None) -> list[Path]:
    """Write all figures as PNG and as SVG with its words as text.

    Parameters
    ----------
    run : Run
        Run that is finished or about to be.
    folder : str or Path, optional
        Folder to write to; the run's own ``figures`` where left out. Pictures that stemvane has drawn are replaced,
        others of these names are not.
    dpi : int, optional
        Pixels per inch; as in the run's settings where left out.

    Returns
    -------
    list of Path
        ``figure1`` where the atoms are known, ``figure2`` where an image stands in for them, ``field`` where the scan
        rotation is known, ``grains`` where the content looks the same at several angles, as a crystal in a nearly
        parallel beam does, ``kinds`` where the model has them, ``quantity`` where one is known at some positions,
        ``agreement`` and ``learning_curves``, each ``.png`` and ``.svg``. The same run gives the same bytes.

    Raises
    ------
    RunError
        If a part of the run is missing or damaged, or the folder cannot be written.
    """
    require(run, Run, "save_figures")
    own = folder is None
    folder = run.figures_path if folder is None else Path(folder)
    measurements, embedding, metrics = run.measurements, run.embedding, run.metrics
    first = "figure1" if measurements.atoms is not None else "figure2"
    manifold = Manifold(run.manifold, run.manifold_latents)
    pages: dict[str, Callable[[], Figure]] = {
        first: lambda: overview_page(measurements, embedding, manifold, metrics),
        "field": lambda: field_page(measurements, metrics),
        "agreement": lambda: agreement_page(measurements, embedding, metrics),
        "learning_curves": lambda: history_page(run.history),
    }
    if measurements.is_scan and embedding.symmetry > 1:
        from stemvane.figures.grains_page import grains_page
        from stemvane.segmentation import find_grains

        pages["grains"] = lambda: grains_page(measurements, embedding, find_grains(embedding), manifold)
    if embedding.kind_probability is not None:
        from stemvane.figures.kinds_page import kinds_page

        step = measurements.calibration.scan_step
        pages["kinds"] = lambda: kinds_page(replace(embedding, scan_step=step))
    quantity = run.quantity
    if quantity is not None:
        from stemvane.figures.quantity_panel import quantity_page

        pages["quantity"] = lambda: quantity_page(quantity)
    if "field_x" not in measurements.maps:
        del pages["field"]
    # all places are checked before anything is drawn
    places = {name: _places(folder, name, own=own) for name in pages}
    resolution = dpi or run.config.figures.dpi
    return [
        path
        for name, page in pages.items()
        for path in _save(_mark_failures(page(), run.findings), places[name], resolution)
    ]


def _mark_failures(figure: Figure, findings: Sequence[Finding]) -> Figure:
    """Say below a figure why it is not to be trusted."""
    failures = [finding.message for finding in findings if finding.severity == "failure"]
    if failures:
        words = textwrap.fill(f"Not to be trusted: {'; '.join(failures)}", int(13 * figure.get_figwidth()))
        figure.text(0.01, 0.0, words, ha="left", va="top", fontsize=8, color="#b00020", weight="bold")
    return figure


def _bounds(figure: Figure) -> Bbox:
    """The figure, with room for what is written below it, in inches."""
    width, height = figure.get_size_inches()
    lines = sum(text.get_text().count("\n") + 1 for text in figure.texts if text.get_position()[1] == 0)
    return Bbox.from_extents(0, -0.16 * lines - 0.1 * (lines > 0), width, height)


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
    places = _places(sweep.figures_path if folder is None else Path(folder), "sweep", own=folder is None)
    return _save(sweep_page(sweep), places, dpi)


def save_symmetry_figure(run: Run, analysis: DefectAnalysis, folder: str | Path, dpi: int | None = None) -> list[Path]:
    """Write the figure of a defect analysis as PNG and as SVG with its words as text.

    Parameters
    ----------
    run : Run
        A finished run.
    analysis : DefectAnalysis
        Analysis of its measurements and embedding.
    folder : str or Path
        Folder to write to, that of the analysis.
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
    from stemvane.figures.defects_page import defects_page

    return _save(
        defects_page(run.measurements, run.embedding, analysis),
        _places(Path(folder), "symmetry", own=True),
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
        If the ending is neither ``.png`` nor ``.svg``, or the file cannot be written or is not ours.
    """
    path = Path(path)
    if path.suffix not in _METADATA:
        raise ConfigError(f"{path}: pictures are written as .png or .svg; give a name that ends so")
    place = Place.checked(path, "picture", _is_picture, ConfigError, overwrite=True, is_folder=False)
    _save(structures_page(), {path: place}, dpi)
    return path


def _places(folder: Path, name: str, *, own: bool) -> dict[Path, Place]:
    """Where a figure goes, by the paths as given; in a folder of our own everything of its name is replaced."""
    is_ours: Callable[[Path], bool] = (lambda _: True) if own else _is_picture
    paths = [folder / f"{name}{ending}" for ending in _METADATA]
    return {path: Place.checked(path, "figure", is_ours, RunError, overwrite=True, is_folder=False) for path in paths}


def _is_picture(path: Path) -> bool:
    """Whether a file is a picture that stemvane has drawn."""
    with path.open("rb") as file:
        return path.suffix in _MARKS and _MARKS[path.suffix] in file.read(_HEAD)


def _save(figure: Figure, places: Mapping[Path, Place], dpi: int) -> list[Path]:
    for path, place in places.items():
        try:
            with place.written_whole() as hidden, rc_context(STYLE):
                figure.savefig(hidden, dpi=dpi, metadata=_METADATA[path.suffix], bbox_inches=_bounds(figure))
        except OSError as error:
            reason = error.strerror or error
            raise place.error(f"{path}: figures cannot be written ({reason}); give another folder") from None
    return list(places)
