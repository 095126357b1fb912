"""How much curl a scan's deflection has, by the angle that the detector may be rotated by."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from stemvane.field.scan_rotation import ScanRotation
from stemvane.figures.canvas import panel_axes
from stemvane.figures.panels import small_type, write_absent

__all__ = ["draw_scan_rotation"]

_BLUE, _BAND = "#0072B2", "0.85"


def draw_scan_rotation(rotation: ScanRotation, ax: Axes | None = None) -> Axes:
    """Draw the share of the curl in the deflection's derivatives over the scan rotation.

    Parameters
    ----------
    rotation : ScanRotation
        Result of `find_rotation`.
    ax : Axes, optional
        Axes to draw into; those of a new figure where left out.

    Returns
    -------
    Axes
        The curve of the handedness that was chosen, with the angle and its standard error; dotted, the least share of
        the other handedness. Words in place of these where the scan has no direction.

    Notes
    -----
    With c = (D − C) / (D + C) of the mean squares D and C of divergence and curl at the angle of least curl α₀, the
    share at an angle α is ``(1 − c cos 2(α − α₀)) / 2``.
    """
    ax = panel_axes(ax)
    if math.isnan(rotation.angle):
        write_absent(ax, "the deflection has no direction")
        return ax
    ratio, other = rotation.curl_ratio[:: -1 if rotation.flipped else 1]
    coherence = (1 - ratio**2) / (1 + ratio**2)
    angle = np.linspace(-math.pi, math.pi, 361)
    share = (1 - coherence * np.cos(2 * (angle - rotation.angle))) / 2
    middle, error = math.degrees(rotation.angle), math.degrees(min(rotation.uncertainty, math.pi))
    ax.axvspan(middle - error, middle + error, color=_BAND, lw=0)
    ax.axvline(middle, color="0.4", lw=0.8)
    detector = "detector flipped" if rotation.flipped else "detector not flipped"
    ax.plot(np.degrees(angle), share, color=_BLUE, label=detector)
    other_words = "least share if not flipped" if rotation.flipped else "least share if flipped"
    ax.axhline(other**2 / (1 + other**2), color="0.4", ls=":", label=other_words)
    ax.set(xlim=(-180, 180), ylim=(0, 1.15), xticks=[-180, -90, 0, 90, 180])
    ax.set(xlabel="scan rotation (deg)", ylabel="share of curl, C / (C + D)")
    value = f"{middle:.1f}° ± {math.degrees(rotation.uncertainty):.1f}°".replace("-", "−")
    unclear = "; 180° away is as likely" if rotation.ambiguous else ""
    ax.set_title(f"Scan rotation {value}{unclear}\nC, D: mean squares of curl and divergence", size="medium")
    ax.legend(loc="upper right", fontsize=small_type(), ncols=2)
    return ax
