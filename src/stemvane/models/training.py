"""The only training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stemvane.config import TrainingConfig
from stemvane.errors import ModelError
from stemvane.models.adam import Adam
from stemvane.models.harmonic_network import LossParts

__all__ = [
    "ANNEALED",
    "CONSTANT",
    "EpochReport",
    "Recipe",
    "Trainable",
    "TrainingHistory",
    "check_device",
    "device_named",
    "plan_batches",
    "train",
    "training_positions",
]


class Trainable(Protocol):
    """What the loop asks of a network."""

    noise_variance: Tensor

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained."""

    def train(self, mode: bool = True) -> Any:
        """Go into training, or out of it."""

    def loss(self, x: Tensor, beta: float, generator: torch.Generator | None = None) -> LossParts:
        """Loss of a batch of patterns, one row each."""

    def follow_noise(self, squared_error: Tensor, floor: float) -> None:
        """Let the noise level, where it is learned, follow the misfit of a batch."""


@dataclass(frozen=True)
class Recipe:
    """How steps are taken.

    Attributes
    ----------
    betas : tuple of float
        Decay rates of Adam's running means.
    annealed : bool
        Whether the learning rate rises over the first twentieth of the steps and then falls to 0; constant otherwise.
    largest_gradient : float
        Length to which longer gradients are cut.
    """

    betas: tuple[float, float]
    annealed: bool
    largest_gradient: float


ANNEALED = Recipe(betas=(0.9, 0.99), annealed=True, largest_gradient=100.0)
CONSTANT = Recipe(betas=(0.9, 0.999), annealed=False, largest_gradient=math.inf)


@dataclass(frozen=True)
class EpochReport:
    """Means over one epoch, in nats per pattern."""

    epoch: int
    total: float
    reconstruction: float
    kl_latent: float
    kl_angle: float
    noise_level: float
    learning_rate: float

    def __str__(self) -> str:
        return (
            f"loss {self.total:.2f} = reconstruction {self.reconstruction:.2f} + angle {self.kl_angle:.2f} "
            f"+ latents {self.kl_latent:.2f} nat"
        )


@dataclass
class TrainingHistory:
    """Every epoch's report, how long training took, and what it was worth.

    Attributes
    ----------
    epochs : list of EpochReport
        Means over every epoch.
    seconds : float
        Time of the training steps.
    n_patterns : int
        Number of patterns shown, repeats counted.
    gain : tuple of float or None
        Nats by which a pilot of the training makes a held-out pattern likelier than the closed form does, and their
        standard error; None where this was not compared.
    """

    epochs: list[EpochReport] = field(default_factory=list)
    seconds: float = 0.0
    n_patterns: int = 0
    gain: tuple[float, float] | None = None

    @property
    def columns(self) -> dict[str, NDArray[np.float64]]:
        """One value for each epoch of every part of the reports, as in ``history.csv``."""
        return {
            part.name: np.array([getattr(one, part.name) for one in self.epochs], float) for part in fields(EpochReport)
        }

    @property
    def patterns_per_second(self) -> float | None:
        """Training patterns per second, None where nothing was trained."""
        return self.n_patterns / self.seconds if self.seconds and self.n_patterns else None


