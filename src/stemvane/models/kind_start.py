"""A start for kinds that knows no chance: positions grouped by what a rotation leaves as it is, near and far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, ndimage
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

__all__ = ["describe_positions", "groupings", "split_hands"]

# standard deviations, in positions, of the windows that descriptors are averaged in
_WINDOWS = (0.0, 1.0, 2.0, 4.0)
# strongest features of each order whose products are described, and directions that are kept
_N_PRODUCTS, _N_DIRECTIONS = 4, 8
# highest order in a triple product: their number grows with its square, and low orders hold the shape
_HIGHEST_TRIPLE = 12
# directions that vary over the scan by less than this over what neighbours differ by hold no kinds
_LEAST_RATIO = 1.5
_RIDGE = 1e-3
# a group with a smaller share of the positions is no kind to start from, and how often the rest is grouped again
_LEAST_SHARE, _N_TRIES = 0.02, 3

Features = NDArray[np.complexfloating[Any, Any]]
Doubles = NDArray[np.float64]


def describe_positions(features: Features, orders: NDArray[np.int64], *, oriented: bool) -> Doubles:
    """What a rotation leaves as it is of every pattern, and, where backgrounds have an orientation, what stays.

    Parameters
    ----------
    features : ndarray of complex, shape (n, n_features)
        Features in units of their noise.
    orders : ndarray of int, shape (n_features,)
        Circular orders.
    oriented : bool
        Whether the features themselves count, too.

    Returns
    -------
    ndarray of float, shape (n, n_descriptors)
        Features of order 0, products of two features of one order, and triple products of which two orders add up to
        the third (the bispectrum).
    """
    columns: list[NDArray[Any]] = [features[:, orders == 0].real]
    if oriented:
        columns += [features[:, orders > 0].real, features[:, orders > 0].imag]
    strongest: dict[int, NDArray[Any]] = {}
    for order, part in _strong_features(features, orders):
        strongest[order] = part[:, 0]
        rows, others = np.triu_indices(part.shape[1])
        products = part[:, rows] * part[:, others].conj()
        # amplitudes, not powers: their scatter is that of the noise, however strong they are
        scale = np.sqrt(np.abs(products) + 1.0)
        columns += [products.real / scale, (products.imag / scale)[:, rows != others]]
    for triple in _triples(strongest):
        columns += [triple.real[:, None], triple.imag[:, None]]
    return np.asarray(np.concatenate(columns, axis=1), np.float64)


def _strong_features(features: Features, orders: NDArray[np.int64]) -> Iterator[tuple[int, Features]]:
    """Every circular order from 1 that there is, and its strongest features, the strongest first."""
    for order in range(1, int(orders.max(initial=0)) + 1):
        at = np.flatnonzero(orders == order)
        if len(at):
            at = at[np.argsort(-(np.abs(features[:, at]) ** 2).mean(axis=0), kind="stable")[:_N_PRODUCTS]]
            yield order, features[:, at]


def _triples(strongest: dict[int, NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Products of the strongest features of two orders with that of their sum, of which a rotation changes nothing."""
    for first, one in strongest.items():
        for second, other in strongest.items():
            if first <= second and first + second <= _HIGHEST_TRIPLE and first + second in strongest:
                triple = one * other * strongest[first + second].conj()
                yield triple / (np.abs(triple) + 1.0) ** (2 / 3)


