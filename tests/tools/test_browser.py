"""Finding a browser, and installing one where that may be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tools.setup import browser


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
