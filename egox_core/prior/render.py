"""Render the ego prior: the scene's points as the ego camera sees them (paper, section 3.1)."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..cameras import CameraPath, camera_centre, transform
from ..errors import EgoXInputError
from ..frame_store import FrameStore
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..remarks import Remark, RemarkKind
from ..scene import ego_in_scene
from ..takes import meets_head
from ..types import DOUBTFUL, CameraTrajectory, EgoPrior, PointCloud, PointSet
from .device import DrawingDevice
from .drawing import NEAR_M, draw_points
from .options import CLEAN, PriorOptions
from .sight_lines import SightLines

WITHOUT_HEAD = ("without wearer", "without head")
MAX_REMOVED_SHARE = 0.1
"""Share of the static points in view that a head takes only where the scene is too small: a face on
a pillow sees little of it."""


@frozen
class PriorFrame:
    """One frame of a rendered prior (see :class:`types.EgoPrior`)."""

    rgb: Tensor  # [H, W, 3] float32 0...1
    coverage: Tensor  # [H, W] bool
    depth_m: Tensor  # [H, W] float32 z depth, NaN where nothing landed
    seen: Tensor | None = None  # [H, W] uint8, as in :class:`types.EgoPrior`


def render_ego_prior(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    options: PriorOptions = CLEAN,
    *,
    classes: bool = False,
    notes: list[Remark] | None = None,
    progress: Progress = no_progress,
) -> EgoPrior:
    """Render the prior of all frames (see :func:`iter_ego_prior` for arguments and errors).

    Args:
        notes: gets remarks on how it was drawn.
    """
    size = trajectory.ego.camera.stored_size[::-1]
    drawing_device = DrawingDevice(options)
    maps = {
        "rgb": ((*size, 3), np.float32),
        "coverage": (size, np.bool_),
        "depth_m": (size, np.float32),
        **({"seen": (size, np.uint8)} if classes else {}),
    }
    stores = {
        name: FrameStore(scene.frame_count, *shape_and_type)
        for name, shape_and_type in maps.items()
    }
    for frame in iter_ego_prior(
        scene,
        trajectory,
        options,
        classes=classes,
        on=drawing_device,
        progress=progress,
    ):
        for name, store in stores.items():
            store.append(getattr(frame, name).numpy())
    if notes is not None:
        notes += drawing_device.notes
    tensors: dict[str, Any] = {name: store.tensor() for name, store in stores.items()}
    return EgoPrior(trajectory=trajectory.in_world_of(scene.exo), **tensors)


def iter_ego_prior(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    options: PriorOptions = CLEAN,
    *,
    frames: Sequence[int] | None = None,
    classes: bool = False,
    on: DrawingDevice | None = None,
    progress: Progress = no_progress,
) -> Iterator[PriorFrame]:
    """Render the prior frame by frame, so that memory does not grow with the clip.

    Args:
        scene: from :func:`egox_core.scene.build_scene`.
        trajectory: ego camera and poses, at least as many as the scene has frames, tied to its
            world as :meth:`.CameraTrajectory.in_world_of` says.
        frames: of the clip, those to render; default: all.
        classes: say of every pixel where it comes from, too.
        on: where to draw; default: the options' device.
        progress: called before every frame.

    Raises:
        EgoXInputError: empty cloud, fewer poses than frames, poses that aren't rotations, sight
            lines in a scene without depth. Raised before rendering.
    """
    ego = ego_in_scene(scene, trajectory)
    check_scene(scene)
    frames = range(scene.frame_count) if frames is None else frames
    drawing_device = on or DrawingDevice(options)
    sight_lines = None
    if classes or options.hidden_lines == "leave out":
        sight_lines = SightLines(scene, ego, options.splat)

    def render_frames() -> Iterator[PriorFrame]:
        rays, inside_lens = ego.camera.pixel_rays()
        ray_z = torch.where(inside_lens, rays[..., 2], torch.nan)
        static = scene.mean_background(progress) if options.static == "mean" else scene.static
        drawing_device.notes += _filter_warning(static, options) + _near_scene_warning(
            static, ego.one(0), options
        )
        static_points_on = lru_cache(maxsize=1)(reliable_points(static, options).to)
        for index, frame_number in enumerate(frames):
            progress(index, len(frames), "render the ego prior")

            def picture(
                device: torch.device, frame_number: int = frame_number
            ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
                pose = ego.at(frame_number).to(device)
                static = static_points_on(device)
                points = visible_points(
                    static, scene, frame_number, pose, ego.camera.quarter_turns, options
                )
                image = draw_points(points, ego.one(frame_number), options)
                seen_classes = (
                    None if sight_lines is None else sight_lines.classes(image, frame_number).cpu()
                )
                return image.rgb.cpu(), image.coverage.cpu(), image.depth.cpu(), seen_classes

            rgb, coverage, depth, seen_classes = drawing_device.draw(picture)
            if seen_classes is not None and options.hidden_lines == "leave out":
                coverage = coverage & (seen_classes != DOUBTFUL)
                rgb = rgb * coverage[..., None]
                depth = torch.where(coverage, depth, torch.nan)
            yield PriorFrame(
                rgb=rgb,
                coverage=coverage,
                depth_m=depth if options.splat.depth_is_z else depth * ray_z,
                seen=seen_classes,
            )
        progress(len(frames), len(frames), "render the ego prior")

    return render_frames()


def check_scene(scene: PointCloud) -> None:
    """Refuse a scene without points.

    Raises:
        EgoXInputError: no point in any frame.
    """
    if len(scene.static) == 0 and not any(len(scene.moving[t]) for t in range(scene.frame_count)):
        raise EgoXInputError(
            "scene",
            got="a cloud without points",
            expected="points",
            fix="check depth and masks: all pixels are invalid, masked or filtered as edges",
        )


def visible_points(
    static: PointSet,
    scene: PointCloud,
    frame: int,
    ego_from_frame: Tensor,
    quarter_turns: int,
    options: PriorOptions,
) -> PointSet:
    """Join the static and moving points of one frame, without those that the options leave out."""
    point_sets = [static]
    head_radius_m = options.scene_scale * options.head_radius_m
    if options.dynamic != "leave out":
        moving = _moving_points(scene, frame, ego_from_frame, quarter_turns, options)
        moving = moving.to(static.xyz.device)
        if options.dynamic == "without wearer" and len(moving):
            moving = moving.select(
                ~_is_wearer(moving, camera_centre(ego_from_frame), head_radius_m)
            )
        point_sets.append(reliable_points(moving, options))
    points = PointSet.join(*point_sets)
    if options.dynamic not in WITHOUT_HEAD:
        return points
    centre = camera_centre(ego_from_frame).float()
    outside_head = (points.xyz - centre).square().sum(-1) > head_radius_m**2
    return points if bool(outside_head.all()) else points.select(outside_head)


def reliable_points(points: PointSet, options: PriorOptions) -> PointSet:
    """Select the points away from depth edges, and only the coarse ones if the options say so."""
    keep_mask = _off_edges(points, options)
    return points.select(keep_mask & points.coarse if options.coarse else keep_mask)


def _off_edges(points: PointSet, options: PriorOptions) -> Tensor:  # [N] bool
    """Check which points are far enough from depth edges, by the options' limits."""
    return (
        (points.edge <= options.max_edge)
        & (points.stray <= options.max_stray)
        & (points.depth_range <= options.max_range)
    )


