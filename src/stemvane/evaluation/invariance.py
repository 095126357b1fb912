"""How little an embedding changes when patterns are rotated by known angles, measured and embedded again."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import MeasureConfig
from stemvane.data.dataset import Dataset4D
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.geometry.polar import PolarGrid
from stemvane.geometry.splines import rotated_about
from stemvane.models.base import PatternModel
from stemvane.models.harmonic_model import HarmonicModel
from stemvane.reduction.measure import measure

__all__ = ["invariance", "measure_invariance", "rotate_patterns"]

_Floats = NDArray[np.floating[Any]]


def measure_invariance(
    model: PatternModel,
    embedding: Embedding,
    measurements: Measurements,
    patterns: NDArray[Any],
    config: MeasureConfig,
) -> dict[str, float | None]:
    """Rotate patterns of the scan by random known angles, and measure how latents and angle follow.

    Parameters
    ----------
    model : PatternModel
        Model trained on these measurements.
    embedding : Embedding
        Embedding of the scan; the change of the latents is given in their standard deviations over it.
    measurements : Measurements
        Measurements of the scan.
    patterns : ndarray, shape (n, k_y, k_x)
        Some patterns of the scan, without bad pixels, all with the optical axis at its place.
    config : MeasureConfig
        Settings with which the scan was measured; the rotated patterns are measured with the same, on the scan's grid.

    Returns
    -------
    dict
        ``invariance_error``, the root mean square change of the latents, and ``equivariance_error_deg``, the median
        error of the angle's change in degrees; None without patterns.
    """
    result: dict[str, float | None] = {"invariance_error": None, "equivariance_error_deg": None}
    if not len(patterns):
        return result

    # the scan's own rings, which end early where the beam shifts; a chosen grid would have others
    grid = measurements.grid
    sampling: dict[str, float] = {"n_radial": grid.n_radial, "n_azimuthal": grid.n_azimuthal}
    if (radius := measurements.calibration.disc_radius) is not None:
        sampling["outer"] = grid.outer / radius
    config = config.model_copy(update=sampling)

    def encode(rotated: _Floats) -> tuple[_Floats, _Floats]:
        # the same pass as over recorded data
        dataset = Dataset4D.from_array(rotated[None], calibration=measurements.calibration, name="rotated patterns")
        dataset = replace(dataset, is_scan=False)
        # a few patterns do not have the scan's mean total, to which a whole scan would be scaled
        embedded = model.embed(measure(dataset, (), config=config, progress=False), rescale=False)
        return embedded.latents[0], embedded.angle[0]

    spread = np.nanstd(embedding.latents, axis=(0, 1))
    spread[spread == 0] = 1
    background = measurements.mean_pattern
    if isinstance(model, HarmonicModel) and not model.has_oriented_background:
        background = _without_orientation(background, measurements)
    change, error = invariance(
        encode,
        patterns.astype(np.float64),
        measurements,
        spread=spread,
        background=background,
        symmetry=embedding.symmetry,
    )
    return {"invariance_error": change, "equivariance_error_deg": error}


def _without_orientation(pattern: _Floats, measurements: Measurements) -> NDArray[np.float64]:
    """A pattern whose pixels beyond the direct beam have the mean of all at their distance from the axis."""
    shape = pattern.shape[0], pattern.shape[1]
    radius = np.hypot(*measurements.grid.places(shape))
    ring = np.rint(radius).astype(int)
    mean = np.bincount(ring.ravel(), pattern.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    beyond = radius > (measurements.calibration.disc_radius or 0.0) + 1
    return np.where(beyond, mean[ring], pattern)


def rotate_patterns(patterns: _Floats, angles: _Floats, mean_pattern: _Floats, grid: PolarGrid) -> NDArray[np.float32]:
    """Rotate the content of patterns about the optical axis, in pixels, but not the mean pattern, the background.

    Parameters
    ----------
    patterns : ndarray of float, shape (n, k_y, k_x)
        Patterns with the optical axis at its place.
    angles : ndarray of float, shape (n,)
        Angles in rad, counter-clockwise on the screen.
    mean_pattern : ndarray of float, shape (k_y, k_x)
        The background.
    grid : PolarGrid
        Optical axis, and how pixels lie in the plane.

    Returns
    -------
    ndarray of float32, shape (n, k_y, k_x)
        Interpolated with cubic splines; negative values, which the splines can leave beside sharp edges, become 0.
    """
    out = np.empty(patterns.shape, np.float32)
    places = np.asarray(grid.places((mean_pattern.shape[0], mean_pattern.shape[1])), np.float64)
    back = np.asarray(np.linalg.inv(grid.plane), np.float64)

    def rotate(i: int) -> None:
        content = np.asarray(patterns[i] - mean_pattern, np.float64)
        out[i] = np.maximum(mean_pattern + rotated_about(content, angles[i], places, back, grid.axis), 0)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(rotate, range(len(patterns))))
    return out


def invariance(
    encode: Callable[[_Floats], tuple[_Floats, _Floats]],
    patterns: _Floats,
    measurements: Measurements,
    *,
    spread: _Floats | float = 1.0,
    seed: int = 0,
    background: _Floats | None = None,
    symmetry: int = 1,
) -> tuple[float, float]:
    """Rotate patterns by random known angles before they are measured, and compare what the encoder returns.

    Parameters
    ----------
    encode : callable
        Function from patterns of shape ``(n, k_y, k_x)`` to latents ``(n, n_latent)`` and angles ``(n,)`` in rad, with
        everything that happens to recorded data in between.
    patterns : ndarray of float, shape (n, k_y, k_x)
        Patterns of the scan, prepared as for `measure_invariance`.
    measurements : Measurements
        Measurements of the scan.
    spread : ndarray of float, shape (n_latent,), or float
        Standard deviation of each latent over the data set.
    seed : int
        Seed of the random angles.
    background : ndarray of float, shape (k_y, k_x), optional
        What is not rotated; the mean pattern where it is left out.
    symmetry : int
        Rotational symmetry of the content: angles that differ by ``2 π / symmetry`` are the same.

    Returns
    -------
    float
        Root mean square change of the latents, in their standard deviations over the data set; NaN without latents.
    float
        Median error of the angle's change, degrees.
    """
    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, len(patterns))
    grid = measurements.grid
    # splines go through the pixels' values, so an angle of 0 needs none
    fixed = measurements.mean_pattern if background is None else background
    still = np.maximum(patterns, 0).astype(np.float32)
    moved = rotate_patterns(patterns, angles, fixed, grid)
    latents, angle = encode(still)
    moved_latents, moved_angle = encode(moved)
    error = np.abs(np.angle(np.exp(1j * symmetry * (moved_angle - angle - angles)))) / symmetry
    change = float(np.sqrt(np.mean(((moved_latents - latents) / spread) ** 2))) if latents.shape[1] else float("nan")
    return change, float(np.degrees(np.median(error)))
