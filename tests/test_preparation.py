"""Preparation: every switch on data whose answer is known."""

import math

import numpy as np
import pytest

from stemvane import Calibration, Dataset4D, measure, open_dataset, prepare_scan, save_dataset, simulate, survey
from stemvane.config import Config
from stemvane.data.dataset import ScanAtoms, ScanDefects
from stemvane.errors import ConfigError, DataError
from stemvane.reduction.preparation import correct_patterns, preprocess_patterns

AT = np.array([[4.0, 9.0]])


def config(**values):
    return Config.from_dict({"preparation": values}).preparation


@pytest.fixture
def dataset():
    """Counts with a bright spot at pixel (3, 8) of 10 x 12, probe positions of 5 x 6."""
    counts = np.random.default_rng(0).integers(0, 50, (5, 6, 10, 12)).astype(np.uint16)
    counts[..., 3, 8] += 1000
    return Dataset4D.from_array(
        counts,
        calibration=Calibration(
            scan_step=(2.0, 3.0), pixel_size=(1.0, 0.5), optical_axis=(3.0, 8.0), disc_radius=4.0, energy=6e4
        ),
        expectation=counts.astype(np.float32),
        image=np.arange(30.0).reshape(5, 6),
        atoms=ScanAtoms(np.array([7]), AT, np.zeros(1), defects=ScanDefects(("N",), AT, *np.zeros((2, 1)), AT, [0])),
        electrons_per_pattern=100.0,
    )


@pytest.mark.parametrize(("factor", "place"), [(1e200, ()), (1e-200, ()), (np.float32(1e30), (3, 5)), (-1e30, (3, 5))])
def test_numbers_that_no_detector_counts_are_refused(factor, place):
    patterns = np.random.default_rng(0).poisson(20.0, (8, 8, 24, 24)).astype(float)
    patterns[..., 6:18, 6:18] *= 10
    patterns[(*place, Ellipsis)] *= factor
    with pytest.raises(DataError, match="no detector counts"):
        survey(patterns)
    known = Calibration(optical_axis=(11.5, 11.5), disc_radius=6.0)
    with pytest.raises(DataError, match="no detector counts"):
        measure(Dataset4D.from_array(patterns, calibration=known))


@pytest.mark.parametrize(("factor", "fires"), [(1.0, False), (2.0, True), (0.5, True)])
def test_a_dark_image_of_another_exposure_is_said(tmp_path, factor, fires):
    detector = {"preset": "analogue", "dead_share": 0.0}
    scan = simulate(scan_shape=(12, 12), scan_extent=(2.0, 2.0), detector_shape=(32, 32), dose=2e4, detector=detector)
    np.save(tmp_path / "dark.npy", factor * scan.truth.dark_frame)
    prepared = prepare_scan(Dataset4D(scan.data.compute()), dark=tmp_path / "dark.npy")
    assert ("dark_image" in [finding.id for finding in prepared.findings]) == fires


def test_patterns_without_a_beam_are_missing_also_on_a_dark_level():
    detector = {"preset": "analogue", "dead_share": 0.0}
    scan = simulate(scan_shape=(12, 12), scan_extent=(2.0, 2.0), detector_shape=(32, 32), dose=2e4, detector=detector)
    counts = scan.data.compute()
    dark = np.random.default_rng(1).normal(scan.truth.dark_frame, 5.0, (12, 32, 32))
    counts[5] = np.rint(dark)
    recorded = Dataset4D.from_array(counts, calibration=Calibration(energy=60e3, convergence_semiangle=31.0))
    measured = measure(prepare_scan(recorded))
    np.testing.assert_array_equal(np.argwhere(~measured.recorded)[:, 0], [5] * 12)
    assert not measured.polar[5].any()
    assert [finding.id for finding in measured.findings if finding.id == "missing_patterns"]


def test_nothing_is_done_where_nothing_is_asked_for(dataset):
    same, record = preprocess_patterns(dataset, config())
    assert same is dataset
    assert record == {}


