"""Compressed chunks: HDF5 as its library reads it, whatever the compression and byte order; chunks cut short."""

import h5py
import hdf5plugin
import numcodecs
import numpy as np
import pytest
import zarr
from numcodecs import Blosc
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from stemvane.io.chunks import decoders_of, read_hdf5, read_zarr

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


def written(file, array, options, chunks=(2, 3, 9, 11)):
    return file.create_dataset("a", data=array, chunks=chunks, **options)


@pytest.mark.parametrize("name", [*COMPRESSIONS, *UNKNOWN])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "<u2", ">u2", "<i4", "<f4", ">f8", "float16"])
def test_equals_the_library(tmp_path, name, dtype):
    array = numbers(dtype)
    options = (COMPRESSIONS | UNKNOWN)[name]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        written(file, array, options)
    with h5py.File(tmp_path / "a.h5") as file:
        for part in PARTS:
            values = read_hdf5(file["a"], part)
            np.testing.assert_array_equal(values, array[part])
            assert values.dtype == array.dtype


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_known_compressions_do_not_need_the_library(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert decoders_of(file.create_dataset("a", data=numbers("uint16"), chunks=(2, 3, 9, 11), **COMPRESSIONS[name]))


@pytest.mark.parametrize("name", UNKNOWN)
def test_others_are_left_to_the_library(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert not decoders_of(file.create_dataset("a", data=numbers("uint16"), chunks=(2, 3, 9, 11), **UNKNOWN[name]))


def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("a", (4, 4, 8, 8), "u2", chunks=(2, 2, 8, 8), compression="gzip", fillvalue=7)
        data[:2, :2] = 1
        values = read_hdf5(data, (slice(None), slice(None)))
    assert (values[:2, :2] == 1).all()
    assert (values[2:] == 7).all()


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
        values = read_hdf5(written(file, array, COMPRESSIONS[name], (2, 2, 64, 64)), (slice(None),))
    np.testing.assert_array_equal(values, array)


@pytest.mark.parametrize("left", [10, 16, 0.5, 0.99])
def test_half_a_blosc_chunk_of_hdf5_is_refused(tmp_path, left):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = written(file, numbers("uint16"), COMPRESSIONS["blosc of bits"], (5, 7, 9, 11))
        whole = data[:]
        skipped, raw = data.id.read_direct_chunk((0, 0, 0, 0))
        cut = raw[: left if isinstance(left, int) else int(left * len(raw))]
        np.testing.assert_array_equal(read_hdf5(data, (slice(None),)), whole)
        data.id.write_direct_chunk((0, 0, 0, 0), cut, skipped)
        # the rest of the chunk may still lie in memory behind it, so luck must not decide
        with pytest.raises(ValueError, match="damaged"):
            read_hdf5(data, (slice(None),))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("left", [0, 10, 16, 0.5, 0.99])
def test_half_a_blosc_chunk_of_zarr_is_refused(tmp_path, zarr_format, left):
    codec = Blosc(cname="zstd") if zarr_format == 2 else BloscCodec(cname="zstd")
    array = zarr.create_array(
        tmp_path / "a", data=numbers("uint16"), chunks=(2, 3, 9, 11), zarr_format=zarr_format, compressors=codec
    )
    everything = tuple(slice(0, n) for n in array.shape)
    whole = read_zarr(tmp_path, "a", everything)
    np.testing.assert_array_equal(whole, numbers("uint16"))
    chunk = tmp_path / "a" / array.metadata.encode_chunk_key((1, 1, 0, 0))
    raw = chunk.read_bytes()
    chunk.write_bytes(raw[: left if isinstance(left, int) else int(left * len(raw))])
    with pytest.raises(ValueError, match="damaged"):
        read_zarr(tmp_path, "a", everything)
    first = (slice(0, 2), *everything[1:])
    np.testing.assert_array_equal(read_zarr(tmp_path, "a", first), whole[:2])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("compression", ["blosc", "zstd", "gzip", "none", "filtered"])
@pytest.mark.parametrize("dtype", ["uint16", ">u2", "float32"])
def test_any_part_of_a_zarr_array_is_what_zarr_reads(tmp_path, zarr_format, compression, dtype):
    codecs = {
        "blosc": (Blosc(cname="lz4"), BloscCodec(cname="lz4")),
        "zstd": (numcodecs.Zstd(), ZstdCodec()),
        "gzip": (numcodecs.GZip(), GzipCodec()),
    }
    options = {"compressors": codecs[compression][zarr_format - 2] if compression in codecs else None}
    if compression == "filtered" and zarr_format == 2:
        options["filters"] = [numcodecs.Delta(dtype="<f4" if dtype == "float32" else dtype)]
    if compression == "filtered" and zarr_format == 3:
        options |= {"shards": (4, 6, 9, 11), "compressors": BloscCodec()}
    shape, chunks = numbers("uint16").shape, (2, 3, 9, 11)
    array = zarr.create_array(
        tmp_path / "a", shape=shape, dtype=dtype, chunks=chunks, zarr_format=zarr_format, fill_value=3, **options
    )
    # the last rows were never written, and hold the fill value
    array[:4] = numbers("uint16")[:4].astype(dtype)
    array = zarr.open_array(tmp_path / "a", mode="r")
    for part in (
        np.s_[0:5, 0:7, 0:9, 0:11],
        np.s_[1:4, 2:7, 3:4, 0:11],
        np.s_[2:4, 3:6, 0:9, 0:11],
        np.s_[4:5, 6:7, 8:9, 10:11],
    ):
        read = read_zarr(tmp_path, "a", part)
        np.testing.assert_array_equal(read, array[part])
        assert read.dtype == array.dtype


def test_a_zarr_array_that_was_written_anew_is_read_anew(tmp_path):
    part = np.s_[0:2, 0:2]
    zarr.create_array(tmp_path / "a", data=np.ones((2, 2), "u2"), chunks=(2, 2))
    assert (read_zarr(tmp_path, "a", part) == 1).all()
    zarr.create_array(tmp_path / "a", data=np.full((2, 2), 2.5, "f4"), chunks=(1, 2), overwrite=True)
    assert (read_zarr(tmp_path, "a", part) == 2.5).all()
