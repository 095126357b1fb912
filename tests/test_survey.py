"""The survey: disc, axis, bad pixels and beam shift from a strided look, against known truth."""

from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from stemvane.config import SurveyConfig
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.errors import CalibrationError
from stemvane.geometry.disc import find_disc
from stemvane.io.files import open_dataset
from stemvane.reduction.bad_pixels import bad_pixels
from stemvane.reduction.survey import survey
from stemvane.reduction.virtual_detectors import VirtualDetector
from stemvane.simulation.simulate import simulate

ROTAVIRUS = Path(__file__).parents[2] / "shared" / "data" / "rotavirus_cryo_127x127.hspy"


def disc_pattern(n, axis, radius, aspect=1.0, floor=1e-3):
    pattern = VirtualDetector.disc("disc", (n, n), axis, radius, aspect).weights + floor
    return pattern / pattern.sum()


def counted(pattern, dose, scan=(8, 8), seed=0):
    return (
        np.random.default_rng(seed).poisson(np.broadcast_to(pattern * dose, (*scan, *pattern.shape))).astype(np.uint16)
    )


@pytest.mark.parametrize("dose", [2000, 100_000])
@pytest.mark.parametrize(("n", "radius"), [(32, 4.0), (64, 15.03), (128, 60.0)])
@pytest.mark.parametrize("aspect", [1.0, 1.3])
def test_disc_to_a_tenth_of_a_pixel(n, radius, dose, aspect):
    axis = (0.5 * n - 0.5 + 0.37, 0.5 * n - 0.5 - 0.21)
    data = counted(disc_pattern(n, axis, radius, aspect), dose, scan=(16, 16))
    outcome = survey(Dataset4D.from_array(data, calibration=Calibration(pixel_size=(aspect, 1.0))))
    assert outcome.has_disc
    assert outcome.disc_centre == pytest.approx(axis, abs=0.1)
    assert outcome.disc_radius == pytest.approx(radius, abs=0.1)
    assert outcome.counts_mean == pytest.approx(dose, rel=0.01)
    assert len(outcome.hot_pixels) == len(outcome.dead_pixels) == 0
    assert not outcome.notes


def test_disc_cut_by_the_edge_of_the_detector():
    circle = find_disc(disc_pattern(64, (14.2, 31.4), 20.0))
    assert circle.centre == pytest.approx((14.2, 31.4), abs=0.1)
    assert circle.radius == pytest.approx(20.0, abs=0.1)


def test_disc_with_uneven_levels_and_side_discs():
    _, x = np.indices((96, 96))
    pattern = disc_pattern(96, (47.3, 48.1), 14.0) * (1 + 0.01 * (x - 48)) + 0.05 * disc_pattern(96, (47.3, 83.0), 14.0)
    circle = find_disc(pattern)
    assert circle.centre == pytest.approx((47.3, 48.1), abs=0.1)
    assert circle.radius == pytest.approx(14.0, abs=0.1)


@pytest.mark.parametrize("level", [0.0, 0.1, 10.0, 1000.0])
def test_no_disc_in_flat_patterns(level):
    outcome = survey(Dataset4D.from_array(counted(np.full((64, 64), 1.0), level)))
    assert not outcome.has_disc
    assert any("no bright-field disc" in note for note in outcome.notes)
    with pytest.raises(CalibrationError, match=r"optical_axis is unknown; give source\.optical_axis in pixels") as info:
        outcome.complete(Calibration())
    assert "\n" not in str(info.value)
    with pytest.raises(CalibrationError, match=r"give source\.disc_radius in pixels"):
        outcome.complete(Calibration(optical_axis=(31.5, 31.5)))
    known = Calibration(optical_axis=(31.5, 31.5), disc_radius=10)
    assert outcome.complete(known) == known


def test_no_disc_in_a_slope():
    _, x = np.indices((64, 64), dtype=float)
    assert find_disc(1 + x / 64) is None
    assert find_disc(np.ones((64, 64))) is None


