"""The verdict: every finding where it must be made, and where it must not."""

from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage

from stemvane import (
    Calibration,
    Dataset4D,
    RotationVAE,
    measure,
    open_dataset,
    prepare_scan,
    simulate,
    survey,
    synthetic,
)
from stemvane.config import TrainingConfig
from stemvane.data.embedding import Embedding
from stemvane.data.findings import Finding, sort_findings
from stemvane.errors import CalibrationError
from stemvane.evaluation.verdict import judge
from stemvane.features.filtered_com import add_filtered_com, filter_com
from stemvane.reduction.virtual_detectors import VirtualDetector

CASES = Path(__file__).parents[2] / "shared" / "data" / "cases"
KNOWN = Calibration(energy=60e3, convergence_semiangle=31.0, scan_step=(0.16, 0.16))


def discs(scan=(16, 16), size=48, radius=10.0, centre=(23.5, 23.5), shift=(0.0, 0.0), dose=20_000, wave=0.5, seed=0):
    """Counts of a disc that a wave over the scan deflects, in turn along all directions."""
    rng, patterns = np.random.default_rng(seed), np.empty((*scan, size, size))
    for y, x in np.ndindex(scan):
        along, across = y / max(scan[0] - 1, 1) - 0.5, x / max(scan[1] - 1, 1) - 0.5
        phase = 2 * np.pi * (y + 2 * x) / 8
        place = (
            centre[0] + shift[0] * along + wave * np.sin(phase),
            centre[1] + shift[1] * across + wave * np.cos(phase),
        )
        weights = VirtualDetector.disc("disc", (size, size), place, radius).weights
        patterns[y, x] = rng.poisson(dose * weights / (np.pi * radius**2))
    return patterns


def scan_of(patterns, **changes):
    return Dataset4D.from_array(patterns.astype(np.uint16), calibration=KNOWN.replace(**changes))


def embedding_of(measurements, angle=None, std=0.05, latents=None):
    shape = measurements.scan_shape
    rng = np.random.default_rng(0)
    return Embedding(
        latents=rng.normal(size=(*shape, 2)) if latents is None else latents,
        latent_std=np.full((*shape, 2), 0.1),
        angle=measurements.com_angle if angle is None else angle,
        angle_std=np.full(shape, std),
        angle_posterior=np.full((*shape, 16), 1 / 16),
        log_evidence=np.zeros(shape),
    )


def ids(findings, *severities):
    return [finding.id for finding in findings if not severities or finding.severity in severities]


@pytest.fixture(scope="module")
def clean():
    return measure(prepare_scan(scan_of(discs())))


def test_a_clean_scan_has_no_findings(clean):
    assert ids(judge(clean, embedding_of(clean)), "warning", "failure") == []


def test_findings_are_sorted_and_each_is_said_once():
    one, two = Finding("a", "note", "A."), Finding("b", "failure", "B.", "do this")
    assert sort_findings([one, two, one]) == (two, one)
    assert Finding.from_dict(two.to_dict()) == two
    assert str(two) == "B.; do this"


def test_few_positions():
    small = measure(prepare_scan(scan_of(discs((2, 2)))))
    assert "few_positions" in ids(judge(small), "failure")
    some = measure(prepare_scan(scan_of(discs((8, 8)))))
    assert "few_positions" in ids(judge(some), "warning")


def test_a_beam_shift_is_removed_or_reported():
    moving = scan_of(discs(shift=(3.0, 2.0)))
    for switch, expected in (("auto", []), ("off", ["beam_shift", "beam_shift_left"])):
        measured = measure(prepare_scan(moving, descan=switch))
        failures = ids(judge(measured), "failure")
        assert [name for name in failures if name.startswith("beam_shift")] == expected


def test_a_curved_shift_is_removed_as_a_surface():
    patterns = discs(wave=0.2)
    rows = np.rint(6 * (np.arange(16) / 15 - 0.5) ** 2 * 2).astype(int)
    moved = np.stack([np.roll(patterns[y], rows[y], axis=1) for y in range(16)])
    dataset = prepare_scan(scan_of(moved))
    assert len(dataset.beam_shift) == 5
    assert dataset.beam_shift[2][0] == pytest.approx(12.0, rel=0.1)


