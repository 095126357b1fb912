"""What a trained model is worth: agreement with the COM, explained variance, evidence and invariance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import MeasureConfig
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.quantity_map import QuantityMap
from stemvane.errors import DataError
from stemvane.evaluation.com_agreement import compare, explained_variance
from stemvane.evaluation.invariance import measure_invariance
from stemvane.features.aberrations import fit_aberrations
from stemvane.field.maps import rotation_metrics
from stemvane.models.base import PatternModel

__all__ = ["aberration_metrics", "quantity_metrics", "run_metrics", "score_model"]

_N_EVIDENCE = 8192


def run_metrics(
    model: PatternModel,
    embedding: Embedding,
    measurements: Measurements,
    sample: NDArray[Any],
    config: MeasureConfig,
    patterns: Measurements | None = None,
) -> dict[str, Any]:
    """Compute everything that ``metrics.json`` says of a trained model.

    Parameters
    ----------
    model : PatternModel
        Model trained on these measurements.
    embedding : Embedding
        Embedding by this model.
    measurements : Measurements
        Measurements of the scan.
    sample : ndarray, shape (n, k_y, k_x)
        Some patterns as `measure_invariance` takes them; the test is left out where there are none.
    config : MeasureConfig
        How the scan was measured.
    patterns : Measurements, optional
        As of `score_model`.

    Returns
    -------
    dict
        None where a quantity is not known.
    """
    metrics: dict[str, Any] = {
        "n_patterns": measurements.n_patterns,
        "n_latent": model.n_latent,
        "electrons_per_pattern": measurements.electrons_per_pattern,
        "train_seconds": model.history.seconds,
        "train_patterns_per_second": model.history.patterns_per_second,
        "noise_level": model.noise_level,
    }
    gain = model.history.gain
    metrics["network_gain"], metrics["network_gain_std"] = (None, None) if gain is None else gain
    metrics |= aberration_metrics(measurements)
    metrics |= rotation_metrics(measurements) | score_model(model, embedding, measurements, patterns)[0]
    return metrics | measure_invariance(model, embedding, measurements, sample, config)


def quantity_metrics(quantity: QuantityMap | None) -> dict[str, float | None]:
    """A quantity from a few known values as in ``metrics.json``; None where none is known."""
    keys = ("quantity_known", "quantity_std_median", "quantity_explained")
    if quantity is None:
        return dict.fromkeys(keys)
    values = (len(quantity.known), float(np.nanmedian(quantity.std)), quantity.explained)
    return dict(zip(keys, values, strict=True))


def aberration_metrics(measurements: Measurements) -> dict[str, float | None]:
    """Aberrations of the probe as in ``metrics.json``; None where the optics are unknown or explain too little."""
    keys = ("defocus", "defocus_std", "astigmatism", "astigmatism_std", "astigmatism_angle_deg")
    try:
        found = fit_aberrations(measurements)
    except DataError:
        return dict.fromkeys(keys)
    if not found.is_explained:
        return dict.fromkeys(keys)
    values = (found.defocus, found.defocus_std, found.astigmatism, found.astigmatism_std)
    return dict(zip(keys, (*values, math.degrees(found.astigmatism_angle)), strict=True))


def score_model(
    model: PatternModel, embedding: Embedding, measurements: Measurements, patterns: Measurements | None = None
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Compute agreement with the COM, explained variance and evidence of a trained model, as in ``metrics.json``.

    Parameters
    ----------
    model : PatternModel
        Model trained on these measurements.
    embedding : Embedding
        Embedding by this model.
    measurements : Measurements
        Measurements of the scan.
    patterns : Measurements, optional
        Patterns that the model is held against, those of its training among them; those of the scan where left out.

    Returns
    -------
    metrics : dict
        None where a quantity is not known.
    held_out : dict of str to ndarray of float, shape (n_patterns,)
        ``residual`` and ``total`` of `PatternModel.misfit`, and ``evidence``, of at most 8192 of the patterns held out
        from training; empty where there are none, without ``evidence`` where the model has none.
    """
    metrics = compare(embedding, measurements)
    patterns = measurements if patterns is None else patterns
    misfit = model.misfit(patterns)
    metrics["explained_variance"] = explained_variance(*misfit)
    metrics["explained_variance_truth"] = metrics["explained_variance"] if measurements.noiseless else None
    if patterns.expectation is not None:
        against_truth = model.misfit(patterns, truth=patterns.expectation)
        metrics["explained_variance_truth"] = explained_variance(*against_truth)
    metrics["explained_variance_heldout"] = metrics["evidence_heldout"] = metrics["evidence_noise_level"] = None
    held = None if model.training_mask is None else ~model.training_mask & patterns.recorded
    if held is None or not held.any():
        return metrics, {}
    at = np.flatnonzero(held)
    metrics["explained_variance_heldout"] = explained_variance(misfit.residual[held], misfit.total[held])
    held.ravel()[np.delete(at, np.s_[:: -(-len(at) // _N_EVIDENCE)])] = False
    held_out = {"residual": misfit.residual[held], "total": misfit.total[held]}
    evidence = model.evidence(patterns, held)
    if evidence is not None:
        held_out["evidence"], metrics["evidence_noise_level"] = evidence
        metrics["evidence_heldout"] = float(evidence[0].mean())
    return metrics, held_out
