"""What counting noise does to angle and latents, given how the content of the training patterns is distributed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stemvane.models.harmonic_network import AnglePosterior, HarmonicNetwork
from stemvane.models.pattern_noise import PatternNoise

__all__ = ["learn_priors", "noisy_angle", "noisy_latents", "template_noise"]

_MOST_PATTERNS = 4096
_N_ROUNDS = 40
# patterns that a mean square is taken over
_FEWEST_AVERAGED = 100
# latents beyond this many of their standard deviations are not looked for
_WIDEST_PRIOR = 6.0
# places over four standard deviations to either side: more change nothing
_N_PLACES = 12
_REACH = 4.0
# steps from a peak over its standard deviation, from which its curvature is taken
_NEAR = 0.5
# exponentials below are too small to be normal numbers, which takes several times as long
_SMALLEST = -80.0


def learn_priors(network: HarmonicNetwork, x: Tensor, noise: PatternNoise) -> None:
    """Let a trained network know how first latent and slopes are distributed over its noisy training patterns.

    The first latent's density on `HarmonicNetwork.first_prior` is the one that makes the patterns likeliest, angle
    integrated out, found by expectation maximisation from the normal one (Laird, J. Am. Stat. Assoc. 73, 805, 1978),
    which counts for one pattern more. `HarmonicNetwork.slope_prior` is the mean square of the latents' slopes less that
    of the noise, among patterns of similar first latent.

    Parameters
    ----------
    network : HarmonicNetwork
        A network with at least one latent.
    x : Tensor, shape (n, 2 n_features)
        Training patterns.
    noise : PatternNoise
        Errors of the patterns.
    """
    with torch.no_grad():
        step = max(1, len(x) // _MOST_PATTERNS)
        x, noise = x[::step], noise.of_some(slice(None, None, step))
        template_angle = network.angles(x)
        aligned = network.rotate(x, -template_angle)
        size = (network.components[0] ** 2).sum()
        if size > 0:
            reading = (aligned - network.template) @ network.components[0] / size
            density = _Strength(
                network, x, network.template.expand_as(x), noise=template_noise(network, noise, template_angle)
            )
            low = max(float(density.low[0]), float(reading.min()) - 1, -_WIDEST_PRIOR)
            high = max(min(float(reading.max()) + 1, _WIDEST_PRIOR), low + 1)
            places = torch.linspace(low, high, network.first_prior.shape[1], device=x.device)
            likelihood = density.likelihood(template_angle, places)
            normal = (-0.5 * places**2).softmax(0)
            weight = normal
            for _ in range(_N_ROUNDS):
                joint = likelihood * weight
                weight = (joint / joint.sum(-1, keepdim=True).clamp(min=1e-30)).sum(0) + normal
                weight = weight / weight.sum()
            network.first_prior.copy_(torch.stack([places, weight.log()]))
        mean, _ = network.encode_aligned(aligned)
        slope, of_noise = _slopes(network, aligned, template_angle, noise)
        first, order = mean[:, 0].sort()
        excess = (slope**2 - of_noise)[order]
        n_bins = network.slope_prior.shape[1]
        n_averaged = min(len(x), max(_FEWEST_AVERAGED, len(x) // n_bins))
        for j in range(n_bins):
            start = round(j * (len(x) - n_averaged) / (n_bins - 1))
            part = slice(start, start + n_averaged)
            network.slope_prior[0, j] = first[part].median()
            network.slope_prior[1:, j] = excess[part].mean(0).clamp(min=0)


def noisy_angle(
    network: HarmonicNetwork,
    x: Tensor,
    template_angle: Tensor,
    aligned: Tensor,
    mean: Tensor,
    content: Tensor,
    noise: PatternNoise,
) -> tuple[AnglePosterior, Tensor]:
    """Angle's posterior about the peak for the content, and its probabilities on the fixed grid.

    How strong a pattern's content is decides how well its angle is known, and noise makes weak content look stronger.
    So the first latent, in which the content is linear, is integrated out.

    Parameters
    ----------
    network : HarmonicNetwork
        A network with at least one latent.
    x : Tensor, shape (n, 2 n_features)
        Patterns.
    template_angle : Tensor, shape (n,)
        Where the template fits each pattern.
    aligned : Tensor, shape (n, 2 n_features)
        The patterns rotated back by this.
    mean : Tensor, shape (n, n_latent)
        Posterior mean of the latents.
    content : Tensor, shape (n, 2 n_features)
        Decoded from `mean`.
    noise : PatternNoise
        Errors of the patterns.

    Returns
    -------
    posterior : AnglePosterior
    on_grid : Tensor, shape (n, n_angles)
    """
    peak, _ = network.peak(*network.cross(x, content))
    variance = _content_noise(network, x, peak, template_angle, aligned, mean, content, noise)
    base = content - torch.outer(mean[:, 0], network.components[0])
    strength = _Strength(network, x, base, variance)
    on_grid = strength.density(peak, torch.zeros_like(peak), network.table)
    return strength.posterior(peak), on_grid / on_grid.sum(-1, keepdim=True).clamp(min=1e-30)


def noisy_latents(
    network: HarmonicNetwork, x: Tensor, template_angle: Tensor, aligned: Tensor, mean: Tensor, noise: PatternNoise
) -> Tensor:
    """Standard deviation that counting noise gives to the latents' means, as distances.

    Parameters are as of `noisy_angle`.

    Through the pattern itself exactly, since the encoder is linear; through the angle at which it is rotated back by
    what the odd part of a latent changes by over the angle's posterior for the template. That part is shrunk as the
    noise in its slope demands.
    """
    template = network.template.expand_as(x)
    about = _Strength(network, x, template, template_noise(network, noise, template_angle)).posterior(template_angle)
    std, probability = about.circular_std(), about.probability
    slopes, _ = network.readout()
    slope, of_noise = _slopes(network, aligned, template_angle, noise)
    signal = _signal_share(network, mean, of_noise)
    direct = torch.stack([noise.along(network, row, template_angle) for row in slopes], -1)
    per_feature = noise.variance
    sines = -network.table[len(network.multiple) :]
    narrow = std < 2 * math.pi / network.n_angles
    through = []
    for k, direction in enumerate(slopes):
        real, imag = direction.chunk(2)
        odd = network.cross(aligned, direction.expand_as(aligned))[1] @ sines
        noisy = (per_feature * (real**2 + imag**2)) @ network.by_order @ sines**2
        share = signal[:, k]
        square = share**2 * slope[:, k] ** 2 + share * of_noise[:, k]
        spread = share**2 * (probability * odd**2).sum(-1) + share * (probability * noisy).sum(-1)
        # a posterior within a cell of the grid holds one point of it
        through.append(torch.where(narrow, square * std**2, spread))
    std_of_means: Tensor = (direct + torch.stack(through, -1)).sqrt() * network.components.norm(dim=-1)
    return std_of_means


@dataclass(frozen=True, eq=False)
class _Strength:
    """Likelihood of angle and first latent for content ``base + z first`` and noise that is the same everywhere.

    Attributes
    ----------
    network : HarmonicNetwork
    x, base : Tensor, shape (n, 2 n_features)
        Patterns, and their content without the first latent's.
    noise : Tensor, shape (n,)
        Variance of the noise.
    """

    network: HarmonicNetwork
    x: Tensor
    base: Tensor
    noise: Tensor

    @cached_property
    def _spectra(self) -> list[tuple[Tensor, Tensor]]:
        """Cross-spectra of the patterns with base and first component."""
        first = self.network.components[0].expand_as(self.x)
        return [self.network.cross(self.x, content) for content in (self.base, first)]

    @cached_property
    def low(self) -> Tensor:
        """First latent at which the template vanishes; beyond it, content is that of other angles."""
        template = self.network.template
        towards = template @ self.network.components[0]
        if towards <= 1e-6 * template.norm() * self.network.components[0].norm():
            return torch.full_like(self.noise, -_WIDEST_PRIOR)
        return -(self.base @ template) / towards

    def likelihood(self, about: Tensor, places: Tensor) -> Tensor:
        """Relative likelihood of the first latent at `places`, angle integrated out; shape ``(n, n_places)``."""
        along, of_first = (part / self.noise[:, None] for part in self._along(about, self.network.table))
        penalty = self._penalty(places.expand(len(self.x), -1))
        values = torch.stack([(along + place * of_first).logsumexp(-1) for place in places], -1) - penalty
        step = places[1] - places[0]
        values = values.masked_fill(places < self.low[:, None] - 0.01 * step, -math.inf)
        return (values - values.amax(-1, keepdim=True)).clamp(min=_SMALLEST).exp()

    def _at_peak(self, peak: Tensor, power: int = 0) -> list[Tensor]:
        """Cross-correlations at the peak over the noise, or their derivative of an even order but for its sign."""
        multiple = self.network.multiple
        ahead = torch.cat([multiple**power, torch.zeros_like(multiple)])[:, None]
        return [part[:, 0] / self.noise for part in self._along(peak, ahead)]

    def _best(self, peak: Tensor) -> Tensor:
        """First latent that fits best at the peak, shape ``(n,)``."""
        first = self.network.components[0]
        along = self._at_peak(peak)[1] * self.noise - self.base @ first
        best: Tensor = along / (first**2).sum().clamp(min=1e-30)
        return best

    def density(self, peak: Tensor, about: Tensor, table: Tensor) -> Tensor:
        """Density of angles around `about`, first latent integrated out over its prior, relative to the peak."""
        network = self.network
        size = (network.components[0] ** 2).sum().clamp(min=1e-30)
        at_peak, first_at_peak = self._at_peak(peak)
        best = self._best(peak)
        reach = _REACH * (self.noise / size).sqrt()
        low = torch.maximum(best - reach, self.low).clamp(-_WIDEST_PRIOR, _WIDEST_PRIOR)
        high = torch.maximum(torch.maximum(best, self.low) + reach, low + 1e-3).clamp(max=_WIDEST_PRIOR + 1e-3)
        fraction = (torch.arange(_N_PLACES, device=self.x.device) + 0.5) / _N_PLACES
        places = low[:, None] + (high - low)[:, None] * fraction
        weight = _log_prior(network, places) - self._penalty(places)
        top = (at_peak[:, None] + first_at_peak[:, None] * places + weight).amax(-1)
        along, of_first = (part / self.noise[:, None] for part in self._along(about, table))
        along = along - top[:, None]
        total = torch.zeros_like(along)
        for place, offset in zip(places.unbind(-1), weight.unbind(-1), strict=True):
            values = torch.addcmul(along + offset[:, None], of_first, place[:, None])
            total += values.clamp_(_SMALLEST, -_SMALLEST).exp_()
        return total

    def posterior(self, peak: Tensor) -> AnglePosterior:
        """Posterior on the grid about a peak of the likelihood."""
        network = self.network
        bend, of_first = self._at_peak(peak, 2)
        bend = (bend + self._best(peak) * of_first).clamp(min=1e-12)
        # close enough that the density at both sides is no number too small
        step = (_NEAR / bend.sqrt()).clamp(max=math.pi / network.n_angles / 4)
        ahead = torch.cat([torch.ones_like(network.multiple), torch.zeros_like(network.multiple)])[:, None]
        before, at_peak, after = (self.density(peak, peak + side * step, ahead)[:, 0].log() for side in (-1, 0, 1))
        curvature = ((2 * at_peak - before - after) / step**2).clamp(min=0.0)
        centred = self.density(peak, peak, network.table)
        total = centred.sum(-1)
        return AnglePosterior(peak, centred / total[:, None], total.log(), curvature)

    def _penalty(self, places: Tensor) -> Tensor:
        """What the content's length takes from the log likelihood, but for a constant."""
        first = self.network.components[0]
        return (0.5 * places**2 * (first**2).sum() + places * (self.base @ first)[:, None]) / self.noise[:, None]

    def _along(self, about: Tensor, table: Tensor) -> list[Tensor]:
        """Cross-correlation of the patterns with base and first component at angles around `about`."""
        phase = about[:, None] * self.network.multiple
        cosine, sine = phase.cos(), phase.sin()
        return [
            torch.cat([real * cosine - imag * sine, real * sine + imag * cosine], dim=-1) @ table
            for real, imag in self._spectra
        ]


