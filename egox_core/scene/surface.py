"""Lift a depth map to points, each with the orientation and size of its surface patch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..cameras import invert, transform
from ..frame_store import drop_pages
from ..frozen import frozen
from ..sizes import REFERENCE_SIZE
from ..types import DepthVideo, PointSet
from .edges import depth_edge, depth_range, stray_step

MAX_EDGE = 0.3
"""Relative depth step from which a pixel of a scene that hangs between two surfaces is left out;
rendering filters finer."""
MAX_STEP = 0.03
"""Relative depth step up to which two neighbouring pixels are on one surface in any case."""
MAX_STEP_RATIO = 3
"""A larger step crosses an edge if it is over this many times the surface's next one."""
COARSE_STRIDE = 2
"""The released renderer takes every second sample each way of a picture of the reference height."""


def depth_steps(
    depth_m: Tensor,  # [H, W] z depth, NaN invalid
    axis: int,  # 0 downwards, 1 rightwards
) -> Tensor:  # [H, W] metres a pixel; 0 where neither neighbour is valid
    """Compute the depth change to the next pixel along ``axis``, without steps across depth edges.

    At a depth edge one side belongs to another surface, so the smaller of the two one-sided
    steps is the patch's own. Where both agree, their mean halves the noise. A strip of one pixel
    has an edge on both sides, or an edge and unknown depth, and no step of its own.
    """
    depth_change = torch.diff(depth_m, dim=axis)
    unknown_step = torch.full_like(depth_m.narrow(axis, 0, 1), float("nan"))
    forward = torch.cat((depth_change, unknown_step), dim=axis)
    backward = torch.cat((unknown_step, depth_change), dim=axis)
    forward = _without_edges(forward, forward.roll(-1, dims=axis), depth_m)
    backward = _without_edges(backward, backward.roll(1, dims=axis), depth_m)
    step = torch.where(torch.isnan(backward) | (forward.abs() <= backward.abs()), forward, backward)
    smaller_step, larger_step = torch.minimum(forward, backward), torch.maximum(forward, backward)
    agree_mask = (smaller_step * larger_step > 0) & (
        torch.maximum(smaller_step.abs(), larger_step.abs())
        <= 2 * torch.minimum(smaller_step.abs(), larger_step.abs())
    )
    return torch.where(agree_mask, 0.5 * (forward + backward), step).nan_to_num(0.0)


def _without_edges(step: Tensor, next_step: Tensor, depth_m: Tensor) -> Tensor:  # [H, W], all
    """Replace steps by NaN where they are large and the surface behind them doesn't continue
    them."""
    is_large = step.abs() > MAX_STEP * depth_m
    is_continued = step.abs() <= MAX_STEP_RATIO * next_step.abs()
    return torch.where(is_large & ~is_continued, torch.nan, step)


def surface_steps(
    depth_m: Tensor,  # [H, W] z depth, NaN invalid
    rays: Tensor,  # [H, W, 3] of :meth:`CameraModel.depth_rays`
) -> Tensor:  # [H, W, 3, 2] metres, exo frame
    """Compute the vectors along the surface to the next pixel, to the right and downwards."""
    return torch.stack(
        [
            _ray_steps(rays, axis) * depth_m[..., None]
            + rays * depth_steps(depth_m, axis)[..., None]
            for axis in (1, 0)
        ],
        dim=-1,
    )


