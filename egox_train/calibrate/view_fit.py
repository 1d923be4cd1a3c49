"""Compare an ego video with pictures of the scene that are rendered along the stated camera
path."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from egox_core.metrics import PathError, PathViews, exact_scene, exo_turned_error
from egox_core.progress import Progress
from egox_core.stages import scene
from egox_core.take import Take
from egox_core.takes import with_raw_scale
from egox_core.types import CameraTrajectory, DepthVideo, PointCloud
from egox_core.video import decode_frames, probe_video

from .check_row import LEAST_LENS_SHARE, LEAST_TURN_DEG, SDS_OF_INTERVAL, EpisodeResult
from .frames import poses_at, sensor_poses

COMPARED_FRAMES = 9
"""Evenly spaced frames of the scene that are drawn, as many as a clip's turn is searched in."""
FEWEST_FRAMES = 5
FREEDOMS: tuple[Literal["turn", "shift"], ...] = ("turn", "shift")
"""Corrections of the exo camera that are tried where the view isn't like the scene."""
DEPTH_SCALES = (0.64, 0.8, 1.0, 1.25, 1.56)
"""Factors of the depth's size that are tried with it: one and a half of the 30 % (standard
deviation) that a model's metric depth is off by (``takes/body_scale.py``), in steps of 25 %."""


def fit_view(
    episode_result: EpisodeResult,
    take: Take,
    ego_video: Path,
    times_s: np.ndarray,  # [T] of the ego video
    w2c: np.ndarray,  # [T, 3, 4] upright
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
    scaled_depth = with_raw_scale(take.depth, take_path.ego, progress=progress)
    scene_points = _draw_scene(exo_video, scaled_depth, take_path, progress)
    views = PathViews.of(scene_points, take_path, most=COMPARED_FRAMES, progress=progress)
    error = views.error(ego_pictures)
    if error.clip.judged:
        episode_result = _with_view(episode_result, error, views)
    lens = views.exo_lens(ego_pictures, take_path.in_world_of(scene_points.exo))
    least_log = max(math.log1p(LEAST_LENS_SHARE), SDS_OF_INTERVAL * lens.log_sd)
    if abs(lens.log_factor) >= least_log:
        depth = _with_focal_factor(take.depth, lens.factor)
        depth = with_raw_scale(depth, take_path.ego, progress=progress)
        lens_scene = _draw_scene(exo_video, depth, take_path, progress)
        lens_views = PathViews.of(lens_scene, take_path, most=COMPARED_FRAMES, progress=progress)
        clip = lens_views.clip_turn(ego_pictures)
        if clip.judged and clip.angle_deg < LEAST_TURN_DEG and clip.score > error.clip.score:
            return replace(episode_result, exo_focal_factor=lens.factor), (
                "exo camera has another lens: its view fits if its focal length is "
                f"{lens.factor:.2f} times as long"
            )
    if error.clip.judged:
        if episode_result.is_displaced:
            return episode_result, "exo or head camera turned or moved, or another lens"
        is_shift_known = math.isfinite(episode_result.shift_length_m)
        return episode_result, (
            "its view fits" if is_shift_known else "its view fits, but its shift is not known"
        )
    # The wearer tells no scale where the stated camera doesn't see the wearer.
    unscaled_depth = replace(take.depth, raw_scale=None)
    scene_points = _draw_scene(exo_video, unscaled_depth, take_path, progress)
    found_errors = [
        exo_turned_error(
            scene_points,
            take_path,
            ego_pictures,
            progress,
            freedom=freedom,
            scales=DEPTH_SCALES,
            most=COMPARED_FRAMES,
        )
        for freedom in FREEDOMS
    ]
    clips = [found_error.clip for found_error in found_errors]
    best = max(range(len(clips)), key=lambda n: (clips[n].judged, clips[n].score))
    found = found_errors[best]
    if not found.clip.judged:
        return episode_result, f"its view is not testable: {error.clip.reason}"
    episode_result = _with_view(episode_result, found, views)
    if not episode_result.is_displaced:
        return episode_result, "its view fits at another scale of its depth"
    if FREEDOMS[best] == "turn" or not math.isfinite(episode_result.shift_length_m):
        episode_result = replace(episode_result, exo_turn_deg=found.clip.angle_deg)
        needed_text = f"turned by {found.clip.angle_deg:.0f} degrees"
    else:
        needed_text = f"moved by {100 * episode_result.shift_length_m:.0f} cm"
    return episode_result, f"exo camera turned or moved: its view fits if that is {needed_text}"


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


def _with_view(episode_result: EpisodeResult, error: PathError, views: PathViews) -> EpisodeResult:
    """Add turn and shift of a view. The shift's interval is the scatter of its frames, and what the
    turn's moves at the distance of most points, since a turn and a shift look alike."""
    shift_m = error.shift_m.nanmedian(0).values.double()
    scatter_m = float((error.shift_m - shift_m).norm(dim=1).nanmedian())
    distances_m = [m[mask > 0] for m, mask in zip(views.metres, views.masks, strict=True)]
    moved_m = math.radians(error.clip.interval_deg) * np.median(np.concatenate(distances_m))
    return replace(
        episode_result,
        view=error.clip,
        shift_m=shift_m.numpy(),
        shift_interval_m=math.hypot(scatter_m, moved_m),
    )
