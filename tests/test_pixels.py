"""Cartesian patterns: exact areas, the pass that measures them, and the ways to and from polar patterns."""

from dataclasses import replace

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
from stemvane.geometry.pixels import PixelGrid
from stemvane.geometry.polar import PolarGrid, plane_of_pixels
from stemvane.reduction.bad_pixels import fill_pattern
from stemvane.reduction.measure import measure

KNOWN = Calibration(optical_axis=(7.3, 8.1), disc_radius=4.0, pixel_size=(1.2, 1.5))


def dense(weights):
    """Weights as a matrix of pixels and samples."""
    n_pixels = len(weights.indptr) - 1
    matrix = np.zeros((n_pixels, weights.area.size))
    np.add.at(matrix, (np.repeat(np.arange(n_pixels), np.diff(weights.indptr)), weights.sample), weights.weight)
    return matrix


def sampled(grid, patterns, valid=None):
    """Cartesian patterns in plain NumPy."""
    flat = np.asarray(patterns, float).reshape(*patterns.shape[:-2], -1)
    return (flat @ dense(grid.weights(patterns.shape[-2:], valid))).reshape(*patterns.shape[:-2], grid.n, grid.n)


def overlap_along(n_pixels, axis, size, edges):
    """Overlap lengths of pixels and samples along one axis, in pixels, shape ``(n_pixels, n)``."""
    start, stop = (np.arange(n_pixels) - 0.5 - axis) * size, (np.arange(n_pixels) + 0.5 - axis) * size
    both = np.minimum(stop[:, None], edges[1:]) - np.maximum(start[:, None], edges[:-1])
    return np.maximum(both, 0) / size


def blobs(shape, axis, shift=(0.0, 0.0), plane=None):
    """A smooth pattern without symmetry, drawn in the plane without distortion."""
    rows, columns = np.indices(shape, dtype=float)
    plane = np.eye(2) if plane is None else plane
    right, up = np.tensordot(plane, np.stack([columns - axis[1], axis[0] - rows]), axes=1)
    pattern = np.full(shape, 0.3)
    for height, y, x in ((3.0, 4.0, 5.0), (2.0, -6.0, 2.0), (1.5, 1.0, -7.0)):
        pattern += height * np.exp(-((up + shift[0] - y) ** 2 + (right - shift[1] - x) ** 2) / (2 * 4.0**2))
    return pattern


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(4, 20), st.integers(4, 20)),
    y=st.floats(2.0, 15.0),
    x=st.floats(2.0, 15.0),
    half_width=st.floats(1.0, 25.0),
    n=st.integers(1, 24),
    aspect=st.floats(0.6, 1.7),
)
def test_areas_are_products_of_lengths(shape, y, x, half_width, n, aspect):
    grid = PixelGrid((y, x), half_width, n, aspect)
    edges = np.linspace(-half_width, half_width, n + 1)
    area = np.einsum(
        "pi,qj->pqij", overlap_along(shape[0], y, aspect, edges), overlap_along(shape[1], x, 1.0, edges)
    ).reshape(shape[0] * shape[1], n * n)
    weights = grid.weights(shape)
    np.testing.assert_allclose(weights.area.ravel(), area.sum(0), atol=1e-6)
    # the weights are 32-bit
    np.testing.assert_allclose(dense(weights) * weights.area.ravel(), area, atol=1e-6)
    assert weights.area.max() <= grid.sample_area * (1 + 1e-9)


@pytest.mark.parametrize("aspect", [1.0, 1.3])
def test_areas_of_distorted_pixels_are_those_of_many_points(aspect):
    ellipse, shape, fine = (1.25, 0.6), (9, 8), 120
    grid = PixelGrid((4.2, 3.4), 3.1, 5, aspect, ellipse)
    along = [(np.arange(n * fine) + 0.5) / fine - 0.5 for n in shape]
    rows, columns = np.meshgrid(*along, indexing="ij")
    right, up = np.tensordot(plane_of_pixels(aspect, ellipse), np.stack([columns - 3.4, 4.2 - rows]), axes=1)
    i, j = (np.floor((3.1 + place) / grid.sample_width).astype(int) for place in (-up, right))
    inside = (i >= 0) & (i < 5) & (j >= 0) & (j < 5)
    pixel = np.rint(rows).astype(int) * 8 + np.rint(columns).astype(int)
    counted = np.zeros((72, 25))
    np.add.at(counted, (pixel[inside], i[inside] * 5 + j[inside]), 1 / fine**2)
    weights = grid.weights(shape)
    # an edge misses or takes less than a row of points
    np.testing.assert_allclose(dense(weights) * weights.area.ravel(), counted, atol=0.5 / fine)
    np.testing.assert_allclose(weights.area.sum(), (2 * 3.1) ** 2 / aspect, rtol=1e-6)
    np.testing.assert_allclose(weights.area, grid.sample_area, rtol=1e-6)


