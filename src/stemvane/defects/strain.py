"""What strain makes of the pristine lattice's patterns, which is no defect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.defects.gauss_laguerre import Window
from stemvane.defects.numerics import as_real, without_directions
from stemvane.defects.periodic_fit import PeriodicSeries
from stemvane.defects.surroundings import Surroundings

__all__ = ["Strain", "without_strain"]

_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Strain:
    """How a small displacement and its gradient change the features of the pristine lattice.

    Attributes
    ----------
    series : PeriodicSeries
        Real parts of all features, then imaginary parts, and possibly other channels after them.
    narrowed : PeriodicSeries
        What comes back since atoms keep their size, channels of shape (i, j, part, feature).
    """

    series: PeriodicSeries
    narrowed: PeriodicSeries

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.narrowed.coefficients.shape[1]) // 8

    def changes(self, points: _Floats, centre: _Floats) -> NDArray[np.complex128]:
        """Change of the features per Å of a shift and per unit of a gradient that is none at the centre.

        A displacement ``u_j(r) = s_j + E_ij (r - centre)_i`` of the atoms changes the features by
        ``-u_j ∂_j S + E_ij Σ ρ_i ∂_j K``, S being the lattice's features, K one atom's, ρ the distance from it.

        Parameters
        ----------
        points : ndarray of float, shape (n_points, 2)
            Positions ``(y, x)`` in Å.
        centre : ndarray of float, shape (2,)
            Å.

        Returns
        -------
        ndarray of complex, shape (6, n_points, n_features)
            Changes by shifts down and to the right, then of the gradients ``E_yy, E_yx, E_xy, E_xx``.
        """
        k = self.n_features
        slopes = self.series.slopes(points)[:, :, : 2 * k]
        slopes = slopes[:, :, :k] + 1j * slopes[:, :, k:]
        back = self.narrowed.at(points).reshape(len(points), 4, 2, k)
        offsets = (points - centre).T
        gradients = -(offsets[:, None, :, None] * slopes).reshape(4, len(points), k)
        return np.concatenate([-slopes, gradients + (back[:, :, 0] + 1j * back[:, :, 1]).swapaxes(0, 1)])

    def directions(self, around: Surroundings, window: Window) -> NDArray[np.complex128]:
        """Changes in functions around every site, shape ``(n_sites, 6, n_modes, n_features)``."""
        result = np.zeros((len(around.sites), 6, len(window.modes), self.n_features), np.complex128)
        for i, (site, near) in enumerate(zip(around.sites.positions, around.near(window.reach), strict=True)):
            functions = np.sqrt(around.area) * window.values(around.points[near] - site).conj()
            result[i] = functions @ self.changes(around.points[near], site)
        return result

    def of_sublattices(self, around: Surroundings, window: Window) -> NDArray[np.complex128]:
        """`directions` of each sublattice, at the one of its sites that is nearest to the middle of the scan."""
        sites = around.sites
        away = np.linalg.norm(sites.positions - around.points.mean(axis=0), axis=1)
        middle = [np.argmin(np.where(sites.sublattices == s, away, np.inf)) for s in np.unique(sites.sublattices)]
        return self.directions(around.at(sites.positions[middle]), window)


def without_strain(values: NDArray[np.complex128], directions: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Coefficients less what real multiples of some directions explain.

    Parameters
    ----------
    values : ndarray of complex, shape (n, ..., n_modes, n_features)
        Coefficients around n sites.
    directions : ndarray of complex, shape (n, n_directions, n_modes, n_features)
        Directions of strain at each site.

    Returns
    -------
    ndarray of complex
        Values without strain, of the same shape.
    """
    if not values.size:
        return values
    n, n_directions, *shape = directions.shape
    half = int(np.prod(shape))
    rows, _ = without_directions(
        as_real(values.reshape(n, -1, half)), as_real(directions.reshape(n, n_directions, half))
    )
    return np.asarray((rows[..., :half] + 1j * rows[..., half:]).reshape(values.shape))
