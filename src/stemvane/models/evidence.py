"""How likely patterns are under a trained model, closer than the encoder's own bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stemvane.models.harmonic_network import HarmonicNetwork
from stemvane.models.threads import map_in_threads

__all__ = ["best_noise_variance", "log_evidence"]

_CHUNK = 512


def log_evidence(
    model: HarmonicNetwork,
    features: Tensor,
    variance: float,
    *,
    n_samples: int = 16,
    refined: bool = True,
    seed: int = 0,
) -> Tensor:
    """Importance-sampled log likelihood of patterns, angle and latents integrated out.

    The latents' posterior is found for this noise level by Gauss–Newton steps and approximated by a Gaussian, from
    which samples are drawn and weighted (Burda, Grosse & Salakhutdinov, ICLR 2016); the angle is summed over its grid
    for each sample. In expectation the result is a lower bound, the closer the more samples.

    Parameters
    ----------
    model : HarmonicNetwork
        The trained network.
    features : Tensor, shape (n_patterns, 2 n_features)
        Features of the patterns, of rms length 1.
    variance : float
        Noise variance of a real coordinate.
    n_samples : int
        Number of samples per pattern.
    refined : bool
        False takes the encoder's posterior as it is, which is faster and looser.
    seed : int
        Random seed of the samples.

    Returns
    -------
    Tensor, shape (n_patterns,)
        Log likelihood of every pattern in nats.
    """

    def of_part(part: tuple[int, Tensor]) -> Tensor:
        number, x = part
        generator = torch.Generator(device=x.device).manual_seed(seed + number)
        with torch.no_grad():
            return _log_evidence(model, x, torch.tensor(variance, device=x.device), n_samples, refined, generator)

    return torch.cat(list(map_in_threads(of_part, enumerate(features.split(_CHUNK)))))


def best_noise_variance(
    model: HarmonicNetwork, features: Tensor, *, n_samples: int = 8, low: float = 1e-3, high: float = 1.0
) -> float:
    """Noise variance that makes patterns likeliest, by golden-section search over noise levels from `low` to `high`.

    At most 128 of the patterns, evenly spread, are looked at: one number does not need more.
    """
    features = features[:: max(1, len(features) // 128)]
    lower, upper = math.log(low), math.log(high)
    ratio = (math.sqrt(5) - 1) / 2

    def value(log_level: float) -> float:
        return float(log_evidence(model, features, math.exp(2 * log_level), n_samples=n_samples).mean())

    a, b = upper - ratio * (upper - lower), lower + ratio * (upper - lower)
    at_a, at_b = value(a), value(b)
    while upper - lower > 0.02:
        if at_a > at_b:
            upper, b, at_b = b, a, at_a
            a = upper - ratio * (upper - lower)
            at_a = value(a)
        else:
            lower, a, at_a = a, b, at_b
            b = lower + ratio * (upper - lower)
            at_b = value(b)
    return math.exp(lower + upper)


def _log_evidence(
    model: HarmonicNetwork, x: Tensor, variance: Tensor, n_samples: int, refined: bool, generator: torch.Generator
) -> Tensor:
    constant = 0.5 * model.n_coordinates * torch.log(2 * math.pi * variance)

    def log_likelihood(latents: Tensor) -> Tensor:
        content = model.decode(latents)
        lengths = (x**2).sum(-1) + (content**2).sum(-1)
        return model.angle_posterior(x, content, variance).log_mean - 0.5 * lengths / variance - constant

    if model.n_latent == 0:
        return log_likelihood(x.new_zeros(len(x), 0))
    if refined:
        mode, precision = _mode(model, x, variance)
    else:
        mode, log_std = model.encode(x)
        precision = torch.diag_embed((-2 * log_std).exp())
    factor = torch.linalg.cholesky(precision)
    # a proposal a little wider than the posterior keeps the weights bounded
    widen = 1.2 if refined else 1.0
    log_weights = []
    for _ in range(n_samples):
        normal = torch.randn(mode.shape, generator=generator, device=x.device)
        offset = torch.linalg.solve_triangular(factor.mT, widen * normal[..., None], upper=True)[..., 0]
        latents = mode + offset
        log_prior = -0.5 * (latents**2).sum(-1)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) - model.n_latent * math.log(widen)
        log_proposal = -0.5 * (normal**2).sum(-1) + log_det
        log_weights.append(log_likelihood(latents) + log_prior - log_proposal)
    return torch.stack(log_weights).logsumexp(0) - math.log(n_samples)


def _mode(model: HarmonicNetwork, x: Tensor, variance: Tensor, n_steps: int = 6) -> tuple[Tensor, Tensor]:
    """Latents of the largest posterior density, and the precision matrix there, both per pattern."""
    latents, _ = model.encode(x)
    identity = torch.eye(model.n_latent, device=x.device)

    def objective(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        content = model.decode(z)
        angle, _ = model.peak(*model.cross(x, content))
        residual = model.rotate(x, -angle) - content
        return residual, content, 0.5 * (residual**2).sum(-1) / variance + 0.5 * (z**2).sum(-1)

    residual, content, value = objective(latents)
    for step in range(n_steps + 1):
        jacobian = model.jacobian(latents)
        # a change of content that a rotation can undo says nothing about the latents
        tangent = torch.nn.functional.normalize(model.derivative(content), dim=-1)
        jacobian = jacobian - tangent[..., None] * (tangent[..., None, :] @ jacobian)
        precision = jacobian.mT @ jacobian / variance + identity
        if step == n_steps:
            break
        slope = (jacobian.mT @ residual[..., None])[..., 0] / variance - latents
        proposed = latents + torch.linalg.solve(precision, slope)
        new_residual, new_content, new_value = objective(proposed)
        better = new_value < value
        latents = torch.where(better[:, None], proposed, latents)
        residual = torch.where(better[:, None], new_residual, residual)
        content = torch.where(better[:, None], new_content, content)
        value = torch.where(better, new_value, value)
    return latents, precision
