"""The plain twin of ``egox_core/hands/draw.py``: every pixel's ray walks until it is at a bone.

Same signature, same meaning; the tests hold the fast path to it.
"""

import torch
from torch import Tensor

from egox_core.hands import HandTrack
from egox_core.hands.draw import AMBIENT, CAPSULES, COLOURS, RADII, SKIN_M
from egox_core.types import CameraTrajectory

STEPS, TOUCH_M = 80, 1e-6


def draw_hands_reference(
    track: HandTrack, trajectory: CameraTrajectory, depth_m: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As :func:`hands.draw_hands`; checks nothing."""
    camera = trajectory.camera.upright()
    rays, in_lens = camera.pixel_rays(torch.float64)
    joints = track.in_head(trajectory)[0]
    pictures = torch.zeros(len(track), *rays.shape)
    masks = torch.zeros(pictures.shape[:3])
    for t in range(len(track)):
        nearest = torch.full(in_lens.shape, torch.inf, dtype=torch.float64)
        if depth_m is not None:
            nearest = (depth_m[t].double() + SKIN_M).nan_to_num(torch.inf)
        for hand in track.valid[t].nonzero()[:, 0].tolist():
            far = torch.zeros_like(nearest)
            for _ in range(STEPS):
                skin, normal = _skin(rays * far[..., None], joints[t, hand])
                far = (far + skin).clamp_max(9.0)
            seen = in_lens & (skin.abs() < TOUCH_M) & (far * rays[..., 2] < nearest)
            facing = -(normal * rays).sum(-1).clamp(-1, 0)
            shade = (AMBIENT + (1 - AMBIENT) * facing)[..., None].float()
            pictures[t][seen] = (shade * COLOURS[hand])[seen]
            masks[t][seen] = 1.0
            nearest = torch.where(seen, far * rays[..., 2], nearest)
    return pictures, masks


def _skin(points: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of points [H, W, 3] from the skin, and the way out of it there."""
    distance, way = torch.full(points.shape[:2], torch.inf, dtype=points.dtype), points
    for (a, b), radius in zip(CAPSULES, RADII.double(), strict=True):
        axis = joints[b] - joints[a]
        share = ((points - joints[a]) @ axis / (axis @ axis)).clamp(0, 1)
        out = points - joints[a] - share[..., None] * axis
        off = out.norm(dim=-1) - radius
        way = torch.where((off < distance)[..., None], out / (off + radius)[..., None], way)
        distance = distance.minimum(off)
    return distance, way
