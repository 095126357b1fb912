"""Where a scan was sampled, and how fine a detail its probe resolves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.data.scan_geometry import probe_positions

__all__ = ["Sampling"]


@dataclass(frozen=True, eq=False)
class Sampling:
    """Probe positions of a scan.

    Attributes
    ----------
    recorded : ndarray of bool, shape (scan_y, scan_x)
        True where there is a pattern.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    highest : float
        Highest spatial frequency that maps of the scan can hold, 1/Å.
    """

    recorded: NDArray[np.bool_]
    step: tuple[float, float]
    highest: float

    @property
    def shape(self) -> tuple[int, int]:
        """Probe positions ``(y, x)``."""
        return self.recorded.shape[0], self.recorded.shape[1]

    @property
    def area(self) -> float:
        """Å² of the scan for each position."""
        return self.step[0] * self.step[1]

    @property
    def extent(self) -> NDArray[np.float64]:
        """Distance ``(y, x)`` in Å from the first position to the last."""
        return np.asarray((np.array(self.shape) - 1) * self.step)

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """Positions ``(y, x)`` in Å, shape ``(n_points, 2)``."""
        return probe_positions(self.shape, self.step)

    def sigma(self, width: float) -> list[float]:
        """A width in Å as numbers of positions along y and x."""
        return [width / d for d in self.step]

    def as_map(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Values of all positions, shape ``(n_points, ...)``, in the shape of the scan."""
        return rows.reshape(*self.shape, *rows.shape[1:])
