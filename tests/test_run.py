import json
from pathlib import Path

import numpy as np
import pytest
from fake_run import make_run

from stemvane.config import Config
from stemvane.errors import RunError
from stemvane.io.atomic import fingerprint, is_intact, keep_only
from stemvane.runs.run import Run


def one_line(error: pytest.ExceptionInfo[RunError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("n_latent", [0, 1, 2])
def test_what_is_written_comes_back(tmp_path: Path, n_latent: int) -> None:
    written = make_run(tmp_path / "run", n_latent=n_latent, masked=True)
    run = Run.open(tmp_path / "run")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    assert run.manifest["status"] == "complete"
    assert run.config == Config()
    assert run.embedding.n_latent == n_latent
    np.testing.assert_array_equal(run.embedding.angle, written.embedding.angle)
    assert np.isnan(run.embedding.angle[0, 0])
    assert run.manifold.shape == {0: (1, 1, 32, 32), 1: (1, 3, 32, 32), 2: (3, 3, 32, 32)}[n_latent]
    assert run.manifold_latents.shape == (*run.manifold.shape[:2], n_latent)
    assert run.measurements.atoms is not None
    assert run.measurements.polar.shape == (24, 24, 6, 16)
    assert len(run.metrics["pearson_r"]) == n_latent
    assert run.history["epoch"].tolist() == list(range(1, 41))
    assert np.isnan(run.history["noise_level"]).all()
    assert run.history["total"][-1] == pytest.approx(900 + 400 * np.exp(-5))


def test_the_manifest_tells_how_it_was_made(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Config().replace(training={"seed": 7}), command="stemvane run x.toml")
    run.record(data_path=Path("x.h5"), data_hash="abc", count=np.int64(3))
    for _ in range(2):
        with run.stage("measure"):
            pass
    with pytest.raises(ZeroDivisionError), run.stage("learn"):
        1 / 0
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert (manifest["seed"], manifest["command"], manifest["data_path"]) == (7, "stemvane run x.toml", "x.h5")
    assert manifest["count"] == 3
    assert {"stemvane", "numpy", "torch", "zarr"} <= set(manifest["versions"])
    assert manifest["stages"]["measure"]["peak_memory_mb"] > 10
    assert manifest["stages"]["learn"]["wall_seconds"] >= 0
    assert [manifest["stages"][name]["complete"] for name in ("measure", "learn")] == [True, False]
    assert manifest["status"] == "running"


def test_a_killed_run_does_not_open_and_gives_way(tmp_path: Path) -> None:
    make_run(tmp_path / "run", finish=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(RunError) as error:
        Run.open(tmp_path / "run")
    assert "not finished" in one_line(error)
    with pytest.raises(RunError):
        Run.open(tmp_path / ".run.partial")
    (tmp_path / ".run.partial").rename(tmp_path / "moved")
    with pytest.raises(RunError, match="not complete"):
        Run.open(tmp_path / "moved")
    make_run(tmp_path / "run", finish=False)
    make_run(tmp_path / "run")
    Run.open(tmp_path / "run")


def test_an_existing_folder_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    make_run(tmp_path / "run", n_latent=1)
    with pytest.raises(RunError) as error:
        Run.create(tmp_path / "run", Config())
    assert "overwrite=True" in one_line(error)
    newer = Run.create(tmp_path / "run", Config(), overwrite=True)
    newer.write_metrics({"n_latent": 5})
    assert Run.open(tmp_path / "run").metrics["n_latent"] == 1
    newer.finish()
    assert Run.open(tmp_path / "run").metrics == {"n_latent": 5}
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_name_taken_in_the_meantime_is_not_overwritten(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Config())
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError):
        run.finish()
    assert json.loads((tmp_path / ".run.partial" / "manifest.json").read_text())["status"] == "running"


@pytest.mark.parametrize("name", ["run", ".run.partial"])
def test_a_folder_that_is_not_a_run_is_never_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError):
        Run.create(tmp_path / "run", Config(), overwrite=True)
    assert (tmp_path / name / "thesis.tex").exists()


def test_a_run_that_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Config())
    run.record(pid=1)
    with pytest.raises(RunError, match="another process"):
        Run.create(tmp_path / "run", Config())
    run.record(pid=2**22 + 1)  # above the largest process number
    Run.create(tmp_path / "run", Config())


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("content", ["[]", "{ broken", "3"])
def test_a_folder_without_a_manifest_of_ours_is_left_alone(tmp_path: Path, resume: bool, content: str) -> None:
    (tmp_path / ".run.partial").mkdir()
    (tmp_path / ".run.partial" / "manifest.json").write_text(content)
    with pytest.raises(RunError, match="not ours"):
        Run.create(tmp_path / "run", Config(), resume=resume)
    assert (tmp_path / ".run.partial" / "manifest.json").read_text() == content


