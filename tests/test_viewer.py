"""The viewer's answers, its server and who may ask it."""

import base64
import gzip
import hashlib
import json
import re
import shlex
import struct
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import dask.array as da
import h5py
import httpx2
import numpy as np
import pytest
from fake_run import make_run
from starlette.testclient import TestClient
from viewed_run import make_viewed_run

import stemvane as sv
from stemvane import Dataset4D, save_dataset, synthetic
from stemvane.data.signals import maps_of
from stemvane.errors import ConfigError, DataError, RunError
from stemvane.models.kind_labels import read_labels
from stemvane.reduction.virtual_detectors import VirtualDetector
from stemvane.runs.annotations import ANNOTATIONS, read_annotations, write_annotations
from stemvane.runs.detector_maps import DETECTOR_MAPS
from stemvane.viewer.answers import Answers
from stemvane.viewer.bundle import bundle_modules, bundled, static_files
from stemvane.viewer.changes import rerun_with
from stemvane.viewer.detector_bins import bin_dataset
from stemvane.viewer.detector_shapes import SHAPES, DetectorShape, preset_shapes
from stemvane.viewer.notebook_widget import Conversation, viewer_widget
from stemvane.viewer.recipes import notebook_of, python_of
from stemvane.viewer.report_page import report_html, write_report
from stemvane.viewer.scene import Scene
from stemvane.viewer.selections import inside_polygon, mean_patterns, select_positions
from stemvane.viewer.serving import RunWatch, ViewServer, scenes_of
from stemvane.viewer.web import LOOPBACK, web_app
from stemvane.viewer.wire import code_array, decode_message, encode_message

TOKEN = "a-token-of-the-tests"
EVIL = "<script>alert(1)</script>"


def ask(answers, question, **values):
    """Last message of an answer: its header and arrays."""
    *_, last = answers.answer(0, question, values)
    return decode_message(last)


def wait_for(scene):
    scene._survey()
    scene._bin()
    scene.progress.clear()
    return scene


@pytest.fixture(scope="module")
def scan():
    """A small recorded scan with bad pixels, of counts."""
    rng = np.random.default_rng(0)
    dataset, _ = synthetic((9, 12), (20, 16), dose=5e3)
    bad = np.zeros((20, 16), bool)
    bad[3, 4] = bad[10, 9] = True
    frames = np.asarray(dataset.data).round().astype(np.uint16)
    frames[:, :, bad] = rng.integers(1000, 2000, (9, 12, 2))
    return replace(Dataset4D.from_array(frames, calibration=dataset.calibration, name="scan"), bad_pixels=bad)


@pytest.fixture(scope="module")
def measured_run(tmp_path_factory):
    """A run of a file, with a model, as the pipeline makes it."""
    return make_viewed_run(tmp_path_factory.mktemp("viewed"))


@pytest.fixture(scope="module")
def run_scene(measured_run):
    scene = wait_for(Scene.of_run(measured_run))
    scene._load_model()
    return scene


# The wire --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "u2", "i8", "f4", "f8", "?"])
def test_arrays_travel_as_codes(dtype):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2 if dtype == "?" else 200, (5, 7)).astype(dtype)
    header, arrays = decode_message(encode_message([code_array("a", values, "px")], word="é<"))
    assert header["word"] == "é<"
    assert header["arrays"][0]["unit"] == "px"
    exact = values.dtype.kind in "uib"
    assert header["arrays"][0]["bits"] == (8 if exact else 16)
    tolerance = 0 if exact else np.ptp(values.astype(float)) / 65534
    assert np.abs(arrays["a"] - values.astype(float)).max() <= tolerance


def test_missing_values_stay_missing_and_large_counts_are_exact():
    _, arrays = decode_message(
        encode_message([code_array("f", [[1.5, np.nan], [np.inf, -3]]), code_array("n", [[65534, 0]])])
    )
    assert np.isnan(arrays["f"]).tolist() == [[False, True], [True, False]]
    assert arrays["f"][0, 0] == pytest.approx(1.5, abs=1e-4)
    assert arrays["n"].tolist() == [[65534, 0]]
    for empty in ([[np.nan]], [[2.0, 2.0]]):
        np.testing.assert_array_equal(decode_message(encode_message([code_array("e", empty)]))[1]["e"], empty)


# Virtual detectors -----------------------------------------------------------------------------------------------


def test_shapes_cover_their_areas():
    size = (40, 50)
    centre = {"y": 19.3, "x": 25.2}
    areas = {
        "point": 1,
        "disc": np.pi * 9**2,
        "annulus": np.pi * (9**2 - 4**2),
        "rectangle": 4 * 4 * 9,
        "wedge": np.pi * (9**2 - 4**2) / 4,
    }
    for shape in SHAPES:
        made = DetectorShape.from_dict({"shape": shape, "inner": 4, "outer": 9, "start": 30, "stop": 120, **centre})
        for exact, tolerance in ((True, 0.01), (False, 0.03)):
            assert made.weights(size, exact=exact).sum() == pytest.approx(areas[shape], rel=tolerance), shape
        assert DetectorShape.from_dict(made.to_dict()) == made
    up = DetectorShape("wedge", 20, 25, 2, 9, 45, 135).weights(size)
    assert up[:20].sum() > 0.99 * up.sum()  # counter-clockwise on the screen: 90° is up


