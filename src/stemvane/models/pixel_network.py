"""The base of the networks of Cartesian patterns."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["PixelCode", "PixelNetwork", "dense", "kl_normal", "wrapped_normal"]

# pixels decoded at a time, which bounds the memory of a decoder that takes each by itself
_CHUNK = 2**18


class PixelCode(NamedTuple):
    """Latents, angle and shift that a network finds for patterns.

    Attributes
    ----------
    latents, latent_std : Tensor, shape (n, n_latent)
        Latents and their standard deviations; these are NaN in a model that has none.
    angle, angle_std : Tensor, shape (n,)
        Angle in rad, counter-clockwise on the screen, and its standard deviation; NaN and infinite in a model without
        an angle.
    shift : Tensor, shape (n, 2)
        Shift of the pattern's content in half widths; 0 in a model without shifts.
    """

    latents: Tensor
    latent_std: Tensor
    angle: Tensor
    angle_std: Tensor
    shift: Tensor


class PixelNetwork(nn.Module):
    """A model of patterns of n x n pixels, given as rows of ``n²`` numbers between 0 and 1.

    Parameters
    ----------
    n_side : int
        Pixels along a side.
    n_latent : int
        Latent variables besides an angle.
    """

    has_angle = False

    def __init__(self, n_side: int, n_latent: int) -> None:
        super().__init__()
        self.n_side, self.n_latent = n_side, n_latent
        self.register_buffer("latent_mean", torch.zeros(n_latent))
        self.register_buffer("latent_scale", torch.ones(n_latent))

    latent_mean: Tensor
    latent_scale: Tensor

    @abstractmethod
    def encode(self, x: Tensor) -> PixelCode:
        """Latents, angle and shift of patterns, in the decoder's units."""

    @abstractmethod
    def decode(self, latents: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
        """Patterns of latents, angles and shifts, shape ``(n, n²)``; a model without angle and shift ignores these."""

    @property
    def device(self) -> torch.device:
        """Where the numbers lie."""
        return self.latent_mean.device

    def code(self, latents: Tensor, latent_std: Tensor | None = None) -> PixelCode:
        """The code of a model without an angle and shifts."""
        n = len(latents)
        return PixelCode(
            latents,
            torch.full_like(latents, math.nan) if latent_std is None else latent_std,
            latents.new_full((n,), math.nan),
            latents.new_full((n,), math.inf),
            latents.new_zeros(n, 2),
        )

    def standardise(self, x: Tensor) -> None:
        """Find units of the latents in which each has mean 0 and variance 1 over these patterns."""
        if not self.n_latent:
            return
        with torch.no_grad():
            latents = torch.cat([self.encode(part).latents for part in self._parts(x)]).double()
            deviation = latents.std(0, correction=0)
            self.latent_mean.copy_(latents.mean(0))
            self.latent_scale.copy_(torch.where(deviation > 0, deviation, 1.0))

    def embed_features(self, x: Tensor) -> PixelCode:
        """Latents, angle and shift of patterns, latents in the units of `standardise`."""
        with torch.no_grad():
            code = self.encode(x)
            return code._replace(
                latents=(code.latents - self.latent_mean) / self.latent_scale,
                latent_std=code.latent_std / self.latent_scale,
            )

    def unstandardise(self, latents: Tensor) -> Tensor:
        """Latents as the decoder takes them, from the units of `standardise`."""
        return latents * self.latent_scale + self.latent_mean

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructed patterns of the same shape."""
        with torch.no_grad():
            parts = []
            for part in self._parts(x):
                code = self.encode(part)
                parts.append(self.decode(code.latents, code.angle, code.shift))
            return torch.cat(parts)

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = x.split(max(1, _CHUNK // self.n_side**2))
        return parts


def dense(n_in: int, n_hidden: int) -> nn.Sequential:
    """Two hidden layers with tanh."""
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.Tanh(), nn.Linear(n_hidden, n_hidden), nn.Tanh())


def kl_normal(mean: Tensor, log_std: Tensor) -> Tensor:
    """Divergence of independent normal distributions from the standard normal, shape ``(n,)``, in nats."""
    return (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(-1)


def wrapped_normal(mean: Tensor, std: Tensor, n_angles: int) -> Tensor:
    """Wrapped normal distribution on the angles ``2 π j / n_angles``, shape ``(n, n_angles)``; rows sum to 1."""
    grid = 2 * math.pi / n_angles * torch.arange(n_angles, device=mean.device)
    distance = torch.remainder(grid - mean[:, None] + math.pi, 2 * math.pi) - math.pi
    # beyond this deviation it cannot be distinguished from a uniform one; four revolutions either way hold all of it
    wide = std.clamp(1e-6, 1.5 * math.pi)
    revolutions = 2 * math.pi * torch.arange(-4, 5, device=mean.device)
    density = -0.5 * ((distance[..., None] + revolutions) / wide[:, None, None]) ** 2
    return density.logsumexp(-1).softmax(-1)
