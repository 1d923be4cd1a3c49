"""The pack's ``models/`` folder among the host's search paths, so that the stand-in models show in stock loaders."""

from __future__ import annotations

from pathlib import Path

import folder_paths

MODELS_ROOT = Path(__file__).resolve().parents[1] / "models"
KINDS = ("diffusion_models", "vae", "loras")


def add_model_folders(root: Path = MODELS_ROOT) -> None:
    """Append the pack's model folders to the host's search paths; calling it again changes nothing.

    They go to the end, so that a file of the same name in the user's own folders wins, and "save to models" nodes,
    which write into the first path, never write into the pack.
    """
    for kind in KINDS:
        folder = root / kind
        known = {Path(path).resolve() for path in folder_paths.get_folder_paths(kind)}
        if folder.is_dir() and folder.resolve() not in known:
            folder_paths.add_model_folder_path(kind, str(folder))
