"""Imports go one way: nodes and egox_train -> egox_core -> torch and numpy, room to room to the
right; neither core nor trainer knows a host, and the core holds what a graph runs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import ROOT

HOST_MODULES = frozenset(
    {
        "comfy",
        "comfy_api",
        "comfy_api_nodes",
        "comfy_config",
        "comfy_execution",
        "comfy_extras",
        "folder_paths",
        "nodes",
        "node_helpers",
        "execution",
        "server",
        "latent_preview",
        "cuda_malloc",
        "app",
        "utils",
    }
)
# The rooms of both packages; each imports only rooms that stand after it. A flat module is a room
# of its own.
ROOMS = (
    "metrics",
    "editor",
    "prior",
    "previews",
    "scene",
    "takes",
    "depth",
    "wan",
    "video",
    "trajectory",
    "gga",
    "types",
    "cameras",
    "archives",
    "finite",
    "safe_files",
    "file_names",
    "sizes",
    "frame_store",
    "progress",
    "errors",
)
TRAIN_ROOMS = (
    "cli",
    "train",
    "metrics",
    "data",
    "takes",
    "wan",
    "parallel",
    "options",
    "contact_sheet",
    "video_writer",
)
PACKAGES = {"egox_core": ROOMS, "egox_train": TRAIN_ROOMS}
# Everything that is ours and written in Python; tests may import all of it.
TREES = ("egox_core", "egox_train", "nodes", "lab", "tools", "benchmarks", "tests")
OUTSIDE_THE_CORE = ("lab", "tools", "benchmarks", "tests")


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@cache
def imports(path: Path) -> list[tuple[int, int, str, tuple[str, ...]]]:
    """(line, level, module, names) of every import in a file, in functions and under TYPE_CHECKING
    too.

    Level 0 is absolute; ``names`` is empty where a module itself is imported.
    """
    found: list[tuple[int, int, str, tuple[str, ...]]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, 0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(
                (
                    node.lineno,
                    node.level,
                    node.module or "",
                    tuple(alias.name for alias in node.names),
                )
            )
        elif (
            isinstance(node, ast.Call)
            and _name(node.func) in ("import_module", "__import__")
            and node.args
        ):
            if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                found.append((node.lineno, 0, node.args[0].value, ()))
    return found


def all_imports(*folders: str) -> Iterator[tuple[Path, int, int, str, tuple[str, ...]]]:
    """(file, ...) of every import in some folders, as :func:`imports` has them."""
    return (
        (path, *found) for folder in folders for path in sources(folder) for found in imports(path)
    )


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def imported_files(path: Path) -> Iterator[tuple[int, Path]]:
    """(line, file) of each of our own files that ``path`` imports; a package stands for its
    ``__init__.py``."""
    package = path.relative_to(ROOT).parent.parts
    for line, level, module, names in imports(path):
        if level > len(package) + 1:
            continue  # reaches out of the repository: other tests refuse that
        parts = tuple(part for part in module.split(".") if part)
        base = package[: len(package) - level + 1] + parts if level else parts
        if not base or (not level and base[0] not in TREES):
            continue
        for name in names or ("",):
            target = _file(ROOT.joinpath(*base, name)) if name else None
            target = target or _file(ROOT.joinpath(*base))
            if target is not None:
                yield line, target


def named_files(path: Path, wanted: frozenset[str] | None = None) -> Iterator[Path]:
    """Files that hold what ``path`` imports (only the names in ``wanted``): a name of a package's
    ``__init__.py`` is followed to the module that it comes from."""
    package = path.relative_to(ROOT).parent.parts
    for _, level, module, names in imports(path):
        parts = tuple(part for part in module.split(".") if part)
        base = ROOT.joinpath(*package[: len(package) - level + 1] if level else (), *parts)
        for name in names or ("",):
            if wanted is None or name in wanted:
                target = (_file(base / name) if name else None) or _file(base)
                if target is not None and target.name == "__init__.py" and name:
                    yield from named_files(target, frozenset({name}))
                elif target is not None:
                    yield target


def _file(stem: Path) -> Path | None:
    for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def room_of(path: Path) -> str:
    """The folder of a file; a file directly in one of the trees is a room of its own."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "/".join(parts[:2])


def file_arrows() -> dict[str, set[str]]:
    """File -> files that it imports; a package's ``__init__`` isn't counted as a file."""
    return {
        path.relative_to(ROOT).as_posix(): {
            target.relative_to(ROOT).as_posix()
            for _, target in imported_files(path)
            if target.name != "__init__.py" and target != path
        }
        for tree in TREES
        for path in sources(tree)
        if path.name != "__init__.py"
    }


