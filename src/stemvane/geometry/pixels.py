"""Cartesian patterns: area-true samples on a square around the optical axis, without the detector's distortions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stemvane.errors import CalibrationError
from stemvane.geometry.overlap import SampleWeights, square_overlaps
from stemvane.geometry.polar import PolarGrid, plane_of_pixels

__all__ = ["PixelGrid"]

# points along each side of a sample that polar patterns are interpolated at
_POINTS = 4


@dataclass(frozen=True, repr=False)
class PixelGrid:
    """Equal square samples around the optical axis, the first at the top left.

    They are squares in the plane without distortion, so that detector pixels that are not square, or an elliptical
    distortion, do not distort the patterns.

    Parameters
    ----------
    axis : tuple of float
        Optical axis ``(y, x)`` in detector pixels; the square's centre.
    half_width : float
        Half the square's side in pixel widths.
    n : int
        Samples along each side.
    aspect : float
        Height of a detector pixel divided by its width.
    ellipse : tuple of float, optional
        Elliptical distortion that is undone, as in `PolarGrid`.

    Raises
    ------
    CalibrationError
        If a number is impossible.
    """

    axis: tuple[float, float]
    half_width: float
    n: int
    aspect: float = 1.0
    ellipse: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not (0 < self.half_width < np.inf and np.all(np.isfinite(self.axis)) and self.aspect > 0 and self.n > 0):
            raise CalibrationError(
                f"{self.n} x {self.n} samples within {self.half_width} pixels of {self.axis} are impossible; "
                "check axis and disc radius"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON; an ellipse only where there is one."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PixelGrid:
        """Build a grid from the mapping that `to_dict` returns."""
        parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**parts)

    def __repr__(self) -> str:
        y, x = self.axis
        shape = "" if self.ellipse is None else f", ellipse {self.ellipse[0]:.4f}"
        return (
            f"PixelGrid: {self.n} × {self.n} samples around ({y:.4g}, {x:.4g}) px, "
            f"half a side {self.half_width:.4g} px{shape}"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, ``(n, n)``."""
        return self.n, self.n

    @property
    def sample_width(self) -> float:
        """Side of a sample in pixel widths."""
        return 2 * self.half_width / self.n

    @property
    def sample_area(self) -> float:
        """Area of a sample in detector pixels."""
        return self.sample_width**2 / self.aspect

    def weights(self, detector_shape: tuple[int, int], valid: NDArray[np.bool_] | None = None) -> SampleWeights:
        """Overlap areas of every detector pixel with every sample, exact for pixels of any shape.

        Parameters
        ----------
        detector_shape : tuple of int
            Detector pixels ``(k_y, k_x)``.
        valid : ndarray of bool, shape (k_y, k_x), optional
            True where a pixel counts. A sample is the mean over its recorded area. One on the detector without any is
            the mean of the samples that share an edge with it; what is farther inside a hole follows from these, step
            by step. ``area`` is 0 in it. One beyond the detector is 0.

        Returns
        -------
        SampleWeights
        """
        counts, sample, area = self._overlaps(detector_shape, valid)
        total = np.asarray(np.bincount(sample, area, self.n**2), dtype=np.float64)
        weight = area / np.where(total > 0, total, 1.0)[sample]
        if valid is not None and not np.all(valid):
            _, on_detector, _ = self._overlaps(detector_shape, None)
            lost = np.bincount(on_detector, minlength=self.n**2) * (total == 0) > 0
            pixel = np.repeat(np.arange(len(counts)), counts)
            matrix = sparse.csr_array((weight, (sample, pixel)), shape=(self.n**2, len(counts)))
            by_pixel = self._fill(matrix, total > 0, lost).tocsc()
            counts, sample, weight = np.diff(by_pixel.indptr), by_pixel.indices.astype(np.int64), by_pixel.data
        return SampleWeights.of(counts, sample, weight, total.reshape(self.n, self.n))

    def _fill(self, matrix: sparse.csr_array, filled: NDArray[np.bool_], lost: NDArray[np.bool_]) -> sparse.csr_array:
        """Let each lost sample be the mean of its filled neighbours, from the edge of a hole to its middle."""
        step = sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(self.n, self.n))
        here = sparse.eye_array(self.n)
        beside = sparse.csr_array(sparse.kron(step, here) + sparse.kron(here, step))
        while True:
            n_filled = beside @ filled.astype(float)
            ready = lost & ~filled & (n_filled > 0)
            if not ready.any():
                return matrix
            share = np.where(ready, 1 / np.maximum(n_filled, 1), 0.0)
            mean = sparse.diags_array(share) @ beside @ sparse.diags_array(filled.astype(float))
            matrix = matrix + mean @ matrix
            filled = filled | ready

    def from_polar(self, grid: PolarGrid) -> sparse.csr_array:
        """Matrix from flattened polar patterns to flattened Cartesian ones.

        Parameters
        ----------
        grid : PolarGrid
            Grid of the polar patterns. Both grids have their own optical axis as origin, in pixel widths.

        Returns
        -------
        scipy.sparse.csr_array, shape (n * n, n_radial * n_azimuthal)
            A sample is the mean over 4 x 4 points in it, each interpolated as `PolarGrid.to_cartesian` does; points
            beyond the outermost ring do not count, and a sample that lies wholly beyond it is 0.
        """
        places = (np.arange(self.n * _POINTS) + 0.5) * self.sample_width / _POINTS - self.half_width
        down, right = np.meshgrid(places, places, indexing="ij")
        sample, share, inside = grid.interpolation(right, -down)
        row, column = np.indices(right.shape) // _POINTS
        target = row * self.n + column
        points = np.bincount(target[inside], minlength=self.n**2)
        of_point = np.broadcast_to(target, share.shape)[:, inside]
        return sparse.csr_array(
            ((share[:, inside] / points[of_point]).ravel(), (of_point.ravel(), sample[:, inside].ravel())),
            shape=(self.n**2, grid.n_radial * grid.n_azimuthal),
        )

    def to_detector(self, patterns: NDArray[np.floating[Any]], detector_shape: tuple[int, int]) -> NDArray[np.float64]:
        """Paint patterns on the detector's pixels.

        Parameters
        ----------
        patterns : ndarray of float, shape (..., n, n)
            Mean intensity per pixel area of each sample.
        detector_shape : tuple of int
            Detector pixels ``(k_y, k_x)``.

        Returns
        -------
        ndarray of float, shape (..., k_y, k_x)
            Mean intensity per pixel: the samples that a pixel overlaps, weighted by the areas of overlap; NaN where
            the pixel's centre lies outside the square.
        """
        counts, sample, area = self._overlaps(detector_shape, None)
        n_pixels = detector_shape[0] * detector_shape[1]
        pixel = np.repeat(np.arange(n_pixels), counts)
        covered = np.bincount(pixel, area, n_pixels)
        paint = sparse.csr_array((area / covered[pixel], (pixel, sample)), shape=(n_pixels, self.n**2))
        patterns = np.asarray(patterns, np.float64)
        painted = (paint @ patterns.reshape(-1, self.n**2).T).T.reshape(*patterns.shape[:-2], *detector_shape)
        rows, columns = np.indices(detector_shape, dtype=float)
        plane = plane_of_pixels(self.aspect, self.ellipse)
        places = np.tensordot(plane, np.stack([columns - self.axis[1], self.axis[0] - rows]), axes=1)
        return np.where(np.abs(places).max(axis=0) <= self.half_width, painted, np.nan)

    def _overlaps(
        self, detector_shape: tuple[int, int], valid: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Entries per pixel; sample, and area in pixels, of each entry."""
        counted = np.ones(detector_shape, bool) if valid is None else np.asarray(valid, bool)
        plane = plane_of_pixels(self.aspect, self.ellipse)
        counts, sample, area = square_overlaps(*detector_shape, *self.axis, plane, self.half_width, self.n, counted)
        return counts, sample, area
