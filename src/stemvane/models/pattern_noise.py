"""What the errors of a pattern's features make of numbers that are read from it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stemvane.features.feature_noise import FeatureNoise
from stemvane.models.harmonic_network import HarmonicNetwork

__all__ = ["PatternNoise"]


class PatternNoise(NamedTuple):
    """Errors of patterns as networks take them; `FeatureNoise` in units of the patterns' rms length.

    Attributes
    ----------
    factor : Tensor, shape (n_independent, 2 n_features)
    scale : Tensor, shape (n,)
    """

    factor: Tensor
    scale: Tensor

    @classmethod
    def of(cls, noise: FeatureNoise, length: float, device: torch.device) -> PatternNoise:
        """Errors of features over `length`, on a device."""
        return cls(torch.from_numpy(noise.factor / length).to(device), torch.from_numpy(noise.scale).to(device))

    @property
    def is_known(self) -> bool:
        """Whether there are errors at all."""
        return bool(self.factor.any())

    @property
    def variance(self) -> Tensor:
        """Variance of a coordinate of each feature, shape ``(n, n_features)``, whatever its direction."""
        real, imag = (self.factor**2).sum(0).chunk(2)
        return torch.outer(self.scale**2, (real + imag) / 2)

    def of_some(self, part: slice) -> PatternNoise:
        """Errors of some of the patterns."""
        return PatternNoise(self.factor, self.scale[part])

    def along(self, network: HarmonicNetwork, vectors: Tensor, angle: Tensor) -> Tensor:
        """Variance of products of the patterns, rotated back, with vectors.

        Parameters
        ----------
        network : HarmonicNetwork
            Knows the orders of the features.
        vectors : Tensor, shape (2 n_features,) or (n, 2 n_features)
            One for all patterns, or one for each.
        angle : Tensor, shape (n,)
            By which the patterns have been rotated back: errors are those of patterns as recorded.

        Returns
        -------
        Tensor, shape (n,)
        """
        rotated = network.rotate(vectors.expand(len(angle), -1), angle)
        variance: Tensor = ((rotated @ self.factor.T) ** 2).sum(-1) * self.scale**2
        return variance
