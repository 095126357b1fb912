"""The potential behind the features of a scan, from all of its positions at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from stemvane.features.parallel import count_workers, for_each
from stemvane.features.probe_transfer import ProbeTransfer
from stemvane.features.scan_frame import ScanFrame, mirror, scan_part, torus_spectrum
from stemvane.features.scan_transfer import ScanTransfer
from stemvane.features.shrinkage import estimate_power, ring_numbers

__all__ = ["PotentialSolution", "ScanProblem", "conjugate_gradients", "error_map", "symmetric", "torus_shape"]

# content of positions further apart than this is not compared
_FARTHEST = 96
# 64 x 64 positions need 20 to 30 rounds; beyond them the estimate changes by less than 1 % of its error
_MOST_ROUNDS = 30
_TOLERANCE = 3e-3
# a peak of a crystal falls between bins: spread over them, |COM| is found with 0.6 to 0.8 of the error
_SPREAD = 0.5
# shares of a response within the scan for which the error is worked out
_INFORMATION = np.array([1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1])

Features = NDArray[np.complex64]
Floats = NDArray[np.floating[Any]]


class PotentialSolution(NamedTuple):
    """Potential of a scan.

    Attributes
    ----------
    spectrum : ndarray of complex64, shape of the torus
        Discrete Fourier transform of the estimate.
    power : ndarray of float32, shape of the torus
        Power of the potential at every spatial frequency, in units in which the noise of a position is 1.
    """

    spectrum: NDArray[np.complex64]
    power: NDArray[np.float32]


class ScanProblem:
    """Least squares for the potential of a scan whose transfer is known.

    Edges and gaps are left out exactly: the potential lives on a torus that is larger than the scan by the largest
    distance compared, and is held against the recorded positions alone.

    Parameters
    ----------
    transfer : ScanTransfer or ProbeTransfer
        What the features have in common.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    y : ndarray of complex64, shape (n_directions, scan_y, scan_x)
        Features along the transfer's directions, with noise of variance 1 in every real coordinate.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        True where there is a pattern.
    """

    def __init__(
        self,
        transfer: ScanTransfer | ProbeTransfer,
        step: tuple[float, float],
        y: Features,
        recorded: NDArray[np.bool_],
    ) -> None:
        self.transfer, self.step, self.y, self.recorded = transfer, step, y, recorded
        shape = torus_shape((recorded.shape[0], recorded.shape[1]))
        self.frame = ScanFrame(transfer.orders, shape, step, transfer.handedness)
        self.responses = transfer.responses(self.frame)
        self.known = recorded.sum() / self.frame.frequency.size
        self._present = recorded.astype(np.float32)
        self._conjugates = self.responses.conj()
        self._data = self._project(y)

    def solve(self) -> PotentialSolution:
        """Find potential and power; a first solution makes the power clearer than the data are by themselves."""
        frame, recorded = self.frame, self.recorded
        width = 1 / max(n * d for n, d in zip(recorded.shape, self.step, strict=True))
        rings = ring_numbers(frame.frequency, width, self.transfer.cutoff)
        share = self.transfer.at(self.transfer.share, frame.frequency)
        blurred = _lag_spectrum(self.on_scan(self._data), recorded, frame.shape)
        power = share * symmetric(estimate_power(blurred, rings, 1, 1))
        gain = np.maximum(self.known * power / (1 + self.known * power), 1e-3)
        squares = np.abs(self._solve(power)) ** 2 / rings.size / gain**2
        sharp = symmetric(estimate_power(squares, rings, 1 / self.known, 1))
        power = share * ndimage.gaussian_filter(sharp, _SPREAD, mode="wrap") * (rings >= 0)
        return PotentialSolution(self._solve(power), power.astype(np.float32))

    def on_scan(self, spectrum: NDArray[np.complex64]) -> Floats:
        """Real field of a spectrum at the positions of the scan."""
        return np.asarray(self._inverse(spectrum).real)

    def expected(self, spectrum: NDArray[np.complex64]) -> Features:
        """Features along the directions that a potential of this spectrum gives."""
        return self._inverse(self.responses * spectrum)

    @property
    def explained(self) -> float:
        """Power of the patterns along the responses, by which transfers can be compared."""
        return float((np.abs(self._data) ** 2).sum())

    def refit(self, transfer: ScanTransfer, solution: PotentialSolution) -> ScanTransfer:
        """Transfer that makes all features likeliest, edges left out exactly, given what is known of the potential.

        A window over the scan, which the transfer was first found with, turns phases within a crystal's peaks. This is
        one step of expectation maximisation (Dempster, Laird & Rubin, J. R. Stat. Soc. B 39, 1, 1977): least squares
        for the transfer at every ring, with the potential's estimate and the error of it. What the transfer was before
        counts as much as the noise of it allows.

        Parameters
        ----------
        transfer : ScanTransfer
            That of this problem.
        solution : PotentialSolution
            Of this problem.

        Returns
        -------
        ScanTransfer
        """
        frame = self.frame
        hats = transfer.hats(frame.frequency)
        uncertain = solution.power / (1 + self.known * solution.power)
        flat = hats.reshape(len(hats), -1)
        spread = (flat * uncertain.ravel()) @ flat.T / flat.shape[1] * self.recorded.sum()
        prior = np.diag(1 / np.maximum(transfer.variance, 1e-9))
        before = transfer.complex_vectors
        after = np.empty_like(before)

        def fit(order: int) -> None:
            chosen = np.flatnonzero(transfer.orders == order)
            turned = np.conj(frame.phases[chosen[0]]) * solution.spectrum
            fields = self._inverse(hats * turned)[:, self.recorded]
            normal = fields.conj() @ fields.T + spread + prior
            right = fields.conj() @ self.y[chosen][:, self.recorded].T + prior @ before[:, chosen]
            after[:, chosen] = np.linalg.solve(normal, right)

        for_each(fit, np.unique(transfer.orders).tolist())
        return transfer.with_vectors(after)

    def error_levels(self, solution: PotentialSolution, squares: Floats) -> NDArray[np.float32]:
        """Variance of what a response makes of the potential's error, at every position.

        Parameters
        ----------
        solution : PotentialSolution
            Of this problem.
        squares : ndarray of float, shape of the torus
            Squared length of the response at every spatial frequency.

        Returns
        -------
        ndarray of float32, shape (scan_y, scan_x)
            Larger towards an edge, where a position is seen by fewer patterns.
        """
        kernels = fft.ifft2(self.responses * (solution.power > 0), axes=(1, 2), workers=count_workers())
        energy = (np.abs(kernels) ** 2).sum(axis=0)
        return error_map(
            energy, self.recorded, lambda known: float((squares * solution.power / (1 + known * solution.power)).mean())
        )

    def error_covariance(self, solution: PotentialSolution) -> NDArray[np.float64]:
        """Covariance of the features' errors far from all edges.

        Returns
        -------
        ndarray of float, shape (2 n_directions, 2 n_directions)
            Of the real parts along all directions, then of the imaginary parts.
        """
        flat = self.responses.reshape(len(self.responses), -1)
        opposite = mirror(self.responses).reshape(flat.shape)
        error = (solution.power / (1 + solution.power)).ravel() / flat.shape[1]
        same, conjugate = (flat * error) @ flat.conj().T, (flat * error) @ opposite.T
        covariance = np.block(
            [
                [(same + conjugate).real, (conjugate - same).imag],
                [(same + conjugate).imag, (same - conjugate).real],
            ]
        )
        return np.asarray(covariance / 2 + self.astray(solution) * np.eye(2 * len(flat)))

    def astray(self, solution: PotentialSolution) -> float:
        """Variance that noise in the transfer gives to every real coordinate."""
        tilt = self.transfer.at(self.transfer.tilt, self.frame.frequency)
        return float((tilt * solution.power).mean()) / self.frame.n_channels

    def gradient(
        self, solution: PotentialSolution, combination: NDArray[np.complexfloating[Any, Any]]
    ) -> tuple[Features, NDArray[np.float32]]:
        """A combination of directions that is the potential's gradient, blurred by the probe.

        Such a response has one direction to the spatial frequency, along it where the detector is not rotated against
        the scan. The part across that was found is taken as far as it is more than the noise in the transfer (James &
        Stein, Proc. 4th Berkeley Symp. 1, 361, 1961).

        Parameters
        ----------
        solution : PotentialSolution
            Of this problem.
        combination : ndarray of complex, shape (n_directions,)
            Of order 1, such as the COM.

        Returns
        -------
        values : ndarray of complex64, shape (scan_y, scan_x)
        variance : ndarray of float32, shape (scan_y, scan_x)
            Of a real coordinate's error.
        """
        frame, power = self.frame, solution.power
        of_first = np.flatnonzero(frame.orders == 1)
        if not len(of_first):
            nothing = np.zeros(self.recorded.shape, np.float32)
            return nothing.astype(np.complex64), nothing
        phase = frame.phases[of_first[0]]
        response = np.tensordot(combination, self.responses, axes=1) * phase
        axis = np.exp(0.5j * np.angle((response**2 * power).sum()))
        response = response * np.conj(axis)
        astray = float(np.vdot(combination, combination).real) * self.astray(solution)
        across = float((response.imag**2 * power).mean())
        response.imag *= max(0.0, 1 - astray / max(across, 1e-30))
        response = response * axis * np.conj(phase)
        variance = self.error_levels(solution, np.abs(response) ** 2) / 2 + astray
        return self._inverse((response * solution.spectrum).astype(np.complex64)), variance.astype(np.float32)

    def _inverse(self, spectrum: NDArray[np.complexfloating[Any, Any]]) -> Features:
        return scan_part(spectrum, self.recorded.shape)

    def _project(self, y: Features) -> NDArray[np.complex64]:
        """Adjoint of `expected` over the recorded positions, for a potential that is real."""
        return self._sum_along(lambda direction: y[direction])

    def _sum_along(self, of_direction: Callable[[int], Features]) -> NDArray[np.complex64]:
        """Potential of a real field that all directions together ask for; they are worked on side by side."""
        parts = np.empty_like(self.responses)

        def work(direction: int) -> None:
            spectrum = torus_spectrum(of_direction(direction) * self._present, self.frame.shape)
            np.multiply(self._conjugates[direction], spectrum, out=parts[direction])

        for_each(work, range(len(parts)))
        along = parts.sum(axis=0)
        return np.asarray((along + np.conj(mirror(along))) / 2)

    def _normal(self, spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """What is recorded of a potential, as the data would tell it."""
        return self._sum_along(lambda direction: self._inverse(self.responses[direction] * spectrum))

    def _solve(self, power: Floats) -> NDArray[np.complex64]:
        """Spectrum of least mean square error for a potential of the given power."""
        root = np.sqrt(power).astype(np.float32)
        return root * conjugate_gradients(lambda u: u + root * self._normal(root * u), root * self._data)


def error_map(energy: Floats, recorded: NDArray[np.bool_], error: Callable[[float], float]) -> NDArray[np.float32]:
    """Variance of an estimate at every position, larger towards edges, where a position is seen by fewer patterns.

    Parameters
    ----------
    energy : ndarray of float, shape of the torus
        Squared length of what a position shows at others, by their distance.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        True where there is a pattern.
    error : callable
        Variance where this share of the energy lies within the scan.

    Returns
    -------
    ndarray of float32, shape (scan_y, scan_x)
    """
    inside = np.zeros(energy.shape)
    rows, columns = recorded.shape
    inside[:rows, :columns] = recorded
    information = fft.ifft2(fft.fft2(inside) * np.conj(fft.fft2(energy))).real / max(energy.sum(), 1e-30)
    within = np.clip(information[:rows, :columns], _INFORMATION[-1], 1)
    levels = [error(known) for known in _INFORMATION]
    return np.asarray(np.interp(within, _INFORMATION[::-1], levels[::-1]), np.float32)


def conjugate_gradients(
    apply: Callable[[NDArray[np.complex64]], NDArray[np.complex64]], right: NDArray[np.complex64]
) -> NDArray[np.complex64]:
    """Solve a system that is symmetric for the real part of the scalar product (Hestenes & Stiefel, 1952)."""
    solution = np.zeros_like(right)
    residual, direction = right.copy(), right.copy()
    size = first = float(np.vdot(residual, residual).real)
    for _ in range(_MOST_ROUNDS):
        if size <= _TOLERANCE**2 * first:
            break
        applied = apply(direction)
        length = np.float32(size / float(np.vdot(direction, applied).real))
        solution += length * direction
        residual -= length * applied
        before, size = size, float(np.vdot(residual, residual).real)
        direction = residual + np.float32(size / before) * direction
    return solution


def symmetric(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a spatial frequency and its opposite, which are one for a real field."""
    return np.asarray((power + mirror(power)) / 2)


def torus_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Size of the torus on which a scan of this shape is compared with itself up to the largest distance."""
    rows, columns = (fft.next_fast_len(n + min(n, _FARTHEST)) for n in shape)
    return rows, columns


def _lag_spectrum(values: Floats, recorded: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Power spectrum from the unbiased autocovariance, which gaps and edges do not bend."""
    present = recorded.astype(float)
    counts = np.maximum(np.rint(fft.ifft2(np.abs(fft.fft2(present, shape)) ** 2).real), 1)
    centred = (values - values[recorded].mean()) * present
    covariance = fft.ifft2(np.abs(fft.fft2(centred, shape)) ** 2).real / counts
    lags = [
        np.clip(1 - np.minimum(np.arange(n), n - np.arange(n)) / min(size, _FARTHEST), 0, None)
        for n, size in zip(shape, recorded.shape, strict=True)
    ]
    return np.asarray(fft.fft2(covariance * np.outer(*lags)).real)
