"""Settings: one frozen section per stage, in the order in which data flow, to and from TOML."""

from __future__ import annotations

import math
import textwrap
import tomllib
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stemvane.errors import ConfigError
from stemvane.specimens import DEFECTS, SPECIMENS

__all__ = [
    "MODEL_CONFIGS",
    "AlignConfig",
    "AlignmentConfig",
    "BasisConfig",
    "CompareConfig",
    "Config",
    "CoordinateConfig",
    "DefectKind",
    "FiguresConfig",
    "HarmonicConfig",
    "MeasureConfig",
    "ModelConfig",
    "ModelSection",
    "NMFConfig",
    "PCAConfig",
    "PlainConfig",
    "PreparationConfig",
    "SimulationConfig",
    "SourceConfig",
    "StructureName",
    "SurveyConfig",
    "SymmetryConfig",
    "TrainingConfig",
]


if TYPE_CHECKING:
    DefectKind = str
    StructureName = str
    LibraryHost = str
else:  # the choices are those of the table, so that no list has to be kept beside it
    DefectKind = Literal[tuple(DEFECTS)]
    StructureName = Literal[tuple(specimen.name for specimen in SPECIMENS)]
    LibraryHost = Literal[("", *dict.fromkeys(specimen.host for specimen in DEFECTS.values()))]

_ABOUT_THE_FILE = {"path", "scan_shape", "dataset", "shape", "dtype", "image", "vacuum"}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any], origin: str = "settings") -> Self:
        """Check nested settings.

        Raises
        ------
        ConfigError
            If a key is unknown or a value out of range; the message names the first one.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{origin}: {_first_trouble(error, cls)}") from None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What differs from the defaults."""
        for name, part in type(self).model_fields.items():
            value = getattr(self, name)
            if value != part.get_default(call_default_factory=True):
                yield name, value

    def __repr__(self) -> str:
        lines = textwrap.wrap(super().__repr__(), 120, subsequent_indent="  ", max_lines=8, placeholder=" …)")
        return "\n".join(lines)

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        values = tomli_w.dumps(self.model_dump(exclude_none=True, mode="json"))
        return f"<details><summary>{escape(repr(self))}</summary><pre>{escape(values)}</pre></details>"


class SourceConfig(_Section):
    """Source of the data, and calibration values of the user; without a path, a scan is simulated."""

    path: str = Field("", description="file to read; empty to simulate")
    scan_shape: tuple[int, int] | None = Field(
        None, description="probe positions (y, x), for a stack of frames without a scan shape"
    )
    dataset: str | None = Field(None, description="path of the array, in a file that holds several")
    shape: tuple[int, ...] | None = Field(None, description="shape of raw binary, the fastest axis last")
    dtype: str | None = Field(None, description="number type of raw binary, such as '<u2'")
    image: str = Field("", description="file of a dark-field image with the scan's shape, recorded separately")
    vacuum: str = Field("", description="file of the probe in vacuum: its disc gives optical axis and disc radius")
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


class SimulationConfig(_Section):
    """What `simulate` simulates."""

    structure: StructureName = Field("graphene", description="specimen, one that `stemvane structures` lists")
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
    method: Literal["single-slice", "multislice"] = Field("single-slice", description="how the wave is propagated")
    seed: int = Field(0, ge=0, description="random seed of thermal displacements and shot noise")
    placement_seed: int | None = Field(None, ge=0, description="random seed of the places of defects; `seed` if none")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.scan_shape) < 1 or min(self.detector_shape) < 4:
            raise ValueError("a scan needs at least 1 position and a detector at least 4 pixels along each axis")
        if min(self.scan_extent) <= 0:
            raise ValueError("scan_extent must be positive")
        if self.detector_outer <= self.convergence_semiangle:
            raise ValueError(
                "detector_outer must be larger than convergence_semiangle: the disc must fit on the detector"
            )
        return self


class PreparationConfig(_Section):
    """What is done to the patterns before they are measured, in this order."""

    dark: str = Field("", description="image file of a pattern without a beam, subtracted from every pattern")
    bad_pixels: str = Field("", description="image file, not zero where a detector pixel is bad: it is left out")
    transpose: bool = Field(False, description="swap rows and columns of the detector")
    flip_y: bool = Field(False, description="flip the detector upside down")
    flip_x: bool = Field(False, description="flip the detector left to right")
    scan_region: tuple[int, int, int, int] | None = Field(
        None, description="probe positions to keep: top, bottom, left, right; bottom and right not included"
    )
    scan_binning: int = Field(1, ge=1, description="probe positions along each axis that are summed to one")
    detector_binning: int = Field(1, ge=1, description="detector pixels along each axis that are summed to one")
    mask_hot_and_dead: bool = Field(True, description="mask the hot and dead pixels that the survey detects")
    descan: bool = Field(False, description="remove the beam's shift with the scan, a plane that the survey fits")
    ellipse: tuple[Annotated[float, Field(ge=1)], float] | None = Field(
        None,
        description="elliptical distortion to undo: long over short axis, and the long one's direction in degrees, "
        "counter-clockwise on the screen",
    )
    find_ellipse: bool = Field(False, description="undo the ellipse that the survey fits to the disc's edge")
    normalise: bool = Field(False, description="divide every pattern by its total")


