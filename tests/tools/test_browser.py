"""Finding a browser, installing one where that may be, and what `run.py test --browser` passes on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tools.setup import browser, commands
from tools.setup.environment import Environment
from tools.setup.layout import Layout, SetupError


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any browser; the folder is its PATH."""
    monkeypatch.delenv(browser.VARIABLE, raising=False)
    monkeypatch.delenv("EGOX_NO_SETUP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "PLACES", ())
    return tmp_path


def executable(path: Path) -> Path:
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_named_browser_comes_first(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(bare / "chromium")
    named = executable(bare / "mine")
    monkeypatch.setenv(browser.VARIABLE, str(named))
    assert browser.find_browser() == named
    monkeypatch.setenv(browser.VARIABLE, str(bare / "gone"))
    assert browser.find_browser() is None, "a name that is wrong is not replaced by another browser in silence"
    assert "gone" in browser.install_advice()


@pytest.mark.skipif(os.name == "nt", reason="PATH works by suffixes there")
def test_found_on_the_path(bare: Path) -> None:
    assert browser.find_browser() is None
    found = executable(bare / "google-chrome")
    assert browser.find_browser() == found


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no apt there")
@pytest.mark.parametrize(("user", "no_setup", "installs"), [(0, "", True), (1000, "", False), (0, "1", False)])
def test_installed_by_root_only(bare: Path, monkeypatch: pytest.MonkeyPatch, user: int, no_setup: str,
                                installs: bool) -> None:
    executable(bare / "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("EGOX_NO_SETUP", no_setup)
    called: list[list[str]] = []

    def run(command, **_):
        called.append(command)
        if "install" in command:
            executable(bare / "chromium")

    monkeypatch.setattr(subprocess, "run", run)
    said: list[str] = []
    found = browser.prepare_browser(bare / "apt.log", said.append)
    assert (found == bare / "chromium") is installs and bool(called) is installs
    assert ("apt-get install chromium" in " ".join(said)) is not installs, "the command is printed instead"


class Recorder(Environment):
    """Keeps what would be run."""

    def run(self, arguments: list[str], **_) -> int:
        RUNS.append(arguments)
        return 0


RUNS: list[list[str]] = []


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    RUNS.clear()
    monkeypatch.setattr(commands, "prepare", lambda layout: Recorder(None, tmp_path / "python", layout))
    monkeypatch.setattr(commands, "_need_dev", lambda environment: None)
    monkeypatch.setattr(commands, "prepare_browser", lambda log: tmp_path / "chromium")
    for name in ("EGOX_TEST_ALL", "EGOX_SCREENSHOTS"):
        monkeypatch.setenv(name, "")
    return RUNS


@pytest.mark.parametrize(("given", "passed"), [
    ([], commands.SIDE_BY_SIDE),
    (["--browser"], ["tests/browser"]),
    (["--browser", "-x", "tests/browser/test_editor.py"], ["-x", "tests/browser/test_editor.py"]),
    (["--all", "-k", "gga"], ["-k", "gga"]),
])
def test_what_pytest_gets(recorded, monkeypatch, given: list[str], passed: list[str]) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the whole suite would set
    assert commands.run_tests(Layout(), given) == 0
    assert recorded[-1] == ["-m", "pytest", *passed]
    assert (os.environ["EGOX_TEST_ALL"] == "1") is ("--all" in given)


def test_screenshots_only_when_asked(recorded) -> None:
    commands.run_tests(Layout(), ["--browser"])
    assert not os.environ["EGOX_SCREENSHOTS"]
    commands.run_tests(Layout(), ["--browser", "--screenshots"])
    assert os.environ["EGOX_SCREENSHOTS"] == "1"


def test_no_browser(recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "prepare_browser", lambda log: None)
    assert commands.run_tests(Layout(), []) == 0, "the other tests run; those in a browser skip by name"
    with pytest.raises(SetupError, match="tests in a browser"):
        commands.run_tests(Layout(), ["--browser"])
