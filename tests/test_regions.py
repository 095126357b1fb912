"""Made scans whose regions are known, and what is found of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from readable import assert_readable
from sklearn.metrics import adjusted_rand_score

from stemvane import Calibration, Dataset4D, RotationVAE, find_defects, measure, open_dataset, prepare_scan
from stemvane.config import AlignConfig, BasisConfig, Config, TrainingConfig
from stemvane.data.embedding import Embedding
from stemvane.segmentation import _noise, _separate, segment_scan

CASES = Path(__file__).parents[2] / "shared" / "data" / "cases"
SIDE, PIXELS, RADIUS, DOSE = 48, 24, 5.0, 4000
STEP = 10.0
VACUUM, FILM, PARTICLE, RIM = range(4)


def frames(scattered, shift, seed):
    """Poisson patterns: a disc moved by `shift` (y, x) px, and a halo that holds the share `scattered`."""
    rows, columns = np.indices((PIXELS, PIXELS)) - (PIXELS - 1) / 2
    y, x = rows - shift[..., 0, None, None], columns - shift[..., 1, None, None]
    disc = np.clip(RADIUS + 0.5 - np.hypot(y, x), 0, 1)
    halo = np.exp(-0.5 * (np.hypot(rows, columns) / 8) ** 2)
    share = scattered[..., None, None]
    mean = (1 - share) * disc / disc.sum(axis=(-2, -1), keepdims=True) + share * halo / halo.sum()
    return np.random.default_rng(seed).poisson(DOSE * mean).astype(np.uint16)


def read(data):
    calibration = Calibration(
        scan_step=(STEP, STEP), pixel_size=(1.0, 1.0), optical_axis=((PIXELS - 1) / 2,) * 2, disc_radius=RADIUS
    )
    measurements = measure(Dataset4D.from_array(data, calibration=calibration))
    # the groups are the same with the default settings
    model = RotationVAE(
        n_latent=2,
        training=TrainingConfig(n_epochs=3),
        align=AlignConfig(max_order=3, n_iterations=10),
        basis=BasisConfig(neighbours=False),
    )
    return measurements, model.fit(measurements).embed(measurements)


@pytest.fixture(scope="module")
def made():
    """Vacuum, a film, and a particle in the film whose rim deflects outwards, in whatever direction that is."""
    y, x = np.indices((SIDE, SIDE))
    away_y, away_x = y - 24, x - 28
    away = np.hypot(away_y, away_x)
    truth = np.where(x < 10, VACUUM, FILM)
    truth[away < 15] = RIM
    truth[away < 10] = PARTICLE
    scattered = np.array([0.02, 0.15, 0.35, 0.25])[truth]
    outwards = np.stack([away_y, away_x], axis=-1) / np.maximum(away, 1)[..., None]
    return truth, *read(frames(scattered, 0.8 * outwards * (truth == RIM)[..., None], seed=1))


@pytest.fixture(scope="module")
def regions(made):
    return segment_scan(*made[1:])


def test_known_regions_are_found(made, regions):
    truth = made[0]
    assert regions.n_groups == 4
    assert adjusted_rand_score(truth.ravel(), regions.label.ravel()) > 0.9
    assert regions.counts.sum() == truth.size
    assert regions.share.sum() == pytest.approx(1)
    assert regions.stability > 0.9


def test_groups_are_numbered_by_what_they_scatter(made, regions):
    truth = made[0]
    # every group's most frequent region, from the least scattering one
    assert [np.bincount(truth[regions.label == i]).argmax() for i in range(4)] == [VACUUM, FILM, RIM, PARTICLE]
    assert np.all(np.diff(regions.values["dark_field"]) > 0)
    assert regions.values["deflection"].argmax() == 2
    assert regions.com_unit == "mrad"


def test_patterns_are_rotated_before_they_are_averaged(made, regions):
    """The rim's deflection goes round the particle: its plain mean is none, the turned one is whole."""
    measurements = made[1]
    grid = measurements.grid
    polar = np.asarray(measurements.polar[:])[regions.label == 2].mean(axis=0)

    def first_order(pattern):
        moment = grid.radii**2 @ pattern @ np.exp(-1j * grid.azimuths)
        return abs(moment) / (grid.radii @ pattern.sum(axis=1))

    assert first_order(polar) < 0.1
    assert first_order(regions.patterns[2]) > 0.4
    assert first_order(regions.patterns[0]) < 0.15


def test_the_same_every_time(made, regions):
    again = segment_scan(*made[1:])
    np.testing.assert_array_equal(again.label, regions.label)
    np.testing.assert_array_equal(again.patterns, regions.patterns)


@pytest.mark.parametrize("seed", [2, 3])
def test_noise_is_one_group(seed):
    alone = segment_scan(*read(frames(np.full((32, 32), 0.15), np.zeros((32, 32, 2)), seed)))
    assert alone.n_groups == 1
    assert alone.counts[0] == 32 * 32


