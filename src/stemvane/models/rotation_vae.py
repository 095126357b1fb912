"""The rotation-equivariant variational autoencoder in circular harmonics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemvane.config import AlignConfig, BasisConfig, Config, HarmonicConfig, TrainingConfig
from stemvane.data.measurements import Measurements
from stemvane.models.checks import check_settings, select_section
from stemvane.models.harmonic_model import HarmonicModel
from stemvane.models.harmonic_network import HarmonicNetwork
from stemvane.models.training import EpochReport, TrainingHistory, one_thread, train

__all__ = ["RotationVAE"]


class RotationVAE(HarmonicModel):
    """Rotation-equivariant variational autoencoder of diffraction patterns.

    ``pattern = fixed background + rotate(content(latents), angle) + noise``: the background stays, the content rotates.

    Parameters
    ----------
    n_latent : int, optional
        Number of latent variables besides the angle; takes precedence over the model's settings, whose default is 2.
    basis : BasisConfig, optional
        How polar patterns become features.
    align : AlignConfig, optional
        How the closed-form alignment works.
    model : HarmonicConfig, optional
        Sizes of the network, and how it is trained.
    training : TrainingConfig, optional
        Number of epochs, held-out patterns, seed and device.

    Attributes
    ----------
    settings : Config
        The settings as used.
    history : TrainingHistory
        Parts of the loss by epoch, and the time that training took.
    alignment : Alignment or None
        The closed-form alignment of the training patterns; None before `fit` and in a model that was loaded.
    training_mask : ndarray of bool, shape (scan_y, scan_x), or None
        Probe positions that were trained on; the others inside the mask of `fit` were held out.

    Examples
    --------
    >>> from stemvane import RotationVAE, measure, synthetic
    >>> dataset, truth = synthetic(scan_shape=(12, 12), detector_shape=(32, 32))
    >>> measurements = measure(dataset)
    >>> model = RotationVAE(n_latent=1).fit(measurements)
    >>> model.embed(measurements).angle.shape
    (12, 12)
    """

    kind: ClassVar[str] = "harmonic"

    def __init__(
        self,
        n_latent: int | None = None,
        *,
        basis: BasisConfig | None = None,
        align: AlignConfig | None = None,
        model: HarmonicConfig | None = None,
        training: TrainingConfig | None = None,
    ) -> None:
        settings = check_settings(HarmonicConfig, n_latent, model, basis=basis, align=align, training=training)
        self.model_config = select_section(settings, HarmonicConfig)
        super().__init__(settings, self.model_config)

    @classmethod
    def from_settings(cls, settings: Config) -> Self:
        """Make an unfitted model of the settings of a run."""
        model = select_section(settings, HarmonicConfig)
        return cls(basis=settings.basis, align=settings.align, model=model, training=settings.training)

    def _new_network(self, orders: Tensor) -> HarmonicNetwork:
        model = self.model_config
        return HarmonicNetwork(orders, model.n_latent, model.n_hidden, model.n_angles)

    def _learn(
        self,
        measurements: Measurements,
        used: NDArray[np.bool_],
        allowed: NDArray[np.bool_],
        progress: Callable[[EpochReport], None] | None,
    ) -> None:
        data = self._read(measurements, used, allowed)
        torch.manual_seed(self.training_config.seed)
        self.history = TrainingHistory()
        angle, n_epochs = None, self.training_config.n_epochs
        if self.model_config.start == "random":
            # a third of the epochs finds the angles that the alignment then starts from
            network = self._untrained(data)
            network.start_anywhere()
            self._train(network, data.x, n_epochs // 3, progress)
            angle, n_epochs = network.angles(data.x).double().cpu().numpy(), n_epochs - n_epochs // 3
        network = self._start_aligned(measurements, used, data, angle)
        self._train(network, network.align(data.x), n_epochs, progress)
        self._finish(network, data)

    def _train(
        self,
        network: HarmonicNetwork,
        patterns: Tensor,
        n_epochs: int,
        progress: Callable[[EpochReport], None] | None,
    ) -> None:
        """Train a network whose noise level is the smallest one."""
        model = self.model_config
        with one_thread():
            train(
                network,
                patterns,
                self.training_config.model_copy(update={"n_epochs": n_epochs}),
                self.history,
                beta=model.beta,
                batch_size=model.batch_size,
                learning_rate=model.learning_rate,
                noise_floor=math.sqrt(network.noise_variance.item()),
                progress=progress,
            )
