"""Detector: from expected electrons to what a detector writes, and the truth beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import special

from stemvane.config import DetectorConfig

__all__ = ["Detector"]

Floats = NDArray[np.float32]
Reals = NDArray[np.float64]

_HOT_RMS = 0.025
_N_TOGETHER = 64
_RARE = 1e-9
_QUADRANTS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


@dataclass(frozen=True, eq=False)
class Detector:
    """One detector, with pixels of its own.

    Attributes
    ----------
    config : DetectorConfig
        Its numbers.
    seed : int
        Random seed of the scan. Pixels and readings come from streams of their own.
    gain : ndarray of float, shape (k_y, k_x)
        Gain of every pixel over the mean one. In a counting detector it is the area that a pixel collects from.
    dark : ndarray of float, shape (k_y, k_x)
        Mean reading without a beam, of bad pixels too.
    bad_pixels : ndarray of bool, shape (k_y, k_x)
        True where the reading has nothing to do with the beam.
    hot_pixels : ndarray of bool, shape (k_y, k_x)
        Those of them that read `DetectorConfig.hot_level`.
    """

    config: DetectorConfig
    seed: int
    gain: Floats
    dark: Floats
    bad_pixels: NDArray[np.bool_]
    hot_pixels: NDArray[np.bool_]

    @classmethod
    def make(cls, config: DetectorConfig, shape: tuple[int, int], seed: int) -> Detector:
        """Draw the pixels of a detector of this shape ``(k_y, k_x)``; one seed always gives the same detector."""
        rng = np.random.default_rng([seed, 2])
        gain = np.maximum(0, 1 + config.gain_rms * rng.standard_normal(shape))
        dark = config.dark_level + config.dark_rms * rng.standard_normal(shape)
        n_dead, n_hot = (round(share * shape[0] * shape[1]) for share in (config.dead_share, config.hot_share))
        places = rng.permutation(shape[0] * shape[1])
        bad = np.zeros(shape, bool)
        bad.flat[places[:n_dead]] = True
        for top, bottom, left, right in config.dead_blocks:
            bad[top:bottom, left:right] = True
        if config.gap:
            for axis, n in enumerate(shape):
                start = n // 2 - config.gap // 2
                np.moveaxis(bad, axis, 0)[start : start + config.gap] = True
        # a pixel that reads nothing cannot be hot as well
        hot = np.zeros(shape, bool)
        hot.flat[places[n_dead : n_dead + n_hot]] = True
        hot &= ~bad
        dark = np.where(hot, config.hot_level, np.where(bad, 0, dark))
        return cls(config, seed, gain.astype(np.float32), dark.astype(np.float32), bad | hot, hot)

    @property
    def counted_shares(self) -> Reals:
        """Probability that a pixel counts an electron, for each of the four pixels that share its charge.

        The charge is distributed as Γ(1/σ²) with mean 1, where σ is the straggling: positive, and sums of it are
        again Γ distributed.
        """
        shares, variance = np.asarray(self.config.charge_shares), self.config.straggling**2
        least = np.divide(self.config.threshold, shares, out=np.full(4, np.inf), where=shares > 0)
        if variance == 0:
            return np.asarray(least < 1, np.float64)
        counted: Reals = special.gammaincc(1 / variance, least / variance)
        # what happens to one electron in 10⁹ need not be drawn for every one of them
        counted[counted < _RARE] = 0
        counted[counted > 1 - _RARE] = 1
        return counted

    @property
    def counts_per_electron(self) -> float:
        """Mean sum of the readings per electron, ADU or counts."""
        if self.config.kind == "counting":
            return float(self.counted_shares.sum())
        return self.config.adu_per_electron

    @property
    def variance_per_count(self) -> float:
        """Slope of the variance over the mean under uniform illumination.

        Electrons of a Poisson process whose charge q varies by σ and reaches a pixel in shares f give it a mean
        λ Σf ⟨q⟩ and a variance λ Σf² ⟨q²⟩ (Campbell's theorem); an electron counts once in a pixel, or not.
        """
        if self.config.kind == "counting":
            return 1.0
        squares = float(np.square(self.config.charge_shares).sum())
        return self.config.adu_per_electron * (1 + self.config.straggling**2) * squares

    def response(self) -> Floats:
        """Mean reading above the dark level for one electron per pixel, shape ``(k_y, k_x)``; 0 for bad pixels."""
        if self.config.kind == "analogue":
            mean = self.config.adu_per_electron * self.gain
        else:
            mean = np.zeros_like(self.gain)
            for sy, sx in _QUADRANTS:
                down, across = (_neighbours(n, s) for n, s in zip(mean.shape, (sy, sx), strict=True))
                moved = (self.gain, down, across)
                for share, use_y, use_x in zip(self.counted_shares, (0, 1, 0, 1), (0, 0, 1, 1), strict=True):
                    rows = moved[1] if use_y else np.arange(mean.shape[0])
                    columns = moved[2] if use_x else np.arange(mean.shape[1])
                    np.add.at(mean, np.ix_(rows, columns), share / 4 * self.gain)
        return np.where(self.bad_pixels, 0, mean).astype(np.float32)

    def dark_frame(self) -> Floats:
        """A dark frame as a user measures it: the mean of some frames with readout noise, shape ``(k_y, k_x)``."""
        rng = np.random.default_rng([self.seed, 3])
        noise = self.config.readout_noise / np.sqrt(self.config.n_dark_frames)
        still = self.bad_pixels & ~self.hot_pixels
        return np.where(still, 0, self.dark + noise * rng.standard_normal(self.dark.shape)).astype(np.float32)

    def record(self, expectation: Floats, report: Callable[[int], None] | None = None) -> NDArray[Any]:
        """Record a scan.

        Patterns are recorded side by side in threads, each with a random stream of its own, so that neither threads
        nor blocks change a reading.

        Parameters
        ----------
        expectation : ndarray of float, shape (scan_y, scan_x, k_y, k_x)
            Expected electrons per pixel.
        report : callable, optional
            Called with the number of patterns after each row.

        Returns
        -------
        ndarray of `DetectorConfig.data_type`, same shape
        """
        data: NDArray[Any] = np.empty(expectation.shape, self.config.data_type)
        frames = expectation.reshape(-1, *expectation.shape[2:])
        readings = data.reshape(frames.shape)

        def work(start: int) -> int:
            part = slice(start, start + _N_TOGETHER)
            self._record_frames(start, frames[part], readings[part])
            return len(frames[part])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for n in pool.map(work, range(0, len(frames), _N_TOGETHER)):
                if report is not None:
                    report(n)
        return data

    def _record_frames(self, first: int, frames: Floats, readings: NDArray[Any]) -> None:
        config = self.config
        counting = config.kind == "counting"
        shares = self.counted_shares if counting else np.asarray(config.charge_shares)
        area = self.gain if counting else np.ones_like(self.gain)
        # an electron whose charge stays in one pixel needs no direction
        n_directions = 4 if shares[1:].any() else 1
        lowest, highest = _range(readings.dtype)
        if config.saturation is not None:
            highest = min(highest, config.saturation)
        n_hot = int(self.hot_pixels.sum())
        charge = np.empty(frames.shape[1:], np.float32)
        for number, (pattern, reading) in enumerate(zip(frames, readings, strict=True), first):
            rng = np.random.default_rng([self.seed, 4, number])
            charge[:] = 0
            _deposit(pattern, area, shares, n_directions, config.straggling**2, counting, rng, charge)
            if not counting:
                charge *= np.float32(config.adu_per_electron) * self.gain
                charge += self.dark
                charge += np.float32(config.readout_noise) * rng.standard_normal(charge.shape, np.float32)
            charge[self.bad_pixels] = 0
            charge[self.hot_pixels] = config.hot_level * (1 + _HOT_RMS * rng.standard_normal(n_hot))
            np.clip(charge, lowest, highest, out=charge)
            reading[:] = charge if readings.dtype.kind == "f" else np.rint(charge)


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Lowest and highest number of a type that is also one of float32."""
    if dtype.kind == "f":
        return -np.inf, np.inf
    limits = np.iinfo(dtype)
    highest = np.float32(limits.max)
    return float(limits.min), float(highest if float(highest) <= limits.max else np.nextafter(highest, np.float32(0)))


def _neighbours(n: int, step: int) -> NDArray[np.int64]:
    """Index of the neighbour of every pixel; at the edge the pixel itself, whose charge has nowhere to go."""
    return np.clip(np.arange(n) + step, 0, n - 1)


@numba.njit(nogil=True, cache=True)
def _deposit(
    pattern: Floats,
    area: Floats,
    shares: Reals,
    n_directions: int,
    variance: float,
    counting: bool,
    rng: np.random.Generator,
    charge: Floats,
) -> None:
    """Add the charge, or the counts, of one exposure in units of an electron.

    Parameters
    ----------
    pattern : ndarray of float, shape (k_y, k_x)
        Expected electrons.
    area : ndarray of float, shape (k_y, k_x)
        What a pixel collects, over what the mean pixel does.
    shares : ndarray of float, shape (4,)
        Shares of the charge, or probabilities to count, in the pixel itself, along y, along x, and along both.
    n_directions : int
        4, or 1 where neighbours get nothing.
    variance : float
        Relative variance of an electron's charge.
    counting : bool
        Whether electrons are counted.
    rng : numpy.random.Generator
    charge : ndarray of float, shape (k_y, k_x)
        Changed in place.
    """
    n_y, n_x = pattern.shape
    for direction in range(n_directions):
        step_y, step_x = 2 * (direction // 2) - 1, 2 * (direction % 2) - 1
        for y in range(n_y):
            other_y = min(max(y + step_y, 0), n_y - 1)
            for x in range(n_x):
                # electrons of a Poisson process that choose among directions are as many independent processes
                expected = pattern[y, x] * area[y, x] / n_directions
                n = rng.poisson(expected) if expected > 0 else 0
                if n == 0:
                    continue
                other_x = min(max(x + step_x, 0), n_x - 1)
                total = float(n)
                if variance > 0 and not counting:
                    total = variance * rng.standard_gamma(n / variance)
                for k in range(4):
                    if shares[k] == 0:
                        continue
                    part = total * shares[k]
                    if counting:
                        part = total if shares[k] == 1 else float(rng.binomial(n, shares[k]))
                    charge[other_y if k % 2 else y, other_x if k >= 2 else x] += part
