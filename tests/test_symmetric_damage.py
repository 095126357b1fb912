"""Values that cannot be meant, and arrays that cannot be computed, end in one line with a cure, on every command."""

import sys
import warnings

import dask.array as da
import numpy as np
import pytest
import typer
from fake_run import make_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemvane.cli import app as cli
from stemvane.config import Config
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.errors import CalibrationError, ConfigError, DataError, ModelError, StemvaneError
from stemvane.io.files import save_dataset
from stemvane.models.rotation_vae import RotationVAE
from stemvane.reduction.measure import measure
from stemvane.reduction.prepare import prepare_scan
from stemvane.runs.run import Run
from stemvane.simulation.simulate import simulate
from stemvane.simulation.synthetic import synthetic

GOOD = Calibration(optical_axis=(7.5, 7.5), disc_radius=4.0)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shelf")
    save_dataset(synthetic((6, 6), (16, 16))[0], folder / "scan.zarr")
    make_run(folder / "run", shape=(6, 6), detector=(16, 16))
    make_run(folder / "unknown", shape=(6, 6), detector=(16, 16), known_step=False)
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["figures", "{}/run", "-o", "drawn", "--dpi", "100000"], "give a number of at most 1200"),
        (["simulate", "graphene", "-o", "a.zarr", "--energy", "60"], "energy is 60 eV, which cannot be meant"),
        (["simulate", "graphene", "-o", "a.zarr", "--scan", "100000"], "of memory, and"),
        (["simulate", "graphene", "-o", "a.zarr", "--detector", "60000"], "of memory, and"),
        (["simulate", "graphene", "-o", "a.zarr", "--scan-step", "1e5"], "of memory, and"),
        (["simulate", "graphene", "-o", "a.zarr", "--defocus", "1e9"], "of memory, and"),
        (["simulate", "graphene", "-o", "a.zarr", "--source-size", "1e6"], "of memory, and"),
        (["simulate", "graphene", "-o", "a.zarr", "--dose", "1e20"], "more than counts of 32 bits hold; give at most"),
        (["run", "{}/scan.zarr", "-o", "new", "--disc-radius", "1e9"], "(--disc-radius) in pixels"),
        (
            ["run", "{}/scan.zarr", "-o", "new", "--workers", "1", "--cluster", "tcp://here:1"],
            "measure.n_workers (--wor",
        ),
        (["info", "{}/run", "--energy", "60keV"], "source.energy (--energy) does not change"),
        (["info", "{}/run", "--scan", "2x2"], "source.scan_shape (--scan) does not change"),
        (["symmetry", "{}/unknown"], "the scan step is unknown"),
    ],
)
def test_one_line_with_a_cure(call, shelf, tmp_path, arguments, words):
    code, out, err = call(*(word.format(shelf) for word in arguments))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: ")
    assert words in err
    assert ";" in err
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == []


def test_more_latents_than_components():
    measured = measure(synthetic((4, 4), (16, 16))[0])
    with pytest.raises(ModelError, match=r"250 latents are more than the \d+ components.*model\.n_latent"):
        RotationVAE(n_latent=250).fit(measured, progress=False)


