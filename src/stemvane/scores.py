"""What a trained model is worth: agreement with the COM, explained variance and evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.agreement import compare, explained_variance
from stemvane.embedding import Embedding
from stemvane.measurements import Measurements
from stemvane.pattern_models import PatternModel

__all__ = ["scored"]

_N_EVIDENCE = 8192


def scored(
    model: PatternModel, embedding: Embedding, measurements: Measurements
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Agreement with the COM, explained variance and evidence of a trained model, as in ``metrics.json``.

    Parameters
    ----------
    model : PatternModel
        Trained on these measurements.
    embedding : Embedding
        By this model.
    measurements : Measurements
        Of the scan.

    Returns
    -------
    metrics : dict
        None where a quantity is not known.
    held_out : dict of str to ndarray of float, shape (n_patterns,)
        ``left`` and ``whole`` of `PatternModel.misfit`, and ``evidence``, of at most 8192 of the patterns kept from
        training; empty where there are none, without ``evidence`` where the model has none.
    """
    metrics = compare(embedding, measurements)
    left, whole = model.misfit(measurements)
    metrics["explained_variance"] = explained_variance(left, whole)
    metrics["explained_variance_truth"] = metrics["explained_variance"] if measurements.noiseless else None
    if measurements.expectation is not None:
        against_truth = model.misfit(measurements, truth=measurements.expectation)
        metrics["explained_variance_truth"] = explained_variance(*against_truth)
    metrics["explained_variance_heldout"] = metrics["evidence_heldout"] = metrics["evidence_noise_level"] = None
    held = None if model.training_mask is None else ~model.training_mask & measurements.recorded
    if held is None or not held.any():
        return metrics, {}
    at = np.flatnonzero(held)
    metrics["explained_variance_heldout"] = explained_variance(left[held], whole[held])
    held.ravel()[np.delete(at, np.s_[:: -(-len(at) // _N_EVIDENCE)])] = False
    kept = {"left": left[held], "whole": whole[held]}
    found = model.evidence(measurements, held)
    if found is not None:
        kept["evidence"] = found[0]
        metrics["evidence_heldout"], metrics["evidence_noise_level"] = float(found[0].mean()), found[1]
    return metrics, kept
