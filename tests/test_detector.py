"""Simulated detectors against known physics."""

import numpy as np
import pytest
from scipy import ndimage

from stemvane import Config, open_dataset, prepare_scan, save_dataset, simulate
from stemvane.config import DetectorConfig
from stemvane.errors import ConfigError
from stemvane.simulation.detector import Detector

SMALL = {
    "scan_shape": (6, 5),
    "scan_extent": (1.2, 1.0),
    "detector_shape": (24, 22),
    "dose": 3000.0,
    "progress": False,
}


def flat(expected, shape=(20, 20, 16, 18), *, seed=3, **settings):
    """Uniform illumination of so many electrons per pixel."""
    detector = Detector.make(DetectorConfig(**settings), shape[2:], seed)
    return detector, detector.record(np.full(shape, expected, np.float32)).astype(np.float64)


def test_nothing_changes_without_a_detector():
    plain = simulate(**SMALL)
    assert plain.truth is None
    assert plain.calibration.optical_axis == (11.5, 10.5)
    ideal = simulate(**SMALL, detector={})
    np.testing.assert_array_equal(plain.expectation, ideal.expectation)
    # the same physics from another random stream
    assert ideal.data.dtype == np.uint16
    assert float(ideal.data.sum()) == pytest.approx(float(plain.data.sum()), rel=0.01)


@pytest.mark.parametrize(
    ("settings", "slope"),
    [
        ({}, 1.0),
        ({"kind": "analogue", "adu_per_electron": 20.0}, 20.0),
        ({"kind": "analogue", "adu_per_electron": 20.0, "straggling": 0.5}, 20.0 * 1.25),
        ({"kind": "analogue", "adu_per_electron": 20.0, "charge_shares": (0.5, 0.2, 0.2, 0.1)}, 20.0 * 0.34),
        ({"preset": "analogue", "dark_rms": 0.0, "gain_rms": 0.0, "dead_share": 0.0}, 30.0 * 1.09 * 0.34),
        ({"preset": "counting", "gain_rms": 0.0, "dead_share": 0.0, "charge_shares": (0.45, 0.3, 0.2, 0.05)}, 1.0),
    ],
)
def test_variance_is_that_of_readout_and_of_electrons(settings, slope):
    """Variance = readout² + slope · mean, at two doses; the slope by Campbell's theorem."""
    for expected in (2.0, 9.0):
        detector, data = flat(expected, **{**settings, "hot_share": 0.0, "data_type": "int32"})
        inner = data[..., 1:-1, 1:-1]
        mean = expected * detector.counts_per_electron
        assert inner.mean() - detector.config.dark_level == pytest.approx(mean, rel=0.01)
        assert detector.variance_per_count == pytest.approx(slope)
        # readings are rounded to whole numbers
        rounding = 1 / 12 if detector.config.kind == "analogue" else 0
        assert inner.var() == pytest.approx(detector.config.readout_noise**2 + slope * mean + rounding, rel=0.03)


def test_charge_sharing_keeps_the_sum_and_spreads_it():
    shares = (0.6, 0.2, 0.15, 0.05)
    detector = Detector.make(
        DetectorConfig(kind="analogue", charge_shares=shares, adu_per_electron=100.0, data_type="float32"), (9, 9), 0
    )
    spot = np.zeros((40, 40, 9, 9), np.float32)
    spot[..., 4, 4] = 50.0
    data = detector.record(spot)
    totals = data.sum(axis=(2, 3))
    # whole electrons, every one of them with its whole charge
    np.testing.assert_allclose(totals, 100 * np.round(totals / 100), rtol=1e-5)
    mean = data.mean(axis=(0, 1)) / data.mean(axis=(0, 1)).sum()
    np.testing.assert_allclose(mean[4, 3:6], [shares[2] / 2, shares[0], shares[2] / 2], atol=0.002)
    np.testing.assert_allclose(mean[3:6, 4], [shares[1] / 2, shares[0], shares[1] / 2], atol=0.002)
    np.testing.assert_allclose(mean[[3, 3, 5, 5], [3, 5, 3, 5]], shares[3] / 4, atol=0.002)
    # at a corner the charge has nowhere to go and stays
    corner = np.zeros((5, 5, 9, 9), np.float32)
    corner[..., 0, 0] = 50.0
    totals = detector.record(corner).sum(axis=(2, 3))
    np.testing.assert_allclose(totals, 100 * np.round(totals / 100), rtol=1e-5)


