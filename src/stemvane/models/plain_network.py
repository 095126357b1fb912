"""The plain variational autoencoder: fully connected, without an angle."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from stemvane.models.harmonic_network import LossParts
from stemvane.models.pixel_network import PixelCode, PixelNetwork, dense, kl_normal

__all__ = ["PlainNetwork"]


class PlainNetwork(PixelNetwork):
    """Fully connected encoder and decoder, with the layers and the loss of AtomAI's VAE.

    Parameters
    ----------
    n_side : int
        Pixels along a side of the patterns.
    n_latent : int
        Latent variables.
    n_hidden : int
        Width of the hidden layers, two in the encoder and two in the decoder.

    Notes
    -----
    The noise has variance 1 in units of the normalised intensities; the output is linear.
    """

    def __init__(self, n_side: int, n_latent: int, n_hidden: int) -> None:
        super().__init__(n_side, n_latent)
        self.hidden = dense(n_side**2, n_hidden)
        with warnings.catch_warnings():
            # a model without latents has layers without weights, of which PyTorch warns
            warnings.filterwarnings("ignore", "Initializing zero-element")
            self.mean = nn.Linear(n_hidden, n_latent)
            self.log_std = nn.Linear(n_hidden, n_latent)
            self.decoder = dense(n_latent, n_hidden)
        self.out = nn.Linear(n_hidden, n_side**2)
        # the noise level is 1 and not learned, so none is reported
        self.register_buffer("noise_variance", torch.tensor(math.nan), persistent=False)

    noise_variance: Tensor

    def encode(self, x: Tensor) -> PixelCode:
        """Latents of patterns, in the decoder's units."""
        hidden = self.hidden(x)
        return self.code(self.mean(hidden), self.log_std(hidden).exp())

    def decode(self, latents: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
        """Patterns of latents, shape ``(n, n²)``; angle and shift are ignored."""
        decoded: Tensor = self.out(self.decoder(latents))
        return decoded

    def loss(self, x: Tensor, beta: float, generator: torch.Generator | None = None) -> LossParts:
        """Loss of a batch of patterns, shape ``(n, n²)``; the mean over the batch."""
        hidden = self.hidden(x)
        mean, log_std = self.mean(hidden), self.log_std(hidden)
        drawn = mean + torch.randn(mean.shape, generator=generator, device=x.device) * log_std.exp()
        squared = ((self.out(self.decoder(drawn)) - x) ** 2).sum(-1).mean()
        kl_latent = kl_normal(mean, log_std).mean()
        return LossParts(
            0.5 * squared + beta * kl_latent, 0.5 * squared, kl_latent, torch.zeros_like(kl_latent), squared
        )

    def follow_noise(self, squared_error: Tensor, floor: float) -> None:
        """Leave the noise level as it is."""
