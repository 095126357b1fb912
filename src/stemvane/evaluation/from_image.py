"""Latents and angles from an image of the whole field, and the positions whose patterns would tell most."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, ndimage
from scipy.spatial.distance import cdist

from stemvane.data.arguments import require, require_numbers
from stemvane.data.embedding import Embedding
from stemvane.data.representation import Representable, Row, format_shape
from stemvane.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ImagePrediction", "predict_from_image"]

Doubles = NDArray[np.float64]

# what is chosen from by the likelihood: half widths of a neighbourhood in positions, principal components of these,
# lengths over the rms distance from the mean neighbourhood, and the variance that images do not tell over that which
# they do
_RADII = (2, 4, 6)
_COMPONENTS = (3, 8)
_LENGTHS = (0.25, 0.5, 1.0, 2.0)
_BESIDE = (1e-4, 1e-2, 0.1, 0.5)
# fewer tell neither scale nor length
_LEAST_KNOWN = 8
# the exact process grows with the cube of these; patterns beyond them are compared and not learned from
_MOST_KNOWN = 1000
_MOST_CHOSEN_FROM = 300
_MOST_CANDIDATES = 20_000
_MOST_REFERENCES = 500
_BLOCK = 4096
# rad; nothing is known better
_LEAST_STD = 1e-3


class _Inputs(NamedTuple):
    """Neighbourhoods of all positions, and the angle (rad) that each is seen at."""

    scores: Doubles
    turn: Doubles
    radius: int


class _Process(NamedTuple):
    """A Gaussian process of neighbourhoods, of one covariance for all outputs, given the patterns of some positions."""

    scores: Doubles
    known: NDArray[np.int64]
    length: float
    beside: float
    factor: Doubles
    ones: Doubles
    mean: Doubles
    solved: Doubles
    scale: Doubles

    def covariance(self, positions: NDArray[np.int64]) -> Doubles:
        """With the known positions, shape ``(n, n_known)``."""
        return _covariance(self.scores[positions], self.scores[self.known], self.length)

    def predict(self, positions: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
        """Means, shape ``(n, n_outputs)``, and the variance over the scale of each output, shape ``(n,)``."""
        to = self.covariance(positions)
        half = linalg.solve_triangular(self.factor, to.T, lower=True)
        # the mean is not known either
        unknown = (1 - to @ self.ones) ** 2 / self.ones.sum()
        return self.mean + to @ self.solved, np.maximum(1 - (half**2).sum(axis=0), 0) + unknown


@dataclass(frozen=True, eq=False, repr=False)
class ImagePrediction(Representable):
    """What an image says of latents and angle at every position.

    Attributes
    ----------
    latents, latent_std : ndarray of float, shape (scan_y, scan_x, n_latent)
        Predictions and their standard deviations; where a pattern was embedded, those without it.
    angle, angle_std : ndarray of float, shape (scan_y, scan_x)
        The same of the angle, in rad; NaN in a model without one.
    disagreement : ndarray of float, shape (scan_y, scan_x)
        Rms difference between embedding and prediction over what is expected, 1 where they agree as well as the image
        allows; NaN where no pattern was embedded. Where it is large, the pattern says what the image does not.
    radius : int
        Half width of the neighbourhood that the prediction uses, in positions.
    scan_step : tuple of float, optional
        Å ``(y, x)``, for the scale bar.
    """

    latents: Doubles
    latent_std: Doubles
    angle: Doubles
    angle_std: Doubles
    disagreement: Doubles
    radius: int
    scan_step: tuple[float, float] | None = None
    _process: _Process | None = field(default=None, kw_only=True)

    def propose(self, n: int) -> list[tuple[int, int]]:
        """Name the positions whose patterns would tell most.

        Parameters
        ----------
        n : int
            How many.

        Returns
        -------
        list of (int, int)
            Positions ``(y, x)`` without a pattern, the most telling first; fewer where fewer remain.

        Raises
        ------
        DataError
            If `n` is no positive whole number.

        Notes
        -----
        The first, third and so on are where the process is least certain: what the image has once, such as a defect.
        The others reduce the variance of the whole field most (Cohn, Neural Netw. 9, 1071, 1996): what it has often.
        Variances are given the patterns so far and those of the positions before, so that neighbours are not proposed
        for the same reason. They depend on the image alone: nothing has to be known of what the next pattern shows.
        """
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise DataError(f"propose({n!r}); give the number of positions, such as 16")
        shape, process = self.disagreement.shape, self._process
        free = np.flatnonzero(~np.isfinite(self.disagreement.ravel()))
        if process is None or not len(free):
            return []
        if len(free) > _MOST_CANDIDATES:
            free = np.sort(np.random.default_rng(0).choice(free, _MOST_CANDIDATES, replace=False))
        rng = np.random.default_rng(0)
        field = np.sort(rng.choice(len(free), min(_MOST_REFERENCES, len(free)), replace=False))
        half = linalg.solve_triangular(process.factor, process.covariance(free).T, lower=True)
        variance = 1 - (half**2).sum(axis=0)
        # covariance of a part of the field with all that may be chosen, which a pattern there reduces
        shared = _covariance(process.scores[free[field]], process.scores[free], process.length)
        shared -= half[:, field].T @ half
        is_free, rows, chosen = np.ones(len(free), bool), list(half), []
        for number in range(min(n, len(free))):
            told = variance if number % 2 == 0 else (shared**2).sum(axis=0) / (np.maximum(variance, 0) + process.beside)
            best = int(np.where(is_free, told, -np.inf).argmax())
            # one step of Cholesky with pivots: what is known once its pattern is there
            to = _covariance(process.scores[free], process.scores[free[best : best + 1]], process.length)[:, 0]
            earlier = np.array(rows)
            row = (to - earlier[:, best] @ earlier) / math.sqrt(max(variance[best], 0) + process.beside)
            rows.append(row)
            variance = variance - row**2
            shared -= row[field, None] * row
            is_free[best] = False
            y, x = np.unravel_index(free[best], shape)
            chosen.append((int(y), int(x)))
        return chosen

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the disagreement where patterns were embedded.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to draw into; new ones where left out.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from stemvane.figures.image_panel import draw_disagreement

        return draw_disagreement(self, ax=ax)

    def _summary(self) -> tuple[str, Sequence[Row]]:
        known = np.isfinite(self.disagreement)
        rows = [
            ("scan", f"{format_shape(self.disagreement.shape)} positions, {int(known.sum())} with a pattern"),
            ("neighbourhood", f"{2 * self.radius + 1} positions wide"),
        ]
        if np.isfinite(self.angle_std).any():
            rows.append(("angle", f"uncertain by {np.degrees(np.nanmedian(self.angle_std)):.3g} deg (median)"))
        if known.any():
            rows.append(("disagreement", f"{np.median(self.disagreement[known]):.2g} (median)"))
        return "Image prediction", rows


def predict_from_image(embedding: Embedding, image: NDArray[np.floating]) -> ImagePrediction:
    """Predict latents and angle at every position from an image of the whole field.

    Parameters
    ----------
    embedding : Embedding
        Latents and angles of the positions with a pattern, eight at least; NaN elsewhere, as
        ``model.embed(measured, mask=...)`` leaves them.
    image : array_like of float, shape (scan_y, scan_x)
        An image of the whole field, such as the annular dark field of a quick scan.

    Returns
    -------
    ImagePrediction

    Raises
    ------
    DataError
        If the embedding is of a model of kinds or knows less than eight patterns, or the image has another shape,
        no contrast, or holds what is no number.

    Notes
    -----
    Principal components of the image around a position are the input of a Gaussian process, whose outputs are latents
    and the vector of the angle. Neighbourhoods are taken as they are, or each is rotated until the image's gradient has
    one direction, and angles count from there: the prediction of a rotated specimen is then the same, rotated. Mean and
    scale are integrated out (O'Hagan, J. R. Stat. Soc. B 40, 1, 1978); which of both it is, the width of the
    neighbourhood, the number of components, the length and what the image leaves open are those of the largest
    likelihood. Of more than 1,000 patterns it learns from as many, chosen at random.
    """
    require(embedding, Embedding, "predict_from_image")
    values = require_numbers(image, "predict_from_image", "an image").astype(np.float64)
    if embedding.kind_probability is not None:
        raise DataError(
            "the embedding is of a model of kinds, whose latents mean something else in each kind; fit another model"
        )
    if values.shape != embedding.scan_shape:
        raise DataError(f"the image has the shape {values.shape}, the scan {embedding.scan_shape}; give one value each")
    if not np.isfinite(values).all():
        raise DataError("the image has values that are no numbers; fill them, or crop image and scan")
    # what is left of the mean in single precision is rounding
    if np.ptp(values) <= 8 * np.finfo(np.float32).eps * np.abs(values).max():
        raise DataError(f"the image is {values.flat[0]:g} everywhere, which tells nothing; give one with contrast")
    given = _targets(embedding, np.zeros(values.size))
    there = np.flatnonzero(np.isfinite(given).all(axis=1) & (given.shape[1] > 0))
    if len(there) < _LEAST_KNOWN:
        raise DataError(f"{len(there)} patterns are embedded, which tells too little; embed at least {_LEAST_KNOWN}")
    rng = np.random.default_rng(0)
    known = np.sort(rng.choice(there, min(_MOST_KNOWN, len(there)), replace=False))
    process, inputs = _fit(values, known, embedding, rng)
    targets = _targets(embedding, inputs.turn)
    mean, spread = _predict_all(process, targets)
    expected = np.sqrt(spread[:, None] * process.scale)
    disagreement = np.full(len(targets), np.nan)
    apart = (targets[there] - mean[there]) / np.maximum(expected[there], 1e-300)
    disagreement[there] = np.sqrt((apart**2).mean(axis=1))
    n, shape = embedding.n_latent, embedding.scan_shape
    angle, angle_std = np.full((2, *shape), np.nan)
    if mean.shape[1] > n:
        length = np.linalg.norm(mean[:, n:], axis=1)
        around = np.sqrt((expected[:, n:] ** 2).mean(axis=1)) / np.maximum(length, 1e-12)
        turned = np.exp(1j * inputs.turn) * np.exp(1j * np.arctan2(mean[:, n + 1], mean[:, n]) / embedding.symmetry)
        angle = np.angle(turned).reshape(shape)
        # at most that of a direction of which nothing is known
        angle_std = (np.minimum(around, math.pi / math.sqrt(3)) / embedding.symmetry).reshape(shape)
    latents, latent_std = (part[:, :n].reshape(*shape, n) for part in (mean, expected))
    disagreement, step = disagreement.reshape(shape), embedding.scan_step
    return ImagePrediction(latents, latent_std, angle, angle_std, disagreement, inputs.radius, step, _process=process)


def _targets(embedding: Embedding, turn: Doubles) -> Doubles:
    """Latents, and the vector of the angle where there is one, shape ``(n_positions, n_outputs)``."""
    latents = embedding.latents.reshape(len(turn), embedding.n_latent).astype(np.float64)
    if not np.isfinite(embedding.angle).any():
        return latents
    angle = embedding.symmetry * (embedding.angle.ravel().astype(np.float64) - turn)
    # over its uncertainty the vector has the same error everywhere, and is zero where content has no direction
    certain = 1 / np.maximum(embedding.symmetry * embedding.angle_std.ravel().astype(np.float64), _LEAST_STD)
    return np.column_stack([latents, certain * np.cos(angle), certain * np.sin(angle)])


def _inputs(image: Doubles) -> Iterator[_Inputs]:
    """Neighbourhoods of several widths, as they are and rotated to one direction of the image's gradient."""
    for radius in _RADII:
        if 2 * radius + 1 > min(image.shape):
            continue
        smooth = ndimage.gaussian_filter(image, radius / 2)
        down, right = np.gradient(smooth)
        for turn in (np.zeros(image.size), np.arctan2(-down, right).ravel()):
            yield _Inputs(_scores(image, radius, turn), turn, radius)


def _scores(image: Doubles, radius: int, turn: Doubles) -> Doubles:
    """Principal components of the neighbourhood of every position, over the rms distance from their mean."""
    reach = np.arange(-radius, radius + 1)
    up, right = (part.ravel() for part in np.meshgrid(-reach, reach, indexing="ij"))
    inside = np.hypot(up, right) <= radius + 0.5
    away = (right + 1j * up)[inside] * np.exp(1j * turn)[:, None]
    rows, columns = (part.reshape(-1, 1) for part in np.indices(image.shape))
    windows = ndimage.map_coordinates(image, [rows - away.imag, columns + away.real], order=1, mode="mirror")
    windows -= windows.mean(axis=0)
    _, vectors = np.linalg.eigh(windows.T @ windows)
    scores = windows @ vectors[:, ::-1][:, : max(_COMPONENTS)]
    size = math.sqrt(float((scores**2).sum(axis=1).mean()))
    return np.asarray(scores / (size or 1.0))


def _covariance(one: Doubles, other: Doubles, length: float) -> Doubles:
    return np.asarray(np.exp(cdist(one, other, "sqeuclidean") / (-2 * length**2)))


def _fit(
    image: Doubles, known: NDArray[np.int64], embedding: Embedding, rng: np.random.Generator
) -> tuple[_Process, _Inputs]:
    """The likeliest process, and its inputs."""
    some = known if len(known) <= _MOST_CHOSEN_FROM else rng.choice(known, _MOST_CHOSEN_FROM, replace=False)
    best, largest = None, -math.inf
    for inputs in _inputs(image):
        targets = _targets(embedding, inputs.turn)
        for n_components, length, beside in itertools.product(_COMPONENTS, _LENGTHS, _BESIDE):
            cut = inputs._replace(scores=inputs.scores[:, :n_components])
            likelihood = _conditioned(cut.scores, some, targets, length, beside)[1]
            if likelihood > largest:
                best, largest = (cut, length, beside), likelihood
    if best is None:
        raise DataError(f"the image of {format_shape(image.shape)} positions is too small for neighbourhoods of 5 × 5")
    cut, length, beside = best
    return _conditioned(cut.scores, known, _targets(embedding, cut.turn), length, beside)[0], cut


def _conditioned(
    scores: Doubles, known: NDArray[np.int64], targets: Doubles, length: float, beside: float
) -> tuple[_Process, float]:
    """A process given the patterns, and its log likelihood."""
    y, n = targets[known], len(known)
    matrix = _covariance(scores[known], scores[known], length)
    matrix[np.diag_indices(n)] += beside + 1e-8
    factor = linalg.cholesky(matrix, lower=True)
    ones = linalg.cho_solve((factor, True), np.ones(n))
    mean = ones @ y / ones.sum()
    solved = linalg.cho_solve((factor, True), y - mean)
    squares = np.maximum(((y - mean) * solved).sum(axis=0), 1e-300)
    one = -np.log(np.diag(factor)).sum() - math.log(ones.sum()) / 2 - (n - 1) / 2 * np.log(squares)
    process = _Process(scores, known, length, beside, factor, ones, mean, solved, squares / (n - 1))
    return process, float(one.sum())


def _predict_all(process: _Process, targets: Doubles) -> tuple[Doubles, Doubles]:
    """Means and variances everywhere, over the scale; where the process knows a pattern, without it."""
    n = len(targets)
    mean, spread = np.empty_like(targets), np.empty(n)
    for start in range(0, n, _BLOCK):
        at = np.arange(start, min(start + _BLOCK, n))
        mean[at], spread[at] = process.predict(at)
    spread += process.beside
    # leaving one out is a division (Sundararajan & Keerthi, Neural Comput. 13, 1103, 2001)
    inverse = linalg.cho_solve((process.factor, True), np.eye(len(process.known)))
    diagonal = np.diag(inverse) - process.ones**2 / process.ones.sum()
    mean[process.known] = targets[process.known] - process.solved / diagonal[:, None]
    spread[process.known] = 1 / diagonal
    return mean, spread
