"""Which model the settings name, and what the models are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from stemvane.config import AlignConfig, BasisConfig, Config, ModelConfig, TrainingConfig
from stemvane.model_file import read_settings
from stemvane.pattern_models import PatternModel
from stemvane.pixel_model import PixelModel
from stemvane.vae import RotationVAE

__all__ = ["AlignedPCA", "load_model", "pattern_model"]


class AlignedPCA(RotationVAE):
    """Alignment and principal components of the turned residuals, in closed form; nothing is trained.

    Its angle is the alignment's; its latents are the scores of the components.
    Parameters as of `RotationVAE`; ``training.n_epochs`` counts as 0 and ``model.start`` as ``alignment``.
    """

    _kinds: ClassVar[tuple[str, ...]] = ("alignment",)

    def __init__(
        self,
        n_latent: int | None = None,
        *,
        basis: BasisConfig | None = None,
        align: AlignConfig | None = None,
        model: ModelConfig | str | None = None,
        training: TrainingConfig | None = None,
    ) -> None:
        super().__init__(n_latent, basis=basis, align=align, model=model, training=training)
        self.settings = self.settings.updated(training={"n_epochs": 0}, model={"start": "alignment"})
        self.model_config, self.training_config = self.settings.model, self.settings.training


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
