"""Frames of video files, and the choice of frames that depth and poses follow.

In: a file (or frames in memory) and how many frames to take from where, at which rate and size.
Out: :class:`VideoInfo`, :class:`~egox_core.types.FrameSelection`, frames [T,
H, W, 3] uint8, their sound; pictures redrawn for another lens; several videos in one, each under
its name."""

from .audio import Sound, read_sound
from .reader import probe_video, read_frames
from .reprojection import reproject
from .selection import VideoInfo, select_frames
