"""Run the stages' docstring and docs/examples/, also from the built wheel."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from egox_core import stages
from lab.drawn import SyntheticSpec, make_take, write_take
from tests.paths import ROOT
from tools.setup.environment import venv_python
from tools.setup.host import run_for_error

DOCSTRING_SETUP = """
import json, os, torch
from egox_core.stages import *
os.chdir("take")
meta = json.load(open("meta.json"))
K, exo_w2c = (torch.tensor(meta[f"camera_{key}"]) for key in ("intrinsics", "extrinsics"))
video = torch.zeros(9, 64, 64, 3)
class encoders:
    encode = lambda video: torch.zeros(1, 16, 3, video.shape[1] // 8, video.shape[2] // 8)
    decode = lambda latent: torch.zeros(1, 8, 8, 3)
    embed = lambda picture: picture
"""
"""Code that runs before the docstring's lines."""
DOCSTRING_CHECKS = """
assert (depth.exo.camera.fx, depth.exo.lens_guessed) == (float(K[0, 0]), False)
assert torch.allclose(depth.exo.pose, exo_w2c.double())
os.chdir("..")
"""


@pytest.fixture
def scripts(tmp_path, monkeypatch) -> list[list[str]]:
    """Provide the documented examples as scripts in a folder with a take, each with its
    arguments."""
    pytest.importorskip("av", reason="decodes video")
    monkeypatch.chdir(tmp_path)
    # Small, because most of the time is drawing; the aspect is what README states.
    spec = SyntheticSpec(frames=9, exo_width=112, exo_height=64, ego_size=64, edge_samples=1)
    write_take(make_take(spec), Path("take"))
    stage_lines = "\n".join(re.findall(r"(?m)^    (\w.*)", str(stages.__doc__)))
    Path("stages.py").write_text(f"{DOCSTRING_SETUP}{stage_lines}{DOCSTRING_CHECKS}", "utf-8")
    example_files = sorted(map(str, (ROOT / "docs" / "examples").glob("*.py")))
    return [["stages.py"], *([file, "take", "out"] for file in example_files)]


def test_examples_run_without_warnings(scripts, monkeypatch, capsys):
    for script in scripts:
        monkeypatch.setattr(sys, "argv", script)
        runpy.run_path(script[0])
    assert len(os.listdir("out")) == 9 + 1, "pictures and points"
    assert "warning" not in capsys.readouterr().out


@pytest.mark.slow
def test_examples_run_with_the_wheel(scripts):
    """Check that the examples run with the installed wheel, and that it needs few packages."""
    with TemporaryDirectory() as folder:  # torch alone may have 5 GB
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = venv_python(Path(folder))
        pip_command = [python, "-m", "pip"]
        build_command = [*pip_command, "wheel", "--no-deps", ROOT / "egox_core"]
        if error_text := run_for_error([*pip_command, "install", "torch"]) or run_for_error(
            build_command
        ):
            pytest.skip(f"needs a package index: {error_text[-200:]}")
        packages_before = subprocess.check_output([*pip_command, "list"]).splitlines()
        assert not run_for_error([*pip_command, "install", *Path().glob("*.whl")])
        packages_after = subprocess.check_output([*pip_command, "list"]).splitlines()
        assert len(packages_before) < len(packages_after) <= len(packages_before) + 12
        for script in scripts:
            subprocess.run([python, "-I", *script], check=True)
