"""The page's modules outside a page, run by Node."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def run_node() -> Callable[..., str]:
    """Give ``run_node(*arguments)``, which returns what Node prints, run in this folder. A test
    that fails there fails here."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js (node), which runs the page's modules outside a page")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [node, *arguments],
            cwd=HERE,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def run_node_tests(run_node) -> Callable[[str], int]:
    """Give ``run_node_tests(file)``, which counts the passed tests of a file, none of which may
    fail."""

    def run(file: str) -> int:
        out = run_node("--test", "--test-reporter=tap", file)
        assert "# fail 0" in out, out
        return int(out.split("# pass ")[1].split()[0])

    return run
