"""The documentation says what the code does: generated pages, links, code blocks, metrics, settings, modules."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import stemvane
from stemvane import Config, StemvaneError, run_pipeline, synthetic
from stemvane.cli.app import app
from stemvane.config import MODEL_CONFIGS, DetectorConfig, ScanConfig

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
PACKAGE = Path(stemvane.__file__).parent
# what every run promises
PROMISED = {
    *("n_patterns", "n_latent", "seed", "model", "electrons_per_pattern", "train_seconds"),
    *("train_patterns_per_second", "total_seconds", "peak_memory_mb"),
    *("pearson_r", "pearson_r_first", "pearson_r_others_max", "angle_sign", "angle_offset_deg"),
    *("angle_error_median_deg", "angle_error_mean_deg", "pearson_r_truth", "pearson_r_first_truth"),
    *("pearson_r_others_max_truth", "angle_sign_truth", "angle_offset_deg_truth", "angle_error_median_deg_truth"),
    *("angle_error_mean_deg_truth", "com_angle_error_median_deg_truth", "com_pearson_r_truth"),
    *("explained_variance", "explained_variance_truth", "explained_variance_heldout", "evidence_heldout"),
    *("invariance_error", "equivariance_error_deg"),
    *("scan_rotation_deg", "scan_rotation_uncertainty_deg", "scan_rotation_source", "scan_flipped"),
}


SECTIONS = {"simulation": {"detector": DetectorConfig, "scan": ScanConfig}}
"""Sections within sections."""


def text(name):
    return (DOCS / name).read_text(encoding="utf-8")


def section(name, title, rank=2):
    """Text below a heading, to the next one of its rank or above."""
    rest = text(name).split(f"\n{'#' * rank} {title}\n")[1]
    return re.split(rf"^#{{1,{rank}}} ", rest, flags=re.MULTILINE)[0]


def rows(table):
    """Cells of every row of every table in a text, without the headings."""
    contents = []
    for line in table.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if set(cells[0]) <= {"-"} and cells[0]:
                contents.pop()
            else:
                contents.append(cells)
    return contents


def script(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leave_out_evidence(patch):
    """Likelihood estimates take most of a small run's time and have tests of their own."""
    patch.setattr(
        "stemvane.models.harmonic_model.log_evidence",
        lambda model, features, *_, **__: features.new_zeros(len(features)),
    )
    patch.setattr("stemvane.models.harmonic_model.best_noise_variance", lambda model, features: 0.01)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    dataset, _ = synthetic((8, 8), (32, 32), dose=1e5)
    config = Config().replace(
        basis={"n_features": 16}, training={"n_epochs": 1}, compare={"n_turned": 4}, figures={"dpi": 50, "manifold": 2}
    )
    with pytest.MonkeyPatch.context() as patch:
        leave_out_evidence(patch)
        return run_pipeline(config, tmp_path_factory.mktemp("run") / "tiny", dataset=dataset)


@pytest.mark.parametrize(
    ("page", "maker"),
    [("cli.md", "make_cli_page"), ("structures.md", "make_structures_page")],
)
def test_generated_pages_are_up_to_date(page, maker):
    assert text(page) == script(maker).page(), f"run: python docs/{maker}.py"


def test_every_command_and_option_is_on_its_page():
    for name, command in typer.main.get_command(app).commands.items():
        shown = {cell for row in rows(section("cli.md", name)) for cell in re.findall(r"`([^`]+)`", row[0])}
        options = {option for p in command.params for option in p.opts if option.startswith("-")} - {"--help"}
        arguments = {f"<{p.name}>" for p in command.params if p.param_type_name == "argument"}
        assert shown == options | arguments
        helped = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).output
        assert options <= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", helped))
        assert all(len(row) == 3 and row[2] for row in rows(section("cli.md", name))), name


def test_every_public_name_is_on_one_page():
    groups = re.findall(r":toctree: reference\n\n(.*?)```", text("api.md"), re.DOTALL)
    assert sorted(" ".join(groups).split()) == sorted(stemvane.__all__), "docs/api.md, in one of its groups"