def test_gain_is_the_flat_field():
    for settings in ({"preset": "analogue", "gain_rms": 0.2}, {"preset": "counting", "gain_rms": 0.2}):
        detector, data = flat(50.0, (40, 40, 12, 12), **settings)
        good = ~detector.bad_pixels
        measured = data.mean(axis=(0, 1)) - detector.dark
        np.testing.assert_allclose(measured[good], 50.0 * detector.response()[good], rtol=0.02)
        assert np.std(detector.response()[good] / detector.counts_per_electron) == pytest.approx(0.2, rel=0.35)


def test_bad_pixels_read_what_they_are():
    detector, data = flat(
        5.0,
        preset="analogue",
        dead_share=0.02,
        hot_share=0.01,
        hot_level=900.0,
        dead_blocks=((2, 5, 3, 4),),
        gap=2,
    )
    bad, hot = detector.bad_pixels, detector.hot_pixels
    gap = np.zeros_like(bad)
    gap[7:9] = gap[:, 8:10] = True
    assert bad[gap].all()
    assert bad[2:5, 3].all()
    assert round(0.02 * bad.size) <= (bad & ~gap).sum() + 10
    assert (data[..., bad & ~hot] == 0).all()
    assert data[..., hot].mean() == pytest.approx(900, rel=0.01)
    assert (np.ptp(data[..., ~bad], axis=(0, 1)) > 10).all()
    assert (data[..., ~bad].mean(axis=(0, 1)) < 700).all()


@pytest.mark.parametrize(
    ("kind", "highest"), [("uint8", 255), ("uint16", 65535), ("int16", 32767), ("int32", 2**31 - 128)]
)
def test_readings_beyond_the_type_saturate(kind, highest):
    _, data = flat(1e9, (1, 2, 4, 4), kind="analogue", adu_per_electron=100.0, data_type=kind)
    assert (data == highest).all()
    _, data = flat(50.0, (1, 2, 4, 4), kind="analogue", adu_per_electron=1e3, saturation=1e4, data_type=kind)
    assert (data == min(highest, 1e4)).all()


def test_dark_frame_is_measured_with_noise():
    detector = Detector.make(DetectorConfig(preset="analogue", n_dark_frames=25), (64, 64), 0)
    good = ~detector.bad_pixels
    assert np.std((detector.dark_frame() - detector.dark)[good]) == pytest.approx(5 / 5, rel=0.05)
    assert np.std(detector.dark[good]) == pytest.approx(3, rel=0.1)
    assert (detector.dark_frame()[detector.bad_pixels & ~detector.hot_pixels] == 0).all()


def test_one_seed_gives_one_scan_whatever_else_is_recorded():
    config = DetectorConfig(preset="analogue")
    rng = np.random.default_rng(0)
    expected = rng.gamma(1, 3, (6, 4, 10, 10)).astype(np.float32)
    data = Detector.make(config, (10, 10), 5).record(expected)
    np.testing.assert_array_equal(data, Detector.make(config, (10, 10), 5).record(expected))
    # rows have streams of their own: the first ones do not depend on how many follow
    np.testing.assert_array_equal(data[:2], Detector.make(config, (10, 10), 5).record(expected[:2]))
    assert (data != Detector.make(config, (10, 10), 6).record(expected)).any()


def test_beam_shift_moves_the_noiseless_patterns_by_what_is_asked():
    scene = {**SMALL, "scan_shape": (5, 4), "detector_shape": (40, 40), "detector_outer": 60.0}
    still = simulate(**scene, detector="counting")
    moved = simulate(**scene, detector={"beam_shift": ((2.0, -0.5), (0.3, 1.7)), "beam_bow": (0.4, 0.2)})
    shift = moved.truth.axis - still.truth.axis
    np.testing.assert_allclose(shift[-1, 0] - shift[0, 0], [2.0, -0.5], atol=1e-9)
    np.testing.assert_allclose(shift[0, -1] - shift[0, 0], [0.3, 1.7], atol=1e-9)
    np.testing.assert_allclose(shift.mean(axis=(0, 1)), 0, atol=1e-9)
    np.testing.assert_allclose(
        shift[2, 0] - (shift[2, 1] + shift[2, 2]) / 2 + [0.15, 0.85], [0.4, 0.2] * np.array(8 / 9), atol=1e-9
    )
    assert moved.calibration.pixel_size is not None
    pixel = moved.calibration.pixel_size[0]
    com = [noiseless_com(dataset) for dataset in (still, moved)]
    # to what little lies beyond the edges of the detector
    np.testing.assert_allclose(com[1] - com[0], shift, atol=0.01)
    np.testing.assert_allclose(still.truth.com, pixel * com[0], atol=1e-5)
    np.testing.assert_allclose(moved.truth.com, still.truth.com, atol=1e-3)