def _log_prior(network: HarmonicNetwork, latent: Tensor) -> Tensor:
    """Logarithm of the first latent's density, between the points where it is known."""
    places, density = network.first_prior
    step = places[1] - places[0]
    at = ((latent - places[0]) / step).clamp(0, len(places) - 1.001)
    lower = at.long()
    return torch.lerp(density[lower], density[lower + 1], at - lower)


def _slopes(
    network: HarmonicNetwork, aligned: Tensor, template_angle: Tensor, noise: PatternNoise
) -> tuple[Tensor, Tensor]:
    """Slope of every latent with the angle at which a pattern is rotated back, and variance of its noise."""
    derivative = network.derivative(network.readout()[0])
    of_noise = [noise.along(network, row, template_angle) for row in derivative]
    return aligned @ derivative.T, torch.stack(of_noise, -1)


def _signal_share(network: HarmonicNetwork, mean: Tensor, of_noise: Tensor) -> Tensor:
    """Share of a measured slope that is not noise, from patterns of similar first latent; shape ``(n, n_latent)``."""
    places, squares = network.slope_prior[0].contiguous(), network.slope_prior[1:].T
    first = mean[:, 0].contiguous()
    right = torch.searchsorted(places, first).clamp(1, len(places) - 1)
    width = (places[right] - places[right - 1]).clamp(min=1e-9)
    weight = ((first - places[right - 1]) / width).clamp(0, 1)[:, None]
    # where the prior is without bound, so is the mean of two of its values
    between = (1 - weight) * squares[right - 1] + weight * squares[right]
    return 1 / (1 + of_noise / between.nan_to_num(nan=math.inf).clamp(min=1e-30))


