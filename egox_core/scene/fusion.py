"""Several exo cameras of one event as one scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..errors import EgoXInputError
from ..types import MovingPoints, PointCloud, PointSet
from .points import join


class FusedMovingPoints:
    """Moving points of all scenes in a frame, made when asked for; each scene's objects keep numbers of their own."""

    def __init__(self, parts: Sequence[MovingPoints]) -> None:
        self._parts = tuple(parts)

    def __len__(self) -> int:
        return min(len(part) for part in self._parts)

    def __getitem__(self, frame: int) -> PointSet:
        fused = self._parts[0][frame]
        for part in self._parts[1:]:
            points = part[frame]
            taken = int(fused.instance.max()) if len(fused) else 0
            numbers = torch.where(points.instance > 0, points.instance + taken, points.instance)
            fused = join(fused, replace(points, instance=numbers.to(points.instance.dtype)))
        return fused


def fuse_scenes(scenes: Sequence[PointCloud]) -> PointCloud:
    """One scene with the points of all. Their cameras must share a world and run in step.

    Surfaces that several cameras saw are drawn by all of them; the renderer blends what lies at one depth. The first
    scene's exo camera stays the scene's own, for the editor's view.

    Raises:
        EgoXInputError: none, a scene without a known exo pose, clips of different length or time.
    """
    if not scenes:
        raise EgoXInputError("scenes to fuse", got="none", expected="at least one", fix="connect scenes")
    first = scenes[0]
    if len(scenes) == 1:
        return first
    for place, scene in enumerate(scenes):
        if scene.frame != "world":
            raise EgoXInputError(f"scene {place + 1}", got="points in the exo camera's own frame (its pose is unknown)",
                                 expected="all exo poses in one world",
                                 fix="give each take's camera_extrinsics (meta.json) to Depth Align")
        if scene.frame_count != first.frame_count:
            raise EgoXInputError(f"scene {place + 1}", got=f"{scene.frame_count} frames",
                                 expected=f"{first.frame_count}, as scene 1", fix="load the same frames of each camera")
        if not _in_step(scene, first):
            raise EgoXInputError(f"scene {place + 1}", got="frames at other times than scene 1",
                                 expected="cameras in step within half a frame",
                                 fix="choose start frames that show the same moment")
    static = first.static
    for scene in scenes[1:]:
        static = join(static, scene.static)
    notes = tuple(dict.fromkeys(note for scene in scenes for note in scene.notes))
    return replace(first, static=static, moving=FusedMovingPoints([scene.moving for scene in scenes]),
                   notes=(f"fused from {len(scenes)} exo cameras", *notes))


def _in_step(scene: PointCloud, first: PointCloud) -> bool:
    """Whether both clips run at one pace; they may start at different times, for each video counts from its own 0."""
    if scene.times_s is None or first.times_s is None or first.frame_count < 2:
        return True
    own, other = (s.times_s.double() - s.times_s[0].double() for s in (scene, first))
    return float((own - other).abs().max()) <= 0.5 * float(other[-1]) / (first.frame_count - 1)
