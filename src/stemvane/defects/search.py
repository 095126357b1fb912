"""find_defects: where a scan departs from its own pristine lattice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stemvane.config import SymmetryConfig
from stemvane.data.arguments import require_same_scan
from stemvane.data.embedding import Embedding
from stemvane.data.findings import Finding
from stemvane.data.measurements import Measurements
from stemvane.data.progress import Progress, counting_bar
from stemvane.defects.analysis import DefectAnalysis, Defects
from stemvane.defects.anomaly import anomaly_map
from stemvane.defects.atoms import AtomContent, excess
from stemvane.defects.channels import CHANNELS, site_p_values
from stemvane.defects.descriptions import Descriptions, describe
from stemvane.defects.fitted_scan import SITE_WIDTH, FittedScan, RecordedScan
from stemvane.defects.kinds import classify_defects, defect_centres, rotate_kinds
from stemvane.defects.lattice import lattice_rotations
from stemvane.defects.local_symmetry import fold_symmetries, winding_number
from stemvane.defects.naming import DefectLibrary, name_defects
from stemvane.defects.p_values import combine_p_values, false_discovery_rate, peak_discovery_rate
from stemvane.defects.sampling import Sampling
from stemvane.defects.sites import Sites
from stemvane.segmentation import segment_scan

__all__ = ["find_defects"]

# 2.2 Å, a bond and a half: anomalous sites within it are of one defect; from 1.5 to 3.3 Å nothing changes; `python -m
# benchmarks.defects.constants`
_JOINED = 2.2
# 0.35 of a bond: a circle about a site that stays clear of its neighbours; with 0.2 or 0.5 the mean winding number of
# atoms and hollows is 0.8 or 0.4 instead of 0.93
_RING = 0.35
_FOLDS = (2, 3, 6)
# 300 pristine atoms know the noise to 5 %
_MOST_PLACES = 300
# 4 sites of each sublattice: of fewer no spread is known
_LEAST_SITES = 4
# shares of the field that are searched below which it is said, and a warning
_NEARLY_ALL, _MOST = 0.99, 0.75
# features, lattice, fit of the pristine lattice, p-values, kinds and names, maps
_N_STEPS = 6


def find_defects(
    measurements: Measurements,
    embedding: Embedding,
    config: SymmetryConfig | None = None,
    *,
    library: DefectLibrary | None = None,
    progress: Progress | bool | None = None,
) -> DefectAnalysis:
    """Compare every pattern and every site with what the pristine lattice says should be there.

    Parameters
    ----------
    measurements : Measurements
        Polar patterns and maps, with a scan step.
    embedding : Embedding
        Latents and angles of the same scan.
    config : SymmetryConfig, optional
        False discovery rate, features, distortion; what it says of a library is for `simulate_library`.
    library : DefectLibrary, optional
        Simulated defects, from `simulate_library`, after which the defects of the scan are named.
    progress : callable or bool, optional
        Called with the numbers of steps done and in all; True shows a bar, False none, None one where it is seen.

    Returns
    -------
    DefectAnalysis
        Defects of every lattice that the scan holds, grains among them; its findings say how much of the field belongs
        to none. Where there is no lattice at all, the groups of patterns from `segment_scan` take the place of the
        defects.

    Raises
    ------
    DataError
        If the scan step is unknown, there are no polar patterns, or the lattice is not the library's.
    """
    require_same_scan(embedding, measurements, "find_defects")
    with counting_bar(progress, "defects") as count:
        return _search(measurements, embedding, config or SymmetryConfig(), library, count)


def _search(
    measurements: Measurements,
    embedding: Embedding,
    config: SymmetryConfig,
    library: DefectLibrary | None,
    count: Progress,
) -> DefectAnalysis:
    """As `find_defects`; `count` is called after each of the steps that take time."""
    count(0, _N_STEPS)
    scan = RecordedScan.read(measurements, config)
    count(1, _N_STEPS)
    domains = scan.find_domains(config.distortion_degree)
    count(2, _N_STEPS)
    fits = [FittedScan.of(scan, domain, config.distortion_degree) for domain in domains]
    # of fewer sites the noise is not known
    is_enough = [np.bincount(fitted.sites.sublattices, minlength=1).min() >= _LEAST_SITES for fitted in fits]
    searched = [fitted for fitted, enough in zip(fits, is_enough, strict=True) if enough]
    fits = searched + [fitted for fitted, enough in zip(fits, is_enough, strict=True) if not enough]
    if not searched:
        anomaly = anomaly_map(scan.features.astype(np.complex128), scan.sampling, SITE_WIDTH / scan.sampling.highest)
        regions = segment_scan(measurements, embedding)
        count(_N_STEPS, _N_STEPS)
        return DefectAnalysis(None, anomaly, regions=regions, measurements=measurements, embedding=embedding)
    count(3, _N_STEPS)
    step = scan.sampling.step
    sites = Sites.joined([fitted.sites for fitted in searched])
    site_lattice = np.repeat(np.arange(len(searched)), [len(fitted.sites) for fitted in searched])
    contents = [excess(fitted.kernel, fitted.residual, fitted.around.points, fitted.sites) for fitted in searched]
    of_each = [site_p_values(fitted) for fitted in searched]
    channels = {name: np.concatenate([part[name] for part in of_each]) for name in CHANNELS}
    content = AtomContent.joined(contents)
    count(4, _N_STEPS)
    p = combine_p_values([channels[name] for name in CHANNELS])
    owner, centres = _assign(sites, content, p, config.false_discovery_rate)
    defects = _defects(searched, sites, site_lattice, content, p, owner, centres, library)
    count(5, _N_STEPS)
    ring = _RING * sites.bond
    around = replace(searched[0].around, sites=sites)
    lattice_map, is_searched = _maps(fits, len(searched), scan.sampling)
    analysis = DefectAnalysis(
        measurements=measurements,
        embedding=embedding,
        lattice=searched[0].lattice,
        lattices=tuple(fitted.lattice for fitted in fits),
        lattice_map=lattice_map,
        is_searched=is_searched,
        anomaly=_anomaly(fits, scan.sampling),
        sites=sites,
        site_lattice=site_lattice,
        p=p,
        q=false_discovery_rate(p),
        channels=channels,
        content=content,
        winding=winding_number(embedding.angle, sites.positions, step, ring),
        fold_symmetry=fold_symmetries(embedding, around, _FOLDS),
        bond_winding=float(np.nanmean(winding_number(embedding.angle, sites.bond_centres, step, ring / 2))),
        owner=owner,
        defects=defects,
        findings=(*_findings(fits, lattice_map, is_searched, scan.sampling), *_of_library(library)),
    )
    count(_N_STEPS, _N_STEPS)
    return analysis


def _maps(
    fits: Sequence[FittedScan], n_searched: int, sampling: Sampling
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lattice of every position, -1 for none, and whether a defect there would have been reported."""
    lattice_map, is_searched = np.full(sampling.shape, -1), np.zeros(sampling.shape, bool)
    for number, fitted in enumerate(fits):
        lattice_map[fitted.region] = number
        if number < n_searched:
            is_searched |= fitted.region & fitted.is_clear
    return lattice_map, is_searched


