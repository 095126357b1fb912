"""A basis in which patterns are short vectors, rotation is a phase, and counting noise is white."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.measurements import Measurements
from stemvane.polar import harmonics_of, polar_from

__all__ = ["HarmonicBasis"]

_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class HarmonicBasis:
    """Short complex vectors of the residual patterns.

    A pattern minus the background is expanded in circular harmonics; for each order the rings are weighted so that
    counting noise becomes white, and the directions that hold the data's signal are kept. A pattern turned by θ,
    counter-clockwise on the screen, has its features multiplied by ``exp(-1j * orders * θ)``.

    Attributes
    ----------
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    analysis : ndarray of complex, shape (n_features, n_radial)
        ``feature_k = Σ_r analysis[k, r] x_m(r)``, with m = ``orders[k]``.
    synthesis : ndarray of complex, shape (n_features, n_radial)
        ``x_m(r) = Σ_k synthesis[k, r] feature_k`` over the features of order m.
    background : ndarray of complex, shape (n_orders, n_radial)
        Harmonics of the fixed background.
    n_azimuthal : int
        Samples on a ring.
    noise : float
        Variance of the counting noise per real coordinate of a feature; 0 where the data are noiseless.
    discarded : float
        Mean over the patterns of the weighted squared residual that the features leave out.
    """

    orders: NDArray[np.int64]
    analysis: NDArray[np.complex128]
    synthesis: NDArray[np.complex128]
    background: NDArray[np.complex128]
    n_azimuthal: int
    noise: float
    discarded: float

    @classmethod
    def fitted(
        cls,
        measurements: Measurements,
        *,
        mask: NDArray[np.bool_] | None = None,
        drop_orders: tuple[int, ...] = (),
        n_features: int = 128,
        flat: bool = False,
    ) -> HarmonicBasis:
        grid = measurements.grid
        polar = measurements.polar_patterns()
        if mask is not None:
            polar = polar[mask.ravel()]
        mean = polar.mean(axis=0, dtype=np.float64)
        background = harmonics_of(mean)
        ring_variance = np.maximum(mean.mean(axis=1), 1e-6 * mean.max())
        if flat:
            ring_variance = np.ones_like(ring_variance)
        weights = grid.weights(measurements.detector_shape)
        covariance = grid.noise_covariance(weights, ring_variance)
        moments = np.zeros((grid.n_orders, grid.n_radial, grid.n_radial), np.complex128)
        for block in _blocks(polar):
            x = harmonics_of(block) - background
            moments += np.einsum("nmr,nms->mrs", x, x.conj())
        moments /= len(polar)
        candidates = []
        for order in range(grid.n_orders):
            if order in drop_orders:
                continue
            whiten, colour = _whitening(covariance[order], order, grid.radii)
            if whiten.shape[0] == 0:
                continue
            double = 1.0 if order == 0 else 2.0
            values, vectors = np.linalg.eigh(double * whiten @ moments[order] @ whiten.T)
            for value, vector in zip(values, vectors.T, strict=True):
                candidates.append(
                    (value, order, np.sqrt(double) * vector.conj() @ whiten, colour @ vector / np.sqrt(double))
                )
        candidates.sort(key=lambda item: -item[0])
        kept, rest = candidates[:n_features], candidates[n_features:]
        noise = 0.0
        return cls(
            orders=np.array([c[1] for c in kept]),
            analysis=np.array([c[2] for c in kept]),
            synthesis=np.array([c[3] for c in kept]),
            background=background,
            n_azimuthal=grid.n_azimuthal,
            noise=noise,
            discarded=float(sum(c[0] for c in rest)),
        )

    def features(self, polar: NDArray[np.floating[Any]]) -> NDArray[np.complex64]:
        out = np.empty((len(polar), len(self.orders)), np.complex64)
        done = 0
        for block in _blocks(polar):
            x = (harmonics_of(block) - self.background)
            out[done : done + len(block)] = np.einsum("kr,nkr->nk", self.analysis, x[:, self.orders, :])
            done += len(block)
        return out

    def polar(self, features: NDArray[np.complexfloating[Any, Any]], background: bool = True) -> NDArray[np.float64]:
        x = np.zeros((len(features), *self.background.shape), np.complex128)
        for k, order in enumerate(self.orders):
            x[:, order] += features[:, k, None] * self.synthesis[k]
        return polar_from(x + self.background if background else x, self.n_azimuthal)


def _whitening(covariance, order, radii):
    usable = np.flatnonzero(order <= np.maximum(np.pi * radii * 1.0, 1.0))
    values, vectors = np.linalg.eigh(covariance[np.ix_(usable, usable)])
    keep = values > 1e-6 * values.max()
    whiten = np.zeros((keep.sum(), len(radii)))
    colour = np.zeros((len(radii), keep.sum()))
    whiten[:, usable] = (vectors[:, keep] / np.sqrt(values[keep])).T
    colour[usable] = vectors[:, keep] * np.sqrt(values[keep])
    return whiten, colour


def _blocks(polar: NDArray[np.floating[Any]]) -> Iterator[NDArray[np.floating[Any]]]:
    for start in range(0, len(polar), _BLOCK):
        yield polar[start : start + _BLOCK]
