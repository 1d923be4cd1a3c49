"""Check that imports go one way: from nodes and egox_train to egox_core, and to no host from either
package."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

from tests.paths import ROOT

HOST = set(
    "comfy comfy_api comfy_api_nodes comfy_config comfy_execution comfy_extras folder_paths nodes "
    "node_helpers execution server latent_preview cuda_malloc app utils".split()
)
PACKAGES = ("egox_core", "egox_train")
TREES = (*PACKAGES, "nodes", "lab", "tools", "benchmarks", "tests")
OUTSIDE = {"lab", "tools", "benchmarks", "tests"}
# What a tree (or a file) may not import by an absolute name.
REFUSED_IMPORTS = {
    "egox_core": HOST | OUTSIDE | set(PACKAGES),
    "egox_train": HOST | OUTSIDE,
    "train_egox.py": HOST | OUTSIDE,
    "nodes": OUTSIDE | set(PACKAGES),  # relative, as one pack
    "lab": {"tools", "train_egox", "benchmarks", "tests"},
    "tools": {"lab", "train_egox", "benchmarks", "tests"},
    "benchmarks": {"tests"},
    "tests": {"benchmarks"},
}


def python_files(*folders: str) -> Iterator[Path]:
    return (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


@cache
def list_imports(path: Path) -> list[tuple[int, str, str]]:
    """List (level, module, name) of all that a file imports, in its functions, too."""
    imported = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            imported += [(0, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported += [(node.level, node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            imported += [
                (0, argument.value, "")
                for argument in node.args[:1]
                if isinstance(argument, ast.Constant)
            ]
    return imported


def imported_file(path: Path, level: int, module: str, name: str) -> Path | None:
    """Find the repository's file that an import of ``path`` leads to."""
    parts = [part for part in module.split(".") if part]
    if not level and module.split(".")[0] not in TREES:
        return None
    base = path.parents[level - 1].joinpath(*parts) if level else ROOT.joinpath(*parts)
    for stem in (base / name, base) if name else (base,):
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file
    return None


def imported_files(path: Path) -> set[Path]:
    return {
        file for import_entry in list_imports(path) if (file := imported_file(path, *import_entry))
    } - {path}


def named_files(path: Path, only_name: str | None = None) -> Iterator[Path]:
    """Yield the files that define the names which ``path`` imports, or only one name of it."""
    for level, module, name in list_imports(path):
        file = imported_file(path, level, module, name) if only_name in (None, name) else None
        if file is not None and file.name == "__init__.py" and name:
            yield from named_files(file, name)
        elif file is not None:
            yield file


def module_name(path: Path) -> str:
    """Name a file's module, which is the package for its ``__init__.py``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if path.stem == "__init__" else parts)


def room_of(path: Path) -> str:
    """Name the folder of a file, or the file itself if it is directly in one of the trees."""
    return "/".join(path.relative_to(ROOT).with_suffix("").parts[:2])


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_imports_only_rooms_below_it_in_the_list(package):
    listing = importlib.import_module(package).__doc__.split("\n\n")[2].splitlines()
    listed_names = [re.split(r"  |:", line.strip())[0] for line in listing]
    rooms = [f"{package}/{name}" for head in listed_names for name in head.split(", ")]
    files = [
        path
        for path in python_files(package)
        if path.parent != ROOT / package or "__" not in path.name
    ]
    assert sorted(rooms) == sorted({room_of(path) for path in files})
    for path in files:
        for target in imported_files(path):
            room, target_room = room_of(path), room_of(target)
            assert target_room not in rooms or rooms.index(target_room) >= rooms.index(room), (
                path,
                target,
            )


def test_each_module_of_the_core_is_reached_from_the_nodes():
    """Follow the names that files import from a room's ``__init__``, not all that it exports."""
    entry_files = [ROOT / "__init__.py", ROOT / "egox_core" / "take.py"]
    waiting_files, reached_files = [*entry_files, *python_files("nodes")], set()
    while waiting_files:
        reached_files.add(path := waiting_files.pop())
        waiting_files += set(named_files(path)) - reached_files
    init_files = {path for path in python_files("egox_core") if path.stem == "__init__"}
    unreached_files = set(python_files("egox_core")) - init_files - reached_files
    assert not unreached_files, "only a lab or a test needs them: see egox_train and tests/twins"


