"""NumPy's .npy and .npz, and raw binary.

RosettaSciIO reads .npy too, but maps it to memory. Nothing is unpickled: an array of Python objects is refused from its
header.
"""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError, FileFormatError
from stemvane.io.on_disk import OnDisk, require_real
from stemvane.io.request import Request
from stemvane.io.stack import ArrayFrames, Part, RawFrames, fold, refuse_frame_settings

__all__ = ["open_npy", "open_npz", "open_raw"]

_LOCAL_HEADER = 30
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def open_npy(request: Request) -> Dataset4D:
    """Open a .npy with three or four axes.

    Raises
    ------
    FileFormatError
        If it is truncated.
    DataError
        If it holds anything but real numbers with three or four axes.
    """
    with request.path.open("rb") as stream:
        shape, fortran, dtype = _npy_header(stream, request.path)
        offset = stream.tell()
    return _plain(request, shape, dtype, offset, fortran)


def open_raw(request: Request) -> Dataset4D:
    """Open raw binary of the given shape and type.

    Raises
    ------
    DataError
        If the shape and the type do not make the size of the file.
    """
    path = request.path
    if request.shape is None or request.dtype is None:
        raise FileFormatError(
            f"{path}: raw binary needs its shape and its type; give source.shape and source.dtype, "
            "such as 64x64x128x128 and uint16"
        )
    try:
        dtype = np.dtype(request.dtype)
    except TypeError:
        raise DataError(
            f"{path}: '{request.dtype}' is no number type; give source.dtype as uint16, <u2 or >f4"
        ) from None
    size = path.stat().st_size
    n_bytes = math.prod(request.shape) * dtype.itemsize
    if n_bytes != size:
        raise DataError(
            f"{path}: {'x'.join(map(str, request.shape))} values of {dtype} are {n_bytes} bytes, the file has {size}; "
            "give the shape and the type that fit"
        )
    return _plain(request, request.shape, dtype, 0, False)


def open_npz(request: Request) -> Dataset4D:
    """Open an array of a .npz, lazily where it is stored without compression.

    Raises
    ------
    FileFormatError
        If it is damaged.
    DataError
        If it holds no array with three or four axes, or several.
    """
    path = request.path
    with zipfile.ZipFile(path) as archive:
        members = {}
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                with archive.open(member) as stream:
                    members[member.filename.removesuffix(".npy")] = (member, _npy_header(stream, path), stream.tell())
        name = _chosen({name: header[0] for name, (_, header, _) in members.items()}, request)
        member, (shape, fortran, dtype), start = members[name]
        require_real(dtype, str(path))
        if member.compress_type == zipfile.ZIP_STORED:
            return _plain(request, shape, dtype, _start_of(member, path) + start, fortran)
        if math.prod(shape) * dtype.itemsize + start > member.file_size:
            raise FileFormatError(f"{path}: '{name}' is truncated; copy it again")
        with archive.open(member) as stream:
            values = np.frombuffer(stream.read(), dtype, math.prod(shape), start)
    array = values.reshape(shape, order="F" if fortran else "C")
    if array.ndim not in (3, 4):
        raise DataError(f"{path}: '{name}' has {array.ndim} axes {shape}; give source.dataset, an array of four axes")
    frames = ArrayFrames(array.reshape(-1, *array.shape[-2:]))
    recorded = (shape[0], shape[1]) if array.ndim == 4 else None
    refuse_frame_settings(request, shape)
    data, missing = fold(frames, request, recorded)
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing)


def _chosen(shapes: dict[str, tuple[int, ...]], request: Request) -> str:
    names = [name for name, shape in shapes.items() if len(shape) in (3, 4)]
    listed = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:8]) or "nothing"
    if request.dataset is not None:
        if request.dataset not in shapes:
            raise DataError(
                f"{request.path}: has no array '{request.dataset}', but {listed}; give source.dataset, one of these"
            )
        return request.dataset
    if len(names) != 1:
        raise DataError(f"{request.path}: holds {listed}; give source.dataset, an array of four axes")
    return names[0]


def _npy_header(stream: Any, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(stream)
        shape, fortran, dtype = _READERS[version](stream)
    except (ValueError, KeyError, SyntaxError, TypeError, EOFError):
        raise FileFormatError(f"{path}: the header of the array is damaged; save it again") from None
    return shape, fortran, dtype


def _start_of(member: zipfile.ZipInfo, path: Path) -> int:
    """Where the bytes of a stored member begin; the lengths in its own header may differ from the directory's."""
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        header = stream.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER:
        raise FileFormatError(f"{path}: is truncated; copy it again")
    name, extra = struct.unpack("<HH", header[26:30])
    return int(member.header_offset) + _LOCAL_HEADER + int(name) + int(extra)


def _plain(request: Request, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, fortran: bool) -> Dataset4D:
    path = request.path
    require_real(dtype, str(path))
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise DataError(
            f"{path}: holds an array of {len(shape)} axes {shape}; stemvane needs four, (scan_y, scan_x, k_y, k_x), "
            "or a stack of frames and source.scan_shape"
        )
    if path.stat().st_size < offset + math.prod(shape) * dtype.itemsize:
        raise FileFormatError(f"{path}: is truncated; copy it again")
    refuse_frame_settings(request, shape)
    missing = None
    if not fortran:
        frame_bytes = math.prod(shape[-2:]) * dtype.itemsize
        part = Part(str(path.absolute()), offset, math.prod(shape[:-2]))
        frames = RawFrames((part,), frame_bytes, frame_bytes, (shape[-2], shape[-1]), dtype)
        recorded = (shape[0], shape[1]) if len(shape) == 4 else None
        data, missing = fold(frames, request, recorded)
    else:
        order = tuple(reversed(range(len(shape))))
        array = OnDisk(str(path.absolute()), "", "raw", shape[::-1], dtype, order, offset)
        data = array.lazy() if len(shape) == 4 else fold(ArrayFrames(array), request)[0]
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing)
