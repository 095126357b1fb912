"""Figures of a finished run; the only importer of matplotlib."""

from stemvane.figures.field_page import vector_field
from stemvane.figures.overview_page import overview
from stemvane.figures.plots import agreement, learning_curves
from stemvane.figures.saving import save_figures, save_sweep_figure
from stemvane.figures.structures_page import save_structures_figure, structures_page
from stemvane.figures.sweep_page import sweep_page

__all__ = [
    "agreement",
    "learning_curves",
    "overview",
    "save_figures",
    "save_structures_figure",
    "save_sweep_figure",
    "structures_page",
    "sweep_page",
    "vector_field",
]
