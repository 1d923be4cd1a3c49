"""tests/conftest.py: which skips are errors in CI, and which tests are slow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FIDELITY = "import pytest\ndef test_numbers():\n    pytest.skip('no numbers')\n"
USES_SHARED = "def test_numbers(shared_dir):\n    assert shared_dir.is_dir()\n"
SLOW = "import pytest\n@pytest.mark.slow\ndef test_slow():\n    assert False\n"
GPU = "import pytest\ndef test_fidelity_gpu():\n    pytest.skip('needs a GPU')\n"


@pytest.fixture
def run(tmp_path: Path, repo_root: Path):
    """``run(test text, shared=..., ...)``: pytest on a project with our conftest; (exit code, output)."""

    def start(text: str, *, name: str = "test_fidelity_x.py", shared: bool, arguments: tuple[str, ...] = (),
              **variables: str) -> tuple[int, str]:
        tests = tmp_path / "repo" / "tests"
        tests.mkdir(parents=True)
        shutil.copy(repo_root / "tests" / "conftest.py", tests)
        (tests / name).write_text(text, encoding="utf-8")
        (tests.parent / "pytest.ini").write_text("[pytest]\nmarkers = slow: x\n", encoding="utf-8")
        if shared:
            (tmp_path / "shared").mkdir()
        plain = {name: value for name, value in os.environ.items() if name not in ("CI", "EGOX_TEST_ALL")}
        done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests", *arguments],
                              cwd=tests.parent, env={**plain, "PYTHONPATH": str(repo_root), **variables},
                              capture_output=True, text=True)
        return done.returncode, done.stdout

    return start


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one", "two"])
def test_in_ci_a_skipped_fidelity_test_fails_the_run(run, processes: tuple[str, ...]) -> None:
    code, said = run(FIDELITY, shared=True, CI="true", arguments=processes)
    assert code == 1 and "skipped although ../shared is there" in said and "no numbers" in said


@pytest.mark.parametrize(("shared", "ci"), [(False, "true"), (True, "")])
def test_elsewhere_it_is_only_a_skip(run, shared: bool, ci: str) -> None:
    code, _ = run(FIDELITY, shared=shared, CI=ci)
    assert code == 0


def test_a_gpu_that_is_not_there_is_a_reason(run) -> None:
    assert run(GPU, shared=True, CI="true")[0] == 0


@pytest.mark.parametrize(("shared", "word"), [(True, "1 passed"), (False, "1 skipped")])
def test_the_shared_fixture(run, shared: bool, word: str) -> None:
    code, said = run(USES_SHARED, name="test_x.py", shared=shared, CI="true")
    assert code == 0 and word in said


def test_slow_tests_are_left_to_all(run) -> None:
    code, said = run(SLOW, name="test_x.py", shared=False)
    assert code == 0 and "1 skipped" in said


@pytest.mark.parametrize(("arguments", "variables"), [
    (("-m", "slow"), {}), (("tests/test_x.py::test_slow",), {}), ((), {"EGOX_TEST_ALL": "1"})])
def test_slow_tests_run_when_asked_for(run, arguments, variables) -> None:
    code, said = run(SLOW, name="test_x.py", shared=False, arguments=arguments, **variables)
    assert code == 1 and "1 failed" in said