def test_every_setting_is_on_its_page():
    for name, kind in MODEL_CONFIGS.items():
        assert [row[0].strip("`") for row in rows(section("cli.md", name, 4))] == list(kind.model_fields)
    for name, field in Config.model_fields.items():
        if name == "model":
            continue
        table, *nested = section("cli.md", name, 3).split("\n#### ")
        assert [row[0].strip("`") for row in rows(table)] == list(type(field.default).model_fields)
        assert [part.split("\n")[0] for part in nested] == [f"{name}.{inner}" for inner in SECTIONS.get(name, {})]
        for part, kind in zip(nested, SECTIONS.get(name, {}).values(), strict=True):
            assert [row[0].strip("`") for row in rows(part)] == list(kind.model_fields)


def test_settings_of_the_model_and_their_defaults():
    documented = {row[0].strip("`"): row[1] for row in rows(section("model.md", "Settings"))}
    config = Config()
    expected = {}
    for name in ("basis", "align", "model", "training"):
        for key, value in getattr(config, name):
            expected[f"{name}.{key}"] = str(list(value) if isinstance(value, tuple) else value)
    assert documented == expected


def documented_metrics():
    names = []
    for key, *others in rows(section("run_folder.md", "metrics.json")):
        suffixes = re.findall(r"`(_\w+)`", others[0])
        names += [name + suffix for name in re.findall(r"`(\w+)`", key) for suffix in ("", *suffixes)]
    assert len(names) == len(set(names))
    return set(names)


def test_every_metric_is_documented(run):
    assert documented_metrics() == set(run.metrics)
    assert set(run.metrics) >= PROMISED


def test_every_part_of_a_run_is_documented(run):
    page = text("run_folder.md")
    for path in run.path.iterdir():
        assert f"\n  {path.name}" in page, path.name
    keys = {key for row in rows(section("run_folder.md", "manifest.json")) for key in re.findall(r"`(\w+)`", row[0])}
    assert keys == set(run.manifest)
    for stage in run.manifest["stages"]:
        assert f"`{stage}`" in section("run_folder.md", "manifest.json")
    assert set(run.history) == set(re.findall(r"`(\w+)`", section("run_folder.md", "history.csv")))
    for name in ("measurements", "embedding"):
        listed = " ".join(row[0] for row in rows(section("run_folder.md", f"{name}.zarr")))
        arrays = {path for path, _ in run.store(name).members(max_depth=None) if not path.startswith("expectation")}
        assert {f"`{path}`" for path in arrays - {"maps", "atoms", "sample"}} <= set(re.findall(r"`[\w/…]+`", listed))
    assert set(re.findall(r"`(\w+)`", section("run_folder.md", "figures/"))) >= {
        path.stem for path in run.figures_path.iterdir()
    }


def test_settings_of_a_run_are_documented():
    assert all(f"`{name}`" in section("run_folder.md", "config.toml") for name in Config.model_fields)


def test_every_module_has_its_place_in_the_architecture():
    page = text("architecture.md")
    storeys = {
        room
        for row in rows(section("architecture.md", "The import rule"))
        for room in re.findall(r"`([\w/.]+)`:?", row[1])
    }
    storeys = {room for room in storeys if room.endswith((".py", "/"))}
    for path in PACKAGE.rglob("*.py"):
        inner = path.relative_to(PACKAGE)
        if path.name == "__init__.py":
            continue
        assert (f"{inner.parts[0]}/" if len(inner.parts) > 1 else path.name) in storeys, inner
        assert f"`{path.name}`" in page, inner
    assert [room for room in storeys if not (PACKAGE / room).exists()] == []


def test_errors_are_drawn_as_they_are():
    import stemvane.errors

    kinds = [kind for kind in vars(stemvane.errors).values() if isinstance(kind, type)]
    assert all(kind.__name__ in text("errors.md") for kind in kinds if issubclass(kind, StemvaneError))
    tree = text("errors.md").split("```")[1].strip()
    assert "\n".join(f"    {line}" for line in tree.splitlines()) in stemvane.errors.__doc__