def test_shapes_refuse_what_encloses_nothing():
    for values in (
        {"shape": "star", "y": 1, "x": 1},
        {"shape": "disc", "x": 1},
        {"shape": "disc", "y": 1, "x": "one"},
        {"shape": "disc", "y": 1, "x": float("nan")},
        {"shape": "annulus", "y": 1, "x": 1, "inner": 5, "outer": 2},
        {"shape": "disc", "y": 1, "x": 1, "signal": "median"},
    ):
        with pytest.raises(DataError, match=";"):
            DetectorShape.from_dict(values)


def test_presets_lie_at_the_disc(scan):
    presets = preset_shapes(scan.calibration.replace(optical_axis=(10.0, 7.0), disc_radius=4.0), (20, 16))
    assert (presets["BF"].y, presets["BF"].x, presets["BF"].outer) == (10, 7, 4)
    assert presets["ADF"].inner > presets["BF"].outer
    assert presets["ADF"].outer == 7.5
    assert presets["COM"].signal == "com"


def test_bins_of_a_data_set_sum_every_good_pixel(scan):
    seen = []
    bins = bin_dataset(scan, lambda bins, done, moments: seen.append((done, moments)) or True)
    frames = np.where(scan.bad_pixels, 0, np.asarray(scan.data)).astype(float)
    assert bins.is_complete
    np.testing.assert_allclose(bins.respond(np.ones((20, 16))), frames.sum(axis=(2, 3)), rtol=1e-5)
    assert seen[-1][0] == 1
    np.testing.assert_allclose(seen[-1][1][0], frames.sum(axis=(2, 3)))
    np.testing.assert_allclose(seen[-1][1][2], (frames * np.arange(16)).sum(axis=(2, 3)))


def test_coarse_bins_answer_nearly_as_every_pixel_does(monkeypatch):
    dataset, _ = synthetic((8, 8), (64, 48), dose=1e5)
    monkeypatch.setattr("stemvane.viewer.detector_bins._MOST_BINS", 300)
    bins = bin_dataset(dataset, lambda *_: True)
    assert bins.n_bins <= 300
    shape = DetectorShape("annulus", 31, 23, 8, 20)
    signal = bins.respond(shape.weights((64, 48), exact=False))
    exact = (np.asarray(dataset.data) * shape.weights((64, 48))).sum(axis=(2, 3))
    assert np.abs(signal - exact).max() < 0.02 * exact.mean()


def test_work_ends_where_nobody_waits(scan):
    bins = bin_dataset(scan, lambda *_: False)
    assert np.isnan(bins.respond(np.ones((20, 16)))).any() or bins.is_complete


# Selections ------------------------------------------------------------------------------------------------------


def test_polygons_hold_what_lies_in_them():
    y, x = np.indices((7, 7), dtype=float)
    square = inside_polygon(y, x, [(0.5, 0.5), (0.5, 3.5), (3.5, 3.5), (3.5, 0.5)])
    assert square[1:4, 1:4].all()
    assert square.sum() == 9
    bow = inside_polygon(y, x, [(0.5, 0.5), (5.5, 5.5), (0.5, 5.5), (5.5, 0.5)])
    assert bow[2, 1] == bow[2, 5]
    assert not bow[1, 3]


def test_every_kind_of_selection(run_scene):
    rows, columns = run_scene.scan_shape
    box = select_positions(run_scene, {"kind": "rectangle", "space": "scan", "points": [[4.4, 6.6], [0.6, 2.4]]})
    assert box[1:5, 3:7].all()
    assert box.sum() == 16
    latents = run_scene.embedding.latents
    low, high = np.quantile(latents[..., 0], (0.2, 0.7))
    lasso = [[-99, low], [99, low], [99, high], [-99, high]]
    for selection in (
        {"kind": "lasso", "space": "latents", "points": lasso, "axes": [0, 1]},
        {"kind": "range", "map": "latent_1", "low": float(low), "high": float(high)},
    ):
        mask = select_positions(run_scene, selection)
        inside = (latents[..., 0] >= low) & (latents[..., 0] <= high)
        assert (mask == inside).mean() > 0.97
    point = select_positions(run_scene, {"kind": "points", "points": [[2, 3], [rows, columns]]})
    assert np.argwhere(point).tolist() == [[2, 3]]


def test_selections_refuse_what_is_none(run_scene):
    for selection in (
        {},
        {"kind": "lasso", "points": "here"},
        {"kind": "lasso", "points": [[0, 0]] * 5000},
        {"kind": "lasso", "points": [[0, float("inf")]]},
        {"kind": "lasso", "points": [[0, 0], [1, 1], [2, 0]], "space": "latents", "axes": [0, 9]},
        {"kind": "range", "map": EVIL, "low": 0, "high": 1},
        {"kind": "range", "map": "latent_1", "low": "0", "high": 1},
    ):
        with pytest.raises(DataError, match=";"):
            select_positions(run_scene, selection)


