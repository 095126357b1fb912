"""The one pass over the raw data, against plain NumPy and against known shifts and turns."""

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from stemvane.config import MeasureConfig
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.data.measurements import Measurements
from stemvane.errors import CalibrationError, DataError
from stemvane.geometry.polar import harmonics_of, rotate
from stemvane.reduction.blocks import partition
from stemvane.reduction.measure import measure, standard_detectors
from stemvane.reduction.virtual_detectors import VirtualDetector

KNOWN = Calibration(optical_axis=(7.3, 8.1), disc_radius=4.0, pixel_size=(1.2, 1.5))
DTYPES = ["bool", "uint8", "<u2", ">u2", "int32", "<i8", ">u4", "float16", "<f4", ">f4", ">f8"]


def wrap(array, calibration=KNOWN, **more):
    return Dataset4D.from_array(array, calibration=calibration, **more)


def some_patterns(shape=(3, 4, 16, 18), seed=0):
    return np.random.default_rng(seed).poisson(3.0, shape).astype(np.uint16)


def reference(array, calibration, measurements):
    """Maps and polar patterns in plain NumPy."""
    data = np.asarray(array, np.float64)
    total = data.sum((2, 3))
    y, x = np.indices(data.shape[2:], dtype=float)
    com_y = (data * (y - calibration.optical_axis[0])).sum((2, 3)) / total * calibration.pixel_size[0]
    com_x = (data * (x - calibration.optical_axis[1])).sum((2, 3)) / total * calibration.pixel_size[1]
    weights = measurements.grid.weights(data.shape[2:])
    pixel = np.repeat(np.arange(y.size), np.diff(weights.indptr))
    dense = np.zeros((y.size, measurements.grid.n_radial * measurements.grid.n_azimuthal))
    dense[pixel, weights.sample] += weights.weight
    polar = data.reshape(*data.shape[:2], -1) @ dense
    return (
        total,
        com_y,
        com_x,
        polar.reshape(*data.shape[:2], measurements.grid.n_radial, measurements.grid.n_azimuthal),
    )


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    scan=st.tuples(st.integers(1, 7), st.integers(1, 9)),
    detector=st.tuples(st.integers(4, 40), st.integers(4, 70)),
    block=st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(3, 40)),
    lazy=st.booleans(),
    order=st.sampled_from(["C", "F"]),
    brightest=st.sampled_from([1, 60, 255, 65535]),
    seed=st.integers(0, 1000),
)
def test_equals_plain_numpy(dtype, scan, detector, block, lazy, order, brightest, seed):
    random = np.random.default_rng(seed)
    brightest = min(
        brightest, {"b": 1, "f": 2048}.get(np.dtype(dtype).kind, np.iinfo("u1").max if dtype == "uint8" else 65535)
    )
    array = np.array(random.integers(0, brightest + 1, (*scan, *detector)), dtype=dtype, order=order)
    array[..., 0, 0] = 1  # no pattern is empty
    known = KNOWN.replace(optical_axis=tuple(random.uniform(1.3, np.array(detector) - 2.3)), disc_radius=2.5)
    images = [
        *standard_detectors(known, detector, MeasureConfig()),
        VirtualDetector.from_mask("mask", random.integers(0, 2, detector)),
        VirtualDetector.from_mask("weights", random.random(detector)),
        VirtualDetector.from_mask("constant", np.full(detector, -2.5)),
        VirtualDetector.from_mask("nothing", np.zeros(detector)),
    ]
    chunks = tuple(np.minimum((*block, detector[1]), array.shape))
    measured = measure(wrap(da.from_array(array, chunks=chunks) if lazy else array, known), images)
    total, com_y, com_x, polar = reference(array, known, measured)
    np.testing.assert_allclose(measured.maps["total"], total, rtol=1e-12)
    np.testing.assert_allclose(measured.maps["com_y"], com_y, atol=1e-10)
    np.testing.assert_allclose(measured.maps["com_x"], com_x, atol=1e-10)
    np.testing.assert_allclose(
        measured.polar_patterns().reshape(polar.shape), polar, rtol=1e-5, atol=1e-6 * max(1, brightest)
    )
    for image in images:
        signal = (array.astype(float) * image.weights).sum((2, 3)) / total
        np.testing.assert_allclose(measured.maps[image.name], signal, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(measured.mean_pattern, array.astype(float).mean((0, 1)), rtol=1e-12)
    assert measured.units["com_y"] == "mrad"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32", "float64"])
def test_a_pattern_is_measured_alike_whatever_lies_beside_it(dtype):
    array = some_patterns((3, 37, 21, 35), seed=3).astype(dtype)
    whole = measure(wrap(array))
    for columns in (1, 16, 36):
        parts = measure(wrap(da.from_array(array, chunks=(2, columns, 21, 35))))
        np.testing.assert_array_equal(parts.polar_patterns(), whole.polar_patterns())
        for name in whole.maps:
            np.testing.assert_array_equal(parts.maps[name], whole.maps[name])


def test_sums_of_the_brightest_counts_do_not_overflow():
    array = np.full((1, 9, 300, 300), 65535, np.uint16)
    measured = measure(wrap(array, Calibration(optical_axis=(149.5, 149.5), disc_radius=60.0)), polar=False)
    np.testing.assert_array_equal(measured.maps["total"], 65535 * 300 * 300)
    np.testing.assert_allclose(measured.com, 0, atol=1e-9)
    np.testing.assert_array_equal(measured.mean_pattern, 65535)


def test_one_thread_and_several_give_the_same_bits():
    array = np.random.default_rng(0).random((11, 7, 16, 18)).astype(np.float32)
    dataset = wrap(da.from_array(array, chunks=(1, 7, 16, 18)))
    with dask.config.set(num_workers=1):
        one = measure(dataset)
    with dask.config.set(num_workers=4):
        several = measure(dataset)
    np.testing.assert_array_equal(one.polar_patterns(), several.polar_patterns())
    np.testing.assert_array_equal(one.mean_pattern, several.mean_pattern)
    np.testing.assert_array_equal(one.com, several.com)


def test_what_is_not_wanted_is_left_out(tmp_path):
    store = zarr.open_group(tmp_path / "m.zarr", mode="w")
    measured = measure(wrap(some_patterns()), polar=False, mean_pattern=False, store=store)
    measured.write(store)
    for one in (measured, Measurements.read(store)):
        assert np.isnan(one.mean_pattern).all()
        assert one.mean_pattern.shape == (16, 18)
        with pytest.raises(DataError, match="polar=True"):
            one.polar_patterns()
        with pytest.raises(DataError, match="polar=True"):
            next(one.polar_blocks())


def test_arrays_in_memory_are_not_copied():
    array = some_patterns()
    (block,) = partition(wrap(array).data)
    assert np.shares_memory(block.read(), array)


def test_blocks_that_fail_stop_the_pass():
    def fail(block):
        raise OSError("the disk is gone")

    lazy = da.from_array(some_patterns(), chunks=(1, 1, 16, 18)).map_blocks(
        fail, dtype=np.uint16, meta=np.empty((0,) * 4)
    )
    with pytest.raises(DataError, match=r"cannot be computed \(the disk is gone\)"):
        measure(wrap(lazy))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.5, -2.25), (-3.0, 0.4)])
