"""Stacks of frames: which of them make the scan, and what detectors of frames write beside them."""

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import reader_files as made
import zarr

from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError, FileFormatError, StemvaneError
from stemvane.io.files import open_dataset
from stemvane.reduction.survey import survey

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


def write_mrc(path, body, mode, order="<", n=12):
    header = bytearray(1024)
    header[:16] = struct.pack(f"{order}4I", *made.DETECTOR[::-1], n, mode)
    header[208:212] = b"MAP "
    path.write_bytes(bytes(header) + body)
    return path


def test_mrc_of_either_byte_order(tmp_path):
    for order in "<>":
        for mode, kind in ((0, "u1"), (1, "i2"), (2, "f4"), (6, "u2")):
            body = made.STACK.astype(order + kind).tobytes()
            path = write_mrc(tmp_path / "a.mrc", body, mode, order)
            np.testing.assert_array_equal(open_dataset(path, scan_shape=made.SCAN).data.compute(), made.PATTERNS)
    assert "MRC mode 3" in complaint(write_mrc(tmp_path / "b.mrc", body, 3, ">"), FileFormatError)


def test_mrc_with_four_bits_for_a_pixel(tmp_path):
    values = (made.STACK % 16).astype(np.uint8)
    packed = values[:, :, ::2] | values[:, :, 1::2] << 4
    path = write_mrc(tmp_path / "a.mrc", packed.tobytes(), 101)
    np.testing.assert_array_equal(open_dataset(path, scan_shape=made.SCAN).data.compute(), made.PATTERNS % 16)


INFO = """Scan - Enable = Enable
Scan - Type = Raster
Scan - Size X = 4
Scan - Size Y = 3
Scan - ROI Enable = {roi}
Scan - ROI Size X = 6
Scan - ROI Size Y = 2
Instrument Accelerating Voltage (V) = {volts}
Specimen Pixel Size X (nanometers) = 0.04
Specimen Pixel Size Y (nanometers) = 0.05
Diffraction Pixel Size X = {step}
Diffraction Pixel Size Y = {step}
"""


def test_direct_electron_has_scan_and_energy_beside_the_frames(tmp_path):
    path = write_mrc(tmp_path / "20240102_00007_movie.mrc", made.STACK.tobytes(), 6)
    notes = tmp_path / "20240102_00007_info.txt"
    notes.write_text(INFO.format(roi="Disable", volts=60000, step=0.3))
    opened = open_dataset(path)
    np.testing.assert_array_equal(opened.data.compute(), made.PATTERNS)
    assert opened.calibration.energy == 60e3
    assert opened.calibration.scan_step == pytest.approx((0.5, 0.4))
    assert opened.calibration.pixel_size == pytest.approx((0.03 * 48.661, 0.03 * 48.661), rel=1e-4)
    assert opened.files == (path, notes)
    # what is not known is -1 there
    notes.write_text(INFO.format(roi="Enable", volts=-1, step=-1))
    opened = open_dataset(path)
    assert opened.scan_shape == (2, 6)
    assert opened.calibration.energy is opened.calibration.pixel_size is None
    notes.write_text(INFO.format(roi="Disable", volts=60000, step=-1).replace("Raster", "Serpentine"))
    assert "does not say the shape of the scan" in complaint(path, DataError)


def test_tvips_counts_from_0_or_from_1(tmp_path):
    """Frames before the scan have the number 0; where just one has it, the scan may count from 0."""

    def written(numbers):
        header = struct.pack("<13I", 256, 2, 16, 16, 16, 0, 0, 1, 1, 0, 200, 0, 64).ljust(256, b"\0")
        blocks = [
            struct.pack("<6I", i, 0, 0, 0, 0, 0) + struct.pack("<I5fI", 2, *[0.0] * 5, number).ljust(40, b"\0")
            + made.STACK[i].tobytes()
            for i, number in enumerate(numbers)
        ]  # fmt: skip
        (tmp_path / "a.tvips").write_bytes(header + b"".join(blocks))
        return tmp_path / "a.tvips"

    path = written(range(12))
    np.testing.assert_array_equal(open_dataset(path, scan_shape=made.SCAN).data.compute(), made.PATTERNS)
    # one frame before a scan of 11 positions
    opened = open_dataset(path, scan_shape=(1, 11))
    np.testing.assert_array_equal(opened.data.compute()[0], made.STACK[1:])
    # several frames before the scan, and one after it
    opened = open_dataset(written([0, 0, 0, *range(1, 9), 0]), scan_shape=(2, 4))
    np.testing.assert_array_equal(opened.data.compute().reshape(8, 16, 16), made.STACK[3:11])


