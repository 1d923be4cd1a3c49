"""Test run.py's command line."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tools.setup import commands
from tools.setup.base_dir import BaseDir
from tools.setup.environment import Environment
from tools.setup.layout import Layout
from tools.setup.server import Server

from .test_host import environment_of


@pytest.mark.parametrize("version", [(3, 7, 17), (3, 9, 25)])
def test_old_python_is_refused(repo_root, version):
    script = (
        f"import sys, runpy; sys.version_info = {version!r}\n"
        "runpy.run_path('run.py', run_name='__main__')"
    )
    completed = subprocess.run(
        [sys.executable, "-c", script], cwd=repo_root, capture_output=True, text=True
    )
    assert completed.returncode == 1
    assert f"needs Python 3.10 or newer; this is {version[0]}.{version[1]}" in completed.stderr
    assert "Traceback" not in completed.stderr


def test_run_py_itself_parses_on_old_pythons(repo_root):
    ast.parse((repo_root / "run.py").read_text("utf-8"), feature_version=(3, 7))


@pytest.mark.parametrize("call", [["demo", "--nonsense"], ["ui", "x"], ["paint"], []])
def test_wrong_calls_show_the_usage(call, capsys):
    with pytest.raises(SystemExit) as exit_info:
        commands.main(call)
    assert exit_info.value.code == 2
    assert "usage: run.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    "call", [["bench"], ["bench", "no_such_bench"], ["bench", "../run"], ["make", "x"]]
)
def test_wrong_name_is_refused_with_the_valid_ones(call, capsys, monkeypatch):
    monkeypatch.setattr(commands, "this_environment", lambda layout: None)
    monkeypatch.setenv(commands.INSIDE, "1")
    assert commands.main(call) == 1
    assert "the names are:" in capsys.readouterr().err


@pytest.fixture
def calls(monkeypatch) -> list[list[str]]:
    """Record the commands that would run, and let each fail with code 3."""
    recorded_arguments: list[list[str]] = []

    def record_arguments(self: Environment, words: list[str], folder: Path) -> int:
        assert folder == Path.cwd(), "relative paths are of where the command was typed"
        recorded_arguments.append(words)
        return 3

    monkeypatch.setattr(Environment, "run", record_arguments)
    monkeypatch.setenv(commands.INSIDE, "1")
    return recorded_arguments


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (["fidelity", "--help"], ["-m", "benchmarks.fidelity", "--help"]),
        (["bench", "some_bench", "--size", "64"], ["-m", "benchmarks.some_bench", "--size", "64"]),
        (
            ["make", "sample", "calm_room", "--out", "x"],
            ["-m", "lab.sample", "calm_room", "--out", "x"],
        ),
        (["make", "texts", "--check"], ["-m", "tools.texts", "--check"]),
    ],
)
def test_arguments_are_passed_unchanged_to_modules(call, expected, calls, tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "some_bench.py").write_text("", "utf-8")
    layout = Layout(tmp_path)
    monkeypatch.setattr(commands, "Layout", lambda: layout)
    monkeypatch.setattr(
        commands, "this_environment", lambda layout: environment_of(tmp_path, layout)
    )
    monkeypatch.setattr(
        "tools.setup.requirements.check_requirements", lambda environment, command: None
    )
    assert commands.main(call) == 3, "the module's exit code is run.py's"
    assert calls == [expected]


def test_modules_run_without_comfyui_and_the_demo_is_refused(calls, monkeypatch, capsys):
    """Check that benchmarks run without ComfyUI but the demo is refused."""
    monkeypatch.setattr(commands, "this_environment", lambda layout: None)
    assert commands.main(["fidelity"]) == 3
    assert calls == [["-m", "benchmarks.fidelity"]]
    assert commands.main(["demo"]) == 1
    assert "Set COMFYUI_DIR" in capsys.readouterr().err


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
        child_pid = int((host_folder / "child").read_text("utf-8"))
        assert is_process_running(child_pid)
    assert server_process.poll() is not None
    deadline = time.monotonic() + 120  # the signal was sent; a busy machine takes its time
    while is_process_running(child_pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_process_running(child_pid)


def is_process_running(pid: int) -> bool:
    """Check whether a process runs and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
