"""The network in circular harmonics.

``pattern = background + rotate(content(latents), angle) + noise``. Patterns come as features (`HarmonicBasis`), so a
rotation is a phase per circular order and keeps lengths. Therefore, given the latents, the likelihood of *every* angle
follows from one product with a table of cosines, and the angle is integrated out instead of being sampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["AnglePosterior", "HarmonicNetwork", "LossParts"]

_PRIOR_REACH = 4.0
# a cell of the grid holds so many standard deviations of a peak of which its ends would show a third at most
_NARROW = 3.0
_N_FIRST = 65
_N_SLOPES = 20


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
    probability : Tensor, shape (n, n_angles)
        Probability of the angles ``peak + 2 π j / n_angles``.
    log_mean : Tensor, shape (n,)
        Logarithm of the likelihood ratio averaged over the circle.
    curvature : Tensor, shape (n,)
        Negative second derivative of the log likelihood at the peak, 1/rad².
    """

    peak: Tensor
    probability: Tensor
    log_mean: Tensor
    curvature: Tensor

    def circular_std(self, symmetry: int = 1) -> Tensor:
        """Circular standard deviation in rad, shape ``(n,)``; that of the grid and, within its cell, of the peak.

        Angles that differ by ``2 π / symmetry`` are taken as one.
        """
        p = self.probability
        grid = 2 * math.pi * symmetry / p.shape[-1] * torch.arange(p.shape[-1], device=p.device)
        # 1 less the squared resultant, from terms that vanish where the posterior is narrow: no digits are lost there
        away, sine = p @ (1 - grid.cos()), p @ grid.sin()
        lost = (2 * away - away**2 - sine**2).clamp(0.0, 1.0)
        spread = -torch.log1p(-lost) / symmetry**2
        cell = (math.pi / p.shape[-1]) ** 2 / 3
        within = torch.minimum(1 / self.curvature.clamp(min=1e-12), torch.full_like(spread, cell))
        return torch.where(lost > 1 - 1e-12, torch.full_like(spread, math.inf), (spread + within).sqrt())

    def on_fixed_angles(self, sampled: Tensor) -> Tensor:
        """Probabilities of the angles ``2 π j / n_angles``, shape ``(n, n_angles)``.

        Those `sampled` there, but a peak too narrow to be seen between two angles is shared by them as it is nearer to
        one or the other.
        """
        p, n = self.probability, self.probability.shape[-1]
        place = self.peak * n / (2 * math.pi)
        before = place.floor()
        nearer = (place - before)[:, None]
        index = (torch.arange(n, device=p.device) - before.long()[:, None]) % n
        shared = (1 - nearer) * p.gather(1, index) + nearer * p.gather(1, (index - 1) % n)
        is_narrow = self.curvature.sqrt() * 2 * math.pi / n > _NARROW
        return torch.where(is_narrow[:, None], shared, sampled)


