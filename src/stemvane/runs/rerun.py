"""Settings of another run of the same scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemvane.config import Config
from stemvane.runs.run import Run

__all__ = ["changed_settings"]


def changed_settings(run: Run | None, source: Mapping[str, Any], preparation: Mapping[str, Any]) -> Config:
    """Settings of a run, some of them changed.

    Parameters
    ----------
    run : Run or None
        A finished run; None for a scan that has not been analysed, whose settings are the usual ones.
    source, preparation : mapping
        Changes of these sections, by the names of their settings.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        If a setting is unknown or out of its range.
    """
    config = Config() if run is None else run.config
    return config.replace(source=dict(source), preparation=dict(preparation))
