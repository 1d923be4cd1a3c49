"""A library's user has no node, command or page of the pack: the core's texts name none of them."""

import ast
import json
import re

import pytest

from egox_core import stages
from egox_core.errors import intact
from tests.paths import ROOT
from tests.refusals import refuses

TEXTS = [
    (f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", node.value)
    for path in sorted((ROOT / "egox_core").rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
]


def test_they_name_nothing_that_a_wheel_lacks():
    nodes = json.loads((ROOT / "locales/en/nodeDefs.json").read_text("utf-8")).values()
    names = {node["display_name"].removeprefix("EgoX ") for node in nodes}
    absent = "|".join(sorted(name for name in names if " " in name))
    absent += r"|EgoX (Conditioning|LoRA|Prompt|Sweep|Text)|Generate Text|Run (MoGe|Depth)"
    absent += r"|(docs|tools|nodes)/\w|\bpython3? \S|\b(run|train_egox)\.py|\bconnect\b|un-bypass"
    assert not [(at, match[0]) for at, text in TEXTS if (match := re.search(absent, text))]
    named = {stage for _, text in TEXTS for stage in re.findall(r"\bstages\.(\w+)", text)}
    assert named < set(dir(stages))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("can't open '/home/Ann Bee/x/a b.exr' (1/2)", "can't open 'a b.exr' (1/2)"),
        (r"C:\Users\Ann\a.parquet: 3/4 m/s", "a.parquet: 3/4 m/s"),
        ("(/root/a.npz), and/or 1 /s", "(a.npz), and/or 1 /s"),
    ],
)
def test_a_librarys_words_lose_their_folders(words, said):
    with refuses(f": {re.escape(said)}\\)"), intact("x", (OSError,)):
        raise OSError(words)


def test_the_words_of_the_graph_stand_for_words_of_the_core(pack):
    words = pack.nodes.advice.WORDS
    unused = [key for key in words if not any(key in text for _, text in TEXTS)]
    assert not unused
