"""Opening and saving data sets: round trips, lazy reading, and damaged files that end in one clear line."""

import json
import os
import pickle
import shutil
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rsciio.hspy import file_writer

from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D, ScanAtoms, ScanDefects
from stemvane.data.findings import SEVERITIES, Finding
from stemvane.data.preparation_record import Preparation
from stemvane.data.truth import DetectorTruth
from stemvane.data.typical_pattern import TypicalPattern
from stemvane.errors import DataError, FileFormatError, StemvaneError
from stemvane.io.atomic import write_json
from stemvane.io.files import open_dataset, save_dataset
from stemvane.io.places import new_mark

ROTAVIRUS = Path(__file__).parents[2] / "shared" / "data" / "rotavirus_cryo_127x127.hspy"
CALIBRATION = Calibration(
    scan_step=(0.2, 0.3), pixel_size=(1.0, 1.5), optical_axis=(3.2, 4.1), convergence_semiangle=31, energy=60e3
)


@pytest.fixture
def patterns():
    return np.random.default_rng(0).poisson(5.0, (5, 7, 8, 10)).astype(np.uint16)


@pytest.fixture
def dataset(patterns):
    atoms = ScanAtoms(np.array([6, 14]), np.array([[0.5, 1.0], [2.0, 3.0]]), np.zeros(2), labels=("graphene", "dopant"))
    return Dataset4D.from_array(
        patterns,
        calibration=CALIBRATION,
        name="small",
        expectation=np.full(patterns.shape, 5.0, np.float32),
        atoms=atoms,
        image=np.arange(35.0).reshape(5, 7),
        metadata={"electrons_per_pattern": np.float64(400.0), "words": ("a", "b"), "path": Path("x"), "nan": np.nan},
    )


def axes(names=("scan_y", "scan_x", "k_y", "k_x"), sizes=(5, 7, 8, 10), navigate=(True, True, False, False), **changes):
    units = {"scan_y": "nm", "scan_x": "nm", "k_y": "mrad", "k_x": "mrad", **changes}
    scales = {"scan_y": 0.02, "scan_x": 0.03, "k_y": 1.0, "k_x": 1.5}
    return [
        {
            "_type": "UniformDataAxis",
            "name": n,
            "units": units[n],
            "navigate": nav,
            "size": s,
            "scale": scales[n],
            "offset": 0.0,
        }
        for n, s, nav in zip(names, sizes, navigate, strict=True)
    ]


def write_hspy(path, data, axes, tem=None, title="a scan"):
    metadata = {"General": {"title": title}, "Signal": {"signal_type": ""}}
    if tem:
        metadata["Acquisition_instrument"] = {"TEM": tem}
    signal = {"data": data, "axes": axes, "metadata": metadata, "original_metadata": {}, "tmp_parameters": {}}
    signal |= {"learning_results": {}, "attributes": {"_lazy": False, "ragged": data.dtype == object}, "models": {}}
    package = {"package": "test", "package_version": "0"}
    file_writer(str(path), {**signal, "package_info": package}, show_progressbar=False)
    return path


def complaint(path, error=StemvaneError):
    with pytest.raises(error) as info:
        open_dataset(path)
    message = str(info.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message.split(";")) >= 2, "trouble and cure"
    return message


def test_zarr_round_trip(tmp_path, dataset, patterns):
    calls = []
    path = save_dataset(dataset, tmp_path / "new" / "a.zarr", progress=lambda done, total: calls.append((done, total)))
    again = open_dataset(path)
    np.testing.assert_array_equal(again.data.compute(), patterns)
    np.testing.assert_array_equal(again.expectation.compute(), 5.0)
    np.testing.assert_array_equal(again.image, dataset.image)
    np.testing.assert_array_equal(again.atoms.positions, dataset.atoms.positions)
    assert again.data.dtype == np.uint16
    assert again.atoms.labels == ("graphene", "dopant")
    assert again.calibration == CALIBRATION
    assert (again.name, again.path) == ("small", path)
    assert again.metadata == {"electrons_per_pattern": 400.0, "words": ["a", "b"], "path": "x", "nan": None}
    assert calls[-1] == (35, 35)
    assert os.listdir(path.parent) == ["a.zarr"]


