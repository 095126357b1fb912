"""Where a pass samples patterns, and what it prepares once for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stemvane.config import MeasureConfig
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.errors import CalibrationError
from stemvane.geometry.pixels import PixelGrid
from stemvane.geometry.polar import PolarGrid
from stemvane.reduction.kernels.frames import FramePlan, measure_frames
from stemvane.reduction.kernels.lanes import LanePlan
from stemvane.reduction.kernels.passes import BeamShift, FramePreparation, PassPlan
from stemvane.reduction.kernels.sums import ImagePlan
from stemvane.reduction.virtual_detectors import VirtualDetector

__all__ = ["ScanGrids", "axis_and_radius", "plan_pass"]

# steps of the axis on either side, along y and along x, that slopes are taken over
_STEPS = (((1, 0), (-1, 0)), ((0, 1), (0, -1)))


@dataclass(frozen=True)
class ScanGrids:
    """Where polar and Cartesian samples lie; the polar grid is kept also where its samples are left out."""

    polar: PolarGrid
    pixels: PixelGrid | None
    with_polar: bool
    margin: float

    @classmethod
    def chosen(cls, dataset: Dataset4D, config: MeasureConfig, margin: float, *, with_polar: bool) -> ScanGrids:
        """Grids of a scan as the settings ask for, `margin` pixels away from the detector's edge."""
        calibration = dataset.calibration
        axis, radius = axis_and_radius(calibration)
        polar = PolarGrid.chosen(
            axis,
            radius,
            dataset.detector_shape,
            aspect=calibration.pixel_aspect,
            ellipse=calibration.ellipse,
            outer=config.outer,
            n_radial=config.n_radial,
            n_azimuthal=config.n_azimuthal,
            margin=margin,
            reach=None if dataset.preparation is None else dataset.preparation.variation_reach,
        )
        pixels = None
        if config.n_pixels:
            side = config.pixels_outer * radius
            pixels = PixelGrid(
                axis, side, config.n_pixels, aspect=calibration.pixel_aspect, ellipse=calibration.ellipse
            )
        return cls(polar, pixels, with_polar, margin)

    @property
    def sampled(self) -> dict[str, PolarGrid | PixelGrid]:
        """Grids whose samples are wanted, in the order in which the kernels write them."""
        grids = {"polar": self.polar if self.with_polar else None, "pixels": self.pixels}
        return {name: grid for name, grid in grids.items() if grid is not None}

    def move(self, y: float, x: float) -> ScanGrids:
        """Around an axis that is moved by so many pixels."""
        axis = (self.polar.axis[0] + y, self.polar.axis[1] + x)
        pixels = None if self.pixels is None else replace(self.pixels, axis=axis)
        return replace(self, polar=replace(self.polar, axis=axis), pixels=pixels)


def plan_pass(
    dataset: Dataset4D,
    detectors: Sequence[VirtualDetector],
    grids: ScanGrids,
    preparation: FramePreparation,
    *,
    mean_pattern: bool,
) -> PassPlan:
    """One set of weights for each place of the axis between pixels."""
    shape, shift, typical = dataset.detector_shape, preparation.shift, preparation.typical

    def plan(move: tuple[float, float]) -> FramePlan:
        here = grids.move(*move)
        # weights made for the axis at rest are moved along; they are smooth but for edges, which they keep
        images = [
            ndimage.shift(d.weights, move, order=1, mode="nearest") if any(move) else d.weights for d in detectors
        ]
        return FramePlan(
            axis=here.polar.axis,
            images=ImagePlan.of(images, shape),
            lanes=_lanes(here, shape) if here.sampled else None,
            with_pattern=mean_pattern,
        )

    remainders = [(0, 0)] if shift is None else shift.remainders()
    plans = {remainder: plan(BeamShift.pixels(remainder)) for remainder in remainders}
    if shift is None or typical is None or not grids.sampled:
        return PassPlan(plans, preparation)

    def samples(pattern: NDArray[Any], plan: FramePlan) -> NDArray[np.float64]:
        sampled = measure_frames(np.ascontiguousarray(pattern, np.float64)[None], plan).samples
        assert sampled is not None
        return np.asarray(sampled[0] / total, np.float64)

    total = float(typical.image.sum())
    width = 2 * BeamShift.pixels(_STEPS[0][0])[0]
    sides = [[samples(typical.image, plan(BeamShift.pixels(at))) for at in pair] for pair in _STEPS]
    slopes = np.array([(one - other) / width for one, other in sides])
    at_rest = samples(typical.radial((0.0, 0.0)), plan((0.0, 0.0)))
    offsets = {at: samples(typical.radial(BeamShift.pixels(at)), plans[at]) - at_rest for at in plans}
    return PassPlan(plans, preparation, slopes=slopes, offsets=offsets)


@lru_cache(maxsize=100)
def _lanes(grids: ScanGrids, detector_shape: tuple[int, int]) -> LanePlan:
    # as much work as measuring a thousand patterns, and the same for all data sets of a series
    edge = math.ceil(grids.margin)
    inner = None
    if edge:
        # polar grids end before the pixels that the beam's shift takes off the detector, the square may not
        inner = np.zeros(detector_shape, bool)
        inner[edge:-edge, edge:-edge] = True
    weights = [
        grid.weights(detector_shape, inner if name == "pixels" else None) for name, grid in grids.sampled.items()
    ]
    return LanePlan.of(weights, detector_shape)


def axis_and_radius(calibration: Calibration) -> tuple[tuple[float, float], float]:
    """Optical axis and disc radius in pixels; CalibrationError where one of them is unknown."""
    if calibration.optical_axis is None or calibration.disc_radius is None:
        raise CalibrationError(
            "the optical axis or the disc's radius is unknown; give optical_axis and disc_radius in the calibration, "
            "or call prepare_scan first"
        )
    return calibration.optical_axis, calibration.disc_radius