@pytest.mark.parametrize("ellipse", [None, (1.2, 1.1)])
@pytest.mark.parametrize("n", [5, 31])
def test_sums_are_kept_where_the_square_covers_the_detector(ellipse, n):
    pattern = np.random.default_rng(0).random((14, 17))
    grid = PixelGrid((6.1, 8.9), 16.0, n, 0.9, ellipse)
    weights = grid.weights(pattern.shape)
    assert (sampled(grid, pattern) * weights.area).sum() == pytest.approx(pattern.sum(), rel=1e-6)
    assert weights.area.sum() == pytest.approx(pattern.size)
    assert (sampled(grid, pattern)[weights.area == 0] == 0).all()


def test_the_first_sample_is_the_one_at_the_top_left():
    pattern = np.arange(36.0).reshape(6, 6)
    grid = PixelGrid((2.5, 2.5), 3.0, 6)
    np.testing.assert_allclose(sampled(grid, pattern), pattern, rtol=1e-6)
    np.testing.assert_allclose(grid.to_detector(pattern, (6, 6)), pattern)
    assert (grid.sample_width, grid.sample_area) == (1.0, 1.0)


def test_samples_on_bad_pixels_alone_are_means_of_their_neighbours():
    rows, columns = np.indices((24, 24), dtype=float)
    pattern = 5 + 0.4 * rows - 0.2 * columns
    valid = np.ones((24, 24), bool)
    valid[8:13, 9:14] = False
    valid[:, 18] = False
    valid[20, 3] = False
    grid = PixelGrid((11.5, 11.5), 15.0, 30)
    samples = sampled(grid, np.where(valid, pattern, 1e6), valid)
    area = grid.weights((24, 24), valid).area
    assert (area == 0).sum() == 30**2 - 24**2 + 25 + 24 + 1
    on_detector = np.zeros((30, 30), bool)
    on_detector[3:27, 3:27] = True
    assert (samples[~on_detector] == 0).all()
    known = area > 0
    np.testing.assert_allclose(samples[known], pattern[known[3:27, 3:27]], rtol=1e-6)
    # a plane goes on across a line of dead pixels and, by symmetry, into the middle of a square hole
    inner = samples[3:27, 3:27]
    np.testing.assert_allclose(inner[1:-1, 18], pattern[1:-1, 18], rtol=1e-6)
    np.testing.assert_allclose([inner[10, 11], inner[20, 3]], [pattern[10, 11], pattern[20, 3]], rtol=1e-6)
    hole = inner[8:13, 9:14]
    assert np.abs(hole - pattern[8:13, 9:14]).max() < 0.25 * np.ptp(pattern[7:14, 8:15])


@pytest.mark.parametrize("ellipse", [None, (1.15, 0.5)])
def test_cartesian_patterns_from_polar_ones(ellipse):
    axis, shape, aspect = (31.2, 32.6), (64, 66), 0.95
    pattern = blobs(shape, axis, plane=plane_of_pixels(aspect, ellipse))
    polar = PolarGrid.chosen(axis, 12.0, shape, aspect=aspect, ellipse=ellipse)
    weights = polar.weights(shape)
    samples = pattern.ravel() @ dense(weights)
    grid = PixelGrid(axis, 16.0, 24, aspect, ellipse)
    matrix = grid.from_polar(polar)
    assert matrix.shape == (24 * 24, polar.n_radial * polar.n_azimuthal)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
    result = (matrix @ samples).reshape(24, 24)
    # rings and sectors blur by their own width, beside that of the pixels
    assert np.abs(result - sampled(grid, pattern)).max() < 0.02 * np.ptp(pattern)


