"""The network in circular harmonics.

``pattern = background + turn(content(latents), angle) + noise``. Patterns come as features (`HarmonicBasis`), so a turn
is a phase per circular order and keeps lengths. Therefore, given the latents, the likelihood of *every* angle follows
from one product with a table of cosines, and the angle is integrated out instead of being sampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["AnglePosterior", "HarmonicModel", "LossParts"]


@dataclass(frozen=True)
class LossParts:
    """Negative evidence lower bound per pattern in nats, and its parts.

    Attributes
    ----------
    total : Tensor
        ``reconstruction + kl_angle + beta * kl_latent``; what training lowers.
    reconstruction : Tensor
        Expected negative log likelihood of the pattern.
    kl_latent : Tensor
        Divergence of the latents' posterior from the standard normal.
    kl_angle : Tensor
        Divergence of the angle's posterior from uniform; 0 for a pattern that has no direction.
    squared_error : Tensor
        Expected squared length of the misfit.
    """

    total: Tensor
    reconstruction: Tensor
    kl_latent: Tensor
    kl_angle: Tensor
    squared_error: Tensor


@dataclass(frozen=True)
class AnglePosterior:
    """Posterior of the angle on a grid that is centred on its highest peak, one row per pattern.

    Attributes
    ----------
    peak : Tensor, shape (n,)
        Most likely angle in rad.
    log_probability : Tensor, shape (n, n_angles)
        Of the angles ``peak + 2 π j / n_angles``.
    log_mean : Tensor, shape (n,)
        Logarithm of the likelihood ratio averaged over the circle.
    curvature : Tensor, shape (n,)
        Negative second derivative of the log likelihood at the peak, 1/rad².
    """

    peak: Tensor
    log_probability: Tensor
    log_mean: Tensor
    curvature: Tensor

    def circular_std(self) -> Tensor:
        """Circular standard deviation in rad, shape ``(n,)``; that of the grid and, within its cell, of the peak."""
        p = self.log_probability.exp()
        grid = 2 * math.pi / p.shape[-1] * torch.arange(p.shape[-1], device=p.device)
        resultant = torch.hypot(p @ grid.cos(), p @ grid.sin()).clamp(max=1.0)
        spread = -2 * resultant.clamp(min=1e-30).log()
        cell = (math.pi / p.shape[-1]) ** 2 / 3
        within = torch.minimum(1 / self.curvature.clamp(min=1e-12), torch.full_like(spread, cell))
        return torch.where(resultant < 1e-6, torch.full_like(spread, math.inf), (spread + within).sqrt())


class HarmonicModel(nn.Module):
    """Equivariant variational autoencoder on features.

    Parameters
    ----------
    orders : Tensor of int, shape (n_features,)
        Circular order of each feature.
    n_latent : int
        Latent variables besides the angle.
    n_hidden : int
        Width of the two hidden layers of encoder and decoder.
    n_angles : int
        Grid points on the circle.

    Notes
    -----
    The decoder is ``content(z) = template + z @ components + curved(z)``. Two directions are closed to it, which
    makes angle and first latent identifiable however far the network bends:

    - no content has a part along the template's derivative with respect to its angle. Otherwise any content could be
      turned by an angle that depends on the latents while the pattern's angle takes it back.
    - the curved part and the other components have none along the first component. Then, for a pattern turned back, the
      first latent's posterior is the linear one of probabilistic PCA, exactly, and the encoder uses it.
    """

    def __init__(self, orders: Tensor, n_latent: int, n_hidden: int, n_angles: int) -> None:
        super().__init__()
        n_features, n_orders = len(orders), int(orders.max()) + 1
        self.n_latent, self.n_angles = n_latent, n_angles
        self.n_coordinates = int(2 * n_features - (orders == 0).sum())
        self.register_buffer("orders", orders.long())
        by_order = torch.zeros(n_features, n_orders)
        by_order[torch.arange(n_features), orders.long()] = 1.0
        self.register_buffer("by_order", by_order, persistent=False)
        self.register_buffer("multiple", torch.arange(n_orders, dtype=torch.float32), persistent=False)
        grid = 2 * math.pi * torch.arange(n_angles) / n_angles
        table = torch.outer(self.multiple, grid)
        self.register_buffer("table", torch.cat([table.cos(), -table.sin()]), persistent=False)
        self.register_buffer("noise_variance", torch.tensor(1.0))
        self.register_buffer("latent_mean", torch.zeros(n_latent))
        self.register_buffer("latent_mix", torch.eye(n_latent))
        self.register_buffer("support", torch.ones(n_latent, 2 * n_features))
        self.template = nn.Parameter(torch.zeros(2 * n_features))
        self.components = nn.Parameter(torch.zeros(n_latent, 2 * n_features))
        others = max(n_latent - 1, 0)
        self.readout = nn.Parameter(torch.zeros(others, 2 * n_features))
        self.log_std = nn.Parameter(torch.zeros(others))
        if n_latent:
            self.decoder = _layers(n_latent, n_hidden, 2 * n_features)
        if others:
            self.encoder = _layers(2 * n_features, n_hidden, 2 * others)

    orders: Tensor
    by_order: Tensor
    multiple: Tensor
    table: Tensor
    noise_variance: Tensor
    latent_mean: Tensor
    latent_mix: Tensor
    support: Tensor

    def keep_gauge(self) -> None:
        """Hold template and first component in training, so that angle and first latent keep their meaning."""
        self.template.requires_grad_(False)

        def held(gradient: Tensor) -> Tensor:
            return torch.cat([torch.zeros_like(gradient[:1]), gradient[1:] * self.support[1:]])

        if self.n_latent:
            self.components.register_hook(held)

    def start_from(self, template: Tensor, components: Tensor, deviation: Tensor, symmetry: int = 1) -> None:
        """Start as alignment + PCA, whose template and first component are kept while the rest is learned.

        Parameters
        ----------
        template : Tensor, shape (2 n_features,)
            Mean of the turned residuals.
        components : Tensor, shape (n_latent, 2 n_features)
            Principal components, of length 1.
        deviation : Tensor, shape (n_latent,)
            Standard deviation along each.
        symmetry : int
            Of the template. Where it is above 1, each component keeps to the orders of its symmetry, and the curved
            part to those of any component; otherwise training would amplify rounding until the symmetry is lost.
        """
        with torch.no_grad():
            if symmetry > 1:
                self.support.copy_(_same_symmetry(components, self.orders, symmetry))
            self.template.copy_(template)
            self.components.copy_(deviation[:, None] * components)
            posterior = deviation[1:] ** 2 + self.noise_variance
            self.readout.copy_((deviation[1:] / posterior)[:, None] * components[1:])
            self.log_std.copy_(0.5 * torch.log(self.noise_variance / posterior))
        self.keep_gauge()

    def start_anywhere(self) -> None:
        """Start from a random template of length 1 and small random components."""
        with torch.no_grad():
            size = math.sqrt(len(self.template))
            self.template.copy_(torch.randn_like(self.template) / size)
            self.components.copy_(0.1 * torch.randn_like(self.components) / size)

    def standardise(self, x: Tensor) -> None:
        """Find units of the latents: over these patterns mean 0, variance 1, each uncorrelated with those before it.

        More of the first latent is more of the template; the others point where they are skewed to.
        """
        if not self.n_latent:
            return
        with torch.no_grad():
            latents, _ = self.encode(x)
            self.latent_mean.copy_(latents.mean(0))
            centred = (latents - self.latent_mean).double()
            covariance = centred.T @ centred / len(centred)
            covariance += 1e-9 * torch.eye(self.n_latent, dtype=torch.float64, device=x.device)
            factor = torch.linalg.cholesky(covariance)
            skewness = (torch.linalg.solve(factor, centred.T) ** 3).sum(-1)
            along = torch.cat([(self.components[0] @ self.template).double()[None], skewness[1:]])
            self.latent_mix.copy_((factor * torch.where(along < 0, -1.0, 1.0)).float())

    def standardised(self, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents in the units of `standardise`."""
        if not self.n_latent:
            return mean, log_std
        inverse = torch.linalg.inv(self.latent_mix)
        return (mean - self.latent_mean) @ inverse.T, ((2 * log_std).exp() @ (inverse**2).T).sqrt()

    def unstandardised(self, latents: Tensor) -> Tensor:
        """Latents as the decoder takes them, from the units of `standardise`."""
        return latents @ self.latent_mix.T + self.latent_mean

    def turn(self, x: Tensor, angle: Tensor) -> Tensor:
        """Turn features counter-clockwise on the screen; shapes ``(n, 2 n_features)`` and ``(n,)``."""
        phase = angle[:, None] * self.multiple
        cosine, sine = phase.cos()[:, self.orders], phase.sin()[:, self.orders]
        real, imag = x.chunk(2, dim=-1)
        return torch.cat([real * cosine + imag * sine, imag * cosine - real * sine], dim=-1)

    def cross(self, x: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
        """Circular cross-spectrum of patterns and content, real and imaginary part by order."""
        real, imag = x.chunk(2, dim=-1)
        content_real, content_imag = content.chunk(2, dim=-1)
        return (
            (content_real * real + content_imag * imag) @ self.by_order,
            (content_real * imag - content_imag * real) @ self.by_order,
        )

    def derivative(self, content: Tensor) -> Tensor:
        """Derivative of content with respect to the angle by which it is turned; shape ``(..., 2 n_features)``."""
        order = self.multiple[self.orders]
        real, imag = content.chunk(2, dim=-1)
        return torch.cat([order * imag, -order * real], dim=-1)

    def peak(self, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
        """Angle of the largest cross-correlation, refined between grid points, and the negative curvature there."""
        m = self.multiple
        with torch.no_grad():
            best = (torch.cat([real, imag], dim=-1) @ self.table).argmax(dim=-1)
            angle = 2 * math.pi / self.n_angles * best.to(real.dtype)
            for _ in range(3):
                cosine, sine = (angle[:, None] * m).cos(), (angle[:, None] * m).sin()
                slope = -((real * sine + imag * cosine) * m).sum(-1)
                bend = ((real * cosine - imag * sine) * m**2).sum(-1)
                step = torch.where(bend > 0, slope / bend.clamp(min=1e-12), torch.zeros_like(bend))
                angle = angle + step.clamp(-math.pi / self.n_angles, math.pi / self.n_angles)
            bend = ((real * (angle[:, None] * m).cos() - imag * (angle[:, None] * m).sin()) * m**2).sum(-1)
        return angle, bend

    def angle_posterior(self, x: Tensor, content: Tensor, variance: Tensor) -> AnglePosterior:
        """Posterior of the angle for given contents; the prior is uniform."""
        real, imag = self.cross(x, content)
        angle, bend = self.peak(real, imag)
        phase = angle[:, None] * self.multiple
        cosine, sine = phase.cos(), phase.sin()
        shifted = torch.cat([real * cosine - imag * sine, real * sine + imag * cosine], dim=-1)
        log_likelihood = (shifted @ self.table) / variance
        curvature = (bend / variance).clamp(min=0.0)
        # a peak narrower than a cell holds less than the grid points on it say; peaks of symmetric content hold alike
        cell = 2 * math.pi / self.n_angles
        whole = (2 * math.pi / curvature.clamp(min=1e-12)).sqrt() / cell
        on_grid = 1 + 2 * sum(
            (torch.exp(-curvature / 2 * (j * cell) ** 2) for j in range(1, 5)), torch.zeros_like(whole)
        )
        broad = curvature.sqrt() * cell < 1
        held = torch.where(broad, torch.ones_like(whole), whole / on_grid).clamp(max=1.0)
        log_sum = log_likelihood.logsumexp(dim=-1)
        return AnglePosterior(
            peak=torch.atan2(angle.sin(), angle.cos()),
            log_probability=log_likelihood - log_sum[:, None],
            log_mean=log_sum + held.log() - math.log(self.n_angles),
            curvature=curvature,
        )

    def decode(self, latents: Tensor) -> Tensor:
        """Content at angle 0, shape ``(n, 2 n_features)``, for latents of shape ``(n, n_latent)``."""
        template = self.template.expand(len(latents), -1)
        if not self.n_latent:
            return template
        closed, first = self._closed_directions()
        unit = nn.functional.normalize(first, dim=0)
        curved: Tensor = self.decoder(latents) * self.support.amax(0)
        free = latents[:, 1:] @ self.components[1:] + curved
        free = free - torch.outer(free @ closed, closed) - torch.outer(free @ unit, unit)
        return template + torch.outer(latents[:, 0], first) + free

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation of the latents' posterior, each ``(n, n_latent)``.

        The patterns are first turned back onto the template, so that the result does not depend on their angle.
        """
        if not self.n_latent:
            empty = x.new_zeros(len(x), 0)
            return empty, empty
        with torch.no_grad():
            angle, _ = self.peak(*self.cross(x, self.template))
            straight = self.turn(x, -angle)
        residual = straight - self.template
        _, first = self._closed_directions()
        strength = (first**2).sum() + self.noise_variance
        mean = (residual @ first / strength)[:, None]
        log_std = (0.5 * torch.log(self.noise_variance / strength)).expand(len(x), 1)
        if self.n_latent > 1:
            shift, log_factor = self.encoder(straight).chunk(2, dim=-1)
            mean = torch.cat([mean, residual @ self.readout.T + shift], dim=-1)
            log_std = torch.cat([log_std, (self.log_std + log_factor).clamp(-8.0, 2.0)], dim=-1)
        return mean, log_std

    def loss(self, x: Tensor, beta: float, generator: torch.Generator | None = None) -> LossParts:
        """Loss of a batch of features, shape ``(n, 2 n_features)``; the mean over the batch.

        A third to a half of the patterns, the more the more latents, are decoded from their first latents only, the
        others being set to their prior's mean (nested dropout; Rippel, Gelbart & Adams, ICML 2014), so that the latents
        are ordered by what they explain.
        """
        mean, log_std = self.encode(x)
        noise = torch.randn(mean.shape, generator=generator, device=x.device)
        latents = mean + noise * log_std.exp()
        kl = 0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std
        if self.n_latent > 1:
            kept = torch.randint(1, 2 * self.n_latent, (len(x), 1), generator=generator, device=x.device)
            used = torch.arange(self.n_latent, device=x.device) < kept
            latents, kl = latents * used, kl * used
        content = self.decode(latents)
        variance = self.noise_variance
        posterior = self.angle_posterior(x, content, variance)
        kl_angle = (posterior.log_probability.exp() * (posterior.log_probability + math.log(self.n_angles))).sum(-1)
        lengths = (x**2).sum(-1) + (content**2).sum(-1)
        constant = 0.5 * self.n_coordinates * torch.log(2 * math.pi * variance)
        marginal = constant + 0.5 * lengths / variance - posterior.log_mean
        reconstruction, kl_latent = (marginal - kl_angle).mean(), kl.sum(-1).mean()
        squared = 2 * variance * (reconstruction - constant)
        total = marginal.mean() + beta * kl_latent
        return LossParts(total, reconstruction, kl_latent, kl_angle.mean(), squared)

    def follow_noise(self, squared_error: Tensor, floor: float) -> None:
        """Let the noise variance be the running mean of the misfit per real coordinate, above ``floor²``."""
        found = (squared_error / self.n_coordinates).clamp(min=floor**2)
        self.noise_variance.lerp_(found, 0.1).clamp_(min=floor**2)

    def _closed_directions(self) -> tuple[Tensor, Tensor]:
        """Unit vector along the template's derivative by its angle; first component without its part along it."""
        closed = nn.functional.normalize(self.derivative(self.template), dim=0)
        first = self.components[0]
        return closed, first - (first @ closed) * closed


def _same_symmetry(components: Tensor, orders: Tensor, symmetry: int) -> Tensor:
    """1 where a component may have an entry, 0 elsewhere: orders that differ by the symmetry go together."""
    # a turn by 2 π / symmetry takes order m and order -m through opposite phases, and a component is real
    kind = torch.minimum(orders % symmetry, -orders % symmetry).repeat(2)
    same = (kind[:, None] == kind).to(components.dtype)
    share = components**2 @ same
    return (share > 1e-6 * (components**2).sum(-1, keepdim=True)).to(components.dtype)


def _layers(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    last = nn.Linear(n_hidden, n_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden), nn.SiLU(), last)