def test_com_of_a_shifted_disc_is_the_shift(shift):
    axis = (31.2, 30.7)
    disc = VirtualDetector.disc("disc", (64, 64), (axis[0] + shift[0], axis[1] + shift[1]), 15.0).weights
    measured = measure(wrap(disc[None, None], Calibration(optical_axis=axis, disc_radius=15.0)))
    # pixels cut by the edge count at their centres
    np.testing.assert_allclose(measured.com[0, 0], shift, atol=1e-3)
    assert measured.com_unit == "px"


def test_com_angles_are_counter_clockwise_on_the_screen():
    bright = np.ones((1, 4, 16, 16))
    bright[0, 0, :, 12:] += 5  # right
    bright[0, 1, :4] += 5  # top
    bright[0, 2, :, :4] += 5  # left
    bright[0, 3, 12:] += 5  # bottom
    measured = measure(wrap(bright, Calibration(optical_axis=(7.5, 7.5), disc_radius=4.0)))
    np.testing.assert_allclose(np.cos(np.deg2rad([0, 90, 180, 270]) - measured.com_angle[0]), 1)


def test_rotated_patterns_rotate_com_and_polar_patterns():
    pattern = np.random.default_rng(0).random((20, 20))
    scan = np.stack([np.rot90(pattern, n) for n in range(4)])[None]
    measured = measure(wrap(scan, Calibration(optical_axis=(9.5, 9.5), disc_radius=6.0)))
    # the four directions of one vector have mean 0, so the deflection is the COM itself
    np.testing.assert_allclose(measured.deflection, measured.com, atol=1e-12)
    steps = np.diff(measured.com_angle[0])
    np.testing.assert_allclose(np.exp(1j * steps), 1j, atol=1e-9)
    np.testing.assert_allclose(measured.com_magnitude, measured.com_magnitude[0, 0])
    polar = measured.polar_patterns()
    quarter = measured.grid.n_azimuthal // 4
    for n in range(4):
        np.testing.assert_allclose(polar[n], np.roll(polar[0], n * quarter, axis=-1), rtol=2e-5)
    expected = rotate(harmonics_of(polar[:1]), np.arange(4) * np.pi / 2)
    np.testing.assert_allclose(harmonics_of(polar), expected, atol=1e-6)


