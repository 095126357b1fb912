"""The pure functions that benchmarks are scored by."""

import ast
import inspect
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stemvane import defects as defects_package
from stemvane import measure, simulate
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.data.findings import Finding
from stemvane.data.specimen import ScanDefects
from stemvane.data.truth import DetectorTruth
from stemvane.defects import descriptions, domains, kinds, naming, periodic_fit
from stemvane.simulation.synthetic import synthetic


@pytest.fixture(scope="module")
def tools():
    sys.path.insert(0, str(Path(__file__).parents[1]))
    try:
        from benchmarks.accuracy import bounds
        from benchmarks.defects import comparison as defects
        from benchmarks.defects import constants_table, variations
        from benchmarks.defects import scores as defect_scores
        from benchmarks.defects import tables as defect_tables
        from benchmarks.denoise import bound, knowledge, pattern_rivals, rivals, scans
        from benchmarks.denoise import comparison as denoise
        from benchmarks.denoise import scores as denoise_scores
        from benchmarks.harness import cells
        from benchmarks.models import comparison as models
        from benchmarks.models import scores, tables
        from benchmarks.recorded import by_hand, conditions, one_scan
        from benchmarks.recorded import comparison as recorded
        from benchmarks.recorded import tables as recorded_tables
    finally:
        sys.path.pop(0)
    return SimpleNamespace(
        bounds=bounds,
        denoise=denoise,
        denoise_scores=denoise_scores,
        bound=bound,
        knowledge=knowledge,
        pattern_rivals=pattern_rivals,
        rivals=rivals,
        scans=scans,
        cells=cells,
        scores=scores,
        tables=tables,
        models=models,
        constants_table=constants_table,
        variations=variations,
        defects=defects,
        defect_scores=defect_scores,
        defect_tables=defect_tables,
        by_hand=by_hand,
        conditions=conditions,
        one_scan=one_scan,
        recorded=recorded,
        recorded_tables=recorded_tables,
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("symmetry", [1, 2, 3, 6])
@pytest.mark.parametrize("sign", [1, -1])
def test_angles_that_differ_by_a_symmetry_agree(tools, rng, symmetry, sign):
    known = rng.uniform(0, 2 * np.pi, 500)
    jumps = rng.integers(0, symmetry, 500) * 2 * np.pi / symmetry
    error = tools.scores.angle_error(sign * known + 0.3 / symmetry + jumps, known, symmetry=symmetry)
    assert error.sign == sign
    assert error.median_deg == pytest.approx(0, abs=1e-6)
    assert error.offset_deg == pytest.approx(np.degrees(0.3 / symmetry), abs=1e-6)


def test_angle_error_is_that_of_a_gaussian(tools, rng):
    known = rng.uniform(0, 2 * np.pi, 20_000)
    deviation = np.radians(5.0)
    error = tools.scores.angle_error(known + rng.normal(0, deviation, known.shape), known)
    assert error.median_deg == pytest.approx(5 * tools.bounds.MEDIAN_OF_DEVIATION, rel=0.02)
    assert error.mean_deg == pytest.approx(5 * np.sqrt(2 / np.pi), rel=0.02)


def test_no_knowledge_is_a_quarter_of_the_period(tools, rng):
    known, angle = rng.uniform(0, 2 * np.pi, (2, 50_000))
    for symmetry in (1, 2, 3):
        error = tools.scores.angle_error(angle, known, symmetry=symmetry)
        assert error.median_deg == pytest.approx(90 / symmetry, rel=0.03)


def test_angle_error_without_an_angle(tools):
    assert tools.scores.angle_error(np.full(4, np.nan), np.zeros(4)) is None


def test_only_the_chosen_positions_count_in_the_median(tools):
    known, angle = np.zeros(10), np.where(np.arange(10) < 3, 1.0, 0.0)
    weight = np.where(np.arange(10) < 3, 0.0, 1.0)
    error = tools.scores.angle_error(angle, known, weight=weight, use=np.arange(10) < 3)
    assert error.median_deg == pytest.approx(np.degrees(1.0))
    assert error.mean_deg == 0


def test_poisson_excess_is_the_expected_loss_of_likelihood(tools, rng):
    lam, mu = rng.uniform(2, 9, (2, 3, 4))
    counts = rng.poisson(lam, (200_000, 3, 4))
    loss = (counts * np.log(lam / mu) - lam + mu).sum(axis=-1)
    expected = tools.scores.poisson_excess(lam, mu)
    # five standard errors of the mean over the counts
    assert np.all(np.abs(loss.mean(axis=0) - expected) < 5 * loss.std(axis=0) / np.sqrt(len(counts)))
    np.testing.assert_allclose(tools.scores.poisson_excess(lam, lam), 0, atol=1e-12)


def test_poisson_excess_of_impossible_predictions_is_finite(tools):
    lam = np.array([[0.0, 2.0]])
    floor = tools.scores.POSITIVE_FLOOR
    excess = tools.scores.poisson_excess(lam, np.array([[-1.0, 0.0]]))
    assert excess == pytest.approx([floor + 2 * np.log(2 / floor) - 2 + floor])


def test_correlations_of_a_constant_latent(tools, rng):
    known = rng.normal(size=100)
    latents = np.stack([-2 * known, np.full(100, 0.3), rng.normal(size=100)], axis=1)
    r = tools.scores.correlations(latents, known)
    assert r[0] == pytest.approx(1)
    assert r[1] == 0
    assert r[2] < 0.4


def test_time_to_share_is_the_last_crossing(tools):
    seconds = np.arange(6.0)
    assert tools.scores.time_to_share(seconds, np.array([0.1, 0.99, 0.5, 0.94, 0.96, 1.0])) == 4
    assert tools.scores.time_to_share(seconds, np.ones(6)) == 0
    assert tools.scores.time_to_share(seconds[:0], seconds[:0]) is None


def test_explained_variance_of_the_mean_and_of_the_truth(tools, rng):
    target = rng.normal(size=(50, 6))
    mean = target.mean(axis=0)
    assert tools.scores.explained(target, target, mean) == 1
    assert tools.scores.explained(np.broadcast_to(mean, target.shape), target, mean) == 0


def test_fisher_information_of_a_gaussian_spot(tools):
    # where a spot of width s lies is known to s / sqrt(n) from n counts
    y, x = np.indices((60, 60)) / 4 - 7.5
    width, n = 1.5, 1000.0
    spot = n * np.exp(-(x**2 + y**2) / (2 * width**2)) / (2 * np.pi * width**2 * 16)
    slopes = np.stack([spot * x / width**2, spot * y / width**2]).reshape(2, -1)
    information = tools.bounds.fisher(spot.ravel(), slopes)
    np.testing.assert_allclose(information, n / width**2 * np.eye(2), rtol=1e-3, atol=1e-6 * n)
    deviation = tools.bounds.propagated(information, np.array([3.0, 4.0]))
    assert deviation == pytest.approx(5 * width / np.sqrt(n), rel=1e-3)


def test_unknown_amplitudes_cannot_sharpen_the_angle(tools):
    from stemvane.simulation.synthetic import synthetic

    shape, detector = (4, 4), (24, 24)
    _, truth = synthetic(shape, detector)
    _, more = synthetic(shape, detector, n_fixed=2)
    plain = tools.bounds.analytic_bound(truth, detector)
    assert tools.bounds.analytic_bound(more, detector) >= plain * (1 - 0.02)
    assert 100 < plain < 5000


def test_tables_show_the_range_over_seeds(tools):
    assert tools.tables.spread([], 2) == ""
    assert tools.tables.spread([1.001, 1.002], 2, "°") == "1.00°"
    assert tools.tables.spread([1.5, 1.25, 2000.0], 1) == "1.2 to 2,000.0"


@pytest.fixture
def lattice():
    """A square lattice of atoms, 2 Å apart, and two defects in it, one of them of two atoms."""
    y, x = np.meshgrid(2.0 * np.arange(10), 2.0 * np.arange(10), indexing="ij")
    positions = np.stack([y.ravel(), x.ravel()], axis=1)
    truth = ScanDefects(
        kinds=("N", "divacancy"),
        positions=np.array([[4.0, 4.0], [14.0, 13.0]]),
        angles=np.array([0.0, np.pi / 3]),
        mirrored=np.array([False, False]),
        sites=np.array([[4.0, 4.0], [14.0, 12.0], [14.0, 14.0]]),
        owners=np.array([0, 1, 1]),
    )
    return positions, truth


def test_changed_and_pristine_sites_of_known_defects(tools, lattice):
    positions, truth = lattice
    places = tools.defect_scores.Places.of(positions, np.ones(100, bool), truth)
    np.testing.assert_array_equal(positions[places.changed], truth.sites)
    away = np.linalg.norm(positions[:, None] - truth.sites, axis=-1).min(axis=1)
    assert not places.far[away < 3.5].any()
    assert places.far[away > 4].all()
    shifted = tools.defect_scores.Places.of(positions + 0.7, np.ones(100, bool), truth)
    assert (shifted.changed == -1).all()


def test_a_site_that_a_method_lacks_is_never_detected(tools, lattice):
    positions, truth = lattice
    here = np.linalg.norm(positions - truth.sites[0], axis=1) > 0.1
    places = tools.defect_scores.Places.of(positions[here], np.ones(99, bool), truth)
    scores = np.where(np.isin(np.arange(99), places.changed), 5.0, 0.0)
    for level in (tools.defect_scores.site_level, tools.defect_scores.defect_level):
        result = level(scores, places)
        shares = tools.defect_scores.auc(result["scores"], result["pristine"], result["weights"])
        assert shares[0] == 0
        np.testing.assert_array_equal(shares[1:], 1)


def test_scores_of_detection_are_those_of_scikit_learn(tools, rng):
    from sklearn.metrics import average_precision_score, roc_auc_score

    positive, negative = rng.normal(1.5, 1, 25), rng.normal(0, 1, 45)
    label, score = np.repeat([1, 0], [25, 45]), np.concatenate([positive, negative])
    weights = np.ones(45)
    assert tools.defect_scores.auc(positive, negative, weights).mean() == pytest.approx(roc_auc_score(label, score))
    expected = average_precision_score(label, score)
    assert tools.defect_scores.average_precision(positive, negative, weights) == pytest.approx(expected)
    threshold = np.sort(positive)[2]
    expected = 100 * (negative >= threshold).mean()
    assert tools.defect_scores.false_alarms(positive, negative, weights) == pytest.approx(expected)


def test_condensed_pristine_scores_give_the_same_auc(tools, rng):
    positive, negative = rng.normal(1.0, 1, 40), rng.normal(0, 1, 300)
    condensed = tools.defect_scores.condensed(negative)
    assert sum(condensed["weights"]) == 300
    exact = tools.defect_scores.auc(positive, negative, np.ones(300)).mean()
    approximate = tools.defect_scores.auc(positive, condensed["pristine"], condensed["weights"]).mean()
    assert approximate == pytest.approx(exact, abs=0.003)


def test_mahalanobis_distance_does_not_follow_outliers(tools, rng):
    values = rng.normal(size=(400, 3)) @ np.diag([1.0, 5.0, 0.1])
    values[:4] += 30 * np.array([1.0, 5.0, 0.1])
    distances = tools.defect_scores.mahalanobis(values, np.repeat([0, 1], 200))
    assert distances[:4].min() > 4 * distances[4:].max()


def test_defects_detected_named_doubled_and_false(tools, lattice):
    _, truth = lattice
    positions = np.array([[4.1, 4.0], [14.0, 13.5], [14.0, 15.0], [9.0, 1.0]])
    kinds = SimpleNamespace(kind=np.array([0, 1, 2, 1]))
    defects = SimpleNamespace(positions=positions, kinds=kinds, naming=None)
    row = tools.defect_scores.compare_defects(defects, truth)
    assert row["errors"] == pytest.approx([0.1, 0.5])
    assert (row["n_found"], row["n_false"], row["n_double"]) == (4, 1, 1)
    assert row["named"] == [None, None]
    assert row["pairs"] == [{"kinds": ["N", "divacancy"], "turn": 60, "mirrored": False, "together": False}]
    defects.naming = SimpleNamespace(names=("N", "vacancy", "N", "B"))
    assert tools.defect_scores.compare_defects(defects, truth)["named"] == [True, False]
    nothing = SimpleNamespace(positions=np.zeros((0, 2)), kinds=SimpleNamespace(kind=np.zeros(0, int)), naming=None)
    assert tools.defect_scores.compare_defects(nothing, truth)["errors"] == [None, None]


def made_up_cell(tools, lattice, rng, scene, dose, method, strength):
    positions, truth = lattice
    places = tools.defect_scores.Places.of(positions, np.ones(100, bool), truth)
    scores = rng.normal(size=100)
    scores[places.changed] += strength
    defects = SimpleNamespace(positions=truth.positions, kinds=SimpleNamespace(kind=np.array([0, 1])), naming=None)
    return {
        "cell": {"scene": {"name": scene, "seed": 0, "defects": {}}, "step": 0.16, "dose": dose, "n_epochs": None}
        | {"method": method},
        "rows": {
            method: {
                "site": tools.defect_scores.site_level(scores, places),
                "defect": tools.defect_scores.defect_level(scores, places),
            }
        },
        "found": tools.defect_scores.compare_defects(defects, truth) if method == "ours" else None,
        "failed": None,
        "seconds": 1.0,
        "shared_seconds": 1.0,
    }


def test_defect_tables_and_figure_from_made_up_cells(tools, lattice, rng, tmp_path):
    cells = [
        made_up_cell(tools, lattice, rng, scene, dose, method, strength)
        for scene in ("broken-0", "broken-1", "turned-N")
        for dose in (None, 1e5)
        for method, strength in (("ours", 9.0), ("pca", 1.0))
    ]
    report = {"machine": {"processors": 2, "time": "now"}, "cells": cells}
    text = tools.defect_tables.tables(report)
    assert "| stemvane, all channels | 1.000 ± 0.000 | 1.000 ± 0.000 |" in text
    assert "| 0.16 | 100,000 | 100.0% of 4 | 0.000 |" in text
    readme = tmp_path / "README.md"
    comparison = tools.defects.COMPARISON
    readme.write_text(f"before\n{comparison.begin}\n{comparison.end}\nafter\n", encoding="utf-8")
    comparison.publish(report, text, tmp_path / "defects.json", readme)
    assert readme.read_text(encoding="utf-8").startswith("before")
    assert (tmp_path / "defects.png").stat().st_size > 1000
    tools.defects.restore(json.loads((tmp_path / "defects.json").read_text(encoding="utf-8")), tmp_path)
    restored = tools.defects.joined(tmp_path)["cells"]
    assert sorted(map(json.dumps, restored)) == sorted(map(json.dumps, cells))


def test_every_constant_of_the_defect_search_is_varied(tools):
    folder = Path(defects_package.__file__).parent
    names = set()
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            parts = [part for target in targets for part in getattr(target, "elts", [target])]
            names |= {f"{path.stem}.{part.id}" for part in parts if part.id.strip("_").isupper()}
    assert names == {*tools.variations.CONSTANTS, *tools.variations.PLAIN}


def test_what_is_left_out_is_called_as_before(tools):
    for _, changes in tools.variations.LEFT_OUT.values():
        for target, instead in changes.items():
            if inspect.isfunction(instead):
                parameters = inspect.signature(tools.variations._original(target)).parameters.values()
                required = [one for one in parameters if one.default is one.empty]
                inspect.signature(instead).bind(*required)


def test_a_varied_constant_is_another_one_wherever_it_was_imported_and_for_a_while(tools):
    before = descriptions.SHIFT
    with tools.variations.varied({"descriptions.SHIFT": 0.5, "domains._AROUND": 7.0}):
        assert (descriptions.SHIFT, naming.SHIFT, kinds.SHIFT) == (0.5, 0.5, 0.5)
        assert domains._AROUND == 7.0
        assert periodic_fit._AROUND != 7.0
    assert (before, before, before) == (descriptions.SHIFT, naming.SHIFT, kinds.SHIFT)
    assert domains._AROUND != 7.0


def constants_cell(name, draw, **outcomes):
    usual = {"found": 5, "false": 0, "double": 0, "named": 5, "grouped": 9, "n_lattices": 1, "auc": 0.99, "error": 0.01}
    usual |= {"share_searched": 1.0, "winding": 1.0}
    about = {"name": name, "group": name, "draw": draw}
    return {"cell": about, "outcomes": {key: usual | changed for key, changed in outcomes.items()}}


def test_the_table_of_constants_says_what_moved_and_what_only_chance_moves(tools):
    as_is = tools.constants_table.AS_IS
    one = {"a = 1": {"found": 4, "auc": 0.95}, "b = 2": {}, "c": {"found": 2}}
    cells = [constants_cell("3,000", 0, **{as_is: {}}, **one), constants_cell("grains", 0, **{as_is: {}})]
    cells += [constants_cell("3,000", draw, **{as_is: {"found": 5 + draw}}) for draw in (1, 2)]
    cells[1]["outcomes"]["c"] = {"failed": "no lattice"}
    text = tools.constants_table.table({"cells": cells})
    assert "| 3,000 | 5 ± 1.0 |" in text
    assert "| `a = 1` | 3,000: found 5 → 4, **AUC 0.990 → 0.950** |" in text
    assert "| c | 3,000: **found 5 → 2**; grains: **no result** |" in text
    assert "Nothing changes: `b` = 2." in text


def test_no_cell_starts_that_would_end_too_late(tools):
    progress = tools.cells.Progress(4, minutes=10.0)
    assert [progress.admits(seconds) for seconds in (3600, 500, 700, 90)] == [True, True, False, True]
    assert (progress.n_started, progress.n_postponed) == (3, 1)
    unlimited = tools.cells.Progress(2)
    assert unlimited.admits(1e9)
    assert unlimited.admits(1e9)


def test_scans_are_planned_in_order_until_the_time_is_used_up(tools):
    scene = tools.defects.Scene("broken-0", 0, {"N": 1})
    other = tools.defects.Scene("broken-1", 1, {"N": 1})
    jobs = [tools.defects.Job(s, 0.16, dose, ("pca",)) for s in (scene, other) for dose in (None, 1e5, 1e4)]
    assert tools.defects.planned(jobs, 2, None) == jobs
    assert tools.defects.planned(jobs, 2, 0.0) == jobs[:1]
    simulated = tools.defects.SIMULATION_SECONDS * jobs[0].size
    minutes = (simulated + 3 * jobs[0].seconds / 2 + 1) / 60
    assert tools.defects.planned(jobs, 2, minutes) == jobs[:3]
    assert tools.defects.planned(jobs, 2, minutes + simulated / 60) == jobs[:3]
    assert len(tools.defects.planned(jobs, 2, minutes + (simulated + jobs[0].seconds) / 60)) > 3


def test_an_incomplete_comparison_is_not_published(tools, lattice, rng, tmp_path, capsys):
    comparison = tools.defects.COMPARISON
    readme, output = tmp_path / "README.md", tmp_path / "out" / "defects.json"
    readme.write_text(f"{comparison.begin}\n{comparison.end}\n", encoding="utf-8")
    places = ["--work", str(tmp_path), "--output", str(output), "--readme", str(readme)]
    report = {
        "machine": {"processors": 2, "time": "now"},
        "cells": [made_up_cell(tools, lattice, rng, "broken-0", 1e5, "ours", 9.0)],
    }
    for postponed in (True, False):
        chosen = comparison.parser(None).parse_args(places)
        progress = comparison.progress(chosen, 2)
        progress.n_postponed += postponed
        comparison.finish(report, chosen, progress)
        assert output.exists() != postponed
        assert ("time is up" in capsys.readouterr().err) == postponed
        assert ("stemvane, all channels" in readme.read_text(encoding="utf-8")) != postponed
    progress = comparison.progress(chosen, 2)
    progress.n_failed = 1
    with pytest.raises(SystemExit, match="1 failed"):
        comparison.finish(report, chosen, progress)


def test_the_com_by_hand_is_that_of_discs_on_a_dark_level(tools):
    y, x = np.indices((33, 32)) - np.array([16.0, 15.5])[:, None, None]
    moves = np.random.default_rng(0).uniform(-1, 1, (6, 7, 2))
    down, right = np.meshgrid(np.linspace(-1, 1, 6), np.linspace(-1, 1, 7), indexing="ij")
    places = moves + np.stack([0.3 * down - 0.2 * right, 0.4 * right], axis=-1)
    dark = np.random.default_rng(1).normal(100, 3, y.shape)
    spots = [[np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8) for a, b in row] for row in places]
    patterns = 500 * np.array(spots) + dark
    bad = np.zeros(y.shape, bool)
    bad[0, 3] = bad[16, 29] = True
    patterns[..., bad] = 4000
    com = tools.by_hand.prepared_com(patterns, dark, bad, disc_radius=11.0)
    design = np.stack([np.ones(42), down.ravel(), right.ravel()], axis=1)
    flat = moves.reshape(-1, 2)
    expected = (flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]).reshape(moves.shape)
    np.testing.assert_allclose(com, expected, atol=0.01)


