"""Dataset4D: what it takes, what it refuses, and HyperSpy's axes turned to ours."""

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

from stemvane.data.axes import calibration_from_axes
from stemvane.data.calibration import Calibration, wavelength
from stemvane.data.dataset import Dataset4D, ScanAtoms
from stemvane.errors import CalibrationError, DataError, StemvaneError
from stemvane.io.files import open_dataset

SHAPE = (3, 4, 5, 6)


@pytest.fixture
def patterns():
    return np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_plain_array_makes_a_data_set():
    patterns = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(Dataset4D(patterns).pattern(1, 2), patterns[1, 2])


def test_an_array_is_wrapped_and_not_changed(patterns):
    dataset = Dataset4D.from_array(patterns, name="a", metadata={"x": 1})
    assert dataset.shape == SHAPE
    assert (dataset.scan_shape, dataset.detector_shape, dataset.n_patterns) == ((3, 4), (5, 6), 12)
    assert isinstance(dataset.data, da.Array)
    assert dataset.data.dtype == np.uint16
    assert dataset.calibration == Calibration()
    np.testing.assert_array_equal(dataset.pattern(2, 1), patterns[2, 1])
    np.testing.assert_array_equal(dataset.data, patterns)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((4, 5, 6)), "3 axes"),
        (np.ones(SHAPE)[None], "5 axes"),
        (np.float64(1.0), "0 axes"),
        (np.ones((3, 0, 5, 6)), "no pattern"),
        (np.ones(SHAPE, np.complex64), "complex64"),
        (np.full(SHAPE, "a"), "<U1"),
        (np.full(SHAPE, None), "object"),
        ([[[[1, 2]], [[1]]]], "differ in shape"),
        (da.ones((4, 5, 6)), "3 axes"),
        (da.ones(SHAPE, dtype=complex), "complex128"),
    ],
)
def test_what_is_no_scan_is_refused(array, words):
    with pytest.raises(DataError) as error:
        Dataset4D.from_array(array, name="mine")
    assert "mine" in one_line(error)
    assert words in one_line(error)


def test_parts_that_do_not_fit_are_refused(patterns):
    with pytest.raises(DataError, match="same shape"):
        Dataset4D.from_array(patterns, expectation=np.ones((3, 4, 5, 7)))
    with pytest.raises(DataError, match="crop it"):
        Dataset4D.from_array(patterns, image=np.ones((4, 3)))
    with pytest.raises(DataError, match="positions"):
        ScanAtoms(np.array([6]), np.zeros((2, 2)), np.zeros(2))
    with pytest.raises(DataError, match="labels"):
        ScanAtoms(np.array([6]), np.zeros((1, 2)), np.zeros(1), labels=("a", "b"))


def test_blocks_hold_whole_patterns_of_some_megabytes():
    split = da.zeros((64, 64, 128, 128), dtype=np.uint16, chunks=(64, 64, 16, 16))
    whole = da.zeros((64, 64, 128, 128), dtype=np.uint16, chunks=(1, 7, 128, 128))
    for array in (split, np.zeros((64, 64, 128, 128), np.uint16)):
        lazy = Dataset4D.from_array(array).data
        assert lazy.chunksize[2:] == (128, 128)
        assert 2**20 < np.prod(lazy.chunksize) * 2 <= 8 * 2**20
    assert Dataset4D.from_array(whole).data.chunks == whole.chunks


def test_recalibrated_changes_the_calibration_only(patterns):
    atoms = ScanAtoms(np.array([6]), np.zeros((1, 2)), np.zeros(1))
    dataset = Dataset4D.from_array(
        patterns, calibration=Calibration(energy=60e3), name="a", atoms=atoms, image=np.ones((3, 4)), metadata={"x": 1}
    )
    changed = dataset.recalibrate(scan_step=(0.1, 0.2))
    assert changed.calibration == Calibration(energy=60e3, scan_step=(0.1, 0.2))
    assert dataset.calibration == Calibration(energy=60e3)
    assert (changed.name, changed.atoms, changed.metadata) == ("a", atoms, {"x": 1})
    assert changed.data is dataset.data
    assert changed.image is dataset.image
    with pytest.raises(CalibrationError):
        dataset.recalibrate(energy=-1)


def steps(scan=("nm", "nm"), detector=("mrad", "mrad"), scales=(0.02, 0.03, 1.0, 1.5), **beam):
    axes = [{"units": u, "scale": s} for u, s in zip((*scan, *detector), scales, strict=True)]
    calibration = calibration_from_axes(axes, beam)
    return calibration.scan_step, calibration.pixel_size


