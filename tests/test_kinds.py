"""Kinds of patterns: domains, their number, labels, what is of no kind, and a field of neighbours."""

from dataclasses import replace

import numpy as np
import pytest
import zarr

from stemvane import Dataset4D, Embedding, KindsModel, load_model, measure
from stemvane.config import KindsConfig
from stemvane.data.calibration import Calibration
from stemvane.errors import ConfigError, DataError, ModelError
from stemvane.models.kind_field import find_strength, find_trust, mean_field
from stemvane.simulation.synthetic import synthetic_patterns
from stemvane.viewer.scene_maps import maps_of_embedding

N = 18
FOLDS = (1, 3)
# patterns as clear as these need no window, and fits are twice as fast without
FIELD = KindsConfig(window=0.0)


def domains():
    """Kind 1 in a disc, kind 0 around it."""
    y, x = np.mgrid[:N, :N] - (N - 1) / 2
    return (np.hypot(y, x) < 6).astype(int)


def scan_of_kinds(dose=20_000.0, strange=()):
    """Patterns of two kinds of different symmetry at random angles, and positions with a pattern of neither."""
    rng = np.random.default_rng(3)
    kind, angle = domains(), rng.uniform(0, 2 * np.pi, (N, N))
    expected = np.empty((N, N, 32, 32))
    for k, fold in enumerate(FOLDS):
        at = kind == k
        content = np.stack([rng.uniform(0.6, 1, (at.sum(), 1)), rng.uniform(-1, 1, (at.sum(), 1))])
        nothing = np.zeros((0, at.sum(), 1))
        expected[at] = synthetic_patterns(angle[at][:, None], content, nothing, (32, 32), symmetry=fold)[:, 0]
    for position in strange:
        expected[position] = np.roll(expected[position], 5 - position[1] // 2, axis=position[0] % 2)
    calibration = Calibration(
        scan_step=(0.6, 0.6),
        pixel_size=(2.0, 2.0),
        optical_axis=(15.5, 15.5),
        disc_radius=10.0,
        convergence_semiangle=20.0,
        energy=60e3,
    )
    counts = rng.poisson(expected * dose).astype(np.uint16)
    dataset = Dataset4D.from_array(counts, calibration=calibration, electrons_per_pattern=dose, name="kinds")
    return measure(dataset, progress=False), kind, angle


@pytest.fixture(scope="module")
def scan():
    return scan_of_kinds()


@pytest.fixture(scope="module")
def fitted(scan):
    return KindsModel(n_kinds=2, n_latent=1, model=FIELD).fit(scan[0], progress=False)


def test_kinds_angles_and_symmetries_are_found(scan, fitted):
    measurements, kind, angle = scan
    found = fitted.embed(measurements)
    # kind 1 is the more frequent one, which surrounds the disc
    assert (found.kind == kind + 1).mean() > 0.99
    assert fitted.kind_symmetry == FOLDS
    for k, fold in enumerate(FOLDS):
        difference = np.angle(np.exp(1j * fold * (found.angle - angle)[kind == k])) / fold
        offset = np.median(difference)
        off = np.abs(difference - offset)
        assert np.degrees(np.median(off)) < 8
        # angle_std is what the angle is off by
        assert 0.5 < np.sqrt(np.mean(np.minimum(off, 1) ** 2)) / np.median(found.angle_std[kind == k]) < 2
    np.testing.assert_allclose(found.angle_posterior.sum(axis=-1), 1, atol=1e-4)
    np.testing.assert_allclose(found.kind_probability.sum(axis=-1), 1, atol=1e-6)


def test_probabilities_are_as_right_as_they_say(scan, fitted):
    noisy, kind, _ = scan_of_kinds(dose=2500.0)
    found = KindsModel(n_kinds=2, n_latent=0, model=FIELD).fit(noisy, progress=False).embed(noisy)
    wrong = float((found.kind != kind + 1).mean())
    assert wrong < 0.05
    assert abs((1 - found.kind_probability.max(axis=-1)).mean() - wrong) < 0.03


def test_held_out_patterns_tell_the_number_of_kinds(scan, fitted):
    measurements, _, _ = scan
    one = KindsModel(n_kinds=1, n_latent=1, model=FIELD).fit(measurements, progress=False)
    held = ~one.training_mask
    worth = [model.evidence(measurements, held)[0] for model in (one, fitted)]
    gain = worth[1] - worth[0]
    assert gain.mean() > 2 * gain.std() / np.sqrt(held.sum())


def test_a_pattern_of_neither_kind_is_of_none():
    strange = [(2, 3), (9, 9), (15, 4)]
    measurements, _, _ = scan_of_kinds(strange=strange)
    found = KindsModel(n_kinds=2, n_latent=1, model=FIELD).fit(measurements, progress=False).embed(measurements)
    none = found.kind == 0
    assert all(none[at] for at in strange)
    assert none.sum() <= len(strange) + 1


def test_labels_name_kinds_and_stay(scan):
    measurements, kind, _ = scan
    labels = {"disc": [(9, 9), (8, 10)], "around": [(0, 0), (1, 16)]}
    model = KindsModel(n_kinds=2, n_latent=1, labels=labels, model=FIELD).fit(measurements, progress=False)
    found = model.embed(measurements)
    assert model.kind_names == ("disc", "around")
    assert (found.kind == 2 - kind).mean() > 0.99
    # what somebody has labelled is not held out
    assert all(model.training_mask[at] for positions in labels.values() for at in positions)
    with pytest.raises(DataError, match="'disc' has a pattern"):
        model.fit(measurements, mask=kind == 0, progress=False)
    # more names than kinds make more kinds
    assert KindsModel(n_kinds=1, labels=labels).n_kinds == 2


def test_labels_come_from_a_file(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("y,x,name\n9,9,disc\n0,0,around\n1,1,around\n")
    assert KindsModel(labels=path).labels == {"disc": [(9, 9)], "around": [(0, 0), (1, 1)]}
    assert KindsModel(model=KindsConfig(labels=str(path))).n_kinds == 3
    path.write_text("y,x,name\n9,here,disc\n")
    with pytest.raises(DataError, match="line 2"):
        KindsModel(labels=path)
    with pytest.raises(DataError, match="cannot be read"):
        KindsModel(labels=tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"a": [(50, 0)]}, "beyond the scan"),
        ({"a": [(1, 1)], "b": [(1, 1)]}, "keep one"),
        ({"a": [3]}, "pairs"),
        ({"a": [(0.5, 1)]}, "whole numbers"),
        ({"a": 3}, "list of pairs"),
        ({"a": []}, "no positions"),
        ({3: [(0, 0)]}, "no text"),
        ([(0, 0)], "positions by name"),
        ({f"a{k}": [(k // N, k % N)] for k in range(60)}, "98 patterns to fit 60 kinds to; set model.n_kinds to 32"),
    ],
)
def test_bad_labels_are_refused(scan, labels, words):
    few = np.arange(N * N).reshape(N, N) < 100
    with pytest.raises(DataError, match=words):
        KindsModel(labels=labels).fit(scan[0], mask=few, progress=False)


def test_the_model_is_saved_decoded_and_loaded(scan, fitted, tmp_path):
    measurements = scan[0]
    fitted.save(tmp_path / "kinds")
    again = load_model(tmp_path / "kinds.safetensors")
    np.testing.assert_array_equal(again.embed(measurements).kind, fitted.embed(measurements).kind)
    patterns = [fitted.of_kind(k).decode(np.zeros(1)) for k in (1, 2)]
    assert patterns[0].shape == (32, 32)
    assert np.nanmax(np.abs(patterns[0] - patterns[1])) > 0
    with pytest.raises(ModelError, match="no kind 3"):
        fitted.of_kind(3)
    rebuilt = fitted.reconstruct_features(measurements)
    features = fitted.basis.features(measurements)
    left = (np.abs(features - rebuilt) ** 2).sum() / (np.abs(features) ** 2).sum()
    assert left < 0.8


def test_an_embedding_keeps_its_kinds(scan, fitted):
    found = fitted.embed(scan[0])
    group = zarr.group()
    found.write(group)
    again = Embedding.read(group)
    np.testing.assert_array_equal(again.kind, found.kind)
    assert (again.kind_names, again.kind_symmetry) == (found.kind_names, found.kind_symmetry)
    assert "kinds" in repr(found)


def test_the_page_of_kinds_shows_each_of_them(scan, fitted):
    found = fitted.embed(scan[0])
    page = found.plot("kinds")
    axes = {ax.get_label(): ax for ax in page.axes}
    assert {"kinds", "angle", "confidence", "mean", "pattern_1", "pattern_2"} <= set(axes)
    # of two kinds, one has more where the other has less
    shown = [axes[f"pattern_{k}"].images[0].get_array().filled(0) for k in (1, 2)]
    np.testing.assert_allclose(shown[0], -shown[1], atol=1e-9 * np.abs(shown[0]).max())
    legend = [text.get_text() for text in axes["kinds"].get_legend().get_texts()]
    assert [words.split(":")[0] for words in legend[:2]] == ["kind 1", "kind 2"]
    assert "3-fold" in axes["pattern_2"].get_title()
    assert found.plot("kind").get_title() == "Kinds"
    with pytest.raises(DataError, match="without kinds"):
        replace(found, kind_probability=None).plot("kinds")


def test_any_seed_gives_the_same_kinds(scan, fitted):
    from stemvane.config import TrainingConfig

    again = KindsModel(n_kinds=2, n_latent=1, model=FIELD, training=TrainingConfig(seed=7)).fit(scan[0], progress=False)
    assert (again.embed(scan[0]).kind == fitted.embed(scan[0]).kind).mean() > 0.99


def chiral_scan(dose):
    """Patterns of three spots at random angles, in the disc mirrored, and which are which."""
    rng = np.random.default_rng(5)
    hand, angle = domains(), rng.uniform(0, 2 * np.pi, (N, N))
    y, x = np.mgrid[:32, :32] - 15.5
    expected = np.full((N, N, 32, 32), 2e-3) * (np.hypot(y, x) < 14)
    # with the two others out of line, a spot on the axis has no mirror image that a rotation brings back
    for radius, at, height in ((4.0, 0.0, 4.0), (8.0, 1.0, 2.0), (11.0, 2.2, 2.0)):
        turned = angle + np.where(hand, -at, at)
        up, right = (radius * part(turned)[..., None, None] for part in (np.sin, np.cos))
        expected += 1e-3 * height * np.exp(-((-y - up) ** 2 + (x - right) ** 2) / 6)
    counts = rng.poisson(expected / expected.sum(axis=(2, 3), keepdims=True) * dose).astype(np.uint16)
    calibration = Calibration(optical_axis=(15.5, 15.5), disc_radius=14.0, convergence_semiangle=28.0, energy=60e3)
    return measure(Dataset4D.from_array(counts, calibration=calibration), progress=False), hand, angle


def test_the_hand_of_a_pattern_is_a_kind_of_its_own():
    measurements, hand, angle = chiral_scan(2000.0)
    settings = KindsConfig(n_kinds=1, n_latent=0, window=0.0, mirror=True)
    model = KindsModel(model=settings).fit(measurements, progress=False)
    found = model.embed(measurements)
    assert model.kind_names == ("kind 1", "kind 1, mirrored")
    assert (found.kind == hand + 1).mean() > 0.99
    patterns = np.nan_to_num(found.kind_patterns)
    # but for what does not rotate, and has no mirror image
    assert np.corrcoef(patterns[0].ravel(), patterns[1][::-1].ravel())[0, 1] > 0.99
    for k in range(2):
        off = np.exp(1j * (found.angle - angle)[hand == k])
        assert np.degrees(np.median(np.abs(np.angle(off / off.mean())))) < 5
    # labels say which hand is called what
    labels = {"left": [(9, 9)], "right": [(0, 0)]}
    again = KindsModel(labels=labels, model=settings).fit(measurements, progress=False)
    assert again.n_kinds == 2
    assert (again.embed(measurements).kind == 2 - hand).mean() > 0.99


def test_surroundings_find_kinds_of_faint_patterns():
    faint, kind, _ = scan_of_kinds(dose=1600.0)
    model = KindsModel(2, 0).fit(faint, progress=False)
    found = model.embed(faint)
    wrong = float((found.kind != kind + 1).mean())
    # the field alone has 26 % wrong
    assert model.window == 2.0
    assert wrong < 0.12
    assert abs((1 - found.kind_probability.max(axis=-1)).mean() - wrong) < 0.08


def test_likelihoods_that_scatter_more_than_they_say_are_tempered():
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1], 5000)
    for spread, trust in ((1.0, 1.0), (2.0, 0.25)):
        values = rng.normal(np.where(kinds, 1.0, -1.0), spread)
        log = np.stack([-((values + 1) ** 2) / 2, -((values - 1) ** 2) / 2], axis=1)
        assert find_trust(log, kinds) == pytest.approx(trust, rel=0.1)


def test_neighbours_are_refused_as_features():
    from stemvane.config import BasisConfig

    with pytest.raises(ConfigError, match="prior of kinds"):
        KindsModel(basis=BasisConfig(neighbours=True))


def test_the_field_recovers_domains_from_faint_patterns():
    rng = np.random.default_rng(0)
    kind = domains()
    # half a standard deviation apart: a third of the positions is wrong by itself
    values = rng.normal(np.where(kind, 0.5, -0.5), 1.0)
    log = np.stack([-((values + 0.5) ** 2) / 2, -((values - 0.5) ** 2) / 2], axis=-1)
    q = np.exp(log - np.logaddexp.reduce(log, axis=-1, keepdims=True))
    weights, fixed = np.log([0.5, 0.5]), np.zeros((N, N), bool)
    alone = float((q.argmax(axis=-1) != kind).mean())
    strength = 0.5
    for _ in range(10):
        q = mean_field(log, q, weights, strength, fixed)
        strength = find_strength(q, weights)
    assert alone > 0.25
    assert float((q.argmax(axis=-1) != kind).mean()) < alone / 2


def test_kinds_are_maps_of_exports_and_of_the_viewer():
    probability = np.zeros((2, 3, 3))
    probability[0, :, 1] = 0.9
    probability[1, :, 2] = 0.8
    probability[1, 2] = np.nan
    nothing, angle = np.zeros((2, 3, 1)), np.zeros((2, 3))
    embedding = Embedding(
        nothing, nothing, angle, angle, np.zeros((2, 3, 4)), angle, kind_probability=probability, kind_names=("a", "b")
    )
    shown = {each.name: each for each in maps_of_embedding(embedding)}
    assert shown["kind"].kind == "class"
    np.testing.assert_array_equal(shown["kind"].values, [[2, 2, 2], [0, 0, np.nan]])
    np.testing.assert_allclose(shown["kind_probability"].values[:, 0], [0.9, 0.8])
