"""Test that modules import each other only in the permitted directions."""

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
SOURCE_TREES = (*PACKAGES, "nodes", "lab", "tools", "benchmarks", "tests")
OUTSIDE_TREES = {"lab", "tools", "benchmarks", "tests"}
# What a tree (or a file) may not import by an absolute name.
REFUSED_IMPORTS = {
    "egox_core": HOST | OUTSIDE_TREES | set(PACKAGES),
    "egox_train": HOST | OUTSIDE_TREES,
    "train_egox.py": HOST | OUTSIDE_TREES,
    "nodes": OUTSIDE_TREES | set(PACKAGES),  # relative, as one pack
    "lab": {"tools", "train_egox", "benchmarks", "tests"},
    "tools": {"lab", "train_egox", "benchmarks", "tests"},
    "benchmarks": {"tests"},
    "tests": {"benchmarks"},
}


def python_files(*folders: str) -> Iterator[Path]:
    return (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


@cache
def list_imports(path: Path) -> list[tuple[int, str, str]]:
    """List all imports of a Python file as (level, module, name), including those in functions."""
    import_entries = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            import_entries += [(0, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            import_entries += [(node.level, node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            import_entries += [
                (0, argument.value, "")
                for argument in node.args[:1]
                if isinstance(argument, ast.Constant)
            ]
    return import_entries


@cache
def imported_file(path: Path, level: int, module: str, name: str) -> Path | None:
    """Find the file in the repository that an import statement refers to."""
    module_parts = [part for part in module.split(".") if part]
    if not level and module.split(".")[0] not in SOURCE_TREES:
        return None
    base_path = (
        path.parents[level - 1].joinpath(*module_parts) if level else ROOT.joinpath(*module_parts)
    )
    for stem_path in (base_path / name, base_path) if name else (base_path,):
        for file in (stem_path.with_suffix(".py"), stem_path / "__init__.py"):
            if file.is_file():
                return file
    return None


def imported_files(path: Path) -> set[Path]:
    return {
        file for import_entry in list_imports(path) if (file := imported_file(path, *import_entry))
    } - {path}


def named_files(path: Path, only_name: str | None = None) -> Iterator[Path]:
    """Yield the files that define the names imported by a file."""
    for level, module, name in list_imports(path):
        file = imported_file(path, level, module, name) if only_name in (None, name) else None
        if file is not None and file.name == "__init__.py" and name:
            yield from named_files(file, name)
        elif file is not None:
            yield file


def module_name(path: Path) -> str:
    """Convert a Python file's path to its module name."""
    path_parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(path_parts[:-1] if path.stem == "__init__" else path_parts)


def room_of(path: Path) -> str:
    """Find the package folder that contains a file."""
    return "/".join(path.relative_to(ROOT).with_suffix("").parts[:2])


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_imports_only_rooms_below_it_in_the_list(package):
    listing_lines = importlib.import_module(package).__doc__.split("\n\n")[2].splitlines()
    listed_names = [re.split(r"  |:", line.strip())[0] for line in listing_lines]
    rooms = [
        f"{package}/{name}" for listed_name in listed_names for name in listed_name.split(", ")
    ]
    files = [
        path
        for path in python_files(package)
        if path.parent != ROOT / package or "__" not in path.name
    ]
    assert sorted(rooms) == sorted({room_of(path) for path in files})
    for path in files:
        for imported_path in imported_files(path):
            room, imported_room = room_of(path), room_of(imported_path)
            assert imported_room not in rooms or rooms.index(imported_room) >= rooms.index(room), (
                path,
                imported_path,
            )


def test_each_module_of_the_core_is_reached_from_the_nodes():
    """Check that the nodes use every module of egox_core."""
    entry_files = [ROOT / "__init__.py", ROOT / "egox_core" / "take.py"]
    waiting_files, reached_files = [*entry_files, *python_files("nodes")], set()
    while waiting_files:
        reached_files.add(path := waiting_files.pop())
        waiting_files += set(named_files(path)) - reached_files
    init_files = {path for path in python_files("egox_core") if path.stem == "__init__"}
    unreached_files = set(python_files("egox_core")) - init_files - reached_files
    assert not unreached_files, "only a lab or a test needs them: see egox_train and tests/twins"


def test_a_room_of_the_core_is_entered_by_its_init():
    """Check that code imports packages of egox_core only through their ``__init__``."""
    imported_names = set()
    for path in [
        ROOT / "__init__.py",
        ROOT / "train_egox.py",
        *python_files(*set(SOURCE_TREES) - {"tests"}),
    ]:
        for level, module, name in list_imports(path):
            room = imported_file(path, level, module, "")
            if room and room_of(room).startswith("egox_core/"):
                if room_of(room) != room_of(path):
                    assert name, (path, module)
                    assert room.name == "__init__.py" or room.parent.parent == ROOT, (path, module)
                    imported_names.add((module_name(room), name))
    room_names = [
        imported_name for imported_name in imported_names if imported_name[0] != "egox_core"
    ]  # whose files export all their names
    imported_values = [getattr(importlib.import_module(room), name) for room, name in room_names]
    assert not [value for value in imported_values if isinstance(value, ModuleType)]


@pytest.mark.parametrize("unit_name", [str, room_of], ids=["files", "rooms"])
def test_imports_have_no_cycle(unit_name):
    """Check that neither files nor packages import each other in a circle."""
    init_files = {ROOT / tree / "__init__.py" for tree in SOURCE_TREES}
    imports_by_unit: dict[str, set[str]] = {}
    for path in set(python_files(*SOURCE_TREES)) - init_files:
        if unit_name is room_of or path.name != "__init__.py":
            imported_paths = imported_files(path) - init_files
            if unit_name is str:
                imported_paths = {
                    imported_path
                    for imported_path in imported_paths
                    if imported_path.name != "__init__.py"
                }
            imports_by_unit.setdefault(unit_name(path), set()).update(
                {*map(unit_name, imported_paths)} - {unit_name(path)}
            )
    TopologicalSorter(imports_by_unit).prepare()


HOST_PREVIEWS = {("comfy_api.latest", "ui"), ("protocol", "BinaryEventTypes")}
"""The host's own functions to show something."""
QUERY_MODULES = {"queries", "uploads"}
"""Modules of the core's ``page`` that answer the browser, while the others draw results."""


def test_a_public_name_is_defined_once():
    """Check that no two modules of core and trainer give one name to different things."""
    places: dict[str, list[str]] = {}
    for path in python_files(*PACKAGES):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name[0] != "_":
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    del places["main"]  # of commands
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_nodes_draw_only_through_nodes_show():
    """Check that nodes import drawing code only through nodes/show."""
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
                    and {defining_file.stem for defining_file in defining_files} <= QUERY_MODULES
                )
                assert is_allowed, (path, module, name)


@pytest.mark.parametrize("tree", REFUSED_IMPORTS)
def test_each_tree_imports_only_permitted_packages(tree):
    """Check that each source folder imports only permitted packages."""
    for path in python_files(tree) if tree in SOURCE_TREES else [ROOT / tree]:
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
    run_command = [sys.executable, "-S", "run.py", "--help"]
    process_result = subprocess.run(run_command, cwd=ROOT, capture_output=True, text=True)
    assert process_result.returncode == 0 and "usage: run.py" in process_result.stdout, (
        process_result.stderr
    )


IMPORT_ALL = """
import sys, importlib, pkgutil
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError("refused: " + name, name=name.split(".")[0])
sys.meta_path.insert(0, Refuse())
import egox_core
for module in pkgutil.walk_packages(egox_core.__path__, "egox_core."):
    importlib.import_module(module.name)
slow = {"torch._dynamo", "scipy.stats", "scipy.interpolate"} & set(sys.modules)
if slow: sys.exit(f"each costs up to torch's own time: {slow}")
import egox_train.data.prepare, egox_train.metrics.report
"""


def test_core_and_trainer_import_without_a_host():
    """Check that the core, `prepare` and the report are imported without ComfyUI and diffusers."""
    refused_packages = [*HOST, "diffusers", "transformers", "peft", "accelerate"]
    process_result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *refused_packages],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process_result.returncode == 0, process_result.stderr
