"""Rotation-aware analysis of 4D-STEM diffraction patterns.

An in-plane rotation angle and a few latent variables at every probe position, learned from the patterns alone.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stemvane.agreement import compare
    from stemvane.alignment import align_rotation
    from stemvane.baselines import load_model, pattern_model
    from stemvane.calibration import Calibration
    from stemvane.config import Config
    from stemvane.dataset import Dataset4D
    from stemvane.defect_library import simulate_library
    from stemvane.embedding import Embedding
    from stemvane.errors import StemvaneError
    from stemvane.export import export
    from stemvane.field import (
        FieldMaps,
        ScanRotation,
        field_maps,
        find_rotation,
        integrate,
        projected_field,
        projected_potential,
    )
    from stemvane.figures import save_figures
    from stemvane.measure import measure
    from stemvane.measurements import Measurements
    from stemvane.pipeline import run_pipeline
    from stemvane.pixels import PixelGrid
    from stemvane.polar import PolarGrid
    from stemvane.run import Run
    from stemvane.sources.files import open_dataset, save_dataset
    from stemvane.sources.scenes import build_structure
    from stemvane.sources.simulation import simulate
    from stemvane.sources.structures import graphene
    from stemvane.sources.synthetic import synthetic
    from stemvane.survey import survey
    from stemvane.sweep import run_sweep
    from stemvane.sweep_folder import Sweep
    from stemvane.symmetry import SymmetryAnalysis, analyse_symmetry
    from stemvane.vae import RotationVAE
    from stemvane.virtual_detectors import VirtualDetector

_HOMES = {
    "Calibration": "calibration",
    "Config": "config",
    "Dataset4D": "dataset",
    "Embedding": "embedding",
    "FieldMaps": "field",
    "Measurements": "measurements",
    "PixelGrid": "pixels",
    "PolarGrid": "polar",
    "RotationVAE": "vae",
    "Run": "run",
    "ScanRotation": "field",
    "StemvaneError": "errors",
    "Sweep": "sweep_folder",
    "SymmetryAnalysis": "symmetry",
    "VirtualDetector": "virtual_detectors",
    "align_rotation": "alignment",
    "analyse_symmetry": "symmetry",
    "build_structure": "sources.scenes",
    "compare": "agreement",
    "export": "export",
    "field_maps": "field",
    "find_rotation": "field",
    "graphene": "sources.structures",
    "integrate": "field",
    "load_model": "baselines",
    "measure": "measure",
    "open_dataset": "sources.files",
    "pattern_model": "baselines",
    "projected_field": "field",
    "projected_potential": "field",
    "run_pipeline": "pipeline",
    "run_sweep": "sweep",
    "save_dataset": "sources.files",
    "save_figures": "figures",
    "simulate": "sources.simulation",
    "simulate_library": "defect_library",
    "survey": "survey",
    "synthetic": "sources.synthetic",
}

__version__ = version("stemvane")
__all__ = [
    "Calibration",
    "Config",
    "Dataset4D",
    "Embedding",
    "FieldMaps",
    "Measurements",
    "PixelGrid",
    "PolarGrid",
    "RotationVAE",
    "Run",
    "ScanRotation",
    "StemvaneError",
    "Sweep",
    "SymmetryAnalysis",
    "VirtualDetector",
    "align_rotation",
    "analyse_symmetry",
    "build_structure",
    "compare",
    "export",
    "field_maps",
    "find_rotation",
    "graphene",
    "integrate",
    "load_model",
    "measure",
    "open_dataset",
    "pattern_model",
    "projected_field",
    "projected_potential",
    "run_pipeline",
    "run_sweep",
    "save_dataset",
    "save_figures",
    "simulate",
    "simulate_library",
    "survey",
    "synthetic",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"stemvane.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'stemvane' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


class _Package(ModuleType):
    """Keeps a function in front of the module of its name, which the import system would put over it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
