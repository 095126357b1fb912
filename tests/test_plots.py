"""The plot methods of public objects: what they draw and refuse, and that words neither overlap nor are small."""

from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fake_run import make_run
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_scalebar.scalebar import ScaleBar
from readable import assert_readable

from stemvane.config import BasisConfig, TrainingConfig
from stemvane.data.measurements import Measurements
from stemvane.errors import ConfigError, DataError, ModelError
from stemvane.evaluation.com_agreement import compare
from stemvane.field.maps import field_maps
from stemvane.field.scan_rotation import ScanRotation
from stemvane.figures.elements import element
from stemvane.figures.history_page import draw_history
from stemvane.figures.manifold_panel import Manifold, empty_cells
from stemvane.figures.overview_page import overview_page
from stemvane.figures.panels import angle_colors
from stemvane.models.manifold import latent_manifold
from stemvane.models.rotation_vae import RotationVAE
from stemvane.reduction.measure import measure
from stemvane.runs.run import Run
from stemvane.simulation.synthetic import synthetic

MAPS = ("com", "com_magnitude", "total", "annular_dark_field", "com_x", "field_y", "curl", "integrated_com")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    known = {"scan_rotation": 0.0, "energy": 60e3, "pixel_size": (1.5, 1.5)}
    return make_run(tmp_path_factory.mktemp("runs") / "graphene", field=True, known=known)


@pytest.fixture(autouse=True)
def closed() -> None:
    plt.close("all")


@pytest.mark.parametrize("what", [*MAPS, "mean_pattern"])
def test_measurements_plot_a_panel_with_scale_unit_and_title(run: Run, what: str) -> None:
    ax = run.measurements.plot(what)
    assert isinstance(ax, Axes)
    assert_readable(ax.figure, smallest=8)
    assert ax.get_title()
    assert any(isinstance(artist, ScaleBar) for artist in ax.get_children())
    if what != "com":
        (bar,) = (axes for axes in ax.figure.axes if axes is not ax)
        unit = "mrad" if what == "com_magnitude" else run.measurements.units.get(what, "counts / pixel")
        assert unit in bar.get_ylabel()
    if what.startswith("com") and what != "com_magnitude":
        assert "detector frame" in ax.get_title()
    if what.startswith("field"):
        assert "scan frame" in ax.get_title()


def test_the_com_is_drawn_as_hue_and_brightness(run: Run) -> None:
    measurements = run.measurements
    ax = measurements.plot("com")
    (image,) = ax.images
    drawn = np.asarray(image.get_array())
    magnitude = measurements.com_magnitude / np.percentile(measurements.com_magnitude, 99.5)
    np.testing.assert_allclose(drawn, angle_colors(measurements.com_angle, magnitude), atol=1e-6)
    (wheel,) = (axes for axes in ax.figure.axes if axes.get_label() == "colour wheel")
    assert any("|COM| ≥" in text.get_text() and "mrad" in text.get_text() for text in wheel.texts)


def test_the_mean_pattern_has_its_axis_at_the_cross_and_its_disc_around_it(run: Run) -> None:
    ax = run.measurements.plot("mean_pattern")
    (cross,), (disc,) = ax.lines, ax.patches
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (0, 0)
    assert disc.radius == pytest.approx(1.5 * run.measurements.calibration.disc_radius)
    left, _, bottom, top = ax.images[0].get_extent()
    axis = run.measurements.calibration.optical_axis
    assert (left, top) == pytest.approx((-1.5 * (axis[1] + 0.5), -1.5 * (axis[0] + 0.5)))
    assert bottom > top


def test_what_was_not_measured_is_refused_by_name(run: Run) -> None:
    with pytest.raises(DataError, match=r"'nonsense'; there are com, .*annular_dark_field"):
        run.measurements.plot("nonsense")
    with pytest.raises(DataError, match=r"'latent 3' to draw; it has angle, .*latent 2"):
        run.embedding.plot("latent 3")


@pytest.mark.parametrize("what", ["angle", "angle_std", "latent 1", "latents", "log_evidence"])
def test_an_embedding_plots_a_panel(run: Run, what: str) -> None:
    ax = run.embedding.plot(what)
    assert isinstance(ax, Axes)
    assert ax.get_title()
    assert_readable(ax.figure, smallest=8)


