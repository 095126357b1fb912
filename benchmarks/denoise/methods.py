"""All methods on one scan."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.denoise.bound import bound_of
from benchmarks.denoise.pattern_rivals import Patterns, Probe, principal_components, ptychography, tensor_svd
from benchmarks.denoise.rivals import RIVALS, best_gaussian
from benchmarks.denoise.scans import Scan, pristine, simulated
from benchmarks.denoise.scores import Score, score, with_coverage
from benchmarks.harness.cells import ROOT
from stemvane import Measurements, RotationVAE, filter_com, measure, pattern_model
from stemvane.config import Config
from stemvane.data.dataset import Dataset4D
from stemvane.evaluation.com_agreement import compare

__all__ = ["BOUNDS", "as_complex", "score_bounds", "score_scan", "total_variation"]

_Map = NDArray[np.complexfloating[Any, Any]]

BOUNDS = {"bound, disc alone": "disc", "bound": "patterns"}
"""Name in the tables, and what is seen."""
_N_DRAWS = 50


def score_scan(scan: Scan, seed: int, *, variation: str | None = None, with_models: bool = True) -> dict[str, Score]:
    """Score all methods on one draw of a scan.

    Parameters
    ----------
    scan : Scan
        What is simulated.
    seed : int
        Seed of the noise.
    variation : str, optional
        Python of an environment with scikit-image; without one, total variation is left out.
    with_models : bool
        Whether models are trained, too.

    Returns
    -------
    dict
        By the name of the method.
    """
    dataset = simulated(scan, seed)
    measured, calibration = measure(dataset), dataset.calibration
    assert calibration.convergence_semiangle is not None
    assert calibration.wavelength is not None
    assert calibration.scan_step is not None
    truth, com = as_complex(measured.expectation.deflection), as_complex(measured.deflection)
    step = calibration.scan_step
    cutoff = 2e-3 * calibration.convergence_semiangle / calibration.wavelength
    noise = float((np.abs(com - truth) ** 2).mean())
    patterns = _patterns(dataset)
    settings = scan.config()
    probe = Probe(calibration.convergence_semiangle, calibration.wavelength, settings.defocus, scan.astigmatism)
    found = {name: rival(com, step, cutoff, noise) for name, rival in RIVALS.items()}
    found["Gaussian, best width"] = best_gaussian(com, truth)
    if variation is not None:
        found["total variation, best weight"] = total_variation(com, truth, variation)
    found["PCA of patterns, best rank"] = principal_components(patterns, truth)
    found["tensor SVD"] = tensor_svd(patterns)
    found["ptychography, known probe"] = ptychography(patterns, probe)
    without_defects = as_complex(measure(pristine(scan), polar=False).deflection) if settings.defects else None
    rows = {name: score(each, truth, without_defects) for name, each in found.items()}
    filtered = filter_com(measured)
    ours = as_complex(filtered.deflection)
    rows["`filter_com`"] = with_coverage(score(ours, truth, without_defects), ours, filtered.std, truth)
    return rows | (_score_models(measured) if with_models else {})


def _score_models(measured: Measurements) -> dict[str, Score]:
    """What the angle and the first latent of models are, which estimate no vector."""
    aligned = pattern_model(Config().replace(model={"model": "alignment"}))
    models = {"alignment + PCA": aligned, "`RotationVAE`": RotationVAE(n_latent=2)}
    rows = {}
    for name, model in models.items():
        agreement = compare(model.fit(measured).embed(measured), measured)
        rows[name] = Score(agreement["angle_error_median_deg_truth"], abs(agreement["pearson_r_first_truth"]))
    return rows


def score_bounds(scan: Scan) -> dict[str, Score]:
    """Mean scores of estimates that are as good as the bounds allow; none where the scan is of no sheet's lattice."""
    if not scan.has_bound:
        return {}
    rows = {}
    for name, seen in BOUNDS.items():
        bound, rng = bound_of(scan, seen), np.random.default_rng(0)
        draws = [score(bound.draw(rng), bound.truth) for _ in range(_N_DRAWS)]
        rows[name] = Score(*(float(np.mean([getattr(draw, key) for draw in draws])) for key in ("angle", "r", "error")))
    return rows


def total_variation(com: _Map, truth: _Map, python: str) -> _Map:
    """Total variation by scikit-image, in the environment of that interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "maps.npz"
        np.savez(path, com=com, truth=truth)
        command = [python, "-m", "benchmarks.denoise.total_variation", str(path)]
        subprocess.run(command, check=True, cwd=ROOT)
        return np.asarray(np.load(path.with_suffix(".npy")))


def _patterns(dataset: Dataset4D) -> Patterns:
    """Counts with angles from the true axis, which is in the middle of a simulated detector."""
    assert dataset.calibration.pixel_size is not None
    assert dataset.calibration.scan_step is not None
    y, x = ((np.arange(n) - (n - 1) / 2) * dataset.calibration.pixel_size[0] for n in dataset.detector_shape)
    angles = np.stack(np.meshgrid(y, x, indexing="ij"))
    return Patterns(np.asarray(dataset.data), angles, dataset.calibration.scan_step)


def as_complex(vectors: NDArray[np.floating[Any]]) -> _Map:
    """Map ``x − i y`` of vectors ``(y, x)``."""
    return np.asarray(vectors[..., 1] - 1j * vectors[..., 0])
