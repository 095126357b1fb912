"""TypicalPattern: what a scan's patterns have in common, at any place of the beam between pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["TypicalPattern"]


@dataclass(frozen=True, eq=False)
class TypicalPattern:
    """Mean of some patterns with the beam where it is at the scan's centre, as an image and, finer, along the radius.

    The edge of the disc is sharper than a pixel: where it lies between pixels changes how it looks. The profile along
    the radius, from pixels of many patterns whose beam lies at different places, is finer than a pixel, and tells how
    it looks with the beam anywhere.

    Attributes
    ----------
    image : ndarray of float, shape (k_y, k_x)
        Mean pattern; bad pixels filled.
    centre : tuple of float
        Axis ``(y, x)`` that the profile is about, in pixels.
    profile : ndarray of float, shape (n,)
        Intensity of a pixel by its distance from the centre, in steps of `step`; empty where it is unknown.
    step : float
        Step of the profile in pixel widths.
    aspect : float
        Height of a pixel divided by its width.
    """

    image: NDArray[np.floating[Any]]
    centre: tuple[float, float] = (0.0, 0.0)
    profile: NDArray[np.floating[Any]] = field(default_factory=lambda: np.empty(0))
    step: float = 0.1
    aspect: float = 1.0

    def radial(self, move: tuple[float, float]) -> NDArray[np.float64]:
        """Return the part that depends on the radius alone, shape ``(k_y, k_x)``, with the beam moved, px (y, x)."""
        rows, columns = np.indices(self.image.shape, dtype=float)
        return self._radial_at(rows, columns, move)

    def at(self, points: NDArray[Any], move: NDArray[Any] | tuple[float, float]) -> NDArray[np.float64]:
        """Return the intensity at pixels.

        Parameters
        ----------
        points : ndarray, shape (..., 2)
            Pixels ``(y, x)``.
        move : pair of float
            How far the beam lies from where it is at the scan's centre, ``(y, x)`` in pixels.

        Returns
        -------
        ndarray of float64, shape (...)
        """
        rows, columns = np.moveaxis(np.asarray(points, float), -1, 0)
        places = [rows - move[0], columns - move[1]]
        smooth = ndimage.map_coordinates(self._rest, places, order=1, mode="nearest")
        return np.asarray(smooth + self._radial_at(rows, columns, move))

    @cached_property
    def _rest(self) -> NDArray[np.float64]:
        """What does not depend on the radius alone; asked for once for every place of the beam in a scan."""
        return self.image - self.radial((0.0, 0.0))

    def _radial_at(self, rows: Any, columns: Any, move: Any) -> NDArray[np.float64]:
        if not len(self.profile):
            return np.zeros(np.shape(rows))
        y, x = rows - self.centre[0] - move[0], columns - self.centre[1] - move[1]
        radii = (np.arange(len(self.profile)) + 0.5) * self.step
        return np.asarray(np.interp(np.hypot(y * self.aspect, x), radii, self.profile))
