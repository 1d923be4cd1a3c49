"""Recordings on disk: frames, depth, exo camera, ego path; and the ego path written for other
programs.

In: a take folder, or a depth, meta.json or trajectory file, and the frames in use. Out:
:class:`Take`, :class:`~egox_core.types.DepthVideo`, :class:`~egox_core.types.TakeMeta`,
:class:`~egox_core.types.CameraTrajectory`, all for those frames. Files of bad content are
refused with :class:`~egox_core.errors.EgoXInputError`."""

from .blender import write_blender
from .colmap import write_colmap
from .depth_files import load_depth_file
from .depth_inputs import take_depth
from .meta import read_meta
from .take import Take, load_take
from .trajectory_files import read_trajectory, write_trajectory