def lift(
    # [H, W] float32 z depth of the whole picture, metres, NaN invalid: edges need the surroundings
    depth_m: Tensor,
    rgb: Tensor,  # [H, W, 3] uint8
    keep: Tensor,  # [H, W] bool; invalid depth is left out in any case
    rays: Tensor,  # [H, W, 3] of :meth:`CameraModel.depth_rays`
    *,
    # Pose [3, 4] float64 from the exo camera to the scene's frame; None: they are the same.
    frame_from_exo: Tensor | None = None,
    # Number of the moving object [H, W] int16; None: 0 everywhere (static).
    instance: Tensor | None = None,
    # Pixels that hang between surfaces by a larger relative step are left out.
    max_edge: float = float("inf"),
) -> PointSet:
    """Lift the pixels marked by ``keep`` to points with colour, edge strength and surface patch.

    Each has its edge, its stray step and its patch of surface.
    """
    edge, stray, range_map = depth_edge(depth_m), stray_step(depth_m), depth_range(depth_m)
    keep = keep & torch.isfinite(depth_m) & torch.isfinite(rays[..., 2]) & (stray <= max_edge)
    rows, cols = keep.nonzero(as_tuple=True)
    if not len(rows):
        return PointSet.empty()
    # Steps reach one pixel far: a few moving points need no whole picture.
    top = max(0, int(rows[0]) - 1)
    left = max(0, int(cols.min()) - 1)
    box_slices = (slice(top, int(rows[-1]) + 2), slice(left, int(cols.max()) + 2))
    xyz = rays[rows, cols] * depth_m[rows, cols, None]
    steps = surface_steps(depth_m[box_slices], rays[box_slices])[rows - top, cols - left]
    if frame_from_exo is not None:
        # float64 keeps millimetres in worlds whose origin is kilometres away.
        xyz = transform(frame_from_exo, xyz.double()).float()
        steps = frame_from_exo[:, :3].float() @ steps
    stride = max(1, round(COARSE_STRIDE * depth_m.shape[0] / REFERENCE_SIZE))
    instance = torch.zeros_like(rows) if instance is None else instance[rows, cols]
    return PointSet(
        xyz=xyz,
        rgb=rgb[rows, cols],
        steps=steps,
        edge=edge[rows, cols],
        stray=stray[rows, cols],
        depth_range=range_map[rows, cols],
        instance=instance.to(torch.int16),
        coarse=(rows % stride == 0) & (cols % stride == 0),
    )


@frozen
class ClipFrames:
    """Frames of a clip with their depth, which are lifted to points in the scene's frame."""

    rgb: Sequence[Tensor] | Tensor  # T of [H, W, 3], 0...1 or uint8
    depth: DepthVideo
    rays: Tensor  # [H, W, 3] of :meth:`CameraModel.depth_rays`

    def lift(
        self,
        # The frame whose exo pose applies.
        frame: int,
        depth_m: Tensor,  # [H, W]
        rgb: Tensor,  # [H, W, 3] uint8
        keep: Tensor,  # [H, W] bool
        instance: Tensor | None = None,  # [H, W] int16
        max_edge: float = MAX_EDGE,
    ) -> PointSet:
        """Lift one frame's depth map to points in the scene's frame, by that frame's exo pose."""
        exo = self.depth.exo
        return lift(
            depth_m,
            rgb,
            keep,
            self.rays,
            max_edge=max_edge,
            instance=instance,
            frame_from_exo=None if exo.at_origin else invert(exo.at(frame)),
        )

    def release(self) -> None:
        """Drop the mapped files' pages from memory, so that memory does not grow with the clip."""
        for frames in (self.rgb, self.depth.depth_m, self.depth.dynamic, self.depth.sky):
            if isinstance(frames, Tensor):
                drop_pages(frames)


def _ray_steps(rays: Tensor, axis: int) -> Tensor:
    """Compute the ray's change to the next pixel along ``axis``, [H, W, 3], by finite
    differences."""
    size = rays.shape[axis]
    if size < 2:
        return torch.zeros_like(rays)
    inner_steps = 0.5 * (rays.narrow(axis, 2, size - 2) - rays.narrow(axis, 0, size - 2))
    first_step = rays.narrow(axis, 1, 1) - rays.narrow(axis, 0, 1)
    last_step = rays.narrow(axis, size - 1, 1) - rays.narrow(axis, size - 2, 1)
    return torch.cat((first_step, inner_steps, last_step), dim=axis).nan_to_num(0.0)
