"""SE(3) poses and paths: validated, composed, interpolated, written by hand. No files.

In: ``w2c`` [3, 4] or [T, 3, 4] (X_cam = R X_world + t, metres), moments in frames or seconds, keyframe documents. Out:
:class:`PoseTrack` (poses at known moments), poses at other moments, :class:`~egox_core.types.CameraTrajectory`.
"""

from .keyframes import keyframe_track
from .path import PoseTrack, interpolate_poses, trajectory_from_track
from .poses import camera_centre, compose, invert, look_at, validate_w2c

__all__ = ["PoseTrack", "camera_centre", "compose", "interpolate_poses", "invert", "keyframe_track", "look_at",
           "trajectory_from_track", "validate_w2c"]
