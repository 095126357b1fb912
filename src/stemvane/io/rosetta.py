"""Blockfile, MRC, TVIPS and EMPAD: files of frames one after the other, in the layouts that RosettaSciIO documents.

Headers and frames are read here (`RawFrames`), not by RosettaSciIO's lazy arrays: these map the file to memory, which
is slow when cold, and a damaged header can make them allocate without end. RosettaSciIO reads EMPAD's calibration.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from stemvane.data.dataset import Dataset4D
from stemvane.errors import FileFormatError
from stemvane.io.on_disk import require_real
from stemvane.io.request import Request
from stemvane.io.stack import Part, RawFrames, fold

__all__ = ["open_blockfile", "open_empad", "open_empad_raw", "open_mrc", "open_tvips"]

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
# MRC2014 (Cheng and others, J. Struct. Biol. 192, 146 (2015)); NEXT is the size of the extended header
_MRC = np.dtype(
    {
        "names": ["NX", "NY", "NZ", "MODE", "NEXT"],
        "formats": ["<u4"] * 5,
        "offsets": [0, 4, 8, 12, 92],
        "itemsize": 1024,
    }
)
_MRC_MODES = {0: "u1", 1: "<i2", 2: "<f4", 4: "<c8", 6: "<u2", 12: "<f2"}
# the fields of the header of a .tvips, and of that of each frame, which are needed here
_TVIPS = np.dtype(
    {
        "names": ["size", "version", "dimx", "dimy", "bitsperpixel", "pixelsize", "ht", "frameheaderbytes"],
        "formats": ["<u4"] * 8,
        "offsets": [0, 4, 8, 12, 16, 36, 40, 48],
        "itemsize": 256,
    }
)
_TVIPS_FRAME = np.dtype({"names": ["mode", "rotidx"], "formats": ["<u4"] * 2, "offsets": [24, 48], "itemsize": 60})
_EMPAD_ROWS, _EMPAD_COLUMNS = 130, 128


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
    frames = RawFrames((part,), frame_bytes + 6, frame_bytes, (side, side), np.dtype("u1"))
    data, missing = fold(frames, request, scan, may_miss=True, may_exceed=True)
    # the detector is calibrated in cm on a screen, at a camera length that is seldom right: left unknown
    steps = [{"scale": float(header[key]), "units": "nm"} for key in ("SY", "SX")]
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing)
    return dataset.with_axes([*steps, {}, {}], {"beam_energy": 1e-3 * float(header["Beam_energy"])})


def open_mrc(request: Request) -> Dataset4D:
    """Open a stack in MRC.

    Raises
    ------
    FileFormatError
        If the header is impossible or the file too short.
    """
    path = request.path
    header = _record(path, _MRC)
    width, height, n, mode = (int(header[key]) for key in ("NX", "NY", "NZ", "MODE"))
    if mode not in _MRC_MODES:
        raise FileFormatError(f"{path}: MRC mode {mode} is not known; save the stack in MRC mode 0, 1, 2 or 6")
    dtype = np.dtype(_MRC_MODES[mode])
    require_real(dtype, str(path))
    offset, frame_bytes = _MRC.itemsize + int(header["NEXT"]), width * height * dtype.itemsize
    if not frame_bytes or path.stat().st_size < offset + n * frame_bytes:
        raise FileFormatError(f"{path}: is truncated, or its header is wrong; copy it again")
    frames = RawFrames((Part(str(path.absolute()), offset, n),), frame_bytes, frame_bytes, (height, width), dtype)
    data, missing = fold(frames, request)
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing)


def open_tvips(request: Request) -> Dataset4D:
    """Open a .tvips stream with the files that continue it.

    Raises
    ------
    FileFormatError
        If the header is impossible.
    """
    path = request.path
    header = _record(path, _TVIPS)
    before = 12 if int(header["version"]) == 1 else int(header["frameheaderbytes"])
    dtype = np.dtype(f"u{int(header['bitsperpixel']) // 8}")
    shape = int(header["dimy"]), int(header["dimx"])
    frame_bytes = math.prod(shape) * dtype.itemsize
    stride, first = before + frame_bytes, int(header["size"])
    if not frame_bytes or before > 2**16 or (int(header["version"]) == 2 and before < _TVIPS_FRAME.itemsize):
        raise FileFormatError(f"{path}: the header is damaged; copy the file again")
    parts = [Part(str(path.absolute()), first + before, max(path.stat().st_size - first, 0) // stride)]
    parts += [Part(str(p.absolute()), before, p.stat().st_size // stride) for p in _continue(path)]
    numbers, mode = np.empty(0, np.int64), 0
    if before >= _TVIPS_FRAME.itemsize:
        heads = _frame_heads(parts, before, stride)
        numbers, mode = heads["rotidx"].astype(np.int64), int(heads["mode"][0]) if len(heads) else 0
    frames = RawFrames(tuple(_scan(parts, numbers, stride)), stride, frame_bytes, shape, dtype)
    data, missing = fold(frames, request, may_miss=True)
    pixel = {"scale": float(header["pixelsize"]), "units": "1/nm" if mode == 2 else ""}
    files = tuple(Path(part.path) for part in parts)
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing, files=files)
    energy = float(header["ht"])
    # the high tension is in kV in the programs' newer files, in V in others
    return dataset.with_axes([{}, {}, pixel, pixel], {"beam_energy": energy if energy < 2000 else 1e-3 * energy})


def _continue(path: Path) -> list[Path]:
    """Files ``_001``, ``_002``, … that go on where a stream ``_000`` ends."""
    stem, following_files = path.stem, []
    if stem.endswith("_000"):
        for i in range(1, 1000):
            following = path.with_name(f"{stem[:-3]}{i:03d}{path.suffix}")
            if not following.is_file():
                break
            following_files.append(following)
    return following_files


def _frame_heads(parts: list[Part], before: int, stride: int) -> np.ndarray[Any, Any]:
    heads = [np.empty(0, _TVIPS_FRAME)]
    for part in parts:
        with open(part.path, "rb") as stream:
            for i in range(part.n_frames):
                stream.seek(part.offset - before + i * stride)
                heads.append(np.frombuffer(stream.read(_TVIPS_FRAME.itemsize), _TVIPS_FRAME))
    return np.concatenate(heads)


def _scan(parts: list[Part], numbers: np.ndarray[Any, Any], stride: int) -> list[Part]:
    """Keep the frames of the scan: its positions count from 1, and frames before and after it are not part of it."""
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
                return open_empad(replace(request, path=described))
    frames = _empad_frames(path)
    data, missing = fold(frames, request, may_miss=True)
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing)


def open_empad(request: Request) -> Dataset4D:
    """Open the .xml of an EMPAD and the .raw it names.

    Raises
    ------
    FileFormatError
        If it names no file that is there.
    """
    from rsciio.empad import file_reader

    path = request.path
    name, scan = _empad_description(path)
    raw = path.with_name(name)
    if not raw.is_file():
        raise FileFormatError(f"{path}: refers to {raw.name}, which is not beside it; put them side by side")
    frames = _empad_frames(raw)
    data, missing = fold(frames, request, scan, path=raw, may_miss=True)
    files = (path.absolute(), raw.absolute())
    dataset = Dataset4D(data=data, name=path.stem, path=path, missing=missing, files=files)
    if missing is not None or (request.scan_shape or scan) != scan:
        return dataset  # RosettaSciIO would map frames that are not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {axis["name"]: axis for axis in file_reader(str(path), lazy=True)[0]["axes"]}
    return dataset.with_axes([axes.get(name, {}) for name in ("scan_y", "scan_x", "height", "width")], {})


def _empad_description(path: Path) -> tuple[str, tuple[int, int] | None]:
    """The name of the .raw that an .xml describes, and the scan; newer programs have that in the name only."""
    root = ElementTree.parse(path).getroot()
    described = root.find("raw_file")
    name = None if described is None else described.get("filename") or described.findtext("filename")
    if not name:
        raise FileFormatError(
            f"{path}: names no file of frames; copy it again, or give the .raw file and source.scan_shape"
        )
    columns, rows = root.findtext("pix_x"), root.findtext("pix_y")
    in_name = re.search(r"^scan(?:_.*)?_\D(\d+)_\D(\d+)$", name.split(".")[0])
    if root.find("scan_parameters/series_count") is not None:
        scan = None
    elif columns and rows:
        scan = int(rows), int(columns)
    else:
        scan = (int(in_name[2]), int(in_name[1])) if in_name else None
    return Path(name).name, scan


def _empad_frames(raw: Path) -> RawFrames:
    stride = 4 * _EMPAD_ROWS * _EMPAD_COLUMNS  # two rows of notes follow the 128 of a frame
    part = Part(str(raw.absolute()), 0, raw.stat().st_size // stride)
    square = (_EMPAD_COLUMNS, _EMPAD_COLUMNS)
    return RawFrames((part,), stride, 4 * _EMPAD_COLUMNS**2, square, np.dtype("<f4"))


def _record(path: Path, fields: Any) -> Any:
    """The header of a file as a NumPy record."""
    dtype = np.dtype(fields)
    with path.open("rb") as stream:
        start = stream.read(dtype.itemsize)
    if len(start) < dtype.itemsize:
        raise FileFormatError(f"{path}: is truncated within its header; copy it again")
    return np.frombuffer(start, dtype)[0]
