"""Figures of a finished run; the only importer of matplotlib."""

from stemvane.figures.field_page import vector_field
from stemvane.figures.overview_page import overview
from stemvane.figures.plots import agreement, learning_curves
from stemvane.figures.saving import save_figures, save_structures_figure, save_sweep_figure, save_symmetry_figure
from stemvane.figures.structures_page import structures_page
from stemvane.figures.sweep_page import sweep_page
from stemvane.figures.symmetry_page import symmetry_page

__all__ = [
    "agreement",
    "learning_curves",
    "overview",
    "save_figures",
    "save_structures_figure",
    "save_sweep_figure",
    "save_symmetry_figure",
    "structures_page",
    "sweep_page",
    "symmetry_page",
    "vector_field",
]
