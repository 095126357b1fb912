"""A basis fitted to a scan, with all that drawing patterns of features needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemvane.features.feature_reader import FeatureReader
from stemvane.features.harmonics import HarmonicBasis
from stemvane.geometry.pixels import PixelGrid
from stemvane.geometry.polar import PolarGrid

__all__ = ["FeatureFit"]

_ARRAYS = ("orders", "scale", "analysis", "synthesis", "background", "counting")
_COMPLEX = ("analysis", "synthesis", "background")
_NUMBERS = ("n_azimuthal", "noise", "discarded", "mean_total", "own_noise")


@dataclass(frozen=True, eq=False)
class FeatureFit:
    """How features are read from patterns, and drawn as patterns.

    Attributes
    ----------
    reader : FeatureReader
        Reader of features from measurements.
    length : float
        Root mean square length of the training patterns' features, by which they are divided.
    grid : PolarGrid
        Grid of the polar samples on the detector.
    detector_shape : tuple of int
        Detector pixels ``(k_y, k_x)``.
    pixels : ndarray of float, shape (n, n), or None
        Background of Cartesian patterns: their mean over the training patterns, where these had any.
    """

    reader: FeatureReader
    length: float
    grid: PolarGrid
    detector_shape: tuple[int, int]
    pixels: NDArray[np.float64] | None

    @property
    def basis(self) -> HarmonicBasis:
        """Background and features."""
        return self.reader.basis

    def drawn(self, features: NDArray[np.complex64], *, background: bool = True) -> NDArray[np.float64]:
        """Features as patterns on the detector's pixels, shape ``(n, k_y, k_x)``."""
        polar = self.basis.polar(features, background=background)
        return self.grid.to_cartesian(polar, self.detector_shape)

    def squared_length(self, features: NDArray[np.complex64]) -> NDArray[np.float64]:
        """Squared length of features over `length`, in units of the pixels' counting noise, shape ``(n,)``."""
        return np.asarray(np.sum(np.abs(features / (self.basis.scale / self.length)) ** 2, axis=1))

    def pixel_painter(
        self, polar_grid: PolarGrid, pixel_grid: PixelGrid
    ) -> Callable[[NDArray[np.complex64]], NDArray[np.float64]]:
        """Function from features to patterns with background on a grid of pixels, shape ``(n, n_side, n_side)``."""
        n, basis = pixel_grid.n, self.basis
        matrix = pixel_grid.from_polar(polar_grid)
        if self.pixels is not None and self.pixels.shape == (n, n):
            still = self.pixels.ravel()
        else:
            still = matrix @ basis.polar(np.zeros((1, basis.n_features), np.complex64)).ravel()

        def paint(features: NDArray[np.complex64]) -> NDArray[np.float64]:
            residual = basis.polar(features, background=False)
            rows = residual.reshape(len(residual), matrix.shape[1])
            return np.asarray(((matrix @ rows.T).T + still).reshape(len(rows), n, n))

        return paint

    def reading_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain numbers from which `restore_reading` makes the arguments of this class again."""
        tensors = {}
        for name in _ARRAYS:
            tensor = torch.from_numpy(np.ascontiguousarray(getattr(self.basis, name)))
            tensors[f"basis.{name}"] = torch.view_as_real(tensor) if name in _COMPLEX else tensor
        if self.pixels is not None:
            tensors["pixels"] = torch.from_numpy(self.pixels)
        numbers = {
            "length": self.length,
            "detector_shape": list(self.detector_shape),
            "is_noisy": self.reader.is_noisy,
            "neighbours": self.reader.neighbours,
            "basis": {name: getattr(self.basis, name) for name in _NUMBERS},
            "grid": self.grid.to_dict(),
        }
        return tensors, numbers

    @staticmethod
    def restore_reading(numbers: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
        """Arguments of this class from what `reading_state` returned."""
        arrays: dict[str, Any] = {
            name: (
                torch.view_as_complex(tensors[f"basis.{name}"]) if name in _COMPLEX else tensors[f"basis.{name}"]
            ).numpy()
            for name in _ARRAYS
        }
        of_basis: dict[str, Any] = {name: numbers["basis"][name] for name in _NUMBERS if name in numbers["basis"]}
        # models of earlier versions have the noise of their features instead
        is_noisy = numbers.get("is_noisy", "noise" in tensors and bool(tensors["noise"].any()))
        neighbours = numbers.get("neighbours", "filter" in numbers)
        rows, columns = numbers["detector_shape"]
        return {
            "reader": FeatureReader(HarmonicBasis(**arrays, **of_basis), bool(is_noisy), bool(neighbours)),
            "length": float(numbers["length"]),
            "grid": PolarGrid.from_dict(numbers["grid"]),
            "detector_shape": (rows, columns),
            "pixels": tensors["pixels"].numpy() if "pixels" in tensors else None,
        }
