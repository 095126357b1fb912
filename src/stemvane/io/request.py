"""What the user asks of a file, and what its beginning shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Head", "Request"]


@dataclass(frozen=True)
class Request:
    """A file and what the user says of it.

    Attributes
    ----------
    path : Path
        File or folder.
    scan_shape : tuple of int, optional
        Probe positions ``(y, x)``.
    dataset : str, optional
        Which array of a file that holds several.
    shape : tuple of int, optional
        Shape of raw binary, the fastest axis last.
    dtype : str, optional
        Number type of raw binary, such as ``<u2``.
    skip_frames : int
        Frames at the beginning of a stack that are not part of the scan.
    ignore_extra : bool
        Whether frames after the scan are left out.
    flyback : int
        Frames at the end of each scan line that are left out, recorded while the beam went back.
    sensor : str, optional
        Calibration of the detector's sensor, for files of what it recorded before its calibration.
    background : str, optional
        Scan without a beam that goes with it.
    """

    path: Path
    scan_shape: tuple[int, int] | None = None
    dataset: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    skip_frames: int = 0
    ignore_extra: bool = False
    flyback: int = 0
    sensor: str | None = None
    background: str | None = None

    def frame_settings(self) -> list[str]:
        """Names of the settings that leave out frames of a stack, of those that were given."""
        return [f"source.{name}" for name in ("skip_frames", "ignore_extra", "flyback") if getattr(self, name)]


@dataclass(frozen=True)
class Head:
    """What a format is recognised by.

    Attributes
    ----------
    path : Path
        File or folder; the suffix only breaks ties.
    start : bytes
        The first bytes of a file; empty for a folder.
    size : int
        Bytes of the file.
    keys : frozenset of str
        Names of groups and arrays in an HDF5 file or a Zarr folder, three levels deep.
    attributes : mapping
        Attributes of its root.
    """

    path: Path
    start: bytes = b""
    size: int = 0
    keys: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)
