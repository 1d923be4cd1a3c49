"""The host's base directory: folders of run.py's own, with the pack linked in, so that no user's
folder is touched."""

import json
import os
from pathlib import Path

from .host import Host
from .layout import Layout

PACK_NAME = "comfyui-egox"
BASE_FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")


class BaseDir:
    """A base directory (``--base-directory``) and its folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.input, self.output = root / "input", root / "output"
        self.models, self.temp = root / "models", root / "temp"


def make_base_dir(root: Path, layout: Layout, nodes: dict[str, Path] | None = None) -> BaseDir:
    """Make the folders and link the pack (and further node packs, name to folder) into its
    custom_nodes."""
    base = BaseDir(root)
    for name in BASE_FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, source in {PACK_NAME: layout.repo, **(nodes or {})}.items():
        link_folder(source, root / "custom_nodes" / name)
    return base


def link_folder(source: Path, place: Path) -> None:
    """Make ``place`` stand for the folder ``source``: a link, on Windows a junction, which needs no
    right."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        os.rmdir(place)  # a junction; a folder that somebody filled is not touched
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(source.resolve()), str(place))
    else:
        place.symlink_to(source.resolve(), target_is_directory=True)


def share_models(host: Host, base: BaseDir) -> tuple[str, ...]:
    """Let the server also read the models of the user's own host, by these arguments.

    None are needed for a host of run.py's.
    """
    models = host.root / "models"
    return () if host.owned or not models.is_dir() else read_models(models, base, "host")


def read_models(models: Path, base: BaseDir, name: str) -> tuple[str, ...]:
    """Build arguments that let the server also read the models in the folders of ``models``, each
    of the kind of its name."""
    kinds = {folder.name: folder.name for folder in sorted(models.iterdir()) if folder.is_dir()}
    file = base.root / "user" / f"models_of_the_{name}.yaml"
    # JSON is YAML, and spares the quoting of paths.
    file.write_text(json.dumps({name: {"base_path": str(models), **kinds}}, indent=1), "utf-8")
    return ("--extra-model-paths-config", str(file))
