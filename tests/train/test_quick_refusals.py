"""Test that mistakes on a command line are told before torch and its friends are imported."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from egox_core.cameras import CAMERA_PRESETS
from egox_core.choices import EgoCameraPreset, PriorPreset
from egox_core.prior import PRIOR_PRESETS
from egox_train.cli.train import COMMANDS
from tests.paths import ROOT

HEAVY = "torch", "scipy", "diffusers", "transformers"
RUN = """
import runpy, sys
heavy = sys.argv.pop(1).split(",")
name = sys.argv[0] = sys.argv.pop(1)
try:
    if name.endswith(".py"): runpy.run_path(name, run_name="__main__")
    else: runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code
print("imported:", *(module for module in heavy if module in sys.modules))
sys.exit(code)
"""
TAKE_COMMANDS = {name: f"egox_train.cli.{name}" for name in ("prior", "preview", "facts")}
MISSING = "no/such/folder"
WRONG_PATHS = {
    "undistort": (MISSING, "out"),
    "headpose": (MISSING, "--keypoints", "points.json"),
    "calibrate": (MISSING, "out"),
    "facts": ("--root", MISSING),
    "prepare": (MISSING, "out"),
    "join": (),
    "cache": (MISSING, "out", "--text", "zeros:8x8", "--vae", "vae"),
    "train": ("--config", MISSING),
    "launch": (),
    "export": (MISSING, "lora.safetensors"),
    "generate": (MISSING, "out", "--base", "base", "--vae", "vae"),
    "lerobot": ("--clips", MISSING, "--out", "out"),
    "inspect": (MISSING,),
    "masks": (MISSING, "generated", "out", "--model", "model"),
    "evaluate": (MISSING, "generated", "out"),
}
"""Arguments of each command of train_egox.py with a file or folder that isn't there."""


def run_command(command: str, *words: str) -> tuple[int, str]:
    """Run a command in a process of its own, and return its exit code and what it wrote."""
    arguments = (TAKE_COMMANDS[command],) if command in TAKE_COMMANDS else ("train_egox.py",)
    process = subprocess.run(
        [sys.executable, "-c", RUN, ",".join(HEAVY), *arguments, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    output = process.stdout + process.stderr
    assert "imported:\n" in output, output
    return process.returncode, output


def test_the_table_has_every_command():
    assert WRONG_PATHS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", ["", "prepare", *TAKE_COMMANDS])
def test_help_imports_nothing_heavy(name):
    command = name if name in TAKE_COMMANDS else "train_egox.py"
    words = (name,) if name and command == "train_egox.py" else ()
    code, output = run_command(command, *words, "--help")
    assert code == 0 and "usage: " in output


@pytest.mark.parametrize("name", ["lerobot", "preview"])
def test_a_wrong_flag_imports_nothing_heavy(name):
    words = () if name in TAKE_COMMANDS else (name,)
    code, output = run_command(name, *words, "--no-such-flag")
    assert code == 2 and "error: " in output


@pytest.mark.parametrize("name", [name for name, words in WRONG_PATHS.items() if words])
def test_a_wrong_path_imports_nothing_heavy(name):
    code, output = run_command("train_egox.py", name, *WRONG_PATHS[name])
    assert code == 2 and f"got '{Path(MISSING)}', which isn't there" in output, output


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("prior", ("--take", MISSING, "--out", "out"), f"got '{Path(MISSING)}', which isn't there"),
        ("preview", ("--take", MISSING, "--out", "out"), "which isn't there"),
        ("preview", ("--take", "sample/calm_room", "--out", "o", "--gain", "nan"), "gain of the"),
        ("facts", (MISSING,), "which isn't there"),
    ],
)
def test_mistakes_about_a_take_import_nothing_heavy(command, words, message):
    code, output = run_command(command, *words)
    assert code == 1 and message in output


def test_names_of_presets_equal_the_presets():
    assert {*get_args(PriorPreset)} == PRIOR_PRESETS.keys()
    assert {*get_args(EgoCameraPreset)} == CAMERA_PRESETS.keys()