def test_the_filter_in_rings_removes_noise_and_keeps_a_lattice(tools, rng):
    n, step = 48, 0.2
    y, x = np.indices((n, n)) / n
    lattice = np.stack([np.sin(2 * np.pi * 4 * y), np.cos(2 * np.pi * (3 * x - 3 * y))], axis=-1)
    unchanged = tools.by_hand.filter_in_rings(lattice, step, band_limit=1.2)
    np.testing.assert_allclose(unchanged, lattice, atol=1e-6)
    noisy = lattice + rng.normal(0, 1.0, lattice.shape)
    filtered = tools.by_hand.filter_in_rings(noisy, step, band_limit=1.2)
    # the noise that stays is that of the rings which hold the lattice, some 50 of 2304 frequencies, and of chance
    assert np.sqrt(((filtered - lattice) ** 2).mean()) < 0.25
    nothing = tools.by_hand.filter_in_rings(noisy - lattice, step, band_limit=1.2)
    assert np.sqrt((nothing**2).mean()) < 0.2


def test_a_recorded_scan_is_scored_against_the_noiseless_deflection(tools, rng):
    length, angle = rng.uniform(0.5, 2, (9, 9)), rng.uniform(-np.pi, np.pi, (9, 9))
    reference = np.stack([-length * np.sin(angle), length * np.cos(angle)], axis=-1)
    latents = np.stack([-3 * length, rng.normal(size=(9, 9))], axis=-1)
    angle = angle + 0.4
    angle[2, 3] = np.nan
    row = tools.one_scan.compare(angle, latents, reference)
    assert row == {"angle_deg": pytest.approx(0, abs=1e-3), "mirrored": False, "r": pytest.approx(1, abs=1e-4)}
    assert tools.one_scan.compare(-angle, latents, reference)["mirrored"]


