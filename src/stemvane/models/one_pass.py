"""A model that is fitted to a sample of a scan and embeds the rest while the pass goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import MeasureConfig
from stemvane.data.arguments import ScanLike, require
from stemvane.data.embedding import Embedding
from stemvane.data.findings import Finding
from stemvane.data.measurements import Measurements
from stemvane.data.progress import Progress
from stemvane.data.representation import Representable, Row, format_count, format_shape
from stemvane.errors import ModelError
from stemvane.models.base import PatternModel
from stemvane.models.checks import spread
from stemvane.models.kinds_model import KindsModel
from stemvane.models.threads import one_thread
from stemvane.models.training import EpochReport
from stemvane.reduction.reading_pass import measure_reading
from stemvane.reduction.virtual_detectors import VirtualDetector

__all__ = ["OnePass", "measure_and_embed"]


@dataclass(frozen=True, eq=False, repr=False)
class OnePass(Representable):
    """What one pass has measured and embedded.

    Attributes
    ----------
    measurements : Measurements
        Of the scan, without polar and Cartesian patterns.
    embedding : Embedding
        Of the scan, each pattern by itself.
    sample : Measurements
        Patterns that the model was fitted to and those held out, in one row, as positions that are no scan.
    sampled : ndarray of bool, shape (scan_y, scan_x)
        Where they lie in the scan.
    trained_on : ndarray of bool, shape (scan_y, scan_x)
        Those of them that were trained on.
    """

    measurements: Measurements
    embedding: Embedding
    sample: Measurements
    sampled: NDArray[np.bool_]
    trained_on: NDArray[np.bool_]

    def _summary(self) -> tuple[str, Sequence[Row]]:
        rows = [
            ("scan", f"{format_shape(self.sampled.shape)} positions"),
            (
                "sample",
                f"{format_count(int(self.sampled.sum()), 'pattern')}, {int(self.trained_on.sum()):,} trained on",
            ),
            ("latents", f"{self.embedding.n_latent}"),
            ("kept", "maps and embedding, no patterns but the sample's"),
        ]
        return "OnePass", rows


def measure_and_embed(
    dataset: ScanLike,
    model: PatternModel,
    detectors: Sequence[VirtualDetector] | None = None,
    *,
    config: MeasureConfig | None = None,
    progress: Progress | bool | None = None,
    on_epoch: Callable[[EpochReport], None] | bool | None = False,
    client: Any = None,
) -> OnePass:
    """Measure a scan, fit a model to a sample of it, and embed every pattern, in one pass that keeps no patterns.

    For scans whose polar patterns are too many to be stored. Blocks that are spread evenly over the scan are measured
    first, and the model is fitted to them; all others are embedded as soon as they are measured.

    Parameters
    ----------
    dataset, detectors, config, progress, client
        As of `measure`; ``config.n_sampled`` is how many patterns the model is fitted to, at least.
    model : PatternModel
        Fitted anew.
    on_epoch : callable or bool, optional
        As ``progress`` of `PatternModel.fit`.

    Returns
    -------
    OnePass

    Raises
    ------
    CalibrationError, DataError, ModelError
        As `measure` and `PatternModel.fit`; also if a model of kinds has labels, which are of positions in a scan.

    Notes
    -----
    Nothing is estimated from the whole scan: neither deflection nor features are filtered, and kinds do not ask their
    neighbours. At few electrons, angles and latents are as uncertain as those of single patterns, which is a finding.
    """
    require(model, PatternModel, "measure_and_embed")  # type: ignore[type-abstract]
    if isinstance(model, KindsModel) and model.labels:
        raise ModelError("labels are positions of a scan whose patterns are kept; set measure.keep_polar to true")

    def learn(sample: Measurements) -> _Embedder:
        return _Embedder.of(model.fit(sample, progress=on_epoch))

    read = measure_reading(dataset, learn, detectors, config=config, progress=progress, client=client)
    sampled, trained_on = (np.zeros(read.measurements.scan_shape, bool) for _ in range(2))
    sampled[tuple(read.positions.T)] = True
    assert model.training_mask is not None
    trained_on[tuple(read.positions[model.training_mask[0]].T)] = True
    finding = _finding(model, int(sampled.sum()), read.measurements)
    measurements = replace(read.measurements, findings=(*read.measurements.findings, finding))
    embedding = model._as_embedding(read.columns, measurements, near=False)
    return OnePass(measurements, embedding, read.sample, sampled, trained_on)


@dataclass(frozen=True, eq=False)
class _Embedder:
    """A fitted model as workers are sent it."""

    model: PatternModel

    @classmethod
    def of(cls, model: PatternModel) -> _Embedder:
        """The numbers of a model alone, without its training, on the processor."""
        alone = type(model).from_settings(model.settings)
        tensors, numbers = model._state()
        alone._restore(numbers, {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()})
        return cls(alone)

    def __call__(self, measurements: Measurements) -> list[NDArray[Any]]:
        recorded = measurements.recorded
        with one_thread():
            # a block's mean total is not the scan's, to which a whole scan would be scaled
            return spread(self.model._embed(measurements, recorded, False, None), recorded)


def _finding(model: PatternModel, n_sampled: int, measurements: Measurements) -> Finding:
    """Say what was done, and what it costs."""
    done = f"polar patterns were not kept: the model was fitted to {n_sampled} of {measurements.n_patterns} patterns"
    if not model._uses_neighbours(measurements):
        return Finding("one_pass", "note", f"{done}, and the others were embedded during the pass")
    return Finding(
        "one_pass",
        "warning",
        f"{done}, and each was embedded by itself: neither the COM nor the features of these noisy patterns are "
        "estimated from the whole scan",
        "set measure.keep_polar to true where there is room for the polar patterns, or add patterns up with "
        "preparation.scan_binning",
    )
