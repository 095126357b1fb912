"""Preparation: what was found in a scan and done to it before it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stemvane.data.representation import Representable, Row

__all__ = ["Preparation", "describe_preparation"]


@dataclass(frozen=True, repr=False)
class Preparation(Representable):
    """What was found in a scan and done to it before it was measured.

    Attributes
    ----------
    steps : tuple of str
        What was done, one sentence for each step, in the order of the steps.
    warnings : tuple of str
        What was noticed and left as it is, one sentence each.
    record : mapping
        Findings and steps as plain values, as a run's manifest holds them.
    """

    steps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def variation_reach(self) -> float | None:
        """Radius in pixel widths out to which patterns differ by more than their counts' noise; None if unknown."""
        return self._variation("reach")

    @property
    def variation_half(self) -> float | None:
        """Radius in pixel widths within which half of that lies, in units of the noise; None where it is unknown."""
        return self._variation("half")

    def _variation(self, name: str) -> float | None:
        radius = self.record.get("variation_px", {}).get(name)
        return None if radius is None else float(radius)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"steps": list(self.steps), "warnings": list(self.warnings), "record": dict(self.record)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preparation:
        """Build it from what `to_dict` returned."""
        return cls(tuple(values["steps"]), tuple(values["warnings"]), dict(values["record"]))

    def _summary(self) -> tuple[str, Sequence[Row]]:
        rows = [("done", step) for step in self.steps] + [("warning", warning) for warning in self.warnings]
        return "Preparation", rows or [("done", "nothing")]


def describe_preparation(preparation: Preparation | None) -> str:
    """What was done, in one line."""
    if preparation is None:
        return "none"
    n = len(preparation.warnings)
    counted = f" ({n} {'warning' if n == 1 else 'warnings'})" if n else ""
    words = "; ".join(preparation.steps) or "nothing to be done"
    return f"{words}{counted}"
