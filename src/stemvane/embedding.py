"""Embedding: what a model says of every probe position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

__all__ = ["Embedding"]

_MAPS = ("latents", "latent_std", "angle", "angle_std", "angle_posterior", "log_evidence")


@dataclass(frozen=True, eq=False)
class Embedding:
    """Latents and angle of every probe position, with their uncertainties; NaN where a mask left a position out.

    Attributes
    ----------
    latents : ndarray of float, shape (scan_y, scan_x, n_latent)
        Posterior means.
    latent_std : ndarray of float, shape (scan_y, scan_x, n_latent)
        Posterior standard deviations.
    angle : ndarray of float, shape (scan_y, scan_x)
        Most likely rotation in rad, counter-clockwise on the screen, in (-π, π].
    angle_std : ndarray of float, shape (scan_y, scan_x)
        Circular standard deviation of the angle's posterior in rad; infinite where every direction is as likely.
    angle_posterior : ndarray of float, shape (scan_y, scan_x, n_angles)
        Probability of each grid angle ``2 π j / n_angles``; sums to 1.
    log_evidence : ndarray of float, shape (scan_y, scan_x)
        Lower bound of the log likelihood of each pattern in nats.
    """

    latents: NDArray[np.floating[Any]]
    latent_std: NDArray[np.floating[Any]]
    angle: NDArray[np.floating[Any]]
    angle_std: NDArray[np.floating[Any]]
    angle_posterior: NDArray[np.floating[Any]]
    log_evidence: NDArray[np.floating[Any]]

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Numbers of probe positions ``(scan_y, scan_x)``."""
        rows, columns = self.angle.shape
        return rows, columns

    @property
    def n_latent(self) -> int:
        """Number of latent variables besides the angle."""
        return int(self.latents.shape[-1])

    @property
    def n_peaks(self) -> NDArray[np.int64]:
        """Number of peaks of each angle posterior, shape ``(scan_y, scan_x)``.

        Peaks count where they reach half of the highest and twice the uniform probability: a pattern of s-fold
        symmetry has s of them, a pattern without a direction none.
        """
        p = self.angle_posterior
        level = np.maximum(0.5 * p.max(axis=-1, keepdims=True), 2.0 / p.shape[-1])
        peak = (p >= np.roll(p, 1, axis=-1)) & (p > np.roll(p, -1, axis=-1)) & (p >= level)
        return np.asarray(peak.sum(axis=-1), np.int64)

    def write(self, group: zarr.Group) -> None:
        """Write every map as an array of its name into a Zarr group."""
        units = {"angle": "rad", "angle_std": "rad", "log_evidence": "nat"}
        for name in _MAPS:
            array = group.create_array(name, data=np.asarray(getattr(self, name), np.float32), overwrite=True)
            array.attrs["unit"] = units.get(name, "")

    @classmethod
    def read(cls, group: zarr.Group) -> Embedding:
        """Read what `write` wrote."""
        return cls(**{name: np.asarray(group[name][...]) for name in _MAPS})  # type: ignore[index]
