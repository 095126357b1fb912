"""A recorded scan: every other column is filtered, and the columns between are predicted from those on either side.

What is predicted is held against the COM that was measured there, which no filter has seen; their difference is given
in units of that COM's own noise, so that 1 is a perfect prediction. The noise is that of the electrons, of which each
leaves some counts (`Measurements.counts_per_electron`). Where a filter has to be told the truth, it is told the mean
COM of the columns on either side.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.denoise.methods import OURS, Pythons, as_complex, total_variation
from benchmarks.denoise.pattern_rivals import Patterns, principal_components, tensor_svd
from benchmarks.denoise.rivals import RIVALS, best_gaussian
from benchmarks.denoise.scores import Score, score
from benchmarks.harness.cells import ROOT
from stemvane import filter_com, find_rotation, measure, open_dataset
from stemvane.reduction.prepare import prepare_scan

__all__ = ["RECORDED", "TITLE", "score_unseen"]

RECORDED = ROOT.parent / "shared" / "data" / "rotavirus_cryo_127x127.hspy"
TITLE = "recorded scan of rotavirus, columns that no filter has seen"

_Map = NDArray[np.complexfloating[Any, Any]]


def score_unseen(pythons: Pythons) -> dict[str, Score]:
    """Score the filters on the recorded scan.

    Parameters
    ----------
    pythons : Pythons
        Interpreters with other programs; what is missing is left out.

    Returns
    -------
    dict
        By the name of the method; `Score.error` is the rms difference over the noise.
    """
    full = prepare_scan(open_dataset(RECORDED))
    calibration = full.calibration
    assert calibration.scan_step is not None
    assert calibration.pixel_size is not None
    assert calibration.optical_axis is not None
    assert calibration.convergence_semiangle is not None
    assert calibration.wavelength is not None
    step = calibration.scan_step[0], 2 * calibration.scan_step[1]
    seen = replace(full, data=full.data[:, ::2], image=None).recalibrate(scan_step=step)
    measured = measure(seen)
    com = as_complex(measured.deflection)
    unseen = as_complex(measure(full, polar=False).deflection)[:, 1::2]

    # counts in electrons, angles in mrad
    counts = np.asarray(seen.data, np.float32) / measured.counts_per_electron
    pixels = np.meshgrid(*(np.arange(n) for n in seen.detector_shape), indexing="ij")
    angles = np.stack(
        [(n - a) * d for n, a, d in zip(pixels, calibration.optical_axis, calibration.pixel_size, strict=True)]
    )
    total = counts.sum(axis=(2, 3))
    moments = [np.tensordot(counts, each, 2) / total for each in (*angles, *angles**2)]
    noise = float(np.mean((moments[2] + moments[3] - moments[0] ** 2 - moments[1] ** 2) / total))

    padded = np.pad(unseen, ((0, 0), (1, 1)), mode="edge")
    beside = (padded[:, 1:] + padded[:, :-1]) / 2
    cutoff = 2e-3 * calibration.convergence_semiangle / calibration.wavelength
    patterns = Patterns(counts, angles, step)
    # filters that know of curl need vectors as they lie in the scan
    rotation = find_rotation(measured.deflection, step)
    assert not rotation.flipped
    turn = np.exp(1j * rotation.angle)
    found = {name: rival(com * turn, step, cutoff, noise) / turn for name, rival in RIVALS.items()}
    found["Gaussian, best width"] = best_gaussian(com, beside)
    if pythons.variation is not None:
        found["total variation, best weight"] = total_variation(com, beside, pythons.variation)
    found["PCA of patterns, best rank"] = principal_components(patterns, beside)
    found["tensor SVD"] = tensor_svd(patterns)
    found[OURS] = as_complex(filter_com(measured).deflection)
    return {name: _score_prediction(each, unseen, noise) for name, each in found.items()}


def _score_prediction(found: _Map, unseen: _Map, noise: float) -> Score:
    predicted = (found[:, 1:] + found[:, :-1]) / 2
    plain = score(predicted, unseen)
    difference = predicted - unseen
    size = np.abs(difference - difference.mean()) ** 2
    return Score(plain.angle, plain.r, float(np.sqrt(size.mean() / noise)))
