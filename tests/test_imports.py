"""Imports go one way: nodes -> egox_core -> torch and numpy, room to room to the right; the core knows no host."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parent.parent
HOST_MODULES = frozenset({
    "comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras", "folder_paths",
    "nodes", "node_helpers", "execution", "server", "latent_preview", "cuda_malloc", "app", "utils",
})
# The rooms of egox_core; each imports only rooms that stand after it. A flat module is a room of its own.
ROOMS = (
    "cli", "train", "metrics", "data", "editor", "prior", "previews", "scene", "takes", "depth", "wan",
    "video", "trajectory", "gga", "types", "cameras", "parallel", "safe_files", "file_names", "sizes", "frame_store",
    "progress", "errors",
)
MOST_FLAT_MODULES = 8
# Everything that is ours and written in Python; tests may import all of it.
TREES = ("egox_core", "nodes", "lab", "tools", "benchmarks", "tests")
OUTSIDE_THE_CORE = ("lab", "tools", "benchmarks", "tests")
MAKERS = ("tools/help_pictures/", "tools/sample.py", "tools/strip.py", "tools/workflows/")


def sources(folder: str) -> list[Path]:
    return sorted((REPO_ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, int, str, tuple[str, ...]]]:
    """(line, level, module, names) of every import in a file, in functions and under TYPE_CHECKING too.

    Level 0 is absolute; ``names`` is empty where a module itself is imported.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, 0, alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.level, node.module or "", tuple(alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__") and node.args:
            if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                yield node.lineno, 0, node.args[0].value, ()


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def imported_files(path: Path, root: Path = REPO_ROOT) -> Iterator[tuple[int, Path]]:
    """(line, file) of each of our own files that ``path`` imports; a package stands for its ``__init__.py``."""
    package = path.relative_to(root).parent.parts
    for line, level, module, names in imports(path):
        if level > len(package) + 1:
            continue  # reaches out of the repository: other tests refuse that
        parts = tuple(part for part in module.split(".") if part)
        base = package[:len(package) - level + 1] + parts if level else parts
        if not base or (not level and base[0] not in TREES):
            continue
        for name in names or ("",):
            target = _file(root.joinpath(*base, name)) if name else None
            target = target or _file(root.joinpath(*base))
            if target is not None:
                yield line, target


def _file(stem: Path) -> Path | None:
    for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def room_of(path: Path, root: Path = REPO_ROOT) -> str:
    """The folder of a file; a file directly in one of the trees is a room of its own."""
    parts = path.relative_to(root).with_suffix("").parts
    return "/".join(parts[:2])


def circle(arrows: Mapping[str, Iterable[str]]) -> list[str]:
    """One circle of a graph, or an empty list."""
    state: dict[str, int] = {}

    def visit(node: str, way: list[str]) -> list[str]:
        state[node] = 1
        for target in sorted(arrows.get(node, ())):
            if state.get(target) == 1:
                return [*way[way.index(target):], target]
            if target not in state and (ring := visit(target, [*way, target])):
                return ring
        state[node] = 2
        return []

    for start in sorted(arrows):
        if start not in state and (ring := visit(start, [start])):
            return ring
    return []


def file_arrows(root: Path, trees: Iterable[str]) -> dict[str, set[str]]:
    """File -> files that it imports; a package's ``__init__`` isn't counted as a file."""
    arrows: dict[str, set[str]] = {}
    for tree in trees:
        for path in sorted((root / tree).rglob("*.py")):
            if path.name == "__init__.py":
                continue
            here = path.relative_to(root).as_posix()
            arrows[here] = {target.relative_to(root).as_posix() for _, target in imported_files(path, root)
                            if target.name != "__init__.py" and target != path}
    return arrows


def room_arrows(root: Path, trees: Iterable[str]) -> dict[str, set[str]]:
    """Room -> rooms that it imports, through faces too."""
    arrows: dict[str, set[str]] = {}
    for tree in trees:
        for path in sorted((root / tree).rglob("*.py")):
            if path.parent == root / tree and path.name == "__init__.py":
                continue  # the map of the whole tree: it names rooms of all heights
            here = room_of(path, root)
            rooms = {room_of(target, root) for _, target in imported_files(path, root)
                     if not (target.name == "__init__.py" and target.parent.parent == root)}
            arrows.setdefault(here, set()).update(rooms - {here})
    return arrows


def test_there_is_something_to_walk() -> None:
    assert len(sources("egox_core")) > 5 and len(sources("nodes")) > 1


def test_the_walk_sees_every_form_of_import(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("import comfy.sd\nfrom . import a\nfrom .b import c\ndef f():\n    from nodes import d\n"
                    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..e import g\n"
                    "import importlib\nimportlib.import_module('folder_paths')\n", encoding="utf-8")
    assert {(level, module) for _, level, module, _ in imports(file)} == {
        (0, "comfy.sd"), (1, ""), (1, "b"), (0, "nodes"), (2, "e"), (0, "typing"), (0, "importlib"),
        (0, "folder_paths")}


def test_rooms_and_circles_are_noticed(tmp_path: Path) -> None:
    """The checks below on a small tree: an import to an earlier room in a function, a circle of files, one of rooms."""
    for name, text in {
        "egox_core/__init__.py": "", "egox_core/errors.py": "def f():\n    from .cli.main import g\n",
        "egox_core/cli/__init__.py": "", "egox_core/cli/main.py": "from ..errors import f\nfrom . import other\n",
        "egox_core/cli/other.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .main import x\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert circle(file_arrows(tmp_path, ["egox_core"])) == [
        "egox_core/cli/main.py", "egox_core/cli/other.py", "egox_core/cli/main.py"]
    assert circle(room_arrows(tmp_path, ["egox_core"])) == ["egox_core/cli", "egox_core/errors", "egox_core/cli"]
    assert list(wrong_way(tmp_path)) == ["egox_core/errors.py:2 imports egox_core/cli/main.py"]


def wrong_way(root: Path) -> Iterator[str]:
    """Imports inside egox_core to a room that stands earlier in ROOMS."""
    for path in sorted((root / "egox_core").rglob("*.py")):
        if path == root / "egox_core" / "__init__.py":
            continue
        here = room_of(path, root).split("/")[1]
        for line, target in imported_files(path, root):
            there = room_of(target, root).split("/")[1]
            if there != "__init__" and ROOMS.index(there) < ROOMS.index(here):
                yield f"{path.relative_to(root).as_posix()}:{line} imports {target.relative_to(root).as_posix()}"


def test_every_room_is_named_once_and_exists() -> None:
    there = {path.stem if path.is_file() else path.name for path in (REPO_ROOT / "egox_core").iterdir()
             if path.suffix == ".py" or (path / "__init__.py").is_file()} - {"__init__"}
    assert there == set(ROOMS) and len(ROOMS) == len(set(ROOMS))


def test_each_room_imports_only_rooms_after_it() -> None:
    assert not list(wrong_way(REPO_ROOT))


def test_no_circle_of_files() -> None:
    assert not circle(file_arrows(REPO_ROOT, TREES))


def test_no_circle_of_rooms() -> None:
    assert not circle(room_arrows(REPO_ROOT, TREES))


def test_few_flat_modules_and_every_room_has_a_face() -> None:
    core = REPO_ROOT / "egox_core"
    flat = sorted(path.name for path in core.glob("*.py") if path.name != "__init__.py")
    assert len(flat) <= MOST_FLAT_MODULES, flat
    faces = [*(core / room / "__init__.py" for room in ROOMS if (core / room).is_dir()), core / "__init__.py"]
    for face in faces:
        tree = ast.parse(face.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{face.parent.name}: a room's __init__ says what goes in and out"


@pytest.mark.parametrize("path", sources("egox_core"), ids=lambda p: p.relative_to(REPO_ROOT).as_posix())
def test_core_imports_no_host_and_stays_inside(path: Path) -> None:
    depth = len(path.relative_to(REPO_ROOT / "egox_core").parts)  # 1 for a module directly in egox_core
    for line, level, module, _ in imports(path):
        top = module.split(".")[0]
        where = f"{path.relative_to(REPO_ROOT).as_posix()}:{line} imports {'.' * level}{module}"
        if level == 0:
            assert top not in HOST_MODULES, f"{where}: the core imports no host"
            assert top not in OUTSIDE_THE_CORE, f"{where}: the core stands alone"
            assert top != "egox_core", f"{where}: use a relative import, the core is part of the pack too"
        else:
            assert level <= depth, f"{where}: reaches out of egox_core"


@pytest.mark.parametrize("path", sources("nodes"), ids=lambda p: p.relative_to(REPO_ROOT).as_posix())
def test_nodes_reach_the_core_relatively(path: Path) -> None:
    for line, level, module, names in imports(path):
        where = f"{path.relative_to(REPO_ROOT).as_posix()}:{line} imports {'.' * level}{module}"
        if level == 0:
            assert module.split(".")[0] not in ("egox_core", *OUTSIDE_THE_CORE), where
        elif level >= len(path.relative_to(REPO_ROOT).parts):
            assert {(module or name).split(".")[0] for name in names} == {"egox_core"}, f"{where}: the core only"


@pytest.mark.parametrize("path", [*sources("tools"), *sources("lab"),
                                  *(p for p in sources("tests") if "benchmarks" not in p.parts)],
                         ids=lambda p: p.relative_to(REPO_ROOT).as_posix())
def test_only_the_benches_tests_import_benchmarks(path: Path) -> None:
    for line, level, module, _ in imports(path):
        assert level or module.split(".")[0] != "benchmarks", f"{path.relative_to(REPO_ROOT).as_posix()}:{line}"


def test_only_benches_tests_and_makers_import_the_lab() -> None:
    """The drawn world and the small model's factory are no part of the product."""
    for path in sources("tools"):
        here = path.relative_to(REPO_ROOT).as_posix()
        for line, target in imported_files(path):
            in_lab = target.relative_to(REPO_ROOT).parts[0] == "lab"
            assert not in_lab or here.startswith(MAKERS), f"{here}:{line}"


def test_benches_import_nothing_of_tests() -> None:
    for path in (*sources("benchmarks"), *sources("tools"), *sources("lab")):
        for line, level, module, _ in imports(path):
            assert level or module.split(".")[0] != "tests", f"{path.relative_to(REPO_ROOT).as_posix()}:{line}"


def test_training_needs_the_core_only() -> None:
    path = REPO_ROOT / "train_egox.py"
    for line, level, module, _ in imports(path):
        top = module.split(".")[0]
        assert level == 0 and top not in HOST_MODULES, f"train_egox.py:{line} imports {module}"
        assert top not in OUTSIDE_THE_CORE, f"train_egox.py:{line} imports {module}"


def test_run_py_starts_with_the_standard_library() -> None:
    """All that run.py imports before it is inside the environment: at its top, followed through our own files."""
    waiting, seen = [REPO_ROOT / "run.py"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        at_the_top = {node.lineno for node in tree.body}
        own = {line: target for line, target in imported_files(path) if line in at_the_top}
        waiting += [target for target in own.values() if target not in seen]
        for line, _, module, _ in imports(path):
            if line in at_the_top and line not in own:
                assert module.split(".")[0] in sys.stdlib_module_names, f"{path.name}:{line} imports {module}"
    assert {path.name for path in seen} == {"run.py", "commands.py", "environment.py", "host.py", "layout.py"}


def test_core_imports_without_a_host() -> None:
    """Really imported, in a fresh interpreter in which the host's names can't be found."""
    script = (
        "import sys, importlib, pkgutil\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {set(HOST_MODULES)!r}: raise ImportError('host import: ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import egox_core\n"
        "modules = pkgutil.walk_packages(egox_core.__path__, 'egox_core.')\n"
        "names = [module.name for module in modules if not module.name.endswith('__main__')]\n"
        "for name in names: importlib.import_module(name)\n"
        "print(len(names))\n")
    run = subprocess.run([sys.executable, "-c", script], cwd=REPO_ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 5
