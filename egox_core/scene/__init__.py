"""Scenes: points in space from an exo video and its depth. Needs no ego pose.

In: exo frames [T, H, W, 3] and a :class:`~egox_core.types.DepthVideo` of metric z depth. Out: a
:class:`~egox_core.types.PointCloud`, static points and moving points per frame; several of them fused into one.
"""

from .build import build_scene
from .fusion import fuse_scenes
from .points import write_ply
