"""How objects show themselves in a terminal and in a notebook."""

import inspect
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import dask.array as da
import numpy as np
import pytest
from fake_run import make_run

import stemvane
from stemvane.config import TrainingConfig
from stemvane.data.dataset import Dataset4D
from stemvane.data.representation import Representable, as_html, as_text, format_quantity, format_shape, format_size
from stemvane.data.specimen import ScanDefects
from stemvane.features.harmonics import HarmonicBasis
from stemvane.runs.sweep_folder import Sweep


def test_text_keeps_to_eight_lines_of_a_hundred_and_twenty_columns():
    rows = [(f"quantity {i}", "x" * 200) for i in range(12)]
    lines = as_text("title", rows).splitlines()
    assert len(lines) == 8
    assert max(map(len, lines)) == 120
    assert "quantity 11" in lines[-1]
    assert as_text("title", rows[:7]).count("\n") == 7


def test_a_value_with_a_line_break_is_one_line():
    assert as_text("title", [("path", "one\ntwo")]) == "title\n  path  one two"


def test_html_holds_every_row_and_nothing_that_is_run():
    text = as_html("<script>", [("a & b", "<img onerror=x>"), *[(str(i), "") for i in range(12)]])
    assert "<script>" not in text
    assert "<img" not in text
    assert "a &amp; b" in text
    assert text.count("<tr") == 13
    # a colour of its own would be unreadable on either dark or light ground
    assert not re.search(r"#[0-9a-f]{3}|rgb|white|black", text)


def test_numbers_carry_their_units():
    assert format_quantity((0.16, 0.16), "Å") == "0.16 Å"
    assert format_quantity((31.5, 32.0), "px") == "31.5, 32 px"
    assert format_quantity(None, "mrad") == "unknown"
    assert format_shape((64, 32)) == "64 × 32"
    assert format_size(1_073_741_824) == "1.07 GB"


def test_an_object_gives_title_and_rows_once():
    class Thing(Representable):
        def _summary(self):
            return "Thing", [("size", "3 Å")]

    assert repr(Thing()) == "Thing\n  size  3 Å"
    assert "3 Å" in Thing()._repr_html_()


# Every public object ---------------------------------------------------------------------------------------------


MODELS = ("AlignedPCA", "CoordinateVAE", "KindsModel", "NMF", "PCA", "PlainVAE", "RotationVAE")


class Unreadable:
    """Patterns that nobody may read in order to show a data set."""

    shape, dtype, ndim = (4, 5, 16, 16), np.dtype("uint16"), 4

    def __getitem__(self, part):
        raise AssertionError("a representation has read the data")


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """One object of every class that users meet, from one small journey."""
    scan, _ = stemvane.synthetic((12, 12), (32, 32), dose=1e4)
    bare = replace(scan.recalibrate(optical_axis=None, disc_radius=None), expectation=None)
    measured = stemvane.measure(bare)
    run = make_run(tmp_path_factory.mktemp("runs") / "a run", field=True)
    config = run.config.replace(
        source={"path": "/x" * 2000}, training={"n_epochs": 3}, simulation={"structure": "MoS2"}
    )
    basis = HarmonicBasis.fit(measured)
    unread = da.from_array(Unreadable(), chunks=(1, 5, 16, 16), meta=np.empty((0,) * 4, np.uint16))
    choice = {"n_latent": 2, "seed": 0, "score": "evidence", "rule": "", "reason": "more do not pay"}
    model = stemvane.RotationVAE(n_latent=1, training=TrainingConfig(n_epochs=1)).fit(measured)
    return [
        *(getattr(stemvane, name)() for name in MODELS),
        model,
        model.embed(measured),
        stemvane.DefectAnalysis(None, np.zeros((12, 12))),
        scan.calibration,
        config,
        *(getattr(config, name) for name in type(config).model_fields),
        bare,
        Dataset4D(unread, name="a long name " * 20, atoms=run.measurements.atoms, path=run.path),
        run.embedding,
        stemvane.field_maps(run.measurements),
        stemvane.filter_com(run.measurements),
        stemvane.Aberrations(60.0, 0.4, 5.0, 0.3, 0.5, 0.99),
        basis,
        stemvane.align_rotation(basis.features(measured), basis),
        measured,
        measured.preparation,
        run.measurements,
        stemvane.PixelGrid(measured.grid.axis, 10 + 1 / 3, 16),
        measured.grid,
        run,
        run.measurements.atoms,
        ScanDefects(("N",), np.zeros((1, 2)), np.zeros(1), np.zeros(1, bool), np.zeros((1, 2)), np.zeros(1, int)),
        stemvane.find_rotation(run.measurements.deflection),
        stemvane.survey(bare),
        stemvane.simulate(scan_shape=(2, 3), detector_shape=(16, 16), dose=100.0, detector="analogue").truth,
        Sweep(
            Path("sweep"),
            {"n_latent": np.arange(7.0), "seed": np.zeros(7)},
            {"data": "a", "n_patterns": 1, "recommended": choice},
        ),
        stemvane.OnePass(measured, model.embed(measured), measured, np.ones((12, 12), bool), np.eye(12, dtype=bool)),
        stemvane.QuantityMap(np.zeros((2, 2)), np.ones((2, 2)), 4, {(0, 0): 1.0}, 0.5),
        stemvane.ImagePrediction(*np.zeros((2, 4, 4, 1)), *np.zeros((3, 4, 4)), 2),
        stemvane.VirtualDetector.disc("bright_field", (24, 24), (11.5, 11.5), 6.0),
    ]


# an exception shows its message
SHOWN_OTHERWISE = {"StemvaneError"}


def test_every_public_class_is_among_the_objects(objects):
    public = {name for name in stemvane.__all__ if inspect.isclass(getattr(stemvane, name))}
    assert public - {type(thing).__name__ for thing in objects} - SHOWN_OTHERWISE == set()


def test_every_object_prints_in_eight_lines_and_has_an_html_form(objects):
    for thing in objects:
        lines = repr(thing).splitlines()
        assert 1 <= len(lines) <= 8, type(thing)
        assert max(map(len, lines)) <= 120, type(thing)
        assert type(thing).__name__.casefold() in lines[0].replace(" ", "").casefold()
        html = thing._repr_html_()
        # one element, closed, without anything that is run
        ElementTree.fromstring(html)
        assert not re.search(r"<script|onerror|javascript:", html)


def test_findings_are_shown(objects):
    measured = next(thing for thing in objects if type(thing).__name__ == "Measurements")
    assert measured.origins["optical_axis"] == "found"
    assert measured.origins["pixel_size"] == "given"
    assert measured.origins["disc_radius"] == "computed"
    assert "optical axis found" in repr(measured)
    assert "px, found; radius" in repr(measured)
