"""The released meta.json: prompt, exo and ego cameras of a take; as one object or as the authors' list of takes."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import torch
from torch import Tensor

from .cameras.model import CameraModel, camera_from_intrinsics, camera_from_json
from .errors import EgoXInputError
from .poses import validate_w2c
from .safe_files import read_json
from .types import TakeMeta

LIST_KEY = "test_datasets"
ENTRY_KEYS = frozenset({"prompt", "camera_intrinsics", "camera_extrinsics", "ego_intrinsics", "ego_extrinsics"})


def read_meta(path: Path, entry: str = "") -> TakeMeta:
    """Read a meta.json of either form; ``entry`` names the take in a list of several (its folder name or number).

    An ``intrinsics/NAME.npz`` of ViPE is taken too; it knows the exo camera alone.

    Raises:
        EgoXInputError: no JSON, neither form, unknown entry, a matrix of wrong shape, not a rotation.
    """
    if path.suffix.lower() == ".npz":
        from .vipe_files import read_vipe  # it makes a TakeMeta, so it imports this module

        return read_vipe(path)
    return parse_meta(read_json(path, "meta.json"), path, entry)


def parse_meta(content: object, path: Path, entry: str = "") -> TakeMeta:
    """The same from parsed JSON; ``path`` helps to choose the entry and stands in messages."""
    if isinstance(content, dict) and LIST_KEY in content:
        content = _choose_entry(content[LIST_KEY], path, entry)
    if not isinstance(content, dict) or not ENTRY_KEYS & content.keys():
        got = sorted(content)[:8] if isinstance(content, dict) else type(content).__name__
        raise EgoXInputError(f"meta file {path.name}", got=got, expected=f"some of {sorted(ENTRY_KEYS)}, or a list "
                             f"under {LIST_KEY!r}", fix="give the take's meta.json")
    return _entry(content, path)


def _choose_entry(entries: object, path: Path, entry: str) -> dict:
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
        raise EgoXInputError(f"meta file {path.name}", got=f"{LIST_KEY} that is no list of takes",
                             expected="a list of objects", fix="give the authors' meta.json unchanged")
    names = [_take_name(e) or str(i) for i, e in enumerate(entries)]
    # A take in a folder of its own, as the authors lay them out, is known by the folder's name.
    for wanted in (entry, *(() if entry else (path.parent.name,))):
        if wanted in names:
            return entries[names.index(wanted)]
        if wanted and wanted.isdigit() and int(wanted) < len(entries):
            return entries[int(wanted)]
    if not entry and len(entries) == 1:
        return entries[0]
    raise EgoXInputError(f"meta file {path.name}", got=f"{len(entries)} takes and the entry {entry!r}",
                         expected=f"one of {names[:20]}, or its number", fix="name the take to use")


def _take_name(entry: dict) -> str:
    written = entry.get("exo_path")
    # The authors' paths have forward slashes; a file written on Windows may not.
    return PureWindowsPath(written).parent.name if isinstance(written, str) else ""


def _entry(content: dict, path: Path) -> TakeMeta:
    def pose(key: str) -> Tensor | None:
        return None if content.get(key) is None else validate_w2c(content[key], f"{key} of {path.name}")

    def intrinsics(key: str) -> Tensor | None:
        if content.get(key) is None:
            return None
        camera_from_intrinsics(content[key], 1, 1, name=f"{key} of {path.name}")
        return torch.as_tensor(content[key], dtype=torch.float64)

    def camera(key: str) -> CameraModel | None:
        return None if content.get(key) is None else camera_from_json(content[key], f"{key} of {path.name}")

    return TakeMeta(
        name=_take_name(content) or path.parent.name or path.name,
        prompt=content["prompt"] if isinstance(content.get("prompt"), str) else "",
        camera_intrinsics=intrinsics("camera_intrinsics"), camera_extrinsics=pose("camera_extrinsics"),
        ego_intrinsics=intrinsics("ego_intrinsics"), ego_extrinsics=pose("ego_extrinsics"),
        exact_exo_camera=camera("exo_camera"), ego_camera=camera("ego_camera"),
        exo_path=str(content.get("exo_path") or ""),
    )
