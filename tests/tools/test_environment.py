"""Test the packages that run.py installs."""

import sys
from pathlib import Path

import pytest

from egox_core.safe_files import read_json
from tools.setup import environment as module
from tools.setup.base_dir import make_base_dir, user_model_arguments
from tools.setup.environment import install, prepare, venv_python
from tools.setup.host import Host
from tools.setup.layout import Layout, SetupError
from tools.setup.requirements import check_requirements

from .test_host import environment_of, make_host, write_fetched_host


@pytest.fixture(autouse=True)
def plain_variables(monkeypatch) -> None:
    for name in ("EGOX_HOST_DIR", "COMFYUI_DIR", "EGOX_NO_SETUP", "EGOX_TORCH_INDEX"):
        monkeypatch.delenv(name, raising=False)


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


def test_only_what_is_missing_or_changed_is_installed(layout, pip_calls, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "install", interrupted)
        prepare(layout, quiet, small=True)
    for _ in range(2):
        assert prepare(layout, quiet, small=True).python == venv_python(layout.venv)
        assert len(pip_calls) == 2
    torch_call, requirements_call = pip_calls
    assert torch_call == list(module.TORCH_PINS)
    requirement_files = {str(folder / "requirements.txt") for folder in (layout.host, layout.repo)}
    assert set(torch_call) | requirement_files <= set(requirements_call)
    prepare(layout, quiet)
    assert pip_calls[2] == ["--force-reinstall", *module.TORCH_PINS], "the whole torch"
    prepare(layout, quiet, small=True)
    assert len(pip_calls) == 4, "what can do all can do this"
    (layout.repo / "requirements.txt").write_text("numpy>=2\n", "utf-8")
    prepare(layout, quiet)
    assert len(pip_calls) == 6


def test_a_take_is_read_without_a_comfyui(tmp_path, layout, pip_calls, monkeypatch):
    bare_layout = Layout(tmp_path / "bare")
    bare_layout.repo.mkdir()
    (bare_layout.repo / "requirements.txt").write_text("numpy>=1.25\n", "utf-8")
    own_environment = prepare(bare_layout, quiet, needs_host=False)
    assert own_environment.python == Path(sys.executable) and pip_calls == []
    monkeypatch.setattr(module, "CORE_MODULES", ("torch", "egox_does_not_exist"))
    new_environment = prepare(bare_layout, quiet, needs_host=False)
    assert new_environment.host is None and new_environment.python == venv_python(bare_layout.venv)
    requirement_words = ["-r", str(bare_layout.repo / "requirements.txt"), module.OPENCV]
    assert pip_calls[1] == [*requirement_words, *module.TORCH_PINS]


def test_too_little_disk_space_is_refused(layout, monkeypatch):
    monkeypatch.setattr(module, "FRESH_BYTES", 2**62)
    with pytest.raises(SetupError, match="Too little disk space"):
        prepare(layout, quiet)
    assert not layout.venv.exists(), "refused before anything was made"


def test_a_users_comfyui_is_not_changed(layout, tmp_path, pip_calls, monkeypatch):
    monkeypatch.setenv("EGOX_NO_SETUP", "1")
    assert prepare(Layout(tmp_path / "elsewhere"), quiet).host is None
    monkeypatch.delenv("EGOX_NO_SETUP")
    monkeypatch.setenv("COMFYUI_DIR", str(make_host(tmp_path / "theirs")))
    paths_before = sorted(tmp_path.rglob("*"))
    environment = prepare(layout, quiet)
    assert environment.python == Path(sys.executable), "this Python has torch"
    (layout.repo / "requirements.txt").write_text("numpy\negox-does-not-exist>=3\n", "utf-8")
    with pytest.raises(SetupError, match=r'" -m pip install "egox-does-not-exist>=3"$'):
        check_requirements(environment, "demo")
    assert sorted(tmp_path.rglob("*")) == paths_before
    assert not pip_calls


@pytest.mark.parametrize(("command", "install_count"), [("demo", 0), ("test", 2)])
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
        assert "ruff" in pip_calls[0] and "OpenEXR" in pip_calls[1]
        monkeypatch.setenv("EGOX_NO_SETUP", "1")
        with pytest.raises(SetupError, match='install "ruff"'):
            check_requirements(environment, command)


@pytest.mark.parametrize("has_uv", [True, False])
def test_pip_is_used_if_uv_fails(layout, monkeypatch, has_uv):
    """Check that pip installs the packages if uv fails, and that caches lie in the state folder."""
    installer_calls: list[tuple[str, str]] = []

    def call(command, *, env, **_) -> bool:
        installer_calls.append((Path(command[0]).stem, env["UV_CACHE_DIR"]))
        return True

    monkeypatch.setattr(module, "run_for_error", lambda command: "" if has_uv else "none")
    monkeypatch.setattr(module.subprocess, "call", call)
    monkeypatch.setattr(module, "uv_settings", lambda listed: ({}, []) if "" in listed else None)
    with pytest.raises(SetupError, match="(?s)Is there a network.*pip.log"):
        install(layout, Path(sys.executable), "x", [], quiet)
    cache_folder = str(layout.state / "tmp")
    pip_call = (Path(sys.executable).stem, cache_folder)
    assert installer_calls == [("uv", cache_folder), pip_call][not has_uv :]


def test_models_of_a_users_host_are_shared_by_name(layout, tmp_path):
    for _ in range(2):  # the links are there the second time
        base_dir = make_base_dir(tmp_path / "base", layout)
    user_host = Host(tmp_path / "theirs", (0, 30, 0), "test", owned=False)
    assert user_model_arguments(user_host, base_dir) == (), "it has no models folder"
    (user_host.root / "models" / "diffusion_models").mkdir(parents=True)
    option, file = user_model_arguments(user_host, base_dir)
    assert option == "--extra-model-paths-config"
    model_folders = read_json(Path(file))["host"]
    assert model_folders.pop("base_path") == str(user_host.root / "models")
    assert model_folders == {"diffusion_models": "diffusion_models"}
