"""The survey: what a strided look at some hundred patterns finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.config import SurveyConfig
from stemvane.data.arguments import ScanLike, as_dataset
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D, reading_lazily
from stemvane.data.findings import Finding
from stemvane.data.representation import Representable, Row, format_position, format_quantity
from stemvane.data.typical_pattern import TypicalPattern
from stemvane.errors import CalibrationError
from stemvane.geometry.disc import Disc, find_disc
from stemvane.reduction.bad_pixels import FillWeights, bad_pixels, bright_rectangles, fill_pattern
from stemvane.reduction.detector_noise import DetectorNoise, detector_noise
from stemvane.reduction.kernels.passes import BeamShift
from stemvane.reduction.prepared_frames import require_counts
from stemvane.reduction.shift_fit import ShiftFit, disc_positions, fit_shift
from stemvane.reduction.survey_findings import (
    bright_region_findings,
    bright_spot_findings,
    calibration_findings,
    disc_findings,
    gain_findings,
    hidden_findings,
    lone_region_findings,
    patch_findings,
    pattern_findings,
    saturation_findings,
    shadow_findings,
    spike_findings,
)
from stemvane.reduction.variation import RadialVariation, radial_variation

__all__ = ["Survey", "survey"]

_MAX_BYTES = 256 * 2**20
_NO_PIXELS = np.empty((0, 2), np.int64)
# the disc is looked for again with the patterns moved back, until it stays where it is
_N_ROUNDS = 3
# fewer frames tell the scatter of a pixel worse than its counts do
_FEW_FRAMES = 16
# hot pixels are told from Bragg discs by their size, in pixels of radius, and not at all below the second
_SMALL_DISC = 4.0
_TINY_DISC = 1.3
# a plane through fewer positions is mostly what the specimen does at these
_LEAST_FRAMES = 16
# step of the profile across the disc's edge, px
_PROFILE_STEP = 0.1


@dataclass(frozen=True, eq=False, repr=False)
class Survey(Representable):
    """What a strided look at a scan has found.

    Attributes
    ----------
    n_frames : int
        Patterns looked at.
    mean_pattern : ndarray of float64, shape (k_y, k_x)
        Mean of these patterns, in the unit of the data; bad pixels and dark level as recorded.
    typical_pattern : TypicalPattern, optional
        Mean of these patterns, each moved back by the beam's shift, without dark level; bad pixels filled.
    counts_mean, counts_min, counts_max : float
        Sum of a pattern.
    pixel_max : float
        Largest value of any pixel that is not known to be bad.
    n_empty : int
        Patterns without counts, or with NaN or infinity at a good pixel.
    hot_pixels, dead_pixels : ndarray of int, shape (n, 2)
        Positions ``(y, x)`` of pixels far above or below all that surrounds them; pixels that are NaN are dead.
    noise : DetectorNoise
        Dark level, readout noise and counts per electron.
    has_disc : bool
        Whether the bright-field disc has an edge that can be followed.
    disc_centre : tuple of float, optional
        Centre ``(y, x)`` of the disc in pixels, which is the optical axis as far as a scan can tell.
    disc_radius : float, optional
        Radius of the disc in pixel widths.
    disc_ellipse : tuple of float, optional
        Long over short axis of the ellipse that fits its edge, and the long one's direction in rad, counter-clockwise
        on the screen.
    shift : ShiftFit, optional
        Plane through the positions of the disc.
    curved_shift : ShiftFit, optional
        Surface of second order through them.
    variation : RadialVariation, optional
        How far out patterns differ by more than the noise of their counts.
    findings : tuple of Finding
        What the user should know of.
    """

    n_frames: int
    mean_pattern: NDArray[np.float64]
    counts_mean: float
    counts_min: float
    counts_max: float
    pixel_max: float
    typical_pattern: TypicalPattern | None = None
    n_empty: int = 0
    hot_pixels: NDArray[np.int64] = field(default_factory=_NO_PIXELS.copy)
    dead_pixels: NDArray[np.int64] = field(default_factory=_NO_PIXELS.copy)
    noise: DetectorNoise = field(default_factory=DetectorNoise)
    has_disc: bool = False
    disc_centre: tuple[float, float] | None = None
    disc_radius: float | None = None
    disc_ellipse: tuple[float, float] | None = None
    shift: ShiftFit | None = None
    curved_shift: ShiftFit | None = None
    variation: RadialVariation | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Findings, one line each."""
        return tuple(str(finding) for finding in self.findings)

    @property
    def beam_shift_along_y(self) -> tuple[float, float] | None:
        """How far the disc moves, ``(y, x)`` in pixels, from the first scan row to the last."""
        return None if self.shift is None else self.shift.coefficients[0]

    @property
    def beam_shift_along_x(self) -> tuple[float, float] | None:
        """How far the disc moves, ``(y, x)`` in pixels, from the first scan column to the last."""
        return None if self.shift is None else self.shift.coefficients[1]

    def _summary(self) -> tuple[str, Sequence[Row]]:
        disc = "none found"
        if self.has_disc:
            disc = f"centre {format_position(self.disc_centre)}, radius {format_quantity(self.disc_radius, 'px')}"
        counts = f"{self.counts_mean:.4g} per pattern ({self.counts_min:.4g} to {self.counts_max:.4g})"
        rows = [
            ("disc", disc),
            ("counts", f"{counts}, brightest pixel {self.pixel_max:.4g}"),
            ("hot, dead pixels", f"{len(self.hot_pixels)}, {len(self.dead_pixels)}"),
        ]
        if self.beam_shift_along_y is not None and self.beam_shift_along_x is not None:
            shifts = (np.hypot(*shift) for shift in (self.beam_shift_along_y, self.beam_shift_along_x))
            rows.append(("beam shift", "{:.3g} px along y, {:.3g} px along x".format(*shifts)))
        if self.noise.dark_level:
            rows.append(("dark level", f"{self.noise.dark_level:.4g} counts, noise {self.noise.readout:.3g}"))
        if np.isfinite(self.noise.counts_per_electron):
            rows.append(("counts per electron", f"{self.noise.counts_per_electron:.3g}"))
        if self.variation is not None:
            half = self.variation.half
            within = "" if half is None else f", half of it within {half:.3g} px"
            rows.append(("patterns differ", f"out to {self.variation.reach:.3g} px{within}"))
        rows += [(finding.severity, str(finding)) for finding in self.findings]
        return f"Survey of {self.n_frames} patterns", rows

    def complete(self, calibration: Calibration) -> Calibration:
        """Fill what a calibration lacks; known values stay.

        Parameters
        ----------
        calibration : Calibration
            What is known so far.

        Returns
        -------
        Calibration
            Calibration with optical axis and disc radius (px; from semi-angle and pixel size where both are known), and
            with the pixel size (mrad) where the semi-angle is known.

        Raises
        ------
        CalibrationError
            If the disc is needed and has not been found.
        """
        axis, radius = calibration.optical_axis, calibration.disc_radius
        angle, pixel = calibration.convergence_semiangle, calibration.pixel_size
        if radius is None and angle is not None and pixel is not None:
            radius = angle / pixel[1]
        if axis is None:
            axis = self._require(self.disc_centre, "optical_axis")
        if radius is None:
            radius = self._require(self.disc_radius, "disc_radius")
        if pixel is None and angle is not None:
            pixel = (angle / radius, angle / radius)
        return calibration.replace(optical_axis=axis, disc_radius=radius, pixel_size=pixel)

    @staticmethod
    def _require(value: Any, name: str) -> Any:
        if value is None:
            raise CalibrationError(
                f"no bright-field disc was found in the mean pattern, so {name} is unknown; "
                f"give source.{name} in pixels, or a mask of what is no part of the pattern (preparation.bad_pixels)"
            )
        return value


