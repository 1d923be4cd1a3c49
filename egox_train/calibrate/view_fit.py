"""Compare an ego video with pictures of the scene that are rendered along the stated camera
path."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from egox_core.cameras import sensor_from_upright
from egox_core.metrics import PathError, PathViews, Pose, SizePrior, exact_scene, search_exo
from egox_core.progress import Progress
from egox_core.stages import scene
from egox_core.take import Take
from egox_core.takes import MODEL_ERROR, with_raw_scale
from egox_core.types import CameraTrajectory, DepthVideo, PointCloud
from egox_core.video import decode_frames, probe_video

from .check_row import LEAST_LENS_SHARE, SDS_OF_INTERVAL, EpisodeResult
from .frames import poses_at, sensor_poses
from .view_pose import LEAST_TURN_DEG, ViewPose

COMPARED_FRAMES = 9
"""Evenly spaced frames of the scene that are drawn, as many as a clip's turn is searched in."""
FEWEST_FRAMES = 5
FREEDOMS: tuple[Literal["turn", "shift"], ...] = ("turn", "shift")
"""Corrections of the exo camera that are tried where the view isn't like the scene."""
SCALE_STEP, MOST_SCALE_SDS = math.log(1.25), 1.5
"""Sizes of the depth that are tried with it: steps of the logarithm, and how far they reach."""


