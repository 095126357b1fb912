"""Principal component analysis of Cartesian patterns."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stemvane.config import Config, PCAConfig, TrainingConfig
from stemvane.models.checks import check_settings, select_section
from stemvane.models.linear_networks import PrincipalNetwork, solve_network
from stemvane.models.pixel_model import PixelFit, PixelModel
from stemvane.models.training import EpochReport

__all__ = ["PCA"]


class PCA(PixelModel[PrincipalNetwork]):
    """Principal component analysis of Cartesian patterns (``measure.n_pixels``).

    Latents are the scores of the components that explain most of the variance; a component points to where its scores
    are skewed.

    Parameters
    ----------
    n_latent : int, optional
        Number of components; takes precedence over the model's settings, whose default is 2.
    model : PCAConfig, optional
        Settings of the model.
    training : TrainingConfig, optional
        Held-out patterns and seed.

    Attributes
    ----------
    settings : Config
        The settings as used.
    history : TrainingHistory
        Without epochs, since nothing is trained step by step; its time is that of the fit.
    training_mask : ndarray of bool, shape (scan_y, scan_x), or None
        Probe positions that were fitted; the others inside the mask of `fit` were held out.

    Examples
    --------
    >>> from stemvane import PCA, measure, synthetic
    >>> from stemvane.config import MeasureConfig
    >>> dataset, truth = synthetic(scan_shape=(12, 12), detector_shape=(32, 32))
    >>> measurements = measure(dataset, config=MeasureConfig(n_pixels=16))
    >>> PCA(n_latent=3).fit(measurements).embed(measurements).n_latent
    3
    """

    kind: ClassVar[str] = "pca"

    def __init__(
        self,
        n_latent: int | None = None,
        *,
        model: PCAConfig | None = None,
        training: TrainingConfig | None = None,
    ) -> None:
        super().__init__(check_settings(PCAConfig, n_latent, model, training=training))

    @classmethod
    def from_settings(cls, settings: Config) -> Self:
        """Make an unfitted model of the settings of a run."""
        return cls(model=select_section(settings, PCAConfig), training=settings.training)

    def _new_network(self, n_side: int) -> PrincipalNetwork:
        return PrincipalNetwork(n_side, self.n_latent)

    def _solve(
        self,
        fitted: PixelFit[PrincipalNetwork],
        patterns: NDArray[np.float32],
        progress: Callable[[EpochReport], None] | None,
    ) -> Tensor:
        x = fitted.normalise(patterns)
        self.history = solve_network(fitted.network, x, self.training_config.seed)
        return x
