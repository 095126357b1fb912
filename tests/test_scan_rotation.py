"""Rotation and handedness of the detector, found in fields whose rotation is known; other programs' conventions."""

from pathlib import Path

import numpy as np
import pytest

from stemvane import Calibration, Dataset4D, Measurements, measure, open_dataset
from stemvane.errors import DataError
from stemvane.field.derivatives import rotate_vectors
from stemvane.field.scan_rotation import find_rotation

ROTAVIRUS = Path(__file__).parents[2] / "shared" / "data" / "rotavirus_cryo_127x127.hspy"


def atoms_in_view(shape=(48, 56), step=(0.3, 0.25), seed=0):
    """A potential of blobs at random places, and its gradient: the deflection in the scan, towards the blobs."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.arange(n) * d for n, d in zip(shape, step, strict=True)), indexing="ij")
    potential, field = np.zeros(shape), np.zeros((*shape, 2))
    for at_y, at_x, height in rng.uniform((-2, -2, 0.5), (16, 16, 1.5), size=(60, 3)):
        blob = height * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / 1.5)
        potential += blob
        field += 2 / 1.5 * blob[..., None] * np.stack([at_y - y, at_x - x], axis=-1)
    return potential, field, step


def detected(field, angle, flipped=False):
    """What a detector sees whose `scan_rotation` is `angle` and that is flipped or not."""
    return rotate_vectors(rotate_vectors(field, -angle), 0.0, flipped=flipped)


def difference(angle, other, period=2 * np.pi):
    return abs(np.angle(np.exp(2j * np.pi / period * (angle - other)))) * period / (2 * np.pi)


@pytest.mark.parametrize("degrees", [0, 30, 90, -59, 121, 180, -135])
@pytest.mark.parametrize("flipped", [False, True])
def test_rotation_and_handedness_are_found(degrees, flipped):
    potential, field, step = atoms_in_view()
    deflection = detected(field, np.radians(degrees), flipped)
    np.testing.assert_allclose(rotate_vectors(deflection, np.radians(degrees), flipped=flipped), field, atol=1e-12)
    rotation = find_rotation(deflection, step, potential)
    assert difference(rotation.angle, np.radians(degrees)) < np.radians(0.2)
    assert rotation.is_significant
    assert rotation.flipped is flipped
    assert not rotation.ambiguous
    assert not rotation.flip_ambiguous
    assert rotation.notes == ()
    assert rotation.curl_ratio[int(flipped)] < 0.05 < 0.5 < rotation.curl_ratio[int(not flipped)]


def test_without_scatterers_the_rotation_is_known_up_to_180_degrees():
    _, field, step = atoms_in_view()
    rotation = find_rotation(detected(field, np.radians(150)), step)
    assert rotation.ambiguous
    assert "no map of scatterers" in rotation.notes[0]
    assert -np.pi / 2 < rotation.angle <= np.pi / 2
    assert difference(rotation.angle, np.radians(150), period=np.pi) < np.radians(0.2)


def test_a_map_that_has_nothing_to_do_with_the_field_does_not_settle_180_degrees():
    _, field, step = atoms_in_view()
    rotation = find_rotation(field, step, np.random.default_rng(1).normal(size=field.shape[:2]))
    assert rotation.ambiguous
    assert "does not follow" in rotation.notes[0]


def test_offset_descan_and_noise_do_not_move_the_angle():
    potential, field, step = atoms_in_view()
    rows, columns = np.indices(field.shape[:2])
    descan = np.stack([3 + 0.08 * rows - 0.03 * columns, -5 + 0.05 * columns], axis=-1)
    angle, pulls = np.radians(40), []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=field.shape) * field.std()
        rotation = find_rotation(detected(field, angle) + descan + noise, step, potential)
        assert rotation.is_significant
        assert not rotation.ambiguous
        pulls.append((rotation.angle - angle) / rotation.uncertainty)
    assert np.sqrt(np.mean(np.square(pulls))) < 1.5
    assert abs(np.mean(pulls)) < 0.7


def test_noise_has_no_rotation():
    rng = np.random.default_rng(5)
    rotations = [find_rotation(rng.normal(size=(48, 48, 2)), (1, 1), rng.normal(size=(48, 48))) for _ in range(20)]
    assert not any(one.is_significant for one in rotations)
    assert all(one.ambiguous for one in rotations)


@pytest.mark.parametrize("deflection", [np.zeros((16, 16, 2)), np.full((16, 16, 2), 0.3), np.full((9, 9, 2), np.nan)])
def test_what_is_the_same_everywhere_has_no_rotation(deflection):
    rotation = find_rotation(deflection)
    assert np.isnan(rotation.angle)
    assert rotation.uncertainty == np.inf
    assert not rotation.is_significant
    assert "no direction" in rotation.notes[0]
    assert "unknown" in repr(rotation)
    assert "no direction" in rotation.plot().texts[0].get_text()


def test_a_square_lattice_needs_the_scatterers_for_its_handedness():
    y, x = np.indices((48, 48)) * 2 * np.pi / 9.7
    potential = np.cos(y) + np.cos(x)
    deflection = detected(-np.stack([np.sin(y), np.sin(x)], axis=-1), np.radians(20), flipped=True)
    rotation = find_rotation(deflection, scatterers=potential)
    assert (rotation.flipped, rotation.flip_ambiguous, rotation.ambiguous) == (True, False, False)
    assert difference(rotation.angle, np.radians(20)) < np.radians(0.5)
    blind = find_rotation(deflection)
    assert blind.flip_ambiguous
    assert "flipped" in blind.notes[1]
    assert not blind.is_significant


def test_positions_without_a_value_are_left_out():
    potential, field, step = atoms_in_view()
    field[10:15, 20:23] = np.nan
    potential[30, 30] = np.nan
    rotation = find_rotation(detected(field, np.radians(70)), step, potential)
    assert difference(rotation.angle, np.radians(70)) < np.radians(0.3)
    assert not rotation.ambiguous


def test_the_same_field_gives_the_same_numbers():
    potential, field, step = atoms_in_view()
    assert find_rotation(field, step, potential) == find_rotation(field.copy(), step, potential.copy())


@pytest.mark.parametrize(
    ("field", "scatterers", "words"),
    [
        (np.zeros((9, 9)), None, "scan_y, scan_x, 2"),
        (np.zeros((9, 7, 2)), None, "too small"),
        (np.zeros((9, 9, 2)), np.zeros((9, 8)), "scatterers"),
    ],
)
def test_what_is_no_field_is_refused(field, scatterers, words):
    with pytest.raises(DataError, match=words):
        find_rotation(field, scatterers=scatterers)


# Other programs. Each test puts a field on the detector by the program's own published formula, and asks whether the
# table in docs/conventions.md gives its number from ours.


@pytest.mark.parametrize("degrees", [30, -30, 140])
@pytest.mark.parametrize("flip_y", [False, True])
def test_convention_of_libertem(degrees, flip_y):
    """`CoMUDF.with_params(scan_rotation, flip_y)`: "a positive value rotates the displacement vector clock-wise".

    libertem.udf.com.apply_correction multiplies (y, x) by ``rotate_deg(scan_rotation) @ flip_y()``, right to left, with
    rotate = [[cos, sin], [-sin, cos]] and flip_y = [[-1, 0], [0, 1]] (libertem.corrections.coordinates).
    """
    potential, field, step = atoms_in_view()
    angle = np.radians(degrees)
    correction = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    correction = correction @ np.diag([-1.0 if flip_y else 1.0, 1.0])
    deflection = field @ np.linalg.inv(correction).T
    rotation = find_rotation(deflection, step, potential)
    assert difference(rotation.angle, -angle) < np.radians(0.2)
    assert rotation.flipped is flip_y


@pytest.mark.parametrize("degrees", [30, -30, 80])
@pytest.mark.parametrize("transpose", [False, True])
def test_convention_of_py4dstem(degrees, transpose):
    """`DPC.preprocess(force_com_rotation, force_com_transpose)`, in degrees; its x are rows, its y columns.

    PhaseReconstruction._solve_for_center_of_mass_relative_rotation: ``com_x = cos·x - sin·y, com_y = sin·x + cos·y``,
    with x and y exchanged on the right hand side where the patterns are to be transposed.
    """
    potential, field, step = atoms_in_view()
    angle = np.radians(degrees)
    correction = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if transpose:
        correction = correction @ np.array([[0.0, 1.0], [1.0, 0.0]])
    deflection = field @ np.linalg.inv(correction).T
    rotation = find_rotation(deflection, step, potential)
    assert difference(rotation.angle, angle - np.pi / 2 * transpose) < np.radians(0.2)
    assert rotation.flipped is transpose


@pytest.mark.parametrize("degrees", [30, -110])
def test_convention_of_pyxem(degrees):
    """`BeamShift.rotate_beam_shifts(angle)`, "clockwise rotation in degrees", of the shifts that centre the beam.

    ``x_new = x cos - y sin, y_new = x sin + y cos``; shifts are ``(x, y)`` and the negative COM.
    """
    potential, field, step = atoms_in_view()
    angle = np.radians(degrees)
    shifts = -field[..., ::-1] @ np.linalg.inv([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).T
    rotation = find_rotation(-shifts[..., ::-1], step, potential)
    assert difference(rotation.angle, -angle) < np.radians(0.2)
    assert not rotation.flipped


@pytest.mark.parametrize(("quarters", "flipped"), [(0, False), (1, False), (2, False), (3, True)])
def test_patterns_that_were_rotated(quarters, flipped):
    """From patterns on: a detector turned by np.rot90 needs the opposite rotation."""
    potential, field, step = atoms_in_view((20, 24), (0.5, 0.5), seed=3)
    k_y, k_x = np.indices((17, 17)) - 8.0
    shifts = field[..., None, None]
    patterns = np.exp(-((k_y - shifts[:, :, 0]) ** 2 + (k_x - shifts[:, :, 1]) ** 2) / 8)
    recorded = np.rot90(patterns, quarters, axes=(2, 3))
    recorded = recorded[:, :, ::-1] if flipped else recorded
    calibration = Calibration(scan_step=step, optical_axis=(8, 8), disc_radius=6)
    rotation = find_rotation(
        measure(Dataset4D.from_array(recorded, calibration=calibration)).deflection, step, potential
    )
    assert difference(rotation.angle, -quarters * np.pi / 2) < np.radians(1)
    assert rotation.flipped is flipped


@pytest.fixture(scope="module")
def rotavirus() -> Measurements:
    known = {"scan_step": (31.25, 31.25), "optical_axis": (31.1, 31.6), "disc_radius": 15.1}
    return measure(open_dataset(ROTAVIRUS).recalibrate(**known))


@pytest.mark.skipif(not ROTAVIRUS.exists(), reason="the recorded rotavirus scan is not beside the repository")
@pytest.mark.parametrize("name", ["annular_dark_field", "bright_field"])
def test_rotavirus(rotavirus, name):
    """59° and 60° in a frame of x right and y down, measured twice elsewhere: −59 ± 3° here, half a turn open.

    The field then points from the ice, the brighter in the dark field, so the half turn is to be added.
    """
    scatterers = rotavirus.maps[name] * (-1 if name == "bright_field" else 1)
    rotation = find_rotation(rotavirus.deflection, rotavirus.calibration.scan_step, scatterers)
    assert difference(rotation.angle, np.radians(-59), period=np.pi) < np.radians(3)
    assert np.radians(0.3) < rotation.uncertainty < np.radians(3)
    assert difference(rotation.angle, np.radians(121)) < np.radians(3)
    assert rotation.is_significant
    assert not rotation.flipped
    assert not rotation.ambiguous
    assert not rotation.flip_ambiguous