# where a data set lies is not what is known of it
PLACES = {"path", "files"}
PAIRS = st.tuples(st.floats(0.01, 10), st.floats(0.01, 10))
WORDS = st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9))
CALIBRATIONS = st.builds(
    Calibration,
    scan_step=st.none() | PAIRS,
    pixel_size=st.none() | PAIRS,
    optical_axis=st.none() | PAIRS,
    scan_rotation=st.none() | st.floats(-3, 3),
    energy=st.none() | st.floats(3e4, 3e5),
    ellipse=st.none() | st.tuples(st.floats(1, 1.5), st.floats(-3, 3)),
)
FINDINGS = st.builds(
    Finding, id=st.text(), severity=st.sampled_from(SEVERITIES), message=st.text(), cure=st.just("") | st.text()
)
DEFECTS = ScanDefects(("N",), np.ones((1, 2)), np.zeros(1), np.array([True]), np.ones((1, 2)), np.zeros(1, int))
ATOMS = ScanAtoms(np.array([6, 14]), np.array([[0.5, 1.0], [0.0, 2.0]]), np.zeros(2), ("host", "Si"), DEFECTS)
PIXELS, POSITIONS = np.ones((4, 5), np.float32), np.ones((2, 3, 2))
TRUTH = DetectorTruth(
    PIXELS > 2, PIXELS, 2 * PIXELS, 3 * PIXELS, *(n * POSITIONS for n in range(4)), 9e3, 12.5, 11.5, 0.5
)


def maybe(shape, dtype):
    return st.none() | hnp.arrays(dtype, shape, elements=None if dtype is bool else st.floats(-9, 9, width=32))


@given(
    known=st.fixed_dictionaries(
        {
            "calibration": CALIBRATIONS,
            "name": st.text(max_size=9),
            "expectation": maybe((2, 3, 4, 5), np.float32).map(lambda a: None if a is None else da.from_array(a)),
            "atoms": st.sampled_from([None, ATOMS, replace(ATOMS, defects=None), replace(ATOMS, labels=None)]),
            "image": maybe((2, 3), np.float32),
            "metadata": WORDS,
            "bad_pixels": maybe((4, 5), bool),
            "missing": maybe((2, 3), bool),
            "beam_shift": st.none() | st.tuples(PAIRS, PAIRS) | st.tuples(PAIRS, PAIRS, PAIRS, PAIRS, PAIRS),
            "typical_pattern": st.sampled_from([None, TypicalPattern(2.0 * PIXELS, (1.5, 2.5), np.arange(3.0), 0.2)]),
            "origins": st.dictionaries(st.sampled_from(["energy", "pixel_size"]), st.sampled_from(["given", "found"])),
            "reciprocal_pixel": st.none() | PAIRS,
            "electrons_per_pattern": st.none() | st.floats(1, 1e9),
            "noiseless": st.booleans(),
            "is_scan": st.booleans(),
            "preparation": st.none() | st.builds(Preparation, st.tuples(st.text()), st.tuples(st.text()), WORDS),
            "truth": st.sampled_from([None, TRUTH]),
            "findings": st.lists(FINDINGS, max_size=2).map(tuple),
        }
    ),
)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_everything_that_is_known_is_saved(tmp_path_factory, known):
    data = da.from_array(np.arange(120.0, dtype="f4").reshape(2, 3, 4, 5))
    every = {field.name for field in fields(Dataset4D)}
    assert every == {"data", *known, *PLACES}, "a new field must be saved, and listed here"
    folder = tmp_path_factory.mktemp("saved")
    again = open_dataset(save_dataset(Dataset4D(data=data, **known), folder / "a.zarr"))
    for name, value in {"data": data, **known}.items():
        read = getattr(again, name)
        if name in ("atoms", "truth", "typical_pattern") and value is not None:
            assert_same_fields(read, value)
        elif isinstance(value, np.ndarray | da.Array):
            assert read.dtype == value.dtype
            np.testing.assert_array_equal(np.asarray(read), np.asarray(value))
        else:
            assert read == value, name


