"""Sweep: the only reader and writer of a sweep's table and summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemvane.data.arguments import require_path
from stemvane.data.findings import Finding
from stemvane.data.representation import Representable, Row
from stemvane.errors import RunError
from stemvane.io import atomic
from stemvane.io.places import partial
from stemvane.runs.checksums import is_small, require_checksums

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["NOUNS", "REFERENCES", "Sweep"]

REFERENCES = {"": "measured COM", "_truth": "noiseless COM", "_neighbours": "neighbours' COM"}
"""Suffixes of the columns that hold agreement with a centre of mass, and whose it is."""

NOUNS = {"n_latent": "latent", "n_kinds": "kind"}
"""Settings that a sweep may be over, and what they count."""


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Representable):
    """The folder of trainings with several numbers of latents or kinds and several seeds.

    Attributes
    ----------
    path : Path
        The folder, or where it is being written.
    table : mapping of str to ndarray of float, shape (n_trainings,)
        Columns of ``sweep.csv``, one row for each training; NaN where a quantity is not known.
    summary : mapping
        Content of ``sweep.json``: means and spreads over the seeds, and the recommendation.
    findings : tuple of Finding
        What makes the scan doubtful, the worst first.
    """

    path: Path
    table: Mapping[str, NDArray[np.float64]]
    summary: Mapping[str, Any]
    findings: tuple[Finding, ...] = ()

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> Sweep:
        """Open a finished sweep.

        Parameters
        ----------
        path : str or Path
            The folder.
        verify : bool
            Whether files, but for Zarr stores, are compared with the checksums that were taken when they were written.

        Returns
        -------
        Sweep

        Raises
        ------
        RunError
            If the folder is missing, not a complete sweep, or damaged.
        DataError
            If `path` is no path.
        """
        path = require_path(path, "Sweep.open", "the folder of a sweep").absolute()
        if not path.is_dir():
            unfinished = partial(path).is_dir()
            raise RunError(
                f"{path}: this sweep {'was not finished' if unfinished else 'does not exist'}; start it again"
            )
        manifest = atomic.read_manifest(path)
        if manifest is None or manifest.get("kind") != "sweep" or manifest.get("status") != "complete":
            if manifest is not None and manifest.get("kind") != "sweep" and manifest.get("status") == "complete":
                raise RunError(f"{path}: a run, not a sweep; open it with Run.open")
            raise RunError(f"{path}: not a complete sweep; make one with run_sweep")
        if verify:
            require_checksums(path, is_small)
        findings = tuple(Finding.from_dict(record) for record in manifest.get("verdict", ()))
        try:
            return cls(path, atomic.read_table(path / "sweep.csv"), atomic.read_json(path / "sweep.json"), findings)
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{path}: sweep.csv or sweep.json is damaged ({error}); start the sweep again") from None

    @classmethod
    def write(cls, path: Path, rows: Sequence[Mapping[str, float | None]], summary: Mapping[str, Any]) -> Sweep:
        """Write rows of numbers, all with the same keys, and their summary into a folder."""
        names = list(rows[0])
        columns = {name: np.array([_number(row[name]) for row in rows]) for name in names}
        atomic.write_table(path / "sweep.csv", columns)
        atomic.write_json(path / "sweep.json", atomic.plain(summary))
        return cls(path, columns, summary)

    def _summary(self) -> tuple[str, Sequence[Row]]:
        numbers = np.unique(self.table[self.varied]).astype(int)
        rows = [
            ("folder", str(self.path)),
            ("data", f"{self.summary['data']}, {self.summary['n_patterns']} patterns"),
            ("trainings", f"{len(self.table['seed'])}, with {', '.join(map(str, numbers))} {self.noun}s"),
            ("recommended", f"{self.number} {self.noun}s"),
            ("reason", self.reason),
        ]
        return f"Sweep '{self.path.name}'", rows

    @property
    def varied(self) -> str:
        """Setting that the sweep is over: ``n_latent`` or ``n_kinds``."""
        # sweeps of earlier versions are over latents and do not say so
        return str(self.summary.get("varied", "n_latent"))

    @property
    def noun(self) -> str:
        """What is counted: ``latent`` or ``kind``."""
        return NOUNS[self.varied]

    @property
    def number(self) -> int:
        """Recommended number of latents or kinds."""
        return int(self.summary["recommended"][self.varied])

    @property
    def by_number(self) -> Sequence[Mapping[str, Any]]:
        """Means and spreads over the seeds, for each number."""
        return self.summary[f"by_{self.varied}"]  # type: ignore[no-any-return]

    @property
    def reason(self) -> str:
        """Why it is recommended, in words."""
        return str(self.summary["recommended"]["reason"])

    @property
    def model_path(self) -> Path:
        """``model.safetensors``: the recommended model."""
        return self.path / "model.safetensors"

    @property
    def figures_path(self) -> Path:
        """``figures``: where ``sweep.png`` and ``sweep.svg`` are."""
        return self.path / "figures"

    @property
    def reference(self) -> str:
        """Suffix of the columns with the agreement that tables and figures show; one of `REFERENCES`."""
        return str(self.summary["reference"])

    def plot(self, *, figure: Figure | None = None) -> Figure:
        """Draw evidence, explained variance, correlation and angle error against the number of latents or kinds.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            Empty figure to draw the page into; a new one where left out.

        Returns
        -------
        matplotlib.figure.Figure
            The page.
        """
        from stemvane.figures.canvas import shown_figure
        from stemvane.figures.sweep_page import sweep_page

        return sweep_page(self, figure=shown_figure(figure))

    def over_seeds(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Numbers of latents or kinds, and a column's mean over the seeds for each; NaN where it is not known."""
        numbers = np.unique(self.table[self.varied])
        return numbers, np.array([values[self.table[self.varied] == n].mean() for n in numbers])


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
