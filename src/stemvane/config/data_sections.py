"""Settings of what precedes the models: source, simulation, preparation, survey, measurement, features, alignment."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from stemvane.config.map_names import find_name_trouble
from stemvane.config.recording_sections import DetectorConfig, ScanConfig
from stemvane.config.section import FileName, FileNames, Section
from stemvane.specimens import (
    DEFECTS,
    RULES,
    SPECIMENS,
    STRUCTURE_FILES,
    find_specimen,
    is_rule,
    is_structure_file,
)

__all__ = [
    "AlignConfig",
    "BasisConfig",
    "DefectKind",
    "MeasureConfig",
    "PreparationConfig",
    "SimulationConfig",
    "SourceConfig",
    "SurveyConfig",
]


def _known_structure(name: str) -> str:
    if find_specimen(name) is None and not is_structure_file(name):
        raise ValueError(
            f"unknown structure '{name}'; known are {', '.join(specimen.name for specimen in SPECIMENS)}, hosts with a "
            f"defect by rule, such as MoS2-V_S, and files that end in {' or '.join(STRUCTURE_FILES)}"
        )
    return name


def _known_defect(kind: str) -> str:
    if kind not in DEFECTS and not is_rule(kind):
        raise ValueError(f"unknown defect '{kind}'; known are {', '.join(DEFECTS)}, and by rule: {RULES}")
    return kind


DefectKind = Annotated[str, AfterValidator(_known_defect)]

_Structure = Annotated[
    str,
    BeforeValidator(lambda name: os.fspath(name) if isinstance(name, os.PathLike) else name),
    AfterValidator(_known_structure),
]

_ABOUT_THE_FILE = {
    "path",
    "scan_shape",
    "dataset",
    "shape",
    "dtype",
    "skip_frames",
    "ignore_extra",
    "flyback",
    "sensor",
    "background",
    "image",
    "vacuum",
}


class SourceConfig(Section):
    """Source of the data, and calibration values of the user; without a path, a scan is simulated."""

    path: FileName = Field("", description="file to read; empty to simulate")
    scan_shape: tuple[int, int] | None = Field(
        None, description="probe positions (y, x), for a stack of frames without a scan shape"
    )
    dataset: str | None = Field(None, description="path of the array, in a file that holds several")
    shape: tuple[int, ...] | None = Field(None, description="shape of raw binary, the fastest axis last")
    dtype: str | None = Field(None, description="number type of raw binary, such as '<u2'")
    skip_frames: int = Field(0, ge=0, description="frames at the beginning of a stack that are not part of the scan")
    ignore_extra: bool = Field(False, description="leave out the frames of a stack that come after the scan")
    flyback: int = Field(0, ge=0, description="frames to leave out at the end of each scan line of a stack")
    sensor: FileName = Field(
        "", description="file or folder of the calibration of an EMPAD-G2's sensor, for frames before their calibration"
    )
    background: FileName = Field("", description="file of EMPAD-G2 frames without a beam, which goes with sensor")
    image: FileName = Field("", description="file of a dark-field image with the scan's shape, recorded separately")
    vacuum: FileName = Field("", description="file of the probe in vacuum: its disc gives optical axis and disc radius")
    scan_step: tuple[float, float] | None = Field(None, description="scan step, Å (y, x); overrides the file")
    pixel_size: tuple[float, float] | None = Field(None, description="detector pixel, mrad (y, x); overrides the file")
    convergence_semiangle: float | None = Field(None, gt=0, description="semi-angle, mrad; overrides the file")
    energy: float | None = Field(None, gt=0, description="beam energy, eV; overrides the file")
    optical_axis: tuple[float, float] | None = Field(
        None, description="optical axis, px (y, x) from the centre of the first pixel; overrides file and survey"
    )
    disc_radius: float | None = Field(None, gt=0, description="disc radius along x, px; overrides file and survey")
    scan_rotation: float | None = Field(
        None, description="rotation from detector to scan, degrees, counter-clockwise on the screen; overrides the file"
    )

    def calibration(self) -> dict[str, Any]:
        """Return the user's numbers as `Calibration` takes them, angles of rotation in rad; unknown ones left out."""
        values = {name: value for name, value in self if name not in _ABOUT_THE_FILE and value is not None}
        if self.scan_rotation is not None:
            values["scan_rotation"] = math.radians(self.scan_rotation)
        return values


