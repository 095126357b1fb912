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
from stemvane.models.evidence import best_noise_variance, log_evidence
from stemvane.models.harmonic_model import HarmonicModel, TrainingFeatures
from stemvane.models.harmonic_network import HarmonicNetwork
from stemvane.models.occupied import OccupiedDirections
from stemvane.models.threads import one_thread
from stemvane.models.training import EpochReport, TrainingHistory, plan_batches, train

__all__ = ["RotationVAE"]

# after so many steps a network has said something of patterns held out, or never will: in 7 scans the gain is clear, or
# is not, as after 600
_PILOT_STEPS = 64
# a training must be so much longer than a pilot to be worth one
_WORTH_A_PILOT = 4
# what a thousand patterns say of two models, the rest of them says, too
_N_COMPARED = 1024
# standard errors: content that is linear gains up to 2.7 of them by chance, one of a potential and its probe 9 to 20
_CLEARLY = 3.0


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
        n_epochs = self.training_config.n_epochs
        # a third of the epochs finds the angles that the alignment then starts from
        n_random = n_epochs // 3 if self.model_config.start == "random" else 0
        n_epochs -= n_random
        held_out = self._compared(used, allowed & ~used, n_epochs)
        data = self._read(measurements, used, allowed, held_out)
        torch.manual_seed(self.training_config.seed)
        self.history = TrainingHistory()
        angle = None
        with one_thread():
            if self.model_config.start == "random":
                network = self._untrained(data)
                network.start_anywhere()
                self._train(network, data.x, n_random, self.history, progress)
                angle = network.angles(data.x).double().cpu().numpy()
            network = self._start_aligned(measurements, used, data, angle)
            self._learn_curves(network, data, n_epochs, progress)
            self._finish(network, data)

    def _n_pilot(self, n_patterns: int) -> int:
        """Epochs of a pilot."""
        n_steps = plan_batches(n_patterns, self.model_config.batch_size, self.training_config)[1]
        return math.ceil(_PILOT_STEPS / n_steps)

    def _compared(self, used: NDArray[np.bool_], others: NDArray[np.bool_], n_epochs: int) -> NDArray[np.bool_] | None:
        """Patterns that a pilot is held against, evenly spread over all that are held out; None where there is none."""
        model, places = self.model_config, np.flatnonzero(others)
        is_worth_it = model.n_latent > 0 and n_epochs >= _WORTH_A_PILOT * self._n_pilot(int(used.sum()))
        if not is_worth_it or len(places) < 2:
            return None
        chosen = np.zeros_like(others)
        chosen.ravel()[places[:: -(-len(places) // _N_COMPARED)]] = True
        return chosen

    def _learn_curves(
        self,
        network: HarmonicNetwork,
        data: TrainingFeatures,
        n_epochs: int,
        progress: Callable[[EpochReport], None] | None,
    ) -> None:
        """Train an aligned network, if a pilot tells more of the patterns held out than the closed form does."""
        occupied = OccupiedDirections.of(network.align(data.x), network.orders, network.noise_variance.item())
        x, held_out = (network.align(part) @ occupied.matrix.T for part in (data.x, data.held_out))
        narrow = occupied.narrow(network)
        if len(held_out):
            variance = best_noise_variance(narrow, held_out)
            closed_form = log_evidence(narrow, held_out, variance, n_samples=8)
            pilot, history = occupied.narrow(network), TrainingHistory()
            self._train(pilot, x, self._n_pilot(len(x)), history, None)
            gain = (log_evidence(pilot, held_out, variance, n_samples=8) - closed_form).double()
            history.gain = float(gain.mean()), float(gain.std()) / math.sqrt(len(gain))
            if history.gain[0] < _CLEARLY * history.gain[1]:
                self.history = history
                if progress is not None:
                    for report in history.epochs:
                        progress(report)
                network.noise_variance.copy_(pilot.noise_variance)
                return
            self.history.gain = history.gain
            self.history.seconds += history.seconds
            self.history.n_patterns += history.n_patterns
        self._train(narrow, x, n_epochs, self.history, progress)
        occupied.take_over(network, narrow)

    def _train(
        self,
        network: HarmonicNetwork,
        patterns: Tensor,
        n_epochs: int,
        history: TrainingHistory,
        progress: Callable[[EpochReport], None] | None,
    ) -> None:
        """Train a network whose noise level is the smallest one."""
        model = self.model_config
        train(
            network,
            patterns,
            self.training_config.model_copy(update={"n_epochs": n_epochs}),
            history,
            beta=model.beta,
            batch_size=model.batch_size,
            learning_rate=model.learning_rate,
            noise_floor=math.sqrt(network.noise_variance.item()),
            progress=progress,
        )
