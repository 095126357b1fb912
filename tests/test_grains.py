"""Polycrystals in a nearly parallel beam: what differs lies on dark rings, and the whole pattern rotates."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from readable import assert_readable
from sklearn.metrics import adjusted_rand_score

from stemvane import AlignedPCA, Dataset4D, load_model, measure, prepare_scan, simulate, synthetic
from stemvane.config import BasisConfig, MeasureConfig
from stemvane.data.embedding import Embedding
from stemvane.evaluation.com_agreement import compare
from stemvane.evaluation.invariance import measure_invariance
from stemvane.evaluation.verdict import judge
from stemvane.features.background import fit_basis
from stemvane.features.harmonics import HarmonicBasis
from stemvane.figures.grains_page import grains_page
from stemvane.figures.manifold_panel import Manifold, crop
from stemvane.models.manifold import latent_manifold
from stemvane.segmentation import find_grains


def from_benchmarks(name):
    """A module of the benchmarks, which are not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        return import_module(f"benchmarks.{name}")


Scene, make_scan = (getattr(from_benchmarks("grains.scenes"), name) for name in ("Scene", "make_scan"))
angle_errors, harmonic_angle = (
    getattr(from_benchmarks("grains.rival"), name) for name in ("angle_errors", "harmonic_angle")
)
SMALL = Scene(scan=16, size=64, n_grains=10)


def measured(scene):
    scan = make_scan(scene)
    return scan, measure(scan.dataset, progress=False)


@pytest.fixture(scope="module")
def grains():
    return measured(SMALL)


@pytest.mark.parametrize("scene", [SMALL, replace(SMALL, dose=500.0), replace(SMALL, beam=5.0, lattice="square")])
def test_share_on_dark_rings_lets_every_ring_have_its_own_noise(scene):
    basis = HarmonicBasis.fit(measured(scene)[1])
    assert basis.own_noise
    assert (basis.scale == 1).all()
    # the highest orders hold discs, too; most directions of them are noise all the same
    assert basis.noise == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("dose", [None, 1e5, 2e3])
def test_share_on_dark_rings_of_a_convergent_beam_leaves_all_pixels_alike(dose):
    scans = [
        synthetic((16, 16), (32, 32), dose=dose)[0],
        simulate(scan_shape=(12, 12), scan_extent=(2.0, 2.0), detector_shape=(32, 32), dose=dose, progress=False),
    ]
    assert not any(HarmonicBasis.fit(measure(scan, progress=False)).own_noise for scan in scans)


def test_weights_that_are_given_are_used(grains):
    basis = HarmonicBasis.fit(grains[1], BasisConfig(variance_floor=1.0, order_scale=3.0))
    assert not basis.own_noise
    np.testing.assert_allclose(basis.scale, 1 / (1 + (basis.orders / 3) ** 2))


def test_mean_of_a_few_grains_is_no_background(grains):
    basis = fit_basis(grains[1])
    far = grains[1].grid.radii > 2 * SMALL.beam
    assert not basis.background[1:, far].any()
    assert HarmonicBasis.fit(grains[1]).background[1:, far].any()
    # what is not taken off as background is in the features
    mean = basis.polar(basis.features(grains[1]).mean(axis=0, keepdims=True))[0]
    recorded = grains[1].polar_patterns().mean(axis=0)
    oriented = (recorded - recorded.mean(axis=1, keepdims=True))[far]
    assert np.linalg.norm((mean - recorded)[far]) < 0.2 * np.linalg.norm(oriented)


