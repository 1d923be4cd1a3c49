"""Provide fixtures that run JavaScript modules in Node."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def run_node() -> Callable[..., str]:
    """Provide a function that runs Node and returns its output."""
    node_executable = shutil.which("node")
    if node_executable is None:
        pytest.skip("needs Node.js (node), which runs the page's modules outside a page")

    def run(*arguments: str) -> str:
        process = subprocess.run(
            [node_executable, *arguments],
            cwd=HERE,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
        )
        assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-4000:]
        return process.stdout

    return run


@pytest.fixture(scope="session")
def run_node_tests(run_node) -> Callable[[str], int]:
    """Provide a function that runs a file of Node tests and counts the passed ones."""

    def run(file: str) -> int:
        test_output = run_node("--test", "--test-reporter=tap", file)
        assert "# fail 0" in test_output, test_output
        return int(test_output.split("# pass ")[1].split()[0])

    return run
