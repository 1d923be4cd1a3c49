"""Fuse the scenes of several exo cameras of one event."""

from collections.abc import Sequence
from dataclasses import replace

from ..errors import EgoXInputError
from ..remarks import Remark
from ..types import MovingPoints, PointCloud, PointSet


class FusedMovingPoints:
    """Moving points of several scenes in one frame, joined when a frame is accessed."""

    def __init__(self, parts: Sequence[MovingPoints]) -> None:
        self._parts = tuple(parts)

    def __len__(self) -> int:
        return min(len(part) for part in self._parts)

    def __getitem__(self, frame: int) -> PointSet:
        return PointSet.join_moving([part[frame] for part in self._parts])


def fuse_scenes(scenes: Sequence[PointCloud]) -> PointCloud:
    """Join the points of several scenes to one scene.

    Their cameras must share a world and run in step.

    A surface that several cameras saw has points of each; the renderer blends what is at one depth.
    The fused scene keeps the first one's exo camera, for the editor's view.

    Raises:
        EgoXInputError: none, a scene without a known exo pose, clips of different length or time.
    """
    if not scenes:
        raise EgoXInputError(
            "scenes to fuse", got="none", expected="at least one", fix="give scenes"
        )
    first = scenes[0]
    if len(scenes) == 1:
        return first
    for number, scene in enumerate(scenes, 1):
        if scene.exo.world == "exo":
            raise EgoXInputError(
                f"scene {number}",
                got="points in the exo camera's own frame (its pose is unknown)",
                expected="all exo poses in one world",
                fix="give each take's camera_extrinsics (meta.json) to stages.align",
            )
        if scene.frame_count != first.frame_count:
            raise EgoXInputError(
                f"scene {number}",
                got=f"{scene.frame_count} frames",
                expected=f"{first.frame_count}, as scene 1",
                fix="load the same frames of each camera",
            )
        if not first.frames.in_step(scene.frames):
            raise EgoXInputError(
                f"scene {number}",
                got="frames at other times than scene 1",
                expected="cameras in step within half a frame",
                fix="choose start frames that show the same moment",
            )
    notes = tuple(dict.fromkeys(note for scene in scenes for note in scene.notes))
    return replace(
        first,
        exo=replace(first.exo, lens_guessed=any(scene.exo.lens_guessed for scene in scenes)),
        static=PointSet.join(*(scene.static for scene in scenes)),
        moving=FusedMovingPoints([scene.moving for scene in scenes]),
        mean_static=None,
        sight=None,
        parts=tuple(part for scene in scenes for part in scene.parts or (scene,)),
        notes=(Remark(f"fused from {len(scenes)} exo cameras"), *notes),
    )