@pytest.mark.parametrize("value", ["31", "x", b"31", True, [31], (1, 2), {}, 3j, np.array([1.0]), 10**400])
@pytest.mark.parametrize("name", ["convergence_semiangle", "energy", "disc_radius", "scan_rotation"])
def test_numbers_of_the_calibration(name, value):
    with pytest.raises(CalibrationError, match=";") as error:
        Calibration(**{name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value", ["31", "3,4", (1,), (1, 2, 3), (1, "2"), (True, 2), ((1, 2), 3), {1: 2, 3: 4}, (None, 1)]
)
@pytest.mark.parametrize("name", ["scan_step", "pixel_size", "optical_axis", "ellipse"])
def test_pairs_of_the_calibration(name, value):
    with pytest.raises(CalibrationError, match=";"):
        Calibration(**{name: value})


def test_what_a_calibration_may_be():
    known = Calibration(energy=np.float32(6e4), scan_step=np.array([0.1, 0.2]), disc_radius=3, scan_rotation=np.int8(0))
    assert (known.energy, known.scan_step, known.scan_rotation) == (6e4, (0.1, 0.2), 0.0)


def damaged(make):
    blocks = da.map_blocks(make, chunks=((2, 2), (4,), (16,), (16,)), dtype=float, meta=np.empty((0,) * 4))
    return Dataset4D.from_array(blocks, calibration=GOOD, name="damaged")


def raising(block_info=None):
    if block_info[None]["chunk-location"][0]:
        raise ZeroDivisionError("the disk\nis gone")
    return np.ones((2, 4, 16, 16))


def misshapen(block_info=None):
    return np.ones((2, 4, 16, 16 - block_info[None]["chunk-location"][0]))


def empty(block_info=None):
    return None


@pytest.mark.parametrize("make", [raising, misshapen, empty])
@pytest.mark.parametrize("read", [measure, prepare_scan, lambda scan: scan.pattern(3, 0)])
def test_a_lazy_array_that_cannot_be_computed(make, read):
    if make is misshapen and read not in (measure, prepare_scan):
        pytest.skip("one pattern of another shape is a pattern")
    with pytest.raises(DataError, match=r"cannot be computed \(.*\); check the lazy array") as error:
        read(damaged(make))
    assert "\n" not in str(error.value)


def test_what_does_not_fit_is_refused_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr("stemvane.simulation.simulate.build_structure", None)
    for changes in ({"scan_shape": (10**6, 10**6)}, {"dose": 1e30}, {"energy": 1.0}, {"scan_extent": (1e9, 1e9)}):
        with pytest.raises(StemvaneError, match=";"):
            simulate(**changes)


# Every option of every command ---------------------------------------------------------------------------------------

HOSTILE = (
    "", " ", "0", "-1", "1e400", "nan", "inf", "-inf", "1e999keV", "0x0", "1x", "x1", "1x2x3x4x5",
    "99999999999999999999",
    "-9" * 40, "é", "\U0001f600", "[", "]", "{", "a=b", "=", "a.b=c", "preparation.descan=maybe", "model.model=none",
    "measure.masks={total='x'}", "training.seed=1e3", "figures.dpi=[1]", "simulation.detector=3", "/", ".", "..", "~",
    "/dev/null", "/dev/full", "/proc/self/mem", "nowhere/x", "true", "None", "--", "'", '"', "%s", "\\", "a" * 5000,
)  # fmt: skip


def hostile_options(command):
    """A strategy of arguments of a command: some of its options, each with a value that cannot be meant."""
    options = [part for part in command.params if part.param_type_name == "option" and part.name != "help"]
    pairs = [
        st.tuples(st.just(part.opts[-1]))
        if part.is_flag
        else st.tuples(st.just(part.opts[-1]), st.sampled_from(HOSTILE))
        for part in options
        if part.opts[-1] not in ("--overwrite", "--verify")
    ]
    return st.lists(st.one_of(pairs), min_size=1, max_size=3, unique_by=lambda pair: pair[0])


class TooFarError(Exception):
    """Work was begun, so that the arguments were taken; what follows has tests of its own."""


ARGUMENTS = {
    "demo": [],
    "simulate": ["graphene"],
    "structures": [],
    "info": ["{}/scan.zarr"],
    "run": ["{}/scan.zarr"],
    "sweep": ["{}/scan.zarr"],
    "figures": ["{}/run"],
    "symmetry": ["{}/run"],
    "export": ["{}/run"],
    "report": ["{}/run"],
    "view": ["{}/run", "--no-browser"],
}


def test_all_commands_are_tried():
    assert set(ARGUMENTS) == set(typer.main.get_command(cli.app).commands)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_option_ends_in_a_traceback(name, shelf, tmp_path, monkeypatch, capsys):
    """In this process; where work would begin, it is known that the arguments were taken."""
    command = typer.main.get_command(cli.app).commands[name]

    def too_far(*_, **__):
        raise TooFarError

    for place in (
        "stemvane.workflow.stages.simulate",
        "stemvane.workflow.stages.prepare_scan",
        "stemvane.simulation.simulate.build_structure",
        "stemvane.simulation.propagation.transmission",
        "stemvane.figures.saving.overview_page",
        "stemvane.figures.saving.structures_page",
        "stemvane.defects.search.find_defects",
        "stemvane.defects.library.simulate",
        "stemvane.export.writers.maps_of",
        "stemvane.export.writers.patterns_of",
        "stemvane.reduction.survey.survey",
        "stemvane.viewer.report_page.write_report",
        "stemvane.viewer.serving.ViewServer",
    ):
        monkeypatch.setattr(place, too_far)
    monkeypatch.chdir(tmp_path)
    arguments = [word.format(shelf) for word in ARGUMENTS[name]]

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(hostile_options(command))
    def check(options):
        given_options = [word for option in options for word in option]
        required = [] if name not in ("run", "simulate") or "--output" in given_options else ["--output", "new.zarr"]
        required += ["--to", "csv"] if name == "export" and "--to" not in given_options else []
        monkeypatch.setattr(sys, "argv", ["stemvane", name, *arguments, *required, *given_options])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        except TooFarError:
            pass
        said = capsys.readouterr()
        assert code in (0, 1, 2)
        assert "Traceback" not in said.err
        if code == 1:
            assert said.err.startswith("error: ")
            assert said.err.count("\n") == 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check()


@pytest.mark.parametrize(("section", "name"), [(s, n) for s, part in Config() for n in type(part).model_fields])
def test_no_setting_ends_in_a_traceback(section, name):
    """Values of all kinds for every setting: taken, or refused in one line that names the setting and a cure."""
    for value in (-1, 0, 1e308, 10**30, float("nan"), "", "x", True, [], [1], [[1]], {}, {"a": 1}, {"a": "b"}, None):
        refusal = ""
        try:
            Config().replace(**{section: {name: value}})
        except ConfigError as error:
            refusal = str(error)
        assert "\n" not in refusal
        assert "Input should" not in refusal
        assert not refusal or ";" in refusal, refusal


def test_an_existing_run_is_still_read(shelf):
    assert Run.open(shelf / "run").metrics["n_latent"] == 2
