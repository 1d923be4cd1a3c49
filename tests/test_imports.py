"""Imports go one way: nodes -> egox_core -> torch and numpy; the core knows no host."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parent.parent
HOST_MODULES = frozenset({
    "comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras", "folder_paths",
    "nodes", "node_helpers", "execution", "server", "latent_preview", "cuda_malloc", "app", "utils",
})


def sources(folder: str) -> list[Path]:
    return sorted((REPO_ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, int, str]]:
    """(line, level, module) of every import in a file, those inside functions too. Level 0 is absolute."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level and not node.module:
                for alias in node.names:
                    yield node.lineno, node.level, alias.name
            else:
                yield node.lineno, node.level, node.module or ""
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__") and node.args:
            if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                yield node.lineno, 0, node.args[0].value


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_there_is_something_to_walk() -> None:
    assert len(sources("egox_core")) > 5 and len(sources("nodes")) > 1


def test_the_walk_sees_every_form_of_import(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("import comfy.sd\nfrom . import a\nfrom .b import c\ndef f():\n    from nodes import d\n"
                    "import importlib\nimportlib.import_module('folder_paths')\n", encoding="utf-8")
    assert {(level, module) for _, level, module in imports(file)} == {
        (0, "comfy.sd"), (1, "a"), (1, "b"), (0, "nodes"), (0, "importlib"), (0, "folder_paths")}


@pytest.mark.parametrize("path", sources("egox_core"), ids=lambda p: p.relative_to(REPO_ROOT).as_posix())
def test_core_imports_no_host_and_stays_inside(path: Path) -> None:
    depth = len(path.relative_to(REPO_ROOT / "egox_core").parts)  # 1 for a module directly in egox_core
    for line, level, module in imports(path):
        top = module.split(".")[0]
        where = f"{path.relative_to(REPO_ROOT).as_posix()}:{line} imports {'.' * level}{module}"
        if level == 0:
            assert top not in HOST_MODULES, f"{where}: the core imports no host"
            assert top not in ("tools.setup", "benchmarks", "tools", "tests"), f"{where}: the core stands alone"
            assert top != "egox_core", f"{where}: use a relative import, the core is part of the pack too"
        else:
            assert level <= depth, f"{where}: reaches out of egox_core"


@pytest.mark.parametrize("path", sources("nodes"), ids=lambda p: p.relative_to(REPO_ROOT).as_posix())
def test_nodes_reach_the_core_relatively(path: Path) -> None:
    for line, level, module in imports(path):
        where = f"{path.relative_to(REPO_ROOT).as_posix()}:{line} imports {'.' * level}{module}"
        if level == 0:
            assert module.split(".")[0] not in ("egox_core", "tools.setup", "benchmarks", "tools", "tests"), where
        elif level >= len(path.relative_to(REPO_ROOT).parts):
            assert module.split(".")[0] == "egox_core", f"{where}: nodes build on egox_core only"


def test_training_needs_the_core_only() -> None:
    path = REPO_ROOT / "train_egox.py"
    if not path.is_file():
        pytest.skip("train_egox.py comes with the training issue")
    for line, level, module in imports(path):
        top = module.split(".")[0]
        assert level == 0 and top not in HOST_MODULES, f"train_egox.py:{line} imports {module}"
        assert top not in ("tools.setup", "benchmarks", "tools", "tests"), f"train_egox.py:{line} imports {module}"


def test_run_py_needs_only_the_standard_library() -> None:
    """All that run.py imports, followed through tools.setup; modules there that nobody of these imports may need more."""
    waiting, seen = [REPO_ROOT / "run.py"], set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for line, level, module in imports(path):
            name = module.removeprefix("tools.setup.")
            if level or module.startswith("tools.setup"):
                waiting.append(REPO_ROOT / "tools.setup" / f"{name.split('.')[0]}.py")
            else:
                assert module.split(".")[0] in sys.stdlib_module_names, f"{path.name}:{line} imports {module}"
    assert {"commands.py", "host.py", "environment.py", "server.py", "demo.py"} <= {path.name for path in seen}


def test_core_imports_without_a_host() -> None:
    """Really imported, in a fresh interpreter in which the host's names can't be found."""
    script = (
        "import sys, importlib, pkgutil\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {set(HOST_MODULES)!r}: raise ImportError('host import: ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import egox_core\n"
        "found = pkgutil.walk_packages(egox_core.__path__, 'egox_core.')\n"
        "names = [module.name for module in found if not module.name.endswith('__main__')]\n"
        "for name in names: importlib.import_module(name)\n"
        "print(len(names))\n")
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
