"""Alignment on patterns whose angle is known."""

import numpy as np
import pytest

from stemvane import Dataset4D, align_rotation, measure, synthetic
from stemvane.config import AlignConfig, BasisConfig
from stemvane.features.alignment import gauge_angle
from stemvane.features.cross_correlation import best_angles
from stemvane.features.harmonics import HarmonicBasis, rotate_features

SHORT = AlignConfig(n_iterations=12, n_angles=72, max_order=4)


def prepared(**options):
    dataset, truth = synthetic((16, 16), (32, 32), **{"seed": 1, **options})
    measurements = measure(dataset)
    basis = HarmonicBasis.fit(measurements, BasisConfig(n_features=48))
    return basis.features(measurements), basis, truth, dataset


def difference(angle, other, symmetry=1):
    """Offset and remaining absolute errors in degrees, modulo the content's symmetry."""
    turns = symmetry * (np.ravel(angle) - np.ravel(other))
    offset = np.angle(np.exp(1j * turns).mean())
    errors = np.abs(np.angle(np.exp(1j * (turns - offset))))
    return np.degrees(offset) / symmetry, np.degrees(errors) / symmetry


@pytest.fixture(scope="module")
def noiseless():
    return prepared()


@pytest.fixture(scope="module")
def aligned(noiseless):
    features, basis, *_ = noiseless
    return align_rotation(features, basis)


def test_noiseless_angles_are_found_and_the_dipole_points_right(noiseless, aligned):
    offset, errors = difference(aligned.angle, noiseless[2].angle)
    # what is called 0 is where the content's dipole points right, which is the truth's convention, too
    assert abs(offset) < 0.5
    assert np.median(errors) < 1.0
    assert errors.max() < 4.0
    assert gauge_angle(aligned.template, noiseless[1]) == pytest.approx(0.0, abs=1e-3)


def test_angles_are_those_of_the_com(noiseless, aligned):
    com = noiseless[2].com
    _, errors = difference(aligned.angle, np.arctan2(-com[..., 0], com[..., 1]))
    offset, _ = difference(aligned.angle, np.arctan2(-com[..., 0], com[..., 1]))
    assert abs(offset) < 0.5
    assert np.median(errors) < 1.0


@pytest.mark.parametrize(("dose", "most"), [(2e5, 2.5), (2e4, 7.0)])
def test_angles_of_counted_patterns(dose, most):
    features, basis, truth, _ = prepared(dose=dose)
    offset, errors = difference(align_rotation(features, basis, SHORT).angle, truth.angle)
    assert abs(offset) < 4.0
    assert np.median(errors) < most


@pytest.mark.parametrize("symmetry", [1, 2, 3, 6])
@pytest.mark.parametrize(("dose", "most"), [(None, 1.0), (2e5, 3.0), (4e3, 18.0)])
def test_symmetry_of_the_content_is_found(symmetry, dose, most):
    features, basis, truth, _ = prepared(symmetry=symmetry, dose=dose)
    alignment = align_rotation(features, basis, AlignConfig(n_iterations=12, n_angles=72, max_order=6))
    assert alignment.symmetry == symmetry
    assert not alignment.template[basis.orders % symmetry != 0].any()
    _, errors = difference(alignment.angle, truth.angle, symmetry)
    assert np.median(errors) < most / symmetry


def test_two_calls_are_identical(noiseless, aligned):
    again = align_rotation(noiseless[0], noiseless[1])
    for name, value in vars(aligned).items():
        np.testing.assert_array_equal(getattr(again, name), value)


def test_rotated_patterns_shift_the_angles(noiseless, aligned):
    """Every pattern by a quarter turn of its own, in Cartesian pixels."""
    _, _, truth, dataset = noiseless
    n = np.random.default_rng(0).integers(0, 4, (16, 16))
    patterns = dataset.data.compute()
    for at in np.ndindex(16, 16):
        patterns[at] = np.rot90(patterns[at], n[at])
    measurements = measure(Dataset4D.from_array(patterns, calibration=dataset.calibration))
    basis = HarmonicBasis.fit(measurements, BasisConfig(n_features=48))
    alignment = align_rotation(basis.features(measurements), basis, SHORT)
    offset, errors = difference(alignment.angle - n.ravel() * np.pi / 2, aligned.angle)
    assert abs(offset) < 1.0
    assert np.median(errors) < 2.0
    assert np.median(difference(alignment.angle, truth.angle + n * np.pi / 2)[1]) < 2.0


def test_rotated_features_shift_the_angles_alone(noiseless, aligned):
    features, basis, *_ = noiseless
    extra = np.random.default_rng(0).uniform(-np.pi, np.pi, len(features))
    alignment = align_rotation(rotate_features(features, basis.orders, extra), basis, SHORT)
    offset, errors = difference(alignment.angle - extra, aligned.angle)
    assert abs(offset) < 0.05
    assert errors.max() < 0.5
    np.testing.assert_allclose(np.linalg.norm(alignment.template), np.linalg.norm(aligned.template), rtol=1e-4)
    np.testing.assert_allclose(alignment.variance, aligned.variance, rtol=1e-2)


def test_components_are_principal_and_signed(noiseless, aligned):
    features, basis, *_ = noiseless
    lengths = np.linalg.norm(aligned.components, axis=1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)
    assert aligned.variance[0] >= aligned.variance[1] > 0
    np.testing.assert_allclose(aligned.scores.mean(0), 0, atol=1e-4 * np.sqrt(aligned.variance[0]))
    np.testing.assert_allclose(aligned.scores.var(0), aligned.variance, rtol=1e-4)
    # more of the first component means more of the template
    assert np.vdot(aligned.components[0], aligned.template).real > 0
    straight = rotate_features(features, basis.orders, -aligned.angle)
    np.testing.assert_allclose(straight.mean(0, dtype=complex), aligned.template, atol=1e-4)


def test_amplitude_of_the_content_is_a_component(noiseless, aligned):
    r = np.corrcoef(aligned.scores.T, noiseless[2].content.reshape(2, -1))[:2, 2:]
    # each of the two amplitudes is a mixture of the two scores
    explained = [
        np.linalg.lstsq(aligned.scores, c - c.mean(), rcond=None)[1][0] / (c.var() * c.size)
        for c in noiseless[2].content.reshape(2, -1)
    ]
    assert max(explained) < 0.02
    assert np.abs(r).max() > 0.8


def test_best_angles_go_between_grid_points(noiseless):
    features, basis, *_ = noiseless
    template = features[:1].astype(complex)
    wanted = np.linspace(-3, 3, 41)
    patterns = rotate_features(template.repeat(41, 0), basis.orders, wanted)
    for n_angles in (48, 144):
        angles = best_angles(patterns, template[0], basis.orders, n_angles)
        np.testing.assert_allclose(angles, wanted, atol=1e-4)
