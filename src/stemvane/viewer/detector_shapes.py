"""Virtual detectors as they are dragged on the pattern: a shape and a few numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stemvane.data.calibration import Calibration
from stemvane.errors import DataError
from stemvane.reduction.virtual_detectors import VirtualDetector

__all__ = ["SHAPES", "DetectorShape", "preset_shapes"]

SHAPES = ("point", "disc", "annulus", "rectangle", "wedge")
# points along each side of a pixel that a wedge's edge is sampled at
_POINTS = 5


@dataclass(frozen=True)
class DetectorShape:
    """A virtual detector.

    Attributes
    ----------
    shape : str
        ``point``, ``disc``, ``annulus``, ``rectangle`` or ``wedge``.
    y, x : float
        Centre in pixels; the centre of the first pixel is 0.
    inner, outer : float
        Radii in pixel widths; half the width of a rectangle is `outer`, half its height `inner`.
    start, stop : float
        Directions that bound a wedge, counter-clockwise from `start` to `stop`, in degrees; 0 is to the right.
    signal : str
        ``sum`` of the intensity, or ``com``, its centre of mass.
    """

    shape: str
    y: float
    x: float
    inner: float = 0.0
    outer: float = 1.0
    start: float = 0.0
    stop: float = 90.0
    signal: str = "sum"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a detector of words or numbers, such as those of an address.

        Parameters
        ----------
        values : mapping
            Attributes by their names; others are left out.

        Raises
        ------
        DataError
            If something is missing, no finite number, or encloses nothing.
        """
        words = {name: str(values.get(name, default)) for name, default in (("shape", ""), ("signal", "sum"))}
        if words["shape"] not in SHAPES or words["signal"] not in ("sum", "com"):
            raise DataError(
                f"no virtual detector is a {words['shape']!r} of {words['signal']!r}; shapes are {', '.join(SHAPES)}, "
                "signals sum and com"
            )
        numbers: dict[str, float] = {}
        for name in ("y", "x", "inner", "outer", "start", "stop"):
            if name not in values and name not in ("y", "x"):
                continue
            try:
                numbers[name] = float(values[name])
            except (KeyError, TypeError, ValueError):
                raise DataError(f"a virtual detector needs {name}; give a number") from None
            if not abs(numbers[name]) < 1e6:
                raise DataError(f"{name} of a virtual detector is {numbers[name]}; give a number of pixels or degrees")
        made = cls(words["shape"], signal=words["signal"], **numbers)
        if made.shape != "point" and not (made.outer > 0 and made.inner >= 0):
            raise DataError(f"a {made.shape} from {made.inner} to {made.outer} px encloses nothing; drag its edge out")
        if made.shape in ("annulus", "wedge") and not made.inner < made.outer:
            raise DataError(f"a {made.shape} from {made.inner} to {made.outer} px encloses nothing; drag its edge out")
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as plain values."""
        return asdict(self)

    def weights(
        self, detector_shape: tuple[int, int], aspect: float = 1.0, *, exact: bool = True
    ) -> NDArray[np.float64]:
        """Part of every pixel's area that lies in the detector.

        Parameters
        ----------
        detector_shape : tuple of int
            Detector pixels ``(k_y, k_x)``.
        aspect : float
            Height of a pixel divided by its width.
        exact : bool
            False takes pixels for round, which is within a hundredth of a pixel along an edge, and quick.

        Returns
        -------
        ndarray of float, shape (k_y, k_x)
        """
        rows, columns = np.indices(detector_shape, dtype=float)
        if self.shape == "point":
            weights = np.zeros(detector_shape)
            y, x = (min(max(round(v), 0), n - 1) for v, n in zip((self.y, self.x), detector_shape, strict=True))
            weights[y, x] = 1.0
            return weights
        if self.shape == "rectangle":
            half_height = self.inner / aspect
            down = _overlap(rows - self.y, half_height)
            return down * _overlap(columns - self.x, self.outer)
        inner = 0.0 if self.shape == "disc" else self.inner
        if exact:
            name = "dragged"
            ring = VirtualDetector.annulus(name, detector_shape, (self.y, self.x), inner, self.outer, aspect).weights
        else:
            radius = np.hypot((rows - self.y) * aspect, columns - self.x)
            ring = np.clip(self.outer + 0.5 - radius, 0, 1)
            if inner > 0:
                ring -= np.clip(inner + 0.5 - radius, 0, 1)
        if self.shape == "wedge":
            ring = ring * self._sector(rows, columns, aspect, _POINTS if exact else 1)
        return np.asarray(ring)

    def _sector(
        self, rows: NDArray[np.float64], columns: NDArray[np.float64], aspect: float, n: int
    ) -> NDArray[np.float64]:
        """Share of points in each pixel whose direction lies between `start` and `stop`."""
        width = math.radians((self.stop - self.start) % 360 or 360)
        share = np.zeros(rows.shape)
        within = (np.arange(n) + 0.5) / n - 0.5
        for down in within:
            for right in within:
                direction = np.arctan2(-(rows + down - self.y) * aspect, columns + right - self.x)
                share += (direction - math.radians(self.start)) % (2 * math.pi) <= width
        return share / n**2


def preset_shapes(calibration: Calibration, detector_shape: tuple[int, int]) -> dict[str, DetectorShape]:
    """Usual detectors at the disc.

    Parameters
    ----------
    calibration : Calibration
        Optical axis and disc radius; the middle of the detector and a quarter of its width where they are unknown.
    detector_shape : tuple of int
        Detector pixels ``(k_y, k_x)``.

    Returns
    -------
    dict of str to DetectorShape
        ``BF`` is the disc, ``ABF`` its outer half, ``ADF`` from its edge to the nearest edge of the detector, ``COM``
        the centre of mass of everything around the disc.
    """
    y, x = calibration.optical_axis or ((detector_shape[0] - 1) / 2, (detector_shape[1] - 1) / 2)
    radius = calibration.disc_radius or detector_shape[1] / 4
    aspect = calibration.pixel_aspect
    # detector's edge nearest to the axis
    edge = min((y + 0.5) * aspect, (detector_shape[0] - 0.5 - y) * aspect, x + 0.5, detector_shape[1] - 0.5 - x)
    # the dark field begins where the blurred edge of the disc has ended
    inside = 1.1 * radius
    outside = max(edge, inside + 1)
    return {
        "BF": DetectorShape("disc", y, x, 0.0, radius),
        "ABF": DetectorShape("annulus", y, x, radius / 2, radius),
        "ADF": DetectorShape("annulus", y, x, inside, outside),
        "COM": DetectorShape("disc", y, x, 0.0, outside, signal="com"),
    }


def _overlap(away: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """Length of the part of pixels, by their distances from the centre, that lies within half a width."""
    return np.asarray(np.clip(np.minimum(away + 0.5, half) - np.maximum(away - 0.5, -half), 0, 1))