LENGTHS = {
    1: "Å \N{ANGSTROM SIGN} A\u030a A AA Ang Angstrom angstrom angstroms ANGSTROMS Ångström [Å] $\\AA$ \\mathrm{\\AA}",
    0.01: "pm picometre [p_m]",
    10: "nm [n_m] nanometer nanometers nanometres (nm)",
    1e4: "µm \N{GREEK SMALL LETTER MU}m um micron microns micrometers $\\mu\\mathrm{m}$",
    1e7: "mm",
    1e10: "m meters metre",
}
ANGLES = {
    1: "mrad mrads milliradians [m_r_a_d]",
    1e-3: "µrad \N{GREEK SMALL LETTER MU}rad urad microradians",
    1e3: "rad radians [rad]",
    1e3 * np.pi / 180: "deg ° degrees Degree $^\\circ$",
}
RECIPROCAL = {
    1: "1/Å 1/\N{ANGSTROM SIGN} Å^-1 Å⁻¹ $A^{-1}$ A^-1 1/A 1/angstrom \\AA^{-1} [A_^_-_1] Å**-1",
    0.1: "1/nm nm^-1 nm⁻¹ nm-1 nm^{-1} (1/nm) [n_m^-1] 1/nanometer /nm nm\N{MINUS SIGN}1",
    1e-10: "1/m 1/meters m⁻¹",
}


@pytest.mark.parametrize(("table", "place"), [(LENGTHS, 0), (ANGLES, 1)])
def test_every_spelling_of_lengths_and_angles(table, place):
    for factor, spellings in table.items():
        for units in spellings.split():
            result = steps(scan=(units, units), detector=(units, units), scales=(0.02, 0.03, 0.02, 0.03))
            assert result[place] == pytest.approx((0.02 * factor, 0.03 * factor)), units
            assert result[1 - place] is None, units


def test_the_band_limit_is_known_where_beam_and_scan_step_are():
    known = Calibration(energy=60e3, convergence_semiangle=31.0, scan_step=0.16)
    assert known.band_limit == pytest.approx(2 * 0.031 / 0.048661, rel=1e-5)
    for name in ("energy", "convergence_semiangle", "scan_step"):
        assert known.replace(**{name: None}).band_limit is None


def test_reciprocal_lengths_become_angles_through_the_wavelength():
    for factor, spellings in RECIPROCAL.items():
        for units in [*spellings.split(), *(word.replace("1/", "1 / ") for word in spellings.split())]:
            expected = 1e3 * wavelength(60e3) * factor
            result = steps(detector=(units, units), beam_energy=60)[1]
            assert result == pytest.approx((expected, 1.5 * expected)), units
            assert steps(detector=(units, units))[1] is None
    bytes_too = steps(scan=(b"nm", np.bytes_("nm")))
    assert bytes_too[0] == pytest.approx((0.2, 0.3))


@pytest.mark.parametrize("unknown", ["", "<undefined>", None, "px", "s", "1/s", "mA", "Åx", "1/px", "rad/Å"])
def test_other_units_leave_a_step_unknown(unknown):
    assert steps(scan=("nm", unknown), detector=(unknown, "mrad"), beam_energy=60) == (None, None)


@pytest.mark.parametrize("scale", [0, np.nan, np.inf, None, "a"])
def test_impossible_steps_are_unknown(scale):
    assert steps(scales=(scale, 1.0, 1.0, scale)) == (None, None)


STEPS = (0.02, -0.03, -0.001, 1.5)


def test_along_axes_with_a_negative_step_the_data_are_flipped(patterns):
    image = np.arange(12.0).reshape(3, 4)
    dataset = Dataset4D.from_array(patterns, image=image, expectation=patterns)
    dataset = replace(dataset, missing=image > 5, bad_pixels=patterns[0, 0] > 5)
    axes = [{"units": u, "scale": s} for u, s in zip(("nm", "nm", "rad", "mrad"), STEPS, strict=True)]
    flipped = dataset.with_axes(axes, {})
    assert (flipped.calibration.scan_step, flipped.calibration.pixel_size) == ((0.2, 0.3), (1.0, 1.5))
    for array in (flipped.data, flipped.expectation):
        np.testing.assert_array_equal(array.compute(), patterns[:, ::-1, ::-1])
    np.testing.assert_array_equal(flipped.image, image[:, ::-1])
    np.testing.assert_array_equal(flipped.missing, image[:, ::-1] > 5)
    np.testing.assert_array_equal(flipped.bad_pixels, patterns[0, 0, ::-1] > 5)
    (finding,) = flipped.findings
    assert (finding.id, finding.severity) == ("axis_flipped", "note")
    assert "scan_x and k_y" in finding.message
    # pixels have no direction
    assert dataset.with_axes([{"units": "px", "scale": -1.0}] * 4, {}).findings == ()


@pytest.mark.parametrize("value", [0, -60, np.nan, None, "unknown"])
def test_impossible_beams_are_unknown(value):
    axes = [{"units": "1/Å", "scale": 1.0}] * 4
    assert calibration_from_axes(axes, {"beam_energy": value, "convergence_angle": value}) == Calibration()


@pytest.fixture
def signal(patterns):
    api = pytest.importorskip("hyperspy.api")
    signal = api.signals.Signal2D(patterns.copy())
    # HyperSpy counts x first
    for index, (scale, units) in enumerate([(0.03, "nm"), (0.2, "Å"), (1.5, "mrad"), (1.0, "mrad")]):
        signal.axes_manager[index].scale, signal.axes_manager[index].units = scale, units
    signal.metadata.General.title = "a scan"
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 60.0)
    signal.metadata.set_item("Acquisition_instrument.TEM.convergence_angle", 31.0)
    return signal


