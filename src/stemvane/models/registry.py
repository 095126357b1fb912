"""Which model the settings name, and which model a file holds."""

from __future__ import annotations

from pathlib import Path

from stemvane.config import Config
from stemvane.data.arguments import require, require_path
from stemvane.models.aligned_pca import AlignedPCA
from stemvane.models.base import PatternModel
from stemvane.models.coordinate_vae import CoordinateVAE
from stemvane.models.kinds_model import KindsModel
from stemvane.models.model_file import read_settings
from stemvane.models.nmf import NMF
from stemvane.models.pca import PCA
from stemvane.models.plain_vae import PlainVAE
from stemvane.models.rotation_vae import RotationVAE

__all__ = ["MODELS", "load_model", "pattern_model"]

MODELS: dict[str, type[PatternModel]] = {
    model.kind: model for model in (RotationVAE, CoordinateVAE, PlainVAE, PCA, NMF, AlignedPCA, KindsModel)
}
"""Class of every model by its name in the settings."""


def pattern_model(config: Config) -> PatternModel:
    """Make the model that the settings name.

    Parameters
    ----------
    config : Config
        Settings of a run; ``model.model`` is the name of the model.

    Returns
    -------
    PatternModel
        Not fitted yet: `RotationVAE` for ``harmonic``, `CoordinateVAE` for ``coordinate``, `PlainVAE` for ``vae``,
        `PCA` for ``pca``, `NMF` for ``nmf``, `AlignedPCA` for ``alignment`` and `KindsModel` for ``kinds``.

    Examples
    --------
    >>> from stemvane import Config, pattern_model
    >>> pattern_model(Config().replace(model={"model": "pca", "n_latent": 3})).n_latent
    3
    """
    require(config, Config, "pattern_model")
    return MODELS[config.model.model].from_settings(config)


def load_model(path: str | Path) -> PatternModel:
    """Read any model from its file.

    Parameters
    ----------
    path : str or Path
        The ``.safetensors`` file; the TOML file beside it says which model it is.

    Returns
    -------
    PatternModel
        The fitted model, of the class that wrote it.

    Raises
    ------
    ModelError
        If a file is missing or damaged.
    DataError
        If `path` is no path.
    ConfigError
        If a setting is unknown.
    """
    path = require_path(path, "load_model", "a model's .safetensors file")
    return MODELS[read_settings(path).model.model].load(path)
