"""The names that scene hands out."""

from .background import sample_frames as sample_frames
from .build import Moving as Moving, build_scene as build_scene
from .edges import RELEASED_RANGE as RELEASED_RANGE
from .exo_motion import (
    AGREES_PX as AGREES_PX,
    Motion as Motion,
    estimate_exo_motion as estimate_exo_motion,
)
from .fusion import fuse_scenes as fuse_scenes
from .moving_camera import is_moving as is_moving
from .own_take import STRANGE as STRANGE
from .poses import ego_from_scene as ego_from_scene, scene_rest as scene_rest
from .surface import lift as lift
from .viewer import viewer_camera as viewer_camera, viewer_ply as viewer_ply, write_ply as write_ply
