"""Merlin's .mib files.

RosettaSciIO reads processed files of one size of frame; RAW mode, files that were cut short and more than one file per
scan it does not, and it maps frames to memory, which is slow when cold. So the frames are read here, and
flipped as RosettaSciIO flips them (the first row of a frame is the lowest of the detector).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.data.dataset import Dataset4D
from stemvane.data.findings import Finding
from stemvane.errors import FileFormatError
from stemvane.io.request import Request
from stemvane.io.stack import Frames, Part, RawFrames, fold

__all__ = ["open_hdr", "open_mib"]

_PROCESSED = {"U01": "u1", "U08": "u1", "U16": ">u2", "U32": ">u4"}
# bytes of a pixel in RAW mode, by the depth of the counter
_RAW_BYTES = {1: 1 / 8, 6: 1, 12: 2, 24: 4}
_RAW_TYPES = {1: "u1", 6: "u1", 12: "u2", 24: "u4"}
_CHIP = 256
_LARGEST_HEADER = 4096


@dataclass(frozen=True)
class _Header:
    """Fields of the header of a frame."""

    number: int
    size: int
    n_chips: int
    width: int
    height: int
    kind: str
    layout: str
    depth: int | None


def open_hdr(request: Request) -> Dataset4D:
    """Open the .mib beside a .hdr, or the numbered files that share it.

    Raises
    ------
    FileFormatError
        If there is none.
    """
    path = request.path.with_suffix(".mib")
    if not path.is_file():
        numbered = _numbered(request.path.parent, request.path.stem)
        if not numbered:
            raise FileFormatError(f"{request.path}: a Merlin header without its {path.name}; put them side by side")
        path = numbered[min(numbered)]
    return open_mib(replace(request, path=path))


def open_mib(request: Request) -> Dataset4D:
    """Open a .mib, with its .hdr where there is one beside it, and with the numbered files that continue the recording.

    Raises
    ------
    FileFormatError
        If the header is impossible, of a layout of chips that is not known, or a file of a numbered recording is
        missing.
    DataError
        If the shape of the scan is unknown or does not fit.
    """
    path = request.path
    files, notes = _recording(path)
    header = _first_header(files[0], notes)
    frames = _frames(header, files)
    recorded = _scan_from_hdr(notes)
    if request.scan_shape is None and recorded is None:
        recorded = _scan_from_times(frames, header.size, request)
    whole: Frames = frames
    try:
        lost = _lost_frames(frames, notes) if _lacks_frames(frames, request, recorded) else []
    except FileFormatError:
        lost = []  # a damaged header tells no number
    if lost:
        whole = _WithGaps(frames, tuple(lost))
    data, missing = fold(whole, request, recorded, may_miss=True, lost=lost)
    findings: tuple[Finding, ...] = ()
    if lost:
        words = f"{len(lost)} frames of the recording were lost, the first after {lost[0]}: their positions are missing"
        findings = (Finding("lost_frames", "warning", words, "check that later rows do not lie beside their places"),)
    return Dataset4D(
        data=data,
        name=path.stem if len(files) == 1 else _prefix(path),
        path=path,
        missing=missing,
        files=tuple(file.absolute() for file in files) if len(files) > 1 else (),
        metadata={"frames_recorded": frames.n_frames},
        findings=findings,
    )


def _lacks_frames(frames: RawFrames, request: Request, recorded: tuple[int, int] | None) -> bool:
    """Whether the scan has more positions than there are frames; software that leaves frames out counts on, too."""
    scan = request.scan_shape or recorded
    if scan is None or -1 in scan:
        return False
    return scan[0] * (scan[1] + request.flyback) > frames.n_frames - request.skip_frames


def _lost_frames(frames: RawFrames, notes: dict[str, str]) -> list[int]:
    """Places, among all frames that a single file should have, of those that its numbers leave out."""
    if len(frames.parts) > 1:
        return []
    part = frames.parts[0]
    with open(part.path, "rb") as stream:

        def number(i: int) -> int:
            stream.seek(i * frames.stride)
            return _header(stream.read(_LARGEST_HEADER), Path(part.path), notes).number

        first, last = number(0), number(part.n_frames - 1)
        # as many numbers missing as present are another way of counting
        if not part.n_frames <= last - first < 2 * part.n_frames - 2:
            return []
        lost: list[int] = []
        spans = [(0, first, part.n_frames - 1, last)]
        while spans:
            low, at_low, high, at_high = spans.pop()
            if at_high - at_low < high - low:
                return []
            if at_high - at_low == high - low:
                continue
            if high - low == 1:
                lost += range(at_low - first + 1, at_high - first)
                continue
            middle = (low + high) // 2
            at_middle = number(middle)
            spans += [(low, at_low, middle, at_middle), (middle, at_middle, high, at_high)]
    return sorted(lost)


@dataclass(frozen=True)
class _WithGaps:
    """Frames with empty ones in the places of those that were lost."""

    frames: RawFrames
    lost: tuple[int, ...]

    @property
    def n_frames(self) -> int:
        """Number of frames, those that were lost among them."""
        return self.frames.n_frames + len(self.lost)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Detector pixels ``(k_y, k_x)``."""
        return self.frames.frame_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.frames.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames `start` to `stop`, shape ``(n, k_y, k_x)``."""
        block = np.zeros((stop - start, *self.frame_shape), self.dtype)
        before, within = np.searchsorted(self.lost, [start, stop])
        is_there = ~np.isin(np.arange(start, stop), self.lost)
        block[is_there] = self.frames.read(start - int(before), stop - int(within))
        return block


def _recording(path: Path) -> tuple[list[Path], dict[str, str]]:
    """The files of a recording in order, and its notes; numbered files go on where the one before ends."""
    notes, prefix = _hdr(path.with_suffix(".hdr")), _prefix(path)
    if notes or prefix == path.stem or not prefix or path.with_name(f"{prefix}.mib").is_file():
        return [path], notes
    notes = _hdr(path.with_name(f"{prefix}.hdr"))
    numbered = _numbered(path.parent, prefix)
    spans = {number: _span(file, notes) for number, file in numbered.items()}

    def goes_on(before: int) -> bool:
        one, other = spans.get(before), spans.get(before + 1)
        if one is None or other is None:
            return False
        # in some recordings, which the shared .hdr says are one, each file counts its own frames
        return one[1] + 1 == other[0] or (bool(notes) and max(one[0], other[0]) <= 1)

    first = last = int(path.stem.removeprefix(prefix))
    if spans.get(first) is None:
        return [path], notes
    while goes_on(first - 1):
        first -= 1
    while goes_on(last):
        last += 1
    begin = spans[first]
    if notes and (last - first + 1 < len(numbered) or (begin is not None and begin[0] > 1)):
        raise FileFormatError(
            f"{path}: of the numbered files that share {prefix}.hdr some are missing or damaged; put all of them side "
            "by side"
        )
    return [numbered[number] for number in range(first, last + 1)], notes


def _prefix(path: Path) -> str:
    """The name of a file without its suffix and the number at its end."""
    return path.stem.rstrip("0123456789")


def _numbered(folder: Path, prefix: str) -> dict[int, Path]:
    """Files of one name but for the number at the end, by that number."""
    names = re.compile(re.escape(prefix) + r"(\d+)\.mib", re.IGNORECASE)
    matches = [(names.fullmatch(file.name), file) for file in sorted(folder.iterdir())]
    return {int(match[1]): file for match, file in matches if match is not None}


def _span(path: Path, notes: dict[str, str]) -> tuple[int, int] | None:
    """Numbers of the first and the last frame of a file, as its headers count them; None where it is damaged."""
    try:
        header = _first_header(path, notes)
        return header.number, header.number + _frames(header, [path]).n_frames - 1
    except FileFormatError:
        return None


def _first_header(path: Path, notes: dict[str, str]) -> _Header:
    with path.open("rb") as stream:
        return _header(stream.read(_LARGEST_HEADER), path, notes)


def _header(head: bytes, path: Path, notes: dict[str, str]) -> _Header:
    fields = head.decode("ascii", errors="replace").split(",")
    try:
        size = int(fields[2])
        text = head[:size].decode("ascii", errors="replace")
        counter = re.search(r"MQ1[A-Z],[^,]*,[^,]*,\s*(\d+)", text)
        depth = int(counter[1]) if counter else None
        if depth is None and notes.get("Counter Depth (number)", "").strip().isdigit():
            depth = int(notes["Counter Depth (number)"])
        header = _Header(
            int(fields[1]), size, int(fields[3]), int(fields[4]), int(fields[5]), fields[6], fields[7].strip(), depth
        )
    except (ValueError, IndexError):
        raise FileFormatError(f"{path}: the header of the first frame is damaged; copy the file again") from None
    if not (0 < size <= _LARGEST_HEADER and 0 < header.width <= 2**14 and 0 < header.height <= 2**14):
        raise FileFormatError(f"{path}: the header of the first frame is damaged; copy the file again")
    return header


def _frames(header: _Header, files: list[Path]) -> RawFrames:
    path = files[0]
    if header.kind == "R64":
        raw = _raw(header, path)
        decode: _Raw | _Processed = raw
        frame_bytes = int(header.width * header.height * _RAW_BYTES[raw.depth])
        if raw.depth == 24 and header.width == 2 * _CHIP * header.n_chips:
            frame_bytes //= 2  # the header counts the two halves of the counter as pixels of their own
        shape = (2 * header.height, 2 * _CHIP) if raw.quad else (header.height, _CHIP)
        dtype = np.dtype(_RAW_TYPES[raw.depth])
    elif header.kind in _PROCESSED:
        shape, stored = (header.height, header.width), np.dtype(_PROCESSED[header.kind])
        decode = _Processed(shape, stored)
        frame_bytes, dtype = header.width * header.height * stored.itemsize, stored.newbyteorder("=")
    else:
        raise FileFormatError(f"{path}: holds pixels of type '{header.kind}', not one of Merlin's; copy the file again")
    stride = header.size + frame_bytes
    parts = tuple(Part(str(file.absolute()), header.size, file.stat().st_size // stride) for file in files)
    if parts[0].n_frames < 1:
        raise FileFormatError(f"{path}: is truncated within the first frame; copy it again")
    return RawFrames(parts, stride, frame_bytes, shape, dtype, decode)


def _raw(header: _Header, path: Path) -> _Raw:
    if header.depth not in _RAW_BYTES:
        raise FileFormatError(
            f"{path}: RAW mode, but neither the frames nor a .hdr say the counter depth; put the .hdr beside it"
        )
    # a chip may be read out in part, from its first row on
    one = header.n_chips == 1 and header.height <= _CHIP and header.width in (_CHIP, 2 * _CHIP)
    quad = header.n_chips == 4 and header.layout.startswith("2x2")
    width = 4 * _CHIP * (2 if header.depth == 24 and header.width == 8 * _CHIP else 1)
    if not one and not (quad and header.height <= _CHIP and header.width == width):
        raise FileFormatError(
            f"{path}: RAW mode of {header.n_chips} chips in layout '{header.layout}', {header.width}x{header.height} "
            "values, whose order is not known; save it from Merlin's software as processed (U08, U16, U32) frames"
        )
    return _Raw(header.depth, quad)


@dataclass(frozen=True)
class _Processed:
    """Frames as Merlin's software assembles them, big-endian, the lowest row first."""

    shape: tuple[int, int]
    stored: np.dtype[Any]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Decode bytes as frames."""
        values = np.ascontiguousarray(pixels).view(self.stored).reshape(len(pixels), *self.shape)
        return values[:, ::-1].astype(self.stored.newbyteorder("="))


@dataclass(frozen=True)
class _Raw:
    """Frames as the chips send them: words of 64 bits, last byte first.

    A row of a chip is 256 pixels. With 1 bit per pixel a word holds 64 of them, lowest bit first; with 6 bits (a byte
    each) 8, with 12 (two bytes, big-endian) 4; 24 bits come as two 12-bit frames, the upper half first. The rows of the
    four chips of a quad lie one after the other, the last chip first; chips 3 and 4 stand on their heads.
    """

    depth: int
    quad: bool

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Decode bytes as frames."""
        n = len(pixels)
        words = np.ascontiguousarray(pixels)
        if self.depth == 24:
            upper, lower = (_Raw(12, self.quad)(half) for half in np.split(words, 2, axis=1))
            both: NDArray[np.uint32] = (upper.astype(np.uint32) << 12) | lower
            return both
        words = words.reshape(n, -1, 8)
        if self.depth == 1:
            values: NDArray[Any] = np.unpackbits(words[..., ::-1], axis=-1, bitorder="little")
        elif self.depth == 6:
            values = words[..., ::-1]
        else:
            values = words.view(">u2")[..., ::-1].astype(np.uint16)
        if not self.quad:
            return np.ascontiguousarray(values.reshape(n, -1, _CHIP)[:, ::-1])
        chips = values.reshape(n, -1, 4, _CHIP)
        fourth, third, second, first = (chips[:, :, i] for i in range(4))
        top = np.concatenate([first, second], axis=2)
        bottom = np.concatenate([third[:, ::-1, ::-1], fourth[:, ::-1, ::-1]], axis=2)
        return np.ascontiguousarray(np.concatenate([top, bottom], axis=1)[:, ::-1])


