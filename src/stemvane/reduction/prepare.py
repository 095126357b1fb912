"""Preparation of a data set before the pass: the switches, and what the survey finds."""

from __future__ import annotations

from typing import Any

from stemvane.config import PreparationConfig, SurveyConfig
from stemvane.data.dataset import Dataset4D
from stemvane.errors import CalibrationError
from stemvane.io.images import read_image
from stemvane.reduction.preparation import corrected, prepared
from stemvane.reduction.survey import survey

__all__ = ["prepare_scan"]


def prepare_scan(
    dataset: Dataset4D, config: PreparationConfig | None = None, survey_config: SurveyConfig | None = None
) -> tuple[Dataset4D, dict[str, Any]]:
    """Apply the switches, look at some frames, and find the disc where nobody knows it.

    Parameters
    ----------
    dataset : Dataset4D
        As opened, with the user's numbers in its calibration.
    config : PreparationConfig, optional
        The switches.
    survey_config : SurveyConfig, optional
        How many frames to look at.

    Returns
    -------
    Dataset4D
        Ready for `measure`, with optical axis and disc radius in its calibration.
    dict
        What was done, for the manifest.

    Raises
    ------
    CalibrationError
        If the disc cannot be found.
    DataError, ConfigError, FileFormatError
        If a switch or an image does not fit the data.
    """
    config = config or PreparationConfig()
    images = {name: read_image(path) for name in ("dark", "bad_pixels") if (path := getattr(config, name))}
    dataset, record = prepared(dataset, config, **images)
    survey_result = survey(dataset, survey_config)
    try:
        completed = survey_result.completed(dataset.calibration)
    except CalibrationError as error:
        # what is wrong with the patterns may be why no disc was found
        notes = [note for note in survey_result.notes if " patterns " in note]
        raise CalibrationError("; ".join([f"{dataset.name}: {error}", *notes])) from None
    dataset = dataset.recalibrated(origin="found", **vars(completed))
    dataset, corrections = corrected(dataset, config, **survey_result.corrections())
    return dataset, record | corrections
