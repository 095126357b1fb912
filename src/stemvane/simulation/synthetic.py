"""synthetic: analytic patterns with known rotation and content, for tests and benchmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.errors import ConfigError
from stemvane.simulation.optics import poisson_counts

__all__ = ["SyntheticTruth", "synthetic", "synthetic_patterns"]

_PIXEL = 2.0
# so coarse that content may change from one position to the next: a finer scan would show none beyond 2α/λ
_STEP = 0.6
_DISC = 0.3125
_EDGE = 0.03
_CONTRAST = 0.25
_SUPERSAMPLING = 4

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SyntheticTruth:
    """What `synthetic` put into the patterns.

    Attributes
    ----------
    angle : ndarray of float, shape (scan_y, scan_x)
        Angle by which the content is rotated, rad, counter-clockwise on the screen, modulo ``2π / symmetry``.
    content : ndarray of float, shape (n_content, scan_y, scan_x)
        Amplitudes of the structures that rotate.
    fixed : ndarray of float, shape (n_fixed, scan_y, scan_x)
        Amplitudes of the structures that do not rotate.
    com : ndarray of float, shape (scan_y, scan_x, 2)
        Centre of mass ``(y, x)`` of the noiseless patterns minus the optical axis, mrad; y grows downwards.
    """

    angle: Doubles
    content: Doubles
    fixed: Doubles
    com: Doubles


def synthetic(
    scan_shape: tuple[int, int] = (32, 32),
    detector_shape: tuple[int, int] = (48, 48),
    *,
    seed: int = 0,
    dose: float | None = None,
    n_content: int = 2,
    n_fixed: int = 0,
    symmetry: int = 1,
    angle: ArrayLike | None = None,
) -> tuple[Dataset4D, SyntheticTruth]:
    """Make patterns of a fixed bright disc and a content that is rotated by a known angle.

    Parameters
    ----------
    scan_shape, detector_shape : tuple of int
        Numbers of probe positions and pixels ``(y, x)``. The disc's radius is 0.3125 of the smaller detector side.
    seed : int
        Random seed of the maps of angle and content and of the shot noise.
    dose : float, optional
        Incident electrons per pattern; noiseless, with patterns that sum to about 1, where it is left out.
    n_content : int
        Number of structures, each with an amplitude of its own. The first is never weaker than a third of its
        strongest, so the angle is defined everywhere.
    n_fixed : int
        Number of structures that do not rotate, each with an amplitude of its own between -1 and 1.
    symmetry : int
        The content stays the same when rotated by ``2π / symmetry``.
    angle : array_like, optional
        Angle in rad, broadcast to the scan; a smooth map that covers the circle where it is left out.

    Returns
    -------
    dataset : Dataset4D
        Data set with the calibration 2 mrad per pixel and 0.6 Å per step; ``expectation`` where there is a dose.
    truth : SyntheticTruth

    Raises
    ------
    ConfigError
        If a shape, `n_content`, `n_fixed` or `symmetry` is too small, the dose not positive, or the angle of another
        shape.

    Notes
    -----
    ``pattern(r, φ) = disc(r) + Σ_j content_j f_j(r, φ − angle) + Σ_j fixed_j g_j(r, φ)`` with φ = atan2(−(row − c_y),
    column − c_x). g_j has the single azimuthal order 2 + j, so it does not move the centre of mass. The functions are
    evaluated at the rotated coordinates and averaged over 4 by 4 points of each pixel, so no pattern is ever
    interpolated.
    """
    if (
        min(scan_shape) < 1
        or min(detector_shape) < 4
        or n_content < 1
        or n_fixed < 0
        or symmetry < 1
        or not (dose is None or dose > 0)
    ):
        raise ConfigError(
            f"synthetic: scan_shape {scan_shape}, detector_shape {detector_shape}, n_content {n_content}, "
            f"n_fixed {n_fixed}, symmetry {symmetry}, dose {dose}; give at least 1, 4 pixels, 1, 0 and 1, and a "
            "positive dose or none"
        )
    rng = np.random.default_rng([seed, 1])
    rotation, content = _angles(rng, scan_shape), _contents(rng, scan_shape, n_content)
    if angle is not None:
        try:
            rotation = np.broadcast_to(np.asarray(angle, dtype=np.float64), scan_shape).copy()
        except ValueError:
            raise ConfigError(
                f"synthetic: the angle has shape {np.shape(angle)}; give one of shape {scan_shape}"
            ) from None
    fixed = _maps(rng, scan_shape, n_fixed)
    radius = _DISC * min(detector_shape)
    patterns = synthetic_patterns(rotation, content, fixed, detector_shape, symmetry=symmetry)
    axis = ((detector_shape[0] - 1) / 2, (detector_shape[1] - 1) / 2)
    truth = SyntheticTruth(rotation % (2 * np.pi / symmetry), content, fixed, _com(patterns, axis))
    calibration = Calibration(
        scan_step=(_STEP, _STEP),
        pixel_size=(_PIXEL, _PIXEL),
        optical_axis=axis,
        disc_radius=radius,
        convergence_semiangle=_PIXEL * radius,
        energy=60e3,
        scan_rotation=0.0,
    )
    expected = (patterns * (dose or 1.0)).astype(np.float32)
    dataset = Dataset4D.from_array(
        expected if dose is None else poisson_counts(expected, seed),
        calibration=calibration,
        name="synthetic",
        expectation=None if dose is None else expected,
        metadata={"simulated": True, "symmetry": symmetry},
        electrons_per_pattern=dose,
        noiseless=dose is None,
    )
    return dataset, truth


def _angles(rng: np.random.Generator, scan_shape: tuple[int, int]) -> Doubles:
    y, x = np.meshgrid(*(np.arange(n) / n for n in scan_shape), indexing="ij")
    start, bend = rng.uniform(0, 2 * np.pi, 2)
    return np.asarray(start + 2 * np.pi * (x + 2 * y) + 0.6 * np.sin(2 * np.pi * (x - y) + bend))


def _contents(rng: np.random.Generator, scan_shape: tuple[int, int], n_content: int) -> Doubles:
    """Smooth maps between -1 and 1, the first between 1/3 and 1."""
    maps = _maps(rng, scan_shape, n_content)
    maps[0] = 2 / 3 + maps[0] / 3
    return maps


def _maps(rng: np.random.Generator, scan_shape: tuple[int, int], n: int) -> Doubles:
    """Smooth maps between -1 and 1."""
    y, x = np.meshgrid(*(np.arange(n) / n for n in scan_shape), indexing="ij")
    maps = np.empty((n, *scan_shape))
    for j in range(n):
        phase_y, phase_x = rng.uniform(0, 2 * np.pi, 2)
        maps[j] = np.sin(2 * np.pi * y * (1 + j // 2) + phase_y) * np.cos(2 * np.pi * x * (1 + (j + 1) // 2) + phase_x)
    return maps


def synthetic_patterns(
    angle: Doubles, content: Doubles, fixed: Doubles, detector_shape: tuple[int, int], *, symmetry: int = 1
) -> Doubles:
    """Draw the noiseless patterns of given angles and amplitudes, as `synthetic` does.

    Parameters
    ----------
    angle : ndarray of float, shape (scan_y, scan_x)
        Angle by which the content is rotated, rad, counter-clockwise on the screen.
    content : ndarray of float, shape (n_content, scan_y, scan_x)
        Amplitudes of the structures that rotate.
    fixed : ndarray of float, shape (n_fixed, scan_y, scan_x)
        Amplitudes of the structures that do not.
    detector_shape : tuple of int
        Pixels ``(y, x)``.
    symmetry : int
        Rotational symmetry of the content.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x, k_y, k_x)
        Fraction of the incident electrons per pixel; sums to about 1.
    """
    n_y, n_x = detector_shape
    radius = _DISC * min(detector_shape)
    fine_y, fine_x = (((np.arange(n * _SUPERSAMPLING) + 0.5) / _SUPERSAMPLING - n / 2) / radius for n in detector_shape)
    up, right = np.meshgrid(-fine_y, fine_x, indexing="ij")
    r = np.hypot(up, right)
    disc = 1 / (1 + np.exp(np.minimum((r - 1) / _EDGE, 700)))
    n_rings = max(len(content), len(fixed))
    rings = [r * np.exp(-0.5 * ((r - (0.65, 0.45, 0.75)[j % 3]) / 0.12) ** 2) for j in range(n_rings)]
    unit_y, unit_x = (np.divide(c, r, out=np.zeros_like(r), where=r > 0) for c in (up, right))
    direction = unit_x + 1j * unit_y
    still = [_CONTRAST / 2 * rings[j] * (direction ** (2 + j) * np.exp(0.5j)).real for j in range(len(fixed))]
    out = np.empty((*angle.shape, n_y, n_x))
    for at in np.ndindex(*angle.shape):
        # exp(i s φ'), φ' the azimuth in the rotated frame: whole powers of it are the harmonics
        base = (direction * np.exp(-1j * angle[at])) ** symmetry
        total = disc.copy()
        for j, amplitude in enumerate(content[(slice(None), *at)]):
            total += _CONTRAST / (1 + j) * amplitude * rings[j] * _structure(base, j)
        for amplitude, structure in zip(fixed[(slice(None), *at)], still, strict=True):
            total += amplitude * structure
        out[at] = total.reshape(n_y, _SUPERSAMPLING, n_x, _SUPERSAMPLING).mean(axis=(1, 3))
    return out / (math.pi * radius**2)


def _structure(base: NDArray[np.complex128], j: int) -> Doubles:
    """A dipole whose lobes differ, then ever finer structures; none is its own mirror image together with the first."""
    if j == 0:
        return np.asarray(base.real + 0.4 * (base**2 * np.exp(0.5j)).real)
    return np.asarray((base ** (1 + j) * np.exp(0.8j * j)).real)


def _com(patterns: Doubles, axis: tuple[float, float]) -> Doubles:
    total = patterns.sum(axis=(2, 3))
    y, x = np.arange(patterns.shape[2]) - axis[0], np.arange(patterns.shape[3]) - axis[1]
    moments = [np.einsum("abyx,y->ab", patterns, y), np.einsum("abyx,x->ab", patterns, x)]
    return np.asarray(_PIXEL * np.stack(moments, axis=-1) / total[..., None])
