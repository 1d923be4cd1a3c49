"""README's lines, those of the stages' docstring and docs/examples/ run as they stand, also from the
wheel in an environment of its own."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from egox_core import stages
from tests.paths import ROOT
from tools.setup.environment import venv_python
from tools.setup.host import failure

GIVEN = """
import json, os, torch
from egox_core.stages import *
os.chdir("take")
meta = json.load(open("meta.json"))
K, exo_w2c = (torch.tensor(meta[f"camera_{key}"]) for key in ("intrinsics", "extrinsics"))
video = torch.zeros(9, 256, 256, 3)
class encoders:
    encode = lambda video: torch.zeros(1, 16, 3, video.shape[1] // 8, video.shape[2] // 8)
    decode = lambda latent: torch.zeros(1, 8, 8, 3)
    embed = lambda picture: picture
"""
"""Stands before the docstring's lines."""
ASKED = """
assert (depth.exo.camera.fx, depth.exo.lens_guessed) == (float(K[0, 0]), False)
assert torch.allclose(depth.exo.pose, exo_w2c.double())
os.chdir("..")
"""


@pytest.fixture
def scripts(tmp_path, monkeypatch) -> list[list[str]]:
    """List README's lines as a script, and the examples, with arguments. The current folder has a
    take."""
    pytest.importorskip("av", reason="decodes video")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sample" / "calm_room", "take")
    lines = re.search(r"(?s)```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"))[1]
    Path("readme.py").write_text(lines, "utf-8")
    lines = "\n".join(re.findall(r"(?m)^    (\w.*)", str(stages.__doc__)))
    Path("stages.py").write_text(f"{GIVEN}{lines}{ASKED}", "utf-8")
    examples = sorted(map(str, (ROOT / "docs" / "examples").glob("*.py")))
    return [["readme.py"], ["stages.py"], *([file, "take", "out"] for file in examples)]


def test_they_run(scripts, monkeypatch, capsys):
    for script in scripts:
        monkeypatch.setattr(sys, "argv", script)
        runpy.run_path(script[0])
    assert len(os.listdir("out")) == 9 + 1, "pictures and points"
    assert "warning" not in capsys.readouterr().out


@pytest.mark.slow
def test_they_run_with_the_wheel(scripts):
    """Next to torch the wheel needs few packages. With ``-I`` nothing is found beside a script."""
    with TemporaryDirectory() as folder:  # torch alone may have 5 GB
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = venv_python(Path(folder))
        pip = [python, "-m", "pip"]
        build = [*pip, "wheel", "--no-deps", ROOT / "egox_core"]
        if problem := failure([*pip, "install", "torch"]) or failure(build):
            pytest.skip(f"needs a package index: {problem[-200:]}")
        before = subprocess.check_output([*pip, "list"]).splitlines()
        assert not failure([*pip, "install", *Path().glob("*.whl")])
        after = subprocess.check_output([*pip, "list"]).splitlines()
        assert len(before) < len(after) <= len(before) + 12
        for script in scripts:
            subprocess.run([python, "-I", *script], check=True)
