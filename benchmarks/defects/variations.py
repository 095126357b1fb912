"""What is varied of the search for defects: every constant, every channel, and every step that can be left out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import IntEnum
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np

from stemvane.defects.channels import CHANNELS

__all__ = ["CONSTANTS", "LEFT_OUT", "PLAIN", "SETTINGS", "Stage", "Variation", "all_variations", "varied"]

PACKAGE = "stemvane.defects"


class Stage(IntEnum):
    """Steps of a search; what comes before the one that a variation concerns is taken from the unvaried search."""

    FEATURES = 0
    DOMAINS = 1
    FIT = 2
    P_VALUES = 3
    DEFECTS = 4
    LIBRARY = 5


_PARTS: Any = import_module(f"{PACKAGE}.domains")._PARTS

# Å, shares and numbers as they are in the modules, by half and double where nothing speaks against it
CONSTANTS: dict[str, tuple[Any, ...]] = {
    "fitted_scan._VARIANCE_FLOOR": (1e-6, 1e-2),
    "fitted_scan._SEARCHED": (12, 48),
    "lattice._STANDS_OUT": (2.5, 10.0),
    "lattice._MOST_PEAKS": (12, 48),
    "lattice._EXPLAINS": (0.3, 0.9),
    "lattice._AS_GOOD": (0.9, 0.99),
    "lattice.LEAST_PERIODS": (1.5, 6.0),
    "lattice._SOFT": (1e-6, 2.0),
    "lattice._FARTHEST": (1.0, 2.0),
    "domains._LEFT": (0.25, 1.0),
    "domains._WIDTHS": ((0.8,), (1.6,), (3.2,)),
    "domains._CLEAR": (2.5, 10.0),
    "domains._EXTENDED": (2.5, 10.0),
    "domains._NARROW": (1e-9, 6.0),
    "domains._AROUND": (0.6, 2.4),
    "domains._PRESENT": (0.2, 0.8),
    "domains._N_CHANNELS": (8, 24),
    "domains._ROUNDS": (2, 10),
    "domains._PARTS": (_PARTS[:1], _PARTS[:5]),
    "domains._LEAST_RECORDED": (0.25, 0.75),
    "periodic_fit._ROUNDS": (1, 2),
    "periodic_fit._AROUND": (0.4, 1.6),
    "periodic_fit._OUTLYING": (1.5, 6.0),
    "periodic_fit._MOST_POSITIONS": (2000,),
    "periodic_fit._WORTH_CURVING": (0.0, 1e9),
    "periodic_fit._LEAST_EXCESS": (0.0,),
    "sites._GRID": (24,),
    "sites._LEAST_PEAK": (0.15, 0.6),
    "sites._LEAST_HOLLOW": (0.8, 0.95),
    "sites._LONGEST_BOND": (1.1, 1.4),
    "fitted_scan._MARGIN": (0.5, 2.0),
    "fitted_scan._REACH": (0.0, 1.5),
    "fitted_scan.SITE_WIDTH": (0.45, 0.9),
    "fitted_scan._ATOM_WIDTH": (0.25, 0.63),
    "atoms._N_RADIAL": (2, 4),
    "atoms._HIGHEST_ORDER": (3, 9),
    "atoms._REACH": (3.0, 6.0),
    "atoms._WAVE_STEP": (1e-2,),
    "channels._PATTERN_DEGREE": (2, 3, 5),
    "channels._CHANGE": (0.15, 0.6, 1e6),
    "numerics._CLIPPINGS": (0, 2),
    "p_values._HEAVY": (125,),
    "p_values._HIGHEST": (0.5, 1 - 1e-12),
    "search._JOINED": (1.5, 3.3),
    "search._RING": (0.2, 0.5),
    "search._MOST_PLACES": (100,),
    "search._LEAST_SITES": (2, 8),
    "local_symmetry._N_RING": (18,),
    "fitted_scan._DEFECT_DEGREE": (2, 4),
    "descriptions.SHIFT": (1e-6, 0.03, 0.12),
    "descriptions._STEP": (0.1,),
    "descriptions._LEAST": (0.0, 0.2),
    "kinds._CHANCE": (1e-4, 1e-2),
    "kinds._SHARE_LIMIT": (1e-9, 0.02),
    "naming.FARTHEST": (0.8, 2.4),
    "naming._SPREAD": (0.125, 0.5, 1e3),
    "naming._OF_ONE_KIND": (0.001, 0.02),
    "naming._LEAST_NOISE": (0.9, 1.0),
    "naming._MOST_NOISE": (1.05, 1.5),
    "naming._N_LEVELS": (4, 14),
    "naming._N_DIFFERENCES": (6, 24),
    "naming._OTHER_LENGTH": (0.025,),
    "library._STEP": (0.48,),
    "library._OFF_MIDDLE": (0.65,),
    "library._LEAST_RADIUS": (16.0,),
    "library._MOST_PIXELS": (64,),
}
"""Values that are tried instead of each constant, by module and name."""

PLAIN = {
    "periodic_fit._BLOCK": "bounds the memory",
    "library._NAME": "which characters the name of a kind may have",
    "stored_library._NAMES": "a pattern of file names",
    "stored_library._TOLERANCE": "decides which stored library is taken, not what is found",
    "kinds._DRAWS": "of the certainty of kinds, which is reported beside them",
    "local_symmetry._DEGREE": "of the symmetry of a site's surroundings, which is reported beside defects",
    "channels.CHANNELS": "left out one by one",
    "p_values.SMALLEST_P": "where numbers end",
    "p_values._SUMS": "where numbers end",
    "numerics._CLIPPED": "what the variance beside it belongs to",
    "numerics._CLIPPED_VARIANCE": "follows from what is clipped",
    "search._FOLDS": "symmetries that are reported",
    "search._NEARLY_ALL": "wording of a finding",
    "search._MOST": "wording of a finding",
    "search._N_STEPS": "steps of the progress bar",
    "naming.UNKNOWN": "a word",
}
"""Constants that are not varied, and why."""

SETTINGS: dict[str, tuple[Any, ...]] = {
    "n_features": (48, 192),
    "distortion_degree": (1, 2),
    "false_discovery_rate": (0.01, 0.1),
}
"""Values that are tried instead of settings of `SymmetryConfig`."""

_STAGES = {
    "fitted_scan": Stage.P_VALUES,
    "lattice": Stage.DOMAINS,
    "domains": Stage.DOMAINS,
    "periodic_fit": Stage.DOMAINS,
    "sites": Stage.FIT,
    "library": Stage.LIBRARY,
    "kinds": Stage.DEFECTS,
    "naming": Stage.DEFECTS,
    "descriptions": Stage.DEFECTS,
    "search": Stage.DEFECTS,
    "local_symmetry": Stage.DEFECTS,
    "fitted_scan._VARIANCE_FLOOR": Stage.FEATURES,
    "fitted_scan._SEARCHED": Stage.DOMAINS,
    "fitted_scan._MARGIN": Stage.FIT,
    "fitted_scan._REACH": Stage.FIT,
    "fitted_scan._DEFECT_DEGREE": Stage.LIBRARY,
    "naming.FARTHEST": Stage.LIBRARY,
    "n_features": Stage.FEATURES,
    "distortion_degree": Stage.DOMAINS,
    "false_discovery_rate": Stage.DEFECTS,
}


@dataclass(frozen=True, eq=False)
class Variation:
    """One change of the search.

    Attributes
    ----------
    name : str
        What is changed, and to what.
    changes : dict
        New values by module and name below ``stemvane.defects``.
    stage : Stage
        First step of the search that it concerns.
    settings : dict
        New values of `SymmetryConfig`.
    """

    name: str
    changes: dict[str, Any]
    stage: Stage
    settings: dict[str, Any]


def all_variations() -> list[Variation]:
    """Channels, steps that are left out, settings and constants, in this order."""
    result = [Variation(name, changes, stage, {}) for name, (stage, changes) in LEFT_OUT.items()]
    for name, values in SETTINGS.items():
        result += [Variation(f"{name} = {value:g}", {}, _STAGES[name], {name: value}) for value in values]
    for name, values in CONSTANTS.items():
        stage = _STAGES.get(name, _STAGES.get(name.partition(".")[0], Stage.P_VALUES))
        result += [Variation(f"{name} = {_short(name, value)}", {name: value}, stage, {}) for value in values]
    return result


def _short(name: str, value: Any) -> str:
    if name == "domains._PARTS":
        return f"the first {len(value)}"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


@contextmanager
def varied(changes: dict[str, Any]) -> Iterator[None]:
    """Give names of modules other values for a while; public names wherever they were imported."""
    with ExitStack() as stack:
        for target, value in changes.items():
            module_name, _, name = target.partition(".")
            home = import_module(f"{PACKAGE}.{module_name}")
            original = getattr(home, name)
            homes = [home]
            if not name.startswith("_"):
                modules = [module for key, module in sys.modules.items() if key.startswith(PACKAGE)]
                homes = [module for module in modules if getattr(module, name, None) is original]
            for module in homes:
                stack.enter_context(patch.object(module, name, value))
        yield


def _original(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(".")
    function: Callable[..., Any] = getattr(import_module(f"{PACKAGE}.{module}"), name)
    return function


def _with_strain(*args: Any, without: Any = None, **options: Any) -> Any:
    return _SQUARES_P(*args, **options)


def _fit_at_once(lattice: Any, orders: Any, points: Any, rows: Any, degree: int) -> Any:
    for _ in range(4):
        lattice = _STRAIGHTEN(lattice, orders, points, rows, degree)
    return lattice


def _even_noise(around: Any, fitted: Any, _: Any) -> Any:
    return np.ones((len(around.sites), len(fitted.window.modes), fitted.basis.n_features))


def _peaks_without_bonferroni(p: Any, neighbours: Any) -> Any:
    best = np.array([p[near].min() for near in neighbours])
    return _FALSE_DISCOVERY_RATE(np.where(p == best, p, np.nan))


_SQUARES_P = _original("p_values.squares_p")
_STRAIGHTEN = _original("periodic_fit._straighten")
_FALSE_DISCOVERY_RATE = _original("p_values.false_discovery_rate")

LEFT_OUT: dict[str, tuple[Stage, dict[str, Any]]] = {
    **{
        f"without the channel {name.replace('_', ' ')}": (
            Stage.DEFECTS,
            {"channels.CHANNELS": tuple(other for other in CHANNELS if other != name)},
        )
        for name in CHANNELS
    },
    "vectors of the lattice as the peaks give them": (Stage.DOMAINS, {"lattice._refine": lambda pair, *_: pair}),
    "distortion fitted to all of the scan at once": (Stage.DOMAINS, {"periodic_fit._grown": _fit_at_once}),
    "strain not taken out of the patterns": (Stage.P_VALUES, {"p_values.squares_p": _with_strain}),
    "strain not taken out of kinds and names": (
        Stage.DEFECTS,
        {"strain.without_strain": lambda values, directions: values},
    ),
    "sums of squares not scaled to the bulk of the sites": (
        Stage.P_VALUES,
        {"p_values._median": lambda weights, freedom: np.inf},
    ),
    "spread of the sites taken as known": (Stage.P_VALUES, {"channels._freedom": lambda members: np.inf}),
    "p-values of peaks not multiplied": (Stage.DEFECTS, {"p_values.peak_discovery_rate": _peaks_without_bonferroni}),
    "noise of all defects alike": (Stage.DEFECTS, {"descriptions._noise": _even_noise}),
    "names by the likeliest noise and difference": (Stage.DEFECTS, {"naming.logsumexp": np.max}),
}
"""Channels and steps that are left out, or added."""
