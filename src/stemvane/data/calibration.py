"""Calibration: what converts indices into ångström, milliradian and electronvolt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from stemvane.data.representation import Representable, Row, format_position, format_quantity
from stemvane.errors import CalibrationError

__all__ = ["Calibration", "require_plausible", "wavelength"]

_PLANCK = 6.62607015e-34
_ELECTRON_MASS = 9.1093837015e-31
_CHARGE = 1.602176634e-19
_LIGHT = 299792458.0
_NUMBER = (int, float, np.number)


def wavelength(energy: float) -> float:
    """Relativistic electron wavelength.

    Parameters
    ----------
    energy : float
        Kinetic energy of the beam in eV.

    Returns
    -------
    float
        Wavelength in Å; 0.048661 Å at 60 keV.

    Raises
    ------
    CalibrationError
        If the energy is not positive.

    Notes
    -----
    λ = h / sqrt(2 m e E (1 + e E / 2 m c²)); constants from CODATA 2018.
    """
    if not energy > 0:
        raise CalibrationError(f"the beam energy is {energy} eV; it must be positive, for example 60e3 for 60 keV")
    joule = energy * _CHARGE
    momentum = math.sqrt(2 * _ELECTRON_MASS * joule * (1 + joule / (2 * _ELECTRON_MASS * _LIGHT**2)))
    return _PLANCK / momentum * 1e10


# what a user can mean: beams from scanning microscopes at 1 keV to the MeV of ultrafast ones, and everything that a
# mistaken power of ten (keV for eV, rad for mrad, m or nm for Å) would put elsewhere
_PLAUSIBLE = {
    "energy": (1e3, 1e7, "eV", "give it in eV, such as {:g}e3 eV for {:g} keV"),
    "convergence_semiangle": (0.05, 500.0, "mrad", "give it in mrad, such as 31"),
    "scan_step": (1e-3, 1e6, "Å", "give it in Å, such as 0.16"),
    "pixel_size": (1e-4, 100.0, "mrad", "give it in mrad, such as 1.5"),
    # degrees given as rad show only beyond two full rotations
    "scan_rotation": (-4 * math.pi, 4 * math.pi, "rad", "give it in rad, such as np.deg2rad({:g})"),
}


def require_plausible(**values: Any) -> None:
    """Refuse numbers of a user's that cannot be meant, such as 60 for the energy in eV.

    Parameters
    ----------
    **values
        Values as `Calibration` takes them; None and names without known limits pass.

    Raises
    ------
    CalibrationError
        If a number lies outside what any microscope has; the message says which unit is expected.
    """
    for name, value in values.items():
        if value is None or name not in _PLAUSIBLE:
            continue
        low, high, unit, cure = _PLAUSIBLE[name]
        for number in value if isinstance(value, tuple) else (value,):
            # what is no number, or has an impossible sign, is the calibration's to refuse
            if isinstance(number, _NUMBER) and (number > 0 or low < 0) and not low <= number <= high:
                advice = cure.format(*[float(number)] * cure.count("{"))
                raise CalibrationError(f"{name} is {float(number):g} {unit}, which cannot be meant; {advice}")


@dataclass(frozen=True, repr=False)
class Calibration(Representable):
    """Steps, optical axis, rotation and beam of a 4D-STEM scan.

    Every value may be None, which means unknown; nothing is assumed. Pairs are ``(y, x)``, y grows downwards.

    Parameters
    ----------
    scan_step : tuple of float, optional
        Distance between neighbouring probe positions in Å; a single number stands for both axes.
    pixel_size : tuple of float, optional
        Angle between neighbouring detector pixels in mrad; a single number stands for both axes.
    optical_axis : tuple of float, optional
        Position of the optical axis on the detector in pixels; pixel centres have integer coordinates.
    disc_radius : float, optional
        Radius of the bright-field disc in pixels (along x, where pixels are not square).
    convergence_semiangle : float, optional
        Semi-angle of the probe-forming aperture in mrad.
    energy : float, optional
        Beam energy in eV.
    scan_rotation : float, optional
        Angle in rad by which a vector measured on the detector must be rotated, counter-clockwise on the
        screen, to be a vector in the scan.
    ellipse : tuple of float, optional
        Elliptical distortion of the detector: circles appear stretched by the first number, long over short axis, along
        the direction of the second, in rad, counter-clockwise on the screen.

    Raises
    ------
    CalibrationError
        If a value is not a finite number or has an impossible sign.
    """

    scan_step: tuple[float, float] | None = None
    pixel_size: tuple[float, float] | None = None
    optical_axis: tuple[float, float] | None = None
    disc_radius: float | None = None
    convergence_semiangle: float | None = None
    energy: float | None = None
    scan_rotation: float | None = None
    ellipse: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("scan_step", "pixel_size", "optical_axis"):
            value = getattr(self, name)
            if value is None:
                continue
            if name != "optical_axis" and _is_number(value):
                value = (value, value)
            object.__setattr__(self, name, pair := _pair(name, value))
            if not all(math.isfinite(v) for v in pair) or (name != "optical_axis" and min(pair) <= 0):
                raise CalibrationError(f"{name} is {pair}; both numbers must be finite and positive")
        for name in ("disc_radius", "convergence_semiangle", "energy"):
            value = getattr(self, name)
            if value is None:
                continue
            object.__setattr__(self, name, number := _number(name, value))
            if not (math.isfinite(number) and number > 0):
                raise CalibrationError(f"{name} is {value}; it must be finite and positive")
        if self.scan_rotation is not None:
            object.__setattr__(self, "scan_rotation", _number("scan_rotation", self.scan_rotation))
            if not math.isfinite(self.scan_rotation):
                raise CalibrationError(f"scan_rotation is {self.scan_rotation}; it must be finite")
        if self.ellipse is not None:
            object.__setattr__(self, "ellipse", _pair("ellipse", self.ellipse))
        if self.ellipse is not None and not (all(map(math.isfinite, self.ellipse)) and self.ellipse[0] >= 1):
            raise CalibrationError(f"ellipse is {self.ellipse}; give long over short axis, at least 1, and a direction")

    @property
    def wavelength(self) -> float | None:
        """Electron wavelength in Å, None where the energy is unknown."""
        return None if self.energy is None else wavelength(self.energy)

    @property
    def band_limit(self) -> float | None:
        """Spatial frequency 2α/λ in 1/Å, beyond which a scan holds nothing of the specimen.

        None where energy, semi-angle or scan step are unknown: without the step, the scan has no frequencies in 1/Å.
        """
        if self.wavelength is None or self.convergence_semiangle is None or self.scan_step is None:
            return None
        return 2e-3 * self.convergence_semiangle / self.wavelength

    @property
    def pixel_aspect(self) -> float:
        """Height of a detector pixel divided by its width; 1 where the pixel size is unknown."""
        return 1.0 if self.pixel_size is None else self.pixel_size[0] / self.pixel_size[1]

    def replace(self, **changes: Any) -> Calibration:
        """Return a copy with some values replaced."""
        return replace(self, **changes)

    def _summary(self) -> tuple[str, Sequence[Row]]:
        degrees = None if self.scan_rotation is None else math.degrees(self.scan_rotation)
        rows = [
            ("scan step", format_quantity(self.scan_step, "Å")),
            ("pixel size", format_quantity(self.pixel_size, "mrad")),
            ("optical axis", format_position(self.optical_axis)),
            ("disc radius", format_quantity(self.disc_radius, "px")),
            ("beam", self.describe_beam()),
            ("scan rotation", format_quantity(degrees, "deg")),
        ]
        if self.ellipse is not None:
            ratio, direction = self.ellipse[0], math.degrees(self.ellipse[1])
            rows.append(("ellipse", f"long over short axis {ratio:.4f}, long axis at {direction:.0f} deg"))
        return "Calibration", rows

    def describe_beam(self) -> str:
        """Energy and semi-angle in words."""
        energy = None if self.energy is None else self.energy / 1e3
        angle = self.convergence_semiangle
        return f"energy {format_quantity(energy, 'keV')}, semi-angle {format_quantity(angle, 'mrad')}"

    def describe_disc(self, origins: Mapping[str, str]) -> str:
        """Optical axis and disc radius in words, with their origins."""
        axis, radius = (
            "" if getattr(self, name) is None else f", {origins.get(name, 'given')}"
            for name in ("optical_axis", "disc_radius")
        )
        position, size = format_position(self.optical_axis), format_quantity(self.disc_radius, "px")
        return f"axis {position}{axis}; radius {size}{radius}"

    def to_dict(self) -> dict[str, Any]:
        """Return the known values as plain numbers and lists, for TOML and JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Build a calibration from what `to_dict` returned.

        Raises
        ------
        CalibrationError
            If a name is unknown or a value impossible.
        """
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise CalibrationError(
                f"unknown calibration entry {sorted(unknown)}; known are {', '.join(cls.__dataclass_fields__)}"
            )
        entries: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**entries)


def _is_number(value: Any) -> bool:
    """Whether a value is a real number, and no word, truth value or array."""
    return isinstance(value, _NUMBER) and not isinstance(value, bool | np.complexfloating)


def _number(name: str, value: Any) -> float:
    if not _is_number(value):
        raise CalibrationError(f"{name} is {value!r}; give a number")
    try:
        return float(value)
    except OverflowError:
        raise CalibrationError(f"{name} is beyond every number that can be meant; give a smaller one") from None


def _pair(name: str, value: Any) -> tuple[float, float]:
    if isinstance(value, str) or not (isinstance(value, Sequence | np.ndarray) and len(value) == 2):
        raise CalibrationError(f"{name} is {value!r}; give a pair of numbers (y, x)")
    return _number(name, value[0]), _number(name, value[1])
