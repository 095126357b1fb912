"""Blockfile and TVIPS: files of frames one after the other, in the layouts that RosettaSciIO documents.

Headers and frames are read here (`RawFrames`), not by RosettaSciIO's lazy arrays: these map the file to memory, which
is slow when cold, and a damaged header can make them allocate without end.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from stemvane.data.dataset import Dataset4D
from stemvane.errors import FileFormatError
from stemvane.io.on_disk import read_record
from stemvane.io.request import Request
from stemvane.io.stack import Part, RawFrames, fold

__all__ = ["open_blockfile", "open_tvips"]

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


def open_blockfile(request: Request) -> Dataset4D:
    """Open a .blo of NanoMegas: 8-bit frames, each after six bytes.

    Raises
    ------
    FileFormatError
        If the header is impossible.
    """
    path = request.path
    header = read_record(path, _BLOCKFILE)
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


def open_tvips(request: Request) -> Dataset4D:
    """Open a .tvips stream with the files that continue it.

    Raises
    ------
    FileFormatError
        If the header is impossible.
    """
    path = request.path
    header = read_record(path, _TVIPS)
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
    frames = RawFrames(tuple(_scan(parts, numbers, stride, request.scan_shape)), stride, frame_bytes, shape, dtype)
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


def _scan(
    parts: list[Part], numbers: np.ndarray[Any, Any], stride: int, requested: tuple[int, int] | None
) -> list[Part]:
    """Keep the frames of the scan, which its counter tells from those before and after it.

    The counter is 0 before the scan and 1 at its first position. Some programs count from 0: then a single 0 precedes
    the 1, unless the requested scan has just as many positions as there are numbers from 1.
    """
    if not len(numbers) or numbers.max() < 1:
        return parts
    low, high = int(np.argmax(numbers >= 1)), int(np.argmax(numbers)) + 1
    if low == 1 and (requested is None or math.prod(requested) != high - low):
        low = 0
    chosen, first = [], 0
    for part in parts:
        start, stop = max(low - first, 0), min(high - first, part.n_frames)
        if start < stop:
            chosen.append(Part(part.path, part.offset + start * stride, stop - start))
        first += part.n_frames
    return chosen