def test_samples_beyond_the_outermost_ring_are_zero():
    polar = PolarGrid((15.5, 15.5), 10.0, 10, 32)
    grid = PixelGrid((15.5, 15.5), 12.0, 12)
    matrix = grid.from_polar(polar)
    samples = (matrix @ np.ones(320)).reshape(12, 12)
    place = (np.arange(12) - 5.5) * 2
    nearest, farthest = (np.hypot(np.abs(place)[:, None] + edge, np.abs(place) + edge) for edge in (-0.75, 0.75))
    np.testing.assert_allclose(samples[farthest < 10], 1.0)
    assert (samples[nearest > 10] == 0).all()
    assert ((samples == 0) | (np.abs(samples - 1) < 1e-12)).all()
    assert 0 < (samples == 0).sum() < 144


@pytest.mark.parametrize(("aspect", "ellipse"), [(1.0, None), (1.2, (1.1, 2.0))])
def test_painting_on_the_detector(aspect, ellipse):
    axis, shape = (15.2, 16.4), (32, 34)
    plane = plane_of_pixels(aspect, ellipse)
    grid = PixelGrid(axis, 11.0, 44, aspect, ellipse)
    pattern = blobs(shape, axis, plane=plane)
    painted = grid.to_detector(np.stack([sampled(grid, pattern), np.ones((44, 44))]), shape)
    rows, columns = np.indices(shape, dtype=float)
    places = np.tensordot(plane, np.stack([columns - axis[1], axis[0] - rows]), axes=1)
    inside = (np.abs(places) <= 11.0).all(axis=0)
    np.testing.assert_array_equal(np.isfinite(painted[0]), inside)
    np.testing.assert_allclose(painted[1][inside], 1.0)
    # a sample between pixels is a mean of them, which blurs by less than a pixel
    assert np.abs(painted[0] - pattern)[inside].max() < 0.03 * np.ptp(pattern)


def scan(shape=(3, 5, 16, 18), seed=0):
    return np.random.default_rng(seed).poisson(3.0, shape).astype(np.uint16)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("polar", [True, False])
def test_the_pass_measures_them_beside_the_polar_patterns(dtype, polar):
    array = scan().astype(dtype)
    dataset = Dataset4D.from_array(da.from_array(array, chunks=(2, 3, 16, 9)), calibration=KNOWN)
    measured = measure(dataset, config=MeasureConfig(n_pixels=7, pixels_outer=1.5), polar=polar)
    assert measured.pixel_grid == PixelGrid(KNOWN.optical_axis, 6.0, 7, aspect=1.2 / 1.5)
    np.testing.assert_allclose(measured.pixels, sampled(measured.pixel_grid, array), rtol=2e-6)
    without = measure(dataset)
    for name in without.maps:
        np.testing.assert_array_equal(measured.maps[name], without.maps[name])
    if polar:
        np.testing.assert_allclose(measured.polar_patterns(), without.polar_patterns(), rtol=1e-6)
    else:
        assert measured.polar is None
    assert without.pixels is without.pixel_grid is None
    with pytest.raises(DataError, match=r"measure\.n_pixels"):
        next(without.pixel_blocks())


def test_bad_pixels_and_missing_positions():
    array = scan()
    bad = np.zeros((16, 18), bool)
    bad[5:8, 6:9] = bad[7, 12] = True
    missing = np.zeros((3, 5), bool)
    missing[2, 3:] = True
    array[missing] = 0
    dataset = Dataset4D.from_array(np.where(bad, 60000, array).astype(np.uint16), calibration=KNOWN)
    dataset = Dataset4D(dataset.data, calibration=KNOWN, missing=missing, bad_pixels=bad)
    measured = measure(dataset, config=MeasureConfig(n_pixels=12))
    # what a bad pixel holds counts nowhere: it is filled from the good ones around it, to a whole count
    filled = np.rint(fill_pattern(array, bad))
    expected = sampled(measured.pixel_grid, filled, np.ones_like(bad))
    np.testing.assert_allclose(measured.pixels[~missing], expected[~missing], rtol=2e-6)
    assert measured.pixels.max() < 20
    blocks = list(measured.pixel_blocks(measured.recorded, n=5))
    assert [len(block) for block in blocks] == [5, 5, 3]
    np.testing.assert_array_equal(np.concatenate(blocks), measured.pixels[measured.recorded])


