"""From a depth map to points: each pixel becomes a small patch of surface, placed and oriented in the scene."""

from __future__ import annotations

import torch
from torch import Tensor

from .cameras import CameraModel, pixel_rays
from .poses import transform
from .types import PointSet


def depth_rays(camera: CameraModel, device: torch.device | str = "cpu") -> Tensor:
    """Rays of every stored pixel scaled to z = 1, so that ray x z depth is the point.

    Returns:
        [H, W, 3] float32 in the camera's frame; NaN outside the lens' valid angle and at 90 degrees or more, where
        z depth says nothing.
    """
    rays, valid = pixel_rays(camera, dtype=torch.float64, device=device)
    z = rays[..., 2:]
    rays = rays / z.clamp_min(1e-6)
    return torch.where(valid[..., None] & (z > 1e-3), rays, torch.full_like(rays, float("nan"))).float()


def depth_steps(depth_m: Tensor, axis: int) -> Tensor:
    """Depth change to the next sample along ``axis``, taken from the side on which the surface goes on.

    At a depth edge one side belongs to another surface; the smaller of the two one-sided steps is the patch's own.

    Args:
        depth_m: [H, W] z depth, NaN invalid.
        axis: 0 downwards, 1 rightwards.

    Returns:
        [H, W], metres a pixel; 0 where neither neighbour is valid.
    """
    change = torch.diff(depth_m, dim=axis)
    gap = torch.full_like(depth_m.narrow(axis, 0, 1), float("nan"))
    forward = torch.cat((change, gap), dim=axis)
    backward = torch.cat((gap, change), dim=axis)
    use_forward = torch.isnan(backward) | (forward.abs() <= backward.abs())
    both = torch.isfinite(forward) & torch.isfinite(backward)
    # On a smooth surface the mean halves the noise of the slope; where the sides disagree one of them jumps.
    smooth = both & ((forward - backward).abs() <= forward.abs() + backward.abs()) & (forward * backward > 0)
    smooth &= torch.maximum(forward.abs(), backward.abs()) <= 2 * torch.minimum(forward.abs(), backward.abs())
    step = torch.where(use_forward, forward, backward)
    return torch.where(smooth, 0.5 * (forward + backward), step).nan_to_num(0.0)


def lift(depth_m: Tensor, rgb: Tensor, keep: Tensor, edge: Tensor, rays: Tensor, *,
         frame_from_exo: Tensor | None = None, instance: Tensor | None = None) -> PointSet:
    """Points of the pixels in ``keep``.

    Args:
        depth_m: [H, W] float32 z depth, metres, NaN invalid.
        rgb: [H, W, 3] uint8.
        keep: [H, W] bool; invalid depth is left out whatever it says.
        edge: [H, W] float32 of :func:`depth_edges.depth_edge`.
        rays: [H, W, 3] of :func:`depth_rays`.
        frame_from_exo: [3, 4] float64 from the exo camera into the scene's frame; None: that frame is the scene's.
        instance: [H, W] int16 numbers of moving objects; None: all 0 (static).
    """
    keep = keep & torch.isfinite(depth_m) & torch.isfinite(rays[..., 2])
    rows, cols = keep.nonzero(as_tuple=True)
    z = depth_m[rows, cols]
    ray = rays[rows, cols]
    xyz = ray * z[:, None]
    steps = torch.stack([_step(depth_m, rays, rows, cols, z, ray, axis) for axis in (1, 0)], dim=-1)
    if frame_from_exo is not None:
        # Subtracting in float64 keeps millimetres in worlds whose origin is kilometres away.
        xyz = transform(frame_from_exo, xyz.double()).float()
        steps = frame_from_exo[:, :3].float() @ steps
    number = torch.zeros_like(rows) if instance is None else instance[rows, cols]
    return PointSet(xyz=xyz, rgb=rgb[rows, cols], steps=steps, edge=edge[rows, cols].float(),
                    instance=number.to(torch.int16))


def _step(depth_m: Tensor, rays: Tensor, rows: Tensor, cols: Tensor, z: Tensor, ray: Tensor, axis: int) -> Tensor:
    """Along the surface to the next sample: ray' z + ray z' (product rule), [N, 3]."""
    size = depth_m.shape[axis]
    index = (rows, cols)[axis]
    after, before = (index + 1).clamp_max(size - 1), (index - 1).clamp_min(0)
    at = (lambda i: rays[i, cols]) if axis == 0 else (lambda i: rays[rows, i])
    ray_step = (at(after) - at(before)) / (after - before).clamp_min(1)[:, None]
    ray_step = ray_step.nan_to_num(0.0)
    return ray_step * z[:, None] + ray * depth_steps(depth_m, axis)[rows, cols][:, None]


def no_points(device: torch.device | str = "cpu") -> PointSet:
    """The empty set."""
    return PointSet(
        xyz=torch.empty(0, 3, device=device), rgb=torch.empty(0, 3, dtype=torch.uint8, device=device),
        steps=torch.empty(0, 3, 2, device=device), edge=torch.empty(0, device=device),
        instance=torch.empty(0, dtype=torch.int16, device=device),
    )
