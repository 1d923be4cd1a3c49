"""Check that error messages of the core name no node or command."""

import ast
import json
import re
from functools import cache

import pytest

from egox_core import stages
from egox_core.errors import intact
from tests.paths import ROOT
from tests.refusals import refuses


@cache
def core_texts() -> list[tuple[str, str]]:
    """List the texts in the core's files, each with its place."""
    return [
        (f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", node.value)
        for path in sorted((ROOT / "egox_core").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_core_messages_name_nothing_outside_the_wheel():
    node_definitions = json.loads((ROOT / "locales/en/nodeDefs.json").read_text("utf-8")).values()
    display_names = {node["display_name"].removeprefix("EgoX ") for node in node_definitions}
    absent_pattern = "|".join(
        sorted(display_name for display_name in display_names if " " in display_name)
    )
    absent_pattern += r"|EgoX (Conditioning|LoRA|Prompt|Sweep|Text)|Generate Text|Run (MoGe|Depth)"
    absent_pattern += (
        r"|(docs|tools|nodes)/\w|\bpython3? \S|\b(run|train_egox)\.py|\bconnect\b|un-bypass"
    )
    assert not [
        (location, match[0])
        for location, text in core_texts()
        if (match := re.search(absent_pattern, text))
    ]
    named_stages = {
        stage_name
        for _, text in core_texts()
        for stage_name in re.findall(r"\bstages\.(\w+)", text)
    }
    assert named_stages < set(dir(stages))


@pytest.mark.parametrize(
    ("original_text", "expected_text"),
    [
        ("can't open '/home/Ann Bee/x/a b.exr' (1/2)", "can't open 'a b.exr' (1/2)"),
        (r"C:\Users\Ann\a.parquet: 3/4 m/s", "a.parquet: 3/4 m/s"),
        ("(/root/a.npz), and/or 1 /s", "(a.npz), and/or 1 /s"),
    ],
)
def test_folders_are_removed_from_library_messages(original_text, expected_text):
    with refuses(f": {re.escape(expected_text)}\\)"), intact("x", (OSError,)):
        raise OSError(original_text)


def test_every_replaced_text_occurs_in_the_core(pack):
    replacements = pack.nodes.advice.WORDS
    unused_keys = [key for key in replacements if not any(key in text for _, text in core_texts())]
    assert not unused_keys
