"""The host's base directory: folders of run.py's own, with the pack linked in, so that no user's folder is touched."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .host import Host
from .layout import Layout

PACK_NAME = "comfyui-egox"
BASE_FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")
NOT_COPIED = (".git", ".venv", ".egox", "output", "__pycache__", ".pytest_cache", ".ruff_cache")


@dataclass(frozen=True)
class BaseDir:
    """A base directory (``--base-directory``) and its folders."""

    root: Path

    @property
    def input(self) -> Path:
        return self.root / "input"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def temp(self) -> Path:
        return self.root / "temp"


def make_base_dir(root: Path, layout: Layout, nodes: dict[str, Path] | None = None) -> BaseDir:
    """Make the folders and link the pack (and further node packs, name to folder) into its custom_nodes."""
    base = BaseDir(root)
    for name in BASE_FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, source in {PACK_NAME: layout.repo, **(nodes or {})}.items():
        link_folder(source, root / "custom_nodes" / name)
    return base


def link_folder(source: Path, place: Path) -> str:
    """Make ``place`` stand for the folder ``source``; how it was done: "link", "junction" or "copy".

    A copy leaves out the state folders: the base directory lies below the repository itself, so copying it would
    never end.
    """
    source = source.resolve()
    if _is_link(place):
        if place.resolve() == source:
            return "link"
        place.unlink() if place.is_symlink() else os.rmdir(place)
    elif place.is_dir():
        shutil.rmtree(place)
    try:
        os.symlink(source, place, target_is_directory=True)
        return "link"
    except OSError:
        pass  # Windows without developer mode: links need a right, junctions don't
    if os.name == "nt":
        import _winapi

        try:
            _winapi.CreateJunction(str(source), str(place))
            return "junction"
        except OSError:
            pass
    shutil.copytree(source, place, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return "copy"


def share_models(host: Host, base: BaseDir) -> tuple[str, ...]:
    """Arguments that let the server also read the models of the user's own host; none for a host of run.py's."""
    models = host.root / "models"
    if host.owned or not models.is_dir():
        return ()
    kinds = {folder.name: folder.name for folder in sorted(models.iterdir()) if folder.is_dir()}
    file = base.root / "user" / "models_of_the_host.yaml"
    # JSON is YAML, and spares the quoting of paths.
    file.write_text(json.dumps({"host": {"base_path": str(models), **kinds}}, indent=1), encoding="utf-8")
    return ("--extra-model-paths-config", str(file))


def _is_link(place: Path) -> bool:
    if place.is_symlink():
        return True
    try:
        return os.name == "nt" and bool(os.readlink(place))  # a junction
    except OSError:
        return False