def test_every_condition_can_be_simulated_and_counts_as_planned(tools):
    for condition in tools.conditions.CONDITIONS.values():
        settings = tools.conditions.simulation(condition, 3, 64)
        assert settings.scan_step == pytest.approx((10.5 / 64, 10.5 / 64))
        assert settings.recorder is not None
    chosen = tools.recorded.COMPARISON.parser(None)
    chosen.add_argument("--only")
    chosen.add_argument("--seeds", type=int, default=2)
    jobs = tools.recorded.all_jobs(chosen.parse_args(["--only", "gap,path"]))
    assert [(job.condition, job.seed) for job in jobs] == [("gap", 0), ("path", 0), ("gap", 1), ("path", 1)]
    with pytest.raises(SystemExit, match="nonsense"):
        tools.recorded.all_jobs(chosen.parse_args(["--only", "nonsense"]))


def made_up_scan(condition, **defaults):
    """A cell of the comparison of recorded scans."""
    row = {"angle_deg": 5.0, "mirrored": False, "r": 0.95, "findings": [], "seconds": 20.0, "refused": None}
    rows = {
        "raw": {"angle_deg": 9.0, "mirrored": False, "r": 0.8},
        "filtered": {"angle_deg": 5.0, "mirrored": False, "r": 0.93},
        "defaults": row | defaults,
    }
    return {"cell": {"condition": condition, "seed": 0}, "rows": rows}