def test_a_stage_is_taken_over_once_its_files_are_complete(tmp_path: Path) -> None:
    def begin() -> Run:
        return Run.create(tmp_path / "run", Config(), resume=True)

    run = begin()
    with run.stage("measure", made_from={"n": 1}, parts=("history.csv",)) as notes:
        assert not run.takes_over("measure", {"n": 1})
        run.write_history({"total": [1.0]})
        notes["n_patterns"] = np.int64(3)
    assert not run.takes_over("measure", {"n": 1})
    record = run.manifest["stages"]["measure"]
    assert (record["complete"], record["n_patterns"]) == (True, 3)
    run.write_metrics({})

    again = begin()
    assert not (again.folder / "metrics.json").exists()
    assert not again.takes_over("measure", None)
    assert not again.takes_over("measure", {"n": 2})
    assert again.manifest["resumed"] == []
    assert again.takes_over("measure", {"n": 1})
    assert again.history["total"].tolist() == [1.0]
    assert again.manifest["stages"]["measure"] == record
    again.finish()
    assert Run.open(tmp_path / "run").manifest["resumed"] == ["measure"]


def test_only_parts_survive_and_links_are_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    for name in ("run/a.zarr/x/c", "run/a.zarr/y", "run/b", "outside"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("run/a.zarr/x/c/0", "run/a.zarr/y/0", "run/b/0", "run/c.txt", "outside/thesis.tex"):
        (tmp_path / name).write_text("years of work")
    (folder / "link").symlink_to(outside)
    keep_only(folder, ["a.zarr/x", "link/thesis.tex", "none", "../outside"])
    left = sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file())
    assert left == ["outside/thesis.tex", "run/a.zarr/x/c/0"]


def test_a_fingerprint_knows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "0").write_text("x")
    before = fingerprint(tmp_path / "a")
    (tmp_path / "a" / ".DS_Store").write_text("left by a file manager")
    assert is_intact(tmp_path / "a", before)
    (tmp_path / "a" / "b" / "0").rename(tmp_path / "a" / "b" / "1")
    assert not is_intact(tmp_path / "a", before)
    (tmp_path / "a" / "b" / "1").rename(tmp_path / "a" / "b" / "0")
    assert is_intact(tmp_path / "a", before)
    (tmp_path / "a" / "b" / "0").write_text("y")
    assert not is_intact(tmp_path / "a", before)
    assert not is_intact(tmp_path / "none", before)


def test_an_old_run_set_aside_comes_back(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / ".run.replaced")
    with pytest.raises(RunError, match="exists already"):
        Run.create(tmp_path / "run", Config())
    Run.open(tmp_path / "run")


def test_what_json_cannot_say_becomes_null(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Config())
    run.write_metrics(
        {"a": np.nan, "b": np.float32("inf"), "c": [0.5, float("nan")], "d": np.array([1, 2]), "e": None, "f": True}
    )
    assert "NaN" not in (run.folder / "metrics.json").read_text()
    assert run.metrics == {"a": None, "b": None, "c": [0.5, None], "d": [1, 2], "e": None, "f": True}
    with pytest.raises(TypeError):
        run.write_metrics({"nested": {"a": 1}})


def test_a_run_without_training_has_an_empty_history(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Config())
    run.write_history({"total": [], "kl_angle": []})
    assert run.history["total"].shape == (0,)
    with pytest.raises(ValueError, match="shorter"):
        run.write_history({"total": [1.0, 2.0], "kl_angle": [1.0]})


@pytest.mark.parametrize("part", ["manifest.json", "metrics.json", "config.toml", "measurements.zarr/zarr.json"])
@pytest.mark.parametrize("damage", ["{ broken " + "x" * 100_000, ""])
def test_damage_is_reported_in_one_line(tmp_path: Path, part: str, damage: str) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "run" / part).write_text(damage)
    with pytest.raises(RunError) as error:
        Run.open(tmp_path / "run")
    assert len(one_line(error)) < 1000


def test_a_lost_array_is_noticed(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    next((tmp_path / "run" / "embedding.zarr" / "angle" / "c").rglob("0")).rename(tmp_path / "gone")
    with pytest.raises(RunError, match="cut short"):
        Run.open(tmp_path / "run")


def test_a_damaged_chunk_is_reported_when_it_is_read(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    for chunk in (tmp_path / "run" / "embedding.zarr" / "angle" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"\xff" * chunk.stat().st_size)
    run = Run.open(tmp_path / "run")
    with pytest.raises(RunError) as error:
        _ = run.embedding
    assert "embedding.zarr" in one_line(error)


def test_a_finished_run_cannot_be_changed(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    run = Run.open(tmp_path / "run")
    with pytest.raises(RunError, match="finished"):
        run.write_metrics({})
    with pytest.raises(RunError, match="finished"):
        run.record(device="cpu")
    with pytest.raises(ValueError, match="read-only"):
        run.store("embedding").create_array("angle", data=np.zeros(3), overwrite=True)


def test_a_missing_run_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        Run.open(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="not a run"):
        Run.open(tmp_path / "empty")
