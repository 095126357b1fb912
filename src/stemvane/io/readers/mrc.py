"""MRC stacks, and what Direct Electron's programs write beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemvane.data.dataset import Dataset4D
from stemvane.errors import FileFormatError
from stemvane.io.on_disk import read_record, require_real
from stemvane.io.request import Request
from stemvane.io.stack import Part, RawFrames, fold

__all__ = ["MODES", "open_mrc"]

# MRC2014 (Cheng and others, J. Struct. Biol. 192, 146 (2015)); NEXT is the size of the extended header
_FIELDS = np.dtype(
    {
        "names": ["NX", "NY", "NZ", "MODE", "NEXT"],
        "formats": ["<u4"] * 5,
        "offsets": [0, 4, 8, 12, 92],
        "itemsize": 1024,
    }
)
_PACKED = 101
MODES = {0: "u1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2", _PACKED: "u1"}
"""Types of the pixels by the mode in the header; 101 is SerialEM's, with 4 bits for a pixel."""
_MOST_PIXELS = 2**16


def open_mrc(request: Request) -> Dataset4D:
    """Open a stack in MRC, of either byte order, with Direct Electron's ``_info.txt`` where there is one beside it.

    Raises
    ------
    FileFormatError
        If the header is impossible or the file too short.
    DataError
        If the shape of the scan is unknown or does not fit.
    """
    path = request.path
    order, header = _header(path)
    width, height, n, mode = (int(header[key]) for key in ("NX", "NY", "NZ", "MODE"))
    dtype = np.dtype(MODES[mode]).newbyteorder(order)
    require_real(dtype, str(path))
    packed = _Packed(height, width) if mode == _PACKED else None
    frame_bytes = packed.n_bytes if packed else width * height * dtype.itemsize
    offset = _FIELDS.itemsize + int(header["NEXT"])
    if not frame_bytes or path.stat().st_size < offset + n * frame_bytes:
        raise FileFormatError(f"{path}: is truncated, or its header is wrong; copy it again")
    parts = (Part(str(path.absolute()), offset, n),)
    frames = RawFrames(parts, frame_bytes, frame_bytes, (height, width), dtype, packed)
    beside = _notes_beside(path)
    notes = {} if beside is None else _read_notes(beside)
    data, missing = fold(frames, request, _scan(notes), may_miss=bool(notes))
    files = () if beside is None else (path.absolute(), beside.absolute())
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing, files=files)
    if not notes:
        return dataset
    scan, detector = "Specimen Pixel Size {} (nanometers)", "Diffraction Pixel Size {}"
    axes = [{"scale": _number(notes, scan.format(axis)), "units": "nm"} for axis in "YX"]
    axes += [{"scale": _number(notes, detector.format(axis)), "units": "1/nm"} for axis in "YX"]
    return dataset.with_axes(axes, {"beam_energy": 1e-3 * _number(notes, "Instrument Accelerating Voltage (V)")})


@dataclass(frozen=True)
class _Packed:
    """Frames of 4 bits for a pixel, the left one of two in the lower bits; every row begins with a new byte."""

    height: int
    width: int

    @property
    def n_bytes(self) -> int:
        """Bytes of a frame."""
        return self.height * ((self.width + 1) // 2)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Decode bytes as frames."""
        pairs = pixels.reshape(len(pixels), self.height, -1)
        return np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(*pairs.shape[:2], -1)[:, :, : self.width]


def _header(path: Path) -> tuple[Literal["<", ">"], Any]:
    """The byte order in which the header makes sense, and the header; machine stamps are not always true."""
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        header = read_record(path, _FIELDS.newbyteorder(order))
        if all(0 < header[key] <= _MOST_PIXELS for key in ("NX", "NY")):
            if int(header["MODE"]) not in MODES:
                raise FileFormatError(
                    f"{path}: MRC mode {header['MODE']} is not known; save the stack in MRC mode 0, 1, 2 or 6"
                )
            return order, header
    raise FileFormatError(f"{path}: is truncated, or its header is wrong; copy it again")


def _notes_beside(path: Path) -> Path | None:
    """Direct Electron's notes on ``20240101_00001_movie.mrc`` are in ``20240101_00001_info.txt``."""
    recording = re.match(r"\d{8}_\d+(?=_)", path.stem)
    stems = [path.stem.removesuffix("_movie"), *([recording[0]] if recording else [])]
    files = [path.with_name(f"{stem}_info.txt") for stem in stems]
    return next((file for file in files if file.is_file()), None)


def _read_notes(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="latin-1")[: 2**20].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}


def _scan(notes: dict[str, str]) -> tuple[int, int] | None:
    """The scan, where the beam was scanned in lines."""

    def is_on(key: str, otherwise: str) -> bool:
        return notes.get(key, otherwise).lower() in ("enable", "enabled", "on", "true", "1")

    if not is_on("Scan - Enable", "off") or notes.get("Scan - Type", "Raster") != "Raster":
        return None
    size = "Scan - ROI Size {}" if is_on("Scan - ROI Enable", "off") else "Scan - Size {}"
    rows, columns = (int(_number(notes, size.format(axis))) for axis in "YX")
    return (rows, columns) if min(rows, columns) > 0 else None


def _number(notes: dict[str, str], key: str) -> float:
    """A number of the notes; 0 where it is not given, which these programs write as -1."""
    try:
        value = float(notes.get(key, 0))
    except ValueError:
        return 0.0
    return value if 0 < value < 1e9 else 0.0
