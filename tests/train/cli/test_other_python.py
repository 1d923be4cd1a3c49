"""Test the error message for a Python that lacks a required package."""

import subprocess
import sys

import pytest

from tests.paths import ROOT

BLOCKED = """
import sys
MISSING = sys.argv.pop(1)
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == MISSING:
            raise ModuleNotFoundError("blocked: " + name, name=name)
sys.meta_path.insert(0, Refuse())
from egox_train.cli.front import main
sys.exit(main(sys.argv[1:]))
"""


def lines_of_error(command: list[str], code: int) -> list[str]:
    completed = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    assert completed.returncode == code, completed.stderr
    return completed.stderr.strip().splitlines()


def test_a_python_without_torch_is_named_in_one_line():
    error_lines = lines_of_error(["-S", str(ROOT / "train_egox.py"), "evaluate"], 1)
    assert len(error_lines) == 1, error_lines
    assert "is not installed for" in error_lines[0] and "pip install" in error_lines[0]


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("pyarrow", "lerobot --clips {takes} --out {out} --task x"),
        ("pyarrow", "calibrate --check {robots}"),
        ("torchmetrics", "evaluate {manifest} {takes} {out}"),
        ("skimage", "evaluate {manifest} {takes} {out} --protocol table1"),
        ("peft", "train --config {out}/none.yaml"),
        ("peft", "generate {out} {out}/made --base {out}/none --vae {out}/none"),
        ("peft", "export {out}/none.safetensors {out}/made.safetensors"),
    ],
)
def test_a_missing_package_is_named_before_any_work(
    tmp_path, training_set, synthetic_takes, package, words
):
    """Check that a missing package is reported before any input file is read."""
    robots, out = tmp_path / "robots", tmp_path / "out"
    (robots / "meta").mkdir(parents=True)
    (robots / "meta" / "info.json").write_text("{}", encoding="utf-8")
    path_by_word = {"takes": synthetic_takes, "manifest": training_set / "manifest.jsonl"}
    command_words = [word.format(**path_by_word, robots=robots, out=out) for word in words.split()]
    error_lines = lines_of_error(["-c", BLOCKED, package, *command_words], 2)
    install_name = {"skimage": "scikit-image"}.get(package, package)
    assert (
        len(error_lines) == 1
        and install_name in error_lines[0]
        and "-m pip install" in error_lines[0]
    ), error_lines
    assert not out.is_dir() or not list(out.iterdir())