@pytest.mark.parametrize(
    ("defaults", "missed"),
    [
        ({}, []),
        ({"angle_deg": 5.6}, ["error"]),
        ({"r": 0.89}, ["r"]),
        ({"angle_deg": 30.0}, ["error", "silent"]),
        ({"angle_deg": 30.0, "findings": [{"id": "beam_shift_left", "severity": "failure"}]}, ["error"]),
        ({"angle_deg": None, "r": None, "refused": "no disc"}, ["refused"]),
    ],
)
def test_aims_that_a_recorded_scan_misses(tools, defaults, missed):
    assert tools.recorded_tables.misses([made_up_scan("gap", **defaults)]) == missed


def test_tables_of_recorded_scans_from_made_up_cells(tools, tmp_path):
    findings = [{"id": "beam_shift_left", "severity": "failure"}, {"id": "pixels", "severity": "note"}]
    cells = [made_up_scan("gap", findings=findings), made_up_scan("counted", refused="no disc", angle_deg=None)]
    cells[0]["rows"]["given"] = dict(cells[0]["rows"]["defaults"], angle_deg=4.5)
    tools.recorded.restore({"cells": cells}, tmp_path)
    report = tools.recorded.joined(tmp_path)
    assert [cell["cell"]["condition"] for cell in report["cells"]] == ["counted", "gap"]
    text = tools.recorded_tables.tables(report)
    row = "| analogue, gap | 9.00° | 5.00° | 0.930 | 5.00° | 0.950 | 1.00 | beam_shift_left (failure) | 20 | reached |"
    assert row in text
    assert "| counted | 9.00° | 5.00° | 0.930 | refused: no disc |" in text
    assert "| analogue, gap | 4.50° | 0.950 | 0.90 | beam_shift_left (failure) | 20 |" in text
    readme, comparison = tmp_path / "README.md", tools.recorded.COMPARISON
    readme.write_text(f"before\n{comparison.begin}\n{comparison.end}\n", encoding="utf-8")
    comparison.publish(report, text, tmp_path / "recorded.json", readme)
    assert row in readme.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "recorded.json").read_text(encoding="utf-8"))["cells"] == report["cells"]


