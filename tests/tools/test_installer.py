"""Packages into a Python, by uv or by pip."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.setup.environment import venv_python
from tools.setup.installer import _uv_options, explain_pip_failure, install, uv_command
from tools.setup.layout import SetupError


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own, with a pip."""
    folder = tmp_path_factory.mktemp("made") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return venv_python(folder)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package of one empty module."""
    path = tmp_path / "egox_nothing-1.0-py3-none-any.whl"
    about = "egox_nothing-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("egox_nothing.py", "")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: egox-nothing\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def quiet(text: str) -> None:
    pass


def test_pips_settings_become_uvs() -> None:
    listed = (":env:.cert='/a/ca.crt'\nglobal.index-url='https://a.invalid/simple'\ninstall.trusted-host='b.invalid'\n"
              f"global.extra-index-url={'https://b.invalid/simple' + chr(10) + 'https://c.invalid/simple'!r}\n")
    assert _uv_options(listed) == ["--default-index", "https://a.invalid/simple", "--allow-insecure-host", "b.invalid",
                                   "--index", "https://b.invalid/simple", "--index", "https://c.invalid/simple"]
    assert _uv_options("") == []
    assert _uv_options("global.constraint='pins.txt'") is None, "only pip can"


def test_without_uv_pip_installs(python: Path, wheel: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "pip.log"
    log.parent.mkdir()
    assert uv_command(python) is None
    install(python, ["--no-index", str(wheel)], log, quiet, "nothing")
    subprocess.run([str(python), "-c", "import egox_nothing"], check=True)
    assert "Successfully installed egox-nothing" in log.read_text(encoding="utf-8")


def test_what_uv_can_t_do_is_pips(python: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "logs" / "pip.log"
    log.parent.mkdir()
    refuses = [sys.executable, "-c", "import sys; print('uv says no'); sys.exit(2)"]
    monkeypatch.setattr("tools.setup.installer.uv_command", lambda python: refuses)
    install(python, ["--no-index", str(wheel)], log, quiet, "nothing")
    text = log.read_text(encoding="utf-8")
    assert "uv says no" in text and "egox-nothing" in text
    with pytest.raises(SetupError, match="Installing nothing failed"):
        install(python, ["--no-index", "egox-does-not-exist"], log, quiet, "nothing")


@pytest.mark.parametrize(("text", "expected"), [
    ("WARNING: NewConnectionError(...): Temporary failure in name resolution\nERROR: No matching distribution found",
     "no network"),
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
    ("ERROR: No matching distribution found for torch==2.11.0", "no fitting build for Python"),
    ("ERROR: something else", "Run this again"),
])
def test_pips_words_are_explained(text: str, expected: str, tmp_path: Path) -> None:
    said = explain_pip_failure("torch", text, tmp_path / "pip.log")
    assert expected in said and "pip.log" in said
