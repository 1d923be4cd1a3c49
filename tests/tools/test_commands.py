"""Test run.py's command line."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tools.setup import commands
from tools.setup.base_dir import BaseDir
from tools.setup.demo import DemoOptions, apply_options, check_options
from tools.setup.environment import Environment
from tools.setup.layout import Layout, SetupError
from tools.setup.server import Server

from .test_host import environment_of


def test_run_py_itself_parses_on_old_pythons(repo_root):
    ast.parse((repo_root / "run.py").read_text("utf-8"), feature_version=(3, 7))


def test_ctrl_c_while_a_module_is_imported_leaves_no_traceback(tmp_path, repo_root):
    (tmp_path / "stopped.py").write_text("raise KeyboardInterrupt", "utf-8")
    process = subprocess.run(
        [sys.executable, repo_root / "tools" / "setup" / "module_run.py", "stopped"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
    )
    assert (process.returncode, process.stdout, process.stderr) == (130, b"", b"")


@pytest.mark.parametrize("call", [["demo", "--nonsense"], ["paint"], []])
def test_wrong_calls_show_the_usage(call, capsys):
    with pytest.raises(SystemExit) as exit_info:
        commands.main(call)
    assert exit_info.value.code == 2
    assert "usage: run.py" in capsys.readouterr().err


@pytest.fixture
def calls(monkeypatch) -> list[list[str]]:
    """Record the commands that would run, and let each fail with code 3."""
    recorded_arguments: list[list[str]] = []

    def record_arguments(self: Environment, words: list[str], folder: Path) -> int:
        assert folder == Path.cwd(), "relative paths are of where the command was typed"
        recorded_arguments.append(words)
        return 3

    monkeypatch.setattr(Environment, "run", record_arguments)
    monkeypatch.setattr(commands, "this_environment", lambda layout: None)
    monkeypatch.setenv(commands.INSIDE, "1")
    return recorded_arguments


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("fidelity --help", ["-m tools.setup.module_run benchmarks.fidelity --help"]),
        ("bench fidelity --size 64", ["-m benchmarks.fidelity --size 64"]),
        ("make sample calm_room", ["-m lab.sample calm_room"]),
        ("bench no_such_bench", "the names are:"),
        ("bench ../run", "the names are:"),
        ("make x", "the names are:"),
        ("demo", "Set COMFYUI_DIR"),
    ],
)
def test_modules_get_their_arguments_without_comfyui_and_wrong_names_are_refused(
    call, expected, calls, monkeypatch, capsys
):
    monkeypatch.setattr(
        "tools.setup.requirements.check_requirements", lambda environment, command: None
    )
    code = commands.main(call.split())
    if isinstance(expected, str):
        assert code == 1 and expected in capsys.readouterr().err
    else:
        assert code == 3, "the module's exit code is run.py's"
        assert [" ".join(words) for words in calls] == expected


def test_demo_options_that_no_node_would_see_are_refused(tmp_path, repo_root):
    (tmp_path / "exo.mp4").write_bytes(b"")
    room = repo_root / "sample" / "calm_room"
    for refused_call, words in (
        (lambda: check_options(DemoOptions(take=tmp_path)), "lacks depth.npz, meta.json"),
        (lambda: check_options(DemoOptions(take=room, steps=3)), "without a model"),
        (lambda: apply_options({}, DemoOptions(steps=3), None), "no EgoXWanSampler"),
    ):
        with pytest.raises(SetupError, match=words):
            refused_call()


def test_the_whole_process_tree_ends(tmp_path):
    """Check that a server's child process ends together with the server."""
    host_folder = tmp_path / "host"
    host_folder.mkdir()
    (host_folder / "main.py").write_text(
        "import json, subprocess, sys, http.server\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('child', 'w').write(str(child.pid))\n"
        "port = int(sys.argv[sys.argv.index('--port') + 1])\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        "        self.wfile.write(json.dumps({'system': {'argv': sys.argv}}).encode())\n"
        "http.server.HTTPServer(('127.0.0.1', port), H).serve_forever()\n",
        "utf-8",
    )
    environment = environment_of(host_folder, Layout(tmp_path))
    with Server(environment, BaseDir(tmp_path / "base"), tmp_path / "log.txt") as server:
        server_process = server.process
        child = psutil.Process(int((host_folder / "child").read_text("utf-8")))
        assert child.is_running()
    assert server_process.poll() is not None
    deadline = time.monotonic() + 120  # the signal was sent; a busy machine takes its time
    while is_process_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_process_running(child)


def is_process_running(process: psutil.Process) -> bool:
    """Check whether a process runs and is not a zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
