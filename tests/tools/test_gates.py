"""Test run.py's type check."""

import sys
from pathlib import Path

import pytest

from tools.setup.environment import Environment
from tools.setup.host import Host
from tools.setup.layout import Layout
from tools.setup.testing import check_types


@pytest.mark.parametrize(
    ("argument", "expected_output"),
    [("3", ""), ("'three'", f"{Path('nodes/patch/node.py')}:5:8: error[invalid-argument-type]")],
)
def test_types_are_checked_through_the_pack_and_the_host(
    tmp_path, capfd, argument, expected_output
):
    """Check that type errors are found in a node that imports egox_core and ComfyUI."""
    text_by_file = {
        "pack/pyproject.toml": "",
        "pack/egox_core/__init__.py": "",
        "pack/egox_core/sizes.py": "def half(size: int) -> int:\n    return size // 2\n",
        "pack/egox_train/__init__.py": "from egox_core.sizes import half\n",
        "pack/nodes/patch/node.py": "from host_module import told\n\n"
        "from ...egox_core.sizes import half\n\n"
        f"a=half({argument})\nb: str = told()\n",
        "host/host_module.py": "def told() -> str:\n    return ''\n",
    }
    for name, text in text_by_file.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    host = Host(tmp_path / "host", (0, 26, 0), "test", owned=False)
    environment = Environment(host, Path(sys.executable), Layout(tmp_path / "pack"))
    exit_code = check_types(environment)
    output = capfd.readouterr().out
    assert (exit_code, output.startswith(expected_output)) == (1 if expected_output else 0, True), (
        output
    )