def template_noise(network: HarmonicNetwork, noise: PatternNoise, angle: Tensor) -> Tensor:
    """Variance, shape ``(n,)``, of noise alike in all coordinates that scatters the template's angle as the true."""
    derivative = network.derivative(network.template)
    variance = noise.along(network, derivative, angle) / (derivative**2).sum().clamp(min=1e-30)
    return variance.clamp(min=1e-30)


def _content_noise(
    network: HarmonicNetwork,
    x: Tensor,
    peak: Tensor,
    template_angle: Tensor,
    aligned: Tensor,
    mean: Tensor,
    content: Tensor,
    noise: PatternNoise,
) -> Tensor:
    """Variance, shape ``(n,)``, of noise alike in all coordinates that scatters the content's angle as the true.

    Noise reaches the angle directly and through the latents that the content is decoded from, which read the pattern
    and the angle for the template.
    """
    slopes, _ = network.readout()
    of_content, of_template = network.derivative(content), network.derivative(network.template)
    slope, of_noise = _slopes(network, aligned, template_angle, noise)
    # noise keeps the template's peak from being flatter
    of_bend = noise.along(network, network.derivative(of_template), template_angle)
    bend = torch.hypot(of_content @ of_template, of_bend.sqrt())
    share = _signal_share(network, mean, of_noise).sqrt()
    # of the correlation's slope with the latents, at the peak
    pulled = network.pull_back(mean, network.derivative(network.rotate(x, -peak)))
    pull = -share * pulled
    by_angle = (pull * share * slope).sum(-1) / bend.clamp(min=1e-30)
    response = of_content + pull @ slopes + torch.outer(by_angle, of_template)
    strength = (of_content**2).sum(-1).clamp(min=1e-30)
    isotropic = noise.along(network, response, peak) / strength
    return isotropic.clamp(min=1e-30)