class SurveyConfig(_Section):
    """How many patterns the survey reads."""

    n_frames: int = Field(256, ge=1, description="number of patterns, at regular strides over the scan")


class MeasureConfig(_Section):
    """What the pass over the raw data measures."""

    n_radial: int | None = Field(None, ge=4, description="rings of the polar patterns; chosen from the disc if none")
    n_azimuthal: int | None = Field(None, ge=8, description="samples on a ring; chosen from the disc if none")
    outer: float | None = Field(None, gt=0, description="outer radius in disc radii; the inscribed circle if none")
    n_pixels: int = Field(0, ge=0, description="samples along each side of the Cartesian patterns; 0 for none")
    pixels_outer: float = Field(1.1, gt=0, description="half the side of the Cartesian patterns, in disc radii")
    adf_inner: float = Field(1.1, gt=0, description="inner edge of the annular dark field, in disc radii")
    adf_outer: float | None = Field(None, gt=0, description="outer edge, in disc radii; the detector's edge if none")
    masks: dict[str, str] = Field(
        default_factory=dict,
        description="further virtual images: name = image file of weights on the prepared detector",
    )
    n_workers: int | None = Field(None, ge=1, description="number of processes that measure; threads if none")
    cluster: str | None = Field(
        None, min_length=1, description="address of a Dask scheduler to measure on, such as tcp://host:8786"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n_workers is not None and self.cluster is not None:
            raise ValueError("give n_workers for processes here, or cluster for those of a scheduler, not both")
        return self


class BasisConfig(_Section):
    """How polar patterns become features, which are short vectors."""

    n_features: int = Field(96, ge=4, description="number of complex features per pattern, those with most variance")
    order_scale: float = Field(
        3.0, gt=0, description="the noise level of order m is taken as 1 + (m / order_scale)² times that of order 0"
    )
    variance_floor: float = Field(
        1.0,
        gt=0,
        description="smallest noise variance of a pixel, over the brightest ring's; at 1 all pixels count alike",
    )
    drop_orders: tuple[int, ...] = Field((), description="circular orders withheld from alignment and model")
    neighbours: bool = Field(True, description="estimate features of noisy patterns with their neighbours'")
    reach: int = Field(6, ge=1, le=12, description="largest distance of a neighbour, probe positions")


class AlignConfig(_Section):
    """How patterns are rotated onto a common template."""

    n_angles: int = Field(144, ge=16, description="number of grid angles on the circle")
    n_iterations: int = Field(60, ge=1, description="largest number of rounds of rotating and averaging")
    max_order: int = Field(6, ge=1, description="highest circular order that the alignment starts from")


_NAME = Field(description="name of the model")
_NAngles = Annotated[
    int, Field(ge=16, description="grid angles of the posterior; 72 holds 2-, 3-, 4- and 6-fold peaks")
]
_NHidden = Annotated[int, Field(ge=4, description="width of the hidden layers")]
_Beta = Annotated[float, Field(ge=0, description="weight of the Kullback-Leibler divergence of the latents")]
_NoiseFloor = Annotated[float, Field(gt=0, description="smallest noise level, over the rms length of a residual")]
_BatchSize = Annotated[int, Field(ge=1, description="number of patterns per training step")]
_Rate = Annotated[float, Field(gt=0, description="learning rate of Adam")]


class ModelSection(_Section):
    """What every model is asked for."""

    learns_pixels: ClassVar[bool] = False
    """Whether the model learns from Cartesian patterns instead of polar ones."""
    latent_unit: ClassVar[str] = "rms residual"
    """What latents are measured in: rms lengths of a residual, or standard deviations."""

    model: str
    n_latent: int = Field(2, ge=0, description="number of latent variables besides the angle")


class HarmonicConfig(ModelSection):
    """The rotation-equivariant variational autoencoder in circular harmonics, `RotationVAE`."""

    model: Annotated[Literal["harmonic"], _NAME] = "harmonic"
    n_angles: _NAngles = 72
    n_hidden: _NHidden = 64
    beta: _Beta = 1.0
    noise_floor: _NoiseFloor = 0.05
    start: Literal["alignment", "random"] = Field("alignment", description="where the training starts")
    batch_size: _BatchSize = 512
    learning_rate: float = Field(0.008, gt=0, description="largest learning rate of Adam, which falls to 0")


class AlignmentConfig(ModelSection):
    """Rotational alignment followed by principal components, `AlignedPCA`."""

    model: Annotated[Literal["alignment"], _NAME] = "alignment"
    n_angles: _NAngles = 72
    noise_floor: _NoiseFloor = 0.05


class PixelModelSection(ModelSection):
    """Settings of a model that learns from Cartesian patterns."""

    learns_pixels: ClassVar[bool] = True
    latent_unit: ClassVar[str] = "s.d."


class CoordinateConfig(PixelModelSection):
    """The rotationally invariant autoencoder with a coordinate decoder, as published, `CoordinateVAE`."""

    model: Annotated[Literal["coordinate"], _NAME] = "coordinate"
    n_angles: _NAngles = 72
    n_hidden: _NHidden = 128
    beta: _Beta = 1.0
    angle_prior: float = Field(0.1, gt=0, description="standard deviation of the angle's prior, rad")
    translation: float = Field(
        0.0, ge=0, description="standard deviation of a shift's prior, in half widths of the pattern; 0 for no shift"
    )
    batch_size: _BatchSize = 256
    learning_rate: _Rate = 0.0001


class PlainConfig(PixelModelSection):
    """The plain variational autoencoder without an angle, `PlainVAE`."""

    model: Annotated[Literal["vae"], _NAME] = "vae"
    n_hidden: _NHidden = 128
    beta: _Beta = 1.0
    batch_size: _BatchSize = 256
    learning_rate: _Rate = 0.0001


class PCAConfig(PixelModelSection):
    """Principal component analysis, `PCA`."""

    model: Annotated[Literal["pca"], _NAME] = "pca"


class NMFConfig(PixelModelSection):
    """Non-negative matrix factorisation, `NMF`."""

    model: Annotated[Literal["nmf"], _NAME] = "nmf"


ModelConfig = Annotated[
    HarmonicConfig | CoordinateConfig | PlainConfig | PCAConfig | NMFConfig | AlignmentConfig,
    Field(discriminator="model"),
]
"""Settings of one model; the setting ``model`` says of which."""

MODEL_CONFIGS: dict[str, type[ModelSection]] = {
    section.model_fields["model"].default: section for section in get_args(get_args(ModelConfig)[0])
}
"""Settings of every model by its name; the first is the default."""


class TrainingConfig(_Section):
    """How any model is trained; batch size and learning rate belong to the model."""

    n_epochs: int = Field(75, ge=0, description="passes over the training patterns; none in closed-form models")
    holdout: float = Field(0.1, ge=0, lt=1, description="share of the patterns that is held out from training")
    max_patterns: int = Field(100_000, ge=2, description="largest number of training patterns, chosen at random")
    seed: int = Field(0, ge=0, description="random seed of the training")
    device: str = Field("auto", description="where the training runs: 'auto', 'cpu' or 'cuda'")


class CompareConfig(_Section):
    """How the embedding is compared with the centre of mass."""

    n_turned: int = Field(256, ge=0, description="patterns rotated by random angles to test invariance; 0 for no test")


class SymmetryConfig(_Section):
    """How a scan is compared with its own pristine lattice."""

    false_discovery_rate: float = Field(0.05, gt=0, lt=1, description="share of false defects among those reported")
    n_features: int = Field(96, ge=8, description="number of complex features per pattern, those with most variance")
    distortion_degree: int = Field(3, ge=1, le=6, description="degree of drift and distortion; less on small scans")
    library: LibraryHost = Field("", description="sheet whose defects are simulated, to name the kinds")
    defocus: float = Field(0.0, description="defocus of the probe of the library, Å; positive for underfocus")
    cs: float = Field(0.0, description="spherical aberration of the probe of the library, Å")
    source_size: float = Field(0.0, ge=0, description="full width at half maximum of the library's source, Å")


class FiguresConfig(_Section):
    """How figures are drawn."""

    manifold: int = Field(7, ge=2, description="decoded patterns along each side of the latent manifold")
    dpi: int = Field(200, ge=50, description="resolution of the PNG files, dots per inch")


class Config(_Section):
    """All settings of a run, one section per stage, in the order in which data flow."""

    source: SourceConfig = SourceConfig()
    simulation: SimulationConfig = SimulationConfig()
    preparation: PreparationConfig = PreparationConfig()
    survey: SurveyConfig = SurveyConfig()
    measure: MeasureConfig = MeasureConfig()
    basis: BasisConfig = BasisConfig()
    align: AlignConfig = AlignConfig()
    model: ModelConfig = HarmonicConfig()
    training: TrainingConfig = TrainingConfig()
    compare: CompareConfig = CompareConfig()
    symmetry: SymmetryConfig = SymmetryConfig()
    figures: FiguresConfig = FiguresConfig()

    @classmethod
    def from_toml(cls, path: str | Path) -> Config:
        """Read settings from a TOML file.

        Raises
        ------
        ConfigError
            If the file is missing, not TOML, or holds an unknown key or impossible value.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ConfigError(f"{path}: cannot be read ({reason}); give a TOML file") from None
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not valid TOML ({error}); see config.toml of any run for an example") from None
        return cls.from_dict(values, str(path))

    def completed(self) -> Config:
        """Return a copy in which Cartesian patterns are measured, 16 samples wide, if the model learns from them."""
        if self.measure.n_pixels or not self.model.learns_pixels:
            return self
        return self.updated(measure={"n_pixels": 16})

    def to_toml(self) -> str:
        """Return every value, defaults included, as TOML; values that are None are left out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True, mode="json"))

    def updated(self, **sections: dict[str, Any]) -> Config:
        """Return a copy with some values of some sections replaced, checked again.

        Where ``model.model`` changes, the new model has its own defaults; other values of the old model remain where
        the new one has a setting of that name.

        Raises
        ------
        ConfigError
            If a key is unknown or a value out of range.
        """
        values = self.model_dump(mode="python")
        name = sections.get("model", {}).get("model", self.model.model)
        if name != self.model.model and name in MODEL_CONFIGS:
            chosen = self.model.model_dump(mode="python", exclude_defaults=True)
            values["model"] = {key: chosen[key] for key in chosen if key in MODEL_CONFIGS[name].model_fields}
        for section, changes in sections.items():
            values.setdefault(section, {}).update(changes)
        return self.from_dict(values)

    @model_validator(mode="before")
    @classmethod
    def _sort_model_settings(cls, values: Any) -> Any:
        """Name the model, and accept what files of version 0.1 hold: one section for all models."""
        if not isinstance(values, dict) or not isinstance(values.get("model", {}), dict):
            return values
        model = {"model": next(iter(MODEL_CONFIGS))} | values.get("model", {})
        training = values.get("training", {})
        if isinstance(training, dict):
            moved = {name: training[name] for name in ("batch_size", "learning_rate") if name in training}
            model |= moved
            values = values | {"training": {name: training[name] for name in training if name not in moved}}
        if isinstance(model["model"], str) and model["model"] in MODEL_CONFIGS:
            model = _own_settings(model, MODEL_CONFIGS[model["model"]])
        return values | {"model": model}


