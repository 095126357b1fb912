"""A fitted model on disk: numbers as safetensors, settings as TOML of the same name."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import safetensors.torch
import tomli_w
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stemvane.config import Config
from stemvane.errors import ModelError

__all__ = ["read_model", "read_settings", "write_model"]


def write_model(
    path: Path, tensors: dict[str, Tensor], numbers: dict[str, Any], settings: Config, sections: Collection[str]
) -> Path:
    """Write a model as safetensors, and its settings beside it as TOML of the same name.

    Parameters
    ----------
    path : Path
        The suffix becomes ``.safetensors``.
    tensors : dict of Tensor
        Tensors by their names.
    numbers : dict
        Plain numbers, words and lists, kept in the same file.
    settings : Config
        Settings of the model.
    sections : collection of str
        Names of the sections of the settings that are written.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ModelError
        If a file cannot be written, or one of these names has another file that is no model's.
    """
    path = path.with_suffix(".safetensors")
    taken = [name for name in (path, path.with_suffix(".toml")) if name.exists()]
    if taken and not _is_model(path):
        raise ModelError(f"{taken[0]}: exists and is no model of stemvane's, so it is left alone; give another name")
    text = tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True, include=set(sections)))
    metadata = {"stemvane": json.dumps({"format": "stemvane-model", **numbers})}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(
            {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, path, metadata=metadata
        )
        path.with_suffix(".toml").write_text(text, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be written ({_reason(error)}); choose another folder") from None
    return path


def _is_model(path: Path) -> bool:
    """Whether a file is one that `write_model` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            return "stemvane" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def read_settings(path: Path) -> Config:
    """Settings of a model, from the TOML file of its name; ModelError if it is missing or damaged."""
    settings = path.with_suffix(".toml")
    try:
        sections = tomllib.loads(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return Config.from_dict(sections, str(settings))


def read_model(path: Path, restore: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> None:
    """Read what `write_model` wrote.

    Parameters
    ----------
    path : Path
        The suffix becomes ``.safetensors``.
    restore : callable
        Takes over the plain numbers and the tensors.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or model and settings do not fit each other.
    """
    path = path.with_suffix(".safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            numbers = json.loads((file.metadata() or {}).get("stemvane", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        restore(numbers, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: does not fit its settings ({_reason(error)}); save the model again") from None


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path}: not a readable model ({_reason(error)}); save it again with the model's save")


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
