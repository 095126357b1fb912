"""What figures say in words: agreement with which centre of mass, frames, and the scan rotation."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from stemvane.figures.layout import WIDTH
from stemvane.figures.style import SMALL, tidy_number

__all__ = [
    "DETECTOR_FRAME",
    "SCAN_FRAME",
    "angle_error_caption",
    "angle_error_remarks",
    "angle_std_caption",
    "caption_height",
    "pearson_words",
    "scan_rotation_remarks",
    "write_caption",
]

DETECTOR_FRAME = "detector\nframe"
SCAN_FRAME = "scan frame"

_LINE = 0.105
_CHARACTERS = 158


def pearson_words(metrics: Mapping[str, Any], index: int) -> str:
    """A latent's correlation with the COM magnitude in words, empty where it is unknown."""
    values = metrics.get("pearson_r") or []
    value = values[index] if index < len(values) else None
    if value is None:
        return ""
    digits = 4 if abs(value) >= 0.99 else 2
    return f"r with |COM| = {value:.{digits}f}".replace("-", "−")


def angle_error_remarks(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Median error of the rotation, from which COM, and what the measured COM itself scores against that one."""
    suffix, error, com_error = _angle_error(metrics)
    if error is None:
        return ()
    if suffix == "_truth" and not com_error:
        return f"error {_degrees(error)}", "from the COM"
    if suffix:
        reference = "from the noiseless COM" if suffix == "_truth" else "from neighbours' COM"
        return f"error {_degrees(error)} (COM {_degrees(com_error)})", reference
    return f"error {_degrees(error)}", "from the measured COM"


def angle_error_caption(metrics: Mapping[str, Any]) -> str:
    """Angle error in sentences, empty where the error is unknown."""
    suffix, error, com_error = _angle_error(metrics)
    if error is None:
        return ""
    offset = metrics.get(f"angle_offset_deg{suffix}", metrics.get("angle_offset_deg"))
    after = (
        "" if offset is None else f", after a constant offset of {offset:.0f}°".replace("-", "−").replace("−0°", "0°")
    )
    mirrored = ", mirrored" if metrics.get("angle_sign") == -1 else ""
    most = "maximum" if suffix == "_truth" else "99th percentile"
    where = f"where |COM| exceeds 20 % of its {most}"
    words = f"The rotation{mirrored} is {_degrees(error)} (median {where}{after}) from the direction of the "
    if suffix == "_truth" and not com_error:
        return f"{words}COM, which has no noise."
    if suffix == "_truth":
        return f"{words}noiseless COM; the measured COM is {_degrees(com_error)} from it."
    if suffix == "_neighbours":
        return f"{words}mean COM of the eight neighbours; the position's own COM is {_degrees(com_error)} from it."
    spread = metrics.get("com_angle_error_median_deg_neighbours")
    noise = "" if spread is None else f": it is {_degrees(spread)} from the mean COM of its neighbours"
    return f"{words}position's own measured COM, whose noise counts as an error, too{noise}."


def angle_std_caption(metrics: Mapping[str, Any]) -> str:
    """How well the angles of content and COM are known, and where they differ beyond it; empty where unknown."""
    content, of_com = metrics.get("angle_std_median_deg"), metrics.get("deflection_angle_std_median_deg")
    if content is None or of_com is None:
        return ""
    share = metrics.get("angle_differs_share")
    differ = "" if share is None else f" They differ by more than both explain at {100 * share:.0f} % of the positions."
    return (
        f"The rotation, the angle of the content, is uncertain by {_degrees(content)}, the direction of the COM by "
        f"{_degrees(of_com)} (medians).{differ}"
    )


def scan_rotation_remarks(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """The scan rotation with its standard error and source, in two short lines."""
    angle, error = metrics.get("scan_rotation_deg"), metrics.get("scan_rotation_uncertainty_deg")
    if angle is None:
        return ("scan rotation unknown",)
    value = f"{tidy_number(round(angle, 1), 4)}°" + ("" if error is None else f" ± {max(error, 0.1):.1f}°")
    unclear = ", or ± 180°" if metrics.get("scan_rotation_ambiguous") else ""
    flipped = ", flipped" if metrics.get("scan_flipped") else ""
    return f"scan rotation {value}", f"{metrics.get('scan_rotation_source')}{unclear}{flipped}"


def caption_height(caption: str, width: float = WIDTH) -> float:
    """Height in inches that a caption takes at the bottom of a page of this width."""
    return _LINE * len(_lines(caption, width)) + (0.06 if caption else 0.0)


def write_caption(figure: Figure, caption: str) -> None:
    """Write sentences along the bottom of a page, which is `caption_height` higher for it."""
    width, height = figure.get_size_inches()
    figure.text(
        0.08 / width,
        0.05 / height,
        "\n".join(_lines(caption, width)),
        size=SMALL,
        color="0.3",
        va="bottom",
        linespacing=1.2,
    )


def _lines(caption: str, width: float) -> list[str]:
    return textwrap.wrap(caption, int(_CHARACTERS * width / WIDTH))


def _angle_error(metrics: Mapping[str, Any]) -> tuple[str, float | None, float]:
    """Suffix of the best reference that the estimate can be held against, the error, and that of the measured COM."""
    for suffix in ("_truth", "_neighbours", ""):
        error = metrics.get(f"angle_error_median_deg{suffix}")
        if error is not None:
            return suffix, float(error), float(metrics.get(f"com_angle_error_median_deg{suffix}") or 0.0)
    return "", None, 0.0


def _degrees(value: float) -> str:
    return f"{value:.1f}°"
