import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_run import make_run
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_scalebar.scalebar import ScaleBar
from readable import assert_readable

from stemvane.errors import DataError, RunError
from stemvane.figures.agreement_page import agreement_page
from stemvane.figures.field_page import field_page
from stemvane.figures.history_page import history_page
from stemvane.figures.layout import overview_layout
from stemvane.figures.manifold_panel import Manifold, empty_cells
from stemvane.figures.overview_page import overview_page
from stemvane.figures.panels import angle_certainty, angle_colors, scan_extent
from stemvane.figures.saving import save_figures
from stemvane.figures.style import nice_number, tidy_number
from stemvane.runs.run import Run

FIELD = {"scan_rotation": 0.0, "energy": 60e3}


def named(figure: Figure, name: str) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_label() == name]


def overview(run: Run) -> Figure:
    manifold = Manifold(run.manifold, run.manifold_latents)
    return overview_page(run.measurements, run.embedding, manifold, run.metrics)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "graphene")


@pytest.fixture(scope="module")
def page(run: Run) -> Figure:
    return overview(run)


@pytest.mark.parametrize("n_latent", [0, 1, 2, 3, 6])
def test_overview_has_a_panel_for_everything(tmp_path: Path, n_latent: int) -> None:
    figure = overview(make_run(tmp_path / "run", n_latent=n_latent))
    letters = [text for text in words(figure) if text.startswith("(")]
    assert letters == [f"({letter})" for letter in "abcdefghijk"[: 5 + n_latent]]
    maps = ["structure", "com_angle", "com_magnitude", "rotation", *(f"latent_{i + 1}" for i in range(n_latent))]
    for name in maps:
        (axes,) = named(figure, name)
        assert any(isinstance(artist, ScaleBar) for artist in axes.get_children()), name
    assert len(named(figure, "colour wheel")) == 2
    assert len(named(figure, "colour bar")) == 2 + n_latent  # manifold, COM magnitude, latents


def test_the_filtered_com_is_drawn_where_there_is_one(run: Run) -> None:
    measurements = run.measurements
    y, x = np.moveaxis(measurements.deflection, -1, 0)
    maps = {"com_filtered_y": y / 2, "com_filtered_x": x / 2, "com_filtered_std": np.full(y.shape, 0.25)}
    units = dict.fromkeys(maps, measurements.com_unit)
    filtered = replace(measurements, maps={**measurements.maps, **maps}, units={**measurements.units, **units})
    manifold = Manifold(run.manifold, run.manifold_latents)
    figure = overview_page(filtered, run.embedding, manifold, run.metrics)
    for name, factor in (("com", 1.0), ("com_filtered", 0.5)):
        (axes,) = named(figure, f"{name}_magnitude")
        np.testing.assert_allclose(axes.images[0].get_array(), factor * measurements.com_magnitude)
    angles = [named(figure, f"{name}_angle")[0].images[0].get_array() for name in ("com", "com_filtered")]
    np.testing.assert_allclose(*angles, atol=1e-6)
    assert f"± 0.25 {measurements.com_unit}" in " ".join(words(figure))
    assert_readable(figure)


def test_panels_do_not_overlap(page: Figure) -> None:
    boxes = [axes.get_position() for axes in page.axes]
    for index, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= 1
        assert 0 <= box.y0 < box.y1 <= 1
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


@pytest.mark.parametrize(
    ("n_latent", "shape"), [(0, (24, 24)), (0, (12, 20)), (1, (24, 24)), (2, (12, 20)), (6, (24, 24))]
)
def test_words_of_every_page_can_be_read(tmp_path: Path, n_latent: int, shape: tuple[int, int]) -> None:
    known = {**FIELD, "scan_rotation": -1.03}
    made = make_run(tmp_path / "run", n_latent=n_latent, shape=shape, atoms=shape[0] == 24, field=True, known=known)
    rotation = {"scan_rotation_uncertainty_deg": 10.4, "scan_rotation_source": "found", "scan_rotation_ambiguous": True}
    errors = {"angle_error_median_deg_truth": 121.6, "com_angle_error_median_deg_truth": 104.2, "angle_sign": -1}
    metrics = {**made.metrics, **rotation, **errors, "pearson_r": [-0.99987] * n_latent, "scan_flipped": True}
    manifold = Manifold(made.manifold, made.manifold_latents)
    assert_readable(overview_page(made.measurements, made.embedding, manifold, metrics))
    assert_readable(agreement_page(made.measurements, made.embedding, metrics))
    if n_latent == 0:  # these pages show no latents
        assert_readable(field_page(made.measurements, metrics))
        assert_readable(history_page({**made.history, "noise_level": np.linspace(1, 0.1, 40)}))


