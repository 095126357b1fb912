"""Searches of one scene: ours and two rivals; one process for each.

``python -m benchmarks.scenes.one_scan TASK.json`` writes the JSON file that the task names.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import cKDTree

from benchmarks.defects.methods import embedding_of_nothing
from benchmarks.defects.scores import FAR, REACH, robust_z
from benchmarks.harness.cells import write_json
from benchmarks.scenes.scans import Scan, Scene, record
from stemvane import find_defects, measure
from stemvane.config import MeasureConfig
from stemvane.data.measurements import Measurements
from stemvane.data.scan_geometry import highest_frequency
from stemvane.defects.fitted_scan import SITE_WIDTH
from stemvane.defects.lattice import find_lattice
from stemvane.defects.p_values import peak_discovery_rate
from stemvane.defects.periodic_fit import fit_periodic
from stemvane.defects.sampling import Sampling
from stemvane.defects.sites import find_sites
from stemvane.defects.surroundings import Surroundings
from stemvane.figures.defects_page import defects_page

__all__ = ["RATE", "score_places"]

_Floats = NDArray[np.floating[Any]]

RATE = 0.05
"""Nominal false discovery rate."""

# the sites of rivals keep so far from the edge of the scan, and are compared with neighbours as near as these (Å)
_MARGIN, _JOINED = 1.0, 2.2
# bins along each side of the unit cell, and samples along each side of the patterns
_BINS, _N_PIXELS, _OUTER = 10, 16, 2.12


def main() -> None:
    warnings.filterwarnings("ignore")
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    scene = Scene(**task["scene"])
    scan = record(scene, Path(task["data"]))
    measurements = measure(scan.dataset, config=MeasureConfig(n_pixels=_N_PIXELS, pixels_outer=_OUTER), progress=False)
    embedding = embedding_of_nothing(measurements.scan_shape)
    started = time.process_time()
    analysis = find_defects(measurements, embedding, progress=False)
    seconds = time.process_time() - started
    positions = np.zeros((0, 2)) if analysis.defects is None else analysis.defects.positions
    rows = {"ours": score_places(positions, scan)}
    rows |= {name: score_places(places, scan) for name, places in rivals(measurements).items()}
    record_ = {
        "cell": asdict(scene),
        "rows": rows,
        "n_lattices": [len(analysis.lattices), scan.specimen.n_lattices],
        "share_searched": analysis.share_searched,
        "share_clear": float((scan.specimen.distance(scan.positions.reshape(-1, 2)) > 0).mean()),
        "seconds": round(seconds, 1),
    }
    write_json(record_, Path(task["output"]))
    page = defects_page(scan.as_shown(measurements), embedding, analysis)
    page.savefig(Path(task["output"]).with_suffix(".png"), dpi=110)


def score_places(positions: _Floats, scan: Scan) -> dict[str, Any]:
    """Count what is claimed and what is true.

    Parameters
    ----------
    positions : ndarray of float, shape (n, 2)
        Places ``(y, x)`` in Å at which defects are claimed.
    scan : Scan
        The scan with its truth.

    Returns
    -------
    dict
        ``n_claimed``; ``n_false``, those farther than 3.5 Å from all true defects, covered ones among them; ``kinds``
        of the true defects that are clear of what is no lattice, and ``is_found``, whether one is claimed within 1.5 Å.
    """
    truth, is_clear = scan.defects, scan.specimen.is_clear
    n_false = len(positions)
    if len(positions) and len(truth):
        anchors = np.concatenate([truth.sites, truth.positions])
        n_false = int((cKDTree(anchors).query(positions)[0] > FAR).sum())
    is_found = np.zeros(len(truth), bool)
    if len(positions) and len(truth):
        is_found = cKDTree(positions).query(truth.positions)[0] <= REACH
    kinds = [kind for kind, clear in zip(truth.kinds, is_clear, strict=True) if clear]
    return {"n_claimed": len(positions), "n_false": n_false, "kinds": kinds, "is_found": is_found[is_clear].tolist()}


def rivals(measurements: Measurements) -> dict[str, NDArray[np.float64]]:
    """Places where the pooled dark field, or the residual of unit-cell averaging, is unlikely at the nominal rate.

    Both take the one lattice that the dark field of the whole scan shows, a robust deviation from the median of each
    sublattice, a normal distribution, and the same false discovery rate of peaks as ours.
    """
    step = measurements.calibration.scan_step
    assert step is not None
    image = np.asarray(measurements.maps["annular_dark_field"], float)
    sampling = Sampling(np.isfinite(image), step, highest_frequency(step, measurements.calibration))
    nothing = np.zeros((0, 2))
    maps = image[..., None] / image.std()
    lattice = find_lattice(maps, sampling)
    if lattice is None:
        return {"adf": nothing, "unit-cell": nothing}
    fit = fit_periodic(lattice, maps, sampling, judged_by=slice(0, 1))
    lattice, sites = find_sites(fit.series, fit.series.coefficients[1:], sampling, _MARGIN)
    around = Surroundings(sites, sampling.points, sampling.area, SITE_WIDTH / sampling.highest)
    near = cKDTree(sites.positions).query_ball_point(sites.positions, _JOINED).tolist()
    result = {}
    for name, rows in (("adf", image.reshape(-1, 1)), ("unit-cell", _misfit(measurements, lattice, around)[:, None])):
        p = 2 * stats.norm.sf(np.abs(robust_z(around.pool(rows)[:, 0], sites.sublattices)))
        is_claimed = peak_discovery_rate(p, near) <= RATE
        result[name] = sites.positions[is_claimed]
    return result


def _misfit(measurements: Measurements, lattice: Any, around: Surroundings) -> NDArray[np.float64]:
    """Squared difference of every pattern from the mean of those at the same place of the cell, by its variance."""
    patterns = np.asarray(measurements.pixels[:], float)
    rows = patterns.reshape(len(around.points), -1)
    at = np.floor((lattice.fractional(around.points) % 1) * _BINS).astype(int).clip(0, _BINS - 1)
    place = at[:, 0] * _BINS + at[:, 1]
    number = np.bincount(place, minlength=_BINS**2).astype(float)
    sums = np.zeros((_BINS**2, rows.shape[1]))
    np.add.at(sums, place, rows)
    # a pattern is not held against a mean that it is part of
    missed = rows - (sums[place] - rows) / np.maximum(number[place] - 1, 1)[:, None]
    variance = missed.var(axis=0)
    return np.asarray((missed**2 / np.maximum(variance, 1e-12 * variance.max())).sum(axis=1))


if __name__ == "__main__":
    main()
