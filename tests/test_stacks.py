"""Stacks of frames: which of them make the scan, and what detectors of frames write beside them."""

import struct

import h5py
import numpy as np
import pytest
import reader_files as made
import zarr

from stemvane.errors import DataError, StemvaneError
from stemvane.io.files import open_dataset


def complaint(path, error=StemvaneError, **options):
    with pytest.raises(error) as info:
        open_dataset(path, **options)
    message = str(info.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message.split(";")) >= 2, "trouble and cure"
    return message


def stack_files(folder, frames):
    """The same frames as a stack of every format that can hold one, each opened with the options that it needs."""
    np.save(folder / "frames.npy", frames)
    np.savez_compressed(folder / "frames.npz", frames=frames)
    (folder / "frames.bin").write_bytes(frames.tobytes())
    with h5py.File(folder / "frames.h5", "w") as file:
        file["frames"] = frames
    zarr.create_array(folder / "frames.zarr", data=frames, chunks=(5, *frames.shape[1:]))
    header = bytearray(1024)
    header[:16] = struct.pack("<4I", *frames.shape[:0:-1], len(frames), 6)
    header[208:216] = b"MAP DD\0\0"
    (folder / "frames.mrc").write_bytes(bytes(header) + frames.astype("<u2").tobytes())
    blocks = [made.mib_header(i + 1, frame.shape, "U16", 12) + frame[::-1].astype(">u2").tobytes()
              for i, frame in enumerate(frames)]  # fmt: skip
    (folder / "frames.mib").write_bytes(b"".join(blocks))
    options = {"frames.bin": {"shape": frames.shape, "dtype": "uint16"}}
    names = ("npy", "npz", "bin", "h5", "zarr", "mrc", "mib")
    return {folder / f"frames.{name}": options.get(f"frames.{name}", {}) for name in names}


def test_frames_beside_the_scan_are_left_out_of_every_kind_of_stack(tmp_path):
    """Two frames before the scan, one at the end of each line, three after it: a scan of 3 x 4 among 20 frames."""
    flyback = np.full((3, 1, *made.DETECTOR), 7, np.uint16)
    lines = np.concatenate([made.PATTERNS, flyback], axis=1).reshape(-1, *made.DETECTOR)
    extra = np.full((3, *made.DETECTOR), 9, np.uint16)
    frames = np.concatenate([extra[:2], lines, extra])
    for path, options in stack_files(tmp_path, frames).items():
        opened = open_dataset(path, **options, scan_shape=made.SCAN, skip_frames=2, flyback=1, ignore_extra=True)
        assert opened.missing is None
        np.testing.assert_array_equal(opened.data.compute(), made.PATTERNS, err_msg=path.name)
        np.testing.assert_array_equal(opened.data[1, 1:3].compute(), made.PATTERNS[1, 1:3], err_msg=path.name)
        # as many lines as there are
        counted = open_dataset(path, **options, scan_shape=(-1, 4), skip_frames=2, flyback=1, ignore_extra=True)
        assert counted.scan_shape == made.SCAN
        trouble = complaint(path, DataError, **options, scan_shape=made.SCAN, skip_frames=2, flyback=1)
        assert "source.ignore_extra leaves out the last 3" in trouble


def test_what_would_make_the_frames_fit_is_said(tmp_path):
    np.save(tmp_path / "more.npy", np.concatenate([made.STACK, made.STACK[:1]]))
    trouble = complaint(tmp_path / "more.npy", DataError, scan_shape=made.SCAN)
    assert "source.ignore_extra leaves out the last 1" in trouble
    assert "source.skip_frames of 1" in trouble
    assert "flyback" not in trouble
    np.save(tmp_path / "lines.npy", np.concatenate([made.STACK, made.STACK[:6]]))
    trouble = complaint(tmp_path / "lines.npy", DataError, scan_shape=made.SCAN)
    assert "source.flyback of 2 leaves out as many at the end of each line" in trouble
    assert "source.scan_shape, such as 3x6" in complaint(tmp_path / "lines.npy", DataError, scan_shape=(2, 2))
    np.save(tmp_path / "single.npy", made.STACK[:1])
    trouble = complaint(tmp_path / "single.npy", DataError)
    assert "a single frame" in trouble
    assert "1x1" not in trouble
    assert "1x13" not in complaint(tmp_path / "more.npy", DataError)
    with pytest.raises(DataError, match="0 or more"):
        open_dataset(tmp_path / "more.npy", scan_shape=made.SCAN, skip_frames=-1)
    assert "a smaller source.skip_frames" in complaint(tmp_path / "more.npy", DataError, skip_frames=13)


def test_no_frames_are_left_out_of_a_scan_of_four_axes(tmp_path):
    for write in (made.npy, made.npy_fortran, made.hspy, made.zspy, made.hdf5, made.abtem_zarr, made.dm4):
        written = write(tmp_path)
        trouble = complaint(written.path, DataError, **written.options, flyback=1)
        assert "source.flyback is for stacks of frames" in trouble
        assert "preparation.scan_region" in trouble