@pytest.mark.parametrize("n_maps", range(4, 11))
@pytest.mark.parametrize("aspect", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("mosaic", [(1, 1), (1, 7), (9, 9)])
def test_every_box_lies_on_the_page(n_maps: int, aspect: float, mosaic: tuple[int, int]) -> None:
    layout = overview_layout(n_maps, aspect, mosaic, 1.0)
    assert len(layout.maps) == n_maps
    for box in (layout.manifold, layout.manifold_bar, *layout.maps):
        assert 0 <= box.left < box.left + box.width <= layout.size[0]
        assert 0 <= box.top < box.top + box.height <= layout.size[1]


def test_wheel_and_map_agree(page: Figure) -> None:
    (image,) = named(page, "colour wheel")[0].images
    wheel = np.asarray(image.get_array())
    n, middle = len(wheel), len(wheel) // 2
    for degrees, (row, column) in {
        0: (middle, n - 1),
        90: (0, middle),
        180: (middle, 0),
        -90: (n - 1, middle),
    }.items():
        np.testing.assert_allclose(wheel[row, column], angle_colors(np.radians(degrees)), atol=0.03)
    (map_image,) = named(page, "rotation")[0].images
    np.testing.assert_allclose(map_image.to_rgba(np.array(np.pi / 2)), angle_colors(np.array(np.pi / 2)))
    assert image.origin == map_image.origin == "upper"
    assert map_image.get_extent()[2] > map_image.get_extent()[3]


def test_a_drawn_wheel_has_ninety_degrees_at_its_top(page: Figure) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(page)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())
    axes = named(page, "colour wheel")[0]
    for x, y in ((0.8, 0), (0, 0.8), (-0.8, 0), (0, -0.8)):
        across, up = axes.transData.transform((x, y))
        color = drawn[drawn.shape[0] - 1 - int(up), int(across), :3] / 255
        np.testing.assert_allclose(color, angle_colors(np.arctan2(y, x))[:3], atol=0.05)


def test_angles_wrap_and_masked_ones_are_grey() -> None:
    np.testing.assert_allclose(angle_colors(np.array(np.pi)), angle_colors(np.array(-np.pi)), atol=0.02)
    np.testing.assert_allclose(angle_colors(np.array(3 * np.pi / 2)), angle_colors(np.array(-np.pi / 2)), atol=0.02)
    np.testing.assert_allclose(angle_colors(np.array([np.nan]))[0, :3], 0.87)