def test_they_follow_the_beams_shift():
    axis, shape = (19.4, 20.3), (40, 41)
    along_y, along_x = (2.5, -1.0), (-1.5, 3.0)
    down, right = np.meshgrid(np.linspace(-0.5, 0.5, 6), np.linspace(-0.5, 0.5, 7), indexing="ij")
    shift = down[..., None] * along_y + right[..., None] * along_x
    patterns = np.array([[blobs(shape, axis, one) for one in row] for row in shift])
    known = Calibration(optical_axis=axis, disc_radius=10.0)
    dataset = replace(Dataset4D.from_array(patterns, calibration=known), beam_shift=(along_y, along_x))
    # the square reaches over the detector's edge, which moves in and out with the beam
    measured = measure(dataset, config=MeasureConfig(n_pixels=22, pixels_outer=2.2))
    still = sampled(measured.pixel_grid, blobs(shape, axis))
    where = np.zeros((22, 22), bool)
    where[3:-3, 3:-3] = True
    steepest = np.abs(np.gradient(blobs(shape, axis))).max()
    assert np.abs(measured.pixels - still)[..., where].max() < 2 * steepest / 16
    flat = replace(dataset, data=da.ones_like(dataset.data))
    level = measure(flat, config=MeasureConfig(n_pixels=22, pixels_outer=1.9)).pixels
    np.testing.assert_allclose(level, 1.0, rtol=1e-5)


@pytest.mark.parametrize("ellipse", [None, (1.2, 0.7)])
def test_rotated_patterns_are_rotated_and_ellipses_undone(ellipse):
    plane = plane_of_pixels(1.0, ellipse)
    axis, shape = (31.5, 31.5), (64, 64)
    known = Calibration(optical_axis=axis, disc_radius=14.0, ellipse=ellipse)
    drawn = [blobs(shape, axis, plane=np.array([[0, 1], [-1, 0]]) @ plane), blobs(shape, axis, plane=plane)]
    measured = measure(Dataset4D.from_array(np.array([drawn]), calibration=known), config=MeasureConfig(n_pixels=28))
    # turned pixels lie as they did; of those of an ellipse the square samples take other shares
    difference = np.rot90(measured.pixels[0, 1]) - measured.pixels[0, 0]
    assert np.abs(difference).max() < (1e-5 if ellipse is None else 0.015) * np.ptp(drawn[1])


def test_streaming_and_the_run_folder(tmp_path):
    array = scan((5, 7, 16, 18))
    dataset = Dataset4D.from_array(
        da.from_array(array, chunks=(2, 3, 16, 18)), calibration=KNOWN, expectation=np.full(array.shape, 3.0)
    )
    config = MeasureConfig(n_pixels=9)
    memory = measure(dataset, config=config)
    store = zarr.open_group(tmp_path / "measurements.zarr", mode="w")
    streamed = measure(dataset, config=config, store=store)
    assert isinstance(streamed.pixels, zarr.Array)
    assert streamed.pixels.attrs["unit"] == streamed.polar.attrs["unit"]
    streamed.write(store)
    memory.write(zarr.open_group(tmp_path / "memory.zarr", mode="w"))
    for name in ("measurements", "memory"):
        again = Measurements.read(zarr.open_group(tmp_path / f"{name}.zarr", mode="r"))
        for one, other in ((again, memory), (again.expectation, memory.expectation)):
            assert one.pixel_grid == other.pixel_grid
            np.testing.assert_array_equal(one.pixels[:], other.pixels)
            np.testing.assert_array_equal(one.polar_patterns(), other.polar_patterns())
            mask = np.random.default_rng(0).random((5, 7)) < 0.4
            np.testing.assert_array_equal(np.concatenate(list(one.pixel_blocks(mask, n=3))), other.pixels[mask])
    np.testing.assert_allclose(memory.expectation.pixels, 3.0, rtol=1e-6)


@pytest.mark.parametrize("change", [{"n": 0}, {"half_width": 0.0}, {"half_width": np.nan}, {"axis": (np.inf, 1.0)}])
def test_impossible_grids_are_refused_in_one_line(change):
    with pytest.raises(CalibrationError, match="check axis and disc radius") as info:
        PixelGrid(**({"axis": (3.0, 3.0), "half_width": 2.0, "n": 4} | change))
    assert "\n" not in str(info.value)


def test_grids_become_plain_values_and_back():
    for grid in (PixelGrid((3.5, 4.0), 2.0, 8), PixelGrid((3.5, 4.0), 2.0, 8, 0.9, (1.1, 0.3))):
        assert PixelGrid.from_dict(grid.to_dict()) == grid
