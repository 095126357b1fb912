"""HDF5 chunks, decompressed outside the lock that the HDF5 library holds, so that threads work side by side."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from itertools import product
from typing import Any

import h5py
import numba
import numpy as np
from numcodecs import blosc, lz4, zstd
from numpy.typing import NDArray

__all__ = ["read_hdf5"]

_GZIP, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
# numbers that the HDF Group has registered
_BLOSC, _LZ4, _BITSHUFFLE, _ZSTD = 32001, 32004, 32008, 32015
_BITSHUFFLE_LZ4, _BITSHUFFLE_ZSTD = 2, 3

Decoder = Callable[[Any], Any]


def read_hdf5(dataset: h5py.Dataset, part: Any) -> NDArray[Any]:
    """Read a part of an HDF5 dataset; chunks compressed with gzip, LZ4, Zstandard, Blosc or bitshuffle in parallel.

    Other compressions, and parts that are not whole intervals, are left to the HDF5 library, which decompresses one
    chunk at a time.

    Parameters
    ----------
    dataset : h5py.Dataset
        In an open file.
    part : slice, int, ... or tuple of these
        What to read.

    Returns
    -------
    ndarray
    """
    box, decoders = _box(part, dataset.shape), _decoders(dataset)
    if box is None or not decoders:
        return np.asarray(dataset[part])
    result = np.empty([stop - start for start, stop in box], dataset.dtype)
    steps = dataset.chunks
    for corner in product(*(range(start // n * n, stop, n) for (start, stop), n in zip(box, steps, strict=True))):
        if dataset.id.get_chunk_info_by_coord(corner).byte_offset is None:
            return np.asarray(dataset[part])  # never written: the library knows what to put there
        skipped, raw = dataset.id.read_direct_chunk(corner)
        if skipped:
            return np.asarray(dataset[part])
        for decode in decoders:
            raw = decode(raw)
        chunk = np.frombuffer(raw, dataset.dtype).reshape(steps)
        source, target = [], []
        for (start, stop), first, n in zip(box, corner, steps, strict=True):
            low, high = max(start, first), min(stop, first + n)
            source.append(slice(low - first, high - first))
            target.append(slice(low - start, high - start))
        result[tuple(target)] = chunk[tuple(source)]
    return result


def _box(part: Any, shape: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """First and one past the last index along every axis, None where the part is not that simple."""
    parts = part if isinstance(part, tuple) else (part,)
    if len(parts) > len(shape) or not all(isinstance(p, slice) and p.step in (None, 1) for p in parts):
        return None
    box = [p.indices(n)[:2] for p, n in zip(parts, shape, strict=False)]
    return box + [(0, n) for n in shape[len(parts) :]]


def _decoders(dataset: h5py.Dataset) -> list[Decoder]:
    """What undoes the filters of a dataset, last filter first; nothing where one is unknown."""
    if dataset.chunks is None or dataset.dtype.kind not in "uifb":
        return []
    plan = dataset.id.get_create_plist()
    n_bytes = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    filters = [plan.get_filter(i) for i in range(plan.get_nfilters())]
    known = [_decoder(number, values, dataset.dtype.itemsize, n_bytes) for number, _, values, _ in reversed(filters)]
    return [decode for decode in known if decode is not None] if all(known) else []


def _decoder(number: int, values: tuple[int, ...], item: int, n_bytes: int) -> Decoder | None:
    if number == _GZIP:
        return zlib.decompress
    if number == _SHUFFLE:
        return lambda raw: np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(item, -1).T)
    if number == _BLOSC:
        return lambda raw: blosc.decompress(raw)
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


def _lz4_block(raw: Any, n_bytes: int) -> Any:
    return lz4.decompress(struct.pack("<I", n_bytes) + bytes(raw))


def _lz4_blocks(raw: Any, n_bytes: int) -> bytes:
    """Blocks of LZ4, each after its size, after the size of all and of a block, big-endian."""
    view, (total, block) = memoryview(raw), struct.unpack_from(">qi", raw)
    _require(0 < total == n_bytes and block > 0)
    pieces, place = [], 12
    for start in range(0, total, block):
        size, plain = struct.unpack_from(">i", view, place)[0], min(block, total - start)
        piece = view[place + 4 : place + 4 + size]
        # what did not become smaller is stored as it was
        pieces.append(bytes(piece) if size == plain else _lz4_block(piece, plain))
        place += 4 + size
    return b"".join(pieces)


def _bitshuffled(raw: Any, item: int, n_bytes: int, is_zstd: bool) -> NDArray[np.uint8]:
    """Blocks of compressed bits, sorted by their place in the number; what is left of 8 numbers is stored as it was."""
    view, (total, block) = memoryview(raw), struct.unpack_from(">qi", raw)
    _require(total == n_bytes and block > 0 and block % (8 * item) == 0)
    result, place = np.empty(total, np.uint8), 12
    whole = total // (8 * item) * 8 * item
    start = 0
    while start < whole:
        size, plain = struct.unpack_from(">i", view, place)[0], min(block, whole - start)
        piece = view[place + 4 : place + 4 + size]
        bits = zstd.decompress(bytes(piece)) if is_zstd else _lz4_block(piece, plain)
        _require(len(bits) == plain)
        _sort_bits(np.frombuffer(bits, np.uint8), item, result[start : start + plain])
        start, place = start + plain, place + 4 + size
    result[whole:] = np.frombuffer(view[place : place + total - whole], np.uint8)
    return result


@numba.njit(nogil=True, cache=True)
def _sort_bits(bits: Any, item: int, result: Any) -> None:
    """Put the bits of numbers of `item` bytes back together: rows of one bit each become bytes."""
    n = bits.size // item
    row = n // 8
    for byte in range(item):
        for group in range(row):
            word = np.uint64(0)
            for bit in range(8):
                word |= np.uint64(bits[(8 * byte + bit) * row + group]) << np.uint64(8 * bit)
            # transpose 8 x 8 bits: swap blocks of 1, 2 and 4
            swap = (word ^ (word >> np.uint64(7))) & np.uint64(0x00AA00AA00AA00AA)
            word ^= swap ^ (swap << np.uint64(7))
            swap = (word ^ (word >> np.uint64(14))) & np.uint64(0x0000CCCC0000CCCC)
            word ^= swap ^ (swap << np.uint64(14))
            swap = (word ^ (word >> np.uint64(28))) & np.uint64(0x00000000F0F0F0F0)
            word ^= swap ^ (swap << np.uint64(28))
            for i in range(8):
                result[(8 * group + i) * item + byte] = np.uint8((word >> np.uint64(8 * i)) & np.uint64(255))