def train(
    model: Trainable,
    patterns: Tensor,
    config: TrainingConfig,
    history: TrainingHistory,
    *,
    beta: float,
    batch_size: int,
    learning_rate: float,
    noise_floor: float = 0.0,
    recipe: Recipe = ANNEALED,
    progress: Callable[[EpochReport], None] | None = None,
) -> None:
    """Train a model on patterns that are already on its device.

    Parameters
    ----------
    model : Trainable
        Trained in place.
    patterns : Tensor, shape (n_patterns, n_coordinates)
        Training patterns as the model takes them.
    config : TrainingConfig
        Number of epochs, and random seed.
    history : TrainingHistory
        Epochs are added to those that it has.
    beta : float
        Weight of the Kullback-Leibler divergence of the latents.
    batch_size : int
        Number of patterns per step. Batches are smaller where an epoch would otherwise have fewer than eight, but not
        below 64 patterns for that reason.
    learning_rate : float
        Learning rate of Adam, the largest one where the recipe anneals it.
    noise_floor : float
        Smallest noise level; above it, a learned noise level follows the misfit.
    recipe : Recipe
        How steps are taken.
    progress : callable, optional
        Called after every epoch.
    """
    generator = torch.Generator(device=patterns.device).manual_seed(config.seed)
    n = len(patterns)
    size, n_batches = plan_batches(n, batch_size, config)
    parameters = list(model.parameters())
    optimizer = Adam(parameters, recipe.betas)
    n_steps = max(1, config.n_epochs * n_batches)
    rates = [learning_rate * (_rate(step / n_steps) if recipe.annealed else 1.0) for step in range(n_steps + 1)]
    step = 0
    model.train()
    start, n_before = time.perf_counter(), len(history.epochs)
    for epoch in range(n_before + 1, n_before + config.n_epochs + 1):
        order = torch.randperm(n, generator=generator, device=patterns.device)
        sums = torch.zeros(4, device=patterns.device)
        for batch in range(n_batches):
            parts = model.loss(patterns[order[batch * size : (batch + 1) * size]], beta, generator)
            # without latents there is nothing to train but the noise level, since the template is that of the alignment
            if parts.total.requires_grad:
                optimizer.zero_grad()
                parts.total.backward()
                if math.isfinite(recipe.largest_gradient):
                    torch.nn.utils.clip_grad_norm_(parameters, recipe.largest_gradient)
                optimizer.step(rates[step])
                step += 1
            with torch.no_grad():
                model.follow_noise(parts.squared_error, noise_floor)
                sums += torch.stack([parts.total, parts.reconstruction, parts.kl_latent, parts.kl_angle])
        total, reconstruction, kl_latent, kl_angle = (sums / n_batches).tolist()
        report = EpochReport(
            epoch=epoch,
            total=total,
            reconstruction=reconstruction,
            kl_latent=kl_latent,
            kl_angle=kl_angle,
            noise_level=math.sqrt(model.noise_variance.item()),
            learning_rate=rates[step],
        )
        history.epochs.append(report)
        history.n_patterns += n_batches * size
        if progress is not None:
            progress(report)
    history.seconds += time.perf_counter() - start
    model.train(False)


def plan_batches(n_patterns: int, batch_size: int, config: TrainingConfig) -> tuple[int, int]:
    """Number of patterns per step, and of steps per epoch; parameters as of `train`."""
    size = min(batch_size, n_patterns, max(64, n_patterns // 8))
    # a network of this size has seen enough of a large scan long before it has seen all of it as often
    n_shown = min(n_patterns, round(config.n_shown / max(config.n_epochs, 1)))
    return size, max(1, n_shown // size)


def training_positions(allowed: NDArray[np.bool_], config: TrainingConfig) -> NDArray[np.bool_]:
    """Positions to train on: without the share that is held out, and without what is beyond ``max_patterns``."""
    positions = np.flatnonzero(allowed)
    n_held = round(config.holdout * len(positions))
    # the same for every seed, so that seeds differ in nothing but the random numbers of the network
    chance = np.random.default_rng(0)
    remaining = np.setdiff1d(positions, chance.choice(positions, n_held, replace=False))
    if len(remaining) > config.max_patterns:
        remaining = chance.choice(remaining, config.max_patterns, replace=False)
    used = np.zeros(allowed.shape, bool)
    used.ravel()[remaining] = True
    return used


def _rate(done: float) -> float:
    """Share of the learning rate: a short warm-up, then half a cosine down to nothing."""
    return min(1.0, (done + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def device_named(name: str) -> torch.device:
    """Device of this name, 'auto' being the GPU where there is one; ModelError if it is not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise ModelError(f"device '{name}' is not available; use 'auto' or 'cpu'") from None
    return device


def check_device(name: str) -> str:
    """Name of the device that training on `name` uses, such as ``cuda: NVIDIA H200``; ModelError as `device_named`."""
    device = device_named(name)
    return f"{device}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
