"""What has been worked out of a scan, kept as long as its measurements are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from stemvane.config import BasisConfig
from stemvane.data.measurements import Measurements
from stemvane.features.harmonics import HarmonicBasis

__all__ = ["hand_on", "is_usual_basis", "once", "usual_basis"]

_Result = TypeVar("_Result")

_memory: WeakKeyDictionary[Measurements, dict[Any, Any]] = WeakKeyDictionary()


def once(measurements: Measurements, work: Callable[[Measurements], _Result]) -> _Result:
    """Result of a function of measurements, which is called for the same ones only once."""
    results = _memory.setdefault(measurements, {})
    if work not in results:
        results[work] = work(measurements)
    result: _Result = results[work]
    return result


def hand_on(measurements: Measurements, same: Measurements) -> None:
    """Keep for other measurements of the same scan, such as those read from a file, what is known of these."""
    _memory[same] = dict(_memory.get(measurements, {}))


def usual_basis(measurements: Measurements) -> HarmonicBasis:
    """Features of all recorded patterns by the default settings, which the filter and the aberrations take."""
    return once(measurements, _usual_basis)


def is_usual_basis(measurements: Measurements, basis: HarmonicBasis) -> bool:
    """Whether a basis is what `usual_basis` has returned for these measurements."""
    return _memory.get(measurements, {}).get(_usual_basis) is basis


def _usual_basis(measurements: Measurements) -> HarmonicBasis:
    return HarmonicBasis.fit(measurements, BasisConfig())
