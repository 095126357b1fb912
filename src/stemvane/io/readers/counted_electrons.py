"""HDF5 of the 4D Camera as stempy writes it: for each frame, the pixels that an electron has hit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stemvane.data.dataset import Dataset4D
from stemvane.errors import FileFormatError
from stemvane.io.on_disk import file_errors
from stemvane.io.request import Request
from stemvane.io.stack import fold

__all__ = ["open_counted_electrons"]

_FRAMES, _POSITIONS = "electron_events/frames", "electron_events/scan_positions"
# bytes that may lie in memory at once while events are counted
_MOST_BYTES = 2**26


@dataclass(frozen=True, eq=False)
class _CountedFrames:
    """Frames made of lists of events, counted when they are asked for.

    Attributes
    ----------
    path : str
        The file.
    n_frames : int
        Number of probe positions.
    frame_shape : tuple of int
        Detector pixels ``(k_y, k_x)``.
    starts : ndarray of int, shape (n_frames + 1,), or int
        Where the lists of each position begin in `rows`, or how many lists each position has, in order.
    rows : ndarray of int, optional
        Numbers of the lists, by position, where they are not in order.
    """

    path: str
    n_frames: int
    frame_shape: tuple[int, int]
    starts: NDArray[np.int64] | int
    rows: NDArray[np.int64] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels: several frames may have been summed at a position."""
        return np.dtype(np.uint16)

    def read(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Frames `start` to `stop`, shape ``(n, k_y, k_x)``."""
        n_pixels = math.prod(self.frame_shape)
        counts = np.zeros((max(stop - start, 0), n_pixels), np.uint16)
        step = max(1, _MOST_BYTES // (8 * n_pixels))
        with file_errors(Path(self.path)), h5py.File(self.path, "r") as file:
            lists = file[_FRAMES]
            for first in range(start, stop, step):
                last = min(first + step, stop)
                events, owners = self._events(lists, first, last)
                # one number for each pixel of each position, so that all are counted in one go
                places = (owners - first) * n_pixels + events
                if events.size and not 0 <= int(events.min()) <= int(events.max()) < n_pixels:
                    raise FileFormatError(f"{self.path}: names pixels that its frames do not have; copy it again")
                block = np.bincount(places, minlength=(last - first) * n_pixels)
                counts[first - start : last - start] = block.reshape(last - first, n_pixels)
        return counts.reshape(-1, *self.frame_shape)

    def _events(self, lists: h5py.Dataset, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pixels that were hit at positions `first` to `last`, and the position of each."""
        if isinstance(self.starts, int):
            chosen = lists[first * self.starts : last * self.starts]
            positions = first + np.arange(len(chosen)) // self.starts
        else:
            span = slice(self.starts[first], self.starts[last])
            rows = np.arange(span.start, span.stop) if self.rows is None else self.rows[span]
            positions = np.repeat(np.arange(first, last), np.diff(self.starts[first : last + 1]))
            order = np.argsort(rows, kind="stable")  # the library reads in ascending order only
            chosen, positions = lists[rows[order]] if len(rows) else [], positions[order]
        sizes = np.array([len(events) for events in chosen], np.int64)
        joined = np.concatenate([np.asarray(events, np.int64) for events in chosen]) if len(chosen) else np.empty(0)
        return joined.astype(np.int64, copy=False), np.repeat(positions, sizes)


def open_counted_electrons(request: Request) -> Dataset4D:
    """Open electrons that stempy has counted, in any of the three versions of its layout.

    Parameters
    ----------
    request : Request
        The file, and what the user says of it.

    Returns
    -------
    Dataset4D
        Patterns are made of the lists of events block by block. The columns of the beam's flyback stay, unless
        `flyback` leaves them out. Positions without a list are missing.

    Raises
    ------
    FileFormatError
        If the numbers of frames and positions do not fit.
    DataError
        If the shape of the scan does not fit.
    """
    path = request.path
    with h5py.File(path, "r") as file:
        lists, places = file[_FRAMES], file[_POSITIONS]
        scan = int(places.attrs["Ny"]), int(places.attrs["Nx"])
        # of frames stempy's Nx are the rows, which its own reader takes for the first axis
        shape = int(lists.attrs["Nx"]), int(lists.attrs["Ny"])
        version = int(np.ravel(file.attrs.get("version", 1))[0])
        n_lists, n_positions = int(lists.size), math.prod(scan)
        if lists.ndim != 1 or h5py.check_vlen_dtype(lists.dtype) is None or not 1 <= n_positions < 2**31:
            raise FileFormatError(f"{path}: its events are no lists for each frame; write it again with stempy")
        if min(shape) < 1 or max(shape) > 2**15:
            raise FileFormatError(f"{path}: its frames have {shape[0]}x{shape[1]} pixels; it is damaged, copy it again")
        positions = np.ravel(places[()]).astype(np.int64) if version == 2 else None
    frames, lost = _frames(str(path.absolute()), shape, n_lists, n_positions, version, positions)
    data, missing = fold(frames, request, scan, may_miss=True, lost=lost)
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing)


def _frames(
    path: str,
    shape: tuple[int, int],
    n_lists: int,
    n_positions: int,
    version: int,
    positions: NDArray[np.int64] | None,
) -> tuple[_CountedFrames, list[int]]:
    """Frames, and the positions without one."""
    if positions is None or (len(positions) == n_positions and np.array_equal(positions, np.arange(n_positions))):
        # as many lists for each position, one after the other; before version 3 it is one
        each = n_lists // n_positions if version >= 3 else 1
        if each < 1 or (version >= 3 and each * n_positions != n_lists):
            raise FileFormatError(f"{path}: {n_lists} frames do not fit {n_positions} positions; write it again")
        return _CountedFrames(path, n_positions if version >= 3 else n_lists, shape, each), []
    if len(positions) != n_lists or (n_lists and not 0 <= positions.min() <= positions.max() < n_positions):
        raise FileFormatError(f"{path}: the positions of its frames do not fit the scan; write it again with stempy")
    numbers = np.bincount(positions, minlength=n_positions)
    starts = np.concatenate([[0], np.cumsum(numbers)])
    frames = _CountedFrames(path, n_positions, shape, starts, np.argsort(positions, kind="stable"))
    return frames, np.flatnonzero(numbers == 0).tolist()
