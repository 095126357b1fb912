"""Scans of a polycrystal in a nearly parallel beam: discs on a lattice, one orientation for each grain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemvane import Dataset4D
from stemvane.data.calibration import Calibration

__all__ = ["LATTICES", "GrainScan", "Scene", "make_scan"]

# share of the electrons that are scattered into discs and, evenly around the axis, into the background between them
_SCATTERED, _DIFFUSE = 0.25, 0.05
# how much the strength of all discs varies over the scan with the thickness, and that of every disc by itself
_THICKNESS, _SCATTER = 0.3, 0.1
# discs lie within this share of the detector's side, around an axis that is not in its middle
_REACH, _AXIS = 0.47, (0.3, -0.2)


class Lattice(NamedTuple):
    """Second reciprocal vector over the first, degrees between them, symmetry, and contrast of two kinds of discs."""

    ratio: float
    between: float
    symmetry: int
    contrast: float = 0.0


LATTICES = {
    "hexagon": Lattice(1.0, 60.0, 6),
    "square": Lattice(1.0, 90.0, 4),
    "two-fold": Lattice(1.35, 90.0, 2),
    "three-fold": Lattice(1.0, 60.0, 3, 0.4),
}


@dataclass(frozen=True)
class Scene:
    """What a scan is made of.

    Attributes
    ----------
    lattice : str
        One of `LATTICES`.
    n_grains : int
        Number of grains, cells of Voronoi around random positions.
    dose : float
        Incident electrons per pattern.
    beam : float
        Radius of the direct beam in pixels.
    size : int
        Detector pixels along each side.
    seed : int
        Random seed of grains, strengths and counts.
    scan : int
        Probe positions along each side.
    tilt : float
        Standard deviation, along either axis, of the share of its intensity that a disc on the first ring gains or
        loses by the mistilt of its grain; further out in proportion.
    """

    lattice: str = "hexagon"
    n_grains: int = 14
    dose: float = 50_000.0
    beam: float = 2.0
    size: int = 128
    seed: int = 0
    scan: int = 24
    tilt: float = 0.2


@dataclass(frozen=True, eq=False)
class GrainScan:
    """A scan and what it was made of.

    Attributes
    ----------
    dataset : Dataset4D
        Counted electrons.
    angle : ndarray of float, shape (scan_y, scan_x)
        Orientation of each position's grain in rad, counter-clockwise on the screen, modulo ``2 π / symmetry``.
    grain : ndarray of int, shape (scan_y, scan_x)
        Number of each position's grain.
    symmetry : int
        Rotational symmetry of the lattice.
    axis : tuple of float
        Optical axis ``(y, x)`` in pixels.
    ring : float
        Distance of the first discs from the axis in pixels.
    """

    dataset: Dataset4D
    angle: NDArray[np.float64]
    grain: NDArray[np.int64]
    symmetry: int
    axis: tuple[float, float]
    ring: float


def make_scan(scene: Scene) -> GrainScan:
    """Draw the patterns of a polycrystal, and count their electrons."""
    rng = np.random.default_rng([scene.seed, 19])
    lattice, n, size = LATTICES[scene.lattice], scene.scan, scene.size
    places = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1)
    seeds = rng.uniform(0, n, (scene.n_grains, 2))
    grain = np.linalg.norm(places[..., None, :] - seeds, axis=-1).argmin(-1)
    angles = rng.uniform(0, 2 * np.pi / lattice.symmetry, scene.n_grains)
    # three rings of a hexagon, whose third is twice as far out as the first
    reach = _REACH * size - scene.beam
    ring = reach / 2.02
    discs, share = _discs(lattice, ring, reach)
    thickness = 1 + _THICKNESS * np.sin(2 * np.pi * (places @ rng.normal(size=2)) / n)
    axis = ((size - 1) / 2 + _AXIS[0], (size - 1) / 2 + _AXIS[1])
    rows, columns = np.indices((size, size), dtype=float)
    up, right = axis[0] - rows, columns - axis[1]
    direct = _disc(up, right, scene.beam)
    diffuse = np.exp(-np.hypot(up, right) / (0.15 * size))
    diffuse *= _DIFFUSE / diffuse.sum()
    patterns = np.empty((n * n, size, size), np.uint16)
    for number, angle in enumerate(angles):
        turned = discs @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        images = np.array([_disc(up - y, right - x, scene.beam).ravel() for x, y in turned])
        tilted = share * np.clip(1 + scene.tilt * (discs @ rng.normal(size=2)) / ring, 0.05, None)
        for at in np.flatnonzero(grain.ravel() == number):
            scattered = tilted * thickness.ravel()[at] * np.exp(_SCATTER * rng.normal(size=len(discs)))
            expected = (scattered @ images).reshape(size, size) + diffuse
            expected += (1 - expected.sum()) * direct
            patterns[at] = rng.poisson(scene.dose * expected)
    dataset = Dataset4D.from_array(
        patterns.reshape(n, n, size, size),
        calibration=Calibration(scan_step=(20.0, 20.0), energy=200e3),
        name=f"{scene.lattice}, {scene.n_grains} grains",
    )
    return GrainScan(dataset, angles[grain], grain, lattice.symmetry, axis, float(ring))


def _discs(lattice: Lattice, ring: float, reach: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places ``(right, up)`` of the discs in pixels at the angle 0, and the share of the electrons in each."""
    between = np.radians(lattice.between)
    vectors = ring * np.array([[1.0, 0.0], [lattice.ratio * np.cos(between), lattice.ratio * np.sin(between)]])
    index = np.array([(h, k) for h in range(-3, 4) for k in range(-3, 4) if h or k])
    index = index[np.linalg.norm(index @ vectors, axis=1) <= reach]
    discs = index @ vectors
    strength = np.exp(-((np.linalg.norm(discs, axis=1) / ring) ** 2) / 2)
    strength *= 1 + lattice.contrast * np.array([0, 1, -1])[(index @ [1, -1]) % 3]
    return discs, _SCATTERED * strength / strength.sum()


def _disc(up: NDArray[np.float64], right: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Share of a disc's electrons in each pixel; its edge is a pixel wide."""
    disc = np.clip(radius + 0.5 - np.hypot(up, right), 0, 1)
    return np.asarray(disc / disc.sum())