@pytest.mark.parametrize("n_latent", [0, 1, 2, 5])
def test_an_embedding_plots_a_page_of_everything(tmp_path: Path, n_latent: int) -> None:
    embedding = make_run(tmp_path / "run", n_latent=n_latent, shape=(12, 18)).embedding
    figure = embedding.plot()
    labels = [axes.get_label() for axes in figure.axes]
    latents = [f"latent_{i + 1}" for i in range(n_latent)]
    assert set(labels) == {"rotation", "colour wheel", *latents} | ({"latents", "colour bar"} if n_latent else set())
    assert labels.count("colour bar") == n_latent
    assert_readable(figure)
    with pytest.raises(DataError, match="a page"):
        embedding.plot(ax=plt.subplots()[1])


def test_panels_go_into_axes_and_pages_into_figures_that_are_given(run: Run) -> None:
    figure, panels = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    drawn = [run.measurements.plot("com", panels[0, 0]), run.measurements.plot("mean_pattern", ax=panels[0, 1])]
    drawn += [run.embedding.plot("angle", panels[1, 0]), run.embedding.plot("latents", ax=panels[1, 1])]
    assert drawn == list(panels.ravel())
    assert_readable(figure, smallest=8)
    assert plt.get_fignums() == [figure.number]
    page = Figure()
    assert run.plot(figure=page) is page
    assert run.embedding.plot(figure=Figure()).axes
    assert plt.get_fignums() == [figure.number]


def test_pages_are_readable_also_outside_of_our_style(run: Run) -> None:
    for page in (run.plot(), run.embedding.plot(), field_maps(run.measurements).plot()):
        assert isinstance(page, Figure)
        assert_readable(page)


