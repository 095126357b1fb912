"""The survey: what a strided look at some hundred patterns finds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.config import SurveyConfig
from stemvane.data.arguments import ScanLike, as_dataset
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D, reading_lazily
from stemvane.data.representation import Representable, Row, format_position, format_quantity
from stemvane.errors import CalibrationError
from stemvane.geometry.disc import Disc, find_disc

__all__ = ["Survey", "survey"]

_MAX_BYTES = 512 * 2**20
_NO_PIXELS = np.empty((0, 2), np.int64)


@dataclass(frozen=True, eq=False, repr=False)
class Survey(Representable):
    """What a strided look at a scan has found.

    Attributes
    ----------
    n_frames : int
        Patterns looked at.
    mean_pattern : ndarray of float64, shape (k_y, k_x)
        Mean of these patterns, in the unit of the data; hot and dead pixels as recorded.
    counts_mean, counts_min, counts_max : float
        Sum of a pattern.
    pixel_max : float
        Largest value of any pixel.
    hot_pixels, dead_pixels : ndarray of int, shape (n, 2)
        Positions ``(y, x)`` of pixels far above or below all their neighbours.
    has_disc : bool
        Whether the bright-field disc has an edge that can be followed.
    disc_centre : tuple of float, optional
        Centre ``(y, x)`` of the disc in pixels, which is the optical axis as far as a scan can tell.
    disc_radius : float, optional
        Radius of the disc in pixel widths.
    disc_ellipse : tuple of float, optional
        Long over short axis of the ellipse that fits its edge, and the long one's direction in rad, counter-clockwise
        on the screen.
    beam_shift_along_y, beam_shift_along_x : tuple of float, optional
        How far the disc moves, ``(y, x)`` in pixels, from the first scan row to the last, and from the first column
        to the last.
    notes : tuple of str
        What the user should know of, one line each.
    """

    n_frames: int
    mean_pattern: NDArray[np.float64]
    counts_mean: float
    counts_min: float
    counts_max: float
    pixel_max: float
    hot_pixels: NDArray[np.int64] = field(default_factory=_NO_PIXELS.copy)
    dead_pixels: NDArray[np.int64] = field(default_factory=_NO_PIXELS.copy)
    has_disc: bool = False
    disc_centre: tuple[float, float] | None = None
    disc_radius: float | None = None
    disc_ellipse: tuple[float, float] | None = None
    beam_shift_along_y: tuple[float, float] | None = None
    beam_shift_along_x: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

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
        rows += [("note", note) for note in self.notes]
        return f"Survey of {self.n_frames} patterns", rows

    def corrections(self) -> dict[str, Any]:
        """What `correct_patterns` takes of it."""
        shift = self.beam_shift_along_y, self.beam_shift_along_x
        return {
            "hot_pixels": self.hot_pixels,
            "dead_pixels": self.dead_pixels,
            "beam_shift": None if None in shift else shift,
            "disc_ellipse": self.disc_ellipse,
        }

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
                f"give source.{name} in pixels"
            )
        return value


def survey(dataset: ScanLike, config: SurveyConfig | None = None) -> Survey:
    """Look at patterns at regular strides over the scan.

    Parameters
    ----------
    dataset : Dataset4D, array of four axes or HyperSpy signal
        Only the patterns looked at are read; of the calibration only the pixel size matters.
    config : SurveyConfig, optional
        How many patterns; fewer where they would not fit into 512 MB.

    Returns
    -------
    Survey
        Damaged patterns do not stop it; they are left out where they must be, and noted.

    Raises
    ------
    DataError
        If the data are no scan.
    """
    dataset = as_dataset(dataset, "survey")
    config = config or SurveyConfig()
    frames, positions = _look(dataset, config.n_frames)
    finite = np.array([bool(np.isfinite(frame).all()) for frame in frames])
    notes = _complaints(frames, finite)
    mean, error = _moments(frames, finite)
    hot, dead = bad_pixels(mean, error)
    bad = np.zeros(mean.shape, bool)
    bad[tuple(np.concatenate([hot, dead]).T)] = True
    disc = find_disc(_mend(mean, bad), dataset.calibration.pixel_aspect)
    if disc is None:
        notes.append("no bright-field disc was found; give source.optical_axis and source.disc_radius in pixels")
    else:
        notes += _contradictions(disc, dataset.calibration)
    shifts = None if disc is None else _beam_shift(frames[finite], positions[finite], disc, bad, dataset)
    sums = frames[finite].sum(axis=(1, 2), dtype=np.float64) if finite.any() else np.array([np.nan])
    return Survey(
        n_frames=len(frames),
        mean_pattern=mean,
        counts_mean=float(sums.mean()),
        counts_min=float(sums.min()),
        counts_max=float(sums.max()),
        pixel_max=float(frames[finite].max()) if finite.any() else float("nan"),
        hot_pixels=hot,
        dead_pixels=dead,
        has_disc=disc is not None,
        disc_centre=None if disc is None else disc.centre,
        disc_radius=None if disc is None else disc.radius,
        disc_ellipse=None if disc is None else disc.ellipse,
        beam_shift_along_y=None if shifts is None else shifts[0],
        beam_shift_along_x=None if shifts is None else shifts[1],
        notes=tuple(notes),
    )


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


def _complaints(frames: NDArray[Any], finite: NDArray[np.bool_]) -> list[str]:
    notes = []
    if not finite.all():
        notes.append(f"{int((~finite).sum())} of {len(frames)} patterns hold NaN or infinity")
    n_empty = sum(not frame.any() for frame in frames)
    if n_empty:
        notes.append(f"{n_empty} of {len(frames)} patterns are empty")
    n_negative = sum(bool(np.nanmin(frame) < 0) for frame, good in zip(frames, finite, strict=True) if good)
    if n_negative:
        notes.append(f"{n_negative} of {len(frames)} patterns hold negative values")
    return notes + _saturation(frames[finite])


def _saturation(frames: NDArray[Any]) -> list[str]:
    """Pixels at the largest number that their type holds, or values that pile up at the largest that is found."""
    if not frames.size:
        return []
    highest = frames.max()
    at_highest = frames == highest
    n_pixels = int(at_highest.any(axis=0).sum())
    if frames.dtype.kind in "ui" and highest == np.iinfo(frames.dtype).max:
        return [f"{n_pixels} pixels reach {highest}, the largest {frames.dtype} there is: saturated, or masked"]
    # counts thin out towards their largest value; a counter that is full has most of them there
    just_below = int(((frames >= 0.9 * highest) & ~at_highest).sum())
    if highest >= 32 and n_pixels >= 4 and int(at_highest.sum()) > max(8, just_below):
        return [f"{n_pixels} pixels stop at {highest}: the detector saturates there"]
    return []


def _moments(frames: NDArray[Any], finite: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the frames and its standard error, pixel by pixel; zero where no frame has a finite value."""
    total, squares, n = np.zeros((3, *frames.shape[1:]))
    for frame, good in zip(frames, finite, strict=True):
        valid = True if good else np.isfinite(frame)
        value = np.where(valid, frame, 0.0)
        total += value
        squares += value**2
        n += valid
    n = np.maximum(n, 1)
    mean = total / n
    return mean, np.sqrt(np.maximum(squares / n - mean**2, 0.0) / n)


