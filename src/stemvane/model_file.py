"""What a fit has found, and how it is kept on disk."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import tomli_w
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stemvane.config import Config, ModelConfig
from stemvane.errors import ModelError
from stemvane.feature_reader import FeatureReader
from stemvane.harmonics import HarmonicBasis
from stemvane.models.harmonic import HarmonicModel
from stemvane.neighbours import ScanFilter
from stemvane.polar import PolarGrid

__all__ = ["FittedModel", "as_complex", "as_tensor", "read_model", "write_model"]

_ARRAYS = ("orders", "scale", "analysis", "synthesis", "background")
_COMPLEX = ("analysis", "synthesis", "background")
_FILTER_ARRAYS = ("spectrum", "noise")
_FILTER_NUMBERS = ("highest", "step", "reach")
_NUMBERS = ("n_azimuthal", "noise", "discarded", "mean_total")


@dataclass(frozen=True, eq=False)
class FittedModel:
    """Everything that embedding and decoding need.

    Attributes
    ----------
    reader : FeatureReader
        From measurements to features.
    length : float
        Root mean square length of the training patterns' features, by which they are divided.
    network : HarmonicModel
        The trained network.
    grid : PolarGrid
        Where the polar samples lay on the detector.
    detector_shape : tuple of int
        Detector pixels ``(k_y, k_x)``.
    """

    reader: FeatureReader
    length: float
    network: HarmonicModel
    grid: PolarGrid
    detector_shape: tuple[int, int]


def write_model(path: Path, fitted: FittedModel, settings: dict[str, Any]) -> Path:
    """Write a model as safetensors, and its settings beside it as TOML of the same name.

    Raises
    ------
    ModelError
        If a file cannot be written.
    """
    tensors = {f"network.{k}": v.detach().cpu().clone() for k, v in fitted.network.state_dict().items()}
    basis, scan_filter = fitted.reader.basis, fitted.reader.scan_filter
    for name in _ARRAYS:
        tensor = torch.from_numpy(np.ascontiguousarray(getattr(basis, name)))
        tensors[f"basis.{name}"] = torch.view_as_real(tensor).clone() if name in _COMPLEX else tensor.clone()
    tensors["reader.noise"] = torch.from_numpy(fitted.reader.noise)
    about = {
        "format": "stemvane-model",
        "length": fitted.length,
        "detector_shape": list(fitted.detector_shape),
        "basis": {name: getattr(basis, name) for name in _NUMBERS},
        "grid": fitted.grid.to_dict(),
    }
    if scan_filter is not None:
        tensors |= {f"filter.{name}": torch.from_numpy(getattr(scan_filter, name)) for name in _FILTER_ARRAYS}
        about["filter"] = {name: getattr(scan_filter, name) for name in _FILTER_NUMBERS}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(tensors, path, metadata={"stemvane": json.dumps(about)})
        path.with_suffix(".toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be written ({_reason(error)}); choose another folder") from None
    return path


def read_model(path: Path) -> tuple[Config, FittedModel]:
    """Read what `write_model` wrote.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or model and settings do not fit each other.
    ConfigError
        If a setting is unknown.
    """
    settings = path.with_suffix(".toml")
    try:
        sections = tomllib.loads(settings.read_text(encoding="utf-8"))
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("stemvane", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(
            f"{path}: not a readable model ({_reason(error)}); save it again with RotationVAE.save"
        ) from None
    config = Config.from_dict(sections, str(settings))
    try:
        return config, _restored(config.model, about, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: does not fit its settings ({_reason(error)}); save the model again") from None


def as_tensor(features: NDArray[np.complexfloating[Any, Any]]) -> Tensor:
    """Real tensor of shape ``(..., 2 n_features)``: real parts, then imaginary parts."""
    return torch.from_numpy(np.concatenate([features.real, features.imag], axis=-1).astype(np.float32))


def as_complex(tensor: Tensor) -> NDArray[np.complex64]:
    """Inverse of `as_tensor`, shape ``(n, n_features)``."""
    real, imag = tensor.cpu().numpy().astype(np.float32, copy=False).reshape(len(tensor), 2, -1).swapaxes(0, 1)
    return np.asarray(real + 1j * imag, dtype=np.complex64)


def _restored(config: ModelConfig, about: dict[str, Any], tensors: dict[str, Tensor]) -> FittedModel:
    arrays: dict[str, Any] = {
        name: (
            torch.view_as_complex(tensors[f"basis.{name}"]) if name in _COMPLEX else tensors[f"basis.{name}"]
        ).numpy()
        for name in _ARRAYS
    }
    numbers: dict[str, Any] = {name: about["basis"][name] for name in _NUMBERS}
    basis = HarmonicBasis(**arrays, **numbers)
    scan_filter = None
    if "filter" in about:
        found: dict[str, Any] = {name: tensors[f"filter.{name}"].numpy() for name in _FILTER_ARRAYS}
        known = about["filter"] | {"step": tuple(about["filter"]["step"])}
        scan_filter = ScanFilter(**found, **{name: known[name] for name in _FILTER_NUMBERS})
    network = HarmonicModel(torch.from_numpy(basis.orders), config.n_latent, config.n_hidden, config.n_angles)
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    network.eval()
    rows, columns = about["detector_shape"]
    return FittedModel(
        reader=FeatureReader(basis, scan_filter, tensors["reader.noise"].numpy()),
        length=float(about["length"]),
        network=network,
        grid=PolarGrid.from_dict(about["grid"]),
        detector_shape=(rows, columns),
    )


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
