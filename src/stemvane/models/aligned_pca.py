"""Rotational alignment followed by principal components."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stemvane.config import AlignConfig, AlignmentConfig, BasisConfig, Config, TrainingConfig
from stemvane.data.measurements import Measurements
from stemvane.models.checks import check_settings, select_section
from stemvane.models.harmonic_model import HarmonicModel
from stemvane.models.harmonic_network import HarmonicNetwork
from stemvane.models.training import EpochReport, TrainingHistory

__all__ = ["AlignedPCA"]


class AlignedPCA(HarmonicModel):
    """Alignment and principal components of the aligned residuals, in closed form; nothing is trained.

    Its angle is the alignment's, and its latents are the scores of the components.

    Parameters
    ----------
    n_latent : int, optional
        Number of components; takes precedence over the model's settings, whose default is 2.
    basis : BasisConfig, optional
        How polar patterns become features.
    align : AlignConfig, optional
        How the alignment works.
    model : AlignmentConfig, optional
        Grid of the angle's posterior, and smallest noise level.
    training : TrainingConfig, optional
        Held-out patterns and device.

    Attributes
    ----------
    settings : Config
        The settings as used.
    history : TrainingHistory
        Without epochs, since nothing is trained step by step; its time is that of the alignment.
    alignment : Alignment or None
        The closed-form alignment of the training patterns; None before `fit` and in a model that was loaded.
    training_mask : ndarray of bool, shape (scan_y, scan_x), or None
        Probe positions that were aligned; the others inside the mask of `fit` were held out.

    Examples
    --------
    >>> from stemvane import AlignedPCA, measure, synthetic
    >>> dataset, truth = synthetic(scan_shape=(12, 12), detector_shape=(32, 32))
    >>> measurements = measure(dataset)
    >>> AlignedPCA(n_latent=1).fit(measurements).embed(measurements).n_latent
    1
    """

    kind: ClassVar[str] = "alignment"

    def __init__(
        self,
        n_latent: int | None = None,
        *,
        basis: BasisConfig | None = None,
        align: AlignConfig | None = None,
        model: AlignmentConfig | None = None,
        training: TrainingConfig | None = None,
    ) -> None:
        settings = check_settings(AlignmentConfig, n_latent, model, basis=basis, align=align, training=training)
        self.model_config = select_section(settings, AlignmentConfig)
        super().__init__(settings, self.model_config)

    @classmethod
    def from_settings(cls, settings: Config) -> Self:
        """Make an unfitted model of the settings of a run."""
        model = select_section(settings, AlignmentConfig)
        return cls(basis=settings.basis, align=settings.align, model=model, training=settings.training)

    def _new_network(self, orders: Tensor) -> HarmonicNetwork:
        return HarmonicNetwork(orders, self.n_latent, 0, self.model_config.n_angles)

    def _learn(
        self,
        measurements: Measurements,
        used: NDArray[np.bool_],
        allowed: NDArray[np.bool_],
        progress: Callable[[EpochReport], None] | None,
    ) -> None:
        data, began = self._read(measurements, used, allowed), time.perf_counter()
        network = self._start_aligned(measurements, used, data)
        self._finish(network, data)
        self.history = TrainingHistory(seconds=time.perf_counter() - began)