def room_arrows() -> dict[str, set[str]]:
    """Room -> rooms that it imports, through faces too."""
    arrows: dict[str, set[str]] = {}
    for path in (path for tree in TREES for path in sources(tree)):
        if path.name == "__init__.py" and path.parent.parent == ROOT:
            continue  # the map of the whole tree: it names rooms of all heights
        rooms = {
            room_of(target)
            for _, target in imported_files(path)
            if not (target.name == "__init__.py" and target.parent.parent == ROOT)
        }
        arrows.setdefault(room_of(path), set()).update(rooms - {room_of(path)})
    return arrows


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_named_once_and_exists(package):
    there = {
        path.stem if path.is_file() else path.name
        for path in (ROOT / package).iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    } - {"__init__"}
    assert there == set(PACKAGES[package]) and len(there) == len(PACKAGES[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_imports_only_rooms_after_it(package):
    rooms = PACKAGES[package]
    for path in sources(package):
        if path == ROOT / package / "__init__.py":
            continue
        here = room_of(path).split("/")[1]
        for line, target in imported_files(path):
            tree, there = room_of(target).split("/")
            assert (
                tree != package or there == "__init__" or rooms.index(there) >= rooms.index(here)
            ), (
                f"{path.relative_to(ROOT).as_posix()}:{line} imports {target.relative_to(ROOT).as_posix()}"
            )


def test_each_module_of_the_core_is_reached_from_the_nodes():
    """Through the names that files really take of a room's ``__init__``, not through all that it
    offers."""
    waiting, reached = [ROOT / "__init__.py", *sources("nodes")], set()
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting += [target for target in named_files(path) if target not in reached]
    modules = {path for path in sources("egox_core") if path.name != "__init__.py"}
    unreached = sorted(path.relative_to(ROOT).as_posix() for path in modules - reached)
    assert not unreached, f"only a lab or a test needs {unreached}: see egox_train and tests/twins"


def test_no_circle_of_files_or_rooms():
    """graphlib raises CycleError with the circle."""
    TopologicalSorter(file_arrows()).prepare()
    TopologicalSorter(room_arrows()).prepare()


def test_each_tree_imports_what_it_may():
    """The core no host and nothing of ours; nodes the core alone, both by relative imports, as one
    pack; the trainer the core and no host; lab and tools know nothing of each other; only benches and
    their tests import benches, only tests import tests."""
    for path, line, level, module, names in all_imports(*TREES):
        here = path.relative_to(ROOT).as_posix()
        tree, depth, top = here.split("/")[0], here.count("/"), module.split(".")[0]
        refused = set() if tree == "tests" else {"tests"}
        if tree in ("egox_core", "nodes"):
            refused |= {"egox_core", "egox_train", *OUTSIDE_THE_CORE}
        if tree == "egox_train":
            refused |= {"nodes", *OUTSIDE_THE_CORE}
        if tree in PACKAGES:
            refused |= HOST_MODULES
        elif not here.startswith(("benchmarks/", "tests/benchmarks/")):
            refused.add("benchmarks")
        if tree == "tools":
            refused |= {"lab", "train_egox"}
        if tree == "lab":
            refused |= {"tools", "train_egox"}
        where = f"{here}:{line} imports {'.' * level}{module}"
        assert level or top not in refused, where
        if tree in PACKAGES:
            assert level <= depth, f"{where}: reaches out of {tree}"
        elif tree == "nodes" and level > depth:
            assert {(module or name).split(".")[0] for name in names} == {"egox_core"}, (
                f"{where}: the core only"
            )


def test_train_egox_needs_no_host():
    for line, level, module, _ in imports(ROOT / "train_egox.py"):
        assert level == 0 and module.split(".")[0] not in {*HOST_MODULES, *OUTSIDE_THE_CORE}, (
            f"train_egox.py:{line}"
        )


def test_run_py_starts_with_the_standard_library():
    """All that run.py imports before it is inside the environment: at its top, followed through our
    own files."""
    waiting, seen = [ROOT / "run.py"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        at_the_top = {node.lineno for node in tree.body}
        own = {line: target for line, target in imported_files(path) if line in at_the_top}
        waiting += [target for target in own.values() if target not in seen]
        for line, _, module, _ in imports(path):
            if line in at_the_top and line not in own:
                assert module.split(".")[0] in sys.stdlib_module_names, (
                    f"{path.name}:{line} imports {module}"
                )
    assert {path.name for path in seen} == {
        "run.py",
        "commands.py",
        "environment.py",
        "host.py",
        "layout.py",
    }


IMPORT_ALL = """
import sys, importlib, pkgutil
HOST, OPTIONAL = (set(words.split()) for words in sys.argv[1:])
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in HOST: raise ImportError("host import: " + name)
        if top in OPTIONAL: raise ModuleNotFoundError("left out: " + name, name=name)
sys.meta_path.insert(0, Refuse())
import egox_core, egox_train
for module in (m for p in (egox_core, egox_train) for m in pkgutil.walk_packages(p.__path__, p.__name__ + ".")):
    if not module.name.endswith("__main__"):
        try: importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in OPTIONAL: raise
        else: print(module.name)
"""


@pytest.mark.parametrize(
    "left_out", ["diffusers transformers peft accelerate", pytest.param("", marks=pytest.mark.slow)]
)
def test_core_and_trainer_import_without_a_host(left_out):
    """Really imported, in a fresh interpreter in which the host's names can't be found; the core
    without what training alone needs too."""
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, " ".join(HOST_MODULES), left_out],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    there = {tuple(name.split(".")[:2]) for name in run.stdout.split()}
    wanted = {(package, room) for package, rooms in PACKAGES.items() for room in rooms}
    needy = {("egox_train", "cli"), ("egox_train", "train"), ("egox_train", "wan")}
    assert there >= wanted - (needy if left_out else set()), there
    assert left_out == "" or "egox_train.wan.vae" not in run.stdout.split()
