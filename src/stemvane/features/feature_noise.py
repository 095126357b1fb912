"""Errors of the features of patterns, which go together where neighbouring patterns have been used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FeatureNoise"]


@dataclass(frozen=True, eq=False)
class FeatureNoise:
    """Errors of the features of some patterns.

    The error of pattern i is ``scale[i] * e @ factor`` with independent numbers e of variance 1.

    Attributes
    ----------
    factor : ndarray of float32, shape (n_independent, 2 n_features)
        Of the real parts of all features, then of the imaginary parts.
    scale : ndarray of float32, shape (n_patterns,)
    """

    factor: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def independent(cls, std: NDArray[np.floating], n_patterns: int) -> FeatureNoise:
        """Errors that do not go together, of standard deviation `std` in both coordinates of every feature."""
        return cls(np.diag(np.tile(std, 2)).astype(np.float32), np.ones(n_patterns, np.float32))

    @classmethod
    def along(
        cls,
        directions: Sequence[NDArray[np.complexfloating]],
        covariances: Sequence[NDArray[np.floating]],
        beside: NDArray[np.floating],
        scale: NDArray[np.floating],
    ) -> FeatureNoise:
        """Errors along directions of the features, as a scan filter leaves them.

        Parameters
        ----------
        directions : sequence of ndarray of complex, shape (n_directions, n_features)
            Of every part of a scan.
        covariances : sequence of ndarray of float, shape (2 n_directions, 2 n_directions)
            Of the real parts along them and then of the imaginary parts. The result has their mean.
        beside : ndarray of float, shape (n_features,)
            Standard deviation of an error of every feature that is added to these.
        scale : ndarray of float, shape (n_patterns,)
            Factor on the standard deviation at every pattern.

        Returns
        -------
        FeatureNoise
        """
        factors = [np.diag(np.tile(beside, 2))]
        for of_part, covariance in zip(directions, covariances, strict=True):
            values, vectors = np.linalg.eigh(covariance)
            both = np.block([[of_part.real, of_part.imag], [-of_part.imag, of_part.real]])
            factors.append(np.sqrt(np.maximum(values, 0) / len(directions))[:, None] * (vectors.T @ both))
        return cls(np.concatenate(factors).astype(np.float32), np.asarray(scale, np.float32))

    @classmethod
    def joined(cls, parts: Sequence[FeatureNoise]) -> FeatureNoise:
        """Errors of the patterns of all parts, one after the other, with the mean of the parts' covariances."""
        if all(part.factor is parts[0].factor for part in parts):
            return cls(parts[0].factor, np.concatenate([part.scale for part in parts]))
        factors = [part.factor / np.float32(np.sqrt(len(parts))) for part in parts]
        return cls(np.concatenate(factors), np.concatenate([part.scale for part in parts]))

    @property
    def is_known(self) -> bool:
        """Whether there are errors at all."""
        return bool(self.factor.any())

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of a coordinate of each feature, over all patterns and directions; ``(n_features,)``."""
        n_features = self.factor.shape[1] // 2
        squares = (self.factor.astype(np.float64) ** 2).sum(axis=0)
        mean = float((self.scale.astype(np.float64) ** 2).mean()) if len(self.scale) else 1.0
        return np.asarray(np.sqrt((squares[:n_features] + squares[n_features:]) / 2 * mean))

    def of(self, chosen: NDArray[np.bool_] | slice) -> FeatureNoise:
        """Errors of some of the patterns."""
        return FeatureNoise(self.factor, self.scale[chosen])
