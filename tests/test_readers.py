"""Every format: values, order and calibration as written, lazy, and fit to be sent to a worker; refusals in a line."""

import pickle
import zipfile
from pathlib import Path

import dask
import h5py
import numpy as np
import pytest
import reader_files as made
import zarr
from PIL import Image

from stemvane.config import SourceConfig
from stemvane.errors import CalibrationError, DataError, FileFormatError, StemvaneError
from stemvane.io import hdf5_guard
from stemvane.io.files import open_dataset, open_source, save_dataset, size_on_disk
from stemvane.io.images import read_image
from stemvane.io.on_disk import split_index

MERLIN = Path(__file__).parents[2] / "shared" / "data" / "merlin_navigation4x2.mib"


def complaint(path, error=StemvaneError, **options):
    with pytest.raises(error) as info:
        open_dataset(path, **options)
    message = str(info.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message.split(";")) >= 2, "trouble and cure"
    return message


@pytest.mark.parametrize("write", made.WRITERS, ids=lambda write: write.__name__)
def test_values_order_and_calibration(tmp_path, write):
    written = write(tmp_path)
    dataset = open_dataset(written.path, **written.options)
    assert dataset.shape == written.patterns.shape
    np.testing.assert_array_equal(dataset.data.compute(), written.patterns)
    for name, value in written.known.items():
        result = getattr(dataset.calibration, name)
        assert result is None if value is None else result == pytest.approx(value, rel=2e-5), name
        assert dataset.origin(name) == ("unknown" if value is None else "file")
    assert dataset.missing is None
    assert dataset.data.chunksize[2:] == dataset.detector_shape
    assert size_on_disk(dataset) > 0.9 * min(written.patterns.nbytes, 12 * 256)


@pytest.mark.parametrize("write", made.WRITERS, ids=lambda write: write.__name__)
def test_lazy_data_can_be_sent_and_sliced(tmp_path, write):
    written = write(tmp_path)
    data = open_dataset(written.path, **written.options).data
    if write is not made.npz_compressed:
        assert len(pickle.dumps(data)) < 20_000, "patterns are in the graph"
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again[::-2, 1:4:2].compute(), written.patterns[::-2, 1:4:2])
    np.testing.assert_array_equal(again[[2, 1], 2].compute(), written.patterns[[2, 1], 2])
    np.testing.assert_array_equal(again[1, -1, 3:9, ::3].compute(), written.patterns[1, -1, 3:9, ::3])


@pytest.mark.parametrize("quad", [False, True])
@pytest.mark.parametrize("depth", [1, 6, 12, 24])
def test_merlin_raw_mode_bit_by_bit(tmp_path, depth, quad):
    written = made.mib_raw(tmp_path, depth, quad)
    dataset = open_dataset(written.path, **written.options)
    np.testing.assert_array_equal(dataset.data.compute(), written.patterns)
    assert dataset.data.dtype == {1: np.uint8, 6: np.uint8, 12: np.uint16, 24: np.uint32}[depth]


@pytest.mark.parametrize(("kind", "dtype"), [("U08", "u1"), ("U16", ">u2"), ("U32", ">u4")])
@pytest.mark.parametrize("hdr", [True, False])
def test_merlin_processed_frames(tmp_path, kind, dtype, hdr):
    written = made.mib(tmp_path, kind, dtype, hdr)
    np.testing.assert_array_equal(open_dataset(written.path, **written.options).data.compute(), written.patterns)
    if hdr:
        assert open_dataset(written.path.with_suffix(".hdr")).shape == written.patterns.shape
    else:
        assert "source.scan_shape" in complaint(written.path, DataError)


@pytest.mark.skipif(not MERLIN.exists(), reason="the Merlin file is not beside the repository")
def test_a_recorded_merlin_file():
    from rsciio.quantumdetector import file_reader

    # its pauses are equal within 20 µs, so nothing but the user can tell the scan
    assert "8 frames" in complaint(MERLIN, DataError)
    dataset = open_dataset(MERLIN, scan_shape=(2, 4))
    assert dataset.data.dtype == np.uint8
    expected = file_reader(str(MERLIN), navigation_shape=(4, 2))[0]["data"]
    np.testing.assert_array_equal(dataset.data.compute(), expected)


