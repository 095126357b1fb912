"""Noise along the scan: electrons that are counted at neighbouring positions know nothing of one another."""

from __future__ import annotations

import numpy as np

from stemvane.data.measurements import Measurements

__all__ = ["fine_noise"]

# periods along an axis, in cycles per step, that smoothing takes most of and that it hardly touches
_FINE, _COARSE = 0.4, 0.25
# fewer frequencies than these have medians that scatter by more than a fifth, with the taper that joins neighbours
_LEAST_FREQUENCIES = 100


def fine_noise(measurements: Measurements) -> tuple[float, float] | None:
    """Compare the noise of the COM at the finest scan periods with that at coarser ones, along each scan axis.

    Parameters
    ----------
    measurements : Measurements
        Measurements of a scan.

    Returns
    -------
    tuple of float or None
        Along y and x, the power at more than 0.4 cycles per step over that at less than 0.25, both at scan frequencies
        beyond 2α/λ, where a probe records nothing of the specimen: 1 where the noise of every position is its own. None
        where the scan has too few such frequencies, or they are not known.
    """
    calibration, shape = measurements.calibration, measurements.scan_shape
    step, band_limit = calibration.scan_step, calibration.band_limit
    if not measurements.is_scan or measurements.noiseless or step is None or band_limit is None:
        return None
    cycles = [np.abs(np.fft.fftfreq(n)) for n in shape]
    beyond = np.hypot(cycles[0][:, None] / step[0], cycles[1] / step[1]) > band_limit
    parts = [
        (beyond & (along > _FINE), beyond & (along < _COARSE))
        for along in (cycles[0][:, None], np.broadcast_to(cycles[1], shape))
    ]
    if min(int(part.sum()) for pair in parts for part in pair) < _LEAST_FREQUENCIES:
        return None
    recorded = measurements.recorded
    # without a taper the jump from one side of the scan to the other would be taken for noise
    taper = np.outer(*(np.hanning(n + 2)[1:-1] for n in shape))
    tapered = np.where(recorded[..., None], measurements.deflection, 0.0) * taper[..., None]
    power = (np.abs(np.fft.fft2(tapered, axes=(0, 1))) ** 2).sum(axis=-1)
    # a median leaves out what rows have in common, which lies at the frequencies 0 along x
    along_y, along_x = (float(np.median(power[fine]) / max(np.median(power[coarse]), 1e-300)) for fine, coarse in parts)
    return along_y, along_x