def anchors(page):
    """Anchors of a page's headings as GitHub makes them, those of a file that it includes too."""
    words = page.read_text(encoding="utf-8")
    for name in re.findall(r"```{include} (\S+)", words):
        words += (page.parent / name).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", words, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    words = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", words):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        aim = (page.parent / name).resolve() if name else page
        assert aim.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(aim), f"{page.name}: {target}"


def listed(page):
    """Pages in the tables of contents of a page, as paths within the documentation."""
    entries = "".join(re.findall(r"```{toctree}\n(?::\w+:.*\n)*\n(.*?)```", text(page), re.DOTALL)).splitlines()
    paths = [(DOCS / page).parent / re.sub(r".*<(.+)>", r"\1", entry) for entry in entries]
    return [path.with_suffix(path.suffix or ".md").resolve().relative_to(DOCS.resolve()).as_posix() for path in paths]


def test_every_page_is_in_the_tables_of_contents_once():
    reached, todo = [], ["index.md"]
    while todo:
        page = todo.pop()
        reached.append(page)
        if page.endswith(".md") and not page.startswith("gallery/"):
            todo += listed(page)
    sources = [*DOCS.rglob("*.md"), *(DOCS / "notebooks").glob("*.ipynb")]
    assert sorted(reached) == sorted(["gallery/index.md", *(path.relative_to(DOCS).as_posix() for path in sources)])
    assert listed("index.md")[0] == "conventions.md"


@pytest.mark.parametrize(
    "page",
    [
        "../README.md",
        "index.md",
        "quickstart.md",
        "model.md",
        "baselines.md",
        "detector.md",
        "errors.md",
        "export.md",
        "from_image.md",
        "structures.md",
    ],
)
def test_code_blocks_run(page, tmp_path, monkeypatch, capsys, short_training):
    monkeypatch.chdir(tmp_path)
    leave_out_evidence(monkeypatch)
    blocks = re.findall(r"```python\n(.*?)```", text(page), re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    said = capsys.readouterr().out
    if page == "errors.md":
        assert said.strip() in text(page)


def test_the_tutorial_names_every_defect(capsys, shared_library, monkeypatch, short_training):
    monkeypatch.setattr("stemvane.simulate_library", shared_library)
    page = text("tutorials/defects.md")
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", page, re.DOTALL)[:2]
    assert len(re.sub(r"\n+", "\n", code).strip().splitlines()) <= 10
    names = {}
    exec(compile(code, "defects.md", "exec"), names)
    assert capsys.readouterr().out == printed
    truth = names["dataset"].atoms.defects
    apart = np.linalg.norm(names["detected"].positions[:, None] - truth.positions, axis=-1)
    assert apart.min(axis=0).max() < 0.1
    assert [truth.kinds[i] for i in apart.argmin(axis=1)] == list(names["detected"].naming.names)


def test_the_picture_shows_what_is_measured():
    drawn = script("draw_conventions")
    patterns, measured = drawn.measured()
    y, x = drawn.SPOT[0] - drawn.AXIS[0], drawn.SPOT[1] - drawn.AXIS[1]
    np.testing.assert_allclose(patterns[1], np.rot90(patterns[0]))
    assert measured.com_angle[0, 0] == pytest.approx(np.arctan2(-y, x), abs=np.radians(1))
    np.testing.assert_allclose(np.degrees(measured.com_angle[0, 1] - measured.com_angle[0, 0]), 90, atol=1e-6)
    assert drawn.PICTURE.exists()


def test_the_picture_of_the_rotation_shows_what_is_measured():
    drawn = script("draw_conventions")
    _, _, (rotated, flipped) = drawn.deflections()
    assert (rotated.flipped, flipped.flipped) == (False, True)
    np.testing.assert_allclose([rotated.angle, flipped.angle], drawn.SCAN_ROTATION, atol=1e-3)
    assert drawn.ROTATION_PICTURE.exists()