def test_a_room_of_the_core_is_entered_by_its_init():
    """Check all code but the tests, which may import modules behind the ``__init__``."""
    imported_names = set()
    for path in [
        ROOT / "__init__.py",
        ROOT / "train_egox.py",
        *python_files(*set(TREES) - {"tests"}),
    ]:
        for level, module, name in list_imports(path):
            room = imported_file(path, level, module, "")
            if room and room_of(room).startswith("egox_core/"):
                if room_of(room) != room_of(path):
                    assert name, (path, module)
                    assert room.name == "__init__.py" or room.parent.parent == ROOT, (path, module)
                    imported_names.add((module_name(room), name))
    room_names = [
        each for each in imported_names if each[0] != "egox_core"
    ]  # whose files export all their names
    imported_values = [getattr(importlib.import_module(room), name) for room, name in room_names]
    assert not [value for value in imported_values if isinstance(value, ModuleType)]
    assert len(imported_names) <= 450, "rooms should export few names"


@pytest.mark.parametrize("unit_name", [str, room_of], ids=["files", "rooms"])
def test_imports_have_no_cycle(unit_name):
    """Sort files and rooms topologically, which raises CycleError with the cycle."""
    init_files = {ROOT / tree / "__init__.py" for tree in TREES}
    imports_by_unit: dict[str, set[str]] = {}
    for path in set(python_files(*TREES)) - init_files:
        if unit_name is room_of or path.name != "__init__.py":
            targets = imported_files(path) - init_files
            if unit_name is str:
                targets = {target for target in targets if target.name != "__init__.py"}
            imports_by_unit.setdefault(unit_name(path), set()).update(
                {*map(unit_name, targets)} - {unit_name(path)}
            )
    TopologicalSorter(imports_by_unit).prepare()


HOST_PREVIEWS = {("comfy_api.latest", "ui"), ("protocol", "BinaryEventTypes")}
"""The host's own functions to show something."""
QUERY_MODULES = {"queries", "uploads"}
"""Modules of the core's ``page`` that answer the browser, while the others draw results."""


def test_nodes_draw_only_through_nodes_show():
    """Check this because the ``__init__`` of nodes/show draws nothing where nobody looks."""
    for path in python_files("nodes"):
        if room_of(path) == "nodes/show":
            continue
        assert not HOST_PREVIEWS & {(module, name) for _, module, name in list_imports(path)}, path
        for level, module, name in list_imports(path):
            file = imported_file(path, level, module, name)
            room = None if file is None else room_of(file)
            assert room != "nodes/show" or file.name == "__init__.py", (path, file)
            if room == "egox_core/page" and name != "MAX_FRAMES":
                defining_files = (
                    {file} if file.name != "__init__.py" else set(named_files(file, name))
                )
                is_allowed = (
                    room_of(path) == "nodes/page"
                    and {each.stem for each in defining_files} <= QUERY_MODULES
                )
                assert is_allowed, (path, module, name)


@pytest.mark.parametrize("tree", REFUSED_IMPORTS)
def test_each_tree_imports_only_permitted_packages(tree):
    """Let nodes leave their tree only for the core, and only benchmarks' tests import benchmarks."""
    for path in python_files(tree) if tree in TREES else [ROOT / tree]:
        relative_path = path.relative_to(ROOT)
        for level, module, name in list_imports(path):
            import_text = f"{relative_path.as_posix()} imports {'.' * level}{module} {name}"
            if not level:
                is_benchmark_test = relative_path.parts[:2] == ("tests", "benchmarks")
                assert is_benchmark_test or module.split(".")[0] not in REFUSED_IMPORTS[tree], (
                    import_text
                )
            elif level >= len(relative_path.parts) and tree in (*PACKAGES, "nodes"):
                assert tree == "nodes" and (module or name).split(".")[0] == "egox_core", (
                    import_text
                )


def test_run_py_starts_with_only_the_standard_library():
    command = [sys.executable, "-S", "run.py", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "usage: run.py" in result.stdout, result.stderr


IMPORT_ALL = """
import sys, importlib, pkgutil
HOST, TRAINING = (set(words.split()) for words in sys.argv[1:])
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HOST | TRAINING:
            raise ModuleNotFoundError("refused: " + name, name=name.split(".")[0])
sys.meta_path.insert(0, Refuse())
import egox_core, egox_train
for package in (egox_core, egox_train):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try: importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if package is egox_core or error.name not in TRAINING: raise
        else: print(module.name)
    slow = {"torch._dynamo", "scipy.stats", "scipy.interpolate"} & set(sys.modules)
    if package is egox_core and slow: sys.exit(f"each costs up to torch's own time: {slow}")
"""


def test_core_and_trainer_import_without_a_host():
    """Import them in a fresh interpreter that can find neither the host nor the training packages."""
    training_packages = "diffusers transformers peft accelerate"
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, " ".join(HOST), training_packages],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert {"egox_train.data.prepare", "egox_train.metrics.report"} <= set(result.stdout.split())
