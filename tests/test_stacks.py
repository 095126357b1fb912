"""Stacks of frames: which of them make the scan, and what detectors of frames write beside them."""

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import reader_files as made
import zarr

from stemvane.errors import DataError, FileFormatError, StemvaneError
from stemvane.io.files import open_dataset

READERS = Path(__file__).parents[2] / "shared" / "data" / "readers"
CASES = READERS.parent / "cases"


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


HDR = "HDR,\t\nFrames in Acquisition (Number):\t{}\nFrames per Trigger (Number):\t{}\nEnd\t"


def test_a_single_trigger_says_nothing_of_the_scan(tmp_path):
    """Pauses between the lines do, where there are any."""
    written = made.mib_flyback(tmp_path)
    written.path.with_suffix(".hdr").write_text(HDR.format(12, 12))
    opened = open_dataset(written.path)
    np.testing.assert_array_equal(opened.data.compute(), made.PATTERNS)
    evenly = made.mib(tmp_path)
    evenly.path.with_suffix(".hdr").write_text(HDR.format(12, 12))
    assert "does not say the shape of the scan" in complaint(evenly.path, DataError)


def test_pauses_tell_the_lines_of_an_aborted_scan_and_of_one_with_frames_before_it(tmp_path):
    path = tmp_path / "timed.mib"
    path.write_bytes(b"".join(made.timed_frames(made.STACK[:10])))
    opened = open_dataset(path)
    assert opened.scan_shape == (3, 4)
    assert opened.missing.sum() == 2
    # the frames that are skipped, and the one at the end of each line, are not of the scan
    path.write_bytes(b"".join(made.timed_frames(made.STACK, first=-1)))
    assert "scan_shape" in complaint(path, DataError)
    path.write_bytes(b"".join(made.timed_frames(np.concatenate([made.STACK[:2], made.STACK]), first=-1)))
    opened = open_dataset(path, skip_frames=2, flyback=1)
    np.testing.assert_array_equal(opened.data.compute(), made.PATTERNS[:, :3])


def numbered(folder, *, counting=True, hdr="scan.hdr"):
    """A recording of 12 frames in three files; each counts on where the one before ends, or from 1."""
    for i in range(3):
        frames = made.timed_frames(made.STACK[4 * i : 4 * i + 4], first=4 * i + 1 if counting else 1)
        (folder / f"scan{i + 1:04d}.mib").write_bytes(b"".join(frames))
    if hdr:
        (folder / hdr).write_text(HDR.format(12, 4))
    return [folder / f"scan{i + 1:04d}.mib" for i in range(3)]


@pytest.mark.parametrize("counting", [True, False])
def test_numbered_merlin_files_are_one_scan(tmp_path, counting):
    files = numbered(tmp_path, counting=counting)
    for path in (files[0], files[2], tmp_path / "scan.hdr"):
        opened = open_dataset(path)
        np.testing.assert_array_equal(opened.data.compute(), made.PATTERNS)
        assert opened.files == tuple(files)
        assert opened.name == "scan"
    files[1].unlink()
    for path in (files[0], files[2]):
        assert "some are missing" in complaint(path, FileFormatError)


def test_numbered_merlin_files_without_notes_are_joined_where_their_frames_count_on(tmp_path):
    files = numbered(tmp_path, hdr="")
    assert open_dataset(files[1]).scan_shape == (3, 4)
    # these are recordings of their own
    files = numbered(tmp_path, counting=False, hdr="")
    assert open_dataset(files[1], scan_shape=(2, 2)).files == ()
    files = numbered(tmp_path, hdr="scan0002.hdr")
    np.testing.assert_array_equal(open_dataset(files[1], scan_shape=(2, 2)).data.compute().reshape(4, 16, 16),
                                  made.STACK[4:8])  # fmt: skip


def test_notes_of_more_frames_than_lines_make(tmp_path):
    path = tmp_path / "a.mib"
    path.write_bytes(b"".join(made.timed_frames(np.concatenate([made.STACK, made.STACK[:1]]), columns=99)))
    path.with_suffix(".hdr").write_text(HDR.format(13, 4))
    assert "a scan of 3x4 = 12; source.ignore_extra" in complaint(path, DataError)
    np.testing.assert_array_equal(open_dataset(path, ignore_extra=True).data.compute(), made.PATTERNS)


@pytest.mark.parametrize("quad", [False, True])
@pytest.mark.parametrize("depth", [1, 12, 24])
def test_merlin_raw_mode_of_some_rows(tmp_path, depth, quad):
    written = made.mib_raw(tmp_path, depth, quad, rows=32)
    np.testing.assert_array_equal(open_dataset(written.path, **written.options).data.compute(), written.patterns)


@pytest.mark.skipif(not READERS.exists(), reason="the detector files are not beside the repository")
@pytest.mark.parametrize("name", ["Quad", "Single"])
@pytest.mark.parametrize("rows", [32, 128])
def test_recorded_raw_frames_of_some_rows_look_like_the_processed_ones(name, rows):
    """The detector saw the same beam through the same mask twice, once in each mode: r is 0.992 to 0.998."""
    path = READERS / "merlin_roi" / f"{name}_1_Frame_CounterDepth_1_Rows_{rows}.mib"
    processed, raw = (
        open_dataset(path.with_stem(path.stem + suffix), scan_shape=(1, 1)).pattern(0, 0).ravel()
        for suffix in ("", "RAW")
    )
    assert np.corrcoef(processed, raw)[0, 1] > 0.98


@pytest.mark.skipif(not READERS.exists(), reason="the detector files are not beside the repository")
def test_merlin_files_that_were_read_wrongly():
    single = open_dataset(READERS / "mib_one_trigger" / "a.mib")
    assert single.shape == (6, 5, 32, 40)
    joined = open_dataset(READERS / "mib_multi" / "scan000002.mib")
    np.testing.assert_array_equal(joined.data.compute(), single.data.compute())
    assert "source.ignore_extra" in complaint(READERS / "mib_extra" / "a.mib", DataError)
    assert open_dataset(READERS / "mib_extra" / "a.mib", ignore_extra=True).scan_shape == (6, 5)
    assert open_dataset(CASES / "extra.mib", skip_frames=1).scan_shape == (6, 8)
    assert "source.flyback of 1" in complaint(CASES / "fly.mib", DataError)
    assert open_dataset(CASES / "fly.mib", flyback=1).scan_shape == (6, 8)
    assert open_dataset(CASES / "abort.mib").missing.sum() == 230
