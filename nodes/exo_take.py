"""Take folders named in a node's text, one a line, as candidates for the exo camera."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..egox_core.cameras.presets import preset_camera
from ..egox_core.errors import EgoXInputError
from ..egox_core.prior.rank import ExoCandidate
from ..egox_core.progress import Progress
from ..egox_core.takes.depth_files import load_depth_file
from ..egox_core.takes.meta import read_meta
from ..egox_core.takes.take import META_PRESET, find_depth
from ..egox_core.takes.trajectory_files import meta_trajectory
from ..egox_core.types import CameraTrajectory
from .host_paths import resolve

EGO_SIZE = 448


def exo_candidates(takes: str, use_depth: bool, progress: Progress) -> list[ExoCandidate]:
    """One candidate a line of ``takes``: a take folder inside the host's folders or the pack's sample.

    Raises:
        EgoXInputError: no line, a folder outside, a take without camera or ego poses.
    """
    lines = [line.strip() for line in takes.splitlines() if line.strip()]
    if not lines:
        raise EgoXInputError("takes", got="no folder", expected="one take folder a line", fix="name the folders")
    return [_candidate(resolve(line, "take folder", folder_too=True), line, use_depth, progress) for line in lines]


def _candidate(folder: Path, name: str, use_depth: bool, progress: Progress) -> ExoCandidate:
    meta = read_meta(folder / "meta.json")
    trajectory = meta_trajectory(meta, preset_camera(META_PRESET, EGO_SIZE))
    depth = None
    if use_depth and _has_depth(folder):
        depth, _ = load_depth_file(find_depth(folder), meta, progress=progress)
    camera = meta.exo_camera if depth is None else depth.camera
    if camera is None:
        raise EgoXInputError(f"take {name}", got="no camera_intrinsics", expected="the exo camera's K",
                             fix="add them to meta.json")
    if depth is not None:
        trajectory = _cut(trajectory, len(depth.depth_m))
    return ExoCandidate(name=name, camera=camera, trajectory=trajectory, exo_w2c=trajectory.exo_w2c, depth=depth)


def _has_depth(folder: Path) -> bool:
    try:
        return bool(find_depth(folder))
    except EgoXInputError:
        return False  # judged by poses, and the report says so


def _cut(trajectory: CameraTrajectory, count: int) -> CameraTrajectory:
    exo = trajectory.exo_w2c
    return replace(trajectory, w2c=trajectory.w2c[:count], times_s=trajectory.times_s[:count],
                   exo_w2c=exo if exo is None or exo.ndim == 2 else exo[:count])
