"""Inference with a trained network: latents, angles and their uncertainties, and reconstructed features."""

from __future__ import annotations

import torch
from torch import Tensor

from stemvane.models.content_noise import AngleNoise
from stemvane.models.evidence import log_evidence
from stemvane.models.harmonic_network import HarmonicNetwork
from stemvane.models.pattern_noise import PatternNoise
from stemvane.models.uncertainty import noisy_angle, noisy_latents, template_noise

__all__ = ["embed_features", "reconstruct_mean"]


def embed_features(
    network: HarmonicNetwork, x: Tensor, noise: PatternNoise, angle_noise: AngleNoise | None = None
) -> list[Tensor]:
    """Columns of an `Embedding` for features of shape ``(n, 2 n_features)``, in the order of its fields.

    The angle is the likeliest for the latents' posterior means. Where the noise is known, the uncertainties are those
    that it causes; where it is 0, they are those of the model's noise level. With `angle_noise` the whole pattern
    rotates, and its angle is read from the orders of the template's symmetry: a mistilt changes the others.
    """
    counted = noise.is_known
    with torch.no_grad():
        template_angle = network.angles(x)
        aligned = network.rotate(x, -template_angle)
        mean, log_std = network.encode_aligned(aligned)
        content = network.decode(mean)
        latents, std = network.as_distances(mean, log_std)
        if counted and network.n_latent:
            std = noisy_latents(network, x, template_angle, aligned, mean, noise)
        if counted and network.n_latent and angle_noise is None:
            posterior, on_grid = noisy_angle(network, x, template_angle, aligned, mean, content, noise)
        else:
            variance = network.noise_variance
            if counted and angle_noise is not None:
                content = content * (network.orders % network.symmetry == 0).repeat(2)
                variance = angle_noise.variance(network, aligned, content, noise, template_angle)
            elif counted:
                variance = template_noise(network, noise, template_angle)
            posterior = network.angle_posterior(x, content, variance)
            spectrum = torch.cat(network.cross(x, content), -1)
            on_grid = (spectrum @ network.table / variance.reshape(-1, 1)).softmax(-1)
        evidence = log_evidence(network, x, network.noise_variance.item(), n_samples=4, refined=False)
    on_grid = posterior.on_fixed_angles(on_grid)
    return [latents, std, posterior.peak, posterior.circular_std(network.symmetry), on_grid, evidence]


def reconstruct_mean(network: HarmonicNetwork, x: Tensor) -> Tensor:
    """Reconstructed features of the same shape: decoded from the mean latents, and rotated by the likeliest angle."""
    with torch.no_grad():
        content = network.decode(network.encode(x)[0])
        angle, _ = network.peak(*network.cross(x, content))
        return network.rotate(content, angle)
