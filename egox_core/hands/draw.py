"""Draw hands into the ego view as shaded capsules along the bones, hidden behind nearer
surfaces."""

import torch
from torch import Tensor

from ..arrays import as_tensor
from ..frame_store import store_frames
from ..progress import Progress, no_progress
from ..types import CameraTrajectory
from .track import BONES, HandTrack

CAPSULES = torch.tensor([*BONES, (1, 5), (5, 9), (9, 13), (13, 17)])  # between the last: the palm
RADII = torch.tensor(
    [0.014 if start == 0 else 0.011 if end < 5 else 0.009 for start, end in BONES] + [0.014] * 4
)
"""Metres, of each capsule: the palm's, the thumb's, the fingers'."""
COLOURS = torch.tensor([[0.93, 0.62, 0.45], [0.45, 0.66, 0.93]])
"""Left and right, 0...1."""
AMBIENT = 0.3
DEPTH_MARGIN_M = 0.03
"""Depth before a capsule up to which it is still drawn: exo's own points of the same hand."""


def draw_hands(
    track: HandTrack,
    trajectory: CameraTrajectory,
    depth_m: Tensor | None = None,  # [T, H, W] ego z depth of the scene, NaN where nothing is
    *,
    progress: Progress = no_progress,
) -> tuple[Tensor, Tensor]:  # [T, H, W, 3] float32 0...1, black without a hand; [T, H, W] 0 or 1
    """Draw the valid hands as the ego camera sees them, upright and lit from the eye.

    Raises:
        EgoXInputError: a path or depth of other frames or of another size.
    """
    camera = trajectory.ego.camera.upright()
    width, height = camera.stored_size
    trajectory.check_moments(track.frames, "hands")
    joints = track.in_head(trajectory)[0].float()
    if depth_m is not None:
        as_tensor(depth_m, "depth of the ego view", len(track), height, width)
    rays, in_lens = camera.pixel_rays()
    rays = rays.reshape(-1, 3)
    in_lens_flat = in_lens.reshape(-1)

    def draw_frame(t: int) -> Tensor:  # [H, W, 4] colours and mask
        picture = torch.zeros(len(rays), 4)
        nearest = torch.full_like(rays[:, 0], torch.inf)  # along the rays: some look backwards
        if depth_m is not None:
            scene_distance = (depth_m[t].flatten().float() + DEPTH_MARGIN_M) / rays[:, 2].clamp_min(
                1e-6
            )
            nearest = scene_distance.nan_to_num(torch.inf)
        for hand in track.valid[t].nonzero()[:, 0]:
            pixels = rays_near_hand(rays, joints[t, hand]) & in_lens_flat
            hit_distances, shade = cast_capsules(rays[pixels], joints[t, hand])
            visible_mask = hit_distances < nearest[pixels]
            pixel_numbers = pixels.nonzero()[visible_mask, 0]
            picture[pixel_numbers, :3] = shade[visible_mask, None] * COLOURS[hand]
            picture[pixel_numbers, 3] = 1.0
            nearest[pixel_numbers] = hit_distances[visible_mask]
        progress(t + 1, len(track), "hands")
        return picture.reshape(height, width, 4)

    pictures = store_frames((draw_frame(t) for t in range(len(track))), len(track))
    return pictures[..., :3], pictures[..., 3]


def rays_near_hand(rays: Tensor, joints: Tensor) -> Tensor:  # [N, 3], [21, 3] -> [N] bool
    """Mark the rays that hit the sphere around a hand."""
    hand_centre = joints.mean(0)
    radius = (joints - hand_centre).norm(dim=-1).max() + RADII.max()
    return rays @ hand_centre > (hand_centre.square().sum() - radius**2).clamp_min(0).sqrt()


def cast_capsules(
    rays: Tensor,  # [N, 3] unit, from the eye
    joints: Tensor,  # [21, 3] metres, the eye's frame
) -> tuple[Tensor, Tensor]:  # [N] metres along the ray, infinite without a hit; [N] 0...1
    """Find the first hit of each ray with a hand's capsules, and the skin's brightness there."""
    start, end = joints[CAPSULES.T]
    axis = end - start
    length2 = axis.square().sum(-1).clamp_min(1e-9)
    ray_along_axis = rays @ axis.T
    to_start = rays @ start.T
    offset = (axis * start).sum(-1)
    # The body: where the ray is a radius off the axis, between both ends.
    coefficient_a = length2 - ray_along_axis.square()
    coefficient_b = ray_along_axis * offset - length2 * to_start
    coefficient_c = length2 * (start.square().sum(-1) - RADII.square()) - offset.square()
    discriminant = coefficient_b.square() - coefficient_a * coefficient_c
    body_distance = (-coefficient_b - discriminant.sqrt()) / coefficient_a.clamp_min(1e-12)
    axis_position = ray_along_axis * body_distance - offset
    distances = torch.where(
        (discriminant > 0) & (axis_position > 0) & (axis_position < length2),
        body_distance,
        torch.inf,
    )
    for centre in (start, end):
        centre_along = rays @ centre.T
        discriminant = centre_along.square() - centre.square().sum(-1) + RADII.square()
        distances = distances.minimum(
            torch.where(discriminant > 0, centre_along - discriminant.sqrt(), torch.inf)
        )
    distances, capsules = torch.where(distances > 0, distances, torch.inf).min(1)
    hit_points = rays * distances.nan_to_num(posinf=0.0)[:, None]
    from_start = hit_points - start[capsules]
    bone = axis[capsules]
    bone_position = (from_start * bone).sum(-1) / length2[capsules]
    normal = (from_start - bone_position.clamp(0, 1)[:, None] * bone) / RADII[capsules, None]
    facing = -(normal * rays).sum(-1).clamp(-1, 0)
    return distances, AMBIENT + (1 - AMBIENT) * facing
