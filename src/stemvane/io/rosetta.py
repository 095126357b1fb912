"""Blockfile, MRC, TVIPS and EMPAD: RosettaSciIO knows the headers, but needs scikit-image for that of Blockfile.

The frames are read by `RawFrames`, not by RosettaSciIO's lazy arrays: these map the file to memory, which is slow when
cold, and a damaged header can make them allocate without end.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemvane.data.dataset import Dataset4D, calibration_from_axes, reciprocal_step
from stemvane.errors import FileFormatError
from stemvane.io.on_disk import require_real
from stemvane.io.request import Request
from stemvane.io.stack import Part, RawFrames, fold

__all__ = ["open_blockfile", "open_empad", "open_empad_raw", "open_mrc", "open_tvips", "with_axes"]

# the first fields of a Blockfile's header; the others are not needed
_BLOCKFILE = [
    ("ID", "S6"),
    ("MAGIC", "<u2"),
    ("Data_offset_1", "<u4"),
    ("Data_offset_2", "<u4"),
    ("flags", "<u4"),
    ("DP_SZ", "<u2"),
    ("DP_rotation", "<u2"),
    ("NX", "<u2"),
    ("NY", "<u2"),
    ("Scan_rotation", "<u2"),
    ("SX", "<f8"),
    ("SY", "<f8"),
    ("Beam_energy", "<u4"),
]
_EMPAD_ROWS, _EMPAD_COLUMNS = 130, 128


def with_axes(dataset: Dataset4D, axes: Sequence[Mapping[str, Any]], beam: Mapping[str, Any]) -> Dataset4D:
    """The same data with steps of axes ``(scan_y, scan_x, k_y, k_x)`` and what HyperSpy calls the beam."""
    return Dataset4D(
        **{
            **vars(dataset),
            "calibration": calibration_from_axes(axes, beam),
            "reciprocal_pixel": reciprocal_step(axes),
        }
    )


def open_blockfile(request: Request) -> Dataset4D:
    """Open a .blo of NanoMegas: 8-bit frames, each after six bytes.

    Raises
    ------
    FileFormatError
        If the header is impossible.
    """
    path = request.path
    header = _record(path, _BLOCKFILE)
    side, scan = int(header["DP_SZ"]), (int(header["NY"]), int(header["NX"]))
    offset, frame_bytes = int(header["Data_offset_2"]), side * side
    size = path.stat().st_size
    if not side or not math.prod(scan) or offset < header.dtype.itemsize or size < offset + 6 + frame_bytes:
        raise FileFormatError(f"{path}: the header does not fit the size of the file; copy it again")
    part = Part(str(path.absolute()), offset + 6, (size - offset) // (frame_bytes + 6))
    n = min(part.n_frames, math.prod(scan))  # a file may go on after the scan
    frames = RawFrames((part._replace(n_frames=n),), frame_bytes + 6, frame_bytes, (side, side), np.dtype("u1"))
    data, missing = fold(frames, path, request.scan_shape, scan, may_miss=True)
    # the detector is calibrated in cm on a screen, at a camera length that is seldom right: left unknown
    steps = [{"scale": float(header[key]), "units": "nm"} for key in ("SY", "SX")]
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing)
    return with_axes(dataset, [*steps, {}, {}], {"beam_energy": 1e-3 * float(header["Beam_energy"])})


def open_mrc(request: Request) -> Dataset4D:
    """Open a stack in MRC.

    Raises
    ------
    FileFormatError
        If the header is impossible or the file too short.
    """
    from rsciio.mrc._api import get_data_type, get_std_dtype_list

    path = request.path
    header = _record(path, get_std_dtype_list("<"))
    width, height, n = (int(header[key]) for key in ("NX", "NY", "NZ"))
    try:
        dtype = get_data_type(header["MODE"][None])
    except ValueError as error:
        raise FileFormatError(f"{path}: {error}; save the stack in MRC mode 0, 1, 2 or 6") from None
    require_real(dtype, str(path))
    offset, frame_bytes = 1024 + int(header["NEXT"]), width * height * dtype.itemsize
    if not frame_bytes or path.stat().st_size < offset + n * frame_bytes:
        raise FileFormatError(f"{path}: is truncated, or its header is wrong; copy it again")
    frames = RawFrames((Part(str(path.absolute()), offset, n),), frame_bytes, frame_bytes, (height, width), dtype)
    data, missing = fold(frames, path, request.scan_shape)
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing)


def open_tvips(request: Request) -> Dataset4D:
    """Open a .tvips stream with the files that continue it.

    Raises
    ------
    FileFormatError
        If the header is impossible.
    """
    from rsciio.tvips._api import TVIPS_RECORDER_FRAME_HEADER, TVIPS_RECORDER_GENERAL_HEADER

    path = request.path
    header = _record(path, TVIPS_RECORDER_GENERAL_HEADER)
    before = 12 if int(header["version"]) == 1 else int(header["frameheaderbytes"])
    dtype = np.dtype(f"u{int(header['bitsperpixel']) // 8}")
    shape = int(header["dimy"]), int(header["dimx"])
    frame_bytes = math.prod(shape) * dtype.itemsize
    stride, first = before + frame_bytes, int(header["size"])
    known = np.dtype(TVIPS_RECORDER_FRAME_HEADER)
    if not frame_bytes or before > 2**16 or (int(header["version"]) == 2 and before < known.itemsize):
        raise FileFormatError(f"{path}: the header is damaged; copy the file again")
    parts = [Part(str(path.absolute()), first + before, max(path.stat().st_size - first, 0) // stride)]
    parts += [Part(str(p.absolute()), before, p.stat().st_size // stride) for p in _continued(path)]
    numbers, mode = np.empty(0, np.int64), 0
    if before >= known.itemsize:
        heads = _frame_heads(parts, before, stride, known)
        numbers, mode = heads["rotidx"].astype(np.int64), int(heads["mode"][0]) if len(heads) else 0
    frames = RawFrames(tuple(_scanned(parts, numbers, stride)), stride, frame_bytes, shape, dtype)
    data, missing = fold(frames, path, request.scan_shape, may_miss=True)
    pixel = {"scale": float(header["pixelsize"]), "units": "1/nm" if mode == 2 else ""}
    files = tuple(Path(part.path) for part in parts)
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing, files=files)
    energy = float(header["ht"])
    # the high tension is in kV in the programs' newer files, in V in others
    return with_axes(dataset, [{}, {}, pixel, pixel], {"beam_energy": energy if energy < 2000 else 1e-3 * energy})


def _continued(path: Path) -> list[Path]:
    stem, found = path.stem, []
    if stem.endswith("_000"):
        for i in range(1, 1000):
            following = path.with_name(f"{stem[:-3]}{i:03d}{path.suffix}")
            if not following.is_file():
                break
            found.append(following)
    return found


def _frame_heads(parts: list[Part], before: int, stride: int, known: np.dtype[Any]) -> np.ndarray[Any, Any]:
    heads = [np.empty(0, known)]
    for part in parts:
        with open(part.path, "rb") as stream:
            for i in range(part.n_frames):
                stream.seek(part.offset - before + i * stride)
                heads.append(np.frombuffer(stream.read(known.itemsize), known))
    return np.concatenate(heads)


def _scanned(parts: list[Part], numbers: np.ndarray[Any, Any], stride: int) -> list[Part]:
    """Only the frames of the scan: its positions are counted from 1, frames before and after it are not of it."""
    if not len(numbers) or numbers.max() < 1:
        return parts
    low, high = int(np.argmax(numbers >= 1)), int(np.argmax(numbers)) + 1
    chosen, first = [], 0
    for part in parts:
        start, stop = max(low - first, 0), min(high - first, part.n_frames)
        if start < stop:
            chosen.append(Part(part.path, part.offset + start * stride, stop - start))
        first += part.n_frames
    return chosen


def open_empad_raw(request: Request) -> Dataset4D:
    """Open the .raw of an EMPAD through the .xml beside it, or alone where the scan is given.

    Raises
    ------
    FileFormatError
        If neither says the scan.
    """
    path = request.path
    if request.scan_shape is None:
        for described in sorted(path.parent.glob("*.xml")):
            if path.name in described.read_text(encoding="utf-8", errors="replace"):
                return open_empad(Request(described))
    frames = _empad_frames(path)
    data, missing = fold(frames, path, request.scan_shape, may_miss=True)
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing)


def open_empad(request: Request) -> Dataset4D:
    """Open the .xml of an EMPAD and the .raw it names.

    Raises
    ------
    FileFormatError
        If it names no file that is there.
    """
    from rsciio.empad import file_reader
    from rsciio.empad._api import _parse_xml

    path = request.path
    _, info = _parse_xml(str(path))
    raw = path.with_name(Path(str(info["raw_filename"])).name)
    if not raw.is_file():
        raise FileFormatError(f"{path}: refers to {raw.name}, which is not beside it; put them side by side")
    frames = _empad_frames(raw)
    scan = (int(info["scan_y"]), int(info["scan_x"])) if "scan_x" in info and "scan_y" in info else None
    data, missing = fold(frames, raw, request.scan_shape, scan, may_miss=True)
    files = (path.absolute(), raw.absolute())
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing, files=files)
    if missing is not None or (request.scan_shape or scan) != scan:
        return dataset  # RosettaSciIO would map frames that are not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {axis["name"]: axis for axis in file_reader(str(path), lazy=True)[0]["axes"]}
    names = ("scan_y", "scan_x", "height", "width")
    return with_axes(dataset, [found.get(name, {}) for name in names], {})


def _empad_frames(raw: Path) -> RawFrames:
    stride = 4 * _EMPAD_ROWS * _EMPAD_COLUMNS  # two rows of notes follow the 128 of a frame
    part = Part(str(raw.absolute()), 0, raw.stat().st_size // stride)
    square = (_EMPAD_COLUMNS, _EMPAD_COLUMNS)
    return RawFrames((part,), stride, 4 * _EMPAD_COLUMNS**2, square, np.dtype("<f4"))


def _record(path: Path, fields: list[Any]) -> Any:
    """The header of a file as a NumPy record."""
    dtype = np.dtype(fields)
    with path.open("rb") as stream:
        start = stream.read(dtype.itemsize)
    if len(start) < dtype.itemsize:
        raise FileFormatError(f"{path}: is truncated within its header; copy it again")
    return np.frombuffer(start, dtype)[0]
