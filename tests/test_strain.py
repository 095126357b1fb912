"""Strain of the lattice on patterns that are known: a sum of round atoms."""

import numpy as np
import pytest

from stemvane.data.scan_geometry import probe_positions
from stemvane.defects.atoms import AtomKernel
from stemvane.defects.gauss_laguerre import Window, gauss_laguerre
from stemvane.defects.lattice import Distortion, Lattice
from stemvane.defects.periodic_fit import fit_periodic
from stemvane.defects.sampling import Sampling
from stemvane.defects.sites import Sites
from stemvane.defects.strain import Strain, without_strain
from stemvane.defects.surroundings import Surroundings

STEP, SHAPE, WIDTH = (0.2, 0.2), (80, 80), 0.35
VECTORS = np.array([[0.0, 2.46], [-2.1304, -1.23]])
ORDERS = np.array([0, 1])


def patterns(atoms, points):
    """One feature of order 0 and one of order 1 at every point, shape ``(n_points, 2)``."""
    features = np.zeros((len(points), 2), complex)
    for atom in atoms:
        for column, order in enumerate(ORDERS):
            features[:, column] += gauss_laguerre(points - atom, WIDTH, 0, -order)
    return features


@pytest.fixture(scope="module")
def sheet():
    """A sheet and its strain; the atoms go on beyond the scan."""
    points = probe_positions(SHAPE, STEP)
    i, j = np.meshgrid(np.arange(-15, 16), np.arange(-15, 16), indexing="ij")
    cells = np.stack([i.ravel(), j.ravel()], axis=-1) @ VECTORS + points.mean(axis=0)
    atoms = np.concatenate([cells, cells + (VECTORS[0] - VECTORS[1]) / 3 + VECTORS[1]])
    inside = ((atoms > 1) & (atoms < points.max(axis=0) - 1)).all(axis=1)
    sublattice = np.repeat([0, 1], len(cells))[inside]
    sites = Sites(atoms[inside], ("atom",) * int(inside.sum()), sublattice)
    values = patterns(atoms, points)
    maps = np.concatenate([values.real, values.imag], axis=-1).reshape(*SHAPE, 4)
    lattice = Lattice(VECTORS, Distortion(points.mean(axis=0), points.mean(axis=0)), origin=points.mean(axis=0))
    series = fit_periodic(lattice, maps, Sampling(np.ones(SHAPE, bool), STEP, 1.6), degree=1).series
    kernel = AtomKernel.fit(series, ORDERS, sites, WIDTH)
    return points, atoms, sites, Strain(series, kernel.narrow(series, sites))


def middle_of(sites, points):
    return int(np.linalg.norm(sites.positions - points.mean(axis=0), axis=1).argmin())


def test_a_strained_lattice_is_no_defect_and_an_atom_too_many_is(sheet):
    points, atoms, sites, strain = sheet
    centre = sites.positions[middle_of(sites, points)]
    around = Surroundings(sites, points, STEP[0] * STEP[1], 0.5).at(centre[None])
    window = Window(0.5, 3)
    rng = np.random.default_rng(0)
    gradient, shift = 0.01 * rng.normal(size=(2, 2)), 0.02 * rng.normal(size=2)
    strained = patterns(atoms + (atoms - centre) @ gradient + shift, points) - patterns(atoms, points)
    added = 0.3 * patterns(centre[None], points)
    directions = strain.directions(around, window)
    for change, least, most in ((strained, 0.0, 0.05), (added, 0.7, 1.0)):
        before = around.expand(change, window)
        after = without_strain(before, directions)
        assert least <= np.linalg.norm(after) / np.linalg.norm(before) <= most


def test_strain_is_that_of_the_sublattice(sheet):
    points, _, sites, strain = sheet
    around, window = Surroundings(sites, points, STEP[0] * STEP[1], 0.5), Window(0.5, 3)
    shared = strain.of_sublattices(around, window)
    assert len(shared) == 2
    at = middle_of(sites, points)
    single = strain.directions(around.at(sites.positions[[at]]), window)[0]
    np.testing.assert_allclose(shared[sites.sublattices[at]], single, atol=0.02 * np.abs(single).max())


def test_nothing_to_strain_is_left_alone():
    assert without_strain(np.zeros((0, 3, 2), complex), np.zeros((0, 6, 3, 2), complex)).shape == (0, 3, 2)
