"""The journey from a file, an array or a signal to measurements, and what is said on the way."""

import logging
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

import stemvane
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.data.measurements import Measurements
from stemvane.data.progress import counting_bar, stage_bars
from stemvane.errors import CalibrationError, DataError


@pytest.fixture(scope="module")
def known():
    """A scan with everything known."""
    dataset, _ = stemvane.synthetic((10, 12), (32, 32), dose=1e4)
    return replace(dataset, expectation=None)


@pytest.fixture(scope="module")
def recorded(known):
    """The same patterns as an array, with a hot pixel beyond the disc."""
    array = known.data.compute()
    array[..., 3, 4] = 900
    return array


def assert_equal(actual, expected):
    for name, values in expected.maps.items():
        np.testing.assert_array_equal(actual.maps[name], values, err_msg=name)
    np.testing.assert_array_equal(actual.polar[:], expected.polar[:])


def test_arrays_signals_and_data_sets_are_measured_alike(recorded):
    expected = stemvane.measure(Dataset4D.from_array(recorded))
    assert_equal(stemvane.measure(recorded), expected)
    assert_equal(stemvane.measure(da.from_array(recorded, chunks=(4, 5, 32, 32))), expected)
    signals = pytest.importorskip("hyperspy.api").signals
    assert_equal(stemvane.measure(signals.Signal2D(recorded)), expected)
    assert_equal(stemvane.measure(signals.Signal2D(recorded).as_lazy()), expected)


def test_a_scan_is_prepared_where_its_disc_is_not_known(recorded):
    measured = stemvane.measure(recorded)
    prepared = stemvane.prepare_scan(recorded)
    assert_equal(measured, stemvane.measure(prepared))
    assert measured.preparation == prepared.preparation
    record = dict(measured.preparation.record)
    assert record.pop("counts_per_electron") == pytest.approx(1, abs=0.2)
    radii = record.pop("variation_px")
    assert 0 < radii["half"] <= radii["reach"] <= 20
    assert record == {"hot_pixels": [[3, 4]], "dead_pixels": [], "readout_counts": 0}
    assert measured.origins == {"optical_axis": "found", "disc_radius": "found"}
    np.testing.assert_allclose(measured.calibration.optical_axis, (15.5, 15.5), atol=0.1)
    assert measured.bad_pixels[3, 4]


def test_a_scan_whose_disc_is_known_is_measured_as_it_is(known, recorded):
    measured = stemvane.measure(replace(known, data=da.from_array(recorded)))
    assert measured.preparation is None
    assert measured.bad_pixels is None
    assert measured.origins["optical_axis"] == "given"
    with pytest.raises(CalibrationError, match="prepare_scan"):
        stemvane.measure(recorded, prepare=False)


def test_origins_and_preparation_are_kept_on_disk(tmp_path, recorded):
    import zarr

    measured = stemvane.measure(recorded)
    group = zarr.open_group(tmp_path / "measurements.zarr", mode="w")
    measured.write(group)
    again = Measurements.read(group)
    assert (again.origins, again.preparation) == (measured.origins, measured.preparation)


def test_what_was_done_is_said(recorded, caplog):
    with caplog.at_level(logging.INFO, logger="stemvane"):
        stemvane.measure(recorded)
    assert caplog.messages[0].startswith("array: optical axis found at (15.")
    assert "array: 1 hot pixel left out" in caplog.messages
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="stemvane"):
        stemvane.measure(recorded, progress=False)
    assert caplog.messages == []


def test_nothing_is_printed_where_nobody_looks_on(recorded, capsys):
    stemvane.measure(recorded)
    assert capsys.readouterr() == ("", "")


def test_bars_are_shown_where_they_are_asked_for(recorded, capsys):
    stemvane.measure(recorded, progress=True)
    assert "measure" in capsys.readouterr().err


def test_progress_goes_to_a_function(recorded):
    counts = []
    stemvane.measure(recorded, progress=lambda done, total: counts.append((done, total)))
    assert counts[-1] == (120, 120)
    with stage_bars(lambda *stage: counts.append(stage)) as report:
        report("learn", 1, 2, "note")
    assert counts[-1] == ("learn", 1, 2, "note")
    with counting_bar(False, "measure") as count:
        count(1, 2)


