"""A mixture of kinds of patterns in circular harmonics, with angle and latents integrated out, and its M-step."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stemvane.features.cross_correlation import grid_phases, order_phases

__all__ = ["KindMixture", "KindPosterior", "KindSums", "OneKind", "update_mixture"]

_N_NEWTON = 3
# variances of a kind's features are drawn to those of the counts as if so many patterns had shown these
_PRIOR_PATTERNS = 30.0
# patterns of no kind lie so many times as far away: in many features, tails alone are as likely as a kind's noise
_FAR = 3.0
_LOG_2PI = float(np.log(2 * np.pi))

Complex = NDArray[np.complexfloating[Any, Any]]
Doubles = NDArray[np.float64]


class KindPosterior(NamedTuple):
    """What some patterns say if they are of one kind.

    Attributes
    ----------
    log_likelihood : ndarray of float, shape (n,)
        With angle and latents integrated out, in nats.
    angle : ndarray of float, shape (n,)
        Likeliest angle in rad.
    posterior : ndarray of float, shape (n, n_angles)
        Probability of the angles ``angle + 2 π j / n_angles``.
    latents : ndarray of float, shape (n, n_latent)
        Posterior means.
    phases : ndarray of complex, shape (n, 1 + n_latent, n_orders)
        Mean of ``exp(i m angle)``, by itself and times each latent.
    moments : ndarray of float, shape (n, 1 + n_latent, 1 + n_latent)
        Mean products of 1 and the latents.
    curvature : ndarray of float, shape (n,)
        Second derivative of the log likelihood with respect to the angle at its peak, with the sign reversed.
    """

    log_likelihood: Doubles
    angle: Doubles
    posterior: Doubles
    latents: Doubles
    phases: Complex
    moments: Doubles
    curvature: Doubles


@dataclass(frozen=True, eq=False)
class KindMixture:
    """Kinds of patterns, each with a background, a template that rotates, latents and noise of its own.

    ``feature = background + exp(-i m angle) (template + Σ_j z_j component_j) + noise``, with z normal and the angle
    uniform: for each kind a mixture of probabilistic principal components over all angles.

    Attributes
    ----------
    orders : ndarray of int, shape (n_features,)
        Circular orders.
    background, template : ndarray of complex, shape (n_kinds, n_features)
    components : ndarray of complex, shape (n_kinds, n_latent, n_features)
        What a latent of 1 adds; orthogonal in units of the kind's noise.
    noise : ndarray of float, shape (n_kinds, n_features)
        Standard deviation of a real coordinate.
    weights : ndarray of float, shape (n_kinds + 1,)
        Share of each kind, and of patterns of none, which adds up to 1.
    mean, spread : ndarray, shape (n_features,)
        Median of all patterns, and what stands for the standard deviation of a real coordinate about it: patterns of no
        kind are distributed as widely as these, with tails in which hardly any distance is too large.
    """

    orders: NDArray[np.int64]
    background: NDArray[np.complex128]
    template: NDArray[np.complex128]
    components: NDArray[np.complex128]
    noise: Doubles
    weights: Doubles
    mean: NDArray[np.complex128]
    spread: Doubles

    @property
    def n_kinds(self) -> int:
        """Number of kinds."""
        return len(self.template)

    @property
    def n_latent(self) -> int:
        """Number of latents of each kind."""
        return int(self.components.shape[1])

    @property
    def coordinates(self) -> NDArray[np.int64]:
        """Real coordinates of each feature."""
        return np.where(self.orders == 0, 1, 2)

    def log_outlier(self, features: Complex) -> Doubles:
        """Log likelihood of patterns as being of no kind: a multivariate Cauchy distribution about the whole scan's."""
        n = int(self.coordinates.sum())
        width = _FAR * self.spread
        squares = (np.abs((features - self.mean) / width) ** 2).sum(axis=1)
        constant = special.gammaln((n + 1) / 2) - (n + 1) / 2 * np.log(np.pi)
        constant -= (self.coordinates * np.log(width)).sum()
        return np.asarray(constant - (n + 1) / 2 * np.log1p(squares), np.float64)

    def posterior(self, kind: int, features: Complex, n_angles: int) -> KindPosterior:
        """What patterns say if they are of a kind, at every angle of a grid about the likeliest."""
        s, orders = self.noise[kind], self.orders
        y = ((features - self.background[kind]) / s).astype(np.complex64)
        vectors = np.concatenate([self.template[kind][None], self.components[kind]]) / s
        n_orders = int(orders.max(initial=0)) + 1
        # cross-spectra of patterns with template and components, order by order
        by_order = np.zeros((len(orders), len(vectors), n_orders), np.complex64)
        by_order[np.arange(len(orders)), :, orders] = vectors.conj().T
        spectra = (y @ by_order.reshape(len(orders), -1)).reshape(len(y), len(vectors), n_orders)
        template, components = vectors[0], vectors[1:]
        power = (np.abs(components) ** 2).sum(axis=1)
        at_template = (components.conj() @ template).real
        gain = 1 / (1 + power)
        multiple = np.arange(n_orders)
        angle = self._peaks(spectra, at_template, gain, n_angles)
        about = spectra * order_phases(angle, n_orders)[:, None].astype(np.complex64)
        phase = grid_phases(multiple, n_angles)
        values = _at_angles(about, phase)
        distance = values[:, 1:] - at_template[:, None].astype(np.float32)
        log = values[:, 0] + np.einsum("nja,j->na", distance**2, gain / 2)
        top = log.max(axis=1)
        weight = np.exp(log - top[:, None])
        total = weight.sum(axis=1)
        # a peak within a cell of the grid holds its Gaussian integral, not the grid point on it
        curvature = self._derivatives(about, at_template, gain)[1]
        bend, cell = np.maximum(-curvature, 1e-12), 2 * np.pi / n_angles
        on_grid = 1 + 2 * sum(np.exp(-bend / 2 * (j * cell) ** 2) for j in range(1, 5))
        share = np.where(np.sqrt(bend) * cell < 1, 1.0, np.minimum(np.sqrt(2 * np.pi / bend) / cell / on_grid, 1.0))
        posterior = (weight / total[:, None]).astype(np.float32)
        latents_at = distance * gain[:, None].astype(np.float32)
        stacked = np.concatenate([np.ones_like(values[:, :1]), latents_at], axis=1)
        # means over the angle of exp(i m angle) and of latents times it
        weighted = stacked * posterior[:, None]
        means = weighted.reshape(-1, n_angles) @ np.concatenate([phase.real, phase.imag]).T
        phases = (means[:, :n_orders] + 1j * means[:, n_orders:]).reshape(about.shape)
        phases = phases * order_phases(angle, n_orders)[:, None].astype(np.complex64)
        moments = np.einsum("nia,nja->nij", weighted, stacked).astype(np.float64)
        n_z = len(gain)
        moments[:, np.arange(1, n_z + 1), np.arange(1, n_z + 1)] += gain
        constant = (self.coordinates * (np.log(s) + _LOG_2PI / 2)).sum() - np.log(gain).sum() / 2
        constant += float(np.vdot(template, template).real) / 2
        log_likelihood = np.log(total * share / n_angles) + top - (np.abs(y) ** 2).sum(axis=1) / 2 - constant
        return KindPosterior(
            np.asarray(log_likelihood, np.float64),
            np.angle(np.exp(1j * angle)),
            posterior,
            weighted[:, 1:].sum(axis=2).astype(np.float64),
            phases,
            moments,
            -curvature,
        )

    def _peaks(self, spectra: Complex, at_template: Doubles, gain: Doubles, n_angles: int) -> Doubles:
        """Angle at which each pattern is likeliest, refined between the points of a grid fine enough for all orders."""
        n_orders = spectra.shape[2]
        n = n_angles * -(-2 * n_orders // n_angles)
        phase = grid_phases(np.arange(n_orders), n)
        values = _at_angles(spectra, phase)
        log = values[:, 0] + np.einsum(
            "nja,j->na", (values[:, 1:] - at_template[:, None].astype(np.float32)) ** 2, gain / 2
        )
        angle = 2 * np.pi / n * log.argmax(axis=1)
        for _ in range(_N_NEWTON):
            about = spectra * order_phases(angle, n_orders)[:, None].astype(np.complex64)
            slope, bend = self._derivatives(about, at_template, gain)
            step = np.where(bend < 0, -slope / np.where(bend < 0, bend, -1.0), 0.0)
            angle = angle + np.clip(step, -np.pi / n, np.pi / n)
        return np.asarray(angle, np.float64)

    @staticmethod
    def _derivatives(about: Complex, at_template: Doubles, gain: Doubles) -> tuple[Doubles, Doubles]:
        """First and second derivative of the log likelihood with respect to the angle."""
        m = np.arange(about.shape[2], dtype=np.float32)
        first, second = -(np.ascontiguousarray(about.imag) @ m), -(np.ascontiguousarray(about.real) @ m**2)
        distance = about[:, 1:].real.sum(axis=2) - at_template
        slope = first[:, 0] + (gain * distance * first[:, 1:]).sum(axis=1)
        bend = second[:, 0] + (gain * (first[:, 1:] ** 2 + distance * second[:, 1:])).sum(axis=1)
        return np.asarray(slope, np.float64), np.asarray(bend, np.float64)


def _at_angles(spectra: Complex, phase: Complex) -> NDArray[np.float32]:
    """Cross-correlations of spectra ``(n, n_vectors, n_orders)`` at grid angles, as one product of matrices."""
    parts = np.concatenate([spectra.real, spectra.imag], axis=2).reshape(-1, 2 * spectra.shape[2])
    values = parts @ np.concatenate([phase.real, -phase.imag])
    return np.asarray(values.reshape(*spectra.shape[:2], phase.shape[1]), np.float32)


@dataclass(eq=False)
class KindSums:
    """Sums over patterns, weighted by the probability of a kind, from which `update_mixture` makes the kind anew.

    Attributes
    ----------
    number : float
        Expected number of patterns.
    cross : ndarray of complex, shape (1 + n_latent, n_features)
        Features less the background, rotated back, by themselves and times each latent.
    moments : ndarray of float, shape (1 + n_latent, 1 + n_latent)
        Products of 1 and the latents.
    features : ndarray of complex, shape (n_features,)
        Features as they are.
    squares : ndarray of float, shape (n_features,)
        Squared magnitudes of features less the background.
    phases : ndarray of complex, shape (1 + n_latent, n_orders)
        ``exp(i m angle)``, by itself and times each latent.
    """

    number: float
    cross: NDArray[np.complex128]
    moments: Doubles
    features: NDArray[np.complex128]
    squares: Doubles
    phases: NDArray[np.complex128]

    @classmethod
    def of(
        cls, mixture: KindMixture, kind: int, features: Complex, posterior: KindPosterior, probability: Doubles
    ) -> KindSums:
        """Sum over some patterns."""
        weight = probability.astype(np.float32)
        residual = features - mixture.background[kind].astype(np.complex64)
        phases = posterior.phases * weight[:, None, None]
        cross = np.stack([(part[:, mixture.orders] * residual).sum(axis=0) for part in np.swapaxes(phases, 0, 1)])
        return cls(
            float(probability.sum()),
            cross.astype(np.complex128),
            np.einsum("n,nij->ij", probability, posterior.moments),
            (weight @ features).astype(np.complex128),
            np.asarray(weight @ np.abs(residual) ** 2, np.float64),
            phases.sum(axis=0).astype(np.complex128),
        )

    def __add__(self, other: KindSums) -> KindSums:
        return KindSums(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


class OneKind(NamedTuple):
    """Background, template, components and noise of one kind, as in `KindMixture`."""

    background: NDArray[np.complex128]
    template: NDArray[np.complex128]
    components: NDArray[np.complex128]
    noise: Doubles

    def mirrored(self) -> OneKind:
        """Mirror image of what rotates, on the same background."""
        return self._replace(template=self.template.conj(), components=self.components.conj())


def update_mixture(
    mixture: KindMixture,
    sums: list[KindSums],
    n_outliers: float,
    least_noise: Doubles,
    *,
    oriented: bool,
    mirrored: bool = False,
) -> KindMixture:
    """Make all kinds anew from the sums over their patterns: the M-step.

    Parameters
    ----------
    mixture : KindMixture
        The kinds whose posteriors were summed.
    sums : list of KindSums
        One for each kind.
    n_outliers : float
        Expected number of patterns of no kind.
    least_noise : ndarray of float, shape (n_features,)
        Smallest noise of a real coordinate, to which small kinds are drawn.
    oriented : bool
        Whether backgrounds have an orientation.
    mirrored : bool
        Whether every other kind is the mirror image of the one before it.

    Returns
    -------
    KindMixture
    """
    if mirrored:
        kinds = []
        for k in range(0, len(sums), 2):
            one = _update(mixture, k, sums[k], least_noise, oriented, image=sums[k + 1])
            kinds += [one, one.mirrored()]
    else:
        kinds = [_update(mixture, k, part, least_noise, oriented) for k, part in enumerate(sums)]
    numbers = np.array([*(part.number for part in sums), n_outliers]) + 1.0
    background, template, components, noise = (np.stack(parts) for parts in zip(*kinds, strict=True))
    return replace(
        mixture,
        background=background,
        template=template,
        components=components,
        noise=noise,
        weights=numbers / numbers.sum(),
    )


def _update(
    mixture: KindMixture,
    kind: int,
    sums: KindSums,
    least_noise: Doubles,
    oriented: bool,
    image: KindSums | None = None,
) -> OneKind:
    """One kind of the sums over its patterns and, conjugated, over those of its mirror image."""
    of_hands = [sums] if image is None else [sums, image]
    if image is not None:
        sums = sums + replace(image, cross=image.cross.conj())
    n, orders = max(sums.number, 1e-6), mixture.orders
    # regression of patterns rotated back on 1 and the latents; a latent that explains nothing goes
    n_z = mixture.n_latent
    ridge = np.diag([1e-9 * n] + [1e-6 * n] * n_z)
    solution = np.linalg.solve(sums.moments + ridge, sums.cross)
    template, components = np.asarray(solution[0], np.complex128), np.asarray(solution[1:], np.complex128)
    explained = np.einsum("zf,zf->f", solution.conj(), sums.cross).real
    squares = np.maximum(sums.squares - explained, 0) / mixture.coordinates
    variance = (squares + _PRIOR_PATTERNS * least_noise**2) / (n + _PRIOR_PATTERNS)
    noise = np.sqrt(np.maximum(variance, least_noise**2))
    background = mixture.background[kind].copy()
    round_ = orders == 0
    # what does not rotate in order 0 belongs to the background
    background[round_] += template[round_]
    template = np.where(round_, 0, template)
    if oriented:
        content = np.concatenate([template[None], components])
        rotating = np.zeros_like(template)
        for part, hand in zip(of_hands, (content, content.conj()), strict=False):
            rotating += (part.phases.conj()[:, orders] * hand).sum(axis=0)
        background[~round_] = ((sums.features - rotating) / n)[~round_]
    return OneKind(background, template, _orthogonal(components, noise), noise)


def _orthogonal(components: NDArray[np.complex128], noise: Doubles) -> NDArray[np.complex128]:
    """Components mixed so that they are orthogonal in units of the noise, the strongest first."""
    if not len(components):
        return components
    white = components / noise
    vectors = np.linalg.eigh((white.conj() @ white.T).real)[1]
    return np.asarray(vectors[:, ::-1].T @ components)
