"""find_defects: where a scan departs from its own pristine lattice."""

from __future__ import annotations

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
from stemvane.defects.channels import COMBINED, site_p_values
from stemvane.defects.descriptions import describe
from stemvane.defects.fitted_scan import SITE_WIDTH, FittedScan, RecordedScan
from stemvane.defects.kinds import classify_defects, defect_centres
from stemvane.defects.lattice import lattice_rotations
from stemvane.defects.local_symmetry import fold_symmetries, winding_number
from stemvane.defects.naming import DefectLibrary, name_defects
from stemvane.defects.p_values import combine_p_values, false_discovery_rate, peak_discovery_rate
from stemvane.defects.sites import Sites
from stemvane.segmentation import segment_scan

__all__ = ["find_defects"]

# 2.2 Å, a bond and a half: anomalous sites within it are of one defect; `python -m benchmarks.defects --methods ours`
_JOINED = 2.2
# 0.35 of a bond: a circle about a site that stays clear of its neighbours; `pytest tests/test_symmetry.py -k wind`
_RING = 0.35
_FOLDS = (2, 3, 6)
# 300 pristine atoms know the noise to 5 %
_MOST_PLACES = 300
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
        Where the scan has no lattice, or several, the groups of patterns from `segment_scan` take the place of the
        defects; several are a failure among its findings.

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
    scan = RecordedScan.read(measurements, embedding, config)
    count(1, _N_STEPS)
    lattice = scan.find_lattice()
    other = scan.find_other_lattice(lattice)
    count(2, _N_STEPS)
    # what one lattice leaves of another are no defects
    if lattice is None or other is not None:
        anomaly = anomaly_map(scan.features.astype(np.complex128), scan.sampling, SITE_WIDTH / scan.sampling.highest)
        regions = segment_scan(measurements, embedding)
        count(_N_STEPS, _N_STEPS)
        return DefectAnalysis(
            None,
            anomaly,
            regions=regions,
            measurements=measurements,
            embedding=embedding,
            findings=() if other is None else (_several_lattices(other),),
        )
    fitted = FittedScan.of(scan, lattice, config.distortion_degree)
    count(3, _N_STEPS)
    sites, step = fitted.sites, scan.sampling.step
    content = excess(fitted.kernel, fitted.residual, fitted.around.points, sites)
    channels = site_p_values(fitted, content)
    count(4, _N_STEPS)
    p = combine_p_values([channels[name] for name in COMBINED])
    owner, centres = _assign(sites, content, p, config.false_discovery_rate)
    defects = _defects(fitted, content, p, owner, centres, library)
    count(5, _N_STEPS)
    ring = _RING * sites.bond
    analysis = DefectAnalysis(
        measurements=measurements,
        embedding=embedding,
        lattice=fitted.lattice,
        anomaly=anomaly_map(scan.sampling.as_map(fitted.residual), scan.sampling, fitted.around.width),
        sites=sites,
        p=p,
        q=false_discovery_rate(p),
        channels=channels,
        content=content,
        winding=winding_number(embedding.angle, sites.positions, step, ring),
        fold_symmetry=fold_symmetries(embedding, fitted.around, _FOLDS),
        bond_winding=float(np.nanmean(winding_number(embedding.angle, sites.bond_centres, step, ring / 2))),
        owner=owner,
        defects=defects,
    )
    count(_N_STEPS, _N_STEPS)
    return analysis


def _several_lattices(part: str) -> Finding:
    return Finding(
        "several_lattices",
        "failure",
        f"there is more than one lattice: that of the {part} part of the scan is not that of all others, so no defects "
        "were searched for",
        "crop the scan to one grain with preparation.scan_region",
    )


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
    fitted: FittedScan,
    content: AtomContent,
    p: NDArray[np.float64],
    owner: NDArray[np.int64],
    centres: NDArray[np.float64],
    library: DefectLibrary | None,
) -> Defects:
    """Kinds, names and patterns of the defects at these centres."""
    n, sites, sampling = len(centres), fitted.sites, fitted.scan.sampling
    quiet = replace(fitted.around, sites=_pristine_atoms(sites, owner))
    described = describe(fitted, fitted.around.at(centres), quiet)
    kinds = classify_defects(described, lattice_rotations(fitted.lattice))
    by_atom = np.zeros((len(sites), content.excess.shape[1]))
    by_atom[sites.is_atom] = content.excess
    strongest = [np.flatnonzero(owner == i)[np.argmin(p[owner == i])] for i in range(n)]
    # the functions of angular order 0 hold the pattern at the centre itself
    window, basis = fitted.window, fitted.basis
    middle = [i for i, (_, order) in enumerate(window.modes) if order == 0]
    coefficients = fitted.around.at(centres).expand(fitted.residual, window)[:, middle]
    at_centre = np.einsum("dmf,m->df", coefficients, window.values(np.zeros((1, 2)))[middle, 0].real)
    at_centre = at_centre * np.sqrt(sampling.area) * basis.counting
    # each is rotated back to the orientation of the first of its kind
    upright = at_centre * np.exp(1j * basis.orders * kinds.rotation[:, None])
    means = [upright[kinds.kind == number].mean(axis=0) for number in range(kinds.n_kinds)]
    return Defects(
        positions=centres,
        p=np.array([p[i] for i in strongest]),
        excess=np.array([by_atom[owner == i].sum(axis=0) for i in range(n)]).reshape(n, content.excess.shape[1]),
        sublattice=np.array([sites.sublattices[i] for i in strongest], np.int64),
        kinds=kinds,
        patterns=basis.polar(np.array(means).reshape(-1, basis.n_features), background=False),
        naming=None if library is None else name_defects(library, described, kinds.kind, fitted),
    )


def _pristine_atoms(sites: Sites, owner: NDArray[np.int64]) -> Sites:
    """Atoms that belong to no defect, a few hundred of them."""
    at = np.flatnonzero(sites.is_atom & (owner < 0))
    at = at[:: max(1, len(at) // _MOST_PLACES)]
    return Sites(sites.positions[at], ("atom",) * len(at), sites.sublattices[at])