def test_the_rotation_map_fades_where_the_angle_is_not_known(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    n = run.embedding.angle_posterior.shape[-1]
    grid = 2 * np.pi * np.arange(n) / n
    known, threefold, unknown = np.exp(40 * np.cos(grid)), np.exp(40 * np.cos(3 * grid)), np.ones(n)
    posterior = np.array(run.embedding.angle_posterior)
    posterior[0, :3] = [p / p.sum() for p in (known, threefold, unknown)]
    np.testing.assert_allclose(angle_certainty(posterior[0, :3]), [1, 1, 0], atol=0.02)
    monkeypatch.setitem(run.__dict__, "embedding", replace(run.embedding, angle_posterior=posterior))
    figure = overview(run)
    (image,) = named(figure, "rotation")[0].images
    drawn, full = np.asarray(image.get_array())[0, :3, :3], angle_colors(run.embedding.angle[0, :3])[:, :3]
    np.testing.assert_allclose(drawn, full * np.array([[1], [1], [0]]), atol=0.02)
    # the wheel is black in its middle, too
    (wheel,) = named(figure, "colour wheel")[-1].images
    middle = len(wheel.get_array()) // 2
    assert np.asarray(wheel.get_array())[middle, middle, :3].max() < 0.02


def test_the_scale_bar_is_as_long_as_it_says(page: Figure) -> None:
    for name, pixels in (("rotation", 24), ("structure", None)):
        (axes,) = named(page, name)
        (bar,) = (artist for artist in axes.get_children() if isinstance(artist, ScaleBar))
        assert (bar.fixed_value, bar.fixed_units) == (0.2, "nm")
        assert bar.scale_formatter(0, "") == "2 Å"
        assert bar.dx * 10 == 1  # axes in Å
        if pixels:
            assert abs(np.diff(axes.get_xlim())[0]) == pytest.approx(10.5)


def test_a_scan_without_atoms_or_step(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", shape=(12, 20), atoms=False, known_step=False, masked=True, detector=(24, 32))
    figure = overview(made)
    assert named(figure, "image")
    assert "Dark-field image" in words(figure)
    assert any("Grey: positions left out." in text for text in words(figure))
    (axes,) = named(figure, "rotation")
    (bar,) = (artist for artist in axes.get_children() if isinstance(artist, ScaleBar))
    assert bar.scale_formatter(0, "").endswith("px")
    box, page = axes.get_position(), figure.get_size_inches()
    assert box.height * page[1] / (box.width * page[0]) == pytest.approx(12 / 20)
    assert {path.name for path in save_figures(made, tmp_path / "out", dpi=60)} >= {"figure2.png", "figure2.svg"}


def test_the_numbers_come_from_the_metrics(run: Run, page: Figure) -> None:
    assert f"r with |COM| = {run.metrics['pearson_r'][0]:.2f}" in words(page)
    assert {"error 1.2°", "from the measured COM"} < set(words(page))
    assert any("after a constant offset of 11°" in text for text in words(page))
    assert words(page).count("detector\nframe") == 1
    assert "detector\nframe\ndark: angle\nuncertain" in words(page)


@pytest.mark.parametrize(
    ("metrics", "remarks"),
    [
        (
            {"angle_error_median_deg_truth": 0.7, "com_angle_error_median_deg_truth": 0.0},
            ["error 0.7°", "from the COM"],
        ),
        (
            {"angle_error_median_deg_truth": 1.6, "com_angle_error_median_deg_truth": 4.2},
            ["error 1.6° (COM 4.2°)", "from the noiseless COM"],
        ),
        (
            {"angle_error_median_deg_neighbours": 29.8, "com_angle_error_median_deg_neighbours": 32.7},
            ["error 29.8° (COM 32.7°)", "from neighbours' COM"],
        ),
        (
            {"angle_error_median_deg_neighbours": None, "com_angle_error_median_deg_neighbours": 32.7},
            ["error 36.6°", "from the measured COM"],
        ),
    ],
)
def test_the_error_says_from_which_com_it_is_and_what_the_com_scores(
    run: Run, metrics: dict[str, float], remarks: list[str]
) -> None:
    figure = overview_page(
        run.measurements,
        run.embedding,
        Manifold(run.manifold, run.manifold_latents),
        {"angle_error_median_deg": 36.6, "angle_sign": 1, **metrics},
    )
    assert set(remarks) < set(words(figure))
    (caption,) = (text for text in words(figure) if "The rotation" in text)
    numbers = re.findall(r"[\d.]+°", remarks[0])
    assert all(number in caption for number in numbers)


def test_patterns_that_the_scan_does_not_hold_are_hatched(run: Run) -> None:
    manifold = Manifold(run.manifold, run.manifold_latents)
    latents = manifold.latents[[0, 1, 1], [0, 1, 2], :] + 0.4 * (manifold.latents[0, 1] - manifold.latents[0, 0])
    expected = np.ones((3, 3), bool)
    expected[[0, 1, 1], [0, 1, 2]] = False
    np.testing.assert_array_equal(empty_cells(manifold, latents), expected)
    line = Manifold(run.manifold[:1], run.manifold_latents[:1, :, :1])
    np.testing.assert_array_equal(empty_cells(line, np.array([[-2.0], [np.nan]])), [[False, True, True]])
    far = replace(run.embedding, latents=np.full_like(run.embedding.latents, 9.0))
    (axes,) = named(overview_page(run.measurements, far, manifold, {}), "manifold")
    assert len([patch for patch in axes.patches if patch.get_hatch()]) == 9


@pytest.mark.parametrize(("size", "power"), [(1.0, ""), (0.2, ""), (1.1e-5, "10⁻⁵ "), (4e3, "10³ ")])
def test_ticks_of_the_manifold_tell_latents_apart(run: Run, size: float, power: str) -> None:
    latents = run.manifold_latents.copy()
    latents[..., 1] = size * np.linspace(1, -1, len(latents))[:, None]
    (axes,) = named(overview_page(run.measurements, run.embedding, Manifold(run.manifold, latents), {}), "manifold")
    ticks = [tick.get_text() for tick in axes.get_yticklabels()]
    assert len(set(ticks)) == len(latents)
    assert axes.get_ylabel() == f"latent 2 ({power}{run.embedding.latent_unit})"


@pytest.mark.parametrize(("noiseless", "most"), [(True, "maximum"), (False, "99th percentile")])
def test_agreement_says_above_which_com_the_angle_counts(run: Run, noiseless: bool, most: str) -> None:
    measurements = replace(run.measurements, noiseless=noiseless)
    assert f"|COM| > 20 % of {most}" in words(agreement_page(measurements, run.embedding, run.metrics))


def test_agreement_is_aligned_by_sign_and_offset(run: Run) -> None:
    figure = agreement_page(run.measurements, run.embedding, run.metrics)
    (axes,) = named(figure, "rotation")
    counts = np.ma.filled(np.ma.asarray(axes.collections[0].get_array()).reshape(72, 72), 0)
    near = sum(np.trace(counts, offset) for offset in (-72 + 1, -1, 0, 1, 72 - 1))
    assert near > 0.98 * counts.sum() > 0
    assert len(named(figure, "latent_1")) == len(named(figure, "latent_2")) == 1


def test_files_are_written_and_the_same_each_time(run: Run, tmp_path: Path) -> None:
    first = save_figures(run, tmp_path / "a", dpi=60)
    names = ["figure1", "agreement", "learning_curves"]
    assert [path.name for path in first] == [f"{name}.{ending}" for name in names for ending in ("png", "svg")]
    second = save_figures(run, tmp_path / "b", dpi=60)
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))
    assert ">COM magnitude</text>" in first[1].read_text(encoding="utf-8")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        save_figures(run, tmp_path / "file")


