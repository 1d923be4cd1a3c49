"""Read and write camera paths as files of other programs, and as our own JSON.

In: a file of COLMAP, Blender, Nuke, TUM, GVHMR or OmniCam, a meta.json, keyframes or our own JSON;
or a path to write. Out: :class:`~egox_core.types.CameraTrajectory`, :class:`CameraFile`, keyframe
documents, files.
"""

from .camera_files import CameraFile
from .paths import export_path, import_path, trajectory_of_keyframes
from .trajectory_files import read_trajectory, times_of_path, write_trajectory
