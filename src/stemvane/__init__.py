"""Rotation-aware analysis of 4D-STEM diffraction patterns.

An in-plane rotation angle and a few latent variables at every probe position, learned from the patterns alone.
"""

import warnings
from importlib.metadata import version

import lazy_loader

# the public names, and the modules that define them, stand in the stub file alone
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# names of the last release, which work for one more
_RENAMED = {"analyse_symmetry": "find_defects", "SymmetryAnalysis": "DefectAnalysis"}

__version__ = version("stemvane")


def __getattr__(name: str) -> object:
    if name in _RENAMED:
        message = f"{name} is called {_RENAMED[name]} now; the old name will be removed in the next release"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    return _load(name)
