"""TIFF stacks, through tifffile: a page for each frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError, FileFormatError
from stemvane.extras import require_package
from stemvane.io.on_disk import file_errors, require_real
from stemvane.io.request import Request
from stemvane.io.stack import Frames, Part, RawFrames, fold

__all__ = ["NEEDED", "TIFF_MARKS", "open_tiff"]

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF and BigTIFF begin, in both byte orders."""

NEEDED = "stemvane[export]"
"""What pip is to install where tifffile is missing."""


@dataclass(frozen=True)
class _Pages:
    """Frames that are pages of a TIFF, decompressed when they are asked for.

    Attributes
    ----------
    path : str
        The file.
    series : int
        Which series of pages.
    n_frames : int
        Number of pages.
    frame_shape : tuple of int
        Detector pixels ``(k_y, k_x)``.
    dtype : dtype
        Type of the pixels.
    """

    path: str
    series: int
    n_frames: int
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames `start` to `stop`, shape ``(n, k_y, k_x)``."""
        from tifffile import TiffFile

        if start >= stop:
            return np.empty((0, *self.frame_shape), self.dtype)
        with file_errors(Path(self.path)), TiffFile(self.path) as tiff:
            pages = tiff.series[self.series].pages[start:stop]
            return np.stack([page.asarray().reshape(self.frame_shape) for page in pages if page is not None])


def open_tiff(request: Request) -> Dataset4D:
    """Open a TIFF stack; one with four axes, as ImageJ and tifffile write them, says the scan.

    Parameters
    ----------
    request : Request
        The file, and what the user says of it.

    Returns
    -------
    Dataset4D

    Raises
    ------
    MissingPackageError
        If tifffile is not installed.
    FileFormatError
        If the file is truncated.
    DataError
        If it holds colours, or the shape of the scan is unknown.
    """
    with require_package("reading a TIFF stack", NEEDED):
        from tifffile import TiffFile

    path = request.path
    with TiffFile(path) as tiff:
        sizes = [math.prod(series.shape) for series in tiff.series]
        if not sizes:
            raise FileFormatError(f"{path}: holds no image; copy it again")
        place = int(np.argmax(sizes))
        series = tiff.series[place]
        shape, dtype = tuple(int(n) for n in series.shape), np.dtype(series.dtype).newbyteorder("=")
        if "S" in series.axes or not series.axes.endswith("YX"):
            raise DataError(f"{path}: holds colours or other axes ({series.axes}); save the stack as grey values")
        require_real(dtype, str(path))
        n_frames, frame_shape = math.prod(shape[:-2]), (shape[-2], shape[-1])
        n_bytes = math.prod(shape) * dtype.itemsize
        offset = series.dataoffset
        frames: Frames
        if offset is not None and not series.is_multifile:
            if offset + n_bytes > path.stat().st_size:
                raise FileFormatError(f"{path}: is truncated; copy it again")
            frame_bytes = n_bytes // n_frames
            part = Part(str(path.absolute()), int(offset), n_frames)
            stored = dtype.newbyteorder(tiff.byteorder)
            frames = RawFrames((part,), frame_bytes, frame_bytes, frame_shape, stored)
        elif len(series.pages) == n_frames:
            frames = _Pages(str(path.absolute()), place, n_frames, frame_shape, dtype)
        else:
            raise DataError(f"{path}: its pages do not hold one frame each; save the stack with a page for each frame")
    recorded = (shape[0], shape[1]) if len(shape) == 4 else None
    data, missing = fold(frames, request, recorded)
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing)
