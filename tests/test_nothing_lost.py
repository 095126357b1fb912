"""What belongs to the user is never replaced, emptied or renamed, whatever name a result is to get."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_run import make_run

from stemvane.config import Config
from stemvane.config.model_sections import MODEL_CONFIGS
from stemvane.data.dataset import Dataset4D
from stemvane.errors import FileFormatError, ModelError, RunError
from stemvane.export.writers import export_run
from stemvane.figures.saving import save_figures, save_structures_figure
from stemvane.io.files import open_dataset, save_dataset
from stemvane.models.model_file import write_model
from stemvane.runs.defects_folder import place_for_symmetry
from stemvane.runs.run import Run
from stemvane.simulation.synthetic import synthetic
from stemvane.workflow.pipeline import run_pipeline
from stemvane.workflow.sweep import run_sweep

SCAN = synthetic((6, 6), (16, 16))[0]
# manifests that other programs, or a careless hand, may have written
FOREIGN = ("{}", '{"kind": "run"}', '{"kind": "run", "versions": {"acme": "1"}}', '{"manifest_version": 3}', "[1]", "{")


def content(folder):
    """Everything below a folder, hidden or not: names, and what is in files and links."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shelf")
    save_dataset(SCAN, folder / "scan.zarr")
    np.save(folder / "image.npy", np.ones((16, 16)))
    (folder / "settings.toml").write_text(Config().to_toml())
    make_run(folder / "run", shape=(6, 6), detector=(16, 16))
    return folder


@pytest.fixture(autouse=True)
def idle(monkeypatch):
    """Whatever takes time must not have begun."""

    def too_late(*_, **__):
        raise AssertionError("work was begun")

    for name in (
        "stemvane.workflow.stages.simulate",
        "stemvane.workflow.stages.prepare_scan",
        "stemvane.simulation.simulate.simulate",
        "stemvane.defects.search.find_defects",
        "stemvane.figures.saving.overview_page",
        "stemvane.figures.saving.structures_page",
        "stemvane.export.writers.maps_of",
    ):
        monkeypatch.setattr(name, too_late)


def commands(shelf):
    """Every command that writes, but for where it writes."""
    return {
        "run": ["run", shelf / "scan.zarr"],
        "demo": ["demo"],
        "sweep": ["sweep", shelf / "scan.zarr"],
        "simulate": ["simulate", "graphene"],
        "export zarr": ["export", shelf / "run", "--to", "zarr"],
        "export csv": ["export", shelf / "run", "--to", "csv"],
        "symmetry": ["symmetry", shelf / "run"],
        "figures": ["figures", shelf / "run"],
        "structures": ["structures"],
    }


SUFFIX = {"simulate": ".zarr", "export zarr": ".zarr", "export csv": ".csv", "structures": ".png"}
REPLACING = ("run", "demo", "sweep", "simulate", "export zarr", "export csv")
COMMANDS = tuple(commands(Path()))


def refused(call, shelf, command, output, *more):
    """Call a command that must end in one line; gives that line."""
    code, out, err = call(*commands(shelf)[command], "-o", output, *more)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert ";" in err
    return err


@pytest.mark.parametrize("command", COMMANDS)
def test_names_that_cannot_be_written(call, shelf, tmp_path, command):
    ending = SUFFIX.get(command, "")
    (tmp_path / "file").write_text("years of work")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / f"pipe{ending}")
    (tmp_path / f"dangling{ending}").symlink_to(tmp_path / "nowhere")
    (tmp_path / f"circle{ending}").symlink_to(tmp_path / f"circle{ending}")
    (tmp_path / f"link{ending}").symlink_to(tmp_path / "folder")
    before = content(tmp_path)
    overwrite = ["--overwrite"] if command in REPLACING else []
    names = [f"file/{'x' + ending}", f"file/../file/{'x' + ending}", f"{'x' * 300}{ending}"]
    names += [f"/proc/x{ending}"] if Path("/proc").is_dir() else []
    if command != "figures":  # this one writes several files into a folder
        names += [f"pipe{ending}", f"dangling{ending}", f"circle{ending}", f"link{ending}", f"link{ending}/"]
    names += ["pipe", "file"] if command == "figures" else []
    if not ending:
        names += ["/", ".", "..", "", "folder/..", "file"] if command != "figures" else []
    for name in names:
        refused(call, shelf, command, name, *overwrite)
        assert content(tmp_path) == before, name