def test_an_unknown_scan_step_is_drawn_in_pixels(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", known_step=False, shape=(12, 18))
    for ax in (made.measurements.plot(), made.embedding.plot("angle")):
        (bar,) = (artist for artist in ax.get_children() if isinstance(artist, ScaleBar))
        assert bar.scale_formatter(0, "").endswith("px")


def test_a_field_without_a_rotation_is_refused(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", shape=(4, 4))
    with pytest.raises(DataError, match="scan rotation is not known"):
        field_maps(made.measurements).plot()


@pytest.mark.parametrize("flipped", [False, True])
def test_a_scan_rotation_plots_least_curl_at_its_angle(flipped: bool) -> None:
    ratio = (0.9, 0.3) if flipped else (0.3, 0.9)
    rotation = ScanRotation(np.radians(-59), np.radians(1.5), flipped, False, False, ratio, 1.0)
    ax = rotation.plot()
    curve = next(line for line in ax.lines if len(line.get_xdata()) > 2)
    angle, share = (np.asarray(values) for values in curve.get_data())
    assert angle[share[angle < 90].argmin()] == pytest.approx(-59, abs=1)
    assert share.min() == pytest.approx(0.3**2 / (1 + 0.3**2), abs=1e-3)
    assert "−59.0° ± 1.5°" in ax.get_title()
    assert_readable(ax.figure, smallest=8)


def test_learning_curves_are_drawn_into_any_axes(run: Run) -> None:
    ax = plt.subplots()[1]
    draw_history(ax, run.history)
    assert [line.get_label() for line in ax.lines] == ["total", "reconstruction"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), run.history["total"])


@pytest.fixture(scope="module")
def fitted() -> tuple[RotationVAE, Measurements]:
    dataset, _ = synthetic(scan_shape=(12, 12), detector_shape=(32, 32), dose=1e5)
    measurements = measure(dataset)
    return RotationVAE(n_latent=2, training=TrainingConfig(n_epochs=2)).fit(measurements), measurements


def test_a_model_plots_its_manifold_over_the_scan_embedded_last(fitted: tuple[RotationVAE, Measurements]) -> None:
    model, measurements = fitted
    with pytest.raises(ModelError, match=r"call embed"):
        RotationVAE(n_latent=2).plot_manifold()
    embedding = model.embed(measurements)
    ax = model.plot_manifold(n=5)
    assert_readable(ax.figure, smallest=8)
    low, high = np.quantile(embedding.latents[..., 0], (0.02, 0.98))
    words = [label.get_text().replace("−", "-") for label in ax.get_xticklabels()]
    np.testing.assert_allclose(np.array(words, float), np.linspace(low, high, 5), atol=0.006)
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    manifold = Manifold(*latent_manifold(model, embedding.latents, 5))
    assert len(hatched) == empty_cells(manifold, embedding.latents).sum() > 0
    assert "hatched" in ax.get_title()


def test_a_manifold_is_drawn_over_patterns_that_are_no_scan_and_refused_over_none(
    fitted: tuple[RotationVAE, Measurements], tmp_path: Path
) -> None:
    model = RotationVAE.load(fitted[0].save(tmp_path / "model"))
    model.embed(fitted[1], mask=np.zeros((12, 12), bool))
    with pytest.raises(ModelError, match="call embed"):
        model.plot_manifold()
    model.embed(fitted[1])
    assert "manifold" in model.plot_manifold(n=2).get_title()
    with pytest.raises(ConfigError, match="n of 1 or more"):
        model.plot_manifold(n=0)
    model = RotationVAE.load(tmp_path / "model.safetensors")
    model.embed(replace(fitted[1], is_scan=False))
    assert "manifold" in model.plot_manifold(n=2).get_title()


@pytest.mark.parametrize("what", ["loss", "KL divergence", "noise level"])
def test_a_model_plots_its_history(fitted: tuple[RotationVAE, Measurements], what: str) -> None:
    ax = fitted[0].plot_history(what)
    assert_readable(ax.figure, smallest=8)
    assert len(ax.lines[0].get_xdata()) == 2
    with pytest.raises(ConfigError, match=r"there are loss, KL divergence"):
        fitted[0].plot_history("nonsense")


def test_a_model_that_was_not_trained_says_so(fitted: tuple[RotationVAE, Measurements]) -> None:
    assert [text.get_text() for text in RotationVAE().plot_history().texts] == ["no epochs of training"]


def test_an_embedding_says_whether_it_uses_neighbours(fitted: tuple[RotationVAE, Measurements]) -> None:
    """With the filter over the scan it has, and is not held against them; without it, and off a scan, it has not."""
    model, measurements = fitted
    assert model.embed(measurements).uses_neighbours
    assert compare(model.embed(measurements), measurements)["angle_error_median_deg_neighbours"] is None
    assert not model.embed(replace(measurements, is_scan=False)).uses_neighbours
    alone = RotationVAE(n_latent=1, basis=BasisConfig(neighbours=False), training=TrainingConfig(n_epochs=1))
    embedding = alone.fit(measurements).embed(measurements)
    assert not embedding.uses_neighbours
    assert compare(embedding, measurements)["angle_error_median_deg_neighbours"] > 0


def test_atoms_are_drawn_without_ase(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the usual elements as with ASE, others in grey."""
    pytest.importorskip("ase")
    with_ase = {number: element(number) for number in (6, 14, 42, 92)}
    monkeypatch.setitem(__import__("sys").modules, "ase.data", None)
    assert all(element(number) == with_ase[number] for number in (6, 14, 42))
    assert with_ase[92].symbol == "U"
    assert element(92).symbol == "Z = 92"
    atoms = replace(run.measurements.atoms, numbers=np.where(run.measurements.atoms.numbers == 14, 92, 6))
    measurements = replace(run.measurements, atoms=atoms)
    figure = overview_page(measurements, run.embedding, Manifold(run.manifold, run.manifold_latents), run.metrics)
    (key,) = (axes for axes in figure.axes if axes.get_label() == "elements")
    assert [text.get_text() for text in key.texts] == ["C", "Z = 92"]


def test_the_table_of_elements_is_that_of_ase() -> None:
    data = pytest.importorskip("ase.data")
    colors = pytest.importorskip("ase.data.colors").jmol_colors
    for number in range(1, 93):
        drawn = element(number)
        assert (drawn.symbol, drawn.radius) == (data.chemical_symbols[number], data.covalent_radii[number])
        np.testing.assert_allclose(drawn.color, colors[number], atol=1e-9)
