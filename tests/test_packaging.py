"""The source archive holds everything, and the wheel made from it everything that is needed to run."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MADE = {"": ("build", "dist", "runs", ".[!c]*"), "docs": ("gallery", "reference", "jupyter_execute")}


def ignored(folder, names):
    """What is made from the sources, and is no part of them."""
    place = Path(folder).relative_to(ROOT).as_posix().removeprefix(".")
    made = shutil.ignore_patterns(*MADE.get(place, ()), "__pycache__", "*.egg-info", "*.pyc")
    return made(folder, names)


def sources(folder):
    """Every file that belongs to the project, below a folder."""
    names = [path.name for path in folder.iterdir()]
    for name in set(names) - ignored(folder, names):
        path = folder / name
        if path.is_dir():
            yield from sources(path)
        else:
            yield path.relative_to(ROOT).as_posix()


def build(folder, kind):
    """Build a source archive or a wheel of the project in a folder, as pip does."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}('dist'))"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    return folder / "dist" / printed.splitlines()[-1]


@pytest.fixture(scope="module")
def source_archive(tmp_path_factory):
    copy = tmp_path_factory.mktemp("sdist") / "stemvane"
    shutil.copytree(ROOT, copy, ignore=ignored)
    return build(copy, "sdist")


def test_the_source_archive_is_complete(source_archive):
    with tarfile.open(source_archive) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {path for folder in ("src", "docs", "tests", "benchmarks") for path in sources(ROOT / folder)}
    assert expected - names == set()
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "Makefile", "requirements.lock"} <= names


def test_the_wheel_from_it_is_complete(source_archive, tmp_path):
    with tarfile.open(source_archive) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    with zipfile.ZipFile(build(folder, "wheel")) as wheel:
        names = set(wheel.namelist())
        (metadata,) = [wheel.read(name).decode() for name in names if name.endswith("/METADATA")]
    package = ROOT / "src" / "stemvane"
    modules = {f"stemvane/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    geometries = {f"stemvane/simulation/geometries/{path.name}" for path in package.rglob("*.xyz")}
    assert geometries
    assert {
        "stemvane/py.typed",
        "stemvane/__init__.pyi",
        "stemvane/workflow/demo.toml",
        "stemvane/simulation/lobato.csv",
    } <= names
    page = {f"stemvane/viewer/static/{path.name}" for path in (package / "viewer" / "static").iterdir()}
    assert {*modules, *geometries, *page} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))]
    assert "Description-Content-Type: text/markdown" in metadata