@pytest.mark.parametrize(("centre", "severity"), [((6.0, 23.5), "failure"), ((23.5, 23.5), None)])
def test_a_disc_cut_by_the_edge(centre, severity):
    findings = survey(scan_of(discs((6, 6), centre=centre))).findings
    assert ids(findings, severity) == ["disc_cut"] if severity else "disc_cut" not in ids(findings)


def test_bragg_discs_brighter_than_the_direct_beam():
    strengths = {(0, 0): 0.5, (0, 14): 1.0, (0, -14): 1.0, (14, 0): 1.0, (-14, 0): 1.0}
    patterns = sum(
        share * discs((6, 6), radius=4.0, centre=(23.5 + y, 23.5 + x), wave=0.0) for (y, x), share in strengths.items()
    )
    looked = survey(scan_of(patterns))
    assert looked.disc_centre == pytest.approx((23.5, 23.5), abs=0.2)
    assert "several_discs" in ids(looked.findings, "warning")


def test_an_axis_and_a_radius_that_contradict_the_disc():
    data = discs((6, 6))
    near = survey(scan_of(data, optical_axis=(23.4, 23.6), disc_radius=10.1)).findings
    assert not {"axis_contradicts", "radius_contradicts"} & set(ids(near))
    far = survey(scan_of(data, optical_axis=(18.0, 23.5), disc_radius=14.0)).findings
    assert "axis_contradicts" in ids(far, "failure")
    assert "radius_contradicts" in ids(far, "warning")


def test_a_scan_step_above_nyquist():
    data = discs((6, 6))
    assert "coarse_scan" not in ids(survey(scan_of(data)).findings)
    assert "coarse_scan" in ids(survey(scan_of(data, scan_step=(0.6, 0.6))).findings, "warning")


def test_steps_of_the_gain():
    data = discs((8, 8), wave=0.0)
    assert "gain_steps" not in ids(survey(scan_of(data)).findings)
    data[..., 24:] *= 1.2
    assert "gain_steps" in ids(survey(scan_of(np.rint(data))).findings, "warning")


def test_a_flyback_column(clean):
    assert "flyback_column" not in ids(judge(clean))
    maps = {name: np.array(values) for name, values in clean.maps.items()}
    maps["total"][:, -1] *= 0.3
    assert "flyback_column" in ids(judge(replace(clean, maps=maps)), "warning")


def test_latents_that_follow_the_scan(clean):
    latents = np.random.default_rng(0).normal(size=(16, 16, 2))
    latents[..., 0] += 0.5 * np.arange(16)
    findings = [finding for finding in judge(clean, embedding_of(clean, latents=latents)) if "latent" in finding.id]
    assert ids(findings, "warning") == ["latent_follows_scan"]
    assert "latent 1" in findings[0].message


def test_an_angle_at_odds_with_the_com(clean):
    random = np.random.default_rng(0).uniform(-np.pi, np.pi, (16, 16))
    assert "angle_contradicts_com" in ids(judge(clean, embedding_of(clean, random)), "failure")
    # an angle that says itself that it knows nothing contradicts nothing, nor does a constant offset
    assert ids(judge(clean, embedding_of(clean, random, std=np.inf)), "failure") == []
    assert ids(judge(clean, embedding_of(clean, clean.com_angle + 1.0)), "failure") == []


def test_an_analogue_detector_is_prepared_and_its_counts_per_electron_are_found():
    recorded = simulate(
        scan_shape=(24, 24), scan_extent=(3.94, 3.94), dose=20_000, source_size=0.8, detector="analogue"
    )
    assert recorded.truth is not None
    prepared = prepare_scan(recorded)
    marked = recorded.truth.bad_pixels
    assert (prepared.bad_pixels & ~marked).sum() <= 2
    lit = np.hypot(*(np.indices((64, 64)) - 31.5)) < 14
    assert not (marked & lit & ~prepared.bad_pixels).any()
    level = np.median(recorded.truth.dark[~marked])
    assert prepared.preparation.record["dark_level"] == pytest.approx(level, abs=5)
    # 30 counts that scatter by 30 %
    assert prepared.preparation.record["counts_per_electron"] == pytest.approx(30 * 1.09, rel=0.1)
    error = measure(prepared).com - recorded.truth.com
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.1
    assert "counts_per_electron" in ids(judge(measure(prepared)), "note")


