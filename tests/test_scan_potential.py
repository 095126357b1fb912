"""One potential behind all features of a scan, of which everything but the features' noise is found."""

import numpy as np
import pytest
from scipy import ndimage

from stemvane.features.channel_filter import filter_channels
from stemvane.features.feature_noise import FeatureNoise
from stemvane.features.potential_filter import PotentialFilter
from stemvane.features.scan_frame import ScanFrame, mirror, scan_frequencies, taper
from stemvane.features.scan_problem import ScanProblem
from stemvane.features.scan_transfer import ScanTransfer

STEP, CUTOFF = (0.2, 0.2), 1.25
ORDERS = np.array([1, 1, 1, 2, 2, 3, 3, 3])
# response of each feature along the spatial frequency q; those of order 2 do not respond
GRADIENT = np.array([1.0, 0.6j, 0, 0, 0, 0.4, 0, 0.3j])


def noise(rng, shape):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


class Thin:
    """Features of a random field, seen through a transfer, and their noise of variance 1."""

    def __init__(self, n=48, margin=32, seed=0, strength=100.0):
        rng = np.random.default_rng(seed)
        shape = (n + margin, n + margin)
        frequency = scan_frequencies(shape, STEP)
        amplitude = strength * np.exp(-(((frequency - 0.6) / 0.25) ** 2)) * (frequency <= CUTOFF)
        self.spectrum = np.fft.fft2(rng.normal(size=shape)) * amplitude
        self.transfer = (GRADIENT[:, None, None] * np.exp(-((frequency / 1.2) ** 2))) * 1j
        # the second of order 1 responds to the finer half of the frequencies alone
        self.transfer[1] *= frequency > 0.6
        frame = ScanFrame(ORDERS, shape, STEP)
        clean = np.fft.ifft2(self.transfer * np.conj(frame.phases) * self.spectrum)[:, :n, :n]
        self.clean = clean.astype(np.complex64) / 10
        self.y = self.clean + noise(rng, self.clean.shape)
        self.recorded = np.ones((n, n), bool)

    def fit(self):
        features = np.moveaxis(self.y, 0, -1)
        return PotentialFilter.fit(features, self.recorded, ORDERS, np.ones(len(ORDERS)), STEP, CUTOFF)

    def filter(self, gradient=None):
        features = np.moveaxis(self.y, 0, -1)
        (tile,) = self.fit().filter(lambda rows: features[rows], self.recorded, gradient)
        return tile


@pytest.fixture(scope="module")
def thin():
    return Thin()


def features_of(tile):
    return np.tensordot(tile.directions.T, tile.values, axes=1) + tile.mean[:, None, None]


def test_features_that_do_not_respond_have_no_direction(thin):
    transfer = thin.fit().transfer
    assert set(transfer.orders) == {1, 3}
    overlap = transfer.directions @ transfer.directions.conj().T
    np.testing.assert_allclose(overlap, np.eye(len(overlap)), atol=1e-5)
    responding = np.abs(transfer.directions[transfer.orders == 1][:, :3]) ** 2
    assert responding[:, 2].sum() < 0.1
    along = np.abs(transfer.directions[transfer.orders == 3][0, 5:]) ** 2
    np.testing.assert_allclose(along, [0.64, 0, 0.36], atol=0.1)


def test_power_that_no_direction_explains_is_not_the_potentials():
    """Weak content that all features share stands out of a ring's noise, but not in any combination of features."""
    rng, shape, orders = np.random.default_rng(7), (32, 32), np.arange(60)
    y = noise(rng, (60, *shape))
    y.imag[0] = 0
    y += 0.12 * rng.normal(size=(60, 1, 1)) * np.cos(2 * np.pi * np.arange(32) / 8)
    transfer = ScanTransfer.fit(y, taper(np.ones(shape, bool)), orders, (0.2, 0.2), 2.0)
    assert not len(transfer.directions)
    assert not transfer.share.any()
    PotentialFilter.fit(np.moveaxis(y, 0, -1), np.ones(shape, bool), orders, np.ones(60), (0.2, 0.2), 2.0)


def test_nothing_but_noise_has_no_direction_and_stays_nothing():
    rng = np.random.default_rng(5)
    y = noise(rng, (8, 48, 48))
    transfer = ScanTransfer.fit(y, taper(np.ones((48, 48), bool)), ORDERS, STEP, CUTOFF)
    assert not len(transfer.directions)
    rest = filter_channels(y, np.ones((48, 48), bool), ORDERS, STEP, transfer)
    assert rest is None or (np.abs(rest.values) ** 2).sum(axis=0).mean() < 0.02 * (np.abs(y) ** 2).sum(axis=0).mean()


def test_the_estimate_is_close_and_its_error_is_what_it_says(thin):
    tile = thin.filter()
    off = features_of(tile) - thin.clean
    inner = (slice(None), slice(8, -8), slice(8, -8))
    assert (np.abs(off[inner]) ** 2).sum() < 0.1 * (np.abs(thin.y - thin.clean)[inner] ** 2).sum()
    noise = FeatureNoise.along([tile.directions], [tile.covariance], tile.mean_std, np.ones(1))
    squares = (np.abs(off[inner]) ** 2).mean(axis=(1, 2)) / 2
    assert 0.6 < squares.sum() / (noise.std**2).sum() < 1.6
    assert np.corrcoef(squares, noise.std**2)[0, 1] > 0.9
    # at the edge less is known
    assert tile.scale[0].mean() > 1.05 * tile.scale[20:28, 20:28].mean()


