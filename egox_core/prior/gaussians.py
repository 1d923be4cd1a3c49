"""Convert what the ego camera sees to Gaussians, for renderers that have one camera for all
frames."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..cameras import compose, invert, transform
from ..scene import Gaussians, ego_in_scene, point_gaussians, viewer_fov_deg
from ..sizes import REFERENCE_SIZE
from ..types import CameraTrajectory, PointCloud, PointSet
from .drawing import MIN_Z_M, NEAR_M
from .options import CLEAN, PriorOptions
from .render import reliable_points, visible_points
from .splat_points import MAX_SIZE_PX


def iter_ego_gaussians(
    scene: PointCloud, trajectory: CameraTrajectory, options: PriorOptions = CLEAN
) -> Iterator[Gaussians]:
    """Convert the points that the ego camera sees in each frame to flat Gaussians.

    They are placed so that the camera of :func:`~egox_core.scene.viewer_camera`, which is the ego
    camera of frame 0, sees in every set what the ego camera sees in that frame. A Gaussian fades
    out over the length of its patch, where the prior's patch has a hard end. So large patches are
    divided, into parts as wide as the widest gap that the prior fills: smaller ones would show
    gaps that the prior doesn't.

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
    part_px = 2 * options.gap_px
    part_width = part_px / REFERENCE_SIZE * 2 * half_width
    most_parts = round(MAX_SIZE_PX / part_px)
    for frame in range(scene.frame_count):
        points = visible_points(
            static, scene, frame, ego.at(frame), ego.camera.quarter_turns, options
        )
        ego_from_scene = upright.at(frame).to(points.xyz.device)
        near_m = NEAR_M * options.scene_scale
        points = points.select(_in_view(points, ego_from_scene, half_width, near_m))
        part_counts = (_step_widths(points, ego_from_scene) / part_width).ceil()
        points = divide_patches(points, part_counts.clamp(1, most_parts).long())
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


def _step_widths(
    points: PointSet,
    ego_from_points: Tensor,  # [3, 4] float64
) -> Tensor:  # [N, 2] in the picture at a distance of 1
    """Compute how wide the ego camera sees the step to the next sample, rightwards and downwards in
    exo."""
    xyz = transform(ego_from_points.float(), points.xyz)
    next_samples = xyz[..., None] + ego_from_points[:, :3].float() @ points.steps
    plane_points, next_plane_points = (
        samples[:, :2] / samples[:, 2:].clamp_min(MIN_Z_M)
        for samples in (xyz[..., None], next_samples)
    )
    return (next_plane_points - plane_points).norm(dim=1)


def divide_patches(
    points: PointSet,
    part_counts: Tensor,  # [N, 2] int64, at least 1: along the steps rightwards and downwards
) -> PointSet:
    """Divide each patch into equal parts of its colour, which are as many points."""
    part_totals = part_counts.prod(dim=-1)
    patch_numbers = torch.repeat_interleave(part_totals)
    part_numbers = torch.arange(len(patch_numbers), device=patch_numbers.device)
    part_numbers -= (part_totals.cumsum(0) - part_totals)[patch_numbers]
    part_counts = part_counts[patch_numbers]
    columns, rows = part_numbers % part_counts[:, 0], part_numbers // part_counts[:, 0]
    offsets = (torch.stack((columns, rows), dim=-1) + 0.5) / part_counts - 0.5  # in steps
    parts = points.select(patch_numbers)
    return replace(
        parts,
        xyz=parts.xyz + (parts.steps @ offsets[..., None])[..., 0],
        steps=parts.steps / part_counts[:, None],
    )
