"""Where a sample departs from its own pristine pattern."""

from stemvane.symmetry.analysis import Defects, SymmetryAnalysis, analyse_symmetry

__all__ = ["Defects", "SymmetryAnalysis", "analyse_symmetry"]
