"""Files of programs that are not HDF5 by layout alone: Velox, TIA, TIFF stacks, counted electrons, zipped Zarr."""

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import reader_files as made
import zarr

from stemvane.errors import DataError, FileFormatError, MissingPackageError
from stemvane.io.files import open_dataset
from stemvane.io.images import read_image

READERS = Path(__file__).parents[2] / "shared" / "data" / "readers"
recorded = pytest.mark.skipif(not READERS.exists(), reason="the small files of others are not there")


@pytest.mark.parametrize("spectra", [False, True])
def test_velox_gives_the_stack_of_the_camera(tmp_path, spectra):
    """Not the movie of a scanning detector, which is larger; and spectra beside it are no damage."""
    dataset = open_dataset(made.velox(tmp_path, movie=True, spectra=spectra).path)
    np.testing.assert_array_equal(dataset.data.compute(), made.PATTERNS)
    assert dataset.calibration.pixel_size == pytest.approx((1.5, 1.25))
    path = tmp_path / "velox.emd"
    movie = open_dataset(path, dataset="Data/Image/ff99/Data", scan_shape=(5, 8))
    assert (movie.shape, movie.calibration.pixel_size) == ((5, 8, 64, 64), None)
    with h5py.File(path, "a") as file:
        del file["Data/Image/0a1b"]
    with pytest.raises(DataError, match="no stack of a camera but movies of HAADF" + " and a spectrum image" * spectra):
        open_dataset(path)


def test_velox_with_two_cameras_asks(tmp_path):
    path = made.velox(tmp_path).path
    with h5py.File(path, "a") as file:
        file.copy("Data/Image/0a1b", "Data/Image/bb")
    with pytest.raises(DataError, match=r"give source\.dataset, one of: Data/Image/0a1b/Data \(BM-Ceta\), "):
        open_dataset(path)
    assert open_dataset(path, dataset="Data/Image/bb/Data").shape == made.PATTERNS.shape


def test_tia_series(tmp_path):
    from rsciio.tia import file_reader

    path = made.ser(tmp_path).path
    np.testing.assert_array_equal(open_dataset(path).data.compute(), file_reader(str(path))[0]["data"])
    assert open_dataset(tmp_path / "scan.emi").calibration == open_dataset(path).calibration
    (tmp_path / "scan.emi").unlink()
    alone = open_dataset(path)
    assert (alone.calibration.energy, alone.reciprocal_pixel) == (None, pytest.approx((0.03, 0.025)))
    aborted = open_dataset(made.ser(tmp_path, n_frames=10).path)
    np.testing.assert_array_equal(aborted.missing.ravel(), np.arange(12) >= 10)
    down = open_dataset(made.ser(tmp_path, columns_first=True).path)
    np.testing.assert_array_equal(down.data.compute(), made.PATTERNS)
    with pytest.raises(DataError, match="holds spectra"):
        open_dataset(made.ser(tmp_path, kind=0x4120).path)
    with pytest.raises(DataError, match=r"no series beside it; give the \.ser"):
        open_dataset(tmp_path / "scan.emi")
    whole = made.ser(tmp_path).path.read_bytes()
    path.write_bytes(whole[:-600])
    with pytest.raises(FileFormatError, match="truncated"):
        open_dataset(path)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_counted_electrons(tmp_path, version):
    dataset = open_dataset(made.counted(tmp_path, version).path)
    assert (dataset.data.dtype, dataset.missing) == (np.uint16, None)
    np.testing.assert_array_equal(dataset.data.compute(), made.PATTERNS)
    np.testing.assert_array_equal(dataset.data[1:, 2].compute(), made.PATTERNS[1:, 2])
    # one column of flyback
    cropped = open_dataset(dataset.path, scan_shape=(3, 3), flyback=1)
    np.testing.assert_array_equal(cropped.data.compute(), made.PATTERNS[:, :3])


def test_positions_without_electrons_listed_are_missing(tmp_path):
    dataset = open_dataset(made.counted(tmp_path, 2, lost=(5, 11)).path)
    assert np.flatnonzero(dataset.missing).tolist() == [5, 11]
    expected = np.where(dataset.missing[..., None, None], 0, made.PATTERNS)
    np.testing.assert_array_equal(dataset.data.compute(), expected)
    # the last column is flyback, and with it position 11
    cropped = open_dataset(dataset.path, scan_shape=(3, 3), flyback=1)
    assert np.argwhere(cropped.missing).tolist() == [[1, 1]]
    assert open_dataset(dataset.path, scan_shape=(1, 5), ignore_extra=True).missing is None
    longer = open_dataset(dataset.path, scan_shape=(2, 7))
    assert np.flatnonzero(longer.missing).tolist() == [5, 11, 12, 13]


def test_events_outside_the_frame_are_damage(tmp_path):
    path = made.counted(tmp_path, 1).path
    with h5py.File(path, "a") as file:
        file["electron_events/frames"][3] = np.array([256], np.uint32)
    with pytest.raises(FileFormatError, match="pixels that its frames do not have; copy it again"):
        open_dataset(path).data.compute()
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 3
        file["electron_events/scan_positions"].attrs["Nx"] = 5
    with pytest.raises(FileFormatError, match="12 frames do not fit 15 positions"):
        open_dataset(path)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_stacks(tmp_path, compression, byteorder):
    path = made.tiff_stack(tmp_path, compression, byteorder).path
    with pytest.raises(DataError, match=r"a stack of 12 frames .* such as 3x4"):
        open_dataset(path)
    dataset = open_dataset(path, scan_shape=made.SCAN)
    np.testing.assert_array_equal(dataset.data.compute(), made.PATTERNS)
    np.testing.assert_array_equal(dataset.data[::-1, 2].compute(), made.PATTERNS[::-1, 2])
    assert dataset.data.dtype == np.uint16


