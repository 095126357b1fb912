"""Rotational alignment followed by principal components."""

from __future__ import annotations

from typing import ClassVar

from stemvane.config import AlignConfig, BasisConfig, ModelConfig, TrainingConfig
from stemvane.models.rotation_vae import RotationVAE

__all__ = ["AlignedPCA"]


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