def empad_frames(n, footer):
    """A disc with noise about zero, as after subtracting the dark level, in frames of one of the two generations."""
    y, x = np.mgrid[:128, :128] - 63.5
    noise = np.random.default_rng(0).normal(0, 0.5, (n, 128, 128))
    frames = np.full((n, 128 + footer, 128), -1e9, "<f4")
    frames[:, :128] = 5.0 * (np.hypot(y - 9, x) < 25) + noise + np.arange(n)[:, None, None] / n
    return frames


G1 = (
    '<root><raw_file filename="{raw}"/><scan_parameters mode="search"><scan_resolution_x>9</scan_resolution_x>'
    "<scan_resolution_y>9</scan_resolution_y></scan_parameters>"
    '<scan_parameters mode="acquire"><scan_resolution_x>4</scan_resolution_x>'
    "<scan_resolution_y>3</scan_resolution_y></scan_parameters><iom_measurements>{notes}</iom_measurements></root>"
)
FIELD = "<optics.get_full_scan_field_of_view>[1.5e-10, 1.6e-10]</optics.get_full_scan_field_of_view>"
NEWER = "<full_scan_field_of_view><x>1.44e-10</x><y>1.44e-10</y><scale_factor>0.72</scale_factor>"


@pytest.mark.parametrize(
    ("notes", "known"),
    [
        (f"<source.get_voltage>60000.0</source.get_voltage>{FIELD}", {"energy": 60e3, "scan_step": (0.5, 0.4)}),
        (f"<high_voltage>200000</high_voltage>{NEWER}</full_scan_field_of_view>",
         {"energy": 200e3, "scan_step": (0.5, 0.5)}),
        ("<calibrated_diffraction_angle>0.0012</calibrated_diffraction_angle>"
         "<calibrated_pixelsize>1e-10</calibrated_pixelsize>", {"pixel_size": (1.2, 1.2), "energy": None}),
        ("<source.get_voltage>60000</source.get_voltage><calibrated_pixelsize>3e-10</calibrated_pixelsize>",
         {"pixel_size": (1.45983, 1.45983)}),
    ],
)  # fmt: skip
def test_empad_notes_of_every_version(tmp_path, notes, known):
    frames = empad_frames(12, 2)
    (tmp_path / "a.raw").write_bytes(frames.tobytes())
    (tmp_path / "notes.xml").write_text(G1.format(raw="a.raw", notes=notes))
    for path in (tmp_path / "notes.xml", tmp_path / "a.raw"):
        opened = open_dataset(path)
        np.testing.assert_array_equal(opened.data.compute(), frames[:, :128].reshape(3, 4, 128, 128))
        for name, value in known.items():
            assert getattr(opened.calibration, name) == (value and pytest.approx(value, rel=1e-4)), name


G2 = (
    "<root><scan><type>scan</type><shape>(5, 13)</shape></scan><sensor><type>EMPAD2</type><shape>(128,128)</shape>"
    "</sensor>{offsets}<iom_measurements><ColumnSourceHighVoltage>300000.0</ColumnSourceHighVoltage>"
    "<calibrated_diffraction_angle>0.00026</calibrated_diffraction_angle>"
    "<calibrated_pixelsize>2.1e-12</calibrated_pixelsize></iom_measurements>"
    "<rawfile><datatype>float32</datatype><filename>a.raw</filename></rawfile></root>"
)


def test_the_two_generations_of_empad_are_distinguished(tmp_path):
    """65 frames of the second are as large as 64 of the first, whose frames end with notes."""
    first, second = empad_frames(64, 2), empad_frames(65, 0)
    path = tmp_path / "a.raw"
    path.write_bytes(first.tobytes())
    opened = open_dataset(path, scan_shape=(8, 8))
    np.testing.assert_array_equal(opened.data.compute().reshape(64, 128, 128), first[:, :128])
    path.write_bytes(second.tobytes())
    assert "holds 65 frames" in complaint(path, DataError, scan_shape=(8, 8))
    opened = open_dataset(path, scan_shape=(5, 13))
    np.testing.assert_array_equal(opened.data.compute().reshape(65, 128, 128), second)
    (tmp_path / "a.xml").write_text(G2.format(offsets=""))
    opened = open_dataset(tmp_path / "a.xml")
    np.testing.assert_array_equal(opened.data.compute().reshape(65, 128, 128), second)
    assert opened.calibration.energy == 300e3
    assert opened.calibration.pixel_size == pytest.approx((0.26, 0.26))
    # by the name alone, where the size fits the second generation only
    named = tmp_path / "scan_x3_y2.raw"
    named.write_bytes(second[:6].tobytes())
    assert open_dataset(named).shape == (2, 3, 128, 128)