def _anomaly(fits: Sequence[FittedScan], sampling: Sampling) -> NDArray[np.float64]:
    """Anomaly of the positions of all lattices, each against its own; NaN elsewhere."""
    result = np.full(sampling.shape, np.nan)
    for fitted in fits:
        own_sampling = replace(sampling, recorded=fitted.region)
        of_this = anomaly_map(sampling.as_map(fitted.residual), own_sampling, fitted.around.width)
        result[fitted.region] = of_this[fitted.region]
    return result


def _findings(
    fits: Sequence[FittedScan],
    lattice_map: NDArray[np.int64],
    is_searched: NDArray[np.bool_],
    sampling: Sampling,
) -> Iterator[Finding]:
    """What share of the field was searched, and how the lattices differ."""
    recorded = sampling.recorded
    shares = [float((lattice_map[recorded] == number).mean()) for number in range(len(fits))]
    if len(fits) > 1:
        period = lattice_rotations(fits[0].lattice)[1]
        rotations = [(fitted.direction - fits[0].direction) % period for fitted in fits[1:]]
        rotated = _listed([f"{np.degrees(min(angle, period - angle)):.1f}" for angle in rotations])
        yield Finding(
            "several_lattices",
            "note",
            f"there are {len(fits)} lattices, which fill {_listed([f'{100 * share:.0f}' for share in shares])} % "
            f"of the field; the first and the others are rotated by {rotated}° to each other",
        )
    searched = float(is_searched[recorded].mean())
    if searched < _NEARLY_ALL:
        yield Finding(
            "partly_searched",
            "note" if searched >= _MOST else "warning",
            f"{100 * searched:.0f} % of the field were searched for defects: {100 * (1 - sum(shares)):.0f} % follow no "
            "lattice, as contamination, holes and boundaries, and the rest lies within the reach of these or of "
            "another lattice, or on one of too few cells",
            "" if searched >= _MOST else "look at the map of lattices, and scan a place that is cleaner or more even",
        )


