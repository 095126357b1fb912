"""A continuous quantity, such as a tilt or a thickness, from positions where it is known to the whole scan."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, stats

from stemvane.data.arguments import read_rows, require
from stemvane.data.embedding import Embedding
from stemvane.data.quantity_map import QuantityMap
from stemvane.errors import DataError

__all__ = ["predict_quantity", "read_known"]

Doubles = NDArray[np.float64]

# what is averaged over: lengths in standard deviations of a latent over which the quantity bends, share of it that is
# straight, and variance beside it over the variance that latents explain
_LENGTHS = (0.5, 1.0, 2.0, 4.0)
_STRAIGHT = (0.0, 0.5, 1.0)
_BESIDE = (1e-4, 1e-3, 1e-2, 0.1, 0.5, 2.0, 10.0)
# models less likely than this beside the likeliest one add nothing that shows
_NEGLIGIBLE = 1e-3
# fewer leave the width of an interval open: Student's t of less than 3 degrees of freedom has no variance
_LEAST_KNOWN = 5


def predict_quantity(
    embedding: Embedding,
    known: Mapping[tuple[int, int], float] | str | Path,
    *,
    name: str = "quantity",
    unit: str = "",
) -> QuantityMap:
    """Find a quantity everywhere from the few positions where it is known.

    Parameters
    ----------
    embedding : Embedding
        Latents of a scan, by any model.
    known : mapping of (int, int) to float, or str or Path
        Values at positions ``(y, x)``, five at least, or a CSV file of them with the columns ``y``, ``x``, ``value``.
    name, unit : str
        What it is, and its unit, for figures and exports.

    Returns
    -------
    QuantityMap

    Raises
    ------
    DataError
        If the embedding has no latents, fewer than five values are known, or one of them is no number, lies beyond the
        scan or where there is no pattern.

    Notes
    -----
    The quantity is a Gaussian process of the latents, straight or bent, of the first latent or of more, beside what
    latents do not say. Its mean and scale are integrated out (O'Hagan, J. R. Stat. Soc. B 40, 1, 1978), so that a
    prediction is Student's t; how bent, how much is beside, and how many latents count is averaged over by the
    likelihood of the known values. Kinds share nothing but the mean: where no value of a kind is known, the interval is
    as wide as the values scatter.
    """
    require(embedding, Embedding, "predict_quantity")
    if not isinstance(known, Mapping | str | Path):
        raise DataError("predict_quantity takes known values as {(y, x): number}, or the path of a CSV file of them")
    places, target = _placed(embedding, read_known(known) if isinstance(known, str | Path) else known)
    values = dict(zip(map(tuple, places.tolist()), target.tolist(), strict=True))
    there = np.isfinite(embedding.latents).all(axis=-1)
    z = embedding.latents[there].astype(np.float64)
    z = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-12)
    number = np.full(there.shape, -1)
    number[there] = np.arange(len(z))
    at = number[tuple(places.T)]
    kind = np.zeros(len(z), int) if embedding.kind is None else embedding.kind[there]
    centre, size = float(target.mean()), float(target.std()) or 1.0
    fits = [_fit(z[at], kind[at], (target - centre) / size, shape) for shape in _shapes(z.shape[1])]
    log = np.array([fit.log_likelihood for fit in fits])
    weights = np.exp(log - log.max())
    weights = np.where(weights > _NEGLIGIBLE, weights, 0)
    mean, square = np.zeros(len(z)), np.zeros(len(z))
    for fit, weight in zip(fits, weights / weights.sum(), strict=True):
        if weight:
            one, variance = fit.predict(z, kind)
            mean, square = mean + weight * one, square + weight * (variance + one**2)
    maps = np.full((2, *there.shape), np.nan)
    maps[0][there] = centre + size * mean
    maps[1][there] = size * np.sqrt(np.maximum(square - mean**2, 0))
    explained = _explained(fits, (target - centre) / size)
    return QuantityMap(maps[0], maps[1], len(target) - 1, values, explained, name, unit, embedding.scan_step)


class _Shape(NamedTuple):
    """How a quantity may depend on latents: on how many, how straight, over which length, and what is beside them."""

    n_latent: int
    straight: float
    length: float
    beside: float

    def covariance(self, z: Doubles, kind: NDArray[np.int64], others: Doubles, other: NDArray[np.int64]) -> Doubles:
        a, b = z[:, : self.n_latent], others[:, : self.n_latent]
        total = self.straight * (a @ b.T) / self.n_latent
        if self.straight < 1:
            squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
            total = total + (1 - self.straight) * np.exp(-np.maximum(squares, 0) / (2 * self.length**2))
        return np.asarray(np.where(kind[:, None] == other, total, 0))


def _shapes(n_latent: int) -> list[_Shape]:
    shapes = []
    for n, straight, beside in itertools.product(range(1, n_latent + 1), _STRAIGHT, _BESIDE):
        # a straight line has no length
        lengths = _LENGTHS if straight < 1 else _LENGTHS[:1]
        shapes += [_Shape(n, straight, length * math.sqrt(n), beside) for length in lengths]
    return shapes


class _Fitted(NamedTuple):
    """A shape, given the known values."""

    shape: _Shape
    z: Doubles
    kind: NDArray[np.int64]
    factor: tuple[Any, bool]
    mean: float
    solved: Doubles
    scale: float
    ones: Doubles
    log_likelihood: float

    def predict(self, z: Doubles, kind: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
        """Mean and variance at other latents."""
        to = self.shape.covariance(z, kind, self.z, self.kind)
        mean = self.mean + to @ self.solved
        own = self.shape.straight * (z[:, : self.shape.n_latent] ** 2).sum(axis=1) / self.shape.n_latent
        own = own + (1 - self.shape.straight) + self.shape.beside
        variance = own - (to * linalg.cho_solve(self.factor, to.T).T).sum(axis=1)
        # the mean is not known either
        variance = variance + (1 - to @ self.ones) ** 2 / self.ones.sum()
        freedom = len(self.z) - 1
        return mean, np.asarray(self.scale * np.maximum(variance, 0) * freedom / (freedom - 2))


def _fit(z: Doubles, kind: NDArray[np.int64], target: Doubles, shape: _Shape) -> _Fitted:
    n = len(target)
    matrix = shape.covariance(z, kind, z, kind) + (shape.beside + 1e-8) * np.eye(n)
    factor = linalg.cho_factor(matrix, lower=True)
    ones = linalg.cho_solve(factor, np.ones(n))
    mean = float(ones @ target / ones.sum())
    solved = linalg.cho_solve(factor, target - mean)
    squares = max(float((target - mean) @ solved), 1e-300)
    log = -np.log(np.diag(factor[0])).sum() - math.log(ones.sum()) / 2 - (n - 1) / 2 * math.log(squares)
    return _Fitted(shape, z, kind, factor, mean, solved, squares / (n - 1), ones, float(log))


def _explained(fits: Sequence[_Fitted], target: Doubles) -> float:
    """Share of the variance of the known values that is predicted where each is left out."""
    n = len(target)
    errors, logs = np.empty((2, len(fits), n))
    for fit, error, log in zip(fits, errors, logs, strict=True):
        inverse = linalg.cho_solve(fit.factor, np.eye(n))
        diagonal = np.diag(inverse) - inverse.sum(axis=0) ** 2 / inverse.sum()
        # leaving one out is a division (Sundararajan & Keerthi, Neural Comput. 13, 1103, 2001)
        error[:] = fit.solved / diagonal
        squares = np.maximum(target @ fit.solved - fit.solved * error, 1e-300)
        spread = np.sqrt(squares / (n - 2) / diagonal)
        # a shape is as likely without a value as with it, over what it says of this value
        log[:] = fit.log_likelihood - stats.t.logpdf(error, n - 2, scale=spread)
    weights = np.exp(logs - logs.max(axis=0))
    left = (weights * errors).sum(axis=0) / weights.sum(axis=0)
    by_mean = (target - target.mean()) * n / (n - 1)
    return float(1 - (left**2).sum() / max((by_mean**2).sum(), 1e-300))


def read_known(path: str | Path) -> dict[tuple[int, int], float]:
    """Read known values from a CSV file with the columns ``y``, ``x`` and ``value``.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict of (int, int) to float

    Raises
    ------
    DataError
        If it cannot be read, a line holds no value, a position has two, or there are fewer than five values; the
        message names file and line.
    """
    values: dict[tuple[int, int], float] = {}
    for number, row in enumerate(read_rows(path, "values", "y, x, value"), start=2):
        try:
            place, value = (int(row["y"]), int(row["x"])), float(row["value"])
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{path}, line {number}: no value; give whole numbers y and x, and a number, in the columns y, x, value"
            ) from None
        if not math.isfinite(value):
            raise DataError(f"{path}, line {number}: the value is {value}; leave the line out")
        if place in values and values[place] != value:
            raise DataError(f"{path}, line {number}: {place} has {values[place]:g} already; keep one of the values")
        values[place] = value
    _check_number(values, f"{path}: ")
    return values


def _check_number(values: Mapping[tuple[int, int], float], where: str = "") -> None:
    if len(values) < _LEAST_KNOWN:
        raise DataError(
            f"{where}the quantity is known at {len(values)} positions, which tells no width of an interval; give at "
            f"least {_LEAST_KNOWN}"
        )


def _placed(embedding: Embedding, values: Mapping[tuple[int, int], float]) -> tuple[NDArray[np.int64], Doubles]:
    """Positions and values, checked."""
    if not embedding.n_latent:
        raise DataError("the embedding has no latents to find a quantity from; fit the model with n_latent=2")
    _check_number(values)
    places, target = [], []
    for place, value in values.items():
        try:
            (y, x), number = (operator.index(part) for part in place), float(value)
        except (TypeError, ValueError):
            raise DataError(f"{place!r}: {value!r} is no position with a value; give {{(y, x): number}}") from None
        if not (0 <= y < embedding.scan_shape[0] and 0 <= x < embedding.scan_shape[1]):
            raise DataError(f"a value is known at ({y}, {x}), beyond the scan of {embedding.scan_shape}; leave it out")
        if not np.isfinite(embedding.latents[y, x]).all():
            raise DataError(f"a value is known at ({y}, {x}), where there is no pattern; leave it out")
        if not math.isfinite(number):
            raise DataError(f"the value at ({y}, {x}) is {number}; leave it out")
        places.append((y, x))
        target.append(number)
    if min(target) == max(target):
        raise DataError(f"all known values are {target[0]:g}, which tells of no latent; give values that differ")
    with np.errstate(over="ignore", under="ignore"):
        square = np.var(target)
    if not 0 < square < math.inf:
        raise DataError(f"known values of {min(target):g} to {max(target):g} cannot be squared; give another unit")
    return np.array(places), np.array(target)
