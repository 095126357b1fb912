"""How long training goes on, and along which directions of feature space."""

import numpy as np
import pytest
import torch

from stemvane import RotationVAE, measure, synthetic
from stemvane.config import BasisConfig, TrainingConfig
from stemvane.models.harmonic_network import HarmonicNetwork
from stemvane.models.occupied import OccupiedDirections

ORDERS = torch.tensor([0, 1, 1, 1, 2, 2, 3, 5])
N = len(ORDERS)


@pytest.fixture(scope="module")
def measured():
    dataset, _ = synthetic(scan_shape=(20, 20), detector_shape=(24, 24), dose=1e4)
    return measure(dataset)


def two_directions(n=200):
    """Patterns that occupy one direction of order 1 and one of order 2, and their network."""
    random = np.random.default_rng(0)
    directions = np.zeros((2, N), complex)
    directions[0, 1:4] = [0.6, 0.48j, 0.64]
    directions[1, 4:6] = [0.8, -0.6]
    values = random.normal(size=(n, 2)) + 1j * random.normal(size=(n, 2))
    features = values @ directions
    x = torch.from_numpy(np.concatenate([features.real, features.imag], axis=1).astype(np.float32))
    network = HarmonicNetwork(ORDERS, 1, 8, 24)
    network.start_from(x[0], x[1:2] / x[1].norm(), torch.ones(1))
    return x, network


def test_directions_hold_all_of_the_patterns():
    x, _ = two_directions()
    occupied = OccupiedDirections.of(x, ORDERS, 1e-2)
    assert occupied.orders.tolist() == [1, 2]
    torch.testing.assert_close(occupied.matrix @ occupied.matrix.T, torch.eye(4))
    torch.testing.assert_close(x @ occupied.matrix.T @ occupied.matrix, x)


def test_noise_everywhere_leaves_all_directions():
    x, _ = two_directions()
    noisy = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    occupied = OccupiedDirections.of(noisy, ORDERS, 0.1**2)
    assert len(occupied.orders) == N


def test_a_narrow_network_is_the_network_along_the_directions():
    x, network = two_directions()
    occupied = OccupiedDirections.of(x, ORDERS, 1e-2)
    narrow = occupied.narrow(network)
    along = x @ occupied.matrix.T
    with torch.no_grad():
        torch.nn.init.normal_(narrow.decoder[-1].weight)
        torch.nn.init.normal_(narrow.decoder[-1].bias)
        narrow.noise_variance.fill_(0.03)
        occupied.take_over(network, narrow)
        latents = torch.linspace(-2, 2, 7)[:, None]
        torch.testing.assert_close(network.decode(latents) @ occupied.matrix.T, narrow.decode(latents))
        torch.testing.assert_close(
            network.rotate(x, latents[0].expand(len(x))) @ occupied.matrix.T,
            narrow.rotate(along, latents[0].expand(len(x))),
        )
    torch.testing.assert_close(network.angles(x), narrow.angles(along), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        network.loss(x, 1.0, torch.Generator().manual_seed(1)).total,
        narrow.loss(along, 1.0, torch.Generator().manual_seed(1)).total,
    )


def trained(measurements, **options):
    training = TrainingConfig(**options)
    return RotationVAE(basis=BasisConfig(n_features=16), training=training).fit(measurements)


def test_a_large_scan_is_shown_in_part(measured):
    assert trained(measured, n_epochs=10, n_shown=1000).history.n_patterns <= 1000
    assert len(trained(measured, n_epochs=10, n_shown=1000).history.epochs) == 10
    every = trained(measured, n_epochs=10, n_shown=100_000).history.n_patterns
    assert 0.8 * 10 * 360 < every <= 10 * 360


def test_training_stops_where_a_network_gains_nothing(measured):
    """Two structures of which each has an amplitude: content is linear in the latents."""
    reports = []
    model = RotationVAE(basis=BasisConfig(n_features=16), training=TrainingConfig(n_epochs=75))
    model.fit(measured, progress=lambda report: reports.append(report.epoch))
    mean, error = model.history.gain
    assert mean < 3 * error
    assert reports == [report.epoch for report in model.history.epochs] == list(range(1, 14))
    closed_form = RotationVAE(basis=BasisConfig(n_features=16), training=TrainingConfig(n_epochs=0)).fit(measured)
    np.testing.assert_allclose(
        model.decode(np.array([[0.5, -0.5]]), 0.3), closed_form.decode(np.array([[0.5, -0.5]]), 0.3), atol=1e-6
    )


def test_training_goes_on_where_content_bends():
    """A structure that moves outwards with the latent is no sum of two."""
    y, x = np.mgrid[:24, :24] - 11.5
    random = np.random.default_rng(0)
    strength, angle = random.uniform(0, 1, 400), random.uniform(0, 2 * np.pi, 400)
    at_y, at_x = -(3 + 3 * strength) * np.sin(angle), (3 + 3 * strength) * np.cos(angle)
    spot = np.exp(-((y - at_y[:, None, None]) ** 2 + (x - at_x[:, None, None]) ** 2) / 4)
    patterns = np.where(np.hypot(y, x) < 10, 1.0, 0.0) + spot
    measurements = measure(patterns.reshape(20, 20, 24, 24).astype(np.float32))
    model = RotationVAE(1, basis=BasisConfig(n_features=24), training=TrainingConfig(n_epochs=75)).fit(measurements)
    mean, error = model.history.gain
    assert mean > 3 * error
    assert len(model.history.epochs) == 75
