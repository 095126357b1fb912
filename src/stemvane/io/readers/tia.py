"""TIA's .ser of FEI: series of diffraction patterns, and the .emi beside them.

The layout is as C. Boothroyd described it and RosettaSciIO reads it. That reads all frames at once, lazily or not; here
they stay on disk.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from stemvane.data.dataset import Dataset4D
from stemvane.data.units import read_unit
from stemvane.errors import DataError, FileFormatError
from stemvane.io.on_disk import require_real
from stemvane.io.request import Request
from stemvane.io.stack import Part, RawFrames, fold

__all__ = ["is_emi", "open_emi", "open_ser"]

_SPECTRA, _IMAGES, _POSITIONS = 0x4120, 0x4122, 0x4142
_TYPES = {1: "u1", 2: "<u2", 3: "<u4", 4: "i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8", 9: "<c8", 10: "<c16"}
_WIDE_OFFSETS = 0x220
_ELEMENT = struct.Struct("<ddIddIHII")
_TAG = struct.Struct("<HHIdd")
# what is larger is a step in 1/m, and no step in m
_LARGEST_LENGTH = 1e3


@dataclass(frozen=True)
class _Upwards:
    """Decoder of frames whose first row is the lowest."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        frames = np.ascontiguousarray(pixels).view(self.dtype).reshape(len(pixels), *self.shape)
        return np.ascontiguousarray(frames[:, ::-1])


@dataclass(frozen=True)
class _Series:
    """Header of a .ser: what its elements are, how many, where, and the axes ``(x, y)`` they run along."""

    kind: int
    n_planned: int
    offsets: NDArray[np.int64]
    tags: NDArray[np.int64]
    axes: tuple[tuple[int, float, str], ...]


def open_ser(request: Request) -> Dataset4D:
    """Open a TIA series of diffraction patterns; the .emi beside it, where there is one, gives the energy.

    Parameters
    ----------
    request : Request
        The ``.ser``.

    Returns
    -------
    Dataset4D
        A frame's first row is the lowest, as RosettaSciIO reads it.

    Raises
    ------
    FileFormatError
        If the header is impossible or the file truncated.
    DataError
        If it holds spectra, or the shape of the scan is unknown.
    """
    path = request.path
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        series = _read_series(stream, size, path)
        stream.seek(int(series.offsets[0]))
        x_step, y_step, kind, width, height = _element(stream.read(_ELEMENT.size))
        is_column_first = _runs_down(stream, series)
    if kind not in _TYPES:
        raise FileFormatError(f"{path}: its frames are of an unknown type; copy the file again")
    dtype = np.dtype(_TYPES[kind])
    require_real(dtype, str(path))
    frame_bytes = width * height * dtype.itemsize
    if not frame_bytes or int(series.offsets.max()) + _ELEMENT.size + frame_bytes > size:
        raise FileFormatError(f"{path}: is truncated, or its header is wrong; copy it again")
    stride, parts = _parts(str(path.absolute()), series.offsets + _ELEMENT.size)
    frames = RawFrames(parts, stride, frame_bytes, (height, width), dtype, _Upwards((height, width), dtype))
    recorded = (series.axes[1][0], series.axes[0][0]) if len(series.axes) == 2 else None
    steps = [{"scale": axis[1], "units": axis[2]} for axis in series.axes[1::-1]] if recorded else [{}, {}]
    asked = request
    if is_column_first:
        recorded = recorded and recorded[::-1]
        asked = replace(request, scan_shape=request.scan_shape and request.scan_shape[::-1])
    data, missing = fold(frames, asked, recorded, may_miss=True)
    if is_column_first:
        data, missing = data.transpose(1, 0, 2, 3), None if missing is None else missing.T
    units = "1/m" if min(abs(x_step), abs(y_step)) > _LARGEST_LENGTH else "m"
    pixel = [{"scale": abs(step), "units": units} for step in (y_step, x_step)]
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing)
    return dataset.with_axes([*steps, *pixel], _emi_beam(path))


def open_emi(request: Request) -> Dataset4D:
    """Open the one series of frames that lies beside an .emi.

    Parameters
    ----------
    request : Request
        The ``.emi``.

    Returns
    -------
    Dataset4D

    Raises
    ------
    DataError
        If there is none, or more than one.
    """
    path = request.path
    beside = [file for file in sorted(path.parent.glob("*.ser")) if file.stem.rpartition("_")[0] == path.stem]
    series = [file for file in beside if _n_images(file) > 1]
    if len(series) != 1:
        listed = f"has {', '.join(file.name for file in series)} beside it" if series else "has no series beside it"
        raise DataError(f"{path}: {listed}; give the .ser file of the 4D-STEM scan")
    return open_ser(replace(request, path=series[0]))


