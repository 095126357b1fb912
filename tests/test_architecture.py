"""The house plan as a test: who imports whom, which rooms know which library, and what is public."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
from functools import cache
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

# a folder, or a module beside the folders, imports only from rows above its own
STOREYS = (
    ("errors", "specimens"),
    ("config", "extras", "geometry"),
    ("data",),
    ("io", "simulation", "features", "field", "segmentation"),
    ("reduction",),
    ("models",),
    ("defects", "evaluation"),
    ("runs",),
    ("figures", "export", "viewer"),
    ("workflow",),
    ("cli",),
)
HOMES = {
    "abtem": set(),
    "ase": {"simulation", "figures"},
    "matplotlib": {"figures"},
    "matplotlib_scalebar": {"figures"},
    "cmcrameri": {"figures"},
    "torch": {"models"},
    "sklearn": {"models", "defects", "segmentation"},
    "rsciio": {"io"},
    "PIL": {"io"},
    "hyperspy": {"data"},
    "tifffile": {"export", "io"},
    "typer": {"cli"},
    # its progress bars are shown wherever something takes long, not only by the command line
    "rich": {"cli", "data"},
    "distributed": {"reduction"},
    "llvmlite": {"reduction"},
    "starlette": {"viewer"},
    "uvicorn": {"viewer"},
    "anywidget": {"viewer"},
}
NEVER = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "py4DSTEM", "pyxem", "libertem"}
MOST_LINES = 500
PUBLIC = stemvane.__all__


@cache  # once for all tests, none of which changes a tree
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path):
    """Full names of everything a file imports, also within functions, but not for type checkers alone."""
    return imported_by(tree(path))


def imported_by(parsed, *, exempt=frozenset()):
    """The same of parsed source, without the nodes whose ids are exempt."""
    imports, skipped = set(), set(exempt)
    for node in ast.walk(parsed):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {id(inner) for inner in ast.walk(node)}
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{ast.unparse(node)} imports relatively"
            imports |= {f"{node.module}.{alias.name}" for alias in node.names}
    return imports


def shortcuts(parsed):
    """Ids of the imports in methods that only pass the object on to a folder above, each to one folder."""
    rooms = {"view": "viewer", "filtered_com": "features"}
    methods = [
        (member, "figures" if member.name.startswith("plot") else rooms[member.name])
        for node in ast.walk(parsed)
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if isinstance(member, ast.FunctionDef) and (member.name.startswith("plot") or member.name in rooms)
    ]
    return {
        id(node)
        for method, room in methods
        for node in ast.walk(method)
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"stemvane.{room}.")
    }


def modules_of(parsed):
    """Modules of ours that a source imports, but for those of shortcuts."""
    names = imported_by(parsed, exempt=shortcuts(parsed))
    ours = {name.removeprefix("stemvane.") for name in names if name.startswith("stemvane.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in ours} - {""}


def folder(module):
    return module.split(".")[0]


def storey(module):
    return next((level for level, row in enumerate(STOREYS) if folder(module) in row), None)


def test_every_folder_has_its_storey_and_there_are_few():
    assert [module for module in MODULES if storey(module) is None] == []
    entries = [path for path in ROOT.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 24
    assert len([path for path in entries if path.is_dir()]) <= 17


def test_imports_point_down_only():
    wrong = [
        (module, other)
        for module, path in MODULES.items()
        for other in modules_of(tree(path))
        if folder(other) != folder(module) and not storey(other) < storey(module)
    ]
    assert wrong == []


def test_only_shortcuts_may_import_from_above():
    """Nothing else may: no other method, no function, no module, and a shortcut from nothing but its folder."""
    page, run = "from stemvane.figures.style import STYLE", "from stemvane.runs.run import Run"
    for source, expected in (
        (f"class A:\n    def plot(self):\n        {page}", set()),
        (f"class A:\n    @property\n    def plots(self):\n        {page}", set()),
        (f"class A:\n    def plot_manifold(self):\n        {run}\n        {page}", {"runs.run"}),
        (f"class A:\n    def draw(self):\n        {page}", {"figures.style"}),
        (f"class A:\n    def draw_plot(self):\n        {page}", {"figures.style"}),
        (f"class A:\n    {page}\n    def plot(self): pass", {"figures.style"}),
        (f"def plot():\n    {page}", {"figures.style"}),
        (f"{page}\nclass A:\n    def plot(self): pass", {"figures.style"}),
        ("class A:\n    def plot(self):\n        import matplotlib.pyplot", set()),
        (f"class A:\n    def view(self):\n        {page}", {"figures.style"}),
        ("class A:\n    def view(self):\n        from stemvane.viewer.wire import code_array", set()),
        ("class A:\n    def plot(self):\n        from stemvane.viewer.wire import code_array", {"viewer.wire"}),
        (
            "class A:\n    def filtered_com(self):\n        from stemvane.features.shrinkage import estimate_power",
            set(),
        ),
    ):
        assert modules_of(ast.parse(source)) == expected, source
    assert "matplotlib.pyplot" in imported_by(
        ast.parse("class A:\n    def plot(self):\n        import matplotlib.pyplot")
    )


def test_there_are_no_circles():
    """Neither among the modules nor, folder by folder, within one."""
    open_modules = {module: modules_of(tree(path)) - {module} for module, path in MODULES.items()}
    while open_modules:
        free = [module for module, others in open_modules.items() if not others & open_modules.keys()]
        assert free, f"circle among {sorted(open_modules)}"
        for module in free:
            del open_modules[module]


def test_no_two_files_have_one_name():
    names = [path.name for path in MODULES.values() if path.name != "__init__.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_every_heavy_library_has_one_home():
    wrong = [
        (module, library)
        for module, path in MODULES.items()
        for library in {name.split(".")[0] for name in imports(path)}
        if folder(module) not in HOMES.get(library, {folder(module)})
    ]
    assert wrong == []


def test_private_modules_of_rosettasciio_are_read_only_where_no_public_way_exists():
    private = {
        module
        for module, path in MODULES.items()
        for name in imports(path)
        if name.startswith("rsciio.") and any(part.startswith("_") for part in name.split("."))
    }
    assert private == {"io.readers.digital_micrograph"}


def test_nothing_is_pickled():
    # torch.save and torch.load pickle
    forbidden = {"torch.save", "torch.load", "eval", "exec", "np.save", "numpy.save"}
    for module, path in MODULES.items():
        assert NEVER & {name.split(".")[0] for name in imports(path)} == set(), module
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), module
                assert node.value.value is False, module
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in forbidden, module


def test_files_are_short_and_none_is_called_utils():
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: n for module, n in lines.items() if n > MOST_LINES} == {}
    assert [module for module in MODULES if re.search(r"(^|\.)(utils?|helpers?|misc|common)$", module)] == []


def test_a_stage_takes_its_section_not_the_whole_config():
    whole = {"models", "runs", "workflow", "cli"}  # these make or keep a section from the whole
    wrong = [
        module
        for module, path in MODULES.items()
        if "stemvane.config.Config" in imports(path) and folder(module) not in whole
    ]
    assert wrong == []


def test_nothing_is_printed():
    wrong = [
        module
        for module, path in MODULES.items()
        for node in ast.walk(tree(path))
        if folder(module) != "cli" and isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert wrong == []


def test_public_names():
    """The stub is their only list; each is where it says, documented, and no module hides it."""
    assert sorted(PUBLIC) == PUBLIC
    assert set(PUBLIC) <= set(dir(stemvane))
    with pytest.raises(AttributeError, match="nonsense"):
        stemvane.nonsense
    assert {name for name in PUBLIC if name in {folder(module) for module in MODULES}} == set()
    for name in PUBLIC:
        thing = getattr(stemvane, name)
        text = inspect.getdoc(thing) or ""
        assert len(text.splitlines()[0]) > 20, name
        if inspect.isfunction(thing):
            assert_documented(thing, text, name)
            continue
        assert inspect.isclass(thing), f"{name} is {thing!r}"
        for part, member in vars(thing).items():
            if not part.startswith("_") and (
                inspect.isfunction(member) or isinstance(member, classmethod | staticmethod | property)
            ):
                assert inspect.getdoc(getattr(thing, part)), f"{name}.{part} has no docstring"


def test_importing_a_module_gives_a_module():
    for module in MODULES:
        thing = import_module(f"stemvane.{module}")
        holder = import_module(f"stemvane.{module}".rpartition(".")[0])
        assert getattr(holder, module.rpartition(".")[2]) is thing, module


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


def test_examples_run(tmp_path, monkeypatch, short_training):
    monkeypatch.chdir(tmp_path)
    attempted = 0
    for module, path in MODULES.items():
        if ">>> " in path.read_text(encoding="utf-8"):
            result = doctest.testmod(import_module(f"stemvane.{module}"), optionflags=doctest.ELLIPSIS)
            assert result.failed == 0, module
            attempted += result.attempted
    assert attempted > 10


def test_messages_below_the_command_line_name_settings():
    """The command line adds its options from one table."""
    wrong = [
        (module, node.value)
        for module, path in MODULES.items()
        if folder(module) != "cli"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value
        if re.search(r"(^|[ (])--[a-z]|(^|\s)-o\b", node.value)
    ]
    assert wrong == []
