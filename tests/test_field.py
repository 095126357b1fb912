import numpy as np
import pytest

from stemvane.calibration import Calibration
from stemvane.dataset import Dataset4D
from stemvane.errors import DataError
from stemvane.field import curl, divergence, gradient, integrate
from stemvane.measure import measure


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
    found = gradient(image, (0.5, 0.25))
    np.testing.assert_allclose(found[..., 1], np.cos(2 * np.pi * x / 40) * 2 * np.pi / 10, atol=1e-12)
    np.testing.assert_allclose(found[..., 0], -2 * np.sin(2 * np.pi * y / 32) * 2 * np.pi / 16, atol=1e-12)


def test_a_gradient_has_no_curl_and_a_vortex_has(smooth):
    assert np.abs(curl(gradient(smooth))).max() < 1e-12 * np.abs(smooth).max()
    grad = gradient(smooth)
    turned = np.stack([-grad[..., 1], grad[..., 0]], axis=-1)  # +90 degrees on the screen
    np.testing.assert_allclose(divergence(turned), 0, atol=1e-12)
    np.testing.assert_allclose(curl(turned), divergence(grad), atol=1e-12)


def test_divergence_is_negative_where_vectors_point_inwards():
    y, x = np.indices((33, 33)) - 16
    bump = np.exp(-(y**2 + x**2) / 20)
    inwards = gradient(bump)
    assert divergence(inwards)[16, 16] < 0


def test_a_scan_turned_by_90_degrees_turns_map_and_vectors():
    rng = np.random.default_rng(0)
    scan = rng.random((3, 5, 16, 16)) + 0.5
    calibration = Calibration(optical_axis=(7.5, 7.5), disc_radius=5.0)
    before = measure(Dataset4D.from_array(scan, calibration=calibration))
    both = np.rot90(np.rot90(scan, axes=(0, 1)), axes=(2, 3))
    after = measure(Dataset4D.from_array(both, calibration=calibration))
    expected = np.rot90(before.com_angle) + np.pi / 2
    np.testing.assert_allclose(np.exp(1j * after.com_angle), np.exp(1j * expected), atol=1e-9)
    np.testing.assert_allclose(after.com_magnitude, np.rot90(before.com_magnitude), atol=1e-12)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2)])
def test_gradient_of_something_else_is_refused(shape):
    with pytest.raises(DataError, match="two axes"):
        gradient(np.zeros(shape))