def test_patterns_without_noise_have_the_dark_level_that_is_added():
    noiseless = simulate(scan_shape=(20, 20), scan_extent=(3.3, 3.3))
    for offset in (0, 3):
        looked = survey(Dataset4D.from_array(1e4 * noiseless.data + offset, calibration=KNOWN))
        assert looked.noise.dark_level == pytest.approx(offset, abs=0.01)
        assert np.isnan(looked.noise.counts_per_electron)
        assert len(looked.dead_pixels) == len(looked.hot_pixels) == 0


def test_a_specimen_that_scatters_everywhere_is_no_dark_level():
    rng = np.random.default_rng(0)
    expected = discs((12, 12), wave=0.0).mean(axis=(0, 1)) + 8.0
    looked = survey(scan_of(rng.poisson(np.broadcast_to(expected, (12, 12, 48, 48)))))
    assert looked.noise.dark_level == 0
    assert looked.noise.counts_per_electron == pytest.approx(1, abs=0.1)


def test_a_hot_block_in_the_dark_tells_nothing_of_electrons():
    patterns = discs((12, 12))
    patterns[..., 4:8, 36:40] = 900
    patterns[..., 40, 5] = 300
    measured = measure(prepare_scan(scan_of(patterns)))
    assert measured.preparation.record["counts_per_electron"] == pytest.approx(1, abs=0.1)
    assert "not_poisson" not in ids(judge(measured))


def test_blocks_lines_and_masks_of_bad_pixels():
    patterns = discs((8, 8), wave=0.2)
    patterns[..., 4:8, 36:40] = 900
    patterns[..., 20:22, :] = 0
    patterns[..., 28:31, 25:27] = 0
    bad = np.zeros((48, 48), bool)
    bad[4:8, 36:40] = bad[20:22] = bad[28:31, 25:27] = True
    looked = survey(scan_of(patterns))
    marked = np.zeros_like(bad)
    marked[tuple(np.concatenate([looked.hot_pixels, looked.dead_pixels]).T)] = True
    np.testing.assert_array_equal(marked, bad)
    assert looked.disc_centre == pytest.approx((23.5, 23.5), abs=0.1)
    masked = survey(replace(scan_of(patterns), bad_pixels=bad))
    assert len(masked.hot_pixels) == len(masked.dead_pixels) == 0
    assert masked.disc_centre == pytest.approx((23.5, 23.5), abs=0.1)


def test_a_masked_pixel_moves_through_the_pattern():
    patterns = discs(shift=(4.0, 3.0), wave=0.3)
    whole = measure(prepare_scan(scan_of(patterns)))
    bad = np.random.default_rng(1).random((48, 48)) < 0.02
    patterns[..., bad] = 0
    masked = measure(prepare_scan(replace(scan_of(patterns), bad_pixels=bad)))
    difference = masked.deflection - whole.deflection
    # counting noise of the COM along one axis is r / (2 √N) = 0.035 px, of which bad pixels may hide a part
    size = whole.calibration.pixel_size[0]
    assert np.sqrt((difference**2).mean()) < 0.015 * size


@pytest.mark.skipif(not CASES.exists(), reason="the scans that go wrong are not beside the repository")
@pytest.mark.parametrize(
    ("name", "options", "switches", "n_bad"),
    [
        ("cluster.npy", {}, {}, 16),
        ("cluster.npy", {}, {"bad_pixels": str(CASES / "cluster_mask.npy")}, 16),
        ("dec2_master.h5", {"scan_shape": (20, 28)}, {}, 4),
        ("abort.mib", {}, {}, 0),
        ("f16.npy", {}, {}, 1),
    ],
)
def test_scans_that_went_wrong(name, options, switches, n_bad):
    numbers = {"energy": 60e3, "convergence_semiangle": 25.0, "scan_step": (0.2, 0.2)}
    prepared = prepare_scan(open_dataset(CASES / name, **options, **numbers), **switches)
    assert prepared.calibration.optical_axis == pytest.approx((19.5, 23.5), abs=0.05)
    assert prepared.calibration.disc_radius == pytest.approx(11.0, abs=0.1)
    assert (0 if prepared.bad_pixels is None else int(prepared.bad_pixels.sum())) == n_bad
    measured = measure(prepared)
    assert measured.recorded.sum() == (330 if name == "abort.mib" else 560)
    assert np.nanmax(np.linalg.norm(measured.com, axis=-1)) / measured.calibration.pixel_size[0] < 0.9
    assert ids(judge(measured), "warning", "failure") == []