@pytest.mark.parametrize("cut", [0, 100])
def test_an_aborted_scan_keeps_its_places(tmp_path, cut):
    written = made.mib(tmp_path, n_frames=10)
    whole = written.path.read_bytes()
    written.path.write_bytes(whole[: len(whole) - cut])
    n = 10 if cut == 0 else 9
    dataset = open_dataset(written.path)
    assert dataset.shape == written.patterns.shape
    np.testing.assert_array_equal(dataset.missing.ravel(), np.arange(12) >= n)
    expected = np.where(dataset.missing[..., None, None], 0, written.patterns)
    np.testing.assert_array_equal(dataset.data.compute(), expected)
    np.testing.assert_array_equal(dataset.data[2, 1:].compute(), expected[2, 1:])
    again = open_dataset(save_dataset(dataset, tmp_path / "a.zarr"))
    np.testing.assert_array_equal(again.missing, dataset.missing)


def test_a_short_blockfile_misses_its_last_patterns(tmp_path):
    assert open_dataset(made.blo(tmp_path, 9).path).missing.sum() == 3


def test_gatan_with_the_scan_innermost(tmp_path):
    written = made.dm4(tmp_path, scan_inside=True)
    dataset = open_dataset(written.path)
    np.testing.assert_array_equal(dataset.data.compute(), written.patterns)
    assert dataset.calibration.scan_step == pytest.approx((0.5, 0.4))


def test_the_energy_makes_a_reciprocal_step_a_pixel_size(tmp_path):
    path = made.py4dstem(tmp_path).path
    dataset = open_dataset(path)
    assert dataset.calibration.pixel_size is None
    known = open_source(SourceConfig(path=str(path), energy=60e3))
    assert known.calibration.pixel_size == pytest.approx((1.45983, 1.45983), rel=1e-4)
    assert (known.origin("energy"), known.origin("scan_step")) == ("given", "file")
    given = open_source(SourceConfig(path=str(path), energy=60e3, pixel_size=(2.0, 2.0)))
    assert given.calibration.pixel_size == (2.0, 2.0)
    assert given.recalibrate(energy=80e3).calibration.pixel_size == (2.0, 2.0)


