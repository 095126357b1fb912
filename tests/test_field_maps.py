"""The field in physical units, and its maps in the measurements."""

from dataclasses import replace

import numpy as np
import pytest

from stemvane import Calibration, Measurements, PolarGrid, measure, simulate
from stemvane.data.calibration import wavelength
from stemvane.errors import CalibrationError
from stemvane.field.derivatives import gradient, rotate_vectors
from stemvane.field.integration import integrate
from stemvane.field.maps import add_field, field_maps, rotation_metrics
from stemvane.field.physical import momentum_velocity, projected_field, projected_potential
from stemvane.field.scan_rotation import find_rotation
from stemvane.simulation.scattering import projected_scattering_factor

REST, PLANCK_TIMES_LIGHT = 510998.95, 12398.419843  # eV, eV Å
SHAPE = (25, 28)


def measured(field, potential, unit="mrad", **known):
    """Measurements with this deflection and a dark field that follows the potential."""
    return Measurements(
        maps={"total": np.ones(SHAPE), "com_y": field[..., 0], "com_x": field[..., 1], "annular_dark_field": potential},
        units={"total": "counts", "com_y": unit, "com_x": unit, "annular_dark_field": "fraction"},
        polar=np.zeros((*SHAPE, 4, 8), np.float32),
        grid=PolarGrid(axis=(7.5, 7.5), outer=8.0, n_radial=4, n_azimuthal=8),
        mean_pattern=np.ones((16, 16)),
        calibration=Calibration(**known),
    )


@pytest.fixture
def blobs():
    rng = np.random.default_rng(2)
    y, x = np.meshgrid(*(np.arange(n) * 0.2 for n in SHAPE), indexing="ij")
    potential, field = np.zeros(SHAPE), np.zeros((*SHAPE, 2))
    for at_y, at_x in rng.uniform(-1, 6.6, size=(25, 2)):
        blob = np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / 0.5)
        potential += blob
        field += 4 * blob[..., None] * np.stack([at_y - y, at_x - x], axis=-1)
    return potential, field


@pytest.mark.parametrize("energy", [60e3, 300e3])
def test_momentum_times_velocity(energy):
    momentum = PLANCK_TIMES_LIGHT / wavelength(energy)  # p c in eV
    assert momentum_velocity(energy) == pytest.approx(momentum**2 / (energy + REST), rel=1e-6)
    assert momentum_velocity(1.0) == pytest.approx(2.0, rel=1e-5)


def test_the_field_points_away_from_where_electrons_are_drawn_to():
    field = projected_field(np.array([0.0, 0.5]), 60e3)
    np.testing.assert_allclose(field, [0, -0.5e-3 * 113695.26], rtol=1e-6)
    assert projected_potential(np.array(2.0), 60e3) == pytest.approx(2e-3 * 113695.26)
    with pytest.raises(CalibrationError, match="positive"):
        projected_field(np.zeros(2), -1)


def test_a_given_rotation_is_used(blobs):
    potential, field = blobs
    detected = rotate_vectors(field, np.radians(-30))
    known = {"scan_rotation": np.radians(30), "scan_step": (0.2, 0.2), "energy": 60e3}
    fields = field_maps(measured(detected, potential, **known))
    level = field - field.mean(axis=(0, 1))
    volts = projected_field(level, 60e3)
    np.testing.assert_allclose(fields.maps["field_y"], volts[..., 0], atol=1e-9)
    np.testing.assert_allclose(fields.maps["field_x"], volts[..., 1], atol=1e-9)
    assert np.corrcoef(fields.maps["divergence"].ravel(), potential.ravel())[0, 1] < -0.5
    assert np.abs(fields.maps["curl"]).std() < 0.05 * fields.maps["divergence"].std()
    assert np.corrcoef(fields.maps["integrated_com"].ravel(), potential.ravel())[0, 1] > 0.95
    assert fields.units == {
        "field_y": "V",
        "field_x": "V",
        "divergence": "mrad/Å",
        "curl": "mrad/Å",
        "integrated_com": "mrad·Å",
    }
    assert fields.metrics == {
        "scan_rotation_deg": pytest.approx(30),
        "scan_rotation_uncertainty_deg": None,
        "scan_rotation_source": "given",
        "scan_rotation_ambiguous": None,
        "scan_flipped": False,
    }


@pytest.mark.parametrize("flipped", [False, True])
def test_an_unknown_rotation_is_found(blobs, flipped):
    potential, field = blobs
    detected = rotate_vectors(rotate_vectors(field, np.radians(-140)), 0, flipped=flipped)
    fields = field_maps(measured(detected, potential, scan_step=(0.2, 0.2)))
    np.testing.assert_allclose(fields.maps["field_x"], (field - field.mean(axis=(0, 1)))[..., 1], atol=0.05)
    metrics = fields.metrics
    assert metrics["scan_rotation_deg"] == pytest.approx(140, abs=1)
    assert 0 < metrics["scan_rotation_uncertainty_deg"] < 2
    assert metrics["scan_rotation_source"] == "found"
    assert metrics["scan_rotation_ambiguous"] is False
    assert metrics["scan_flipped"] is flipped
    assert fields.units["field_y"] == "mrad"  # the energy is not known


