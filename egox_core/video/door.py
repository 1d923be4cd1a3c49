"""The names that video hands out."""

from .clip import VideoClip as VideoClip, open_clip as open_clip
from .cuts import refuse_cuts as refuse_cuts
from .grid import (
    labelled_grid as labelled_grid,
    picture_row as picture_row,
    side_by_side as side_by_side,
)
from .reader import (
    VideoSource as VideoSource,
    decode_frames as decode_frames,
    fit_picture as fit_picture,
    open_video as open_video,
    probe_video as probe_video,
    read_frames as read_frames,
    resize_picture as resize_picture,
    video_mark as video_mark,
)
from .reprojection import (
    Undistortion as Undistortion,
    reproject as reproject,
    undistorted_camera as undistorted_camera,
)
from .selection import (
    VideoInfo as VideoInfo,
    select_frames as select_frames,
)
