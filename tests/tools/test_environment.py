"""What the environment is made from, and what is said when it can't be made."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tools.setup import environment as module
from tools.setup.environment import (
    check_disk,
    dev_requirements,
    find_host_python,
    install_command,
    make_venv,
    missing_requirements,
    prepare,
    venv_python,
)
from tools.setup.host import Host
from tools.setup.layout import Layout, SetupError

from .test_host import fetched, make_host


@pytest.fixture(autouse=True)
def plain_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EGOX_HOST_DIR", "COMFYUI_DIR", "EGOX_NO_SETUP", "EGOX_TORCH_INDEX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A checkout with a fetched host, whose environment claims to be able to run."""
    made = Layout(tmp_path / "repo")
    fetched(made)
    (made.host / "requirements.txt").write_text("torch\n", encoding="utf-8")
    (made.repo / "requirements.txt").write_text("numpy>=1.25\n# a comment\nscipy\n", encoding="utf-8")
    (made.repo / "pyproject.toml").write_text('[project.optional-dependencies]\ndev = ["pytest>=8", "ruff"]\n'
                                              'geometry = ["OpenEXR"]\n', encoding="utf-8")
    return made


@pytest.fixture
def pip_calls(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The pip calls that were made, instead of making them."""
    calls: list[list[str]] = []
    monkeypatch.setattr(module, "make_venv", lambda layout, say: layout.venv.mkdir(exist_ok=True) or
                        venv_python(layout.venv))
    monkeypatch.setattr(module, "install", lambda python, arguments, log, say, what: calls.append(arguments))
    monkeypatch.setattr(module, "fetch_uv", lambda python: None)
    return calls


def quiet(text: str) -> None:
    pass


def test_the_tested_torch_goes_first_and_along_with_every_call(layout: Layout, pip_calls) -> None:
    prepared = prepare(layout, quiet)
    assert prepared.python == venv_python(layout.venv)
    assert pip_calls[0] == list(module.TORCH_PINS)
    assert str(layout.host / "requirements.txt") in pip_calls[1]
    assert str(layout.repo / "requirements.txt") in pip_calls[2] and "pytest>=8" in pip_calls[2]
    assert all(set(module.TORCH_PINS) <= set(call) for call in pip_calls)


def test_a_second_run_installs_nothing(layout: Layout, pip_calls) -> None:
    prepare(layout, quiet)
    count = len(pip_calls)
    prepare(layout, quiet)
    assert len(pip_calls) == count


def test_changed_requirements_install_again(layout: Layout, pip_calls) -> None:
    prepare(layout, quiet)
    count = len(pip_calls)
    (layout.repo / "requirements.txt").write_text("numpy>=2\n", encoding="utf-8")
    prepare(layout, quiet)
    assert len(pip_calls) == 2 * count


def test_an_interrupted_install_is_done_again(layout: Layout, pip_calls, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as during, pytest.raises(KeyboardInterrupt):
        during.setattr(module, "install", interrupted)
        prepare(layout, quiet)
    prepare(layout, quiet)
    assert len(pip_calls) == 3


def test_another_torch_index_is_forced(layout: Layout, pip_calls, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(layout, quiet)
    monkeypatch.setenv("EGOX_TORCH_INDEX", "https://example.invalid/simple")
    prepare(layout, quiet)
    assert pip_calls[3][:3] == ["--force-reinstall", "--index-url", "https://example.invalid/simple"]
    assert "--index-url" not in pip_calls[4], "the index holds torch only"


def test_too_little_disk(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match="Too little disk space"):
        check_disk(layout, needed=2**62)
    monkeypatch.setattr(module, "FRESH_BYTES", 2**62)
    monkeypatch.setattr(check_disk, "__defaults__", (2**62,))
    with pytest.raises(SetupError, match="Too little disk space"):
        prepare(layout, quiet)
    assert not layout.venv.exists(), "refused before anything was made"


def test_no_setup_fetches_and_installs_nothing(layout: Layout, pip_calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOX_NO_SETUP", "1")
    assert prepare(layout, quiet).python == Path(sys.executable)
    with pytest.raises(SetupError, match="EGOX_NO_SETUP"):
        prepare(Layout(layout.repo / "elsewhere"), quiet)
    assert not pip_calls


def test_a_users_host_is_left_as_it_is(layout: Layout, tmp_path: Path, pip_calls,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_host(tmp_path / "theirs")
    monkeypatch.setenv("COMFYUI_DIR", str(root))
    before = sorted(tmp_path.rglob("*"))
    assert prepare(layout, quiet).python == Path(sys.executable), "this Python has torch"
    (layout.repo / "requirements.txt").write_text("numpy\negox-does-not-exist>=3\n", encoding="utf-8")
    with pytest.raises(SetupError, match=r'-m pip install "egox-does-not-exist>=3"$'):
        prepare(layout, quiet)
    assert sorted(tmp_path.rglob("*")) == before and not pip_calls


@pytest.mark.parametrize("place", ["venv", ".venv", "../venv"])
def test_the_users_own_environment_is_found(tmp_path: Path, place: str) -> None:
    root = make_host(tmp_path / "theirs")
    python = venv_python((root / place).resolve())
    python.parent.mkdir(parents=True)
    python.write_text("", encoding="utf-8")
    assert find_host_python(Host(root, (0, 30, 0), "test", owned=False)).resolve() == python.resolve()


def test_missing_requirements_looks_at_names_and_versions() -> None:
    wanted = ["pytest>=8", "pytest>=9999", "egox-does-not-exist", "opencv-python-headless>=4", "torch"]
    assert missing_requirements(Path(sys.executable), wanted) == ["pytest>=9999", "egox-does-not-exist"]


def test_install_command_is_quoted() -> None:
    assert install_command(Path("/a b/python"), ["x>=1"]) == '"{}" -m pip install "x>=1"'.format(Path("/a b/python"))


def test_a_broken_venv_is_made_anew(tmp_path: Path) -> None:
    made = Layout(tmp_path)
    python = venv_python(made.venv)
    python.parent.mkdir(parents=True)
    python.write_text("not a program", encoding="utf-8")
    (made.venv / "half").write_text("", encoding="utf-8")
    assert make_venv(made, quiet) == python
    assert os.access(python, os.X_OK) and not (made.venv / "half").exists()


def test_no_network_ends_the_set_up_with_the_cause(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip call against an index that can't be reached."""
    monkeypatch.setattr(module, "make_venv", lambda layout, say: Path(sys.executable))
    monkeypatch.setattr(module, "_has_torch", lambda venv: True)
    monkeypatch.setattr(module, "fetch_uv", lambda python: None)
    layout.venv.mkdir()
    for name, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "1",
                        "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "TORCH_PINS", ("egox-does-not-exist==1",))
    with pytest.raises(SetupError, match="no network"):
        prepare(layout, quiet)
    assert not (layout.venv / ".egox_installed.json").exists()


def test_the_dev_extra_is_read_without_a_toml_reader(repo_root: Path) -> None:
    found = dev_requirements(Layout(repo_root))
    assert any(line.startswith("pytest") for line in found) and any(line.startswith("ruff") for line in found)
    assert not any("OpenEXR" in line for line in found)


def test_the_stamp_names_what_it_was_made_from(layout: Layout, pip_calls) -> None:
    prepare(layout, quiet)
    stamp = json.loads((layout.venv / ".egox_installed.json").read_text(encoding="utf-8"))
    assert set(stamp) == {"requirements", "torch_index", "python"}
