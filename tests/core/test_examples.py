"""README's lines and examples/ run as they stand, also from the wheel in an environment of its own."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.paths import ROOT
from tools.setup.environment import venv_python
from tools.setup.host import failure

MOST_LINES, MOST_PACKAGES = 20, 12


@pytest.fixture
def scripts(tmp_path) -> list[list[str]]:
    """README's lines as a script, and the examples, with arguments; a take is beside them."""
    shutil.copytree(ROOT / "sample" / "calm_room", tmp_path / "take")
    section = (ROOT / "README.md").read_text("utf-8").split("## Use it from Python")[1]
    lines = re.search(r"(?s)```python\n(.*?)```", section)[1]
    assert len(re.findall(r"(?m)^ *[^ #\n]", lines)) <= MOST_LINES
    (tmp_path / "readme.py").write_text(lines, "utf-8")
    files = [tmp_path / "readme.py", *sorted((ROOT / "examples").glob("*.py"))]
    return [[str(file), *(["take", "out"] if "take" in file.name else [])] for file in files]


def test_they_run(scripts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for script in scripts:
        monkeypatch.setattr(sys, "argv", script)
        said = runpy.run_path(script[0])
        if script[0].endswith("readme.py"):
            assert said["channels"].shape == (1, 36, 3, 32, 88) and said["guided"].isfinite().all()
    assert len(list((tmp_path / "out").iterdir())) == 9


@pytest.mark.slow
def test_they_run_with_the_wheel(scripts, tmp_path):
    """Next to torch it needs few packages; ``-I``: nothing is found beside a script."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, ROOT / "egox_core"]
    if problem := failure(build):
        pytest.skip(f"needs hatchling to build the wheel: {problem[-200:]}")
    (wheel,) = tmp_path.glob("*.whl")
    with TemporaryDirectory() as folder:  # torch alone may have 5 GB
        python = venv_python(Path(folder))
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        index = [f"--index-url={url}"] if (url := os.environ.get("EGOX_TORCH_INDEX")) else []
        if problem := failure([python, "-m", "pip", "install", "torch", *index]):
            pytest.skip(f"needs torch, which can't be installed: {problem[-200:]}")
        listing = [python, "-m", "pip", "list", "--format=freeze"]
        before = subprocess.check_output(listing, text=True).splitlines()
        assert not failure([python, "-m", "pip", "install", wheel])
        added = set(subprocess.check_output(listing, text=True).splitlines()) - set(before)
        assert 0 < len(added) <= MOST_PACKAGES, added
        for script in scripts:
            subprocess.run([python, "-I", *script], cwd=tmp_path, check=True)