@pytest.mark.parametrize(
    ("switches", "expected", "axis"),
    [
        ({"flip_y": True}, np.s_[::-1, :], (6.0, 8.0)),
        ({"flip_x": True}, np.s_[:, ::-1], (3.0, 3.0)),
        ({"flip_y": True, "flip_x": True}, np.s_[::-1, ::-1], (6.0, 3.0)),
    ],
)
def test_flips_take_the_axis_along(dataset, switches, expected, axis):
    flipped, record = preprocess_patterns(dataset, config(**switches))
    np.testing.assert_array_equal(flipped.pattern(1, 2), dataset.pattern(1, 2)[expected])
    np.testing.assert_array_equal(flipped.expectation[1, 2], dataset.pattern(1, 2)[expected])
    assert flipped.calibration.optical_axis == axis
    assert flipped.pattern(1, 2)[tuple(map(int, axis))] >= 1000
    assert record == switches


def test_transposing_comes_before_flips_and_swaps_the_steps(dataset):
    transposed, _ = preprocess_patterns(dataset, config(transpose=True, flip_y=True))
    np.testing.assert_array_equal(transposed.pattern(0, 0), dataset.pattern(0, 0).T[::-1])
    assert transposed.calibration.optical_axis == (3.0, 3.0)
    assert transposed.calibration.pixel_size == (0.5, 1.0)
    # 4 pixels of 0.5 mrad along x are 2 of 1 mrad
    assert transposed.calibration.disc_radius == 2.0


def test_region_and_scan_binning(dataset):
    binned, record = preprocess_patterns(dataset, config(scan_region=[1, 5, 0, 5], scan_binning=2))
    raw = dataset.data.compute()[1:5, 0:4].astype(int)
    np.testing.assert_array_equal(binned.data.compute(), raw.reshape(2, 2, 2, 2, 10, 12).sum(axis=(1, 3)))
    assert binned.calibration.scan_step == (4.0, 6.0)
    assert binned.electrons_per_pattern == 400
    np.testing.assert_array_equal(binned.image, dataset.image[1:5, 0:4].reshape(2, 2, 2, 2).mean(axis=(1, 3)))
    # the first position is now in the middle of rows 1 and 2, columns 0 and 1
    np.testing.assert_allclose(binned.atoms.positions, [[4.0 - 1.5 * 2.0, 9.0 - 0.5 * 3.0]])
    np.testing.assert_allclose(binned.atoms.defects.positions, binned.atoms.positions)
    np.testing.assert_allclose(binned.atoms.defects.sites, binned.atoms.positions)
    assert record == {"scan_region": [1, 5, 0, 5], "scan_binning": 2}


def test_detector_binning(dataset):
    bad = np.zeros((10, 12), bool)
    bad[5, 4] = True
    binned, record = preprocess_patterns(dataset, config(detector_binning=2), bad_pixels=bad)
    raw = dataset.data.compute().astype(int)
    np.testing.assert_array_equal(binned.data.compute(), raw.reshape(5, 6, 5, 2, 6, 2).sum(axis=(3, 5)))
    assert binned.data.dtype == np.uint32
    known = binned.calibration
    assert known.pixel_size == (2.0, 1.0)
    assert known.optical_axis == (1.25, 3.75)
    assert known.disc_radius == 2.0
    assert np.argwhere(binned.bad_pixels).tolist() == [[2, 2]]
    assert record == {"bad_pixels": 1, "detector_binning": 2}


def test_dark_may_leave_negative_counts(dataset):
    dark = np.full((10, 12), 7)
    prepared, record = preprocess_patterns(dataset, config(), dark=dark)
    np.testing.assert_array_equal(prepared.data.compute(), dataset.data.compute().astype(float) - 7)
    assert record == {"dark_counts": 840.0}


@pytest.mark.parametrize("name", ["dark", "bad_pixels"])
def test_an_image_of_another_shape_is_refused(dataset, name):
    with pytest.raises(DataError, match=r"has shape \(3, 3\), the detector \(10, 12\)"):
        preprocess_patterns(dataset, config(), **{name: np.zeros((3, 3))})


