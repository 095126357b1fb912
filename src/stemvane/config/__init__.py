"""Settings: one frozen section per stage, in the order in which data flow, to and from TOML."""

from stemvane.config.data_sections import (
    AlignConfig,
    BasisConfig,
    DefectKind,
    MeasureConfig,
    PreparationConfig,
    SimulationConfig,
    SourceConfig,
    SurveyConfig,
)
from stemvane.config.model_sections import (
    MODEL_CONFIGS,
    AlignmentConfig,
    CoordinateConfig,
    HarmonicConfig,
    KindsConfig,
    ModelConfig,
    ModelSection,
    NMFConfig,
    PCAConfig,
    PlainConfig,
    TrainingConfig,
)
from stemvane.config.recording_sections import DETECTOR_PRESETS, DetectorConfig, DetectorPreset, ScanConfig
from stemvane.config.settings import (
    CompareConfig,
    Config,
    FiguresConfig,
    QuantityConfig,
    SymmetryConfig,
)

__all__ = [
    "DETECTOR_PRESETS",
    "MODEL_CONFIGS",
    "AlignConfig",
    "AlignmentConfig",
    "BasisConfig",
    "CompareConfig",
    "Config",
    "CoordinateConfig",
    "DefectKind",
    "DetectorConfig",
    "DetectorPreset",
    "FiguresConfig",
    "HarmonicConfig",
    "KindsConfig",
    "MeasureConfig",
    "ModelConfig",
    "ModelSection",
    "NMFConfig",
    "PCAConfig",
    "PlainConfig",
    "PreparationConfig",
    "QuantityConfig",
    "ScanConfig",
    "SimulationConfig",
    "SourceConfig",
    "SurveyConfig",
    "SymmetryConfig",
    "TrainingConfig",
]
