"""Depth and poses that lie beside the exo video, as in a take's folder: found without being named again."""

from __future__ import annotations

from pathlib import Path

from ..egox_core.types import FrameSelection
from .host_paths import resolve

DEPTH_NAME, META_NAME = "depth.npz", "meta.json"
TAKE_FILES = (DEPTH_NAME, META_NAME)


def beside_video(frames: FrameSelection | None, name: str) -> Path | None:
    """The file ``name`` in the folder of the exo video, or None where there is none.

    Raises:
        EgoXInputError: it leads out of the host's folders (a symlink).
    """
    if frames is None or frames.source_path is None:
        return None
    path = Path(frames.source_path).parent / name
    return resolve(str(path), name) if path.is_file() else None
