"""Type sizes, colour maps and number formats that all figures share."""

from __future__ import annotations

import math
from typing import Any

from cmcrameri import cm
from matplotlib.colors import Colormap

__all__ = [
    "ANGLES",
    "DIVERGING",
    "IMAGES",
    "MAGNITUDES",
    "MASKED",
    "SMALL",
    "STYLE",
    "nice_number",
    "power_of_ten",
    "tidy_number",
    "unit_with_power",
]

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

SMALL = 6.0
"""Smallest type of a page in points, which can still be read in print."""

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so that figures look the same everywhere
    "font.size": 7,
    "axes.linewidth": 0.5,
    "axes.labelsize": 6.5,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "stemvane",
}

MASKED = "0.87"
"""Grey of positions without a value."""
ANGLES: Colormap = cm.romaO.with_extremes(bad=MASKED)
"""Cyclic and perceptually uniform."""
MAGNITUDES: Colormap = cm.batlow.with_extremes(bad=MASKED)
DIVERGING: Colormap = cm.vik.with_extremes(bad=MASKED)
"""For quantities with a sign; limits must be the same on both sides of 0."""
IMAGES: Colormap = cm.grayC.with_extremes(bad=MASKED)


def nice_number(value: float) -> float:
    """Largest of 1, 2, 5 times a power of ten that does not exceed a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return float(max(step for step in (1, 2, 5) if step * power <= value * (1 + 1e-9)) * power)


def power_of_ten(largest: float) -> int:
    """Power of ten that numbers up to a size are written without; 0 where they are short by themselves."""
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    return power if power < -2 or power > 2 else 0


def unit_with_power(unit: str, power: int) -> str:
    """A unit that takes over the power of ten which its numbers are written without."""
    return f"10{str(power).translate(_SUPERSCRIPT)} {unit}".strip() if power else unit


def tidy_number(value: float, digits: int = 3) -> str:
    """Number with at most so many significant digits, no trailing zeros and a true minus sign."""
    return f"{round(float(value), 9) + 0.0:.{digits}g}".replace("-", "−")