@pytest.mark.parametrize("marker", [0, 1 << 30])
def test_empad_g2_words_before_calibration_are_refused(tmp_path, marker):
    random = np.random.default_rng(0)
    words = random.integers(7000, 8500, (65, 128, 128), np.uint32) + (random.integers(0, 3, (65, 128, 128)) << 14)
    (tmp_path / "a.raw").write_bytes((words + marker).astype("<u4").tobytes())
    offsets = "<grabber><avg_scan_even_offset>7756.4</avg_scan_even_offset></grabber>"
    (tmp_path / "a.xml").write_text(G2.format(offsets=offsets))
    with pytest.raises(FileFormatError, match=r"before its calibration; give source.sensor"):
        open_dataset(tmp_path / "a.xml")


@pytest.mark.skipif(not READERS.exists(), reason="the detector files are not beside the repository")
def test_frames_that_were_read_wrongly():
    big, packed = (
        open_dataset(READERS / "mrc" / f"{name}.mrc", scan_shape=(6, 5)).data.compute()
        for name in ("bigendian", "packed101")
    )
    np.testing.assert_array_equal(big, open_dataset(READERS / "mib_one_trigger" / "a.mib").data.compute())
    np.testing.assert_array_equal(packed, np.minimum(big, 15))
    tvips = open_dataset(READERS / "tvips" / "test_tvips_2345_000.tvips", scan_shape=(2, 3))
    assert tvips.missing is None
    np.testing.assert_array_equal(tvips.data.compute().ravel(), np.arange(120))
    empad = open_dataset(CASES / "empad.raw", scan_shape=(6, 9))
    assert empad.data.min().compute() < 0


def test_gatan_stacks_with_the_scan_of_another_program(tmp_path):
    tags = made.dm_group("4D STEM Tags", made.dm_tag("Scan shape X", "u4", 4), made.dm_tag("Scan shape Y", "u4", 3))
    image = made.dm_image(made.STACK, (("", 1.0), *made.DM_STEPS[2:]), tags)
    opened = open_dataset(made.write_dm4(tmp_path / "a.dm4", image))
    np.testing.assert_array_equal(opened.data.compute(), made.PATTERNS)
    assert opened.calibration.pixel_size == pytest.approx((0.03 * 48.661, 0.025 * 48.661), rel=1e-4)
    opened = open_dataset(tmp_path / "a.dm4", scan_shape=(3, 3), flyback=1)
    np.testing.assert_array_equal(opened.data.compute(), made.PATTERNS[:, :3])


def test_gatan_files_with_several_scans_ask_which(tmp_path):
    survey = made.dm_image(made.STACK[0], made.DM_STEPS[:2], name="survey")
    first = made.dm_image(made.PATTERNS, made.DM_STEPS, name="before")
    second = made.dm_image(made.PATTERNS + 1, made.DM_STEPS, name="after")
    path = made.write_dm4(tmp_path / "a.dm4", survey, first, second)
    trouble = complaint(path, DataError)
    assert "holds 2 scans" in trouble
    assert "1 (before, 3x4x16x16), 2 (after, 3x4x16x16)" in trouble
    for name in ("2", "after"):
        np.testing.assert_array_equal(open_dataset(path, dataset=name).data.compute(), made.PATTERNS + 1)
    assert "'3' is not one of its scans" in complaint(path, DataError, dataset="3")
    assert open_dataset(made.write_dm4(path, survey, first)).scan_shape == made.SCAN
    assert "images of 16x16" in complaint(made.write_dm4(path, survey), DataError)


