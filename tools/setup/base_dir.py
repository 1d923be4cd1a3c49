"""Create a base directory for ComfyUI with the pack linked in."""

import json
import os
from pathlib import Path

from .host import Host
from .layout import Layout

PACK_NAME = "comfyui-egox"
BASE_FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")


class BaseDir:
    """Hold a base directory (``--base-directory``) and its folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.input, self.output = root / "input", root / "output"
        self.models, self.temp = root / "models", root / "temp"


def make_base_dir(root: Path, layout: Layout, nodes: dict[str, Path] | None = None) -> BaseDir:
    """Create the folders, and link the pack and further node packs into custom_nodes."""
    base = BaseDir(root)
    for name in BASE_FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, source in {PACK_NAME: layout.repo, **(nodes or {})}.items():
        link_folder(source, root / "custom_nodes" / name)
    return base


def link_folder(source: Path, place: Path) -> None:
    """Link a folder to another one, by a junction on Windows."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        os.rmdir(place)  # a junction; a folder that somebody filled is not touched
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(source.resolve()), str(place))
    else:
        place.symlink_to(source.resolve(), target_is_directory=True)


def user_model_arguments(host: Host, base: BaseDir) -> tuple[str, ...]:
    """Build server arguments that add the user's own model folders.

    None are needed for run.py's own ComfyUI.
    """
    models = host.root / "models"
    return () if host.owned or not models.is_dir() else model_path_arguments(models, base, "host")


def model_path_arguments(models: Path, base: BaseDir, name: str) -> tuple[str, ...]:
    """Build server arguments that add the subfolders of ``models`` as model folders."""
    kind_folders = {
        folder.name: folder.name for folder in sorted(models.iterdir()) if folder.is_dir()
    }
    config_file = base.root / "user" / f"models_of_the_{name}.yaml"
    # JSON is YAML, and spares the quoting of paths.
    config_file.write_text(
        json.dumps({name: {"base_path": str(models), **kind_folders}}, indent=1), "utf-8"
    )
    return ("--extra-model-paths-config", str(config_file))
