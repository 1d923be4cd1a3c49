"""Pages and error texts name installs that work: pip resolves them, and changes nothing."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import train_egox
from tests.paths import ROOT

PAGES = ("docs/training.md", "docs/evaluation.md")
SPEAKING = ("egox_core", "egox_train", "nodes", "benchmarks")
"""Folders whose messages name packages."""
ALL_EXTRAS = "geometry,evaluate,train,cluster,track,zero3"  # but run.py's own


def lines_of_pages() -> list[str]:
    """The install commands of PAGES, literally, in a block or between backticks."""
    texts = ((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    return [line.strip() for text in texts for line in re.findall(r"pip install [^`\n]+", text)]


def lines_of_messages() -> Iterator[str]:
    """The packages' commands that messages spell out, and those that ``needs_package`` makes."""
    for path in (path for root in SPEAKING for path in sorted((ROOT / root).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from re.findall(r"pip install (?!-e)[^),;]*[^),;.\s]", node.value)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "needs_package":
                yield f"pip install {node.args[0].value}"


@pytest.fixture
def shell(tmp_path) -> Path:
    """The repository as an installer sees it: its folders, pyproject.toml and the package."""
    for path in ROOT.iterdir():
        if path.is_dir() and not path.name.startswith((".", "__")):
            (tmp_path / path.name).mkdir()
    faces = ("egox_core/__init__.py", "egox_train/__init__.py")
    for name in ("pyproject.toml", "README.md", *faces):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def dry_run(folder: Path, line: str, *options: str) -> str:
    """Lets pip say what it would install."""
    _, _, *words = shlex.split(line, comments=True)
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--disable-pip-version-check",
            *options,
            *words,
        ],
        cwd=folder,
        timeout=400,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if run.returncode and re.search(r"No matching distribution|Max retries|Connection", run.stderr):
        pytest.skip("needs a package index")
    assert run.returncode == 0, f"{line}\n{run.stderr[-3000:]}"
    return run.stdout


def test_the_repository_is_one_package(shell):
    """As the build that pip starts finds it; without an index."""
    pytest.importorskip("setuptools", reason="setuptools is not installed: pip would fetch it")
    (shell / "egg").mkdir()
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import setuptools; setuptools.setup()",
            "egg_info",
            "--egg-base",
            "egg",
        ],
        cwd=shell,
        timeout=100,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (top,) = (shell / "egg").glob("*/top_level.txt")
    assert top.read_text(encoding="utf-8").split() == ["egox_core", "egox_train"]


def test_commands_are_quoted_for_every_shell():
    """Windows' cmd takes single quotes for part of the name, a bare > for a file to write to."""
    lines = [*lines_of_pages(), *lines_of_messages()]
    assert 'pip install "diffusers>=0.34"' in lines and "pip install ray" in lines
    assert not [line for line in lines if "'" in line or re.search(r"[\[<>](?![^\"]*\")", line)]


@pytest.mark.slow  # asks the package index
@pytest.mark.parametrize("line", [*lines_of_pages(), f'pip install -e ".[{ALL_EXTRAS}]"'])
def test_lines_of_the_pages_install(line, shell):
    dry_run(shell, line)


@pytest.mark.slow  # asks the package index
def test_the_command_that_lacks_a_package_says_how_to_get_it(shell, monkeypatch, capsys):
    def lacking(args, progress) -> int:
        raise ModuleNotFoundError(name="peft")

    inspect = replace(train_egox.COMMANDS["inspect"], run=lacking)
    monkeypatch.setitem(train_egox.COMMANDS, "inspect", inspect)
    monkeypatch.setattr(train_egox, "ROOT", shell.as_posix())
    assert train_egox.main(["inspect", "lora.safetensors"]) == 2
    line = re.search(r"pip install .*", capsys.readouterr().err).group()
    assert "[train]" in line and "egox-" in dry_run(shell.parent, line, "--no-deps")


@pytest.mark.slow  # asks the package index
def test_packages_of_messages_are_there(shell):
    words = {word for line in lines_of_messages() for word in shlex.split(line)[2:]}
    packages = {word for word in words if not word.startswith("-")}
    assert {"ray", "vbench", "cd-fvd", "torchmetrics"} <= packages
    dry_run(shell, shlex.join(["pip", "install", *sorted(packages)]), "--no-deps")
