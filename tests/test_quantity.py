"""A quantity from a few positions where it is known: what it is elsewhere, and that its intervals hold."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot as plt

from stemvane import Embedding, export_run, measure, predict_quantity
from stemvane.config import Config
from stemvane.errors import ConfigError, DataError
from stemvane.evaluation.quantity import read_known
from stemvane.evaluation.verdict import judge
from stemvane.runs.run import Run
from stemvane.simulation.synthetic import synthetic
from stemvane.viewer.scene import Scene
from stemvane.workflow.pipeline import run_pipeline

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


def test_what_is_left_out_is_predicted_as_from_the_others_alone(wedge):
    embedding, quantity = wedge
    known = some(quantity, 8, 3)
    left = [
        predict_quantity(embedding, {at: value for at, value in known.items() if at != place}).mean[place]
        for place in known
    ]
    values = np.array(list(known.values()))
    by_mean = [values[i] - np.delete(values, i).mean() for i in range(8)]
    expected = 1 - np.sum((values - left) ** 2) / np.sum(np.square(by_mean))
    assert predict_quantity(embedding, known).explained == pytest.approx(expected, abs=2e-3)


def test_it_is_said_whether_latents_tell_the_quantity(wedge):
    embedding, quantity = wedge
    noise = np.random.default_rng(2).permutation(quantity.ravel()).reshape(quantity.shape)
    assert predict_quantity(embedding, some(quantity, 12, 0)).explained > 0.9
    told = [predict_quantity(embedding, some(noise, 12, seed)).explained for seed in range(10)]
    assert np.quantile(told, 0.75) < 0.1


def test_known_values_come_from_a_file_and_are_drawn(wedge, tmp_path):
    embedding, quantity = wedge
    known = some(quantity, 8, 0)
    path = tmp_path / "known.csv"
    path.write_text("y,x,value\n" + "\n".join(f"{y},{x},{value!r}" for (y, x), value in known.items()))
    found = predict_quantity(embedding, path, name="thickness", unit="nm")
    np.testing.assert_array_equal(found.mean, predict_quantity(embedding, known).mean)
    assert "known         at 8 positions" in repr(found)
    ax = found.plot()
    assert len(ax.collections[0].get_offsets()) == 8
    assert "nm" in ax.get_title()
    plt.close("all")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({(0, 0): np.nan}, "is nan; leave it out"),
        ({(99, 0): 1.0}, "beyond the scan"),
        ({(0, 0): "thick"}, "no position with a value"),
        ({5: 1.0}, "no position with a value"),
        ({(0.5, 0): 1.0}, "no position with a value"),
        ({(0, 0): 1e200}, "another unit"),
        (None, "known at 0 positions"),
    ],
)
def test_bad_values_are_refused(wedge, changes, words):
    embedding, quantity = wedge
    with pytest.raises(DataError, match=words):
        predict_quantity(embedding, {} if changes is None else some(quantity, 8, 0) | changes)


def test_values_that_are_all_the_same_are_refused(wedge):
    with pytest.raises(DataError, match=r"all known values are 1\.5"):
        predict_quantity(wedge[0], {(0, x): 1.5 for x in range(8)})


def test_files_of_spreadsheets_are_read_and_two_values_of_a_position_refused(wedge, tmp_path):
    path, known = tmp_path / "known.csv", some(wedge[1], 8, 0)
    lines = "\r\n".join(["y,x,value", *(f"{y},{x},{value!r}" for (y, x), value in known.items())])
    path.write_text(lines, encoding="utf-8-sig")
    assert read_known(path) == pytest.approx(known)
    (y, x), value = next(iter(known.items()))
    path.write_text(f"{lines}\r\n{y},{x},{value + 1!r}")
    with pytest.raises(DataError, match=r"line 10: .* already; keep one"):
        read_known(path)


def test_what_cannot_be_read_is_refused(wedge, tmp_path):
    (tmp_path / "known.csv").write_text("y,x,value\n1,2,thick\n")
    with pytest.raises(DataError, match="line 2"):
        predict_quantity(wedge[0], tmp_path / "known.csv")
    with pytest.raises(DataError, match="cannot be read"):
        predict_quantity(wedge[0], tmp_path / "none.csv")
    (tmp_path / "known.csv").write_text("y,x,value\n1,2,nan\n")
    with pytest.raises(DataError, match=r"known\.csv, line 2: the value is nan"):
        predict_quantity(wedge[0], tmp_path / "known.csv")
    for header in ("y;x;value", "Y,X,Value", "y,x,value,value", ""):
        (tmp_path / "known.csv").write_text(f"{header}\n1,2,3\n")
        with pytest.raises(DataError, match=f"first line is '{header}'"):
            predict_quantity(wedge[0], tmp_path / "known.csv")
    with pytest.raises(DataError, match="takes known values as"):
        predict_quantity(wedge[0], [1, 2])
    with pytest.raises(DataError, match="no latents"):
        predict_quantity(embedding_of(np.zeros((2, 2, 0))), {})
    with pytest.raises(DataError, match="predict_quantity"):
        predict_quantity(3, {})


SETTINGS = Config().replace(
    model={"model": "alignment", "n_latent": 2},
    basis={"n_features": 8},
    align={"n_iterations": 2, "max_order": 1},
    compare={"n_turned": 0},
    figures={"manifold": 2, "dpi": 50},
)


@pytest.fixture(scope="module")
def scan():
    return synthetic((12, 12), (24, 24))


@pytest.fixture(scope="module")
def run(scan, tmp_path_factory):
    """A run that knows the strength of the content at ten positions."""
    folder = tmp_path_factory.mktemp("quantity")
    lines = [f"{y},{x},{value!r}" for (y, x), value in some(20 * scan[1].content[0], 10, 0).items()]
    path = folder / "known.csv"
    path.write_text("y,x,value\n" + "\n".join(lines))
    config = SETTINGS.replace(quantity={"known": str(path), "name": "tilt", "unit": "°"})
    return Run.open(run_pipeline(config, folder / "run", dataset=scan[0], progress=False).path)


def test_a_run_maps_the_quantity(run, scan):
    found, truth = run.quantity, 20 * scan[1].content[0]
    assert (found.name, found.unit, len(found.known)) == ("tilt", "°", 10)
    assert np.abs(found.mean - truth).mean() < 0.3 * truth.std()
    assert run.metrics["quantity_known"] == 10
    assert run.metrics["quantity_explained"] == pytest.approx(found.explained)
    assert run.metrics["quantity_std_median"] == pytest.approx(np.median(found.std))


def test_a_quantity_is_drawn_exported_and_seen(run):
    assert {"quantity.png", "quantity.svg"} <= {path.name for path in run.figures_path.iterdir()}
    maps = Scene.of_run(run).maps
    assert (maps["quantity"].title, maps["quantity_std"].unit) == ("Tilt", "°")
    table = export_run(run, "csv").read_text(encoding="utf-8").splitlines()
    assert {"quantity_deg", "quantity_std_deg"} <= set(table[0].split(","))


def test_known_values_that_cannot_be_used_are_refused_before_the_work(tmp_path, scan):
    path = tmp_path / "few.csv"
    path.write_text("y,x,value\n1,2,3.0\n")
    few = SETTINGS.replace(quantity={"known": str(path)})
    with pytest.raises(DataError, match=r"few\.csv: the quantity is known at 1 positions"):
        run_pipeline(few, tmp_path / "run", dataset=scan[0])
    path.write_text("y,x,value\n" + "\n".join(f"{y},0,1" for y in range(5)))
    with pytest.raises(ConfigError, match="needs latents"):
        run_pipeline(few.replace(model={"n_latent": 0}), tmp_path / "run", dataset=scan[0])
    assert not list(tmp_path.glob("*run*"))
    with pytest.raises(ConfigError, match="leave out commas"):
        few.replace(quantity={"unit": "nm, or so"})


def test_a_finding_says_that_latents_do_not_tell_the_quantity(wedge):
    embedding, quantity = wedge
    measured = measure(synthetic((N, N), (24, 24))[0])
    told = predict_quantity(embedding, some(quantity, 12, 0))
    for explained, expected in ((told.explained, False), (0.05, True)):
        ids = [finding.id for finding in judge(measured, None, replace(told, explained=explained))]
        assert ("quantity_not_told" in ids) == expected
