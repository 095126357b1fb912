"""The direction of the deflection at every position, and how well it is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements

__all__ = ["add_deflection_angle", "deflection_angle", "direction_std"]


def deflection_angle(measurements: Measurements) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction of the centre of mass, filtered over the scan where the maps of `add_filtered_com` are there.

    Parameters
    ----------
    measurements : Measurements
        The measured scan.

    Returns
    -------
    angle : ndarray of float, shape (scan_y, scan_x)
        Direction of the deflection in rad, counter-clockwise on the screen, 0 to the right; NaN without a pattern.
    std : ndarray of float, shape (scan_y, scan_x)
        Circular standard deviation of its error in rad; of a COM as measured that of the counts, 0 without noise.
    """
    deflection, filtered = measurements.deflection, measurements.filtered_deflection
    std: NDArray[np.floating[Any]] = np.full(measurements.scan_shape, measurements.com_noise())
    if filtered is not None:
        deflection, std = filtered, measurements.maps["com_filtered_std"]
    angle = np.arctan2(-deflection[..., 0], deflection[..., 1])
    return np.asarray(angle, np.float64), direction_std(np.linalg.norm(deflection, axis=-1), std)


def add_deflection_angle(embedding: Embedding, measurements: Measurements) -> Embedding:
    """Add the direction of the deflection to an embedding of the same scan, NaN where the mask left a position out."""
    left_out = np.isnan(embedding.angle_std)
    angle, std = (np.where(left_out, np.nan, part) for part in deflection_angle(measurements))
    return replace(embedding, deflection_angle=angle, deflection_angle_std=std)


def direction_std(length: NDArray[np.floating[Any]], std: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Circular standard deviation of the direction of a vector whose coordinates have normal errors.

    From the mean resultant of a projected normal distribution (Kendall, J. R. Stat. Soc. B 36, 365, 1974).

    Parameters
    ----------
    length, std : ndarray of float, same shape
        Length of the vector, and standard deviation of the error of either coordinate.

    Returns
    -------
    ndarray of float
        In rad; infinite for a vector of length 0, NaN where either is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(std > 0, length / std, np.where(np.isnan(std) | np.isnan(length), np.nan, np.inf))
        half = np.asarray(ratio**2 / 4, np.float64)
        resultant = np.sqrt(np.pi / 8) * ratio * (special.ive(0, half) + special.ive(1, half))
        wide = np.sqrt(-2 * np.log(np.clip(resultant, 0, 1)))
        # where the vector is long the resultant is 1 to rounding
        return np.where(ratio > 30, 1 / ratio, wide)
