"""Interpolate, smooth and edit camera paths, and estimate the wearer's head path from keypoints.

In: ``w2c`` [3, 4] or [T, 3, 4] (X_cam = R X_world + t, metres), moments in frames or seconds,
keyframe documents, keypoints of detectors. Out: :class:`PoseTrack` (poses at known moments), poses
at other moments, :class:`.head_pose.HeadPath`, :class:`~egox_core.types.CameraTrajectory`.
"""

from .declared import taken_facts, with_declared_mount, with_declared_world
from .gravity import Up, find_up, up_of_scene
from .head_evidence import ExoView
from .head_payloads import OPENPOSE_POINTS
from .head_points import HeadPoints
from .head_pose import HeadReport, estimate_head
from .head_sources import joined_points
from .head_template import HEAD_HALF, POINTS, worn_points
from .keyframe_fit import keyframes_of_path
from .keyframes import (
    OWN_BODY_M,
    check_made_on,
    direction,
    has_w2c,
    keyframe_track,
    of_any_sensor,
    turn_to_looks,
)
from .path import (
    FramesBeyondTrack,
    PoseTrack,
    adapted,
    flags_at,
    placed_track,
    resample,
    trajectory_of_array,
)
