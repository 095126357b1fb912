"""Kinds fitted to a scan: from starts that know no chance, by expectation and maximisation, with neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import AlignConfig
from stemvane.features.alignment import likeliest_angles
from stemvane.features.harmonics import rotate_features
from stemvane.features.parallel import on_one_blas_thread
from stemvane.models.kind_field import field_prior, find_strength, find_trust, mean_field, sum_votes
from stemvane.models.kind_mixture import KindMixture, KindSums, OneKind, update_mixture
from stemvane.models.kind_start import groupings, split_hands

__all__ = ["KindFit", "KindScan", "fit_kinds", "log_likelihoods", "prior_around", "settle"]

# rounds that show which start is best, and most rounds after that
_N_TRIAL, _N_ROUNDS = 3, 40
# surroundings of a tenth of a small scan: `python -m benchmarks.kinds`
_WINDOW = 2.0
# nats per pattern
_SETTLED = 1e-3
# strength of the field before any is known
_FIRST_STRENGTH = 0.5
# patterns together whose posteriors of one kind fit into some ten megabytes
_N_TOGETHER = 2048
# patterns of a kind that its first template is aligned with, and rounds of that
_N_ALIGNED = 384
_ALIGNED = AlignConfig(n_iterations=8)
# nats by which a label outweighs what patterns around it say
_CERTAIN = 1e3

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
    window : float or None
        Standard deviation in positions of surroundings that are of one kind together, which take the place of the
        field; 0 for none, found where it is None.
    mirrored : bool
        Whether every other kind is the mirror image of the one before it.
    """

    features: Features
    orders: NDArray[np.int64]
    least_noise: Doubles
    known: NDArray[np.bool_]
    labels: NDArray[np.int64]
    oriented: bool
    n_angles: int
    strength: float | None = None
    window: float | None = None
    mirrored: bool = False

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
    window : float
        Standard deviation in positions of surroundings that are of one kind together; 0 where the field is used.
    trust : float
        Power of the likelihoods at which their ratios are right.
    probability : ndarray of float, shape (n, n_kinds + 1)
        Of each pattern; the last column is of no kind.
    score : float
        Mean log likelihood of a pattern given those around it, in nats.
    """

    mixture: KindMixture
    strength: float
    window: float
    trust: float
    probability: Doubles
    score: float = -np.inf


@on_one_blas_thread
def fit_kinds(scan: KindScan, n_kinds: int, n_latent: int) -> KindFit:
    """Fit kinds to a scan.

    Several groupings of the positions are followed for a few rounds; the one under which the patterns are likeliest
    goes on until their likelihood settles. Labelled positions are of their kinds from the beginning.

    Where neither field nor window is given, both are tried, and the field also from what the window has found: faint
    patterns, which say little one by one, show their domains in surroundings alone, and strong ones their borders in
    the field. The one under which a pattern is likelier given those around it is kept.

    Parameters
    ----------
    scan : KindScan
        Features, positions and labels.
    n_kinds : int
        Number of kinds, at least that of the labels' kinds; mirror images count, too.
    n_latent : int
        Number of latents of each kind.

    Returns
    -------
    KindFit
    """
    windows = [0.0] if scan.strength is not None else [0.0, _WINDOW]
    if scan.window is not None:
        windows = [scan.window]
    starts: dict[float, KindFit] = {}
    for q in _first_probabilities(scan, n_kinds):
        mixture = _first_mixture(scan, q, n_latent)
        for window in windows:
            start = KindFit(mixture, _FIRST_STRENGTH if scan.strength is None else scan.strength, window, 1.0, q)
            fit = _follow(scan, start, _N_TRIAL)
            if window not in starts or fit.score > starts[window].score:
                starts[window] = fit
    fits = [_follow(scan, start, _N_ROUNDS) for start in starts.values()]
    if len(fits) > 1:
        fits.append(_follow(scan, replace(fits[-1], window=0.0, trust=1.0), _N_ROUNDS))
    return max(fits, key=lambda fit: fit.score)


def _first_probabilities(scan: KindScan, n_kinds: int) -> Iterator[Doubles]:
    """Kinds of all positions, as 0 and 1, that a fit may start from, shape ``(n, n_kinds + 1)``."""
    white = (scan.features / scan.least_noise).astype(np.complex64)
    n_groups = n_kinds // 2 if scan.mirrored else n_kinds
    for groups in groupings(white, scan.orders, scan.known, n_groups, oriented=scan.oriented):
        if scan.mirrored:
            numbers = _named(groups, np.where(scan.labels >= 0, scan.labels // 2, -1), n_groups)
            hands = split_hands(white, scan.orders, numbers, scan.labels)
            numbers = np.where(numbers < n_groups, 2 * numbers + hands, n_kinds)
        else:
            numbers = _named(groups, scan.labels, n_kinds)
        q = np.zeros((len(groups), n_kinds + 1))
        q[np.arange(len(groups)), numbers] = 1.0
        yield q


def settle(
    scan: KindScan, mixture: KindMixture, strength: float, window: float, trust: float
) -> tuple[Doubles, Doubles]:
    """Probabilities of given kinds, and the log likelihood of each pattern given its surroundings.

    Parameters
    ----------
    scan : KindScan
        Features, positions and labels.
    mixture : KindMixture
        The kinds.
    strength : float
        Strength of the field of neighbours.
    window : float
        Standard deviation in positions of surroundings that are of one kind together; 0 where the field is used.
    trust : float
        Power of the likelihoods, where there is a window.

    Returns
    -------
    probability : ndarray of float, shape (n, n_kinds + 1)
    log_likelihood : ndarray of float, shape (n,)
    """
    log = log_likelihoods(scan, mixture)
    q, prior = _agree(scan, log, None, np.log(mixture.weights), strength, window, trust)
    return q, np.asarray(np.logaddexp.reduce(prior + log, axis=1))


def prior_around(scan: KindScan, mixture: KindMixture, strength: float, window: float, trust: float) -> Doubles:
    """Log probability of each kind, and of none, as a scan's patterns have it where there is no pattern of their own.

    Parameters
    ----------
    scan, mixture, strength, window, trust
        As `settle` takes them.

    Returns
    -------
    ndarray of float, shape (scan_y, scan_x, n_kinds + 1)
    """
    weights = np.log(mixture.weights)
    if not len(scan.features):
        return np.broadcast_to(weights, (*scan.known.shape, len(weights)))
    log = log_likelihoods(scan, mixture)
    if window:
        around = sum_votes(scan.spread(trust * _votes(scan, log, weights), 0.0), window)
        return _with_none(around + weights[:-1], weights)
    maps = scan.spread(_agree(scan, log, None, weights, strength, window, trust)[0], 0.0)
    return field_prior(maps, weights, strength)


def log_likelihoods(scan: KindScan, mixture: KindMixture) -> Doubles:
    """Log likelihood of every pattern under each kind and none, shape ``(n, n_kinds + 1)``."""
    log = np.empty((len(scan.features), mixture.n_kinds + 1))
    for block in scan.blocks:
        x = scan.features[block]
        for kind in range(mixture.n_kinds):
            log[block, kind] = mixture.posterior(kind, x, scan.n_angles).log_likelihood
        log[block, -1] = mixture.log_outlier(x)
    return log


def _follow(scan: KindScan, start: KindFit, n_rounds: int) -> KindFit:
    """Expectation and maximisation until the likelihood settles."""
    mixture, strength, window, trust, q, score = (getattr(start, each.name) for each in fields(start))
    for _ in range(n_rounds):
        log = np.empty_like(q)
        posteriors = []
        for block in scan.blocks:
            x = scan.features[block]
            posteriors.append([mixture.posterior(kind, x, scan.n_angles) for kind in range(mixture.n_kinds)])
            of_kinds = [part.log_likelihood for part in posteriors[-1]]
            log[block] = np.stack([*of_kinds, mixture.log_outlier(x)], axis=1)
        weights = np.log(mixture.weights)
        q, prior = _agree(scan, log, q, weights, strength, window, trust)
        before, score = score, float(np.logaddexp.reduce(prior + log, axis=1).mean())
        if window:
            trust = _trusted(scan, log, q, weights, window)
        elif scan.strength is None:
            strength = find_strength(scan.spread(q, 0.0), weights)
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
        options = {"oriented": scan.oriented, "mirrored": scan.mirrored}
        mixture = update_mixture(mixture, sums, float(q[:, -1].sum()), scan.least_noise, **options)
        if abs(score - before) < _SETTLED:
            break
    return KindFit(mixture, strength, window, trust, q, score)


def _agree(
    scan: KindScan, log: Doubles, q: Doubles | None, weights: Doubles, strength: float, window: float, trust: float
) -> tuple[Doubles, Doubles]:
    """Probabilities that agree with patterns, surroundings and labels, and the surroundings' log probabilities."""
    labelled = scan.labels >= 0
    if window:
        votes = trust * _votes(scan, log, weights)
        around = sum_votes(scan.spread(votes, 0.0), window)[scan.known] + weights[:-1]
        prior = _with_none(around - votes, weights)
        of_kinds = around - np.logaddexp.reduce(around, axis=1, keepdims=True)
        # the kind of the place is that of its surroundings; its own pattern says whether it is of that kind at all
        inside = _inside(log, weights)
        q = np.empty_like(log)
        q[:, :-1] = np.exp(of_kinds + inside)
        q[:, -1] = np.maximum(1 - q[:, :-1].sum(axis=1), 0)
    else:
        if q is None:
            alone = log + weights
            q = np.exp(alone - np.logaddexp.reduce(alone, axis=1, keepdims=True))
        q = q.copy()
        q[labelled] = np.eye(q.shape[1])[scan.labels[labelled]]
        fixed = scan.spread(labelled.astype(float), 0.0) > 0
        maps = mean_field(scan.spread(log, np.nan), scan.spread(q, 0.0), weights, strength, fixed)
        q, prior = maps[scan.known], field_prior(maps, weights, strength)[scan.known]
    q[labelled] = np.eye(q.shape[1])[scan.labels[labelled]]
    return q, prior


