"""A quantity from a few positions where it is known: what it is elsewhere, and that its intervals hold."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from stemvane import Embedding, predict_quantity
from stemvane.errors import DataError

N = 24


def embedding_of(latents, **options):
    nothing = np.zeros(latents.shape[:2])
    return Embedding(latents, latents * 0 + 0.1, nothing, nothing, np.ones((*nothing.shape, 4)) / 4, nothing, **options)


@pytest.fixture(scope="module")
def wedge():
    """A quantity that bends with the first latent, and 2 % noise; the second latent says nothing of it."""
    rng = np.random.default_rng(1)
    latents = rng.normal(size=(N, N, 2)).astype(np.float32)
    quantity = 50 + 20 * np.tanh(latents[..., 0]) + rng.normal(0, 0.5, (N, N))
    return embedding_of(latents), quantity


def some(quantity, n, seed):
    chosen = np.random.default_rng(seed).choice(quantity.size, n, replace=False)
    places = np.stack(np.unravel_index(chosen, quantity.shape), axis=1)
    return {(int(y), int(x)): float(quantity[y, x]) for y, x in places}


def test_intervals_hold_what_they_say(wedge):
    embedding, quantity = wedge
    held, errors = [], []
    for seed in range(12):
        found = predict_quantity(embedding, some(quantity, 12, seed))
        low, high = found.interval(0.9)
        held.append(((low < quantity) & (quantity < high)).mean())
        errors.append(np.abs(found.mean - quantity).mean())
    # the best straight line, of all values, is off by 2.6
    assert np.median(errors) < 2
    assert 0.82 < np.mean(held) < 0.98


def test_what_latents_do_not_say_is_uncertain(wedge):
    embedding, quantity = wedge
    noise = np.random.default_rng(2).permutation(quantity.ravel()).reshape(quantity.shape)
    found = predict_quantity(embedding, some(noise, 30, 0))
    assert np.median(found.std) > 0.7 * noise.std()
    low, high = found.interval()
    assert ((low < noise) & (noise < high)).mean() > 0.85


def test_a_kind_without_values_is_as_wide_as_all(wedge):
    latents, quantity = wedge[0].latents, wedge[1]
    probability = np.zeros((N, N, 3))
    probability[..., 0] = 1
    probability[:, 12:] = (0, 1, 0)
    found = predict_quantity(
        embedding_of(latents, kind_probability=probability, kind_names=("a", "b")),
        {place: value for place, value in some(quantity, 40, 0).items() if place[1] < 12},
    )
    assert np.median(found.std[:, 12:]) > 3 * np.median(found.std[:, :12])


def test_known_values_come_from_a_file_and_are_drawn(wedge, tmp_path):
    embedding, quantity = wedge
    known = some(quantity, 8, 0)
    path = tmp_path / "known.csv"
    path.write_text("y,x,value\n" + "\n".join(f"{y},{x},{value!r}" for (y, x), value in known.items()))
    found = predict_quantity(embedding, path, name="thickness (nm)")
    np.testing.assert_array_equal(found.mean, predict_quantity(embedding, known).mean)
    assert "known         at 8 positions" in repr(found)
    ax = found.plot()
    assert len(ax.collections[0].get_offsets()) == 8
    plt.close("all")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({(0, 0): np.nan}, "is nan; leave it out"),
        ({(99, 0): 1.0}, "beyond the scan"),
        ({(0, 0): "thick"}, "no position with a value"),
        ({5: 1.0}, "no position with a value"),
        (None, "known at 0 positions"),
    ],
)
def test_bad_values_are_refused(wedge, changes, words):
    embedding, quantity = wedge
    with pytest.raises(DataError, match=words):
        predict_quantity(embedding, {} if changes is None else some(quantity, 8, 0) | changes)


def test_what_cannot_be_read_is_refused(wedge, tmp_path):
    (tmp_path / "known.csv").write_text("y,x,value\n1,2,thick\n")
    with pytest.raises(DataError, match="line 2"):
        predict_quantity(wedge[0], tmp_path / "known.csv")
    with pytest.raises(DataError, match="cannot be read"):
        predict_quantity(wedge[0], tmp_path / "none.csv")
    with pytest.raises(DataError, match="no latents"):
        predict_quantity(embedding_of(np.zeros((2, 2, 0))), {})
    with pytest.raises(DataError, match="predict_quantity"):
        predict_quantity(3, {})