def assert_same_fields(read, written):
    for field in fields(written):
        one, other = getattr(read, field.name), getattr(written, field.name)
        if is_dataclass(other):
            assert_same_fields(one, other)
        else:
            np.testing.assert_array_equal(one, other)


def test_zarr_says_its_conventions_in_words(tmp_path, dataset):
    attrs = zarr.open_group(save_dataset(dataset, tmp_path / "a.zarr"), mode="r").attrs
    assert attrs["format"] == "stemvane-dataset"
    assert attrs["format_version"] == 1
    assert "mean position minus the optical axis" in attrs["conventions"]
    assert [axis["name"] for axis in attrs["axes"]] == ["scan_y", "scan_x", "k_y", "k_x"]


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "int32", "float16", ">f4", "float64"])
@pytest.mark.parametrize("chunks", [(1, 1, 8, 10), (2, 3, 8, 10), (5, 7, 4, 10)])
def test_any_number_type_and_chunking(tmp_path, patterns, dtype, chunks):
    array = (patterns % 3).astype(dtype)
    path = save_dataset(Dataset4D.from_array(da.from_array(array, chunks=chunks)), tmp_path / "a.zarr")
    np.testing.assert_array_equal(open_dataset(path).data.compute(), array)


def test_data_and_expectation_are_computed_together_and_once(tmp_path):
    computed = []

    def make(block_info=None):
        computed.append(block_info[None]["chunk-location"])
        return np.ones(block_info[None]["chunk-shape"])

    truth = da.map_blocks(make, chunks=((3, 2), (4, 3), (8,), (8,)), dtype=float, meta=np.empty((0, 0, 0, 0)))
    save_dataset(Dataset4D.from_array(truth * 2, expectation=truth), tmp_path / "a.zarr")
    assert sorted(computed) == [(0, 0, 0, 0), (0, 1, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0)]


def test_lazy_data_can_be_sent_and_sliced(tmp_path, dataset, patterns):
    for path in (save_dataset(dataset, tmp_path / "a.zarr"), write_hspy(tmp_path / "a.hspy", patterns, axes())):
        data = pickle.loads(pickle.dumps(open_dataset(path).data))
        np.testing.assert_array_equal(data[::-2, 1:6:3].compute(), patterns[::-2, 1:6:3])
        np.testing.assert_array_equal(data[[3, 1], 2].compute(), patterns[[3, 1], 2])


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail(block):
        raise DataError("no pattern; look")

    broken = da.map_blocks(fail, da.ones((4, 4, 8, 8)), dtype=float, meta=np.empty((0, 0, 0, 0)))
    with pytest.raises(DataError, match="no pattern"):
        save_dataset(Dataset4D.from_array(broken), tmp_path / "a.zarr")
    assert os.listdir(tmp_path) == []


def test_a_killed_write_is_no_data_set(tmp_path, dataset, patterns):
    partial = tmp_path / ".a.zarr.partial"
    group = zarr.open_group(partial / "a.zarr", mode="w")
    group.create_array("data", data=patterns)
    write_json(partial / "manifest.json", new_mark("writing"))
    for folder in (partial, partial / "a.zarr"):
        complaint(folder, FileFormatError)
    path = save_dataset(dataset, tmp_path / "a.zarr")
    assert os.listdir(tmp_path) == [path.name]


