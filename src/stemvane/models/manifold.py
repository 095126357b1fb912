"""The patterns that a model decodes along its first two latents, and the scan that they are decoded for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemvane.errors import ConfigError
from stemvane.geometry.polar import PolarGrid

if TYPE_CHECKING:
    from stemvane.models.base import PatternModel

__all__ = ["EmbeddedScan", "latent_manifold"]


class EmbeddedScan(NamedTuple):
    """The scan that was embedded last, as far as `PatternModel.plot_manifold` needs it.

    Attributes
    ----------
    latents : ndarray of float, shape (scan_y, scan_x, n_latent)
        Latents of the scan.
    grid : PolarGrid
        Optical axis and aspect of the detector's pixels.
    disc_radius : float or None
        Radius of the bright-field disc in pixel widths.
    unit : str
        Unit of the decoded patterns.
    """

    latents: NDArray[np.floating[Any]]
    grid: PolarGrid
    disc_radius: float | None
    unit: str


def latent_manifold(
    model: PatternModel, latents: NDArray[np.floating[Any]], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Decode patterns at angle 0 over the first two latents' 2nd to 98th percentile, the others at their mean.

    Parameters
    ----------
    model : PatternModel
        Fitted model.
    latents : ndarray of float, shape (..., n_latent)
        Latents of the scan, which say where patterns lie; NaN where a position was left out.
    n : int
        Number of patterns along each latent.

    Returns
    -------
    patterns : ndarray of float, shape (n_rows, n_columns, k_y, k_x)
        Mean intensity per detector pixel; the first latent grows to the right, the second upwards.
    latents : ndarray of float, shape (n_rows, n_columns, n_latent)
        Latents that they are decoded from.

    Raises
    ------
    ConfigError
        If `n` is smaller than 1.
    """
    if n < 1:
        raise ConfigError(f"{n} patterns along each latent cannot be drawn; give n of 1 or more")
    n_latent = model.n_latent
    columns, rows = (n if n_latent > 0 else 1), (n if n_latent > 1 else 1)
    decoded_at = np.zeros((rows, columns, n_latent))
    values = latents.reshape(int(np.prod(latents.shape[:-1])), n_latent)
    values = values[np.isfinite(values).all(axis=1)]
    low, high = np.quantile(values, (0.02, 0.98), axis=0) if n_latent else (None, None)
    if low is not None and high is not None:
        decoded_at[..., 0] = np.linspace(low[0], high[0], columns)[None, :]
        if n_latent > 1:
            decoded_at[..., 1] = np.linspace(high[1], low[1], rows)[:, None]
    return model.decode(decoded_at), decoded_at
