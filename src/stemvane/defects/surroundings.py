"""Probe positions around sites, and what they hold there: sums, and coefficients of functions about each site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stemvane.defects.gauss_laguerre import Window
from stemvane.defects.sites import Sites

__all__ = ["Surroundings"]

_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Probe positions around every site.

    Attributes
    ----------
    sites : Sites
        The sites.
    points : ndarray of float, shape (n_points, 2)
        Probe positions ``(y, x)`` in Å.
    area : float
        Å² of the scan for each position.
    width : float
        Width in Å of the functions that positions are weighted by.
    """

    sites: Sites
    points: NDArray[np.float64]
    area: float
    width: float

    def pool(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum around every site with Gaussian weights whose squares add to 1, shape ``(n_sites, n_channels)``.

        Beyond 3.5 widths the weights are below 0.003.
        """
        result = np.zeros((len(self.sites), values.shape[1]), values.dtype)
        for i, (site, near) in enumerate(zip(self.sites.positions, self.near(3.5 * self.width), strict=True)):
            weight = np.exp(-((self.points[near] - site) ** 2).sum(axis=1) / (2 * self.width**2))
            result[i] = weight @ values[near] / np.linalg.norm(weight)
        return result

    def expand(self, values: NDArray[np.complexfloating[Any, Any]], window: Window) -> NDArray[np.complex128]:
        """Coefficients of a window's functions around every site, shape ``(n_sites, n_modes, n_channels)``.

        White noise of standard deviation 1 has coefficients of standard deviation 1.
        """
        root = np.sqrt(self.area)
        return self._sum_near(
            values.astype(np.complex128, copy=False), window, lambda functions: root * functions.conj()
        )

    def spread(self, values: NDArray[Any], window: Window) -> NDArray[Any]:
        """Variances of the coefficients that `described` gives where values are variances, of the same shape.

        It is linear in the values, which may be what variances are linear in.
        """
        return self._sum_near(values, window, lambda functions: self.area * np.abs(functions) ** 2)

    def _sum_near(
        self, values: NDArray[Any], window: Window, weights: Callable[[NDArray[np.complex128]], NDArray[Any]]
    ) -> NDArray[Any]:
        """Sums around every site, weighted by what a window's functions give: ``(n_sites, n_modes, n_channels)``."""
        result = np.zeros((len(self.sites), len(window.modes), values.shape[1]), values.dtype)
        for i, (site, near) in enumerate(zip(self.sites.positions, self.near(window.reach), strict=True)):
            result[i] = weights(window.values(self.points[near] - site)) @ values[near]
        return result

    def near(self, reach: float) -> list[list[int]]:
        """Probe positions within a distance (Å) of every site."""
        result: list[list[int]] = self._tree.query_ball_point(self.sites.positions, reach).tolist()
        return result

    def at(self, centres: _Floats) -> Surroundings:
        """Return the surroundings of other centres ``(y, x)`` in Å."""
        return replace(self, sites=Sites.at(centres))

    @cached_property
    def _tree(self) -> Any:
        return cKDTree(self.points)
