"""Test the error message for a Python that lacks a required package."""

import json
import subprocess
import sys

from tests.paths import ROOT

BLOCKED = """
import contextlib, io, json, sys
missing = ""
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError("blocked: " + name, name=name)
sys.meta_path.insert(0, Refuse())
for row in sys.argv[1:]:
    missing, *words = row.split()
    for name in list(sys.modules):
        if name.split(".")[0] in (missing, "egox_train"):
            del sys.modules[name]
    from egox_train.cli.front import main
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(words)
    print(json.dumps([code, errors.getvalue().strip().splitlines()]))
"""
ROWS = (
    ("pyarrow", "lerobot --clips {takes} --out {out} --task x"),
    ("pyarrow", "calibrate --check {robots}"),
    ("torchmetrics", "evaluate {manifest} {takes} {out}"),
    ("skimage", "evaluate {manifest} {takes} {out} --protocol table1"),
    ("peft", "train --config {config}"),
    ("peft", "generate {robots} {out}/made --base {robots} --vae {robots}"),
    ("peft", "export {config} {out}/made.safetensors"),
)


def run_python(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace"
    )


def test_a_python_without_torch_is_named_in_one_line():
    completed = run_python("-S", str(ROOT / "train_egox.py"), "evaluate")
    error_lines = completed.stderr.strip().splitlines()
    assert completed.returncode == 1 and len(error_lines) == 1, error_lines
    assert "is not installed for" in error_lines[0] and "pip install" in error_lines[0]


def test_a_missing_package_is_named_before_any_work(tmp_path, training_set, synthetic_takes):
    """Check that a missing package is reported before any input file is read, by one interpreter
    that hides each package in turn."""
    robots, out = tmp_path / "robots", tmp_path / "out"
    (robots / "meta").mkdir(parents=True)
    for file in ("meta/info.json", "index.json"):  # of a LeRobot set, and of a cache
        (robots / file).write_text("{}", encoding="utf-8")
    config = tmp_path / "config.yaml"
    settings = {"base": str(robots), "cache": str(robots), "output": str(out), "steps": 1}
    config.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    path_by_word = {
        "config": config,
        "takes": synthetic_takes,
        "manifest": training_set / "manifest.jsonl",
    }
    rows = [
        f"{package} {words}".format(**path_by_word, robots=robots, out=out)
        for package, words in ROWS
    ]
    completed = run_python("-c", BLOCKED, *rows)
    results = [json.loads(line) for line in completed.stdout.splitlines()]
    assert len(results) == len(ROWS), completed.stderr
    for (package, words), (code, error_lines) in zip(ROWS, results, strict=True):
        assert code == 2 and len(error_lines) == 1, (words, error_lines)
        install_name = {"skimage": "scikit-image"}.get(package, package)
        assert install_name in error_lines[0] and "-m pip install" in error_lines[0], error_lines
    assert not out.is_dir() or not list(out.iterdir())