def _own_settings(values: dict[str, Any], section: type[ModelSection]) -> dict[str, Any]:
    """Settings of a model without those of other models, which must have a default of theirs."""
    remaining = dict(values)
    for name in values.keys() - section.model_fields.keys():
        others = [other.model_fields[name] for other in MODEL_CONFIGS.values() if name in other.model_fields]
        if others and values[name] not in [field.default for field in others]:
            names = ", ".join(key for key in section.model_fields if key != "model")
            raise ValueError(f"the model {values['model']!r} has no setting 'model.{name}'; it has {names}")
        if others:
            del remaining[name]
    return remaining


def _first_trouble(error: ValidationError, section: type[BaseModel]) -> str:
    """Name the first setting in question and what is wrong with it."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    # pydantic names the member of the union of models after the section
    place = [str(part) for part in first["loc"]]
    if place[:1] == ["model"] and len(place) > 1 and section is Config:
        del place[1]
    where = ".".join(place)
    if not where:
        return message
    if first["type"] == "extra_forbidden":
        for part in first["loc"][:-1]:
            section = MODEL_CONFIGS.get(str(part)) or type(section.model_fields[str(part)].default)
        return f"unknown setting '{where}'; known here are {', '.join(section.model_fields)}"
    if first["type"] == "union_tag_invalid":
        return f"'model.model' is {first['input'].get('model')!r}; choose one of {', '.join(MODEL_CONFIGS)}"
    if first["type"] == "finite_number":
        return f"'{where}' is {first['input']!r}; give a finite number"
    return f"'{where}' is {first.get('input')!r}: {message}"