def split_hands(
    features: Features, orders: NDArray[np.int64], groups: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Hand of every pattern, 0 or 1, within its group: which of two mirror images it is.

    Parameters
    ----------
    features : ndarray of complex, shape (n, n_features)
        Features in units of their noise.
    orders : ndarray of int, shape (n_features,)
        Circular orders.
    groups : ndarray of int, shape (n,)
        Group of each pattern.
    labels : ndarray of int, shape (n,)
        Known groups and hands as ``2 group + hand``, -1 where not known.

    Returns
    -------
    ndarray of int, shape (n,)

    Notes
    -----
    A mirror image has conjugated triple products and products of one order, so their imaginary parts change sign; the
    hand is the sign along the direction in which these are largest.
    """
    columns: list[NDArray[Any]] = []
    strongest: dict[int, NDArray[Any]] = {}
    for order, part in _strong_features(features, orders):
        strongest[order] = part[:, 0]
        rows, others = np.triu_indices(part.shape[1], 1)
        products = part[:, rows] * part[:, others].conj()
        columns += [products.imag / np.sqrt(np.abs(products) + 1.0)]
    columns += [triple.imag[:, None] for triple in _triples(strongest)]
    odd = np.concatenate([np.zeros((len(features), 1)), *columns], axis=1)
    hands = np.zeros(len(features), np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        vectors = np.linalg.eigh(odd[members].T @ odd[members])[1]
        hands[members] = odd[members] @ vectors[:, -1] > 0
        known = members[labels[members] >= 0]
        if len(known) and (hands[known] == labels[known] % 2).mean() < 0.5:
            hands[members] = 1 - hands[members]
    return np.where(labels >= 0, labels % 2, hands)


def groupings(
    features: Features, orders: NDArray[np.int64], known: NDArray[np.bool_], n_groups: int, *, oriented: bool
) -> Iterator[NDArray[np.int64]]:
    """Ways to group positions that a fit may start from.

    Parameters
    ----------
    features : ndarray of complex, shape (n, n_features)
        Features of the known positions in units of their noise.
    orders : ndarray of int, shape (n_features,)
        Circular orders.
    known : ndarray of bool, shape (scan_y, scan_x)
        Positions that have a pattern.
    n_groups : int
        Number of groups.
    oriented : bool
        Whether what does not rotate has an orientation.

    Yields
    ------
    ndarray of int, shape (n,)
        Group of each position, -1 where it belongs to none.

    Notes
    -----
    Descriptors are averaged over windows from a single position to wide surroundings. Groups are those of a Gaussian
    mixture in the directions of most variance, which may be elongated as a varying thickness makes them, of radial
    intensities alone and of all descriptors; and of k-means in the directions that vary most over the scan beside what
    neighbouring positions differ by (minimum noise fractions; Green et al., IEEE Trans. Geosci. Remote Sens. 26, 65,
    1988).
    """
    descriptors = describe_positions(features, orders, oriented=oriented)
    radial = features[:, orders == 0].real.astype(np.float64)
    for window in _WINDOWS:
        for values in (radial, descriptors):
            if values.shape[1]:
                averaged = _averaged(values, known, window)
                yield _without_strays(partial(_mixture_groups, averaged, n_groups), known, n_groups)
        yield _without_strays(partial(_coherent_groups, descriptors, known, window, n_groups), known, n_groups)


def _without_strays(
    group: Callable[[NDArray[np.bool_]], NDArray[np.int64]], known: NDArray[np.bool_], n_groups: int
) -> NDArray[np.int64]:
    """Groups that are large enough to be kinds; a few patterns unlike all others are of none, -1."""
    inside = np.ones(int(known.sum()), bool)
    least = max(_LEAST_SHARE * len(inside), 2)
    groups = group(inside)
    for _ in range(_N_TRIES):
        few = np.bincount(groups, minlength=n_groups)[groups] < least
        # what is left must still be enough for as many groups
        if not few.any() or len(groups) - few.sum() < n_groups:
            break
        inside[np.flatnonzero(inside)[few]] = False
        groups = group(inside)
    numbers = np.full(len(inside), -1, np.int64)
    numbers[inside] = groups
    return numbers


def _mixture_groups(values: Doubles, n_groups: int, inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    mixture = GaussianMixture(n_groups, n_init=2, random_state=0, reg_covar=1e-4)
    return np.asarray(mixture.fit_predict(_main_directions(values[inside])), np.int64)


def _coherent_groups(
    descriptors: Doubles, known: NDArray[np.bool_], window: float, n_groups: int, inside: NDArray[np.bool_]
) -> NDArray[np.int64]:
    used = np.zeros_like(known)
    used[known] = inside
    along = _coherent_directions(descriptors[inside], used, window)
    return np.asarray(KMeans(n_groups, n_init=4, random_state=0).fit_predict(along), np.int64)


def _main_directions(values: Doubles) -> Doubles:
    """Coordinates along the directions of most variance, each with the variance 1."""
    centred = values - values.mean(axis=0)
    variance, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    n = min(_N_DIRECTIONS, max(int((variance > _RIDGE * variance[-1]).sum()), 1))
    return np.asarray(centred @ vectors[:, ::-1][:, :n] / np.sqrt(np.maximum(variance[::-1][:n], 1e-300)))


def _averaged(values: Doubles, known: NDArray[np.bool_], window: float) -> Doubles:
    """Means over the known positions around each, weighted by a normal distribution."""
    if not window:
        return values
    maps = np.zeros((*known.shape, values.shape[1]))
    maps[known] = values
    maps = ndimage.gaussian_filter(maps, (window, window, 0), mode="constant")
    present = ndimage.gaussian_filter(known.astype(float), window, mode="constant")
    return np.asarray(maps[known] / present[known][:, None])


def _coherent_directions(descriptors: Doubles, known: NDArray[np.bool_], window: float) -> Doubles:
    """Coordinates along directions that vary over the scan more than neighbours differ."""
    scale = descriptors.std(axis=0)
    values = (descriptors - descriptors.mean(axis=0))[:, scale > 0] / scale[scale > 0]
    if not values.shape[1]:
        return np.zeros((len(descriptors), 1))
    maps = np.zeros((*known.shape, values.shape[1]))
    maps[known] = values
    below, beside = known[1:] & known[:-1], known[:, 1:] & known[:, :-1]
    different = np.concatenate([(maps[1:] - maps[:-1])[below], (maps[:, 1:] - maps[:, :-1])[beside]])
    between = different.T @ different / max(2 * len(different), 1)
    # what averaging leaves of differences that are independent of each other
    between /= max(4 * np.pi * window**2, 1.0)
    between += max(_RIDGE * float(np.trace(between)) / len(between), 1e-12) * np.eye(len(between))
    values = _averaged(values, known, window)
    ratios, vectors = linalg.eigh(values.T @ values / len(values), between)
    n = min(max(int((ratios > _LEAST_RATIO).sum()), 1), _N_DIRECTIONS)
    return np.asarray(values @ vectors[:, ::-1][:, :n])
