"""Read exports back with the programs they are for, each in an environment of its own.

``stemvane export RUN --to csv`` and one more format, then::

    python tests/check_exports.py RUN.h5 RUN.csv

The file is opened with whichever of emdfile, py4DSTEM, HyperSpy, xarray and tifffile this Python has, and every map,
its unit and its axes are compared with the columns of the table. Needs NumPy besides these, not stemvane. py4DSTEM asks
for NumPy < 2 and so for an environment of its own.
"""

import csv
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

ENDINGS = {"angstrom": "Å", "deg": "rad", "mrad": "mrad", "px": "px", "nat": "nat"}
ENDINGS |= dict.fromkeys(("counts", "electrons", "fraction"), None)


def table(path):
    """Maps of the table as ``name: (values, unit)``, and the positions of rows and columns with their unit."""
    with open(path, encoding="utf-8", newline="") as file:
        names, *rows = list(csv.reader(file))
    cells = np.array([[float(cell or "nan") for cell in row] for row in rows])
    columns = dict(zip(names, cells.T, strict=True))
    shape = tuple(int(columns.pop(name).max()) + 1 for name in ("row", "column"))
    maps = {}
    for name, values in columns.items():
        stem, _, ending = name.rpartition("_")
        stem, unit = (stem, ENDINGS[ending] or ending) if ending in ENDINGS else (name, "")
        maps[stem] = np.radians(values.reshape(shape)) if unit == "rad" else values.reshape(shape), unit
    (y, unit), (x, _) = maps.pop("y"), maps.pop("x")
    return maps, (y[:, 0], x[0]), unit


def same_map(expected, unit, values, found_unit, axes):
    """One map: `axes` are ``(positions, unit)`` of rows and columns; units as the format spells them."""
    (wanted, value_unit), (y, x) = expected
    np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-6)
    assert found_unit == value_unit, (found_unit, value_unit)
    for positions, (coordinates, axis_unit) in zip((y, x), axes, strict=True):
        np.testing.assert_allclose(coordinates, positions, rtol=1e-6, atol=1e-12)
        assert axis_unit == unit, (axis_unit, unit)


def same_detector(axes, calibration, names=("k_y", "k_x")):
    """Positions on the detector are 0 at the optical axis."""
    size = calibration.get("pixel_size", (1, 1))
    for name, positions, step, centre in zip(names, axes, size, calibration["optical_axis"], strict=True):
        np.testing.assert_allclose(np.interp(centre, np.arange(len(positions)), positions), 0, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(np.diff(positions), step, rtol=1e-9)


def check_tree(root, reference):
    """What emdfile and py4DSTEM make of an .h5."""
    maps, positions, unit = table(reference)
    unit = {"Å": "A", "px": "pixels"}[unit]
    for name, expected in maps.items():
        node = root.tree(name)
        assert node.dim_names == ("scan_y", "scan_x")
        axes = list(zip(node.dims, node.dim_units, strict=True))
        same_map((expected, positions), unit, node.data, node.units, axes)
    origin = root.metadata["stemvane"]
    calibration = origin["calibration"]
    for name in ("mean_pattern", "manifold"):
        node = root.tree(name)
        assert set(node.dim_units[-2:]) <= {"mrad", "pixels"}
        same_detector(node.dims[-2:], calibration, node.dim_names[-2:])
    assert set(origin["metrics"]) >= {"pearson_r", "angle_error_median_deg"}
    return len(maps)


def check_emdfile(path, reference):
    import emdfile

    return check_tree(emdfile.read(str(path)), reference)


def check_py4dstem(path, reference):
    import py4DSTEM

    return check_tree(py4DSTEM.read(str(path)), reference)


def check_signals(signals, reference):
    """What HyperSpy makes of an .hspy, by name."""
    maps, positions, unit = table(reference)
    for name, expected in maps.items():
        signal = signals[name]
        assert signal.axes_manager.navigation_dimension == 0
        x, y = signal.axes_manager.signal_axes
        assert (y.name, x.name) == ("scan_y", "scan_x")
        quantity = signal.metadata.Signal.quantity
        found_unit = quantity.partition("(")[2].rstrip(")")
        same_map((expected, positions), unit, signal.data, found_unit, [(a.axis, str(a.units)) for a in (y, x)])
    calibration = signals["total"].original_metadata.stemvane.calibration.as_dictionary()
    for name in ("mean_pattern", "manifold"):
        x, y = signals[name].axes_manager.signal_axes
        same_detector((y.axis, x.axis), calibration)
    manager = signals["manifold"].axes_manager
    assert (manager.navigation_dimension, manager.signal_dimension) == (2, 2)
    beam = signals["angle"].metadata.Acquisition_instrument.TEM
    assert beam.get_item("beam_energy") == (calibration["energy"] / 1e3 if "energy" in calibration else None)
    assert beam.get_item("convergence_angle") == calibration.get("convergence_semiangle")
    return len(maps)


def check_hyperspy(path, reference):
    import hyperspy.api as hs

    return check_signals({str(s.metadata.General.title): s for s in hs.load(str(path))}, reference)


def check_xarray(path, reference):
    import xarray

    maps, positions, unit = table(reference)
    data = xarray.open_zarr(path, consolidated=False)
    for name, expected in maps.items():
        values = data[name]
        assert values.dims == ("scan_y", "scan_x")
        axes = [(values[dim].values, values[dim].attrs["units"]) for dim in values.dims]
        same_map((expected, positions), unit, values.values, values.attrs["units"], axes)
    same_detector((data.k_y.values, data.k_x.values), data.attrs["calibration"])
    assert data["polar"].dims == ("scan_y", "scan_x", "radius", "azimuth")
    np.testing.assert_allclose(data["angle_posterior"].sum("posterior_angle"), 1, rtol=1e-5)
    return len(maps)


def check_tifffile(path, reference):
    import tifffile

    maps, positions, unit = table(reference)
    unit = {"Å": "angstrom", "px": "pixel"}[unit]
    for name, expected in maps.items():
        with tifffile.TiffFile(Path(path) / f"{name}.tif") as file:
            words, tags = file.imagej_metadata, file.pages[0].tags
            steps = [tags[tag].value[1] / tags[tag].value[0] for tag in ("YResolution", "XResolution")]
            values = file.asarray()
        assert values.dtype == np.float32
        axes = [(step * np.arange(len(p)), words["unit"]) for step, p in zip(steps, positions, strict=True)]
        found_unit = words["stemvane_values"]
        same_map((expected, positions), unit, values, "" if found_unit == 1 else found_unit, axes)
    calibration = json.loads((Path(path) / "export.json").read_text(encoding="utf-8"))["calibration"]
    with tifffile.TiffFile(Path(path) / "mean_pattern.tif") as file:
        words = file.imagej_metadata
    np.testing.assert_allclose((words["yorigin"], words["xorigin"]), calibration["optical_axis"])
    return len(maps)


CHECKS = {
    ".h5": {"emdfile": check_emdfile, "py4DSTEM": check_py4dstem},
    ".hspy": {"hyperspy": check_hyperspy},
    ".zarr": {"xarray": check_xarray},
    "": {"tifffile": check_tifffile},
}


def main(path, reference):
    path = Path(path)
    checks = CHECKS.get(path.suffix, CHECKS[""])
    available = {name: check for name, check in checks.items() if find_spec(name)}
    if not available:
        sys.exit(f"this Python has none of {', '.join(checks)}")
    for name, check in available.items():
        n_maps = check(path, reference)
        module = sys.modules[name]
        sys.stdout.write(
            f"{name} {module.__version__}: {n_maps} maps of {path.name} are the table's, axes and units too\n"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