def test_completed_fills_only_what_is_missing():
    data = counted(disc_pattern(64, (31.2, 30.6), 15.0), 20_000)
    outcome = survey(Dataset4D.from_array(data))
    assert outcome.complete(Calibration()).disc_radius == outcome.disc_radius
    assert outcome.complete(Calibration()).pixel_size is None
    full = outcome.complete(Calibration(convergence_semiangle=30.0, energy=60e3))
    assert full.pixel_size == pytest.approx((2.0, 2.0), rel=0.01)
    assert full.optical_axis == outcome.disc_centre
    assert full.energy == 60e3
    angles = outcome.complete(Calibration(convergence_semiangle=30.0, pixel_size=(2.5, 3.0), optical_axis=(31.0, 31.0)))
    assert angles.disc_radius == 10.0
    assert angles.optical_axis == (31.0, 31.0)
    known = Calibration(disc_radius=14.0, convergence_semiangle=28.0)
    assert outcome.complete(known).disc_radius == 14.0
    assert outcome.complete(known).pixel_size == (2.0, 2.0)


def test_contradictions_are_noted():
    data = counted(disc_pattern(64, (31.2, 30.6), 15.0), 20_000)
    wrong = Calibration(convergence_semiangle=30.0, pixel_size=(3.0, 3.0), optical_axis=(20.0, 20.0))
    notes = survey(Dataset4D.from_array(data, calibration=wrong)).notes
    assert any("calibration says 10.00 px" in note for note in notes)
    assert any("calibration says (20.00, 20.00) px" in note for note in notes)


def test_hot_and_dead_pixels():
    data = counted(disc_pattern(64, (31.2, 30.6), 15.0), 20_000)
    hot, dead = [(3, 4), (30, 31), (30, 32), (0, 63)], [(28, 29), (35, 22)]
    for y, x in hot:
        data[:, :, y, x] += 200
    for y, x in dead:
        data[:, :, y, x] = 0
    outcome = survey(Dataset4D.from_array(data))
    assert sorted(map(tuple, outcome.hot_pixels.tolist())) == sorted(hot)
    assert sorted(map(tuple, outcome.dead_pixels.tolist())) == sorted(dead)
    assert outcome.disc_centre == pytest.approx((31.2, 30.6), abs=0.1)
    assert outcome.disc_radius == pytest.approx(15.0, abs=0.1)
    assert outcome.pixel_max >= 200


@pytest.mark.parametrize("radius", [2.0, 3.0, 4.5, 8.3])
def test_edges_of_small_discs_are_no_bad_pixels(radius):
    for shift in np.random.default_rng(0).uniform(-0.5, 0.5, (20, 2)):
        pattern = disc_pattern(32, tuple(16 + shift), radius)
        hot, dead = bad_pixels(pattern, np.zeros_like(pattern))
        assert len(hot) == len(dead) == 0


def test_beam_shift():
    rng = np.random.default_rng(1)
    scan = (12, 15)
    data = np.empty((*scan, 48, 48), np.uint16)
    for y, x in np.ndindex(scan):
        across, down = x / 14 - 0.5, y / 11 - 0.5
        axis = (23.5 + 0.8 * down - 0.3 * across, 23.2 + 0.5 * down + 1.2 * across)
        data[y, x] = rng.poisson(20_000 * disc_pattern(48, axis, 12.0))
    data[3, 4] = rng.poisson(20_000 * disc_pattern(48, (28.0, 28.0), 12.0))
    outcome = survey(Dataset4D.from_array(data))
    assert outcome.beam_shift_along_y == pytest.approx((0.8, 0.5), abs=0.05)
    assert outcome.beam_shift_along_x == pytest.approx((-0.3, 1.2), abs=0.05)


