"""HDF5 chunks against the library's own reading, for every compression and byte order that is decoded outside of it."""

import h5py
import hdf5plugin
import numpy as np
import pytest

from stemvane.sources import chunks
from stemvane.sources.chunks import read_hdf5

COMPRESSIONS = {
    "gzip": {"compression": "gzip"},
    "gzip and shuffle": {"compression": "gzip", "shuffle": True},
    "lz4": hdf5plugin.LZ4(nbytes=1000),
    "zstd": hdf5plugin.Zstd(),
    "blosc": hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.SHUFFLE),
    "blosc of bits": hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    "bitshuffle and lz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "bitshuffle in blocks": hdf5plugin.Bitshuffle(nelems=64, cname="lz4"),
    "bitshuffle and zstd": hdf5plugin.Bitshuffle(cname="zstd"),
}
UNKNOWN = {
    "none": {},
    "bitshuffle alone": hdf5plugin.Bitshuffle(cname="none"),
    "lzf": {"compression": "lzf"},
    "blosc2": hdf5plugin.Blosc2(),
    "checksum": {"compression": "gzip", "fletcher32": True},
}
PARTS = (
    (slice(None),),
    (slice(1, 4), slice(2, 6)),
    (slice(2, 3), slice(0, 1), slice(3, 7), slice(1, 9)),
    (2, slice(None)),
    (slice(0, 5, 2),),
    (Ellipsis, slice(2, 5)),
)


def numbers(dtype, shape=(5, 7, 9, 11)):
    return np.random.default_rng(0).poisson(3.0, shape).astype(dtype)


def written(file, array, options, own=(2, 3, 9, 11)):
    return file.create_dataset("a", data=array, chunks=own, **options)


@pytest.mark.parametrize("name", [*COMPRESSIONS, *UNKNOWN])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "<u2", ">u2", "<i4", "<f4", ">f8", "float16"])
def test_equals_the_library(tmp_path, name, dtype):
    array = numbers(dtype)
    options = (COMPRESSIONS | UNKNOWN)[name]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        written(file, array, options)
    with h5py.File(tmp_path / "a.h5") as file:
        for part in PARTS:
            found = read_hdf5(file["a"], part)
            np.testing.assert_array_equal(found, array[part])
            assert found.dtype == array.dtype


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_known_compressions_do_not_need_the_library(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert chunks._decoders(
            file.create_dataset("a", data=numbers("uint16"), chunks=(2, 3, 9, 11), **COMPRESSIONS[name])
        )


@pytest.mark.parametrize("name", UNKNOWN)
def test_others_are_left_to_the_library(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert not chunks._decoders(
            file.create_dataset("a", data=numbers("uint16"), chunks=(2, 3, 9, 11), **UNKNOWN[name])
        )


def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("a", (4, 4, 8, 8), "u2", chunks=(2, 2, 8, 8), compression="gzip", fillvalue=7)
        data[:2, :2] = 1
        found = read_hdf5(data, (slice(None), slice(None)))
    assert (found[:2, :2] == 1).all()
    assert (found[2:] == 7).all()


@pytest.mark.parametrize("name", ["lz4", "bitshuffle and lz4"])
@pytest.mark.parametrize("pattern", ["noise", "constant", "ramp", "periodic"])
def test_long_repetitions_and_noise(tmp_path, name, pattern):
    array = {
        "noise": np.random.default_rng(0).integers(0, 2**16, (2, 2, 64, 64)),
        "constant": np.full((2, 2, 64, 64), 513),
        "ramp": np.arange(2 * 2 * 64 * 64).reshape(2, 2, 64, 64),
        "periodic": np.tile(np.arange(7), 2 * 2 * 64 * 64)[: 2 * 2 * 64 * 64].reshape(2, 2, 64, 64),
    }[pattern].astype("uint16")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        found = read_hdf5(written(file, array, COMPRESSIONS[name], (2, 2, 64, 64)), (slice(None),))
    np.testing.assert_array_equal(found, array)