@pytest.mark.parametrize("widths", [(3, 2), (30, 5), (3, 3, 3, 3)])
def test_one_cloud_is_one_group_however_wide(widths):
    points = np.random.default_rng(0).normal(size=(2304, len(widths))) * np.array(widths)
    assert [_separate(points, n, 0).shape[1] for n in (8, 14)] == [1, 1]


def test_two_clouds_are_two_groups():
    points = np.random.default_rng(0).normal(size=(2304, 2)) * 3
    points[:300, 0] += 25
    labels = _separate(points, 8, 0).argmax(axis=1)
    assert adjusted_rand_score(np.arange(2304) < 300, labels) > 0.99


def test_positions_without_a_pattern_are_in_no_group(made):
    _, measurements, embedding = made
    maps = {name: values.copy() for name, values in measurements.maps.items()}
    for values in maps.values():
        values[30:, 5:8] = np.nan
    part = segment_scan(replace(measurements, maps=maps), embedding)
    assert (part.label[30:, 5:8] == -1).all()
    assert (part.label >= 0).sum() == SIDE * SIDE - 18 * 3
    assert adjusted_rand_score(made[0][part.label >= 0], part.label[part.label >= 0]) > 0.9


def test_what_is_no_scan_has_no_groups(made):
    _, measurements, embedding = made
    assert segment_scan(replace(measurements, is_scan=False), embedding) is None


def test_noise_that_a_row_shares_is_noise():
    rng = np.random.default_rng(0)
    everywhere = np.ones((200, 200), bool)
    single = rng.normal(size=(200, 200))
    assert _noise(single, everywhere) == pytest.approx(1 / (2 * np.sqrt(np.pi)), rel=0.05)
    rows = single + 2 * rng.normal(size=(200, 1))
    assert _noise(rows, everywhere) == pytest.approx(np.sqrt(4 * 0.2821 + 0.2821**2), rel=0.15)


def test_the_analysis_has_groups_only_without_a_lattice_and_writes_them(made, tmp_path):
    import zarr

    from stemvane.cli.tables import symmetry_table
    from stemvane.figures.defects_page import defects_page
    from stemvane.runs.defects_folder import write_symmetry

    class Finished:
        measurements, embedding, path, config = *made[1:], tmp_path, Config()

    analysis = find_defects(*made[1:])
    assert analysis.lattice is None
    assert analysis.regions.n_groups == 4
    (tmp_path / "symmetry").mkdir()
    (tmp_path / "symmetry" / "defects.csv").write_text("of an earlier search")
    folder = write_symmetry(Finished, analysis)
    assert not (folder / "defects.csv").exists()
    assert analysis.findings == ()
    summary = json.loads((folder / "symmetry.json").read_text())
    assert summary["n_groups"] == 4
    assert sum(group["share"] for group in summary["groups"]) == pytest.approx(1)
    assert all(len(group["latents"]) == 2 for group in summary["groups"])
    assert summary["groups"][2]["deflection_mrad"] > 0.4
    stored = zarr.open_group(folder / "symmetry.zarr", mode="r")
    np.testing.assert_array_equal(stored["groups"][:], analysis.regions.label + 1)
    assert stored["group_patterns"].shape == (4, PIXELS, PIXELS)
    assert symmetry_table("made", summary).row_count == 6
    figure = defects_page(*made[1:], analysis)
    assert_readable(figure)
    assert [axes.get_label() for axes in analysis.plot(figure=Figure()).axes] == [
        axes.get_label() for axes in figure.axes
    ]
    assert {f"group {i + 1}" for i in range(4)} <= {axes.get_label() for axes in figure.axes}


@pytest.mark.skipif(not CASES.exists(), reason="needs ../shared/data/cases")
def test_two_small_grains_are_two_lattices_and_nothing_is_called_a_defect(tmp_path):
    from stemvane.cli.tables import symmetry_table
    from stemvane.runs.defects_folder import summary_of

    scan = open_dataset(CASES / "bi.npy", energy=60e3, convergence_semiangle=25.0, scan_step=0.25)
    measured = measure(prepare_scan(scan))
    shape = measured.scan_shape
    embedding = Embedding(
        latents=measured.com_magnitude[..., None],
        latent_std=np.full((*shape, 1), 0.1),
        angle=measured.com_angle,
        angle_std=np.full(shape, 0.1),
        angle_posterior=np.full((*shape, 16), 1 / 16),
        log_evidence=np.zeros(shape),
    )
    analysis = find_defects(measured, embedding)
    assert [finding.id for finding in analysis.findings] == ["several_lattices", "partly_searched"]
    assert len(analysis.defects) == 0
    assert len(analysis.lattices) == 2
    shares = [(analysis.lattice_map == number).mean() for number in range(2)]
    assert min(shares) > 0.3
    assert 0.05 < analysis.share_searched < 0.5
    summary = summary_of(analysis)
    assert summary["n_lattices"] == 2
    assert summary["findings"][0]["id"] == "several_lattices"
    assert "2" in next(iter(symmetry_table("bi", summary).columns[1].cells))
