"""Test the packages that run.py installs."""

import os
import sys
from pathlib import Path

import pytest

from tools.setup import environment as module
from tools.setup.environment import (
    Environment,
    install,
    prepare,
    venv_python,
)
from tools.setup.layout import Layout, SetupError
from tools.setup.requirements import check_requirements

from .test_host import environment_of, make_host, write_fetched_host


@pytest.fixture(autouse=True)
def plain_variables(monkeypatch) -> None:
    for name in ("EGOX_HOST_DIR", "COMFYUI_DIR", "EGOX_NO_SETUP", "EGOX_TORCH_INDEX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def any_disk_space_suffices(monkeypatch) -> None:
    """Let these tests pass on a machine whose disk is nearly full."""
    monkeypatch.setattr(module, "FRESH_BYTES", 0)


@pytest.fixture
def layout(tmp_path) -> Layout:
    """Build a checkout with a downloaded ComfyUI and an environment that seems complete."""
    new_layout = Layout(tmp_path / "repo")
    write_fetched_host(new_layout)
    (new_layout.host / "requirements.txt").write_text("torch\n", "utf-8")
    (new_layout.repo / "requirements.txt").write_text("numpy>=1.25\n# a comment\nscipy\n", "utf-8")
    (new_layout.repo / "pyproject.toml").write_text(
        '[project.optional-dependencies]\ndev = ["pytest>=8", "ruff"]\nchecks = ["OpenEXR"]\n',
        "utf-8",
    )
    return new_layout


@pytest.fixture
def pip_calls(layout, monkeypatch) -> list[list[str]]:
    """Record the packages that would be installed, and install nothing."""
    recorded_calls: list[list[str]] = []
    monkeypatch.setattr(module, "CPU_INDEX", "http://127.0.0.1:9")  # answers nothing

    def make(layout: Layout, say) -> None:
        venv_python(layout.venv).parent.mkdir(parents=True, exist_ok=True)
        venv_python(layout.venv).touch()

    monkeypatch.setattr(module, "make_venv", make)
    for module_name in ("environment", "requirements"):
        monkeypatch.setattr(
            f"tools.setup.{module_name}.install",
            lambda layout, python, what, words, *_: recorded_calls.append(words),
        )
    return recorded_calls


def quiet(text: str) -> None:
    pass


def test_tested_torch_version_is_installed_first(layout, pip_calls):
    assert prepare(layout, quiet).python == venv_python(layout.venv)
    torch_call, requirements_call = pip_calls
    assert torch_call == list(module.TORCH_PINS)
    assert set(torch_call) <= set(requirements_call)
    assert {str(folder / "requirements.txt") for folder in (layout.host, layout.repo)} <= set(
        requirements_call
    )


def test_only_what_is_missing_or_changed_is_installed(layout, pip_calls, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "install", interrupted)
        prepare(layout, quiet)
    prepare(layout, quiet)
    assert len(pip_calls) == 2, "an interrupted install is done again"
    prepare(layout, quiet)
    assert len(pip_calls) == 2
    (layout.repo / "requirements.txt").write_text("numpy>=2\n", "utf-8")
    prepare(layout, quiet)
    assert len(pip_calls) == 4


def test_texts_take_torch_for_the_cpu_until_something_else_is_run(layout, pip_calls):
    for _ in range(2):
        prepare(layout, quiet, small=True)
    assert pip_calls[0] == list(module.TORCH_PINS)
    assert len(pip_calls) == 2
    prepare(layout, quiet)
    assert pip_calls[2] == ["--force-reinstall", *module.TORCH_PINS]
    prepare(layout, quiet, small=True)
    assert len(pip_calls) == 4, "what can do all can do this"


def test_too_little_disk_space_is_refused(layout, monkeypatch):
    monkeypatch.setattr(module, "FRESH_BYTES", 2**62)
    with pytest.raises(SetupError, match="Too little disk space"):
        prepare(layout, quiet)
    assert not layout.venv.exists(), "refused before anything was made"


def test_no_setup_fetches_and_installs_nothing(layout, pip_calls, monkeypatch):
    monkeypatch.setenv("EGOX_NO_SETUP", "1")
    assert prepare(layout, quiet).python == Path(sys.executable)
    other_layout = Layout(layout.repo / "elsewhere")
    assert (
        prepare(other_layout, quiet).host is None
        and not other_layout.repo.exists()
        and not pip_calls
    )


def test_users_comfyui_is_not_changed(layout, tmp_path, pip_calls, monkeypatch):
    monkeypatch.setenv("COMFYUI_DIR", str(make_host(tmp_path / "theirs")))
    paths_before = sorted(tmp_path.rglob("*"))
    environment = prepare(layout, quiet)
    assert environment.python == Path(sys.executable), "this Python has torch"
    check_requirements(environment, "demo")
    (layout.repo / "requirements.txt").write_text("numpy\negox-does-not-exist>=3\n", "utf-8")
    with pytest.raises(SetupError, match=r'" -m pip install "egox-does-not-exist>=3"$'):
        check_requirements(environment, "demo")
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    (layout.repo / "requirements.txt").write_text('numpy>=1; os_name != "x"\n', "utf-8")
    with pytest.raises(SetupError, match=r'-m pip install "packaging" "numpy>=1"$'):
        check_requirements(environment, "train-demo")
    assert sorted(tmp_path.rglob("*")) == paths_before
    assert not pip_calls


@pytest.mark.parametrize(
    ("command", "install_count"), [("demo", 0), ("texts", 0), ("test", 2), ("bench", 2)]
)
def test_development_commands_install_more_packages(
    layout, pip_calls, monkeypatch, command, install_count
):
    """Check that development commands also install the packages of tests and reference metrics."""
    monkeypatch.setattr("tools.setup.requirements.is_met", lambda line: line != "ruff")
    environment = environment_of(layout.host, layout)
    check_requirements(environment, command)
    assert len(pip_calls) == install_count
    assert all(set(module.TORCH_PINS) <= set(call) for call in pip_calls)
    if install_count:
        assert "ruff" in pip_calls[0]
        assert pip_calls[1][:2] == ["--only-binary", ":all:"] and "OpenEXR" in pip_calls[1]
        monkeypatch.setenv("EGOX_NO_SETUP", "1")
        with pytest.raises(SetupError, match='install "ruff"'):
            check_requirements(environment, command)


def test_compiled_python_files_are_kept_in_the_state_folder(layout, monkeypatch):
    """Check that compiled Python files are written to run.py's state folder and not next to the
    source files."""
    (layout.repo / "compiled.py").write_text("", "utf-8")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    assert Environment(None, Path(sys.executable), layout).run(["-c", "import compiled"]) == 0
    compiled_files = list((layout.state / "pycache").rglob("compiled.*.pyc"))
    assert len(compiled_files) == 1
    assert not list(layout.repo.glob("__pycache__"))


def test_installation_without_network_names_the_cause(layout, monkeypatch):
    """Check that uv and pip with an unreachable index end in a message about the network."""
    for name, value in {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_RETRIES": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        SetupError, match="(?s)Installing torch failed. Is there a network.*pip.log.*does-not-exist"
    ):
        install(layout, Path(sys.executable), "torch", ["egox-does-not-exist==1"], quiet)


@pytest.mark.parametrize("has_uv", [True, False])
def test_pip_is_used_if_uv_fails(layout, monkeypatch, has_uv):
    """Check that pip installs the packages if uv fails, and that caches lie in the state folder."""
    installer_calls: list[tuple[str, str]] = []
    fetched_packages: list[list] = []

    def call(command, *, env, **_) -> bool:
        installer_calls.append((Path(command[0]).stem, env["UV_CACHE_DIR"]))
        return len(installer_calls) == 1 and has_uv  # the first way fails

    monkeypatch.setattr(
        module,
        "run_for_error",
        lambda command: fetched_packages.append(command) or ("" if has_uv else "none"),
    )
    monkeypatch.setattr(module.subprocess, "call", call)
    monkeypatch.setattr(module, "uv_settings", lambda listed: ({}, []))
    install(layout, Path(sys.executable), "x", [], quiet)
    pip_name = Path(sys.executable).stem
    temporary_folder = str(layout.state / "tmp")
    assert installer_calls == [("uv", temporary_folder), (pip_name, temporary_folder)][not has_uv :]
    assert fetched_packages[0][-3:] == ["--target", layout.state / "uv", "uv"]