def _inside(log: Doubles, weights: Doubles) -> Doubles:
    """Log probability that a pattern is of each kind rather than of none, if its place is of this kind."""
    of_kind = log[:, :-1] + np.log1p(-np.exp(weights[-1]))
    return np.asarray(of_kind - np.logaddexp(of_kind, log[:, -1:] + weights[-1]))


def _votes(scan: KindScan, log: Doubles, weights: Doubles) -> Doubles:
    """What each pattern says of the kind of its surroundings: nothing where it is of none, all where it is labelled."""
    inside = log[:, :-1] + np.log1p(-np.exp(weights[-1]))
    votes = np.logaddexp(inside, log[:, -1:] + weights[-1])
    votes = votes - votes.max(axis=1, keepdims=True)
    labelled = scan.labels >= 0
    votes[labelled] = np.where(np.eye(votes.shape[1])[scan.labels[labelled]] > 0, 0.0, -_CERTAIN)
    return np.asarray(votes)


def _with_none(around: Doubles, weights: Doubles) -> Doubles:
    """Log probabilities of kinds that add up to 1 with that of none."""
    of_kinds = around - np.logaddexp.reduce(around, axis=-1, keepdims=True)
    none = np.full((*around.shape[:-1], 1), weights[-1])
    return np.concatenate([of_kinds + np.log1p(-np.exp(weights[-1])), none], axis=-1)


