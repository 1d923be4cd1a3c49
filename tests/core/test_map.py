"""The core's map: its example runs, and it names every room in the order of imports."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import egox_core
from lab.drawn import SyntheticSpec, make_take, write_take


def test_the_example_runs(tmp_path: Path) -> None:
    spec = SyntheticSpec(seed=1, frames=5, exo_width=64, exo_height=32, ego_size=32, edge_samples=1)
    write_take(make_take(spec), tmp_path / "take")
    results = doctest.testmod(egox_core, extraglobs={"folder": tmp_path / "take"})
    assert results.attempted > 12 and results.failed == 0


def test_the_rooms_stand_in_the_order_of_imports(repo_root: Path) -> None:
    tree = ast.parse((repo_root / "tests" / "test_imports.py").read_text(encoding="utf-8"))
    rooms = next(ast.literal_eval(node.value) for node in tree.body
                 if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS")
    listing = egox_core.__doc__.split("The pipeline")[0]
    named = [name for line in listing.splitlines() if line.startswith("    ")
             for name in re.findall(r"\w+", line.split(":")[0] if "," in line.split()[0] else line.split()[0])]
    assert tuple(named) == rooms
