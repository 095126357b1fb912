"""find_defects: where a scan departs from its own pristine lattice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats
from scipy.spatial import cKDTree

from stemvane.config import BasisConfig, SymmetryConfig
from stemvane.data.arguments import require
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.scan_geometry import highest_frequency, probe_positions
from stemvane.defects.analysis import DefectAnalysis, Defects
from stemvane.defects.atoms import AtomContent, AtomKernel, excess
from stemvane.defects.channels import (
    PATTERN_DEGREE,
    ROUGH,
    SITE_WIDTH,
    WEIGHTS,
    atom_p,
    latent_p,
    pattern_p,
    pooled_p,
    without_spikes,
)
from stemvane.defects.descriptions import describe
from stemvane.defects.gauss_laguerre import Window
from stemvane.defects.kinds import classify_defects, defect_centres
from stemvane.defects.lattice import Lattice, find_lattice, lattice_rotations
from stemvane.defects.local_symmetry import fold_symmetry, winding_number
from stemvane.defects.naming import DefectLibrary, name_defects
from stemvane.defects.p_values import combined, false_discovery_rate, peak_discovery_rate
from stemvane.defects.periodic_fit import PeriodicFit, fit_periodic
from stemvane.defects.sites import Sites, find_sites
from stemvane.defects.strain import Strain
from stemvane.defects.surroundings import Surroundings
from stemvane.errors import DataError
from stemvane.features.harmonics import HarmonicBasis
from stemvane.segmentation import segment_scan

__all__ = ["defect_window", "find_defects"]

_Floats = NDArray[np.floating[Any]]

# dark rings are quiet, and what scatters there tells elements apart: their noise is taken as it is
_VARIANCE_FLOOR, _NO_SCALE = 1e-4, 1e6
# the features that vary most, in which the lattice is looked for
_SEARCHED = 24
# the channels of `_maps`
_DARK, _DOWN, _ACROSS, _REAL, _IMAGINARY, _EVIDENCE, _LATENTS = range(7)
# widths of the functions about a site, over the finest period that the probe resolves
_ATOM_WIDTH, _DEFECT_WIDTH, _DEFECT_DEGREE = 0.5, 0.63, 3
_MARGIN, _JOINED = 1.0, 2.2
_RING = 0.35
_FOLDS = (2, 3, 6)
_MOST_PLACES = 300


@dataclass(frozen=True, eq=False)
class _Scan:
    """Everything of a scan that the analysis reads, in units of its noise where it has one."""

    measurements: Measurements
    basis: HarmonicBasis
    features: NDArray[np.complex64]
    step: tuple[float, float]
    highest: float
    points: NDArray[np.float64]

    @property
    def k(self) -> int:
        return self.basis.n_features


def find_defects(
    measurements: Measurements,
    embedding: Embedding,
    config: SymmetryConfig | None = None,
    *,
    library: DefectLibrary | None = None,
) -> DefectAnalysis:
    """Compare every pattern and every site with what the pristine lattice says should be there.

    Parameters
    ----------
    measurements : Measurements
        With polar patterns and a scan step.
    embedding : Embedding
        Latents and angles of the same scan.
    config : SymmetryConfig, optional
        False discovery rate, features, distortion; what it says of a library is for `simulate_library`.
    library : DefectLibrary, optional
        Simulated defects, from `simulate_library`, after which those that are found are named.

    Returns
    -------
    DefectAnalysis

    Raises
    ------
    DataError
        If the scan step is unknown, there are no polar patterns, or the lattice is not the library's.
    """
    require(measurements, Measurements, "find_defects")
    require(embedding, Embedding, "find_defects")
    config = config or SymmetryConfig()
    scan = _read(measurements, config)
    lattice = find_lattice(_real(scan.features[..., :_SEARCHED]), measurements.recorded, scan.step, scan.highest)
    if lattice is None:
        anomaly = _anomaly(scan, scan.features.astype(np.complex128))
        return DefectAnalysis(None, anomaly, regions=segment_scan(measurements, embedding))
    values = np.concatenate([_real(scan.features), _maps(measurements, embedding)], axis=-1)
    fit = fit_periodic(
        lattice,
        values,
        measurements.recorded & np.isfinite(values).all(axis=-1),
        scan.step,
        scan.highest,
        judged_by=slice(0, 2 * scan.k),
        degree=config.distortion_degree,
    )
    lattice, sites = find_sites(fit.series, _brightness(fit, 2 * scan.k), measurements.scan_shape, scan.step, _MARGIN)
    fit = replace(fit, series=replace(fit.series, lattice=lattice))
    return _judged(scan, fit, lattice, sites, embedding, config, library)


def _judged(
    scan: _Scan,
    fit: PeriodicFit,
    lattice: Lattice,
    sites: Sites,
    embedding: Embedding,
    config: SymmetryConfig,
    library: DefectLibrary | None,
) -> DefectAnalysis:
    k, n_latent = scan.k, embedding.n_latent
    rows = fit.residual.reshape(len(scan.points), -1)
    residual, maps = rows[:, :k] + 1j * rows[:, k : 2 * k], rows[:, 2 * k :]
    varying = fit.series.varying(scan.points)
    area = scan.step[0] * scan.step[1]
    around = Surroundings(sites, scan.points, area, SITE_WIDTH / scan.highest)
    kernel = AtomKernel.fitted(fit.series, scan.basis.orders, sites, _ATOM_WIDTH / scan.highest)
    strain = Strain(fit.series, kernel.narrowed(fit.series, sites))
    content = excess(kernel, residual, scan.points, sites)
    strained = strain.of_sublattices(around, Window(around.width, PATTERN_DEGREE))
    told = without_spikes(maps)
    direction = told[:, _REAL] + 1j * told[:, _IMAGINARY]
    channels = {
        "dark_field": pooled_p(around, maps[:, _DARK]),
        "atoms": atom_p(content, sites),
        "patterns": pattern_p(around, residual, varying[:, :k] + 1j * varying[:, k : 2 * k], strained),
        "latents": latent_p(around, told[:, _LATENTS:], direction),
        "likelihood": pooled_p(around, told[:, _EVIDENCE], low_only=True, freedom=ROUGH),
    }
    p = combined(channels, WEIGHTS)
    q = false_discovery_rate(p)
    # p-values end where numbers do, squares do not
    strength = -np.log10(p)
    strength[sites.is_atom] += content.strength
    rate = config.false_discovery_rate
    owner, centres = defect_centres(sites, q <= rate, strength, _JOINED)
    near: list[list[int]] = cKDTree(sites.positions).query_ball_point(sites.positions, _JOINED).tolist()
    owner, centres = _without_chance(owner, centres, peak_discovery_rate(p, near) <= rate)
    window = Window(around.width, 4)
    latents = np.nan_to_num(embedding.latents.reshape(len(scan.points), n_latent)).astype(np.complex128)
    turned = np.nan_to_num(np.exp(1j * embedding.angle.ravel()))
    scalars = around.described(latents - latents.mean(axis=0), window)
    vectors = around.described(turned[:, None], window)[:, :, 0]
    at_bonds = winding_number(embedding.angle, sites.bond_centres, scan.step, _RING * sites.bond / 2)
    return DefectAnalysis(
        lattice=lattice,
        anomaly=_anomaly(scan, residual.reshape(*fit.residual.shape[:2], k)),
        sites=sites,
        p=p,
        q=q,
        channels=channels,
        content=content,
        winding=winding_number(embedding.angle, sites.positions, scan.step, _RING * sites.bond),
        fold_symmetry={fold: fold_symmetry(scalars, vectors, window.angular_orders, fold) for fold in _FOLDS},
        bond_winding=float(np.nanmean(at_bonds)),
        owner=owner,
        defects=_defects(scan, residual, strain, sites, content, p, owner, centres, library),
    )


def defect_window(highest: float) -> Window:
    """Functions about a defect, for a scan that holds spatial frequencies up to `highest` in 1/Å."""
    return Window(_DEFECT_WIDTH / highest, _DEFECT_DEGREE)


def _without_chance(
    owner: NDArray[np.int64], centres: NDArray[np.float64], is_peak: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Defects among whose sites is a peak at the false discovery rate; the others are forgotten."""
    kept = np.unique(owner[is_peak & (owner >= 0)])
    number = np.full(len(centres) + 1, -1)
    number[kept] = np.arange(len(kept))
    return number[owner], centres[kept]


