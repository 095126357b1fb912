"""Groups of patterns in a scan that has no lattice (film, particles, rims, edges), and the grains of a polycrystal."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse, stats

from stemvane.data.arguments import require, require_same_scan
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.representation import Representable, Row
from stemvane.geometry.polar import harmonics_of, polar_from, rotate
from stemvane.geometry.smoothing import gaussian_mean

__all__ = ["Grains", "Regions", "find_grains", "segment_scan"]

_Floats = NDArray[np.floating[Any]]

# maps are averaged over neighbours this many positions around: half the width of what stays visible
_SIGMA = 1.0
# an axis of the features is kept where it varies by more than this many times the noise of a single feature; what maps
# share of their noise, as bright and dark field do, adds up to twice
_KEPT = 3.0
# how many components a mixture starts from, and with which seeds
_STARTS = tuple((n, seed) for n in (8, 10, 12, 14) for seed in (0, 1, 2))
# components are one group where more than this share of one of them is taken for the other
_CONFUSED = 0.2
# a border between two groups is seen as wide as this, and what is mixed there lies this near to the line between them
_BORDER, _MOSTLY, _BETWEEN = 3.0, 0.75, 0.1
# neighbours whose angles differ by more than what both are uncertain by, in standard deviations, may be of two grains
_N_SIGMA = 3.0
# fewer positions are no grain but a border, where patterns of two lie over each other
_LEAST_GRAIN = 4
_MOST_FITTED = 20_000
_LEAST_POSITIONS = 200


@dataclass(frozen=True, eq=False)
class Regions:
    """Groups of patterns that are alike whatever way they are rotated.

    Attributes
    ----------
    label : ndarray of int, shape (scan_y, scan_x)
        Group of every position, from the one that scatters least; -1 where there is no pattern.
    counts : ndarray of int, shape (n_groups,)
        Positions in each.
    patterns : ndarray of float, shape (n_groups, n_radial, n_azimuthal)
        Mean polar pattern of each: the mean of all patterns, which does not rotate, and what the group's patterns are
        more than it, rotated back by the embedding's angle. Mean intensity per pixel area.
    values : mapping of str to ndarray of float, shape (n_groups,)
        Means over each group: ``dark_field`` over the scan's median, ``bright_field`` and ``total`` likewise,
        ``deflection`` (length of the COM's deflection, averaged over neighbours as a vector, in `com_unit`) and
        ``latent_1``, ``latent_2`` and so on.
    com_unit : str
        ``mrad``, or ``px`` where the pixel size is unknown.
    certainty : ndarray of float, shape (n_groups,)
        Mean probability with which the positions of a group belong to it.
    stability : float
        Mean adjusted Rand index between these groups and those of the other starts; 1 where all agree.
    """

    label: NDArray[np.int64]
    counts: NDArray[np.int64]
    patterns: NDArray[np.float64]
    values: Mapping[str, NDArray[np.float64]]
    com_unit: str
    certainty: NDArray[np.float64]
    stability: float

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.counts)

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of the scan's patterns that each group holds, shape ``(n_groups,)``."""
        return np.asarray(self.counts / self.counts.sum(), np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class Grains(Representable):
    """Grains of a polycrystal: positions that hang together and have one angle, the largest first.

    Attributes
    ----------
    label : ndarray of int, shape (scan_y, scan_x)
        Grain of every position; -1 at borders, and where there is no pattern or no angle.
    counts : ndarray of int, shape (n_grains,)
        Positions in each.
    angle : ndarray of float, shape (n_grains,)
        Mean angle in rad, counter-clockwise on the screen, from 0 to ``2 π / symmetry``.
    spread : ndarray of float, shape (n_grains,)
        Standard deviation of the angle within each in rad.
    symmetry : int
        Rotational symmetry of the content: angles that differ by ``2 π / symmetry`` are the same.
    """

    label: NDArray[np.int64]
    counts: NDArray[np.int64]
    angle: NDArray[np.float64]
    spread: NDArray[np.float64]
    symmetry: int

    @property
    def n_grains(self) -> int:
        """Number of grains."""
        return len(self.counts)

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of the scan's positions that each grain holds, shape ``(n_grains,)``."""
        return np.asarray(self.counts / self.label.size, np.float64)

    def _summary(self) -> tuple[str, Sequence[Row]]:
        rows = [
            (f"grain {i + 1}", f"{np.degrees(self.angle[i]):.2f}°, {100 * self.share[i]:.2g} % of the scan")
            for i in range(min(self.n_grains, 5))
        ]
        rows += [("others", f"{self.n_grains - 5}")] if self.n_grains > 5 else []
        return f"{self.n_grains} grains, angles modulo {360 / self.symmetry:g}°", rows


def find_grains(embedding: Embedding, misorientation: float = np.radians(1.0)) -> Grains:
    """Find the grains of a polycrystal in the map of its angles.

    Neighbours whose angles differ by less than the misorientation, modulo the symmetry, or by no more than they are
    uncertain by, are of one grain; so a grain may be bent.

    Parameters
    ----------
    embedding : Embedding
        Angles of a scan.
    misorientation : float
        Smallest difference between two grains in rad.

    Returns
    -------
    Grains

    Raises
    ------
    DataError
        If this is no embedding.
    """
    require(embedding, Embedding, "find_grains")
    symmetry, angle = embedding.symmetry, np.asarray(embedding.angle, float)
    shape, period = angle.shape, 2 * np.pi / symmetry
    # an angle that may be any is of no grain
    known = np.isfinite(angle) & (embedding.angle_std < period / 8)
    variance = np.where(known, embedding.angle_std, np.inf).astype(float) ** 2
    number = np.arange(angle.size).reshape(shape)
    pairs = []
    for one, other in (
        ((slice(1, None),), (slice(None, -1),)),
        ((slice(None), slice(1, None)), (slice(None), slice(-1))),
    ):
        apart = np.abs(np.angle(np.exp(1j * symmetry * (angle[one] - angle[other])))) / symmetry
        alike = apart < np.maximum(misorientation, _N_SIGMA * np.sqrt(variance[one] + variance[other]))
        alike &= known[one] & known[other]
        pairs.append(np.stack([number[one][alike], number[other][alike]]))
    first, second = np.concatenate(pairs, axis=1)
    links = sparse.coo_array((np.ones(len(first), bool), (first, second)), shape=(angle.size, angle.size))
    _, group = sparse.csgraph.connected_components(links, directed=False)
    counts = np.bincount(group[known.ravel()], minlength=group.max() + 1)
    grains = np.flatnonzero(counts >= _LEAST_GRAIN)
    grains = grains[np.argsort(-counts[grains], kind="stable")]
    index = np.full(len(counts), -1)
    index[grains] = np.arange(len(grains))
    label = np.where(known, index[group].reshape(shape), -1)
    inside = label >= 0
    direction = np.exp(1j * symmetry * angle[inside])
    parts = [np.bincount(label[inside], part, len(grains)) for part in (direction.real, direction.imag)]
    mean = (parts[0] + 1j * parts[1]) / np.maximum(counts[grains], 1)
    spread = np.sqrt(-2 * np.log(np.clip(np.abs(mean), 1e-12, 1.0))) / symmetry
    return Grains(label, counts[grains], np.angle(mean) / symmetry % period, spread, symmetry)


def segment_scan(measurements: Measurements, embedding: Embedding) -> Regions | None:
    """Sort the patterns of a scan into groups; how many there are is found.

    Parameters
    ----------
    measurements : Measurements
        Measurements with polar patterns.
    embedding : Embedding
        Latents and angles of the same scan.

    Returns
    -------
    Regions or None
        None where neighbours in the scan are none on the specimen, so that noise cannot be distinguished from content,
        and where there are fewer than 200 patterns.

    Notes
    -----
    Every position has total, bright and dark field, the length of the COM's deflection and the latents: none of them
    changes when a pattern is rotated. Maps are averaged over neighbours, the deflection as a vector, since the length
    of a noisy vector is its noise, and everything is divided by its own noise. In the few principal axes that stand out
    of the noise a mixture of more normal distributions than needed is fitted; of these the two that are most often
    taken for each other are joined, until all can be told apart (Hennig, Adv. Data Anal. Classif. 4, 3, 2010: directly
    estimated misclassification probabilities), and then those that one normal distribution describes as well as two
    (BIC: Schwarz, Ann. Stat. 6, 461, 1978). What is as thin as a border between two groups and lies between them in its
    features, too, is a mixture of both and no group. This is done from several starts, and the groups are those that
    agree best with all others.
    """
    require_same_scan(embedding, measurements, "segment_scan")
    has_pattern = measurements.recorded & np.isfinite(embedding.latents).all(axis=-1) & np.isfinite(embedding.angle)
    if not measurements.is_scan or has_pattern.sum() < _LEAST_POSITIONS:
        return None
    deflection, deflection_noise = _deflection(measurements, has_pattern)
    features = _features(measurements, embedding, deflection / deflection_noise, has_pattern)
    points = _standing_out(features)
    if points.shape[1]:
        probability, stability = _most_agreed(
            [_without_borders(_separate(points, n, seed), points, has_pattern) for n, seed in _STARTS]
        )
    else:
        probability, stability = np.ones((len(points), 1)), 1.0
    return _describe(measurements, embedding, deflection, has_pattern, probability, stability)


def _describe(
    measurements: Measurements,
    embedding: Embedding,
    deflection: NDArray[np.float64],
    has_pattern: NDArray[np.bool_],
    probability: NDArray[np.float64],
    stability: float,
) -> Regions:
    """Groups from the one that scatters least, with what their patterns are like."""
    dark = measurements.maps["annular_dark_field"][has_pattern]
    chosen = probability.argmax(axis=1)
    used = np.unique(chosen)
    used = used[np.argsort([dark[chosen == group].mean() for group in used], kind="stable")]
    group = np.argsort(used)[np.searchsorted(np.sort(used), chosen)]
    n = len(used)
    label = np.full(has_pattern.shape, -1)
    label[has_pattern] = group
    counts = np.bincount(group, minlength=n)

    def mean(values: _Floats) -> NDArray[np.float64]:
        return np.asarray(np.bincount(group, weights=values.astype(float), minlength=n) / counts, np.float64)

    values = {
        name: mean(measurements.maps[key][has_pattern]) / float(np.median(measurements.maps[key][has_pattern]))
        for name, key in (("dark_field", "annular_dark_field"), ("bright_field", "bright_field"), ("total", "total"))
    }
    values["deflection"] = mean(deflection[has_pattern])
    values |= {f"latent_{i + 1}": mean(embedding.latents[has_pattern][:, i]) for i in range(embedding.n_latent)}
    return Regions(
        label=label,
        counts=counts,
        patterns=_patterns(measurements, embedding.angle[has_pattern], group, has_pattern, counts),
        values=values,
        com_unit=measurements.com_unit,
        certainty=mean(probability.max(axis=1)),
        stability=stability,
    )


def _noise(values: _Floats, has_pattern: NDArray[np.bool_]) -> float:
    """Standard deviation of the noise of a map that `gaussian_mean` leaves, from differences between neighbours.

    Beam current changes from row to row: noise that the positions of a row share is averaged along columns alone.
    """
    values = np.where(has_pattern, values, np.nan).astype(float)
    variances = []
    for axis in (0, 1):
        differences = np.diff(values, 2, axis=axis)
        differences = differences[np.isfinite(differences)]
        spread = stats.median_abs_deviation(differences, scale="normal") if differences.size else 0.0
        variances.append(spread**2 / 6)
    single, shared = min(variances), max(variances) - min(variances)
    averaged = 1 / (2 * np.sqrt(np.pi) * _SIGMA)
    remaining = np.sqrt(single * averaged**2 + shared * averaged)
    # in noiseless data it is the last digits that differ
    return float(max(remaining, 1e-3 * np.nanstd(values), 1e-30))


def _deflection(measurements: Measurements, has_pattern: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Length of the COM's deflection, averaged over neighbours as a vector, and the noise of one component."""
    parts = np.moveaxis(measurements.deflection, -1, 0)
    noise = float(np.sqrt(np.mean([_noise(part, has_pattern) ** 2 for part in parts])))
    return np.hypot(*(gaussian_mean(part, has_pattern, _SIGMA) for part in parts)), noise


def _features(
    measurements: Measurements, embedding: Embedding, deflection: NDArray[np.float64], has_pattern: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """What a rotation leaves as it is, in units of its noise, shape ``(n_known, n_features)``."""
    columns: list[_Floats] = []
    for name in ("total", "bright_field", "annular_dark_field"):
        values = measurements.maps[name]
        columns.append(gaussian_mean(values, has_pattern, _SIGMA)[has_pattern] / _noise(values, has_pattern))
    columns.append(deflection[has_pattern])
    for i in range(embedding.n_latent):
        # the model has read the neighbours already
        values = embedding.latents[has_pattern][:, i].astype(float)
        noise = np.median(embedding.latent_std[has_pattern][:, i])
        columns.append(values / max(float(noise), 1e-3 * float(values.std()), 1e-30))
    features = np.stack(columns, axis=1)
    return np.asarray(features - np.median(features, axis=0))


def _standing_out(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Principal axes that vary by more than noise does."""
    centred = features - features.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    return np.asarray(centred @ axes[:, variances > _KEPT][:, ::-1])


def _separate(points: NDArray[np.float64], n_components: int, seed: int) -> NDArray[np.float64]:
    """Probability of each group at every point, of groups that can be told apart."""
    # loaded where it is needed, since it takes a second
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    some = points
    if len(points) > _MOST_FITTED:
        some = points[np.random.default_rng(seed).permutation(len(points))[:_MOST_FITTED]]
    # a group is no narrower than the noise, which is 1 by the choice of units
    mixture = GaussianMixture(n_components, random_state=seed, reg_covar=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probability = np.asarray(mixture.fit(some).predict_proba(points))
    if _one_normal(points, np.ones(len(points)), np.log(np.maximum(_density(points, probability), 1e-300))):
        return np.ones((len(points), 1))
    while probability.shape[1] > 1:
        n = probability.shape[1]
        chosen = np.eye(n)[probability.argmax(axis=1)]
        # of what belongs to the row's group, the share that is taken for the column's
        confused = probability.T @ chosen / np.maximum(probability.sum(axis=0), 1e-30)[:, None]
        confused = np.maximum(confused, confused.T) - 2 * np.eye(n)
        first, second = np.unravel_index(confused.argmax(), confused.shape)
        if confused[first, second] < _CONFUSED:
            pair = _as_one(points, probability)
            if pair is None:
                break
            first, second = pair
        probability[:, first] += probability[:, second]
        probability = np.delete(probability, second, axis=1)
    return probability


def _density(points: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Density, at every point, of one normal distribution for each column of shares, together."""
    total = np.zeros(len(points))
    for column in share.T:
        weight = column.sum() / share.sum()
        mean = np.average(points, axis=0, weights=column)
        # a group is no narrower than rounding
        covariance = np.cov(points.T, aweights=column, ddof=0).reshape(2 * points.shape[1:])
        covariance += 1e-6 * np.eye(len(mean))
        total += weight * stats.multivariate_normal.pdf(points, mean, covariance)
    return total


def _one_normal(points: NDArray[np.float64], weight: NDArray[np.float64], logarithm: NDArray[np.float64]) -> bool:
    """Whether a normal distribution describes points as well as what has this logarithm of its density (BIC)."""
    one = np.log(np.maximum(_density(points, weight[:, None]), 1e-300))
    # neighbours share what smoothing has mixed, which counts for fewer patterns
    alike = 2 * np.pi * _SIGMA**2
    d = points.shape[1]
    gain = 2 * float(weight @ (logarithm - one)) / alike
    return bool(gain < (1 + d + d * (d + 1) / 2) * np.log(max(weight.sum() / alike, 2.0)))


def _as_one(points: NDArray[np.float64], probability: NDArray[np.float64]) -> tuple[int, int] | None:
    """The nearest two groups that one normal distribution describes as well as two do; None where there are none."""
    means = probability.T @ points / probability.sum(axis=0)[:, None]
    pairs = [(i, j) for j in range(len(means)) for i in range(j)]
    for i, j in sorted(pairs, key=lambda pair: float(((means[pair[0]] - means[pair[1]]) ** 2).sum())):
        both = probability[:, [i, j]]
        some = both.sum(axis=1) > 1e-3
        two = np.log(np.maximum(_density(points[some], both[some]), 1e-300))
        if _one_normal(points[some], both[some].sum(axis=1), two):
            return i, j
    return None


def _without_borders(
    probability: NDArray[np.float64], points: NDArray[np.float64], has_pattern: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Give what is but a border between two groups to them."""
    while True:
        label = probability.argmax(axis=1)
        groups, counts = np.unique(label, return_counts=True)
        probability, label = probability[:, groups], np.searchsorted(groups, label)
        if len(groups) < 3:
            return probability
        means = np.array([points[label == i].mean(axis=0) for i in range(len(groups))])
        near = np.array([_near(label == i, has_pattern) for i in range(len(groups))])
        for thin in np.argsort(counts, kind="stable"):
            pair = _sides(int(thin), label, means, near)
            if pair is not None:
                break
        else:
            return probability
        first, second = pair
        along = (points - means[first]) @ (means[second] - means[first])
        nearer = along > 0.5 * ((means[second] - means[first]) ** 2).sum()
        probability[:, first] += np.where(nearer, 0.0, probability[:, thin])
        probability[:, second] += np.where(nearer, probability[:, thin], 0.0)
        probability = np.delete(probability, thin, axis=1)


def _near(member: NDArray[np.bool_], has_pattern: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the known positions lie within a border's width of some of them."""
    is_member = np.zeros(has_pattern.shape, bool)
    is_member[has_pattern] = member
    return np.asarray(ndimage.distance_transform_edt(~is_member)[has_pattern] <= _BORDER * _SIGMA)


def _sides(
    thin: int, label: NDArray[np.int64], means: NDArray[np.float64], near: NDArray[np.bool_]
) -> tuple[int, int] | None:
    """The two groups that one is the border of, None where it is none."""
    others = [i for i in range(len(means)) if i != thin]
    best: tuple[float, tuple[int, int] | None] = (_BETWEEN, None)
    for first in others:
        for second in (i for i in others if i > first):
            if (near[first] & near[second])[label == thin].mean() < _MOSTLY:
                continue
            across = means[second] - means[first]
            length = float(across @ across)
            part = float((means[thin] - means[first]) @ across) / length
            off = float(np.linalg.norm(means[thin] - means[first] - part * across)) / np.sqrt(length)
            if 0 < part < 1 and off < best[0]:
                best = off, (first, second)
    return best[1]


def _most_agreed(candidates: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], float]:
    """The candidate that agrees best with all others, and how well it does."""
    from sklearn.metrics import adjusted_rand_score

    labels = [candidate.argmax(axis=1) for candidate in candidates]
    agreement = [
        np.mean([adjusted_rand_score(labelling, other) for j, other in enumerate(labels) if j != i])
        for i, labelling in enumerate(labels)
    ]
    best = int(np.argmax(agreement))
    return candidates[best], float(agreement[best])


def _patterns(
    measurements: Measurements,
    angle: _Floats,
    group: NDArray[np.int64],
    has_pattern: NDArray[np.bool_],
    counts: NDArray[np.int64],
) -> NDArray[np.float64]:
    grid = measurements.grid
    background = np.zeros((grid.n_orders, grid.n_radial), np.complex128)
    summed = np.zeros((len(counts), *background.shape), np.complex128)
    # what the rotations make of a pattern that is 1 in all harmonics: the background's share, without reading twice
    rotated_unit = np.zeros((len(counts), grid.n_orders, 1), np.complex128)
    start = 0
    for block in measurements.polar_blocks(has_pattern):
        part = slice(start, start + len(block))
        harmonics, chosen = harmonics_of(block), np.eye(len(counts))[group[part]]
        unit = np.ones((len(block), grid.n_orders, 1), np.complex128)
        background += harmonics.sum(axis=0)
        summed += np.einsum("ng,nmr->gmr", chosen, rotate(harmonics, -angle[part]), optimize=True)
        rotated_unit += np.einsum("ng,nmr->gmr", chosen, rotate(unit, -angle[part]), optimize=True)
        start += len(block)
    background /= len(group)
    mean = background + (summed - rotated_unit * background) / counts[:, None, None]
    return np.asarray(polar_from(mean, grid.n_azimuthal), np.float64)
