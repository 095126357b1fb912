"""The rotationally invariant autoencoder with a coordinate decoder, as published.

Oxley et al., npj Comput. Mater. 7, 65 (2021), with the network, loss and constants of AtomAI's rVAE of 2020
(Ziatdinov et al.), which decodes every pixel from its rotated coordinates (Bepler et al., NeurIPS 2019).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stemvane.models.harmonic_network import LossParts
from stemvane.models.pixel_network import PixelCode, PixelNetwork, dense, kl_normal

__all__ = ["CoordinateNetwork"]


class CoordinateNetwork(PixelNetwork):
    """Fully connected encoder to angle and latents; decoder from rotated pixel coordinates and latents to a brightness.

    Parameters
    ----------
    n_side : int
        Pixels along a side of the patterns.
    n_latent : int
        Latent variables besides the angle.
    n_hidden : int
        Width of the hidden layers, two in the encoder and two in the decoder.
    angle_prior : float
        Standard deviation of the angle's prior in rad.
    translation : float
        Standard deviation of the prior of a shift of the content, in half widths of the pattern; 0 for no shift.

    Notes
    -----
    As in AtomAI, the noise has variance 1 in units of the normalised intensities, the angle's divergence from its prior
    leaves out its mean, and the output is a softplus.
    """

    has_angle = True

    def __init__(self, n_side: int, n_latent: int, n_hidden: int, angle_prior: float, translation: float = 0.0) -> None:
        super().__init__(n_side, n_latent)
        self.angle_prior, self.translation = angle_prior, translation
        n_codes = 1 + (2 if translation else 0) + n_latent
        self.hidden = dense(n_side**2, n_hidden)
        self.mean = nn.Linear(n_hidden, n_codes)
        self.log_std = nn.Linear(n_hidden, n_codes)
        self.from_coordinates = nn.Linear(2, n_hidden)
        self.from_latents = nn.Linear(n_latent, n_hidden, bias=False) if n_latent else None
        self.decoder = dense(n_hidden, n_hidden)
        self.out = nn.Linear(n_hidden, 1)
        line = torch.linspace(-1, 1, n_side)
        down, right = torch.meshgrid(line, line, indexing="ij")
        self.register_buffer("coordinates", torch.stack([right.flatten(), -down.flatten()], -1), persistent=False)
        # the noise level is 1 and not learned, so none is reported
        self.register_buffer("noise_variance", torch.tensor(math.nan), persistent=False)

    coordinates: Tensor
    noise_variance: Tensor

    def encode(self, x: Tensor) -> PixelCode:
        """Latents, angle and shift of patterns, in the decoder's units."""
        mean, log_std = self._code(x)
        first = mean.shape[1] - self.n_latent
        return PixelCode(mean[:, first:], log_std[:, first:].exp(), mean[:, 0], log_std[:, 0].exp(), self._shift(mean))

    def decode(self, latents: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
        """Patterns of latents, angles and shifts, shape ``(n, n²)``."""
        cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
        right, up = self.coordinates.T
        # the content is looked up where each pixel was before the rotation
        rotated = torch.stack([right * cosine + up * sine, up * cosine - right * sine], -1) + shift[:, None]
        hidden: Tensor = self.from_coordinates(rotated)
        if self.from_latents is not None:
            hidden = hidden + self.from_latents(latents)[:, None]
        return nn.functional.softplus(self.out(self.decoder(hidden.tanh())))[..., 0]

    def loss(self, x: Tensor, beta: float, generator: torch.Generator | None = None) -> LossParts:
        """Loss of a batch of patterns, shape ``(n, n²)``; the mean over the batch."""
        mean, log_std = self._code(x)
        drawn = mean + torch.randn(mean.shape, generator=generator, device=x.device) * log_std.exp()
        decoded = self.decode(drawn[:, mean.shape[1] - self.n_latent :], drawn[:, 0], self._shift(drawn))
        squared = ((decoded - x) ** 2).sum(-1).mean()
        ratio = log_std[:, 0] - math.log(self.angle_prior)
        kl_angle = (0.5 * ((2 * ratio).exp() - 1) - ratio).mean()
        kl_latent = kl_normal(mean[:, 1:], log_std[:, 1:]).mean()
        return LossParts(0.5 * squared + kl_angle + beta * kl_latent, 0.5 * squared, kl_latent, kl_angle, squared)

    def follow_noise(self, squared_error: Tensor, floor: float) -> None:
        """Leave the noise level as it is: the published model does not learn it."""

    def _code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the angle, the shift if the model has one, and the latents."""
        hidden = self.hidden(x)
        return self.mean(hidden), self.log_std(hidden)

    def _shift(self, code: Tensor) -> Tensor:
        return self.translation * code[:, 1:3] if self.translation else code.new_zeros(len(code), 2)
