"""Which model the settings name, and what the models are compared with."""

from __future__ import annotations

from pathlib import Path

from stemvane.config import Config
from stemvane.models.aligned_pca import AlignedPCA
from stemvane.models.base import PatternModel
from stemvane.models.model_file import read_settings
from stemvane.models.pixel_models import PixelModel
from stemvane.models.rotation_vae import RotationVAE

__all__ = ["load_model", "pattern_model"]


def pattern_model(config: Config) -> PatternModel:
    """Make the model that the settings name.

    Parameters
    ----------
    config : Config
        ``model.model`` is its name; the sections ``basis``, ``align``, ``model`` and ``training`` are its settings.

    Returns
    -------
    PatternModel
        Not fitted yet: `RotationVAE` for ``harmonic`` and ``coordinate``, otherwise a baseline.

    Examples
    --------
    >>> from stemvane import Config, pattern_model
    >>> pattern_model(Config().updated(model={"model": "pca", "n_latent": 3})).n_latent
    3
    """
    name = config.model.model
    if name in ("harmonic", "coordinate", "alignment"):
        kind = AlignedPCA if name == "alignment" else RotationVAE
        return kind(basis=config.basis, align=config.align, model=config.model, training=config.training)
    return PixelModel(config)


def load_model(path: str | Path) -> PatternModel:
    """Read any model from its file.

    Parameters
    ----------
    path : str or Path
        The ``.safetensors`` file; the TOML file beside it says which model it is.

    Returns
    -------
    PatternModel

    Raises
    ------
    ModelError
        If a file is missing or damaged.
    ConfigError
        If a setting is unknown.
    """
    return type(pattern_model(read_settings(Path(path)))).load(path)
