"""Rotation-aware analysis of 4D-STEM diffraction patterns.

An in-plane rotation angle and a few latent variables at every probe position, learned from the patterns alone.
"""

from importlib.metadata import version

import lazy_loader

# the public names, and the modules that define them, stand in the stub file alone
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = version("stemvane")