class HarmonicNetwork(nn.Module):
    """Equivariant variational autoencoder on features.

    Parameters
    ----------
    orders : Tensor of int, shape (n_features,)
        Circular order of each feature.
    n_latent : int
        Latent variables besides the angle.
    n_hidden : int
        Width of the two hidden layers of the decoder's curved part; 0 for a linear decoder.
    n_angles : int
        Grid points on the circle.

    Attributes
    ----------
    first_prior : Tensor, shape (2, n_places)
        Values of the first latent, evenly spaced, and logarithm of its density there; normal unless it is learned.
    slope_prior : Tensor, shape (1 + n_latent, n_places)
        Values of the first latent, growing, and mean squares of the latents' slopes with the angle at which a pattern
        is rotated back, unbounded unless they are learned.

    Notes
    -----
    The decoder is ``content(z) = template + z @ components + curved(z)``. Some directions are closed to the curved
    part, which makes angle and latents identifiable however far the network bends:

    - the template's derivative with respect to its angle. Otherwise any content could be rotated by an angle that
      depends on the latents while the pattern's angle takes it back.
    - the components. Then each latent is how far the content lies along its component, and for a pattern rotated back
      its posterior is the linear one of probabilistic PCA, exactly; the encoder is this formula.

    The components are taken to be orthogonal to each other and to the template's derivative, as the alignment's are.
    """

    def __init__(self, orders: Tensor, n_latent: int, n_hidden: int, n_angles: int) -> None:
        super().__init__()
        n_features, n_orders = len(orders), int(orders.max()) + 1
        self.n_latent, self.n_angles = n_latent, n_angles
        self.starts_aligned = False
        self.n_coordinates = int(2 * n_features - (orders == 0).sum())
        self.register_buffer("orders", orders.long())
        by_order = torch.zeros(n_features, n_orders)
        by_order[torch.arange(n_features), orders.long()] = 1.0
        self.register_buffer("by_order", by_order, persistent=False)
        self.register_buffer("multiple", torch.arange(n_orders, dtype=torch.float32), persistent=False)
        grid = 2 * math.pi * torch.arange(n_angles) / n_angles
        table = torch.outer(self.multiple, grid)
        self.register_buffer("table", torch.cat([table.cos(), -table.sin()]), persistent=False)
        # with fewer than two points on the period of the highest order a peak may lie unseen between them
        n_fine = n_angles * -(-2 * n_orders // n_angles)
        fine = torch.outer(self.multiple, 2 * math.pi * torch.arange(n_fine) / n_fine)
        self.register_buffer("search_table", torch.cat([fine.cos(), -fine.sin()]), persistent=False)
        self.register_buffer("noise_variance", torch.tensor(1.0))
        self.register_buffer("latent_mean", torch.zeros(n_latent))
        self.register_buffer("support", torch.ones(2 * n_features))
        places = torch.linspace(-_PRIOR_REACH, _PRIOR_REACH, _N_FIRST)
        self.register_buffer("first_prior", torch.stack([places, -0.5 * places**2]))
        self.register_buffer("slope_prior", torch.full((1 + n_latent, _N_SLOPES), math.inf))
        self.template = nn.Parameter(torch.zeros(2 * n_features))
        self.components = nn.Parameter(torch.zeros(n_latent, 2 * n_features))
        self.is_curved = n_latent > 0 and n_hidden > 0
        if self.is_curved:
            self.decoder = _layers(n_latent, n_hidden, 2 * n_features)

    orders: Tensor
    by_order: Tensor
    multiple: Tensor
    table: Tensor
    search_table: Tensor
    noise_variance: Tensor
    latent_mean: Tensor
    support: Tensor
    first_prior: Tensor
    slope_prior: Tensor

    @property
    def symmetry(self) -> int:
        """Rotational symmetry of the template: angles that differ by ``2 π / symmetry`` are the same."""
        real, imag = self.template.detach().chunk(2)
        held = self.orders[(real != 0) | (imag != 0)].tolist()
        return max(math.gcd(*held), 1)

    def start_from(self, template: Tensor, components: Tensor, deviation: Tensor, symmetry: int = 1) -> None:
        """Start as alignment + PCA, whose template and components stay fixed while the curved part is learned.

        Parameters
        ----------
        template : Tensor, shape (2 n_features,)
            Mean of the rotated residuals.
        components : Tensor, shape (n_latent, 2 n_features)
            Principal components, of length 1.
        deviation : Tensor, shape (n_latent,)
            Standard deviation along each.
        symmetry : int
            Rotational symmetry of the template. Where it is above 1, the curved part keeps to the orders of the
            components' symmetries; otherwise training would amplify rounding until the symmetry is lost.
        """
        with torch.no_grad():
            self.template.copy_(template)
            if symmetry > 1 and self.n_latent:
                same = _same_symmetry(components, self.orders, symmetry)
                components = components * same
                self.support.copy_(same.amax(0))
            self.components.copy_(deviation[:, None] * components)
        self.template.requires_grad_(False)
        self.components.requires_grad_(False)
        self.starts_aligned = True

    def start_anywhere(self) -> None:
        """Start from a random template of length 1 and small random components, which are learned, too."""
        with torch.no_grad():
            size = math.sqrt(len(self.template))
            self.template.copy_(torch.randn_like(self.template) / size)
            self.components.copy_(0.1 * torch.randn_like(self.components) / size)

    def centre(self, x: Tensor) -> None:
        """Call the mean of the latents over these patterns 0."""
        with torch.no_grad():
            self.latent_mean.copy_(self.encode(x)[0].mean(0))

    def as_distances(self, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents as distances between patterns, from the mean latents.

        In units of the rms length of a residual: the components' lengths are in this unit.
        """
        length = self.components.norm(dim=-1)
        return (mean - self.latent_mean) * length, log_std.exp() * length

    def from_distances(self, latents: Tensor) -> Tensor:
        """Latents as the decoder takes them, from distances; 0 along a component of length 0."""
        length = self.components.norm(dim=-1)
        return torch.where(length > 0, latents / length.clamp(min=1e-12) + self.latent_mean, 0.0)

    def rotate(self, x: Tensor, angle: Tensor) -> Tensor:
        """Rotate features counter-clockwise on the screen; shapes ``(n, 2 n_features)`` and ``(n,)``."""
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
        """Derivative of content with respect to the angle by which it is rotated; shape ``(..., 2 n_features)``."""
        order = self.multiple[self.orders]
        real, imag = content.chunk(2, dim=-1)
        return torch.cat([order * imag, -order * real], dim=-1)

    def peak(self, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
        """Angle in (-π, π] of the largest cross-correlation, between grid points, and the negative curvature there."""
        m = self.multiple
        with torch.no_grad():
            n = self.search_table.shape[1]
            best = (torch.cat([real, imag], dim=-1) @ self.search_table).argmax(dim=-1)
            angle = 2 * math.pi / n * best.to(real.dtype)
            for _ in range(3):
                phase = angle[:, None] * m
                cosine, sine = phase.cos(), phase.sin()
                slope = -((real * sine + imag * cosine) @ m)
                bend = (real * cosine - imag * sine) @ m**2
                step = torch.where(bend > 0, slope / bend.clamp(min=1e-12), 0.0)
                angle = angle + step.clamp(-math.pi / n, math.pi / n)
            angle = torch.atan2(angle.sin(), angle.cos())
            phase = angle[:, None] * m
            bend = (real * phase.cos() - imag * phase.sin()) @ m**2
        return angle, bend

    def angle_posterior(self, x: Tensor, content: Tensor, variance: Tensor) -> AnglePosterior:
        """Posterior of the angle for given contents, `variance` of shape () or (n,); the prior is uniform."""
        real, imag = self.cross(x, content)
        angle, bend = self.peak(real, imag)
        phase = angle[:, None] * self.multiple
        cosine, sine = phase.cos(), phase.sin()
        shifted = torch.cat([real * cosine - imag * sine, real * sine + imag * cosine], dim=-1)
        log_likelihood = (shifted @ self.table) / variance.reshape(-1, 1)
        curvature = (bend / variance).clamp(min=0.0)
        # a peak narrower than a cell holds less than the grid points on it say; peaks of symmetric content hold alike
        cell = 2 * math.pi / self.n_angles
        integral = (2 * math.pi / curvature.clamp(min=1e-12)).sqrt() / cell
        on_grid = 1 + 2 * sum(
            (torch.exp(-curvature / 2 * (j * cell) ** 2) for j in range(1, 5)), torch.zeros_like(integral)
        )
        broad = curvature.sqrt() * cell < 1
        share = torch.where(broad, torch.ones_like(integral), integral / on_grid).clamp(max=1.0)
        top = log_likelihood.amax(-1)
        below = log_likelihood - top[:, None]
        # exponentials too small to be normal numbers take several times as long
        weight = below.clamp(min=-80.0).exp()
        total = weight.sum(-1)
        return AnglePosterior(
            peak=angle,
            probability=weight / total[:, None],
            log_mean=top + (total * share).log() - math.log(self.n_angles),
            curvature=curvature,
        )

    def decode(self, latents: Tensor) -> Tensor:
        """Content at angle 0, shape ``(n, 2 n_features)``, for latents of shape ``(n, n_latent)``."""
        template = self.template.expand(len(latents), -1)
        if not self.n_latent:
            return template
        linear: Tensor = template + latents @ self.components
        if not self.is_curved:
            return linear
        curved: Tensor = self.decoder(latents) * self.support
        closed = nn.functional.normalize(torch.cat([self.derivative(self.template)[None], self.components]))
        return linear + curved - (curved @ closed.T) @ closed

    def pull_back(self, latents: Tensor, gradient: Tensor) -> Tensor:
        """Gradient with respect to the latents, shape ``(n, n_latent)``, of what has this one for the content."""
        with torch.enable_grad():
            leaves = latents.detach().requires_grad_()
            return torch.autograd.grad((self.decode(leaves) * gradient).sum(), leaves)[0]

    def jacobian(self, latents: Tensor) -> Tensor:
        """Derivative of the content with respect to the latents, shape ``(n, 2 n_features, n_latent)``."""
        with torch.enable_grad():
            leaves = latents.detach().requires_grad_()
            content = self.decode(leaves)
            # what is pulled back is linear in the gradient, with the transposed Jacobian for its derivative
            gradient = torch.zeros_like(content, requires_grad=True)
            pulled = torch.autograd.grad((content * gradient).sum(), leaves, create_graph=True)[0]
            columns = [torch.autograd.grad(one.sum(), gradient, retain_graph=True)[0] for one in pulled.unbind(-1)]
            return torch.stack(columns, dim=-1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation of the latents' posterior, each ``(n, n_latent)``.

        The patterns are first rotated back onto the template, so that the result does not depend on their angle.
        """
        return self.encode_aligned(self.align(x))

    def angles(self, x: Tensor) -> Tensor:
        """Angle of each pattern in rad at which the template fits it best, shape ``(n,)``."""
        with torch.no_grad():
            return self.peak(*self.cross(x, self.template))[0]

    def align(self, x: Tensor) -> Tensor:
        """Patterns rotated back onto the template."""
        return self.rotate(x, -self.angles(x))

    def encode_aligned(self, aligned: Tensor) -> tuple[Tensor, Tensor]:
        """As `encode`, of patterns that have been rotated back onto the template."""
        slopes, log_std = self.readout()
        return (aligned - self.template) @ slopes.T, log_std.expand(len(aligned), -1)

    def readout(self) -> tuple[Tensor, Tensor]:
        """Derivative of a latent's mean with respect to an aligned pattern, and logarithm of its standard deviation.

        Shapes ``(n_latent, 2 n_features)`` and ``(n_latent,)``; the same for all patterns.
        """
        strength = (self.components**2).sum(-1) + self.noise_variance
        return self.components / strength[:, None], 0.5 * torch.log(self.noise_variance / strength)

    def marginal(self, x: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log likelihood of patterns given contents, angle integrated out, and the angle's divergence.

        Both of shape ``(n,)``; the likelihood is without its constant. Only it has a gradient, by the content alone.
        """
        likelihood, divergence = _Marginal.apply(content, x, self)  # type: ignore[no-untyped-call]
        return likelihood, divergence

    def loss(self, x: Tensor, beta: float, generator: torch.Generator | None = None) -> LossParts:
        """Loss of a batch of features, shape ``(n, 2 n_features)``; the mean over the batch.

        After `start_from` the patterns are taken to have been rotated back onto the template (`align`); the loss
        is the same at every angle, and this way the encoder need not rotate them in every step.
        """
        mean, log_std = (self.encode_aligned if self.starts_aligned else self.encode)(x)
        noise = torch.randn(mean.shape, generator=generator, device=x.device)
        kl = 0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std
        content = self.decode(mean + noise * log_std.exp())
        marginal, kl_angle = self.marginal(x, content)
        marginal, kl_angle, kl_latent = marginal.mean(), kl_angle.mean(), kl.sum(-1).mean()
        variance = self.noise_variance
        constant = 0.5 * self.n_coordinates * torch.log(2 * math.pi * variance)
        with torch.no_grad():
            reconstruction = marginal + constant - kl_angle
            squared = 2 * variance * (reconstruction - constant)
        return LossParts(marginal + constant + beta * kl_latent, reconstruction, kl_latent, kl_angle, squared)

    def follow_noise(self, squared_error: Tensor, floor: float) -> None:
        """Let the noise variance be the running mean of the misfit per real coordinate, above ``floor²``."""
        variance = (squared_error / self.n_coordinates).clamp(min=floor**2)
        self.noise_variance.lerp_(variance, 0.1).clamp_(min=floor**2)


class _Marginal(torch.autograd.Function):
    """Negative log likelihood of patterns without its constant, angle integrated out, and the angle's divergence.

    In closed form, the gradient with respect to the content is ``(content - mean of the pattern rotated back) /
    variance``, the mean being over the angle's posterior; automatic differentiation takes three times the operations.
    """

    @staticmethod
    def forward(ctx: Any, content: Tensor, x: Tensor, model: HarmonicNetwork) -> tuple[Tensor, Tensor]:
        variance = model.noise_variance.clone()
        posterior = model.angle_posterior(x, content, variance)
        p = posterior.probability
        ctx.save_for_backward(content, x, posterior.peak, p, variance)
        ctx.model = model
        lengths = (x**2).sum(-1) + (content**2).sum(-1)
        divergence = (p * (p * model.n_angles).log()).sum(-1)
        ctx.mark_non_differentiable(divergence)
        return 0.5 * lengths / variance - posterior.log_mean, divergence

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        content, x, peak, p, variance = ctx.saved_tensors
        model = ctx.model
        # expectations of cosine and sine of order times angle, about the peak and then of the angle itself
        cosine, sine = (p @ model.table.T).chunk(2, dim=-1)
        phase = peak[:, None] * model.multiple
        about_cosine, about_sine = phase.cos(), phase.sin()
        cosine, sine = (
            (about_cosine * cosine + about_sine * sine) @ model.by_order.T,
            (about_sine * cosine - about_cosine * sine) @ model.by_order.T,
        )
        real, imag = x.chunk(2, dim=-1)
        rotated_back = torch.cat([real * cosine - imag * sine, imag * cosine + real * sine], dim=-1)
        return (content - rotated_back) * (gradients[0] / variance)[:, None], None, None


def _same_symmetry(components: Tensor, orders: Tensor, symmetry: int) -> Tensor:
    """1 where a component may have an entry, 0 elsewhere: orders that differ by the symmetry go together."""
    # a rotation by 2 π / symmetry takes order m and order -m through opposite phases, and a component is real
    kind = torch.minimum(orders % symmetry, -orders % symmetry).repeat(2)
    same = (kind[:, None] == kind).to(components.dtype)
    share = components**2 @ same
    return (share > 1e-6 * (components**2).sum(-1, keepdim=True)).to(components.dtype)


def _layers(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    last = nn.Linear(n_hidden, n_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden), nn.SiLU(), last)