@pytest.mark.parametrize("command", ["run", "demo", "sweep"])
@pytest.mark.parametrize("manifest", FOREIGN)
def test_a_folder_whose_manifest_is_not_ours(call, shelf, tmp_path, command, manifest):
    for name in ("mine", ".new.partial", ".old.replaced"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(manifest)
        (tmp_path / name / "thesis.tex").write_text("years of work")
    before = content(tmp_path)
    assert "left alone" in refused(call, shelf, command, "mine", "--overwrite")
    for name in ("new", "old"):
        assert "in the way" in refused(call, shelf, command, name, "--overwrite")
        assert "in the way" in refused(call, shelf, command, name)
    assert content(tmp_path) == before


@pytest.mark.parametrize("command", ["simulate", "export zarr", "export csv"])
def test_a_name_or_a_hidden_one_that_is_not_ours(call, shelf, tmp_path, command):
    ending = SUFFIX[command]
    hidden = [f".a{ending}.partial", f".b{ending}.partial", *([f".c{ending}.replaced"] if ending == ".zarr" else [])]
    for name in (f"mine{ending}", *hidden):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("stemvane_export, stemvane-dataset")
        (tmp_path / name / "zarr.json").write_text('{"attributes": {"title": "stemvane_export, stemvane-dataset"}}')
    before = content(tmp_path)
    assert "left alone" in refused(call, shelf, command, f"mine{ending}", "--overwrite")
    for name in hidden:
        assert "in the way" in refused(call, shelf, command, name[1:].rpartition(".")[0], "--overwrite")
    assert content(tmp_path) == before


@pytest.mark.parametrize("hidden", [".{}.partial", ".{}.replaced"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, lambda path: path.symlink_to(path.parent)])
def test_hidden_names_that_are_no_folders(tmp_path, hidden, make):
    make(tmp_path / hidden.format("a.zarr"))
    before = os.listdir(tmp_path)
    with pytest.raises(FileFormatError, match="in the way"):
        save_dataset(SCAN, tmp_path / "a.zarr", overwrite=True)
    make(tmp_path / hidden.format("run"))
    with pytest.raises(RunError, match="in the way"):
        Run.create(tmp_path / "run", Config(), overwrite=True)
    assert set(before) <= set(os.listdir(tmp_path))


def test_kinds_do_not_replace_one_another(tmp_path):
    """A run, a data set and an export are all ours, and still none is replaced by another."""
    make_run(tmp_path / "run.zarr", shape=(4, 4), detector=(16, 16))
    save_dataset(SCAN, tmp_path / "scan.zarr")
    run = make_run(tmp_path / "run", shape=(4, 4), detector=(16, 16))
    before = content(tmp_path)
    for path in (tmp_path / "run.zarr", tmp_path / "scan.zarr"):
        with pytest.raises(FileFormatError, match="left alone"):
            export_run(run, "zarr", path, overwrite=True)
    with pytest.raises(FileFormatError, match="left alone"):
        save_dataset(SCAN, tmp_path / "run.zarr", overwrite=True)
    with pytest.raises(RunError, match="left alone"):
        Run.create(tmp_path / "scan.zarr", Config(), overwrite=True)
    assert content(tmp_path) == before


def our_run(folder):
    """A finished run that holds everything that another run may be made from."""
    make_run(folder, shape=(4, 4), detector=(16, 16))
    save_dataset(SCAN, folder / "raw" / "scan.zarr")
    np.save(folder / "image.npy", np.ones((16, 16)))
    return folder


@pytest.mark.parametrize(
    "setting",
    ["source.path", "source.image", "source.vacuum", "preparation.dark", "preparation.bad_pixels", "measure.masks"],
)
def test_a_folder_that_holds_an_input_is_not_replaced(shelf, tmp_path, monkeypatch, setting):
    folder = our_run(tmp_path / "run")
    section, name = setting.split(".")
    monkeypatch.chdir(tmp_path)
    held = "run/raw/scan.zarr" if setting == "source.path" else "run/image.npy"
    config = Config().replace(source={"path": str(shelf / "scan.zarr")})
    config = config.replace(**{section: {name: {"left": held} if name == "masks" else held}})
    before = content(tmp_path)
    for start in (run_pipeline, run_sweep):
        with pytest.raises(RunError, match=r"holds run/.*which the result is to be made from; choose another name"):
            start(config, folder, overwrite=True)
    with pytest.raises(RunError, match="holds run/"):
        Run.create(folder, config, overwrite=True)
    assert content(tmp_path) == before


def test_every_setting_that_names_a_file_protects_it():
    """The description of a setting says file or folder where its value is the name of one."""
    for section in (*(section for _, section in Config()), *(model() for model in MODEL_CONFIGS.values())):
        for name, field in type(section).model_fields.items():
            value = getattr(section, name)
            if isinstance(value, str | dict) and "file" in str(field.description):
                # a structure is a file only where its name ends as one
                path = "x.cif" if name == "structure" else "x.npy"
                changed = section.model_copy(update={name: {"a": path} if isinstance(value, dict) else path})
                assert Path(path) in changed.files(), name


def test_inputs_handed_over_in_python(shelf, tmp_path):
    folder = our_run(tmp_path / "run")
    scan = open_dataset(folder / "raw" / "scan.zarr")
    companion = Dataset4D.from_array(SCAN.data)
    object.__setattr__(companion, "files", (folder / "image.npy",))
    before = content(tmp_path)
    for dataset in (scan, companion):
        with pytest.raises(RunError, match="made from"):
            run_pipeline(Config(), folder, dataset=dataset, overwrite=True)
    with pytest.raises(RunError, match="made from"):
        run_pipeline(Config(), folder, inputs=[folder / "config.toml"], overwrite=True)
    for name in ("run/raw/scan.zarr", "run/raw/scan.zarr/inner.zarr"):
        with pytest.raises(FileFormatError, match="made from"):
            save_dataset(scan, tmp_path / name, overwrite=True)
    with pytest.raises(RunError, match="lies in"):
        run_pipeline(Config(), folder / "raw" / "scan.zarr" / "new", dataset=scan)
    assert content(tmp_path) == before


def test_inputs_of_the_commands(call, shelf, tmp_path):
    folder = our_run(tmp_path / "run")
    (tmp_path / "a.zarr").mkdir()
    save_dataset(SCAN, tmp_path / "set.zarr")
    (tmp_path / "set.zarr" / "settings.toml").write_text(Config().to_toml())
    (tmp_path / "other").symlink_to(folder)
    before = content(tmp_path)
    for arguments in (
        ["run", shelf / "scan.zarr", "-o", "run", "--config", "run/config.toml"],
        ["run", shelf / "scan.zarr", "-o", "run", "--config", "other/config.toml"],
        ["run", "other/raw/scan.zarr", "-o", "run"],
        ["run", shelf / "scan.zarr", "-o", "run", "--image", "run/image.npy"],
        ["run", shelf / "scan.zarr", "-o", "run", "--set", "measure.masks={left = 'run/image.npy'}"],
        ["run", "run/raw/scan.zarr", "-o", "run/raw/scan.zarr/new"],
        ["sweep", "run/raw/scan.zarr", "-o", "run"],
        ["sweep", shelf / "scan.zarr", "-o", "run", "--config", "run/config.toml"],
        ["demo", "-o", "run", "--set", "preparation.dark=run/image.npy"],
        ["simulate", "graphene", "-o", "set.zarr", "--config", "set.zarr/settings.toml"],
        ["export", "run", "--to", "zarr", "-o", "run/measurements.zarr"],
        ["export", "run", "--to", "tiff", "-o", "run"],
    ):
        code, out, err = call(*arguments, "--overwrite")
        assert (code, out, err.count("\n")) == (1, "", 1), arguments
        assert "made from" in err
        assert content(tmp_path) == before


def test_results_that_go_into_a_folder_of_the_user_s(call, shelf, tmp_path):
    """Pictures and defects do not replace files of their names that stemvane has not written."""
    (tmp_path / "paper").mkdir()
    for name in ("figure1.svg", "sites.csv", "symmetry.png"):
        (tmp_path / "paper" / name).write_text("drawn by hand")
    (tmp_path / "all.png").write_bytes(b"\x89PNG\r\n\x1a\n by hand")
    before = content(tmp_path)
    assert "left alone" in refused(call, shelf, "figures", "paper")
    assert "left alone" in refused(call, shelf, "symmetry", "paper")
    assert "left alone" in refused(call, shelf, "structures", "all.png")
    assert "left alone" in refused(call, shelf, "symmetry", shelf / "run")
    assert content(tmp_path) == before


def test_pictures_of_ours_are_replaced(shelf, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    for name in ("overview_page", "agreement_page", "history_page", "structures_page"):
        monkeypatch.setattr(f"stemvane.figures.saving.{name}", lambda *_: Figure(figsize=(1, 1)))
    for _ in range(2):
        paths = save_figures(Run.open(shelf / "run"), tmp_path / "drawn", 50)
        save_structures_figure(tmp_path / "all.png", 50)
    assert sorted(entry.name for entry in (tmp_path / "drawn").iterdir()) == sorted(path.name for path in paths)


def test_a_model_replaces_models_only(tmp_path):
    def save(name):
        write_model(tmp_path / name, {}, {}, Config(), ["model"])

    (tmp_path / "settings.toml").write_text("words")
    (tmp_path / "weights.safetensors").write_text("words")
    before = content(tmp_path)
    for name in ("settings.safetensors", "settings", "weights.safetensors"):
        with pytest.raises(ModelError, match="left alone"):
            save(name)
    assert content(tmp_path) == before
    for _ in range(2):
        save("model")


def test_what_is_ours_is_replaced(tmp_path):
    """The other side: everything that stemvane has written may be written again."""
    run = make_run(tmp_path / "run", shape=(4, 4), detector=(16, 16))
    make_run(tmp_path / "new", shape=(4, 4), detector=(16, 16))
    for _ in range(2):
        place_for_symmetry(run, tmp_path / "found")
        place_for_symmetry(run)
    again = Run.create(tmp_path / "new", Config(), overwrite=True)
    again.finish()
    save_dataset(SCAN, tmp_path / "a.zarr")
    save_dataset(SCAN, tmp_path / "a.zarr", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "new", "run"]


def test_what_a_killed_replacement_leaves_comes_back(tmp_path):
    """Killed between its two renames, while an old folder was removed, or just after the hidden folder was made."""
    save_dataset(SCAN, tmp_path / "a.zarr")
    (tmp_path / "a.zarr").rename(tmp_path / ".a.zarr.replaced")
    with pytest.raises(FileFormatError, match="exists already"):
        save_dataset(SCAN, tmp_path / "a.zarr")
    make_run(tmp_path / ".run.replaced", shape=(4, 4), detector=(16, 16))
    (tmp_path / ".run.partial").mkdir()
    (tmp_path / ".run.partial" / ".manifest.json.tmp").write_text("{")
    with pytest.raises(RunError, match="exists already"):
        Run.create(tmp_path / "run", Config())
    Run.open(tmp_path / "run")
    Run.create(tmp_path / "run", Config(), overwrite=True)


def test_a_removal_that_is_killed_leaves_what_says_whose_it_was(tmp_path, monkeypatch):
    save_dataset(SCAN, tmp_path / "a.zarr")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("stemvane.io.atomic.shutil", SimpleNamespace(rmtree=killed))
        with pytest.raises(KeyboardInterrupt):
            save_dataset(SCAN, tmp_path / "a.zarr", overwrite=True)
    assert "zarr.json" in os.listdir(tmp_path / ".a.zarr.replaced")
    save_dataset(SCAN, tmp_path / "a.zarr", overwrite=True)
    assert os.listdir(tmp_path) == ["a.zarr"]
