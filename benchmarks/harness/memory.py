"""Memory that a program has held; plain Python, for it is also imported where stemvane is not installed."""

from __future__ import annotations

from pathlib import Path

__all__ = ["peak_mib"]


def peak_mib() -> float:
    """Largest memory that this program has held; `getrusage` would give its parent's where that was larger."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
