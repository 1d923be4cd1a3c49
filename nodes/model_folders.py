"""The pack's ``models/`` folders among the host's search paths, so that its small models show in stock loaders."""

from __future__ import annotations

from pathlib import Path

import folder_paths

MODELS_ROOT = Path(__file__).resolve().parents[1] / "models"
ROOTS = (MODELS_ROOT, MODELS_ROOT / "demo")
"""The stand-ins, and the small trained model."""
KINDS = ("diffusion_models", "vae", "loras")


def add_model_folders(roots: tuple[Path, ...] = ROOTS) -> None:
    """Append the pack's model folders to the host's search paths; calling it again changes nothing.

    They go to the end, so that a file of the same name in the user's own folders wins, and "save to models" nodes,
    which write into the first path, never write into the pack.
    """
    for folder, kind in ((root / kind, kind) for root in roots for kind in KINDS):
        known = {Path(path).resolve() for path in folder_paths.get_folder_paths(kind)}
        if folder.is_dir() and folder.resolve() not in known:
            folder_paths.add_model_folder_path(kind, str(folder))