def survey(
    dataset: ScanLike,
    config: SurveyConfig | None = None,
    *,
    shift_region: tuple[int, int, int, int] | None = None,
) -> Survey:
    """Look at patterns at regular strides over the scan.

    Parameters
    ----------
    dataset : Dataset4D, array of four axes or HyperSpy signal
        Only the patterns looked at are read; of the calibration only the pixel size matters.
    config : SurveyConfig, optional
        How many patterns; fewer where they would not fit into 256 MB.
    shift_region : tuple of int, optional
        Probe positions ``(top, bottom, left, right)``, bottom and right not included, that the beam's shift is fitted
        to; all where left out.

    Returns
    -------
    Survey
        Damaged patterns do not stop it; they are left out where they must be, and noted.

    Raises
    ------
    DataError
        If the data are no scan, or hold numbers that no detector counts.
    """
    dataset = as_dataset(dataset, "survey")
    config = config or SurveyConfig()
    raw, positions = _look(dataset, config.n_frames)
    known, is_broken = _broken(raw, dataset.bad_pixels)
    require_counts(raw[~is_broken] if is_broken.any() else raw, dataset.name, "pixels")
    frames, positions = raw[~is_broken], positions[~is_broken]
    recorded, error = _moments(frames)
    noise = detector_noise(frames, known)
    level = noise.dark_level
    given = np.zeros_like(known) if dataset.bad_pixels is None else dataset.bad_pixels
    is_nan = known & ~given
    region = bright_rectangles(recorded - level, error, known=known, scatter=noise.dark_scatter)
    if region.any():
        disc, _, _ = _follow_disc(frames, positions, known | region, level, dataset, shift_region)
        # without a disc beside it, it is perhaps the lit part of the detector
        region &= disc is not None
        known = known | region
    hot, dead = bad_pixels(recorded - level, error, known=known, scatter=noise.dark_scatter)
    bad = known.copy()
    bad[tuple(np.concatenate([hot, dead]).T)] = True
    disc, shifts, typical = _follow_disc(frames, positions, bad, level, dataset, shift_region)
    if disc is None and len(hot):
        # what looks like a block of hot pixels may be the direct beam itself, where nothing else is a disc
        unmasked = known.copy()
        unmasked[tuple(dead.T)] = True
        disc, shifts, typical = _follow_disc(frames, positions, unmasked, level, dataset, shift_region)
        if disc is not None:
            hot, bad = hot[:0], unmasked
    n_spared = 0
    if disc is not None and len(hot):
        hot_only = _without_discs(hot, bad.shape, disc)
        n_spared = len(hot) - len(hot_only)
    if n_spared:
        bad[tuple(hot.T)] = False
        hot = hot_only
        bad[tuple(hot.T)] = True
        disc, shifts, typical = _follow_disc(frames, positions, bad, level, dataset, shift_region)
    variation = None
    if disc is not None:
        moves = _moves(shifts, positions, dataset)
        variation = radial_variation(frames, moves, bad, noise, disc, dataset.calibration.pixel_aspect)
    totals = _totals(raw, bad, level)
    survey_result = Survey(
        n_frames=len(raw),
        mean_pattern=recorded,
        typical_pattern=typical,
        counts_mean=float(totals.mean()),
        counts_min=float(totals.min()),
        counts_max=float(totals.max()),
        pixel_max=float(frames.max(axis=0)[~known].max(initial=0)) if frames.size else float("nan"),
        n_empty=int(is_broken.sum()),
        hot_pixels=np.concatenate([hot, np.argwhere(region)]),
        dead_pixels=np.concatenate([dead, np.argwhere(is_nan)]),
        noise=noise,
        has_disc=disc is not None,
        disc_centre=None if disc is None else disc.centre,
        disc_radius=None if disc is None else disc.radius,
        disc_ellipse=None if disc is None else disc.ellipse,
        shift=shifts[0],
        curved_shift=shifts[1],
        variation=variation,
    )
    findings = [
        *pattern_findings(len(raw), is_broken, frames, bad, level),
        *saturation_findings(frames, bad, disc, dataset.calibration.pixel_aspect),
        *disc_findings(disc, typical.image),
        *(
            list(shadow_findings(disc, recorded - level, error, bad, dataset.calibration.pixel_aspect))
            or patch_findings(disc, recorded - level, error, bad, dataset.calibration.pixel_aspect)
        ),
        *spike_findings(frames, positions, recorded - level, bad, disc, noise),
        *hidden_findings(disc, bad & ~given, dataset.calibration.pixel_aspect),
        *bright_spot_findings(n_spared),
        *bright_region_findings(region),
        *lone_region_findings(disc, typical.image, dataset.calibration),
        *calibration_findings(disc, dataset.calibration),
        *gain_findings(typical.image, error, bad),
    ]
    return replace(survey_result, findings=tuple(findings))


