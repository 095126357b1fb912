"""Noise along the scan: electrons that are counted at neighbouring positions know nothing of one another."""

from __future__ import annotations

import math

import numpy as np

from stemvane.data.measurements import Measurements

__all__ = ["fine_noise"]

# periods along an axis, in cycles per step, that smoothing takes most of and that it hardly touches
_FINE, _COARSE = 0.4, 0.25
# fewer frequencies than these have medians that scatter by more than a fifth, with the taper that joins neighbours
_LEAST_FREQUENCIES = 100
# median over mean of the power of noise in two coordinates, a gamma distribution of shape 2
_MEDIAN = 0.84


def fine_noise(measurements: Measurements) -> tuple[float, float] | None:
    """Compare the noise of the COM at the finest scan periods with that at coarser ones, along each scan axis.

    What lies at coarser periods may be content that drift or a sharp edge has put there; where that is more than the
    noise of the counts, the fine periods are held against the latter.

    Parameters
    ----------
    measurements : Measurements
        Measurements of a scan.

    Returns
    -------
    tuple of float or None
        Along y and x, the power at more than 0.4 cycles per step over that at less than 0.25, or over that of counting
        noise where this is less, all at scan frequencies beyond 2α/λ, where a probe records nothing of the specimen: 1
        where the noise of every position is its own. None where the scan has too few such frequencies, or they are not
        known.
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
    counted = _MEDIAN * float((taper**2).sum()) * _counting_variance(measurements)
    # a median leaves out what rows have in common, which lies at the frequencies 0 along x
    along_y, along_x = (
        float(np.median(power[fine]) / max(min(np.median(power[coarse]), counted), 1e-300)) for fine, coarse in parts
    )
    return along_y, along_x


def _counting_variance(measurements: Measurements) -> float:
    """Variance of the COM, both coordinates together, that the electrons' number leaves; infinite where unknown.

    The mean position of n independent electrons varies by a pattern's second moment over n.
    """
    record = {} if measurements.preparation is None else measurements.preparation.record
    axis, pattern = measurements.calibration.optical_axis, np.maximum(measurements.mean_pattern, 0)
    if axis is None or "counts_per_electron" not in record or not pattern.sum() > 0:
        return math.inf
    # where patterns were averaged, counts scatter less than electrons do, and so does their COM
    n_electrons = float(pattern.sum()) / float(record["counts_per_electron"])
    pixel = measurements.calibration.pixel_size if measurements.com_unit == "mrad" else None
    y, x = ((np.arange(n) - c) * d for n, c, d in zip(pattern.shape, axis, pixel or (1.0, 1.0), strict=True))
    return float((pattern * (y[:, None] ** 2 + x**2)).sum() / pattern.sum()) / n_electrons