def is_emi(path: Path) -> bool:
    """Whether a file is TIA's .emi."""
    return path.suffix.lower() == ".emi" and bool(_descriptions(path))


def _read_series(stream: Any, size: int, path: Path) -> _Series:
    stream.seek(0)
    _, _, version, kind, _, n_planned, n = struct.unpack("<HHHIIII", stream.read(22))
    wide = version >= _WIDE_OFFSETS
    where, n_axes = struct.unpack("<QI" if wide else "<II", stream.read(12 if wide else 8))
    if kind == _SPECTRA:
        raise DataError(f"{path}: holds spectra, as of a spectrum image; give the file of the 4D-STEM scan")
    item = 8 if wide else 4
    if kind != _IMAGES or not 1 <= n <= n_planned or n_axes > 8 or where + 2 * item * n_planned > size:
        raise FileFormatError(f"{path}: the header does not fit the size of the file; copy it again")
    axes = []
    for _ in range(n_axes):
        length, _, step, _, n_words = struct.unpack("<IddII", stream.read(28))
        stream.seek(n_words, 1)
        (n_letters,) = struct.unpack("<I", stream.read(4))
        axes.append((length, step, stream.read(min(n_letters, 64)).decode("utf-8", errors="replace")))
    stream.seek(where)
    places = np.frombuffer(stream.read(2 * item * n_planned), f"<u{item}").astype(np.int64)
    if places[:n].min() < 22:
        raise FileFormatError(f"{path}: the places of its frames are damaged; copy it again")
    return _Series(kind, n_planned, places[:n], places[n_planned : n_planned + n], tuple(axes))


def _element(head: bytes) -> tuple[float, float, int, int, int]:
    """Steps along x and y, type, width and height of a frame."""
    _, x_step, _, _, y_step, _, kind, width, height = _ELEMENT.unpack(head)
    return x_step, y_step, kind, width, height


def _runs_down(stream: Any, series: _Series) -> bool:
    """Whether the second position lies below the first, not beside it."""
    positions = []
    for place in series.tags[:2]:
        stream.seek(int(place) if place > 0 else 0)
        tag = stream.read(_TAG.size)
        if len(tag) < _TAG.size or _TAG.unpack(tag)[0] != _POSITIONS:
            return False
        positions.append(_TAG.unpack(tag)[3:])
    return len(positions) == 2 and positions[0][0] == positions[1][0] and positions[0][1] != positions[1][1]


def _parts(path: str, places: NDArray[np.int64]) -> tuple[int, tuple[Part, ...]]:
    """The usual distance between frames, and the pieces of the file in which they have it."""
    distances = np.diff(places)
    stride = int(np.median(distances)) if len(distances) else 1
    stride = stride if stride > 0 else 1
    starts = [0, *(np.flatnonzero(distances != stride) + 1).tolist(), len(places)]
    return stride, tuple(Part(path, int(places[first]), last - first) for first, last in pairwise(starts))


def _n_images(path: Path) -> int:
    with path.open("rb") as stream:
        try:
            return len(_read_series(stream, path.stat().st_size, path).offsets)
        except (DataError, FileFormatError, struct.error):
            return 0


def _descriptions(path: Path) -> list[str]:
    """The pieces of XML in an .emi, one for each series."""
    if not path.is_file() or not path.stat().st_size:
        return []
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        pieces, start = [], whole.find(b"<ObjectInfo>")
        while start >= 0:
            end = whole.find(b"</ObjectInfo>", start)
            if end < 0:
                break
            pieces.append(whole[start : end + len(b"</ObjectInfo>")].decode("utf-8", errors="replace"))
            start = whole.find(b"<ObjectInfo>", end)
    return pieces


def _emi_beam(path: Path) -> dict[str, float]:
    """The high tension that the .emi beside a series says."""
    stem, _, number = path.stem.rpartition("_")
    pieces = _descriptions(path.with_name(f"{stem}.emi")) if number.isdigit() else []
    piece = pieces[int(number) - 1] if 0 < int(number or 0) <= len(pieces) else ""
    try:
        root = ElementTree.fromstring(piece)
    except ElementTree.ParseError:
        return {}
    for entry in root.iter("Data"):
        if (entry.findtext("Label") or "").strip().lower() == "high tension":
            unit, value = read_unit(entry.findtext("Unit")), entry.findtext("Value") or ""
            if unit is not None and unit.quantity == "energy" and re.fullmatch(r"\s*[\d.]+\s*", value):
                return {"beam_energy": 1e-3 * unit.size * float(value)}
    return {}