def _read(measurements: Measurements, config: SymmetryConfig) -> _Scan:
    calibration = measurements.calibration
    step = calibration.scan_step
    if step is None:
        raise DataError(f"{measurements.name}: the scan step is unknown, so sites cannot be told; give --scan-step")
    basis = HarmonicBasis.fitted(
        measurements,
        BasisConfig(n_features=config.n_features, variance_floor=_VARIANCE_FLOOR, order_scale=_NO_SCALE),
    )
    features = np.zeros((*measurements.scan_shape, basis.n_features), np.complex64)
    features[measurements.recorded] = basis.features(measurements, measurements.recorded) / basis.counting
    points = probe_positions(measurements.scan_shape, step)
    return _Scan(measurements, basis, features, step, highest_frequency(step, calibration), points)


def _real(features: NDArray[np.complexfloating[Any, Any]]) -> NDArray[np.float64]:
    return np.concatenate([features.real, features.imag], axis=-1).astype(np.float64)


def _maps(measurements: Measurements, embedding: Embedding) -> NDArray[np.float64]:
    """Dark field, deflection in the scan (y, x), direction (real, imaginary), evidence and latents, as channels."""
    from_detector = measurements.calibration.scan_rotation or 0.0
    y, x = np.moveaxis(measurements.deflection, -1, 0)
    deflection = (x - 1j * y) * np.exp(1j * from_detector)
    direction = np.exp(1j * embedding.angle)
    maps = [
        measurements.maps["annular_dark_field"],
        -deflection.imag,
        deflection.real,
        direction.real,
        direction.imag,
        embedding.log_evidence,
    ]
    return np.concatenate([np.stack(maps, axis=-1), embedding.latents], axis=-1).astype(np.float64)