def test_means_are_those_of_the_selected_patterns(scan):
    scene = Scene.of_dataset(scan)
    mask = np.zeros((9, 12), bool)
    mask[2:5, 1:8] = True
    *_, mean = mean_patterns(scene, mask)
    expected = np.asarray(scan.data)[mask].mean(axis=0)
    np.testing.assert_allclose(mean.plain[~scan.bad_pixels], expected[~scan.bad_pixels])
    assert np.isnan(mean.plain[scan.bad_pixels]).all()
    assert mean.rotated is None
    assert mean.n == 21
    with pytest.raises(DataError, match="nothing is selected"):
        list(mean_patterns(scene, np.zeros((9, 12), bool)))


def test_patterns_rotated_back_agree_better_than_as_they_are():
    """One pattern at many angles: the plain mean is blurred, the rotated one is the pattern."""
    dataset, truth = synthetic((8, 8), (32, 32))
    measured = sv.measure(dataset)
    angle = truth.angle if hasattr(truth, "angle") else np.asarray(truth[0])
    embedding = sv.Embedding(
        latents=np.zeros((8, 8, 0)),
        latent_std=np.zeros((8, 8, 0)),
        angle=angle,
        angle_std=np.zeros((8, 8)),
        angle_posterior=np.ones((8, 8, 1)),
        log_evidence=np.zeros((8, 8)),
    )
    scene = Scene.of_measurements(measured, embedding)
    *_, mean = mean_patterns(scene, np.ones((8, 8), bool))
    ring = np.isfinite(mean.plain) & np.isfinite(mean.rotated)
    assert np.nanstd(mean.rotated[ring]) > np.nanstd(mean.plain[ring])


# Answers ---------------------------------------------------------------------------------------------------------


def test_a_run_answers_everything(run_scene, measured_run):
    answers = Answers([run_scene])
    header, _ = ask(answers, "scene")
    assert header["scan_shape"] == [12, 10]
    assert header["pattern_source"] == "recorded"
    assert header["model"] == "ready"
    assert {"com", "angle", "latent_1", "annular_dark_field"} <= {entry["name"] for entry in header["maps"]}
    for entry in header["maps"]:
        shown, arrays = ask(answers, "map", name=entry["name"])
        assert shown["kind"] == entry["kind"]
        assert arrays["values"].shape == (12, 10)
        assert ("strength" in arrays) == (entry["kind"] == "vector")
    _, arrays = ask(answers, "map", name="latent_1")
    np.testing.assert_allclose(arrays["values"], measured_run.embedding.latents[..., 0], atol=1e-3)
    header, arrays = ask(answers, "pattern", y=3, x=4)
    np.testing.assert_array_equal(arrays["pattern"], run_scene.dataset.pattern(3, 4))
    assert header["source"] == "recorded"
    header, arrays = ask(answers, "model", y=3, x=4)
    assert header["latents"] == pytest.approx(measured_run.embedding.latents[3, 4].tolist())
    seen = run_scene.polar_drawn(run_scene.polar_pattern(3, 4))
    np.testing.assert_allclose(arrays["decoded"] + arrays["residual"], seen, atol=1e-3 * np.nanmax(seen))
    _, arrays = ask(answers, "latents")
    assert len(arrays) == measured_run.embedding.n_latent
    _, arrays = ask(answers, "decode", latents=header["latents"], angle=0.5)
    model = sv.load_model(measured_run.model_path)
    np.testing.assert_allclose(
        arrays["decoded"], model.decode(header["latents"], 0.5), atol=1e-4 * np.nanmax(arrays["decoded"])
    )
    header, arrays = ask(answers, "manifold")
    assert arrays["manifold"].shape == measured_run.manifold.shape
    header, _ = ask(answers, "status")
    assert header["gone"] == ""


def test_dragged_and_exact_detectors_agree(run_scene):
    answers = Answers([run_scene])
    shape = {"shape": "annulus", "y": 11.5, "x": 11.5, "inner": 3, "outer": 8}
    _, quick = ask(answers, "detector", **shape)
    header, exact = ask(answers, "exact", **shape)
    weights = VirtualDetector.annulus("a", (24, 24), (11.5, 11.5), 3, 8).weights
    expected = (np.asarray(run_scene.dataset.data) * weights).sum(axis=(2, 3))
    np.testing.assert_allclose(exact["values"], expected, atol=np.ptp(expected) / 6e4)
    assert header["exact"]
    assert np.corrcoef(quick["values"].ravel(), expected.ravel())[0, 1] > 0.99
    assert np.abs(quick["values"] - expected).max() < 0.05 * expected.mean()
    header, arrays = ask(answers, "exact", shape="disc", y=11.5, x=11.5, outer=11, signal="com")
    assert header["kind"] == "vector"
    away = np.abs(np.angle(np.exp(1j * (arrays["values"] - run_scene.measurements.com_angle))))
    assert np.median(away) < 0.2


