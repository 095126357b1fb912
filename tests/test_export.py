"""Exports: what other programs read back, and that whatever goes wrong ends in one line and leaves nothing behind."""

import os
import subprocess
import sys

import check_exports
import h5py
import numpy as np
import pytest
import zarr
from fake_run import make_run

from stemvane.data.signals import maps_of, patterns_of, stacks_of
from stemvane.errors import ConfigError, FileFormatError, MissingPackageError, RunError
from stemvane.export.writers import export_run
from stemvane.io.atomic import write_json
from stemvane.io.places import new_mark
from stemvane.runs.run import Run

FORMATS = {"hspy": "run.hspy", "emd": "run.h5", "zarr": "run.zarr", "tiff": "run_tiff", "csv": "run.csv"}
FULL = {
    "pixel_size": (1.5, 1.25),
    "energy": 60e3,
    "convergence_semiangle": 31.0,
    "scan_rotation": 0.3,
    "optical_axis": (9.75, 12.5),
}
KNOWN = {"full": FULL, "nothing": {}}


def needs_tifffile(to):
    if to == "tiff":
        pytest.importorskip("tifffile")


@pytest.fixture(scope="module", params=KNOWN)
def run(request, tmp_path_factory):
    """A scan that is not square, a part of it masked; calibrated in full, and not at all."""
    path = tmp_path_factory.mktemp(request.param) / "run"
    shape = {"shape": (12, 9), "detector": (20, 24), "masked": True, "known_step": request.param == "full"}
    make_run(path, known=KNOWN[request.param], **shape)
    run = Run.open(path)
    export_run(run, "csv")
    return run


@pytest.fixture
def small(tmp_path):
    make_run(tmp_path / "in" / "run", shape=(6, 5), detector=(16, 16))
    return Run.open(tmp_path / "in" / "run")


@pytest.fixture
def mounted(tmp_path):
    """Mount a small disk in memory; gives its folder."""
    places = []

    def mount(options):
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            pytest.skip(f"a small disk cannot be mounted here: {error}")
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


def table_of(run):
    return run.path.with_name("run.csv")


def test_hyperspy_reads_it_back(run, tmp_path):
    pytest.importorskip("hyperspy")
    assert check_exports.check_hyperspy(export_run(run, "hspy", tmp_path / "a.hspy"), table_of(run)) == 14


def test_emdfile_reads_it_back(run, tmp_path):
    pytest.importorskip("emdfile")
    assert check_exports.check_emdfile(export_run(run, "emd", tmp_path / "a.h5"), table_of(run)) == 14


def test_xarray_reads_it_back(run, tmp_path):
    pytest.importorskip("xarray")
    assert check_exports.check_xarray(export_run(run, "zarr", tmp_path / "a.zarr"), table_of(run)) == 14


def test_tifffile_reads_it_back(run, tmp_path):
    pytest.importorskip("tifffile")
    assert check_exports.check_tifffile(export_run(run, "tiff", tmp_path / "a"), table_of(run)) == 14


def test_the_comparison_would_notice(run, tmp_path):
    pytest.importorskip("hyperspy")
    path = export_run(run, "hspy", tmp_path / "a.hspy")
    for part, name in (("com_y/data", None), ("angle/axis-0", "scale"), ("latent_1/axis-1", "units")):
        with h5py.File(path, "r+") as file:
            item = file[f"Experiments/{part}"]
            before = item[...] if name is None else item.attrs[name]
            if name is None:
                item[...] = before[::-1]
            else:
                item.attrs[name] = "nm" if name == "units" else 2 * before
        with pytest.raises(AssertionError):
            check_exports.check_hyperspy(path, table_of(run))
        with h5py.File(path, "r+") as file:
            item = file[f"Experiments/{part}"]
            if name is None:
                item[...] = before
            else:
                item.attrs[name] = before
    assert check_exports.check_hyperspy(path, table_of(run))


def test_rosettasciio_reads_it_back(run, tmp_path):
    from rsciio.hspy import file_reader

    signals = {s["metadata"]["General"]["title"]: s for s in file_reader(export_run(run, "hspy", tmp_path / "a.hspy"))}
    assert set(signals) == {signal.name for signal in [*maps_of(run), *patterns_of(run)]}
    origin = signals["angle"]["original_metadata"]["stemvane"]
    assert origin["metrics"]["pearson_r"] == pytest.approx(run.metrics["pearson_r"])
    assert origin["run"] == str(run.path)
    manifold = signals["manifold"]["axes"]
    assert [axis["navigate"] for axis in manifold] == [True, True, False, False]
    assert [axis["name"] for axis in manifold] == ["manifold_latent_2", "manifold_latent_1", "k_y", "k_x"]


