"""Build the scene: a static background fused over time and moving points per frame. Needs no ego pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frame_store import drop_pages
from ..progress import Progress, no_progress
from ..trajectory.poses import invert, pose_of_frame, validate_w2c
from ..types import DepthVideo, PointCloud, PointSet
from .background import StaticBackground, fuse_static, to_uint8
from .dynamic_mask import derive_dynamic, label_instances, unsteady_pixels
from .moving_camera import fuse_moving, is_moving
from .surface import depth_rays, lift, no_points

Moving = Literal["auto", "mask", "none"]
MOVING_CHOICES: tuple[Moving, ...] = ("auto", "mask", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions:
    """How a scene is built. Unknown names are refused by the dataclass itself."""

    dynamic: Moving = "auto"
    """What moves: the depth's dynamic mask or, without one, a derived one (auto); the mask alone (mask); nothing
    (none: everything is fused as static)."""
    max_edge: float = 0.3
    """Relative depth step from which a pixel that hangs between two surfaces is left out; rendering filters finer."""
    tolerance: float = 0.04
    """Relative depth difference within which two samples of a pixel show the same surface."""

    def __post_init__(self) -> None:
        if self.dynamic not in MOVING_CHOICES:
            raise EgoXInputError("scene option dynamic", got=repr(self.dynamic), expected="auto, mask or none",
                                 fix="choose one of them")
        for name in ("max_edge", "tolerance"):
            if not 0 < getattr(self, name) < float("inf"):
                raise EgoXInputError(f"scene option {name}", got=getattr(self, name), expected="a positive number",
                                     fix="leave the default")


class FrameMovingPoints:
    """Moving points of a fixed exo camera, lifted from the frame when asked for; holds views of the inputs only."""

    def __init__(self, frames: Sequence[Tensor] | Tensor, depth: DepthVideo, background: StaticBackground | None,
                 rays: Tensor, options: SceneOptions) -> None:
        self._frames, self._depth, self._background = frames, depth, background
        self._rays, self._options = rays, options

    def __len__(self) -> int:
        return len(self._depth.depth_m)

    def mask(self, frame: int) -> Tensor:
        """[H, W] bool: what moves in this frame."""
        depth_m = self._depth.depth_m[frame]
        if self._depth.dynamic is not None and self._options.dynamic in ("auto", "mask"):
            return self._depth.dynamic[frame].bool() & torch.isfinite(depth_m)
        if self._background is None or self._options.dynamic != "auto":
            return torch.zeros(depth_m.shape, dtype=torch.bool)
        return derive_dynamic(self._frames[frame], depth_m.float(), self._background)

    def __getitem__(self, frame: int) -> PointSet:
        release(self._frames, self._depth)  # what earlier frames read of mapped files
        mask = self.mask(frame)
        if not mask.any():
            return no_points()
        depth_m = self._depth.depth_m[frame].float()
        if self._depth.sky is not None:
            mask = mask & ~self._depth.sky[frame].bool()
        return lift(depth_m, to_uint8(self._frames[frame]), mask, self._rays, max_edge=self._options.max_edge,
                    frame_from_exo=frame_from_exo(self._depth.exo_w2c, frame), instance=label_instances(mask))


def release(frames: Sequence[Tensor] | Tensor, depth: DepthVideo) -> None:
    """Let the parts of mapped files that were read leave memory, so that its peak does not grow with the clip."""
    for part in (frames, depth.depth_m, depth.dynamic, depth.sky):
        if isinstance(part, Tensor):
            drop_pages(part)


def frame_from_exo(exo_w2c: Tensor | None, frame: int) -> Tensor | None:
    """[3, 4] float64 from the exo camera of one frame to the scene's frame; None: they are the same."""
    if exo_w2c is None:
        return None
    return invert(pose_of_frame(exo_w2c, frame))


