"""Camera paths as files of other programs, and as our own: read, told apart, written.

In: a file of COLMAP, Blender, Nuke, TUM, GVHMR or OmniCam, a meta.json, keyframes or our own JSON; or a
path to write. Out: :class:`~egox_core.types.CameraTrajectory`, :class:`ExoPath`, keyframe documents, files.
"""

from .blender import write_blender
from .colmap import write_colmap
from .exo_paths import ExoPath
from .paths import export_path, import_path
from .trajectory_files import read_trajectory, write_trajectory
