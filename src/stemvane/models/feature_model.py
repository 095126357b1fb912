"""What models of polar patterns have in common: features, and patterns drawn from these."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stemvane.config import Config
from stemvane.data.measurements import Measurements
from stemvane.features.harmonics import HarmonicBasis
from stemvane.models.base import PatternModel
from stemvane.models.checks import intensity_factor
from stemvane.models.feature_fit import FeatureFit
from stemvane.models.pixel_model import require_grid

__all__ = ["FeatureModel"]


class FeatureModel(PatternModel):
    """A model of patterns in circular harmonics."""

    def __init__(self, settings: Config) -> None:
        super().__init__(settings)
        self.basis_config = settings.basis

    @property
    def basis(self) -> HarmonicBasis:
        """Background and features; ModelError before `fit`."""
        return self._need().basis

    @property
    def has_oriented_background(self) -> bool:
        """Whether what the model takes to be the same in all patterns has an orientation beyond the direct beam."""
        return bool(self._need().basis.background[1:, -1].any())

    @property
    def mean_total(self) -> float:
        """Mean total intensity of the training patterns, to which others are scaled; ModelError before `fit`."""
        return self._need().basis.mean_total

    def reconstruct_features(
        self, measurements: Measurements, mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.complex64]:
        """Reproduce the features of every pattern from its own latents and angle.

        Parameters
        ----------
        measurements : Measurements
            A scan with polar patterns.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to reconstruct.

        Returns
        -------
        ndarray of complex64, shape (n_patterns, n_features)
            Features of the patterns in the mask, in the order of the scan.

        Raises
        ------
        ModelError
            Before `fit`, or if the patterns are of another size.
        DataError
            If these are no measurements, or the mask does not fit the scan.
        """
        return np.concatenate(list(self._reproduce(measurements, self._allowed(measurements, mask))))

    def _uses_neighbours(self, measurements: Measurements) -> bool:
        return self._need().reader.uses_neighbours(measurements)

    def _reconstruct(
        self, measurements: Measurements, allowed: NDArray[np.bool_]
    ) -> Sequence[Sequence[NDArray[np.float32]]]:
        fitted = self._need()
        draw = fitted.pixel_painter(measurements.grid, require_grid(measurements))
        factor = intensity_factor(fitted.basis.mean_total, measurements, allowed)
        return [[np.asarray(draw(part) / factor, np.float32)] for part in self._reproduce(measurements, allowed)]

    def _squares(
        self, measurements: Measurements, reference: Measurements, allowed: NDArray[np.bool_]
    ) -> Sequence[Sequence[NDArray[np.float64]]]:
        fitted = self._need()
        # compared with patterns as recorded: filtered over the scan they would be closer to the model
        reproduced = np.concatenate(list(self._reproduce(measurements, allowed)))
        squares, n_done = [], 0
        for features in fitted.basis.feature_blocks(reference, allowed):
            difference = features - reproduced[n_done : n_done + len(features)]
            squares.append([fitted.squared_length(part / np.float32(fitted.length)) for part in (difference, features)])
            n_done += len(features)
        return squares

    @abstractmethod
    def _need(self) -> FeatureFit:
        """What was fitted; ModelError before `fit`."""

    @abstractmethod
    def _reproduce(self, measurements: Measurements, mask: NDArray[np.bool_]) -> Iterator[NDArray[np.complex64]]:
        """Reconstructed features of the patterns in the mask, some at a time."""
