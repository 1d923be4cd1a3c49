"""Imports go one way: nodes and egox_train -> egox_core -> torch and numpy, room to room downwards
in the list of each package's docstring. Neither core nor trainer knows a host, and the core holds
what a graph runs."""

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
REFUSED = {
    "egox_core": HOST | OUTSIDE | set(PACKAGES),
    "egox_train": HOST | OUTSIDE,
    "train_egox.py": HOST | OUTSIDE,
    "nodes": OUTSIDE | set(PACKAGES),  # relative, as one pack
    "lab": {"tools", "train_egox", "benchmarks", "tests"},
    "tools": {"lab", "train_egox", "benchmarks", "tests"},
    "benchmarks": {"tests"},
    "tests": {"benchmarks"},
}


def sources(*folders: str) -> Iterator[Path]:
    return (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


@cache
def imports(path: Path) -> list[tuple[int, str, str]]:
    """List (level, module, name) of all that a file imports, in functions too. Level 0 is absolute,
    and the name is empty for an imported module."""
    imported = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            imported += [(0, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported += [(node.level, node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            imported += [(0, a.value, "") for a in node.args[:1] if isinstance(a, ast.Constant)]
    return imported


def file_of(path: Path, level: int, module: str, name: str) -> Path | None:
    """Find our own file that an import of ``path`` leads to. A package is found as its
    ``__init__.py``."""
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
    return {file for each in imports(path) if (file := file_of(path, *each))} - {path}


def named_files(path: Path, wanted: str | None = None) -> Iterator[Path]:
    """Yield the files of what ``path`` imports (or only one name of it). A name of a package's
    ``__init__.py`` is followed to the module that it comes from."""
    for level, module, name in imports(path):
        file = file_of(path, level, module, name) if wanted in (None, name) else None
        if file is not None and file.name == "__init__.py" and name:
            yield from named_files(file, name)
        elif file is not None:
            yield file


def module_name(path: Path) -> str:
    """Name a file's module. A package's own name means its ``__init__.py``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if path.stem == "__init__" else parts)


def room_of(path: Path) -> str:
    """Name the folder of a file. A file directly in one of the trees is a room of its own."""
    return "/".join(path.relative_to(ROOT).with_suffix("").parts[:2])


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_imports_only_rooms_below_it_in_the_list(package):
    listing = importlib.import_module(package).__doc__.split("\n\n")[2].splitlines()
    heads = [re.split(r"  |:", line.strip())[0] for line in listing]
    rooms = [f"{package}/{name}" for head in heads for name in head.split(", ")]
    files = [
        path for path in sources(package) if path.parent != ROOT / package or "__" not in path.name
    ]
    assert sorted(rooms) == sorted({room_of(path) for path in files})
    for path in files:
        for target in imported_files(path):
            here, target_room = room_of(path), room_of(target)
            assert target_room not in rooms or rooms.index(target_room) >= rooms.index(here), (
                path,
                target,
            )


def test_each_module_of_the_core_is_reached_from_the_nodes():
    """Through the names that files really take of a room's ``__init__``, not through all that it
    offers. ``take`` is how a library's user comes in, with a folder in place of a graph."""
    doors = [ROOT / "__init__.py", ROOT / "egox_core" / "take.py"]
    waiting, reached = [*doors, *sources("nodes")], set()
    while waiting:
        reached.add(path := waiting.pop())
        waiting += set(named_files(path)) - reached
    faces = {path for path in sources("egox_core") if path.stem == "__init__"}
    unreached = set(sources("egox_core")) - faces - reached
    assert not unreached, "only a lab or a test needs them: see egox_train and tests/twins"


def test_a_room_of_the_core_is_entered_by_its_init():
    """Tests apart, which may see what is behind it. Names of the files beside the rooms count, too."""
    names_taken = set()
    for path in [ROOT / "__init__.py", ROOT / "train_egox.py", *sources(*set(TREES) - {"tests"})]:
        for level, module, name in imports(path):
            room = file_of(path, level, module, "")
            if room and room_of(room).startswith("egox_core/"):
                if room_of(room) != room_of(path):
                    assert name, (path, module)
                    assert room.name == "__init__.py" or room.parent.parent == ROOT, (path, module)
                    names_taken.add((module_name(room), name))
    of_rooms = [
        each for each in names_taken if each[0] != "egox_core"
    ]  # whose files are handed out whole
    values = [getattr(importlib.import_module(room), name) for room, name in of_rooms]
    assert not [each for each in values if isinstance(each, ModuleType)]
    assert len(names_taken) <= 450, "a room that hands out all it has is none"


@pytest.mark.parametrize("unit", [str, room_of], ids=["files", "rooms"])
def test_no_circle(unit):
    """graphlib raises CycleError with the circle. A package's face is no file of its own, and the
    face of a whole tree no room."""
    faces = {ROOT / tree / "__init__.py" for tree in TREES}
    arrows: dict[str, set[str]] = {}
    for path in set(sources(*TREES)) - faces:
        if unit is room_of or path.name != "__init__.py":
            targets = imported_files(path) - faces
            if unit is str:
                targets = {target for target in targets if target.name != "__init__.py"}
            arrows.setdefault(unit(path), set()).update({*map(unit, targets)} - {unit(path)})
    TopologicalSorter(arrows).prepare()


PREVIEWS = {("comfy_api.latest", "ui"), ("protocol", "BinaryEventTypes")}
"""The host's own ways to show something."""
ASKED = {"queries", "uploads"}
"""Modules of the core's ``page`` that answer the browser; the others draw results."""


def test_only_show_draws():
    """Nodes reach all that draws through the face of nodes/show, which draws nothing where nobody
    looks."""
    for path in sources("nodes"):
        if room_of(path) == "nodes/show":
            continue
        assert not PREVIEWS & {(module, name) for _, module, name in imports(path)}, path
        for level, module, name in imports(path):
            file = file_of(path, level, module, name)
            room = None if file is None else room_of(file)
            assert room != "nodes/show" or file.name == "__init__.py", (path, file)
            if room == "egox_core/page" and name != "MAX_FRAMES":
                holders = {file} if file.name != "__init__.py" else set(named_files(file, name))
                is_allowed = (
                    room_of(path) == "nodes/page" and {each.stem for each in holders} <= ASKED
                )
                assert is_allowed, (path, module, name)


@pytest.mark.parametrize("tree", REFUSED)
def test_each_tree_imports_what_it_may(tree):
    """Only benches and their tests import benches. Nodes reach out of their tree for the core
    alone, core and trainer for nothing."""
    for path in sources(tree) if tree in TREES else [ROOT / tree]:
        here = path.relative_to(ROOT)
        for level, module, name in imports(path):
            where = f"{here.as_posix()} imports {'.' * level}{module} {name}"
            if not level:
                of_benches = here.parts[:2] == ("tests", "benchmarks")
                assert of_benches or module.split(".")[0] not in REFUSED[tree], where
            elif level >= len(here.parts) and tree in (*PACKAGES, "nodes"):
                assert tree == "nodes" and (module or name).split(".")[0] == "egox_core", where


def test_run_py_starts_with_the_standard_library():
    """In a Python that finds nothing else."""
    command = [sys.executable, "-S", "run.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "usage: run.py" in done.stdout, done.stderr


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
    """They are imported in a fresh interpreter in which the host's names can't be found, the core
    and most of the trainer without the packages for training, too."""
    training = "diffusers transformers peft accelerate"
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, " ".join(HOST), training],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert {"egox_train.data.prepare", "egox_train.metrics.report"} <= set(run.stdout.split())
