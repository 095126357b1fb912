import numpy as np
import pytest

from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError
from stemvane.field.derivatives import curl, divergence, gradient, rotate_vectors
from stemvane.field.integration import integrate
from stemvane.reduction.measure import measure


@pytest.fixture
def smooth():
    rng = np.random.default_rng(3)
    spectrum = np.fft.fft2(rng.normal(size=(18, 25)))
    k = np.hypot(np.fft.fftfreq(18)[:, None], np.fft.fftfreq(25))
    image = np.fft.ifft2(spectrum * np.exp(-((k / 0.15) ** 2))).real
    return image - image.mean()


def test_gradient_and_periodic_integral_are_inverses(smooth):
    step = (0.3, 0.7)
    np.testing.assert_allclose(integrate(gradient(smooth, step), step), smooth, atol=1e-6)


def test_gradient_has_units_and_points_uphill():
    y, x = np.indices((32, 40))
    image = np.sin(2 * np.pi * x / 40) + 2 * np.cos(2 * np.pi * y / 32)
    slope = gradient(image, (0.5, 0.25))
    np.testing.assert_allclose(slope[..., 1], np.cos(2 * np.pi * x / 40) * 2 * np.pi / 10, atol=1e-12)
    np.testing.assert_allclose(slope[..., 0], -2 * np.sin(2 * np.pi * y / 32) * 2 * np.pi / 16, atol=1e-12)


def test_a_gradient_has_no_curl_and_a_vortex_has(smooth):
    assert np.abs(curl(gradient(smooth))).max() < 1e-12 * np.abs(smooth).max()
    grad = gradient(smooth)
    rotated = np.stack([-grad[..., 1], grad[..., 0]], axis=-1)  # +90 degrees on the screen
    np.testing.assert_allclose(divergence(rotated), 0, atol=1e-12)
    np.testing.assert_allclose(curl(rotated), divergence(grad), atol=1e-12)


def test_divergence_is_negative_where_vectors_point_inwards():
    y, x = np.indices((33, 33)) - 16
    bump = np.exp(-(y**2 + x**2) / 20)
    inwards = gradient(bump)
    assert divergence(inwards)[16, 16] < 0


def test_a_scan_rotated_by_90_degrees_rotates_map_and_vectors():
    rng = np.random.default_rng(0)
    scan = rng.random((3, 5, 16, 16)) + 0.5
    calibration = Calibration(optical_axis=(7.5, 7.5), disc_radius=5.0)
    before = measure(Dataset4D.from_array(scan, calibration=calibration))
    both = np.rot90(np.rot90(scan, axes=(0, 1)), axes=(2, 3))
    after = measure(Dataset4D.from_array(both, calibration=calibration))
    expected = np.rot90(before.com_angle) + np.pi / 2
    np.testing.assert_allclose(np.exp(1j * after.com_angle), np.exp(1j * expected), atol=1e-9)
    np.testing.assert_allclose(after.com_magnitude, np.rot90(before.com_magnitude), atol=1e-12)


def test_vectors_rotate_counter_clockwise_after_the_flip():
    right, down = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    np.testing.assert_allclose(rotate_vectors(right, np.pi / 2), [-1, 0], atol=1e-12)  # up
    np.testing.assert_allclose(rotate_vectors(down, np.pi / 2), [0, 1], atol=1e-12)
    np.testing.assert_allclose(rotate_vectors(down, np.pi / 2, flipped=True), [0, -1], atol=1e-12)


def bounded(step, shape=(40, 51)):
    """A map that does not go on as it began, and its gradient."""
    y, x = (np.arange(n) * d for n, d in zip(shape, step, strict=True))
    y, x = np.meshgrid(y, x, indexing="ij")
    image = np.sin(0.5 * y + 0.2 * x) + 0.03 * x**2 - 0.2 * y
    slope = np.cos(0.5 * y + 0.2 * x)
    return image - image.mean(), np.stack([0.5 * slope - 0.2, 0.2 * slope + 0.06 * x], axis=-1)


def test_derivatives_do_not_wrap_round_where_the_scan_is_not_periodic():
    step = (0.3, 0.2)
    image, field = bounded(step)
    result = gradient(image, step, periodic=False)
    np.testing.assert_allclose(result[2:-2, 2:-2], field[2:-2, 2:-2], atol=2e-5)
    np.testing.assert_allclose(result, field, atol=5e-3)
    assert np.abs(curl(field, step, periodic=False)).max() < 5e-3
    assert np.abs(gradient(image, step) - field).max() > 1


def test_integral_of_a_field_that_is_not_periodic():
    step = (0.3, 0.2)
    image, field = bounded(step)
    np.testing.assert_allclose(integrate(field, step, periodic=False), image, atol=2e-5)
    assert np.abs(integrate(field, step) - image).max() > 0.5


def test_a_cropped_field_has_the_same_integral():
    image, field = bounded((0.3, 0.2))
    part = integrate(field[5:30, 8:47], (0.3, 0.2), periodic=False)
    np.testing.assert_allclose(part - part.mean(), image[5:30, 8:47] - image[5:30, 8:47].mean(), atol=2e-5)


def test_integral_fits_in_the_sense_of_least_squares():
    _, field = bounded((1.0, 1.0), (12, 9))
    rng = np.random.default_rng(0)
    noise = rng.normal(size=field.shape)
    whole, parts = (
        integrate(field + noise, periodic=False),
        integrate(field, periodic=False) + integrate(noise, periodic=False),
    )
    np.testing.assert_allclose(whole, parts, atol=1e-9)
    assert integrate(noise[:1], periodic=False).shape == (1, 9)
    assert integrate(noise[:, :2], periodic=False).shape == (12, 2)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3)])
def test_integral_of_something_else_is_refused(shape):
    with pytest.raises(DataError, match="scan_y, scan_x, 2"):
        integrate(np.zeros(shape))


def test_a_strip_has_no_gradient_across():
    with pytest.raises(DataError, match="at least 3 positions"):
        gradient(np.zeros((2, 9)), periodic=False)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2)])
def test_gradient_of_something_else_is_refused(shape):
    with pytest.raises(DataError, match="two axes"):
        gradient(np.zeros(shape))
