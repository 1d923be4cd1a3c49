"""Ego path of a take's meta.json."""

import torch

from ..cameras import CameraModel
from ..errors import EgoXInputError
from ..trajectory import PoseTrack
from ..types import CameraTrajectory, FrameSelection, TakeMeta
from .exo_camera import exo_poses
from .same_take import check_same_count


def meta_trajectory(
    meta: TakeMeta,
    camera: CameraModel,
    frames: FrameSelection | None = None,
    *,
    count: int | None = None,
) -> CameraTrajectory:
    """The ego trajectory of a released meta.json. A moving exo camera's poses follow the same
    frames.

    Raises:
        EgoXInputError: no ego poses, shorter than the frames in use.
    """
    if meta.ego_extrinsics is None:
        raise EgoXInputError(
            f"take {meta.name}",
            got="no ego_extrinsics",
            expected="one w2c per frame",
            fix="add them, or make a path",
        )
    if (
        not meta.pose_source
    ):  # those that were made with this pack reach to the last frame that was in use
        check_same_count(
            f"ego poses of {meta.name}",
            len(meta.ego_extrinsics),
            frames,
            "give poses of this very video: one for each of its frames; poses with times (trajectory "
            "JSON) may have another rate",
        )
    numbers = (
        None
        if meta.camera_extrinsics is None
        else torch.arange(len(meta.camera_extrinsics))[:count]
    )
    return PoseTrack.numbered(meta.ego_extrinsics, f"ego_extrinsics of {meta.name}").trajectory(
        meta.ego_camera or camera,
        frames,
        count=count,
        exo_w2c=exo_poses(meta, frames, numbers),
        exo_camera=meta.exo_camera,
    )