@pytest.mark.skipif(not CASES.exists(), reason="the scans that go wrong are not beside the repository")
def test_frames_of_the_flyback_are_noticed():
    whole = open_dataset(CASES / "fly.mib", scan_shape=(6, 9), scan_step=(0.2, 0.2))
    assert "flyback_column" in ids(judge(measure(prepare_scan(whole))))


def test_the_row_and_the_column_of_a_cross_are_both_found():
    patterns = discs(scan=(8, 8))
    patterns[..., 24:26, :] = patterns[..., :, 20] = 0
    dead = survey(scan_of(patterns)).dead_pixels
    assert set(dead[:, 0][dead[:, 1] == 40]) == {24, 25}
    assert set(dead[:, 1][dead[:, 0] == 40]) == {20}


def test_a_shadow_on_the_disc():
    patterns = discs(scan=(8, 8))
    patterns[..., 22:27, :24] = 0
    assert "disc_shadowed" in ids(survey(scan_of(patterns)).findings, "failure")
    mask = np.zeros((48, 48), bool)
    mask[22:27, :24] = True
    masked = replace(scan_of(patterns), bad_pixels=mask)
    assert "disc_shadowed" not in ids(survey(masked).findings)
    assert "disc_shadowed" not in ids(survey(scan_of(discs(scan=(8, 8), dose=50))).findings)


def test_small_bragg_discs_are_no_hot_pixels():
    patterns = sum(
        discs(scan=(8, 8), radius=2.0, centre=place, wave=0.0, dose=1000, seed=seed)
        for seed, place in enumerate([(23.5, 23.5), (10.4, 23.6), (23.7, 37.0), (36.6, 23.4), (46.9, 36.6)])
    )
    assert len(survey(scan_of(patterns)).hot_pixels) == 0
    patterns[..., 40, 8] = 5000
    assert survey(scan_of(patterns)).hot_pixels.tolist() == [[40, 8]]


def bright(kind, size, centre):
    """What a bright region adds, 1 where it is full."""
    if kind == "round":
        return VirtualDetector.disc("region", (48, 48), centre, size / 2).weights
    y, x = np.indices((48, 48))
    inside = (abs(y - centre[0]) < size / 2) & (abs(x - centre[1]) < size / 2)
    return inside.astype(float)


DISC_LEVEL = 20_000 / (np.pi * 100)


@pytest.fixture(scope="module")
def without_region():
    patterns = discs((12, 12))
    return patterns, measure(prepare_scan(scan_of(patterns)))


