"""The previews' modules that need no page, run by Node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def test_the_modules_own_tests() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js (node), which runs the page's modules outside a page")
    done = subprocess.run([node, "--test", "--test-reporter=tap", "previews.test.mjs"], cwd=HERE, capture_output=True,
                          text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "# fail 0" in done.stdout and int(done.stdout.split("# pass ")[1].split()[0]) >= 5, done.stdout
