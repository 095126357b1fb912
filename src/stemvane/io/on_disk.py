"""Arrays that stay on disk until a block is needed, and the one-line errors of files."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import h5py
import numpy as np
from numpy.typing import NDArray

from stemvane.data.dataset import pattern_chunks
from stemvane.errors import DataError, FileFormatError, MissingPackageError, StemvaneError
from stemvane.io.chunks import read_hdf5, read_zarr

__all__ = ["READABLE", "OnDisk", "file_errors", "lazy_scan", "read_record", "require_real", "split_index"]

_DAMAGED = "the file seems damaged: copy it again"
# what every refusal to read says
READABLE = (
    "stemvane reads files of Merlin, EMPAD, Gatan, Velox, TIA, Dectris, the 4D Camera, TVIPS, NanoMegas, MRC, "
    "py4DSTEM, Prismatic, abTEM, HyperSpy, NeXus, HDF5, Zarr, TIFF and NumPy, "
    "and raw binary with source.shape and source.dtype; save the scan as one of these, for example as .hspy"
)
_MOST_BYTES = 2**60
_MOST_PIXELS = 2**16


@contextmanager
def file_errors(path: Path, done: str = "read", cure: str = _DAMAGED) -> Iterator[None]:
    """Report whatever the libraries raise as one line that names the file."""
    try:
        yield
    except StemvaneError:
        raise
    except ImportError as error:
        package = (error.name or "a package").partition(".")[0]
        raise MissingPackageError(f'{path}: reading it needs {package}; install it: pip install "{package}"') from None
    except FileNotFoundError as error:
        if done == "written":
            raise FileFormatError(f"{path}: cannot be written ({error.strerror}); {cure}") from None
        raise FileFormatError(f"{_name(path, error)}: no such file or folder; check the path") from None
    except Exception as error:
        if done == "written" and not isinstance(error, OSError):
            raise
        # some libraries give an OSError numbers where words belong
        reason = str(getattr(error, "strerror", None) or error) or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"it lacks {error}"
        if isinstance(error, PermissionError) and done == "read":
            cure = "ask for the permission, or copy it to a place of your own"
        reason = " ".join(reason.split())[:200]
        if "truncated" in reason:
            reason, cure = "it is truncated", "copy it again"
        raise FileFormatError(f"{path}: cannot be {done} ({reason}); {cure}") from None


def _name(path: Path, error: FileNotFoundError) -> str:
    """Name the missing file, and the file that refers to it where that is another one."""
    missing = error.filename
    if not isinstance(missing, str | bytes | Path) or not str(missing) or Path(os.fsdecode(missing)) == path:
        return str(path)
    return f"{path}: refers to {os.fsdecode(missing)}"


@dataclass(frozen=True)
class OnDisk:
    """An array in a file that is opened anew for every block: no handle stays open, and workers can be sent it.

    Attributes
    ----------
    path, key : str
        The file, and the array in it; no key for plain binary.
    kind : {"hdf5", "zarr", "raw"}
        How it is stored.
    stored_shape : tuple of int
        Shape in the file, last axis fastest.
    dtype : dtype
        Type of its numbers.
    order : tuple of int
        Axes of the file in the order of ``(scan_y, scan_x, k_y, k_x)``; as they are stored where it is empty.
    offset : int
        Bytes before the first number, for plain binary.
    """

    path: str
    key: str
    kind: Literal["hdf5", "zarr", "raw"]
    stored_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...] = ()
    offset: int = 0

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of the file in the order of this array."""
        return self.order or tuple(range(len(self.stored_shape)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of this array."""
        return tuple(self.stored_shape[axis] for axis in self.axes)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.stored_shape)

    def __getitem__(self, part: Any) -> NDArray[Any]:
        ranges, rest = split_index(part, self.shape)
        stored: list[slice] = [slice(None)] * self.ndim
        for axis, span in zip(self.axes, ranges, strict=True):
            stored[axis] = slice(span.start, span.stop)
        with file_errors(Path(self.path), cure="it is damaged or was moved: copy it again"):
            block = self._read(tuple(stored))
        result: NDArray[Any] = block.transpose(self.axes)[rest]
        return result

    def _read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        if self.kind == "raw":
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.stored_shape)
            return np.array(mapped[part])
        if self.kind == "zarr":
            return read_zarr(Path(self.path), self.key, part)
        import hdf5plugin  # noqa: F401  registers the compressors

        with h5py.File(self.path, "r") as file:
            return read_hdf5(file[self.key], part)

    def lazy(self, chunks: tuple[int, ...] | None = None) -> da.Array:
        """A dask array in blocks of some megabytes; `chunks` are the file's own, in the file's order of axes.

        Raises
        ------
        DataError
            If the array is not real or does not have four axes.
        """
        if len(self.stored_shape) != 4:
            raise DataError(
                f"{self.path}: holds an array of {len(self.stored_shape)} axes; stemvane needs four, two of the scan "
                "and two of the detector: give source.scan_shape for a stack of frames, or source.dataset"
            )
        file_chunks = tuple(chunks[axis] for axis in self.axes) if chunks else None
        return lazy_scan(self, self.path, file_chunks)


def lazy_scan(source: Any, path: str, chunks: tuple[int, ...] | None = None) -> da.Array:
    """A dask array over anything with ``shape``, ``dtype`` and ``[...]``, in blocks of whole patterns.

    Raises
    ------
    DataError
        If the numbers are not real, or an axis is empty or of impossible length.
    """
    shape, dtype = source.shape, source.dtype
    require_real(dtype, path)
    if min(shape) < 1 or max(shape[2:]) > _MOST_PIXELS or math.prod(shape) * dtype.itemsize > _MOST_BYTES:
        raise DataError(f"{path}: says it holds an array of {shape}, which cannot be; copy it again")
    # every block is a whole number of the file's own, so that none is decompressed twice
    sizes = pattern_chunks(shape, dtype)
    file_chunks = chunks or (1, 1, 1, 1)
    blocks = tuple(min(n, math.ceil(w / c) * c) for n, w, c in zip(shape, sizes, file_chunks, strict=True))
    if math.prod(math.ceil(n / b) for n, b in zip(shape, blocks, strict=True)) > 10**7:
        raise DataError(f"{path}: says it holds an array of {shape}, too large to be true; copy it again")
    array: da.Array = da.from_array(source, chunks=blocks, name=False, fancy=False, lock=False, asarray=False)
    return array


def read_record(path: Path, fields: Any) -> Any:
    """Read the beginning of a file as a record of NumPy's, with the fields of a structured type.

    Raises
    ------
    FileFormatError
        If the file is shorter.
    """
    dtype = np.dtype(fields)
    with path.open("rb") as stream:
        start = stream.read(dtype.itemsize)
    if len(start) < dtype.itemsize:
        raise FileFormatError(f"{path}: is truncated within its header; copy it again")
    return np.frombuffer(start, dtype)[0]


def require_real(dtype: np.dtype[Any], path: str) -> None:
    """Refuse what cannot be intensities.

    Raises
    ------
    DataError
        If the type is complex, or no number at all.
    """
    if dtype.kind == "O":
        raise DataError(f"{path}: holds Python objects, which stemvane never unpickles; save plain numbers")
    if dtype.kind not in "uifb":
        raise DataError(f"{path}: holds {dtype}; stemvane needs real intensities (the squared modulus of waves)")


def split_index(part: Any, shape: tuple[int, ...]) -> tuple[tuple[range, ...], tuple[Any, ...]]:
    """Split an index into forward ranges without gaps, which any file can read, and what is left to apply to them."""
    items = list(part) if isinstance(part, tuple) else [part]
    if Ellipsis in items:
        at = items.index(Ellipsis)
        items[at : at + 1] = [slice(None)] * (len(shape) - len(items) + 1)
    items += [slice(None)] * (len(shape) - len(items))
    ranges: list[range] = []
    rest: list[slice | int] = []
    for item, n in zip(items, shape, strict=True):
        if isinstance(item, slice):
            chosen = range(*item.indices(n))
            low, high = (min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1]) + 1) if chosen else (0, 0)
            ranges.append(range(low, high))
            stop = chosen.stop - low
            rest.append(slice(chosen.start - low if chosen else 0, stop if stop >= 0 else None, chosen.step))
        else:
            place = range(n)[operator.index(item)]
            ranges.append(range(place, place + 1))
            rest.append(0)
    return tuple(ranges), tuple(rest)
