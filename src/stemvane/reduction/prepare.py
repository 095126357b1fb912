"""Preparation of a scan before the pass: the switches, what the survey finds, and what is said of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stemvane.config import PreparationConfig, SurveyConfig
from stemvane.data.arguments import ScanLike, as_dataset
from stemvane.data.dataset import Dataset4D
from stemvane.data.findings import Finding, sort_findings
from stemvane.data.preparation_record import Preparation
from stemvane.data.representation import format_count
from stemvane.errors import CalibrationError
from stemvane.io.images import read_image
from stemvane.reduction.preparation import choose_shift, correct_patterns, preprocess_patterns
from stemvane.reduction.survey import Survey, survey

__all__ = ["prepare_scan"]

# shares of what the removed shift leaves that follow the scan, where it may have been a field and where it surely is
# no plane or surface; shorter remainders, px, turn no angle
_BENDING = 0.3
_MOST_BENDING = 0.6
_LEAST_REMAINING = 0.05


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
        The switches; by default the dark level is subtracted, bad pixels are left out, and the beam's shift is removed
        where the survey finds that they matter.
    survey_config : SurveyConfig, optional
        How many frames to look at.
    **changes
        Switches of `PreparationConfig` that differ from `config`, for example ``descan="off"``.

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
    images = {
        name: read_image(path) for name in ("dark", "bad_pixels", "gain", "missing") if (path := getattr(config, name))
    }
    dataset, record = preprocess_patterns(dataset, config, **images)
    survey_result = survey(dataset, survey_config, shift_region=config.descan_region)
    try:
        completed = survey_result.complete(dataset.calibration)
    except CalibrationError as error:
        # what is wrong with the patterns may be why no disc was found
        notes = [finding.message for finding in survey_result.findings if " patterns " in finding.message]
        raise CalibrationError("; ".join([f"{dataset.name}: {error}", *notes])) from None
    as_given = dataset
    computed = _compute(dataset)
    dataset = dataset.recalibrate(origin="found", **vars(completed))
    dataset = replace(dataset, origins={**dataset.origins, **dict.fromkeys(computed, "computed")})
    dataset, corrections = correct_patterns(dataset, config, survey_result)
    steps = [*_steps(record), *_complete(as_given, dataset, survey_result), *_steps(corrections)]
    findings = sort_findings(
        [
            *dataset.findings,
            *survey_result.findings,
            *_uncorrected(config, survey_result),
            *_removed(config, survey_result),
        ]
    )
    warnings = [str(finding) for finding in findings]
    return replace(
        dataset,
        preparation=Preparation(tuple(steps), tuple(warnings), record | corrections),
        findings=findings,
    )


def _steps(record: Mapping[str, Any]) -> Iterator[str]:
    """What was done to the patterns, as sentences."""
    sentences: dict[str, Callable[[Any], str]] = {
        "bad_pixels": lambda n: f"{format_count(n, 'pixel')} of the given mask left out",
        "dark_counts": lambda counts: f"dark pattern of {counts:.4g} counts subtracted",
        "gain_spread": lambda spread: f"patterns divided by the flat field, which varies by {100 * spread:.2g} %",
        "missing": lambda n: f"{format_count(n, 'probe position')} of the given mask left out",
        "dark_level": lambda level: f"dark level of {level:.4g} counts subtracted",
        "counts_per_electron": lambda _: "",
        "readout_counts": lambda _: "",
        "variation_px": lambda _: "",
        "transpose": lambda _: "rows and columns of the detector swapped",
        "flip_y": lambda _: "detector flipped along y",
        "flip_x": lambda _: "detector flipped along x",
        "scan_region": lambda r: f"scan cropped to rows {r[0]} to {r[1] - 1} and columns {r[2]} to {r[3] - 1}",
        "scan_binning": lambda n: f"{n} × {n} probe positions summed to one",
        "detector_binning": lambda n: f"{n} × {n} detector pixels summed to one",
        "hot_pixels": lambda places: f"{format_count(len(places), 'hot pixel')} left out" if places else "",
        "dead_pixels": lambda places: f"{format_count(len(places), 'dead pixel')} left out" if places else "",
        "descan_px": lambda shift: (
            "beam shift removed: {:.2f} px along y, {:.2f} px along x".format(
                *(np.hypot(*shift[name]) for name in ("along_y", "along_x"))
            )
            + (" and its curvature" if "yy" in shift else "")
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


def _uncorrected(config: PreparationConfig, looked: Survey) -> Iterator[Finding]:
    """What the survey has found and the switches leave as it is."""
    level = looked.noise.dark_level
    if level and not config.dark_level and not config.dark:
        yield Finding(
            "dark_level",
            "warning",
            f"pixels without electrons show {level:.4g} counts",
            "set preparation.dark_level or give a dark image (preparation.dark)",
        )
    if level and config.dark:
        yield Finding(
            "dark_image",
            "warning",
            f"with the dark image subtracted, pixels without electrons show {level:.4g} counts: it is not of this "
            "exposure",
            "give the mean of frames without a beam, of the same exposure time, or leave preparation.dark out",
        )
    n_bad = len(looked.hot_pixels) + len(looked.dead_pixels)
    if n_bad and not config.mask_hot_and_dead:
        yield Finding("bad_pixels", "warning", f"{n_bad} bad pixels are left in", "set preparation.mask_hot_and_dead")
    if choose_shift(config, looked) is None and looked.shift is not None and looked.shift.matters:
        yield Finding(
            "beam_shift",
            "failure" if looked.shift.plane > looked.shift.remaining else "warning",
            f"the beam shifts by {looked.shift.plane:.2f} px over the scan",
            "set preparation.descan to auto to remove that",
        )


def _removed(config: PreparationConfig, looked: Survey) -> Iterator[Finding]:
    """A beam shift that was removed without being asked for, and may have been a field of the specimen."""
    shift = choose_shift(config, looked)
    if shift is None or config.descan != "auto" or config.descan_region is not None:
        return
    what = f"a beam shift of {shift.plane:.2f} px over the scan was removed, and with it any field of the specimen"
    if shift.bending > _BENDING and shift.remaining > _LEAST_REMAINING:
        yield Finding(
            "beam_shift_removed",
            "failure" if shift.bending > _MOST_BENDING else "warning",
            f"{what}; {100 * shift.bending:.0f} % of what remains bends over the scan, as a junction's field does",
            "set preparation.descan to off to keep it, or fit the shift in vacuum (preparation.descan_region)",
        )
    else:
        yield Finding("beam_shift_removed", "note", f"{what} that is as long; preparation.descan=off keeps it")