def bad_pixels(
    mean: NDArray[np.float64], error: NDArray[np.float64], n_sigma: float = 6.0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find hot and dead pixels in a mean pattern.

    A hot pixel is above twice the third-brightest of its eight neighbours, and a dead one below half the third-darkest,
    both beyond the noise. No edge of a disc does that to a pixel, and two bad pixels side by side are still found.

    Parameters
    ----------
    mean : ndarray of float, shape (k_y, k_x)
        Mean pattern.
    error : ndarray of float, shape (k_y, k_x)
        Standard error of the mean, as the patterns scatter.
    n_sigma : float
        How far beyond the noise.

    Returns
    -------
    hot, dead : ndarray of int, shape (n, 2)
        Positions ``(y, x)``.
    """
    around = np.ones((3, 3), bool)
    around[1, 1] = False
    bright = ndimage.rank_filter(mean, -3, footprint=around, mode="mirror")
    # beyond the border nothing is bright: the edge of a disc there would look like dead pixels otherwise
    dark = ndimage.rank_filter(mean, 2, footprint=around, mode="constant", cval=0.0)
    # a pixel that never fired has no scatter of its own: its neighbours know how many counts to expect
    noise = n_sigma * np.hypot(error, ndimage.median_filter(error, footprint=around, mode="mirror"))
    noise = np.maximum(noise, 1e-6 * np.abs(mean).max())
    return np.argwhere(mean - 2 * bright > noise), np.argwhere(0.5 * dark - mean > noise)


def _mend(mean: NDArray[np.float64], bad: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Replace bad pixels by the median of their good neighbours."""
    if not bad.any():
        return mean
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # neighbourhoods without a good pixel give NaN
        median = ndimage.generic_filter(np.where(bad, np.nan, mean), np.nanmedian, size=3, mode="mirror")
    return np.where(bad & np.isfinite(median), median, mean)


def _contradictions(disc: Disc, calibration: Calibration) -> list[str]:
    notes = []
    expected = calibration.disc_radius
    if expected is None and calibration.convergence_semiangle is not None and calibration.pixel_size is not None:
        expected = calibration.convergence_semiangle / calibration.pixel_size[1]
    if expected is not None and abs(expected - disc.radius) > max(0.5, 0.05 * disc.radius):
        notes.append(f"the disc's radius is {disc.radius:.2f} px, the calibration says {expected:.2f} px")
    axis = calibration.optical_axis
    if axis is not None and np.hypot(axis[0] - disc.centre[0], axis[1] - disc.centre[1]) > max(0.5, 0.05 * disc.radius):
        notes.append(
            f"the disc's centre is ({disc.centre[0]:.2f}, {disc.centre[1]:.2f}) px, "
            f"the calibration says ({axis[0]:.2f}, {axis[1]:.2f}) px"
        )
    return notes


def _beam_shift(
    frames: NDArray[Any], positions: NDArray[np.int64], disc: Disc, bad: NDArray[np.bool_], dataset: Dataset4D
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Fit a plane to the bright field's COM against the scan position, dropping outliers."""
    rows, columns = np.indices(bad.shape, dtype=float)
    up, right = (rows - disc.centre[0]) * dataset.calibration.pixel_aspect, columns - disc.centre[1]
    radius = np.hypot(up, right)
    near = (radius < 1.25 * disc.radius + 1) & ~bad
    weights = np.stack([near, near * (rows - disc.centre[0]), near * (columns - disc.centre[1])])
    sums = np.array([np.tensordot(weights, frame, axes=2) for frame in frames]).reshape(-1, 3)
    # what lies beyond the disc does not move with it, and would pull its COM to the middle
    beyond = (radius > 1.1 * disc.radius + 1) & (radius < 1.5 * disc.radius + 2) & ~bad
    if len(frames) and beyond.any():
        sums -= np.median(frames.mean(axis=0)[beyond]) * weights.sum(axis=(1, 2))
    lit = sums[:, 0] > 0
    com = sums[lit, 1:] / sums[lit, :1]
    last = np.array(dataset.scan_shape) - 1
    # from 0 to 1 over the scan, so that the slope is the shift over the whole of it; a single row or column has none
    place = (positions[lit] - last / 2) / np.maximum(last, 1)
    design = np.column_stack([np.ones(len(place)), place])
    keep = np.ones(len(com), bool)
    slopes = np.zeros((3, 2))
    for _ in range(4):
        if keep.sum() < 4:
            return None
        slopes = np.linalg.lstsq(design[keep], com[keep], rcond=None)[0]
        distance = np.linalg.norm(com - design @ slopes, axis=1)
        keep = distance <= max(4 * float(np.median(distance)), 1e-9)
    (yy, yx), (xy, xx) = slopes[1:].tolist()
    return (yy, yx), (xy, xx)
