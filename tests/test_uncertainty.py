import math

import numpy as np
import pytest
import torch

from stemvane.models.harmonic_network import HarmonicNetwork
from stemvane.models.pattern_noise import PatternNoise
from stemvane.models.uncertainty import learn_priors, noisy_angle, noisy_latents

NOISE = 0.25


@pytest.fixture(scope="module")
def network():
    """Content of order 1 whose strength is ``1 + z / 2``, and a second latent in order 3."""
    result = HarmonicNetwork(torch.tensor([1, 3]), 2, 8, 72)
    components = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    result.start_from(torch.tensor([1.0, 0, 0, 0]), components, torch.tensor([0.5, 0.2]))
    result.noise_variance.fill_(NOISE**2)
    return result


@pytest.fixture(scope="module")
def patterns():
    """Fields that pass smoothly through zero: strengths of weak content are more frequent than of a normal latent."""
    rng = np.random.default_rng(1)
    strength = 1.6 * np.sqrt(rng.random(20_000))
    angle = rng.uniform(-np.pi, np.pi, len(strength))
    third = 0.2 * strength * (rng.normal(size=len(strength)) + 1j * rng.normal(size=len(strength)))
    clean = np.stack([strength * np.exp(-1j * angle), third * np.exp(-3j * angle)], axis=1)
    x = clean + NOISE * (rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape))
    return (torch.from_numpy(np.concatenate([part.real, part.imag], axis=1).astype(np.float32)) for part in (clean, x))


@pytest.fixture(scope="module")
def learned(network, patterns):
    clean, x = patterns
    noise = PatternNoise(NOISE * torch.eye(4), torch.ones(len(x)))
    learn_priors(network, x, noise)
    return network, clean, x, noise


def estimate(network, x, noise):
    angle = network.angles(x)
    straight = network.rotate(x, -angle)
    mean, _ = network.encode_aligned(straight)
    content = network.decode(mean)
    posterior, on_grid = noisy_angle(network, x, angle, straight, mean, content, noise)
    return mean, posterior, on_grid, noisy_latents(network, x, angle, straight, mean, noise)


def test_first_latent_has_the_distribution_of_noiseless_patterns(learned):
    network, clean, *_ = learned
    places, density = network.first_prior
    held = density.softmax(0).cumsum(0)
    strengths = 1 + places / 2
    clean_strength = torch.hypot(clean[:, 0], clean[:, 2])
    for level in (0.4, 0.8, 1.2):
        wanted = (clean_strength < level).float().mean()
        assert abs(held[strengths < level][-1] - wanted) < 0.05


def test_angle_of_weak_content_is_as_uncertain_as_it_errs(learned):
    network, clean, x, noise = learned
    with torch.no_grad():
        _, posterior, _, _ = estimate(network, x, noise)
        _, wanted, _, _ = estimate(network, clean, noise)
    error = torch.remainder(posterior.peak - wanted.peak + math.pi, 2 * math.pi) - math.pi
    cell = 2 * math.pi / 72
    away = cell * torch.arange(72)
    away = torch.minimum(away, 2 * math.pi - away)
    held = (posterior.probability * ((error.abs()[:, None] - away) / cell + 0.5).clamp(0, 1)).sum(-1)
    for tenth in posterior.circular_std().argsort().chunk(10)[-3:]:
        assert abs((held[tenth] < 0.68).float().mean() - 0.68) < 0.05


def test_slopes_are_learned_by_strength(learned):
    network, *_ = learned
    first, squares = network.slope_prior[0], network.slope_prior[2]
    assert (first.diff() >= 0).all()
    assert squares[-1] > 4 * squares[0]


def test_second_latent_errs_as_it_says_where_the_angle_is_not_known(learned):
    network, clean, x, noise = learned
    with torch.no_grad():
        mean, _, _, std = estimate(network, x, noise)
        wanted, *_ = estimate(network, clean, noise)
    error = ((mean - wanted) * network.components.norm(dim=-1))[:, 1]
    for tenth in std[:, 1].argsort().chunk(10):
        assert 0.85 < float((error / std[:, 1])[tenth].square().mean().sqrt()) < 1.15


def test_posteriors_stay_the_same_when_patterns_are_rotated(learned):
    network, _, x, noise = learned
    step = 2 * math.pi / 72 * 5
    with torch.no_grad():
        first = estimate(network, x[:50], PatternNoise(noise.factor, noise.scale[:50]))
        rotated = estimate(
            network, network.rotate(x[:50], torch.full((50,), step)), PatternNoise(noise.factor, noise.scale[:50])
        )
    torch.testing.assert_close(first[2].roll(5, -1), rotated[2], atol=1e-4, rtol=1e-2)
    torch.testing.assert_close(first[3], rotated[3], atol=1e-4, rtol=1e-3)