def _of_library(library: DefectLibrary | None) -> Iterator[Finding]:
    if library is not None and library.probe:
        yield Finding("library_probe", "note", f"names are from a library of {library.probe}")


def _listed(numbers: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(numbers[:-1]), numbers[-1]]))


def _assign(
    sites: Sites, content: AtomContent, p: NDArray[np.float64], rate: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Defect of each site, -1 for none, and centre of each defect, at a false discovery rate of the defects."""
    # p-values end where numbers do, squares do not
    strength = -np.log10(p)
    strength[sites.is_atom] += content.strength
    owner, centres = defect_centres(sites, false_discovery_rate(p) <= rate, strength, _JOINED)
    near: list[list[int]] = cKDTree(sites.positions).query_ball_point(sites.positions, _JOINED).tolist()
    is_peak = peak_discovery_rate(p, near) <= rate
    # a defect counts only where one of its sites is a peak at that rate
    accepted = np.unique(owner[is_peak & (owner >= 0)])
    number = np.full(len(centres) + 1, -1)
    number[accepted] = np.arange(len(accepted))
    return number[owner], centres[accepted]


def _defects(
    searched: Sequence[FittedScan],
    sites: Sites,
    site_lattice: NDArray[np.int64],
    content: AtomContent,
    p: NDArray[np.float64],
    owner: NDArray[np.int64],
    centres: NDArray[np.float64],
    library: DefectLibrary | None,
) -> Defects:
    """Kinds, names and patterns of the defects at these centres."""
    n, basis = len(centres), searched[0].basis
    strongest = np.array([np.flatnonzero(owner == i)[np.argmin(p[owner == i])] for i in range(n)], np.int64)
    lattice_of = site_lattice[strongest]
    described, at_centre = [], np.zeros((n, basis.n_features), np.complex128)
    for number, fitted in enumerate(searched):
        members, is_own = lattice_of == number, site_lattice == number
        around = fitted.around.at(centres[members])
        quiet = replace(fitted.around, sites=_pristine_atoms(fitted.sites, owner[is_own]))
        described.append(describe(fitted, around, quiet))
        # the functions of angular order 0 hold the pattern at the centre itself
        window = fitted.window
        middle = [i for i, (_, order) in enumerate(window.modes) if order == 0]
        coefficients = around.expand(fitted.residual, window)[:, middle]
        at_centre[members] = np.einsum("dmf,m->df", coefficients, window.values(np.zeros((1, 2)))[middle, 0].real)
    at_centre *= np.sqrt(searched[0].scan.sampling.area) * basis.counting
    # all are compared in the orientation of the first lattice
    rotations = np.array([fitted.direction - searched[0].direction for fitted in searched])
    order = np.argsort(np.argsort(lattice_of, kind="stable"))
    joined = Descriptions.joined(described, list(-rotations)).at_those(order)
    kinds = rotate_kinds(classify_defects(joined, lattice_rotations(searched[0].lattice)), rotations[lattice_of])
    by_atom = np.zeros((len(sites), content.excess.shape[1]))
    by_atom[sites.is_atom] = content.excess
    # each is rotated back to the orientation of the first of its kind
    upright = at_centre * np.exp(1j * basis.orders * kinds.rotation[:, None])
    means = [upright[kinds.kind == number].mean(axis=0) for number in range(kinds.n_kinds)]
    naming = None
    if library is not None:
        naming = name_defects(library, list(zip(described, searched, strict=True)), order, kinds.kind)
    return Defects(
        positions=centres,
        p=p[strongest],
        excess=np.array([by_atom[owner == i].sum(axis=0) for i in range(n)]).reshape(n, content.excess.shape[1]),
        sublattice=sites.sublattices[strongest],
        kinds=kinds,
        patterns=basis.polar(np.array(means).reshape(-1, basis.n_features), background=False),
        naming=naming,
        lattice=lattice_of,
    )


def _pristine_atoms(sites: Sites, owner: NDArray[np.int64]) -> Sites:
    """Atoms that belong to no defect, a few hundred of them."""
    at = np.flatnonzero(sites.is_atom & (owner < 0))
    at = at[:: max(1, len(at) // _MOST_PLACES)]
    return Sites(sites.positions[at], ("atom",) * len(at), sites.sublattices[at])
