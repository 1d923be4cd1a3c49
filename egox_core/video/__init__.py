"""Frames of video files, and the choice of frames that depth and poses follow.

In: a file (or frames in memory) and how many frames to take from where, at which rate and size.
Out: :class:`VideoInfo`, :class:`~egox_core.types.FrameSelection`, frames [T,
H, W, 3] uint8, their sound; pictures redrawn for another lens; several videos in one, each under
its name."""

from typing import TYPE_CHECKING

from ..doors import door

if TYPE_CHECKING:
    from .audio import Sound as Sound
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
        lens_circle as lens_circle,
        pinhole_camera as pinhole_camera,
        reproject as reproject,
        undistorted_camera as undistorted_camera,
    )
    from .selection import (
        VideoInfo as VideoInfo,
        camera_of_frames as camera_of_frames,
        select_frames as select_frames,
        source_rectangle as source_rectangle,
        uneven_times as uneven_times,
    )

__getattr__, __dir__ = door(__name__, __file__)
