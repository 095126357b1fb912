"""Compressed chunks: HDF5's outside the lock that its library holds, so that threads work side by side, and Zarr's."""

from __future__ import annotations

import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numba
import numpy as np
import zarr
from numcodecs import Blosc, blosc, lz4, zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec
from zarr.storage import ZipStore

__all__ = ["decoders_of", "read_hdf5", "read_zarr"]

_GZIP, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
# numbers that the HDF Group has registered
_BLOSC, _LZ4, _BITSHUFFLE, _ZSTD = 32001, 32004, 32008, 32015
_BITSHUFFLE_LZ4, _BITSHUFFLE_ZSTD = 2, 3
_BLOSC_HEAD = 16

Decoder = Callable[[Any], Any]


def read_hdf5(dataset: h5py.Dataset, part: Any) -> NDArray[Any]:
    """Read a part of an HDF5 dataset; chunks compressed with gzip, LZ4, Zstandard, Blosc or bitshuffle in parallel.

    Other compressions, and parts that are not whole intervals, are left to the HDF5 library, which decompresses one
    chunk at a time.

    Parameters
    ----------
    dataset : h5py.Dataset
        An array of an open file.
    part : slice, int, ... or tuple of these
        What to read.

    Returns
    -------
    ndarray
    """
    box, decoders = _box(part, dataset.shape), decoders_of(dataset)
    if box is None or not decoders:
        return np.asarray(dataset[part])

    def read(corner: tuple[int, ...]) -> Any:
        if dataset.id.get_chunk_info_by_coord(corner).byte_offset is None:
            return None  # never written: the library knows what to put there
        skipped, raw = dataset.id.read_direct_chunk(corner)
        if skipped:
            return None
        for decode in decoders:
            raw = decode(raw)
        return raw

    whole = _assembled(box, dataset.chunks, dataset.dtype, read)
    return np.asarray(dataset[part]) if whole is None else whole


