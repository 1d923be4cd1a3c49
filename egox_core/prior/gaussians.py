"""Convert what the ego camera sees to Gaussians, for renderers that have one camera for all
frames."""

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from ..cameras import compose, invert, transform
from ..scene import Gaussians, ego_in_scene, point_gaussians, viewer_fov_deg
from ..types import CameraTrajectory, PointCloud, PointSet
from .drawing import MIN_Z_M, NEAR_M
from .options import CLEAN, PriorOptions
from .render import reliable_points, visible_points


def iter_ego_gaussians(
    scene: PointCloud, trajectory: CameraTrajectory, options: PriorOptions = CLEAN
) -> Iterator[Gaussians]:
    """Convert the points that the ego camera sees in each frame to flat Gaussians.

    They are placed so that the camera of :func:`~egox_core.scene.viewer_camera`, which is the ego
    camera of frame 0, sees in every set what the ego camera sees in that frame.

    Raises:
        EgoXInputError: fewer poses than frames, a path that can't be tied to the scene.
    """
    # A patch of every second sample would leave gaps.
    options = replace(options, coarse=False)
    ego = ego_in_scene(scene, trajectory)
    static = scene.mean_background() if options.static == "mean" else scene.static
    static = reliable_points(static, options)
    upright = ego.upright
    exo_from_first_ego = compose(scene.exo.at(0), invert(upright.at(0)))
    half_width = math.tan(math.radians(viewer_fov_deg(ego.camera.upright())) / 2)
    for frame in range(scene.frame_count):
        points = visible_points(
            static, scene, frame, ego.at(frame), ego.camera.quarter_turns, options
        )
        ego_from_scene = upright.at(frame).to(points.xyz.device)
        near_m = NEAR_M * options.scene_scale
        points = points.select(_in_view(points, ego_from_scene, half_width, near_m))
        yield point_gaussians(points, compose(exo_from_first_ego, upright.at(frame)))


def _in_view(
    points: PointSet,
    ego_from_points: Tensor,  # [3, 4] float64
    half_width: float,  # of the picture at a distance of 1
    near_m: float,
) -> Tensor:  # [N] bool
    """Check which points have a part of their patch in the ego camera's picture."""
    xyz = transform(ego_from_points.float(), points.xyz)
    patch_m = points.steps.norm(dim=1).sum(-1)
    in_front = (xyz[:, 2] > MIN_Z_M) & (xyz.norm(dim=-1) > near_m)
    return in_front & (xyz[:, :2].abs().amax(-1) - patch_m < half_width * xyz[:, 2])