def test_an_image_recorded_beside_the_scan(tmp_path):
    path, image = made.npy(tmp_path).path, np.arange(12.0, dtype="f4").reshape(made.SCAN)
    np.save(tmp_path / "adf.npy", image)
    Image.fromarray(image).save(tmp_path / "adf.tif")
    Image.fromarray(image.astype("u1")).save(tmp_path / "adf.png")
    for name in ("adf.npy", "adf.tif", "adf.png"):
        np.testing.assert_array_equal(open_dataset(path, image=tmp_path / name).image, image)
    np.save(tmp_path / "wrong.npy", image.T)
    with pytest.raises(DataError, match="4x3 pixels, the scan 3x4 positions; crop"):
        open_dataset(path, image=tmp_path / "wrong.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(FileFormatError):
        read_image(tmp_path / "objects.npy")


def probe_in_vacuum():
    y, x = np.indices((32, 32))
    return np.clip(8.5 - np.hypot(y - 14.25, x - 17.5), 0, 1) * 100


def test_the_probe_in_vacuum_gives_axis_and_radius(tmp_path):
    pattern = probe_in_vacuum()
    np.save(tmp_path / "scan.npy", np.random.default_rng(0).poisson(1.0, (2, 3, 32, 32)))
    np.save(tmp_path / "one.npy", pattern)
    np.save(tmp_path / "stack.npy", np.stack([0.5 * pattern, 1.5 * pattern]))
    for name in ("one.npy", "stack.npy"):
        config = SourceConfig(path=str(tmp_path / "scan.npy"), vacuum=str(tmp_path / name))
        dataset = open_source(config)
        assert dataset.calibration.optical_axis == pytest.approx((14.25, 17.5), abs=0.05)
        assert dataset.calibration.disc_radius == pytest.approx(8, abs=0.1)
        assert dataset.origin("disc_radius") == "vacuum"
    given = open_source(config.model_copy(update={"optical_axis": (15.0, 16.0)}))
    assert given.calibration.optical_axis == (15.0, 16.0)
    np.save(tmp_path / "flat.npy", np.ones((32, 32)))
    with pytest.raises(CalibrationError, match="no disc"):
        open_source(config.model_copy(update={"vacuum": str(tmp_path / "flat.npy")}))
    np.save(tmp_path / "small.npy", np.ones((8, 8)))
    with pytest.raises(DataError, match="same detector"):
        open_source(config.model_copy(update={"vacuum": str(tmp_path / "small.npy")}))


def test_a_scan_of_the_wrong_shape_is_refolded(tmp_path):
    np.save(tmp_path / "row.npy", made.STACK[None])
    dataset = open_dataset(tmp_path / "row.npy", scan_shape=made.SCAN)
    np.testing.assert_array_equal(dataset.data.compute(), made.PATTERNS)
    written = made.zarr2(tmp_path)
    again = open_dataset(written.path, scan_shape=(4, 3))
    np.testing.assert_array_equal(again.data.compute(), made.PATTERNS.reshape(4, 3, *made.DETECTOR))
    assert "source.scan_shape" in complaint(written.path, DataError, scan_shape=(5, 5))


WRONG = {
    "2d": (np.ones((4, 4)), "2 axes"),
    "5d": (np.ones((2, 2, 2, 4, 4)), "5 axes"),
    "complex": (np.ones((2, 2, 4, 4), "c8"), "complex"),
    "words": (np.full((2, 2, 4, 4), "a"), "real"),
    "stack": (np.ones((12, 4, 4)), "such as 3x4"),
    "empty": (np.ones((0, 2, 4, 4)), ""),
}


@pytest.mark.parametrize("kind", WRONG)
def test_arrays_that_are_no_scan(tmp_path, kind):
    array, words = WRONG[kind]
    np.save(tmp_path / "a.npy", array)
    assert words in complaint(tmp_path / "a.npy", DataError)
    np.savez(tmp_path / "a.npz", array)
    complaint(tmp_path / "a.npz", DataError)
    np.savez_compressed(tmp_path / "c.npz", array)
    complaint(tmp_path / "c.npz", DataError)
    if kind != "words":
        zarr.create_array(tmp_path / "a.zarr", data=array, chunks=array.shape if array.size else (1, 1, 1, 1))
        complaint(tmp_path / "a.zarr", DataError)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["frames"] = array
        complaint(tmp_path / "a.h5", DataError)
        complaint(tmp_path / "a.h5", DataError, dataset="frames")


def test_nothing_is_unpickled(tmp_path):
    bomb = np.empty((2, 2, 4, 4), object)
    np.save(tmp_path / "a.npy", bomb, allow_pickle=True)
    assert "unpickles" in complaint(tmp_path / "a.npy", DataError)
    np.savez(tmp_path / "a.npz", bomb, allow_pickle=True)
    assert "unpickles" in complaint(tmp_path / "a.npz", DataError)
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Explosive()))
    complaint(tmp_path / "model.pt", FileFormatError)
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Explosive()))
    complaint(tmp_path / "old.pt", FileFormatError)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frames"] = made.PATTERNS
        file.attrs["pickled"] = np.void(pickle.dumps(Explosive()))
        file["frames"].attrs["axes"] = np.void(pickle.dumps(Explosive()))
    assert open_dataset(tmp_path / "a.h5").shape == made.PATTERNS.shape


class Explosive:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize("kind", ["folder", "missing", "empty", "text", "h5 in name only", "raw without shape"])
def test_files_that_are_no_scan(tmp_path, kind):
    path = tmp_path / ("a.h5" if "h5" in kind else "a.bin")
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "raw without shape":
        path.write_bytes(made.PATTERNS.tobytes())
    elif kind != "missing":
        path.write_text("no patterns at all\n" * 100)
    complaint(path, FileFormatError)