def test_a_run_on_a_recorded_scan_is_given_no_more_than_it_should(tools, monkeypatch):
    scan, known = synthetic((14, 14), (32, 32), dose=2e4)
    bad = np.zeros((32, 32), bool)
    bad[12, 20] = True
    dark = np.full((32, 32), 40.0, np.float32)
    recorded = Dataset4D.from_array(
        np.where(bad, 0, scan.data.compute() + 40).astype(np.int32),
        calibration=Calibration(energy=60e3, convergence_semiangle=20.0, scan_step=(0.4, 0.4), pixel_size=(2.0, 2.0)),
    )
    length, nowhere = 1 + known.content[0], np.zeros((14, 14, 2))
    com = np.stack([-length * np.sin(known.angle), length * np.cos(known.angle)], axis=-1)
    truth = DetectorTruth(bad, (~bad).astype(float), dark, dark, nowhere, com, nowhere, nowhere, 2e4, 1.0, 1.0, 0.0)
    runs = []

    def run_pipeline(config, output, progress):
        assert np.array_equal(np.load(config.source.path), recorded.data.compute())
        runs.append((config.source, config.preparation.model_dump(exclude_unset=True), config.training.n_epochs))
        reference = com - com.mean(axis=(0, 1))
        angle = np.arctan2(-reference[..., 0], reference[..., 1])
        embedding = SimpleNamespace(angle=angle, latents=np.hypot(reference[..., 0], reference[..., 1])[..., None])
        return SimpleNamespace(embedding=embedding, findings=(Finding("few_positions", "warning", "196 patterns"),))

    monkeypatch.setattr(tools.one_scan, "run_pipeline", run_pipeline)
    rows = tools.one_scan.score_scan(replace(recorded, truth=truth), given=True, n_epochs=3)
    assert list(rows) == ["raw", "filtered", "defaults", "given"]
    assert rows["raw"]["angle_deg"] < 60
    for name in ("defaults", "given"):
        assert rows[name]["angle_deg"] == pytest.approx(0, abs=1e-3)
        assert [finding["id"] for finding in rows[name]["findings"]] == ["few_positions"]
    (source, switches, n_epochs), (_, with_images, _) = runs
    assert set(source.model_dump(exclude_defaults=True)) == {"path", "energy", "convergence_semiangle", "scan_step"}
    assert n_epochs == 3
    assert {name: value for name, value in with_images.items() if value != switches.get(name)}.keys() == {
        "dark",
        "bad_pixels",
    }