def _assembled(
    box: list[tuple[int, int]], steps: tuple[int, ...], dtype: np.dtype[Any], read: Callable[[tuple[int, ...]], Any]
) -> NDArray[Any] | None:
    """Put a box together from chunks; None where `read` has no bytes for the chunk that begins at a corner."""
    result = np.empty([stop - start for start, stop in box], dtype)
    for corner in product(*(range(start // n * n, stop, n) for (start, stop), n in zip(box, steps, strict=True))):
        raw = read(corner)
        if raw is None:
            return None
        chunk = np.frombuffer(raw, dtype).reshape(steps)
        if chunk.shape == result.shape and chunk.flags.writeable:
            return chunk
        source, target = [], []
        for (start, stop), first, n in zip(box, corner, steps, strict=True):
            low, high = max(start, first), min(stop, first + n)
            source.append(slice(low - first, high - first))
            target.append(slice(low - start, high - start))
        result[tuple(target)] = chunk[tuple(source)]
    return result


def read_zarr(path: Path, key: str, part: tuple[slice, ...]) -> NDArray[Any]:
    """Read a part of a Zarr array in a folder or a zip archive.

    Parameters
    ----------
    path : Path
        The folder or archive.
    key : str
        The array in it.
    part : tuple of slice
        What to read.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If one of its chunks is shorter or longer than it says; NumCodecs would read on in whatever lies in memory
        behind it.
    """
    if path.is_dir():
        return _read_folder(path / key, part)
    with ZipStore(path, mode="r") as store, zipfile.ZipFile(path) as archive:
        array = zarr.open_array(store, path=key, mode="r")
        _check_blosc(array, part, lambda name: _head_in_archive(archive, f"{key}/{name}".lstrip("/")))
        return np.asarray(array[part])


def _read_folder(folder: Path, part: tuple[slice, ...]) -> NDArray[Any]:
    """As `read_zarr`; chunks of one compression are decompressed by the thread that asks, without Zarr's event loop."""
    files = [folder / name for name in ("zarr.json", ".zarray")]
    array = _opened(folder, tuple(file.stat().st_mtime_ns for file in files if file.is_file()))
    decode, box = _decoder_of(array), _box(part, array.shape)
    if decode is not None and box is not None:

        def read(corner: tuple[int, ...]) -> Any:
            place = tuple(first // n for first, n in zip(corner, array.chunks, strict=True))
            file = folder / array.metadata.encode_chunk_key(place)
            # Zarr knows what a chunk holds that was never written
            return decode(file.read_bytes()) if file.is_file() else None

        whole = _assembled(box, array.chunks, array.dtype, read)
        if whole is not None:
            return whole
    _check_blosc(array, part, lambda name: _head_of_file(folder / name))
    return np.asarray(array[part])


@lru_cache(maxsize=16)
def _opened(folder: Path, written: tuple[int, ...]) -> zarr.Array[Any]:
    """Array in a folder; opened again where its description was `written` anew."""
    return zarr.open_array(folder, mode="r")


def _decoder_of(array: zarr.Array[Any]) -> Decoder | None:
    """What undoes the compression of an array's chunks; None where more than one thing was done to them."""
    metadata, dtype = array.metadata, array.dtype
    if dtype.kind not in "uif" or not dtype.isnative:
        return None
    if metadata.zarr_format == 2:
        is_plain = metadata.order == "C" and not metadata.filters
        compression: Any = metadata.compressor
    else:
        first: Any = metadata.codecs[0]
        compression = metadata.codecs[-1]
        is_plain = len(metadata.codecs) == 2 and isinstance(first, BytesCodec)
        if is_plain and getattr(first.endian, "value", sys.byteorder) != sys.byteorder:
            return None
    if not is_plain:
        return None
    if isinstance(compression, (Blosc, BloscCodec)):
        return _blosc
    return zstd.decompress if isinstance(compression, ZstdCodec) else None


def _check_blosc(
    array: zarr.Array[Any], part: tuple[slice, ...], head_of: Callable[[str], tuple[bytes, int] | None]
) -> None:
    if _ends_with_blosc(array):
        for corner in product(*(range(p.start // n, -(-p.stop // n)) for p, n in zip(part, array.chunks, strict=True))):
            chunk = head_of(array.metadata.encode_chunk_key(corner))
            if chunk is not None:  # a chunk never written is filled
                _require(_blosc_length(chunk[0]) == chunk[1])


def _head_of_file(path: Path) -> tuple[bytes, int] | None:
    """The first bytes of a chunk, and how many it has."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(_BLOSC_HEAD), os.fstat(file.fileno()).st_size


def _head_in_archive(archive: zipfile.ZipFile, name: str) -> tuple[bytes, int] | None:
    if name not in archive.NameToInfo:
        return None
    with archive.open(name) as file:
        return file.read(_BLOSC_HEAD), archive.getinfo(name).file_size


def _ends_with_blosc(array: zarr.Array[Any]) -> bool:
    metadata = array.metadata
    if metadata.zarr_format == 2:
        return isinstance(metadata.compressor, Blosc)
    return isinstance(metadata.codecs[-1], BloscCodec)


def _blosc(raw: Any) -> Any:
    _require(_blosc_length(raw) == len(raw))
    return blosc.decompress(raw)


def _blosc_length(raw: Any) -> int:
    """Return the size of a Blosc chunk from its header, -1 where that is cut off."""
    return int.from_bytes(raw[12:16], "little") if len(raw) >= _BLOSC_HEAD else -1


def _box(part: Any, shape: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """Return the first index and one past the last along every axis; None where the part is no plain interval."""
    parts = part if isinstance(part, tuple) else (part,)
    if len(parts) > len(shape) or not all(isinstance(p, slice) and p.step in (None, 1) for p in parts):
        return None
    box = [p.indices(n)[:2] for p, n in zip(parts, shape, strict=False)]
    return box + [(0, n) for n in shape[len(parts) :]]


def decoders_of(dataset: h5py.Dataset) -> list[Decoder]:
    """Return what undoes the filters of a dataset, last filter first; an empty list where one is unknown."""
    if dataset.chunks is None or dataset.dtype.kind not in "uifb":
        return []
    plan = dataset.id.get_create_plist()
    n_bytes = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    filters = [plan.get_filter(i) for i in range(plan.get_nfilters())]
    decoders = [_decoder(number, values, dataset.dtype.itemsize, n_bytes) for number, _, values, _ in reversed(filters)]
    return [decode for decode in decoders if decode is not None] if all(decoders) else []


def _decoder(number: int, values: tuple[int, ...], item: int, n_bytes: int) -> Decoder | None:
    if number == _GZIP:
        return zlib.decompress
    if number == _SHUFFLE:
        return lambda raw: np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(item, -1).T)
    if number == _BLOSC:
        return _blosc
    if number == _ZSTD:
        return lambda raw: zstd.decompress(raw)
    if number == _LZ4:
        return lambda raw: _lz4_blocks(raw, n_bytes)
    if number == _BITSHUFFLE and len(values) > 4 and values[4] in (_BITSHUFFLE_LZ4, _BITSHUFFLE_ZSTD):
        is_zstd = values[4] == _BITSHUFFLE_ZSTD
        return lambda raw: _bitshuffled(raw, item, n_bytes, is_zstd)
    return None


def _require(sound: bool) -> None:
    """Stop before damaged sizes make a loop endless or write beyond an array."""
    if not sound:
        raise ValueError("a compressed chunk is damaged")


def _lz4_blocks(raw: Any, n_bytes: int) -> NDArray[np.uint8]:
    """Blocks of LZ4, each after its size, after the size of all and of a block, big-endian."""
    total, block = struct.unpack_from(">qi", raw)
    _require(0 < total == n_bytes and block > 0)
    return _unpack(raw, total, block, is_zstd=False)


def _bitshuffled(raw: Any, item: int, n_bytes: int, is_zstd: bool) -> NDArray[np.uint8]:
    """Decode blocks of bits, sorted by their place in the number; the last few numbers are stored as they are."""
    total, block = struct.unpack_from(">qi", raw)
    _require(total == n_bytes and block > 0 and block % (8 * item) == 0)
    n_sorted = total // (8 * item) * 8 * item
    result = np.empty(total, np.uint8)
    _sort_bits(_unpack(raw, n_sorted, block, is_zstd), item, block, result)
    result[n_sorted:] = np.frombuffer(raw, np.uint8)[len(raw) - (total - n_sorted) :]
    return result


def _unpack(raw: Any, total: int, block: int, is_zstd: bool) -> NDArray[np.uint8]:
    result, place = np.empty(total, np.uint8), 12
    for start in range(0, total, block):
        target = result[start : start + block]
        (size,) = struct.unpack_from(">i", raw, place)
        _require(0 < size <= len(raw) - place - 4)
        packed = raw[place + 4 : place + 4 + size]
        if is_zstd:
            plain = np.frombuffer(zstd.decompress(packed), np.uint8)
            _require(len(plain) == len(target))
            target[:] = plain
        elif size == len(target):  # what did not become smaller is stored as it was
            target[:] = np.frombuffer(packed, np.uint8)
        else:
            lz4.decompress(struct.pack("<I", len(target)) + packed, target)
        place += 4 + size
    return result


@numba.njit(nogil=True, cache=True)
def _sort_bits(bits: Any, item: int, block: int, result: Any) -> None:
    for start in range(0, bits.size, block):
        stop = min(bits.size, start + block)
        _sort_block(bits[start:stop], item, result[start:stop])


@numba.njit(nogil=True, cache=True)
def _sort_block(bits: Any, item: int, result: Any) -> None:
    """Put the bits of numbers of `item` bytes back together: rows of one bit each become bytes."""
    n = bits.size // item
    rows = bits.reshape(8 * item, n // 8)
    bytes_of = np.empty((item, n), np.uint8)
    for byte in range(item):
        a, b, c, d = rows[8 * byte], rows[8 * byte + 1], rows[8 * byte + 2], rows[8 * byte + 3]
        e, f, g, h = rows[8 * byte + 4], rows[8 * byte + 5], rows[8 * byte + 6], rows[8 * byte + 7]
        words = bytes_of[byte].view(np.uint64)
        for i in range(words.size):
            word = (
                np.uint64(a[i])
                | (np.uint64(b[i]) << np.uint64(8))
                | (np.uint64(c[i]) << np.uint64(16))
                | (np.uint64(d[i]) << np.uint64(24))
                | (np.uint64(e[i]) << np.uint64(32))
                | (np.uint64(f[i]) << np.uint64(40))
                | (np.uint64(g[i]) << np.uint64(48))
                | (np.uint64(h[i]) << np.uint64(56))
            )
            # transpose 8 x 8 bits: swap blocks of 1, 2 and 4
            swap = (word ^ (word >> np.uint64(7))) & np.uint64(0x00AA00AA00AA00AA)
            word ^= swap ^ (swap << np.uint64(7))
            swap = (word ^ (word >> np.uint64(14))) & np.uint64(0x0000CCCC0000CCCC)
            word ^= swap ^ (swap << np.uint64(14))
            swap = (word ^ (word >> np.uint64(28))) & np.uint64(0x00000000F0F0F0F0)
            words[i] = word ^ swap ^ (swap << np.uint64(28))
    if item == 2:  # in one loop, which is compiled to vectors
        low, high = bytes_of[0], bytes_of[1]
        for i in range(n):
            result[2 * i] = low[i]
            result[2 * i + 1] = high[i]
    else:
        for byte in range(item):
            plane = bytes_of[byte]
            for i in range(n):
                result[item * i + byte] = plane[i]
