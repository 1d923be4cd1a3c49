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
from tools.setup.environment import Environment
from tools.setup.layout import Layout, SetupError
from tools.setup.server import Server, check_port, find_free_port

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


@pytest.mark.parametrize(
    ("error", "exit_code", "expected_message"),
    [
        (SetupError("what is wrong, and what to do"), 1, "run.py: what is wrong, and what to do"),
        (KeyboardInterrupt(), 130, "run.py: interrupted"),
    ],
)
def test_errors_for_the_user_come_without_a_traceback(
    monkeypatch, capsys, error, exit_code, expected_message
):
    def refuse(words):
        raise error

    monkeypatch.setattr(commands, "start_inside", refuse)
    monkeypatch.delenv(commands.INSIDE, raising=False)
    assert commands.main(["ui"]) == exit_code
    assert capsys.readouterr().err.strip() == expected_message


def test_workflows_without_a_browser_end_in_a_sentence(host_root, repo_root):
    completed = subprocess.run(
        [sys.executable, "run.py", "make", "workflows"],
        cwd=repo_root,
        env={**os.environ, commands.INSIDE: "1", "EGOX_NO_SETUP": "1", "EGOX_BROWSER": "x"},
        capture_output=True,
        text=True,
    )
    expected_message = (
        "The page that exports them needs a browser: EGOX_BROWSER names x, which is no file.\n"
    )
    assert (completed.returncode, completed.stderr) == (1, expected_message)


def test_run_py_restarts_in_its_environment(tmp_path):
    """Check that run.py restarts in its own Python environment and keeps the user's current
    folder."""
    (tmp_path / "run.py").write_text(
        "import os, sys; print(os.getcwd(), os.environ['EGOX_INSIDE'], sys.argv[1:])",
        "utf-8",
    )
    script = (
        "from pathlib import Path; import sys; from tools.setup import commands\n"
        "environment = commands.Environment(None, Path(sys.executable), "
        "commands.Layout(Path(sys.argv[1])))\n"
        "commands.prepare = lambda layout, small: environment\n"
        "sys.exit(commands.main(['test', '-k', 'a b']))"
    )
    plain_variables = {name: value for name, value in os.environ.items() if name != commands.INSIDE}
    completed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**plain_variables, "PYTHONPATH": str(Layout().repo)},
    )
    assert completed.stdout.strip() == f"{tmp_path} 1 ['test', '-k', 'a b']", completed.stderr


def test_server_ends_on_sigterm():
    script = (
        "import sys, time\nfrom tools.setup import commands\n"
        "def work(args):\n    try:\n        print('up'); time.sleep(60)\n    finally:\n        "
        "print('down')\n"
        "commands.run = work\nsys.exit(commands.main(['ui']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Layout().repo,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, commands.INSIDE: "1"},
    )
    assert process.stdout.readline() == "up\n"
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert os.name == "nt" or (output == "down\n" and process.returncode == 130)


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


def test_environment_can_import_the_repositorys_modules(tmp_path):
    (tmp_path / "some_module.py").write_text(
        "import os, sys; sys.exit(0 if os.environ['EGOX_HOST_DIR'] == sys.argv[1] else 4)",
        "utf-8",
    )
    host_folder = tmp_path / "host"
    assert (
        environment_of(host_folder, Layout(tmp_path)).run(["-m", "some_module", str(host_folder)])
        == 0
    )
    hostless_environment = Environment(None, Path(sys.executable), Layout(tmp_path))
    script = "import importlib.util as u, sys; sys.exit(u.find_spec('some_module') is None)"
    assert hostless_environment.run(["-c", script], host_folder.parent.parent) == 0
    (tmp_path / "typed_here").mkdir()
    script = "import os, sys; sys.exit(os.path.basename(os.getcwd()) != 'typed_here')"
    assert hostless_environment.run(["-c", script], tmp_path / "typed_here") == 0


def test_modules_run_without_comfyui_and_the_demo_is_refused(calls, monkeypatch, capsys):
    """Check that benchmarks run without ComfyUI but the demo is refused."""
    monkeypatch.setattr(commands, "this_environment", lambda layout: None)
    assert commands.main(["fidelity"]) == 3
    assert calls == [["-m", "benchmarks.fidelity"]]
    assert commands.main(["demo"]) == 1
    assert "Set COMFYUI_DIR" in capsys.readouterr().err


def test_free_port_is_found():
    port = find_free_port()
    assert check_port(port) == port
    with pytest.raises(SetupError, match="Port 70000"):
        check_port(70000)


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