def test_overwrite(tmp_path, dataset, patterns):
    path = save_dataset(dataset, tmp_path / "a.zarr")
    with pytest.raises(FileFormatError, match=r"exists already.*overwrite=True"):
        save_dataset(dataset, path)
    again = open_dataset(path)
    # onto the very folder that its patterns are read from
    save_dataset(Dataset4D.from_array(again.data + 1, name="more"), path, overwrite=True)
    np.testing.assert_array_equal(open_dataset(path).data.compute(), patterns + 1)
    assert open_dataset(path).name == "more"
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_never_replaces_what_is_not_ours(tmp_path, dataset):
    mine = tmp_path / "home.zarr"
    mine.mkdir()
    (mine / "thesis.txt").write_text("words")
    with pytest.raises(FileFormatError, match="left alone"):
        save_dataset(dataset, mine, overwrite=True)
    with pytest.raises(FileFormatError, match=r"ends in \.zarr"):
        save_dataset(dataset, tmp_path / "a.hspy")
    (tmp_path / "file").write_text("words")
    with pytest.raises(FileFormatError, match="cannot be written"):
        save_dataset(dataset, tmp_path / "file" / "a.zarr")
    assert (mine / "thesis.txt").read_text() == "words"


def test_hspy(tmp_path, patterns):
    path = write_hspy(tmp_path / "a.hspy", patterns, axes(), {"beam_energy": 60.0, "convergence_angle": 31.0})
    dataset = open_dataset(path)
    np.testing.assert_array_equal(dataset.data.compute(), patterns)
    assert dataset.name == "a scan"
    known = dataset.calibration
    assert known.scan_step == pytest.approx((0.2, 0.3))
    assert known.pixel_size == (1.0, 1.5)
    assert (known.energy, known.convergence_semiangle) == (60e3, 31.0)
    assert known.optical_axis is None
    path.rename(path.with_suffix(".renamed"))
    assert open_dataset(path.with_suffix(".renamed")).shape == patterns.shape


def test_hspy_axes_are_reordered(tmp_path, patterns):
    reordered = np.ascontiguousarray(patterns.transpose(2, 0, 3, 1))
    order = axes(("k_y", "scan_y", "k_x", "scan_x"), (8, 5, 10, 7), (False, True, False, True))
    dataset = open_dataset(write_hspy(tmp_path / "a.hspy", reordered, order))
    np.testing.assert_array_equal(dataset.data.compute(), patterns)
    assert dataset.data.chunksize[2:] == (8, 10)
    assert dataset.calibration.pixel_size == (1.0, 1.5)
    assert dataset.calibration.scan_step == pytest.approx((0.2, 0.3))


def test_hspy_reciprocal_axes_and_look_alike_units(tmp_path, patterns):
    ours = axes(scan_y="\N{ANGSTROM SIGN}", scan_x="Å", k_y="1/nm", k_x="1/nm")
    calibration = open_dataset(write_hspy(tmp_path / "a.hspy", patterns, ours, {"beam_energy": 60.0})).calibration
    assert calibration.scan_step == pytest.approx((0.02, 0.03))
    assert calibration.pixel_size == pytest.approx((4.8661, 1.5 * 4.8661), rel=1e-4)
    unknown = axes(k_y="<undefined>", k_x="<undefined>")
    assert open_dataset(write_hspy(tmp_path / "b.hspy", patterns, unknown)).calibration.pixel_size is None


def test_hspy_of_wrong_dimensions(tmp_path, patterns):
    path = write_hspy(tmp_path / "a.hspy", patterns[0], axes()[1:])
    assert "source.scan_shape" in complaint(path, DataError)
    path = write_hspy(tmp_path / "b.hspy", patterns, axes(navigate=(True, False, False, False)))
    assert "transpose" in complaint(path, DataError)
    assert "complex" in complaint(write_hspy(tmp_path / "c.hspy", patterns + 0j, axes()), DataError)
    path = write_hspy(tmp_path / "d.hspy", patterns, axes())
    write_hspy(tmp_path / "e.hspy", patterns + 1, axes(), title="another")
    with h5py.File(path, "a") as file, h5py.File(tmp_path / "e.hspy") as other:
        other.copy("Experiments/another", file["Experiments"])
    assert "2 scans" in complaint(path, DataError)


def test_ragged_hspy(tmp_path):
    path = tmp_path / "ragged.hspy"
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.create_dataset("Experiments/a/data", (5, 7, 1, 1), dtype=h5py.vlen_dtype(np.uint8))
    assert "ragged" in complaint(path, DataError)
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.create_dataset("Experiments/a/data", data=np.array([pickle.dumps("x")] * 4))
    complaint(path, DataError)


