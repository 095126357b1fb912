"""How an embedding agrees with the centre of mass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.data.arguments import require_same_scan
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements

__all__ = [
    "AngleAgreement",
    "AngleDifference",
    "angle_difference",
    "compare",
    "compare_angles",
    "explained_variance",
    "neighbour_mean",
]

_Floats = NDArray[np.floating[Any]]

# standard deviations that hold 95 % of a normal variable
_WITHIN = 1.96


@dataclass(frozen=True)
class AngleAgreement:
    """Agreement of a map of angles with the directions of a vector field.

    Attributes
    ----------
    sign : int or None
        +1 where the angle rotates the same way as the field, -1 where it rotates the other way; None where there is
        nothing to compare: no position with both an angle and a vector, or no vector longer than 0.
    offset_deg : float
        Constant angle between the two, degrees; NaN where there is nothing to compare.
    error_median_deg : float
        Median error after sign and offset, over the vectors above the threshold, degrees.
    error_mean_deg : float
        Mean error after sign and offset over all vectors, weighted by their length, degrees.
    """

    sign: int | None
    offset_deg: float
    error_median_deg: float
    error_mean_deg: float


def compare_angles(angle: _Floats, field: _Floats, *, noiseless: bool) -> AngleAgreement:
    """Compare angles with the directions of a field.

    Parameters
    ----------
    angle : ndarray of float, shape (...)
        Angles in rad, counter-clockwise on the screen.
    field : ndarray of float, shape (..., 2)
        Vectors ``(y, x)``, y growing downwards.
    noiseless : bool
        The median is taken over vectors longer than 20 % of the longest, or, for noisy fields, of the 99th percentile.

    Returns
    -------
    AngleAgreement

    Notes
    -----
    The offset is ``arg Σ |v| exp(i (angle - sign · direction))``, the sign whichever makes the sum longer.
    """
    length = np.hypot(field[..., 0], field[..., 1])
    direction = np.arctan2(-field[..., 0], field[..., 1])
    use = np.isfinite(angle) & np.isfinite(length)
    angle, length, direction = angle[use].astype(float), length[use].astype(float), direction[use].astype(float)
    if not length.any():
        return AngleAgreement(sign=None, offset_deg=math.nan, error_median_deg=math.nan, error_mean_deg=math.nan)
    sums = {sign: np.sum(length * np.exp(1j * (angle - sign * direction))) for sign in (1, -1)}
    sign = max(sums, key=lambda s: abs(sums[s]))
    offset = float(np.angle(sums[sign]))
    error = np.abs(np.angle(np.exp(1j * (angle - sign * direction - offset))))
    far = length > 0.2 * (length.max() if noiseless else np.quantile(length, 0.99))
    return AngleAgreement(
        sign=sign,
        offset_deg=float(np.degrees(offset)),
        error_median_deg=float(np.degrees(np.median(error[far]))) if far.any() else float("nan"),
        error_mean_deg=float(np.degrees(np.average(error, weights=length))),
    )


class AngleDifference(NamedTuple):
    """How far the angle of the content is from the direction of the COM, which is another quantity.

    Attributes
    ----------
    difference : ndarray of float, shape (scan_y, scan_x)
        Content's angle less the COM's in rad, after the sense of rotation and the constant offset that bring them
        closest; NaN where either is unknown.
    std : ndarray of float, shape (scan_y, scan_x)
        What the uncertainties of both make one expect, rad.
    """

    difference: NDArray[np.float64]
    std: NDArray[np.float64]

    @property
    def differs(self) -> NDArray[np.bool_]:
        """True where they differ beyond the 95 % that both uncertainties explain, shape ``(scan_y, scan_x)``."""
        return np.asarray(np.abs(self.difference) > _WITHIN * self.std)


def angle_difference(embedding: Embedding, measurements: Measurements) -> AngleDifference | None:
    """Hold the angle of the content against the direction of the COM, filtered over the scan where that is known.

    Parameters
    ----------
    embedding : Embedding
        Latents and angles of a scan.
    measurements : Measurements
        Measurements of the same scan.

    Returns
    -------
    AngleDifference or None
        None where there is nothing to compare, such as content that looks the same at several angles, which has no
        direction that a COM could have.

    Raises
    ------
    DataError
        If an argument is of another kind.
    """
    require_same_scan(embedding, measurements, "angle_difference")
    of_com, of_com_std = embedding.deflection_angle, embedding.deflection_angle_std
    if of_com is None or of_com_std is None or embedding.symmetry > 1:
        return None
    filtered = measurements.filtered_deflection
    field = measurements.deflection if filtered is None else filtered
    agreement = compare_angles(embedding.angle, field, noiseless=measurements.noiseless)
    if agreement.sign is None:
        return None
    apart = embedding.angle - agreement.sign * of_com - math.radians(agreement.offset_deg)
    # what is uncertain all around the circle can be half a turn off at most
    stds = [np.minimum(np.asarray(std, np.float64), np.pi) for std in (embedding.angle_std, of_com_std)]
    return AngleDifference(np.angle(np.exp(1j * apart)), np.hypot(*stds))


def compare(embedding: Embedding, measurements: Measurements) -> dict[str, Any]:
    """Compare latents and angle with the centre of mass.

    Parameters
    ----------
    embedding : Embedding
        Latents and angles of the same scan.
    measurements : Measurements
        Measurements with the COM; with the noiseless COM in ``expectation`` where the source knows it.

    Returns
    -------
    dict
        ``pearson_r`` of each latent with the deflection's length and the angle's agreement, as in ``metrics.json``:
        against the pattern's own deflection; with the suffix ``_neighbours`` against the mean over its eight
        neighbours; and with ``_truth`` against the noiseless one, None where that is unknown. Also the measured COM
        itself against the last two.

    Raises
    ------
    DataError
        If an argument is of another kind.

    Notes
    -----
    The neighbours' noise is independent of the pattern's own COM. It is not independent of an embedding that was
    estimated from the neighbours, too (`Embedding.uses_neighbours`): such an embedding is not held against them, and
    its values are None. Where every position was estimated from its own pattern, the neighbours were still among
    those that the model was trained on, so that the reference is nearly, but not strictly, independent.
    """
    require_same_scan(embedding, measurements, "compare")
    references: list[tuple[str, _Floats, bool]] = [
        ("", measurements.deflection, measurements.noiseless),
        ("_neighbours", neighbour_mean(measurements.deflection), measurements.noiseless),
    ]
    if measurements.expectation is not None:
        references.append(("_truth", measurements.expectation.deflection, True))
    elif measurements.noiseless:
        references.append(("_truth", measurements.deflection, True))
    # content that looks the same at several angles has no direction that a COM could have
    angle = embedding.angle if embedding.symmetry == 1 else np.full(embedding.scan_shape, np.nan)
    result: dict[str, Any] = {}
    for suffix, field, noiseless in references:
        length = np.hypot(field[..., 0], field[..., 1])
        r = [_pearson(embedding.latents[..., k], length) for k in range(embedding.n_latent)]
        angles = compare_angles(angle, field, noiseless=noiseless)
        result |= {
            f"pearson_r{suffix}": r,
            f"pearson_r_first{suffix}": r[0] if r else None,
            f"pearson_r_others_max{suffix}": max((abs(v) for v in r[1:] if np.isfinite(v)), default=None),
            f"angle_sign{suffix}": angles.sign,
            f"angle_offset_deg{suffix}": angles.offset_deg,
            f"angle_error_median_deg{suffix}": angles.error_median_deg,
            f"angle_error_mean_deg{suffix}": angles.error_mean_deg,
        }
        if suffix:
            measured = compare_angles(measurements.com_angle, field, noiseless=noiseless)
            result[f"com_angle_error_median_deg{suffix}"] = measured.error_median_deg
            result[f"com_angle_error_mean_deg{suffix}"] = measured.error_mean_deg
            result[f"com_pearson_r{suffix}"] = _pearson(measurements.com_magnitude, length)
    result |= _compare_filtered(measurements, references[-1]) | _tell_apart(embedding, measurements)
    keys = [key for key in result if key.endswith("_neighbours")]
    if references[-1][0] != "_truth":
        result |= dict.fromkeys(key.replace("_neighbours", "_truth") for key in keys)
    if embedding.uses_neighbours:
        result |= dict.fromkeys(key for key in keys if not key.startswith("com_"))
    return result


def _compare_filtered(measurements: Measurements, truth: tuple[str, _Floats, bool]) -> dict[str, float | None]:
    """The filtered COM against the noiseless one; None where either is missing."""
    filtered, (suffix, field, noiseless) = measurements.filtered_deflection, truth
    if filtered is None or suffix != "_truth":
        return dict.fromkeys(("filtered_com_angle_error_median_deg_truth", "filtered_com_pearson_r_truth"))
    angles = compare_angles(np.arctan2(-filtered[..., 0], filtered[..., 1]), field, noiseless=noiseless)
    return {
        "filtered_com_angle_error_median_deg_truth": angles.error_median_deg,
        "filtered_com_pearson_r_truth": _pearson(
            np.hypot(*np.moveaxis(filtered, -1, 0)), np.hypot(*np.moveaxis(field, -1, 0))
        ),
    }


def _tell_apart(embedding: Embedding, measurements: Measurements) -> dict[str, float | None]:
    """Uncertainties of the angles of content and COM, and where these differ beyond them."""
    keys = ("angle_std", "deflection_angle_std", "angle_difference")
    maps = {"angle_std": embedding.angle_std, "deflection_angle_std": embedding.deflection_angle_std}
    apart = angle_difference(embedding, measurements)
    if apart is not None:
        maps["angle_difference"] = np.abs(apart.difference)
    result: dict[str, float | None] = dict.fromkeys((*(f"{key}_median_deg" for key in keys), "angle_differs_share"))
    for key, values_of in maps.items():
        # a model without an angle knows it nowhere
        if values_of is not None and np.isfinite(embedding.angle).any() and np.isfinite(values_of).any():
            result[f"{key}_median_deg"] = float(np.degrees(np.nanmedian(values_of)))
    if apart is not None and np.isfinite(apart.difference).any():
        result["angle_differs_share"] = float(apart.differs[np.isfinite(apart.difference)].mean())
    return {key: None if value is None or not math.isfinite(value) else value for key, value in result.items()}


def neighbour_mean(field: _Floats) -> _Floats:
    """Mean of the eight neighbours of every position, the position itself left out; shape kept, axes ``(y, x, ...)``.

    The mean is over the neighbours that exist and are finite.
    """
    kernel = np.ones((3, 3) + (1,) * (field.ndim - 2))
    kernel[1, 1] = 0
    is_finite = np.isfinite(field)
    count = ndimage.convolve(is_finite.astype(float), kernel, mode="constant")
    total = ndimage.convolve(np.where(is_finite, field, 0.0), kernel, mode="constant")
    return np.asarray(total / np.maximum(count, 1))


def explained_variance(residual: _Floats, total: _Floats) -> float:
    """Share of the variance of patterns about their mean that a model explains, ``1 - Σ residual / Σ total``.

    Parameters
    ----------
    residual, total : ndarray of float, shape (...)
        Squared length of what a model leaves unexplained of every pattern, and of the pattern less the background
        (`RotationVAE.misfit`); NaN where there is no pattern.

    Returns
    -------
    float
        1 where the model explains everything.
    """
    return float(1 - np.nansum(residual) / np.nansum(total))


def _pearson(a: _Floats, b: _Floats) -> float:
    use = np.isfinite(a) & np.isfinite(b)
    if use.sum() < 2 or np.ptp(a[use]) == 0 or np.ptp(b[use]) == 0:
        return float("nan")
    return float(np.corrcoef(a[use].astype(float), b[use].astype(float))[0, 1])