def test_virtual_images_are_fractions_of_the_total():
    disc = VirtualDetector.disc("disc", (32, 32), (15.5, 15.5), 6.0).weights
    ring = VirtualDetector.annulus("ring", (32, 32), (15.5, 15.5), 9.0, 12.0).weights
    data = np.stack([disc, 3 * disc / disc.sum() + ring / ring.sum()])[None]
    # between the radii lies more than a pixel's diagonal on either side, so that no pixel is shared
    dataset = wrap(data, Calibration(optical_axis=(15.5, 15.5), disc_radius=7.5))
    measured = measure(dataset, config=MeasureConfig(adf_inner=1.0))
    np.testing.assert_allclose(measured.maps["bright_field"], [[1.0, 0.75]], rtol=1e-5)
    np.testing.assert_allclose(measured.maps["annular_dark_field"], [[0.0, 0.25]], atol=1e-5)
    mask = np.zeros((32, 32))
    mask[:, 16:] = 1
    halves = measure(dataset, [VirtualDetector.from_mask("right", mask)])
    np.testing.assert_allclose(halves.maps["right"], 0.5, rtol=1e-5)
    assert set(halves.maps) == {"total", "com_y", "com_x", "right"}


def test_streaming_equals_memory(tmp_path):
    array = some_patterns((5, 7, 16, 18))
    dataset = wrap(
        da.from_array(array, chunks=(2, 3, 16, 18)), expectation=np.full(array.shape, 3.0), metadata={"seed": 1}
    )
    memory = measure(dataset)
    calls = []
    store = zarr.open_group(tmp_path / "measurements.zarr", mode="w")
    streamed = measure(dataset, store=store, progress=lambda done, total: calls.append((done, total)))
    np.testing.assert_array_equal(streamed.polar_patterns(), memory.polar_patterns())
    assert isinstance(streamed.polar, zarr.Array)
    assert calls[-1] == (70, 70)
    assert calls == sorted(calls)
    streamed.write(store)
    again = Measurements.read(zarr.open_group(tmp_path / "measurements.zarr", mode="r"))
    for one, other in ((again, memory), (again.expectation, memory.expectation)):
        np.testing.assert_array_equal(one.polar_patterns(), other.polar_patterns())
        assert set(one.maps) == set(other.maps)
        for name in one.maps:
            np.testing.assert_allclose(one.maps[name], other.maps[name], rtol=1e-6, atol=1e-6)
    assert again.grid == memory.grid
    assert again.calibration == memory.calibration