def test_a_run_without_its_file_is_drawn_from_polar_samples(tmp_path):
    scene = wait_for(Scene.of_run(make_run(tmp_path / "run")))
    answers = Answers([scene])
    header, _ = ask(answers, "scene")
    assert header["pattern_source"] == "polar"
    _, arrays = ask(answers, "pattern", y=1, x=2)
    expected = scene.measurements.grid.to_cartesian(scene.measurements.polar[1, 2], (32, 32))
    np.testing.assert_allclose(arrays["pattern"], expected, atol=1e-2)
    shape = {"shape": "disc", "y": 15.5, "x": 15.5, "outer": 9}
    _, quick = ask(answers, "detector", **shape)
    _, exact = ask(answers, "exact", **shape)
    np.testing.assert_allclose(quick["values"], exact["values"], rtol=0.03)
    assert "no model" in ask(answers, "decode", latents=[0, 0])[0]["error"]
    header, arrays = ask(answers, "select", selection={"kind": "points", "points": [[1, 2]]})
    np.testing.assert_allclose(arrays["plain"], expected, atol=1e-2)
    assert "rotated" in arrays


def test_a_file_shows_maps_of_what_has_been_read(scan):
    scene = Scene.of_dataset(scan)
    version = scene.version
    assert np.isnan(scene.maps["total"].values).all()
    wait_for(scene)
    assert scene.version > version
    good = np.where(scan.bad_pixels, 0, np.asarray(scan.data)).astype(float)
    total = good.sum(axis=(2, 3))
    np.testing.assert_array_equal(scene.maps["total"].values, total)
    axis = scene.calibration.optical_axis or (9.5, 7.5)
    pixel = scan.calibration.pixel_size or (1, 1)
    com_x = ((good * np.arange(16)).sum(axis=(2, 3)) / total - axis[1]) * pixel[1]
    com_y = ((good * np.arange(20)[:, None]).sum(axis=(2, 3)) / total - axis[0]) * pixel[0]
    length = np.hypot(com_y - com_y.mean(), com_x - com_x.mean())
    np.testing.assert_allclose(scene.maps["com"].strength, length, atol=1e-9)
    assert {"annular_dark_field", "bright_field"} <= set(scene.maps)


@pytest.mark.parametrize(
    ("question", "values"),
    [
        ("nonsense", {}),
        ("map", {"name": "../../etc/passwd"}),
        ("map", {}),
        ("pattern", {"y": 99, "x": 0}),
        ("pattern", {"y": -1, "x": 0}),
        ("pattern", {"y": "a", "x": 0}),
        ("pattern", {"y": 1e400, "x": 0}),
        ("decode", {"latents": ["x"]}),
        ("decode", {"latents": [1, 2, 3, 4, 5]}),
        ("detector", {"shape": "disc"}),
        ("select", {"selection": 5}),
        ("python", {}),
        ("annotate", {"annotations": {"labels": [{"name": ""}]}}),
        ("open_newest", {}),
    ],
)
def test_bad_questions_get_one_line(run_scene, question, values):
    header, _ = ask(Answers([run_scene]), question, **values)
    assert header["error"]
    assert "\n" not in header["error"]


def test_a_run_that_is_removed_says_so(tmp_path):
    run = make_run(tmp_path / "run")
    answers = Answers([wait_for(Scene.of_run(run))])
    assert "error" not in ask(answers, "map", name="com")[0]
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    for question, values in (
        ("map", {"name": "com"}),
        ("pattern", {"y": 1, "x": 1}),
        ("annotate", {"annotations": {}}),
    ):
        header, _ = ask(answers, question, **values)
        assert "removed or replaced" in header["error"]
        assert header["gone"]
    assert "removed or replaced" in ask(answers, "status")[0]["gone"]
    assert not (tmp_path / "run").exists()


# Scripts, files and labels ---------------------------------------------------------------------------------------


def recipe_state(signal):
    return {
        "map": "latent_1",
        "cursor": [3, 4],
        "detector": {"shape": "annulus", "y": 11.0, "x": 12.0, "inner": 3.0, "outer": 8.0, "signal": signal},
        "selection": {"kind": "lasso", "space": "scan", "points": [[0.0, 0.0], [0.0, 7.5], [6.3, 4.1]]},
    }


@pytest.mark.parametrize("kind", ["run", "polar", "file"])
@pytest.mark.parametrize("signal", ["sum", "com"])
def test_the_script_makes_what_is_on_the_screen(tmp_path, measured_run, kind, signal):
    if kind == "run":
        scene = Scene.of_run(measured_run)
    elif kind == "polar":
        scene = Scene.of_run(make_run(tmp_path / EVIL.replace("/", "")))
    else:
        scene = Scene.of_dataset(sv.open_dataset(measured_run.config.source.path))
    state = recipe_state(signal)
    if kind == "file":
        state["map"] = "total"
        wait_for(scene)
    made = {}
    exec(compile(python_of(scene, state), "recipe", "exec"), made)
    answers = Answers([scene])
    shown = {
        "shown_map": ask(answers, "map", name=state["map"])[1]["values"],
        "pattern": ask(answers, "pattern", y=3, x=4)[1]["pattern"],
        "detector_map": ask(answers, "exact", **state["detector"])[1]["values"],
        **{
            name: ask(answers, "select", selection=state["selection"])[1][word]
            for name, word in (("selected", "mask"), ("mean_pattern", "plain"))
        },
    }
    for name, expected in shown.items():
        np.testing.assert_allclose(made[name], expected, atol=2e-5 * np.ptp(expected[np.isfinite(expected)]) + 1e-12)
    cells = json.loads(notebook_of(scene, state))["cells"]
    code = "\n\n".join(cell["source"] for cell in cells if cell["cell_type"] == "code") + "\n"
    assert code == python_of(scene, state)


