"""HDF5 and Zarr files of other programs: the order of axes, what stands beside a file, and links."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import reader_files as made
import zarr
from typer.testing import CliRunner

from stemvane.cli.app import app
from stemvane.data.calibration import Calibration
from stemvane.errors import DataError, FileFormatError
from stemvane.io.files import open_dataset
from stemvane.reduction.measure import measure

READERS = Path(__file__).parents[2] / "shared" / "data" / "readers"
recorded = pytest.mark.skipif(not READERS.exists(), reason="the small files of others are not there")


def ncem(folder, order, names, units):
    """An EMD file of the NCEM, its axes stored in an order of ours, with names and units of `(y, x, ky, kx)`."""
    path = folder / "ncem.emd"
    steps = (5.0, 4.0, 0.03, 0.025)
    with h5py.File(path, "w") as file:
        file.attrs.update({"version_major": 0, "version_minor": 2})
        group = file.create_group("data/scan")
        group.attrs["emd_group_type"] = 1
        group["data"] = made.PATTERNS.transpose(order)
        for place, ours in enumerate(order):
            group[f"dim{place + 1}"] = np.arange(made.PATTERNS.shape[ours]) * steps[ours]
            group[f"dim{place + 1}"].attrs.update({"name": names[ours], "units": units[ours]})
    return path


NM, PX = ("[n_m]", "[n_m]", "[n_m^-1]", "[n_m^-1]"), ("nm", "nm", "pixels", "pixels")
ORDERS = {
    "fpd": ((0, 1, 2, 3), ("scanY", "scanX", "detY", "detX"), PX),
    "ncempy": ((0, 1, 2, 3), ("y", "x", "ky", "kx"), NM),
    "x first": ((1, 0, 3, 2), ("y", "x", "ky", "kx"), NM),
    "reversed": ((3, 2, 1, 0), ("R_y", "R_x", "Q_y", "Q_x"), NM),
    "scan inside, by units": ((2, 3, 0, 1), ("", "", "", ""), NM),
    "nothing said": ((0, 1, 2, 3), ("", "", "", ""), ("", "", "", "")),
}


@pytest.mark.parametrize("kind", ORDERS)
def test_names_and_units_tell_the_order_of_ncem_axes(tmp_path, kind):
    dataset = open_dataset(ncem(tmp_path, *ORDERS[kind]))
    np.testing.assert_array_equal(dataset.data.compute(), made.PATTERNS)
    if kind != "nothing said":
        assert dataset.calibration.scan_step == pytest.approx((50.0, 40.0))
        assert (dataset.reciprocal_pixel is None) == (kind == "fpd")


def test_a_stack_of_hyperspy_is_reversed(tmp_path):
    from rsciio.emd import file_writer

    file_writer(str(tmp_path / "stack.emd"), made.signal(made.STACK, navigate=1))
    with pytest.raises(DataError, match="a stack of 12 frames"):
        open_dataset(tmp_path / "stack.emd")
    dataset = open_dataset(tmp_path / "stack.emd", scan_shape=made.SCAN)
    np.testing.assert_array_equal(dataset.data.compute(), made.PATTERNS)


@recorded
@pytest.mark.parametrize("name", ["emd/fpd_like.hdf5", "emd/ncempy_like.emd", "writers/ncempy4d.emd"])
def test_ncem_files_that_were_read_reversed(name):
    dataset = open_dataset(READERS / name)
    assert dataset.shape == (6, 5, 32, 40)
    assert dataset.calibration.scan_step == pytest.approx((50.0, 40.0) if "fpd" in name else (5.0, 4.0))


def arina_notes(folder, **notes):
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_group("STEM Metadata").attrs.update(notes)


def test_arina_writes_scan_and_energy_beside_the_master(tmp_path):
    master = made.dectris(tmp_path).path
    with h5py.File(master, "a") as file:
        detector = file["entry/instrument/detector/detectorSpecific"]
        detector["ntrigger"][()], detector["nimages"][()] = 12, 1
    with pytest.raises(DataError, match="a stack of 12 frames"):
        open_dataset(master)
    arina_notes(tmp_path, **{"NumPixelsX": 4, "NumPixelsY": 3, "High Tension": [200e3], "Pixel Size": [0.05]})
    dataset = open_dataset(master)
    np.testing.assert_array_equal(dataset.data.compute(), made.PATTERNS)
    assert dataset.calibration == Calibration(scan_step=(0.5, 0.5), energy=200e3)
    assert {path.name for path in dataset.files} == {"scan_master.h5", "scan_data_000001.h5", "scan_data_000002.h5"}
    # notes of another scan, while triggers and images fit
    arina_notes(tmp_path, NumPixelsX=9, NumPixelsY=9)
    with h5py.File(master, "a") as file:
        detector = file["entry/instrument/detector/detectorSpecific"]
        detector["ntrigger"][()], detector["nimages"][()] = 3, 4
    assert open_dataset(master).shape == made.PATTERNS.shape


def test_positions_of_lost_data_files_are_missing(tmp_path):
    master = made.dectris(tmp_path).path
    (tmp_path / "scan_data_000002.h5").unlink()
    dataset = open_dataset(master)
    np.testing.assert_array_equal(dataset.missing.ravel(), np.arange(12) >= 7)
    expected = np.where(dataset.missing[..., None, None], 0, made.PATTERNS)
    np.testing.assert_array_equal(dataset.data.compute(), expected)
    (finding,) = dataset.findings
    assert (finding.id, finding.severity) == ("data_file_lost", "warning")
    assert "scan_data_000002.h5 is not beside the master, so 5 of 12" in finding.message
    printed = CliRunner().invoke(app, ["info", str(master)]).output
    assert "warning: scan_data_000002.h5 is not beside the master" in printed
    with h5py.File(master, "a") as file:
        del file["entry/instrument/detector/detectorSpecific"]
    with pytest.raises(FileFormatError, match=r"scan_data_000002\.h5, which cannot be opened; put it"):
        open_dataset(master)


@pytest.mark.parametrize("place", ["pixel_mask", "detectorSpecific/pixel_mask"])
def test_the_pixel_mask_of_dectris_counts(tmp_path, place):
    """Masked pixels hold the largest number there is; they must not move the centre of mass."""
    y, x = np.indices(made.DETECTOR)
    mask = np.zeros(made.DETECTOR, np.uint32)
    mask[2:4, 3:5] = 8
    patterns = np.random.default_rng(0).poisson(50.0 * (np.hypot(y - 8, x - 7) < 5), (4, 5, *made.DETECTOR))
    patterns = np.where(mask != 0, 2**32 - 1, patterns).astype(np.uint32)
    with h5py.File(tmp_path / "a_data_000001.h5", "w") as file:
        file["entry/data/data"] = patterns.reshape(-1, *made.DETECTOR)
    with h5py.File(tmp_path / "a_master.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("a_data_000001.h5", "/entry/data/data")
        file[f"entry/instrument/detector/{place}"] = mask
    dataset = open_dataset(tmp_path / "a_master.h5", scan_shape=(4, 5))
    np.testing.assert_array_equal(dataset.bad_pixels, mask != 0)
    measured = measure(dataset.recalibrate(optical_axis=(8, 7), disc_radius=5), progress=False)
    assert np.hypot(measured.maps["com_y"], measured.maps["com_x"]).max() < 0.5
    with h5py.File(tmp_path / "a_master.h5", "a") as file:
        del file[f"entry/instrument/detector/{place}"]
        file[f"entry/instrument/detector/{place}"] = mask[:5]
    dataset = open_dataset(tmp_path / "a_master.h5", scan_shape=(4, 5))
    assert dataset.bad_pixels is None
    assert [finding.id for finding in dataset.findings] == ["pixel_mask_ignored"]


def nexus_of_two_files(folder):
    """The array lies in another file, and a soft link in NXdata leads to it."""
    with h5py.File(folder / "raw.h5", "w") as file:
        file["entry/data/frames"] = made.PATTERNS
    with h5py.File(folder / "linked.nxs", "w") as file:
        file["entry/detector/frames"] = h5py.ExternalLink("raw.h5", "/entry/data/frames")
        data = file.create_group("entry/data")
        data.attrs.update({"NX_class": "NXdata", "signal": "frames", "axes": ["y", "x", ".", "."]})
        data["frames"] = h5py.SoftLink("/entry/detector/frames")
        for name, step in (("y", 0.5), ("x", -0.4)):
            data[name] = step * np.arange(10)
            data[name].attrs["units"] = "nm"
    return folder / "linked.nxs"


def test_links_to_other_files_are_followed(tmp_path):
    path = nexus_of_two_files(tmp_path)
    named = open_dataset(path, dataset="entry/detector/frames")
    for dataset in (open_dataset(path), named):
        # y and x as NXdata says them, x backwards
        np.testing.assert_array_equal(dataset.data.compute(), made.PATTERNS[:, ::-1])
        assert dataset.calibration.scan_step == pytest.approx((5.0, 4.0))
        assert {file.name for file in dataset.files} == {"linked.nxs", "raw.h5"}
    layout = h5py.VirtualLayout(made.PATTERNS.shape, made.PATTERNS.dtype)
    layout[...] = h5py.VirtualSource("raw.h5", "entry/data/frames", made.PATTERNS.shape)
    with h5py.File(tmp_path / "virtual.nxs", "w") as file:
        file.create_virtual_dataset("entry/data", layout)
    virtual = open_dataset(tmp_path / "virtual.nxs")
    np.testing.assert_array_equal(virtual.data.compute(), made.PATTERNS)
    assert {file.name for file in virtual.files} == {"virtual.nxs", "raw.h5"}
    (tmp_path / "raw.h5").unlink()
    with pytest.raises(DataError, match="without an array of four axes"):
        open_dataset(path)


def test_of_several_stacks_the_one_that_fits_is_taken(tmp_path):
    path = tmp_path / "flat.hdf"
    with h5py.File(path, "w") as file:
        file["a/frames"], file["mask"] = made.STACK, np.zeros((2, 3, 4))
    with pytest.raises(DataError, match=r"a stack of 12 frames .* such as 3x4"):
        open_dataset(path)
    with h5py.File(path, "a") as file:
        file["b/flat"] = np.ones((5, *made.DETECTOR))
    with pytest.raises(DataError, match=r"one of: a/frames \(12, 16, 16\), b/flat \(5, 16, 16\)$"):
        open_dataset(path)
    np.testing.assert_array_equal(open_dataset(path, scan_shape=made.SCAN).data.compute(), made.PATTERNS)
    with h5py.File(path, "a") as file:
        file["other"] = made.PATTERNS + 1
        file["entry/data/frames"] = made.PATTERNS
        file["entry/data"].attrs["signal"] = "frames"
    np.testing.assert_array_equal(open_dataset(path).data.compute(), made.PATTERNS)


def test_a_beta_version_of_abtem(tmp_path):
    root = zarr.open_group(tmp_path / "beta.zarr", mode="w", zarr_format=2)
    scan = [{"type": "ScanAxis", "label": d, "units": "Å", "sampling": s} for d, s in (("x", 0.4), ("y", 0.5))]
    root.attrs.update(
        {
            "type": "DiffractionPatterns",
            "sampling": [0.025, 0.03],
            "fftshift": True,
            "ensemble_axes_metadata": scan,
            "metadata": {"energy": 60e3, "semiangle_cutoff": 30},
        }
    )
    root.create_array("array", data=made.PATTERNS.transpose(1, 0, 3, 2).astype("f4"), chunks=(4, 3, *made.DETECTOR))
    dataset = open_dataset(tmp_path / "beta.zarr")
    np.testing.assert_array_equal(dataset.data.compute(), made.PATTERNS)
    assert dataset.calibration.scan_step == (0.5, 0.4)
    assert (dataset.calibration.energy, dataset.calibration.convergence_semiangle) == (60e3, 30.0)
    assert dataset.calibration.pixel_size == pytest.approx((0.03 * 48.661, 0.025 * 48.661), rel=2e-5)


@recorded
@pytest.mark.parametrize(
    ("name", "options"), [("extlink.nxs", {}), ("flat.hdf", {"scan_shape": (6, 5)}), ("epsic.hdf", {}), ("vds.nxs", {})]
)
def test_files_of_nexus(name, options):
    assert open_dataset(READERS / "nexus" / name, **options).shape == (6, 5, 32, 40)


@recorded
def test_a_recorded_beta_of_abtem():
    dataset = open_dataset(READERS / "abtem_beta.zarr")
    assert (dataset.calibration.energy, dataset.calibration.convergence_semiangle) == (100e3, 20.0)
    assert dataset.calibration.pixel_size == pytest.approx((6.8166, 6.8166), rel=1e-4)
    assert dataset.calibration.scan_step == pytest.approx((0.38786, 0.38786), rel=1e-4)


@recorded
@pytest.mark.parametrize(("name", "n_missing"), [("arina_multi", 0), ("arina_line", 0), ("arina_lost", 10)])
def test_files_of_arina(name, n_missing):
    dataset = open_dataset(READERS / name / "scan_master.h5")
    assert dataset.shape == (6, 5, 32, 40)
    assert (0 if dataset.missing is None else dataset.missing.sum()) == n_missing
    known = Calibration() if name == "arina_line" else Calibration(scan_step=(0.5, 0.5), energy=300e3)
    assert dataset.calibration == known


@recorded
def test_a_recorded_pixel_mask():
    dataset = open_dataset(READERS.parent / "cases" / "dec2_master.h5", scan_shape=(20, 28))
    assert np.argwhere(dataset.bad_pixels).tolist() == [[5, 6], [5, 7], [6, 6], [6, 7]]
    measured = measure(dataset.recalibrate(optical_axis=(19.5, 23.5), disc_radius=11), progress=False)
    assert np.hypot(measured.maps["com_y"], measured.maps["com_x"]).max() == pytest.approx(0.82, abs=0.03)