def noiseless_com(dataset):
    patterns = dataset.expectation.compute().astype(np.float64)
    places = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in patterns.shape[2:]), indexing="ij"), axis=-1)
    return np.einsum("abyx,yxc->abc", patterns, places) / patterns.sum(axis=(2, 3))[..., None]


def test_a_recorded_scan_keeps_its_truth_apart(tmp_path):
    dataset = simulate(**SMALL, detector="analogue")
    assert dataset.bad_pixels is None
    assert dataset.electrons_per_pattern is None
    assert dataset.calibration.optical_axis is None
    assert dataset.calibration.energy == 60e3
    assert dataset.data.dtype == np.int32
    read = open_dataset(save_dataset(dataset, tmp_path / "scan.zarr"))
    assert read.truth is not None
    for name, value in vars(dataset.truth).items():
        np.testing.assert_array_equal(getattr(read.truth, name), value)
    np.testing.assert_array_equal(read.data, dataset.data)
    assert "30" in repr(read.truth)


def test_settings(tmp_path):
    text = """[simulation]
dose = 100.0
[simulation.detector]
preset = "analogue"
readout_noise = 7.0
"""
    (tmp_path / "a.toml").write_text(text)
    config = Config.from_toml(tmp_path / "a.toml")
    assert config.simulation.detector.readout_noise == 7
    assert config.simulation.detector.adu_per_electron == 30
    (tmp_path / "b.toml").write_text(config.to_toml())
    assert Config.from_toml(tmp_path / "b.toml") == config
    for detector, message in (
        ({"readout_noise": 5.0}, "counting detector has no readout_noise"),
        ({"charge_shares": (0.5, 0.2, 0.2, 0.2)}, "sum to 1"),
        ({"nonsense": 1}, "unknown setting 'detector.nonsense'; known here are preset"),
        ("merlin", "preset"),
    ):
        with pytest.raises(ConfigError, match=message):
            simulate(**SMALL, detector=detector)
    with pytest.raises(ConfigError, match="dose"):
        simulate(detector="counting")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"detector": {"dead_blocks": [[3, 30, 0, 1]]}}, "does not lie on 24 x 22 pixels"),
        ({"detector": {"dead_blocks": [[3, 3, 0, 1]]}}, "does not lie on"),
        ({"detector": {"gap": 12}}, "more than half"),
        ({"detector": {"beam_shift": [[0, 0], [0, 1e6]]}}, "more than half the detector"),
        ({"detector": {"dead_share": 0.6, "hot_share": 0.6}}, "together are more than 1"),
        ({"detector": {"saturation": 0}}, "above 0"),
        ({"scan": {"n_lost": 30}}, "do not fit the 30 frames"),
        ({"scan": {"drift": [1e9, 0]}}, "more than twice the scanned area"),
        ({"scan": {"flyback_decay": 0}}, "above 0"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_computed(sections, message):
    with pytest.raises(ConfigError, match=message):
        simulate(**SMALL, **sections)


def test_a_preparation_that_moves_pixels_or_positions_drops_the_truth():
    dataset = simulate(**SMALL, detector="ideal")
    assert prepare_scan(dataset, scan_region=(0, 3, 0, 3)).truth is None
    assert prepare_scan(dataset, flip_y=True).truth is None
    assert prepare_scan(dataset).truth is dataset.truth


DRIFTING = {
    "scan_shape": (12, 12),
    "scan_extent": (2.4, 2.4),
    "detector_shape": (24, 24),
    "dose": 3000.0,
    "progress": False,
}


def test_patterns_lie_where_the_probe_met_the_drifting_specimen():
    """A scan that has the very positions of the path on its grid holds the same patterns there."""
    scene = {**DRIFTING, "scan_shape": (3, 4), "scan_extent": (0.6, 0.8)}
    truth, expected = (getattr(simulate(**scene, scan={"drift": (0.0, -1.1)}), n) for n in ("truth", "expectation"))
    time = np.arange(12).reshape(3, 4) / 11
    np.testing.assert_allclose(truth.positions[..., 0], 0.2 * truth.places[..., 0], atol=1e-12)
    np.testing.assert_allclose(truth.positions[..., 1], 0.2 * truth.places[..., 1] + 1.1 * time, atol=1e-12)
    regular = simulate(**{**scene, "scan_shape": (3, 18), "scan_extent": (0.6, 1.8)}).expectation.compute()
    columns = np.rint(truth.positions[..., 1] / 0.1).astype(int)
    at_positions = regular[np.arange(3)[:, None], columns]
    # neighbouring positions differ by a hundred times as much
    np.testing.assert_allclose(expected, at_positions, atol=2e-4 * regular.max())
    assert np.abs(np.diff(regular, axis=1)).max() > 0.02 * regular.max()


def test_drift_displaces_the_atoms_in_the_image():
    scene = {**DRIFTING, "scan_shape": (24, 24), "scan_extent": (4.8, 4.8), "detector_shape": (16, 16)}
    still, moved = (simulate(**scene, scan={"drift": drift}) for drift in ((0.0, 0.0), (1.5, -0.6)))
    images = [dark_field(dataset) for dataset in (still, moved)]
    positions = moved.truth.positions
    np.testing.assert_allclose(positions[-1, -1] - still.truth.positions[-1, -1], [-1.5, 0.6], atol=1e-12)
    inner = np.all((positions > 0.2) & (positions < 4.4), axis=-1)
    # the image without drift, where the probe was
    expected = ndimage.map_coordinates(images[0], np.moveaxis(positions / 0.2, -1, 0), order=3)
    assert np.corrcoef(expected[inner], images[1][inner])[0, 1] > 0.99
    assert np.corrcoef(images[0][inner], images[1][inner])[0, 1] < 0.7


def dark_field(dataset):
    """Intensity beyond the bright-field disc."""
    patterns = dataset.expectation.compute()
    y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in patterns.shape[2:]), indexing="ij")
    beyond = np.hypot(y, x) * dataset.calibration.pixel_size[0] > 1.2 * 31
    return patterns[..., beyond].sum(axis=-1)


