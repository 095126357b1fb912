"""Exact overlap areas of detector pixels with rings and sectors, or with squares, around the optical axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["SampleWeights", "pixel_overlaps", "square_overlaps"]


@dataclass(frozen=True, eq=False)
class SampleWeights:
    """Overlap areas of detector pixels and samples, sorted by pixel.

    Attributes
    ----------
    indptr : ndarray of int32, shape (n_pixels + 1,)
        Entries ``indptr[p]:indptr[p + 1]`` belong to pixel ``p`` (row-major).
    sample : ndarray of int32
        Sample of each entry, counted row by row of ``area``: for polar samples ``ring * n_azimuthal + azimuth``.
    weight : ndarray of float32
        Overlap area divided by the recorded area of the sample, so that a sample is a mean over its area.
    area : ndarray of float64, shape (n_radial, n_azimuthal) or (n, n)
        Recorded area of each sample in pixels.
    """

    indptr: NDArray[np.int32]
    sample: NDArray[np.int32]
    weight: NDArray[np.float32]
    area: NDArray[np.float64]

    @property
    def pixel(self) -> NDArray[np.int64]:
        """Pixel of each entry, row-major."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    @property
    def overlap(self) -> NDArray[np.float64]:
        """Area that pixel and sample of each entry have in common, in pixels."""
        return np.asarray(self.weight * self.area.ravel()[self.sample])

    @classmethod
    def of(
        cls, counts: NDArray[np.int64], sample: NDArray[np.int64], weight: NDArray[np.float64], area: NDArray[Any]
    ) -> SampleWeights:
        """Weights from the number of entries of each pixel, and sample and weight of each entry."""
        return cls(
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            sample=sample.astype(np.int32),
            weight=weight.astype(np.float32),
            area=np.asarray(area, np.float64),
        )


@numba.njit(cache=True)
def _cut(x: Any, y: Any, n: int, a: float, b: float, c: float, out_x: Any, out_y: Any) -> int:
    """Keep the part of a polygon where ``a * x + b * y >= c``; returns the number of corners."""
    m = 0
    for i in range(n):
        j = (i + 1) % n
        at_start, at_end = a * x[i] + b * y[i] - c, a * x[j] + b * y[j] - c
        if at_start >= 0:
            out_x[m], out_y[m] = x[i], y[i]
            m += 1
        if (at_start > 0 and at_end < 0) or (at_start < 0 and at_end > 0):
            t = at_start / (at_start - at_end)
            out_x[m], out_y[m] = x[i] + t * (x[j] - x[i]), y[i] + t * (y[j] - y[i])
            m += 1
    return m


@numba.njit(cache=True)
def _wedge_area(x0: float, y0: float, x1: float, y1: float, radius: float) -> Any:
    """Signed area of the triangle (origin, p0, p1) within a circle around the origin."""
    dx, dy = x1 - x0, y1 - y0
    length2 = dx * dx + dy * dy
    if length2 == 0.0:
        return 0.0
    along = -(x0 * dx + y0 * dy) / length2
    miss2 = (x0 + along * dx) ** 2 + (y0 + along * dy) ** 2
    r2 = radius * radius
    if miss2 >= r2:
        return 0.5 * r2 * np.arctan2(x0 * y1 - x1 * y0, x0 * x1 + y0 * y1)
    half = np.sqrt((r2 - miss2) / length2)
    t0, t1 = max(0.0, along - half), min(1.0, along + half)
    if t0 >= t1:
        return 0.5 * r2 * np.arctan2(x0 * y1 - x1 * y0, x0 * x1 + y0 * y1)
    ax, ay, bx, by = x0 + t0 * dx, y0 + t0 * dy, x0 + t1 * dx, y0 + t1 * dy
    area = 0.5 * (ax * by - bx * ay)
    # an end inside the circle adds no arc; its angle would be rounding noise where it lies on the origin
    if t0 > 0.0:
        area += 0.5 * r2 * np.arctan2(x0 * ay - ax * y0, x0 * ax + y0 * ay)
    if t1 < 1.0:
        area += 0.5 * r2 * np.arctan2(bx * y1 - x1 * by, bx * x1 + by * y1)
    return area


@numba.njit(cache=True)
def _disc_area(x: Any, y: Any, n: int, radius: float) -> Any:
    """Area of a polygon within a circle around the origin."""
    if radius <= 0.0:
        return 0.0
    area = 0.0
    for i in range(n):
        j = (i + 1) % n
        area += _wedge_area(x[i], y[i], x[j], y[j], radius)
    return area