def test_figures_go_into_an_unfinished_run(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", finish=False)
    made.write_history({"total": []})
    assert "no epochs of training" in [text.get_text() for text in history_page(made.history).axes[0].texts]
    save_figures(made, dpi=50)
    made.finish()
    assert (tmp_path / "run" / "figures" / "figure1.png").exists()


@pytest.fixture(scope="module")
def field_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "field", shape=(42, 30), field=True, known=FIELD)


def test_the_field_has_its_panels_and_they_do_not_overlap(field_run: Run) -> None:
    figure = field_page(field_run.measurements, field_run.metrics)
    assert [text for text in words(figure) if text.startswith("(")] == ["(a)", "(b)", "(c)", "(d)", "(e)"]
    for name in ("arrows", "direction", "divergence", "curl", "potential"):
        (axes,) = named(figure, name)
        assert any(isinstance(artist, ScaleBar) for artist in axes.get_children()), name
    assert len(named(figure, "colour bar")) == 4
    assert len(named(figure, "colour wheel")) == 1
    assert "scan rotation 0°, given" in words(figure)
    assert any("E·t = −θ·pv/e" in text and "scan's frame" in text for text in words(figure))
    boxes = [axes.get_position() for axes in figure.axes]
    for index, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= 1
        assert 0 <= box.y0 < box.y1 <= 1
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_arrows_point_where_the_maps_say(field_run: Run) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = field_page(field_run.measurements, field_run.metrics)
    FigureCanvasAgg(figure).draw()
    (axes,) = named(figure, "arrows")
    (arrows,) = axes.collections
    maps, step = field_run.measurements.maps, 10.5 / 42
    assert arrows.N == 14 * 10  # blocks of 3 × 3
    for y, x, right, down in zip(*arrows.XY.T[::-1], arrows.U, arrows.V, strict=True):
        row, column = round(y / step), round(x / step)
        block = np.s_[row - 1 : row + 2, column - 1 : column + 2]
        assert right == pytest.approx(maps["field_x"][block].mean(), rel=1e-4, abs=1e-4)
        assert down == pytest.approx(maps["field_y"][block].mean(), rel=1e-4, abs=1e-4)
    # on the screen, y upwards: the tip is the fourth of the outline's corners, which lie about the arrow's middle
    index = int(np.hypot(arrows.U, arrows.V).argmax())
    tip = np.asarray(arrows.get_paths()[index].vertices)[3]
    np.testing.assert_allclose(np.arctan2(tip[1], tip[0]), np.arctan2(-arrows.V[index], arrows.U[index]), atol=0.02)


