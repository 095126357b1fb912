"""The scenes of `benchmarks.scenes`, and how claims in them are counted."""

import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.scenes import comparison
from benchmarks.scenes.one_scan import score_places
from benchmarks.scenes.scans import _as_scanned
from benchmarks.scenes.specimens import CLASSES, EXTENT, build_specimen
from benchmarks.scenes.tables import tables

sys.path.pop(0)


@functools.cache
def specimen_of(name):
    return build_specimen(name, 0)


FIELD = np.stack(np.meshgrid(*[np.linspace(0, EXTENT, 61)] * 2, indexing="ij"), -1).reshape(-1, 2)


@pytest.mark.parametrize("name", CLASSES)
def test_defects_lie_where_the_truth_has_them(name):
    specimen = specimen_of(name)
    atoms, truth = specimen.atoms, specimen.defects
    assert len(truth) == 0 if name == "pristine" else len(truth) > 2
    assert (np.sort(truth.owners) == truth.owners).all()
    flat = np.abs(atoms.positions[:, 2] - 6) < 2
    sheet = cKDTree(atoms.positions[flat, 1::-1])
    numbers = atoms.numbers[flat]
    clear = specimen.is_clear
    assert clear.sum() >= (0 if name == "pristine" else 3)
    for kind, position in zip(np.array(truth.kinds)[clear], truth.positions[clear], strict=True):
        away, nearest = sheet.query(position)
        if kind == "vacancy":
            assert away > 0.7
        else:
            assert away < 0.3
            assert numbers[nearest] == {"N": 7, "B": 5, "Si-C3": 14}[kind]


def test_what_is_no_lattice_lies_where_the_truth_has_it():
    shares = {name: (specimen_of(name).distance(FIELD) < 0).mean() for name in CLASSES}
    assert shares["contaminated"] == pytest.approx(0.3, abs=0.03)
    assert shares["edge"] == pytest.approx(0.5, abs=0.03)
    assert {shares[name] for name in ("clean", "pristine", "grains", "vacancies", "strained")} == {0}
    film = specimen_of("contaminated")
    carbon = film.atoms.positions[film.atoms.positions[:, 2] > 7.9, 1::-1]
    assert (film.distance(carbon) < 0).all()
    sheet = specimen_of("edge")
    assert (sheet.distance(sheet.atoms.positions[:, 1::-1]) > 0).all()


def test_grains_fill_the_field_and_keep_a_bond_between_them():
    specimen = specimen_of("grains")
    at = specimen.atoms.positions[:, 1::-1]
    away = cKDTree(at).query(FIELD)[0]
    assert away.max() < 2.0
    inside = ((at > 0) & (at < EXTENT)).all(axis=1)
    assert cKDTree(at).query(at[inside], 2)[0][:, 1].min() > 1.0


def test_claims_are_false_far_from_all_defects_and_missed_ones_count_only_where_they_are_clear():
    truth = specimen_of("clean").defects
    is_clear = np.arange(len(truth)) != 0
    scan = SimpleNamespace(defects=truth, specimen=SimpleNamespace(is_clear=is_clear))
    away = FIELD[cKDTree(truth.positions).query(FIELD)[0].argmax()]
    scored = score_places(np.array([truth.positions[1] + [0.5, 0], truth.positions[2] + [2.5, 0], away]), scan)
    assert (scored["n_claimed"], scored["n_false"]) == (3, 1)
    assert len(scored["kinds"]) == len(truth) - 1
    assert scored["is_found"] == [True] + [False] * (len(truth) - 2)
    assert score_places(np.zeros((0, 2)), scan)["n_false"] == 0


def test_truth_follows_the_drift():
    truth = specimen_of("clean").defects
    places = np.stack(np.meshgrid(np.arange(84), np.arange(84), indexing="ij"), -1).astype(float)
    drifted = _as_scanned(truth, places * 0.36 - [0.5, 1.0], places, 0.36)
    np.testing.assert_allclose(drifted.positions, truth.positions + np.array([0.5, 1.0]), atol=1e-9)


def test_tables_count_claims_and_recall():
    def cell(name, n_false, hit):
        row = {"n_claimed": 2, "n_false": n_false, "kinds": ["N", "Si-C3"], "is_found": [hit, True]}
        return {
            "cell": {"name": name, "seed": 0, "step": 0.36, "dose": 20_000.0},
            "rows": dict.fromkeys(("ours", "adf", "unit-cell"), row),
            "n_lattices": [1, 1],
            "share_searched": 0.5,
            "share_clear": 0.7,
            "seconds": 3.0,
        }

    text = tables({"machine": comparison.machine(), "cells": [cell("clean", 0, True), cell("grains", 1, False)]})
    assert "| clean | 0.36 | 20,000 | 1 | 0.00 (0 of 2) | 0.00 (0 of 2) | 0.00 (0 of 2) | yes |" in text
    assert "0.50 (1 of 2) | **no** |" in text
    assert "| 1; 1; 1 of 1 |  | 0; 0; 0 of 1 |" in text
