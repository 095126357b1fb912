"""Under which conditions scans are recorded: detector, beam shift, path of the probe, and specimen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stemvane.config import SimulationConfig

__all__ = ["CONDITIONS", "QUICK_CONDITIONS", "Condition", "simulation"]

DOSE, SOURCE_SIZE = 20_000.0, 0.8
N_POSITIONS, N_QUICK_POSITIONS, STEP = 64, 32, 10.5 / 64
# 3 px between opposite corners of the scan
SHIFT = ((2.4, 0.0), (0.0, 1.8))
GAP = 2
PATH: dict[str, Any] = {"drift": (1.5, 0.8), "flyback_distortion": 0.5}


@dataclass(frozen=True)
class Condition:
    """How one scan is recorded.

    Attributes
    ----------
    title : str
        What the tables say.
    detector : dict
        Settings of `DetectorConfig`.
    scan : dict
        Settings of `ScanConfig`; empty for an ideal path.
    structure : str
        The specimen.
    """

    title: str
    detector: dict[str, Any]
    scan: dict[str, Any] = field(default_factory=dict)
    structure: str = "graphene"

    @property
    def has_more_to_give(self) -> bool:
        """Whether the detector has a dark level or bad pixels that a user could give."""
        return self.detector["preset"] != "ideal" or "dead_share" in self.detector


CONDITIONS = {
    "counted": Condition("counted", {"preset": "ideal"}),
    "shift": Condition("counted, beam shift", {"preset": "ideal", "beam_shift": SHIFT}),
    "dead-shift": Condition(
        "counted, dead pixels, beam shift", {"preset": "ideal", "dead_share": 0.01, "beam_shift": SHIFT}
    ),
    "analogue": Condition("analogue", {"preset": "analogue"}),
    "analogue-shift": Condition("analogue, beam shift", {"preset": "analogue", "beam_shift": SHIFT}),
    "gap": Condition("analogue, gap", {"preset": "analogue", "gap": GAP}),
    "gap-shift": Condition("analogue, gap, beam shift", {"preset": "analogue", "gap": GAP, "beam_shift": SHIFT}),
    "path": Condition("counted, drift, flyback", {"preset": "ideal"}, PATH),
    "everything": Condition(
        "analogue, gap, beam shift, drift, flyback", {"preset": "analogue", "gap": GAP, "beam_shift": SHIFT}, PATH
    ),
    "counting": Condition("counting detector, beam shift", {"preset": "counting", "beam_shift": SHIFT}),
    "scintillator": Condition("scintillator, beam shift", {"preset": "scintillator", "beam_shift": SHIFT}),
    "hbn": Condition("h-BN, counted", {"preset": "ideal"}, structure="h-BN"),
    "hbn-gap-shift": Condition(
        "h-BN, analogue, gap, beam shift", {"preset": "analogue", "gap": GAP, "beam_shift": SHIFT}, structure="h-BN"
    ),
}
"""The order is that of the tables."""

QUICK_CONDITIONS = ("counted", "everything")


def simulation(condition: Condition, seed: int, n_positions: int) -> SimulationConfig:
    """Settings with which a condition is simulated; the seed is that of all noise and of the bad pixels."""
    return SimulationConfig.from_dict(
        {
            "structure": condition.structure,
            "scan_shape": (n_positions, n_positions),
            "scan_extent": (n_positions * STEP, n_positions * STEP),
            "source_size": SOURCE_SIZE,
            "dose": DOSE,
            "seed": seed,
            "detector": condition.detector,
            "scan": condition.scan or None,
        }
    )
