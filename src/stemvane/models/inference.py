"""What a trained model says of patterns: latents, angles and their uncertainties, and the patterns as it sees them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stemvane.models.evidence import log_evidence
from stemvane.models.harmonic import AnglePosterior, HarmonicModel

__all__ = ["embedded", "reconstructed"]


def embedded(network: HarmonicModel, x: Tensor, noise: Tensor) -> list[Tensor]:
    """Columns of an `Embedding` for features of shape ``(n, 2 n_features)``, in the order of its fields.

    The angle is the likeliest for the latents' posterior means. `noise` of shape ``(n, n_features)`` is the standard
    deviation of the counting noise of a real coordinate. Where it is known, the uncertainties are those that it causes;
    where it is 0, they are those of the model's noise level.
    """
    counted = bool(noise.any())
    with torch.no_grad():
        mean, log_std = network.encode(x)
        content = network.decode(mean)
        variance = _angle_noise(network, content, noise) if counted else network.noise_variance
        spectrum = network.cross(x, content)
        if counted and network.n_latent:
            posterior, on_grid = _without_first(network, x, mean, content, variance, network.peak(*spectrum)[0])
        else:
            posterior = network.angle_posterior(x, content, variance)
            on_grid = (torch.cat(spectrum, -1) @ network.table / variance.reshape(-1, 1)).log_softmax(-1)
        evidence = log_evidence(network, x, network.noise_variance.item(), n_samples=4, refined=False)
        latents, std = network.as_distances(mean, log_std)
    if counted and network.n_latent:
        std = _latent_noise(network, x, noise, posterior.circular_std())
    return [latents, std, posterior.peak, posterior.circular_std(), on_grid.exp(), evidence]


def reconstructed(network: HarmonicModel, x: Tensor) -> Tensor:
    """Features as the model sees them, same shape: decoded from the latents' means, turned by the likeliest angle."""
    with torch.no_grad():
        content = network.decode(network.encode(x)[0])
        angle, _ = network.peak(*network.cross(x, content))
        return network.turn(content, angle)


def _angle_noise(network: HarmonicModel, content: Tensor, noise: Tensor) -> Tensor:
    """Variance, shape ``(n,)``, of noise that is the same in all coordinates and scatters the angle as the true one.

    The peak of the cross-correlation with content c scatters by ``Σ m² |c|² s² / (Σ m² |c|²)²`` for noise of standard
    deviation s in the coordinates of order m.
    """
    real, imag = network.derivative(content).chunk(2, dim=-1)
    strength = real**2 + imag**2
    return ((strength * noise**2).sum(-1) / strength.sum(-1).clamp(min=1e-30)).clamp(min=1e-30)


def _without_first(
    network: HarmonicModel, x: Tensor, mean: Tensor, content: Tensor, variance: Tensor, peak: Tensor
) -> tuple[AnglePosterior, Tensor]:
    """Angle's posterior with the first latent integrated out, about the peak and, as logarithm, on the fixed grid.

    How strong a pattern's content is decides how well its angle is known, and noise makes weak content look stronger.
    The content is linear in the first latent, whose prior is normal, so the integral is in closed form.
    """
    first = network.components[0]
    base = content - torch.outer(mean[:, 0], first)
    # noise may have left nothing to the component
    overlap, strength = base @ first, (first**2).sum().clamp(min=1e-30)
    spectra = network.cross(x, base), network.cross(x, first.expand_as(x))

    def log_posterior(about: Tensor, table: Tensor) -> Tensor:
        phase = about[:, None] * network.multiple
        cosine, sine = phase.cos(), phase.sin()
        along = [
            torch.cat([real * cosine - imag * sine, real * sine + imag * cosine], dim=-1) @ table
            for real, imag in spectra
        ]
        v = variance[:, None]
        spread = 1 / (1 + strength / v)
        middle = spread * (along[1] - overlap[:, None]) / v
        # content of the opposite sign is content turned by 180 degrees, which is counted there
        positive = torch.special.log_ndtr((middle + overlap[:, None] / strength) / spread.sqrt())
        found: Tensor = along[0] / v + 0.5 * middle**2 / spread + positive
        return found

    step = math.pi / network.n_angles / 4
    phase = network.multiple[:, None] * torch.tensor([-step, 0.0, step], device=x.device)
    around = log_posterior(peak, torch.cat([phase.cos(), -phase.sin()]))
    curvature = ((2 * around[:, 1] - around[:, 0] - around[:, 2]) / step**2).clamp(min=0.0)
    centred = log_posterior(peak, network.table)
    posterior = AnglePosterior(peak, centred.softmax(-1), centred.logsumexp(-1), curvature)
    return posterior, log_posterior(torch.zeros_like(peak), network.table).log_softmax(-1)


def _latent_noise(network: HarmonicModel, x: Tensor, noise: Tensor, angle_std: Tensor) -> Tensor:
    """Standard deviation that counting noise gives to the latents' means, as distances.

    Through the pattern itself exactly, since the encoder is linear; through the angle at which it is turned back by
    half of what the latents differ between one standard deviation of the angle, at most that of no knowledge, to either
    side.
    """
    aside = angle_std.clamp(max=math.pi / math.sqrt(3))
    with torch.no_grad():
        straight = network.straightened(x)
        before, behind = (network.encode_straight(network.turn(straight, offset))[0] for offset in (aside, -aside))
        slopes, _ = network.readout()
        variance = ((before - behind) / 2) ** 2 + (noise**2).repeat(1, 2) @ (slopes**2).T
        std: Tensor = variance.sqrt() * network.components.norm(dim=-1)
        return std