def test_a_file_is_opened_with_the_users_numbers(tmp_path, known):
    path = stemvane.save_dataset(known.recalibrate(optical_axis=None, disc_radius=None), tmp_path / "scan.zarr")
    scan = stemvane.open_dataset(path, energy=80e3, convergence_semiangle=21, scan_step=0.16)
    assert scan.calibration.scan_step == (0.16, 0.16)
    assert (scan.calibration.energy, scan.origin("energy")) == (80e3, "given")
    assert (scan.origin("pixel_size"), scan.origin("optical_axis")) == ("file", "unknown")
    measured = stemvane.measure(scan)
    assert measured.origins["energy"] == "given"
    assert measured.origins["optical_axis"] == "found"


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        ({"energy": 60}, "60 eV, which cannot be meant; give it in eV, such as 60e3 eV for 60 keV"),
        ({"convergence_semiangle": 0.031}, "mrad"),
        ({"scan_step": 1.6e-11}, "Å"),
        ({"scan_rotation": 90}, r"np\.deg2rad\(90\)"),
        ({"pixel_size": (1.0, 1e4)}, "mrad"),
        ({"scan_step": "wide"}, "pair of numbers"),
        ({"energy": -60e3}, "positive"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(tmp_path, known, number, cure):
    path = stemvane.save_dataset(known, tmp_path / "scan.zarr")
    with pytest.raises(CalibrationError, match=cure) as info:
        stemvane.open_dataset(path, **number)
    assert "\n" not in str(info.value)


def disc_of(scan):
    axis, radius = scan.calibration.optical_axis, scan.calibration.disc_radius
    return stemvane.VirtualDetector.disc("disc", scan.detector_shape, axis, radius)


def test_one_number_stands_for_both_axes_of_a_step_but_not_of_a_position():
    assert Calibration(scan_step=0.2, pixel_size=np.float32(2)).pixel_size == (2.0, 2.0)
    with pytest.raises(CalibrationError, match="pair"):
        Calibration(optical_axis=31.5)


@pytest.mark.parametrize(
    ("door", "cure"),
    [
        (lambda scan, _: stemvane.measure("scan.mib"), "open_dataset"),
        (lambda scan, _: stemvane.measure(stemvane.measure(scan)), "a Measurements; call open_dataset"),
        (lambda scan, _: stemvane.measure(np.zeros((3, 4, 5))), "four"),
        (lambda scan, _: stemvane.survey(None), "open_dataset"),
        (lambda scan, _: stemvane.prepare_scan([1, 2]), "a list; make it an array"),
        (lambda scan, _: stemvane.measure(scan, config=stemvane.Config()), r"a Config; .*Config\(\)\.measure"),
        (lambda scan, _: stemvane.measure(scan, [np.ones((32, 32))]), "an array; make one with VirtualDetector"),
        (lambda scan, _: stemvane.measure(scan, disc_of(scan)), "by itself; give it in square brackets"),
        (lambda scan, _: stemvane.Run.open(3), "path of a run folder, not an int"),
        (lambda scan, _: stemvane.Sweep.open(None), "path of the folder of a sweep, not None"),
        (lambda scan, _: stemvane.load_model(b"model"), "path of a model's .safetensors file, not a bytes"),
        (lambda scan, _: stemvane.PCA.load([]), "not a list"),
        (lambda scan, _: stemvane.RotationVAE().decode("x"), "array of numbers"),
        (lambda scan, _: stemvane.RotationVAE().decode([[0, 0], [1]]), "array of numbers"),
        (lambda scan, _: stemvane.RotationVAE().decode([0, 0], angle=[1, 2]), r"shape \(2,\)"),
        (lambda scan, _: stemvane.pattern_model("pca"), r"Config\(\)"),
        (lambda scan, path: stemvane.run_pipeline(scan, path / "run"), r"Config\(\)"),
        (lambda scan, path: stemvane.run_sweep(scan, path / "sweep"), r"Config\(\)"),
        (lambda scan, _: stemvane.open_dataset(scan.data), "from_array"),
        (lambda scan, path: stemvane.save_dataset(stemvane.measure(scan), path / "a.zarr"), "Dataset4D"),
        (lambda scan, _: stemvane.field_maps(scan), "call measure first"),
        (lambda scan, _: stemvane.find_rotation(scan), "measured.deflection"),
        (lambda scan, _: stemvane.find_rotation(stemvane.measure(scan)), "measured.deflection"),
        (lambda scan, _: stemvane.integrate(stemvane.measure(scan)), "measured.deflection"),
        (lambda scan, _: stemvane.compare(stemvane.measure(scan), stemvane.measure(scan)), "embed"),
        (lambda scan, path: stemvane.export_run(path, "csv"), "Run.open"),
        (lambda scan, path: stemvane.save_figures(stemvane.measure(scan)), "Run.open"),
    ],
)
def test_another_kind_of_object_is_refused_with_what_to_call_first(tmp_path, known, door, cure):
    with pytest.raises(DataError, match=cure) as info:
        door(known, tmp_path)
    assert "\n" not in str(info.value)


def test_arrays_that_no_kernel_reads_are_refused(recorded):
    with pytest.raises(DataError, match="float64"):
        stemvane.measure(recorded.astype(np.longdouble))
    for masked in (np.ma.masked_greater(recorded, 800), da.from_array(np.ma.masked_greater(recorded, 800))):
        with pytest.raises(DataError, match="bad_pixels"):
            stemvane.measure(masked)


@pytest.mark.parametrize("door", ["find_defects", "segment_scan", "compare"])
def test_an_embedding_of_another_scan_is_refused(known, door):
    measured = stemvane.measure(known)
    part = stemvane.measure(replace(known, data=known.data[:6], image=None, atoms=None))
    embedding = stemvane.AlignedPCA(n_latent=1).fit(part).embed(part)
    pair = (embedding, measured) if door == "compare" else (measured, embedding)
    with pytest.raises(DataError, match=r"\(6, 12\), the scan \(10, 12\); call model.embed"):
        getattr(stemvane, door)(*pair)
