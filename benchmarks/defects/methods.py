"""The methods of the comparison of defect searches, each of which gives scores to the sites of a scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.defects.scores import mahalanobis, robust_z
from stemvane import pattern_model
from stemvane.config import Config
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.scan_geometry import highest_frequency, probe_positions
from stemvane.defects.analysis import DefectAnalysis
from stemvane.defects.channels import CHANNELS
from stemvane.defects.fitted_scan import SITE_WIDTH
from stemvane.defects.lattice import find_lattice
from stemvane.defects.periodic_fit import fit_periodic
from stemvane.defects.sampling import Sampling
from stemvane.defects.sites import Sites, find_sites
from stemvane.defects.surroundings import Surroundings
from stemvane.field.derivatives import divergence, rotate_vectors

__all__ = ["METHODS", "ROWS", "Method", "Prepared", "Scored", "embedding_of_nothing", "scored"]

# bins along each side of the unit cell, 0.25 Å wide
_BINS = 10
# patterns that networks on Cartesian pixels see in training, so that both scan steps cost the same
_VISITS, _SLOW_VISITS = 330_000, 80_000
# Å that sites keep from the edge of the scan
_MARGIN = 1.0


@dataclass(frozen=True)
class Method:
    """One training, or none, and what comes of it.

    Attributes
    ----------
    tier : int
        0 for what runs first.
    seconds : tuple of float
        Rough cost on one core: of any scan, and per 10,000 patterns besides.
    score : callable
        Takes a `Prepared`, returns the rows.
    options : dict
        Told to `score`.
    """

    tier: int
    seconds: tuple[float, float]
    score: Callable[..., dict[str, Scored]]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of sites; where the sites are a method's own, they are with it.

    Attributes
    ----------
    scores : ndarray of float, shape (n_sites,)
        Higher where a defect is likelier.
    positions : ndarray of float, shape (n_sites, 2), or None
        Positions ``(y, x)`` in Å of atoms that the method has found by itself.
    """

    scores: NDArray[np.float64]
    positions: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all methods share in one recorded scan.

    Attributes
    ----------
    measurements, inner : Measurements
        Measurements with Cartesian patterns of the whole detector, and of the square inside the disc.
    analysis : DefectAnalysis
        Our search, whose sites and lattice all methods get.
    n_epochs : int or None
        Fewer for a quick look.
    """

    measurements: Measurements
    inner: Measurements
    analysis: DefectAnalysis
    n_epochs: int | None = None

    @property
    def sites(self) -> Sites:
        """Sites that were found in the scan."""
        assert self.analysis.sites is not None
        return self.analysis.sites

    @cached_property
    def around(self) -> Surroundings:
        """The pooling that all methods share."""
        step = self.measurements.calibration.scan_step
        points = probe_positions(self.measurements.scan_shape, step)
        return Surroundings(self.sites, points, step[0] * step[1], SITE_WIDTH / self.highest)

    @property
    def highest(self) -> float:
        """Highest spatial frequency of the scan in 1/Å."""
        calibration = self.measurements.calibration
        return highest_frequency(calibration.scan_step, calibration)

    def pool(self, maps: NDArray[Any]) -> NDArray[np.float64]:
        """Maps of shape ``(scan_y, scan_x, n)`` around every site, shape ``(n_sites, n)``."""
        return np.asarray(self.around.pool(np.asarray(maps, float).reshape(-1, maps.shape[-1])))


def embedding_of_nothing(shape: tuple[int, int]) -> Embedding:
    """An embedding that says nothing, with which the lattice and the sites alone are found."""
    flat, uniform = np.zeros(shape), np.full((*shape, 8), 1 / 8)
    return Embedding(flat[..., None], flat[..., None] + 1, flat, flat + 2, uniform, flat)


def scored(p: NDArray[np.float64], tie: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
    """``-log10 p``; p-values end at 1e-300, beyond which `tie` decides."""
    p = np.where(np.isfinite(p), p, 1.0)
    return np.asarray(np.where(p <= 1e-290, 300 + np.log10(1 + np.asarray(tie)), -np.log10(np.maximum(p, 1e-300))))


def ours(prepared: Prepared) -> dict[str, Scored]:
    """`find_defects` as a whole and channel by channel; it takes no part of its decisions from a model."""
    analysis = prepared.analysis
    assert analysis.content is not None
    tie = np.zeros(len(prepared.sites))
    tie[prepared.sites.is_atom] = analysis.content.strength
    rows = {"ours": Scored(scored(analysis.p, tie))}
    return rows | {f"ours: {channel}": Scored(scored(p)) for channel, p in analysis.channels.items()}


def dark_field(prepared: Prepared) -> dict[str, Scored]:
    """Intensity of the dark field, at the sites that all share and at those that the dark field alone gives."""
    image = np.asarray(prepared.measurements.maps["annular_dark_field"], float)
    values = prepared.pool(image[..., None])[:, 0]
    common = np.abs(robust_z(values, prepared.sites.sublattices))
    around = prepared.around
    sites = sites_of(image, prepared.measurements.calibration.scan_step, prepared.highest)
    if sites is None:
        # without a lattice one site is as good as another
        return {"adf": Scored(common), "adf-own": Scored(np.zeros(len(common)))}
    values = Surroundings(sites, around.points, around.area, around.width).pool(image.reshape(-1, 1))[:, 0]
    scores = np.abs(robust_z(values, sites.sublattices))[sites.is_atom]
    return {"adf": Scored(common), "adf-own": Scored(scores, sites.positions[sites.is_atom])}


def sites_of(image: NDArray[np.float64], step: tuple[float, float], highest: float) -> Sites | None:
    """Lattice sites of an image alone, missing atoms among them; None where it shows no lattice."""
    sampling, maps = Sampling(np.isfinite(image), step, highest), image[..., None] / image.std()
    lattice = find_lattice(maps, sampling)
    if lattice is None:
        return None
    fit = fit_periodic(lattice, maps, sampling, judged_by=slice(0, 1))
    return find_sites(fit.series, fit.series.coefficients[1:], sampling, _MARGIN)[1]


def centre_of_mass(prepared: Prepared) -> dict[str, Scored]:
    """Length and divergence of the deflection."""
    measurements = prepared.measurements
    field_ = rotate_vectors(measurements.deflection, measurements.calibration.scan_rotation or 0.0)
    maps = np.stack(
        [measurements.com_magnitude, divergence(field_, measurements.calibration.scan_step, periodic=False)], axis=-1
    )
    values = prepared.pool(maps)
    names = ("com-magnitude", "com-divergence")
    return {
        name: Scored(np.abs(robust_z(column, prepared.sites.sublattices)))
        for name, column in zip(names, values.T, strict=True)
    }


def unit_cell(prepared: Prepared) -> dict[str, Scored]:
    """Squared difference of every pattern from the mean of those at the same place of the cell, by its variance."""
    patterns = np.asarray(prepared.measurements.pixels[:], float)
    rows = patterns.reshape(-1, patterns.shape[-1] ** 2)
    lattice = prepared.analysis.lattice
    assert lattice is not None
    at = np.floor((lattice.fractional(prepared.around.points) % 1) * _BINS).astype(int).clip(0, _BINS - 1)
    place = at[:, 0] * _BINS + at[:, 1]
    number = np.bincount(place, minlength=_BINS**2).astype(float)
    sums = np.zeros((_BINS**2, rows.shape[1]))
    np.add.at(sums, place, rows)
    # a pattern is not held against a mean that it is part of
    others = (sums[place] - rows) / np.maximum(number[place] - 1, 1)[:, None]
    missed = rows - others
    variance = missed.var(axis=0)
    power = (missed**2 / np.maximum(variance, 1e-12 * variance.max())).sum(axis=1)
    values = prepared.pool(power.reshape(*prepared.measurements.scan_shape, 1))[:, 0]
    # (fewer counts than usual, as where an atom is missing, scatter less)
    return {"unit-cell": Scored(np.abs(robust_z(values, prepared.sites.sublattices)))}


def latents_of(prepared: Prepared, model: str, n_latent: int, visits: int | None = None) -> dict[str, Scored]:
    """Distance of the latents around a site from those of its sublattice; for an angle, its cosine and sine too."""
    measurements = prepared.inner if model == "coordinate" else prepared.measurements
    training: dict[str, Any] = {}
    if visits is not None:
        visits = visits if prepared.n_epochs is None else visits // 8
        training = {"n_epochs": max(1, math.ceil(visits / measurements.n_patterns)), "learning_rate": 1e-3}
    settings = Config().replace(model={"model": model, "n_latent": n_latent}, training=training)
    embedding = pattern_model(settings).fit(measurements).embed(measurements)
    maps = [*np.moveaxis(embedding.latents, -1, 0)]
    if np.isfinite(embedding.angle).all():
        maps += [np.cos(embedding.angle), np.sin(embedding.angle)]
    return {model: Scored(mahalanobis(prepared.pool(np.stack(maps, axis=-1)), prepared.sites.sublattices))}


METHODS = {
    "ours": Method(0, (3, 8), ours),
    "adf": Method(0, (0.8, 0), dark_field),
    "com": Method(0, (0, 0.1), centre_of_mass),
    "unit-cell": Method(1, (0, 0.3), unit_cell),
    "pca": Method(1, (0, 0.6), latents_of, {"model": "pca", "n_latent": 8}),
    "nmf": Method(1, (1, 2), latents_of, {"model": "nmf", "n_latent": 8}),
    "alignment": Method(1, (4, 3), latents_of, {"model": "alignment", "n_latent": 4}),
    "vae": Method(1, (14, 0.2), latents_of, {"model": "vae", "n_latent": 4, "visits": _VISITS}),
    "coordinate": Method(2, (180, 1), latents_of, {"model": "coordinate", "n_latent": 2, "visits": _SLOW_VISITS}),
}

ROWS = {
    "ours": "stemvane, all channels",
    **{f"ours: {channel}": f"channel {channel.replace('_', ' ')} alone" for channel in CHANNELS},
    "adf": "ADF, our sites",
    "adf-own": "ADF, lattice of the ADF alone",
    "com-magnitude": "COM magnitude",
    "com-divergence": "COM divergence",
    "unit-cell": "unit-cell averaging, residual",
    "pca": "PCA of the patterns",
    "nmf": "NMF of the patterns",
    "alignment": "alignment + PCA",
    "vae": "plain VAE",
    "coordinate": "rVAE as published, 16 × 16",
}
"""Rows of the tables and their titles; those above ``adf`` are ours."""
