"""Kinds fitted to a scan: from starts that know no chance, by expectation and maximisation, with neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import AlignConfig
from stemvane.features.alignment import likeliest_angles
from stemvane.features.harmonics import rotate_features
from stemvane.features.parallel import on_one_blas_thread
from stemvane.models.kind_field import field_prior, find_strength, mean_field
from stemvane.models.kind_mixture import KindMixture, KindSums, OneKind, update_mixture
from stemvane.models.kind_start import groupings

__all__ = ["KindFit", "KindScan", "fit_kinds", "log_likelihoods", "settle"]

# rounds that show which start is best, and most rounds after that
_N_TRIAL, _N_ROUNDS = 5, 40
# nats per pattern
_SETTLED = 1e-3
# strength of the field before any is known
_FIRST_STRENGTH = 0.5
# patterns together whose posteriors of one kind fit into some ten megabytes
_N_TOGETHER = 2048
# patterns of a kind that its first template is aligned with, and rounds of that
_N_ALIGNED = 384
_ALIGNED = AlignConfig(n_iterations=8)

Features = NDArray[np.complexfloating[Any, Any]]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class KindScan:
    """Features of a scan, and where they lie.

    Attributes
    ----------
    features : ndarray of complex64, shape (n, n_features)
        Features of the known positions, in the order of the scan.
    orders : ndarray of int, shape (n_features,)
        Circular orders.
    least_noise : ndarray of float, shape (n_features,)
        Smallest standard deviation of a real coordinate.
    known : ndarray of bool, shape (scan_y, scan_x)
        Positions that have features.
    labels : ndarray of int, shape (n,)
        Kind of each labelled position, -1 of the others.
    oriented : bool
        Whether what does not rotate has an orientation.
    n_angles : int
        Grid angles of the posterior.
    strength : float or None
        Strength of the field of neighbours; found where it is None.
    """

    features: Features
    orders: NDArray[np.int64]
    least_noise: Doubles
    known: NDArray[np.bool_]
    labels: NDArray[np.int64]
    oriented: bool
    n_angles: int
    strength: float | None = None

    def spread(self, rows: Doubles, fill: float) -> Doubles:
        """Rows as maps over the scan."""
        maps = np.full((*self.known.shape, *rows.shape[1:]), fill)
        maps[self.known] = rows
        return maps

    @property
    def blocks(self) -> Iterator[slice]:
        """Slices of as many patterns as are worked on together."""
        yield from (slice(at, at + _N_TOGETHER) for at in range(0, len(self.features), _N_TOGETHER))


@dataclass(frozen=True, eq=False)
class KindFit:
    """Fitted kinds.

    Attributes
    ----------
    mixture : KindMixture
        The kinds.
    strength : float
        What a neighbour of the same kind adds to the log probability of a kind.
    probability : ndarray of float, shape (n, n_kinds + 1)
        Of each pattern; the last column is of no kind.
    score : float
        Mean log likelihood of a pattern given its neighbours' kinds, in nats.
    n_rounds : int
        Number of rounds.
    """

    mixture: KindMixture
    strength: float
    probability: Doubles
    score: float
    n_rounds: int


@on_one_blas_thread
def fit_kinds(
    scan: KindScan, n_kinds: int, n_latent: int, report: Callable[[int, float], None] | None = None
) -> KindFit:
    """Fit kinds to a scan.

    Several groupings of the positions are followed for a few rounds; the one under which the patterns are likeliest
    goes on until their likelihood settles. Labelled positions are of their kinds from the beginning.

    Parameters
    ----------
    scan : KindScan
        Features, positions and labels.
    n_kinds : int
        Number of kinds, at least that of the labels' kinds.
    n_latent : int
        Number of latents of each kind.
    report : callable, optional
        Called after every round of the last fit with its number and the mean log likelihood.

    Returns
    -------
    KindFit
    """
    best: KindFit | None = None
    white = (scan.features / scan.least_noise).astype(np.complex64)
    for groups in groupings(white, scan.orders, scan.known, n_kinds, oriented=scan.oriented):
        q = np.zeros((len(groups), n_kinds + 1))
        q[np.arange(len(groups)), _named(groups, scan.labels, n_kinds)] = 1.0
        strength = _FIRST_STRENGTH if scan.strength is None else scan.strength
        fit = _follow(scan, _first_mixture(scan, q, n_latent), q, strength, _N_TRIAL)
        if best is None or fit.score > best.score:
            best = fit
    assert best is not None
    return _follow(scan, best.mixture, best.probability, best.strength, _N_ROUNDS, report)


def settle(scan: KindScan, mixture: KindMixture, strength: float) -> tuple[Doubles, Doubles]:
    """Probabilities of given kinds, and the log likelihood of each pattern given its neighbours' kinds.

    Parameters
    ----------
    scan : KindScan
        Features, positions and labels.
    mixture : KindMixture
        The kinds.
    strength : float
        Strength of the field of neighbours.

    Returns
    -------
    probability : ndarray of float, shape (n, n_kinds + 1)
    log_likelihood : ndarray of float, shape (n,)
    """
    log, weights = log_likelihoods(scan, mixture), np.log(mixture.weights)
    alone = log + weights
    q = np.exp(alone - np.logaddexp.reduce(alone, axis=1, keepdims=True))
    maps = _relaxed(scan, log, q, weights, strength)
    prior = field_prior(maps, weights, strength)[scan.known]
    return maps[scan.known], np.asarray(np.logaddexp.reduce(prior + log, axis=1))


def log_likelihoods(scan: KindScan, mixture: KindMixture) -> Doubles:
    """Log likelihood of every pattern under each kind and none, shape ``(n, n_kinds + 1)``."""
    log = np.empty((len(scan.features), mixture.n_kinds + 1))
    for block in scan.blocks:
        x = scan.features[block]
        for kind in range(mixture.n_kinds):
            log[block, kind] = mixture.posterior(kind, x, scan.n_angles).log_likelihood
        log[block, -1] = mixture.log_outlier(x)
    return log


def _follow(
    scan: KindScan,
    mixture: KindMixture,
    q: Doubles,
    strength: float,
    n_rounds: int,
    report: Callable[[int, float], None] | None = None,
) -> KindFit:
    """Expectation and maximisation until the likelihood settles."""
    score, n_done = -np.inf, 0
    for n_done in range(1, n_rounds + 1):
        log = np.empty_like(q)
        posteriors = []
        for block in scan.blocks:
            x = scan.features[block]
            posteriors.append([mixture.posterior(kind, x, scan.n_angles) for kind in range(mixture.n_kinds)])
            of_kinds = [part.log_likelihood for part in posteriors[-1]]
            log[block] = np.stack([*of_kinds, mixture.log_outlier(x)], axis=1)
        weights = np.log(mixture.weights)
        maps = _relaxed(scan, log, q, weights, strength)
        q = maps[scan.known]
        prior = field_prior(maps, weights, strength)[scan.known]
        before, score = score, float(np.logaddexp.reduce(prior + log, axis=1).mean())
        if report is not None:
            report(n_done, score)
        if scan.strength is None:
            strength = find_strength(maps, weights)
        sums: list[KindSums] = []
        for kind in range(mixture.n_kinds):
            parts = [
                KindSums.of(mixture, kind, scan.features[block], of_block[kind], q[block, kind])
                for block, of_block in zip(scan.blocks, posteriors, strict=True)
            ]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            sums.append(total)
        mixture = update_mixture(mixture, sums, float(q[:, -1].sum()), scan.least_noise, oriented=scan.oriented)
        if abs(score - before) < _SETTLED:
            break
    return KindFit(mixture, strength, q, score, n_done)


def _relaxed(scan: KindScan, log: Doubles, q: Doubles, weights: Doubles, strength: float) -> Doubles:
    """Probabilities that agree with the patterns, their neighbours and the labels, as maps."""
    labelled = scan.labels >= 0
    q = q.copy()
    q[labelled] = np.eye(q.shape[1])[scan.labels[labelled]]
    fixed = scan.spread(labelled.astype(float), 0.0) > 0
    return mean_field(scan.spread(log, np.nan), scan.spread(q, 0.0), weights, strength, fixed)


def _named(groups: NDArray[np.int64], labels: NDArray[np.int64], n_kinds: int) -> NDArray[np.int64]:
    """Groups numbered so that each labelled kind is the group that holds most of its labels."""
    counts = np.zeros((n_kinds, n_kinds))
    grouped = (labels >= 0) & (groups >= 0)
    np.add.at(counts, (labels[grouped], groups[grouped]), 1)
    # the last number stands for positions of no group
    number = np.append(np.full(n_kinds, -1), n_kinds)
    for kind, group in zip(*np.unravel_index(np.argsort(-counts, axis=None, kind="stable"), counts.shape), strict=True):
        if number[group] < 0 and kind not in number:
            number[group] = kind
    return np.asarray(np.where(labels >= 0, labels, number[groups]), np.int64)


def _first_mixture(scan: KindScan, q: Doubles, n_latent: int) -> KindMixture:
    """Kinds of patterns that are taken to be of them."""
    # medians, which a few patterns of no kind do not move; those of squares of one and of two normal numbers
    mean = np.median(scan.features.real, axis=0) + 1j * np.median(scan.features.imag, axis=0)
    squares = np.median(np.abs(scan.features - mean) ** 2, axis=0)
    spread = np.sqrt(squares / np.where(scan.orders == 0, 0.455, 2 * np.log(2)))
    kinds = [_first_kind(scan, q[:, kind] > 0.5, n_latent) for kind in range(q.shape[1] - 1)]
    background, template, components, noise = (np.stack(part) for part in zip(*kinds, strict=True))
    weights = np.append(q[:, :-1].sum(axis=0) + 1, 1.0)
    return KindMixture(
        orders=scan.orders,
        background=background,
        template=template,
        components=components,
        noise=noise,
        weights=weights / weights.sum(),
        mean=mean,
        spread=np.maximum(spread, scan.least_noise),
    )


def _first_kind(scan: KindScan, of_kind: NDArray[np.bool_], n_latent: int) -> OneKind:
    """One kind by the alignment of its patterns and principal components of what is left."""
    orders, least = scan.orders, scan.least_noise
    # an empty group starts as the whole scan
    members = scan.features[of_kind] if of_kind.sum() > 1 else scan.features
    background = members.mean(axis=0, dtype=np.complex128)
    if not scan.oriented:
        background = np.where(orders == 0, background, 0)
    some = members[:: -(-len(members) // _N_ALIGNED)] - background
    angle = likeliest_angles((some / least).astype(np.complex64), orders, _ALIGNED)
    aligned = rotate_features(some, orders, -angle)
    template = np.where(orders == 0, 0, aligned.mean(axis=0, dtype=np.complex128))
    aligned = aligned - template
    real = np.concatenate([aligned.real / least, aligned.imag / least], axis=1)
    values, vectors = np.linalg.eigh(real.T @ real / len(real))
    n, half = min(n_latent, len(values)), len(orders)
    components = np.zeros((n_latent, half), np.complex128)
    axes = vectors[:, ::-1][:, :n].T
    # what a direction varies by beyond the noise, and a little to begin with where there is nothing
    deviation = np.sqrt(np.maximum(values[::-1][:n] - 1, 0.01))
    components[:n] = (axes[:, :half] + 1j * axes[:, half:]) * least * deviation[:, None]
    left = (np.abs(aligned) ** 2).mean(axis=0) - (np.abs(components) ** 2).sum(axis=0)
    return OneKind(background, template, components, np.sqrt(np.maximum(left / np.where(orders == 0, 1, 2), least**2)))
