"""The names that scene hands out."""

from .build import build_scene as build_scene
from .exo_motion import AGREES_PX as AGREES_PX, estimate_exo_motion as estimate_exo_motion
from .fusion import fuse_scenes as fuse_scenes
from .moving_camera import is_moving as is_moving
from .own_take import STRANGE as STRANGE
from .poses import ego_from_scene as ego_from_scene, scene_rest as scene_rest
from .surface import lift as lift
from .viewer import viewer_camera as viewer_camera, viewer_ply as viewer_ply, write_ply as write_ply
