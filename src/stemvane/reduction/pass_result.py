"""One block of a pass, and what the sums of all of them say of the scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.data.findings import Finding
from stemvane.data.measurements import Measurements
from stemvane.errors import DataError
from stemvane.geometry.polar import plane_of_pixels
from stemvane.reduction.blocks import Block
from stemvane.reduction.kernels.frames import FrameSums
from stemvane.reduction.kernels.passes import PassPlan
from stemvane.reduction.pass_plan import ScanGrids
from stemvane.reduction.prepared_frames import require_counts
from stemvane.reduction.virtual_detectors import VirtualDetector

__all__ = ["LEAST_TOTAL", "as_measurements", "maps_of", "measure_block"]

# at five electrons per pattern 0.7 % have none
_MANY_MISSING = 0.05
LEAST_TOTAL = 0.01
"""Share of the usual counts below which the beam was off; of few electrons a single one is more."""


def measure_block(
    block: Block, shared: tuple[PassPlan, NDArray[np.float32] | None, NDArray[np.bool_] | None]
) -> FrameSums:
    """Read and measure a block.

    Parameters
    ----------
    block : Block
        Patterns of the scan.
    shared : tuple
        How they are measured; where their samples stay, shape ``(scan_y, scan_x, n_samples)``, or None, which returns
        them; and positions that hold no pattern, shape ``(scan_y, scan_x)``, or None.

    Returns
    -------
    FrameSums
    """
    plan, target, missing = shared
    patterns = block.read()
    frames = patterns.reshape(-1, *patterns.shape[2:])
    part = None if target is None else target[block.part]
    samples = part.reshape(len(frames), -1) if part is not None and part.flags.c_contiguous else None

    def measured(frames: NDArray[Any]) -> FrameSums:
        return plan.measure(frames, block.top, block.left, block.width, samples=samples)

    empty: NDArray[np.bool_] = np.zeros(len(frames), bool)
    if missing is not None:
        empty |= np.ravel(missing[block.part])

    def without(empty: NDArray[np.bool_]) -> NDArray[Any]:
        return np.where(empty[:, None, None], frames.dtype.type(0), frames) if empty.any() else frames

    # patterns that are not to count, and those that turn out to hold NaN, are measured as if they were empty
    frame_sums = measured(without(empty))
    if not np.isfinite(frame_sums.sums).all():
        frame_sums = measured(without(empty | ~np.isfinite(frame_sums.sums).all(axis=1)))
    if frame_sums.samples is not None:
        frame_sums.samples[frame_sums.sums[:, 0] <= 0] = 0
    if part is None:
        return frame_sums
    if samples is None:
        assert frame_sums.samples is not None
        part[:] = frame_sums.samples.reshape(part.shape)
    return replace(frame_sums, samples=None)


def as_measurements(
    dataset: Dataset4D,
    detectors: Sequence[VirtualDetector],
    grids: ScanGrids,
    sums: NDArray[np.float64],
    samples: Mapping[str, Any],
    pattern: NDArray[Any] | None,
    missing: NDArray[np.bool_] | None,
) -> Measurements:
    """Maps of sums over patterns, with everything else that is known of a scan.

    Parameters
    ----------
    dataset : Dataset4D
        The scan.
    detectors : sequence of VirtualDetector
        Virtual images.
    grids : ScanGrids
        Where the samples lie.
    sums : ndarray of float, shape (scan_y, scan_x, 3 + n_detectors)
        As of `FrameSums`, of the scan or of a part of it; NaN afterwards where there is no pattern.
    samples : mapping of str to array
        Polar and Cartesian patterns, as far as they are kept; 0 afterwards where there is no pattern.
    pattern : ndarray, shape (k_y, k_x), optional
        Sum over the patterns.
    missing : ndarray of bool, shape (scan_y, scan_x), optional
        Positions that hold no pattern.

    Returns
    -------
    Measurements
    """
    calibration = dataset.calibration
    if dataset.data.dtype.kind == "f":
        require_counts(sums[..., 0], dataset.name, "sums of patterns")
    # a pattern without counts has no centre; where the beam was off, noise about the dark level leaves some
    totals = sums[..., 0]
    usual = float(np.median(totals[totals > 0])) if (totals > 0).any() else 0.0
    is_empty = totals <= LEAST_TOTAL * usual
    for array in samples.values() if (is_empty & (totals > 0)).any() else ():
        for row in np.flatnonzero(is_empty.any(axis=1)):
            array[row] = np.where(is_empty[row, :, None, None], 0, array[row])
    n_recorded = int((~is_empty).sum())
    if not n_recorded:
        raise DataError(
            f"{dataset.name}: no pattern has counts above zero; check the file, and whether the dark image "
            "(preparation.dark) is too bright"
        )
    sums[is_empty] = np.nan
    expected = np.ones(totals.shape, bool) if missing is None else ~missing
    findings = list(dataset.findings)
    n_lost = int((is_empty & expected).sum())
    if n_lost:
        first_y, first_x = np.argwhere(is_empty & expected)[0]
        findings.append(
            Finding(
                "missing_patterns",
                "warning" if n_lost > _MANY_MISSING * dataset.n_patterns else "note",
                f"{n_lost} of {dataset.n_patterns} patterns are empty or nearly so, or hold NaN, the first at scan "
                f"position ({first_y}, {first_x}); these positions are missing",
            )
        )
    names = [detector.name for detector in detectors]
    in_electrons = bool(dataset.electrons_per_pattern)
    maps, units = maps_of(sums, calibration, names, in_electrons=in_electrons)
    unknown = np.full(dataset.detector_shape, np.nan)
    return Measurements(
        maps=maps,
        units=units,
        polar=samples.get("polar"),
        grid=grids.polar,
        mean_pattern=unknown if pattern is None else pattern / n_recorded,
        calibration=calibration,
        name=dataset.name,
        atoms=dataset.atoms,
        image=dataset.image,
        metadata=dict(dataset.metadata),
        bad_pixels=dataset.bad_pixels,
        pixels=samples.get("pixels"),
        pixel_grid=grids.pixels,
        electrons_per_pattern=dataset.electrons_per_pattern,
        noiseless=dataset.noiseless,
        is_scan=dataset.is_scan,
        origins={name: dataset.origin(name) for name, value in vars(calibration).items() if value is not None},
        preparation=dataset.preparation,
        findings=tuple(findings),
    )


def maps_of(
    sums: NDArray[np.float64], calibration: Calibration, names: Sequence[str], *, in_electrons: bool
) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
    """Total, COM and virtual images of these names, and their units, from sums of shape ``(..., 3 + n_images)``."""
    step_y, step_x = calibration.pixel_size or (1.0, 1.0)
    unit = "px" if calibration.pixel_size is None else "mrad"
    maps = {"total": sums[..., 0]}
    units = {"total": "electrons" if in_electrons else "counts"}
    for name, index, step in (("com_y", 1, step_y), ("com_x", 2, step_x)):
        maps[name], units[name] = sums[..., index] / sums[..., 0] * step, unit
    if calibration.ellipse is not None:
        undo = plane_of_pixels(1.0, calibration.ellipse)
        maps["com_x"], up = np.tensordot(undo, np.stack([maps["com_x"], -maps["com_y"]]), axes=1)
        maps["com_y"] = -up
    for index, name in enumerate(names, start=3):
        maps[name], units[name] = sums[..., index] / sums[..., 0], "fraction"
    return maps, units
