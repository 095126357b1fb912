"""Settings of the models, one section per model, and of their training."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field

from stemvane.config.section import FileName, Section

__all__ = [
    "MODEL_CONFIGS",
    "MOST_KINDS",
    "AlignmentConfig",
    "CoordinateConfig",
    "HarmonicConfig",
    "KindsConfig",
    "ModelConfig",
    "ModelSection",
    "NMFConfig",
    "PCAConfig",
    "PixelModelSection",
    "PlainConfig",
    "TrainingConfig",
]

MOST_KINDS = 64
"""Largest number of kinds: each is a fit of its own."""

_NAME = Field(description="name of the model")
_NAngles = Annotated[
    int, Field(ge=16, description="grid angles of the posterior; 72 holds 2-, 3-, 4- and 6-fold peaks")
]
_NHidden = Annotated[int, Field(ge=4, description="width of the hidden layers")]
_Beta = Annotated[float, Field(ge=0, description="weight of the Kullback-Leibler divergence of the latents")]
_NoiseFloor = Annotated[float, Field(gt=0, description="smallest noise level, over the rms length of a residual")]
_BatchSize = Annotated[int, Field(ge=1, description="number of patterns per training step")]
_Rate = Annotated[float, Field(gt=0, description="learning rate of Adam")]
_Conditions = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda names: [name.strip() for name in names.split(",")] if isinstance(names, str) else names),
    Field(description="maps, such as annular_dark_field or image, whose part of the content the latents leave out"),
]


class ModelSection(Section):
    """What every model is asked for."""

    learns_pixels: ClassVar[bool] = False
    """Whether the model learns from Cartesian patterns instead of polar ones."""
    has_epochs: ClassVar[bool] = True
    """Whether the model learns step by step; False where it is fitted in closed form."""
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
    conditions: _Conditions = ()
    start: Literal["alignment", "random"] = Field("alignment", description="where the training starts")
    batch_size: _BatchSize = 512
    learning_rate: float = Field(0.008, gt=0, description="largest learning rate of Adam, which falls to 0")


class AlignmentConfig(ModelSection):
    """Rotational alignment followed by principal components, `AlignedPCA`."""

    has_epochs: ClassVar[bool] = False

    model: Annotated[Literal["alignment"], _NAME] = "alignment"
    n_angles: _NAngles = 72
    noise_floor: _NoiseFloor = 0.05
    conditions: _Conditions = ()


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

    has_epochs: ClassVar[bool] = False

    model: Annotated[Literal["pca"], _NAME] = "pca"


class NMFConfig(PixelModelSection):
    """Non-negative matrix factorisation, `NMF`."""

    has_epochs: ClassVar[bool] = False

    model: Annotated[Literal["nmf"], _NAME] = "nmf"


class KindsConfig(ModelSection):
    """Kinds of patterns, each with a template that rotates and latents of its own, `KindsModel`."""

    has_epochs: ClassVar[bool] = False
    latent_unit: ClassVar[str] = "s.d."

    model: Annotated[Literal["kinds"], _NAME] = "kinds"
    n_kinds: int = Field(3, ge=1, le=MOST_KINDS, description="number of kinds")
    n_angles: _NAngles = 72
    noise_floor: float = Field(
        0.02, gt=0, description="smallest noise level of a feature, over the rms residual of a feature"
    )
    strength: float | None = Field(
        None,
        ge=0,
        description="what a neighbour of the same kind adds to the log probability of a kind; found if none",
    )
    window: float | None = Field(
        None,
        ge=0,
        le=64,
        description="standard deviation, in positions, of surroundings that are of one kind together and take the "
        "place of strength: half a unit cell at atomic resolution; 0 for none, found if none is given",
    )
    mirror: bool = Field(
        False, description="whether every kind comes with its mirror image, whose number is the next one"
    )
    labels: FileName = Field(
        "", description="CSV file of labelled positions with the columns y, x, name; empty for none"
    )


ModelConfig = Annotated[
    HarmonicConfig | CoordinateConfig | PlainConfig | PCAConfig | NMFConfig | AlignmentConfig | KindsConfig,
    Field(discriminator="model"),
]
"""Settings of one model; the setting ``model`` says of which."""

MODEL_CONFIGS: dict[str, type[ModelSection]] = {
    section.model_fields["model"].default: section for section in get_args(get_args(ModelConfig)[0])
}
"""Settings of every model by its name; the first is the default."""


class TrainingConfig(Section):
    """How any model is trained; batch size and learning rate belong to the model."""

    n_epochs: int = Field(75, ge=0, description="passes over the training patterns; none in closed-form models")
    n_shown: int = Field(
        300_000,
        ge=1,
        description="patterns that all passes show the model together; of a larger scan every pass shows a random part",
    )
    holdout: float = Field(0.1, ge=0, lt=1, description="share of the patterns that is held out from training")
    max_patterns: int = Field(100_000, ge=2, description="largest number of training patterns, chosen at random")
    seed: int = Field(0, ge=0, description="random seed of the training")
    device: str = Field("auto", description="where the training runs: 'auto', 'cpu' or 'cuda'")
