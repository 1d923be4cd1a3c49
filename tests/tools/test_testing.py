"""`run.py test`: what pytest gets, and another release of the host or another frontend for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools.setup import testing
from tools.setup.environment import Environment
from tools.setup.host import Host
from tools.setup.layout import Layout
from tools.setup.testing import run_tests

from .test_host import make_host


class Recorder(Environment):
    """Keeps what would be run."""

    def run(self, arguments: list[str]) -> int:
        RUNS.append(arguments[1:])
        return CODES.get(arguments[1], 0)


RUNS: list[list[str]] = []
CODES: dict[str, int] = {}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """A host that was fetched, a browser, and this very Python."""
    RUNS.clear()
    CODES.clear()
    layout = Layout(tmp_path / "repo")
    for name in ("host", "browser"):
        (layout.repo / "tests" / name).mkdir(parents=True)
    (make_host(layout.host) / "requirements.txt").write_text("numpy\negox-page==1\n", encoding="utf-8")
    monkeypatch.setattr(testing, "prepare_browser", lambda log: tmp_path / "chromium")
    for name in ("EGOX_TEST_ALL", "EGOX_SCREENSHOTS", "EGOX_NO_SETUP", "EGOX_PACKAGES", "EGOX_HOST_DIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the whole suite would set
    return Recorder(Host(layout.host, (0, 30, 0), "test", owned=True), Path(sys.executable), layout)


@pytest.mark.parametrize(("given", "passed"), [
    ([], testing.SIDE_BY_SIDE),
    (["--browser"], ["tests/browser"]),
    (["--browser", "-x", "tests/browser/test_editor.py"], ["-x", "tests/browser/test_editor.py"]),
    (["--all", "-k", "gga"], ["-k", "gga"]),
])
def test_what_pytest_gets(environment: Environment, given: list[str], passed: list[str]) -> None:
    assert run_tests(environment, given) == 0
    assert RUNS == [["ruff", "check", "."], ["pytest", *passed]]
    assert (os.environ["EGOX_TEST_ALL"] == "1") is ("--all" in given)


def test_a_fault_of_ruff_ends_it(environment: Environment) -> None:
    CODES["ruff"] = 3
    assert run_tests(environment, []) == 3 and len(RUNS) == 1


@pytest.mark.parametrize(("given", "wish", "expected", "code"), [
    (["--host", "0.26.0", "-x"], ("0.26.0", None), [["-x", "tests/host", "tests/nodes"], ["-x", "tests/browser"]], 3),
    (["--host", "0.26.0", "--browser"], ("0.26.0", None), [["tests/browser"]], 3),
    (["--host", "0.26.0", "tests/host"], ("0.26.0", None), [["tests/host"]], 3),
    (["--frontend", "1.58.1"], (None, "1.58.1"), [["tests/browser"]], 3),
])
def test_tests_on_another_host(environment: Environment, monkeypatch: pytest.MonkeyPatch, given, wish, expected,
                               code) -> None:
    """The browser's tests on another release are reported beside the others."""
    CODES["pytest"], wishes = 3, []
    monkeypatch.setattr(testing, "other_host", lambda base, *wish: wishes.append(wish) or base)
    assert run_tests(environment, given) == code
    assert wishes == [wish] and [words[1:] for words in RUNS] == expected
