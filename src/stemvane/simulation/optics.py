"""The probe and the detector of a simulation: waves in the aperture, intensities on square pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from stemvane.config import SimulationConfig
from stemvane.data.calibration import wavelength

__all__ = ["Optics", "add_intensities", "poisson_counts"]

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Waves = NDArray[np.complex64]


@dataclass(frozen=True)
class Optics:
    """Probe and detector; angles in mrad, pairs (y, x)."""

    energy: float
    wavelength: float
    semiangle: float
    defocus: float
    cs: float
    pixel: float
    detector_shape: tuple[int, int]

    @classmethod
    def of(cls, settings: SimulationConfig) -> Optics:
        """Take what concerns probe and detector from the settings."""
        return cls(
            energy=settings.energy,
            wavelength=wavelength(settings.energy),
            semiangle=settings.convergence_semiangle,
            defocus=settings.defocus,
            cs=settings.cs,
            pixel=2 * settings.detector_outer / max(settings.detector_shape),
            detector_shape=settings.detector_shape,
        )

    @property
    def outer(self) -> tuple[float, float]:
        """Half the height and width of the detector."""
        return self.pixel * self.detector_shape[0] / 2, self.pixel * self.detector_shape[1] / 2

    def angular_step(self, length: float) -> float:
        """Distance between the angles that a cell of this length (Å) samples."""
        return 1e3 * self.wavelength / length

    def bins(self, axis: int, orders: NDArray[Any], step: float) -> tuple[NDArray[np.int64], Floats]:
        """Where samples fall on the detector.

        Each sample, a box of the width `step` about ``orders · step``, meets at most two pixels: ``first`` of shape
        (n,) and the one after it, with ``shares`` of shape (n, 2).
        """
        n = self.detector_shape[axis]
        lower_edge = (orders - 0.5) * step / self.pixel + n / 2
        first = np.floor(lower_edge).astype(np.int64)
        share = np.minimum(1, (first + 1 - lower_edge) * self.pixel / step)
        shares = np.stack([share, 1 - share], axis=1)
        shares *= (np.stack([first, first + 1], axis=1) >= 0) & (np.stack([first, first + 1], axis=1) < n)
        return first, shares.astype(np.float32)

    def probe(self, orders_y: NDArray[np.int64], orders_x: NDArray[np.int64], size: tuple[float, float]) -> Waves:
        """Wave in the aperture at the given diffraction orders of a cell of this size; its intensities sum to 1.

        The edge is as soft as one sample, along the line to the axis, as abTEM has it, so that the methods agree.
        """
        step_y, step_x = (self.angular_step(length) for length in size)
        ay, ax = np.meshgrid(orders_y * step_y, orders_x * step_x, indexing="ij")
        angle = np.hypot(ay, ax)
        # (softness at the axis itself is arbitrary: the aperture is 1 there)
        softness = np.where(angle > 0, np.hypot(ay * step_y, ax * step_x) / np.where(angle > 0, angle, 1), step_x)
        aperture = np.clip((self.semiangle - angle) / softness + 0.5, 0, 1)
        alpha = 1e-3 * angle
        chi = 2 * np.pi / self.wavelength * (-self.defocus * alpha**2 / 2 + self.cs * alpha**4 / 4)
        wave = aperture * np.exp(-1j * chi)
        normalised: Waves = (wave / np.linalg.norm(wave)).astype(np.complex64)
        return normalised


@numba.njit(nogil=True, cache=True)
def add_intensities(
    waves: Waves, first_y: Indices, shares_y: Floats, first_x: Indices, shares_x: Floats, patterns: Floats
) -> None:
    """Add the squared modulus of waves, shared out area-true, to detector pixels.

    A compiled loop rather than two matrix products: those start threads of their own inside ours, and crawl.

    Parameters
    ----------
    waves : ndarray of complex, shape (n, m_y, m_x)
        Amplitudes of the diffraction orders.
    first_y, first_x : ndarray of int, shapes (m_y,), (m_x,)
        First pixel that an order meets, from `Optics.bins`.
    shares_y, shares_x : ndarray of float, shapes (m_y, 2), (m_x, 2)
        Shares of the order on that pixel and the next one.
    patterns : ndarray of float, shape (n, k_y, k_x)
        Changed in place.
    """
    n_x = patterns.shape[2]
    row = np.zeros(n_x + 1, np.float32)
    for i in range(waves.shape[0]):
        for y in range(waves.shape[1]):
            if shares_y[y, 0] == 0 and shares_y[y, 1] == 0:
                continue
            row[:] = 0
            for x in range(waves.shape[2]):
                wave = waves[i, y, x]
                intensity = wave.real * wave.real + wave.imag * wave.imag
                # (index -1 is the spare last element, where a share is 0 as it is beyond the edge)
                pixel = first_x[x]
                if -1 <= pixel < n_x:
                    row[pixel] += shares_x[x, 0] * intensity
                    row[pixel + 1] += shares_x[x, 1] * intensity
            for side in range(2):
                share = shares_y[y, side]
                if share > 0:
                    for x in range(n_x):
                        patterns[i, first_y[y] + side, x] += share * row[x]


def poisson_counts(expectation: Floats, seed: int) -> NDArray[np.uint16] | NDArray[np.uint32]:
    """Draw electron counts.

    Parameters
    ----------
    expectation : ndarray of float, shape (scan_y, scan_x, k_y, k_x)
        Expected electrons per pixel.
    seed : int
        Random seed; one seed always gives the same counts.

    Returns
    -------
    ndarray of uint16 or uint32, same shape
        The smaller type that holds ten standard deviations above the brightest expectation.
    """
    rng = np.random.default_rng([seed, 0])
    highest = float(expectation.max())
    dtype = np.uint16 if highest + 10 * math.sqrt(highest) + 10 < 2**16 else np.uint32
    counts = np.empty(expectation.shape, dtype)
    # (row by row: numpy draws 64-bit integers, too many at once for a large scan)
    for row, mean in zip(counts, expectation, strict=True):
        row[...] = rng.poisson(mean)
    return counts
