"""Bring the ego camera into a scene's world."""

from dataclasses import replace

from ..cameras import CameraPath, validate_w2c
from ..types import CameraTrajectory, PointCloud


def ego_in_scene(scene: PointCloud, trajectory: CameraTrajectory) -> CameraPath:
    """Transform the ego camera into the scene's world, with a pose for each of the scene's frames.

    Raises:
        EgoXInputError: fewer poses than frames, a path that can't be tied to the scene.
    """
    ego = trajectory.in_world_of(scene.exo).ego
    poses = ego.poses(scene.frame_count, "ego trajectory")
    return replace(ego, w2c=validate_w2c(poses, "ego extrinsics"), frames=scene.frames)
