"""Assign depth maps, poses or masks of a file to the frames of a source video.

In: what a reader says of its entries (:class:`Numbering`), and the frames in use. Out: the entry of
each frame, and one remark that names the reading; or one refusal that says what to declare.
"""

from ..choices import FILE_FRAMES, FileFrames
from .frames import UNTIMED_FPS, Clock, Frames
from .names import numbered_files
from .numbers import TIME_UNITS_S, Placed, find_moments, states_moments
from .rule import Numbering, covered_part, entries_of, settle_frames
