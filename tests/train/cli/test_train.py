"""The front door: every subcommand explains itself, bad input ends with 2 and one line that says
what to do."""

from __future__ import annotations

import sys

import pytest
import yaml

from egox_train.cli.train import COMMANDS
from egox_train.train.config import load_config
from tests.paths import ROOT


def call(arguments: list[str], capsys) -> tuple[int, str, str]:
    sys.path.insert(0, str(ROOT))
    try:
        import train_egox
    finally:
        sys.path.remove(str(ROOT))
    code = train_egox.main(arguments)
    out = capsys.readouterr()
    return code, out.out, out.err


def test_every_subcommand_has_help(capsys):
    assert {"prepare", "cache", "train", "export", "inspect", "generate"} <= set(COMMANDS)
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            call([name, "--help"], capsys)
        assert ended.value.code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "nowhere", "out"],
        ["cache", "none.jsonl", "out", "--vae", "none", "--text", "zeros:2x8"],
        ["train", "--config", "none.yaml"],
        ["train", "--set", "steps=0"],
        ["inspect", "none.safetensors"],
        ["export", "none", "out.safetensors"],
        ["generate", "none", "out", "--base", "b", "--vae", "v"],
    ],
)
def test_bad_input_is_refused_with_a_fix(arguments, capsys):
    code, _, said = call(arguments, capsys)
    line = said.splitlines()[
        -1
    ]  # libraries may have said something of their own while they were imported
    assert code == 2 and line.startswith("error: ") and "Fix: " in line


def test_defaults_are_a_configuration(tmp_path, capsys):
    code, out, _ = call(["train", "--print-defaults"], capsys)
    file = tmp_path / "c.yaml"
    file.write_text(out, encoding="utf-8")
    assert code == 0 and load_config(file).lora.rank == 256


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "configs").glob("train_*.yaml")))
def test_shipped_training_configurations_are_valid(file):
    config = load_config(ROOT / "configs" / file)
    assert config.steps > 0 and config.task == "egox_lora"


@pytest.mark.parametrize(
    "file", sorted(p.name for p in (ROOT / "configs").glob("accelerate_*.yaml"))
)
def test_shipped_accelerate_configurations_are_read_by_accelerate(file):
    """Its own reader refuses unknown keys; and the docs name each file."""
    from accelerate.commands.config.config_args import load_config_from_file

    read = load_config_from_file(str(ROOT / "configs" / file))
    content = yaml.safe_load((ROOT / "configs" / file).read_text(encoding="utf-8"))
    assert read.num_processes == content["num_processes"]
    assert file in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