def _brightness(fit: PeriodicFit, first: int) -> NDArray[np.float64]:
    """Dark field and negative divergence of the deflection as series, each in units of its noise."""
    series = fit.series
    noise = np.maximum(fit.residual[fit.pristine].std(axis=0), 1e-30)
    cosine, sine = np.split(series.coefficients[1:], 2)
    wave = 2 * np.pi * series.orders @ series.lattice.reciprocal
    darkness, down, across = (first + channel for channel in (_DARK, _DOWN, _ACROSS))
    dark = np.concatenate([cosine[:, darkness], sine[:, darkness]]) / noise[darkness]
    rising = wave[:, 0] * sine[:, down] + wave[:, 1] * sine[:, across]
    falling = -(wave[:, 0] * cosine[:, down] + wave[:, 1] * cosine[:, across])
    inwards = -np.concatenate([rising, falling]) / (noise[down] * np.sqrt((wave**2).mean()))
    return np.stack([dark, inwards], axis=-1)


def _anomaly(scan: _Scan, residual: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Power of the residual around every position, in deviations of what is usual in this scan."""
    sigma = [SITE_WIDTH / scan.highest / d for d in scan.step]
    recorded = scan.measurements.recorded
    power = np.zeros(recorded.shape)
    for part in (residual.real, residual.imag):
        power += (ndimage.gaussian_filter(part, sigma, axes=(0, 1), mode="constant") ** 2).sum(axis=-1)
    # near edges and gaps fewer positions are averaged, over which noise adds up to more
    averaged = ndimage.gaussian_filter(recorded.astype(float), [s / np.sqrt(2) for s in sigma], mode="constant")
    power /= np.maximum(averaged, 1e-9)
    middle = np.median(power[recorded])
    spread = stats.median_abs_deviation(power[recorded], scale="normal")
    return np.where(recorded, (power - middle) / max(spread, 1e-30), np.nan)


def _elsewhere(sites: Sites, owner: NDArray[np.int64]) -> Sites:
    """Atoms that belong to no defect, a few hundred of them."""
    at = np.flatnonzero(sites.is_atom & (owner < 0))
    at = at[:: max(1, len(at) // _MOST_PLACES)]
    return Sites(sites.positions[at], ("atom",) * len(at), sites.sublattices[at])


def _defects(
    scan: _Scan,
    residual: NDArray[np.complex128],
    strain: Strain,
    sites: Sites,
    content: AtomContent,
    p: NDArray[np.float64],
    owner: NDArray[np.int64],
    centres: NDArray[np.float64],
    library: DefectLibrary | None,
) -> Defects:
    n = len(centres)
    window = defect_window(scan.highest)
    orders = scan.basis.orders
    quiet = Surroundings(_elsewhere(sites, owner), scan.points, scan.step[0] * scan.step[1], window.width)
    around = quiet.at(centres)
    features = scan.features.reshape(len(scan.points), -1)
    described = describe(residual, features, strain, scan.basis, around, quiet, window.degree)
    lattice = strain.series.lattice
    kinds = classify_defects(described, lattice_rotations(lattice))
    naming = None
    if library is not None:
        rotation = scan.measurements.calibration.scan_rotation or 0.0
        naming = name_defects(
            library, described, kinds.kind, scan.basis, lattice, window, area=around.area, scan_rotation=rotation
        )
    by_atom = np.full((len(sites), content.excess.shape[1]), 0.0)
    by_atom[sites.is_atom] = content.excess
    strongest = [np.flatnonzero(owner == i)[np.argmin(p[owner == i])] for i in range(n)]
    # the functions of angular order 0 hold the pattern at the centre itself
    middle = [i for i, (_, order) in enumerate(window.modes) if order == 0]
    whole = around.described(residual, window)
    at_centre = np.einsum("dmf,m->df", whole[:, middle], window.values(np.zeros((1, 2)))[middle, 0].real)
    at_centre = at_centre * np.sqrt(around.area) * scan.basis.counting
    straight = at_centre * np.exp(1j * orders * kinds.rotation[:, None])
    patterns = [straight[kinds.kind == g].mean(axis=0) for g in range(kinds.n_kinds)]
    empty = np.zeros((0, scan.k), np.complex128)
    return Defects(
        positions=centres,
        p=np.array([p[i] for i in strongest]),
        excess=np.array([by_atom[owner == i].sum(axis=0) for i in range(n)]).reshape(n, content.excess.shape[1]),
        sublattice=np.array([sites.sublattices[i] for i in strongest], np.int64),
        kinds=kinds,
        patterns=scan.basis.polar(np.array(patterns) if patterns else empty, background=False),
        naming=naming,
    )
