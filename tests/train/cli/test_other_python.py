"""``train_egox.py`` by a Python that has no torch: one line that names the package, and no traceback."""

import subprocess
import sys

from tests.paths import ROOT


def test_a_python_without_torch_is_named_in_one_line():
    command = [sys.executable, "-S", str(ROOT / "train_egox.py"), "evaluate"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and len(lines) == 1, lines
    assert "is not installed for" in lines[0] and "pip install" in lines[0]
