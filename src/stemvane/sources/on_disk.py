"""Arrays that stay on disk until a block is needed, and the one-line errors of files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import zarr
from numpy.typing import NDArray

from stemvane.dataset import pattern_chunks
from stemvane.errors import DataError, FileFormatError, StemvaneError
from stemvane.sources.chunks import read_hdf5

__all__ = ["READABLE", "OnDisk", "told"]

_DAMAGED = "the file seems damaged: copy it again"
# what every refusal to read says
READABLE = "stemvane reads its own .zarr folders and HyperSpy's .hspy files; save the scan as one of these"


@contextmanager
def told(path: Path, done: str = "read", cure: str = _DAMAGED) -> Iterator[None]:
    """Turn whatever the libraries raise into one line that names the file."""
    try:
        yield
    except StemvaneError:
        raise
    except FileNotFoundError as error:
        if done == "written":
            raise FileFormatError(f"{path}: cannot be written ({error.strerror}); {cure}") from None
        raise FileFormatError(f"{path}: no such file or folder; check the path") from None
    except Exception as error:
        if done == "written" and not isinstance(error, OSError):
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"it lacks {error}"
        if isinstance(error, PermissionError) and done == "read":
            cure = "ask for the permission, or copy it to a place of your own"
        reason = " ".join(reason.split())[:200]
        if "truncated" in reason:
            reason, cure = "it is truncated", "copy it again"
        raise FileFormatError(f"{path}: cannot be {done} ({reason}); {cure}") from None


@dataclass(frozen=True)
class OnDisk:
    """An array in a file that is opened anew for every block: no handle stays open, and workers can be sent it."""

    path: str
    key: str
    is_hdf5: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, part: Any) -> NDArray[Any]:
        with told(Path(self.path), cure="it is damaged or was moved: copy it again"):
            if not self.is_hdf5:
                return np.asarray(zarr.open_array(os.path.join(self.path, self.key), mode="r")[part])
            import hdf5plugin  # noqa: F401  registers the compressors

            with h5py.File(self.path, "r") as file:
                return read_hdf5(file[self.key], part)

    def lazy(self, chunks: tuple[int, ...] | None = None) -> da.Array:
        """A dask array in blocks of some megabytes; `chunks` are the file's own.

        Raises
        ------
        DataError
            If the array is not real or does not have four axes.
        """
        # every block of ours is a whole number of the file's own, so that none is decompressed twice
        if len(self.shape) != 4 or self.dtype.kind not in "uifb":
            raise DataError(
                f"{self.path}: holds an array of {len(self.shape)} axes of {self.dtype}; stemvane needs real "
                "intensities with four, two of the scan and two of the detector"
            )
        wanted = pattern_chunks(self.shape, self.dtype)
        own = chunks or (1, 1, 1, 1)
        blocks = tuple(min(n, math.ceil(w / c) * c) for n, w, c in zip(self.shape, wanted, own, strict=True))
        array: da.Array = da.from_array(self, chunks=blocks, name=False, fancy=False, lock=False, asarray=False)
        return array