def _broken(frames: NDArray[Any], bad: NDArray[np.bool_] | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels known to be bad or NaN in most frames, and the frames that hold no counts or NaN elsewhere."""
    known = np.zeros(frames.shape[1:], bool) if bad is None else bad.copy()
    if frames.dtype.kind == "f":
        invalid = ~np.isfinite(frames)
        known |= invalid.mean(axis=0) > 0.5
        is_broken = (invalid & ~known).any(axis=(1, 2))
    else:
        is_broken = np.zeros(len(frames), bool)
    return known, is_broken | np.array([not frame[~known].any() for frame in frames], bool)


def _without_discs(hot: NDArray[np.int64], shape: tuple[int, ...], disc: Disc) -> NDArray[np.int64]:
    """Hot pixels less those that may be a crystal's discs: small ones, and ones that the detector's edge cuts."""
    if disc.radius < _TINY_DISC:
        return hot[:0]
    mask = np.zeros(shape, bool)
    mask[tuple(hot.T)] = True
    label, _ = ndimage.label(mask, np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        part = label[box] == number
        is_cut = any(side.start == 0 or side.stop == n for side, n in zip(box, shape, strict=True))
        is_small = max(part.shape) <= 2 * disc.radius + 2
        may_be_disc = disc.radius < _SMALL_DISC or (is_cut and disc.n_similar > 0)
        if part.sum() > 1 and is_small and may_be_disc:
            mask[box][part] = False
    return np.argwhere(mask)


def _moments(frames: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the frames and its standard error, pixel by pixel; NaN left out, zero where there is nothing else."""
    total, squares, n = np.zeros((3, *frames.shape[1:]))
    for frame in frames:
        valid = np.isfinite(frame)
        value = np.where(valid, frame, 0).astype(np.float64)
        total += value
        squares += value**2
        n += valid
    n = np.maximum(n, 1)
    mean = total / n
    variance = squares / n - mean**2
    # what is left by rounding is no scatter
    variance[variance < 1e-12 * squares / n] = 0.0
    if frames.dtype.kind in "ui" and len(frames) < _FEW_FRAMES:
        # so few tell little of the scatter, none at all where there is one, but that of electrons is known
        variance = np.maximum(variance, np.maximum(np.abs(mean), 1.0))
    return mean, np.sqrt(variance / n)


def _totals(frames: NDArray[Any], bad: NDArray[np.bool_], level: float) -> NDArray[np.float64]:
    """Sums of the good pixels without the dark level; NaN where there is no frame."""
    good = ~bad
    sums = np.array([frame[good].sum(dtype=np.float64) for frame in frames])
    finite = sums[np.isfinite(sums)] - level * good.sum()
    return finite if len(finite) and good.any() else np.array([np.nan])


def _follow_disc(
    frames: NDArray[Any],
    positions: NDArray[np.int64],
    bad: NDArray[np.bool_],
    level: float,
    dataset: Dataset4D,
    region: tuple[int, int, int, int] | None,
) -> tuple[Disc | None, tuple[ShiftFit | None, ShiftFit | None], TypicalPattern]:
    """The disc of the mean pattern and its way over the detector, each found with the help of the other."""
    aspect = dataset.calibration.pixel_aspect
    shift = None if dataset.beam_shift is None else BeamShift(dataset.beam_shift, dataset.scan_shape)
    fits: tuple[ShiftFit | None, ShiftFit | None] = (None, None)
    fill = FillWeights.of(bad)
    for _ in range(_N_ROUNDS):
        moves = np.zeros((len(frames), 2)) if shift is None else shift.at(*positions.T)
        typical = TypicalPattern(_aligned_mean(frames, moves, bad, level))
        disc = find_disc(typical.image, aspect)
        if disc is None or len(frames) < _LEAST_FRAMES or dataset.beam_shift is not None:
            break
        filled = (fill.fill(frame - np.float32(level)) for frame in frames)
        places, is_lit = disc_positions(filled, disc, aspect, moves)
        use = is_lit if region is None else is_lit & _inside(positions, region)
        plane, surface = (
            fit_shift(places[use], positions[use], dataset.scan_shape, curved=curved) for curved in (False, True)
        )
        fits = plane, surface
        fit = surface if surface is not None and surface.matters else plane
        if fit is None or not fit.matters:
            break
        shift = BeamShift(fit.coefficients, dataset.scan_shape)
        if np.abs(shift.at(*positions.T) - moves).max() < 0.05:
            break
    if disc is not None:
        typical = _with_profile(typical, frames, moves, bad, level, disc, aspect)
    return disc, fits, typical


def _moves(
    fits: tuple[ShiftFit | None, ShiftFit | None], positions: NDArray[np.int64], dataset: Dataset4D
) -> NDArray[np.float64]:
    """Shift of the beam in every frame in pixels, 0 where it does not matter."""
    matter = [fit.coefficients for fit in reversed(fits) if fit is not None and fit.matters]
    coefficients = dataset.beam_shift or (matter[0] if matter else None)
    if coefficients is None:
        return np.zeros((len(positions), 2))
    return BeamShift(coefficients, dataset.scan_shape).at(*positions.T)


def _with_profile(
    typical: TypicalPattern,
    frames: NDArray[Any],
    moves: NDArray[np.float64],
    bad: NDArray[np.bool_],
    level: float,
    disc: Disc,
    aspect: float,
) -> TypicalPattern:
    """Add the mean profile about the beam, finer than a pixel where the beam has been at many places between them."""
    parts = np.rint(moves / _PROFILE_STEP) * _PROFILE_STEP
    rows, columns = (n[~bad] for n in np.indices(bad.shape, dtype=float))
    n_bins = int(np.hypot(*bad.shape) * max(1.0, aspect) / _PROFILE_STEP) + 1
    total, weight = np.zeros((2, n_bins))
    for move in np.unique(parts, axis=0):
        group = (parts == move).all(axis=1)
        y, x = rows - disc.centre[0] - move[0], columns - disc.centre[1] - move[1]
        bins = np.minimum((np.hypot(y * aspect, x) / _PROFILE_STEP).astype(int), n_bins - 1)
        values = frames[group].sum(axis=0, dtype=np.float64)[~bad] - group.sum() * level
        total += np.bincount(bins, values, n_bins)
        weight += np.bincount(bins, minlength=n_bins) * group.sum()
    filled = np.flatnonzero(weight)
    profile = np.interp(np.arange(n_bins), filled, total[filled] / weight[filled])
    return replace(typical, centre=disc.centre, profile=profile, step=_PROFILE_STEP, aspect=aspect)


def _inside(positions: NDArray[np.int64], region: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    top, bottom, left, right = region
    rows, columns = positions.T
    return np.asarray((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))


def _aligned_mean(
    frames: NDArray[Any], moves: NDArray[np.float64], bad: NDArray[np.bool_], level: float
) -> NDArray[np.float64]:
    """Mean of frames moved back, of what their good pixels hold; pixels that nothing tells of are filled."""
    total, weight = np.zeros((2, *bad.shape))
    good = (~bad).astype(float)
    parts = np.rint(moves * 4)
    for part in np.unique(parts, axis=0):
        group = (parts == part).all(axis=1)
        mean = np.where(bad, 0.0, frames[group].sum(axis=0, dtype=np.float64) - group.sum() * level)
        # both moved alike, so that a bad pixel takes nothing from its neighbours
        if part.any():
            mean, count = (ndimage.shift(a, -part / 4, order=1, mode="constant") for a in (mean, good))
        else:
            count = good
        total += mean
        weight += group.sum() * count
    unseen = weight < 0.25 * len(frames) if len(frames) else np.ones(bad.shape, bool)
    unseen &= weight < 0.25 * weight.max(initial=1)
    return fill_pattern(total / np.maximum(weight, 1e-9), unseen)


def _look(dataset: Dataset4D, n_frames: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Patterns ``(n, k_y, k_x)`` at regular strides, and their scan positions ``(n, 2)``."""
    strides = _strides(dataset, n_frames)
    with reading_lazily(f"{dataset.name}: the patterns"):
        strided = dataset.data[strides]
        frames = np.asarray(strided.compute())
        if frames.shape != strided.shape:
            raise ValueError(f"they have the shape {frames.shape}, and {strided.shape} was promised")
        frames = frames.reshape(-1, *dataset.detector_shape)
    places = (np.arange(n)[stride] for n, stride in zip(dataset.scan_shape, strides, strict=True))
    positions = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, 2)
    if dataset.missing is not None and not dataset.missing[strides].all():
        recorded = ~dataset.missing[strides].ravel()
        frames, positions = frames[recorded], positions[recorded]
    return frames, positions


def _strides(dataset: Dataset4D, n_frames: int) -> tuple[slice, slice]:
    """Strided slices along both scan axes, centred, with about `n_frames` crossings."""
    pattern_bytes = dataset.data.dtype.itemsize * dataset.detector_shape[0] * dataset.detector_shape[1]
    n_wanted = min(n_frames, max(1, _MAX_BYTES // pattern_bytes))
    rows, columns = dataset.scan_shape
    # a narrow scan gives what it has, the other axis makes up for it
    n_rows = min(rows, max(1.0, np.sqrt(n_wanted * rows / columns)))
    n_columns = min(columns, max(1.0, n_wanted / n_rows))
    n_rows = min(rows, max(1.0, n_wanted / n_columns))
    slices = []
    for size, n in ((rows, n_rows), (columns, n_columns)):
        step = max(1, round(size / n))
        slices.append(slice((size - 1) % step // 2, size, step))
    return slices[0], slices[1]