def build_scene(exo_frames: Tensor, depth: DepthVideo, options: SceneOptions = SceneOptions(), *,  # noqa: B008 frozen
                progress: Progress = no_progress) -> PointCloud:
    """The scene of an exo clip.

    Args:
        exo_frames: [T, H, W, 3] float32 0...1 or uint8 (a memory-mapped tensor or a sequence of frames will do; only
            single frames are taken from it), the size of the depth maps.
        depth: its depth; with ``exo_w2c`` the scene's frame is "world", without it "exo".
        options: see :class:`SceneOptions`.
        progress: called per frame.

    Raises:
        EgoXInputError: sizes or counts that don't match, depth that is not metric, no valid depth, bad poses.
    """
    check_scene_input(exo_frames, depth)
    masked = _Masked(depth, options) if options.dynamic != "none" or depth.sky is not None else None
    rays, background, notes = depth_rays(depth.camera), None, ()
    if is_moving(depth.exo_w2c):
        static = fuse_moving(exo_frames, depth.depth_m, depth.camera, depth.exo_w2c, masked,
                             tolerance=options.tolerance, max_edge=options.max_edge, progress=progress)
        if options.dynamic == "auto" and depth.dynamic is None:
            notes = ("the exo camera moves and no dynamic mask is given: everything is taken for static; give a mask "
                     "(a SAM3 track) of what moves",)
    else:
        background = fuse_static(exo_frames, depth.depth_m, masked, tolerance=options.tolerance, progress=progress)
        if options.dynamic == "auto" and depth.dynamic is None:
            unsteady = unsteady_pixels(background)
            background = replace(background, depth_m=background.depth_m.masked_fill(unsteady, torch.nan))
        static = lift(background.depth_m, background.rgb, torch.isfinite(background.depth_m), rays,
                      max_edge=options.max_edge, frame_from_exo=frame_from_exo(depth.exo_w2c, 0))
    moving = FrameMovingPoints(exo_frames, depth, background, rays, options)
    return PointCloud(static=static, moving=moving, frame="exo" if depth.exo_w2c is None else "world",
                      frame_count=len(depth.depth_m), exo_camera=depth.camera, exo_w2c=depth.exo_w2c,
                      times_s=depth.times_s, notes=notes)


class _Masked:
    """Per frame what is known to move or to be sky, read when asked for."""

    def __init__(self, depth: DepthVideo, options: SceneOptions) -> None:
        self._depth, self._use_dynamic = depth, options.dynamic != "none" and depth.dynamic is not None

    def __getitem__(self, frame: int) -> Tensor:
        mask = torch.zeros(self._depth.depth_m[frame].shape, dtype=torch.bool)
        if self._use_dynamic:
            mask |= self._depth.dynamic[frame].bool()
        if self._depth.sky is not None:
            mask |= self._depth.sky[frame].bool()
        return mask


def check_scene_input(exo_frames: Tensor, depth: DepthVideo) -> None:
    """Raise EgoXInputError for whatever would make a scene wrong."""
    if depth.kind != "metric z":
        raise EgoXInputError("depth for the scene", got=f"{depth.kind} depth", expected="metric z depth in metres",
                             fix="align it with a metric depth in Depth Align first")
    count, height, width = len(depth.depth_m), *depth.depth_m[0].shape
    if len(exo_frames) != count:
        raise EgoXInputError("exo frames and depth", got=f"{len(exo_frames)} frames and {count} depth maps",
                             expected="one depth map a frame", fix="load both with the same frame selection")
    if tuple(exo_frames[0].shape) != (height, width, 3):
        raise EgoXInputError("exo frames", got=f"shape {tuple(exo_frames[0].shape)}",
                             expected=f"({height}, {width}, 3), the size of the depth maps",
                             fix="load video and depth through Load Exo Video and Depth Align, which crop them alike")
    if depth.camera.stored_size != (width, height):
        raise EgoXInputError("exo camera of the depth", got=f"a picture of {depth.camera.stored_size}",
                             expected=f"({width}, {height}), the size of the depth maps",
                             fix="rescale or crop the intrinsics together with the depth")
    for name, mask in (("dynamic", depth.dynamic), ("sky", depth.sky)):
        if mask is not None and (len(mask) < count or tuple(mask[0].shape) != (height, width)):
            raise EgoXInputError(f"{name} mask of the depth", got=f"{len(mask)} masks of {tuple(mask[0].shape)}",
                                 expected=f"{count} of ({height}, {width}), as the depth maps",
                                 fix="make it from the exo video's frames")
    if depth.exo_w2c is not None:
        pose = validate_w2c(depth.exo_w2c, "exo extrinsics")
        if pose.ndim == 3 and len(pose) < count:
            raise EgoXInputError("exo extrinsics", got=f"{len(pose)} poses for {count} frames",
                                 expected="one pose, or one a frame", fix="give the pose of every frame in use")
    if not any(bool(torch.isfinite(depth.depth_m[t]).any()) for t in range(count)):
        raise EgoXInputError("depth for the scene", got="no valid pixel in any frame",
                             expected="finite, positive depth", fix="check the depth source; invalid pixels are NaN")