def test_scans_of_nowhere_have_no_script(scan):
    with pytest.raises(DataError, match="no script can open it"):
        python_of(Scene.of_dataset(scan), {"map": "total"})


def test_a_selection_is_saved_as_hdf5(run_scene):
    selection = {"kind": "rectangle", "space": "scan", "points": [[1, 1], [3, 4]]}
    header, _ = ask(Answers([run_scene]), "export", selection=selection)
    *_, message = Answers([run_scene]).answer(0, "export", {"selection": selection})
    (length,) = struct.unpack_from("<I", message)
    entry = json.loads(message[4 : 4 + length])["arrays"][0]
    content = message[4 + length :][: entry["shape"][0]]
    assert re.fullmatch(r"[\w-]+\.h5", header["file"])
    with h5py.File(BytesIO(content)) as file:
        assert file["mask"][...].sum() == 12
        assert file["maps/latent_1"].shape == (12,)
        assert file["maps/com"].attrs["unit"] == "rad"
        assert json.loads(file.attrs["selection"]) == selection
        assert file["mean_pattern"].shape == (24, 24)


def test_labels_are_stored_in_the_run(tmp_path):
    run = make_run(tmp_path / "run")
    before = (tmp_path / "run" / "checksums.sha256").read_text()
    marks = {
        "labels": [{"name": EVIL, "selection": {"kind": "points", "points": [[1, 2]]}, "more": 1}],
        "detectors": [{"name": "mine", "detector": {"shape": "disc", "y": 1.0, "x": 2.0, "outer": 3.0}}],
    }
    header, _ = ask(Answers([Scene.of_run(run)]), "annotate", annotations=marks)
    assert header["annotations"]["labels"] == [{"name": EVIL, "selection": marks["labels"][0]["selection"]}]
    opened = sv.Run.open(tmp_path / "run")
    assert read_annotations(opened) == header["annotations"]
    assert (tmp_path / "run" / "checksums.sha256").read_text() == before
    (tmp_path / "run" / ANNOTATIONS).write_text("[]")
    with pytest.raises(RunError, match="damaged"):
        read_annotations(opened)
    for wrong in ({"labels": "x"}, {"labels": [{"name": "a"}]}, {"labels": [{"name": "a" * 201, "selection": {}}]}):
        with pytest.raises(DataError, match=";"):
            write_annotations(opened, wrong)
    deep = {"a": {}}
    for _ in range(6):
        deep = {"a": deep}
    with pytest.raises(DataError, match="mark it again"):
        write_annotations(opened, {"labels": [{"name": "a", "selection": deep}]})


def test_labels_are_a_file_that_a_model_of_kinds_takes(tmp_path):
    run = make_run(tmp_path / "run")
    points = {"kind": "points", "space": "scan", "points": [[1, 2], [0, 3]]}
    box = {"kind": "rectangle", "space": "scan", "points": [[2, 0], [3, 1]]}
    labels = [{"name": "film, thin", "selection": points}, {"name": "support", "selection": box}]
    write_annotations(run, {"labels": labels})
    (message,) = Answers([Scene.of_run(run)]).answer(0, "labels", {})
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    file = tmp_path / header["file"]
    file.write_bytes(message[4 + length :][: header["arrays"][0]["shape"][0]])
    found = read_labels(file)
    assert found == {"film, thin": [(0, 3), (1, 2)], "support": [(2, 0), (2, 1), (3, 0), (3, 1)]}


def test_a_kept_detector_is_a_map_of_the_run(tmp_path):
    run = make_run(tmp_path / "run")
    answers = Answers([Scene.of_run(run)])
    disc = {"shape": "disc", "y": 11.5, "x": 11.5, "outer": 5.0}
    header, _ = ask(answers, "keep", name="Inner <disc>, 5 px", detector=disc)
    assert header["annotations"]["detectors"] == [{"name": "Inner <disc>, 5 px", "detector": disc}]
    assert "Inner_disc_5_px" in [each["name"] for each in header["maps"]]
    shown = ask(answers, "map", name="Inner_disc_5_px")
    exact = ask(answers, "exact", **disc)
    np.testing.assert_array_equal(shown[1]["values"], exact[1]["values"])
    ask(answers, "keep", name="centre", detector={**disc, "signal": "com"})
    larger = {**disc, "outer": 8.0}
    ask(answers, "keep", name="Inner <disc>, 5 px", detector=larger)
    opened = sv.Run.open(tmp_path / "run")
    assert [each["name"] for each in read_annotations(opened)["detectors"]] == ["centre", "Inner <disc>, 5 px"]
    maps, units = opened.measurements.maps, opened.measurements.units
    assert {"centre_y", "centre_x"} < set(maps)
    assert units["Inner_disc_5_px"] == "counts"
    np.testing.assert_allclose(maps["Inner_disc_5_px"], ask(answers, "exact", **larger)[1]["values"], rtol=1e-2)
    assert any(signal.name == "Inner_disc_5_px" for signal in maps_of(opened))
    (message,) = Answers([Scene.of_run(opened)]).answer(0, "keep", {"name": "bright field", "detector": disc})
    assert b"bright_field" in message
    assert b"choose another name" in message
    (tmp_path / "run" / DETECTOR_MAPS).write_bytes(b"PK")
    with pytest.raises(RunError, match="keep the detectors again"):
        _ = sv.Run.open(tmp_path / "run").measurements