def test_rivals_filter_a_gradient(tools, rng):
    """Every filter of the COM comes closer to a band-limited gradient than its noisy values are."""
    n, step, cutoff = 32, 0.3, 0.6
    y, x = np.fft.fftfreq(n, step)[:, None], np.fft.fftfreq(n, step)
    potential = np.fft.fft2(rng.normal(size=(n, n))) * (np.hypot(y, x) < cutoff)
    # x to the right, and y downwards, of which the map holds minus the second
    truth = np.fft.ifft2(2j * np.pi * x * potential).real - 1j * np.fft.ifft2(2j * np.pi * y * potential).real
    truth /= np.sqrt((np.abs(truth) ** 2).mean())
    noisy = truth + (rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))) * 0.7
    noise = float((np.abs(noisy - truth) ** 2).mean())

    def error(estimate):
        return float((np.abs(estimate - truth) ** 2).mean())

    errors = {name: error(rival(noisy, (step, step), cutoff, noise)) for name, rival in tools.rivals.RIVALS.items()}
    assert errors["COM"] == pytest.approx(noise)
    assert errors["Wiener in rings"] < 0.6 * noise
    assert errors["the same, no curl, in the band"] < 0.4 * noise
    assert errors["Gaussian process, no curl"] < 0.8 * errors["Gaussian process"]
    best = error(tools.rivals.best_gaussian(noisy, truth))
    assert best < noise
    # the risk of a width is known to about the square root of two over the number of positions, times the noise
    assert best <= errors["Gaussian, width by SURE"] < best + noise * np.sqrt(2) / n


def _noisy_graphene(dose, n=32):
    settings = {"dose": dose, "scan_shape": (n, n), "scan_extent": (n * 0.164, n * 0.164), "detector_shape": (32, 32)}
    dataset = simulate(**settings, progress=False)
    measured, calibration = measure(dataset, polar=False), dataset.calibration
    truth, com = (v[..., 1] - 1j * v[..., 0] for v in (measured.expectation.deflection, measured.deflection))
    return dataset, calibration, truth, com