def test_damaged_patterns_are_noted_and_do_not_stop_it():
    data = counted(disc_pattern(64, (31.2, 30.6), 15.0), 20_000).astype(float)
    data[1, 1, 5, 5] = np.nan
    data[2, 2] = 0
    data[3, 3, 0, 0] = -1
    outcome = survey(Dataset4D.from_array(data))
    assert outcome.disc_centre == pytest.approx((31.2, 30.6), abs=0.1)
    assert outcome.counts_min == 0
    assert [finding.id for finding in outcome.findings] == ["empty_patterns"]
    assert "2 of 64 patterns are empty or hold NaN" in outcome.notes[0]
    assert outcome.n_empty == 2
    nothing = survey(Dataset4D.from_array(np.full((4, 4, 16, 16), np.nan)))
    assert not nothing.has_disc
    assert np.isnan(nothing.counts_mean)


@pytest.mark.parametrize("scan", [(1, 1), (1, 900), (64, 64), (127, 127), (300, 4)])
def test_looks_at_regular_strides(scan):
    blocks = []

    def make(block_info=None):
        blocks.append(1)
        return np.broadcast_to(disc_pattern(16, (7.5, 7.5), 4.0), block_info[None]["chunk-shape"])

    chunks = tuple((1,) * n for n in scan)
    data = da.map_blocks(make, chunks=(*chunks, (16,), (16,)), dtype=float, meta=np.empty((0, 0, 0, 0)))
    outcome = survey(Dataset4D.from_array(data), SurveyConfig(n_frames=64))
    assert min(scan[0] * scan[1], 40) <= outcome.n_frames <= 110
    assert len(blocks) == outcome.n_frames


@pytest.mark.skipif(not ROTAVIRUS.exists(), reason="the recorded rotavirus scan is not beside the repository")
def test_rotavirus():
    dataset = open_dataset(ROTAVIRUS)
    outcome = survey(dataset)
    assert outcome.disc_centre == pytest.approx((31.1, 31.6), abs=0.3)
    assert outcome.disc_radius == pytest.approx(15.1, abs=0.3)
    assert outcome.counts_mean == pytest.approx(91_000, rel=0.02)
    assert outcome.complete(dataset.calibration).disc_radius == pytest.approx(15.125, abs=0.01)


@pytest.mark.parametrize("dose", [None, 2e4])
def test_the_disc_of_graphene_is_found_to_a_tenth_of_a_pixel(dose):
    known = simulate(scan_shape=(12, 12), scan_extent=(4.3, 4.9), dose=dose)
    outcome = survey(known)
    np.testing.assert_allclose(outcome.disc_centre, known.calibration.optical_axis, atol=0.1)
    assert outcome.disc_radius == pytest.approx(known.calibration.disc_radius, abs=0.1)
    # nothing in a clean simulation is a bad pixel
    assert len(outcome.hot_pixels) == len(outcome.dead_pixels) == 0


def test_saturated_and_missing_patterns_are_noted():
    rng = np.random.default_rng(0)
    counts = rng.poisson(60.0, (4, 4, 16, 16))
    assert not any("saturate" in note for note in survey(Dataset4D.from_array(counts.astype(np.uint16))).notes)
    clipped = np.minimum(counts, 63).astype(np.uint8)
    assert any("stop at 63" in note for note in survey(Dataset4D.from_array(clipped)).notes)
    full = np.minimum(4 * counts, 255).astype(np.uint8)
    assert any("largest uint8" in note for note in survey(Dataset4D.from_array(full)).notes)
    counts[2:] = 0
    missing = np.arange(16).reshape(4, 4) >= 8
    outcome = survey(replace(Dataset4D.from_array(counts), missing=missing))
    assert outcome.n_frames == 8
    assert not any("empty" in note for note in outcome.notes)


def test_a_disc_that_touches_the_border_has_no_bad_pixels():
    rows, columns = np.indices((8, 8)) - 3.5
    mean = 100.0 * (np.hypot(rows, columns) < 3.6) + 1
    hot, dead = bad_pixels(mean, np.full((8, 8), 0.1))
    assert len(hot) == len(dead) == 0