def fit_view(
    episode_result: EpisodeResult,
    take: Take,
    ego_video: Path,
    times_s: np.ndarray,  # [T] of the ego video
    w2c: np.ndarray,  # [T, 3, 4] upright
    # Standard deviation of the logarithm of the depth's size, None: not stated.
    depth_sd: float | None,
    progress: Progress,
) -> tuple[EpisodeResult, str]:
    """Compare an ego video with the rendered scene, after correcting the time lag of the poses.

    Another focal length of the exo camera is named if it fits better with that. If it doesn't look
    like the scene, a turn or a shift of that camera is searched at which it does."""
    ego_info = probe_video(ego_video)
    take_path = take.trajectory.with_depth_camera(take.depth.exo)
    frame_indices = take_path.frames.indices.numpy()
    frame_indices = frame_indices[frame_indices < len(times_s)]
    used_count = len(frame_indices) - (len(frame_indices) - 1) % 4
    frame_indices = frame_indices[:used_count]
    if used_count < FEWEST_FRAMES:
        return episode_result, f"its view is not testable: fewer than {FEWEST_FRAMES} frames"
    take_path = replace(take_path, ego=take_path.ego.resized(ego_info.width, ego_info.height))
    if episode_result.lag_s:
        corrected_poses = torch.from_numpy(
            poses_at(times_s, w2c, times_s[frame_indices] + episode_result.lag_s)
        )
        full_poses = torch.cat(
            [sensor_poses(take_path.ego, corrected_poses), take_path.ego.w2c[used_count:]]
        )
        take_path = replace(take_path, ego=replace(take_path.ego, w2c=full_poses))
    ego_pictures = np.stack(
        [picture for _, picture in decode_frames(ego_video, ego_info, frame_indices.tolist())]
    )
    ego_pictures = torch.from_numpy(ego_pictures).float() / 255
    if used_count < len(take_path):
        ego_pictures = torch.cat(
            [
                ego_pictures,
                ego_pictures[-1:].expand(len(take_path) - used_count, *ego_pictures.shape[1:]),
            ]
        )
    exo_video = take.read_exo(progress)
    ego = take_path.ego if depth_sd is None else None  # the wearer tells nothing that isn't known
    scaled_depth = with_raw_scale(take.depth, ego, progress=progress)
    scene_points = _draw_scene(exo_video, scaled_depth, take_path, progress)
    views = PathViews.of(scene_points, take_path, most=COMPARED_FRAMES, progress=progress)
    error = views.error(ego_pictures)
    untold_sd = MODEL_ERROR if depth_sd is None else depth_sd
    size = SizePrior(sd=scaled_depth.raw_scale[2] if scaled_depth.raw_scale else untold_sd)
    scene_path = take_path.in_world_of(scene_points.exo)
    ego_from_exo = scene_path.ego.seen_from(scene_path.required_exo)[len(take_path) // 2].numpy()
    starts = [Pose.unchanged(), *([_pose_of(error, take_path)] if error.clip.judged else [])]
    lens = views.scene_fit(ego_pictures, scene_path, size, starts=starts, is_focal_known=False)
    least_log = math.log1p(LEAST_LENS_SHARE)
    if lens and abs(lens.log_focal) >= max(least_log, SDS_OF_INTERVAL * lens.log_focal_sd):
        depth = _with_focal_factor(take.depth, lens.focal_factor)
        depth = with_raw_scale(depth, ego, progress=progress)
        lens_scene = _draw_scene(exo_video, depth, take_path, progress)
        lens_views = PathViews.of(lens_scene, take_path, most=COMPARED_FRAMES, progress=progress)
        clip = lens_views.clip_turn(ego_pictures)
        if clip.judged and clip.angle_deg < LEAST_TURN_DEG and clip.score > error.clip.score:
            return replace(episode_result, exo_focal_factor=lens.focal_factor), (
                "exo camera has another lens: its view fits if its focal length is "
                f"{lens.focal_factor:.2f} times as long"
            )
    fit = views.scene_fit(ego_pictures, scene_path, size, starts=starts)
    clip = error.clip
    if fit is not None and not clip.judged:
        sized_depth = scaled_depth.scaled(math.exp(fit.log_size))
        sized_scene = _draw_scene(exo_video, sized_depth, take_path, progress)
        sized_views = PathViews.of(sized_scene, take_path, most=COMPARED_FRAMES, progress=progress)
        clip = sized_views.clip_turn(ego_pictures)
    if fit is not None and clip.judged:
        pose = ViewPose.of_fit(fit, ego_from_exo, take_path.ego.camera)
        return replace(episode_result, view=pose), (
            f"exo or head camera turned or moved, or another lens: {pose.needed_text()}"
            if pose.is_off
            else f"its view fits; {pose.limit_text()}"
        )
    # The wearer tells no scale where the stated camera doesn't see the wearer.
    unscaled_depth = replace(take.depth, raw_scale=None)
    scene_points = _draw_scene(exo_video, unscaled_depth, take_path, progress)
    steps = round(MOST_SCALE_SDS * untold_sd / SCALE_STEP)
    found = max(
        (
            search_exo(
                scene_points,
                take_path,
                ego_pictures,
                progress,
                freedom=freedom,
                scales=[math.exp(n * SCALE_STEP) for n in range(-steps, steps + 1)],
                most=COMPARED_FRAMES,
            )
            for freedom in FREEDOMS
        ),
        key=lambda found: (found.error.clip.judged, found.error.clip.score),
    )
    if found.error.clip.judged:
        size = SizePrior(sd=untold_sd, log_size=-math.log(found.scale))
        fit = found.views.scene_fit(ego_pictures, found.path, size)
        pose = ViewPose.of_clip(found.error.clip)
        if fit is not None:
            change = found.pose_change[len(found.pose_change) // 2].numpy()
            fit = fit.after(change, found.scale)
            pose = ViewPose.of_fit(fit, ego_from_exo, take_path.ego.camera)
        return replace(episode_result, view=pose, is_exo_searched=True), (
            f"exo camera turned or moved: {pose.needed_text()}"
            if pose.is_off
            else f"its view fits at another scale of its depth; {pose.limit_text()}"
        )
    if not error.clip.judged:
        return episode_result, f"its view is not testable: {error.clip.reason}"
    pose = ViewPose.of_clip(error.clip)
    return replace(episode_result, view=pose), (
        f"exo or head camera turned or moved, or another lens: {pose.needed_text()}"
        if pose.is_off
        else f"its view is not turned; {pose.limit_text()}"
    )


def _pose_of(error: PathError, path: CameraTrajectory) -> Pose:
    """Take the one turn of a clip and the frames' median shift in the sensor's axes."""
    axes = sensor_from_upright(path.ego.camera.quarter_turns).numpy()
    shift_m = error.shift_m.nanmedian(0).values.nan_to_num().numpy()
    return Pose(error.clip.sensor_rotation(path.ego.camera).numpy(), axes @ shift_m)


def _draw_scene(
    exo_video: torch.Tensor,  # [T, H, W, 3] uint8
    depth: DepthVideo,
    path: CameraTrajectory,
    progress: Progress,
) -> PointCloud:
    """Build the scene with the exact lens and scale where they are known, else as it is stated."""
    exo_pictures = exo_video.float() / 255
    exact = exact_scene(exo_pictures, depth, path, progress=progress)
    return exact[0] if exact else scene(exo_video, depth, progress=progress)[0]


def _with_focal_factor(depth: DepthVideo, factor: float) -> DepthVideo:
    """Change the focal length of the exo camera that depth is lifted with."""
    lens, raw_lens = (
        None if lens is None else replace(lens, fx=lens.fx * factor, fy=lens.fy * factor)
        for lens in (depth.exo.lens, depth.raw_lens)
    )
    return replace(depth, exo=replace(depth.exo, lens=lens), raw_lens=raw_lens)
