"""Build the scene of a clip: a static background fused over time, and moving points per frame."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from ..arrays import as_uint8
from ..cameras import camera_centre, validate_w2c
from ..errors import EgoXInputError, check_choice
from ..progress import Progress, no_progress
from ..remarks import Remark, RemarkKind
from ..types import DepthVideo, ExoSight, Moving, PointCloud, PointSet
from .background import SAME_SURFACE, StaticBackground, fuse_static, mean_background
from .camera_motion import camera_motion
from .dynamic_mask import WARNING, derive_dynamic, unsteady_pixels
from .edges import stray_step
from .moving_camera import cloud_background, fuse_moving
from .own_take import HEAD_VIDEO, strange_depth
from .surface import ClipFrames

FAR_M = 10_000.0
"""Distance from the world's origin at which float32 is as coarse as a millimetre."""
STRAY_STEP = 0.03
"""Relative step from which a pixel hangs between two surfaces. Finer presets don't draw it,
either."""


def label_instances(
    mask: Tensor,  # [H, W] bool
) -> Tensor:  # [H, W] int16, 0 where nothing moves
    """Label the connected moving objects of one frame with numbers from 1."""
    _, labels = cv2.connectedComponents(mask.numpy().astype(np.uint8), connectivity=8)
    return torch.from_numpy(np.minimum(labels, 32767).astype(np.int16))


def _without_stray_pixels(depth_m: Tensor) -> Tensor:  # [H, W]
    """Set pixels that hang between two surfaces to NaN, as they block no line of sight."""
    return depth_m.masked_fill(stray_step(depth_m) > STRAY_STEP, torch.nan)


class FrameMovingPoints:
    """Moving points of each frame, lifted from depth when a frame is accessed."""

    # Frame and mask that were asked for last. One that another version kept has none.
    _cached_mask: tuple[int, Tensor] | None = None

    def __init__(
        self,
        clip: ClipFrames,
        # Points if the exo camera moves.
        background: StaticBackground | PointSet,
        dynamic: Moving,
        # Tolerance of those points.
        tolerance: float = SAME_SURFACE,
    ) -> None:
        self._clip = clip
        self._depth = clip.depth
        self._dynamic = dynamic
        self._background, self._tolerance = background, tolerance

    def __len__(self) -> int:
        return len(self._depth.depth_m)

    def mask(self, frame: int) -> Tensor:  # [H, W] bool
        """Compute the mask of moving pixels in one frame."""
        if self._cached_mask is None or self._cached_mask[0] != frame:
            self._cached_mask = frame, self._mask(frame)
        return self._cached_mask[1]

    def _mask(self, frame: int) -> Tensor:
        depth_m = self._depth.depth_m[frame]
        if self._depth.dynamic is not None and self._dynamic in ("auto", "mask"):
            return self._depth.dynamic[frame].bool() & torch.isfinite(depth_m)
        if self._dynamic != "auto":
            return torch.zeros(depth_m.shape, dtype=torch.bool)
        background = self._background
        if isinstance(background, PointSet):
            background = cloud_background(background, self._depth.exo, frame)
        return derive_dynamic(self._clip.rgb[frame], depth_m.float(), background, self._tolerance)

    def __getitem__(self, frame: int) -> PointSet:
        self._clip.release()  # what earlier frames read of mapped files
        mask = self.mask(frame)
        if not mask.any():
            return PointSet.empty()
        if self._depth.sky is not None:
            mask = mask & ~self._depth.sky[frame].bool()
        return self._clip.lift(
            frame,
            self._depth.depth_m[frame].float(),
            as_uint8(self._clip.rgb[frame]),
            mask,
            label_instances(mask),
        )

    def shown_m(self, frame: int) -> Tensor:  # [H, W] float32
        """Compute one frame's depth map for :attr:`ExoSight.map`, in which static pixels have the
        background's depth.

        What doesn't move is where the static points are, so that no flicker opens and
        closes a line of sight.
        """
        depth_m = self._depth.depth_m[frame].float()
        sky = self._depth.sky
        if not isinstance(self._background, PointSet):
            still_m = self._background.depth_m
            depth_m = torch.where(self.mask(frame) | still_m.isnan(), depth_m, still_m)
        depth_m = _without_stray_pixels(depth_m)
        return depth_m if sky is None else depth_m.masked_fill(sky[frame].bool(), torch.inf)

    def mean_static(self, progress: Progress = no_progress) -> PointSet:
        """Compute :attr:`PointCloud.mean_static`, the averaged background of a fixed exo camera."""
        depth_m, rgb = mean_background(
            self._clip.rgb, self._depth.depth_m, self._not_static, progress=progress
        )
        known_mask = torch.isfinite(depth_m)
        return self._clip.lift(0, depth_m, rgb, known_mask, max_edge=float("inf"))

    def _not_static(self, frame: int) -> Tensor:  # [H, W] bool
        self._clip.release()
        mask = self.mask(frame)
        sky = self._depth.sky
        return mask if sky is None else mask | sky[frame].bool()


