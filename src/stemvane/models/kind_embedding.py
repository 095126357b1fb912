"""Latents, angle and probabilities of kinds of every pattern, as an embedding holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.models.kind_fit import KindScan
from stemvane.models.kind_mixture import KindMixture, KindPosterior

__all__ = ["embed_kinds"]

Doubles = NDArray[np.float64]


def embed_kinds(
    scan: KindScan, mixture: KindMixture, probability: Doubles, evidence: Doubles, symmetries: Sequence[int]
) -> list[NDArray[Any]]:
    """Describe every pattern by its likeliest kind.

    Parameters
    ----------
    scan : KindScan
        Features of the patterns.
    mixture : KindMixture
        The kinds.
    probability : ndarray of float, shape (n, n_kinds + 1)
        Probability of each kind, and of none.
    evidence : ndarray of float, shape (n,)
        Log likelihood of each pattern.
    symmetries : sequence of int
        Rotational symmetry of each kind.

    Returns
    -------
    list of ndarray
        Latents, their standard deviations, angle, its standard deviation, its posterior, log evidence, probabilities.
    """
    n, n_z = len(scan.features), mixture.n_latent
    latents, latent_std = np.zeros((n, n_z), np.float32), np.zeros((n, n_z), np.float32)
    angle, angle_std = np.zeros(n, np.float32), np.zeros(n, np.float32)
    posterior = np.zeros((n, scan.n_angles), np.float32)
    kinds = probability[:, :-1].argmax(axis=1)
    for block in scan.blocks:
        for kind in range(mixture.n_kinds):
            at = block.start + np.flatnonzero(kinds[block] == kind)
            if not len(at):
                continue
            part = mixture.posterior(kind, scan.features[at], scan.n_angles)
            latents[at] = part.latents
            squares = part.moments[:, np.arange(1, n_z + 1), np.arange(1, n_z + 1)]
            latent_std[at] = np.sqrt(np.maximum(squares - part.latents**2, 0))
            angle[at] = part.angle
            angle_std[at] = _deviation(part, symmetries[kind], scan.n_angles)
            posterior[at] = _on_fixed_grid(part)
    return [latents, latent_std, angle, angle_std, posterior, evidence, probability]


def _deviation(part: KindPosterior, symmetry: int, n_angles: int) -> Doubles:
    """Circular standard deviation modulo the symmetry; that of a normal peak where it is narrower than the grid."""
    grid = 2 * np.pi / n_angles * np.arange(n_angles)
    mean = np.abs(part.posterior @ np.exp(1j * symmetry * grid))
    with np.errstate(divide="ignore"):
        on_grid = np.sqrt(np.maximum(-2 * np.log(np.minimum(mean, 1.0)), 0)) / symmetry
    bend = np.maximum(part.curvature, 1e-12)
    on_grid = np.where(mean < 1e-3, np.inf, on_grid)
    return np.asarray(np.where(np.sqrt(bend) * 2 * np.pi / n_angles > 1, 1 / np.sqrt(bend), on_grid))


def _on_fixed_grid(part: KindPosterior) -> NDArray[np.floating[Any]]:
    """Posterior at the angles 2 π j / n_angles, from that at angles about the peak, between which it is shared out."""
    n_angles = part.posterior.shape[1]
    place = part.angle / (2 * np.pi / n_angles)
    whole = np.floor(place).astype(int)
    share = (place - whole)[:, None]
    index = (np.arange(n_angles) - whole[:, None]) % n_angles
    here = np.take_along_axis(part.posterior, index, axis=1)
    before = np.take_along_axis(part.posterior, (index - 1) % n_angles, axis=1)
    return np.asarray((1 - share) * here + share * before)
