"""`run.py test`: what pytest gets, and another release of the host or another frontend for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools.setup import testing
from tools.setup.environment import Environment
from tools.setup.host import Host, find_host
from tools.setup.layout import Layout, SetupError
from tools.setup.testing import OLDEST, other_host, run_tests

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


def test_screenshots_only_when_asked(environment: Environment) -> None:
    run_tests(environment, ["--browser"])
    assert not os.environ["EGOX_SCREENSHOTS"]
    run_tests(environment, ["--browser", "--screenshots"])
    assert os.environ["EGOX_SCREENSHOTS"] == "1"


def test_no_browser(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "prepare_browser", lambda log: None)
    assert run_tests(environment, []) == 0, "the other tests run; those in a browser skip by name"
    with pytest.raises(SetupError, match="tests in a browser"):
        run_tests(environment, ["--browser"])


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


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []

    def install(layout, python, what, words) -> None:
        calls.append([word for word in words if word[0] != "-" and "hosts" not in word])
        Path(words[words.index("--target") + 1], "egox_page.py").write_text("", encoding="utf-8")

    monkeypatch.setattr(testing, "install", install)
    return calls


def test_another_page_comes_before_the_environments_own_and_is_made_once(environment: Environment, installs) -> None:
    for _ in range(2):
        other = other_host(environment, None, "9.9.9")
    assert installs == [["egox-page==1", "comfyui-frontend-package==9.9.9"]], "what is there already stays out"
    assert other.host == environment.host
    packages = other.variables()["PYTHONPATH"].split(os.pathsep)[1]
    assert packages == os.environ["EGOX_PACKAGES"] and (Path(packages) / "egox_page.py").is_file()


def test_another_release_is_fetched_once_into_a_folder_of_its_own(environment: Environment, installs,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(release, root: Path, python: Path) -> None:
        fetched.append(release)
        make_host(root, "0.26.0")
        (root / "requirements.txt").write_text("numpy\n", encoding="utf-8")
        (root / ".egox_source").write_text("test\n", encoding="utf-8")

    monkeypatch.setattr(testing, "fetch_host", fetch)
    for _ in range(2):
        other = other_host(environment, "0.26.0", None)
    assert fetched == [OLDEST] and installs == [], "nothing differs"
    monkeypatch.setenv("EGOX_HOST_DIR", other.variables()["EGOX_HOST_DIR"])
    found = find_host(environment.layout)
    assert (found.root, found.version, found.owned) == (other.host.root, (0, 26, 0), True)


@pytest.mark.parametrize(("wish", "told"), [
    (("0.1.0", None), "0.26.0 and 0.30.0"), ((None, "latest"), "such as 1.47.12")])
def test_what_cannot_be_had_is_told(environment: Environment, wish, told: str) -> None:
    with pytest.raises(SetupError, match=told):
        other_host(environment, *wish)


@pytest.mark.parametrize("wish", [("0.26.0", None), (None, "1.47.12")])
def test_no_setup_makes_nothing(environment: Environment, monkeypatch: pytest.MonkeyPatch, wish) -> None:
    monkeypatch.setenv("EGOX_NO_SETUP", "1")
    with pytest.raises(SetupError, match="EGOX_NO_SETUP"):
        other_host(environment, *wish)
    assert not (environment.layout.state / "hosts").exists()
