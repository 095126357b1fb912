"""Scan rotation and handedness from the curl of the deflection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.data.arguments import require_array
from stemvane.data.representation import Representable, Row
from stemvane.errors import DataError
from stemvane.field.derivatives import curl, divergence, gradient, rotate_vectors, subtract_plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ScanRotation", "find_rotation"]

_Floats = NDArray[np.floating[Any]]
_Waves = NDArray[np.complex128]

_CURE = "give measured.deflection, where measured = measure(scan), or call field_maps(measured)"
_MIN_POSITIONS = 8
_TINY = 1e-12
# what rounding leaves of a constant once its plane is subtracted
_ROUNDING = 1e-9
_SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
_CERTAIN = 4.0
"""Standard deviations at which a sign counts as certain; of at most 36 tiles, so a little more than of a Gaussian."""
_WEAK = 1 / (2 * _CERTAIN)
"""Uncertainty in rad, 7°, at which the sum that the angle is half the phase of is so many standard errors from 0."""


@dataclass(frozen=True, repr=False)
class ScanRotation(Representable):
    """How the detector lies on the scan.

    Attributes
    ----------
    angle : float
        Angle in rad, in (−π, π], by which a vector measured on the detector must be rotated, counter-clockwise on the
        screen and after the flip, to be a vector in the scan; NaN where the deflection is the same everywhere.
    uncertainty : float
        Standard error of the angle in rad; infinite where the scan does not determine it.
    flipped : bool
        Whether the detector's y axis must change its sign before the vectors are rotated.
    ambiguous : bool
        Whether the angle could as well be 180° away.
    flip_ambiguous : bool
        Whether the scan leaves open if the detector is flipped.
    curl_ratio : tuple of float
        Root mean square of the curl over that of the divergence at the angle of least curl, as the detector is and
        flipped: 0 for a field without curl, 1 for noise.
    smoothing : float
        Standard deviation in positions of the Gaussian that the deflection was smoothed with.
    notes : tuple of str
        Sentences on what is not certain.
    """

    angle: float
    uncertainty: float
    flipped: bool
    ambiguous: bool
    flip_ambiguous: bool
    curl_ratio: tuple[float, float]
    smoothing: float
    notes: tuple[str, ...] = ()

    def _summary(self) -> tuple[str, Sequence[Row]]:
        angle = f"{math.degrees(self.angle):.1f} ± {math.degrees(self.uncertainty):.1f} deg"
        if math.isnan(self.angle):
            return "ScanRotation", [("angle", "unknown"), *(("note", note) for note in self.notes)]
        rows = [
            ("angle", f"{angle}, detector to scan"),
            ("detector", "flipped: y changes its sign first" if self.flipped else "not flipped"),
            ("curl over divergence", "{:.3g} as the detector is, {:.3g} flipped".format(*self.curl_ratio)),
            ("smoothing", f"{self.smoothing:g} positions"),
        ]
        return "ScanRotation", rows + [("note", note) for note in self.notes]

    @property
    def is_significant(self) -> bool:
        """Whether the angle stands out from noise: its error is 7° at most, and its sign or the handedness is clear.

        The smallest uncertainty of several smoothings can be that small by chance, but then neither can be determined.
        """
        return self.uncertainty <= _WEAK and not (self.ambiguous and self.flip_ambiguous)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how much curl the deflection has at every angle, and the angle with its standard error.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to draw into; those of a new figure where left out.

        Returns
        -------
        matplotlib.axes.Axes
            The panel.
        """
        from stemvane.figures.rotation_panel import draw_scan_rotation

        return draw_scan_rotation(self, ax)


@dataclass(frozen=True)
class _Fit:
    """One handedness at one smoothing: over each tile the sums of ``w²`` and ``|w|²``, w = divergence + i curl."""

    sums: _Waves
    power: NDArray[np.float64]
    smoothing: float
    flipped: bool

    @cached_property
    def angle(self) -> float:
        """Angle of least curl, in (−π/2, π/2]."""
        return float(_least_curl_angle(self.sums.sum()))

    @cached_property
    def uncertainty(self) -> float:
        return _jackknife(_wrap(_least_curl_angle(self.sums.sum() - self.sums) - self.angle))

    @cached_property
    def coherence(self) -> float:
        """(D − C) / (D + C) of the mean squares of divergence and curl at the angle of least curl."""
        return float(abs(self.sums.sum()) / max(self.power.sum(), np.finfo(float).tiny))

    @property
    def coherences(self) -> NDArray[np.float64]:
        """Coherences with one tile left out."""
        rest = np.maximum(self.power.sum() - self.power, np.finfo(float).tiny)
        return np.asarray(np.abs(self.sums.sum() - self.sums) / rest)

    @property
    def curl_ratio(self) -> float:
        return math.sqrt(max(1 - self.coherence, 0.0) / (1 + self.coherence))