def test_expectation_is_measured_too():
    array = some_patterns()
    measured = measure(wrap(array, expectation=np.full(array.shape, 3.0)))
    np.testing.assert_allclose(measured.expectation.maps["total"], 3.0 * 16 * 18)
    assert measured.expectation.expectation is None


def one_line(error, dataset, *args, **more):
    with pytest.raises(error) as info:
        measure(dataset, *args, **more)
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("pixel", [(0, 0), (8, 8), (15, 17)])
def test_a_pattern_with_a_bad_value_is_missing_and_said_to_be(value, pixel):
    array = some_patterns((5, 7, 16, 18)).astype(float)
    whole = measure(wrap(array))
    array[3, 4][pixel] = value
    measured = measure(wrap(da.from_array(array, chunks=(2, 3, 16, 18)), name="scan 7"))
    lost = np.zeros((5, 7), bool)
    lost[3, 4] = True
    np.testing.assert_array_equal(measured.recorded, ~lost)
    for name, values in whole.maps.items():
        np.testing.assert_array_equal(measured.maps[name][~lost], values[~lost])
    assert not np.asarray(measured.polar)[3, 4].any()
    (finding,) = measured.findings
    assert finding.id == "missing_patterns"
    assert "1 of 35" in finding.message
    assert "(3, 4)" in finding.message


def test_negative_values_are_measured_as_they_are():
    array = some_patterns((2, 3, 16, 18)).astype(float) - 1.0
    measured = measure(wrap(array))
    np.testing.assert_allclose(measured.maps["total"], array.sum(axis=(2, 3)), rtol=1e-12)
    assert not measured.findings


def test_empty_patterns_are_missing_at_any_number():
    array = some_patterns((5, 7, 16, 18))
    array[2, 6] = array[2, 1] = 0
    measured = measure(wrap(array))
    assert np.argwhere(~measured.recorded).tolist() == [[2, 1], [2, 6]]
    assert "2 of 35" in measured.findings[0].message
    array[1:] = 0
    assert measure(wrap(array)).findings[0].severity == "warning"


def test_a_scan_without_any_counts_is_refused():
    array = np.zeros((1, 1, 16, 18))
    array[0, 0, 3, 3:5] = 1, -1
    assert "no pattern has counts" in one_line(DataError, wrap(array))


@pytest.mark.parametrize("shape", [(4, 8, 8), (2, 2, 2, 8, 8), (0, 4, 8, 8)])
def test_wrong_shapes(shape):
    with pytest.raises(DataError) as info:
        wrap(np.ones(shape))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("dtype", [complex, object, "U3", "M8[s]"])
def test_wrong_types(dtype):
    with pytest.raises(DataError, match="real") as info:
        wrap(np.zeros((2, 2, 8, 8), dtype))
    assert "\n" not in str(info.value)


def test_what_must_be_known():
    array = some_patterns()
    for known in (Calibration(disc_radius=4.0), Calibration(optical_axis=(7.0, 8.0))):
        # there is no disc to be found in noise
        assert "no bright-field disc" in one_line(CalibrationError, wrap(array, known))
        with pytest.raises(CalibrationError, match="prepare_scan"):
            measure(wrap(array, known), prepare=False)
    outside = Calibration(optical_axis=(70.0, 8.0), disc_radius=4.0)
    assert "outside" in one_line(CalibrationError, wrap(array, outside))
    alien = [VirtualDetector("alien", np.ones((4, 4)))]
    assert "(4, 4)" in one_line(DataError, wrap(array), alien)
    with pytest.raises(DataError):
        VirtualDetector("nan", np.full((4, 4), np.nan))