class SimulationConfig(Section):
    """What `simulate` simulates."""

    structure: _Structure = Field(
        "graphene", description="specimen, one that `stemvane structures` lists or a file (.cif, .xyz, .extxyz)"
    )
    zone_axis: tuple[int, int, int] | None = Field(
        None, description="direction of a crystal's lattice along the beam, such as [1, 1, 0]; [0, 0, 1] if none"
    )
    thickness: float | None = Field(
        None, gt=0, le=2000, description="thickness of a crystal, Å, rounded to whole periods; one period if none"
    )
    twist: float | None = Field(
        None, description="second layer of a sheet, rotated by so many degrees against the first; one layer if none"
    )
    defects: dict[DefectKind, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict, description="random defects in the scanned area: kind = number"
    )
    concentrations: dict[DefectKind, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="random defects as concentrations: kind = share of the lattice sites"
    )
    energy: float = Field(60e3, gt=0, description="beam energy, eV")
    convergence_semiangle: float = Field(31.0, gt=0, description="convergence semi-angle, mrad")
    defocus: float = Field(0.0, description="defocus, Å; positive for underfocus, with the focus behind the specimen")
    cs: float = Field(0.0, description="spherical aberration, Å")
    scan_shape: tuple[int, int] = Field((64, 64), description="probe positions (y, x)")
    scan_extent: tuple[float, float] = Field((10.5, 10.5), description="scanned area, Å (y, x); step = extent / shape")
    detector_shape: tuple[int, int] = Field((64, 64), description="detector pixels (y, x)")
    detector_outer: float = Field(66.0, gt=0, description="angle from the axis to the edge of the detector, mrad")
    source_size: float = Field(0.0, ge=0, description="full width at half maximum of the Gaussian source, Å")
    dose: float | None = Field(None, gt=0, description="dose in incident electrons per pattern; noiseless if none")
    phonon_sigma: float = Field(0.0, ge=0, description="rms thermal displacement along each axis, Å; 0 for none")
    n_phonons: int = Field(8, ge=1, description="number of frozen-phonon configurations, if phonon_sigma is not 0")
    method: Literal["auto", "single-slice", "multislice"] = Field(
        "auto", description="how the wave is propagated; auto takes one slice for specimens so thin that it serves"
    )
    seed: int = Field(0, ge=0, description="random seed of thermal displacements and shot noise")
    placement_seed: int | None = Field(None, ge=0, description="random seed of the places of defects; `seed` if none")
    detector: DetectorConfig | None = Field(
        None, description="detector that records the scan, or the name of its preset; shot noise alone if none"
    )
    scan: ScanConfig | None = Field(None, description="distortions of the scan; an ideal detector records it if none")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.scan_shape) < 1 or min(self.detector_shape) < 4:
            raise ValueError(
                "scan_shape and detector_shape are too small; give at least 1 position and 4 pixels along each axis"
            )
        if min(self.scan_extent) <= 0:
            raise ValueError("scan_extent is not positive; give two positive lengths in Å")
        if self.detector_outer <= self.convergence_semiangle:
            raise ValueError(
                "the disc does not fit on the detector; give a detector_outer that is larger than convergence_semiangle"
            )
        if self.detector is not None:
            self.detector.require_fit(self.detector_shape)
        if self.scan is not None:
            self.scan.require_fit(self.scan_shape, self.scan_extent)
        if self.recorder is not None and self.dose is None:
            raise ValueError(
                "a detector records electrons; give simulation.dose beside simulation.detector or simulation.scan"
            )
        return self

    def files(self) -> tuple[Path, ...]:
        """The file of the structure, where it is from one."""
        return (Path(self.structure),) if is_structure_file(self.structure) else ()

    @property
    def scan_step(self) -> tuple[float, float]:
        """Scan step ``(y, x)``, Å."""
        return self.scan_extent[0] / self.scan_shape[0], self.scan_extent[1] / self.scan_shape[1]

    @property
    def recorder(self) -> DetectorConfig | None:
        """The detector that records the scan; an ideal one where only distortions of the scan are given."""
        return DetectorConfig() if self.detector is None and self.scan is not None else self.detector


class PreparationConfig(Section):
    """What is done to the patterns before they are measured, in this order."""

    dark: FileName = Field("", description="image file of a pattern without a beam, subtracted from every pattern")
    dark_level: bool = Field(
        True, description="without a dark image, subtract the dark level that the darkest pixels show"
    )
    gain: FileName = Field("", description="flat-field image file: every pattern is divided by it, over its mean")
    bad_pixels: FileName = Field("", description="image file, not zero where a detector pixel is bad: it is left out")
    missing: FileName = Field("", description="image file, not zero where a probe position is left out")
    transpose: bool = Field(False, description="swap rows and columns of the detector")
    flip_y: bool = Field(False, description="flip the detector upside down")
    flip_x: bool = Field(False, description="flip the detector left to right")
    scan_region: tuple[int, int, int, int] | None = Field(
        None, description="probe positions to keep: top, bottom, left, right; bottom and right not included"
    )
    scan_binning: int = Field(1, ge=1, description="probe positions along each axis that are summed to one")
    detector_binning: int = Field(1, ge=1, description="detector pixels along each axis that are summed to one")
    mask_hot_and_dead: bool = Field(
        True, description="mask the hot and dead pixels, blocks and lines that the survey detects"
    )
    descan: Literal["auto", "plane", "surface", "off"] = Field(
        "auto",
        description="remove the beam's shift with the scan: a plane or a surface of second order through the disc's "
        "positions; auto takes whichever is beyond chance and matters",
    )
    descan_region: tuple[int, int, int, int] | None = Field(
        None,
        description="probe positions that the shift is fitted to, such as vacuum: top, bottom, left, right; "
        "bottom and right not included",
    )
    ellipse: tuple[Annotated[float, Field(ge=1)], float] | None = Field(
        None,
        description="elliptical distortion to undo: long over short axis, and the long one's direction in degrees, "
        "counter-clockwise on the screen",
    )
    find_ellipse: bool = Field(False, description="undo the ellipse that the survey fits to the disc's edge")
    normalise: bool = Field(False, description="divide every pattern by its total")

    @field_validator("descan", mode="before")
    @classmethod
    def _read_switch(cls, value: Any) -> Any:
        return {True: "plane", False: "off"}.get(value, value) if isinstance(value, bool) else value