def test_rivals_filter_patterns(tools):
    """What reads whole patterns comes closer to the noiseless deflection than the COM does."""
    dataset, calibration, truth, com = _noisy_graphene(2e4)
    axis = (np.arange(32) - 15.5) * calibration.pixel_size[0]
    angles = np.stack(np.meshgrid(axis, axis, indexing="ij"))
    patterns = tools.pattern_rivals.Patterns(np.asarray(dataset.data), angles, calibration.scan_step)
    probe = tools.pattern_rivals.Probe(calibration.convergence_semiangle, calibration.wavelength)

    def angle(estimate):
        return tools.denoise_scores.score(estimate, truth).angle

    unfiltered = angle(com)
    assert angle(tools.pattern_rivals.principal_components(patterns, truth)) < unfiltered
    assert angle(tools.pattern_rivals.tensor_svd(patterns)) < 0.5 * unfiltered
    assert angle(tools.pattern_rivals.ptychography(patterns, probe)) < 0.5 * unfiltered
    # another probe than that of the scan is no use
    wrong = tools.pattern_rivals.Probe(calibration.convergence_semiangle, calibration.wavelength, defocus=150.0)
    assert angle(tools.pattern_rivals.ptychography(patterns, wrong)) > unfiltered


# positions in a cell of 4.26 x 2.46 Å that frequencies up to 2α/λ = 1.27 1/Å need
RESOLVED = (12, 8)


def test_the_bound_is_of_the_specimen_that_is_simulated(tools, monkeypatch):
    name = "defocus 60 Å, astigmatism 20 Å, 20,000"
    scan = tools.scans.SCANS[name]
    monkeypatch.setattr(tools.bound, "_GRID", RESOLVED)
    cell = tools.bound._simulate_cell(scan)  # whatever the dose
    monkeypatch.setattr(tools.bound, "_simulate_cell", lambda _: cell)
    bounds = tools.bound.bounds_of(scan)
    bound_of_patterns = bounds["patterns"]
    n_y, n_x = tools.bound._GRID
    once = {"scan_shape": (n_y, n_x), "scan_extent": (2.46 * np.sqrt(3), 2.46)}
    with tools.scans._applied(scan):
        simulated = measure(simulate(scan.config(**once, dose=None), progress=False), polar=False)
    truth = (simulated.deflection[..., 1] - 1j * simulated.deflection[..., 0]).ravel()
    truth -= truth.mean()
    # the cell of the bound is half as large, so that its angles are sampled half as finely
    assert np.abs(bound_of_patterns.truth - truth).std() < 0.05 * np.abs(truth).std()

    def size(bound):
        return float(np.linalg.norm(bound.responses @ bound.root))

    fewer = replace(scan, settings=scan.settings | {"dose": scan.settings["dose"] / 4})
    assert size(tools.bound.bounds_of(fewer)["patterns"]) == pytest.approx(2 * size(bound_of_patterns), rel=0.01)
    assert size(bound_of_patterns) < size(bounds["disc"]) < size(bounds["com"])


def test_the_slopes_of_the_bound_are_those_of_the_intensity(tools, rng):
    n, row, column, small = 16, 2, -3, 1e-5
    probe, phase = rng.normal(size=(2, n, n))
    y, x = np.indices((n, n)) / n
    ripple = np.cos(2 * np.pi * (row * y + column * x))

    def wave(change):
        return np.fft.fft2(probe * np.exp(1j * (phase + change * ripple)))

    expected = (np.abs(wave(small)) ** 2 - np.abs(wave(-small)) ** 2) / (2 * small)
    frequencies = [np.arange(n), np.arange(n)]
    # a cosine is half of a coefficient and half of its opposite
    slope = tools.bound._slope(wave(0), row, column, frequencies).real
    np.testing.assert_allclose(slope, expected, atol=1e-6 * np.abs(expected).max())


def test_more_knowledge_leaves_less_error(tools, monkeypatch):
    n = 32
    monkeypatch.setattr(tools.bound, "_GRID", RESOLVED)
    scan = tools.scans.Scan({"dose": 2e4, "scan_shape": (n, n), "scan_extent": (n * 0.164, n * 0.164)})
    errors = list(tools.knowledge.expected_errors(scan).values())
    assert errors == sorted(errors, reverse=True)
    measured = measure(simulate(scan.config(), progress=False), polar=False)
    truth, com = measured.expectation.deflection, measured.deflection
    found = np.sqrt(((com - truth) ** 2).sum() / (truth**2).sum())
    # five standard errors of the rms of so many coordinates
    assert errors[0] == pytest.approx(found, rel=5 / np.sqrt(2 * 2 * n * n))
    gain = tools.knowledge.information_gain(scan, np.array([0.47, 0.81]))
    assert np.all(gain > 1)
    assert np.all(tools.knowledge.information_gain(tools.scans.SCANS["defocus 60 Å, 20,000"], np.array([0.47])) > 100)


def test_a_quarter_of_a_cell_makes_a_scan(tools):
    y, x = np.arange(64)[:, None, None, None], np.arange(64)[:, None, None]
    k = np.arange(5) - 2
    whole = 1 + np.sin(2 * np.pi * y / 24) * k[:, None] + np.sin(2 * np.pi * x / 24) * k + np.cos(2 * np.pi * x / 24)
    np.testing.assert_allclose(tools.scans._tiled(whole[:13, :13], (64, 64)), whole, atol=1e-12)


