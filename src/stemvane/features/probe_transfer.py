"""Transfer from the potential to the features as a probe of known aberrations has it, in all directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.features.scan_frame import ScanFrame, scan_angles

__all__ = ["ProbeTransfer"]

# with 60 Å of defocus, a transfer turns by a third of a radian from one radius to the next, and by less over directions
_N_RADII, _N_DIRECTIONS = 48, 24
# combinations of features that hold less of the transfer are left out
_LEAST_SHARE = 1e-3


@dataclass(frozen=True, eq=False)
class ProbeTransfer:
    """Transfer that depends on the direction of the spatial frequency, too, as with astigmatism.

    What `ScanTransfer` learns of a scan, for all directions alike, is here computed for a probe.

    Attributes
    ----------
    directions : ndarray of complex64, shape (n_directions, n_features)
        Combinations of features that respond to the potential, orthonormal, each of one order.
    orders : ndarray of int, shape (n_directions,)
        Circular order of each combination.
    table : ndarray of complex128, shape (n_directions, n_radii, n_angles)
        Transfer to the combinations in the frame that rotates with the frequency, evenly spaced from 0 to the cutoff
        and around the circle.
    cutoff : float
        Largest spatial frequency in 1/Å.
    share, tilt : ndarray of float, shape (1,)
        As of `ScanTransfer`: all that lies along the transfer is signal, and nothing has tilted it.
    handedness : int
        As of `ScanFrame`.
    """

    directions: NDArray[np.complex64]
    orders: NDArray[np.int64]
    table: NDArray[np.complex128]
    cutoff: float
    share: NDArray[np.float64]
    tilt: NDArray[np.float64]
    handedness: int = 1

    @classmethod
    def of(
        cls,
        response: Callable[[NDArray[np.complex128]], NDArray[np.complex128]],
        orders: NDArray[np.int64],
        cutoff: float,
    ) -> ProbeTransfer:
        """Tabulate a transfer.

        Parameters
        ----------
        response : callable
            Gives the features' answer, shape ``(n_features, n)``, to frequencies ``right + 1j up`` in the scan, 1/Å.
        orders : ndarray of int, shape (n_features,)
            Circular order of each feature.
        cutoff : float
            Largest spatial frequency in 1/Å.

        Returns
        -------
        ProbeTransfer
        """
        radii = cutoff * (np.arange(_N_RADII) + 0.5) / _N_RADII
        angles = 2 * np.pi * np.arange(_N_DIRECTIONS) / _N_DIRECTIONS
        answers = response((radii[:, None] * np.exp(1j * angles)).ravel())
        answers = answers / np.maximum(np.linalg.norm(answers, axis=0), 1e-30)
        directions, of_directions = [], []
        for order in np.unique(orders):
            chosen = np.flatnonzero(orders == order)
            left, sizes, _ = np.linalg.svd(answers[chosen], full_matrices=False)
            for vector in left.T[sizes**2 > _LEAST_SHARE * answers.shape[1]]:
                direction = np.zeros(len(orders), complex)
                direction[chosen] = vector
                directions.append(direction)
                of_directions.append(order)
        found, of_found = np.array(directions), np.array(of_directions)
        table = (found.conj() @ answers).reshape(len(found), _N_RADII, _N_DIRECTIONS)
        table = table * np.exp(1j * of_found[:, None, None] * angles)
        # features are sums of directions, as those of `ScanTransfer`
        return cls(found.astype(np.complex64), of_found, table, cutoff, np.ones(1), np.zeros(1))

    def at(self, by_ring: NDArray[np.float64], frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        """`share` or `tilt` at any spatial frequency, shape as of the frequencies."""
        return np.full(frequency.shape, float(by_ring[0]))

    def responses(self, frame: ScanFrame) -> NDArray[np.complex64]:
        """Response of every combination to the potential, of length 1, shape ``(n_directions, y, x)``."""
        place = np.clip(frame.frequency / self.cutoff * _N_RADII - 0.5, 0, _N_RADII - 1)
        around = scan_angles(frame.shape, frame.step) % (2 * np.pi) / (2 * np.pi) * _N_DIRECTIONS
        low, left = np.minimum(place.astype(int), _N_RADII - 2), around.astype(int)
        up, right = place - low, around - left
        values: NDArray[Any] = np.zeros((len(self.orders), *frame.shape), complex)
        for ring, of_ring in ((low, 1 - up), (low + 1, up)):
            for sector, of_sector in ((left, 1 - right), (left + 1, right)):
                values += self.table[:, ring, sector % _N_DIRECTIONS] * (of_ring * of_sector)
        inside = (frame.frequency <= self.cutoff) & (frame.frequency > 0)
        values *= inside / np.maximum(np.linalg.norm(values, axis=0), 1e-9) * np.conj(frame.phases)
        return values.astype(np.complex64)