def test_the_table_is_the_run(run):
    maps, (y, x), unit = check_exports.table(table_of(run))
    step = run.measurements.calibration.scan_step
    assert unit == ("px" if step is None else "Å")
    np.testing.assert_allclose(y, np.arange(12) * (1 if step is None else step[0]))
    np.testing.assert_allclose(x, np.arange(9) * (1 if step is None else step[1]))
    for name, expected in (
        ("com_y", run.measurements.maps["com_y"]),
        ("com_angle", run.measurements.com_angle),
        ("angle", run.embedding.angle),
        ("latent_2", run.embedding.latents[..., 1]),
        ("latent_std_1", run.embedding.latent_std[..., 0]),
    ):
        np.testing.assert_allclose(maps[name][0], expected, rtol=1e-6, atol=1e-6, err_msg=name)
    assert np.isnan(maps["angle"][0][0, 0])
    assert "angle_deg" in table_of(run).read_text().splitlines()[0].split(",")


def test_patterns_and_stacks_have_their_axes(run):
    mean, manifold = patterns_of(run)
    polar, posterior = stacks_of(run)
    calibration, grid = run.measurements.calibration, run.measurements.grid
    width, unit = (1, "px") if calibration.pixel_size is None else (1.25, "mrad")
    assert {axis.unit for axis in mean.axes} == {unit}
    latents = run.manifold_latents
    np.testing.assert_allclose(manifold.axes[0].positions, latents[:, 0, 1])
    np.testing.assert_allclose(manifold.axes[1].positions, latents[0, :, 0])
    assert [axis.size for axis in manifold.axes] == list(run.manifold.shape)
    np.testing.assert_allclose(polar.axes[2].positions, grid.radii * width)
    np.testing.assert_allclose(polar.axes[3].positions, grid.azimuths)
    assert (polar.axes[2].unit, polar.axes[3].unit, posterior.axes[2].unit) == (unit, "rad", "rad")
    for signal in (polar, posterior):
        assert [axis.size for axis in signal.axes] == list(signal.values.shape)


def test_emd_has_what_emdfile_asks_for(run, tmp_path):
    with h5py.File(export_run(run, "emd", tmp_path / "a.h5")) as file:
        head = dict(file.attrs)
        assert (head["emd_group_type"], head["version_major"], head["version_minor"]) == ("file", 1, 0)
        (root,) = file.values()
        assert (root.attrs["emd_group_type"], root.attrs["python_class"]) == ("root", "Root")
        bundle = root["metadatabundle"]
        assert bundle.attrs["emd_group_type"] == "metadatabundle"
        assert (bundle["stemvane"].attrs["emd_group_type"], bundle["stemvane"].attrs["python_class"]) == (
            "metadata",
            "Metadata",
        )
        items = []
        bundle["stemvane"].visititems(lambda _, item: items.append(item))
        assert {item.attrs["type"] for item in items} <= {"dict", "string", "number", "list", "None", "bool"}
        arrays = {name: group for name, group in root.items() if name != "metadatabundle"}
        assert set(arrays) == {signal.name for signal in [*maps_of(run), *patterns_of(run)]}
        for group in arrays.values():
            assert (group.attrs["emd_group_type"], group.attrs["python_class"]) == ("array", "Array")
            assert isinstance(group["data"].attrs["units"], str)
            for index, size in enumerate(group["data"].shape):
                axis = group[f"dim{index}"]
                assert axis.shape == (size,)
                assert isinstance(axis.attrs["name"], str)
                assert isinstance(axis.attrs["units"], str)


def test_zarr_streams_what_is_large(run, tmp_path):
    group = zarr.open_group(export_run(run, "zarr", tmp_path / "a.zarr"), mode="r")
    np.testing.assert_array_equal(group["polar"][...], run.measurements.polar[...])
    assert group["polar"].metadata.dimension_names == ("scan_y", "scan_x", "radius", "azimuth")
    assert group.attrs["calibration"] == run.measurements.calibration.to_dict()


