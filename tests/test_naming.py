"""Defects named by simulated ones: the library itself, right names, none where none fits, and what stands in files."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from stemvane import Config, RotationVAE, find_defects, measure, run_pipeline, simulate, simulate_library
from stemvane.cli.app import app
from stemvane.config import AlignConfig, BasisConfig, SymmetryConfig, TrainingConfig
from stemvane.defects.naming import UNKNOWN
from stemvane.errors import CalibrationError, DataError

SCAN = {"scan_shape": (44, 44), "scan_extent": (13.2, 13.2), "dose": 1e5}
# what is found hardly depends on latents and angles, names not at all
ALIGN, ALONE = AlignConfig(max_order=3, n_iterations=10), BasisConfig(neighbours=False)


def learned(**choices):
    measurements = measure(simulate(**SCAN | choices))
    vae = RotationVAE(n_latent=1, basis=ALONE, align=ALIGN, training=TrainingConfig(n_epochs=4))
    return measurements, vae.fit(measurements).embed(measurements)


@pytest.fixture(scope="module")
def scene():
    return learned(defects={"N": 1, "vacancy": 1}, placement_seed=3)


@pytest.fixture(scope="module")
def library(scene, shared_library):
    return shared_library(scene[0])


def named(scene, library, config=None):
    """Name found within 0.5 Å of every true defect, by its true name."""
    measurements, embedding = scene
    defects = find_defects(measurements, embedding, config, library=library).defects
    truth = measurements.atoms.defects
    nearest = np.linalg.norm(defects.positions[:, None] - truth.positions, axis=-1)
    assert nearest.min(axis=0).max() < 0.5
    return {kind: defects.naming.names[nearest[:, i].argmin()] for i, kind in enumerate(truth.kinds)}, defects


@pytest.fixture(scope="module")
def named_by_all(scene, library):
    return named(scene, library)


def without(library, *names):
    remaining = [i for i, name in enumerate(library.names) if name not in names]
    return replace(
        library, names=tuple(library.names[i] for i in remaining), scans=tuple(library.scans[i] for i in remaining)
    )


def test_each_scan_of_a_library_holds_its_own_defect(library):
    for name, scan in zip(library.names, library.scans, strict=True):
        assert scan.atoms.defects.kinds == (name,)
        assert scan.scan_shape == library.pristine.scan_shape
        assert not np.array_equal(scan.com, library.pristine.com)
    assert library.pristine.atoms.defects is None or not library.pristine.atoms.defects.kinds


def test_a_defect_gets_its_name(named_by_all):
    names, defects = named_by_all
    assert names == {"N": "N", "vacancy": "vacancy"}
    assert sorted(defects.naming.kind_names) == ["N", "vacancy"]
    assert defects.naming.unexplained[defects.naming.names.index("vacancy")] < 0.1
    np.testing.assert_allclose(defects.naming.probabilities.sum(axis=1), 1)
    for number, name in enumerate(defects.naming.names):
        assert defects.naming.ranked(number, 0) == (name, pytest.approx(defects.naming.probabilities[number].max()))
        # one nitrogen atom looks much like a pair of which the other lies elsewhere
        assert defects.naming.ranked(number, 0)[1] > {"vacancy": 0.9, "N": 0.5}[name]


def test_what_the_library_lacks_stays_without_a_name(scene, library):
    names, defects = named(scene, without(library, "vacancy", "divacancy"))
    assert names == {"N": "N", "vacancy": UNKNOWN}
    assert UNKNOWN in defects.naming.kind_names


@pytest.mark.parametrize(("kind", "dose"), [("N", 3e4), ("vacancy", 3e3)])
def test_a_name_stands_at_low_dose(library, kind, dose):
    defects = find_defects(*learned(dose=dose, defects={kind: 2}, placement_seed=1), library=library).defects
    assert defects.naming.names == (kind,) * 2
    assert defects.naming.kind_names == (kind,)


def test_what_is_weak_and_lacks_its_kind_has_no_name(scene, library):
    names, _ = named(scene, without(library, "N", "N-N-ortho", "N-N-para"))
    assert names == {"N": UNKNOWN, "vacancy": "vacancy"}


def test_a_pair_is_named_where_both_its_atoms_are_detected(library):
    measurements, embedding = learned(defects={"N-N-para": 1}, placement_seed=2)
    defects = find_defects(measurements, embedding, library=library).defects
    atoms = measurements.atoms.defects.sites
    assert np.linalg.norm(defects.positions[:, None] - atoms, axis=-1).min(axis=0).max() < 0.2
    assert defects.naming.names == ("N-N-para",) * 2


def test_naming_changes_nothing_else(scene, named_by_all):
    plain = find_defects(*scene)
    _, defects = named_by_all
    assert plain.defects.naming is None
    np.testing.assert_array_equal(plain.defects.positions, defects.positions)
    np.testing.assert_array_equal(plain.defects.kinds.kind, defects.kinds.kind)


def test_another_lattice_is_refused(scene, library):
    with pytest.raises(DataError, match="not the library's"):
        find_defects(*scene, library=replace(library, vector=library.vector * 1.1))


@pytest.mark.parametrize(
    ("missing", "said"),
    [("energy", "energy"), ("convergence_semiangle", "semi-angle"), ("scan_step", "scan step")],
)
def test_a_probe_that_is_not_known_cannot_be_simulated(scene, missing, said):
    known = scene[0].calibration
    with pytest.raises(CalibrationError, match=f"the {said} is unknown"):
        simulate_library(replace(scene[0], calibration=replace(known, **{missing: None})))


def test_a_stored_library_is_not_simulated_again(scene, library, shared_library, monkeypatch):
    import stemvane.defects.library

    def refused(*_, **__):
        raise AssertionError("simulated again")

    monkeypatch.setattr(stemvane.defects.library, "simulate", refused)
    again = shared_library(scene[0])
    assert again.names == library.names
    for one, other in zip(again.scans, library.scans, strict=True):
        np.testing.assert_array_equal(one.polar, other.polar)
    with pytest.raises(AssertionError, match="simulated again"):
        shared_library(scene[0], SymmetryConfig(defocus=50.0))


def test_the_command_writes_names(tmp_path, monkeypatch, library, shared_library):
    import stemvane.defects.library

    hosts = []

    def shared(measurements, config, *, progress):
        hosts.append(config.library)
        return shared_library(measurements, config)

    monkeypatch.setattr(stemvane.defects.library, "simulate_library", shared)
    few = {"graphene": ("N", "Si-C3", "Si-C4")}
    monkeypatch.setattr(stemvane.defects.library, "LIBRARIES", few)
    monkeypatch.setattr("stemvane.workflow.stages.save_figures", lambda run: run.figures_path.mkdir())
    config = Config().replace(
        simulation={**SCAN, "scan_shape": (40, 40), "scan_extent": (12.0, 12.0), "defects": {"Si-C3": 1}},
        basis=ALONE.model_dump(),
        align=ALIGN.model_dump(),
        training={"n_epochs": 2, "holdout": 0.0},
        compare={"n_turned": 0},
        model={"n_latent": 1},
    )
    run = run_pipeline(config, tmp_path / "run")
    ended = CliRunner().invoke(app, ["symmetry", str(run.path), "--library", "graphene"])
    assert ended.exit_code == 0, ended.output
    assert hosts == ["graphene"]
    assert "Si-C3" in ended.output
    with (run.path / "symmetry" / "defects.csv").open() as file:
        (defect,) = csv.DictReader(file)
    assert defect["name"] == "Si-C3"
    assert 0 <= float(defect["left"]) < 0.2
    assert 1 >= float(defect["probability"]) > float(defect["next_probability"]) >= 0
    assert defect["next_name"] in ("N", "Si-C4", UNKNOWN)
    summary = json.loads((run.path / "symmetry" / "symmetry.json").read_text())
    assert summary["kind_names"] == ["Si-C3"]
    assert summary["kind_probabilities"] == [pytest.approx(float(defect["probability"]), rel=1e-4)]
    # in so small a scan noise does not tell six from three
    assert summary["kind_fold"][0] in (3, 6)
    assert sum(summary["kind_turns_deg"][0].values()) == 1
    assert sum(summary["kind_sublattices"][0].values()) == 1
    assert summary["kind_certainty"] == [None]
