"""Test that mistakes on a command line are told before torch and its friends are imported."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from egox_core.cameras import CAMERA_PRESETS
from egox_core.choices import EgoCameraPreset, PriorPreset
from egox_core.prior import PRIOR_PRESETS
from egox_train.cli.advice import in_flags
from egox_train.cli.train import COMMANDS
from egox_train.options import (
    CalibrateOptions,
    HeadOptions,
    RobotOptions,
    TrainingSetOptions,
    add_dataclass_arguments,
)
from tests.paths import ROOT

HEAVY = "torch", "scipy", "diffusers", "transformers"
RUN = """
import contextlib, io, json, runpy, sys
heavy, rows = json.loads(sys.argv[1])
for name, *words in rows:
    sys.argv[:] = [name, *words]
    run = runpy.run_path if name.endswith(".py") else runpy.run_module
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(output):
        try: run(name, run_name="__main__")
        except SystemExit as end: code = end.code
    print(json.dumps([code, output.getvalue(), [name for name in heavy if name in sys.modules]]))
"""
TAKE_COMMANDS = {name: f"egox_train.cli.{name}" for name in ("prior", "preview", "facts")}
OTHER_COMMANDS = "benchmarks.fidelity", "lab.small_model"  # of run.py
TRAINER = "train_egox.py"
MISSING = "no/such/folder"
IS_MISSING = f"got '{Path(MISSING)}', which isn't there"
WRONG_PATHS = {
    "undistort": (MISSING, "out"),
    "headpose": (MISSING, "--keypoints", "points.json"),
    "calibrate": (MISSING, "out"),
    "facts": ("--root", MISSING),
    "prepare": (MISSING, "out"),
    "join": (MISSING,),
    "cache": (MISSING, "out", "--text", "zeros:8x8", "--vae", "vae"),
    "train": ("--config", MISSING),
    "launch": (sys.executable, "train_egox.py", "train", "--config", MISSING),
    "export": (MISSING, "lora.safetensors"),
    "generate": (MISSING, "out", "--base", "base", "--vae", "vae"),
    "lerobot": ("--clips", MISSING, "--out", "out"),
    "inspect": (MISSING,),
    "masks": (MISSING, "generated", "out", "--model", "model"),
    "evaluate": (MISSING, "generated", "out"),
}
"""Arguments of each command of train_egox.py with a file or folder that isn't there."""
# program and arguments: exit code, words of the output
ROWS = {
    (TRAINER, "--help"): (0, "usage: "),
    **{
        (*command, word): row
        for command in (
            *((TRAINER, name) for name in COMMANDS),
            *((module,) for module in (*TAKE_COMMANDS.values(), *OTHER_COMMANDS)),
        )
        for word, row in (("--help", (0, "usage: ")), ("--no-such-flag", (2, "error: ")))
    },
    **{(TRAINER, name, *words): (2, IS_MISSING) for name, words in WRONG_PATHS.items()},
    **{
        (TRAINER, *words): (2, IS_MISSING)
        for words in (
            ("cache", "sample", "out", "--vae", "sample", "--text", MISSING),
            ("evaluate", "sample", "sample", "out", "--also", f"another={MISSING}"),
        )
    },
    (TRAINER, "generate", "sample", "out", "--base", "sample", "--vae", "sample"): (
        2,
        "'sample' without index.json",
    ),
    (TRAINER, "calibrate", "sample", "out", "--ego-lens", "lens.json"): (
        2,
        "got 'lens.json', which isn't there",
    ),
    (TRAINER, "prepare", "sample", "out", "--prior", "exakt"): (2, "invalid choice: 'exakt'"),
    **{
        (TRAINER, "launch", *words): (2, message)
        for words, message in (
            ((), "got no command"),
            (("no_such_launcher",), "got 'no_such_launcher', which isn't there"),
            ((sys.executable, TRAINER, "train", "--confg", "any.yaml"), "--confg"),
            ((sys.executable, "--config_file", MISSING), IS_MISSING),
        )
    },
    (TAKE_COMMANDS["prior"], "--take", MISSING, "--out", "out"): (1, IS_MISSING),
    (TAKE_COMMANDS["preview"], "--take", MISSING, "--out", "out"): (1, IS_MISSING),
    (TAKE_COMMANDS["preview"], "--take", "sample/calm_room", "--out", "o", "--gain", "nan"): (
        1,
        "gain of the",
    ),
    (TAKE_COMMANDS["facts"], MISSING): (1, IS_MISSING),
}


def test_help_and_mistakes_import_nothing_heavy():
    """Check what each row answers, in one interpreter, which none of them makes slow."""
    process = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([HEAVY, [*ROWS]])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    answers = [json.loads(line) for line in process.stdout.splitlines()]
    assert len(answers) == len(ROWS), process.stderr
    for (row, (code, words)), (got_code, output, imported) in zip(
        ROWS.items(), answers, strict=True
    ):
        assert (got_code, imported) == (code, []) and words in output, (row, got_code, output)


@pytest.mark.parametrize(
    "options", [TrainingSetOptions, CalibrateOptions, HeadOptions, RobotOptions]
)
def test_each_declared_fact_is_one_word(options):
    parser = argparse.ArgumentParser()
    add_dataclass_arguments(parser, options, field_names=("declare",))
    facts = ("depth.unit=cm", "ego.axes=opengl")
    args = parser.parse_args([word for fact in facts for word in ("--declare", fact)])
    assert tuple(args.declare) == facts


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("VAE vae.safetensors: got 'vae.safetensors', none", "VAE {vae}: got '{vae}', none"),
        ("source: got 'takes', of takes", "source: got '{source}', of takes"),
        ("b/vae.safetensors, vae.safetensors.part, my-vae.safetensors", None),
        ("meta.json, lora.pt", None),  # of which take, of which argument
    ],
)
def test_paths_are_shown_as_they_were_typed(message, shown):
    args = argparse.Namespace(
        source=Path("a/takes"),
        vae=Path("b/vae.safetensors"),
        meta=ROOT / "sample" / "meta.json",
        models=[ROOT / "sample", Path("a/lora.pt"), Path("b/lora.pt")],
    )
    paths = {name: value for name, value in vars(args).items() if isinstance(value, Path)}
    assert in_flags(message, args) == (message if shown is None else shown.format(**paths))


def test_the_table_has_every_command():
    assert WRONG_PATHS.keys() == COMMANDS.keys()


def test_names_of_presets_equal_the_presets():
    assert {*get_args(PriorPreset)} == PRIOR_PRESETS.keys()
    assert {*get_args(EgoCameraPreset)} == CAMERA_PRESETS.keys()
