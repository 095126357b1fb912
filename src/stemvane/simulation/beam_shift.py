"""The beam's shift on the detector during a scan: where it goes, and patterns that are moved along."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import DetectorConfig
from stemvane.simulation.optics import Optics

__all__ = ["centre_of_mass", "fine_optics", "shift_at", "shift_patterns"]

Floats = NDArray[np.float32]
Reals = NDArray[np.float64]


def shift_at(config: DetectorConfig, places: Reals, scan_shape: tuple[int, int]) -> Reals:
    """Shift of the beam on the detector, 0 on average over the scan.

    Parameters
    ----------
    config : DetectorConfig
        How it shifts.
    places : ndarray of float, shape (..., 2)
        Where the probe is sent, ``(y, x)`` in scan steps.
    scan_shape : tuple of int
        Probe positions ``(y, x)``.

    Returns
    -------
    ndarray of float, shape (..., 2)
        Shift ``(y, x)`` in pixels.
    """
    size = np.asarray(scan_shape)
    # from -1/2 at the first row or column to 1/2 at the last
    y, x = np.moveaxis((places - (size - 1) / 2) / np.maximum(1, size - 1), -1, 0)
    along_y, along_x = np.asarray(config.beam_shift)
    # the mean square of n regular numbers from -1/2 to 1/2, for both axes
    mean = float(np.where(size > 1, (size + 1) / (12 * np.maximum(1, size - 1)), 0).sum())
    bow = 4 * (y**2 + x**2 - mean)[..., None] * np.asarray(config.beam_bow)
    return np.asarray(y[..., None] * along_y + x[..., None] * along_x + bow)


def fine_optics(optics: Optics, shift: Reals, steps: tuple[float, float]) -> Optics:
    """A detector with finer pixels and a margin, from which patterns are moved by fractions of a pixel.

    Parameters
    ----------
    optics : Optics
        Probe and detector.
    shift : ndarray of float, shape (n, 2)
        Shift in pixels.
    steps : tuple of float
        Distance ``(y, x)`` in mrad of the samples that the patterns are computed on; finer pixels would be empty.

    Returns
    -------
    Optics
        Half the pixel where that is not finer than the samples; its middle is that of the detector.
    """
    pixel = max(optics.pixel / 2, *steps)
    margin = np.abs(shift).max(axis=0)
    n_y, n_x = (
        2 * math.ceil((n / 2 + m + 0.5) * optics.pixel / pixel)
        for n, m in zip(optics.detector_shape, margin, strict=True)
    )
    return replace(optics, pixel=pixel, detector_shape=(n_y, n_x))


def shift_patterns(fine: Floats, fine_optics: Optics, optics: Optics, shift: Reals) -> tuple[Floats, Reals]:
    """Move patterns and share them out, area-true, to the detector's pixels.

    A fine pixel is a box that is cut by the edges of pixels: nothing becomes negative, what is moved within the
    detector keeps its sum, and the centre of mass moves by the shift exactly.

    Parameters
    ----------
    fine : ndarray of float, shape (n, n_y, n_x)
        Patterns on the pixels of `fine_optics`.
    fine_optics, optics : Optics
        Both detectors.
    shift : ndarray of float, shape (n, 2)
        Shift ``(y, x)`` in pixels.

    Returns
    -------
    patterns : ndarray of float, shape (n, k_y, k_x)
    com : ndarray of float, shape (n, 2)
        Centre of mass ``(y, x)`` of the patterns without a shift, pixels from the detector's middle.
    """
    patterns = np.empty((len(shift), *optics.detector_shape), np.float32)
    unmoved = [_overlaps(axis, 0.0, fine_optics, optics) for axis in (0, 1)]
    com = np.empty(shift.shape)
    for at in range(len(shift)):
        rows, columns = (_overlaps(axis, shift[at, axis], fine_optics, optics) for axis in (0, 1))
        patterns[at] = rows @ fine[at] @ columns.T
        com[at] = centre_of_mass(unmoved[0] @ fine[at] @ unmoved[1].T)
    return patterns, com


def centre_of_mass(patterns: NDArray[Any]) -> Reals:
    """Centre of mass ``(y, x)`` in pixels from the detector's middle, shape ``(..., 2)``, of ``(..., k_y, k_x)``."""
    n_y, n_x = patterns.shape[-2:]
    rows, columns = patterns.sum(axis=-1, dtype=np.float64), patterns.sum(axis=-2, dtype=np.float64)
    moments = np.stack([rows @ (np.arange(n_y) - (n_y - 1) / 2), columns @ (np.arange(n_x) - (n_x - 1) / 2)], axis=-1)
    return np.asarray(moments / rows.sum(axis=-1)[..., None])


def _overlaps(axis: int, shift: float, fine_optics: Optics, optics: Optics) -> Floats:
    """Share of each fine pixel in each pixel of the detector along one axis, shape ``(k, n)``."""
    ratio = fine_optics.pixel / optics.pixel
    n, k = fine_optics.detector_shape[axis], optics.detector_shape[axis]
    edges = np.clip((np.arange(n + 1) - n / 2) * ratio + shift + k / 2, 0, k)
    pixels = np.arange(k)[:, None]
    covered = np.clip(edges[1:], pixels, pixels + 1) - np.clip(edges[:-1], pixels, pixels + 1)
    return np.asarray(covered / ratio, np.float32)