def _filter_warning(static: PointSet, options: PriorOptions) -> tuple[Remark, ...]:
    """Warn if the filter of depth edges removes most points, because depth is noisy."""
    if len(static) == 0:
        return ()
    removed_share = 1 - float(_off_edges(static, options).double().mean())
    if removed_share <= 0.5:
        return ()
    warning = (
        f"warning: the preset leaves out {removed_share:.0%} of the points, since depth changes by "
        "too much around them, so it is noisy. Smoother depth keeps them; other presets have other "
        "limits"
    )
    return (Remark(warning, RemarkKind.WARNING),)


def _near_scene_warning(
    static: PointSet,
    # In one frame.
    ego: CameraPath,
    options: PriorOptions,
) -> tuple[Remark, ...]:
    """Warn if so much is too near to be drawn that the scene's scale must be too small."""
    radius_m = options.head_radius_m if options.dynamic in WITHOUT_HEAD else 0.0
    near_m = options.scene_scale * max(radius_m, NEAR_M)
    points = transform(ego.at(0).float(), static.xyz)
    in_view = ego.camera.look_up(points)[2]
    near_share = float((points[in_view].norm(dim=-1) < near_m).double().mean())
    if not near_share > MAX_REMOVED_SHARE:
        return ()
    warning_text = (
        f"warning: {near_share:.0%} of the static points in the ego camera's view are nearer than "
        f"{near_m:.2g} m and left out, as the wearer's head or a hand on the lens is. If the scene "
        "is smaller than people are, give scene_scale (a toy room: 0.1), or bring depth and poses "
        "to people's size"
    )
    return (Remark(warning_text, RemarkKind.WARNING),)


def _moving_points(
    scene: PointCloud, frame: int, ego_from_frame: Tensor, quarter_turns: int, options: PriorOptions
) -> PointSet:
    """Select the moving points of one frame, without the wearer's head if the options leave it
    out."""
    if not options.head_sight or options.dynamic not in WITHOUT_HEAD:
        return scene.moving[frame]
    point_sets = []
    for part in scene.parts or (scene,):
        moving = part.moving[frame]
        exo_centre = camera_centre(part.exo.at(frame))
        head_mask = meets_head(moving.xyz, exo_centre, ego_from_frame, quarter_turns)
        point_sets.append(moving.select(~head_mask))
    return PointSet.join_moving(point_sets)


def _is_wearer(moving: PointSet, ego_centre: Tensor, head_radius_m: float) -> Tensor:
    """Mark the points [N] of the moving object that contains the ego camera."""
    distance = (moving.xyz - ego_centre.float()).norm(dim=-1)
    nearest = int(distance.argmin())
    # Twice the head: exo sees only one side of it, and depth of a head against the sky is rough.
    if float(distance[nearest]) > 2 * head_radius_m:
        return torch.zeros_like(moving.instance, dtype=torch.bool)
    return moving.instance == moving.instance[nearest]
