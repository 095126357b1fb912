"""Preparation of a scan before the pass: the switches, what the survey finds, and what is said of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stemvane.config import PreparationConfig, SurveyConfig
from stemvane.data.arguments import ScanLike, as_dataset
from stemvane.data.dataset import Dataset4D
from stemvane.data.preparation_record import Preparation
from stemvane.data.representation import format_count
from stemvane.errors import CalibrationError
from stemvane.io.images import read_image
from stemvane.reduction.preparation import correct_patterns, preprocess_patterns
from stemvane.reduction.survey import Survey, survey

__all__ = ["prepare_scan"]

# a beam shift below half a pixel or a twentieth of the disc's radius moves maps less than the survey's own uncertainty
_LEAST_SHIFT = 0.5
_LEAST_SHARE = 0.05


def prepare_scan(
    dataset: ScanLike,
    config: PreparationConfig | None = None,
    survey_config: SurveyConfig | None = None,
    **changes: Any,
) -> Dataset4D:
    """Apply the switches, look at some frames, and find the disc where the calibration does not have it.

    Parameters
    ----------
    dataset : Dataset4D, array of four axes or HyperSpy signal
        Data set as opened, with the user's numbers in its calibration.
    config : PreparationConfig, optional
        The switches; by default only hot and dead pixels are left out.
    survey_config : SurveyConfig, optional
        How many frames to look at.
    **changes
        Switches of `PreparationConfig` that differ from `config`, for example ``descan=True``.

    Returns
    -------
    Dataset4D
        Ready for `measure`, with optical axis and disc radius in its calibration. `Dataset4D.preparation` says what was
        done, and `Dataset4D.origin` which numbers were found.

    Raises
    ------
    CalibrationError
        If the disc cannot be found.
    DataError, ConfigError, FileFormatError
        If the data are no scan, or a switch is unknown or, like an image, does not fit them.
    """
    dataset = as_dataset(dataset, "prepare_scan")
    switches = {} if config is None else config.model_dump()
    config = PreparationConfig.from_dict({**switches, **changes}, "prepare_scan")
    images = {name: read_image(path) for name in ("dark", "bad_pixels") if (path := getattr(config, name))}
    dataset, record = preprocess_patterns(dataset, config, **images)
    survey_result = survey(dataset, survey_config)
    try:
        completed = survey_result.complete(dataset.calibration)
    except CalibrationError as error:
        # what is wrong with the patterns may be why no disc was found
        notes = [note for note in survey_result.notes if " patterns " in note]
        raise CalibrationError("; ".join([f"{dataset.name}: {error}", *notes])) from None
    as_given = dataset
    computed = _compute(dataset)
    dataset = dataset.recalibrate(origin="found", **vars(completed))
    dataset = replace(dataset, origins={**dataset.origins, **dict.fromkeys(computed, "computed")})
    dataset, corrections = correct_patterns(dataset, config, **survey_result.corrections())
    steps = [*_steps(record), *_complete(as_given, dataset, survey_result), *_steps(corrections)]
    warnings = [*survey_result.notes, *_uncorrected(dataset, survey_result)]
    return replace(dataset, preparation=Preparation(tuple(steps), tuple(warnings), record | corrections))


def _steps(record: Mapping[str, Any]) -> Iterator[str]:
    """What was done to the patterns, as sentences."""
    sentences: dict[str, Callable[[Any], str]] = {
        "bad_pixels": lambda n: f"{format_count(n, 'pixel')} of the given mask left out",
        "dark_counts": lambda counts: f"dark pattern of {counts:.4g} counts subtracted",
        "transpose": lambda _: "rows and columns of the detector swapped",
        "flip_y": lambda _: "detector flipped along y",
        "flip_x": lambda _: "detector flipped along x",
        "scan_region": lambda r: f"scan cropped to rows {r[0]} to {r[1] - 1} and columns {r[2]} to {r[3] - 1}",
        "scan_binning": lambda n: f"{n} × {n} probe positions summed to one",
        "detector_binning": lambda n: f"{n} × {n} detector pixels summed to one",
        "hot_pixels": lambda places: f"{format_count(len(places), 'hot pixel')} left out" if places else "",
        "dead_pixels": lambda places: f"{format_count(len(places), 'dead pixel')} left out" if places else "",
        "descan_px": lambda shift: "beam shift removed: {:.2f} px along y, {:.2f} px along x".format(
            *(np.hypot(*shift[name]) for name in ("along_y", "along_x"))
        ),
        "ellipse": lambda e: f"ellipse undone: long over short axis {e['ratio']:.4f}, at {e['direction_deg']:.0f} deg",
        "normalise": lambda _: "every pattern divided by its total",
    }
    for name, value in record.items():
        if sentence := sentences[name](value):
            yield sentence


def _compute(dataset: Dataset4D) -> list[str]:
    """Numbers that follow from the semi-angle: the disc's radius from the pixel size, or that from the radius."""
    calibration = dataset.calibration
    if calibration.convergence_semiangle is None:
        return []
    lacking = [name for name in ("disc_radius", "pixel_size") if getattr(calibration, name) is None]
    return lacking if len(lacking) == 1 else lacking[1:]


def _complete(before: Dataset4D, after: Dataset4D, looked: Survey) -> Iterator[str]:
    """Numbers of the calibration that were not there before."""
    old, new = before.calibration, after.calibration
    where = f"in the mean of {looked.n_frames} patterns"
    if old.optical_axis is None and new.optical_axis is not None:
        y, x = new.optical_axis
        yield f"optical axis found at ({y:.2f}, {x:.2f}) px {where}"
    if old.disc_radius is None and new.disc_radius is not None:
        source = "from semi-angle and pixel size" if after.origin("disc_radius") == "computed" else f"found {where}"
        yield f"disc radius {new.disc_radius:.2f} px {source}"
    if old.pixel_size is None and new.pixel_size is not None:
        yield f"pixel size {new.pixel_size[1]:.4g} mrad from semi-angle and disc radius"


def _uncorrected(dataset: Dataset4D, looked: Survey) -> Iterator[str]:
    """What the survey has found and the switches leave as it is."""
    shifts = (looked.beam_shift_along_y, looked.beam_shift_along_x)
    largest = max(float(np.hypot(*shift)) if shift is not None else 0.0 for shift in shifts)
    radius = dataset.calibration.disc_radius or 0.0
    if dataset.beam_shift is None and largest > max(_LEAST_SHIFT, _LEAST_SHARE * radius):
        yield f"the beam shifts by {largest:.2f} px over the scan; set preparation.descan to remove that"