# beside the disc a gap of one pixel is left
@pytest.mark.parametrize("centre", [(23.5, 40.5), (7.5, 39.5)])
@pytest.mark.parametrize("strength", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("size", [4, 8, 12])
def test_a_bright_square_region_is_left_out(without_region, size, strength, centre):
    patterns, alone = without_region
    region = bright("square", size, centre)
    added = np.random.default_rng(5).poisson(np.broadcast_to(strength * DISC_LEVEL * region, patterns.shape))
    prepared = prepare_scan(scan_of(patterns + added))
    np.testing.assert_array_equal(prepared.bad_pixels, region > 0)
    assert prepared.calibration.optical_axis == pytest.approx((23.5, 23.5), abs=0.05)
    assert prepared.calibration.disc_radius == pytest.approx(10.0, abs=0.1)
    measured = measure(prepared)
    # a large one that nearly touches the disc is filled with what the disc's edge has
    off = np.abs(np.angle(np.exp(1j * (measured.com_angle - alone.com_angle))))
    assert np.degrees(off.mean()) < (6 if size == 12 and centre[0] > 20 else 0.1)
    assert ids(judge(measured), "warning", "failure") == (["bright_region"] if size == 12 else [])


@pytest.mark.parametrize("strength", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("size", [4, 8, 12])
def test_a_bright_round_region_is_said_where_it_matters(without_region, size, strength):
    """It may be a disc of a crystal, so it is left in; at 10 times the disc's brightness it is taken for the disc."""
    patterns, alone = without_region
    region = strength * DISC_LEVEL * bright("round", size, (7.5, 39.5))
    added = np.random.default_rng(5).poisson(np.broadcast_to(region, patterns.shape))
    measured = measure(prepare_scan(scan_of(patterns + added)))
    off = np.degrees(np.abs(np.angle(np.exp(1j * (measured.com_angle - alone.com_angle))))).mean()
    share = added.sum() / (added.sum() + patterns.sum())
    found = judge(measured)
    if strength == 10 or share > 0.2:
        assert "lone_region" in ids(found, "failure")
    elif off > 2:
        assert "lone_region" in ids(found, "warning", "failure")
    else:
        assert ids(found, "warning", "failure") == []


def test_a_region_with_a_counterpart_is_a_disc_of_a_crystal():
    both = sum(
        share * discs((6, 6), radius=6.0, centre=(23.5, 23.5 + x), wave=0.0)
        for share, x in ((1.0, 0), (0.6, 15), (0.25, -15))
    )
    assert "lone_region" not in ids(survey(scan_of(np.rint(both))).findings)
    one = both - 0.25 * discs((6, 6), radius=6.0, centre=(23.5, 8.5), wave=0.0)
    assert "lone_region" in ids(survey(scan_of(np.rint(one))).findings, "failure")
    # with the axis given it cannot be the direct beam
    given = survey(scan_of(np.rint(one), optical_axis=(23.5, 23.5))).findings
    assert "lone_region" in ids(given, "warning")


def test_a_region_that_hides_the_disc_is_refused_with_a_cure(without_region):
    patterns, _ = without_region
    touching = patterns + np.rint(2 * DISC_LEVEL * bright("square", 12, (23.5, 36.5)))
    with pytest.raises(
        CalibrationError, match=r"no bright-field disc .*give source\.optical_axis .*preparation\.bad_pixels"
    ):
        prepare_scan(scan_of(touching))
    masked = replace(scan_of(touching), bad_pixels=bright("square", 12, (23.5, 36.5)) > 0)
    assert prepare_scan(masked).calibration.optical_axis == pytest.approx((23.5, 23.5), abs=0.1)


def test_the_lit_part_of_a_detector_is_no_defect():
    """A frame of pixels that see nothing makes what is lit a rectangle."""
    patterns = discs((6, 6)) + 150
    patterns[..., :12, :] = patterns[..., 36:, :] = patterns[..., :, :10] = patterns[..., :, 38:] = 0
    looked = survey(
        scan_of(patterns),
    )
    assert len(looked.hot_pixels) == 0


def test_a_removed_shift_that_may_be_a_field_is_a_failure():
    field = np.concatenate([discs(scan=(16, 8), centre=(23.5, x), dose=1e5) for x in (22.0, 25.0)], axis=1)
    assert "beam_shift_removed" in ids(prepare_scan(scan_of(field)).findings, "warning", "failure")
    assert ids(prepare_scan(scan_of(discs(shift=(3.0, 2.0)))).findings) == ["beam_shift_removed"]
    assert "beam_shift_removed" not in ids(prepare_scan(scan_of(field), descan="plane").findings)


def test_one_pattern_alone_and_patterns_without_noise_have_no_bad_pixels():
    single = survey(scan_of(discs(scan=(1, 1))))
    assert len(single.hot_pixels) == len(single.dead_pixels) == 0
    y, x = np.indices((48, 48))
    background = np.exp(-((y - 23.0) ** 2 + (x - 24.0) ** 2) / 2000.0)
    waves = 1 + 1e-9 * np.random.default_rng(0).normal(size=(8, 8, 1, 1)) + 0 * y
    weights = VirtualDetector.disc("disc", (48, 48), (23.5, 23.5), 10.0).weights
    scan = Dataset4D.from_array(background * waves + weights * np.linspace(2, 3, 64).reshape(8, 8, 1, 1))
    assert not len(survey(scan).dead_pixels)
    assert survey(scan_of(discs(scan=(2, 2)))).shift is None


def test_the_dark_side_of_a_dark_level_is_not_dead():
    """Where the level is found a little too high, the darkest corners lie below it."""
    y, x = np.indices((48, 48))
    tail = 300 * np.exp(-((y - 23.5) ** 2 + (x - 23.5) ** 2) / 150.0)
    patterns = np.random.default_rng(0).poisson(tail, (8, 8, 48, 48)) + discs(scan=(8, 8)) + 20
    patterns[..., 3, 3] = 0
    assert survey(scan_of(patterns)).dead_pixels.tolist() == [[3, 3]]


def test_a_dark_level_below_a_beam_that_shifts_far():
    """The discs' edges are more components than noise can be told from."""
    patterns = discs(shift=(10.0, -6.0), dose=1e6) + 20
    assert survey(Dataset4D.from_array(patterns.astype(np.uint32))).noise.dark_level == pytest.approx(20, abs=1)
    y, x = np.indices((48, 48))
    tail = 400 * np.exp(-((y - 23.5) ** 2 + (x - 23.5) ** 2) / 1800.0)
    wave = 1 + 0.2 * np.sin(np.arange(64)).reshape(8, 8, 1, 1)
    weights = VirtualDetector.disc("disc", (48, 48), (23.5, 23.5), 10.0).weights
    scattered = Dataset4D.from_array(np.rint(tail + 1000 * wave * weights).astype(np.uint16))
    assert survey(scattered).noise.dark_level == 0


def recorded(extent=5.1, **options):
    return simulate(
        scan_shape=(32, 32),
        scan_extent=(extent, extent),
        detector_shape=(32, 32),
        dose=2000.0,
        source_size=0.5,
        **options,
    )


@pytest.mark.parametrize(("factor", "word"), [(2.0, "brighter"), (0.5, "darker"), (1.0, None)])
def test_a_patch_on_the_disc(factor, word):
    patterns = discs((8, 8))
    patterns[..., 20:28, 26:34] *= factor
    uneven = [finding for finding in survey(scan_of(np.rint(patterns))).findings if finding.id == "uneven_disc"]
    assert [(finding.severity, word in finding.message) for finding in uneven] == ([("warning", True)] if word else [])


@pytest.mark.parametrize(("n_hit", "severity"), [(0, None), (1, "warning"), (13, "failure")])
@pytest.mark.parametrize("shared", [False, True])
def test_spikes_of_x_rays_are_said(n_hit, severity, shared):
    patterns, rng = discs(), np.random.default_rng(4)
    for y, x in rng.permutation(np.argwhere(np.ones((16, 16), bool)))[:n_hit]:
        row, column = rng.integers(2, 45, 2)
        patterns[y, x, row, column] += 1000
        patterns[y, x, row, column + 1] += 400 * shared
    said = [finding.severity for finding in survey(scan_of(patterns)).findings if finding.id == "spikes"]
    assert said == ([severity] if severity else [])


def test_spikes_are_no_discs_and_no_hot_pixels():
    patterns = (
        discs((8, 8)) + discs((8, 8), radius=3.0, centre=(8.0, 8.0), dose=4000) * (np.arange(8) == 3)[:, None, None]
    )
    patterns[..., 40, 40] = 900
    assert "spikes" not in ids(survey(scan_of(patterns)).findings)
    analogue = recorded(detector="analogue")
    assert "spikes" not in ids(survey(analogue).findings)


def test_a_patch_with_a_counterpart_is_the_specimen():
    patterns = discs((8, 8))
    for columns in (slice(27, 33), slice(15, 21)):
        patterns[..., 21:27, columns] *= 0.5
    assert "uneven_disc" not in ids(survey(scan_of(np.rint(patterns))).findings)


def test_a_block_of_hot_pixels_on_the_disc_hides_it():
    patterns = discs((8, 8))
    assert "disc_hidden" not in ids(survey(scan_of(patterns)).findings)
    gap = patterns.copy()
    gap[..., 23:25, :] = 0
    assert "disc_hidden" not in ids(survey(scan_of(gap)).findings)
    patterns[..., 20:28, 28:36] = 640
    assert "disc_hidden" in ids(survey(scan_of(patterns)).findings, "warning")
    # who gives a mask knows of it
    block = np.zeros((48, 48), bool)
    block[20:28, 28:36] = True
    assert "disc_hidden" not in ids(survey(replace(scan_of(patterns), bad_pixels=block)).findings)


@pytest.fixture(scope="module")
def unsteady():
    """A noisy scan with drift and flyback, whose lines jitter by up to two steps."""
    path = {"drift": (1.0, 0.5), "flyback_distortion": 0.5}
    whole = simulate(scan_shape=(48, 48), scan_extent=(7.875, 7.875), detector_shape=(32, 32), dose=20_000.0, scan=path)
    random = np.random.default_rng(0)
    lines = np.stack([np.roll(line, random.integers(-2, 3), axis=0) for line in whole.data.compute()])
    known = KNOWN.replace(scan_step=whole.calibration.scan_step)
    return measure(prepare_scan(Dataset4D.from_array(lines, calibration=known)))


@pytest.mark.parametrize(
    ("wrong", "fires"),
    [
        ({}, False),
        ({"scan_step": (10.5 / 64 / 5, 10.5 / 64 / 5)}, True),
        ({"energy": 600.0}, True),
        ({"scan_step": None}, False),
        ({"scan_step": (10.5 / 64 / 5, 10.5 / 64 / 5), "convergence_semiangle": None}, False),
    ],
)
def test_content_beyond_the_band_limit(unsteady, wrong, fires):
    said = replace(unsteady, calibration=unsteady.calibration.replace(**wrong))
    findings = judge(add_filtered_com(said))
    assert ("content_beyond_limit" in ids(findings, "warning")) == fires
    # beyond a limit that is none, what looks like smoothed noise is content
    assert not (fires and "smoothed_over_scan" in ids(findings))


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_displaced_lines_are_reported_and_do_not_make_the_filter_worse_than_the_com(jitter):
    settings = {"scan_shape": (48, 48), "scan_extent": (7.875, 7.875), "detector_shape": (32, 32), "dose": 20_000.0}
    # a drift of next to nothing, so that both scans are interpolated
    measured = measure(simulate(**settings, scan={"line_jitter": jitter, "drift": (1e-3, 0.0)}), progress=False)
    assert ("lines_displaced" in ids(judge(add_filtered_com(measured)), "warning")) == bool(jitter)
    truth, filtered = measured.expectation.deflection, filter_com(measured).deflection

    def off(deflection):
        return np.median(np.linalg.norm(deflection - truth, axis=-1))

    assert off(filtered) < (0.7 if jitter else 0.25) * off(measured.deflection)


@pytest.mark.parametrize("kind", ["counting", "analogue"])
def test_patterns_smoothed_over_the_scan_are_reported(kind):
    scan = recorded(detector=kind)
    counts = scan.data.compute().astype(np.float32)
    pairs = counts + np.roll(counts, 1, axis=1)
    blurred = ndimage.gaussian_filter(counts, (0.7, 0.7, 0, 0))
    for patterns, expected in ((counts, False), (pairs, True), (blurred, True)):
        data = Dataset4D.from_array(patterns, calibration=scan.calibration)
        assert ("smoothed_over_scan" in ids(judge(measure(prepare_scan(data))), "warning")) == expected


@pytest.mark.skipif(not CASES.exists(), reason="needs ../shared/data/cases")
def test_content_at_coarse_periods_is_not_called_smoothing():
    """Two grains that meet at a sharp edge have content at all periods, which falls off towards the finest."""
    scan = open_dataset(CASES / "bi.npy", energy=60e3, convergence_semiangle=25.0, scan_step=0.25)
    assert "smoothed_over_scan" not in ids(judge(measure(prepare_scan(scan))))


@pytest.mark.parametrize(("wave", "fires"), [(0.0, True), (0.5, False)])
def test_a_scan_of_noise_alone_is_a_failure(wave, fires):
    measured = add_filtered_com(measure(prepare_scan(scan_of(discs((32, 32), wave=wave), scan_step=(0.3, 0.3)))))
    embedding = RotationVAE(1, training=TrainingConfig(n_epochs=5)).fit(measured).embed(measured)
    findings = judge(measured, embedding)
    assert ("no_deflection" in ids(findings, "warning")) == fires
    assert ("nothing_beyond_noise" in ids(findings, "failure")) == fires
    # where single patterns tell no template from none, the mean pattern gives no symmetry
    assert embedding.symmetry == 1
    assert ("com_filtered_y" in measured.maps) != fires


def test_the_angle_is_held_against_the_filtered_com():
    """At so few electrons the measured COM says nothing for or against an angle, the filtered one does."""
    measured = add_filtered_com(measure(prepare_scan(scan_of(discs((32, 32), dose=300), scan_step=(0.3, 0.3)))))
    filtered = measured.filtered_deflection
    angle = np.arctan2(-filtered[..., 0], filtered[..., 1])
    for off, severity in ((0.0, None), (np.radians(25), "failure")):
        alternating = off * np.where(np.indices(angle.shape).sum(axis=0) % 2, 1, -1)
        findings = judge(measured, embedding_of(measured, angle + alternating))
        assert ids(findings, "failure", "warning") == ([] if severity is None else ["angle_contradicts_com"])


def test_a_scan_without_fine_periods_is_not_called_smoothed():
    coarse = recorded(13.0, detector="counting")
    assert "smoothed_over_scan" not in ids(judge(measure(prepare_scan(coarse))))


def test_a_disc_saturated_all_over_is_a_failure():
    patterns = discs(scan=(8, 8))
    assert "saturation" not in ids(survey(scan_of(patterns)).findings)
    some = patterns.copy()
    some[..., 19:29, 19:29] = np.minimum(3 * some[..., 19:29, 19:29], 120)
    assert "saturation" in ids(survey(scan_of(some)).findings, "warning")
    assert "saturation" in ids(survey(scan_of(np.minimum(patterns, 32))).findings, "failure")


def test_an_offset_of_patterns_without_noise_is_a_dark_level():
    scan, _ = synthetic((8, 8), (32, 32))
    patterns = scan.data.compute()
    moved = replace(scan, data=da.from_array(patterns + 0.3 * patterns.max()), expectation=None)
    plain, prepared = (measure(prepare_scan(data)) for data in (scan, moved))
    assert prepared.preparation.record["dark_level"] == pytest.approx(0.3 * patterns.max(), rel=0.02)
    np.testing.assert_allclose(prepared.deflection, plain.deflection, atol=0.02 * np.abs(plain.deflection).max())
    assert "dark_level" not in plain.preparation.record
    # where all of the detector is lit nothing shows a level
    lit = patterns[..., 11:21, 11:21]
    assert survey(Dataset4D.from_array(lit)).noise.dark_level == 0


def test_a_bin_that_lacks_a_pattern_is_missing():
    patterns = discs(scan=(8, 8))
    patterns[2, 3] = 0
    binned = measure(prepare_scan(scan_of(patterns), scan_binning=2))
    assert np.argwhere(~binned.recorded).tolist() == [[1, 1]]
    # of few electrons a pattern has none by chance
    sparse = discs(scan=(8, 8), dose=20_000).astype(np.uint16)
    sparse = np.random.default_rng(0).binomial(sparse, 3 / 20_000)
    assert (sparse.sum(axis=(2, 3)) == 0).any()
    known = {"optical_axis": (23.5, 23.5), "disc_radius": 10.0}
    total = prepare_scan(scan_of(sparse, **known), scan_binning=2).data.sum().compute()
    assert total == sparse.sum()


@pytest.mark.filterwarnings("error")
def test_a_column_without_any_pattern_is_no_trouble(clean):
    maps = {name: np.array(values) for name, values in clean.maps.items()}
    for values in maps.values():
        values[:, -1] = np.nan
    assert "flyback_column" not in ids(judge(replace(clean, maps=maps)))
