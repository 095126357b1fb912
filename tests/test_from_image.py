"""Latents and angles from an image: that they are right, which patterns disagree, and what is proposed."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy import ndimage

from stemvane import Embedding, predict_from_image
from stemvane.errors import DataError

N = 24


@pytest.fixture(scope="module")
def field():
    """An image whose gradient is the angle and whose strength and curvature are the latents, at all positions."""
    image = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(N, N)), 2.5)
    image /= image.std()
    down, right = np.gradient(ndimage.gaussian_filter(image, 1))
    latents = np.stack([np.hypot(down, right), image], axis=-1).astype(np.float32)
    angle = np.arctan2(-down, right) + 0.5
    nothing = np.zeros((N, N))
    spread = 0.02 / latents[..., 0]
    return Embedding(latents, latents * 0 + 0.01, angle, spread, np.ones((N, N, 4)) / 4, nothing), image


def known_at(embedding, mask):
    latents = np.where(mask[..., None], embedding.latents, np.nan)
    return replace(embedding, latents=latents, angle=np.where(mask, embedding.angle, np.nan))


def some(n, seed=0):
    mask = np.zeros(N * N, bool)
    mask[np.random.default_rng(seed).choice(N * N, n, replace=False)] = True
    return mask.reshape(N, N)


def off(one, other):
    return np.abs(np.angle(np.exp(1j * (one - other))))


@pytest.fixture(scope="module")
def predicted(field):
    return predict_from_image(known_at(field[0], some(60)), field[1])


def test_a_few_patterns_and_the_image_give_the_map(field, predicted):
    embedding, _ = field
    elsewhere = ~some(60)
    assert np.degrees(np.median(off(predicted.angle, embedding.angle)[elsewhere])) < 5
    error = np.abs(predicted.latents - embedding.latents)[elsewhere].mean(axis=0)
    assert (error < 0.3 * embedding.latents.std(axis=(0, 1))).all()


def test_its_uncertainty_is_right(field, predicted):
    embedding, _ = field
    away = ((predicted.latents - embedding.latents) / predicted.latent_std)[~some(60)]
    assert 0.4 < np.sqrt((away**2).mean()) < 1.6
    assert 0.4 < np.sqrt(np.nanmean(predicted.disagreement**2)) < 1.6


def test_a_rotated_field_is_predicted_the_same_but_rotated(field, predicted):
    embedding, image = field
    mask = some(60)
    turned = replace(
        embedding, latents=np.rot90(embedding.latents), angle=np.rot90(embedding.angle + np.pi / 2),
        angle_std=np.rot90(embedding.angle_std),
    )  # fmt: skip
    again = predict_from_image(known_at(turned, np.rot90(mask)), np.rot90(image))
    assert np.degrees(np.median(off(again.angle, np.rot90(predicted.angle) + np.pi / 2))) < 1


def test_a_pattern_that_the_image_does_not_show_disagrees(field):
    embedding, image = field
    mask = some(80)
    odd = tuple(np.argwhere(mask)[40])
    latents = embedding.latents.copy()
    latents[odd] += 10 * latents.std(axis=(0, 1))
    found = predict_from_image(known_at(replace(embedding, latents=latents), mask), image)
    assert np.unravel_index(np.nanargmax(found.disagreement), (N, N)) == odd
    assert np.isnan(found.disagreement[~mask]).all()


def test_what_looks_like_nothing_known_is_proposed_first(field):
    embedding, image = field
    image = image.copy()
    image[5:7, 17:19] += 8
    mask = some(60)
    mask[2:10, 14:22] = False
    chosen = predict_from_image(known_at(embedding, mask), image).propose(4)
    assert all(not mask[place] for place in chosen)
    assert len(set(chosen)) == 4
    assert np.hypot(*(np.array(chosen[0]) - (5.5, 17.5))) < 3


def test_proposals_are_in_turn_where_variance_is_largest_and_where_a_pattern_reduces_it_most(predicted):
    first, second = predicted.propose(2)
    assert predicted.propose(1) == [first]
    process = predicted._process
    scores, free = process.scores, np.flatnonzero(np.isnan(predicted.disagreement))
    everywhere = np.exp(-((scores[:, None] - scores) ** 2).sum(axis=-1) / (2 * process.length**2))

    def posterior(known):
        inverse = np.linalg.inv(everywhere[np.ix_(known, known)] + (process.beside + 1e-8) * np.eye(len(known)))
        return everywhere - everywhere[:, known] @ inverse @ everywhere[known]

    before = posterior(process.known)
    assert np.ravel_multi_index(first, (N, N)) == free[np.diag(before)[free].argmax()]
    after = [*process.known, np.ravel_multi_index(first, (N, N))]
    # a reference that is less than the field chooses nearly the same
    left = {int(at): np.trace(posterior([*after, int(at)])[np.ix_(free, free)]) for at in free[::7]}
    chosen = np.trace(posterior([*after, np.ravel_multi_index(second, (N, N))])[np.ix_(free, free)])
    assert chosen < np.quantile(list(left.values()), 0.05)


def test_models_without_angle_or_latents(field):
    embedding, image = field
    known = known_at(embedding, some(40))
    plain = predict_from_image(replace(known, angle=np.full((N, N), np.nan)), image)
    assert np.isnan(plain.angle).all()
    assert plain.latents.shape == (N, N, 2)
    turned = predict_from_image(replace(known, latents=np.zeros((N, N, 0)), latent_std=np.zeros((N, N, 0))), image)
    assert turned.latents.shape == (N, N, 0)
    assert np.isfinite(turned.angle).all()


def test_everything_known_leaves_nothing_to_propose(field):
    found = predict_from_image(field[0], field[1])
    assert found.propose(3) == []
    assert np.isfinite(found.disagreement).all()
    assert "disagreement" in repr(found)
    found.plot()
    plt.close("all")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e, i: (e, i[1:]), "the image has the shape"),
        (lambda e, i: (e, np.where(i == i.max(), np.nan, i)), "no numbers"),
        (lambda e, i: (known_at(e, some(5)), i), "5 patterns are embedded"),
        (lambda e, i: (replace(e, kind_probability=np.ones((N, N, 2)) / 2, kind_names=("a",)), i), "model of kinds"),
        (lambda e, i: (3, i), "predict_from_image"),
        (lambda e, i: (e, 0 * i + 3), "the image is 3 everywhere"),
        (lambda e, i: (e, 3 + 1e-9 * i), "the image is 3 everywhere"),
        (lambda e, i: (e, i + 1j), "complex numbers"),
        (lambda e, i: (e, np.ma.masked_array(i, i > 1)), "are no numbers"),
        (lambda e, i: (replace(e, angle_std=np.nan * e.angle), i), "0 patterns are embedded"),
    ],
)
def test_what_cannot_be_used_is_refused(field, change, words):
    with pytest.raises(DataError, match=words):
        predict_from_image(*change(*field))


def test_a_pattern_that_misses_a_part_counts_as_none(field):
    embedding = known_at(field[0], some(60))
    (y, x), (v, u), *_ = np.argwhere(some(60))
    embedding.angle[y, x] = embedding.latents[v, u, 1] = np.nan
    assert np.isfinite(predict_from_image(embedding, field[1]).disagreement).sum() == 58


def test_a_number_of_proposals_is_asked_for(predicted):
    with pytest.raises(DataError, match="give the number of positions"):
        predicted.propose(0)