def build_scene(
    # Frames [T, H, W, 3] 0...1 or uint8, at the size of the depth maps.
    exo_frames: Sequence[Tensor] | Tensor,
    depth: DepthVideo,
    dynamic: Moving = "auto",
    *,
    progress: Progress = no_progress,
) -> PointCloud:
    """Build the scene of an exo clip.

    It is in the world of the depth's exo camera.

    Frames are read one at a time, so that a memory-mapped tensor or a lazy sequence will do.

    Raises:
        EgoXInputError: sizes or counts that don't match, depth that is not metric, no valid depth,
            bad poses, another ``dynamic``.
    """
    check_choice("what moves in the scene", dynamic, get_args(Moving))
    check_scene_input(exo_frames, depth)
    clip = ClipFrames(rgb=exo_frames, depth=depth, rays=depth.exo.camera.depth_rays())
    still_masks = StillMasks(depth, dynamic)
    mask_is_derived = dynamic == "auto" and depth.dynamic is None
    background = None
    notes = ()
    depth_warnings = strange_depth(exo_frames, depth.depth_m)
    still_m = None
    if depth.exo.moves:
        static, tolerance, depth_noise = fuse_moving(clip, still_masks, progress)
        notes = (WARNING,) if mask_is_derived else ()
        moving = FrameMovingPoints(clip, static, dynamic, tolerance)
    else:
        background = fuse_static(exo_frames, depth.depth_m, still_masks, progress=progress)
        depth_noise = float(background.depth_spread.nanmedian().nan_to_num())
        # Also where colours are unsteady: shadows move there, but space is as empty.
        still_m = _without_stray_pixels(background.depth_m)
        if mask_is_derived:
            notes = (WARNING,)
            hidden_mask = unsteady_pixels(background)
            background = replace(
                background, depth_m=background.depth_m.masked_fill(hidden_mask, torch.nan)
            )
        observed_motion = camera_motion(exo_frames, still_masks)
        if observed_motion is not None and depth_warnings:
            depth_warnings = (HEAD_VIDEO,)
        elif observed_motion is not None:
            notes += (Remark(observed_motion.text(), RemarkKind.WARNING),)
        static = clip.lift(
            0, background.depth_m, background.rgb, torch.isfinite(background.depth_m)
        )
        moving = FrameMovingPoints(clip, background, dynamic)
    return PointCloud(
        static=static,
        moving=moving,
        exo=depth.exo,
        notes=(*notes, *depth_warnings),
        facts=depth.facts,
        mean_static=None if background is None else moving.mean_static,
        sight=ExoSight(
            depth=depth,
            map=moving.shown_m,
            moves=moving.mask,
            still_m=still_m,
            noise=depth_noise,
        ),
    )


class StillMasks(Sequence[Tensor]):
    """Mask of each frame's pixels that move or are sky, combined when a frame is accessed."""

    def __init__(self, depth: DepthVideo, dynamic: Moving) -> None:
        self._depth = depth
        self._dynamic = None if dynamic == "none" else depth.dynamic

    def __len__(self) -> int:
        return len(self._depth.depth_m)

    # Frames are taken one at a time, never as a slice.
    def __getitem__(self, frame: int) -> Tensor:  # ty: ignore[incompatible-method-override]
        mask = torch.zeros(self._depth.depth_m[frame].shape, dtype=torch.bool)
        if self._dynamic is not None:
            mask |= self._dynamic[frame].bool()
        if self._depth.sky is not None:
            mask |= self._depth.sky[frame].bool()
        return mask


def check_scene_input(
    exo_frames: Sequence[Tensor] | Tensor,  # [T, H, W, 3]
    depth: DepthVideo,
) -> None:
    """Refuse frames and depth that don't match in number or size, or that have no valid depth.

    Raises:
        EgoXInputError: see :func:`build_scene`.
    """
    depth.check_metric("depth for the scene")
    count, height, width = len(depth.depth_m), *depth.depth_m[0].shape
    if len(exo_frames) != count:
        raise EgoXInputError(
            "exo frames and depth",
            got=f"{len(exo_frames)} frames and {count} depth maps",
            expected="one depth map per frame",
            fix="load both with the same frame selection",
        )
    if tuple(exo_frames[0].shape) != (height, width, 3):
        raise EgoXInputError(
            "exo frames",
            got=f"shape {tuple(exo_frames[0].shape)}",
            expected=f"({height}, {width}, 3), the size of the depth maps",
            fix="take both from stages.load_clip and stages.align, which crop them alike",
        )
    depth.exo.camera.check_size("exo camera of the depth", width, height)
    for name, mask in (("dynamic", depth.dynamic), ("sky", depth.sky)):
        if mask is not None and (len(mask) < count or tuple(mask[0].shape) != (height, width)):
            raise EgoXInputError(
                f"{name} mask of the depth",
                got=f"{len(mask)} masks of {tuple(mask[0].shape)}",
                expected=f"{count} of ({height}, {width}), as the depth maps",
                fix="make it from the exo video's frames",
            )
    poses = validate_w2c(depth.exo.poses(count, "exo extrinsics"), "exo extrinsics")
    centres = camera_centre(poses)
    if (distance_m := float(centres.norm(dim=-1).max())) > FAR_M:
        rounded_centre = tuple(round(value, -3) for value in map(int, centres[0].tolist()))
        raise EgoXInputError(
            "exo extrinsics",
            got=f"a camera {distance_m / 1000:.0f} km from the world's origin",
            expected=f"at most {FAR_M / 1000:.0f} km, beyond which pixels' places are too coarse",
            fix=(
                f"move the origin to {rounded_centre}: subtract it from the places of all cameras, "
                f"or add R @ {rounded_centre} to the t of each w2c, ego and exo; scale t by 0.001 "
                "if it is in millimetres"
            ),
        )
    if not any(bool(torch.isfinite(depth.depth_m[t]).any()) for t in range(count)):
        raise EgoXInputError(
            "depth for the scene",
            got="no valid pixel in any frame",
            expected="finite, positive depth",
            fix="check the depth source; invalid pixels are NaN",
        )
