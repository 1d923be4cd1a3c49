"""Tests and benches say that they run; a training that is no part of them waits."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tools.setup import at_work as module
from tools.setup import commands
from tools.setup.at_work import OURS, at_work, cache_folder, somebody_at_work, wait_for_others


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, seen from outside of any bench."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv(OURS, raising=False)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    return cache_folder() / "at_work"


def test_it_is_said_while_it_lasts(folder: Path) -> None:
    assert not somebody_at_work()
    with at_work():
        assert [file.name for file in folder.iterdir()] == [str(os.getpid())] and os.environ[OURS] == "1"
        assert not somebody_at_work(), "its own processes don't wait for it"
    assert list(folder.iterdir()) == [] and OURS not in os.environ


def test_another_process_waits_until_it_is_over(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "1").touch()
    threading.Timer(0.4, (folder / "1").unlink).start()
    began, said = time.monotonic(), []
    wait_for_others(said.append)
    assert time.monotonic() - began > 0.3 and len(said) == 1
    (folder / "2").touch()
    wait_for_others(wanted=lambda: False)  # told to stop, it waits no longer
    os.utime(folder / "2", (0, 0))  # left by one that was killed
    assert not somebody_at_work()


@pytest.mark.parametrize(("command", "function"), [("test", "run_tests"), ("bench", "run_bench")])
def test_run_py_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, function: str) -> None:
    seen = []
    monkeypatch.setattr(commands, function, lambda layout, rest: seen.append((list(folder.iterdir()), rest)) or 3)
    assert commands.main([command, "x"]) == 3
    assert len(seen) == 1 and len(seen[0][0]) == 1 and seen[0][1] == ["x"]
    assert list(folder.iterdir()) == []
