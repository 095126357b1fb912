"""Options of the command line: how numbers are written and shown, and which settings they are."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from stemvane.errors import ConfigError

if TYPE_CHECKING:
    from stemvane.config import Config

__all__ = [
    "FLAGS",
    "add_flags",
    "drop_missing",
    "read_energy",
    "read_numbers",
    "read_pair",
    "read_position",
    "read_range",
    "read_setting",
    "read_whole",
    "read_zone_axis",
    "show_bytes",
    "show_number",
    "source_settings",
    "with_choices",
    "with_settings",
]

FLAGS = {
    "overwrite=True": "--overwrite",
    "verify=False": "--no-verify",
    "source.background": "--background",
    "source.convergence_semiangle": "--semiangle",
    "source.dataset": "--dataset",
    "source.disc_radius": "--disc-radius",
    "source.dtype": "--dtype",
    "source.energy": "--energy",
    "source.flyback": "--flyback",
    "source.ignore_extra": "--ignore-extra",
    "source.image": "--image",
    "source.optical_axis": "--axis",
    "source.pixel_size": "--pixel",
    "source.scan_rotation": "--scan-rotation",
    "source.scan_shape": "--scan",
    "source.scan_step": "--scan-step",
    "source.sensor": "--sensor",
    "source.shape": "--shape",
    "source.skip_frames": "--skip-frames",
    "source.vacuum": "--vacuum",
    "simulation.concentrations": "--concentration",
    "simulation.convergence_semiangle": "--semiangle",
    "simulation.cs": "--cs",
    "simulation.defects": "--defects",
    "simulation.defocus": "--defocus",
    "simulation.detector": "--detector-kind",
    "simulation.detector_outer": "--outer",
    "simulation.detector_shape": "--detector",
    "simulation.dose": "--dose",
    "simulation.energy": "--energy",
    "simulation.method": "--method",
    "simulation.n_phonons": "--n-phonons",
    "simulation.phonon_sigma": "--phonons",
    "simulation.placement_seed": "--placement-seed",
    "simulation.scan_shape": "--scan",
    "simulation.seed": "--seed",
    "simulation.source_size": "--source-size",
    "simulation.structure": "--structure",
    "simulation.thickness": "--thickness",
    "simulation.twist": "--twist",
    "simulation.zone_axis": "--zone-axis",
    "measure.cluster": "--cluster",
    "measure.n_workers": "--workers",
    "model.n_latent": "--n-latent",
    "training.device": "--device",
    "training.n_epochs": "--n-epochs",
    "training.seed": "--seed",
    "symmetry.false_discovery_rate": "--rate",
    "symmetry.library": "--library",
    "figures.dpi": "--dpi",
}
"""Settings, as messages name them, and the options of the command line that stand for them."""

_UNITS = {"": 1.0, "ev": 1.0, "kev": 1e3, "kv": 1e3, "mev": 1e6}


def read_energy(text: str | None) -> float | None:
    """Energy in eV from ``60keV`` or ``60000``."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+\.?\d*(?:e[+-]?\d+)?)\s*([a-z]*)\s*", text, re.IGNORECASE | re.ASCII)
    if match is None or match[2].lower() not in _UNITS:
        raise ConfigError(f"--energy is '{text}'; write it as 60keV or 60000")
    value = float(match[1]) * _UNITS[match[2].lower()]
    if not 0 < value < math.inf:
        raise ConfigError(f"--energy is '{text}'; write a positive energy, such as 60keV")
    return value


def read_pair(text: str, kind: type, option: str) -> tuple[Any, Any]:
    """One positive number for both axes, or two as ``YxX``."""
    try:
        values = [kind(part) for part in re.split(r"[x,]", text)]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < math.inf for value in values):
        raise ConfigError(f"{option} is '{text}'; write one positive number, or two as YxX")
    return values[0], values[-1]


def read_zone_axis(text: str | None) -> tuple[int, ...] | None:
    """Three indices from ``110``, ``1-10``, ``1,-1,0`` or ``[1 -1 0]``."""
    if text is None:
        return None
    apart = re.fullmatch(r"\s*\[?\s*(-?\d{1,3})[\s,]+(-?\d{1,3})[\s,]+(-?\d{1,3})\s*\]?\s*", text, re.ASCII)
    joined = re.fullmatch(r"\s*\[?(-?\d)(-?\d)(-?\d)\]?\s*", text, re.ASCII)
    match = apart or joined
    if match is None:
        raise ConfigError(f"--zone-axis is '{text}'; write three indices, such as 110 or 1,-1,0")
    return tuple(int(index) for index in match.groups())