def test_to_hyperspy(run, monkeypatch):
    pytest.importorskip("hyperspy")
    signals = run.to_hyperspy()
    assert check_exports.check_signals(signals, table_of(run)) == 14
    monkeypatch.setitem(sys.modules, "hyperspy.api", None)
    with pytest.raises(MissingPackageError, match='pip install "hyperspy"') as error:
        run.to_hyperspy()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("n_latent", [0, 1])
@pytest.mark.parametrize("to", FORMATS)
def test_a_model_with_few_latents(tmp_path, to, n_latent):
    needs_tifffile(to)
    make_run(tmp_path / "run", n_latent=n_latent, shape=(3, 4), n_manifold=3, atoms=False)
    run = Run.open(tmp_path / "run")
    assert export_run(run, to) == tmp_path / FORMATS[to]
    assert patterns_of(run)[1].axes[0].name == "manifold_row"


def test_metrics_that_are_missing_or_words(tmp_path):
    pytest.importorskip("hyperspy")
    import hyperspy.api as hs

    run = make_run(tmp_path / "run", shape=(4, 4), finish=False)
    run.write_metrics({"a": None, "b": [0.5, None], "c": [], "d": ["x", "y"], "e": True, "f": "word", "g": 3})
    run.finish()
    export_run(run, "emd")
    metrics = hs.load(str(export_run(run, "hspy")))[0].original_metadata.stemvane.metrics.as_dictionary()
    np.testing.assert_array_equal(metrics.pop("b"), [0.5, np.nan])
    assert [str(word, "utf-8") if isinstance(word, bytes) else word for word in metrics.pop("d")] == ["x", "y"]
    assert metrics == {"a": None, "c": [], "e": True, "f": "word", "g": 3}


@pytest.mark.parametrize("to", FORMATS)
def test_beside_the_run_and_replaced_only_when_asked(small, to):
    needs_tifffile(to)
    before = sorted(small.path.rglob("*"))
    path = export_run(small, to)
    assert path == small.path.with_name(FORMATS[to])
    with pytest.raises(FileFormatError, match=r"exists already.*overwrite=True"):
        export_run(small, to)
    stamp = path.stat().st_ino
    assert export_run(small, to, overwrite=True) == path
    assert path.stat().st_ino != stamp
    assert sorted(entry.name for entry in small.path.parent.iterdir()) == ["run", FORMATS[to]]
    assert sorted(small.path.rglob("*")) == before


@pytest.mark.parametrize("to", FORMATS)
def test_the_field_goes_with_the_maps(to, tmp_path):
    needs_tifffile(to)
    run = make_run(tmp_path / "run", shape=(8, 8), field=True, known={"scan_rotation": 0.0, "energy": 60e3})
    path = export_run(run, to)
    if to == "csv":
        heading = path.read_text(encoding="utf-8").splitlines()[0].split(",")
        assert {"field_y_V", "divergence_mrad_per_angstrom", "integrated_com_mrad_angstrom"} < set(heading)
    if to == "tiff":
        assert (path / "integrated_com.tif").exists()


@pytest.mark.parametrize("to", ["zarr", "tiff"])
def test_a_folder_that_is_not_ours_is_left_alone(small, tmp_path, to):
    target = tmp_path / "work.zarr"
    target.mkdir()
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(FileFormatError, match="left alone"):
        export_run(small, to, target, overwrite=True)
    for part in (small.path / "measurements.zarr", small.path):
        with pytest.raises(FileFormatError, match="made from" if part.suffix or to == "tiff" else "ends in"):
            export_run(small, to, part, overwrite=True)
    assert (target / "thesis.tex").exists()
    Run.open(small.path)


@pytest.mark.parametrize(("to", "name"), [("hspy", "scan.hspy"), ("emd", "scan.h5"), ("csv", "scan.csv")])
def test_a_file_that_is_not_ours_is_left_alone(small, tmp_path, to, name):
    target = tmp_path / name
    with h5py.File(target, "w") as file:
        file["Experiments/scan/data"] = np.ones((2, 2, 4, 4))
    scan = target.read_bytes()
    with pytest.raises(FileFormatError, match="left alone"):
        export_run(small, to, target, overwrite=True)
    assert target.read_bytes() == scan
    target.write_text("words")
    with pytest.raises(FileFormatError, match="left alone"):
        export_run(small, to, target, overwrite=True)


def test_a_file_does_not_replace_a_folder(small, tmp_path):
    (tmp_path / "a.hspy").mkdir()
    with pytest.raises(FileFormatError, match="left alone"):
        export_run(small, "hspy", tmp_path / "a.hspy", overwrite=True)


