"""HDF5 and Zarr files of other programs: the order of axes, what stands beside a file, and links."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import reader_files as made

from stemvane.errors import DataError
from stemvane.io.files import open_dataset

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