def test_the_bright_field_stands_in_for_a_dark_field_that_does_not_tell(blobs):
    potential, field = blobs
    noise = np.random.default_rng(0).normal(size=SHAPE)
    made = measured(field, noise, scan_step=(0.2, 0.2))
    assert field_maps(made).rotation.ambiguous
    both = replace(made, maps={**made.maps, "bright_field": 1 - 0.1 * potential})
    assert field_maps(both).metrics["scan_rotation_ambiguous"] is False


def test_pixels_and_steps_stand_in_for_unknown_units(blobs):
    potential, field = blobs
    fields = field_maps(measured(field, potential, unit="px", scan_rotation=0.0, energy=60e3))
    assert fields.units["field_x"] == "px"
    assert fields.units["curl"] == "px/step"
    assert fields.units["integrated_com"] == "px·step"


def test_noise_gets_no_rotation_and_no_maps():
    rng = np.random.default_rng(0)
    fields = field_maps(measured(rng.normal(size=(*SHAPE, 2)), rng.normal(size=SHAPE)))
    assert fields.maps == {}
    assert set(fields.metrics.values()) == {None}
    assert fields.rotation is not None


def test_a_scan_that_is_too_small_is_no_reason_to_stop(blobs):
    potential, field = blobs
    small = measured(field, potential, scan_step=(0.2, 0.2))
    maps = {name: values[:2, :6] for name, values in small.maps.items()}
    assert field_maps(replace(small, maps=maps)).metrics["scan_rotation_source"] is None
    given = replace(small, maps=maps, calibration=Calibration(scan_rotation=0.1))
    assert field_maps(given).maps == {}
    assert field_maps(given).metrics["scan_rotation_source"] == "given"


def test_measurements_with_their_field(blobs):
    potential, field = blobs
    plain = measured(field, potential, scan_rotation=0.0)
    assert set(rotation_metrics(plain).values()) == {None}
    both = add_field(plain)
    assert set(both.maps) - set(plain.maps) == {"field_y", "field_x", "divergence", "curl", "integrated_com"}
    assert set(both.units) == set(both.maps)
    assert rotation_metrics(both)["scan_rotation_deg"] == 0
    assert "field_y" not in plain.maps


def potential_under_probe(dataset, positions_y, positions_x):
    """Graphene's projected potential in V Å convolved with the probe's intensity, summed in Fourier space.

    Independent of the wave optics of `simulate`: scattering factors, and the autocorrelation of the aperture, which is
    the transform of the intensity of a probe in focus.
    """
    known = dataset.calibration
    cut = known.convergence_semiangle * 1e-3 / known.wavelength
    bond = 1.42
    cell = np.array([3 * bond, np.sqrt(3) * bond])
    atoms = dataset.atoms.positions
    inside = np.all((atoms >= 0) & (atoms < cell), axis=1)
    assert inside.sum() == 4
    orders = np.meshgrid(np.arange(-12, 13) / cell[0], np.arange(-12, 13) / cell[1], indexing="ij")
    square = orders[0] ** 2 + orders[1] ** 2
    ratio = np.clip(np.sqrt(square) / (2 * cut), 0, 1)
    overlap = 2 / np.pi * (np.arccos(ratio) - ratio * np.sqrt(1 - ratio**2))
    factor = projected_scattering_factor("C", square) * overlap / cell.prod()
    potential = np.zeros((len(positions_y), len(positions_x)))
    for k_y, k_x, amplitude in zip(orders[0].ravel(), orders[1].ravel(), factor.ravel(), strict=True):
        if amplitude:
            phases = np.exp(-2j * np.pi * (atoms[inside] @ (k_y, k_x))).sum()
            waves = np.exp(2j * np.pi * k_y * positions_y)[:, None] * np.exp(2j * np.pi * k_x * positions_x)
            potential += (amplitude * phases * waves).real
    return potential


def test_integrated_com_of_graphene_is_its_potential_under_the_probe():
    dataset = simulate(scan_shape=(32, 32), scan_extent=(5.6, 5.6))
    measurements = measure(dataset)
    step = dataset.calibration.scan_step
    truth = potential_under_probe(dataset, *(np.arange(32) * step[0], np.arange(32) * step[1]))
    potential = projected_potential(integrate(measurements.com, step, periodic=False), 60e3)
    level = truth - truth.mean()
    assert np.corrcoef(potential.ravel(), level.ravel())[0, 1] > 0.999
    assert np.sum(potential * level) / np.sum(level**2) == pytest.approx(1, abs=0.02)
    volts, expected = projected_field(measurements.com, 60e3), -gradient(truth, step, periodic=False)
    assert np.corrcoef(volts.ravel(), expected.ravel())[0, 1] > 0.99
    assert np.sum(volts * expected) / np.sum(expected**2) == pytest.approx(1, abs=0.03)
    assert dataset.calibration.scan_rotation == 0
    rotation = find_rotation(measurements.deflection, step, measurements.maps["annular_dark_field"])
    assert abs(rotation.angle) < np.radians(0.2)
    assert not rotation.flipped
    assert not rotation.ambiguous
    assert rotation.is_significant
