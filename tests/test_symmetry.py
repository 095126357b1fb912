"""Small simulated scenes from patterns to defects, and the files and the figure that come of it."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from readable import assert_readable

import stemvane
from stemvane import RotationVAE, find_defects, measure, simulate, synthetic
from stemvane.cli.app import app
from stemvane.config import AlignConfig, BasisConfig, SymmetryConfig, TrainingConfig
from stemvane.data.embedding import Embedding
from stemvane.errors import DataError

DEFECTS = {"N": 1, "vacancy": 1}
# what is found hardly depends on latents and angles
QUICK = {"align": AlignConfig(max_order=3, n_iterations=10), "basis": BasisConfig(neighbours=False)}


def analysed(defects, dose):
    dataset = simulate(
        scan_shape=(48, 48),
        scan_extent=(14.4, 14.4),
        detector_shape=(48, 48),
        defects=defects,
        placement_seed=3,
        dose=dose,
    )
    measurements = measure(dataset)
    model = RotationVAE(n_latent=1, training=TrainingConfig(n_epochs=4), **QUICK).fit(measurements)
    embedding = model.embed(measurements)
    return measurements, embedding, find_defects(measurements, embedding)


@pytest.fixture(scope="module")
def broken():
    return analysed(DEFECTS, 1e5)


@pytest.fixture(scope="module")
def pristine():
    return analysed({}, 1e5)


def test_the_lattice_is_that_of_graphene(broken):
    vectors = broken[2].lattice.vectors
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 2.46, rtol=0.005)
    cosine = vectors[0] @ vectors[1] / np.linalg.norm(vectors, axis=1).prod()
    assert cosine == pytest.approx(-0.5, abs=0.01)


def test_atoms_are_where_they_are(pristine):
    measurements, _, analysis = pristine
    atoms = analysis.sites.positions[analysis.sites.is_atom]
    apart = np.linalg.norm(atoms[:, None] - measurements.atoms.positions, axis=-1).min(axis=1)
    assert apart.max() < 0.1


def test_every_defect_is_detected_and_nothing_else(broken):
    measurements, _, analysis = broken
    truth = measurements.atoms.defects
    apart = np.linalg.norm(analysis.defects.positions[:, None] - truth.positions, axis=-1)
    assert len(analysis.defects.p) == 2
    assert apart.min(axis=0).max() < 0.3
    assert analysis.defects.kinds.n_kinds == 2


def test_what_is_missing_is_an_atom(broken):
    measurements, _, analysis = broken
    truth = measurements.atoms.defects
    atoms = analysis.sites.positions[analysis.sites.is_atom]
    for kind, position in zip(truth.kinds, truth.positions, strict=True):
        scattering, deflection = analysis.content.excess[np.linalg.norm(atoms - position, axis=1).argmin(), :2]
        if kind == "vacancy":
            assert scattering == pytest.approx(-1, abs=0.35)
            assert deflection == pytest.approx(-1, abs=0.35)
        else:
            assert 0.15 < scattering < 0.5
            assert abs(deflection) < 0.15


def test_nothing_is_detected_in_a_pristine_sheet(pristine):
    analysis = pristine[2]
    assert len(analysis.defects.p) == 0
    assert analysis.defects.kinds.n_kinds == 0
    assert (analysis.p < 0.05).mean() < 0.2
    assert set(analysis.channels) == {"dark_field", "patterns"}
    for name, p in analysis.channels.items():
        assert np.nanmin(p) > 1e-4, name


def test_what_a_model_has_learned_decides_nothing(broken):
    measurements, embedding, analysis = broken
    other = replace(embedding, latents=-(embedding.latents**2), log_evidence=0 * embedding.log_evidence)
    again = find_defects(measurements, other)
    np.testing.assert_array_equal(again.p, analysis.p)
    np.testing.assert_array_equal(again.owner, analysis.owner)


def test_rotations_wind_round_atoms_and_hollows(pristine):
    analysis = pristine[2]
    assert np.nanmean(analysis.winding) > 0.95
    assert analysis.bond_winding < -0.95


def test_atoms_have_three_fold_and_hollows_six_fold_surroundings(pristine):
    analysis = pristine[2]
    atom = analysis.sites.is_atom
    assert np.median(analysis.fold_symmetry[3][atom]) > 0.85
    assert np.median(analysis.fold_symmetry[6][atom]) < 0.6
    assert np.median(analysis.fold_symmetry[6][~atom]) > 0.8


def test_a_stricter_rate_finds_no_more(broken):
    measurements, embedding, analysis = broken
    strict = find_defects(measurements, embedding, SymmetryConfig(false_discovery_rate=1e-6))
    assert len(strict.defects.p) <= len(analysis.defects.p)
    np.testing.assert_array_equal(strict.p, analysis.p)


@pytest.mark.parametrize(("old", "new"), [("analyse_symmetry", "find_defects"), ("SymmetryAnalysis", "DefectAnalysis")])
def test_old_names_work_for_one_more_release_and_say_the_new_ones(old, new):
    with pytest.warns(DeprecationWarning, match=f"{old} is called {new} now"):
        renamed = getattr(stemvane, old)
    assert renamed is getattr(stemvane, new)
    assert old not in stemvane.__all__


def test_an_analysis_prints_in_a_few_lines(broken, pristine):
    for analysis, title in ((broken[2], "2 defects of 2 kinds"), (pristine[2], "0 defects of 0 kinds")):
        for shown in (analysis, analysis.defects):
            assert len(repr(shown).splitlines()) <= 8
            assert title in repr(shown).splitlines()[0]
            assert title in shown._repr_html_()
    assert "2.4" in repr(broken[2])
    assert "kind 2" in repr(broken[2].defects)


def test_the_page_of_an_analysis_can_be_read_and_has_a_colour_bar_for_every_pattern(broken):
    analysis = broken[2]
    figure = analysis.plot(figure=Figure())
    assert_readable(figure)
    labels = [axes.get_label() for axes in figure.axes]
    n_kinds = analysis.defects.kinds.n_kinds
    assert {f"kind {kind + 1}" for kind in range(n_kinds)} <= set(labels)
    assert labels.count("colour bar") == 3 + n_kinds  # dark field, anomaly, latent 1


def test_without_a_lattice_there_is_the_anomaly_alone():
    dataset, _ = synthetic((24, 24), (32, 32), dose=20_000)
    measurements = measure(dataset)
    embedding = RotationVAE(n_latent=1, training=TrainingConfig(n_epochs=2)).fit(measurements).embed(measurements)
    steps: list[tuple[int, int]] = []
    analysis = find_defects(measurements, embedding, progress=lambda *step: steps.append(step))
    assert steps == sorted(steps)
    assert steps[-1] == (6, 6)
    assert analysis.lattice is None
    assert analysis.defects is None
    assert np.isfinite(analysis.anomaly).all()


@pytest.fixture(scope="module")
def half():
    """A sheet that ends in the middle of the scan, with a readout noise of 0.17 electrons in every pixel."""
    dataset = simulate(
        structure="graphene-zigzag-edge",
        scan_shape=(48, 48),
        scan_extent=(16.8, 16.8),
        detector_shape=(32, 32),
        source_size=0.8,
        dose=2e4,
        detector="analogue",
    )
    measurements = measure(dataset)
    nothing = np.zeros(measurements.scan_shape)
    embedding = Embedding(
        nothing[..., None], nothing[..., None] + 1, nothing, nothing + 2, np.ones((48, 48, 8)) / 8, nothing
    )
    return find_defects(measurements, embedding)


def test_a_sheet_is_searched_up_to_its_edge_and_no_further(half):
    assert len(half.lattices) == 1
    assert len(half.defects) == 0
    assert [finding.id for finding in half.findings] == ["partly_searched"]
    # the sheet is the lower half, from 8.4 Å on
    y = 0.35 * np.arange(48)
    assert not half.is_searched[y < 9.5].any()
    assert half.is_searched[y > 13.5].all()
    assert (half.lattice_map[y < 7] == -1).all()
    assert half.sites.positions[:, 0].min() > 9.5
    assert half.share_searched == pytest.approx(half.is_searched.mean())
    assert f"{100 * half.share_searched:.0f} % searched" in repr(half)


def test_the_page_veils_what_was_not_searched(half):
    figure = half.plot(figure=Figure())
    assert_readable(figure)
    panels = {axes.get_label(): axes for axes in figure.axes}
    assert len(panels["Dark field"].images) == 2
    assert len(panels["Rotation"].images) == 1


def test_the_scan_step_must_be_known(pristine):
    measurements, embedding, _ = pristine
    unknown = replace(measurements, calibration=replace(measurements.calibration, scan_step=None))
    with pytest.raises(DataError, match=r"source\.scan_step"):
        find_defects(unknown, embedding)


def test_the_command_writes_sites_defects_and_a_figure(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from stemvane.config import Config
    from stemvane.workflow.pipeline import run_pipeline

    config = Config().replace(
        simulation={"scan_shape": (40, 40), "scan_extent": (12.0, 12.0), "detector_shape": (32, 32), "dose": 1e5}
        | {"defects": {"Si-C3": 1}},
        training={"n_epochs": 2, "holdout": 0.0},
        compare={"n_turned": 0},
        model={"n_latent": 1},
        **{name: settings.model_dump() for name, settings in QUICK.items()},
    )
    monkeypatch.setattr("stemvane.workflow.stages.save_figures", lambda run: run.figures_path.mkdir())
    run = run_pipeline(config, tmp_path / "run")
    ended = CliRunner().invoke(app, ["symmetry", str(run.path), "--rate", "0.01"])
    assert ended.exit_code == 0, ended.output
    folder = run.path / "symmetry"
    assert {path.name for path in folder.iterdir()} == {
        *("sites.csv", "defects.csv", "symmetry.json", "symmetry.zarr", "symmetry.png", "symmetry.svg"),
        "manifest.json",
    }
    with (folder / "defects.csv").open() as file:
        (defect,) = csv.DictReader(file)
    (truth,) = run.measurements.atoms.defects.positions
    assert float(defect["y"]) == pytest.approx(truth[0], abs=0.3)
    assert float(defect["x"]) == pytest.approx(truth[1], abs=0.3)
    assert float(defect["kind"]) == 1
    summary = json.loads((folder / "symmetry.json").read_text())
    assert summary["n_defects"] == 1
    assert summary["kind_counts"] == [1]