def read_whole(text: str, option: str, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Whole numbers as ``4x5x6``, of one of the allowed lengths."""
    try:
        values = tuple(int(part) for part in re.split(r"[x,]", text))
    except ValueError:
        values = ()
    if len(values) not in lengths or min(values) < 1:
        example = "127x127" if lengths == (2,) else "64x64x128x128, or 4096x128x128 for a stack"
        raise ConfigError(f"{option} is '{text}'; write whole numbers, such as {example}")
    return values


def read_position(text: str, option: str) -> tuple[float, float]:
    """A position ``YxX`` in pixels, which may be negative."""
    try:
        y, x = (float(part) for part in re.split(r"[x,]", text))
    except ValueError:
        y = x = math.nan
    if not (math.isfinite(y) and math.isfinite(x)):
        raise ConfigError(f"{option} is '{text}'; write two numbers as YxX, such as 31.5x32")
    return y, x


def read_range(text: str, option: str) -> tuple[int, ...]:
    """Whole numbers from ``0..6``, both ends included, or ``0,2,4``, or ``3``."""
    match = re.fullmatch(r"\s*(\d+)\.\.(\d+)\s*", text, re.ASCII)
    if match is not None and int(match[1]) <= int(match[2]) < 1000:
        return tuple(range(int(match[1]), int(match[2]) + 1))
    if match is None and re.fullmatch(r"\s*\d{1,3}\s*(,\s*\d{1,3}\s*)*", text, re.ASCII):
        return tuple(sorted({int(part) for part in text.split(",")}))
    raise ConfigError(f"{option} is '{text}'; write a range such as 0..6, or numbers such as 0,2,4")


def read_setting(text: str) -> tuple[str, str, Any]:
    """Section, name and value of ``section.name=value``; the value as in TOML, a word without quotes is a word."""
    match = re.fullmatch(r"\s*(\w+)\.(\w+)\s*=\s*(.+?)\s*", text)
    if match is None:
        raise ConfigError(f"--set is '{text}'; write section.name=value, such as preparation.descan=true")
    try:
        return match[1], match[2], tomllib.loads(f"value = {match[3]}")["value"]
    except tomllib.TOMLDecodeError:
        return match[1], match[2], match[3]


def read_numbers(text: str | None, kind: type, option: str) -> dict[str, Any] | None:
    """Numbers by name from ``N=2,Si-C3=1``."""
    if text is None:
        return None
    numbers: dict[str, Any] = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        try:
            numbers[name] = kind(number)
        except ValueError:
            name = ""
        if not name:
            example = "N=2,Si-C3=1" if kind is int else "N=0.01,vacancy=0.002"
            raise ConfigError(f"{option} is '{text}'; write names with their numbers, such as {example}")
    return numbers


def source_settings(
    energy: str | None,
    semiangle: float | None,
    scan_step: str | None,
    pixel: str | None,
    axis: str | None,
    disc_radius: float | None,
    scan_rotation: float | None,
) -> dict[str, Any]:
    """Numbers of the calibration as the section [source] takes them."""
    choices = {
        "energy": read_energy(energy),
        "convergence_semiangle": semiangle,
        "scan_step": None if scan_step is None else read_pair(scan_step, float, "--scan-step"),
        "pixel_size": None if pixel is None else read_pair(pixel, float, "--pixel"),
        "optical_axis": None if axis is None else read_position(axis, "--axis"),
        "disc_radius": disc_radius,
        "scan_rotation": scan_rotation,
    }
    return drop_missing(choices)


def add_flags(text: str, available: Collection[str]) -> str:
    """A message in which every setting that an option of the command stands for is followed by the option.

    Parameters
    ----------
    text : str
        The message; settings are named as ``source.optical_axis``, in quotes or not.
    available : collection of str
        Options that the command has.
    """

    def add(match: re.Match[str]) -> str:
        flag = FLAGS[match["name"]]
        return f"{match[0]} ({flag})" if flag in available else match[0]

    names = "|".join(re.escape(name) for name in FLAGS)
    return re.sub(rf"(?P<quote>['\"]?)\b(?P<name>{names})(?![\w.])(?P=quote)", add, text)


def drop_missing(choices: dict[str, Any]) -> dict[str, Any]:
    """Options that were given, without those that were left out."""
    return {key: value for key, value in choices.items() if value is not None}


def show_number(value: Any) -> str:
    """A number or a pair for a table."""
    if value is None:
        return "unknown"
    return ", ".join(f"{v:.5g}" for v in value) if isinstance(value, tuple) else f"{value:.6g}"


def show_bytes(n: int) -> str:
    """A size in the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000  # type: ignore[assignment]
    return f"{n:.4g} TB"


def with_settings(config: Config, texts: list[str] | None) -> Config:
    """Settings with those that ``--set`` was given."""
    # all at once, since a setting may belong to a model that another one chooses
    sections: dict[str, dict[str, Any]] = {}
    for text in texts or []:
        section, name, value = read_setting(text)
        sections.setdefault(section, {})[name] = value
    return config.replace(**sections)


def with_choices(
    config: Config, seed: int | None, n_latent: int | None, n_epochs: int | None, device: str | None
) -> Config:
    """Settings with the options that many commands have; what was left out stays."""
    if n_epochs is not None and not config.model.has_epochs:
        note = f"note: --n-epochs has no effect on the model {config.model.model}, which is fitted in closed form"
        Console(stderr=True).print(Text(note), soft_wrap=True)
    return config.replace(
        training=drop_missing({"seed": seed, "n_epochs": n_epochs, "device": device}),
        model=drop_missing({"n_latent": n_latent}),
    )