def test_options_that_a_format_cannot_use(tmp_path):
    path = made.mib(tmp_path).path
    assert "needs no source.dataset" in complaint(path, dataset="a")
    assert "needs no source.shape" in complaint(made.npy(tmp_path).path, shape=(3, 4, 16, 16), dtype="u2")
    raw = made.raw(tmp_path).path
    assert "bytes" in complaint(raw, DataError, shape=(3, 4, 16, 15), dtype="u2")
    assert "number type" in complaint(raw, DataError, shape=(3, 4, 16, 16), dtype="u3")
    complaint(raw, FileFormatError, shape=(3, 4, 16, 16))
    complaint(raw, DataError, shape=(3, 4, 16, 16), dtype="O")


def test_arrays_are_chosen_by_name(tmp_path):
    path = made.hdf5(tmp_path).path
    assert "some/where/frames" in complaint(path, DataError)
    assert "some/where/frames" in complaint(path, DataError, dataset="elsewhere")
    assert "is a group" in complaint(path, DataError, dataset="some")
    assert "frames" in complaint(made.npz_compressed(tmp_path).path, DataError, scan_shape=made.SCAN)
    complaint(made.zarr2(tmp_path).path, DataError, dataset="elsewhere")
    hspy = made.hspy(tmp_path).path
    assert open_dataset(hspy, dataset="Experiments/small/data").shape == made.PATTERNS.shape


@pytest.mark.parametrize(
    "write", [made.dm4, made.mrc, made.npy, made.npz, made.raw, made.hdf5_stack, made.py4dstem, made.hspy]
)
def test_truncated(tmp_path, write):
    written = write(tmp_path)
    whole = written.path.read_bytes()
    written.path.write_bytes(whole[: len(whole) // 2])
    complaint(written.path, **written.options)


def test_missing_neighbours(tmp_path):
    master = made.dectris(tmp_path).path
    (tmp_path / "scan_data_000001.h5").unlink()
    assert "scan_data_000001.h5" in complaint(master, FileFormatError)
    xml = made.empad(tmp_path).path
    raw = tmp_path / "scan_x4_y3.raw"
    assert open_dataset(raw).shape == (3, 4, 128, 128)
    np.testing.assert_array_equal(open_dataset(raw, scan_shape=(2, 6)).shape, (2, 6, 128, 128))
    raw.unlink()
    assert "scan_x4_y3.raw" in complaint(xml, FileFormatError)
    (tmp_path / "alone.hdr").write_text("HDR,\t\nEnd\t")
    assert "alone.mib" in complaint(tmp_path / "alone.hdr", FileFormatError)


def test_a_file_that_vanishes_is_reported_when_it_is_read(tmp_path):
    path = made.npy(tmp_path).path
    dataset = open_dataset(path)
    path.unlink()
    with pytest.raises(FileFormatError, match="check the path"):
        dataset.data.compute()


def test_the_guard_stops_what_the_library_cannot(tmp_path, monkeypatch):
    path = made.hdf5(tmp_path).path
    monkeypatch.setattr(hdf5_guard, "_WALK", "import os; os.abort()  # {path} {memory} {file}")
    assert "crashes" in complaint(path, FileFormatError)
    monkeypatch.setattr(hdf5_guard, "_WALK", "while True: pass  # {path} {memory} {file}")
    monkeypatch.setattr(hdf5_guard, "PATIENCE", 0.5)
    assert "does not come to an end" in complaint(path, FileFormatError)


def test_covering():
    values = np.arange(7 * 5).reshape(7, 5)
    for part in (
        np.s_[::-2, 1],
        np.s_[5:1:-1],
        np.s_[..., ::3],
        np.s_[-2],
        np.s_[3:3],
        np.s_[1:6:2, -3:-1],
        np.s_[::-1],
    ):
        ranges, rest = split_index(part, values.shape)
        block = values[tuple(slice(r.start, r.stop) for r in ranges)]
        np.testing.assert_array_equal(block[rest], values[part])


def test_big_reads_keep_to_their_chunks(tmp_path):
    stack = np.arange(600, dtype="u2")[:, None, None] * np.ones((1, 64, 64), "u2")
    np.save(tmp_path / "a.npy", stack)
    data = open_dataset(tmp_path / "a.npy", scan_shape=(20, 30)).data
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(data[3:17, 5:29].compute(), stack.reshape(20, 30, 64, 64)[3:17, 5:29])
