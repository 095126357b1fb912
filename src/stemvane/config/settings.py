"""All settings of a run, to and from TOML, and the sections of what follows the models."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, ClassVar

import tomli_w
from pydantic import Field, field_validator, model_validator

from stemvane.config.data_sections import (
    AlignConfig,
    BasisConfig,
    MeasureConfig,
    PreparationConfig,
    SimulationConfig,
    SourceConfig,
    SurveyConfig,
)
from stemvane.config.model_sections import MODEL_CONFIGS, HarmonicConfig, ModelConfig, ModelSection, TrainingConfig
from stemvane.config.section import FileName, Section
from stemvane.errors import ConfigError
from stemvane.specimens import LIBRARIES

__all__ = ["CompareConfig", "Config", "FiguresConfig", "QuantityConfig", "SymmetryConfig"]

# heading of a column and words of a figure
_PLAIN = r"^[^,;\"\\$\x00-\x1f]*$"


class QuantityConfig(Section):
    """A quantity that is known at some positions and follows at all others from the latents."""

    known: FileName = Field(
        "", description="CSV file of the positions where it is known with the columns y, x, value; empty for none"
    )
    name: str = Field("quantity", min_length=1, pattern=_PLAIN, description="what it is, such as thickness or tilt")
    unit: str = Field("", pattern=_PLAIN, description="unit of the values, such as nm or mrad")


class CompareConfig(Section):
    """How the embedding is compared with the centre of mass."""

    n_turned: int = Field(256, ge=0, description="patterns rotated by random angles to test invariance; 0 for no test")


class SymmetryConfig(Section):
    """How a scan is compared with its own pristine lattice."""

    false_discovery_rate: float = Field(0.05, gt=0, lt=1, description="share of false defects among those reported")
    n_features: int = Field(96, ge=8, description="number of complex features per pattern, those with most variance")
    distortion_degree: int = Field(
        3, ge=1, le=6, description="degree of drift and distortion; 1 where a higher one explains little"
    )
    library: str = Field(
        "",
        description="sheet whose defects are simulated to name the kinds, or folder with a structure file for each, "
        "or with a stored library",
    )
    defocus: float | None = Field(
        None,
        description="defocus of the probe of the library, Å, positive for underfocus; as the scan tells it if none",
    )
    cs: float = Field(0.0, description="spherical aberration of the probe of the library, Å")
    source_size: float = Field(0.0, ge=0, description="full width at half maximum of the library's source, Å")

    @field_validator("library", mode="before")
    @classmethod
    def _read_library(cls, value: Any) -> Any:
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    def files(self) -> tuple[Path, ...]:
        """The folder of the library, where it is no sheet's name."""
        return (Path(self.library),) if self.library and self.library not in LIBRARIES else ()


class FiguresConfig(Section):
    """How figures are drawn."""

    manifold: int = Field(7, ge=2, le=50, description="decoded patterns along each side of the latent manifold")
    dpi: int = Field(200, ge=50, le=1200, description="resolution of the PNG files, dots per inch")


class Config(Section):
    """All settings of a run, one section per stage, in the order in which data flow."""

    choices: ClassVar[dict[str, type[Section]]] = dict(MODEL_CONFIGS)

    source: SourceConfig = SourceConfig()
    simulation: SimulationConfig = SimulationConfig()
    preparation: PreparationConfig = PreparationConfig()
    survey: SurveyConfig = SurveyConfig()
    measure: MeasureConfig = MeasureConfig()
    basis: BasisConfig = BasisConfig()
    align: AlignConfig = AlignConfig()
    model: ModelConfig = HarmonicConfig()
    training: TrainingConfig = TrainingConfig()
    quantity: QuantityConfig = QuantityConfig()
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
        except TypeError:
            raise ConfigError(
                f"Config.from_toml takes the path of a TOML file, not {type(path).__name__}; give a path"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ConfigError(f"{path}: cannot be read ({reason}); give a TOML file") from None
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not valid TOML ({error}); see config.toml of any run for an example") from None
        return cls.from_dict(values, str(path))

    def complete(self) -> Config:
        """Return a copy in which Cartesian patterns are measured, 16 samples wide, if the model learns from them."""
        if self.measure.n_pixels or not self.model.learns_pixels:
            return self
        return self.replace(measure={"n_pixels": 16})

    def to_toml(self) -> str:
        """Return every value, defaults included, as TOML; values that are None are left out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True, mode="json"))

    def replace(self, **sections: dict[str, Any]) -> Config:
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
        if isinstance(name, str) and name != self.model.model and name in MODEL_CONFIGS:
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
            model = _settings_of(model, MODEL_CONFIGS[model["model"]])
        return values | {"model": model}


def _settings_of(values: dict[str, Any], section: type[ModelSection]) -> dict[str, Any]:
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