def find_rotation(
    deflection: _Floats,
    step: tuple[float, float] = (1.0, 1.0),
    scatterers: _Floats | None = None,
    *,
    smoothing: float | None = None,
) -> ScanRotation:
    """Find the angle and the handedness at which the deflection has the least curl.

    Parameters
    ----------
    deflection : ndarray of float, shape (scan_y, scan_x, 2)
        Deflection ``(y, x)`` as measured on the detector, in any unit; NaN where there is none.
    step : tuple of float
        Distance of neighbouring positions ``(y, x)``.
    scatterers : ndarray of float, shape (scan_y, scan_x), optional
        A map that is brighter where there is more matter, such as the annular dark field, or minus the bright field.
    smoothing : float, optional
        Standard deviation in positions of a Gaussian low-pass; that with the smallest uncertainty where left out.

    Returns
    -------
    ScanRotation
        Between −90° and 90°, and ambiguous, without `scatterers`. NaN of infinite uncertainty, with a note, where the
        deflection is the same everywhere or changes like a plane.

    Raises
    ------
    DataError
        If the field does not have the shape of one, the map of scatterers has another shape, or the scan is shorter
        than 8 positions along an axis.

    Notes
    -----
    An electrostatic field has no curl. A rotation of all vectors by α multiplies ``w = divergence + i curl`` by
    ``exp(iα)``, so the mean square of the curl is least at ``α = −½ arg Σ w²``; it is the same 180° away. Of the
    field and the flipped field the one counts that leaves less curl. The flipped field of a square lattice may have no
    curl either; then the one counts that follows the scatterers. The beam is deflected towards the nuclei, so that the
    divergence is negative at scatterers, which decides between the two. (The quantity used is the mean of the
    deflection along the gradient of the scatterers: by parts the same with the opposite sign, and less noisy.)

    A constant and a plane, the descan, are taken out first. White noise that is the same along y and x adds the same
    to divergence and curl at every angle and does not move the angle; smoothing keeps it from hiding it. Noise along
    one axis only, as from jumps between scan lines, does pull at the angle. The derivatives are central differences
    that do not wrap round, and positions that depend on the edges are left out.

    The uncertainty is that of a jackknife over up to 6 × 6 tiles of the scan, each about 8 positions along a side or
    more, and, where the smoothing is left open, the scatter of the angle between smoothings, added in quadrature.
    """
    require_array(deflection, "find_rotation", "a field of shape (scan_y, scan_x, 2)", _CURE)
    if deflection.dtype.kind not in "iuf":
        raise DataError(f"a field holds real numbers, not {deflection.dtype}; {_CURE}")
    if deflection.ndim != 3 or deflection.shape[2] != 2:
        raise DataError(f"a field has the shape (scan_y, scan_x, 2), not {deflection.shape}")
    shape = (deflection.shape[0], deflection.shape[1])
    if min(shape) < _MIN_POSITIONS:
        raise DataError(
            f"a scan of {shape} is too small to find its rotation; give at least {_MIN_POSITIONS} × {_MIN_POSITIONS}"
        )
    if scatterers is not None and scatterers.shape != shape:
        raise DataError(f"the map of scatterers has the shape {scatterers.shape}, the scan {shape}; give them alike")
    level = subtract_plane(deflection)
    if not np.nanmax(np.abs(level), initial=0.0) > _ROUNDING * np.nanmax(np.abs(deflection), initial=0.0):
        note = "the deflection has no direction: it is the same everywhere, but for a plane"
        return ScanRotation(math.nan, math.inf, False, True, True, (math.nan, math.nan), 0.0, (note,))
    scales = _SCALES if smoothing is None else (smoothing,)
    fits = [
        (_fit(level, step, scale, flipped=False), _fit(level, step, scale, flipped=True))
        for scale in scales
        if smoothing is not None or scale <= min(shape) / 16
    ]
    straight, flipped = min(fits, key=lambda pair: min(fit.uncertainty for fit in pair))
    difference = straight.coherence - flipped.coherence
    flip_unclear = abs(difference) <= _CERTAIN * _jackknife(straight.coherences - flipped.coherences)
    best, other = (straight, flipped) if difference >= 0 else (flipped, straight)
    sign = _sign(best, level, step, scatterers)
    if flip_unclear:
        other_sign = _sign(other, level, step, scatterers)
        flip_unclear = (abs(sign) > _CERTAIN) is (abs(other_sign) > _CERTAIN)
        if not flip_unclear and abs(other_sign) > abs(sign):
            best, sign = other, other_sign
    angle = best.angle
    uncertainty = math.hypot(best.uncertainty, _scatter(best, [pair[int(best.flipped)] for pair in fits]))
    ambiguous = abs(sign) <= _CERTAIN or uncertainty > _WEAK
    if not ambiguous and sign < 0:
        angle += np.pi if angle <= 0 else -np.pi
    return ScanRotation(
        angle=angle,
        uncertainty=uncertainty,
        flipped=best.flipped,
        ambiguous=ambiguous,
        flip_ambiguous=flip_unclear,
        curl_ratio=(straight.curl_ratio, flipped.curl_ratio),
        smoothing=best.smoothing,
        notes=_notes(ambiguous, flip_unclear, scatterers),
    )


