"""Frames that come one after the other, folded into a scan; plain big reads where they lie uncompressed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from stemvane.errors import DataError, FileFormatError
from stemvane.io.on_disk import OnDisk, file_errors, lazy_scan, split_index
from stemvane.io.request import Request

__all__ = [
    "ArrayFrames",
    "ChosenFrames",
    "Folded",
    "Frames",
    "JoinedFrames",
    "Part",
    "RawFrames",
    "fold",
    "refuse_frame_settings",
    "whole_scan",
]

# an aborted scan keeps at least this share of its frames; less is the wrong shape
_LEAST_SHARE = 0.01


class Frames(Protocol):
    """Frames in the order in which they were recorded; small enough to be sent to a worker."""

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        ...

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Detector pixels ``(k_y, k_x)``."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        ...

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames `start` to `stop`, shape ``(n, k_y, k_x)``."""
        ...


class Part(NamedTuple):
    """A file, or a part of one, with frames at regular distances."""

    path: str
    offset: int
    n_frames: int


@dataclass(frozen=True)
class RawFrames:
    """Uncompressed frames at regular distances, read in big sequential pieces: 4 times faster than mapped when cold.

    Attributes
    ----------
    parts : tuple of Part
        The files, in order; `offset` is where the pixels of the first frame begin.
    stride : int
        Bytes from one frame to the next.
    frame_bytes : int
        Bytes of a frame's pixels.
    frame_shape : tuple of int
        Detector pixels ``(k_y, k_x)``.
    dtype : dtype
        Type of the pixels, after decoding.
    decode : callable, optional
        Function that converts bytes of shape ``(n, frame_bytes)`` into frames; where it is left out they are in row
        order.
    """

    parts: tuple[Part, ...]
    stride: int
    frame_bytes: int
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    decode: Callable[[NDArray[np.uint8]], NDArray[Any]] | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return sum(part.n_frames for part in self.parts)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames `start` to `stop`, shape ``(n, k_y, k_x)``."""
        pieces, first = [], 0
        for part in self.parts:
            low, high = max(start - first, 0), min(stop - first, part.n_frames)
            if low < high:
                pieces.append(self._piece(part, low, high))
            first += part.n_frames
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty((0, *self.frame_shape), self.dtype)

    def _piece(self, part: Part, low: int, high: int) -> NDArray[Any]:
        n = high - low
        n_bytes = (n - 1) * self.stride + self.frame_bytes
        buffer = np.empty(n * self.stride, np.uint8)
        cure = "it is damaged or was moved: copy it again"
        with file_errors(Path(part.path), cure=cure), open(part.path, "rb") as file:
            file.seek(part.offset + low * self.stride)
            view, done = buffer.data[:n_bytes], 0
            while done < n_bytes:
                count = file.readinto(view[done:])
                if not count:
                    raise FileFormatError(f"{part.path}: is truncated; copy it again")
                done += count
        pixels = buffer.reshape(n, self.stride)[:, : self.frame_bytes]
        if self.decode is not None:
            return self.decode(pixels)
        return np.ascontiguousarray(pixels).view(self.dtype).reshape(n, *self.frame_shape)


@dataclass(frozen=True, eq=False)
class ArrayFrames:
    """Frames along the first axis of an array with three, on disk or decompressed all at once."""

    array: OnDisk | NDArray[Any]

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.array.shape[0]

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Detector pixels ``(k_y, k_x)``."""
        return self.array.shape[1], self.array.shape[2]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.array.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames `start` to `stop`, shape ``(n, k_y, k_x)``."""
        return self.array[start:stop]


@dataclass(frozen=True)
class JoinedFrames:
    """Several stacks of equal frames, one after the other."""

    stacks: tuple[Frames, ...]

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return sum(stack.n_frames for stack in self.stacks)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Detector pixels ``(k_y, k_x)``."""
        return self.stacks[0].frame_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.stacks[0].dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames `start` to `stop`, shape ``(n, k_y, k_x)``."""
        pieces, first = [np.empty((0, *self.frame_shape), self.dtype)], 0
        for stack in self.stacks:
            low, high = max(start - first, 0), min(stop - first, stack.n_frames)
            if low < high:
                pieces.append(stack.read(low, high))
            first += stack.n_frames
        return np.concatenate(pieces)


@dataclass(frozen=True)
class ChosenFrames:
    """The frames of a scan among those that were recorded.

    Attributes
    ----------
    frames : Frames
        All frames.
    skip : int
        Frames before the scan.
    columns : int
        Frames of a scan line.
    flyback : int
        Frames after each line that are not part of it.
    """

    frames: Frames
    skip: int
    columns: int
    flyback: int

    @property
    def n_frames(self) -> int:
        """Number of frames that are left, those after the scan among them."""
        lines, rest = divmod(max(self.frames.n_frames - self.skip, 0), self.columns + self.flyback)
        return lines * self.columns + min(rest, self.columns)

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
        if start >= stop:
            return self.frames.read(0, 0)
        # one big read over the flyback's frames, which are few, is faster than one for each line
        places = self.places(start, stop)
        block = self.frames.read(int(places[0]), int(places[-1]) + 1)
        return block if len(block) == len(places) else block[places - places[0]]

    def places(self, start: int, stop: int) -> NDArray[np.int64]:
        """Places among all frames of the frames `start` to `stop` of the scan, shape ``(n,)``."""
        numbers = np.arange(start, stop, dtype=np.int64)
        return numbers + self.skip + numbers // self.columns * self.flyback


@dataclass(frozen=True)
class Folded:
    """Frames in row order as an array ``(scan_y, scan_x, k_y, k_x)``; frames that are missing at the end are zero."""

    frames: Frames
    scan_shape: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Numbers of probe positions and detector pixels."""
        return (*self.scan_shape, *self.frames.frame_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels, in the machine's byte order."""
        return self.frames.dtype.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 4

    def __getitem__(self, part: Any) -> NDArray[Any]:
        (rows, columns, *detector), rest = split_index(part, self.shape)
        width = self.scan_shape[1]
        if len(columns) == width:
            block = self._read(rows.start * width, rows.stop * width)
        else:
            lines = [self._read(row * width + columns.start, row * width + columns.stop) for row in rows]
            block = np.concatenate(lines) if lines else self._read(0, 0)
        block = block.reshape(len(rows), len(columns), *self.frames.frame_shape)
        detector_slices = tuple(slice(axis.start, axis.stop) for axis in detector)
        result: NDArray[Any] = block[:, :, *detector_slices][rest].astype(self.dtype, copy=False)
        return result

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        n = self.frames.n_frames
        block = self.frames.read(min(start, n), min(stop, n))
        if len(block) == stop - start:
            return block
        absent = np.zeros((stop - start - len(block), *self.frames.frame_shape), block.dtype)
        return np.concatenate([block, absent])


def fold(
    frames: Frames,
    request: Request,
    recorded: tuple[int, int] | None = None,
    *,
    path: Path | None = None,
    may_miss: bool = False,
    may_exceed: bool = False,
    lost: Collection[int] = (),
) -> tuple[da.Array, NDArray[np.bool_] | None]:
    """Fold a stack into a scan.

    Parameters
    ----------
    frames : Frames
        The frames as they were recorded, row by row.
    request : Request
        What the user says of the scan: its shape, which takes precedence over `recorded`, and which frames are left
        out. One number of the shape may be -1 for "as many as there are".
    recorded : tuple of int, optional
        Shape of the scan from the file.
    path : Path, optional
        The file that error messages name, where it is not the one that was asked for.
    may_miss : bool
        Whether the recording can have ended before the scan did; the missing frames keep their place.
    may_exceed : bool
        Whether the format goes on after the scan; otherwise the user has to say that frames are left out.
    lost : collection of int
        Places among all frames of those that were not recorded, which `frames` gives as zero.

    Returns
    -------
    data : dask.array.Array, shape (scan_y, scan_x, k_y, k_x)
        Lazy; zero where frames are missing.
    missing : ndarray of bool, shape (scan_y, scan_x), or None
        True where no frame was recorded; None where all were.

    Raises
    ------
    DataError
        If the shape of the scan is unknown, or does not fit the number of frames.
    """
    path = path or request.path
    n = frames.n_frames - request.skip_frames
    scan = request.scan_shape or recorded
    if n < 1 <= frames.n_frames:
        raise DataError(f"{path}: holds {frames.n_frames} frames; give a smaller source.skip_frames")
    if n < 1:
        raise DataError(f"{path}: holds no complete frame; copy or record it again")
    if scan is None:
        raise DataError(_unknown_shape(path, n))
    if -1 in scan:
        other, beside = max(scan), request.flyback
        scan = (n // (other + beside), other) if scan[0] == -1 else (other, n // other - beside)
    rows, columns = scan
    if min(scan) < 1:
        raise DataError(f"{path}: {n} frames do not make a scan of {rows}x{columns}; give source.scan_shape")
    chosen = ChosenFrames(frames, request.skip_frames, columns, request.flyback)
    total, extra = rows * columns, n - rows * (columns + request.flyback)
    aborted = may_miss and chosen.n_frames >= max(1, _LEAST_SHARE * total)
    too_many = extra > 0 and not (request.ignore_extra or may_exceed)
    if too_many or (chosen.n_frames < total and not aborted):
        raise DataError(_wrong_shape(path, n, scan, request.flyback))
    plain = chosen.skip == 0 and chosen.flyback == 0
    data = lazy_scan(Folded(frames if plain else chosen, scan), str(path))
    if chosen.n_frames >= total and not len(lost):
        return data, None
    places = chosen.places(0, total)
    missing = (places >= frames.n_frames) | np.isin(places, np.asarray(lost, np.int64))
    return data, missing.reshape(scan) if missing.any() else None


def whole_scan(request: Request, array: OnDisk, chunks: tuple[int, ...] | None = None) -> da.Array:
    """Return an array of four axes as it is: no frames can be left out of it.

    Parameters
    ----------
    request : Request
        What the user says of the file.
    array : OnDisk
        The array.
    chunks : tuple of int, optional
        The file's own blocks, in the file's order of axes.

    Returns
    -------
    dask.array.Array, shape (scan_y, scan_x, k_y, k_x)

    Raises
    ------
    DataError
        If the user asks for frames to be left out, or the array cannot be a scan.
    """
    refuse_frame_settings(request, array.shape)
    return array.lazy(chunks)


def refuse_frame_settings(request: Request, shape: tuple[int, ...]) -> None:
    """Refuse to leave frames out of what is no stack.

    Raises
    ------
    DataError
        If the user asks for it, and the array has four axes.
    """
    settings = request.frame_settings()
    if settings and len(shape) == 4:
        raise DataError(
            f"{request.path}: holds a scan of {shape[0]}x{shape[1]}, while {settings[0]} is for stacks of frames; "
            "leave it out, and crop the scan with preparation.scan_region"
        )


def _unknown_shape(path: Path, n: int) -> str:
    if n == 1:
        return f"{path}: holds a single frame, and a scan has several; give the file of the whole scan"
    return f"{path}: holds a stack of {n} frames (three axes) and does not say the shape of the scan; {_proposal(n)}"


def _wrong_shape(path: Path, n: int, scan: tuple[int, int], flyback: int) -> str:
    """What does not fit, and every setting that would make it fit."""
    rows, columns = scan
    total = rows * (columns + flyback)
    beside = f" with {flyback} more in each line" * bool(flyback)
    trouble = f"{path}: holds {n} frames, which do not make a scan of {rows}x{columns}{beside} = {total}"
    extra = n - total
    if not 0 < extra <= total:
        return f"{trouble}; {_proposal(n)}"
    ways = [f"source.ignore_extra leaves out the last {extra}", f"source.skip_frames of {extra} the first"]
    in_each, rest = divmod(extra, rows)
    if rest == 0 and not flyback:
        ways.insert(0, f"source.flyback of {in_each} leaves out as many at the end of each line")
    return f"{trouble}; {', '.join(ways)}; or give source.scan_shape"


def _proposal(n: int) -> str:
    """A shape that n frames make, the most nearly square; where they make none, one that leaves frames out."""
    rows = next(rows for rows in range(math.isqrt(n), 0, -1) if n % rows == 0)
    if rows > 1 or n < 4:
        return f"give source.scan_shape{f', such as {rows}x{n // rows}' * (n > 1)}"
    return "give source.scan_shape, and source.skip_frames or source.ignore_extra for frames beside the scan"
