"""All methods on one scan."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.denoise.bound import Seen, bounds_of
from benchmarks.denoise.pattern_rivals import Patterns, Probe, principal_components, ptychography, tensor_svd
from benchmarks.denoise.rivals import RIVALS, best_gaussian, best_gradient
from benchmarks.denoise.scans import Scan, pristine, simulated
from benchmarks.denoise.scores import Score, score, with_coverage
from benchmarks.harness.cells import ROOT
from stemvane import Measurements, RotationVAE, filter_com, measure, pattern_model
from stemvane.config import BasisConfig, Config
from stemvane.data.dataset import Dataset4D
from stemvane.evaluation.com_agreement import compare

__all__ = [
    "BOUNDS",
    "OURS",
    "Pythons",
    "as_complex",
    "patterns_of",
    "score_bounds",
    "score_ours",
    "score_scan",
    "total_variation",
]

_Map = NDArray[np.complexfloating[Any, Any]]

OURS = "`filter_com`"
"""Name in the tables."""
BOUNDS: dict[str, Seen] = {"bound, disc alone": "disc", "bound": "patterns"}
"""Name in the tables, and what is seen."""
_N_DRAWS = 50


class Pythons(NamedTuple):
    """Interpreters of environments that hold scikit-image and py4DSTEM; None where one cannot be had."""

    variation: str | None = None
    parallax: str | None = None


def score_scan(scan: Scan, seed: int, pythons: Pythons, *, with_models: bool = True) -> dict[str, Score]:
    """Score all methods on one draw of a scan.

    Parameters
    ----------
    scan : Scan
        What is simulated.
    seed : int
        Seed of the noise.
    pythons : Pythons
        Interpreters with other programs; what is missing is left out.
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
    patterns = patterns_of(dataset)
    settings = scan.config()
    probe = Probe(calibration.convergence_semiangle, calibration.wavelength, settings.defocus, scan.astigmatism)
    found = {name: rival(com, step, cutoff, noise) for name, rival in RIVALS.items()}
    found["Gaussian, best width"] = best_gaussian(com, truth)
    if pythons.variation is not None:
        found["total variation, best weight"] = total_variation(com, truth, pythons.variation)
    found["PCA of patterns, best rank"] = principal_components(patterns, truth)
    found["tensor SVD"] = tensor_svd(patterns)
    found["ptychography, known probe"] = ptychography(patterns, probe)
    # in focus, images of different tilts are not shifted
    if pythons.parallax is not None and settings.defocus:
        phase = _parallax(patterns, settings.energy, pythons.parallax)
        found["parallax, best gain in rings"] = best_gradient(phase, truth, step, cutoff)
    without_defects = _without_defects(scan)
    rows = {name: score(each, truth, without_defects) for name, each in found.items()}
    rows[OURS] = _score_filtered(measured, truth, without_defects)
    return rows | (_score_models(measured) if with_models else {})


def score_ours(scan: Scan, seed: int, *, with_models: bool) -> dict[str, Score]:
    """Score `filter_com` and, if wanted, the models."""
    measured = measure(simulated(scan, seed))
    truth = as_complex(measured.expectation.deflection)
    rows = {OURS: _score_filtered(measured, truth, _without_defects(scan))}
    return rows | (_score_models(measured) if with_models else {})


def _without_defects(scan: Scan) -> _Map | None:
    """Noiseless deflection of the sheet without its defects, where it has some."""
    if "defects" not in scan.settings:
        return None
    return as_complex(measure(pristine(scan), polar=False).deflection)


def _score_filtered(measured: Measurements, truth: _Map, without_defects: _Map | None) -> Score:
    filtered = filter_com(measured)
    ours = as_complex(filtered.deflection)
    return with_coverage(score(ours, truth, without_defects), ours, filtered.std, truth)


def _score_models(measured: Measurements) -> dict[str, Score]:
    """What the angle and the first latent of models are, which estimate no vector."""
    aligned = pattern_model(Config().replace(model={"model": "alignment"}))
    alone = BasisConfig(neighbours=False)
    models = {
        "alignment + PCA": aligned,
        "`RotationVAE`": RotationVAE(n_latent=2),
        "`RotationVAE`, each pattern by itself": RotationVAE(n_latent=2, basis=alone),
    }
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
    bounds = bounds_of(scan)
    for name, seen in BOUNDS.items():
        bound, rng = bounds[seen], np.random.default_rng(0)
        draws = [score(bound.draw(rng), bound.truth) for _ in range(_N_DRAWS)]
        rows[name] = Score(*(float(np.mean([getattr(draw, key) for draw in draws])) for key in ("angle", "r", "error")))
    return rows


def total_variation(com: _Map, truth: _Map, python: str) -> _Map:
    """Total variation by scikit-image."""
    return _elsewhere("total_variation", python, com=com, truth=truth)


def _parallax(patterns: Patterns, energy: float, python: str) -> NDArray[np.floating[Any]]:
    """Parallax by py4DSTEM."""
    pixel = patterns.angles[1, 0, 1] - patterns.angles[1, 0, 0]
    return _elsewhere("parallax", python, counts=patterns.counts, step=patterns.step[0], pixel=pixel, energy=energy)


def _elsewhere(module: str, python: str, **arrays: Any) -> NDArray[Any]:
    """Run a module in another environment, on arrays and for an array."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.npz"
        np.savez(path, **arrays)
        command = [python, "-m", f"benchmarks.denoise.{module}", str(path)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(ended.stderr[-2000:])
        return np.asarray(np.load(path.with_suffix(".npy")))


def patterns_of(dataset: Dataset4D) -> Patterns:
    """Counts with angles from the true axis, which is in the middle of a simulated detector."""
    assert dataset.calibration.pixel_size is not None
    assert dataset.calibration.scan_step is not None
    y, x = ((np.arange(n) - (n - 1) / 2) * dataset.calibration.pixel_size[0] for n in dataset.detector_shape)
    angles = np.stack(np.meshgrid(y, x, indexing="ij"))
    return Patterns(np.asarray(dataset.data), angles, dataset.calibration.scan_step)


def as_complex(vectors: NDArray[np.floating[Any]]) -> _Map:
    """Map ``x − i y`` of vectors ``(y, x)``."""
    return np.asarray(vectors[..., 1] - 1j * vectors[..., 0])