@numba.njit(cache=True)
def pixel_overlaps(
    rows: int,
    columns: int,
    axis_y: float,
    axis_x: float,
    shape: Any,
    outer: float,
    n_radial: int,
    n_azimuthal: int,
    valid: Any,
) -> Any:
    """Overlap areas, pixel by pixel: entries per pixel, sample of each entry, area in pixels of each entry.

    ``shape`` is the matrix that takes ``(columns to the right, rows up)`` to a place in the plane, ``(right, up)``.
    """
    counts = np.zeros(rows * columns, np.int64)
    samples = [np.int64(0) for _ in range(0)]
    areas = [np.float64(0) for _ in range(0)]
    width, step = outer / n_radial, 2 * np.pi / n_azimuthal
    pixel_area = abs(shape[0, 0] * shape[1, 1] - shape[0, 1] * shape[1, 0])
    reach = 0.5 * max(
        np.hypot(shape[0, 0] + shape[0, 1], shape[1, 0] + shape[1, 1]),
        np.hypot(shape[0, 0] - shape[0, 1], shape[1, 0] - shape[1, 1]),
    )
    # corners counter-clockwise
    corner_x, corner_y = np.array([-0.5, 0.5, 0.5, -0.5]), np.array([-0.5, -0.5, 0.5, 0.5])
    ax, ay = np.empty(16), np.empty(16)
    bx, by = np.empty(16), np.empty(16)
    cx, cy = np.empty(16), np.empty(16)
    for row in range(rows):
        for column in range(columns):
            if not valid[row, column]:
                continue
            right = shape[0, 0] * (column - axis_x) - shape[0, 1] * (row - axis_y)
            up = shape[1, 0] * (column - axis_x) - shape[1, 1] * (row - axis_y)
            distance = np.hypot(right, up)
            first = max(0, int(np.floor((distance - reach) / width)))
            last = min(n_radial - 1, int(np.floor((distance + reach) / width)))
            if first > last:
                continue
            for i in range(4):
                ax[i] = right + shape[0, 0] * corner_x[i] + shape[0, 1] * corner_y[i]
                ay[i] = up + shape[1, 0] * corner_x[i] + shape[1, 1] * corner_y[i]
            spread = np.pi if distance <= reach else np.arcsin(reach / distance)
            middle = np.arctan2(up, right)
            low = int(np.floor((middle - spread) / step + 0.5))
            high = int(np.floor((middle + spread) / step + 0.5))
            if high - low >= n_azimuthal:
                high = low + n_azimuthal - 1
            for sector in range(low, high + 1):
                start, stop = (sector - 0.5) * step, (sector + 0.5) * step
                n = _cut(ax, ay, corner_x.size, -np.sin(start), np.cos(start), 0.0, bx, by)
                n = _cut(bx, by, n, np.sin(stop), -np.cos(stop), 0.0, cx, cy)
                if n < 3:
                    continue
                inside = _disc_area(cx, cy, n, first * width)
                for ring in range(first, last + 1):
                    within = _disc_area(cx, cy, n, (ring + 1) * width)
                    area = (within - inside) / pixel_area
                    inside = within
                    if area > 1e-9:
                        samples.append(np.int64(ring * n_azimuthal + sector % n_azimuthal))
                        areas.append(area)
                        counts[row * columns + column] += 1
    return counts, np.array(samples), np.array(areas)


@numba.njit(cache=True)
def _polygon_area(x: Any, y: Any, n: int) -> float:
    """Area of a polygon whose corners go counter-clockwise."""
    area = 0.0
    for i in range(n):
        j = (i + 1) % n
        area += 0.5 * (x[i] * y[j] - x[j] * y[i])
    return area


@numba.njit(cache=True)
def square_overlaps(
    rows: int, columns: int, axis_y: float, axis_x: float, shape: Any, half_width: float, n: int, valid: Any
) -> Any:
    """Overlap areas with ``n`` x ``n`` equal squares, row by row from the top left, as `pixel_overlaps` gives them."""
    counts = np.zeros(rows * columns, np.int64)
    samples = [np.int64(0) for _ in range(0)]
    areas = [np.float64(0) for _ in range(0)]
    width = 2 * half_width / n
    pixel_area = abs(shape[0, 0] * shape[1, 1] - shape[0, 1] * shape[1, 0])
    reach_right = 0.5 * (abs(shape[0, 0]) + abs(shape[0, 1]))
    reach_up = 0.5 * (abs(shape[1, 0]) + abs(shape[1, 1]))
    # corners counter-clockwise
    corner_x, corner_y = np.array([-0.5, 0.5, 0.5, -0.5]), np.array([-0.5, -0.5, 0.5, 0.5])
    ax, ay = np.empty(16), np.empty(16)
    bx, by = np.empty(16), np.empty(16)
    cx, cy = np.empty(16), np.empty(16)
    dx, dy = np.empty(16), np.empty(16)
    for row in range(rows):
        for column in range(columns):
            if not valid[row, column]:
                continue
            right = shape[0, 0] * (column - axis_x) - shape[0, 1] * (row - axis_y)
            up = shape[1, 0] * (column - axis_x) - shape[1, 1] * (row - axis_y)
            leftmost = max(0, int(np.floor((right - reach_right + half_width) / width)))
            last = min(n - 1, int(np.floor((right + reach_right + half_width) / width)))
            top = max(0, int(np.floor((half_width - up - reach_up) / width)))
            bottom = min(n - 1, int(np.floor((half_width - up + reach_up) / width)))
            if leftmost > last or top > bottom:
                continue
            for i in range(4):
                ax[i] = right + shape[0, 0] * corner_x[i] + shape[0, 1] * corner_y[i]
                ay[i] = up + shape[1, 0] * corner_x[i] + shape[1, 1] * corner_y[i]
            for j in range(top, bottom + 1):
                upper, lower = half_width - j * width, half_width - (j + 1) * width
                in_row = _cut(ax, ay, corner_x.size, 0.0, -1.0, -upper, bx, by)
                in_row = _cut(bx, by, in_row, 0.0, 1.0, lower, cx, cy)
                if in_row < 3:
                    continue
                for i in range(leftmost, last + 1):
                    start, stop = i * width - half_width, (i + 1) * width - half_width
                    m = _cut(cx, cy, in_row, 1.0, 0.0, start, bx, by)
                    m = _cut(bx, by, m, -1.0, 0.0, -stop, dx, dy)
                    area = _polygon_area(dx, dy, m) / pixel_area
                    if area > 1e-9:
                        samples.append(np.int64(j * n + i))
                        areas.append(area)
                        counts[row * columns + column] += 1
    return counts, np.array(samples), np.array(areas)
