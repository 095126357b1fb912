"""DetectorTruth: what a simulated detector did to a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemvane.data.representation import Representable, Row, format_count, format_quantity, format_shape
from stemvane.errors import DataError

__all__ = ["DetectorTruth"]


@dataclass(frozen=True, eq=False, repr=False)
class DetectorTruth(Representable):
    """What a simulated detector did to a scan: the truth that preparation and analysis are scored by.

    Parameters
    ----------
    bad_pixels : ndarray of bool, shape (k_y, k_x)
        True where a pixel is dead, hot or in a gap.
    gain : ndarray of float, shape (k_y, k_x)
        Mean reading above the dark level per electron and pixel under uniform illumination, ADU or counts, before
        saturation; 0 for bad pixels. Divided by `counts_per_electron` it is the flat field.
    dark : ndarray of float, shape (k_y, k_x)
        Mean reading without a beam.
    dark_frame : ndarray of float, shape (k_y, k_x)
        The same as a user measures it, with noise of its own: what ``preparation.dark`` is meant for.
    axis : ndarray of float, shape (scan_y, scan_x, 2)
        Optical axis ``(y, x)`` in pixels in every pattern; NaN where no frame was recorded, as in `com`, `places` and
        `positions`.
    com : ndarray of float, shape (scan_y, scan_x, 2)
        Centre of mass ``(y, x)`` in mrad of the noiseless patterns of an ideal detector that follows the beam, minus
        the optical axis; y grows downwards.
    places : ndarray of float, shape (scan_y, scan_x, 2)
        Where in the scan the probe was sent when the pattern here was recorded, ``(y, x)`` in scan steps: its own
        indices, unless frames were lost, recorded twice or recorded during the flyback.
    positions : ndarray of float, shape (scan_y, scan_x, 2)
        Where on the specimen the probe was, ``(y, x)`` in Å, in the coordinates of `Dataset4D.atoms`.
    electrons_per_pattern : float
        Incident electrons per pattern.
    counts_per_electron : float
        Mean sum of the readings per electron, the dark level and variations of the gain apart.
    variance_per_count : float
        Slope of the variance of a reading over its mean above the dark level under uniform illumination, ADU, for a
        pixel of mean gain. For counted electrons it is 1; charge that is shared makes it less than
        `counts_per_electron`.
    readout_noise : float
        Rms noise of every reading, ADU.
    """

    bad_pixels: NDArray[np.bool_]
    gain: NDArray[np.float32]
    dark: NDArray[np.float32]
    dark_frame: NDArray[np.float32]
    axis: NDArray[np.float64]
    com: NDArray[np.float64]
    places: NDArray[np.float64]
    positions: NDArray[np.float64]
    electrons_per_pattern: float
    counts_per_electron: float
    variance_per_count: float
    readout_noise: float

    def __post_init__(self) -> None:
        for names, like in (
            (("gain", "dark", "dark_frame"), self.bad_pixels),
            (("com", "places", "positions"), self.axis),
        ):
            for name in names:
                if np.shape(getattr(self, name)) != np.shape(like):
                    raise DataError(
                        f"truth of a detector: {name} has shape {np.shape(getattr(self, name))}; give {np.shape(like)}"
                    )

    def _summary(self) -> tuple[str, Sequence[Row]]:
        swing = np.nanmax(self.axis, axis=(0, 1)) - np.nanmin(self.axis, axis=(0, 1))
        rows = [
            ("detector", f"{format_shape(self.bad_pixels.shape)} px"),
            ("bad pixels", format_count(int(self.bad_pixels.sum()), "pixel")),
            ("dose", f"{self.electrons_per_pattern:.6g} electrons per pattern"),
            ("counts per electron", f"{self.counts_per_electron:.4g}"),
            ("dark level", format_quantity(float(np.median(self.dark)), "ADU")),
            ("readout noise", format_quantity(self.readout_noise, "ADU")),
            ("beam shift", f"{swing[0]:.3g}, {swing[1]:.3g} px"),
        ]
        return "DetectorTruth", rows