def test_flyback_distorts_the_start_of_each_line_only():
    truth = simulate(**DRIFTING, scan={"flyback_distortion": 0.5, "flyback_decay": 1.0}).truth
    lag = truth.positions - 0.2 * truth.places
    np.testing.assert_allclose(lag[..., 0], 0, atol=1e-12)
    np.testing.assert_allclose(lag[..., 1], np.tile(0.5 * np.exp(-np.arange(12)), (12, 1)), atol=1e-12)


def test_a_path_without_distortion_is_the_regular_scan():
    plain = simulate(**DRIFTING, source_size=0.5, detector="ideal")
    path = simulate(**DRIFTING, source_size=0.5, scan={})
    np.testing.assert_allclose(path.expectation, plain.expectation, atol=2e-4 * plain.expectation.max().compute())
    np.testing.assert_array_equal(path.truth.positions, plain.truth.positions)


def test_lost_and_extra_frames_are_counted():
    scan = simulate(**DRIFTING, scan={"n_lost": 5, "n_extra": 2})
    assert scan.missing.sum() == 3
    assert scan.missing.reshape(-1)[-3:].all()
    assert (scan.data[11, 9:] == 0).all().compute()
    indices = (scan.truth.places @ [12, 1]).reshape(-1)[:-3]
    steps = np.diff(indices)
    assert (steps == 0).sum() == 2
    assert (steps[steps > 1] - 1).sum() + indices[0] + (143 - indices[-1]) == 5
    more = simulate(**DRIFTING, scan={"n_extra": 4})
    assert more.missing is None
    assert np.nanmax(more.truth.places @ [12, 1]) == pytest.approx(143 - 4, abs=4)


def test_flyback_frames_are_cut_out_by_a_reader_that_knows_them(tmp_path):
    plain = simulate(**DRIFTING, scan={}, detector="counting")
    stack = simulate(**DRIFTING, scan={"n_flyback": 3, "stacked": True}, detector="counting")
    assert stack.shape == (1, 12 * 15, 24, 24)
    assert not stack.is_scan
    np.save(tmp_path / "stack.npy", stack.expectation[0].compute())
    read = open_dataset(tmp_path / "stack.npy", scan_shape=(12, 12), flyback=3)
    np.testing.assert_allclose(read.data, plain.expectation, atol=1e-3)
    # on its way back the probe is between the ends of the line
    back = stack.truth.places[0].reshape(12, 15, 2)[:, 12:, 1]
    np.testing.assert_allclose(back, np.tile([9.0, 6.0, 3.0], (12, 1)))
