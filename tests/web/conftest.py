"""Run the page's modules in Node, outside a page."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def run_node() -> Callable[..., str]:
    """Return ``run_node(*arguments)``, which runs Node in this folder, fails if Node does, and
    returns what it prints."""
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
    """Return ``run_node_tests(file)``, which runs a file's tests in Node, fails if one fails, and
    counts the passed ones."""

    def run(file: str) -> int:
        test_output = run_node("--test", "--test-reporter=tap", file)
        assert "# fail 0" in test_output, test_output
        return int(test_output.split("# pass ")[1].split()[0])

    return run