def test_coverage_counts_coordinates(tools, rng):
    truth = rng.normal(size=(200, 200)) + 1j * rng.normal(size=(200, 200))
    std = rng.uniform(0.1, 1, truth.shape)
    estimate = truth + std * (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape))
    scores = tools.denoise_scores
    # five standard errors of a share of 80,000 coordinates
    assert scores.with_coverage(scores.score(estimate, truth), estimate, std, truth).coverage == pytest.approx(
        (0.68, 0.95), abs=0.0085
    )


def test_a_table_of_filters_has_means_over_draws_and_marks_the_best(tools):
    def row(angle, r, **more):
        return {"angle": angle, "r": r, "error": 0.3, "kept": None, "coverage": None} | more

    draws = [
        {
            "COM": row(angle, 0.5),
            "`filter_com`": row(2.0, r, coverage=[0.7, 0.9]),
            "a rival": row(2.5, 0.1),
            "bound": row(0.1, 0.9, error=0.1),
        }
        for angle, r in ((1.0, 0.4), (2.0, 0.5), (6.0, 0.3))
    ]
    del draws[1]["bound"], draws[2]["bound"]
    name = next(iter(tools.scans.SCANS))
    report = {"cells": [{"cell": {"scan": name, "seed": seed}, "rows": rows} for seed, rows in enumerate(draws)]}
    text = tools.denoise.tables(report)
    assert "(3 draws)" in text
    assert "| COM | 3.00 ± 2.65 | **0.5000** ± 0.0000 | **0.300** ± 0.000 |  |" in text
    assert "| `filter_com` | **2.00** ± 0.00 | 0.4000 ± 0.1000 | **0.300** ± 0.000 | 70, 90 |" in text
    assert "| bound | 0.10 | 0.9000 | 0.100 |  |" in text
    assert f"| {name} | 3.00 | **2.00** | 2.50 | a rival | 0.10 |" in text


def test_exponents_are_those_of_powers():
    from benchmarks.whole.scale import exponent

    numbers = [10, 100, 1000, 10_000, 100_000]
    # a constant that small sizes show does not count
    assert exponent(numbers, [0.1 + 1e-4 * n**1.5 for n in numbers]) == pytest.approx(1.5, abs=0.02)


def test_a_table_of_whole_runs_has_what_was_measured():
    from benchmarks.whole.comparison import tables

    job = {"name": "a run", "kind": "run", "positions": 64, "pixels": 32, "aim": 4.0, "seconds": 1}
    results = {
        "now": {"seconds": 2.0, "cpu_seconds": 3.0, "memory_mb": 400.0, "stages": {"measure": 0.5, "learn": 1.0}},
        "before": {"seconds": 9.0, "cpu_seconds": 9.0, "memory_mb": 900.0, "stages": {"measure": 1.0, "learn": 7.0}},
    }
    cells = [
        {"part": "jobs", "job": job, "state": state, "round": 0, "result": result} for state, result in results.items()
    ]
    text = tables({"machine": {"processors": 2, "time": "today"}, "cells": cells})
    assert "| a run | 1 | 9.00 (9.00 to 9.00) | 2.00 (2.00 to 2.00) | 4 | 3.0 | 400.0 | measure 0.5" in text


def test_the_sizes_have_a_table_a_figure_and_what_a_terabyte_takes(tmp_path):
    from benchmarks.whole.figure import draw
    from benchmarks.whole.scale import scale_tables

    def cell(kind, positions, pixels, **result):
        job = {"name": f"{kind} {positions} {pixels}", "kind": kind, "positions": positions, "pixels": pixels}
        return {"part": "scale", "job": job, "result": result}

    def run(positions, pixels):
        stages = {"survey": 0.5, "measure": 1e-4 * positions**2, "learn": 2.0, "read": 1.0, "figures": 1.5}
        held = dict.fromkeys(stages, 600.0)
        other = {"memory_by_stage": held, "memory_mb": 100.0 * positions, "stored_mb": 5.0, "angle_std_deg": 7.25}
        return cell("run", positions, pixels, seconds=sum(stages.values()), stages=stages, **other)

    # 0.5 GB a second and 10,000 patterns a second, by each of two workers
    both = {"measure": 2.0, "embed": 1.0}
    workers = cell("workers", 141, 256, bytes=2e9, patterns=20_000, threads=both, processes=both, same=False)
    cells = [*(run(n, 32) for n in (32, 64, 128, 256)), *(run(32, n) for n in (64, 128)), workers]
    text = "\n".join(scale_tables(cells))
    assert "| run 64 32 | 5.4 | 0.5 (600) | 0.4 (600) | 2.0 (600) | 1.0 (600) | 1.5 (600) | 6,400 | 5 | 7.2° |" in text
    # seconds are those of a stage, memory grows with the side
    assert "measure 1.00" in text
    assert "memory 0.50" in text
    assert "| workers 141 256 | 2.00 | 2.00 | 1.00 | 1.00 | **not the same** |" in text
    assert "7.6 million patterns" in text
    assert "the pass takes 0.6 hours of one core and the embedding 0.2, both 1 minutes on 64 workers" in text
    assert "32.0 GB/s" in text
    draw({"cells": cells}, tmp_path / "whole.png")
    assert (tmp_path / "whole.png").stat().st_size > 10_000
