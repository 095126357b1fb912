"""The field of one scan: in the scan's frame, with its divergence, curl and integral, and with units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemvane.data.arguments import require
from stemvane.data.measurements import Measurements
from stemvane.data.representation import Representable, Row, format_shape
from stemvane.errors import DataError
from stemvane.field.derivatives import curl, divergence, rotate_vectors, subtract_plane
from stemvane.field.integration import integrate
from stemvane.field.physical import projected_field
from stemvane.field.scan_rotation import ScanRotation, find_rotation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FieldMaps", "add_field", "field_maps", "rotation_metrics"]

_MIN_POSITIONS = 3


@dataclass(frozen=True, eq=False, repr=False)
class FieldMaps(Representable):
    """The field of one scan in the scan's frame, and the rotation that took it there.

    Attributes
    ----------
    maps : mapping of str to ndarray of float, shape (scan_y, scan_x)
        ``field_y``, ``field_x``, ``divergence``, ``curl`` and ``integrated_com``, as `field_maps` says; empty where
        the rotation is not known.
    units : mapping of str to str
        Unit of each map.
    angle : float or None
        Rotation from the detector to the scan in rad, given by the calibration or estimated from the curl.
    source : str or None
        ``given`` by the calibration, ``found`` from the curl, None where it is not known.
    rotation : ScanRotation or None
        Result of the search for the rotation, where there was one; also where it does not stand out from noise.
    measurements : Measurements or None
        Measurements that the maps are made from; figures take image and scale from them.
    """

    maps: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    angle: float | None = None
    source: Literal["given", "found"] | None = None
    rotation: ScanRotation | None = None
    measurements: Measurements | None = field(default=None, kw_only=True)

    def _summary(self) -> tuple[str, Sequence[Row]]:
        estimate = self.rotation if self.source == "found" else None
        spread = "" if estimate is None else f" ± {math.degrees(estimate.uncertainty):.1f}"
        angle = "unknown" if self.angle is None else f"{math.degrees(self.angle):.1f}{spread} deg ({self.source})"
        rows = [
            ("scan", f"{format_shape(next(iter(self.maps.values())).shape)} positions" if self.maps else "no maps"),
            ("maps", ", ".join(f"{name} ({self.units[name]})" for name in self.maps) or "none"),
            ("scan rotation", angle),
        ]
        return "FieldMaps", rows + [("note", note) for note in (() if self.rotation is None else self.rotation.notes)]

    @property
    def metrics(self) -> dict[str, Any]:
        """The rotation as in ``metrics.json``."""
        estimate = self.rotation if self.source == "found" else None
        return {
            "scan_rotation_deg": None if self.angle is None else math.degrees(self.angle),
            "scan_rotation_uncertainty_deg": None if estimate is None else math.degrees(estimate.uncertainty),
            "scan_rotation_source": self.source,
            "scan_rotation_ambiguous": None if estimate is None else estimate.ambiguous,
            "scan_flipped": estimate.flipped if estimate is not None else None if self.source is None else False,
        }

    def plot(self, *, figure: Figure | None = None) -> Figure:
        """Draw the field as arrows and as colours, its divergence, curl and integral.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            Empty figure to draw the page into; a new one where left out.

        Returns
        -------
        matplotlib.figure.Figure
            The page.

        Raises
        ------
        DataError
            If there are no maps, for the scan rotation is not known.
        """
        from stemvane.figures.canvas import shown_figure
        from stemvane.figures.field_page import field_page

        if self.measurements is None or not self.maps:
            raise DataError("no field to draw, for the scan rotation is not known; give calibration.scan_rotation")
        return field_page(_join(self.measurements, self), figure=shown_figure(figure))


def field_maps(measurements: Measurements) -> FieldMaps:
    """Rotate the deflection into the scan's frame, and take its divergence, curl and integral.

    Parameters
    ----------
    measurements : Measurements
        Measurements with the COM. The scan rotation of their calibration is used where there is one; otherwise it is
        estimated from the curl, and which of the two angles 180° apart is right from the annular dark field, or from
        minus the bright field where the dark field does not decide.

    Returns
    -------
    FieldMaps
        ``field_y``, ``field_x``: the projected electric field in V (see `projected_field`), or the deflection in the
        unit of the COM where the beam energy or the pixel size is unknown. ``divergence``, ``curl``: those of the
        deflection, in mrad/Å. ``integrated_com``: the map whose gradient is the deflection, in mrad·Å (see
        `projected_potential`), levelled: without its best plane, because the deflection is known up to a constant only.
        Without pixel size px stands for mrad, without scan step ``step`` for Å. Where the rotation is neither given nor
        found there are no maps, nor in a scan of fewer than 3 positions along an axis.

    Raises
    ------
    DataError
        If the argument is of another kind.

    Notes
    -----
    The deflection is the filtered COM where the measurements have it (`filter_com`), else the COM minus its mean over
    the scan, with all the noise that it has; the scan is not taken for periodic. A detector with a given rotation is
    taken as not flipped; ``preparation.flip_y`` flips its patterns.
    """
    require(measurements, Measurements, "field_maps")
    calibration = measurements.calibration
    rotation: ScanRotation | None = None
    source: Literal["given", "found"]
    if calibration.scan_rotation is not None:
        angle, flipped, source = calibration.scan_rotation, False, "given"
    else:
        rotation = _estimate_rotation(measurements)
        if rotation is None or not rotation.is_significant:
            return FieldMaps(rotation=rotation, measurements=measurements)
        angle, flipped, source = rotation.angle, rotation.flipped, "found"
    if min(measurements.scan_shape) < _MIN_POSITIONS:
        return FieldMaps(angle=angle, source=source, rotation=rotation, measurements=measurements)
    step, unit = calibration.scan_step or (1.0, 1.0), measurements.com_unit
    length = "step" if calibration.scan_step is None else "Å"
    deflection = rotate_vectors(_deflection(measurements), angle, flipped=flipped)
    is_absolute = calibration.energy is not None and unit == "mrad"
    field_ = projected_field(deflection, calibration.energy) if is_absolute else deflection  # type: ignore[arg-type]
    maps = {
        "field_y": field_[..., 0],
        "field_x": field_[..., 1],
        "divergence": divergence(deflection, step, periodic=False),
        "curl": curl(deflection, step, periodic=False),
        "integrated_com": subtract_plane(integrate(deflection, step, periodic=False)[..., None])[..., 0],
    }
    units = dict.fromkeys(("field_y", "field_x"), "V" if is_absolute else unit)
    units |= {"divergence": f"{unit}/{length}", "curl": f"{unit}/{length}", "integrated_com": f"{unit}·{length}"}
    return FieldMaps(maps, units, angle, source, rotation, measurements=measurements)


def add_field(measurements: Measurements) -> Measurements:
    """Add the maps of `field_maps` to the measurements, and the rotation that these are made with."""
    return _join(measurements, field_maps(measurements))


def rotation_metrics(measurements: Measurements) -> dict[str, Any]:
    """The rotation that `add_field` has made the maps with, as in ``metrics.json``; None where it is missing."""
    return FieldMaps().metrics | dict(measurements.field_rotation)


def _join(measurements: Measurements, fields: FieldMaps) -> Measurements:
    return replace(
        measurements,
        maps={**measurements.maps, **fields.maps},
        units={**measurements.units, **fields.units},
        field_rotation=fields.metrics,
    )


def _deflection(measurements: Measurements) -> NDArray[np.floating[Any]]:
    filtered = measurements.filtered_deflection
    return measurements.deflection if filtered is None else filtered


def _estimate_rotation(measurements: Measurements) -> ScanRotation | None:
    step = measurements.calibration.scan_step or (1.0, 1.0)
    maps = measurements.maps
    scatterers: list[Any] = [maps["annular_dark_field"]] if "annular_dark_field" in maps else []
    scatterers += [-maps["bright_field"]] if "bright_field" in maps else []
    rotation = None
    try:
        for matter in scatterers or [None]:
            rotation = find_rotation(_deflection(measurements), step, matter)
            if not rotation.ambiguous:
                break
    except DataError:  # too small a scan is no reason to refuse it
        return None
    return rotation
