"""Metrics of a run as a report explains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["ExplainedMetric", "explain_metrics"]


class ExplainedMetric(NamedTuple):
    """A metric in words.

    Attributes
    ----------
    label : str
        What it is.
    value : str
        The number with its unit.
    meaning : str
        What it says, and how to read it.
    """

    label: str
    value: str
    meaning: str


_METRICS = (
    (
        "explained_variance",
        "Explained variance",
        "{:.3f}",
        "Share of what differs between the patterns that the model reproduces; noise keeps it below 1.",
    ),
    (
        "explained_variance_heldout",
        "of patterns held out",
        "{:.3f}",
        "The same over patterns that were not trained on; far below the row above, the model has learned noise.",
    ),
    (
        "explained_variance_truth",
        "of the noiseless patterns",
        "{:.3f}",
        "The same against the noiseless patterns, which only a simulation knows.",
    ),
    (
        "pearson_r_first",
        "r of latent 1 with |COM|",
        "{:.3f}",
        "Correlation of the first latent with the length of the deflection; near ±1 the latent is that length.",
    ),
    ("pearson_r_others_max", "largest |r| of the others", "{:.3f}", "Near 0 the other latents tell something else."),
    (
        "angle_error_median_deg",
        "Angle against the COM",
        "{:.2f}°",
        "Median difference between the learned angle and the measured direction of the COM, whose noise is part of it.",
    ),
    (
        "angle_error_median_deg_truth",
        "against the noiseless COM",
        "{:.2f}°",
        "The same against the COM without noise, which only a simulation knows.",
    ),
    (
        "com_angle_error_median_deg_truth",
        "the measured COM's error",
        "{:.2f}°",
        "How far off the measured COM itself is, for the noise of its counts.",
    ),
    (
        "filtered_com_angle_error_median_deg_truth",
        "the filtered COM's error",
        "{:.2f}°",
        "How far off the COM is after all patterns were used for each; needs no model.",
    ),
    (
        "angle_error_median_deg_neighbours",
        "against the neighbours' COM",
        "{:.2f}°",
        "Against the mean COM of the eight neighbours, where the estimate has not seen their noise.",
    ),
    (
        "quantity_explained",
        "Known values told by the latents",
        "{:.2f}",
        "Share of the variance of known values that is predicted where each is left out; near 0 the map is empty.",
    ),
    (
        "invariance_error",
        "Latents of rotated patterns",
        "{:.3f} s.d.",
        "How much latents change when a pattern is rotated; 0 is perfect, 1 is as much as over the scan.",
    ),
    (
        "equivariance_error_deg",
        "Angles of rotated patterns",
        "{:.2f}°",
        "How far the angle is off after a pattern is rotated by a known angle.",
    ),
    (
        "scan_rotation_deg",
        "Rotation of the scan",
        "{:.1f}°",
        "From the detector to the scan, counter-clockwise on the screen, that the maps of the field were rotated by.",
    ),
    (
        "evidence_heldout",
        "Evidence, held out",
        "{:.1f} nat",
        "Log likelihood of a pattern that was not trained on; compare models of one scan by it.",
    ),
    ("electrons_per_pattern", "Electrons per pattern", "{:,.0f}", "Dose, where the source knows it."),
    ("train_seconds", "Training", "{:.1f} s", "Wall time of the training."),
    ("total_seconds", "All stages", "{:.1f} s", "Wall time from the file to the figures."),
)


def explain_metrics(metrics: Mapping[str, Any]) -> Iterator[ExplainedMetric]:
    """Metrics that a run has, in words.

    Parameters
    ----------
    metrics : mapping
        Content of ``metrics.json``.

    Yields
    ------
    ExplainedMetric
        The most important first; what is not known is left out.
    """
    for key, label, form, meaning in _METRICS:
        value = metrics.get(key)
        if isinstance(value, int | float):
            yield ExplainedMetric(label, form.format(value), meaning)
