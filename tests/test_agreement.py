"""Agreement with the COM, on fields whose answer is known."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from stemvane.config import MeasureConfig
from stemvane.data.calibration import Calibration
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.evaluation.com_agreement import (
    compare,
    compare_angles,
    explained_variance,
    neighbour_mean,
)
from stemvane.evaluation.invariance import invariance, measure_invariance, rotate_patterns
from stemvane.geometry.polar import PolarGrid
from stemvane.io.atomic import plain
from stemvane.reduction.measure import measure
from stemvane.simulation.synthetic import synthetic


def vectors(length, direction):
    """Vectors (y, x) with y growing downwards, from directions counter-clockwise on the screen."""
    return np.stack([-length * np.sin(direction), length * np.cos(direction)], axis=-1)


@pytest.fixture
def directions():
    return np.random.default_rng(0).uniform(-np.pi, np.pi, (20, 30))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("offset", [0.0, 40.0, -170.0])
def test_sign_and_offset_are_found(directions, sign, offset):
    length = np.random.default_rng(1).uniform(0.5, 2, directions.shape)
    angle = sign * directions + np.radians(offset) + 2 * np.pi
    agreement = compare_angles(angle, vectors(length, directions), noiseless=True)
    assert agreement.sign == sign
    assert agreement.offset_deg == pytest.approx(offset)
    assert agreement.error_median_deg == pytest.approx(0, abs=1e-9)
    assert agreement.error_mean_deg == pytest.approx(0, abs=1e-9)


def test_a_direction_is_counter_clockwise_on_the_screen():
    up, right = [-1.0, 0.0], [0.0, 1.0]
    agreement = compare_angles(np.radians([90.0, 0.0, 90.0]), np.array([up, right, up]), noiseless=True)
    assert (agreement.sign, agreement.offset_deg) == (1, pytest.approx(0))


def test_errors_are_absolute_and_on_the_circle(directions):
    wrong = np.where(np.arange(directions.size).reshape(directions.shape) % 2, 1, -1) * np.radians(10)
    agreement = compare_angles(directions + wrong, vectors(1.0, directions), noiseless=True)
    assert agreement.error_median_deg == pytest.approx(10, abs=0.1)
    assert agreement.error_mean_deg == pytest.approx(10, abs=0.1)


def test_the_mean_is_weighted_and_the_median_leaves_out_short_vectors():
    length = np.r_[np.full(4, 10.0), np.full(6, 1.9)]
    error = np.radians(np.r_[20.0, -20.0, 20.0, -20.0, np.full(6, 0.0)])
    direction = np.zeros(10)
    agreement = compare_angles(direction + error, vectors(length, direction), noiseless=True)
    assert agreement.offset_deg == pytest.approx(0)
    # the six short ones are below 20 % of the longest
    assert agreement.error_median_deg == pytest.approx(20)
    assert agreement.error_mean_deg == pytest.approx(20 * 40 / (40 + 6 * 1.9))


def test_the_threshold_of_noisy_fields_does_not_follow_one_outlier():
    length = np.full(200, 1.0)
    length[0] = 100.0
    direction = np.zeros(200)
    error = np.radians(np.where(np.arange(200) % 2, 8.0, -8.0))
    error[0] = 0.0
    field = vectors(length, direction)
    assert compare_angles(error, field, noiseless=True).error_median_deg == pytest.approx(0, abs=1)
    assert compare_angles(error, field, noiseless=False).error_median_deg == pytest.approx(8, abs=1)


def test_nan_is_left_out(directions):
    field = vectors(np.ones(directions.shape), directions)
    angle = directions + 0.3
    angle[0], field[1] = np.nan, np.nan
    agreement = compare_angles(angle, field, noiseless=False)
    assert agreement.offset_deg == pytest.approx(np.degrees(0.3))
    assert agreement.error_median_deg == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("noiseless", [True, False])
@pytest.mark.parametrize(("angle", "field"), [(np.nan, 1.0), (0.0, 0.0), (0.0, np.nan)])
def test_where_nothing_can_be_compared_no_sign_is_made_up(angle, field, noiseless):
    agreement = compare_angles(np.full((3, 3), angle), np.full((3, 3, 2), field), noiseless=noiseless)
    assert agreement.sign is None
    assert np.isnan([agreement.offset_deg, agreement.error_median_deg, agreement.error_mean_deg]).all()


def test_metrics_have_no_sign_without_an_angle(blobs):
    patterns, axis, _ = blobs
    measurements = scan(patterns, axis, (6, 6))
    metrics = plain(compare(embedding_of(np.zeros((6, 6, 1)), np.full((6, 6), np.nan)), measurements))
    missing = {key for key in metrics if key.startswith("angle_")}
    assert {metrics[key] for key in missing} == {None}
    assert {"angle_sign", "angle_sign_neighbours", "angle_sign_truth", "angle_offset_deg"} <= missing
    assert metrics["com_angle_error_median_deg_truth"] == pytest.approx(0)


def test_the_mean_of_the_neighbours_leaves_the_centre_out():
    rng = np.random.default_rng(0)
    field = rng.normal(size=(6, 5, 2))
    means = neighbour_mean(field)
    for y, x in np.ndindex(6, 5):
        around = [
            field[j, i]
            for j in range(max(y - 1, 0), min(y + 2, 6))
            for i in range(max(x - 1, 0), min(x + 2, 5))
            if (j, i) != (y, x)
        ]
        np.testing.assert_allclose(means[y, x], np.mean(around, axis=0), atol=1e-12)
    np.testing.assert_allclose(neighbour_mean(field[..., 0]), means[..., 0])
    np.testing.assert_allclose(neighbour_mean(np.ones((4, 1, 2))), 1)


def around(axis, aspect=1.0):
    return PolarGrid(axis=axis, outer=5.0, n_radial=5, n_azimuthal=16, aspect=aspect)


def test_explained_variance():
    whole = np.array([1.0, 3.0])
    assert explained_variance(np.zeros(2), whole) == 1
    assert explained_variance(whole, whole) == 0
    assert explained_variance(np.array([1.0, 0.0]), whole) == pytest.approx(0.75)
    assert explained_variance(4 * whole, whole) == pytest.approx(-3)


def test_a_rotation_by_90_degrees_is_rot90():
    rng = np.random.default_rng(0)
    patterns = rng.uniform(1, 2, (3, 17, 17))
    mean = rng.uniform(5, 6, (17, 17))
    for quarters in (1, 2, 3):
        results = rotate_patterns(patterns, np.full(3, quarters * np.pi / 2), mean, around((8, 8)))
        for pattern, result in zip(patterns, results, strict=True):
            np.testing.assert_allclose(result, np.rot90(pattern - mean, quarters) + mean, rtol=1e-5)
    np.testing.assert_allclose(rotate_patterns(patterns, np.zeros(3), mean, around((8, 8))), patterns, rtol=1e-5)


@pytest.mark.parametrize("aspect", [1.0, 1.5])
@pytest.mark.parametrize("degrees", [30, 90, -75, 200])
def test_content_moves_counter_clockwise_on_the_screen(degrees, aspect):
    axis = (20.3, 24.6)
    rows, columns = np.indices((41, 49))
    up, right = -(rows - axis[0]) * aspect, columns - axis[1]
    blob = np.exp(-((right - 12) ** 2 + up**2) / 8)
    mean = np.full(blob.shape, 0.5)
    rotated = rotate_patterns((mean + blob)[None], np.radians([degrees]), mean, around(axis, aspect))[0]
    content = rotated - mean
    centre = np.array([np.sum(content * right), np.sum(content * up)]) / content.sum()
    np.testing.assert_allclose(
        centre, 12 * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]), atol=0.1
    )
    assert rotated.dtype == np.float32


def test_rotated_intensities_are_never_negative():
    pattern = np.zeros((15, 15))
    pattern[5, 9] = 1
    rotated = rotate_patterns(pattern[None], np.array([0.4]), np.zeros((15, 15)), around((7, 7)))
    assert rotated.min() == 0


def scan(patterns, axis, shape):
    """Measurements as far as `invariance` and `compare` need them."""
    y, x = np.indices(patterns.shape[1:])
    total = patterns.sum(axis=(1, 2))
    com = [np.reshape((patterns * at).sum(axis=(1, 2)) / total, shape) for at in (y - axis[0], x - axis[1])]
    return Measurements(
        maps={"total": total.reshape(shape), "com_y": com[0], "com_x": com[1]},
        units={"total": "counts", "com_y": "px", "com_x": "px"},
        polar=None,
        grid=PolarGrid(axis=axis, outer=20, n_radial=4, n_azimuthal=8),
        mean_pattern=patterns.mean(axis=0),
        calibration=Calibration(optical_axis=axis, disc_radius=10),
        noiseless=True,
    )


@pytest.fixture(scope="module")
def blobs():
    """A fixed bright disc and a blob beside its centre at a direction of its own in each of 36 patterns."""
    axis = (20.0, 20.0)
    direction = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    rows, columns = np.indices((41, 41))
    up, right = -(rows - axis[0]), columns - axis[1]
    disc = 2 / (1 + np.exp(np.hypot(up, right) - 14))
    blob = [np.exp(-((right - 7 * np.cos(d)) ** 2 + (up - 7 * np.sin(d)) ** 2) / 12) for d in direction]
    return disc + np.array(blob), axis, direction


def test_an_ideal_encoder_has_no_error_and_a_broken_one_a_large_one(blobs):
    patterns, axis, _ = blobs
    measurements = scan(patterns, axis, (6, 6))
    rows, columns = np.indices(patterns.shape[1:])

    def ideal(inputs):
        content = inputs - measurements.mean_pattern
        y, x = (np.sum(content * (at - c), axis=(1, 2)) for at, c in zip((rows, columns), axis, strict=True))
        return np.sum(content**2, axis=(1, 2))[:, None] ** 0.5, np.arctan2(-y, x)

    change, error = invariance(ideal, patterns, measurements, seed=3)
    assert change < 0.02
    assert error < 0.3
    assert (change, error) == invariance(ideal, patterns, measurements, seed=3)

    def blind(inputs):
        return inputs[:, 20, 27][:, None], np.zeros(len(inputs))

    change, error = invariance(blind, patterns, measurements)
    assert change > 0.2
    assert invariance(blind, patterns, measurements, spread=np.array([0.5]))[0] == pytest.approx(2 * change)
    assert error > 60

    def mirrored(inputs):
        latents, angle = ideal(inputs)
        return latents, -angle

    assert invariance(mirrored, patterns, measurements)[1] > 60
    assert np.isnan(
        invariance(lambda inputs: (np.empty((len(inputs), 0)), ideal(inputs)[1]), patterns, measurements)[0]
    )


def embedding_of(latents, angle):
    ones = np.ones(angle.shape)
    return Embedding(latents, np.ones(latents.shape), angle, ones, np.ones((*angle.shape, 4)) / 4, ones)


def test_compare_against_every_reference(blobs):
    patterns, axis, direction = blobs
    shape = (6, 6)
    measurements = scan(patterns, axis, shape)
    magnitude = np.random.default_rng(0).uniform(1, 2, shape)
    field = vectors(magnitude, direction.reshape(shape))
    field -= field.mean(axis=(0, 1))
    maps = {**measurements.maps, "com_y": field[..., 0], "com_x": field[..., 1]}
    measurements = Measurements(**{**measurements.__dict__, "maps": maps})
    length = measurements.com_magnitude
    latents = np.stack([-3 * length + 1, np.full(shape, 0.1, np.float32), -length + direction.reshape(shape)], axis=-1)
    metrics = compare(embedding_of(latents, measurements.com_angle + 0.5), measurements)
    assert metrics["pearson_r_first"] == pytest.approx(-1)
    assert (metrics["angle_sign"], metrics["angle_offset_deg"]) == (1, pytest.approx(np.degrees(0.5)))
    assert metrics["angle_error_median_deg_truth"] == pytest.approx(0, abs=1e-5)
    assert metrics["com_angle_error_median_deg_truth"] == pytest.approx(0, abs=1e-5)
    assert metrics["com_pearson_r_truth"] == pytest.approx(1)
    assert metrics["angle_error_median_deg_neighbours"] > 1
    # a latent that never changes has no r, and JSON says null
    assert np.isnan(metrics["pearson_r"][1])
    written = json.loads(json.dumps(plain(metrics), allow_nan=False))
    assert written["pearson_r"][1] is None
    assert written["pearson_r_others_max"] == pytest.approx(abs(metrics["pearson_r"][2]))

    without = compare(embedding_of(np.empty((*shape, 0)), measurements.com_angle), measurements)
    assert without["pearson_r"] == []
    assert without["pearson_r_first"] is without["pearson_r_others_max"] is None


def test_the_noiseless_com_is_the_truth_where_it_is_known(blobs):
    patterns, axis, direction = blobs
    clean = scan(patterns, axis, (6, 6))
    noise = np.random.default_rng(0).normal(0, 0.05, (2, 6, 6))
    maps = {**clean.maps, "com_y": clean.maps["com_y"] + noise[0], "com_x": clean.maps["com_x"] + noise[1]}
    noisy = Measurements(**{**clean.__dict__, "maps": maps, "noiseless": False, "expectation": clean})
    metrics = compare(embedding_of(np.zeros((6, 6, 1)), direction.reshape(6, 6)), noisy)
    assert metrics["angle_error_median_deg_truth"] < 1
    assert metrics["angle_error_median_deg"] > 3
    assert metrics["com_angle_error_median_deg_truth"] > 3
    # what has been estimated from the neighbours is not held against them; the COM itself is
    embedding = replace(embedding_of(np.zeros((6, 6, 1)), direction.reshape(6, 6)), uses_neighbours=True)
    together, by_neighbours = compare(embedding, noisy), [key for key in metrics if key.endswith("_neighbours")]
    for key in by_neighbours:
        assert (together[key] is None) is not key.startswith("com_"), key
    assert all(plain(together)[key] == plain(metrics)[key] for key in metrics if key not in by_neighbours)
    real = Measurements(**{**noisy.__dict__, "expectation": None})
    metrics = compare(embedding_of(np.zeros((6, 6, 1)), direction.reshape(6, 6)), real)
    assert {key for key in metrics if key.endswith("_truth")} == {
        *(key.replace("_neighbours", "_truth") for key in metrics if key.endswith("_neighbours")),
        "filtered_com_angle_error_median_deg_truth",
        "filtered_com_pearson_r_truth",
    }
    assert all(value is None for key, value in metrics.items() if key.endswith("_truth"))


def test_rotated_patterns_are_measured_on_the_rings_of_a_scan_whose_beam_shifts():
    dataset, _ = synthetic((4, 4), (32, 32), dose=1e4)
    scan = measure(replace(dataset, beam_shift=((3.0, 0.0), (0.0, 2.0))), progress=False)
    assert scan.grid.outer < measure(dataset, progress=False).grid.outer
    grids = []

    def embed(measurements, rescale):
        grids.append(measurements.grid)
        return SimpleNamespace(latents=np.zeros((1, 16, 1)), angle=np.zeros((1, 16)))

    patterns = dataset.data.compute().reshape(-1, 32, 32)
    embedding = SimpleNamespace(latents=np.ones((4, 4, 1)), symmetry=1)
    measure_invariance(SimpleNamespace(embed=embed), embedding, scan, patterns, MeasureConfig())
    for grid in grids:
        assert (grid.n_radial, grid.n_azimuthal) == (scan.grid.n_radial, scan.grid.n_azimuthal)
        assert grid.outer == pytest.approx(scan.grid.outer)
    assert len(grids) == 2