def test_a_gradient_has_no_part_across_and_one_that_does_keeps_it(thin):
    gradient = np.zeros(len(ORDERS))
    gradient[0] = 1
    tile = thin.filter(gradient)
    off = tile.gradient - (thin.clean[0] - thin.clean[0].mean())
    assert np.abs(off).std() < 0.25 * np.abs(thin.clean[0]).std()
    ratio = np.abs(off[8:-8, 8:-8]) / tile.gradient_std[8:-8, 8:-8]
    assert 0.6 < np.sqrt((ratio**2).mean() / 2) < 1.5
    # the first two together respond along q at low frequencies, and along and across at high ones
    mixed = gradient.copy()
    mixed[1] = 1
    expected = thin.clean[0] + thin.clean[1]
    off = thin.filter(mixed).gradient - (expected - expected.mean())
    assert np.abs(off).std() < 0.3 * np.abs(expected).std()


def test_fitting_again_brings_the_transfer_closer():
    """A window over the scan turns phases within peaks; the edges that are left out exactly do not."""
    thin = Thin(n=32, seed=3, strength=150.0)
    weights = taper(thin.recorded)
    transfer = ScanTransfer.fit(thin.y, weights, ORDERS, STEP, CUTOFF)
    along = np.tensordot(transfer.directions.conj(), thin.y, axes=1)
    problem = ScanProblem(transfer, STEP, along, thin.recorded)
    again = problem.refit(transfer, problem.solve())

    def misfit(transfer):
        problem = ScanProblem(transfer, STEP, along, thin.recorded)
        expected = problem.expected(problem.solve().spectrum)
        clean = np.tensordot(transfer.directions.conj(), thin.clean, axes=1)
        return (np.abs(expected - clean) ** 2).sum()

    assert misfit(again) < misfit(transfer)
    lengths = np.linalg.norm(again.vectors, axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_hats_are_one_between_rings_and_nothing_beyond_the_cutoff(thin):
    transfer = thin.fit().transfer
    frequency = scan_frequencies((40, 30), STEP)
    hats = transfer.hats(frequency)
    inside = (frequency > 0) & (frequency <= CUTOFF)
    np.testing.assert_allclose(hats.sum(axis=0), inside, atol=1e-6)
    assert ((hats > 0).sum(axis=0) <= 2).all()


def test_content_that_is_no_response_is_filtered_feature_by_feature(thin):
    """What does not belong to the potential, as in thick crystals, is kept where it is more than noise."""
    rng = np.random.default_rng(9)
    other = ndimage.gaussian_filter(rng.normal(size=(2, 48, 48)), (0, 2, 2))
    other = 1.5 * (other[0] + 1j * other[1]) / np.abs(other[0] + 1j * other[1]).std()
    scan = Thin()
    scan.y = scan.y.copy()
    scan.y[4] += other.astype(np.complex64)
    off = (features_of(scan.filter())[4] - other - scan.clean[4])[6:-6, 6:-6]
    assert np.abs(off - off.mean()).std() < 0.5 * np.abs(other).std()


@pytest.mark.parametrize("handedness", [1, -1])
def test_channels_are_scaled_at_once(handedness):
    frame = ScanFrame(np.array([0, 1, 2, 1, 0]), (9, 12), (0.2, 0.3), handedness)
    rng = np.random.default_rng(2)
    spectrum = noise(rng, (5, 9, 12))
    factors = rng.random((frame.n_channels, 9, 12)).astype(np.float32)
    same, conjugate = frame.scaling(factors)
    scaled = same * spectrum + conjugate * np.conj(mirror(spectrum))
    np.testing.assert_allclose(scaled, frame.responses(factors * frame.channels(spectrum)), atol=1e-6)


def test_noise_that_goes_together_is_known_and_its_estimate_is_no_worse():
    """Two features of one order that share most of their noise, and nothing in them."""
    rng, shape = np.random.default_rng(3), (48, 48)
    orders = np.array([1, 1, 2])
    noise = rng.standard_normal((*shape, 3)) + 1j * rng.standard_normal((*shape, 3))
    mixing = np.array([[1, 0, 0], [0.9, 0.3, 0], [0, 0, 2]])
    colour = PotentialFilter.fit(
        (noise @ mixing.T).astype(np.complex64), np.ones(shape, bool), orders, np.ones(3), (0.2, 0.2), 1.0
    ).colour
    np.testing.assert_allclose(colour @ colour.conj().T, mixing @ mixing.T, atol=0.15)
    assert not colour[2, :2].any()
    apart = PotentialFilter.fit(noise.astype(np.complex64), np.ones(shape, bool), orders, np.ones(3), (0.2, 0.2), 1.0)
    off_diagonal = apart.colour - np.diag(np.diag(apart.colour))
    assert np.abs(off_diagonal).max() < 0.05
