"""The house plan as a test: who imports whom, which rooms know which library, and what is public."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import stemvane

ROOT = Path(stemvane.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
    if path != ROOT / "__init__.py"
}

# every room stands on one storey and imports from storeys below it; a name stands for a file or a whole folder
STOREYS = (
    ("errors",),
    ("calibration", "config"),
    ("folders", "manifest", "disc", "overlap", "option_values", "scan_atoms"),
    ("dataset", "polar"),
    ("pixels",),
    ("virtual_detectors", "measurements", "embedding"),
    ("harmonics", "kernels", "blocks"),
    ("neighbours",),
    ("feature_reader",),
    (
        "sources",
        "survey",
        "preparation",
        "measure",
        "cluster",
        "field",
        "alignment",
        "models",
        "agreement",
        "recommendation",
        "symmetry",
    ),
    ("training", "model_file", "defect_library"),
    ("pattern_models", "harmonic_fit"),
    ("pixel_model", "scores"),
    ("vae",),
    ("baselines",),
    ("signals",),
    ("run", "export_hdf5", "sweep_folder"),
    ("export", "figures", "viewer", "symmetry_folder"),
    ("pipeline", "tables"),
    ("sweep",),
    ("cli",),
)
ALLOWED = {
    "abtem": {"sources.simulation"},
    "matplotlib": {"figures"},
    "matplotlib_scalebar": {"figures"},
    "cmcrameri": {"figures"},
    "torch": {"models", "training", "model_file", "harmonic_fit", "pixel_model", "vae"},
    "sklearn": {"models", "symmetry"},
    "rsciio": {"sources"},
    "hyperspy": {"signals"},
    "tifffile": {"export"},
    "PIL": {"sources"},
    "typer": {"cli"},
    "rich": {"cli", "tables"},
    "distributed": {"cluster"},
    "llvmlite": {"kernels"},
}
NEVER = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "py4DSTEM", "pyxem", "libertem"}
MOST_LINES = 400
PUBLIC = [
    "Calibration",
    "Config",
    "Dataset4D",
    "Embedding",
    "FieldMaps",
    "Measurements",
    "PixelGrid",
    "PolarGrid",
    "RotationVAE",
    "Run",
    "ScanRotation",
    "StemvaneError",
    "Sweep",
    "SymmetryAnalysis",
    "VirtualDetector",
    "align_rotation",
    "analyse_symmetry",
    "build_structure",
    "compare",
    "export",
    "field_maps",
    "find_rotation",
    "graphene",
    "integrate",
    "load_model",
    "measure",
    "open_dataset",
    "pattern_model",
    "projected_field",
    "projected_potential",
    "run_pipeline",
    "run_sweep",
    "save_dataset",
    "save_figures",
    "simulate",
    "simulate_library",
    "survey",
    "synthetic",
]


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """Full names of everything a file imports, also within functions, but not for type checkers alone."""
    found, checked_only = set(), set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            checked_only |= {id(inner) for inner in ast.walk(node)}
        if id(node) in checked_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def neighbours(path):
    """Modules of ours that a file imports."""
    ours = {name.removeprefix("stemvane.") for name in imports(path) if name.startswith("stemvane.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in ours}


def room(module):
    return module.split(".")[0]


def storey(module):
    return next((level for level, rooms in enumerate(STOREYS) if room(module) in rooms), None)


def test_every_module_has_its_storey():
    assert [module for module in MODULES if storey(module) is None] == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_only(module):
    wrong = {
        other
        for other in neighbours(MODULES[module])
        if room(other) != room(module) and not storey(other) < storey(module)
    }
    assert wrong == set()


def test_there_are_no_circles():
    left = {module: neighbours(path) - {module} for module, path in MODULES.items()}
    while left:
        free = [module for module, others in left.items() if not others & left.keys()]
        assert free, f"circle among {sorted(left)}"
        for module in free:
            del left[module]


def test_only_some_rooms_know_a_library():
    wrong = [
        (module, library)
        for module, path in MODULES.items()
        for library in {name.split(".")[0] for name in imports(path)}
        if library in ALLOWED and not ALLOWED[library] & {module, room(module)}
    ]
    assert wrong == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_pickled(module):
    assert NEVER & {name.split(".")[0] for name in imports(MODULES[module])} == set()
    for node in ast.walk(tree(MODULES[module])):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            # torch.save and torch.load pickle
            assert called not in {"torch.save", "torch.load", "eval", "exec", "np.save", "numpy.save"}, called


def test_files_are_short_and_none_is_called_utils():
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: n for module, n in lines.items() if n > MOST_LINES} == {}
    assert [module for module in MODULES if re.search(r"(^|\.)(utils?|helpers?|misc|common)$", module)] == []


def test_a_stage_takes_its_section_not_the_whole_config():
    whole = {
        "sources.simulation",
        "model_file",
        "harmonic_fit",
        "pixel_model",
        "vae",
        "baselines",
        "run",
    }  # these make or keep a section from the whole
    wrong = [
        module
        for module, path in MODULES.items()
        if "stemvane.config.Config" in imports(path) and storey(module) < storey("export") and module not in whole
    ]
    assert wrong == []


def test_nothing_is_printed():
    wrong = [
        module
        for module, path in MODULES.items()
        for node in ast.walk(tree(path))
        if room(module) != "cli" and isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert wrong == []


def test_public_names():
    assert stemvane.__all__ == PUBLIC == sorted(PUBLIC)
    assert dir(stemvane) == sorted([*PUBLIC, "__version__"])
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        stemvane.nonsense


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_there_and_documented(name):
    thing = getattr(stemvane, name)
    text = inspect.getdoc(thing) or ""
    assert len(text.splitlines()[0]) > 20
    if inspect.isfunction(thing):
        assert_documented(thing, text, name)
        return
    assert inspect.isclass(thing), f"{name} is {thing!r}"
    if not issubclass(thing, Exception):
        assert re.search(r"^(Parameters|Attributes)\n-+$", text, re.MULTILINE) or not thing.__module__.endswith("run")
    for part, member in vars(thing).items():
        if not part.startswith("_") and (
            inspect.isfunction(member) or isinstance(member, classmethod | staticmethod | property)
        ):
            assert inspect.getdoc(getattr(thing, part)), f"{name}.{part} has no docstring"


def assert_documented(function, text, name):
    """Every argument, what is returned and what is raised."""
    assert re.search(r"^Parameters\n-+$", text, re.MULTILINE), name
    for argument in inspect.signature(function).parameters:
        assert re.search(rf"^(\w+, )*\**{argument}(, \w+)*( :|$)", text, re.MULTILINE), f"{name}: {argument}"
    if inspect.signature(function).return_annotation not in (None, "None"):
        assert re.search(r"^Returns\n-+$", text, re.MULTILINE), name


def run_fresh(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return result.stdout.strip()


def test_importing_is_quick_and_loads_no_large_library():
    code = """
import sys, time
start = time.process_time()
import stemvane
took = time.process_time() - start
large = {"torch", "abtem", "ase", "matplotlib", "numba", "dask", "zarr", "scipy", "rsciio", "pydantic", "typer"}
print(took, *sorted(large & set(sys.modules)))
"""
    seconds, *loaded = run_fresh(code).split()
    assert loaded == []
    assert float(seconds) < 0.5


def test_reading_and_measuring_need_neither_torch_nor_simulation_nor_plots():
    code = """
import sys
from stemvane import Calibration, Config, Dataset4D, Embedding, Measurements, measure, survey, open_dataset, synthetic
print(*sorted({"torch", "abtem", "matplotlib"} & set(sys.modules)))
"""
    assert run_fresh(code) == ""


def test_functions_come_before_the_modules_of_their_name():
    code = """
import stemvane.measure, stemvane.survey
from stemvane import measure, survey
print(callable(measure), callable(survey))
"""
    assert run_fresh(code) == "True True"


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize(
    "module", [module for module, path in MODULES.items() if ">>> " in path.read_text(encoding="utf-8")]
)
def test_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(import_module(f"stemvane.{module}"), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0
