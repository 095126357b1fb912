"""What four axes with scales and units say: steps, and which of them run backwards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stemvane.data.calibration import Calibration
from stemvane.data.units import Quantity, read_unit
from stemvane.errors import DataError

__all__ = ["AXES", "backward_axes", "beam_of", "calibration_from_axes", "reciprocal_step", "require_no_spectra"]

AXES = ("scan_y", "scan_x", "k_y", "k_x")
"""Names of the axes of a scan, in our order."""


def calibration_from_axes(axes: Sequence[Mapping[str, Any]], beam: Mapping[str, Any]) -> Calibration:
    """Read steps, energy and semi-angle from what HyperSpy knows.

    Parameters
    ----------
    axes : sequence of mapping
        ``scale`` and ``units`` of the axes ``(scan_y, scan_x, k_y, k_x)``.
    beam : mapping
        ``beam_energy`` in keV and ``convergence_angle`` in mrad, where they are known.

    Returns
    -------
    Calibration
        Units that are not lengths or angles, and numbers that are not positive, leave a value unknown. Detector axes in
        1/Å or 1/nm need the beam energy and are converted into mrad through the wavelength. Steps are positive; of
        axes that run backwards `backward_axes` tells.
    """
    energy, semiangle = _positive(beam.get("beam_energy")), _positive(beam.get("convergence_angle"))
    calibration = Calibration(energy=None if energy is None else 1e3 * energy, convergence_semiangle=semiangle)
    scan, pixel, reciprocal = _steps(axes[:2], "length"), _steps(axes[2:], "angle"), reciprocal_step(axes)
    if pixel is None and reciprocal is not None and calibration.wavelength is not None:
        pixel = 1e3 * calibration.wavelength * reciprocal[0], 1e3 * calibration.wavelength * reciprocal[1]
    return calibration.replace(scan_step=scan, pixel_size=pixel)


def reciprocal_step(axes: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Detector step ``(y, x)`` in 1/Å of axes ``(scan_y, scan_x, k_y, k_x)``, None where they are in other units."""
    return _steps(axes[2:], "reciprocal")


def backward_axes(axes: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """Places of the axes whose step is negative, in a unit that says which way they run."""
    return tuple(i for i, axis in enumerate(axes) if read_unit(axis.get("units")) and _number(axis.get("scale")) < 0)


def beam_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What HyperSpy's metadata say of the beam: ``beam_energy`` in keV and ``convergence_angle`` in mrad."""
    microscope = metadata.get("Acquisition_instrument")
    nodes = [microscope.get(kind) for kind in ("SEM", "TEM")] if isinstance(microscope, Mapping) else []
    return {name: value for node in nodes if isinstance(node, Mapping) for name, value in node.items()}


def require_no_spectra(axes: Sequence[Mapping[str, Any]], name: str) -> None:
    """Refuse spectrum images, which have an axis of energy.

    Parameters
    ----------
    axes : sequence of mapping
        ``units`` of the axes, in any order.
    name : str
        What the message begins with: the path, or the name of a signal.

    Raises
    ------
    DataError
        If one of the units is one of energy.
    """
    for axis in axes:
        unit = read_unit(axis.get("units"))
        if unit is not None and unit.quantity == "energy":
            raise DataError(
                f"{name}: holds a spectrum image, with an axis of energy in {axis.get('units')}, and no diffraction "
                "patterns; give the file of the 4D-STEM scan"
            )


def _steps(axes: Sequence[Mapping[str, Any]], quantity: Quantity) -> tuple[float, float] | None:
    """Sizes of the steps of two axes, in Å, 1/Å or mrad."""
    steps = []
    for axis in axes:
        unit, size = read_unit(axis.get("units")), _positive(abs(_number(axis.get("scale"))))
        if unit is None or unit.quantity != quantity or size is None:
            return None
        steps.append(unit.size * size)
    return steps[0], steps[1]


def _number(value: Any) -> float:
    """A number, NaN where it is none."""
    return float(value) if isinstance(value, int | float | np.number) else math.nan


def _positive(value: Any) -> float | None:
    """A number, None where it is absent or impossible."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None
