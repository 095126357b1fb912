"""What a trained model says of patterns: latents, angles and their uncertainties, and the patterns as it sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from stemvane.models.evidence import log_evidence
from stemvane.models.harmonic import HarmonicModel

__all__ = ["embedded", "reconstructed"]


def embedded(network: HarmonicModel, x: Tensor) -> list[Tensor]:
    """Columns of an `Embedding` for features of shape ``(n, 2 n_features)``, in the order of its fields.

    Angle and posterior are those for the latents' posterior means.
    """
    with torch.no_grad():
        mean, log_std = network.encode(x)
        content = network.decode(mean)
        posterior = network.angle_posterior(x, content, network.noise_variance)
        real, imag = network.cross(x, content)
        on_grid = (torch.cat([real, imag], -1) @ network.table / network.noise_variance).softmax(-1)
        evidence = log_evidence(network, x, network.noise_variance.item(), n_samples=4, refined=False)
        mean, std = network.standardised(mean, log_std)
        return [mean, std, posterior.peak, posterior.circular_std(), on_grid, evidence]


def reconstructed(network: HarmonicModel, x: Tensor) -> Tensor:
    """Features as the model sees them, same shape: decoded from the latents' means, turned by the likeliest angle."""
    with torch.no_grad():
        content = network.decode(network.encode(x)[0])
        angle, _ = network.peak(*network.cross(x, content))
        return network.turn(content, angle)
