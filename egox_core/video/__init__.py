"""Read frames and sound of videos, and choose the frames and the crop that depth and poses follow.

In: a file (or frames in memory) and how many frames to take from where, at which rate and size.
Out: :class:`VideoInfo`, :class:`~egox_core.types.FrameSelection`, frames [T,
H, W, 3] uint8, their sound; pictures redrawn for another lens; several videos in one, each under
its name."""

from .audio import host_sound
from .clip import VideoClip, open_clip
from .cuts import find_cuts, refuse_cuts
from .grid import exo_label, iter_side_by_side, labelled_grid, picture_row, side_by_side
from .probe import probe_video
from .reader import decode_frames, fit_picture, read_frames, resize_picture
from .reprojection import Undistortion, reproject, undistorted_camera
from .selection import VideoInfo, select_frames
from .source import VideoSource, open_video, video_mark
from .timing import frame_rate
from .tint import RELEASED_TINT, Tint, recolour
from .tracks import made_safe, real_tracks
