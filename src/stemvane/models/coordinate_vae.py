"""The rotationally invariant variational autoencoder with a coordinate decoder, as published."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stemvane.config import Config, CoordinateConfig, TrainingConfig
from stemvane.models.checks import check_settings, select_section
from stemvane.models.coordinate_network import CoordinateNetwork
from stemvane.models.pixel_model import PixelFit, PixelModel
from stemvane.models.training import EpochReport, device_named

__all__ = ["CoordinateVAE"]


class CoordinateVAE(PixelModel[CoordinateNetwork]):
    """Rotationally invariant variational autoencoder with a coordinate decoder, as published.

    It learns from Cartesian patterns (``measure.n_pixels``), and decodes every pixel from its rotated coordinates
    (Oxley et al., npj Comput. Mater. 7, 65, 2021).

    Parameters
    ----------
    n_latent : int, optional
        Number of latent variables besides the angle; takes precedence over the model's settings, whose default is 2.
    model : CoordinateConfig, optional
        Sizes of the network and priors, and how it is trained.
    training : TrainingConfig, optional
        Number of epochs, held-out patterns, seed and device.

    Attributes
    ----------
    settings : Config
        The settings as used.
    history : TrainingHistory
        Parts of the loss by epoch, and the time that training took.
    training_mask : ndarray of bool, shape (scan_y, scan_x), or None
        Probe positions that were trained on; the others inside the mask of `fit` were held out.

    Examples
    --------
    >>> from stemvane import CoordinateVAE, measure, synthetic
    >>> from stemvane.config import MeasureConfig, TrainingConfig
    >>> dataset, truth = synthetic(scan_shape=(12, 12), detector_shape=(32, 32))
    >>> measurements = measure(dataset, config=MeasureConfig(n_pixels=16))
    >>> model = CoordinateVAE(n_latent=1, training=TrainingConfig(n_epochs=2)).fit(measurements)
    >>> model.reconstruct(measurements).shape
    (12, 12, 16, 16)
    """

    kind: ClassVar[str] = "coordinate"

    def __init__(
        self,
        n_latent: int | None = None,
        *,
        model: CoordinateConfig | None = None,
        training: TrainingConfig | None = None,
    ) -> None:
        settings = check_settings(CoordinateConfig, n_latent, model, training=training)
        super().__init__(settings)
        self.model_config = select_section(settings, CoordinateConfig)
        self.n_angles = self.model_config.n_angles

    @classmethod
    def from_settings(cls, settings: Config) -> Self:
        """Make an unfitted model of the settings of a run."""
        return cls(model=select_section(settings, CoordinateConfig), training=settings.training)

    def _new_network(self, n_side: int) -> CoordinateNetwork:
        model = self.model_config
        return CoordinateNetwork(n_side, model.n_latent, model.n_hidden, model.angle_prior, model.translation)

    def _solve(
        self,
        fitted: PixelFit[CoordinateNetwork],
        patterns: NDArray[np.float32],
        progress: Callable[[EpochReport], None] | None,
    ) -> Tensor:
        fitted.network.to(device_named(self.training_config.device))
        x = fitted.normalise(patterns)
        self._train(fitted.network, x, self.model_config, progress)
        return x