def test_another_run_takes_what_was_changed(run_scene, tmp_path, monkeypatch, without_figures):
    answers = Answers([run_scene])
    changes = {
        "axis": [11.25, 12.5],
        "radius": 6.5,
        "pixels": [[3, 4], [99, 99]],
        "positions": [{"kind": "rectangle", "space": "scan", "points": [[0, 0], [1, 9]]}],
    }
    header, _ = ask(answers, "rerun", changes=changes)
    rerun = rerun_with(run_scene, changes)
    assert header["words"] == [shlex.quote(rerun.path), "run_again", rerun.name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / rerun.name).write_text(rerun.settings)
    for name, content in rerun.masks.items():
        (tmp_path / name).write_bytes(content)
    config = sv.Config.from_toml(tmp_path / rerun.name)
    assert config.source.optical_axis == (11.25, 12.5)
    assert config.source.path == rerun.path
    again = sv.run_pipeline(config.replace(training={"n_epochs": 1}), tmp_path / "again").measurements
    assert again.calibration.disc_radius == 6.5
    assert again.bad_pixels[3, 4]
    assert not again.recorded[:2].any()
    assert again.recorded[2:].all()
    # what was left out is seen to be missing when that run is opened
    scene = Scene.of_run(sv.Run.open(tmp_path / "again"))
    assert np.isnan(scene.pattern(5, 5)[3, 4])
    for wrong in ({"axis": "here"}, {"radius": -1}, {"pixels": [[float("nan"), 1]]}, {"positions": [3]}):
        with pytest.raises(DataError, match=";"):
            rerun_with(run_scene, wrong)


def test_another_run_reads_the_scan_from_any_folder(run_scene, tmp_path, monkeypatch):
    path = Path(run_scene.run.config.source.path)
    monkeypatch.chdir(path.parent)
    source = run_scene.run.config.source.model_copy(update={"path": path.name})
    config = run_scene.run.config.model_copy(update={"source": source})
    monkeypatch.setattr(type(run_scene.run), "config", property(lambda self: config))
    rerun = rerun_with(run_scene, {})
    assert rerun.path == str(path)
    assert str(path) in rerun.settings


def test_scans_that_were_flipped_are_shown_as_they_were_measured(tmp_path, without_figures):
    dataset, _ = synthetic((6, 8), (24, 20), dose=2e4)
    save_dataset(dataset, tmp_path / "scan.zarr")
    config = sv.Config().replace(
        source={"path": str(tmp_path / "scan.zarr")},
        preparation={"flip_y": True, "scan_region": (0, 5, 1, 7)},
        training={"n_epochs": 1},
        compare={"n_turned": 4},
    )
    scene = Scene.of_run(sv.run_pipeline(config, tmp_path / "run"))
    np.testing.assert_array_equal(scene.pattern(2, 3), dataset.pattern(2, 4)[::-1])
    with pytest.raises(DataError, match="flipped, cropped or binned"):
        rerun_with(scene, {})


# Who may ask -----------------------------------------------------------------------------------------------------


@pytest.fixture
def client(run_scene):
    return TestClient(web_app(Answers([run_scene]), TOKEN, [*LOOPBACK, "hub.example"]), base_url="http://127.0.0.1")


def test_the_token_opens_the_page_and_its_cookie_the_rest(client):
    assert client.get("/").status_code == 401
    assert client.post("/api/0/scene", json={}).status_code == 401
    assert client.get("/static/main.js").status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.get("/?token=%ff%00é").status_code == 401
    page = client.get(f"/?token={TOKEN}")
    assert page.status_code == 200
    cookie = page.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/static/main.js").headers["content-type"].startswith("text/javascript")
    answer = client.post("/api/0/scene", json={})
    (length,) = struct.unpack_from("<I", answer.content)
    header, _ = decode_message(answer.content[4 : 4 + length])
    assert header["scan_shape"] == [12, 10]


