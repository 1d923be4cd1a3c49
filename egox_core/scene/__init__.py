"""Build scenes: points in space from an exo video and its depth, without any ego pose.

In: exo frames [T, H, W, 3] and a :class:`~egox_core.types.DepthVideo` of metric z depth. Out: a
:class:`~egox_core.types.PointCloud`, static points and moving points per frame; several of them
fused into one.
"""

from .build import build_scene
from .camera_motion import camera_motion, camera_moves
from .exo_motion import AGREES_PX, estimate_exo_motion
from .fusion import fuse_scenes
from .gaussians import Gaussians, point_gaussians, scene_gaussians
from .poses import ego_in_scene
from .surface import lift
from .viewer import viewer_camera, viewer_fov_deg, viewer_ply, write_ply