def test_field_colours_are_black_without_a_field_and_full_at_the_rim() -> None:
    angle = np.array([0.3, 0.3, 0.3])
    colors = angle_colors(angle, np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(colors[0], [0, 0, 0, 1])
    np.testing.assert_allclose(colors[1:], angle_colors(angle[1:]))
    np.testing.assert_allclose(angle_colors(np.array([np.nan]), np.array([np.nan]))[0, :3], 0.87)


def test_without_energy_and_step_the_deflection_is_drawn(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", shape=(8, 30), known_step=False, field=True, known={"scan_rotation": 0.5})
    figure = field_page(made.measurements)
    assert "Deflection over ADF" in words(figure)
    assert "Integrated COM" in words(figure)


def test_a_measured_rotation_says_how_certain_it_is(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", field=True, known=FIELD, finish=False)
    rotation = {"scan_rotation_deg": -59.21, "scan_rotation_uncertainty_deg": 1.04, "scan_rotation_source": "found"}
    made.write_metrics({**made.metrics, **rotation, "scan_rotation_ambiguous": True, "scan_flipped": True})
    assert "scan rotation −59.2° ± 1.0°, found, or ± 180°, flipped" in words(
        field_page(made.measurements, made.metrics)
    )
    assert {"scan rotation −59.2° ± 1.0°", "found, or ± 180°, flipped"} < set(words(overview(made)))


def test_the_field_is_among_the_files_where_there_is_one(field_run: Run, run: Run, tmp_path: Path) -> None:
    names = {path.name for path in save_figures(field_run, tmp_path / "a", dpi=50)}
    assert {"field.png", "field.svg"} < names
    with pytest.raises(DataError, match="scan rotation is not known"):
        field_page(run.measurements)


def test_extent_puts_positions_at_pixel_centres() -> None:
    assert scan_extent((3, 4), (2.0, 1.0)) == (-0.5, 3.5, 5.0, -1.0)
    assert scan_extent((3, 4), None) == (-0.5, 3.5, 2.5, -0.5)


@pytest.mark.parametrize(("value", "nice"), [(1.0, 1.0), (4.9, 2.0), (5.0, 5.0), (73.0, 50.0), (0.3, 0.2)])
def test_nice_numbers(value: float, nice: float) -> None:
    assert nice_number(value) == pytest.approx(nice)


def test_tidy_numbers_have_a_true_minus() -> None:
    assert [tidy_number(v) for v in (-1.5, 0.0, -1e-12, 2.0)] == ["−1.5", "0", "0", "2"]


def test_nothing_learned_still_draws(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", n_latent=1, shape=(8, 8), finish=False)
    empty = {name: np.full_like(getattr(made.embedding, name), np.nan) for name in ("latents", "angle")}
    made.write_embedding(replace(made.embedding, **empty), made.manifold, made.manifold_latents)
    made.write_metrics({"pearson_r": [np.nan], "angle_offset_deg": None})
    assert len(save_figures(made, dpi=50)) == 6