def _fit(deflection: NDArray[np.float64], step: tuple[float, float], smoothing: float, *, flipped: bool) -> _Fit:
    field = _smooth(rotate_vectors(deflection, 0.0, flipped=flipped), smoothing)
    waves = _inner(divergence(field, step, periodic=False) + 1j * curl(field, step, periodic=False), smoothing)
    waves = np.where(np.isfinite(waves), waves, 0)
    square = waves**2
    sums = _over_tiles(square.real) + 1j * _over_tiles(square.imag)
    return _Fit(sums, _over_tiles(np.abs(square)), smoothing, flipped)


def _scatter(best: _Fit, fits: Sequence[_Fit]) -> float:
    """Root mean square difference of the angles at other smoothings, weighted by their precision."""
    weights = np.array([1 / (fit.uncertainty**2 + _TINY) for fit in fits])
    away = np.array([_wrap(fit.angle - best.angle) for fit in fits])
    return math.sqrt(float(np.average(away**2, weights=weights)))


def _sign(fit: _Fit, deflection: NDArray[np.float64], step: tuple[float, float], scatterers: _Floats | None) -> float:
    """How far the field goes up the map of scatterers, over the standard error of that; 0 without scatterers.

    By parts it is minus the covariance of divergence and scatterers, but each position counts for itself.
    """
    if scatterers is None:
        return 0.0
    field = _smooth(rotate_vectors(deflection, fit.angle, flipped=fit.flipped), fit.smoothing)
    uphill = gradient(_smooth(subtract_plane(scatterers[..., None]), fit.smoothing)[..., 0], step, periodic=False)
    along = _inner(np.sum(field * uphill, axis=-1), fit.smoothing)
    sums = _over_tiles(np.where(np.isfinite(along), along, 0.0))
    error = _jackknife(sums.sum() - sums)
    return float(sums.sum() / error) if error > 0 else 0.0


def _least_curl_angle(sums: Any) -> Any:
    return -np.angle(sums) / 2


def _wrap(angle: Any) -> Any:
    """Bring an angle that is determined up to 180° into (−π/2, π/2]."""
    return np.angle(np.exp(2j * angle)) / 2


def _jackknife(left_out: NDArray[np.floating[Any]]) -> float:
    """Standard error from estimates with one tile left out each."""
    n = len(left_out)
    return math.sqrt((n - 1) / n * float(np.sum((left_out - left_out.mean()) ** 2)))


def _over_tiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over up to 6 × 6 tiles of a map, each about 8 positions along a side or more."""
    counts = [min(max(n // 8, 2), 6) for n in values.shape]
    rows, columns = (np.arange(n) * count // n for n, count in zip(values.shape, counts, strict=True))
    tiles = rows[:, None] * counts[1] + columns
    return np.asarray(np.bincount(tiles.ravel(), values.ravel()), np.float64)


def _inner(values: NDArray[Any], smoothing: float) -> NDArray[Any]:
    """Cut off what depends on the edges of the scan: one-sided differences and mirrored values."""
    edge = min(2 + math.ceil(smoothing), (min(values.shape[:2]) - 4) // 2)
    return values[edge:-edge, edge:-edge]


def _smooth(maps: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    """Smooth maps of shape ``(scan_y, scan_x, n)``."""
    return np.asarray(ndimage.gaussian_filter(maps, smoothing, axes=(0, 1), mode="nearest")) if smoothing else maps


def _notes(ambiguous: bool, flip_unclear: bool, scatterers: _Floats | None) -> tuple[str, ...]:
    notes = []
    if ambiguous:
        why = (
            "no map of scatterers was given"
            if scatterers is None
            else "the deflection does not follow the map of scatterers"
        )
        notes.append(f"the angle could as well be 180° away: {why}")
    if flip_unclear:
        notes.append("the detector could as well be flipped: both ways leave about as much curl")
    return tuple(notes)
