"""SE(3) poses and paths: validated, composed, interpolated, set by hand or estimated from a head's points. No files.

In: ``w2c`` [3, 4] or [T, 3, 4] (X_cam = R X_world + t, metres), moments in frames or seconds, keyframe documents,
keypoints of detectors. Out: :class:`PoseTrack` (poses at known moments), poses at other moments, :class:`HeadPath`,
:class:`~egox_core.types.CameraTrajectory`.
"""

from .head_points import HeadPoints
from .head_pose import HeadPath, HeadReport, estimate_head
from .head_sources import HEAD_SOURCES, joined_points, lens_note
from .head_template import head_trajectory
from .keyframes import keyframe_track
from .path import PoseTrack, interpolate_poses, trajectory_from_track
from .poses import camera_centre, compose, invert, look_at, validate_w2c
