"""Linear models of Cartesian patterns, fitted in one go: principal components and non-negative parts."""

from __future__ import annotations

import time
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

from stemvane.errors import ModelError
from stemvane.models.pixel_network import PixelCode, PixelNetwork
from stemvane.models.training import TrainingHistory

__all__ = ["NonNegativeNetwork", "PrincipalNetwork", "solve_network"]

_N_ROUNDS = 500


class PrincipalNetwork(PixelNetwork):
    """Principal component analysis; latents are the scores of the components that explain most of the variance."""

    def __init__(self, n_side: int, n_latent: int) -> None:
        super().__init__(n_side, n_latent)
        self.register_buffer("mean", torch.zeros(n_side**2))
        self.register_buffer("components", torch.zeros(n_latent, n_side**2))

    mean: Tensor
    components: Tensor

    def solve(self, x: Tensor, seed: int = 0) -> None:
        """Find mean and components of patterns, shape ``(n, n²)``; components point where their scores are skewed to.

        Raises
        ------
        ModelError
            If there are more latents than patterns or pixels.
        """
        _check(self.n_latent, x)
        values = x.numpy().astype(np.float64)
        mean = values.mean(0)
        if self.n_latent:
            residual = values - mean
            vectors = _strongest(residual, self.n_latent)
            sign = np.where(((residual @ vectors) ** 3).sum(0) < 0, -1.0, 1.0)
            self.components.copy_(torch.from_numpy((vectors * sign).T.copy()))
        self.mean.copy_(torch.from_numpy(mean))

    def encode(self, x: Tensor) -> PixelCode:
        """Scores of patterns."""
        return self.code((x - self.mean) @ self.components.T)

    def decode(self, latents: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
        """Patterns of scores, shape ``(n, n²)``; angle and shift are ignored."""
        return self.mean + latents @ self.components


class NonNegativeNetwork(PixelNetwork):
    """Non-negative matrix factorisation; latents are the amounts of the parts, those that vary most first."""

    def __init__(self, n_side: int, n_latent: int) -> None:
        super().__init__(n_side, n_latent)
        self.register_buffer("parts", torch.zeros(n_latent, n_side**2))

    parts: Tensor

    def solve(self, x: Tensor, seed: int = 0) -> None:
        """Find the parts of patterns, shape ``(n, n²)``; negative values count as 0.

        Raises
        ------
        ModelError
            If there is no latent, or there are more latents than patterns or pixels.
        """
        from sklearn.decomposition import NMF
        from sklearn.exceptions import ConvergenceWarning

        if self.n_latent < 1:
            raise ModelError("non-negative factorisation needs a latent; give model.n_latent of 1 or more")
        _check(self.n_latent, x)
        factors = NMF(self.n_latent, init="nndsvda", random_state=seed, max_iter=_N_ROUNDS)
        with warnings.catch_warnings():
            # what further rounds would gain is far below the noise
            warnings.simplefilter("ignore", ConvergenceWarning)
            amounts = factors.fit_transform(np.maximum(x.numpy(), 0))
        varying = amounts.var(0) * (factors.components_**2).sum(1)
        self.parts.copy_(torch.from_numpy(factors.components_[np.argsort(-varying, kind="stable")]))

    def encode(self, x: Tensor) -> PixelCode:
        """Amounts of the parts in patterns."""
        from sklearn.decomposition import non_negative_factorization
        from sklearn.exceptions import ConvergenceWarning

        if not len(x):
            return self.code(x.new_zeros(0, self.n_latent))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            amounts, _, _ = non_negative_factorization(
                np.maximum(x.numpy(), 0),
                H=self.parts.numpy(),
                n_components=self.n_latent,
                init="custom",
                update_H=False,
                max_iter=_N_ROUNDS,
            )
        return self.code(torch.from_numpy(np.asarray(amounts, np.float32)))

    def decode(self, latents: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
        """Patterns of amounts, shape ``(n, n²)``; negative amounts count as 0, angle and shift are ignored."""
        return latents.clamp(min=0) @ self.parts


def solve_network(network: PrincipalNetwork | NonNegativeNetwork, x: Tensor, seed: int) -> TrainingHistory:
    """Solve a linear network for patterns of shape ``(n, n²)``, and say how long it took."""
    began = time.perf_counter()
    network.solve(x, seed)
    return TrainingHistory(seconds=time.perf_counter() - began)


def _strongest(residual: NDArray[np.float64], n_vectors: int) -> NDArray[np.float64]:
    """Directions of length 1 with most variance, the strongest first, shape ``(n², n_vectors)``."""
    few = len(residual) < residual.shape[1]
    products = residual @ residual.T if few else residual.T @ residual
    n = len(products)
    vectors = eigh(products, subset_by_index=(n - n_vectors, n - 1))[1][:, ::-1]
    directions = residual.T @ vectors if few else vectors
    length = np.linalg.norm(directions, axis=0)
    return np.asarray(directions / np.where(length > 0, length, 1.0))


def _check(n_latent: int, x: Tensor) -> None:
    if n_latent > min(x.shape):
        raise ModelError(
            f"{n_latent} latents are more than {x.shape[0]} patterns of {x.shape[1]} pixels can have; "
            "give a smaller model.n_latent"
        )
