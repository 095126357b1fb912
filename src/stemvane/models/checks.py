"""Checks that models share: of settings and masks, and how rows and intensities fit a scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stemvane.config import Config, ModelSection
from stemvane.data.measurements import Measurements
from stemvane.errors import ConfigError, DataError

__all__ = ["check_mask", "check_settings", "intensity_factor", "select_section", "spread"]

Section = TypeVar("Section", bound=ModelSection)


def check_settings(
    section: type[ModelSection], n_latent: int | None, model: ModelSection | None, **sections: Any
) -> Config:
    """Settings of a model from the arguments of its constructor.

    Parameters
    ----------
    section : type of ModelSection
        Class of the settings of this model.
    n_latent : int, optional
        Number of latent variables; takes precedence over that of `model`.
    model : ModelSection, optional
        Settings of the model; its defaults if left out.
    **sections
        Other sections of the settings; one that is None has its defaults.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        If `model` holds the settings of another model, or a value is out of range.
    """
    if model is not None and not isinstance(model, section):
        raise ConfigError(f"a {type(model).__name__} is not for this model; give a {section.__name__} as model")
    values = {"model": section.model_fields["model"].default} if model is None else model.model_dump()
    if n_latent is not None:
        values["n_latent"] = n_latent
    return Config.from_dict({"model": values, **{name: part for name, part in sections.items() if part is not None}})


def select_section(settings: Config, section: type[Section]) -> Section:
    """Section ``model`` of the settings; ConfigError if it is not of the given class."""
    if not isinstance(settings.model, section):
        raise ConfigError(
            f"these are settings of the model {settings.model.model!r}, not a {section.__name__}; call pattern_model"
        )
    return settings.model


def check_mask(mask: NDArray[np.bool_] | None, measurements: Measurements) -> NDArray[np.bool_]:
    """Recorded positions in a mask, all where it is None; DataError if it is not of the scan's shape."""
    if mask is None:
        return measurements.recorded
    if np.shape(mask) != measurements.scan_shape:
        raise DataError(f"the mask has shape {np.shape(mask)}; give one of the scan's, {measurements.scan_shape}")
    return np.asarray(mask, bool) & measurements.recorded


def intensity_factor(mean_total: float, measurements: Measurements, mask: NDArray[np.bool_]) -> float:
    """Factor that brings the patterns in the mask to a mean total; 1 where there are none."""
    total: NDArray[Any] = np.asarray(measurements.maps["total"], dtype=float)[mask]
    return mean_total / float(total.mean()) if len(total) else 1.0


def spread(blocks: Sequence[Sequence[NDArray[Any]]], allowed: NDArray[np.bool_]) -> list[NDArray[Any]]:
    """Put rows on the positions in a mask, NaN elsewhere.

    Parameters
    ----------
    blocks : sequence of sequence of ndarray
        Each block holds some rows of every column; rows are in the order of the positions.
    allowed : ndarray of bool, shape (scan_y, scan_x)
        Positions that have a row.

    Returns
    -------
    list of ndarray, shape (scan_y, scan_x, ...)
        One for every column.
    """
    full = []
    for parts in zip(*blocks, strict=True):
        rows = np.concatenate(parts)
        full.append(np.full((*allowed.shape, *rows.shape[1:]), np.nan, rows.dtype))
        full[-1][allowed] = rows
    return full