@pytest.mark.parametrize(
    "values",
    [
        {"scan_region": [0, 6, 0, 2]},
        {"scan_region": [2, 2, 0, 2]},
        {"scan_region": [0, 2, -1, 2]},
        {"scan_binning": 6},
        {"detector_binning": 3},
    ],
)
def test_what_does_not_fit_is_refused(dataset, values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        preprocess_patterns(dataset, config(**values))


def disc(radius=10.0, centre=(31.0, 33.0), ratio=1.0, direction=0.0, shape=(64, 64), floor=5.0):
    """A disc of 95 counts on a floor, drawn with 8 x 8 points a pixel, stretched along a direction."""
    fine = (np.arange(8) + 0.5) / 8 - 0.5
    rows = (np.arange(shape[0])[:, None] + fine).ravel()[:, None]
    columns = (np.arange(shape[1])[:, None] + fine).ravel()
    right, up = columns - centre[1], centre[0] - rows
    along = right * math.cos(direction) + up * math.sin(direction)
    across = up * math.cos(direction) - right * math.sin(direction)
    inside = np.hypot(along / math.sqrt(ratio), across * math.sqrt(ratio)) < radius
    return floor + 95 * inside.reshape(shape[0], 8, shape[1], 8).mean(axis=(1, 3))


@pytest.mark.parametrize(("ratio", "direction"), [(1.03, 0.4), (1.1, -1.2)])
def test_the_ellipse_of_the_disc_is_found_and_undone(ratio, direction):
    pattern = disc(ratio=ratio, direction=direction)
    dataset = Dataset4D.from_array(np.broadcast_to(pattern, (2, 2, 64, 64)).copy())
    outcome = survey(dataset)
    assert outcome.disc_ellipse[0] == pytest.approx(ratio, abs=0.008)
    assert outcome.disc_ellipse[1] == pytest.approx(direction, abs=0.1)
    dataset = dataset.recalibrate(optical_axis=(31.0, 33.0), disc_radius=10.0)
    round_one, record = correct_patterns(dataset, config(find_ellipse=True), outcome)
    assert record["ellipse"]["ratio"] == pytest.approx(ratio, abs=0.008)

    def two_fold(data):
        """Second harmonic beside the zeroth on the rings at the edge."""
        polar = measure(data).polar[0, 0, 8:12]
        return np.abs(np.fft.fft(polar, axis=-1)[:, 2]).sum() / polar.sum()

    assert two_fold(round_one) < 0.25 * two_fold(dataset)
    given, _ = correct_patterns(dataset, config(ellipse=[ratio, math.degrees(direction)]), outcome)
    assert two_fold(given) < 0.15 * two_fold(dataset)


def test_hot_and_dead_pixels_are_left_out_unless_switched_off():
    pattern = disc()
    rng = np.random.default_rng(1)
    counts = rng.poisson(pattern, (6, 6, 64, 64)).astype(np.uint16)
    counts[..., 20, 40] = 4000
    counts[..., 31, 30] = 0
    dataset = Dataset4D.from_array(counts)
    outcome = survey(dataset)
    masked, record = correct_patterns(dataset, config(), outcome)
    assert np.argwhere(masked.bad_pixels).tolist() == [[20, 40], [31, 30]]
    assert record.pop("counts_per_electron") == pytest.approx(1, abs=0.15)
    assert record.pop("readout_counts") == 0
    assert record == {"hot_pixels": [[20, 40]], "dead_pixels": [[31, 30]]}
    as_recorded, record = correct_patterns(dataset, config(mask_hot_and_dead=False), outcome)
    assert as_recorded.bad_pixels is None
    assert list(record) == ["counts_per_electron", "readout_counts"]


def test_normalised_patterns_sum_to_one_without_their_bad_pixels(dataset):
    bad = np.zeros((10, 12), bool)
    bad[3, 8] = True
    masked, _ = preprocess_patterns(dataset, config(), bad_pixels=bad)
    prepared, record = correct_patterns(masked, config(normalise=True), survey(masked))
    np.testing.assert_allclose((prepared.data.compute() * ~bad).sum(axis=(2, 3)), 1, rtol=1e-6)
    assert record["normalise"] is True


def scan_of_discs(shift_y=(0.0, 0.0), shift_x=(0.0, 0.0), shape=(7, 9), **options):
    """Discs that move linearly with the scan, about (31, 33) at its centre."""
    patterns = np.empty((*shape, 64, 64))
    for y, x in np.ndindex(*shape):
        down, right = y / (shape[0] - 1) - 0.5, x / (shape[1] - 1) - 0.5
        centre = (31.0 + down * shift_y[0] + right * shift_x[0], 33.0 + down * shift_y[1] + right * shift_x[1])
        patterns[y, x] = disc(centre=centre, floor=0.0, **options)
    return Dataset4D.from_array(patterns, calibration=Calibration(optical_axis=(31.0, 33.0), disc_radius=10.0))


@pytest.mark.parametrize(("along_y", "along_x"), [((0.6, -0.4), (0.2, 0.5)), ((3.2, 0.0), (-1.0, 2.4))])
def test_the_beams_shift_is_found_and_removed(along_y, along_x):
    dataset = scan_of_discs(along_y, along_x)
    outcome = survey(dataset)
    steady, record = correct_patterns(dataset, config(descan=True), outcome)
    np.testing.assert_allclose(record["descan_px"]["along_y"], along_y, atol=0.02)
    np.testing.assert_allclose(record["descan_px"]["along_x"], along_x, atol=0.02)
    before, after, still = measure(dataset), measure(steady), measure(scan_of_discs())
    assert np.abs(before.com).max() > 0.3 * max(map(abs, along_y))
    # to a sixteenth of a pixel
    assert np.abs(after.com).max() < 0.15 * np.abs(before.com).max()

    def lopsided(measured):
        """First harmonic beside the zeroth: none for a disc on the axis."""
        polar = np.asarray(measured.polar)
        return np.abs(np.fft.fft(polar, axis=-1)[..., 1]).sum() / polar.sum()

    assert lopsided(after) < 0.2 * lopsided(before)
    assert after.grid.outer < before.grid.outer
    np.testing.assert_allclose(after.maps["bright_field"], still.maps["bright_field"], rtol=0.02)


def test_bad_pixels_count_nowhere():
    bad = np.zeros((64, 64), bool)
    bad[5, 5] = bad[31, 36] = bad[22, 33] = True
    clean = scan_of_discs()
    wild = clean.data.compute()
    wild[..., bad] = np.random.default_rng(0).choice([-1e9, np.nan, np.inf, 1e12], size=(7, 9, 3))
    one = measure(
        preprocess_patterns(Dataset4D.from_array(wild, calibration=clean.calibration), config(), bad_pixels=bad)[0]
    )
    other = measure(preprocess_patterns(clean, config(), bad_pixels=bad)[0])
    for name, values in other.maps.items():
        np.testing.assert_array_equal(one.maps[name], values)
    np.testing.assert_array_equal(one.polar, other.polar)
    np.testing.assert_array_equal(one.bad_pixels, bad)
    whole = measure(clean)
    # each is filled with what the good pixels around it hold
    np.testing.assert_allclose(one.maps["total"], whole.maps["total"], rtol=0.01)
    np.testing.assert_allclose(one.polar[..., 2:8, :], whole.polar[..., 2:8, :], rtol=1e-3)


def test_missing_patterns_keep_their_place():
    dataset = scan_of_discs(shape=(4, 5))
    patterns = dataset.data.compute()
    missing = np.zeros((4, 5), bool)
    missing[3, 2:] = True
    patterns[missing] = 0
    holed = Dataset4D(Dataset4D.from_array(patterns).data, calibration=dataset.calibration, missing=missing)
    incomplete, whole = measure(holed), measure(dataset)
    for name, values in whole.maps.items():
        assert (np.isnan(incomplete.maps[name]) == missing).all()
        np.testing.assert_array_equal(incomplete.maps[name][~missing], values[~missing])
    np.testing.assert_allclose(incomplete.mean_pattern, whole.mean_pattern, rtol=1e-12)
    patterns[3, 4, 0, 0] = np.nan
    noticed = measure(Dataset4D.from_array(patterns, calibration=dataset.calibration))
    np.testing.assert_array_equal(noticed.recorded, ~missing)
    assert not np.asarray(noticed.polar)[missing].any()
    np.testing.assert_allclose(noticed.mean_pattern, whole.mean_pattern, rtol=1e-12)
    (finding,) = noticed.findings
    assert finding.id == "missing_patterns"
    assert "3 of 20 patterns are empty or nearly so, or hold NaN, the first at scan position (3, 2)" in finding.message


def test_negative_counts_after_a_dark_are_measured():
    dataset = scan_of_discs(shape=(2, 2))
    dark = np.full((64, 64), 1.0)
    measured = measure(preprocess_patterns(dataset, config(), dark=dark)[0])
    np.testing.assert_allclose(measured.maps["total"], dataset.data.compute().sum(axis=(2, 3)) - dark.sum(), rtol=1e-6)
    with pytest.raises(DataError, match=r"dark image .* too bright"):
        measure(preprocess_patterns(dataset, config(), dark=100 * dark)[0])


def test_a_flat_field_evens_out_the_gain():
    rng = np.random.default_rng(3)
    gain = rng.uniform(0.7, 1.3, (64, 64))
    gain[5, 5] = 0
    dataset = scan_of_discs(shape=(3, 3))
    recorded = Dataset4D.from_array(dataset.data * gain, calibration=dataset.calibration)
    evened, record = preprocess_patterns(recorded, config(), gain=12.0 * gain)
    good = gain > 0
    scale = gain[good].mean()
    np.testing.assert_allclose(
        evened.data.compute()[..., good], scale * dataset.data.compute()[..., good], rtol=1e-5, atol=1e-6
    )
    assert np.argwhere(evened.bad_pixels).tolist() == [[5, 5]]
    assert record["gain_spread"] == pytest.approx((gain[good] / scale).std(), rel=1e-3)


def test_positions_of_a_mask_are_missing(tmp_path):
    dataset = scan_of_discs(shape=(5, 6))
    left_out = np.zeros((5, 6), np.uint8)
    left_out[1:3, 4] = 1
    np.save(tmp_path / "left_out.npy", left_out)
    prepared = prepare_scan(dataset, missing=str(tmp_path / "left_out.npy"), scan_region=(1, 5, 0, 6))
    measured = measure(prepared)
    np.testing.assert_array_equal(measured.recorded, left_out[1:] == 0)
    assert "2 probe positions of the given mask left out" in prepared.preparation.steps
    with pytest.raises(DataError, match=r"has shape \(5, 6\), the scan \(4, 6\)"):
        preprocess_patterns(scan_of_discs(shape=(4, 6)), config(), missing=left_out)


def test_the_shift_is_fitted_in_vacuum_where_that_is_given():
    shift = (3.0, 0.0)
    patterns = scan_of_discs(shift, shape=(24, 8)).data.compute()
    # in the lower half a specimen deflects more and more, which is no shift of the beam
    for row in range(12, 24):
        patterns[row] = np.roll(patterns[row], (row - 12) // 3, axis=2)
    dataset = Dataset4D.from_array(patterns, calibration=Calibration(optical_axis=(31.0, 33.0), disc_radius=10.0))
    everywhere = prepare_scan(dataset, descan="plane").beam_shift
    in_vacuum = prepare_scan(dataset, descan="plane", descan_region=(0, 12, 0, 8)).beam_shift
    np.testing.assert_allclose(in_vacuum[0], shift, atol=0.1)
    assert abs(everywhere[0][1]) > 1


def test_a_prepared_scan_is_the_same_after_saving(tmp_path):
    dataset = scan_of_discs((2.0, 1.0), shape=(6, 7))
    counts = np.random.default_rng(0).poisson(30 * dataset.data.compute()).astype(np.uint16)
    counts[..., 30, 36] = 0
    prepared = prepare_scan(Dataset4D.from_array(counts), descan="plane")
    again = measure(open_dataset(save_dataset(prepared, tmp_path / "prepared.zarr")))
    once = measure(prepared)
    assert prepared.bad_pixels[30, 36]
    for name, values in once.maps.items():
        np.testing.assert_array_equal(again.maps[name], values)
    np.testing.assert_array_equal(again.polar, once.polar)