def _hdr(path: Path) -> dict[str, str]:
    """Lines ``name: value`` of a .hdr; nothing where there is none."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="latin-1")[: 2**16].splitlines()
    return {name.strip().rstrip(":"): value.strip() for name, _, value in (line.partition("\t") for line in lines)}


def _scan_from_hdr(notes: dict[str, str]) -> tuple[int, int] | None:
    def number(key: str) -> int:
        return int(notes[key]) if notes.get(key, "").isdigit() else 0

    if number("ScanY") and number("ScanX"):
        return number("ScanY"), number("ScanX")
    columns, frames = number("Frames per Trigger (Number)"), number("Frames in Acquisition (Number)")
    # a single trigger, or one for each frame, says nothing of the lines
    return (frames // columns, columns) if 1 < columns < frames else None


def _scan_from_times(frames: RawFrames, size: int, request: Request) -> tuple[int, int] | None:
    """The scan, where the flyback shows: equal numbers of frames between longer pauses, the last line perhaps cut."""
    times = []
    for part in frames.parts:
        with open(part.path, "rb") as stream:
            for i in range(part.n_frames):
                stream.seek(i * frames.stride)
                stamp = re.search(rb"MQ1[A-Z],(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9})", stream.read(size))
                if stamp is None:
                    return None
                times.append(stamp[1].decode())
    try:
        pauses = np.diff(np.array(times[request.skip_frames :], "datetime64[ns]")).astype(np.int64)
    except ValueError:
        return None
    if len(pauses) < 3:
        return None
    ends = np.flatnonzero(pauses > 1.5 * np.median(pauses)) + 1
    if not len(ends):
        return None
    columns, n = int(ends[0]), len(pauses) + 1
    rows = len(ends) + 1
    in_order = np.array_equal(ends, columns * np.arange(1, rows))
    # two pauses at least tell the length of a line from that of a cut one
    is_whole = rows * columns == n or (rows > 2 and 0 < n - (rows - 1) * columns < columns)
    return (rows, columns - request.flyback) if in_order and is_whole else None
