"""The only training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stemvane.config import TrainingConfig
from stemvane.errors import ModelError
from stemvane.models.harmonic import HarmonicModel

__all__ = ["EpochReport", "TrainingHistory", "checked_device", "device_named", "train"]


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


@dataclass
class TrainingHistory:
    """Every epoch's report, and how long training took."""

    epochs: list[EpochReport] = field(default_factory=list)
    seconds: float = 0.0
    n_patterns: int = 0

    @property
    def patterns_per_second(self) -> float | None:
        """Training patterns per second, None where nothing was trained."""
        return self.n_patterns / self.seconds if self.seconds and self.n_patterns else None


def train(
    model: HarmonicModel,
    features: Tensor,
    config: TrainingConfig,
    *,
    beta: float,
    noise_floor: float,
    progress: Callable[[EpochReport], None] | None = None,
) -> TrainingHistory:
    """Train a model on features that are already on its device.

    Parameters
    ----------
    model : HarmonicModel
        Trained in place.
    features : Tensor, shape (n_patterns, 2 n_features)
        Training patterns, of rms length 1.
    config : TrainingConfig
        Epochs, batch size, learning rate, seed.
    beta : float
        Weight of the latents' KL divergence.
    noise_floor : float
        Smallest noise level; the noise level follows the misfit above it.
    progress : callable, optional
        Called after every epoch.

    Returns
    -------
    TrainingHistory
    """
    history = TrainingHistory()
    generator = torch.Generator(device=features.device).manual_seed(config.seed)
    n = len(features)
    size = min(config.batch_size, n)
    n_batches = max(1, n // size)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    n_steps = max(1, config.n_epochs * n_batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / n_steps))
    model.train()
    start = time.perf_counter()
    for epoch in range(1, config.n_epochs + 1):
        order = torch.randperm(n, generator=generator, device=features.device)
        sums = torch.zeros(4, device=features.device)
        for batch in range(n_batches):
            parts = model.loss(features[order[batch * size : (batch + 1) * size]], beta, generator)
            # without latents the alignment's template is all there is, and only the noise level is found
            if parts.total.requires_grad:
                optimizer.zero_grad(set_to_none=True)
                parts.total.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                found = (parts.squared_error / model.n_coordinates).clamp(min=noise_floor**2)
                model.noise_variance.lerp_(found, 0.1).clamp_(min=noise_floor**2)
                sums += torch.stack([parts.total, parts.reconstruction, parts.kl_latent, parts.kl_angle])
        total, reconstruction, kl_latent, kl_angle = (sums / n_batches).tolist()
        report = EpochReport(
            epoch=epoch,
            total=total,
            reconstruction=reconstruction,
            kl_latent=kl_latent,
            kl_angle=kl_angle,
            noise_level=math.sqrt(model.noise_variance.item()),
            learning_rate=float(schedule.get_last_lr()[0]),
        )
        history.epochs.append(report)
        history.n_patterns += n_batches * size
        if progress is not None:
            progress(report)
    history.seconds = time.perf_counter() - start
    model.eval()
    return history


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


def checked_device(name: str) -> str:
    """Words for the device that training on `name` uses, such as ``cuda: NVIDIA H200``; ModelError as above."""
    device = device_named(name)
    return f"{device}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
