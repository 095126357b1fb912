"""Virtual detectors: weights on the pixels, so that everything measured is linear in the pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemvane.data.representation import Representable, Row, format_shape
from stemvane.errors import CalibrationError, DataError
from stemvane.geometry.polar import PolarGrid

__all__ = ["VirtualDetector"]


@dataclass(frozen=True, eq=False, repr=False)
class VirtualDetector(Representable):
    """One weight per detector pixel; the signal is the weighted sum of a pattern.

    Attributes
    ----------
    name : str
        Name of the map that it gives.
    weights : ndarray of float64, shape (k_y, k_x)
        Weight of each pixel.
    """

    name: str
    weights: NDArray[np.float64]

    def __post_init__(self) -> None:
        if np.ndim(self.weights) != 2 or not np.all(np.isfinite(self.weights)):
            raise DataError(f"virtual detector '{self.name}' needs a finite weight for every pixel, as a 2D array")

    def _summary(self) -> tuple[str, Sequence[Row]]:
        rows = [
            ("detector", f"{format_shape(self.weights.shape)} px"),
            ("weights", f"{self.weights.min():.4g} to {self.weights.max():.4g}"),
            ("sum of weights", f"{self.weights.sum():.4g} px"),
        ]
        return f"VirtualDetector '{self.name}'", rows

    @classmethod
    def total(cls, detector_shape: tuple[int, int]) -> VirtualDetector:
        """All pixels, each with weight 1."""
        return cls("total", np.ones(detector_shape))

    @classmethod
    def moments(
        cls, detector_shape: tuple[int, int], axis: tuple[float, float]
    ) -> tuple[VirtualDetector, VirtualDetector]:
        """First moments about the optical axis, ``(y, x)``, in pixels; divided by the total they are the COM."""
        rows, columns = np.indices(detector_shape, dtype=float)
        return cls("moment_y", rows - axis[0]), cls("moment_x", columns - axis[1])

    @classmethod
    def annulus(
        cls,
        name: str,
        detector_shape: tuple[int, int],
        axis: tuple[float, float],
        inner: float,
        outer: float,
        aspect: float = 1.0,
        ellipse: tuple[float, float] | None = None,
    ) -> VirtualDetector:
        """Pixels between two radii, weighted by the part of their area that lies between them.

        Parameters
        ----------
        name : str
            Name of the map.
        detector_shape : tuple of int
            Detector pixels ``(k_y, k_x)``.
        axis : tuple of float
            Optical axis ``(y, x)`` in pixels.
        inner, outer : float
            Radii in pixel widths.
        aspect : float
            Height of a pixel divided by its width.
        ellipse : tuple of float, optional
            Elliptical distortion to undo, as in `PolarGrid`.

        Returns
        -------
        VirtualDetector

        Raises
        ------
        CalibrationError
            If the radii do not enclose an area.
        """
        if not 0 <= inner < outer:
            raise CalibrationError(f"'{name}' from {inner} to {outer} pixels encloses nothing; give inner < outer")
        covered = _disc(detector_shape, axis, outer, aspect, ellipse)
        if inner > 0:
            covered -= _disc(detector_shape, axis, inner, aspect, ellipse)
        return cls(name, covered)

    @classmethod
    def disc(
        cls,
        name: str,
        detector_shape: tuple[int, int],
        axis: tuple[float, float],
        radius: float,
        aspect: float = 1.0,
        ellipse: tuple[float, float] | None = None,
    ) -> VirtualDetector:
        """Pixels within a radius (pixel widths) of the axis, weighted by the part of their area inside it."""
        return cls.annulus(name, detector_shape, axis, 0.0, radius, aspect, ellipse)

    @classmethod
    def from_mask(cls, name: str, mask: ArrayLike) -> VirtualDetector:
        """Any mask or weight image of shape ``(k_y, k_x)``."""
        return cls(name, np.asarray(mask, dtype=np.float64))


def _disc(
    shape: tuple[int, int],
    axis: tuple[float, float],
    radius: float,
    aspect: float,
    ellipse: tuple[float, float] | None,
) -> NDArray[np.float64]:
    grid = PolarGrid(axis=axis, outer=radius, n_radial=1, n_azimuthal=4, aspect=aspect, ellipse=ellipse)
    weights = grid.weights(shape)
    n_pixels = shape[0] * shape[1]
    covered = np.asarray(np.bincount(weights.pixel, weights.overlap, n_pixels), dtype=np.float64).reshape(shape)
    # pixels wholly inside count alike to the last bit, so that `measure` can sum them as integers
    return np.where(np.abs(covered - 1.0) < 1e-6, 1.0, covered)