def test_every_answer_forbids_scripts_of_others(client):
    for answer in (client.get("/"), client.get(f"/?token={TOKEN}"), client.get("/nothing"), client.get("/static/x.js")):
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    page = static_files()["index.html"].decode()
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|javascript:", page)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:80"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "user@127.0.0.1"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": ""}, 403),
        ({"host": "localhost:9999"}, 200),
        ({"host": "hub.example", "origin": "http://hub.example"}, 200),
        ({"host": "[::1]:8765"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8765"}, 403),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_only_our_own_pages_may_ask(client, headers, status):
    client.get(f"/?token={TOKEN}")
    assert client.post(f"/api/0/status?token={TOKEN}", json={}, headers=headers).status_code == status


def test_names_in_addresses_reach_no_file(client):
    client.get(f"/?token={TOKEN}")
    for name in ("../web.py", "..%2fweb.py", "%2e%2e/web.py", "/etc/passwd", "main.js%00", "index.html/../../web.py"):
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 404, name
        assert "def " not in answer.text


def test_only_short_json_is_a_question(client):
    client.get(f"/?token={TOKEN}")
    assert client.post("/api/0/scene", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/api/0/scene", content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert client.post("/api/0/scene", json=[1]).status_code == 400
    deep = b'{"a":' + b"[" * 100_000
    assert client.post("/api/0/scene", content=deep, headers={"content-type": "application/json"}).status_code == 400
    assert client.post("/api/0/scene", json={"a": "b" * 5_000_000}).status_code == 413
    assert client.get("/api/0/scene").status_code == 405


def test_nothing_but_labels_is_ever_written(client, measured_run):
    """Every question is asked, and the run's folder is as before."""
    client.get(f"/?token={TOKEN}")
    files = {path: path.read_bytes() for path in measured_run.path.rglob("*") if path.is_file()}
    for question in Answers([]).questions:
        if question != "annotate":
            client.post(f"/api/0/{question}", json={"y": 1, "x": 1, "name": "com", "selection": {}, "state": {}})
    assert {path: path.read_bytes() for path in measured_run.path.rglob("*") if path.is_file()} == files


def test_words_of_files_become_text_never_markup():
    for name, content in static_files().items():
        if name.endswith(".js"):
            code = content.decode()
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc", code
            ), name
            assert "http://" not in code.replace("http://www.w3.org/2000/svg", ""), name


def test_other_machines_need_a_token_of_the_users():
    with pytest.raises(ConfigError, match="token"):
        ViewServer(Answers([]), host="0.0.0.0")
    with pytest.raises(ConfigError, match="guessed"):
        ViewServer(Answers([]), token="short")
    first = ViewServer(Answers([]))
    with pytest.raises(ConfigError, match="another port"):
        ViewServer(Answers([]), port=first.port)
    second = ViewServer(Answers([]))
    assert second.port != first.port
    assert len(first.token) >= 32
    assert first.token != second.token
    for server in (first, second):
        server._socket.close()


def test_a_client_that_goes_away_ends_its_work():
    """Every block takes a while; after the client has left, hardly any more is read."""
    read = []

    def slow(block, block_info=None):
        read.append(block_info[0]["array-location"][0][0])
        time.sleep(0.03)
        return block

    patterns = da.ones((60, 4, 16, 16), chunks=(1, 4, 16, 16), dtype=np.uint8).map_blocks(slow, dtype=np.uint8)
    server = ViewServer(Answers([Scene.of_dataset(Dataset4D(patterns))]))
    server.start()
    try:
        with httpx2.Client(base_url=server.address.partition("/?")[0]) as client:
            client.get(f"/?token={server.token}")
            question = {"shape": "disc", "y": 7, "x": 7, "outer": 4}
            with client.stream("POST", "/api/0/exact", json=question) as answer:
                next(answer.iter_raw())
            n = len(read)
            time.sleep(0.5)
            assert len(read) < n + 12
            assert len(read) < 60
            # and others are answered meanwhile and afterwards
            assert client.post("/api/0/status", json={}).status_code == 200
    finally:
        server.stop()


# What is opened --------------------------------------------------------------------------------------------------


def test_runs_files_and_folders_are_opened(tmp_path, measured_run):
    scenes, watch = scenes_of([measured_run.path, measured_run.path], lambda path: None)
    assert [scene.name for scene in scenes] == ["run", "run"]
    assert watch is None
    scenes, _ = scenes_of([tmp_path / "scan.mib"], lambda path: synthetic((3, 3), (16, 16))[0])
    assert scenes[0].dataset is not None
    make_run(tmp_path / "first")
    scenes, watch = scenes_of([tmp_path], lambda path: None)
    assert scenes[0].name == "first"
    assert watch.newer() == ""
    run = make_run(tmp_path / "second")
    manifest = json.loads((run.path / "manifest.json").read_text())
    (run.path / "manifest.json").write_text(json.dumps(manifest | {"finished": "2999-01-01T00:00:00+00:00"}))
    assert watch.newer() == "second"
    answers = Answers(scenes, watch)
    assert ask(answers, "status")[0]["newest"] == "second"
    answers.scenes[0].close()
    watch._verify = False
    assert ask(answers, "open_newest")[0]["scene"] == 1
    assert ask(answers, "status")[0]["newest"] == ""
    with pytest.raises(RunError, match="another folder"):
        RunWatch(tmp_path / "nothing").open()
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="an empty folder; give a run"):
        scenes_of([tmp_path / "empty"], lambda path: None)


def test_the_command_serves_and_says_where(call, measured_run, monkeypatch):
    served = []
    monkeypatch.setattr(ViewServer, "run", lambda server: served.append(server))
    monkeypatch.setattr(Scene, "start", lambda scene: None)
    monkeypatch.setenv("SSH_CONNECTION", "1")
    code, out, _ = call("view", measured_run.path, "--no-browser")
    assert code == 0
    (server,) = served
    assert server.address in out
    assert f"ssh -L {server.port}:127.0.0.1:{server.port}" in out
    server._socket.close()
    code, _, err = call("view", "missing.mib", "--no-browser")
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    code, _, err = call("view", measured_run.path, "--host", "0.0.0.0", "--no-browser")
    assert code == 1
    assert "token" in err


# Reports and notebooks -------------------------------------------------------------------------------------------


def carried(html):
    """Messages that a report carries, by what they answer."""
    text = re.search(r'<script id="answers" type="text/plain">(.*?)</script>', html, re.DOTALL)[1]
    content, messages = gzip.decompress(base64.b64decode(text)), {}
    while content:
        (length,) = struct.unpack_from("<I", content)
        header, arrays = decode_message(content[4 : 4 + length])
        messages[header["answer"]] = header, arrays
        content = content[4 + length :]
    return messages


def test_a_report_carries_what_the_run_shows(measured_run, tmp_path, call):
    html = report_html(measured_run)
    assert len(html) < 8e6
    messages = carried(html)
    np.testing.assert_allclose(messages["map:latent_1"][1]["values"], measured_run.embedding.latents[..., 0], atol=1e-3)
    header, arrays = messages["patterns"]
    y, x = header["positions"][5]
    np.testing.assert_allclose(arrays["patterns"][5], Scene.of_run(measured_run).pattern(y, x), atol=0.01)
    assert f"{measured_run.metrics['explained_variance']:.3f}" in html
    for script in re.findall(r"<script(?: type=\"module\")?>(.*?)</script>", html, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"sha256-{digest}" in html
    code, out, _ = call("report", measured_run.path, "-o", tmp_path / "report.html")
    assert (code, out.strip()) == (0, str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_text() == html
    with pytest.raises(RunError, match="a folder"):
        write_report(measured_run, tmp_path)


def test_a_report_of_large_patterns_is_binned(tmp_path):
    run = make_run(tmp_path / "a<b>&", detector=(70, 64), known={"pixel_size": (1.0, 1.0)})
    html = report_html(run)
    assert "<b>" not in html
    messages = carried(html)
    header, _ = messages["scene"]
    assert header["detector_shape"] == [23, 21]
    assert header["calibration"]["pixel_size"] == [3, 3]
    assert header["calibration"]["optical_axis"] == pytest.approx([(34.5 - 1) / 3, (31.5 - 1) / 3])
    y, x = messages["patterns"][0]["positions"][3]
    pattern = Scene.of_run(run).pattern(y, x)[:69, :63].reshape(23, 3, 21, 3)
    whole = np.isfinite(pattern).all(axis=(1, 3))
    assert whole.sum() > 100
    means = np.where(np.isfinite(pattern), pattern, 0).mean(axis=(1, 3))
    np.testing.assert_allclose(messages["patterns"][1]["patterns"][3][whole], means[whole], atol=0.45)  # half a step


def test_modules_become_one_script():
    modules = {
        "one": 'import { b } from "./two.js";\nexport const a = b + 1;\nconst c = 3;\n',
        "two": "export const b = 1;\nconst c = 2;\n",
    }
    joined = bundle_modules(modules, "one")
    assert joined.index("module_two") < joined.index("module_one =")
    assert "import" not in joined
    assert "export" not in joined
    with pytest.raises(ValueError, match="circle"):
        bundle_modules(modules | {"two": 'import { a } from "./one.js";\n'}, "one")
    with pytest.raises(ValueError, match="not joined"):
        bundle_modules(modules | {"two": "export default 1;\n"}, "one")
    for entry in ("widget", "report"):
        assert f"const module_{entry} = " in bundled(entry)
        assert not re.search(r"^(import|export) ", bundled(entry), re.MULTILINE)


def test_a_notebook_is_answered_by_messages(run_scene):
    sent = []
    conversation = Conversation(Answers([run_scene]), lambda content, buffers: sent.append((content, buffers)))
    conversation.take("nonsense")
    conversation.take({"id": 1, "scene": 0, "question": "map", "values": {"name": "latent_1"}})
    conversation.take({"id": 2, "scene": "x", "question": None, "values": 3})
    conversation.take({"id": 3, "stop": True})
    conversation.take({"id": 3, "scene": 0, "question": "map", "values": {"name": "com"}})
    conversation._pool.shutdown()
    answers = {content["id"]: decode_message(buffers[0]) for content, buffers in sent if content["last"]}
    assert set(answers) == {1, 2}
    assert answers[1][1]["values"].shape == (12, 10)
    assert "error" in answers[2][0]


def test_objects_show_themselves_in_a_notebook(monkeypatch, measured_run, scan):
    monkeypatch.setattr(Scene, "start", lambda scene: None)
    measured, embedding = measured_run.measurements, measured_run.embedding
    for widget in (measured_run.view(), measured.view(), measured.view(embedding), scan.view()):
        assert "module_widget.render" in widget._esm
        assert ".stemvane" in widget._css
    with pytest.raises(DataError, match="cannot be viewed"):
        viewer_widget("run")
