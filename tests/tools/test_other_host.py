"""Another release of the host, or another frontend, for the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.setup import other_host as module
from tools.setup.environment import TORCH_PINS, Environment, venv_python
from tools.setup.host import OLDEST, Host
from tools.setup.layout import Layout, SetupError
from tools.setup.other_host import prepare_other

from .test_host import make_host


def quiet(text: str) -> None:
    pass


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """What `prepare` gives: a host that was fetched, and this very Python."""
    monkeypatch.delenv("EGOX_NO_SETUP", raising=False)
    root = make_host(tmp_path / "host")
    (root / "requirements.txt").write_text("", encoding="utf-8")
    return Environment(Host(root, (0, 30, 0), "test", owned=True), Path(sys.executable), Layout(tmp_path / "repo"))


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []
    monkeypatch.setattr(module, "install", lambda python, arguments, log, say, what: calls.append(arguments))
    return calls


@pytest.fixture
def no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_make_layer", lambda base, venv, say: venv.mkdir(parents=True, exist_ok=True))


def test_the_layer_sees_the_packages_below_and_its_own_first(base: Environment, installs) -> None:
    other = prepare_other(base, frontend="9.9.9", say=quiet)
    place = base.layout.hosts / "0.30.0" / "venv_frontend_9.9.9"
    assert other.python == venv_python(place) and other.host == base.host
    said = subprocess.run([str(other.python), "-c", "import importlib.util as u, json, pip, sys;"
                           "print(json.dumps([u.find_spec('numpy').origin, pip.__file__, sys.prefix]))"],
                          capture_output=True, text=True, check=True).stdout
    numpy, pip, prefix = map(Path, json.loads(said))
    assert not numpy.is_relative_to(place) and pip.is_relative_to(place) and prefix == place
    assert installs == [["-r", str(base.host.root / "requirements.txt"), *TORCH_PINS],
                        ["--no-deps", "comfyui-frontend-package==9.9.9"]]


def test_it_is_made_once(base: Environment, installs, no_layer) -> None:
    prepare_other(base, frontend="9.9.9", say=quiet)
    count = len(installs)
    prepare_other(base, frontend="9.9.9", say=quiet)
    assert len(installs) == count
    (base.host.root / "requirements.txt").write_text("new\n", encoding="utf-8")
    prepare_other(base, frontend="9.9.9", say=quiet)
    assert len(installs) == 2 * count


def test_the_release_is_fetched_once_into_a_folder_of_its_own(base: Environment, installs, no_layer,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(release, root: Path, pip, say) -> Host:
        fetched.append(release)
        make_host(root, "0.26.0")
        (root / "requirements.txt").write_text("", encoding="utf-8")
        (root / ".egox_source").write_text("test\n", encoding="utf-8")
        return Host(root, (0, 26, 0), "test", owned=True)

    monkeypatch.setattr(module, "fetch_release", fetch)
    for _ in range(2):
        other = prepare_other(base, "0.26.0", say=quiet)
        assert other.host.root == base.layout.hosts / "0.26.0" / "ComfyUI" and other.host.version == (0, 26, 0)
        assert other.variables()["EGOX_HOST_DIR"] == str(other.host.root)
    assert fetched == [OLDEST]


def test_a_torch_of_the_users_is_not_pinned(base: Environment, installs, no_layer) -> None:
    theirs = Environment(Host(base.host.root, (0, 30, 0), "COMFYUI_DIR", owned=False), base.python, base.layout)
    prepare_other(theirs, frontend="9.9.9", say=quiet)
    assert not set(TORCH_PINS) & set(installs[0])


@pytest.mark.parametrize(("wish", "said"), [({"version": "0.25.0"}, "0.26.0 and 0.30.0"),
                                            ({"frontend": "latest"}, "such as 1.47.12")])
def test_what_there_is_not_is_said(base: Environment, wish: dict, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        prepare_other(base, **wish, say=quiet)
    assert not base.layout.hosts.exists()


def test_nothing_is_made_where_set_up_is_forbidden(base: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOX_NO_SETUP", "1")
    for wish in ({"version": "0.26.0"}, {"frontend": "1.47.12"}):
        with pytest.raises(SetupError, match="EGOX_NO_SETUP"):
            prepare_other(base, **wish, say=quiet)
    assert not base.layout.hosts.exists()