def test_tiff_of_four_axes_and_of_colours(tmp_path):
    from tifffile import imwrite

    imwrite(tmp_path / "four.tif", made.PATTERNS, photometric="minisblack")
    np.testing.assert_array_equal(open_dataset(tmp_path / "four.tif").data.compute(), made.PATTERNS)
    imwrite(tmp_path / "j.tif", made.PATTERNS, imagej=True, metadata={"axes": "TZYX"})
    np.testing.assert_array_equal(open_dataset(tmp_path / "j.tif").data.compute(), made.PATTERNS)
    imwrite(tmp_path / "colours.tif", np.zeros((5, 16, 16, 3), "u1"), photometric="rgb")
    with pytest.raises(DataError, match="holds colours"):
        open_dataset(tmp_path / "colours.tif")
    imwrite(tmp_path / "one.tif", made.PATTERNS[0, 0])
    with pytest.raises(DataError, match="a single frame"):
        open_dataset(tmp_path / "one.tif")


@pytest.mark.parametrize("read", [open_dataset, read_image])
def test_tiff_without_tifffile_names_the_extra(tmp_path, monkeypatch, read):
    path = made.tiff_stack(tmp_path).path
    monkeypatch.setitem(sys.modules, "tifffile", None)
    monkeypatch.delitem(sys.modules, "rsciio.tiff", raising=False)
    monkeypatch.delitem(sys.modules, "rsciio.tiff._api", raising=False)
    with pytest.raises(
        MissingPackageError, match=r'TIFF .* needs tifffile; install it: pip install "stemvane\[export\]"'
    ):
        read(path)


def test_zipped_zarr_of_any_kind(tmp_path):
    plain = made.zarr2(tmp_path).path
    zipped = Path(shutil.make_archive(str(tmp_path / "two"), "zip", plain))
    np.testing.assert_array_equal(open_dataset(zipped).data.compute(), made.PATTERNS)
    with pytest.raises(DataError, match=r"has no array 'elsewhere', but data, data/frames"):
        open_dataset(zipped, dataset="elsewhere")


def spectra_hspy(folder, unit="eV"):
    from rsciio.hspy import file_writer

    file_writer(str(folder / "a.hspy"), made.signal(made.STACK, ((unit, 1.0),) * 3, navigate=2), show_progressbar=False)
    return folder / "a.hspy"


def spectra_zspy(folder):
    path = made.zspy(folder).path
    zarr.open_group(path / "Experiments/small/axis-3", mode="r+").attrs["units"] = "keV"
    return path


def spectra_ncem(folder):
    from rsciio.emd import file_writer

    file_writer(str(folder / "a.emd"), made.signal(made.STACK, (("nm", 1.0), ("nm", 1.0), ("eV", 0.5)), navigate=2))
    return folder / "a.emd"


def spectra_nexus(folder):
    with h5py.File(folder / "a.nxs", "w") as file:
        data = file.create_group("entry/data")
        data.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["y", "x", "energy"]})
        data["counts"], data["energy"] = made.STACK, np.arange(16.0)
        data["energy"].attrs["units"] = "eV"
    return folder / "a.nxs"


@pytest.mark.parametrize("write", [spectra_hspy, spectra_zspy, spectra_ncem, spectra_nexus])
def test_spectrum_images_are_called_so(tmp_path, write):
    with pytest.raises(DataError, match="holds a spectrum image, with an axis of energy in "):
        open_dataset(write(tmp_path))


def test_signals_with_one_axis_are_no_stacks(tmp_path):
    with pytest.raises(DataError, match="2 of 3 axes are navigation axes"):
        open_dataset(spectra_hspy(tmp_path, unit="px"))


def test_a_missing_package_is_no_damage(tmp_path, monkeypatch):
    path = made.hspy(tmp_path).path
    monkeypatch.setitem(sys.modules, "rsciio.hspy", None)
    with pytest.raises(MissingPackageError, match="reading it needs rsciio; install it: pip install"):
        open_dataset(path)


@recorded
def test_a_recorded_zipped_zspy():
    assert open_dataset(READERS / "writers" / "z.zspy").shape == (6, 5, 32, 40)


@recorded
def test_a_recorded_tiff_stack():
    assert open_dataset(READERS / "tiff" / "stack.tif", scan_shape=(6, 5)).shape == (6, 5, 32, 40)


@recorded
def test_a_recorded_tia_series():
    dataset = open_dataset(READERS / "ser" / "a_1.ser")
    assert dataset.shape == (6, 5, 32, 40)
    assert dataset.calibration.scan_step == pytest.approx((0.5, 0.5))


@recorded
@pytest.mark.parametrize("name", ["cam", "cam_haadf_movie"])
def test_recorded_velox_files(name):
    dataset = open_dataset(READERS / "velox" / f"{name}.emd")
    assert (dataset.shape, dataset.calibration.energy) == ((6, 5, 32, 40), 300e3)