@pytest.mark.parametrize(("to", "name"), [("hspy", "a.h5"), ("emd", "a.hspy"), ("zarr", "a"), ("csv", "a.txt")])
def test_a_wrong_ending_is_refused(small, tmp_path, to, name):
    with pytest.raises(FileFormatError, match="ends in"):
        export_run(small, to, tmp_path / name)


def test_an_unknown_format_is_refused(small):
    with pytest.raises(ConfigError, match=r"'png'.*hspy, emd, zarr, tiff, csv"):
        export_run(small, "png")


@pytest.mark.parametrize("to", FORMATS)
def test_a_full_disk_is_reported_and_leaves_nothing(small, mounted, to):
    needs_tifffile(to)
    disk = mounted("size=4k" if to == "csv" else "size=32k")
    with pytest.raises(FileFormatError, match=r"No space left on device.*free space") as error:
        export_run(small, to, disk / FORMATS[to])
    assert "\n" not in str(error.value)
    assert list(disk.iterdir()) == []


def test_an_old_export_outlives_a_full_disk(small, mounted):
    disk = mounted("size=16k")
    old = export_run(small, "csv", disk / "run.csv").read_bytes()
    (disk / "filler").write_bytes(bytes(16384 - 4096 * -(-len(old) // 4096)))
    with pytest.raises(FileFormatError, match="No space"):
        export_run(small, "csv", disk / "run.csv", overwrite=True)
    assert {entry.name for entry in disk.iterdir()} == {"run.csv", "filler"}
    assert (disk / "run.csv").read_bytes() == old


@pytest.mark.parametrize("to", FORMATS)
def test_a_place_that_cannot_be_written_is_reported(small, tmp_path, request, to):
    needs_tifffile(to)
    if os.geteuid() == 0:  # root may write everywhere but on a read-only disk
        place = request.getfixturevalue("mounted")("ro,size=64k")
    else:
        place = tmp_path / "locked"
        place.mkdir(mode=0o500)
    with pytest.raises(FileFormatError, match=r"cannot be written \((Read-only|Permission).*permissions"):
        export_run(small, to, place / FORMATS[to])
    (tmp_path / "file").touch()
    with pytest.raises(FileFormatError, match="cannot be written"):
        export_run(small, to, tmp_path / "file" / FORMATS[to])


@pytest.mark.parametrize("to", FORMATS)
def test_what_is_interrupted_leaves_nothing(small, to, monkeypatch):
    needs_tifffile(to)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("stemvane.io.places.Place.publish", stopped)
    with pytest.raises(KeyboardInterrupt):
        export_run(small, to)
    assert [entry.name for entry in small.path.parent.iterdir()] == ["run"]


def test_a_killed_export_is_in_nobodys_way(small):
    small.path.with_name(".run.zarr.partial").mkdir()
    half = small.path.with_name(".run.csv.partial")
    half.mkdir()
    write_json(half / "manifest.json", new_mark("writing"))
    (half / "run.csv").write_text("half")
    export_run(small, "zarr")
    export_run(small, "csv")
    assert {entry.name for entry in small.path.parent.iterdir()} == {"run", "run.zarr", "run.csv"}


def test_a_damaged_run_is_reported_as_such(small):
    for chunk in (small.path / "measurements.zarr" / "polar" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"\xff" * chunk.stat().st_size)
    with pytest.raises(RunError, match=r"polar/c/0/0/0/0 is not as it was written"):
        export_run(small, "zarr")
    with pytest.raises(RunError, match="polar is damaged") as error:
        export_run(Run.open(small.path, verify=False), "zarr")
    assert "\n" not in str(error.value)
    assert [entry.name for entry in small.path.parent.iterdir()] == ["run"]


def test_the_command(call, small, tmp_path):
    assert call("export", "in/run", "--to", "csv") == (0, f"{small.path}.csv\n", "")
    assert call("export", "in/run", "--to", "emd", "-o", "out.emd") == (0, f"{tmp_path / 'out.emd'}\n", "")
    for arguments, word in (
        (("in/run", "--to", "csv"), "--overwrite"),
        (("in/run", "--to", "png"), "choose one of"),
        (("in/nothing", "--to", "csv"), "does not exist"),
    ):
        code, out, err = call("export", *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("error: ")
        assert word in err
    assert call("export", "in/run", "--to", "csv", "--overwrite")[0] == 0
    assert call("export", "in/run")[0] == 2