def test_crystal_that_all_patterns_have_below_them_is_a_background(grains):
    scan = grains[0]
    below = make_scan(replace(SMALL, n_grains=1, seed=5, tilt=0.0)).dataset.data.compute()
    both = scan.dataset.data.compute().astype(np.uint32) + 2 * below
    basis = fit_basis(measure(Dataset4D.from_array(both, calibration=scan.dataset.calibration), progress=False))
    assert basis.own_noise
    assert basis.background[1:, basis.background.shape[1] // 2 :].any()


@pytest.mark.parametrize(
    ("lattice", "tilt"), [("hexagon", 0.0), ("hexagon", 0.2), ("square", 0.2), ("two-fold", 0.0), ("three-fold", 0.2)]
)
def test_symmetry_of_mistilted_grains_is_found_and_angles_are_better_than_the_rivals(lattice, tilt):
    scan, measurements = measured(replace(SMALL, lattice=lattice, tilt=tilt, n_grains=14))
    model = AlignedPCA(n_latent=1).fit(measurements, progress=False)
    assert model.symmetry == scan.symmetry
    found = model.embed(measurements)
    assert found.symmetry == scan.symmetry
    assert np.isfinite(found.angle_std).all()
    assert found.angle_interval(0.95).max() < np.pi / scan.symmetry
    ours = np.abs(angle_errors(found.angle, scan.angle, scan.symmetry))
    rival, order = harmonic_angle(scan, SMALL.beam + 1)
    theirs = np.abs(angle_errors(rival, scan.angle, order))
    assert np.median(ours) < np.median(theirs)


def test_sectors_resolve_discs_as_small_as_the_beam():
    scene = replace(SMALL, lattice="square")
    scan = make_scan(scene)
    errors = {}
    for n in (32, None):
        measurements = measure(scan.dataset, config=MeasureConfig(n_azimuthal=n), progress=False)
        found = AlignedPCA(n_latent=1).fit(measurements, progress=False).embed(measurements)
        errors[n] = np.median(np.abs(angle_errors(found.angle, scan.angle, 4)))
    assert errors[None] < 0.3 * errors[32]


def test_range_follows_the_patterns():
    """Rings end where patterns do not differ any more, and not before."""
    scan = make_scan(SMALL)
    patterns = scan.dataset.data.compute()
    wide = np.zeros((16, 16, 128, 128), patterns.dtype)
    wide[:, :, 32:96, 32:96] = patterns
    prepared = prepare_scan(Dataset4D.from_array(wide, calibration=scan.dataset.calibration))
    grid = measure(prepared, progress=False).grid
    assert grid.outer == pytest.approx(2.02 * scan.ring + SMALL.beam, abs=4)
    assert prepared.preparation.variation_half < grid.outer
    # with a disc that fills half the detector, all of it is kept
    small = simulate(scan_shape=(12, 12), scan_extent=(2.0, 2.0), detector_shape=(32, 32), dose=2e4, progress=False)
    assert measure(prepare_scan(small), progress=False).grid.outer == pytest.approx(16.0, abs=0.1)


def test_range_that_misses_what_differs_is_a_failure(grains):
    scan = prepare_scan(grains[0].dataset)
    for outer, fails in ((3.0, True), (None, False), (14.0, False)):
        found = judge(measure(scan, config=MeasureConfig(outer=outer), progress=False))
        outside = [finding for finding in found if finding.id == "variation_outside"]
        assert bool(outside) == fails, outer
        assert all(finding.severity == "failure" and "measure.outer" in finding.cure for finding in outside)


@pytest.mark.parametrize("dose", [None, 1e5, 2e3])
def test_range_of_little_more_than_a_convergent_disc_is_none(dose):
    scan = prepare_scan(
        simulate(scan_shape=(16, 16), scan_extent=(2.6, 2.6), detector_shape=(32, 32), dose=dose, progress=False)
    )
    found = judge(measure(scan, config=MeasureConfig(outer=1.1), progress=False))
    assert "variation_outside" not in [finding.id for finding in found]


@pytest.mark.parametrize("lattice", ["hexagon", "two-fold"])
def test_electrons_that_count_for_one_are_distinguished_from_discs_that_come_and_go(lattice):
    record = prepare_scan(make_scan(replace(SMALL, lattice=lattice)).dataset).preparation.record
    assert record["counts_per_electron"] == pytest.approx(1.0, abs=0.1)


def test_angles_of_grains_are_not_held_against_the_com(grains):
    model = AlignedPCA(n_latent=1).fit(grains[1], progress=False)
    embedding = model.embed(grains[1])
    assert "angle_contradicts_com" not in [finding.id for finding in judge(grains[1], embedding)]
    metrics = compare(embedding, grains[1])
    assert metrics["angle_sign"] is None
    assert np.isnan(metrics["angle_error_median_deg"])


def test_rotated_patterns_of_grains_have_rotated_angles(grains):
    scan, measurements = grains
    model = AlignedPCA(n_latent=1).fit(measurements, progress=False)
    assert not model.has_oriented_background
    patterns = scan.dataset.data.compute().reshape(-1, 64, 64)[::16]
    result = measure_invariance(model, model.embed(measurements), measurements, patterns, MeasureConfig())
    assert result["equivariance_error_deg"] < 0.3


def embedding_of(angle, symmetry, std=0.01):
    shape = angle.shape
    maps = (np.zeros((*shape, 1)), np.ones((*shape, 1)), angle, np.full(shape, std), np.ones((*shape, 72)) / 72)
    return Embedding(*maps, np.zeros(shape), symmetry=symmetry)


def test_grains_are_found_modulo_the_symmetry():
    angle = np.full((12, 16), 0.1)
    angle[:, 8:] = 0.5
    angle[:4, 8:] = 0.9
    # the same crystal at another of its six angles, and a bent one
    angle[::2] += np.pi / 3
    angle[5:, 8:] += np.radians(0.5) * np.arange(7)[:, None]
    angle[0, 0] = np.nan
    grains = find_grains(embedding_of(angle, 6))
    np.testing.assert_array_equal(grains.counts, [95, 64, 32])
    np.testing.assert_allclose(grains.angle[[0, 2]], [0.1, 0.9], atol=1e-6)
    assert grains.spread[1] > 10 * grains.spread[0]
    assert grains.label[0, 0] == -1
    assert repr(grains).splitlines()[0] == "3 grains, angles modulo 60°"
    assert grains.share.sum() == pytest.approx(191 / 192)


def test_what_may_have_any_angle_is_no_grain_and_noise_does_not_split_one():
    rng = np.random.default_rng(0)
    angle = 0.3 + rng.normal(0, np.radians(1.0), (20, 20))
    assert find_grains(embedding_of(angle, 6, np.radians(1.0))).n_grains == 1
    assert find_grains(embedding_of(angle, 6, np.radians(0.01))).n_grains > 1
    assert find_grains(embedding_of(angle, 6, np.inf)).n_grains == 0


def test_page_of_grains_can_be_read_and_has_a_line_for_each(grains):
    model = AlignedPCA(n_latent=1).fit(grains[1], progress=False)
    embedding = model.embed(grains[1])
    found = find_grains(embedding, np.radians(0.3))
    assert adjusted_rand_score(found.label.ravel(), grains[0].grain.ravel()) > 0.9
    manifold = Manifold(*latent_manifold(model, embedding.latents, 3))
    figure = grains_page(grains[1], embedding, found, manifold, figure=Figure())
    assert_readable(figure)
    words = [text.get_text() for text in figure.texts]
    assert words.count("grain") == -(-found.n_grains // 8)
    assert f"{np.degrees(found.angle[0]):.2f}°" in words
    # the map and the legend have one colour for a grain
    (shown,) = (axes.images[0] for axes in figure.axes if axes.get_label() == "grains")
    drawn = shown.to_rgba(shown.get_array())[found.label == 0][0]
    patch = next(artist for artist in figure.artists if isinstance(artist, Rectangle))
    np.testing.assert_allclose(drawn[:3], patch.get_facecolor()[:3], atol=0.02)


def test_discs_of_a_crystal_are_not_cut_off_what_a_model_decodes(grains):
    model = AlignedPCA(n_latent=1).fit(grains[1], progress=False)
    patterns = model.decode(np.zeros((1, 1)))[None]
    grid, radius = grains[1].grid, grains[1].calibration.disc_radius
    assert crop(patterns, grid, radius).shape[-1] > 2 * grains[0].ring
    # a disc that is wide and even is
    rows, columns = np.indices((64, 64)) - 31.5
    disc = 1.0 * (np.hypot(rows, columns) < 20) * (1 + 0.1 * np.sign(columns))
    assert crop(disc[None, None], replace(grid, axis=(31.5, 31.5)), 20.0).shape[-1] == 50


@pytest.mark.parametrize(
    "scene", [replace(SMALL, dose=2e3), replace(SMALL, lattice="square"), replace(SMALL, beam=5.0)]
)
def test_angles_of_grains_are_off_by_as_much_as_they_say(scene, tmp_path):
    scan, measurements = measured(replace(scene, n_grains=14))
    model = AlignedPCA(n_latent=2).fit(measurements, progress=False)
    found = model.embed(measurements)
    errors = angle_errors(found.angle, scan.angle, scan.symmetry) / found.angle_std
    assert 0.8 < np.sqrt(np.mean(errors**2)) < 1.3
    assert np.mean(np.abs(errors) < 1) == pytest.approx(0.68, abs=0.1)
    # counts that were alike all around a ring would be quieter where a small disc lies
    noise = model._fitted.angle_noise
    assert noise.fixed == pytest.approx(1.0, abs=0.1)
    again = load_model(model.save(tmp_path / "model.safetensors")).embed(measurements)
    np.testing.assert_allclose(again.angle_std, found.angle_std, rtol=1e-5)


def test_noise_of_an_angle_is_that_of_the_discs_it_is_read_by(grains):
    model = AlignedPCA(n_latent=1).fit(grains[1], progress=False)
    wide = AlignedPCA(n_latent=1).fit(measured(replace(SMALL, beam=5.0))[1], progress=False)
    small, large = model._fitted.angle_noise, wide._fitted.angle_noise
    assert small.with_content > 2
    assert abs(large.with_content) < 1
    assert model._fitted.basis.own_noise


def test_table_of_the_benchmark_says_what_is_missed():
    tables = from_benchmarks("grains.tables")
    cell = {"size": 128, "lattice": "square", "beam": 2.0, "dose": 1000.0, "n_grains": 14, "seed": 0}
    ours = {"median_deg": 0.1, "rms_deg": 0.2, "symmetry": 4, "infinite": 0.0, "std_deg": 0.1, "seconds": 9.0}
    rival = {"median_deg": 0.3, "rms_deg": 0.4, "symmetry": 2, "told": {"median_deg": 0.2, "rms_deg": 0.3}}
    rows = {"ours": ours | {"within_68": 0.7, "within_95": 0.94}, "rival": rival}
    assert tables.misses([{"cell": cell, "rows": rows}]) == []
    worse = ours | {"median_deg": 0.21, "symmetry": 2, "infinite": 0.1, "within_68": 0.6, "within_95": 0.99}
    missed = tables.misses([{"cell": cell, "rows": rows | {"ours": worse}}])
    assert missed == ["error", "symmetry", "infinite", "68 %", "95 %"]
    report = {"machine": {"processors": 2, "time": "now"}, "cells": [{"cell": cell, "rows": rows}]}
    assert "| 0.100° (0.200°) | 0.300° (0.400°) | 0.200° (0.300°) | 1 of 1, 0 of 1 |" in tables.tables(report)