class SurveyConfig(Section):
    """How many patterns the survey reads."""

    n_frames: int = Field(1024, ge=1, description="number of patterns, at regular strides over the scan")


class MeasureConfig(Section):
    """What the pass over the raw data measures."""

    n_radial: int | None = Field(None, ge=4, description="rings of the polar patterns; chosen from the disc if none")
    n_azimuthal: int | None = Field(None, ge=8, description="samples on a ring; chosen from the disc if none")
    outer: float | None = Field(None, gt=0, description="outer radius in disc radii; the inscribed circle if none")
    n_pixels: int = Field(0, ge=0, description="samples along each side of the Cartesian patterns; 0 for none")
    pixels_outer: float = Field(1.1, gt=0, description="half the side of the Cartesian patterns, in disc radii")
    adf_inner: float = Field(1.1, gt=0, description="inner edge of the annular dark field, in disc radii")
    adf_outer: float | None = Field(None, gt=0, description="outer edge, in disc radii; the detector's edge if none")
    masks: FileNames = Field(
        default_factory=dict,
        description="further virtual images: name = image file of weights on the prepared detector",
    )
    keep_polar: bool = Field(
        True,
        description="store the patterns that models learn from; if not, a model is fitted to a sample and embeds the "
        "rest during the pass, each pattern by itself",
    )
    n_sampled: int = Field(
        16384, ge=2, description="patterns, at least, that a model is fitted to where they are not all kept"
    )
    n_workers: int | None = Field(None, ge=1, description="number of processes that measure and embed; threads if none")
    cluster: str | None = Field(
        None, min_length=1, description="address of a Dask scheduler to measure and embed on, such as tcp://host:8786"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n_workers is not None and self.cluster is not None:
            raise ValueError(
                "measure.n_workers starts processes here, measure.cluster takes those of a scheduler; give one of them"
            )
        for name in self.masks:
            if trouble := find_name_trouble(name):
                raise ValueError(f"masks: {trouble}")
        return self


class BasisConfig(Section):
    """How polar patterns become features, which are short vectors."""

    n_features: int = Field(96, ge=4, description="number of complex features per pattern, those with most variance")
    order_scale: float | None = Field(
        None,
        gt=0,
        description="the noise level of order m is taken as 1 + (m / order_scale)² times that of order 0; if none, 3, "
        "and no scale where patterns differ on dark rings",
    )
    variance_floor: float | None = Field(
        None,
        gt=0,
        description="smallest noise variance of a pixel, over the brightest ring's; if none, 1, at which all pixels "
        "count alike, and the noise of its own counts for every ring where patterns differ on dark rings",
    )
    background: Literal["auto", "mean", "rings"] = Field(
        "auto",
        description="what is the same in all patterns: their mean, or, beyond the direct beam, its means over rings; "
        "auto tries both where patterns differ on dark rings",
    )
    drop_orders: tuple[int, ...] = Field((), description="circular orders withheld from alignment and model")
    neighbours: bool | None = Field(
        None,
        description="estimate features of noisy patterns with those of the whole scan; if none, not where patterns "
        "differ on dark rings, whose neighbours may be of another grain",
    )

    @model_validator(mode="before")
    @classmethod
    def _forget_reach(cls, values: Any) -> Any:
        """Leave out the setting of a filter that runs of earlier versions name."""
        return (
            {name: value for name, value in values.items() if name != "reach"} if isinstance(values, dict) else values
        )


class AlignConfig(Section):
    """How patterns are rotated onto a common template."""

    n_angles: int = Field(144, ge=16, description="number of grid angles on the circle")
    n_iterations: int = Field(60, ge=1, description="largest number of rounds of rotating and averaging")
    max_order: int = Field(6, ge=1, description="highest circular order that the alignment starts from")
