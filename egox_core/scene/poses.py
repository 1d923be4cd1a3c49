"""Poses of exo and ego camera in a scene's frame."""

from torch import Tensor

from ..cameras import compose, invert, pose_of_frame, validate_w2c
from ..errors import EgoXInputError
from ..types import CameraTrajectory, PointCloud
from .moving_camera import is_moving


def ego_from_scene(scene: PointCloud, trajectory: CameraTrajectory) -> Tensor:  # [T, 3, 4] float64
    """From the scene's frame to the ego camera's, for each frame of the scene.

    Raises:
        EgoXInputError: fewer poses than frames, a scene in the frame of an exo camera that moves.
    """
    w2c = validate_w2c(trajectory.w2c, "ego extrinsics")
    if w2c.ndim == 2:
        w2c = w2c.expand(scene.frame_count, 3, 4)
    if len(w2c) < scene.frame_count:
        raise EgoXInputError(
            "ego trajectory",
            got=f"{len(w2c)} poses for {scene.frame_count} frames",
            expected="a pose for every frame in use",
            fix="use fewer frames, or give a longer trajectory",
        )
    w2c = w2c[: scene.frame_count]
    if scene.frame == "world" or trajectory.exo_w2c is None:
        return w2c
    exo_w2c = validate_w2c(trajectory.exo_w2c, "exo extrinsics of the trajectory")
    if is_moving(exo_w2c):
        raise EgoXInputError(
            "scene of a moving exo camera",
            got="a scene in the exo camera's frame",
            expected="a scene in the world's frame",
            fix="give the exo poses (of meta.json) to stages.align, so that the scene is built in "
            "the world",
        )
    return compose(w2c, invert(pose_of_frame(exo_w2c, 0)))


def scene_rest(
    scene: PointCloud,
) -> Tensor:  # [3, 4] float64, upright camera axes, w2c in the scene's frame
    """Rest pose of a path without keyframes.

    It is at the exo camera and looks as that does in the first frame.
    """
    pose = scene.exo_from_scene.reshape(-1, 3, 4)[0].double()
    return scene.exo_camera.upright_poses(pose)