def test_gatan_spectrum_images_are_called_so(tmp_path):
    """By an axis of energy, or by DigitalMicrograph's own word where the axis is not calibrated."""
    four = made.dm_image(made.PATTERNS, (*made.DM_STEPS[:3], ("eV", 0.5)))
    three = made.dm_image(made.STACK, (*made.DM_STEPS[:2], ("keV", 0.01)))
    word = made.dm_group("Meta Data", made.dm_tag("Format", "text", "Spectrum image"))
    plain = made.dm_image(made.STACK, (*made.DM_STEPS[:2], ("", 1.0)), word)
    for image in (four, three, plain):
        trouble = complaint(made.write_dm4(tmp_path / "a.dm4", image), DataError)
        assert "spectrum image" in trouble
        assert "scan_shape" not in trouble
    # beside a scan it is no reason to ask
    scan = made.dm_image(made.PATTERNS, made.DM_STEPS)
    opened = open_dataset(made.write_dm4(tmp_path / "a.dm4", four, scan))
    np.testing.assert_array_equal(opened.data.compute(), made.PATTERNS)


@pytest.mark.skipif(not READERS.exists(), reason="the detector files are not beside the repository")
def test_gatan_files_that_were_read_wrongly():
    titanx = open_dataset(READERS / "dm4" / "titanx.dm4")
    assert titanx.shape == (6, 5, 32, 40)
    assert titanx.calibration.energy == 300e3
    assert "holds 2 scans" in complaint(READERS / "dm4" / "two_4d.dm4", DataError)
    assert open_dataset(READERS / "dm4" / "two_4d.dm4", dataset="2").shape == (6, 5, 32, 40)
    assert "spectrum image" in complaint(READERS / "dm4" / "eels_si_4d.dm4", DataError)


def test_half_precision_is_read_as_single(tmp_path):
    """The square of 300 overflows in half precision, and with it everything that looks for a hot pixel."""
    patterns = np.random.default_rng(0).poisson(20.0, (6, 7, 32, 32)).astype(np.float16)
    patterns[..., 4, 5] = 900
    np.save(tmp_path / "a.npy", patterns)
    for dataset in (open_dataset(tmp_path / "a.npy"), Dataset4D.from_array(patterns, expectation=patterns)):
        assert dataset.data.dtype == np.float32
        np.testing.assert_array_equal(dataset.data.compute(), patterns)
        if dataset.expectation is not None:
            assert dataset.expectation.dtype == np.float32
        assert survey(dataset).hot_pixels.tolist() == [[4, 5]]


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not beside the repository")
def test_the_hot_pixel_of_a_scan_in_half_precision():
    assert len(survey(open_dataset(CASES / "f16.npy")).hot_pixels) == 1


@pytest.mark.parametrize("lost", [[4], [1, 2, 9], [4, 5, 6, 7]])
def test_frames_that_a_merlin_file_lost_keep_their_places(tmp_path, lost):
    path = made.mib(tmp_path).path
    frames = np.split(np.frombuffer(path.read_bytes(), np.uint8), 12)
    path.write_bytes(b"".join(frame.tobytes() for i, frame in enumerate(frames) if i not in lost))
    opened = open_dataset(path)
    expected = made.STACK.copy()
    expected[lost] = 0
    np.testing.assert_array_equal(opened.data.compute(), expected.reshape(made.PATTERNS.shape))
    np.testing.assert_array_equal(np.flatnonzero(opened.missing), lost)
    assert [finding.id for finding in opened.findings] == ["lost_frames"]
    # one line before the scan, and a column of flyback
    cropped = open_dataset(path, scan_shape=(2, 3), skip_frames=4, flyback=1)
    np.testing.assert_array_equal(cropped.missing, opened.missing[1:, :3])
    # software that leaves frames out counts on, and the rest is the scan
    rest = open_dataset(path, scan_shape=(1, 12 - len(lost)))
    assert rest.missing is None
    assert rest.findings == ()


def test_whole_and_aborted_merlin_files_have_lost_nothing(tmp_path):
    whole = open_dataset(made.mib(tmp_path).path)
    assert whole.missing is None
    assert whole.findings == ()
    aborted = open_dataset(made.mib(tmp_path, n_frames=9).path)
    assert np.flatnonzero(aborted.missing).tolist() == [9, 10, 11]
    assert aborted.findings == ()


def test_a_streampix_movie_is_refused_with_a_cure(tmp_path):
    path = tmp_path / "movie.seq"
    path.write_bytes(b"\xed\xfe\0\0" + "Norpix seq".encode("utf-16-le").ljust(24, b"\0") + bytes(9000))
    assert "is a StreamPix movie (.seq)" in complaint(path)
    assert "seq-io" in complaint(path)
