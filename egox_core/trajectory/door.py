"""The names that trajectory hands out."""

from .gravity import down_axis as down_axis
from .head_evidence import ExoView as ExoView
from .head_payloads import OPENPOSE_POINTS as OPENPOSE_POINTS
from .head_points import HeadPoints as HeadPoints
from .head_pose import HeadReport as HeadReport, estimate_head as estimate_head
from .head_sources import joined_points as joined_points
from .head_template import HEAD_HALF as HEAD_HALF, POINTS as POINTS, worn_points as worn_points
from .keyframe_fit import ClipMoments as ClipMoments, keyframes_of_path as keyframes_of_path
from .keyframes import (
    OWN_BODY_M as OWN_BODY_M,
    check_made_on as check_made_on,
    direction as direction,
    keyframe_track as keyframe_track,
    with_looks as with_looks,
)
from .path import (
    PoseTrack as PoseTrack,
    adapted as adapted,
    flags_at as flags_at,
    trajectory_of_array as trajectory_of_array,
)
from .poses import (
    camera_centre as camera_centre,
    compose as compose,
    invert as invert,
    look_at as look_at,
    pose_of_frame as pose_of_frame,
    transform as transform,
    validate_w2c as validate_w2c,
)