def _trusted(scan: KindScan, log: Doubles, q: Doubles, weights: Doubles, window: float) -> float:
    """Power of the likelihoods, by the scatter of what surroundings say."""
    kinds = np.where(q[:, -1] > 0.5, -1, q[:, :-1].argmax(axis=1))
    return find_trust(sum_votes(scan.spread(_votes(scan, log, weights), 0.0), window)[scan.known], kinds)


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
    kinds: list[OneKind] = []
    for kind in range(0, q.shape[1] - 1, 2 if scan.mirrored else 1):
        if scan.mirrored:
            one = _first_kind(scan, q[:, kind] > 0.5, n_latent, q[:, kind + 1] > 0.5)
            kinds += [one, one.mirrored()]
        else:
            kinds.append(_first_kind(scan, q[:, kind] > 0.5, n_latent))
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


def _first_kind(
    scan: KindScan, of_kind: NDArray[np.bool_], n_latent: int, of_image: NDArray[np.bool_] | None = None
) -> OneKind:
    """One kind by the alignment of its patterns, and of its image's mirrored, and principal components of the rest."""
    orders, least = scan.orders, scan.least_noise
    chosen = of_kind if of_image is None else of_kind | of_image
    # an empty group starts as the whole scan
    chosen = chosen if chosen.sum() > 1 else np.ones_like(chosen)
    members = scan.features[chosen]
    background = members.mean(axis=0, dtype=np.complex128)
    if not scan.oriented:
        background = np.where(orders == 0, background, 0)
    some = members - background
    if of_image is not None:
        some[of_image[chosen]] = some[of_image[chosen]].conj()
    some = some[:: -(-len(members) // _N_ALIGNED)]
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
