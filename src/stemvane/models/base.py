"""What the pipeline and the benchmarks ask of any model of patterns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.errors import DataError, ModelError
from stemvane.models.training import EpochReport, TrainingHistory

__all__ = ["PatternModel", "checked_latents", "checked_mask", "intensity_factor", "spread"]


class PatternModel(Protocol):
    """A model of the patterns of a scan.

    Attributes
    ----------
    history : TrainingHistory
        Loss parts by epoch, and the time that training took.
    training_mask : ndarray of bool, shape (scan_y, scan_x), or None
        Probe positions that were trained on.
    """

    history: TrainingHistory
    training_mask: NDArray[np.bool_] | None

    @property
    def n_latent(self) -> int:
        """Number of latent variables besides an angle."""

    @property
    def noise_level(self) -> float | None:
        """Noise level that was learned; None in a model that learns none."""

    @property
    def mean_total(self) -> float:
        """Mean total intensity of the training patterns, to which others are scaled."""

    def fit(
        self,
        measurements: Measurements,
        *,
        mask: NDArray[np.bool_] | None = None,
        progress: Callable[[EpochReport], None] | None = None,
    ) -> Self:
        """Learn from the patterns in the mask and return the model."""

    def embed(
        self, measurements: Measurements, *, mask: NDArray[np.bool_] | None = None, rescale: bool = True
    ) -> Embedding:
        """Latents and angle of every probe position; intensities scaled to the training data's unless told not to.

        In a model without an angle the angle is NaN, its deviation infinite and its posterior uniform.
        """

    def decode(self, latents: ArrayLike, angle: ArrayLike = 0.0, *, background: bool = True) -> NDArray[np.float64]:
        """Mean intensity per detector pixel, shape ``(..., k_y, k_x)``; NaN outside of what the model saw."""

    def predict(self, measurements: Measurements, *, mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """The patterns as the model sees them, on ``measurements.pixel_grid``, shape ``(scan_y, scan_x, n, n)``."""

    def misfit(
        self, measurements: Measurements, *, truth: Measurements | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the model leaves of every residual, and the residual itself, squared, shape ``(scan_y, scan_x)``."""

    def evidence(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_] | None = None,
        *,
        noise_level: float | None = None,
        n_samples: int = 16,
    ) -> tuple[NDArray[np.float64], float] | None:
        """Log likelihood of the patterns in the mask in nats, and the noise level used; None where there is none."""

    def save(self, path: str | Path) -> Path:
        """Write the model as safetensors, and its settings beside it as TOML."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""


def checked_mask(mask: NDArray[np.bool_] | None, measurements: Measurements) -> NDArray[np.bool_]:
    """Recorded positions in a mask, all where it is None; DataError if it is not of the scan's shape."""
    if mask is None:
        return measurements.recorded
    if np.shape(mask) != measurements.scan_shape:
        raise DataError(f"the mask has shape {np.shape(mask)}; give one of the scan's, {measurements.scan_shape}")
    return np.asarray(mask, bool) & measurements.recorded


def intensity_factor(mean_total: float, measurements: Measurements, mask: NDArray[np.bool_]) -> float:
    """Factor that brings the patterns in the mask to a mean total; 1 where there are none."""
    total: NDArray[Any] = np.asarray(measurements.maps["total"], dtype=float)[mask]
    return mean_total / float(total.mean()) if len(total) else 1.0


def checked_latents(
    latents: ArrayLike, angle: ArrayLike, n_latent: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[int, ...]]:
    """Latents and angles as rows, and the shape they had; ModelError if the latents are of the wrong number."""
    values = np.asarray(latents, dtype=np.float32)
    if values.ndim == 0 or values.shape[-1] != n_latent:
        raise ModelError(f"latents of shape {values.shape} do not fit a model of {n_latent}; give (..., n_latent)")
    shape = values.shape[:-1]
    angles = np.broadcast_to(np.asarray(angle, dtype=np.float32), shape).ravel().copy()
    return values.reshape(math.prod(shape), n_latent), angles, shape


def spread(blocks: Sequence[Sequence[NDArray[Any]]], allowed: NDArray[np.bool_]) -> list[NDArray[Any]]:
    """Put rows on the positions in a mask, NaN elsewhere.

    Parameters
    ----------
    blocks : sequence of sequence of ndarray
        Each block holds some rows of every column; rows are in the order of the positions.
    allowed : ndarray of bool, shape (scan_y, scan_x)
        Positions that have a row.

    Returns
    -------
    list of ndarray, shape (scan_y, scan_x, ...)
        One for every column.
    """
    full = []
    for parts in zip(*blocks, strict=True):
        rows = np.concatenate(parts)
        full.append(np.full((*allowed.shape, *rows.shape[1:]), np.nan, rows.dtype))
        full[-1][allowed] = rows
    return full