EXPECTED = Calibration(scan_step=(0.2, 0.3), pixel_size=(1.0, 1.5), energy=60e3, convergence_semiangle=31.0)


@pytest.mark.parametrize("lazy", [False, True])
def test_hyperspy_signal(signal, patterns, lazy):
    assert signal.axes_manager.navigation_shape == (4, 3)
    dataset = Dataset4D.from_hyperspy(signal.as_lazy() if lazy else signal)
    np.testing.assert_array_equal(dataset.data.compute(), patterns)
    assert dataset.name == "a scan"
    assert dataset.calibration == EXPECTED


def test_hyperspy_axes_in_any_order(signal, patterns):
    moved = signal._deepcopy_with_new_data(patterns.transpose(2, 0, 3, 1).copy())
    for ours, axis in zip((2, 0, 3, 1), moved.axes_manager._axes, strict=True):
        old = signal.axes_manager._axes[ours]
        axis.size, axis.scale, axis.units, axis.navigate = old.size, old.scale, old.units, old.navigate
    assert moved.axes_manager.navigation_shape == (4, 3)
    dataset = Dataset4D.from_hyperspy(moved)
    np.testing.assert_array_equal(dataset.data.compute(), patterns)
    assert dataset.calibration == EXPECTED


def test_hyperspy_reciprocal_axes(signal):
    for axis in signal.axes_manager.signal_axes:
        axis.units, axis.scale = "1/nm", 0.5
    expected = 1e3 * wavelength(60e3) * 0.05
    assert Dataset4D.from_hyperspy(signal).calibration.pixel_size == pytest.approx((expected, expected))
    # the energy may come before or after
    signal.metadata.Acquisition_instrument.TEM.beam_energy = 300.0
    late = Dataset4D.from_hyperspy(signal).recalibrate(energy=60e3)
    assert late.calibration.pixel_size == pytest.approx((2.433, 2.433), abs=5e-4)
    del signal.metadata.Acquisition_instrument
    assert Dataset4D.from_hyperspy(signal).calibration == Calibration(scan_step=(0.2, 0.3))
    assert (
        Dataset4D.from_hyperspy(signal).recalibrate(energy=60e3).calibration.pixel_size == late.calibration.pixel_size
    )


@pytest.mark.parametrize("kind", ["as it is", "reciprocal", "backwards", "in a SEM", "without a beam"])
def test_a_signal_and_its_file_agree(signal, tmp_path, kind):
    scan, detector = signal.axes_manager.navigation_axes, signal.axes_manager.signal_axes
    if kind == "reciprocal":
        for axis in detector:
            axis.units, axis.scale = "nm⁻¹", 0.5
    elif kind == "backwards":
        detector[1].scale, scan[0].scale = -1.5, -0.03
    elif kind == "in a SEM":
        signal.metadata.set_item("Acquisition_instrument.SEM", signal.metadata.Acquisition_instrument.TEM)
        del signal.metadata.Acquisition_instrument.TEM
    elif kind == "without a beam":
        del signal.metadata.Acquisition_instrument
    signal.save(tmp_path / "a.hspy")
    ours, read = Dataset4D.from_hyperspy(signal), open_dataset(tmp_path / "a.hspy")
    for one, other in ((ours, read), (ours.recalibrate(energy=80e3), read.recalibrate(energy=80e3))):
        np.testing.assert_array_equal(one.data.compute(), other.data.compute())
        for name in ("calibration", "reciprocal_pixel", "name", "findings"):
            assert getattr(one, name) == getattr(other, name)
        assert [one.origin(name) for name in vars(one.calibration)] == [
            other.origin(name) for name in vars(one.calibration)
        ]


def test_spectrum_images_are_called_so(patterns):
    api = pytest.importorskip("hyperspy.api")
    spectra = api.signals.Signal1D(patterns[0])
    spectra.axes_manager[-1].units = "eV"
    with pytest.raises(DataError, match="spectrum image"):
        Dataset4D.from_hyperspy(spectra)


def test_hyperspy_signals_that_know_nothing(patterns):
    api = pytest.importorskip("hyperspy.api")
    signal = api.signals.Signal2D(patterns)
    signal.axes_manager[0].convert_to_non_uniform_axis()
    dataset = Dataset4D.from_hyperspy(signal)
    assert (dataset.calibration, dataset.name) == (Calibration(), "hyperspy")


def test_hyperspy_signals_of_other_dimensions(signal, patterns):
    api = pytest.importorskip("hyperspy.api")
    for wrong in (api.signals.Signal2D(patterns[0]), api.signals.Signal1D(patterns)):
        with pytest.raises(DataError, match="two of each"):
            Dataset4D.from_hyperspy(wrong)
    with pytest.raises(StemvaneError, match="complex"):
        Dataset4D.from_hyperspy(api.signals.ComplexSignal2D(patterns.astype(complex)))
