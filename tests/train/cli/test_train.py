"""Test that the command line explains itself and refuses bad input with a helpful message."""

import argparse
import io
import re
import sys
from pathlib import Path

import pytest
import yaml

from egox_train.cli.data import SKIP_LINES, _print_outcome
from egox_train.cli.train import COMMANDS
from egox_train.data.prepare import PrepareOutcome
from egox_train.data.prepare_options import PrepareOptions
from egox_train.options import add_dataclass_arguments, from_arguments
from egox_train.train.config import load_config
from tests.paths import ROOT
from train_egox import main


def test_bad_input_is_refused_with_a_fix(capsys):
    assert main(["train", "--set", "steps=0"]) == 2
    # Libraries may have said something of their own while they were imported.
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith("error: ") and "Fix: " in last_line


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option_with_its_default(command, capsys):
    parser = argparse.ArgumentParser()
    COMMANDS[command].add_arguments(parser)
    assert not [action.dest for action in parser._actions if not (action.help or "").strip()]
    with pytest.raises(SystemExit):
        main([command, "--help"])
    help_text = " ".join(capsys.readouterr().out.split())
    if command == "prepare":
        assert "exo size; ego is as high, and square (default: 784x448)" in help_text
        assert "frames per clip, 4n+1 (default: 49)" in help_text
        assert not re.search(r"default: (None|False|)\)", help_text)


def test_prepare_prints_why_clips_are_left_out(capsys):
    skip_reasons = [(f"take{number}", "no depth") for number in range(3)]
    skip_reasons += [(f"clip{number}", f"reason {number}") for number in range(SKIP_LINES)]
    outcome = PrepareOutcome(
        clips=1,
        new=1,
        skipped=len(skip_reasons),
        skip_reasons=tuple(skip_reasons),
        manifest=Path("manifest.jsonl"),
        notes=(),
    )
    _print_outcome(outcome, Path("report.json"))
    printed_lines = capsys.readouterr().out.splitlines()
    assert printed_lines[0] == "left out: take0 and 2 more: no depth"
    assert len(printed_lines) == SKIP_LINES + 1
    assert "13 skipped: see report.json" in printed_lines[-1]


def test_unprintable_take_names_are_printed(tmp_path, monkeypatch):
    """Check that printing a take name with characters that the console lacks raises no error."""
    pytest.importorskip("av", reason="decodes video")
    console = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(console, "cp1252"))
    take, out = ROOT / "sample/calm_room", tmp_path / "厨房"
    assert main(["undistort", str(take), str(out)]) == 0
    sys.stdout.flush()
    assert rb"\u53a8\u623f" in console.getvalue() and list(out.rglob("*.mp4"))


def test_command_arguments_fill_their_dataclass():
    parser = argparse.ArgumentParser()
    add_dataclass_arguments(parser, PrepareOptions)

    def filled(words: str, **more) -> PrepareOptions:
        return from_arguments(
            PrepareOptions, parser.parse_args(words.split()), depth="files", **more
        )

    assert filled("") == PrepareOptions()
    words = (
        "--size 64x32 --pictures as-filmed --exo-lens raw --task 1 2 --scale 2 --mask-classes a b"
    )
    assert filled(words, ego_size=32) == PrepareOptions(
        exo_size=(64, 32),
        ego_size=32,
        pictures="as filmed",
        exo_lens="raw",
        task_s=(1.0, 2.0),
        scale=2.0,
        mask_classes=("a", "b"),
    )
    for bad_option in ("--draw never", "--frames x", "--size 64"):
        with pytest.raises(SystemExit):
            filled(bad_option)


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "configs").glob("train_*.yaml")))
def test_shipped_training_configurations_are_valid(file):
    config = load_config(ROOT / "configs" / file)
    assert config.steps > 0 and config.task == "egox_lora"


@pytest.mark.parametrize(
    "file", sorted(p.name for p in (ROOT / "configs").glob("accelerate_*.yaml"))
)
def test_shipped_accelerate_configurations_are_read_by_accelerate(file):
    """Check that accelerate accepts each shipped configuration file."""
    from accelerate.commands.config.config_args import load_config_from_file

    accelerate_config = load_config_from_file(str(ROOT / "configs" / file))
    yaml_content = yaml.safe_load((ROOT / "configs" / file).read_text("utf-8"))
    assert accelerate_config.num_processes == yaml_content["num_processes"]
    assert file in (ROOT / "docs" / "training.md").read_text("utf-8")