def damaged(kind, folder, patterns, dataset):
    path = folder / kind
    if kind == "truncated.hspy":
        whole = write_hspy(folder / "whole.hspy", patterns, axes()).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "magic only.hspy":
        path.write_bytes(b"\x89HDF\r\n\x1a\n")
    elif kind == "wrong magic.hspy":
        path.write_bytes(b"no hdf5 here" * 100)
    elif kind == "empty.hspy":
        path.touch()
    elif kind == "folder.hspy":
        path.mkdir()
    elif kind == "hollow.hspy":
        with h5py.File(path, "w") as file:
            file.attrs["file_format"] = b"HyperSpy"
    elif kind == "no axes.hspy":
        with h5py.File(path, "w") as file:
            file.attrs["file_format"] = "HyperSpy"
            file.create_dataset("Experiments/a/data", data=patterns, chunks=(1, 1, 8, 10))
    elif kind == "old.zarr":
        zarr.open_group(path, mode="w", zarr_format=2)
    else:
        save_dataset(dataset, path)
        damage_zarr(kind, path)
    return path


def damage_zarr(kind, path):
    head = path / "zarr.json"
    values = json.loads(head.read_text())
    if kind == "newer.zarr":
        values["attributes"]["format_version"] = 2
    elif kind == "no calibration.zarr":
        del values["attributes"]["calibration"]
    elif kind == "impossible calibration.zarr":
        values["attributes"]["calibration"]["energy"] = -60e3
    elif kind == "bad calibration.zarr":
        values["attributes"]["calibration"]["energy"] = "sixty"
    elif kind == "no data.zarr":
        shutil.rmtree(path / "data")
    elif kind == "no chunk.zarr":
        next(p for p in (path / "data").rglob("*") if p.is_file() and p.name != "zarr.json").unlink()
    head.write_text("{" if kind == "bad json.zarr" else json.dumps(values))


HDF5 = ["truncated", "magic only", "wrong magic", "empty", "folder", "hollow", "no axes"]
ZARR = [
    "old",
    "newer",
    "no calibration",
    "bad calibration",
    "impossible calibration",
    "no data",
    "no chunk",
    "bad json",
]


@pytest.mark.parametrize("kind", [f"{n}.hspy" for n in HDF5] + [f"{n}.zarr" for n in ZARR] + ["missing"])
def test_damaged_files_end_in_one_line(tmp_path, patterns, dataset, kind):
    complaint(damaged(kind, tmp_path, patterns, dataset) if kind != "missing" else tmp_path / "missing.hspy")


def test_damage_within_a_chunk_is_reported_when_it_is_read(tmp_path, dataset):
    path = save_dataset(dataset, tmp_path / "a.zarr")
    chunk = next(p for p in (path / "data").rglob("*") if p.is_file() and p.name != "zarr.json")
    chunk.write_bytes(b"\0" * 100)
    opened = open_dataset(path)
    with pytest.raises(FileFormatError, match="damaged") as info:
        opened.data.compute()
    assert "\n" not in str(info.value)


def test_no_permission(tmp_path, patterns, monkeypatch):
    # root may read everything, so the refusal is played
    def refuse(self, mode="r"):
        raise PermissionError(13, "Permission denied", str(self))

    path = write_hspy(tmp_path / "a.hspy", patterns, axes())
    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in complaint(path, FileFormatError)


@pytest.mark.skipif(not ROTAVIRUS.exists(), reason="the recorded rotavirus scan is not beside the repository")
def test_rotavirus():
    dataset = open_dataset(ROTAVIRUS)
    assert dataset.shape == (127, 127, 64, 64)
    assert dataset.calibration.energy == 300e3
    assert dataset.calibration.scan_step == (31.25, 31.25)
    assert dataset.calibration.convergence_semiangle == 1.03
    assert max(np.prod(c) for c in [dataset.data.chunksize]) * 2 <= 2**24
